"""Writes the loss curve and the report of a run.

The code that draws is imported only then: it would take 30 MB of every run's memory."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from xiaozao.evaluate.facts import ReportFacts
from xiaozao.events import Event
from xiaozao.texts.catalogue import Language


def write_curve(events: Sequence[Event], folder: Path, language: Language) -> None:
    """The loss as numbers and as pictures; of evaluate.curves."""
    curves = import_module("xiaozao.evaluate.curves")
    curves.write_metrics(events, folder)
    curves.draw_curve(events, folder, language)


def write_report(folder: Path, language: Language, facts: ReportFacts) -> tuple[Path, Path]:
    """report.html and report.json; of evaluate.report."""
    write: Callable[..., tuple[Path, Path]] = import_module("xiaozao.evaluate.report").write_report
    return write(folder, language, facts)
