"""A run's result -> a folder with one GGUF file that was compared with the trained model, or no folder at all."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from xiaozao.data.chatcontract import check_contract
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.events import OnProgress
from xiaozao.export.gguf.llamacpp import is_there
from xiaozao.export.gguf.parity import Parity, compare
from xiaozao.export.gguf.types import file_type
from xiaozao.export.gguf.write import Written, write_gguf
from xiaozao.export.target import clear
from xiaozao.export.weights import open_weights
from xiaozao.hub.folder import CONFIG, TOKENIZER, parameter_count, tensor_bytes
from xiaozao.machine.hardware import look
from xiaozao.models.adapter import attach, check_base
from xiaozao.models.artefacts.checkpoint import staged_folder, verify
from xiaozao.models.artefacts.manifest import MANIFEST
from xiaozao.models.chatfiles import GENERATION, write_chat_files
from xiaozao.models.load import load

FACTS = "xiaozao.json"


@dataclass(frozen=True)
class Exported:
    """The written file and what comparing it with the trained model gave.

    parity: None where it was not compared, for want of llama.cpp or, then with the bytes `needed`, of memory.
    """

    written: Written
    parity: Parity | None
    needed: int = 0


def export_gguf(
    base: Path, adapter: Path | None, target: Path, name: str, wanted: str, on_progress: OnProgress = lambda *_: None
) -> Exported:
    """Write `target`/NAME-TYPE.gguf from the model in `base`, with an adapter on it where one is given.

    The matrices are W + s B A in fp32 before they are rounded to the type, one at a time. The file is then read by
    llama.cpp in a process of its own and compared (parity.py). Raises UsageError for a target that is not empty,
    ArtefactError where the comparison fails; `target` is then not there. Raises what write_gguf raises.
    """
    numbers = file_type(wanted)
    clear(target)
    talks = adapter if adapter and (adapter / TOKENIZER).is_file() else base
    if adapter:
        check_base(adapter, base)
        if (adapter / MANIFEST).is_file():
            verify(adapter)
    on_progress("write", 0, 0)
    weights = open_weights(base, adapter)
    with staged_folder(target, tensor_bytes(base) * numbers.bits // 16) as staging:
        asked = staging / "talks"
        asked.mkdir()
        for file in (CONFIG, GENERATION):
            if (base / file).is_file():
                shutil.copyfile(base / file, asked / file)
        write_chat_files(asked, talks)
        written = write_gguf(
            staging / f"{name}-{wanted}.gguf", asked, weights, wanted, name,
            lambda done, of: on_progress("write", done, of),
        )  # fmt: skip
        shutil.rmtree(asked)
        needed = _short_of(base, written.bytes) if is_there() else 0
        compares = is_there() and not needed
        parity = _compared(written.path, base, adapter, talks, wanted, on_progress) if compares else None
        facts = {"type": wanted, "fallbacks": written.fallbacks, "parity": asdict(parity) if parity else None}
        (staging / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    final = Written(target / written.path.name, written.bytes, written.fallbacks)
    return Exported(final, parity, needed)


def _short_of(base: Path, file: int) -> int:
    """The bytes that comparing takes, the model in fp32 beside the file in llama.cpp, if they are not free; else 0."""
    needed = 4 * parameter_count(base) + file
    return needed if needed > look().memory_available else 0


def _compared(
    file: Path, base: Path, adapter: Path | None, talks: Path, wanted: str, on_progress: OnProgress
) -> Parity:
    """The comparison with the trained model in fp32."""
    on_progress("compare", 0, 0)
    decoder = load(base, torch.float32, torch.device("cpu"))
    if adapter:
        attach(decoder, adapter)
    tokenizer = ChatTokenizer.from_folder(talks)
    return compare(file, decoder, tokenizer, check_contract(talks, tokenizer), wanted)
