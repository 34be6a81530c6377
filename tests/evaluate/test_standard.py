"""How items become what a model reads."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from tests.toy import SPECIAL, toy_folder
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.evaluate.standard import _choices
from xiaozao.evaluate.suite import Item

ITEM = Item("1", "Which one?", ("a", "bb"))


def test_choices_follow_the_context_that_they_share(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(toy_folder(tmp_path / "m"))
    asked = _choices(ITEM, tokenizer)
    assert tokenizer.decode(asked.context) == "Question: Which one?\nAnswer:"
    assert [tokenizer.decode(one) for one in asked.choices] == [" a", " bb"]


def test_a_choice_that_melts_into_the_context_is_weighed_with_its_last_token(tmp_path: Path) -> None:
    """A tokenizer that reads all behind the first word as one token: alone a choice would weigh nothing, and win."""
    folder = toy_folder(tmp_path / "m")
    tokenizer = Tokenizer(
        models.WordLevel({name: at for at, name in enumerate([*SPECIAL, "[any]"])}, unk_token="[any]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("Question", "isolated")
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    item = Item("1", "Which one?", ("a", "b c"))
    asked = _choices(item, ChatTokenizer.from_folder(folder))
    assert len(asked.context) == 1 and [len(one) for one in asked.choices] == [1, 1]
