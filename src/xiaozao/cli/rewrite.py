"""`zao data convert`: a file of any format that is read as one of a named format, and what could not be taken over."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.datafile import agree_to_write, data_spec
from xiaozao.cli.options import gather
from xiaozao.data.conversion import Converted, Rows, convert
from xiaozao.errors import UsageError
from xiaozao.texts.catalogue import counted

SHOWN = 5  # rows that are named
JSON = ("", ".json", ".jsonl", ".ndjson")


def convert_file(file: str, out: str, arguments: tuple[str, ...], to: str, **flags: str | None) -> None:
    output = current_output()
    spec = data_spec(file, gather(arguments, flags), output)
    path = Path(out).expanduser()
    if path.suffix.lower() not in JSON:
        raise UsageError("convert_suffix", path=path, suffix=path.suffix, stem=path.with_suffix(".jsonl"))
    agree_to_write(output, spec, [path])
    with output.stages() as report:
        converted = convert(spec, path, to, report)
    output.result(_view(converted, output), {**asdict(converted), "path": str(path)}, quiet=str(path))


def _view(converted: Converted, output: Output) -> RenderableType:
    whole = not converted.lost and not converted.left
    sign = ("✔" if output.unicode else "+") if whole else "!"
    done = output.say("convert.done", path=converted.path, rows=converted.written, target=converted.target)
    lines = [Text(f"{sign} {done}", style="bold green" if whole else "bold yellow")]
    lines.append(Text(f"  {output.say('convert.read', rows=converted.rows_read, format=converted.format)}"))
    if any(converted.dropped.values()):
        lines.append(Text(f"  {output.say('split.dropped', reasons=counted(converted.dropped, output.language))}"))
    for name, rows in converted.left.items():
        lines.append(_told(f"convert.left.{name}", rows, converted, output))
    for name, rows in converted.lost.items():
        lines.append(_told(f"convert.lost.{name}", rows, converted, output))
    if converted.rounds:
        lines.append(Text(f"  {output.say('convert.rounds', count=converted.rounds)}"))
    if not whole and converted.target != "messages":
        lines.append(Text(f"  {output.say('convert.messages')}", style="dim"))
    return Group(*lines)


def _told(key: str, rows: Rows, converted: Converted, output: Output) -> Text:
    named = ", ".join(map(str, rows.lines[:SHOWN])) + (" ..." if rows.count > SHOWN else "")
    return Text(f"! {output.say(key, count=rows.count, target=converted.target, rows=named)}", style="yellow")
