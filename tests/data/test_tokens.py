"""Tokens and loss masks, held against plain renderings turn by turn."""

import json
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from tests.data.folders import (
    CHATML,
    LLAMA,
    SPECIAL,
    STRICT,
    THINKING,
    byte_level,
    metaspace,
    model_folder,
    with_bos,
    word_level,
)
from xiaozao.data.encoder import Encoder
from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.rendering import Rendering
from xiaozao.data.tokens import ChatTokenizer, Encoded, _Whole
from xiaozao.errors import ArtefactError, DataError, NotFound, UnsupportedModel, UsageError

SAFE = st.text(alphabet=string.ascii_letters + " .,!?您好请问\n\u2028😀é", min_size=1, max_size=12).filter(str.strip)
TEXTS = st.one_of(SAFE, st.sampled_from([*SPECIAL, "<|im_", "end|>", "a<|im_end|>b", "[/INST]", "<<SYS>>", "x</s>"]))


@st.composite
def dialogues(draw: st.DrawFn, texts: st.SearchStrategy[str] = SAFE) -> Conversation:
    count = draw(st.integers(1, 3))
    turns = [Turn("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(count):
        turns += [Turn("user", draw(texts)), Turn("assistant", draw(texts))]
    return Conversation(tuple(turns), 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    root = tmp_path_factory.mktemp("models")
    made = {
        "chatml": model_folder(root / "chatml", byte_level()),
        "llama": model_folder(root / "llama", with_bos(byte_level()), LLAMA),
        "metaspace": model_folder(root / "metaspace", metaspace(), CHATML),
        "plain": model_folder(root / "plain", byte_level(), None),
        "thinking": model_folder(root / "thinking", byte_level(), THINKING),
    }
    return {name: ChatTokenizer.from_folder(folder) for name, folder in made.items()}


def talk(*texts: str, system: str = "") -> Conversation:
    turns = [Turn("system", system)] if system else []
    turns += [Turn(("user", "assistant")[index % 2], text) for index, text in enumerate(texts)]
    return Conversation(tuple(turns), 1)


def known(tokenizer: ChatTokenizer, token: str) -> int:
    found = tokenizer.id_of(token)
    assert found is not None
    return found


def learned(tokenizer: ChatTokenizer, sample: Encoded) -> list[str]:
    """The texts of the runs of target tokens, control tokens shown."""
    runs: list[list[int]] = []
    before = False
    for index, target in zip(sample.ids, sample.targets, strict=True):
        if target and not before:
            runs.append([])
        if target:
            runs[-1].append(int(index))
        before = bool(target)
    return [tokenizer.decode(run, skip_special=False) for run in runs]


def test_mask_covers_answers_and_the_end_token_and_nothing_else(folders: dict[str, ChatTokenizer]) -> None:
    sample = folders["chatml"].encode(talk("hi", "hello world", "bye", "see you", system="be kind"))
    assert learned(folders["chatml"], sample) == ["hello world<|im_end|>", "see you<|im_end|>"]
    assert sample.untrained == ()


def test_end_token_of_llama_style_answers_is_learned(folders: dict[str, ChatTokenizer]) -> None:
    sample = folders["llama"].encode(talk("hi", "hello", "bye", "see you"))
    assert learned(folders["llama"], sample) == [" hello</s>", " see you</s>"]


@given(conversation=dialogues())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", ["chatml", "llama", "plain", "metaspace"])
def test_mask_equals_rendering_turn_by_turn(
    folders: dict[str, ChatTokenizer], name: str, conversation: Conversation
) -> None:
    tokenizer = folders[name]
    sample = tokenizer.encode(conversation)
    answers = [turn.content for turn in conversation.turns if turn.role == "assistant"]
    runs = learned(tokenizer, sample)
    assert len(runs) == len(answers)
    expected = [answer.strip() if name == "llama" else answer for answer in answers]
    if name == "metaspace":  # its vocabulary lacks most letters
        assert all(run.endswith("<|im_end|>") for run in runs)
        return
    end = "<|im_end|>" if name == "chatml" else "</s>"
    lead = "" if name == "chatml" else " "
    assert runs == [lead + answer + end for answer in expected]


@given(conversation=dialogues(TEXTS))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", ["chatml", "llama", "plain", "metaspace", "thinking"])
def test_tokens_before_the_last_answer_are_the_tokens_of_its_prompt(
    folders: dict[str, ChatTokenizer], name: str, conversation: Conversation
) -> None:
    tokenizer = folders[name]
    sample = tokenizer.encode(conversation)
    prompt = tokenizer.encode_prompt(conversation.turns[:-1])
    assert sample.ids[: len(prompt)].tolist() == prompt
    assert sample.targets[len(prompt) :].any()
    assert sample.targets[len(prompt)]


@given(conversation=dialogues(TEXTS))
@settings(max_examples=100, deadline=None)
def test_what_people_write_never_becomes_a_control_token(
    folders: dict[str, ChatTokenizer], conversation: Conversation
) -> None:
    tokenizer = folders["chatml"]
    sample = tokenizer.encode(conversation)
    starts = int(np.count_nonzero(sample.ids == known(tokenizer, "<|im_start|>")))
    ends = int(np.count_nonzero(sample.ids == known(tokenizer, "<|im_end|>")))
    assert starts == ends == len(conversation.turns)
    assert not np.isin(sample.ids, [known(tokenizer, "<s>"), known(tokenizer, "</s>"), known(tokenizer, "<pad>")]).any()
    rendered = "".join(f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n" for turn in conversation.turns)
    assert tokenizer.decode(sample.ids.tolist(), skip_special=False) == rendered


@pytest.mark.parametrize("make", [byte_level, metaspace, word_level])
@pytest.mark.parametrize("forged", SPECIAL)
def test_forged_control_tokens_are_ordinary_in_every_kind_of_tokenizer(
    tmp_path: Path, make: Callable[[], Tokenizer], forged: str
) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", make()))
    honest = tokenizer.encode(talk("hello xx", "hello"))
    attack = tokenizer.encode(talk(f"hello {forged} x", f"hello {forged}"))
    control = [known(tokenizer, text) for text in SPECIAL]
    assert np.isin(attack.ids, control).sum() == np.isin(honest.ids, control).sum()


def test_a_chat_with_nothing_to_seal_encodes_as_plain_rendering(folders: dict[str, ChatTokenizer]) -> None:
    conversation = talk("hello  world\n", " today?", "the this", "您好")
    plain = byte_level().encode(
        "".join(f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n" for turn in conversation.turns),
        add_special_tokens=False,
    )
    assert folders["chatml"].encode(conversation).ids.tolist() == plain.ids


def test_sealing_changes_only_the_forged_part(folders: dict[str, ChatTokenizer]) -> None:
    """The sealed copy of the tokenizer gives the same ids for everything else."""
    tokenizer = folders["chatml"]
    clean = tokenizer.encode(talk("hello world", "the this that")).ids.tolist()
    forged = tokenizer.encode(talk("hello world<|im_end|>", "the this that")).ids.tolist()
    middle = len(forged) - len(clean)
    at = clean.index(known(tokenizer, "<|im_end|>"))
    assert forged[:at] == clean[:at]
    assert forged[at + middle :] == clean[at:]


def test_reasoning_marks_are_tokens_in_answers_and_text_in_questions(tmp_path: Path) -> None:
    bpe = byte_level()
    bpe.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", bpe, "{# <think> </think> #}" + CHATML))
    sample = tokenizer.encode(talk("say <think>", "<think>\nhm\n</think>\nhello"))
    assert np.count_nonzero(sample.ids == known(tokenizer, "<think>")) == 1


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("template_bos", [False, True])
def test_one_bos_in_samples_prompts_and_texts(tmp_path: Path, adds_bos: bool, template_bos: bool) -> None:
    bpe = with_bos(byte_level()) if adds_bos else byte_level()
    template = ("{{ bos_token }}" if template_bos else "") + CHATML
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", bpe, template))
    bos = known(tokenizer, "<s>")
    expected = int(adds_bos or template_bos)
    for ids in (tokenizer.encode(talk("hi", "hello")).ids.tolist(), tokenizer.encode_prompt((Turn("user", "hi"),))):
        assert ids.count(bos) == expected
        assert (ids[0] == bos) == bool(expected)
    assert tokenizer.encode(Conversation((), 1, "hello")).ids.tolist().count(bos) == int(adds_bos)


@pytest.mark.parametrize("said", [True, False])
def test_add_bos_token_of_the_config_wins(tmp_path: Path, said: bool) -> None:
    bpe = byte_level() if said else with_bos(byte_level())
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", bpe, CHATML, add_bos_token=said))
    assert (tokenizer.encode_prompt((Turn("user", "hi"),))[0] == known(tokenizer, "<s>")) is said


def test_plain_text_is_learned_whole_with_its_end(folders: dict[str, ChatTokenizer]) -> None:
    sample = folders["llama"].encode(Conversation((), 1, "hello <|im_end|> world"))
    assert folders["llama"].decode(sample.ids.tolist(), skip_special=False) == "<s>hello <|im_end|> world</s>"
    assert sample.targets.tolist() == [False] + [True] * (len(sample.ids) - 1)


def test_template_without_an_end_token_gets_eos(tmp_path: Path) -> None:
    template = CHATML.replace("<|im_end|>", "")
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level(), template))
    sample = tokenizer.encode(talk("hi", "hello", "bye", "you."))
    assert learned(tokenizer, sample)[-1] == "you.</s>"
    assert sample.ids[-1] == known(tokenizer, "</s>")


def test_folder_without_template_uses_the_plain_one_and_says_so(folders: dict[str, ChatTokenizer]) -> None:
    assert not folders["plain"].has_own_template
    assert folders["chatml"].has_own_template
    sample = folders["plain"].encode(talk("hi", "hello", "bye", "see you", system="be kind"))
    text = folders["plain"].decode(sample.ids.tolist(), skip_special=False)
    assert text.rstrip() == "System: be kind\nUser: hi\nAssistant: hello</s>\nUser: bye\nAssistant: see you</s>"


def test_answers_that_the_template_changes_later_are_trained_only_as_the_last(
    folders: dict[str, ChatTokenizer],
) -> None:
    """An earlier answer is learned in a sample of its own, in which it is the last one."""
    conversation = talk("hi", "hello", "bye", "see you")
    assert folders["thinking"].encode(conversation).untrained == (1,)
    whole, own = [sample for (sample,) in folders["thinking"].encode_row(conversation)]
    assert learned(folders["thinking"], whole) == ["<think>\n\n</think>\n\nsee you<|im_end|>"]
    assert learned(folders["thinking"], own) == ["<think>\n\n</think>\n\nhello<|im_end|>"]
    assert own.untrained == ()


def test_prompt_with_a_trailing_space_keeps_its_own_tokens(tmp_path: Path) -> None:
    """A token may not reach from the prompt into the answer."""
    template = CHATML.replace("assistant\n{% endif %}", "assistant: {% endif %}").replace(
        "{{ message['role'] }}\n", "{{ message['role'] }}: "
    )
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level(), template))
    sample = tokenizer.encode(talk("hi", "hello", "bye", "hello"))
    prompt = tokenizer.encode_prompt(talk("hi", "hello", "bye").turns)
    assert sample.ids[: len(prompt)].tolist() == prompt
    assert learned(tokenizer, sample) == [" hello<|im_end|>", "hello<|im_end|>"]  # the first is history by then
    assert tokenizer.decode(sample.ids.tolist(), skip_special=False).startswith("<|im_start|>user: hi<|im_end|>")


def test_system_text_is_for_conversations_that_have_none(folders: dict[str, ChatTokenizer]) -> None:
    tokenizer = folders["chatml"]
    assert "be kind" in tokenizer.decode(tokenizer.encode(talk("hi", "hello"), "be kind").ids.tolist())
    own = tokenizer.decode(tokenizer.encode(talk("hi", "hello", system="be brief"), "be kind").ids.tolist())
    assert "be brief" in own and "be kind" not in own


def test_end_ids_come_from_all_places(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", byte_level())
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 8]}', encoding="utf-8")
    (folder / "config.json").write_text('{"eos_token_id": 9, "vocab_size": 512}', encoding="utf-8")
    tokenizer = ChatTokenizer.from_folder(folder)
    assert tokenizer.eos_ids == {7, 8, 9, known(tokenizer, "</s>"), known(tokenizer, "<|im_end|>")}
    assert tokenizer.vocab_size == 512


def test_pad_equal_to_eos_leaves_the_end_token_learned(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level(), LLAMA, pad_token="</s>"))
    assert learned(tokenizer, tokenizer.encode(talk("hi", "hello"))) == [" hello</s>"]


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_decode_gives_back_what_was_encoded(folders: dict[str, ChatTokenizer], text: str) -> None:
    tokenizer = folders["chatml"]
    assert tokenizer.decode(tokenizer.encode(Conversation((), 1, text)).ids.tolist()) == text


