"""`zao launch`: writes a job file for a cluster and explains it. The user submits it."""

from pathlib import Path, PurePosixPath

from xiaozao.cli.console import current_output
from xiaozao.cli.options import gather
from xiaozao.errors import EnvironmentProblem, UsageError
from xiaozao.launch.job import Job, quoted
from xiaozao.launch.targets import TARGETS
from xiaozao.spec.run import RunSpec

APART = ("output", "devices")  # said to torchrun, not as options of the run
LOCAL = ("model", "data", "validation", "questions")


def work(arguments: tuple[str, ...], on: str, nodes: int, file: str | None, force: bool, **flags: str | None) -> None:
    output = current_output()
    options = gather(arguments, flags)
    job = job_of(options, nodes)
    target = TARGETS[on]
    path = Path(file or f"{job.label}{target.suffix}").expanduser()
    write(path, target.write(job), force)
    submit = quoted(target.submit(str(path)))
    lines = [
        output.say("launch.wrote", path=path, nodes=nodes, devices=job.devices, total=nodes * job.devices),
        output.say(f"launch.change.{on}"),
        output.say("launch.storage", output=job.output),
        *(output.say("launch.relative", name=name, path=job.options[name]) for name in relative(job)),
        output.say("launch.submit", command=submit),
        output.say("launch.again", output=job.output),
    ]
    document = {"file": str(path), "target": on, "nodes": nodes, "devices": job.devices, "submit": submit}
    output.result("\n".join(lines), document, quiet=str(path))


def job_of(options: dict[str, object], nodes: int) -> Job:
    """The job that the options describe. Raises UsageError for invalid options, or if `output` is missing."""
    devices = RunSpec.from_options(options).train.devices
    spec = RunSpec.from_options({**options, "devices": nodes * devices})
    if spec.train.output is None:
        raise UsageError("launch_output")
    rest = {name: value for name, value in spec.options().items() if name in options and name not in APART}
    name = PurePosixPath(spec.train.output).name
    return Job(name, spec.train.output, rest, nodes, devices, spec.model.device != "cpu")


def relative(job: Job) -> list[str]:
    """The options that name a local file by a relative path, which would mean another file on a cluster."""
    given = {name: job.options[name] for name in LOCAL if isinstance(job.options.get(name), str)}
    return [name for name, value in given.items() if not Path(str(value)).is_absolute() and Path(str(value)).exists()]


def write(path: Path, text: str, force: bool) -> None:
    """Write a new file. Raises UsageError where there is one, EnvironmentProblem where it cannot be written."""
    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError("job_exists", path=path) from None
    except OSError as error:
        raise EnvironmentProblem("not_writable", path=path, detail=error.strerror) from None
