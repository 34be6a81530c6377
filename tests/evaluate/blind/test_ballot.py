import hashlib
import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.evaluate.blind.runs import a_vote, answered
from xiaozao.errors import ArtefactError, UsageError
from xiaozao.evaluate.blind.ballot import APART, BlindVote, freeze, load, open_vote, start_vote
from xiaozao.evaluate.blind.pairs import AnswerPair, Source, read_pairs
from xiaozao.store.files import RunFolder, VoteFolder, vote_folders

MANY = Source(tuple(AnswerPair(f"question {n}", f"before {n}", f"after {n}") for n in range(80)), "digest")


@pytest.mark.parametrize("seed", range(30))
def test_the_tuned_model_is_on_each_side_twenty_five_times(seed: int) -> None:
    ballot, key = freeze(MANY, "shop", seed=seed)
    assert Counter(key.tuned_on[id] for id in key.asked) == {"a": 25, "b": 25}
    assert len(ballot.pairs) == 55 and len({pair.id for pair in ballot.pairs}) == 55
    for pair in ballot.pairs:
        number = pair.question.split()[-1]
        assert pair.texts[key.tuned_on[pair.id]] == f"after {number}"
        assert {pair.a, pair.b} == {f"after {number}", f"before {number}"}


def test_the_sides_follow_no_pattern() -> None:
    """Over 400 votes the tuned model is on side A about half of the time in each place, whatever stands beside it."""
    drawn = []
    for seed in range(400):
        _, key = freeze(Source(MANY.pairs[:50], ""), "shop", seed=seed)
        drawn.append([side == "a" for side in key.tuned_on.values()][:50])
    for place in range(50):
        assert 150 < sum(one[place] for one in drawn) < 250
    assert 120 < sum(one[0] == one[1] for one in drawn) < 280


def test_five_pairs_are_repeated_with_their_sides_swapped() -> None:
    ballot, key = freeze(MANY, "shop", seed=3)
    pairs = {pair.id: pair for pair in ballot.pairs}
    assert len(key.repeats) == 5 and len(key.asked) == 50
    for again, first in key.repeats.items():
        assert pairs[again].question == pairs[first].question
        assert (pairs[again].a, pairs[again].b) == (pairs[first].b, pairs[first].a)
        assert key.tuned_on[again] != key.tuned_on[first]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 49, 50, 51])
def test_any_number_of_questions_makes_a_vote(count: int) -> None:
    ballot, key = freeze(Source(MANY.pairs[:count], ""), "shop", seed=4)
    sides = Counter(key.tuned_on[id] for id in key.asked)
    assert sides.total() == min(count, 50) and abs(sides["a"] - sides["b"]) <= count % 2
    assert len(ballot.pairs) == min(count, 50) + min(5, count)


def test_the_extra_question_of_an_odd_number_is_on_either_side() -> None:
    extra = {freeze(Source(MANY.pairs[:1], ""), "shop", seed=seed)[1].tuned_on.popitem()[1] for seed in range(20)}
    assert extra == {"a", "b"}


def test_which_questions_are_taken_depends_on_the_seed_alone() -> None:
    first, second, other = ({pair.question for pair in freeze(MANY, "shop", seed=seed)[0].pairs} for seed in (5, 5, 6))
    assert first == second != other


def test_the_same_answer_from_both_is_counted_and_not_asked(tmp_path: Path) -> None:
    vote = a_vote(tmp_path / "run", 50, same=(3, 17))
    assert (vote.ballot.same, len(vote.key.asked)) == (2, 48)
    assert Counter(vote.key.tuned_on[id] for id in vote.key.asked) == {"a": 24, "b": 24}
    assert "Same" not in vote.folder.pairs.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="same answer to all 3 questions"):
        freeze(read_pairs(answered(tmp_path / "equal", 3, same=(0, 1, 2)), "equal"), "equal")


def test_every_voter_has_an_order_of_his_own(tmp_path: Path) -> None:
    vote = a_vote(tmp_path / "run")
    anna, ben = vote.order("Anna"), vote.order("Ben")
    assert anna == load(vote.folder).order("Anna") != ben
    assert set(anna) == set(ben) == set(vote.ballot.pairs)
    assert anna != vote.ballot.pairs
    for order in (anna, ben, *(vote.order(str(number)) for number in range(20))):
        places = {pair.id: place for place, pair in enumerate(order)}
        for again, first in vote.key.repeats.items():
            apart = places[again] - places[first]
            assert apart > APART or (apart > 0 and places[again] >= 50)


