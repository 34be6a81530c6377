"""`zao runs`: what ran, how it stands, and what came of it."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.run_text import sparkline
from xiaozao.cli.verb import Verb, VerbGroup
from xiaozao.store.files import RunFolder
from xiaozao.store.runs import Summary, find_run, list_runs, rebuild, register, summarise
from xiaozao.texts.numbers import duration, gigabytes, millions, number

SIGNS = {"running": "▶", "succeeded": "✔", "stopped": "■", "failed": "✖", "interrupted": "!", "missing": "?"}
ASCII_SIGNS = {"running": ">", "succeeded": "+", "stopped": "=", "failed": "X", "interrupted": "!", "missing": "?"}
STYLES = {"running": "blue", "succeeded": "green", "stopped": "yellow", "failed": "red", "interrupted": "yellow"}


def state_text(state: str, output: Output) -> Text:
    """The state as sign and word."""
    sign = (SIGNS if output.unicode else ASCII_SIGNS).get(state, "?")
    return Text(f"{sign} {output.say(f'state.{state}')}", style=STYLES.get(state, "dim"))


def document(summary: Summary) -> dict[str, Any]:
    """A run for a program."""
    whole = asdict(summary)
    del whole["losses"]
    return whole


def details(summary: Summary, output: Output) -> RenderableType:
    """One run as a table of facts, and its curve."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(output.say("runs.state"), state_text(summary.state, output))
    for key, value in _facts(summary, output):
        if value:
            table.add_row(output.say(f"runs.{key}"), Text(value))
    curve = sparkline(summary.losses, 48, output.unicode)
    return Group(Text(summary.name, style="bold"), table, *([Text(curve, style="cyan")] if curve else []))


def _facts(summary: Summary, output: Output) -> list[tuple[str, str]]:
    folder = RunFolder(Path(summary.path))
    best = number(summary.best_validation_loss)
    if summary.best_step is not None:
        best = output.say("runs.best_at", loss=best, step=summary.best_step)
    return [
        ("why", _why(summary, output)),
        ("model", summary.model),
        ("data", summary.data),
        ("steps", f"{summary.step} / {summary.steps}" if summary.steps else ""),
        ("loss", number(summary.loss) if summary.loss is not None else ""),
        ("best", best if summary.best_validation_loss is not None else ""),
        ("time", duration(summary.train_seconds, output.language) if summary.train_seconds else ""),
        ("peak", _peaks(summary, output)),
        ("trained", millions(summary.trainable) if summary.trainable else ""),
        ("result", next((str(path) for path in (folder.adapter, folder.model) if path.is_dir()), "")),
        ("report", str(folder.report / "report.html") if (folder.report / "report.html").is_file() else ""),
        ("folder", summary.path),
    ]


def _why(summary: Summary, output: Output) -> str:
    """Why a run ended before its last step."""
    if summary.state == "failed":
        return f"[{summary.code}] {summary.message}"
    if summary.state == "succeeded" and summary.best_step is not None and summary.step < summary.steps:
        return output.say("runs.early", step=summary.step, best=summary.best_step)
    return ""


def _peaks(summary: Summary, output: Output) -> str:
    """The measured peak beside the predicted one."""
    if not summary.peak_bytes:
        return ""
    if not summary.predicted_peak_bytes:
        return gigabytes(summary.peak_bytes)
    off = summary.predicted_peak_bytes / summary.peak_bytes - 1
    measured, predicted = (f"{count / 1e9:.2f} GB" for count in (summary.peak_bytes, summary.predicted_peak_bytes))
    return output.say("runs.measured", measured=measured, predicted=predicted, off=f"{off:+.0%}")


def _listing(summaries: list[Summary], output: Output) -> RenderableType:
    if not summaries:
        return output.say("runs.none")
    table = Table(box=None, pad_edge=False)
    for key in ("name", "state", "steps", "loss", "best", "started"):
        table.add_column(output.say(f"runs.{key}"), no_wrap=key != "name", overflow="fold")
    for one in summaries:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.started)) if one.started else "-"
        steps = f"{one.step}/{one.steps}" if one.steps else "-"
        table.add_row(
            one.name, state_text(one.state, output), steps, number(one.loss), number(one.best_validation_loss), started
        )
    return table


def _ls() -> None:
    output = current_output()
    rebuild()  # a folder that was copied here is a run, too
    found = list_runs()
    output.result(_listing(found, output), {"runs": [document(one) for one in found]}, "\n".join(o.name for o in found))


def _show(name: str) -> None:
    output = current_output()
    folder = find_run(name)
    register(folder.path)
    summary = summarise(folder)
    output.result(details(summary, output), document(summary), summary.path)


command = VerbGroup("runs")
command.add_command(Verb("ls", callback=_ls))
command.add_command(Verb("show", callback=_show, params=[click.Argument(["name"], metavar="RUN")]))
