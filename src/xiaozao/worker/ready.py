"""From what is asked of a run to a run that can begin: the model is found, the data prepared, all decided and planned.

read_asked   spec.yaml, or resolved.yaml of a run that began before
find         the model's folder, the prepared data, the questions
decide       what is open, with the plan that it leads to
settle       resolved.yaml is written; nothing large is in memory yet
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from xiaozao.data.conversations import open_conversations
from xiaozao.data.formats import Conversation
from xiaozao.data.modelfiles import read_chat_files
from xiaozao.data.prepare import PreparedData, prepare
from xiaozao.errors import DoesNotFit, EnvironmentProblem, Problem
from xiaozao.evaluate.exam import Exam
from xiaozao.events import Event, Noticed, OnProgress, Planned, Prepared, Progress
from xiaozao.hub.folder import ModelConfig, read_config
from xiaozao.hub.sources import ModelFolder
from xiaozao.hub.sources import resolve as find_model
from xiaozao.machine.hardware import Hardware, idle_cores, look
from xiaozao.machine.heap import give_back, keep_nothing
from xiaozao.machine.resident import reset_peak, rss
from xiaozao.machine.threads import check_threads
from xiaozao.measure.fastest import is_slow, keep, known, measured
from xiaozao.measure.multiply import product_rates
from xiaozao.measure.profiles import profiles
from xiaozao.models.layers.quantize import ready as import_base
from xiaozao.models.load import device_of
from xiaozao.plan.ladder import Choice, Planner, larger_budget
from xiaozao.plan.lengths import order_of, sizes_of
from xiaozao.plan.memory import RUNTIMES
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder, cache
from xiaozao.train.optim.names import ready as import_optimizer
from xiaozao.train.ranks import ALONE, Place
from xiaozao.train.schedules import warmup_steps
from xiaozao.worker.limits import check_disk, counts_mapped
from xiaozao.worker.resolve import Plans, on_devices, resolve

Emit = Callable[[Event], object]


@dataclass(frozen=True)
class Ready:
    """A run with everything decided and its data prepared; nothing large is in memory yet."""

    folder: RunFolder
    spec: RunSpec
    model: ModelFolder
    data: PreparedData
    exam: Exam | None
    plan: MemoryPlan
    own_budget: bool  # the user named it; else it is what was free


@dataclass(frozen=True)
class Asked:
    """What is asked of a run, on the processes that there are now."""

    spec: RunSpec
    place: Place
    resumed: bool  # all was decided at its first start
    own_budget: bool  # the user named it
    ran: bool  # it ran before just so, within its own budget


@dataclass(frozen=True)
class Found:
    """The model and the data of a run, and the machine that it decides by."""

    model: ModelFolder
    config: Mapping[str, Any]
    data: PreparedData
    exam: Exam | None
    device: torch.device
    hardware: Hardware


@dataclass(frozen=True)
class Decided:
    """A run in which nothing is open, and its plan; `choice` tells how it came to that, at its first start."""

    spec: RunSpec
    plan: MemoryPlan
    choice: Choice | None


def get_ready(folder: RunFolder, emit: Emit, place: Place = ALONE.place) -> Ready:
    """Read what is asked, find model and data, decide what is open, settle it. Nothing large is loaded yet.

    Raises DoesNotFit, and what finding a model and preparing data raise.
    """
    asked = read_asked(folder, place)
    gathered = find(asked, emit)
    decided = decide(asked, gathered, emit)
    settle(folder, asked, gathered, decided, emit)
    return Ready(folder, decided.spec, gathered.model, gathered.data, gathered.exam, decided.plan, asked.own_budget)


def read_asked(folder: RunFolder, place: Place) -> Asked:
    """The run as it was decided at its first start, or as it is asked for. Raises EnvironmentProblem, UsageError."""
    resumed = folder.resolved.is_file()
    spec = RunSpec.from_options(read_file(folder.resolved if resumed else folder.spec))
    named = read_file(folder.spec) if folder.spec.is_file() else {}
    own_budget = named.get("budget") is not None
    ran = resumed and own_budget and spec.train.devices == place.world
    spec = on_devices(spec, place, resumed, own_budget)
    check_threads(None if resumed else spec.train.threads)  # a run goes on with the threads that it began with
    import_what_is_named(spec)  # before the data, so that a missing package is told now, and counts as runtime
    return Asked(spec, place, resumed, own_budget, ran)


def find(asked: Asked, emit: Emit) -> Found:
    """Fetch the model and prepare the data, from the cache where they are there."""
    spec, report = asked.spec, _reporting(emit)
    model = find_model(spec.model.model, spec.model.source, spec.model.revision, cache(), report)
    data = prepare(spec.data, model.path, spec.train.seed, cache(), report, spec.method.objective)
    emit(_prepared(data))
    device = device_of(spec.model.device)
    check_devices(device, asked.place)
    config = read_config(model.path)
    for notice in notices(spec, model, data, config):
        emit(notice)
    hardware = _hardware(spec, device, emit, asked.resumed)
    return Found(model, config.values, data, Exam.of(spec, model), device, hardware)


def decide(asked: Asked, found: Found, emit: Emit) -> Decided:
    """Decide all that is open, at a run's first start, and plan it."""
    spec, device, place = asked.spec, found.device, asked.place
    questions, sizes = found.exam.sizes if found.exam else None, sizes_of(spec, found.data)
    with profiles(_reporting(emit)) as traces:

        def ask() -> Plans:
            give_back()  # what preparing the data took is no part of the run
            runtime = RUNTIMES["cuda"] if device.type == "cuda" else rss()
            return Plans(sizes, found.config, runtime, traces, questions)

        def choose() -> Choice:
            plans = ask()
            now = look()  # what is free now, with what was measured of the machine
            hardware = replace(now, cores=found.hardware.cores, fast_bf16=found.hardware.fast_bf16)
            return resolve(
                spec, found.data, found.config, device.type, hardware, plans, here=place.local_world, holds=plans.holds
            )

        choice = None
        if asked.resumed:
            plan = ask()(spec, spec.train.budget or 0)
        else:
            choice, plan = _decided(choose, ask)
            spec = choice.spec
        if plan.traced and (reserved := ask().holds(spec)):
            plan = plan.holding(reserved)
    return Decided(spec, plan, choice)


