"""An evaluation from its folder to its result: opens the models and lets them sit the standard tests."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from xiaozao.data.chatcontract import check_contract
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import DoesNotFit, UsageError
from xiaozao.evaluate.form_result import compare_forms, learned
from xiaozao.evaluate.paper import Paper, paper_of
from xiaozao.evaluate.record import Record, Records, read_records, write_records
from xiaozao.evaluate.resultfile import write_result
from xiaozao.evaluate.standard import Known, Sitting, Stopped, longest_prompt, too_long
from xiaozao.evaluate.standing import judge
from xiaozao.events import Ended, Event, Noticed, OnProgress, Progress, Started
from xiaozao.hub.folder import read_config
from xiaozao.hub.hashes import weights_hash
from xiaozao.machine.hardware import idle_cores, look
from xiaozao.machine.heap import give_back
from xiaozao.machine.resident import peak_rss, rss
from xiaozao.models.blocks import Decoder
from xiaozao.models.likelihood import ROW
from xiaozao.models.result import Trained
from xiaozao.plan.answers import as_many_as_fit, choices
from xiaozao.plan.memory import CHUNK, CHUNK_BYTES, COMPILED
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.runs.results import trained
from xiaozao.spec.evaluation import DRIFT, BenchSpec, FormatSpec, command_of, read_evaluation
from xiaozao.spec.plan import Questions
from xiaozao.store.files import RunFolder, cache
from xiaozao.store.runs import short_name
from xiaozao.worker.opening import find_trained

Emit = Callable[[Event], object]
LEAST = 128  # tokens that a text or a row of choices takes at least
TOGETHER = 64
ROUNDED = 1.05  # what a process holds before it begins differs by a little from start to start
FREE = 0.9  # of the memory that is free, without a budget
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")  # what families call the length of a context
VERSION = 1  # of what the cache holds


def examine(folder: RunFolder, emit: Emit) -> Ended:
    """Run or resume the evaluation in `folder`. Raises XiaozaoError; what was answered before stays."""
    begun = time.time()
    emit(Started(folder.name, os.getpid()))
    spec = read_evaluation(folder.evaluation_spec)
    run, options = trained(spec.run)
    paper = paper_of(spec, options)
    if spec.asked != paper.hash:
        name = short_name(run)
        raise UsageError("eval_changed", run=name, command=command_of(spec, name))
    models = find_trained(run, options, _reporting(emit))
    threads = set_threads(spec.threads, models, emit)
    tokenizer = ChatTokenizer.from_folder(models.base, options.data.template)
    check_contract(models.result, tokenizer)
    paper, left = readable(paper, models, tokenizer, emit)
    suites = [suite for one in paper.sittings.values() for suite in one]
    together, planned = settle(spec.budget, models, longest_prompt(suites, tokenizer), paper.tokens, emit)
    try:
        with Records(folder.recorded) as records:
            hall = _Hall(tokenizer, records, emit, folder.stop.exists, together, paper)
            decoder = _base_sits(hall, models, threads)
            if models.whole:  # one of them at a time
                del decoder
                give_back()
                decoder = _open(models.open_tuned, emit)
            else:
                decoder = models.open_tuned(decoder)
            hall.sitting("tuned", decoder).sit(paper.sittings["tuned"])
            judged = _judged(spec, paper, list(records.known.values()))
    except Stopped:
        return Ended(state="stopped", code="STOPPED", output=str(folder.path), peak_rss_bytes=peak_rss())
    measured = {"seconds": round(time.time() - begun, 1), "peak_rss_bytes": peak_rss(), "planned_peak_bytes": planned}
    conditions = _conditions(spec, paper, models, tokenizer, threads, together)
    write_result(folder.standing, {**judged, "too_long": left, "conditions": {**conditions, **measured}})
    return Ended(
        state="succeeded", code="OK", output=str(folder.standing), peak_rss_bytes=peak_rss(),
        predicted_peak_bytes=planned,
    )  # fmt: skip


def readable(paper: Paper, models: Trained, tokenizer: ChatTokenizer, emit: Emit) -> tuple[Paper, dict[str, list[str]]]:
    """The paper without what is longer than the model's context for anybody who sits; and the ids of that, by suite."""
    values = read_config(models.base).values
    inner = values.get("text_config")
    told = {**values, **inner} if isinstance(inner, dict) else values
    most = next((told[name] for name in POSITIONS if isinstance(told.get(name), int)), None)
    if most is None:
        return paper, {}
    left: dict[str, list[str]] = {}
    for suites in paper.sittings.values():
        for name, ids in too_long(suites, tokenizer, paper.tokens, most).items():
            left[name] = sorted({*left.get(name, ()), *ids})
    if left:
        names = ", ".join(left)
        emit(Noticed("eval_too_long", {"count": sum(map(len, left.values())), "suites": names, "most": most}))
    return paper.without(left), left


def _judged(spec: BenchSpec | FormatSpec, paper: Paper, records: Sequence[Record]) -> dict[str, object]:
    if isinstance(spec, BenchSpec):
        return judge(paper.sittings["base"], records, spec.margin, DRIFT, spec.noise).to_json()
    return compare_forms(paper, records, learned(paper)).to_json()


