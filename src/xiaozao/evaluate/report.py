"""The proof of one run: report.html for people and report.json for programs, from the same facts.

ReportFacts -> compare -> report_document -> report.json
                       -> page.render     -> report.html
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from xiaozao.evaluate.compare import Pair, compare
from xiaozao.evaluate.contract import Answer, Judgement, Score
from xiaozao.evaluate.facts import ReportFacts, Side
from xiaozao.evaluate.page import render
from xiaozao.evaluate.statistics.intervals import wilson
from xiaozao.texts.catalogue import Language


def demo_document(facts: ReportFacts, report: Path) -> dict[str, object]:
    """The result in short: shares as fractions of 1, bytes as integers. null where nothing was measured."""
    comparison = compare(facts.base.answers, facts.tuned.answers)
    return {
        "base": _side(comparison.base, facts.base),
        "tuned": _side(comparison.tuned, facts.tuned),
        "n": comparison.n,
        "train_seconds": facts.train_seconds,
        "peak_rss_bytes": facts.peak_rss_bytes,
        "predicted_peak_bytes": facts.predicted_peak_bytes,
        "report": str(report),
    }


def report_document(facts: ReportFacts, report: Path) -> dict[str, object]:
    """Everything on the page, and all answers, for programs."""
    comparison = compare(facts.base.answers, facts.tuned.answers)
    head = demo_document(facts, report)
    for name, side, result in (("base", facts.base, comparison.base), ("tuned", facts.tuned, comparison.tuned)):
        head[name] = {
            **_side(result, side),
            "validation_loss": side.validation_loss,
            "intervals": {
                measure: asdict(wilson(count, comparison.n))
                for measure, count in (("valid_json", result.valid_json), ("exact", result.exact))
                if count is not None and comparison.n
            },
            "fields": {field: count / comparison.n for field, count in result.fields.items()},
        }
    return {
        "v": 1,
        **head,
        "outcome": comparison.outcome,
        "changes": {change.measure: {**asdict(change), "outcome": change.outcome} for change in comparison.changes},
        "model": facts.model,
        "data": facts.data,
        "rows": facts.rows,
        "steps": facts.steps,
        "total_seconds": facts.total_seconds,
        "tokens_per_second": facts.tokens_per_second,
        "predicted_parts": dict(facts.predicted_parts),
        "settings": dict(facts.settings),
        "machine": asdict(facts.machine),
        "versions": dict(facts.versions),
        "answers": [_pair(pair) for pair in comparison.pairs],
    }


def write_report(folder: Path, language: Language, facts: ReportFacts) -> tuple[Path, Path]:
    """report.html and report.json in `folder`."""
    html, document = folder / "report.html", folder / "report.json"
    document.write_bytes(json_bytes(report_document(facts, html)))
    html.write_text(render(facts, language), encoding="utf-8", newline="\n")
    return html, document


def json_bytes(document: Mapping[str, object]) -> bytes:
    """A document for programs, as JSON that every reader takes."""
    text = json.dumps(_strict(document), ensure_ascii=False, indent=2, allow_nan=False, default=str)
    # A lone surrogate in somebody's data cannot be UTF-8; as \udxxx it is correct JSON.
    return (text + "\n").encode("utf-8", "backslashreplace")


def _side(result: Score, side: Side) -> dict[str, object]:
    """Shares as fractions of 1; null where there was nothing to measure."""
    valid = None if result.valid_json is None or not result.n else result.valid_json / result.n
    return {"valid_json": valid, "exact": result.exact / result.n if result.n else None, "loss": side.loss}


def _pair(pair: Pair) -> dict[str, object]:
    return {
        "question": pair.base.question,
        "reference": pair.base.reference,
        "base": _answer(pair.base, pair.base_verdict),
        "tuned": _answer(pair.tuned, pair.tuned_verdict),
    }


def _answer(answer: Answer, verdict: Judgement) -> dict[str, object]:
    return {"answer": answer.answer, "valid_json": verdict.valid, "exact": verdict.exact, "fields": verdict.fields}


def _strict(value: object) -> object:
    """A loss that is not finite is written as a string, so that the file is JSON for every reader."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _strict(one) for key, one in value.items()}
    return [_strict(one) for one in value] if isinstance(value, list | tuple) else value
