"""`zao runs ls | show`: the list of runs, and the facts of one. The other verbs of `zao runs` are in cli/control.py."""

import time

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.summary import details, document, state_text
from xiaozao.store.runs import Summary, find_run, list_runs, rebuild, register, summarise
from xiaozao.texts.numbers import number

COLUMNS = ("name", "state", "steps", "loss", "best", "started")
GIVE_WAY = ("started", "loss", "state", "best")  # in this order, where a screen is too narrow


def listing(summaries: list[Summary], output: Output) -> RenderableType:
    """A line per run. On a narrow screen columns give way, not names or digits."""
    if not summaries:
        return output.say("runs.none")
    rows = [_cells(one, output) for one in summaries]
    kept = [*COLUMNS]
    room = output.stdout.width
    for column in GIVE_WAY:
        if _width(rows, kept, output) > room and column == "state":
            rows = [{**cells, "state": cells["state"][:1]} for cells in rows]  # the sign alone
        elif _width(rows, kept, output) > room:
            kept.remove(column)
    table = Table(box=None, pad_edge=False)
    for key in kept:
        table.add_column(_heading(key, rows, output), no_wrap=key != "name", overflow="fold")
    for cells in rows:
        table.add_row(*(cells[key] for key in kept))
    return table


def _cells(summary: Summary, output: Output) -> dict[str, Text]:
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.started)) if summary.started else "-"
    return {
        "name": Text(summary.name), "state": state_text(summary.state, output),
        "steps": Text(f"{summary.step}/{summary.steps}" if summary.steps else "-"), "loss": Text(number(summary.loss)),
        "best": Text(number(summary.best_validation_loss)), "started": Text(started),
    }  # fmt: skip


def _heading(key: str, rows: list[dict[str, Text]], output: Output) -> str:
    """The heading of a column; none for a column of signs."""
    if key == "state" and all(len(cells["state"]) <= 1 for cells in rows):
        return ""
    return output.say("runs.best_short" if key == "best" else f"runs.{key}")


def _width(rows: list[dict[str, Text]], kept: list[str], output: Output) -> int:
    """The width of the table, with two spaces between columns."""
    widest = (max(cell_len(_heading(key, rows, output)), *(one[key].cell_len for one in rows)) for key in kept)
    return sum(widest) + 2 * (len(kept) - 1)


def ls() -> None:
    output = current_output()
    rebuild()  # a folder that was copied here is a run, too
    runs = list_runs()
    output.result(listing(runs, output), {"runs": [document(one) for one in runs]}, "\n".join(o.name for o in runs))


def show_run(name: str) -> None:
    output = current_output()
    folder = find_run(name)
    register(folder.path)
    summary = summarise(folder)
    output.result(details(summary, output), document(summary), summary.path)
