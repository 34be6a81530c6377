"""`zao eval blind RUN`: which model gives the better answers, voted on without knowing whose they are.

zao eval blind RUN                   vote in the terminal; stop and go on at any time
zao eval blind RUN --sheet OUT.html  a page, or a table (.csv), for a colleague
zao eval blind RUN --read FILE       the votes that came back
zao eval blind RUN --result          what came of it, once everybody is through
"""

import shlex
import sys
import time
from pathlib import Path

from xiaozao.cli.blind_view import result_document, result_view
from xiaozao.cli.booth import Booth
from xiaozao.cli.console import Output, current_output
from xiaozao.errors import EnvironmentProblem, NotFound, Problem, UsageError
from xiaozao.evaluate.blind.ballot import BlindVote, freeze, open_vote, start_vote
from xiaozao.evaluate.blind.outcome import outcome, standing
from xiaozao.evaluate.blind.pairs import digest_of, read_pairs
from xiaozao.evaluate.blind.returned import merge, read_sheet
from xiaozao.evaluate.blind.sheet import csv_sheet, html_sheet
from xiaozao.evaluate.blind.votes import VoteLog, Votes, voter_name
from xiaozao.store.files import RunFolder, refuse_links
from xiaozao.store.runs import find_run, register, short_name

SELF = "me"  # the voter where none is named
KINDS = (".html", ".csv")


def blind(
    name: str, voter: str | None, sheet: str | None, read: tuple[str, ...], result: bool, reveal: bool, again: bool
) -> int:
    output = current_output()
    _check_together(name, sheet, read, result or reveal, again, voter)
    named = voter_name(voter) if voter is not None else None
    run = find_run(name)
    register(run.path)
    typed = short_name(run)
    if sheet is not None and Path(sheet).suffix.lower() not in KINDS:
        raise UsageError("blind_sheet_kind", path=sheet, name=typed)
    refuse_links(run)
    begins = not (read or result or reveal)
    if begins and sheet is None and (output.format != "human" or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise UsageError("blind_no_terminal", name=typed)
    vote = _vote_of(run, typed, output, again, begins)
    log = VoteLog(vote.folder.votes, [pair.id for pair in vote.ballot.pairs])
    votes = log.read()
    if votes.damaged:
        output.note("blind.damaged", path=vote.folder.votes, count=votes.damaged)
    if result or reveal:
        return _show_result(vote, log, votes, typed, reveal, output)
    if votes.revealed is not None:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(votes.revealed[1]))
        raise UsageError("blind_closed", name=typed, day=day)
    if read:
        return _read(vote, log, [Path(one) for one in read], named, typed, output)
    if sheet is not None:
        return _write_sheet(vote, log, Path(sheet).expanduser(), named, typed, output)
    return _vote(vote, log, named or SELF, typed, output)


def _check_together(
    name: str, sheet: str | None, read: tuple[str, ...], result: bool, again: bool, voter: str | None
) -> None:
    """Raises UsageError for flags that say two things at once."""
    asked = [
        flag for flag, given in (("--sheet", sheet is not None), ("--read", bool(read)), ("--result", result)) if given
    ]
    if again and ("--read" in asked or "--result" in asked):
        asked.append("--again")
    if voter is not None and result:
        asked.append("--voter")
    if len(asked) > 1:
        raise UsageError("blind_together", flags=", ".join(asked), name=name)


def _vote_of(run: RunFolder, name: str, output: Output, again: bool, begins: bool) -> BlindVote:
    """The vote of a run; a new one where there is none, or where another is asked for."""
    vote = None if again else open_vote(run)
    if vote is not None:
        if digest_of(run) not in (None, vote.key.source):
            output.note("blind.stale", name=name)
        return vote
    if not begins:
        raise NotFound("blind_no_vote", name=name)
    ballot, key = freeze(read_pairs(run, name), name)
    vote = start_vote(run, ballot, key)
    output.note(
        "blind.begun", questions=len(vote.key.asked), repeats=len(vote.key.repeats), same=vote.ballot.same,
        commitment=vote.ballot.commitment,
    )  # fmt: skip
    return vote


