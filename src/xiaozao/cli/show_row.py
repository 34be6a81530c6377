"""`zao data show`: one row, and the tokens that the model sees of it, with what is learned told apart from the rest."""

from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.datafile import WITH_MODEL, data_spec
from xiaozao.cli.options import anchored_model, gather
from xiaozao.data.rows import FILE_LINES
from xiaozao.data.showing import Sequence, Shown, show_row
from xiaozao.errors import UsageError
from xiaozao.hub.sources import resolve
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import cache
from xiaozao.texts.catalogue import counted
from xiaozao.texts.visible import visible

LEARNED, CONTEXT, SPECIAL = "bold green", "dim", "magenta"
MARKS, PLAIN_MARKS = ("«", "»"), ("[[", "]]")  # around what is learned, where there is no colour


def show(file: str, arguments: tuple[str, ...], row: str, **flags: str | None) -> None:
    output = current_output()
    options = gather(arguments, flags)
    spec = data_spec(file, options, output, (*WITH_MODEL, "truncation"))
    line = _line(row)
    with output.stages() as report:
        model = None
        if "model" in options:
            named = RunSpec.from_options({"data": "none", **options, **anchored_model(options)}).model
            model = resolve(named.model, named.source, named.revision, cache(), report).path
    shown = show_row(spec, line, model)
    output.result(_view(shown, spec.length, output), asdict(shown), quiet=str(shown.tokens))


def _line(row: str) -> int:
    """`7` or, of the second of several files, `2:7`."""
    file, _, own = row.rpartition(":")
    if not (own.isdecimal() and int(own) and (not file or (file.isdecimal() and int(file)))):
        raise UsageError("show_row", value=row)
    return (int(file) - 1 if file else 0) * FILE_LINES + int(own)


def _view(shown: Shown, length: int, output: Output) -> RenderableType:
    parts: list[RenderableType] = [Text(output.say("data.example", line=shown.line), style="bold")]
    for name, value in shown.conversation.items():
        if name in ("messages", "chosen", "rejected"):
            for turn in value:
                side = f" ({name})" if name != "messages" else ""
                said = {key: inner for key, inner in turn.items() if key not in ("role", "content")}
                beside = f"  {said}" if said else ""
                parts.append(Text(visible(f"  {turn['role']}{side}: {turn['content']}{beside}")))
        else:
            parts.append(Text(visible(f"  {name}: {value}"), style="dim"))
    for number, sample in enumerate(shown.samples, 1):
        for sequence in sample:
            parts += [Text(), _title(sequence, number, len(shown.samples), output), _tokens(sequence, output)]
    if shown.samples:
        parts += [Text(), _legend(output)]
    if shown.outcome:
        reasons = counted({shown.outcome: 1}, output.language)
        told = output.say("show.outcome", reasons=reasons, tokens=shown.tokens, length=length)
        parts.append(Text(f"! {told}", style="yellow"))
    return Group(*parts)


def _title(sequence: Sequence, number: int, samples: int, output: Output) -> Text:
    side = f" ({sequence.side})" if sequence.side else f" {number}/{samples}" if samples > 1 else ""
    counts = {"tokens": len(sequence.ids), "learned": sum(sequence.targets)}
    return Text(output.say("show.tokens", **counts) + side, style="bold")


def _coloured(output: Output) -> bool:
    return output.stdout.color_system is not None and not output.stdout.no_color


def _marks(output: Output) -> tuple[str, str]:
    return ("", "") if _coloured(output) else MARKS if output.unicode else PLAIN_MARKS


def _tokens(sequence: Sequence, output: Output) -> Text:
    """The text of the runs. Neighbours that are learned share one pair of marks."""
    begin, end = _marks(output)
    text, inside = Text(), False
    for run in sequence.runs:
        if run.learned != inside:
            text.append(begin if run.learned else end)
            inside = run.learned
        style = LEARNED if run.learned else CONTEXT
        text.append(visible(run.text), style=f"{style} {SPECIAL}" if run.special else style)
    text.append(end if inside else "")
    return text


def _legend(output: Output) -> Text:
    begin, end = _marks(output)
    legend = Text("  ")
    legend.append(f"{begin}{output.say('show.learned')}{end}", style=LEARNED)
    legend.append(f"   {output.say('show.context')}", style=CONTEXT)
    legend.append(f"   {output.say('show.special')}", style=SPECIAL)
    return legend
