"""The verbs of `zao` and the flags of each. This module imports no verb's work, so that `zao VERB --help` is fast.

The work of a verb is a function in a module of its own, which is imported when the verb is called. Verbs that take
the options of a run are declared in cli/asked.py, because importing the fields of a run takes time, too.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from xiaozao.cli.verb import Verb, VerbGroup

SOURCES = ("auto", "hf", "modelscope", "local")
JOBS = ("support", "extract", "classify", "write", "code", "reason")  # those of plan/suggestions.py
LENGTH = 2048  # the default of the option length


def later(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of xiaozao.cli.`module`, imported when it is called."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(f"xiaozao.cli.{module}"), name)(*arguments, **options)

    return call


def flag(name: str, key: str) -> click.Option:
    """An option that is on or off."""
    return click.Option([name], is_flag=True, help=key)


def number(name: str, kind: click.ParamType[Any], default: float, key: str) -> click.Option:
    """An option that is a number."""
    return click.Option([name], type=kind, default=default, show_default=True, help=key)


def run_name() -> click.Argument:
    """The argument RUN: the name or the folder of a run."""
    return click.Argument(["name"], metavar="RUN")


def asking() -> tuple[click.Option, ...]:
    """The options of every evaluation that asks a model, in a process of its own."""
    return (
        click.Option(["--threads"], type=click.IntRange(1), help="cli.eval.bench.threads"),
        click.Option(["--budget"], metavar="BYTES", help="cli.eval.bench.budget"),
        flag("--again", "cli.eval.bench.again"),
        flag("--detach", "cli.eval.bench.detach"),
        flag("--stop", "cli.eval.bench.stop"),
    )


def dry_run() -> click.Option:
    return flag("--dry-run", "cli.common.dry_run")


DEMO = Verb(
    "demo", callback=later("demo", "work"), params=[
        click.Option(["--data-language"], type=click.Choice(["en", "zh"]), default="en", show_default=True,
                     help="cli.demo.data"),
        click.Option(["--model"], metavar="MODEL", help="cli.demo.model"),
        click.Option(["--output"], metavar="FOLDER", help="cli.demo.output"),
        click.Option(["--rows"], type=click.IntRange(16, 600), help="cli.demo.rows"),
    ],
)  # fmt: skip

DOCTOR = Verb(
    "doctor", callback=later("doctor", "work"), params=[
        flag("--offline", "cli.doctor.offline"),
        number("--seconds", click.FloatRange(0.5, 60), 5.0, "cli.doctor.seconds"),
        flag("--selftest", "cli.doctor.selftest"),
    ],
)  # fmt: skip

DISK = Verb(
    "disk", callback=later("disk", "work"), params=[
        click.Option(["--free"], multiple=True, metavar="WHAT", help="cli.disk.free"), dry_run(),
    ],
)  # fmt: skip

UNINSTALL = Verb(
    "uninstall", callback=later("uninstall", "work"), params=[
        flag("--runs", "cli.uninstall.runs"), flag("--caches", "cli.uninstall.caches"), dry_run(),
    ],
)  # fmt: skip

CHAT = Verb(
    "chat", callback=later("chat", "work"), params=[
        click.Argument(["run"]),
        click.Option(["--ask"], metavar="TEXT", help="cli.chat.ask"),
        flag("--base", "cli.chat.base"),
        click.Option(["--system"], metavar="TEXT", help="cli.chat.system"),
        number("--max-tokens", click.IntRange(1), 256, "cli.chat.max_tokens"),
        number("--temperature", click.FloatRange(0), 0.0, "cli.chat.temperature"),
    ],
)  # fmt: skip

EXPORT = Verb(
    "export", callback=later("export", "work"), params=[
        click.Argument(["run"]),
        click.Option(["--to"], metavar="merged|gguf", default="merged", show_default=True, help="cli.export.to"),
        click.Option(["--type", "type_"], metavar="TYPE", help="cli.export.type"),
        click.Option(["--folder"], metavar="FOLDER", help="cli.export.folder"),
        click.Option(["--precision"], type=click.Choice(["bf16", "fp32"]), help="cli.export.precision"),
    ],
)  # fmt: skip

SUGGEST = Verb(
    "suggest", callback=later("suggest", "work"), params=[
        click.Option(["--job"], type=click.Choice(list(JOBS)), required=True, help="cli.models.suggest.job"),
        click.Option(["--language"], help="cli.models.suggest.language"),
        click.Option(["--budget"], help="option.budget"),
        click.Option(["--device"], type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True,
                     help="cli.models.suggest.device"),
        number("--length", click.IntRange(8), LENGTH, "cli.models.suggest.length"),
        click.Option(["--all", "all_"], is_flag=True, help="cli.models.suggest.all"),
    ],
)  # fmt: skip

MODELS = VerbGroup("models")
MODELS.add_command(Verb("ls", callback=later("models", "ls")))
MODELS.add_command(
    Verb("pull", callback=later("models", "pull"), params=[
        click.Argument(["model"]),
        click.Option(["--source"], type=click.Choice(SOURCES), default="auto", show_default=True, help="option.source"),
        click.Option(["--revision"], help="option.revision"),
    ])
)  # fmt: skip
MODELS.add_command(Verb("path", callback=later("models", "path"), params=[click.Argument(["model"])]))
MODELS.add_command(Verb("rm", callback=later("models", "remove"), params=[click.Argument(["model"]), dry_run()]))
MODELS.add_command(SUGGEST)

EVAL = VerbGroup("eval")
EVAL.add_command(
    Verb("bench", callback=later("eval_bench", "work"), params=[
        click.Argument(["run"]),
        click.Option(["--task"], metavar="NAME=FILE", multiple=True, help="cli.eval.bench.task"),
        click.Option(["--limit"], type=click.IntRange(1), help="cli.eval.bench.limit"),
        number("--margin", click.FloatRange(0.1, 50), 3.0, "cli.eval.bench.margin"),
        flag("--once", "cli.eval.bench.once"),
        *asking(),
    ])
)  # fmt: skip

EVAL.add_command(
    Verb("format", callback=later("eval_format", "work"), params=[
        click.Argument(["run"]),
        click.Option(["--questions"], metavar="FILE", help="cli.eval.format.questions"),
        click.Option(["--contract"], metavar="FILE", help="cli.eval.format.contract"),
        click.Option(["--write-contract"], metavar="FILE", help="cli.eval.format.write_contract"),
        click.Option(["--limit"], type=click.IntRange(1), help="cli.eval.format.limit"),
        number("--tokens", click.IntRange(1), 256, "cli.eval.format.tokens"),
        click.Option(["--system"], metavar="TEXT", help="cli.eval.format.system"),
        number("--examples", click.IntRange(0, 20), 5, "cli.eval.format.shots"),
        *asking(),
    ])
)  # fmt: skip

EVAL.add_command(
    Verb("report", callback=later("eval_report", "work"), params=[
        click.Argument(["run"]),
        click.Option(["--output", "file"], metavar="FILE.html", help="cli.eval.report.output"),
    ])
)  # fmt: skip

RUNS = VerbGroup("runs")
RUNS.add_command(Verb("ls", callback=later("runs", "ls")))
RUNS.add_command(Verb("show", callback=later("runs", "show_run"), params=[run_name()]))
RUNS.add_command(Verb("watch", callback=later("control", "watch_run"), params=[run_name()]))
RUNS.add_command(
    Verb("stop", callback=later("control", "stop_run"), params=[run_name(), flag("--now", "cli.runs.stop.now")])
)
RUNS.add_command(
    Verb("logs", callback=later("control", "show_logs"), params=[
        run_name(),
        number("--lines", click.IntRange(1), 40, "cli.runs.logs.lines"),
        flag("--follow", "cli.runs.logs.follow"),
    ])
)  # fmt: skip
RUNS.add_command(Verb("rm", callback=later("control", "remove"), params=[run_name(), dry_run()]))

EVAL.add_command(
    Verb("blind", callback=later("eval_blind", "blind"), params=[
        run_name(),
        click.Option(["--voter"], metavar="NAME", help="cli.eval.blind.voter"),
        click.Option(["--sheet"], metavar="OUT.html|csv", help="cli.eval.blind.sheet"),
        click.Option(["--read"], metavar="FILE", multiple=True, help="cli.eval.blind.read"),
        flag("--result", "cli.eval.blind.result"),
        flag("--reveal", "cli.eval.blind.reveal"),
        flag("--again", "cli.eval.blind.again"),
    ])
)  # fmt: skip
