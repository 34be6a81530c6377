"""Results of evaluations as small as they can be, in the shape that the evaluations write."""

from typing import Any

from xiaozao.evaluate.degeneration import SIGNS
from xiaozao.evaluate.form import Form

HASH = "ab" * 32


def conditions(result: str = HASH) -> dict[str, Any]:
    return {
        "base_weights_sha256": "cd" * 32, "result_weights_sha256": result, "template_sha256": "ef" * 32,
        "precision": "float32", "stored": "none", "threads": 1, "together": 8, "answer_tokens": 48,
        "decoding": "greedy", "suites": {"facts.en": {"items": 60, "sha256": "12" * 32}},
        "versions": {"xiaozao": "0.1.0"}, "seconds": 75.0, "peak_rss_bytes": 10**9, "planned_peak_bytes": 10**9,
    }  # fmt: skip


def group(name: str, outcome: str = "regressed", before: float = 0.5, after: float = 0.25) -> dict[str, Any]:
    """One group of the standard tests; one called texts or solutions is in bits per byte."""
    kind = (
        "text" if name.startswith(("texts", "solutions")) else "generated" if name.startswith("answers") else "choice"
    )
    return {
        "name": name, "kind": kind, "outcome": outcome, "certifies": kind != "choice", "informative": True, "n": 60,
        "before": before, "after": after, "difference": after - before, "low": after - before - 0.1,
        "high": after - before + 0.1, "p": 0.001, "p_adjusted": 0.002, "psi": 0.3, "mde": 0.1, "margin": 0.03,
        "chance": 0.0, "noise": 2, "n_needed": None,
    }  # fmt: skip


def bench(*groups: dict[str, Any], outcome: str = "regressed") -> dict[str, Any]:
    told = groups or (group("answers.en"), group("texts.en", "no_regression", 1.0, 1.01))
    return {
        "v": 1, "outcome": outcome, "groups": list(told),
        "topics": [{"name": "facts.en", "n": 60, "before": 0.5, "after": 0.25}], "conditions": conditions(),
    }  # fmt: skip


def change(before: float, after: float, outcome: str) -> dict[str, Any]:
    return {
        "before": before, "after": after, "difference": after - before, "low": after - before - 0.1,
        "high": after - before + 0.1, "p": 0.01, "p_adjusted": 0.02, "outcome": outcome, "n": 20, "n_needed": None,
    }  # fmt: skip


def sitting(share: float, one_answer: dict[str, Any] | None = None, **signs: int) -> dict[str, Any]:
    count = {"count": round(20 * share), "share": share, "low": max(0.0, share - 0.1), "high": min(1.0, share + 0.1)}
    return {
        "measures": dict.fromkeys(("strict", "lenient", "belongs", "sound", "exact"), count), "intent": None,
        "signs": {name: signs.get(name, 0) for name in SIGNS}, "breaches": {}, "one_answer": one_answer,
    }  # fmt: skip


def example(number: int, said: str = "", broken: bool = True) -> dict[str, Any]:
    breaches = [{"key": "long", "size": 900, "most": 300}] if broken else []
    return {
        "question": f"Question {number} {said}", "reference": f"Right {said}", "base": f"Before {said}",
        "tuned": f"After {said}", "breaches": breaches, "signs": ["loop"] if broken else [], "belongs": True,
    }  # fmt: skip


def form(said: str = "", prompted: bool = True, outcome: str = "improved") -> dict[str, Any]:
    sittings = {"base": sitting(0.25, loop=1), "prompted": sitting(0.8), "tuned": sitting(0.95, loop=3)}
    against = {"strict": change(0.8, 0.95, "inconclusive"), "belongs": change(0.8, 0.95, "inconclusive")}
    if not prompted:
        del sittings["prompted"]
    asked = {**Form(most=300).to_json(), "labels": [], "must": [], "must_not": []}
    return {
        "v": 1, "form": asked, "n": 20, "sittings": sittings,
        "changes": {"strict": change(0.25, 0.95, outcome), "belongs": change(0.25, 0.95, outcome)},
        "against_prompt": against if prompted else {},
        "failures": [example(number, said) for number in range(8)],
        "gains": [example(number, said, broken=False) for number in range(20, 28)],
        "conditions": conditions(),
    }  # fmt: skip