def test_fingerprint_changes_with_template_and_tokenizer(tmp_path: Path) -> None:
    first = ChatTokenizer.from_folder(model_folder(tmp_path / "a", byte_level()))
    same = ChatTokenizer.from_folder(model_folder(tmp_path / "b", byte_level()))
    other_template = ChatTokenizer.from_folder(model_folder(tmp_path / "c", byte_level(), CHATML + "{# #}"))
    other_tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "d", byte_level(merges=False)))
    assert first.fingerprint == same.fingerprint and first.template_hash == same.template_hash
    assert len({first.fingerprint, other_template.fingerprint, other_tokenizer.fingerprint}) == 3
    assert first.template_hash != other_template.template_hash


def test_template_that_refuses_a_conversation_says_why(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level(), STRICT))
    with pytest.raises(DataError, match="System role not supported") as caught:
        tokenizer.encode(talk("hi", "hello", system="be kind"))
    assert caught.value.key == "template_refused"


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{% for message in messages %}", "template_syntax"),
        ("{{ raise_exception('no') }}", "template_probe"),
        ("{% if add_generation_prompt %}ASK{% endif %}{{ messages[-1].content }}", "template_prefix"),
    ],
)
def test_template_that_cannot_be_trained_is_refused(tmp_path: Path, template: str, key: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level(), template))
    assert caught.value.key == key


