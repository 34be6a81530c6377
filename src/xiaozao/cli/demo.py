"""`zao demo`: the whole way on data that ships with Xiaozao: check, plan, answer, train, answer again, report.

It is `zao train` with a prepared set of options and held-out questions; the proof is the run's report.
"""

import copy
import json
from typing import Any, Literal

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.options import anchored_model
from xiaozao.cli.stop import stopping
from xiaozao.cli.streams import endure
from xiaozao.cli.verb import error_text
from xiaozao.cli.watch import watch
from xiaozao.data.checks import check
from xiaozao.demo.shipped import demo_file
from xiaozao.hub.sources import ModelFolder, demo_model, resolve
from xiaozao.runs.launch import launch
from xiaozao.runs.process import Worker, died
from xiaozao.runs.sentences import failure
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder, cache, create_run
from xiaozao.store.runs import register
from xiaozao.texts.catalogue import Language, has, say

# Found by trying: one pass over the data at a high rate with a short warm-up; more passes gain little.
OPTIONS: dict[str, Any] = {
    "rank": 16, "epochs": 1, "batch": 8, "learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.05,
    "length": 512, "seed": 0, "answer_tokens": 96,
}  # fmt: skip
HEAD = ("base", "tuned", "n", "train_seconds", "peak_rss_bytes", "predicted_peak_bytes", "report")


def work(data_language: Literal["en", "zh"], model: str | None, output: str | None, rows: int | None) -> int:
    out = current_output()
    base = find_model(model, out)
    name = model or (base.name if "/" in base.name else f"pypi:{base.name}")
    train, validation, held_out = (str(demo_file(data_language, part)) for part in ("train", "validation", "heldout"))
    spec = RunSpec.from_options(
        {**OPTIONS, "model": name, **anchored_model({"model": name}), "data": train,
         "validation": validation, "questions": held_out, "rows": rows}
    )  # fmt: skip
    report = check(spec.data, base.path)
    out.note("cli.demo.checked", rows=report.rows_used, tokens=report.tokens)
    folder = create_run(output, f"demo-{data_language}")
    folder.spec.write_text(spec.with_options(output=str(folder.path)).to_yaml(), encoding="utf-8")
    register(folder.path)
    return follow(folder, out)


def find_model(name: str | None, output: Output) -> ModelFolder:
    """The requested model, or SmolLM2-135M-Instruct from the first source that has it; prints which one was taken."""
    with output.stages() as report:
        if name is not None:
            return resolve(name, "auto", None, cache(), report)
        model, tried = demo_model(cache(), report)
    for line in tried:
        output.hint(tried_text(line, output.language))
    output.note("cli.demo.took", name=model.name, origin=place_name(model.origin, output.language))
    return model


def tried_text(line: str, language: Language) -> str:
    """`hf: unreachable (timed out)` in the reader's language: a source, the outcome, and a detail in brackets."""
    place, _, state = line.partition(": ")
    key, bracket, detail = state.partition(" (")
    known = f"tried.{key.replace(' ', '_')}"
    became = say(known, language) if has(known) else key
    return f"{place_name(place, language)}{say('colon', language)}{became}{bracket}{detail}"


def place_name(place: str, language: Language) -> str:
    """The name of a source of models: our cache, a hub, the package index."""
    return say(f"place.{place}", language) if has(f"place.{place}") else place


def follow(folder: RunFolder, output: Output) -> int:
    """Run the demo in the foreground and return the summary of its report."""
    endure()
    viewer = copy.copy(output)
    viewer.format = "quiet" if output.format == "json" else output.format
    worker = Worker(folder, launch(folder))
    with stopping(folder, worker.kill, output) as signals:
        ended = watch(folder.events, worker.alive, viewer)
    if ended is None:
        if signals.count > 1:
            return signals.exit_code
        raise died(worker)
    worker.code()
    if ended.state == "failed":
        output.always(error_text(ended.code, *failure(ended, output.language), output.language))
        return ended.exit_code
    if ended.state == "stopped":
        output.note("train.stopped", name=folder.name)
        return signals.exit_code if signals.count else ended.exit_code
    document = json.loads((folder.report / "report.json").read_text(encoding="utf-8"))
    head = {name: document[name] for name in HEAD}
    head["base"], head["tuned"] = (_short(document[side]) for side in ("base", "tuned"))
    output.result(_words(head, document, output), head, quiet=document["report"])
    return 0


def _short(side: dict[str, Any]) -> dict[str, Any]:
    return {name: side[name] for name in ("valid_json", "exact", "loss")}


def _words(head: dict[str, Any], document: dict[str, Any], output: Output) -> str:
    """The result in a few lines for a person."""
    base, tuned = head["base"], head["tuned"]
    return output.say(
        "cli.demo.result",
        n=head["n"],
        valid_before=f"{base['valid_json']:.0%}", valid_after=f"{tuned['valid_json']:.0%}",
        exact_before=f"{base['exact']:.0%}", exact_after=f"{tuned['exact']:.0%}",
        loss_before=f"{base['loss']:.3f}", loss_after=f"{tuned['loss']:.3f}",
        seconds=f"{head['train_seconds']:.0f}", total=f"{document['total_seconds']:.0f}",
        measured=f"{head['peak_rss_bytes'] / 1e9:.2f}", predicted=f"{head['predicted_peak_bytes'] / 1e9:.2f}",
        report=head["report"],
    )  # fmt: skip
