"""The state of one run, as a table of facts for a person and a document for a program."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output
from xiaozao.cli.run_text import sparkline
from xiaozao.runs.sentences import failure
from xiaozao.store.files import RunFolder
from xiaozao.store.runs import Summary
from xiaozao.texts.numbers import duration, gigabytes, millions, number

SIGNS = {"running": "▶", "succeeded": "✔", "stopped": "■", "failed": "✖", "interrupted": "!", "missing": "?"}
ASCII_SIGNS = {"running": ">", "succeeded": "+", "stopped": "=", "failed": "X", "interrupted": "!", "missing": "?"}
STYLES = {"running": "blue", "succeeded": "green", "stopped": "yellow", "failed": "red", "interrupted": "yellow"}


VERDICTS = {"better": "green", "worse": "bold red", "same": "yellow"}
SAME = 0.005  # of the loss before: less is no difference to speak of


def state_text(state: str, output: Output) -> Text:
    """The state as a sign and a word."""
    sign = (SIGNS if output.unicode else ASCII_SIGNS).get(state, "?")
    return Text(f"{sign} {output.say(f'state.{state}')}", style=STYLES.get(state, "dim"))


def document(summary: Summary) -> dict[str, Any]:
    """A run for a program."""
    whole = asdict(summary)
    del whole["losses"], whole["last_words"]
    return whole


def details(summary: Summary, output: Output) -> RenderableType:
    """One run as a table of facts, and its curve."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(output.say("runs.state"), state_text(summary.state, output))
    key = verdict(summary)
    if key:
        before, after = number(summary.first_validation_loss), number(summary.best_validation_loss)
        told = output.say(f"runs.verdict.{key}", before=before, after=after)
        table.add_row(output.say("runs.verdict"), Text(told, style=VERDICTS[key]))
    for key, value in _facts(summary, output):
        if value:
            table.add_row(output.say(f"runs.{key}"), Text(value))
    curve = sparkline(summary.losses, 48, output.unicode)
    return Group(Text(summary.name, style="bold"), table, *([Text(curve, style="cyan")] if curve else []))


def verdict(summary: Summary) -> str:
    """`better`, `worse` or `same`: the validation loss of the kept weights against that before training.

    Empty if unknown.
    """
    before, after = summary.first_validation_loss, summary.best_validation_loss
    if summary.state not in ("succeeded", "stopped"):
        return ""
    if before is None or after is None or not (math.isfinite(before) and math.isfinite(after)):
        return ""
    if abs(after - before) <= SAME * before:
        return "same"
    return "better" if after < before else "worse"


def _facts(summary: Summary, output: Output) -> list[tuple[str, str]]:
    folder = RunFolder(Path(summary.path))
    best = number(summary.best_validation_loss)
    if summary.best_step is not None:
        best = output.say("runs.best_at", loss=best, step=summary.best_step)
    last = summary.validation_loss if summary.validation_loss != summary.first_validation_loss else None
    return [
        ("why", _why(summary, output)),
        ("model", summary.model),
        ("data", summary.data),
        ("steps", f"{summary.step} / {summary.steps}" if summary.steps else ""),
        ("loss", number(summary.loss) if summary.loss is not None else ""),
        ("best", best if summary.best_validation_loss is not None else ""),
        ("last", number(last) if last is not None else ""),
        ("time", duration(summary.train_seconds, output.language) if summary.train_seconds else ""),
        ("peak", _peaks(summary, output)),
        ("trained", millions(summary.trainable) if summary.trainable else ""),
        ("result", next((str(path) for path in (folder.adapter, folder.model) if path.is_dir()), "")),
        ("report", str(folder.report / "report.html") if (folder.report / "report.html").is_file() else ""),
        ("folder", summary.path),
    ]


def _why(summary: Summary, output: Output) -> str:
    """Why a run ended before its last step: early stopping, or the cause of a failure and its problems."""
    if summary.state == "succeeded" and summary.best_step is not None and summary.step < summary.steps:
        return output.say("runs.early", step=summary.step, best=summary.best_step)
    if summary.state != "failed" or summary.last_words is None:
        return ""
    what, problems, _ = failure(summary.last_words, output.language)
    return "\n".join([f"[{summary.code}] {what}", *(f"- {problem}" for problem in problems)])


def _peaks(summary: Summary, output: Output) -> str:
    """The measured peak beside the predicted one."""
    if not summary.peak_bytes:
        return ""
    if not summary.predicted_peak_bytes:
        return gigabytes(summary.peak_bytes)
    off = summary.predicted_peak_bytes / summary.peak_bytes - 1
    measured, predicted = (f"{count / 1e9:.2f} GB" for count in (summary.peak_bytes, summary.predicted_peak_bytes))
    return output.say("runs.measured", measured=measured, predicted=predicted, off=f"{off:+.0%}")
