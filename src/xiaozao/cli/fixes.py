"""`zao data check --fix OUT`: what was asked for, and what was done, for a person."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output
from xiaozao.data.checks import judges
from xiaozao.data.quality.fixing import Fixed, Wanted, check_target, fix, wanted
from xiaozao.errors import UsageError
from xiaozao.events import OnProgress
from xiaozao.spec.parts import DataSpec, data_files
from xiaozao.texts.catalogue import Language


@dataclass(frozen=True)
class Asked:
    """The flags of `zao data check` that are no options of a run."""

    report: Path | None
    out: Path | None
    wanted: Wanted


def asked_of(flags: Mapping[str, object]) -> Asked:
    """The flags, checked. Raises UsageError."""
    given = {name: str(flags[name]) for name in ("report", "fix", "drop", "repair") if flags.get(name)}
    pseudonymise = bool(flags.get("pseudonymise"))
    chosen = wanted(given.get("drop"), given.get("repair"), pseudonymise)
    if "fix" not in given and (chosen.drop or chosen.repair or pseudonymise):
        options = [f"--{name}" for name in ("drop", "repair", "pseudonymise") if flags.get(name)]
        raise UsageError("fix_needed", option=", ".join(options))
    paths = {name: Path(given[name]).expanduser().absolute() for name in ("report", "fix") if name in given}
    return Asked(paths.get("report"), paths.get("fix"), chosen)


def check_targets(asked: Asked, spec: DataSpec, overwrite: bool) -> None:
    """Refuse to overwrite before a file is read, which may take minutes. Raises UsageError."""
    for path in filter(None, (asked.report, asked.out)):
        for file in data_files(spec.data):
            check_target(Path(file), path, overwrite)


def repaired(
    spec: DataSpec, asked: Asked, questions: Path | None, tell: OnProgress, language: Language
) -> tuple[Fixed, DataSpec]:
    """Write the copy; gives what was done, and the options that read the copy."""
    assert asked.out is not None
    fixed = fix(spec, asked.out, replace(asked.wanted, language=language), True, tell, judges(spec, questions))
    return fixed, spec.model_copy(update={"data": fixed.path, "encoding": "auto"})


def fixed_view(fixed: Fixed, output: Output) -> RenderableType:
    """What was written, and how often each rule changed something."""
    table = Table.grid(padding=(0, 2))
    for rule, count in fixed.rules.most_common():
        table.add_row("", Text(output.say("fix.rule", rule=output.say(f"fixrule.{rule}"), count=f"{count:,}")))
    done = output.say(
        "fix.done",
        path=fixed.path,
        rows=f"{fixed.rows:,}",
        changed=f"{fixed.changed:,}",
        left=f"{fixed.left_out:,}",
    )
    return Group(Text(done, style="bold"), Text(output.say("fix.changes", path=fixed.changes)), table, Text(""))