def settle(folder: RunFolder, asked: Asked, found: Found, decided: Decided, emit: Emit) -> None:
    """Tell the plan, write down what was decided, and set this process up for it. Raises DoesNotFit where it is too
    much, EnvironmentProblem where the disk is too small."""
    spec, plan = decided.spec, decided.plan
    torch.set_num_threads(spec.train.threads or 1)
    reset_peak()
    if plan.returns or counts_mapped():
        keep_nothing()
    steps = order_of(spec, found.data).steps
    emit(_planned(plan, steps, decided.choice))
    tell_warmup(spec.train.warmup, steps, emit)
    if not plan.fits and not asked.ran:
        raise _does_not_fit(plan, decided.choice)
    if asked.place.rank == 0:
        if not asked.resumed:  # decided once: from it a run goes on with any number of devices
            folder.resolved.write_text(spec.to_yaml(), encoding="utf-8")
        check_disk(folder, plan, spec, steps, look(), emit)


def _reporting(emit: Emit) -> OnProgress:
    def report(stage: str, done: int, total: int) -> None:
        emit(Progress(stage, done, total))

    return report


def _hardware(spec: RunSpec, device: torch.device, emit: Emit, resumed: bool) -> Hardware:
    """The machine as a run decides by it: how fast its CPU is in each dtype, and the cores that others leave free.

    Tells of a dtype that was asked for and is slow here, and of cores that are busy.
    """
    hardware = look()
    if device.type != "cpu":
        return hardware
    rates = known() or keep(product_rates())
    if is_slow(rates, asked := spec.method.precision if spec.method.precision != "auto" else "fp32"):
        emit(Noticed("slow_half", {"precision": asked, "times": f"{rates['fp32'] / rates[asked]:.0f}"}))
    if spec.train.threads is None and not resumed and (idle := idle_cores()) < hardware.cores:
        emit(Noticed("busy_cores", {"threads": idle, "cores": hardware.cores}))
        hardware = replace(hardware, cores=idle)
    return measured(hardware, rates)


def notices(spec: RunSpec, model: ModelFolder, data: PreparedData, config: ModelConfig) -> list[Noticed]:
    """What the user should know of the model and the data before anything is computed."""
    told = [Noticed("plain_template", {"model": model.name})] if trained_plain(spec, model) else []
    told += [Noticed(f"kto_{part}", {}) for part in parts_without_partner(spec, data)]
    counts = data.counts
    if counts.overlap:
        told.append(Noticed("overlap", {"count": counts.overlap}))
    if counts.alike:
        told.append(Noticed("alike", {"count": counts.alike, "rows": counts.rows_validation}))
    if counts.untrained:
        told.append(Noticed("untrained_answers", {"count": counts.untrained, "length": spec.data.length}))
    if counts.unreasoned:
        why = "off" if spec.data.thinking == "off" else "template"
        told.append(Noticed(f"unreasoned_{why}", {"count": counts.unreasoned}))
    told += [Noticed("data_note", {"note": note_text(note)}) for note in data.counts.notes]
    if config.stripped:
        told.append(Noticed("config_stripped", {"keys": ", ".join(config.stripped)}))
    return told


