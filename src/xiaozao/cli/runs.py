"""`zao runs`: what ran, how it stands, and what came of it; watched, stopped and removed in cli/control.py."""

import time

from rich.console import RenderableType
from rich.table import Table

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.summary import details, document, state_text
from xiaozao.store.runs import Summary, find_run, list_runs, rebuild, register, summarise
from xiaozao.texts.numbers import number


def _listing(summaries: list[Summary], output: Output) -> RenderableType:
    if not summaries:
        return output.say("runs.none")
    table = Table(box=None, pad_edge=False)
    for key in ("name", "state", "steps", "loss", "best", "started"):
        table.add_column(output.say(f"runs.{key}"), no_wrap=key != "name", overflow="fold")
    for one in summaries:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.started)) if one.started else "-"
        steps = f"{one.step}/{one.steps}" if one.steps else "-"
        table.add_row(
            one.name, state_text(one.state, output), steps, number(one.loss), number(one.best_validation_loss), started
        )
    return table


def ls() -> None:
    output = current_output()
    rebuild()  # a folder that was copied here is a run, too
    found = list_runs()
    output.result(_listing(found, output), {"runs": [document(one) for one in found]}, "\n".join(o.name for o in found))


def show_run(name: str) -> None:
    output = current_output()
    folder = find_run(name)
    register(folder.path)
    summary = summarise(folder)
    output.result(details(summary, output), document(summary), summary.path)