def test_tokenizer_without_any_end_token_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", byte_level(), CHATML.replace("<|im_end|>", "\n"), eos_token=None)
    with pytest.raises(UnsupportedModel) as caught:
        ChatTokenizer.from_folder(folder)
    assert caught.value.key == "no_eos"


def test_damaged_or_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        ChatTokenizer.from_folder(tmp_path / "nowhere")
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json"):
        ChatTokenizer.from_folder(tmp_path)
    folder = model_folder(tmp_path / "m", byte_level())
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"tokenizer\.json"):
        ChatTokenizer.from_folder(folder)
    (folder / "tokenizer_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"tokenizer_config\.json"):
        ChatTokenizer.from_folder(folder)


@pytest.mark.parametrize("where", ["list", "string", "json"])
def test_template_is_found_in_every_place(tmp_path: Path, where: str) -> None:
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": CHATML}]
    said = {"list": named, "string": CHATML, "json": None}[where]
    folder = model_folder(tmp_path / "m", byte_level(), None, chat_template=said)
    if where == "json":
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}), encoding="utf-8")
    tokenizer = ChatTokenizer.from_folder(folder)
    assert tokenizer.has_own_template
    assert known(tokenizer, "<|im_end|>") in tokenizer.eos_ids


class Unanchored(ChatTokenizer):
    """The same, but every prompt is encoded from its beginning: what the quick way must equal."""

    def _whole(self, chat: Rendering, full: str) -> _Whole:
        return replace(super()._whole(chat, full), marks=[], places=[])


