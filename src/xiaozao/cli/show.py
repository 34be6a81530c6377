"""`zao data show FILE --row N`: one row as a conversation, and with model= as the tokens that the model sees."""

from rich.console import Group, RenderableType
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.options import anchored_files, gather
from xiaozao.data.formats import Dropped, Turn
from xiaozao.data.rows import line_text
from xiaozao.data.shown import Run, ShownRow, ShownSample, show_row
from xiaozao.hub.sources import resolve
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import cache
from xiaozao.texts.catalogue import counted
from xiaozao.texts.visible import visible

LEARNED, MASKED, CONTROL = "bold green", "dim", "cyan"


def show_file(file: str, arguments: tuple[str, ...], row: int | None, **flags: str | None) -> None:
    output = current_output()
    options = {**gather(arguments, flags), "data": file}
    with_model = "model" in options
    spec = RunSpec.from_options({"model": "none", **options, **anchored_files(options)})
    model = None
    if with_model:
        with output.stages() as report:
            model = resolve(spec.model.model, spec.model.source, spec.model.revision, cache(), report).path
    shown = show_row(spec.data, row, model, spec.method.objective)
    output.result(_view(shown, output), shown.to_json(), quiet=str(shown.line))


def _view(shown: ShownRow, output: Output) -> RenderableType:
    said = shown.conversation
    lines: list[RenderableType] = [Text(output.say("show.row", line=line_text(shown.line)), style="bold")]
    lines += [Text(visible(said.text))] if said.text else []
    if said.tools:
        lines.append(Text(f"  tools: {visible(said.tools)}", style="dim"))
    for turn in said.turns:
        lines += _turn(turn, output)
    for turn in said.rejected[said.shared :]:
        lines += [Text(output.say("show.rejected"), style="dim"), *_turn(turn, output)]
    if isinstance(shown.left_out, Dropped):
        reasons = counted({shown.left_out.reason: shown.left_out.rows}, output.language)
        lines.append(Text(output.say("show.left_out", reasons=reasons), style="yellow"))
    elif shown.left_out is not None:
        lines.append(Text(shown.left_out.text(output.language), style="yellow"))
    if shown.unreasoned:
        lines.append(Text(output.say("problem.unreasoned_template", count=shown.unreasoned), style="yellow"))
    if not shown.samples:
        return Group(*lines, *([] if shown.left_out else [Text(output.say("show.with_model"), style="dim")]))
    for number, sample in enumerate(shown.samples, 1):
        learned = sum(sample.targets)
        lines += [
            Text(),
            Text(output.say("show.sample", number=number, tokens=len(sample.ids), targets=learned), style="bold"),
            _legend(output),
            _tokens(sample),
        ]
    return Group(*lines)


def _turn(turn: Turn, output: Output) -> list[RenderableType]:
    style = "" if turn.learned else "dim"
    thought = [Text(f"  {turn.role} ({output.say('show.thinks')}): {visible(turn.reasoning)}", style="dim")]
    mark = "" if turn.learned else f" ({output.say('show.context')})"
    said = Text(f"  {turn.role}{mark}: {visible(turn.spoken)}", style=style)
    return [*(thought if turn.reasoning else []), said]


def _legend(output: Output) -> Text:
    """What the signs mean, which are there for those who see no colours."""
    return Text.assemble(
        (f"[[{output.say('show.learned')}]]", LEARNED), "  ", (output.say("show.masked"), MASKED), "  ",
        (f"<{output.say('show.control')}>", CONTROL),
    )  # fmt: skip


def _tokens(sample: ShownSample) -> Text:
    text, open_ = Text(), False
    for run in sample.runs:
        if run.target != open_:
            text.append("[[" if run.target else "]]", style=LEARNED)
            open_ = run.target
        text.append(visible(_written(run)), style=CONTROL if run.control else LEARNED if run.target else MASKED)
    if open_:
        text.append("]]", style=LEARNED)
    return text


def _written(run: Run) -> str:
    """A control token by its name, in angle brackets where it has none."""
    return run.text if not run.control or run.text.startswith(("<", "[")) else f"<{run.text}>"
