import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.evaluate.blind.runs import a_vote, for_base, for_tuned, log_of, vote_all
from xiaozao.evaluate.blind.ballot import BlindVote, Side
from xiaozao.evaluate.blind.outcome import Outcome, decided_early, decisive, outcome, standing
from xiaozao.evaluate.blind.votes import CHOICES, Choice, VoteLog, Votes


@pytest.fixture
def vote(tmp_path: Path) -> BlindVote:
    return a_vote(tmp_path / "run", 50)


def counted(vote: BlindVote, wins: int, losses: int, ties: int = 0, bad: int = 0, voter: str = "me") -> Votes:
    """So many votes for the tuned model, and so on, on the questions that count; the others are skipped."""
    log, kinds = log_of(vote), ["tuned"] * wins + ["base"] * losses + ["tie"] * ties + ["bad"] * bad
    for id, kind in zip(vote.key.asked, kinds + ["skip"] * (50 - len(kinds)), strict=True):
        log.vote(voter, id, choice(vote, id, kind))
    for again in vote.key.repeats:
        log.vote(voter, again, "skip")
    return log.read()


def choice(vote: BlindVote, id: str, kind: str) -> Choice:
    """The key to press for a kind of vote."""
    side = vote.key.tuned_on[id]
    sides: dict[str, Choice] = {"tuned": side, "base": for_base(0, side), "tie": "tie", "bad": "bad", "skip": "skip"}
    return sides[kind]


@pytest.mark.parametrize(
    ("wins", "losses", "verdict"),
    [(33, 17, "tuned"), (32, 18, "none"), (17, 33, "base"), (27, 9, "tuned"), (5, 0, "none"), (6, 0, "tuned"),
     (0, 0, "none"), (15, 5, "tuned"), (14, 6, "none")],
)  # fmt: skip
def test_the_verdict_is_that_of_the_table(vote: BlindVote, wins: int, losses: int, verdict: str) -> None:
    result = outcome(vote, counted(vote, wins, losses), "finished")
    assert (result.wins, result.losses, result.verdict) == (wins, losses, verdict)
    assert result.skipped == 50 - wins - losses


def test_what_fifty_votes_say(vote: BlindVote) -> None:
    """27 won, 9 lost, 11 both good, 3 both bad: 75 %, 59 to 86 %, p = 0.004."""
    result = outcome(vote, counted(vote, 27, 9, 11, 3), "finished")
    assert (result.decisive, result.voted, result.ties, result.both_bad, result.skipped) == (36, 50, 11, 3, 0)
    assert (round(result.interval.low, 2), round(result.interval.high, 2)) == (0.59, 0.86)
    assert result.p == pytest.approx(0.004, abs=5e-4)
    assert result.net == pytest.approx(18 / 50) and result.net_interval.low > 0
    assert result.posterior > 0.99 and result.needed == 25
    assert result.detectable is not None and 0.7 < result.detectable < 0.76


def test_equal_is_said_only_of_many_votes_that_lie_close_to_one_half(tmp_path: Path) -> None:
    """Fifty votes are never enough; of 300 questions only fifty are asked, so this is looked at directly."""
    vote = a_vote(tmp_path / "run", 50)
    half = outcome(vote, counted(vote, 25, 25), "finished")
    assert half.verdict == "none"
    values = {**half.__dict__, "wins": 150, "losses": 150}
    assert Outcome(**values).verdict == "equal"
    assert Outcome(**{**values, "wins": 108, "losses": 86}).verdict == "none"


def test_before_the_end_only_the_evidence_decides(vote: BlindVote) -> None:
    """15 of 20 has p = 0.041, but after looking it takes 17."""
    early = outcome(vote, counted(vote, 15, 5), "asked")
    assert early.p < 0.05 and early.verdict == "open"
    assert outcome(vote, counted(vote, 17, 3), "asked").verdict == "tuned"
    assert outcome(vote, counted(vote, 3, 17), "decided").verdict == "base"


def test_one_voter_may_stop_early_and_not_before(vote: BlindVote) -> None:
    log = log_of(vote)
    for number, id in enumerate(vote.key.asked, 1):
        log.vote("me", id, vote.key.tuned_on[id])
        votes = log.read()
        assert decisive(vote.key, votes.choices["me"]) == number
        assert decided_early(vote.key, votes.choices["me"]) is (number >= 8)
        assert standing(vote, votes) == ("decided" if number >= 8 else None)


def test_the_result_waits_for_everybody(vote: BlindVote) -> None:
    log = log_of(vote)
    assert standing(vote, log.read()) is None
    assert standing(vote, vote_all(vote, "Anna", lambda number, side: "tie")) == "finished"
    log.issue("Cleo")
    assert standing(vote, log.read()) is None  # her sheet is still out
    vote_all(vote, "Cleo", for_tuned)
    log.vote("Ben", vote.key.asked[0], "a")
    assert standing(vote, log.read()) is None
    vote_all(vote, "Ben", for_tuned)
    assert standing(vote, log.read()) == "finished"


