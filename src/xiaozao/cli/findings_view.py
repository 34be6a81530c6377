"""The findings of `zao data check` on a terminal: a kind a paragraph, the gravest first."""

import re

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from xiaozao.cli.console import Output
from xiaozao.data.checks import DataReport
from xiaozao.data.quality.findings import GRAVITY, Found
from xiaozao.texts.visible import visible

STYLES = {"serious": "red", "warning": "yellow", "note": "default"}
INDENT = 4
CLOSING = "，。；：！？、）】》”’…"
WIDE = "\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef"
PIECES = re.compile(rf"\s+|[^\s{WIDE}]+[{CLOSING}]*|[{WIDE}][{CLOSING}]*")
SIGNS = {"serious": ("✖", "X"), "warning": ("!", "!"), "note": ("·", "-")}


def findings_view(report: DataReport, output: Output) -> list[RenderableType]:
    """All findings, with counts, the first rows, why it matters and what to do."""
    if not report.findings:
        return [Text(output.say("finding.none"), style="dim")] if report.conversations else []
    counts = {gravity: sum(found.gravity == gravity for found in report.findings) for gravity in GRAVITY}
    shown: list[RenderableType] = [
        Text(""), Text(output.say("finding.title"), style="bold"), Text(output.say("finding.count", **counts)),
    ]  # fmt: skip
    for finding in report.findings:
        shown += _kind(finding, output)
    if report.compared < report.conversations:
        shown.append(Text(output.say("finding.partly", rows=f"{report.compared:,}"), style="dim"))
    return shown


def _kind(found: Found, output: Output) -> list[RenderableType]:
    sign = SIGNS[found.gravity][0 if output.unicode else 1]
    rows = output.say("finding.row_one" if found.count == 1 else "finding.rows", count=f"{found.count:,}")
    title = Text(f"{sign} {found.what(output.language)}", style=f"bold {STYLES[found.gravity]}")
    title = title if found.of_file else Text.assemble(title, f" · {rows}")
    lines = [] if found.of_file else [Text(example.text(output.language)) for example in found.examples]
    if lines and (left := found.count - len(lines)) > 0:
        lines.append(Text(output.say("finding.more", count=f"{left:,}"), style="dim"))
    lines.append(Text(output.say("finding.because", text=found.why(output.language)), style="dim"))
    lines.append(Text(output.say("finding.action", text=found.fix(output.language))))
    return [title, *(_indented(line, output) for line in lines)]


def _indented(line: Text, output: Output) -> Text:
    """A paragraph that hangs under its title; in a pipe it stays one line."""
    console = output.stdout
    parts = _wrapped(line.plain, max(20, console.width - INDENT)) if console.is_terminal else [line.plain]
    return Text("\n".join(" " * INDENT + part for part in parts), style=line.style)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many cells. Chinese breaks anywhere but before a closing mark, other scripts at spaces."""
    lines, line, used = [], "", 0
    for piece in PIECES.findall(visible(text)):
        size = cell_len(piece)
        if used + size > width and line.strip():
            lines.append(line.rstrip())
            line, used = "", 0
        while size > width:  # a long number or address
            cut = next(place for place in range(len(piece), 0, -1) if cell_len(piece[:place]) <= width)
            lines.append(piece[:cut])
            piece, size = piece[cut:], cell_len(piece[cut:])
        line += piece if line or piece.strip() else ""
        used = cell_len(line)
    return [*lines, line.rstrip()] if line.strip() else lines
