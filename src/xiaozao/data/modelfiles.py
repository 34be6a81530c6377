"""What a model folder says about tokens and chat: tokenizer.json, tokenizer_config.json, the chat template, end tokens.

Only JSON and Jinja text are read; a tokenizer that exists only as Python code or a pickle is not supported.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.errors import ArtefactError, NotFound, Problem, UnsupportedModel

DIGITS = 9  # of the id of a token
FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")  # of an added token
SIZE_LIMIT = 200_000_000  # bytes; the largest known tokenizer.json has 35 million
TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ChatFiles:
    """The parts of a model folder that ChatTokenizer needs. `template` is None if the model has none.

    add_bos: None if the folder does not say. rows: the number of embedding rows, None without a config.json.
    added: ids of the tokens that only tokenizer_config.json lists.
    """

    folder: Path
    tokenizer_json: str
    template: str | None
    tokens: dict[str, str]
    eos_ids: frozenset[int]
    bos_id: int | None
    add_bos: bool | None
    rows: int | None
    added: Mapping[str, int]


def read_chat_files(folder: Path) -> ChatFiles:
    """Read them. Raises NotFound (no folder), UnsupportedModel (no tokenizer.json), ArtefactError (damaged)."""
    if not folder.is_dir():
        raise NotFound("model_folder", folder=folder)
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedModel("no_tokenizer", folder=folder)
    settings = _read(folder / "tokenizer_config.json")
    config, generation = _read(folder / "config.json"), _read(folder / "generation_config.json")
    inner = config.get("text_config")
    places = [generation, config, *([inner] if isinstance(inner, dict) else [])]
    ends = [end for one in places for end in _ids(one.get("eos_token_id"))]
    starts = [start for one in places for start in _ids(one.get("bos_token_id"))]
    rows = [count for one in places for count in _ids(one.get("vocab_size"))]
    add_bos = settings.get("add_bos_token")
    if add_bos is not None and not isinstance(add_bos, bool):
        raise _mistyped(folder, "add_bos_token", add_bos, "boolean")
    text, added = _with_added(folder, _text(folder / "tokenizer.json"), settings.get("added_tokens_decoder"))
    return ChatFiles(
        folder=folder,
        added=added,
        tokenizer_json=text,
        template=_template(folder, settings),
        tokens=_tokens(folder, _read(folder / "special_tokens_map.json")) | _tokens(folder, settings),
        eos_ids=frozenset(ends),
        bos_id=next(iter(starts), None),
        add_bos=add_bos,
        rows=next(iter(rows), None),
    )


def _with_added(folder: Path, text: str, listed: object) -> tuple[str, dict[str, int]]:
    """tokenizer.json with the added tokens that only tokenizer_config.json lists, and their ids.

    A control token that is listed in one place alone would otherwise be ordinary text. Raises ArtefactError.
    """
    if not isinstance(listed, dict) or not listed:
        return text, {}
    try:
        document = json.loads(text)
        known = {token["content"] for token in document["added_tokens"]} if document.get("added_tokens") else set()
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return text, {}  # encoder.py says what is wrong with it
    more: list[dict[str, Any]] = []
    for place, token in listed.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not content or not str(place).isdecimal() or len(str(place)) > DIGITS:
            raise _mistyped(folder, "added_tokens_decoder", {str(place): token}, '{"id": {"content": ...}}')
        if content not in known:
            flags = {name: bool(token.get(name)) for name in FLAGS}
            more.append({"id": int(place), "content": content, **flags})
    if not more:
        return text, {}
    tokens = [*(document.get("added_tokens") or []), *more]
    document["added_tokens"] = sorted(tokens, key=lambda token: int(token["id"]))
    return json.dumps(document, ensure_ascii=False), {token["content"]: token["id"] for token in more}


def template_of_readers(folder: Path) -> str | None:
    """The template that transformers finds for the tokenizer of this folder: it ignores chat_template.json."""
    if (folder / "chat_template.jinja").is_file():
        return _text(folder / "chat_template.jinja")
    template = _read(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list) and not any(
        isinstance(one, dict) and one.get("name") == "default" for one in template
    ):
        return None  # it asks for a name then
    return _default(folder, template)


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    """chat_template.jinja, else chat_template.json, else the one in tokenizer_config.json ("default" of several)."""
    if (folder / "chat_template.jinja").is_file():
        return _text(folder / "chat_template.jinja")
    return _default(folder, _read(folder / "chat_template.json").get("chat_template", settings.get("chat_template")))


def _default(folder: Path, written: object) -> str | None:
    """The template in a field that holds a text, or a list of named templates; None if it is empty.

    Raises ArtefactError.
    """
    if isinstance(written, list):
        named = [(one.get("name"), one.get("template")) for one in written if isinstance(one, dict)]
        if not all(isinstance(text, str) for pair in named for text in pair) or len(named) != len(written):
            raise _mistyped(folder, "chat_template", written, "[{name, template}]")
        written = dict(named).get("default", named[0][1] if named else None)
    if written is not None and not isinstance(written, str):
        raise _mistyped(folder, "chat_template", written, "string")
    return written if written and written.strip() else None


def _tokens(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """The special tokens by name.

    A token is written as text or as an object with its `content`; null means no token.
    """
    tokens = {}
    for name in TOKENS:
        value = settings.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
        elif value is not None:
            raise _mistyped(folder, name, value, "string")
    return tokens


def _ids(value: object) -> list[int]:
    """The ids in a field that holds an id or a list of ids; empty for anything else."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, int) and not isinstance(one, bool) and one >= 0]


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_text(path))
        json.dumps(value, ensure_ascii=False).encode()  # half a character is no text, and no tokenizer takes it
    except (ValueError, RecursionError) as error:
        raise ArtefactError("model_file", path=path, detail=error) from None
    if not isinstance(value, dict):
        raise ArtefactError("model_file", path=path, detail=type(value).__name__)
    return value


def _mistyped(folder: Path, field: str, value: object, wanted: str) -> ArtefactError:
    shown = json.dumps(value, ensure_ascii=False)[:60]
    problem = Problem("field_type", {"field": field, "value": shown, "wanted": wanted})
    return ArtefactError("artefact_damaged", [problem], path=folder / "tokenizer_config.json")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise ArtefactError("model_file", path=path, detail=f"> {SIZE_LIMIT} bytes")
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise ArtefactError("model_file", path=path, detail=error) from None