def note_text(note: Problem) -> dict[str, object]:
    """A note on the data as a text that is said in the reader's language."""
    plain = {
        name: value if isinstance(value, int | float | dict) else str(value) for name, value in note.params.items()
    }
    return {"text": f"problem.{note.key}", **plain}


def tell_warmup(warmup: float, steps: int, emit: Emit) -> None:
    """Say where the run is too short for the steps of warm-up that were asked for."""
    kept = warmup_steps(warmup, steps)
    if warmup >= 1 and kept < int(warmup):
        emit(Noticed("warmup_long", {"warmup": int(warmup), "steps": steps, "kept": kept}))


def trained_plain(spec: RunSpec, model: ModelFolder) -> bool:
    """Whether conversations are written with our plain template, because the model brings none."""
    if spec.data.template not in ("auto", "plain") or read_chat_files(model.path).template:
        return False
    rows = open_conversations(spec.data)
    first = next((row for row in rows if isinstance(row, Conversation)), None)
    return first is not None and not first.text


def parts_without_partner(spec: RunSpec, data: PreparedData) -> list[str]:
    """Which of "train" and "validation" hold no two answers that differ, so that KTO has no reference point there."""
    if spec.method.objective != "kto":
        return []
    parts = {"train": data.train, **({"validation": data.validation} if data.validation else {})}
    return [name for name, one in parts.items() if all(one.partner(index) is None for index in range(len(one)))]


def _decided(decide: Callable[[], Choice], ask: Callable[[], Planner]) -> tuple[Choice, MemoryPlan]:
    """A choice, and its plan when all that it needs is imported; another one where that took what there was left."""
    for last in (False, True):
        choice = decide()
        import_what_is_named(choice.spec)
        spec, budget = choice.spec, choice.spec.train.budget or 0
        plan = ask()(spec, budget)
        if plan.beyond:  # a refusal says exactly what would do, as the choice does
            plan = replace(ask()(spec, 0, choice.plan.returns), budget_bytes=budget)
        if last or (plan.fits, plan.surely_fits) >= (choice.plan.fits, choice.plan.surely_fits):
            break
    return choice, plan


def check_devices(device: torch.device, place: Place) -> None:
    """Raises EnvironmentProblem where this machine has fewer GPUs than processes of the run."""
    if device.type == "cuda" and place.local_world > torch.cuda.device_count():
        raise EnvironmentProblem("few_gpus", devices=place.local_world, found=torch.cuda.device_count())


def import_what_is_named(spec: RunSpec) -> None:
    """Import the packages that the storage of the frozen weights (`base=`) and the optimizer need.

    Raises EnvironmentProblem for one that is missing.
    """
    if spec.model.base != "auto":
        import_base(spec.model.base)
    if spec.train.optimizer != "auto":
        import_optimizer(spec.train.optimizer)


def _planned(plan: MemoryPlan, steps: int, choice: Choice | None) -> Planned:
    return Planned(
        plan.samples, plan.tokens, plan.peak.parts, plan.peak.name, plan.peak_bytes, plan.budget_bytes, steps,
        plan.live_bytes, plan.low_bytes, plan.high_bytes, [asdict(one) for one in choice.steps] if choice else [],
        plan.returns,
    )  # fmt: skip


def _does_not_fit(plan: MemoryPlan, choice: Choice | None) -> DoesNotFit:
    ways = [*(choice.ways[:-1] if choice else ()), larger_budget(plan)]
    return DoesNotFit(
        "does_not_fit", [Problem("way_out", one.words()) for one in ways], peak=f"{plan.peak_bytes / 1e9:.2f}",
        budget=f"{plan.budget_bytes / 1e9:.2f}", moment=plan.peak.name, samples=plan.samples,
        tokens=plan.tokens,
    )  # fmt: skip


def _prepared(data: PreparedData) -> Prepared:
    lengths = data.train.lengths
    return Prepared(
        rows_read=data.counts.rows_read, rows_used=data.counts.rows_used, rows_validation=data.counts.rows_validation,
        dropped=dict(data.counts.dropped), tokens=int(sum(lengths)), target_tokens=data.train.target_tokens,
        longest=int(max(lengths)),
    )  # fmt: skip
