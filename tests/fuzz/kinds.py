"""What is read before it is used, each kind with valid inputs, a way to spoil them, and everything that reads it.

A new reader is one more entry of KINDS.
"""

import io
import json
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import openpyxl
import polars

from tests.data.folders import CHATML, byte_level, chat, metaspace, model_folder, word_level
from tests.fuzz.mutate import json_mutant, lines_mutant, mutant
from tests.models.make import gguf_bytes, pair, safetensors_bytes, string
from tests.models.make import model_folder as weights_folder
from xiaozao.data.checks import check
from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.modelfiles import read_chat_files
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import XiaozaoError
from xiaozao.events import Ended, Event, Noticed, Prepared, Split, Started, Step, to_line, to_record
from xiaozao.hub.adapterfile import read_adapter_settings
from xiaozao.hub.folder import check_folder, check_loadable, is_complete, read_config
from xiaozao.hub.ggufheader import read_gguf
from xiaozao.plan.workload import ModelShape
from xiaozao.spec.parts import DataSpec
from xiaozao.spec.run import RunSpec
from xiaozao.spec.yamlfile import read_yaml
from xiaozao.store.journal import Journal, read_events

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 384, "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}, "bos_token_id": 1,
    "eos_token_id": [2], "pad_token_id": 0,
    "tie_word_embeddings": True, "id2label": {"0": "a", "1": "b"}, "quantization_config": None, "dtype": "bfloat16",
    "text_config": None, "layer_types": ["full_attention", "full_attention"],
}  # fmt: skip
ADAPTER = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "a/b", "r": 2, "lora_alpha": 4.0,
    "lora_dropout": 0.0, "bias": "none", "use_rslora": False, "use_dora": False, "fan_in_fan_out": False,
    "inference_mode": True, "target_modules": ["q_proj"], "modules_to_save": None, "rank_pattern": {},
    "init_lora_weights": True,
}  # fmt: skip
SETTINGS = {
    "bos_token": {"content": "<s>", "special": True}, "eos_token": "</s>", "pad_token": "</s>", "add_bos_token": True,
    "chat_template": [{"name": "default", "template": CHATML}], "model_max_length": 1024,
    "added_tokens_decoder": {"0": {"content": "<pad>", "special": True}},
}  # fmt: skip
LORA_A = {"base_model.model.q_proj.lora_A.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
OPTIONS = b"""model: a/b
data: rows.jsonl
rank: 8
learning_rate: 1e-4
targets: [q_proj, v_proj]
validation: 0.1
budget: 2GB
"""


WRONG = "! "
# What Python and the libraries raise.
FAILURES = (ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, LookupError,
            MemoryError, NameError, OSError, RuntimeError, SyntaxError, TypeError, ValueError)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """valid: inputs that are read without complaint. spoil: one of them, a little wrong. read: all that reads it.

    refuses: False for a reader that sets the damaged part aside and goes on.
    """

    valid: Callable[[], tuple[bytes, ...]]
    spoil: Callable[[Random, bytes], bytes]
    read: Callable[[Path, bytes], None]
    refuses: bool = True


def spoiled(name: str, number: int) -> bytes:
    """The input number `number` of a kind, the same every time."""
    random = Random(f"{name} {number}")
    kind = KINDS[name]
    return kind.spoil(random, random.choice(kind.valid()))


def verdict(name: str, number: int, place: Path) -> str:
    """What becomes of an input: "read", the key of a XiaozaoError, or what else was raised, after WRONG: a bug."""
    try:
        KINDS[name].read(place, spoiled(name, number))
    except XiaozaoError as error:
        error.what("zh-CN")
        str(error).encode()
        return error.key
    except FAILURES as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{WRONG}{type(error).__name__} in {where.name}, line {where.lineno}: {error}"[:300]
    except Exception as error:  # a library's own, or the bare one that `tokenizers` raises
        raise AssertionError(f"{name}, input {number}") from error
    return "read"


def _json(*values: Any) -> Callable[[], tuple[bytes, ...]]:
    return lambda: tuple(json.dumps(value).encode() for value in values)


@cache
def _tokenizers() -> tuple[bytes, ...]:
    return tuple(make().to_str().encode() for make in (byte_level, metaspace, word_level))


@cache
def _rows() -> tuple[bytes, ...]:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, {"b": "c"}]}'}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    rows: tuple[list[Any], ...] = (
        [chat("hello", "how can I help?", "the the", "this", system="be kind"), chat("hello", "hello")],
        [{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, called], "tools": [call]}],
        [{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}], "weight": 1}],
        [{"instruction": "hi", "input": "world", "output": "hello", "history": [["a", "b"]], "system": "s"}],
        [{"prompt": "hi", "chosen": "hello", "rejected": "the"}, {"prompt": "a", "chosen": "b", "rejected": "c"}],
        [{"messages": chat("hi", "hello")["messages"], "label": True}],
        [{"text": "hello world"}],
        [
            {"time": "2024-03-05 14:02", "sender": "Ann", "text": "hi"},
            {"time": "2024-03-05 14:03", "sender": "support", "text": "hello"},
        ],
    )  # fmt: skip
    return tuple("".join(json.dumps(row) + "\n" for row in some).encode() for some in rows)


