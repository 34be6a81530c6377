"""`zao eval report RUN`: what all evaluations of a run found, on one page and as JSON. Nothing is asked of a model."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xiaozao.cli.blind_view import result_document
from xiaozao.cli.console import Output, current_output
from xiaozao.cli.eval_blind import vote_facts
from xiaozao.cli.eval_run import check_free, hand_out
from xiaozao.errors import NotFound, UsageError
from xiaozao.evaluate.blind.ballot import load
from xiaozao.evaluate.blind.outcome import Outcome, outcome
from xiaozao.evaluate.blind.votes import VoteLog
from xiaozao.evaluate.report import json_bytes
from xiaozao.evaluate.summary import Part, Summary, check_bench, check_form
from xiaozao.evaluate.summary_page import render_summary
from xiaozao.hub.jsonfile import read_object
from xiaozao.runs.results import options_of, trained
from xiaozao.spec.evaluation import command_of, read_evaluation
from xiaozao.store.files import RunFolder, refuse_links, vote_folders
from xiaozao.store.runs import find_run, short_name

Check = Callable[[Mapping[str, Any], Path], Mapping[str, Any]]


def work(run: str, file: str | None) -> None:
    output = current_output()
    source = find_run(run)
    options, name = options_of(source), short_name(source)
    page = _target(source, file, output)
    refuse_links(source)
    questions = () if options.evaluate.questions else ("--questions", "FILE")
    vote, counted = _vote(source, name)
    summary = Summary(
        run=name, model=options.model.model, data=str(options.data.data), vote=vote, outcome=counted,
        bench=_part(source, "bench", name, (), check_bench), form=_part(source, "format", name, questions, check_form),
    )  # fmt: skip
    if all(one.state != "done" for one in summary.parts.values()):
        trained(run)  # who has no result yet is told so, and not to evaluate it
        commands = {kind: one.command for kind, one in summary.parts.items()}
        raise NotFound(
            "eval_nothing", name=name, bench=commands["bench"], format=commands["format"], blind=commands["blind"]
        )
    document = {**summary.to_json(output.language), "report": str(page)}
    source.summary.parent.mkdir(exist_ok=True)
    hand_out(page, render_summary(summary, output.language).encode("utf-8"))
    hand_out(page.with_suffix(".json"), json_bytes(document))
    output.result(_told(summary, page, output), document, str(page))


def _target(source: RunFolder, file: str | None, output: Output) -> Path:
    """Where the page goes. Raises UsageError for a name that is no page's, or a file that somebody else may need."""
    if file is None:
        return source.summary
    page = Path(file).expanduser()
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError("eval_report_kind", path=page)
    check_free((page, page.with_suffix(".json")), output)
    return page


def _part(source: RunFolder, kind: str, name: str, more: tuple[str, ...], check: Check) -> Part:
    """One of the evaluations that ask the models, as far as it is."""
    folder = source.evaluation(kind)
    if not folder.evaluation_spec.is_file():
        return Part(state="absent", command=shlex.join(["zao", "eval", kind, name, *more]))
    spec = read_evaluation(folder.evaluation_spec)
    if not folder.standing.is_file():
        return Part(state="begun", command=command_of(spec, name))
    again = command_of(spec, name, "--again")
    return Part(state="done", command=again, document=check(read_object(folder.standing), folder.standing))


def _vote(source: RunFolder, name: str) -> tuple[Part, Outcome | None]:
    """The latest vote. Of one that is not closed nothing is read but whether it is."""
    vote = shlex.join(["zao", "eval", "blind", name])
    folders = vote_folders(source)
    if not folders:
        return Part(state="absent", command=vote), None
    revealed = VoteLog(folders[-1].votes, ()).read().revealed
    if revealed is None:
        return Part(state="begun", command=vote), None
    closed = load(folders[-1])
    votes = VoteLog(closed.folder.votes, [pair.id for pair in closed.ballot.pairs]).read()
    told = outcome(closed, votes, revealed[0])
    document = {**vote_facts(closed), **result_document(told, closed)}
    return Part(state="done", command=f"{vote} --result", document=document), told


def _told(summary: Summary, page: Path, output: Output) -> str:
    """The sentence, where the page is, and what was not done."""
    lines = [
        summary.sentence(output.language),
        output.say("summary.written", page=page, json=page.with_suffix(".json")),
    ]
    lines += [
        output.say(f"summary.state.{one.state}.{kind}", command=one.command)
        for kind, one in summary.parts.items()
        if one.state != "done"
    ]
    return "\n".join(lines)