def test_the_commitment_can_be_checked_by_anybody(tmp_path: Path) -> None:
    key = a_vote(tmp_path / "run").key
    assert hashlib.sha256(f"{key.salt}\n{key.mapping}".encode()).hexdigest() == key.commitment
    assert json.loads(key.mapping)["tuned_on"] == key.tuned_on


def test_seed_and_salt_are_drawn_anew_for_every_vote() -> None:
    drawn = [freeze(MANY, "shop") for _ in range(3)]
    assert len({key.seed for _, key in drawn}) == len({key.salt for _, key in drawn}) == 3
    assert len({ballot.hash for ballot, _ in drawn}) == 3


def test_what_voters_see_tells_nothing_of_the_sides(tmp_path: Path) -> None:
    """Two votes that differ in every side, and in nothing else, have files of the same shape."""
    vote = a_vote(tmp_path / "SmolLM2-run")
    text = vote.folder.pairs.read_text(encoding="utf-8")
    document = json.loads(text)
    assert document.keys() == {"hash", "v", "commitment", "same", "pairs"}
    assert {frozenset(pair) for pair in document["pairs"]} == {frozenset({"id", "question", "a", "b"})}
    assert [pair["id"] for pair in document["pairs"]] == sorted(pair["id"] for pair in document["pairs"])
    for word in ("tuned", "base", "SmolLM2-run", "HuggingFace", vote.key.salt, str(vote.key.seed), "<|im_end|>"):
        assert word not in text
    assert vote.folder.sides.stat().st_mode & 0o077 == 0


def test_a_vote_is_read_back_as_it_was(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    vote = a_vote(run.path)
    assert open_vote(run) == vote
    again = start_vote(run, *freeze(read_pairs(run, "shop"), "shop", seed=9))
    assert open_vote(run) == again != vote
    assert [folder.path.name for folder in vote_folders(run)] == ["1", "2"]
    assert load(VoteFolder(run.blind / "1")) == vote
    assert sorted(path.name for path in run.blind.iterdir()) == ["1", "2"]


def test_a_run_without_a_vote_has_none(tmp_path: Path) -> None:
    run = answered(tmp_path / "run", 3)
    assert open_vote(run) is None
    (run.blind / ".new-left-by-a-crash").mkdir(parents=True)
    assert open_vote(run) is None


def test_of_several_who_begin_at_once_one_vote_counts(tmp_path: Path) -> None:
    run = answered(tmp_path / "run")
    source = read_pairs(run, "shop")
    made: list[BlindVote] = []

    def begin() -> None:
        made.append(start_vote(run, *freeze(source, "shop")))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = Counter(vote.folder.path.name for vote in made)
    for name in numbers:
        assert len({vote.ballot.hash for vote in made if vote.folder.path.name == name}) == 1
    assert len(made) == 8


def test_a_pair_that_was_changed_is_seen(tmp_path: Path) -> None:
    vote = a_vote(tmp_path / "run")
    text = vote.folder.pairs.read_text(encoding="utf-8")
    vote.folder.pairs.write_text(text.replace("within 14 days", "within 90 days", 1), encoding="utf-8")
    with pytest.raises(ArtefactError, match=f"frozen was {vote.ballot.hash}"):
        load(vote.folder)


@pytest.mark.parametrize("part", ["tuned_on", "repeats", "salt"])
def test_a_side_that_was_changed_is_seen(tmp_path: Path, part: str) -> None:
    vote = a_vote(tmp_path / "run")
    document = json.loads(vote.folder.sides.read_text(encoding="utf-8"))
    if part == "salt":
        document[part] = "0" * 32
    else:
        document[part].popitem()
    vote.folder.sides.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ArtefactError, match="was changed after the vote began"):
        load(vote.folder)


@pytest.mark.parametrize("name", ["pairs.json", "sides.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pairs": 3}', '{"tuned_on": {"p": "c"}}', "\xff"])
def test_a_damaged_vote_is_refused(tmp_path: Path, name: str, content: str) -> None:
    vote = a_vote(tmp_path / "run", 3)
    (vote.folder.path / name).write_text(content, encoding="latin-1")
    with pytest.raises(ArtefactError, match="is damaged") as raised:
        load(vote.folder)
    assert "--again" in raised.value.fix()
