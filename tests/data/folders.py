"""Throwaway model folders for the data tests: a tokenizer trained on a few lines, a chat template, and nothing else."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
LINES = [
    "hello world, how can I help you today?",
    "user assistant system tool",
    "您好，请问有什么可以帮您？",
    "the the this that",
]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (  # BOS from the template, answers after a space, </s> behind them, the system text folded into the question
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}[INST] {{ message.content | trim }} [/INST]"
    "{% elif message.role == 'assistant' %} {{ message.content | trim }}{{ eos_token }}"
    "{% else %}<<SYS>>{{ message.content }}<</SYS>>{% endif %}{% endfor %}"
)
STRICT = (  # Gemma's manners: no system, roles alternate
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (  # Qwen3's manners: only the last answer shows its (empty) reasoning
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level(merges: bool = True, special: Iterable[str] = SPECIAL) -> Tokenizer:
    """Byte-level BPE as GPT-2, Llama 3 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400 if merges else 261,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 5, trainer)
    return tokenizer


def metaspace() -> Tokenizer:
    """Unigram with a prefix space, as SentencePiece models have it; its vocabulary holds the control tokens."""
    letters = sorted(set("".join(LINES)) | set("<>|_/[]SYINTabcdefghijklmnopqrstuvwxyz:.!0123456789\n"))
    pieces = [("<unk>", 0.0), *((text, -1.0) for text in SPECIAL), ("▁", -2.0), *((one, -3.0) for one in letters)]
    pieces += [("▁hello", -2.5), ("▁world", -2.5), ("im", -2.9)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def word_level() -> Tokenizer:
    """Whole words, lower-cased; a control token is an entry of the vocabulary like any other."""
    words = sorted({word for line in LINES for word in line.lower().split()} | {"hi", "im_end", "|", "<", ">"})
    vocabulary = {text: index for index, text in enumerate([*SPECIAL, "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def with_bos(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer that puts <s> before every text, as Llama's does."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def model_folder(folder: Path, tokenizer: Tokenizer, template: str | None = CHATML, **settings: Any) -> Path:
    """A folder with this tokenizer and template. settings: more of tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def shared_data(name: str) -> Path:
    """A file of the development data; a test that wants it is skipped where it is missing."""
    root = Path(os.environ.get("ZAO_TEST_DATA") or Path(__file__).parents[2] / "../shared/data").resolve()
    if not (root / name).is_file():
        pytest.skip(f"{root / name} is not there (set ZAO_TEST_DATA)")
    return root / name


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """One row per line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(*texts: str, system: str = "") -> dict[str, Any]:
    """A row of messages: user, assistant, user ..."""
    turns = [{"role": "system", "content": system}] if system else []
    turns += [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    return {"messages": turns}
