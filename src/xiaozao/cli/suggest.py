"""`zao models suggest`: which model for a job, a language and a budget, with the plan's verdict. No network."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.errors import NotFound, UsageError
from xiaozao.machine.hardware import look
from xiaozao.measure.fastest import known as known_products
from xiaozao.measure.fastest import measured
from xiaozao.measure.rates import known
from xiaozao.plan.duration import least_hours
from xiaozao.plan.modelcatalogue import Entry, catalogue
from xiaozao.plan.suggestions import JOBS, Hours, Need, Suggestion, size_class, suggest
from xiaozao.spec.pace import Asked
from xiaozao.spec.parts import parse_bytes
from xiaozao.texts.catalogue import has
from xiaozao.texts.numbers import gigabytes

EXIT_DOES_NOT_FIT = 4
SHOWN = 10
SAMPLES, EPOCHS = 1000, 3  # that the hours are said of
LENGTH = 2048  # the default of the option length


def work(job: str, language: str | None, budget: str | None, device: str, length: int, all_: bool) -> int:
    output = current_output()
    need = needed(job, language or output.language, budget, device, length)
    suggestions = suggest(need, catalogue(), hours(need))
    if not suggestions:
        suited = [entry for entry in catalogue() if entry.thinking in JOBS[job].thinking]
        known = sorted({code for entry in suited for code in entry.languages})
        raise NotFound("suggest_language", language=need.language, known=" ".join(known))
    best = next((one for one in suggestions if one.usable), None)
    shown = suggestions if all_ else suggestions[:SHOWN]
    human = Group(
        *_answer(best, suggestions, need, output),
        Text(),
        _table(shown, output),
        *_notes(suggestions, shown, need, output),
    )
    output.result(human, document(best, suggestions, need), best.entry.name if best else "")
    return 0 if best else EXIT_DOES_NOT_FIT


def needed(job: str, language: str, budget: str | None, device: str, length: int) -> Need:
    """The complete question: what the user left open is taken from this machine. Raises UsageError."""
    hardware = measured(look(), known_products())
    on = hardware.device(device)
    if on == "cuda" and not hardware.gpus and budget is None:
        raise UsageError("suggest_no_gpu")
    size = parse_bytes(budget) if budget else hardware.free(on)
    if not isinstance(size, int) or size <= 0:
        raise UsageError("suggest_budget", value=budget)
    return Need(job, language.lower().replace("_", "-").partition("-")[0], size, on, hardware.precision(on), length)


def hours(need: Need) -> Hours | None:
    """The hours that SAMPLES of the given length would take; None unless `zao plan` has measured this CPU before."""
    rates = known(Asked(look().cores, need.precision)) if need.device == "cpu" else None
    if rates is None:
        return None
    tokens, pace = SAMPLES * EPOCHS * need.length, rates
    return lambda entry, verdict: least_hours(entry.config, verdict.checkpointing, tokens, need.length, pace)


def document(best: Suggestion | None, suggestions: list[Suggestion], need: Need) -> dict[str, Any]:
    """The answer as a document for a program."""
    rows = [row(one, need) for one in suggestions]
    asked = {"budget_bytes" if name == "budget" else name: value for name, value in asdict(need).items()}
    return {**asked, "recommended": best.entry.name if best else None, "models": rows}


def row(suggestion: Suggestion, need: Need) -> dict[str, Any]:
    """One model as a document for a program: its entry in the catalogue, and the verdict with the options for it."""
    entry, verdict = suggestion.entry, suggestion.verdict
    return {
        **asdict(entry),
        "verdict": verdict.state,
        "peak_bytes": verdict.plan.peak_bytes,
        "hours": suggestion.hours,
        "options": {"base": verdict.base, "checkpointing": verdict.checkpointing, "length": need.length},
    }


def _answer(best: Suggestion | None, suggestions: list[Suggestion], need: Need, output: Output) -> list[RenderableType]:
    """The recommended model, the reasons and the next command; or the smallest model that would suit."""
    budget = gigabytes(need.budget)
    if best is None:
        would = min(suggestions, key=lambda one: one.verdict.plan.peak_bytes)
        key = "suggest.research" if would.verdict.state != "too_big" else "suggest.nothing"
        needs = gigabytes(would.verdict.plan.peak_bytes)
        text = output.say(key, budget=budget, model=would.entry.name, needs=needs, options=_options(would))
        return [Text(text)]
    entry = best.entry
    job = output.say(f"suggest.job.{need.job}")
    small = size_class(entry.parameters) < size_class(JOBS[need.job].enough)
    why = output.say(
        "suggest.why",
        size=output.say("suggest.largest" if small else "suggest.enough", job=job, budget=budget),
        own=output.say(
            "suggest.own" if need.language in entry.own else "suggest.named", language=_language(need.language, output)
        ),
        thinking=output.say(f"suggest.thinks.{entry.thinking}"),
        business=output.say(f"suggest.business.{entry.business}"),
    )
    lines = [Text(output.say("suggest.best", model=entry.name), style="bold"), Text(why)]
    if entry.parameters < JOBS[need.job].least:
        lines.append(Text(output.say("suggest.small", job=job, least=_size(JOBS[need.job].least))))
    key = "suggest.next" if need.device == "cpu" or look().gpus else "suggest.next_there"
    return [*lines, Text(output.say(key, command=_command(best, need)))]


def _table(suggestions: list[Suggestion], output: Output) -> Table:
    timed = any(one.hours is not None for one in suggestions)
    table = Table(box=None, pad_edge=False)
    for key in ("model", "size", "languages", "license", "business", "thinking", "memory", "verdict"):
        right = key in ("size", "memory")
        table.add_column(output.say(f"suggest.{key}"), justify="right" if right else "left", overflow="fold")
    if timed:
        table.add_column(output.say("suggest.hours"), justify="right")
    for suggestion in suggestions:
        entry = suggestion.entry
        table.add_row(
            entry.name, _size(entry.parameters), _languages(entry), entry.license,
            output.say(f"suggest.business.{entry.business}"), output.say(f"suggest.thinking.{entry.thinking}"),
            gigabytes(suggestion.verdict.plan.peak_bytes), _verdict(suggestion, output),
            *([] if not timed else ["" if suggestion.hours is None else f"{suggestion.hours:.1f}"]),
        )  # fmt: skip
    return table


def _notes(suggestions: list[Suggestion], shown: list[Suggestion], need: Need, output: Output) -> list[RenderableType]:
    lines = [output.say("suggest.measured"), output.say("suggest.assumed", length=need.length)]
    if len(shown) < len(suggestions):
        lines.append(output.say("suggest.more", count=len(suggestions) - len(shown)))
    if any(one.hours is not None for one in shown):
        lines.append(output.say("suggest.hours_note", samples=SAMPLES, length=need.length, epochs=EPOCHS))
    if any(one.verdict.base == "nf4" for one in shown):
        lines.append(output.say("suggest.needs_bitsandbytes"))
    return [Text(), *map(Text, lines)]


def _verdict(suggestion: Suggestion, output: Output) -> str:
    said = output.say(f"suggest.state.{suggestion.verdict.state}")
    return f"{said} ({_options(suggestion)})" if _options(suggestion) else said


def _options(suggestion: Suggestion) -> str:
    """`base=nf4 checkpointing=block`: the options that differ from the defaults."""
    named = {"base": suggestion.verdict.base, "checkpointing": suggestion.verdict.checkpointing}
    return " ".join(f"{name}={value}" for name, value in named.items() if value != "none")


def _language(code: str, output: Output) -> str:
    """The name of a language in the reader's language, or its code if we have no name."""
    return output.say(f"language.{code}") if has(f"language.{code}") else code


def _command(best: Suggestion, need: Need) -> str:
    words = ["zao plan", best.entry.name, _options(best), f"length={need.length}" if need.length != LENGTH else ""]
    return " ".join(word for word in [*words, f"budget={need.budget / 1e9:g}GB", f"device={need.device}"] if word)


def _languages(entry: Entry) -> str:
    first = entry.languages[:3]
    more = entry.language_count - len(first)
    return " ".join(first) + (f" +{more}" if more > 0 else "")


def _size(parameters: float) -> str:
    return f"{parameters / 1e9:.2g} B" if parameters < 10e9 else f"{parameters / 1e9:.0f} B"
