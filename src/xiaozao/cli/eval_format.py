"""`zao eval format RUN`: do answers keep the form of the user's own, and do they belong to their questions?"""

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.eval_bench import COLOURS
from xiaozao.cli.eval_run import Asked, check_free, check_together, evaluate, hand_out, memory_of, stop_evaluation
from xiaozao.errors import UsageError
from xiaozao.evaluate.form import Form, read_form
from xiaozao.evaluate.form_result import compare_forms, learned
from xiaozao.evaluate.paper import paper_of
from xiaozao.evaluate.record import read_records
from xiaozao.evaluate.report import json_bytes
from xiaozao.evaluate.telling import (
    MEASURES,
    WHO,
    form_notes,
    form_sentence,
    form_text,
    in_short,
    leak_lines,
    obedience_sentence,
    prompt_sentence,
    reasons,
    shown_signs,
)
from xiaozao.hub.jsonfile import read_object
from xiaozao.runs.results import trained
from xiaozao.spec.evaluation import FormatSpec, read_evaluation
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.texts.catalogue import Language, say

EXAMPLES = 3  # failures that are printed


def work(
    run: str, again: bool, detach: bool, stop: bool, contract: str | None, write_contract: str | None, **settings: Any
) -> int:  # fmt: skip
    output = current_output()
    if contract and detach:
        raise UsageError("eval_contract_detached")
    check_together("--write-contract", write_contract, contract=contract, again=again, detach=detach, stop=stop)
    check_together("--stop", stop, contract=contract, again=again, detach=detach)
    source, options = trained(run)
    if stop:
        return stop_evaluation(source, "format", output)
    form = read_form(Path(contract).expanduser()) if contract else None
    spec = _asked(source, options, **settings)
    if write_contract is not None:
        return _write(spec, options, Path(write_contract).expanduser(), output)
    show = partial(_show, options=options, form=form, output=output)
    more = () if contract is None else ("--contract", str(Path(contract).expanduser().absolute()))
    return evaluate(source, options, Asked(spec, again, detach, more), output, show)


def _asked(
    source: RunFolder, options: RunSpec, questions: str | None, budget: str | None, **settings: Any
) -> FormatSpec:
    file = str(Path(questions).expanduser().absolute()) if questions else options.evaluate.questions
    if file is None:
        raise UsageError("eval_no_questions", run=source.name)
    return FormatSpec(run=str(source.path), questions=str(file), budget=memory_of(budget), **settings)


def _write(spec: FormatSpec, options: RunSpec, path: Path, output: Output) -> int:
    """Write the learned form into a file that can be edited; nothing is asked."""
    check_free((path,), output)
    form = learned(paper_of(spec, options))
    hand_out(path, json_bytes(form.to_json()))
    output.result(output.say("form.written", path=path), {"path": str(path), "form": form.to_json()}, str(path))
    return 0


def _show(folder: RunFolder, options: RunSpec, form: Form | None, output: Output) -> int:
    """The result; with another form, the recorded answers are judged anew and nothing is asked."""
    result = read_object(folder.standing)
    if form is not None:
        spec = read_evaluation(folder.evaluation_spec)
        paper = paper_of(spec, options).without(result.get("too_long", {}))
        judged = compare_forms(paper, read_records(folder.recorded), form).to_json()
        result = {**result, **judged}
    output.result(form_view(result, output.language), result, str(folder.standing))
    return 0


def form_view(result: dict[str, Any], language: Language) -> RenderableType:
    """One sentence, the form, the measures of everybody who sat, signs of decay, and some failures."""
    sittings = [who for who in WHO if who in result["sittings"]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for who in sittings:
        table.add_column(say(f"form.who.{who}", language), justify="right")
    table.add_column(say("form.verdict", language))
    for row in MEASURES:
        if row in result["changes"]:
            table.add_row(*_row(row, sittings, result, language))
    for sign in shown_signs([result["sittings"][who] for who in sittings]):
        counts = [str(result["sittings"][who]["signs"][sign]) for who in sittings]
        table.add_row(say(f"form.sign.{sign}", language), *counts, "")
    parts: list[RenderableType] = [
        Text(form_sentence(result, language), style=f"bold {COLOURS[_outcome(result)]}"), "",
        say("form.asked", language, n=result["n"], form=form_text(result["form"], language)), "", table,
    ]  # fmt: skip
    for who in sittings:
        if (same := result["sittings"][who]["one_answer"]) is not None:
            name = say(f"form.who.{who}", language)
            parts.append(say("form.one_answer", language, who=name, count=same["count"], text=in_short(same["answer"])))
    if classes := result["sittings"]["tuned"].get("classes"):
        told = {name: f"{classes[name]:.1%}" for name in ("accuracy", "macro_f1")}
        parts += ["", say("form.classes", language, **told)]
    if obeyed := obedience_sentence(result, language):
        parts += ["", Text(obeyed, style=COLOURS[result["obedience"]["outcome"]])]
        for lost in result["disobeyed"][:EXAMPLES]:
            parts += [Text(in_short(lost["question"]), style="bold"), in_short(lost["tuned"]) or "-"]
    if leaked := leak_lines(result, language):
        parts += ["", *(Text(line, style="red" if result["leaks"]["tuned"]["count"] else "") for line in leaked)]
    notes = form_notes(result, language)
    parts += ["", *notes] if notes else []
    parts += _failures(result, language)
    if against := prompt_sentence(result, language):
        parts += ["", against]
    return Group(*parts)


def _row(row: str, sittings: list[str], result: dict[str, Any], language: Language) -> list[RenderableType]:
    cells: list[RenderableType] = [say(f"form.measure.{row}", language)]
    for who in sittings:
        sitting = result["sittings"][who]
        cells.append(f"{sitting['intent'] if row == 'intent' else sitting['measures'][row]['share']:.0%}")
    outcome = result["changes"][row]["outcome"]
    return [*cells, Text(say(f"bench.outcome.{outcome}", language), style=COLOURS[outcome])]


def _outcome(result: dict[str, Any]) -> str:
    outcomes = {one["outcome"] for one in result["changes"].values()}
    return next((one for one in ("regressed", "improved", "inconclusive") if one in outcomes), "no_regression")


def _failures(result: dict[str, Any], language: Language) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for failure in result["failures"][:EXAMPLES]:
        lines += ["", Text(in_short(failure["question"]), style="bold"), in_short(failure["tuned"]) or "-",
                  Text(reasons(failure, language), style="yellow")]  # fmt: skip
    return ["", say("form.failures", language, n=len(result["failures"])), *lines] if lines else []