@cache
def _tables() -> tuple[bytes, ...]:
    return (
        b'question,answer\nhi,hello\n"a, b","c""d"\n',
        "﻿问题;答案\n您好;请问有什么可以帮您？\n".encode(),
        b"time\tsender\ttext\n2024/3/5 14:02\tAnn\thi\n2024/3/5 14:03\tsupport\thello\n",
        "instruction,output\nhi,hello\n".encode("utf-16"),
    )


@cache
def _workbooks() -> tuple[bytes, ...]:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in (("question", "answer", "n"), ("hi", "hello", 1.5), ("a", "b", None)):
        sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return (file.getvalue(),)


@cache
def _parquets() -> tuple[bytes, ...]:
    files = []
    for values in (
        {"question": ["hi", "a"], "answer": ["hello", "b"]},
        {"messages": [chat("hi", "hello")["messages"]] * 3},
    ):
        file = io.BytesIO()
        polars.DataFrame(values).write_parquet(file, compression="uncompressed")
        files.append(file.getvalue())
    return tuple(files)


def _unzipped_mutant(random: Random, data: bytes) -> bytes:
    """A workbook with a part that is a little wrong in a zip file that is right, else the zip file itself."""
    if random.random() < 0.3:
        return mutant(random, data)
    old, file = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    names = old.namelist()
    wrong = random.choice([name for name in names if "theme" not in name])
    with zipfile.ZipFile(file, "w") as new:
        for name in names:
            part = old.read(name)
            new.writestr(zipfile.ZipInfo(name), mutant(random, part) if name == wrong else part)
    return file.getvalue()


