"""The result of a run, for whoever answers with it: chat, evaluation, export."""

from xiaozao.errors import UsageError
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder
from xiaozao.store.runs import find_run


def trained(name: str) -> tuple[RunFolder, RunSpec]:
    """The folder and the options of a run that has a result.

    Raises NotFound, or UsageError if the run has not ended.
    """
    folder = find_run(name)
    if not folder.adapter.is_dir() and not folder.model.is_dir():
        raise UsageError("no_result", name=folder.name)
    return folder, options_of(folder)


def options_of(folder: RunFolder) -> RunSpec:
    """The options of a run, with every open one decided if it has begun."""
    path = folder.resolved if folder.resolved.is_file() else folder.spec
    return RunSpec.from_options(read_file(path))
