"""`zao plan`: how much memory a run needs, before it starts; with data=FILE on its real lengths. No torch."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.ladder_view import effects_view, ladder_view, ways_view
from xiaozao.cli.memory_bar import memory_view
from xiaozao.cli.options import anchored_files, gather
from xiaozao.data.prepare import prepare
from xiaozao.errors import NotFound
from xiaozao.events import OnProgress
from xiaozao.hub.folder import CONFIG
from xiaozao.hub.sources import resolve
from xiaozao.machine.hardware import look
from xiaozao.machine.threads import check_threads
from xiaozao.measure.fastest import measured, products
from xiaozao.measure.profiles import profiles
from xiaozao.measure.rates import rates
from xiaozao.plan.command import plan_command
from xiaozao.plan.hf.plan import document as hf_document
from xiaozao.plan.hf.plan import plan_hf
from xiaozao.plan.ladder import Choice
from xiaozao.plan.lengths import Lengths, lengths_of
from xiaozao.runs.memory_facts import of_plan
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import cache
from xiaozao.texts.numbers import duration, gigabytes

EXIT_DOES_NOT_FIT = 4
NO_DATA = "none"
UNITLESS = 10**6  # bytes: nobody has so few, so a unit was forgotten


def choice_of(spec: RunSpec, output: Output, config_only: bool = False) -> tuple[Choice, Lengths | None]:
    """The run with every open option decided, its plan, and the lengths of its data if data is named.

    Downloads the model if necessary and shows the progress.
    config_only: whether a model without weights will do. Raises DataError for data that training would refuse.
    """
    check_threads(spec.train.threads)
    known = None
    with output.stages() as report:
        folder = model_folder(spec, report, config_only)
        if spec.data.data != NO_DATA:
            data = prepare(spec.data, folder, spec.train.seed, cache(), report, spec.method.objective)
            known = lengths_of(spec, data)
        hardware = look()
        if hardware.device(spec.model.device) == "cpu" and spec.method.precision == "auto":
            hardware = measured(hardware, products(report))
        with profiles(report) as traces:
            choice = plan_command(spec, folder, traces, partial(rates, report=report), known, hardware)
    _warn(spec, output)
    return choice, known


def model_folder(spec: RunSpec, report: OnProgress, config_only: bool) -> Path:
    """The folder of the model. A plan needs no weights if config.json says their shapes."""
    path = Path(spec.model.model).expanduser()
    if config_only and path.name == CONFIG and path.is_file():
        path = path.parent
    try:
        resolved = resolve(str(path), spec.model.source, spec.model.revision, cache(), report)
    except NotFound as error:
        if not config_only or error.key not in ("no_weights", "no_tokenizer") or not (path / CONFIG).is_file():
            raise
        return path.absolute()
    return resolved.path


def _warn(spec: RunSpec, output: Output) -> None:
    """Warn of a budget that is implausibly small or large."""
    hardware, budget = look(), spec.train.budget or 0
    if 0 < budget < UNITLESS:
        output.note("plan.budget_bytes", budget=budget)
    if hardware.device(spec.model.device) == "cpu" and budget > hardware.memory_total:
        output.note("plan.budget_over", budget=gigabytes(budget), total=gigabytes(hardware.memory_total))


def show_hf(spec: RunSpec, output: Output) -> int:
    """Plan the run in the Hugging Face stack and print it; returns the exit code."""
    with output.stages() as report:
        folder = model_folder(spec, report, config_only=True)
    spec = spec.decided()
    planned = plan_hf(spec, folder)
    least, _, most = planned.process
    output.note("plan.hf", allocated=gigabytes(planned.replay.allocated), reserved=gigabytes(planned.replay.reserved))
    if not planned.context_known:
        output.note("plan.hf_context", context=gigabytes(planned.context), least=gigabytes(least), most=gigabytes(most))
    everything = {**document(planned.plan, spec), **hf_document(planned)}
    output.result(memory_view(of_plan(planned.plan), output.language, output.unicode), everything)
    return 0 if planned.plan.fits else EXIT_DOES_NOT_FIT


def show_choice(choice: Choice, output: Output, known: Lengths | None = None) -> int:
    """Print it; returns the exit code, which says whether it fits."""
    plan, spec = choice.plan, choice.spec
    if known is not None:
        told = {"samples": f"{known.samples:,}", "longest": f"{known.longest:,}", "mean": f"{known.mean:,.0f}"}
        output.note("plan.data", **told, steps=f"{known.steps:,}")
    elif spec.data.data == NO_DATA:
        output.note("plan.no_data", length=f"{spec.data.length:,}")
    if spec.train.devices > 1:
        output.note("plan.per_device", devices=spec.train.devices)
    if plan.reserved is not None:
        told = {"allocated": gigabytes(plan.allocated), "reserved": gigabytes(plan.reserved.reserved)}
        output.note("plan.reserved", **told)
    memory = memory_view(of_plan(plan), output.language, output.unicode)
    view = Group(
        memory, *effects_view(choice.effects, output.language), *time_view(choice, output, known),
        *ladder_view([asdict(one) for one in choice.steps], output.language),
        *ways_view(choice.ways, output.language),
    )  # fmt: skip
    output.result(view, {**document(plan, spec), **way_there(choice), "data": _data(known)})
    return 0 if plan.fits else EXIT_DOES_NOT_FIT


def way_there(choice: Choice) -> dict[str, Any]:
    """The options that were changed to fit the budget and the ways out, as a document for a program."""
    return {
        "ladder": [asdict(one) for one in choice.steps],
        "advice": [asdict(one) for one in choice.ways],
        "effects": [asdict(one) for one in choice.effects],
    }


def _data(known: Lengths | None) -> dict[str, Any] | None:
    """The lengths of the data, as a document for a program."""
    if known is None:
        return None
    return {"samples": known.samples, "longest": known.longest, "mean": round(known.mean, 1), "steps": known.steps}


def time_view(choice: Choice, output: Output, known: Lengths | None) -> list[RenderableType]:
    """The planned time of a step, if this machine's speed is known, and of all steps, if the data is known."""
    plan, batch = choice.plan, choice.spec.train.batch
    if plan.step is None:
        return [Text(), Text(output.say("plan.busy"))] if choice.unpaced else []
    tokens = plan.tokens // plan.samples * batch
    if known is not None:
        tokens = round(known.mean * known.sequences * batch)
    told = {"seconds": _rounded(plan.step.total), "tokens": tokens, "batch": batch}
    lines: list[RenderableType] = [Text(), Text(output.say("plan.step_time", **told))]
    if known is not None:
        whole = duration(plan.step.total * known.steps, output.language)
        lines.append(Text(output.say("plan.whole_time", time=whole, steps=f"{known.steps:,}")))
    return lines