TALK = [
    "hello world",
    " how can I help?",
    "the\n\n",
    "您好 <|im_end|> 😀",
    "  this that ",
    "a",
    "</s>x",
    "hello the the",
]


@pytest.mark.parametrize("template", [CHATML, LLAMA, STRICT, THINKING, None])
@pytest.mark.parametrize("make", [byte_level, metaspace, word_level, lambda: with_bos(byte_level())])
def test_a_prompt_of_which_only_the_end_is_encoded_gives_the_same_ids_and_targets(
    tmp_path: Path, make: Callable[[], Tokenizer], template: str | None
) -> None:
    folder = model_folder(tmp_path, make(), template)
    quick, slow = ChatTokenizer.from_folder(folder), Unanchored.from_folder(folder)
    random = Random(0)
    for _ in range(12):
        said = [random.choice(TALK) for _ in range(2 * random.randint(1, 6))]
        turns = tuple(Turn(("user", "assistant")[index % 2], text) for index, text in enumerate(said))
        for conversation in (Conversation(turns, 1), Conversation(turns, 1, shared=len(turns) - 1)):
            one, other = quick.encode(conversation), slow.encode(conversation)
            assert one.ids.tolist() == other.ids.tolist() and one.targets.tolist() == other.targets.tolist()
            assert one.untrained == other.untrained


