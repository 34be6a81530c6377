import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.evaluate.blind.runs import a_vote, log_of
from xiaozao.errors import DataError, NotFound, UsageError, XiaozaoError
from xiaozao.evaluate.blind.ballot import BlindVote
from xiaozao.evaluate.blind.returned import merge, read_sheet
from xiaozao.evaluate.blind.sheet import csv_sheet
from xiaozao.evaluate.blind.votes import CHOICES
from xiaozao.texts.catalogue import LANGUAGES, Language


@pytest.fixture
def vote(tmp_path: Path) -> BlindVote:
    return a_vote(tmp_path / "run", 12)


def filled(
    vote: BlindVote, path: Path, votes: dict[str, str], voter: str = "Anna", delimiter: str = ",",
    encoding: str = "utf-8-sig", language: Language = "en",
) -> Path:  # fmt: skip
    """The table as it comes back, saved as a spreadsheet would."""
    header, *rows = csv.reader(io.StringIO(csv_sheet(vote.ballot, vote.order(""), "", language)[1:], newline=""))
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=delimiter)
    table.writerow(header)
    table.writerows([*row[:2], voter, *row[3:6], votes.get(row[1], "")] for row in rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def downloaded(vote: BlindVote, path: Path, **changes: object) -> Path:
    """The file that the page saves."""
    document = {
        "format": "xiaozao-votes", "v": 1, "sheet": vote.ballot.name, "hash": vote.ballot.hash, "voter": "Anna",
        "votes": [{"pair": vote.ballot.pairs[0].id, "choice": "tie"}], **changes,
    }  # fmt: skip
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def test_the_pages_file_is_read(vote: BlindVote, tmp_path: Path) -> None:
    (returned,) = read_sheet(downloaded(vote, tmp_path / "v.json"), vote.ballot, None)
    assert (returned.voter, returned.choices) == ("Anna", {vote.ballot.pairs[0].id: "tie"})


@pytest.mark.parametrize(
    ("delimiter", "encoding", "language"),
    [(",", "utf-8-sig", "en"), (";", "utf-8", "zh-CN"), ("\t", "utf-16", "zh-CN"), (",", "gb18030", "zh-CN")],
)
def test_the_table_is_read_as_spreadsheets_save_it(
    vote: BlindVote, tmp_path: Path, delimiter: str, encoding: str, language: Language
) -> None:
    ids = [pair.id for pair in vote.ballot.pairs]
    votes = {ids[0]: "A", ids[1]: "b ", ids[2]: "T", ids[3]: "都不好", ids[4]: "Ｘ", ids[5]: "Both good", ids[6]: "s"}
    path = filled(vote, tmp_path / "v.csv", votes, "小王", delimiter, encoding, language)
    (returned,) = read_sheet(path, vote.ballot, None)
    assert returned.voter == "小王"
    assert [returned.choices[id] for id in ids[:7]] == ["a", "b", "tie", "bad", "bad", "tie", "skip"]
    assert len(returned.choices) == 7


def test_several_people_may_fill_in_one_table(vote: BlindVote, tmp_path: Path) -> None:
    ids = [pair.id for pair in vote.ballot.pairs]
    first = filled(vote, tmp_path / "a.csv", {ids[0]: "a"}, "Anna").read_text(encoding="utf-8-sig")
    second = filled(vote, tmp_path / "b.csv", {ids[0]: "b", ids[1]: "t"}, "Ben").read_text(encoding="utf-8-sig")
    both = tmp_path / "both.csv"
    both.write_text(first + second.partition("\n")[2], encoding="utf-8")
    returned = {one.voter: one.choices for one in read_sheet(both, vote.ballot, None)}
    assert returned == {"Anna": {ids[0]: "a"}, "Ben": {ids[0]: "b", ids[1]: "tie"}}


def test_a_table_without_a_name_needs_one(vote: BlindVote, tmp_path: Path) -> None:
    path = filled(vote, tmp_path / "v.csv", {vote.ballot.pairs[0].id: "a"}, voter=" ")
    with pytest.raises(UsageError, match="does not say who voted"):
        read_sheet(path, vote.ballot, None)
    assert read_sheet(path, vote.ballot, "Ben")[0].voter == "Ben"
    with pytest.raises(UsageError, match="does not say who voted"):
        read_sheet(downloaded(vote, tmp_path / "v.json", voter=None), vote.ballot, None)


def test_an_empty_table_has_no_votes(vote: BlindVote, tmp_path: Path) -> None:
    assert read_sheet(filled(vote, tmp_path / "v.csv", {}), vote.ballot, None) == []


def test_a_sheet_of_another_vote_is_refused_with_both_names(vote: BlindVote, tmp_path: Path) -> None:
    other = a_vote(tmp_path / "other", 12, seed=77)
    assert other.ballot.name != vote.ballot.name
    table = filled(other, tmp_path / "v.csv", {other.ballot.pairs[0].id: "a"})
    for path in (table, downloaded(other, tmp_path / "v.json")):
        with pytest.raises(DataError, match=f"says {other.ballot.name}, this one is {vote.ballot.name}"):
            read_sheet(path, vote.ballot, None)


def test_every_cell_that_is_no_vote_is_named_at_once(vote: BlindVote, tmp_path: Path) -> None:
    ids = [pair.id for pair in vote.order("")]
    path = filled(vote, tmp_path / "v.csv", {ids[0]: "yes", ids[1]: "a", ids[2]: "AB"})
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(text + text.splitlines(keepends=True)[3], encoding="utf-8-sig")
    with pytest.raises(DataError, match="votes in .* cannot be read") as raised:
        read_sheet(path, vote.ballot, None)
    told = [problem.text() for problem in raised.value.problems]
    assert any("yes" in one and ids[0] in one for one in told) and any("AB" in one for one in told)
    twice = [{"pair": ids[0], "choice": "a"}, {"pair": ids[0], "choice": "b"}, {"pair": "p0", "choice": "a"}, 7]
    with pytest.raises(DataError) as raised:
        read_sheet(downloaded(vote, tmp_path / "v.json", votes=twice), vote.ballot, None)
    assert "has a vote already" in raised.value.problems[0].text() and len(raised.value.problems) == 3


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "no sheet of a blind vote"), (b"a,b\n1,2\n", "no sheet of a blind vote"), (b"{", "cannot be read"),
        (b"{}", "no sheet of a blind vote"), (b'{"format": "xiaozao-votes", "votes": 3}', "no sheet of a blind vote"),
        (b"\x80\xff\xff\x81", "cannot be read"), (b"[1, 2]", "no sheet of a blind vote"),
        (b'{"a":' * 100_000, "cannot be read"), (b"sheet,pair,vote\n\x00,,\n", "another vote|cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_sheet_is_refused(vote: BlindVote, tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=error):
        read_sheet(path, vote.ballot, "Anna")


def test_a_file_that_is_not_there_or_far_too_large_is_refused(vote: BlindVote, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no file"):
        read_sheet(tmp_path / "none.csv", vote.ballot, "Anna")
    with pytest.raises(DataError, match="folder"):
        read_sheet(tmp_path, vote.ballot, "Anna")
    with (tmp_path / "big.csv").open("wb") as file:
        file.truncate(10**8 + 1)
    with pytest.raises(DataError, match="100000001 bytes; a sheet has at most 100000000"):
        read_sheet(tmp_path / "big.csv", vote.ballot, "Anna")


def test_reading_a_file_twice_adds_nothing_and_a_later_file_replaces(vote: BlindVote, tmp_path: Path) -> None:
    log, ids = log_of(vote), [pair.id for pair in vote.ballot.pairs]
    log.vote("Anna", ids[0], "a")
    votes = {ids[0]: "a", ids[1]: "b", ids[2]: "t"}
    (returned,) = read_sheet(filled(vote, tmp_path / "v.csv", votes), vote.ballot, None)
    merged = merge(returned, log.read())
    assert (merged.new, merged.changed, merged.known) == ({ids[1]: "b", ids[2]: "tie"}, {}, 1)
    for pair, choice in merged.new.items():
        log.vote("Anna", pair, choice, by="file")
    assert merge(returned, log.read()).known == 3
    (later,) = read_sheet(filled(vote, tmp_path / "w.csv", {ids[0]: "b"}), vote.ballot, None)
    assert merge(later, log.read()).changed == {ids[0]: "b"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_no_file_is_a_crash(vote: BlindVote, tmp_path: Path, data: st.DataObject) -> None:
    """Pieces of both kinds of files, mixed with noise: read, or refused in words."""
    name, pair = vote.ballot.name, vote.ballot.pairs[0].id
    pieces = [
        "sheet,pair,voter,vote\n", name, pair, ",", ";", "\n", '"', "a", "Anna",
        '{"format": "xiaozao-votes", ', '"votes": [',
        f'{{"pair": "{pair}", "choice": "a"}}', "]", "}", f'"sheet": "{name}", ', "\x00", "é", "\ud7ff", *CHOICES,
    ]  # fmt: skip
    written = data.draw(st.lists(st.sampled_from(pieces) | st.text(max_size=4)).map("".join) | st.binary())
    path = tmp_path / "v"
    path.write_bytes(written if isinstance(written, bytes) else written.encode("utf-8", "surrogatepass"))
    try:
        for returned in read_sheet(path, vote.ballot, data.draw(st.sampled_from([None, "Ben"]))):
            assert set(returned.choices.values()) <= set(CHOICES)
    except XiaozaoError as error:
        for language in LANGUAGES:
            assert error.what(language)
            assert "{" not in error.fix(language)