def _rounded(seconds: float) -> str:
    """A number with two significant digits: more would claim a precision that a busy machine does not have."""
    return f"{seconds:.1f}" if seconds < 10 else f"{float(f'{seconds:.2g}'):.0f}"


def document(plan: MemoryPlan, spec: RunSpec) -> dict[str, Any]:
    """The plan for a program."""
    memory, reserved = of_plan(plan), plan.reserved.reserved if plan.reserved else None
    on_gpu = {"peak_bytes": plan.allocated, "reserved_bytes": reserved, "process_bytes": plan.peak_bytes}
    return {
        **{"micro_batch" if name == "samples" else name: value for name, value in asdict(memory).items()},
        **({} if plan.cpu else on_gpu),
        "verdict": memory.verdict,
        "budget_bytes": plan.budget_bytes or None,
        "fits": plan.fits if plan.budget_bytes else None,
        "traced": plan.traced,
        "step_seconds": None if plan.step is None else plan.step.total,
        "step_parts": None if plan.step is None else asdict(plan.step),
        "live_bytes": plan.live_bytes,
        "parameters": plan.parameters,
        "trainable": plan.trainable,
        "moments": [{"name": one.name, "parts": one.parts, "total": one.total} for one in plan.moments],
        "options": spec.options(),
    }


def _model_first(arguments: tuple[str, ...]) -> list[str]:
    """`MODEL rank=16` -> `model=MODEL rank=16`: the first word that is neither a file of options nor `key=value`."""
    named = list(arguments)
    for place, word in enumerate(named):
        if not word.partition("=")[0].isidentifier() or "=" not in word:
            if not word.endswith((".yaml", ".yml")):
                named[place] = f"model={word}"
                break
    return named


def work(arguments: tuple[str, ...], engine: str, **flags: str | None) -> int:
    output = current_output()
    options = gather(_model_first(arguments), flags)
    # A plan needs no data; the spec does.
    spec = RunSpec.from_options({"data": NO_DATA, **options, **anchored_files(options)})
    if engine == "hf":
        return show_hf(spec, output)
    choice, known = choice_of(spec, output, config_only=True)
    return show_choice(choice, output, known)
