"""`zao data check`: what is in a file, what is wrong with it row by row, and what would be trained on."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.findings_view import findings_view
from xiaozao.cli.fixes import asked_of, check_targets, fixed_view, repaired
from xiaozao.cli.options import anchored_files, gather
from xiaozao.data.checks import DataReport, check
from xiaozao.data.quality.handout import Checked, render, write
from xiaozao.errors import DataError, Problem
from xiaozao.hub.sources import resolve
from xiaozao.runs.sentences import left_out
from xiaozao.spec.objectives import FORMATS, those_of
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import cache
from xiaozao.texts.catalogue import counted

SHOWN = 20  # problems; the count of all stands above them
EXAMPLE = 160  # characters of a turn
# Notes that say how a file was read, without anything to doubt.
PLAIN_NOTES = {
    "note_unanswered",
    "note_titles",
    "note_header_again",
    "note_merged",
    "note_marks_read",
    "note_messenger",
    "note_letters",
    "note_two_headers",
    "note_titles_chat",
    "note_number",
}


def check_file(file: str, arguments: tuple[str, ...], **flags: str | None) -> int:
    output = current_output()
    asked = asked_of(flags)
    options = {**gather(arguments, {name: flag for name, flag in flags.items() if name not in OWN}), "data": file}
    spec = RunSpec.from_options({"model": "none", **options, **anchored_files(options)})
    if unread := sorted(UNREAD & options.keys()):
        output.note("data.whole", names=", ".join(unread))
    check_targets(asked, spec.data, output.yes)
    questions = Path(spec.evaluate.questions) if spec.evaluate.questions else None
    data, fixed = spec.data, None
    with output.stages() as tell:
        model = None
        if "model" in options:
            model = resolve(spec.model.model, spec.model.source, spec.model.revision, cache(), tell).path
        if asked.out is not None:
            fixed, data = repaired(spec.data, asked, questions, tell, output.language)
        checked = check(data, model, tell, spec.method.objective if "objective" in options else None, questions)
    if asked.report is not None:
        write(asked.report, render(_facts_of_page(checked, output), checked.findings, output.language), output.yes)
    view, document = _view(checked, output), checked.to_json(output.language)
    if fixed is not None:
        view, document = Group(fixed_view(fixed, output), view), {**document, "fixed": fixed.to_json()}
    output.result(view, document, quiet=fixed.path if fixed else "")
    return 0 if checked.ok else DataError.exit_code


def _view(report: DataReport, output: Output) -> RenderableType:
    """The report for a person: facts, problems, an example."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _facts(report, output):
        if value:
            table.add_row(output.say(f"data.{key}"), Text(value))
    return Group(
        _verdict(report, output), *_warnings(report, output), table, *_problems(report, output),
        *_example(report, output), *findings_view(report, output),
    )  # fmt: skip


def _verdict(report: DataReport, output: Output) -> Text:
    if not report.ok:
        sign = "✖" if output.unicode else "X"
        problems = report.problem_count + len(report.blocks)
        return Text(f"{sign} {output.say('data.not_ok', problems=problems)}", style="bold red")
    text = output.say("data.ok", rows=report.rows_used)
    if report.problem_count:
        text = output.say("data.ok_dropped", rows=report.rows_used, problems=report.problem_count)
    told = [note for note in report.notes if not _is_plain(note)]
    if report.doubts or told or report.serious or left_out(report.dropped, report.rows_read, output.language):
        return Text(f"! {text}", style="bold yellow")
    return Text(f"{'✔' if output.unicode else '+'} {text}", style="bold green")


def _is_plain(note: Problem) -> bool:
    """Whether a note, or the note on one of several files, says only how the file was read."""
    inner = note.params.get("note")
    key = str(inner["text"]).removeprefix("problem.") if isinstance(inner, dict) else note.key
    return key in PLAIN_NOTES


def _warnings(report: DataReport, output: Output) -> list[RenderableType]:
    """Warnings about data that training would accept, and advice about problems that stop it."""
    lines = [output.say("error.data_rows.fix")] if report.problem_count and not report.ok else []
    lines += [output.say("fix.offer")] if report.problem_count else []
    many = left_out(report.dropped, report.rows_read, output.language) if report.ok else ""
    lines += [many] if many else []
    lines += [output.say("data.findings", serious=report.serious)] if report.serious else []
    lines += [one.text(output.language) for one in (*report.blocks, *report.doubts, *report.notes)]
    return [Text(f"  {line}", style="yellow") for line in lines]


def _facts_of_page(report: DataReport, output: Output) -> Checked:
    problems = [problem.text(output.language) for problem in report.problems[:SHOWN]]
    if (left := report.problem_count - len(problems)) > 0:
        problems.append(output.say("data.more", count=left))
    problems += [problem.text(output.language) for problem in report.blocks]
    name = ", ".join(Path(file).name for file in report.path.split(","))
    return Checked(name, report.size, report.rows_read, report.rows_used, problems, report.compared)


def _facts(report: DataReport, output: Output) -> list[tuple[str, str]]:
    tokens = report.token_statistics
    return [
        ("file", f"{report.path} ({report.size:,} B)"),
        ("kind", " · ".join(filter(None, (report.kind, report.format, report.encoding)))),
        ("rows", output.say(
            "data.counts", read=report.rows_read, used=report.rows_used, conversations=report.conversations)),
        ("dropped", counted(report.dropped, output.language) if any(report.dropped.values()) else ""),
        ("objective", those_of(FORMATS.get(report.format, "answers"))),
        ("turns", f"{report.turns:.1f}"),
        ("characters", f"{report.characters:,.0f}"),
        ("duplicates", str(report.duplicates) if report.duplicates else ""),
        ("fields", ", ".join(report.fields)),
        ("tokens", "" if tokens is None else output.say(
            "data.lengths", total=f"{tokens.total:,}", targets=f"{tokens.targets:,}", p50=tokens.p50, p95=tokens.p95,
            longest=tokens.longest, over=f"{tokens.over_length:.1%}")),
    ]  # fmt: skip


def _problems(report: DataReport, output: Output) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(f"  - {one.text(output.language)}") for one in report.problems[:SHOWN]]
    left = report.problem_count - len(lines)
    if left > 0:
        lines.append(Text(f"  {output.say('data.more', count=left)}", style="dim"))
    return lines


def _example(report: DataReport, output: Output) -> list[RenderableType]:
    """The first row as the model will see it."""
    for sample in report.samples[:1]:
        turns = [f"{turn['role']}: {turn['content']}" for turn in sample["turns"]] or [sample["text"]]
        cut = [" ".join(turn.split())[:EXAMPLE] for turn in turns]
        return [
            Text(output.say("data.example", line=sample["line"]), style="dim"),
            *(Text(f"  {turn}") for turn in cut),
        ]
    return []


OWN = {"report", "fix", "drop", "repair", "pseudonymise"}  # flags that are no options of a run
# All rows are checked; which of them are taken is for training to draw.
UNREAD = {"rows", "stratify"}