def _header_mutant(random: Random, data: bytes) -> bytes:
    """A safetensors file whose header says something else, with the right length of it, else any bytes."""
    if random.random() < 0.3:
        return mutant(random, data)
    length = int.from_bytes(data[:8], "little")
    header = json_mutant(random, data[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _gguf() -> tuple[bytes, ...]:
    tokens = pair("tokenizer.ggml.tokens", 9, b"\x08\0\0\0" + (2).to_bytes(8, "little") + string("a") + string("b"))
    return gguf_bytes(), gguf_bytes(
        (pair("general.architecture", 8, string("llama")), pair("general.alignment", 4, b"\x20\0\0\0"), tokens)
    )


def _journal() -> tuple[bytes, ...]:
    events: tuple[Event, ...] = (
        Started("a", 1),
        Prepared(1, 1, 0, {}, 5, 3, 5),
        Split(1, 9, 5, "training", 10**9, None),
        Noticed("a", {"b": 1}),
        Step(1, 2, 0.5, 1.5, 1e-4, 0.1, 5, 3, 10.0, 0.5, 10**9, 1.0),
        Ended("completed"),
    )
    lines = [to_line(to_record(event, number, 1.5)) for number, event in enumerate(events, 1)]
    return ("\n".join(lines).encode() + b"\n",)


def _folder(place: Path) -> Path:
    return place if (place / "tokenizer.json").exists() else model_folder(place, byte_level())


SIZE = 96 * 32 * 4
WEIGHTS = {
    f"w{index}": {"dtype": "F32", "shape": [96, 32], "data_offsets": [index * SIZE, (index + 1) * SIZE]}
    for index in range(9)
}


def _read_config(place: Path, data: bytes) -> None:
    folder = _folder(place)
    if not (folder / "model.safetensors").exists():
        (folder / "model.safetensors").write_bytes(safetensors_bytes(WEIGHTS, bytes(9 * SIZE)))
    (folder / "config.json").write_bytes(data)
    is_complete(folder)
    check_loadable(folder)
    ModelShape.from_config(read_config(folder).values)
    read_chat_files(folder)


def _read_header(place: Path, data: bytes) -> None:
    folder = place if (place / "config.json").exists() else weights_folder(place)
    (folder / "model.safetensors").write_bytes(data)
    check_folder(folder)


def _read_index(place: Path, data: bytes) -> None:
    folder = place if (place / "config.json").exists() else weights_folder(place)
    if (folder / "model.safetensors").exists():
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_bytes(data)
    is_complete(folder)
    check_folder(folder)


def _read_adapter(place: Path, data: bytes) -> None:
    (place / "adapter_model.safetensors").write_bytes(safetensors_bytes(LORA_A))
    (place / "adapter_config.json").write_bytes(data)
    read_adapter_settings(place)


def _read_tokenizer(place: Path, data: bytes) -> None:
    (_folder(place) / "tokenizer.json").write_bytes(data)
    _use(ChatTokenizer.from_folder(place))


def _read_settings(place: Path, data: bytes) -> None:
    (_folder(place) / "tokenizer_config.json").write_bytes(data)
    (place / "chat_template.jinja").unlink(missing_ok=True)
    _use(ChatTokenizer.from_folder(place))


def _use(tokenizer: ChatTokenizer) -> None:
    """Encode what holds control tokens, rare characters and nothing; decode it, and what no text makes."""
    turns = (Turn("user", "hello <|im_end|> 您好 😀 <pad>"), Turn("assistant", "the <s>"))
    sample = tokenizer.encode(Conversation(turns, 1), "be kind")
    tokenizer.decode(sample.ids.tolist(), skip_special=False)
    tokenizer.decode([0, 1, 2, 10**6])
    tokenizer.encode_prompt(turns[:1])
    tokenizer.encode(Conversation((), 1, "hello </s>"))


@cache
def _tokenizer(place: Path) -> Path:
    return model_folder(place / "model", byte_level())


def _data(suffix: str) -> Callable[[Path, bytes], None]:
    def read(place: Path, data: bytes) -> None:
        path = place / f"rows{suffix}"
        path.write_bytes(data)
        report = check(DataSpec(data=str(path)), _tokenizer(place))
        report.to_json("zh-CN")

    return read


def _read_gguf(place: Path, data: bytes) -> None:
    (place / "a.gguf").write_bytes(data)
    read_gguf(place / "a.gguf")


def _read_journal(place: Path, data: bytes) -> None:
    (place / "events.jsonl").write_bytes(data)
    list(read_events(place / "events.jsonl"))
    Journal(place / "events.jsonl").close()


def _read_spec(place: Path, data: bytes) -> None:
    RunSpec.from_options(read_yaml(data.decode("utf-8", "replace"), "run.yaml"))


KINDS: dict[str, Kind] = {
    "config.json": Kind(_json(CONFIG, {**CONFIG, "text_config": CONFIG}), json_mutant, _read_config),
    "adapter_config.json": Kind(_json(ADAPTER), json_mutant, _read_adapter),
    "tokenizer.json": Kind(_tokenizers, json_mutant, _read_tokenizer),
    "tokenizer_config.json": Kind(_json(SETTINGS), json_mutant, _read_settings),
    "csv": Kind(_tables, mutant, _data(".csv")),
    "jsonl": Kind(_rows, lines_mutant, _data(".jsonl")),
    "xlsx": Kind(_workbooks, _unzipped_mutant, _data(".xlsx")),
    "parquet": Kind(_parquets, mutant, _data(".parquet")),
    "safetensors": Kind(lambda: (safetensors_bytes(),), _header_mutant, _read_header),
    "index": Kind(_json({"weight_map": {"w": "model-00001-of-00001.safetensors"}}), json_mutant, _read_index),
    "gguf": Kind(_gguf, mutant, _read_gguf),
    "journal": Kind(_journal, lines_mutant, _read_journal, refuses=False),
    "spec": Kind(lambda: (OPTIONS,), mutant, _read_spec),
}
