"""`zao data stats`: lengths, a histogram, what a length would cut, languages and fields of a file."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.datafile import WITH_MODEL, agree_to_write, data_spec
from xiaozao.cli.help import width_of
from xiaozao.cli.options import anchored_model, gather
from xiaozao.data.census import Bin, Census, shares, take_census
from xiaozao.errors import UsageError
from xiaozao.hub.sources import resolve
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import cache
from xiaozao.texts.catalogue import counted

PICTURES = (".png", ".svg")
SHOWN = (50, 95, 99)  # percentiles beside the mean
VALUES = 8  # of a field
BAR = 60  # cells at most
VALUE_WIDTH = 40  # columns of a field's value


def stats_of(file: str, arguments: tuple[str, ...], plot: str | None, **flags: str | None) -> None:
    output = current_output()
    options = gather(arguments, flags)
    spec = data_spec(file, options, output, WITH_MODEL)
    picture = Path(plot).expanduser() if plot else None
    if picture is not None:
        if picture.suffix.lower() not in PICTURES:
            raise UsageError("stats_plot", path=picture)
        agree_to_write(output, spec, [picture])
    with output.stages() as report:
        model = None
        if "model" in options:
            named = RunSpec.from_options({"data": "none", **options, **anchored_model(options)}).model
            model = resolve(named.model, named.source, named.revision, cache(), report).path
        census = take_census(spec, model, report)
    if picture is not None:
        _draw(census, picture, output)
    document = _document(census) | ({"plot": str(picture)} if picture else {})
    output.result(_view(census, picture, output), document, quiet=str(picture or census.conversations))


def _document(census: Census) -> dict[str, Any]:
    return asdict(census)


def _draw(census: Census, picture: Path, output: Output) -> None:
    # Imported when it is called, because a picture takes matplotlib, and most people ask for none.
    draw_histogram: Callable[..., None] = import_module("xiaozao.evaluate.histogram").draw_histogram
    picture.parent.mkdir(parents=True, exist_ok=True)
    bars = [(_range(one), one.rows) for one in census.histogram]
    draw_histogram(bars, picture, f"stats.{census.measured}", output.language)


def _view(census: Census, picture: Path | None, output: Output) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for key, value in _facts(census, output):
        facts.add_row(output.say(key), Text(value))
    parts: list[RenderableType] = [facts]
    if census.lengths:
        title = output.say("stats.histogram", what=output.say(f"stats.{census.measured}"))
        parts += [Text(), _lengths(census, output), Text(), Text(title, style="bold"), Bars(census, output.unicode)]
    if census.cuts:
        parts += [Text(), Text(output.say("stats.cuts"), style="bold"), _cuts(census)]
    for name, values in census.fields.items():
        parts += [Text(), Text(output.say("stats.field", name=name, values=len(values)), style="bold")]
        parts.append(_values(values, output))
    if picture is not None:
        parts += [Text(), Text(output.say("stats.drawn", path=picture))]
    return Group(*parts)


def _facts(census: Census, output: Output) -> list[tuple[str, str]]:
    languages = output.say("dropped.and").join(
        f"{output.say(f'stats.language.{name}')} {share:.0%}" for name, _, share in shares(census.languages)
    )
    facts = [
        ("data.file", census.path),
        ("data.kind", " · ".join(filter(None, (census.format, census.encoding)))),
        ("data.rows", output.say("stats.rows", read=census.rows_read, conversations=census.conversations)),
        ("data.dropped", counted(census.dropped, output.language) if any(census.dropped.values()) else ""),
        ("stats.languages", languages),
        ("stats.untold", str(census.untold) if census.untold else ""),
    ]
    return [(key, value) for key, value in facts if value]


def _lengths(census: Census, output: Output) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    heads = [output.say("stats.mean"), *(f"p{percent}" for percent in SHOWN), output.say("stats.longest")]
    for head in (*heads, output.say("stats.total")):
        table.add_column(head, justify="right", no_wrap=True)
    for name, of_it in census.lengths.items():
        values = [*(of_it.percentiles[percent] for percent in SHOWN), of_it.longest, of_it.total]
        table.add_row(output.say(f"stats.{name}"), f"{of_it.mean:,.1f}", *(f"{value:,}" for value in values))
    return table


@dataclass(frozen=True)
class Bars:
    """The histogram, as wide as the screen has room for."""

    census: Census
    unicode: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in bar_lines(self.census.histogram, options.max_width, self.unicode):
            yield Text(line)


def bar_lines(histogram: tuple[Bin, ...], width: int, unicode: bool) -> list[str]:
    """A line per bin: its range, a bar, its rows. No line is wider than `width`."""
    names = [_range(one) for one in histogram]
    counts = [f"{one.rows:,}" for one in histogram]
    beside = max(map(len, names)) + max(map(len, counts)) + 4
    room, most = max(1, min(BAR, width - beside)), max(one.rows for one in histogram)
    full, lines = "█" if unicode else "#", []
    for name, count, part in zip(names, counts, histogram, strict=True):
        cells = max(1, round(room * part.rows / most)) if part.rows else 0  # a bin that is there is seen
        lines.append(f"  {name:>{max(map(len, names))}} {full * cells} {count}")
    return lines


def _range(one: Bin) -> str:
    return f">= {one.start:,}" if one.end is None else f"{one.start:,}-{one.end - 1:,}"


def _cuts(census: Census) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    for cut in census.cuts:
        table.add_row(f"  length={cut.length}", f"{cut.rows:,}", f"{cut.share:.1%}")
    return table


def _values(values: dict[str, int], output: Output) -> Table:
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    listed = list(shares(values))
    for value, count, share in listed[:VALUES]:
        table.add_row(f"  {_short(value)}", f"{count:,}", f"{share:.1%}")
    if len(listed) > VALUES:
        _, fewest, _ = listed[-1]
        more = output.say("stats.more", count=len(listed) - VALUES)
        table.add_row(f"  {more}", output.say("stats.fewest", count=fewest), "")
    return table


def _short(value: str) -> str:
    text = " ".join(value.split()) or "-"
    while width_of(text) > VALUE_WIDTH:
        text = text.removesuffix("...")[:-1] + "..."
    return text
