"""`zao doctor`: what is wrong with this machine, and the command that mends each thing."""

import json
import subprocess
import sys
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.doctor_checks import Check, check_machine
from xiaozao.runs.launch import environment
from xiaozao.texts.catalogue import Language, has, say

SIGNS = {"ok": ("✔", "+", "green"), "warn": ("!", "!", "yellow"), "bad": ("✖", "X", "red")}
ENVIRONMENT = 9


def what(check: Check, language: Language) -> str:
    """The sentence of a check."""
    return say(f"doctor.{check.key}", language, **check.params)


def fix(check: Check, language: Language) -> str:
    """The command that mends it; empty where nothing is to be done."""
    key = f"doctor.{check.key}.fix"
    return say(key, language, **check.params) if has(key) else ""


def _table(checks: list[Check], output: Output) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        sign, plain, style = SIGNS[check.state]
        table.add_row(
            Text(sign if output.unicode else plain, style=style), output.say(f"doctor.name.{check.name}"),
            Text(what(check, output.language), overflow="fold"),
        )  # fmt: skip
    fixes: dict[str, list[str]] = {}  # what is mended alike is said once
    for check in checks:
        if check.state != "ok" and (mend := fix(check, output.language)):
            fixes.setdefault(mend, []).append(output.say(f"doctor.name.{check.name}"))
    if not fixes:
        return Group(table, Text(output.say("doctor.well")))
    lines = [f"  {', '.join(names)}: {mend}" for mend, names in fixes.items()]
    return Group(table, Text(), Text(output.say("doctor.fixes")), Text("\n".join(lines)))


def try_engine(output: Output) -> int:
    """Run the self-test of the engine in a process of its own and show each comparison."""
    rows: list[dict[str, Any]] = []
    words = [sys.executable, "-P", "-m", "xiaozao.measure.selftest"]
    with output.stages() as report:
        report("selftest", 0, 0)
        with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
            for line in process.stdout or ():
                rows.append(json.loads(line))
                report("selftest", len(rows), 0)
    well = process.returncode == 0 and bool(rows) and all(row["passed"] for row in rows)
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "device", "precision", "measured", "bound", "seconds"):
        table.add_column(output.say(f"doctor.selftest.{heading}"))
    for row in rows:
        sign, plain, style = SIGNS["ok" if row["passed"] else "bad"]
        name = Text(f"{sign if output.unicode else plain} {output.say('doctor.selftest.' + row['name'])}", style=style)
        numbers = f"{row['measured']:.2g}", f"{row['bound']:.2g}", f"{row['seconds']:.1f}"
        table.add_row(name, row["device"], row["precision"], *numbers)
    details = [row["detail"] for row in rows if row["detail"]]
    verdict = output.say("doctor.selftest.well" if well else "doctor.selftest.bad")
    output.result(Group(table, Text("\n".join([*details, verdict]))), {"ok": well, "checks": rows}, str(well).lower())
    return 0 if well else ENVIRONMENT


def work(offline: bool, seconds: float, selftest: bool) -> int:
    output = current_output()
    if selftest:
        return try_engine(output)
    checks = check_machine(offline, seconds)
    well = all(check.state != "bad" for check in checks)
    rows = [{"check": one.name, "state": one.state, "key": one.key, "what": what(one, output.language),
             "fix": fix(one, output.language) if one.state != "ok" else "", "params": one.params}
            for one in checks]  # fmt: skip
    output.result(_table(checks, output), {"ok": well, "checks": rows}, "ok" if well else "bad")
    return 0 if well else ENVIRONMENT