def set_threads(asked: int | None, models: Trained, emit: Emit) -> int:
    """Take as many threads as asked for, or as the machine has free cores."""
    cores = look().cores
    threads = asked or (idle_cores() if models.device.type == "cpu" else cores)
    if asked is None and threads < cores:
        emit(Noticed("busy_cores", {"threads": threads, "cores": cores}))
    torch.set_num_threads(threads)
    return threads


def settle(budget: int | None, models: Trained, longest: int, tokens: int, emit: Emit) -> tuple[int, int]:
    """How many prompts are answered together, and the planned peak in bytes. Raises DoesNotFit for a budget that does
    not hold the model.

    longest: tokens of the longest prompt. tokens: of an answer.
    """
    cpu = models.device.type == "cpu"
    shape = ModelShape.from_config(read_config(models.base).values)
    size = 4 if models.dtype == torch.float32 else 2
    load = Load("lora", 1, ("all-linear",), size, "none", 1, 1, False, rss(), cpu, base=models.stored,
                stream=models.streams is not None)  # fmt: skip
    asked = choices(shape, load, Questions(TOGETHER, max(longest, LEAST), tokens))
    scoring = CHUNK * shape.vocabulary * (CHUNK_BYTES + 2) + ROW * shape.vocabulary
    steady = load.runtime + (COMPILED if cpu else 0) + load.held(shape) + scoring
    room = budget or int(FREE * look().free(models.device.type)) + rss()
    together, taken = as_many_as_fit(asked, room - steady)
    planned = steady + taken
    if budget is not None and planned > budget:
        enough = math.ceil(ROUNDED * planned / 1e7) / 100
        raise DoesNotFit("eval_too_big", planned=f"{planned / 1e9:.2f}", budget=f"{budget / 1e9:.2f}", enough=enough)
    emit(Noticed("eval_plan", {"together": together, "peak": f"{planned / 1e9:.2f}"}))
    return together, planned


class _Known:
    """What a base model answered in earlier evaluations, in the cache: by its weights, tokenizer and precision."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = {(one.who, one.asked): one for one in read_records(path)}

    @classmethod
    def of(cls, models: Trained, tokenizer: ChatTokenizer) -> "_Known":
        facts = (VERSION, weights_hash(models.base), tokenizer.fingerprint, str(models.dtype), models.stored,
                 models.device.type, torch.__version__)  # fmt: skip
        name = sha256(json.dumps(facts).encode()).hexdigest()[:32]
        return cls(cache() / "evaluations" / f"{name}.jsonl")

    def by(self, who: str) -> Known:
        """What `who` answered, by what was asked."""
        return lambda asked: self.records.get((who, asked))

    def keep(self, records: Records) -> None:
        """Write what is new into the cache."""
        for record in records.known.values():
            if record.who != "tuned":
                self.records.setdefault((record.who, record.asked), record)
        write_records(self.path, self.records.values())


@dataclass(frozen=True)
class _Hall:
    """What all sittings of an evaluation share."""

    tokenizer: ChatTokenizer
    records: Records
    emit: Emit
    should_stop: Callable[[], bool]
    together: int
    paper: Paper

    def sitting(self, who: str, decoder: Decoder, known: Known = lambda asked: None) -> Sitting:
        return Sitting(
            who=who, decoder=decoder, tokenizer=self.tokenizer, records=self.records, on_event=self.emit,
            should_stop=self.should_stop, tokens=self.paper.tokens, together=self.together, known=known,
        )  # fmt: skip


def _base_sits(hall: _Hall, models: Trained, threads: int) -> Decoder:
    """The base model answers; for the noise once more with other batches and threads; or once more with examples.
    Returns it."""
    known, sittings = _Known.of(models, hall.tokenizer), hall.paper.sittings
    decoder = _open(models.open_base, hall.emit)
    for who in ("base", "prompted"):
        if who in sittings:
            hall.sitting(who, decoder, known.by(who)).sit(sittings[who])
    if "again" in sittings:
        other = replace(
            hall.sitting("again", decoder, known.by("again")), together=max(1, hall.together // 2), backwards=True
        )
        torch.set_num_threads(threads - 1 or 1)
        try:
            other.sit(sittings["again"])
        finally:
            torch.set_num_threads(threads)
    known.keep(hall.records)
    return decoder


def _open(opening: Callable[[], Decoder], emit: Emit) -> Decoder:
    emit(Progress("load", 0, 1))
    decoder = opening()
    emit(Progress("load", 1, 1))
    return decoder


def _reporting(emit: Emit) -> OnProgress:
    return lambda stage, done, total: emit(Progress(stage, done, total))


def _conditions(
    spec: BenchSpec | FormatSpec, paper: Paper, models: Trained, tokenizer: ChatTokenizer, threads: int, together: int
) -> dict[str, object]:
    """What the result was made under, so that it can be made again."""
    suites = {one.name: one for who in ("base", "tuned") for one in paper.sittings[who]}
    return {
        "settings": spec.settings(), "base_weights_sha256": weights_hash(models.base),
        "result_weights_sha256": weights_hash(models.result), "template_sha256": tokenizer.template_hash,
        "precision": str(models.dtype).removeprefix("torch."), "stored": models.stored, "threads": threads,
        "together": together, "answer_tokens": paper.tokens, "decoding": "greedy",
        "suites": {name: {"items": len(one.items), "sha256": one.hash} for name, one in suites.items()},
        "versions": {name: version(name) for name in ("xiaozao", "torch", "transformers")},
    }  # fmt: skip