def _vote(vote: BlindVote, log: VoteLog, voter: str, name: str, output: Output) -> int:
    """Vote in the terminal."""
    booth = Booth(vote, log, voter, output)
    try:
        code = booth.vote()
    except KeyboardInterrupt:
        code = 130
    if left := booth.left:
        output.note("blind.left", voter=voter, left=left, name=name, typed=shlex.quote(voter))
    else:
        output.note("blind.through", voter=voter, name=name)
    return code


def _write_sheet(vote: BlindVote, log: VoteLog, path: Path, voter: str | None, name: str, output: Output) -> int:
    """Write the page or the table."""
    if path.exists() and not output.yes:
        raise UsageError("blind_sheet_exists", path=path)
    make = html_sheet if path.suffix.lower() == ".html" else csv_sheet
    text = make(vote.ballot, vote.order(voter or ""), voter or "", output.language)
    try:
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise EnvironmentProblem("blind_write", path=path, detail=error.strerror or str(error)) from None
    log.issue(voter or "")
    key = "blind.sheet_html" if path.suffix.lower() == ".html" else "blind.sheet_csv"
    human = output.say(key, path=path, count=len(vote.ballot.pairs), name=name)
    output.result(human, {"sheet": str(path), **vote_facts(vote), "voter": voter}, quiet=str(path))
    return 0


def _read(vote: BlindVote, log: VoteLog, paths: list[Path], voter: str | None, name: str, output: Output) -> int:
    """Take over the votes of sheets. All files are read before the first vote is recorded."""
    returned = [(path, one) for path in paths for one in read_sheet(path.expanduser(), vote.ballot, voter)]
    lines, files = [], []
    for path, sheet in returned:
        merged = merge(sheet, log.read())
        for pair, choice in (*merged.new.items(), *merged.changed.items()):
            log.vote(merged.voter, pair, choice, by="file")
        left = log.read().open(merged.voter, [pair.id for pair in vote.ballot.pairs])
        counts = {"new": len(merged.new), "changed": len(merged.changed), "known": merged.known, "left": left}
        lines.append(output.say("blind.read", path=path, voter=merged.voter, **counts))
        files.append({"file": str(path), "voter": merged.voter, **counts})
    if not returned:
        lines.append(output.say("blind.read_nothing", path=", ".join(map(str, paths))))
    if standing(vote, log.read()) is not None:
        lines.append(output.say("blind.ready", name=name))
    output.result("\n".join(lines), {**vote_facts(vote), "read": files})
    return 0


def _show_result(vote: BlindVote, log: VoteLog, votes: Votes, name: str, reveal: bool, output: Output) -> int:
    """Show the result if it may be shown. The first time closes the vote."""
    if not votes.voters:
        raise UsageError("blind_no_votes", name=name)
    why = votes.revealed[0] if votes.revealed else standing(vote, votes)
    if why is None and not reveal:
        raise UsageError("blind_hidden", _waited_for(vote, votes), name=name)
    if votes.revealed is None:
        log.reveal(why or "asked")
    result = outcome(vote, votes, why or "asked")
    output.result(
        result_view(result, vote, name, output), {**vote_facts(vote), **result_document(result, vote)}, result.verdict
    )
    return 0


def _waited_for(vote: BlindVote, votes: Votes) -> list[Problem]:
    """Who has not voted on everything."""
    pairs = [pair.id for pair in vote.ballot.pairs]
    named = [*votes.voters, *sorted(votes.issued - {""} - set(votes.voters))]
    waited = [
        Problem("blind_open", {"voter": one, "left": votes.open(one, pairs), "total": len(pairs)})
        for one in named
        if votes.open(one, pairs)
    ]
    return waited or [Problem("blind_unreturned", {})]


def vote_facts(vote: BlindVote) -> dict[str, object]:
    """What may be told of a vote at any time."""
    return {
        "vote": vote.ballot.name, "hash": vote.ballot.hash, "commitment": vote.ballot.commitment,
        "pairs": len(vote.ballot.pairs), "questions": len(vote.key.asked), "repeats": len(vote.key.repeats),
        "same": vote.ballot.same, "folder": str(vote.folder.path),
    }  # fmt: skip
