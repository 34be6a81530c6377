"""What makes a model talk, beside its weights: tokenizer, chat template and the tokens that end an answer.

They travel with an adapter and with an export, as they were when the model learned:

    chat_template.jinja      the template that was trained, also where it lay elsewhere or stood in for none
    tokenizer_config.json    its end token is the one that ends a turn
    chat_contract.json       how the model has to be asked (data/chatcontract.py)
    generation_config.json   eos_token_id: every token that ends an answer; so does config.json
"""

import json
import shutil
from pathlib import Path
from typing import Any

from xiaozao.data.chatcontract import contract_of, read_contract, write_contract
from xiaozao.data.modelfiles import template_of_readers
from xiaozao.data.namedtemplates import OWN
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.hub.spellings import plain_tokenizer

COPIED = ("tokenizer.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt")
TEMPLATE, SETTINGS, SPECIAL = "chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"
CONFIG, GENERATION = "config.json", "generation_config.json"


def write_chat_files(target: Path, source: Path, thinking: bool | None = None, template: str = OWN) -> None:
    """Write into `target` what of the model folder `source` makes it talk; its config.json, if there, is completed.

    thinking: whether the model learned to think before it answers; None takes over the contract that `source` holds.
    template: the option of training, where another one than the folder's own was learned.

    Nothing is written for a folder without a tokenizer, which no run can have trained from. Raises UnsupportedModel and
    ArtefactError for one whose tokenizer cannot be read.
    """
    if not (source / COPIED[0]).is_file():
        return
    tokenizer = ChatTokenizer.from_folder(source, template)
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if template_of_readers(source) == tokenizer.template:
        if (source / TEMPLATE).is_file():
            shutil.copyfile(source / TEMPLATE, target / TEMPLATE)
    else:
        (target / TEMPLATE).write_text(tokenizer.template, encoding="utf-8", newline="")
    end = _end_token(tokenizer)
    for name in (SETTINGS, SPECIAL):
        settings = _read(source / name)
        if settings or name == SETTINGS:
            settings = plain_tokenizer(settings) if name == SETTINGS else settings
            _write(target / name, settings if end is None else {**settings, "eos_token": end})
    ids = _ends(tokenizer)
    generation = _read(target / GENERATION) or _read(source / GENERATION)
    _write(target / GENERATION, {**generation, "eos_token_id": ids})
    known = read_contract(source) if thinking is None else None
    write_contract(target, known or contract_of(tokenizer, bool(thinking)))
    if (target / CONFIG).is_file():
        _write(target / CONFIG, _with_ends(_read(target / CONFIG), ids))


def _end_token(tokenizer: ChatTokenizer) -> str | None:
    """The text of the token that ends a turn; None where the tokenizer's own end token is to stay.

    A template that writes the tokenizer's end token by its name would render something else with another one.
    """
    return None if tokenizer.turn_end is None or "eos_token" in tokenizer.template else tokenizer.turn_end


def _ends(tokenizer: ChatTokenizer) -> int | list[int]:
    """All ids that end an answer, that of a turn first: readers that know only one take the first."""
    first = None if tokenizer.turn_end is None else tokenizer.id_of(tokenizer.turn_end)
    ids = sorted(tokenizer.eos_ids, key=lambda end: (end != first, end))
    return ids[0] if len(ids) == 1 else ids


def _with_ends(config: dict[str, Any], ids: int | list[int]) -> dict[str, Any]:
    """A config with these end tokens, in its part about text as well where it has one."""
    inner = config.get("text_config")
    parts = {"text_config": {**inner, "eos_token_id": ids}} if isinstance(inner, dict) else {}
    return {**config, **parts, "eos_token_id": ids}


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file. ChatTokenizer has read these files and found them whole."""
    values = json.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    return values if isinstance(values, dict) else {}


def _write(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