class Counting(Encoder):
    """Counts the characters that are encoded."""

    count = 0

    def encode(self, text: str, special: bool = False) -> list[int]:
        self.count += len(text)
        return super().encode(text, special)


@pytest.mark.parametrize("template", [CHATML, LLAMA])
def test_twice_as_many_answers_are_encoded_with_about_twice_as_many_characters(tmp_path: Path, template: str) -> None:
    folder = model_folder(tmp_path, byte_level(), template)
    tokenizer = ChatTokenizer.from_folder(folder)
    counting = Counting(folder / "tokenizer.json", (folder / "tokenizer.json").read_text(encoding="utf-8"))
    vars(tokenizer)["_encoder"] = counting
    counts = []
    for answers in (50, 100):
        turns = tuple(Turn(("user", "assistant")[n % 2], f"hello number {n}") for n in range(2 * answers))
        counting.count = 0
        tokenizer.encode(Conversation(turns, 1))
        counts.append(counting.count)
    assert counts[1] < 2.2 * counts[0]


@pytest.mark.parametrize("in_vocabulary", [True, False])
def test_a_control_token_that_only_tokenizer_config_lists_is_one(tmp_path: Path, in_vocabulary: bool) -> None:
    """Base models keep chat marks there; the template would otherwise write them as ordinary text."""
    made = byte_level() if in_vocabulary else byte_level(special=SPECIAL[:3])
    folder = model_folder(tmp_path / "m", made, CHATML)
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] not in SPECIAL[3:]]
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    first = 3 if in_vocabulary else made.get_vocab_size()
    listed = {str(first + index): {"content": text, "special": True} for index, text in enumerate(SPECIAL[3:])}
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "added_tokens_decoder": listed}), encoding="utf-8")
    tokenizer, theirs = ChatTokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    sample = tokenizer.encode(talk("hi <|im_end|>", "hello"))
    assert sample.ids.tolist().count(first + 1) == 2  # one of each turn, none of the user's text
    honest = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    text = theirs.apply_chat_template(honest, tokenize=False)
    assert tokenizer.encode(talk("hi", "hello")).ids.tolist() == theirs.encode(text, add_special_tokens=False)
    path.write_text(json.dumps({**settings, "added_tokens_decoder": {"99999": {"content": "<|new|>"}}}))
    with pytest.raises(ArtefactError, match="99999"):
        ChatTokenizer.from_folder(folder)


def test_a_model_without_a_template_gets_one_by_name_or_from_a_file(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", byte_level(), None)
    for name, start in (("chatml", "<|im_start|>user\nhi<|im_end|>\n"), ("plain", "User: hi\nAssistant: hello</s>")):
        tokenizer = ChatTokenizer.from_folder(folder, name)
        text = tokenizer.decode(tokenizer.encode(talk("hi", "hello")).ids.tolist(), skip_special=False)
        assert text.startswith(start)
    (tmp_path / "own.jinja").write_text(LLAMA, encoding="utf-8")
    assert ChatTokenizer.from_folder(folder, str(tmp_path / "own.jinja")).template == LLAMA
    with pytest.raises(UnsupportedModel, match="start_header_id"):
        ChatTokenizer.from_folder(folder, "llama3")
    with pytest.raises(UsageError, match="plain, chatml, llama3"):
        ChatTokenizer.from_folder(folder, "vicuna")
    with pytest.raises(NotFound, match=r"none\.jinja"):
        ChatTokenizer.from_folder(folder, str(tmp_path / "none.jinja"))
