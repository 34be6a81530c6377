"""The verbs that take the options of a run. Each option becomes a flag, made from its field in spec/parts.py.

The other verbs, and flags that belong to no run, are declared in cli/declared.py.
"""

from collections.abc import Sequence

import click

from xiaozao.cli.declared import flag, later
from xiaozao.cli.options import RENAMED, spec_flags
from xiaozao.cli.verb import Verb, VerbGroup

TARGETS = ("slurm", "kubernetes", "skypilot")  # those of launch/targets.py
READING = ("format", "encoding", "columns", "assistant", "gap", "bad_rows")  # the options that say how a file is read
# Those that say how tokens are made.
WITH_MODEL = ("model", "source", "revision", "length", "system", "thinking", "template")
UNUSED = {"data", "base", "attention", "device"}  # of no concern to a check

TRAIN = Verb(
    "train", callback=later("train", "work"), params=[
        click.Argument(["arguments"], nargs=-1, metavar="CONFIG.yaml | key=value"),
        click.Option(["--resume"], metavar="RUN", help="cli.train.resume"),
        click.Option(["--from-config"], metavar="FILE", help="cli.train.from_config"),
        flag("--detach", "cli.train.detach"),
        flag("--dry-run", "cli.train.dry_run"),
        flag("--print-config", "cli.train.print_config"),
        *spec_flags(),
    ],
)  # fmt: skip

# Which program would do the run is asked of a plan alone; it is no option of a run.
PLAN = Verb(
    "plan", callback=later("plan", "work"), params=[
        click.Argument(["arguments"], nargs=-1, metavar="MODEL | CONFIG.yaml | key=value"),
        click.Option(["--engine"], type=click.Choice(["xiaozao", "hf"]), default="xiaozao", show_default=True,
                     help="cli.plan.engine"),
        *spec_flags(asked=("model",)),
    ],
)  # fmt: skip

LAUNCH = Verb(
    "launch", callback=later("launch", "work"), params=[
        click.Argument(["arguments"], nargs=-1, metavar="CONFIG.yaml | key=value"),
        click.Option(["--on"], type=click.Choice(list(TARGETS)), required=True, help="cli.launch.on"),
        click.Option(["--nodes"], type=click.IntRange(min=1), default=1, show_default=True, help="cli.launch.nodes"),
        click.Option(["--file"], metavar="FILE", help="cli.launch.file"),
        flag("--force", "cli.launch.force"),
        *spec_flags(),
    ],
)  # fmt: skip

DATA = VerbGroup("data")
DATA.add_command(
    Verb("check", callback=later("data", "check_file"), params=[
        click.Argument(["file"], metavar="FILE"),
        click.Argument(["arguments"], nargs=-1, metavar="CONFIG.yaml | key=value"),
        click.Option(["--report"], metavar="FILE.html", help="cli.data.check.report"),
        click.Option(["--fix"], metavar="OUT", help="cli.data.check.fix"),
        click.Option(["--drop"], metavar="KINDS", help="cli.data.check.drop"),
        click.Option(["--repair"], metavar="RULES", help="cli.data.check.repair"),
        flag("--pseudonymise", "cli.data.check.pseudonymise"),
        *(one for one in spec_flags(("model", "data"), asked=()) if one.name not in UNUSED),
        *(one for one in spec_flags(("evaluate",), asked=()) if one.name == "questions"),
    ])
)  # fmt: skip

SHARE = "0.1|10%|50"
FORMATS = ("messages", "sharegpt", "alpaca", "openai")  # those of data/writing.py


def _reads(*more: click.Option, names: Sequence[str] = READING) -> list[click.Parameter]:
    """The parameters of a verb that reads a data file. names: the options of a run among them."""
    wanted = {"--" + RENAMED.get(name, name).replace("_", "-") for name in names}
    return [
        click.Argument(["file"], metavar="FILE"),
        click.Argument(["arguments"], nargs=-1, metavar="key=value"),
        *more,
        *(flag for flag in spec_flags(("model", "data"), asked=()) if wanted & set(flag.opts)),
    ]


DATA.add_command(
    Verb("split", callback=later("divide", "split_file"), params=_reads(
        click.Option(["--out"], metavar="FOLDER", required=True, help="cli.data.split.out"),
        click.Option(["--train", "train"], metavar=SHARE, help="cli.data.split.train"),
        click.Option(["--validation", "validation"], metavar=SHARE, help="cli.data.split.validation",
                     show_default="0.1"),
        click.Option(["--questions", "questions"], metavar=SHARE, help="cli.data.split.questions",
                     show_default="50"),
        click.Option(["--by", "by"], metavar="FIELD", help="cli.data.split.by"),
        click.Option(["--seed", "seed"], metavar="N", help="cli.data.split.seed",
                     show_default="0"),
    ))
)  # fmt: skip
DATA.add_command(
    Verb("convert", callback=later("rewrite", "convert_file"), params=[
        click.Argument(["file"], metavar="FILE"),
        click.Argument(["out"], metavar="OUT"),
        *_reads(click.Option(["--to"], type=click.Choice(FORMATS), required=True, help="cli.data.convert.to"))[1:],
    ])
)  # fmt: skip
DATA.add_command(
    Verb("stats", callback=later("stats", "stats_of"), params=_reads(
        click.Option(["--plot"], metavar="FILE.png|svg", help="cli.data.stats.plot"),
        names=(*READING, *WITH_MODEL),
    ))
)  # fmt: skip
DATA.add_command(
    Verb("show", callback=later("show_row", "show"), params=_reads(
        click.Option(["--row"], metavar="N", required=True, help="cli.data.show.row"),
        names=(*READING, *WITH_MODEL, "truncation"),
    ))
)  # fmt: skip
