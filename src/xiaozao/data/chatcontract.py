"""How a trained model has to be asked, saved beside its weights and checked by whoever answers with it.

{"template": SHA-256 of the chat template, "stops": texts of the tokens that end an answer, "tools": whether tools
 have a place in the template, "thinking": true, false, or null where the template has no switch for it}
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import ArtefactError

FILE = "chat_contract.json"
LIMIT = 1_000_000  # bytes


@dataclass(frozen=True)
class ChatContract:
    """What a model was trained with. thinking: None where the template has no switch."""

    template: str
    stops: tuple[str, ...]
    tools: bool
    thinking: bool | None


def contract_of(tokenizer: ChatTokenizer, thinking: bool) -> ChatContract:
    """The contract of a model that is trained with this tokenizer, most of its rows with or without thinking."""
    stops = tuple(sorted(tokenizer.decode([end], skip_special=False) for end in tokenizer.eos_ids))
    switch = thinking if tokenizer.abilities.switch else None
    return ChatContract(tokenizer.template_hash, stops, tokenizer.abilities.tools, switch)


def write_contract(folder: Path, contract: ChatContract) -> None:
    """Write the contract into a folder."""
    text = json.dumps(asdict(contract), ensure_ascii=False, indent=2, sort_keys=True)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_contract(folder: Path) -> ChatContract | None:
    """The contract in a folder; None where there is none, as in results of older versions. Raises ArtefactError."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError(f"> {LIMIT} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
        return ChatContract(
            str(values["template"]), tuple(map(str, values["stops"])), bool(values["tools"]),
            None if values["thinking"] is None else bool(values["thinking"]),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ArtefactError("model_file", path=path, detail=error) from None


def check_contract(folder: Path, tokenizer: ChatTokenizer) -> bool:
    """Whether to ask with thinking turned on. Raises ArtefactError where the template is not the one of training."""
    contract = read_contract(folder)
    if contract is None:
        return False
    if contract.template != tokenizer.template_hash:
        raise ArtefactError(
            "contract_template", folder=folder, trained=contract.template[:12], found=tokenizer.template_hash[:12]
        )
    return bool(contract.thinking)