def test_a_sheet_without_a_name_is_waited_for(vote: BlindVote) -> None:
    log = log_of(vote)
    log.issue("")
    assert standing(vote, vote_all(vote, "me", for_tuned)) is None
    for pair in vote.ballot.pairs:
        log.vote("Dora", pair.id, "a", by="file")
    assert standing(vote, log.read()) == "finished"


def test_several_voters_are_counted_by_question(vote: BlindVote) -> None:
    """Two of three prefer the tuned model everywhere: 50 wins, not 150 votes."""
    vote_all(vote, "Anna", for_tuned)
    vote_all(vote, "Ben", for_base)
    result = outcome(vote, vote_all(vote, "Cleo", for_tuned), "finished")
    assert (result.wins, result.losses, result.voters) == (50, 0, ("Anna", "Ben", "Cleo"))
    assert all(question.votes == 3 for question in result.questions)
    assert result.alpha is not None and result.alpha < 0
    assert result.kappa is None


def test_two_voters_and_how_far_they_agree(vote: BlindVote) -> None:
    vote_all(vote, "Anna", lambda number, side: side if number % 2 else "tie")
    result = outcome(vote, vote_all(vote, "Ben", for_tuned), "finished")
    assert result.ties == 0 and result.wins == 50  # one for the tuned model and one tie is for the tuned model
    assert result.kappa is not None and result.kappa.value is not None and abs(result.kappa.value) < 0.2
    log = log_of(vote)
    for id in vote.key.asked:
        log.vote("Anna", id, choice(vote, id, "base"))
    against = outcome(vote, log.read(), "finished")
    assert (against.wins, against.losses, against.ties) == (0, 0, 50)


def test_both_bad_needs_more_than_half_of_the_voters(vote: BlindVote) -> None:
    vote_all(vote, "Anna", lambda number, side: "bad")
    assert outcome(vote, vote_all(vote, "Ben", lambda number, side: "tie"), "finished").both_bad == 0
    assert outcome(vote, vote_all(vote, "Cleo", lambda number, side: "bad"), "finished").both_bad == 50


def test_who_always_presses_the_same_key_is_seen(vote: BlindVote) -> None:
    result = outcome(vote, vote_all(vote, "me", lambda number, side: "a"), "finished")
    assert (result.wins, result.losses, result.verdict) == (25, 25, "none")
    assert (result.sides.a, result.sides.b) == (55, 0) and result.sides.p < 1e-9
    assert result.consistency[0].same == 0 and result.consistency[0].of == 5
    assert 0.35 < result.lengths.adjusted.share < 0.65


def test_consistency_is_about_the_answers_not_the_sides(vote: BlindVote) -> None:
    result = outcome(vote, vote_all(vote, "me", for_tuned), "finished")
    (same,) = result.consistency
    assert (same.voter, same.same, same.of) == ("me", 5, 5)
    assert result.sides.p > 0.5


def test_length_is_told_and_who_always_takes_the_longer_is_seen(vote: BlindVote) -> None:
    result = outcome(vote, vote_all(vote, "me", for_tuned), "finished")
    longer = [len(question.tuned) > len(question.base) for question in result.questions]
    assert all(longer) and result.lengths.longer_won == result.lengths.of == 50
    assert result.lengths.tuned > result.lengths.base
    assert result.lengths.base == pytest.approx(sum(len(question.base) for question in result.questions) / 50)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_any_votes_have_a_result_whatever_their_order(vote: BlindVote, tmp_path: Path, data: st.DataObject) -> None:
    ids = [pair.id for pair in vote.ballot.pairs]
    cast = data.draw(
        st.dictionaries(st.tuples(st.sampled_from(["Anna", "Ben"]), st.sampled_from(ids)), st.sampled_from(CHOICES))
    )
    results = []
    for number, order in enumerate((list(cast.items()), data.draw(st.permutations(list(cast.items()))))):
        log = VoteLog(tmp_path / f"{number}.jsonl", ids)
        (tmp_path / f"{number}.jsonl").write_text("", encoding="utf-8")
        for (voter, id), chosen in order:
            log.vote(voter, id, chosen)
        results.append(outcome(vote, log.read(), "finished"))
    first, second = results
    assert (first.wins, first.losses, first.ties, first.both_bad, first.skipped) == (
        second.wins, second.losses, second.ties, second.both_bad, second.skipped,
    )  # fmt: skip
    assert first.wins + first.losses + first.ties + first.both_bad + first.skipped == 50
    assert (first.verdict, first.p, first.sides) == (second.verdict, second.p, second.sides)
    assert first.lengths == second.lengths and {*first.consistency} == {*second.consistency}
    assert first.alpha == second.alpha or math.isclose(first.alpha or 0, second.alpha or 0)


def test_the_choice_of_a_side_is_what_it_says(vote: BlindVote) -> None:
    def left(number: int, side: Side) -> Choice:
        return "a"

    questions = outcome(vote, vote_all(vote, "me", left), "finished").questions
    assert all((question.winner == "tuned") is question.tuned_on_a for question in questions)
