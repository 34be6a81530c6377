"""How the models of a finished run are opened: the base fetched, and the result as it was trained."""

from xiaozao.events import OnProgress
from xiaozao.hub.sources import resolve
from xiaozao.models.load import device_of
from xiaozao.models.result import Trained
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder, cache


def find_trained(folder: RunFolder, spec: RunSpec, report: OnProgress) -> Trained:
    """The base model, fetched where it is not there, and the result of a run, as they are opened."""
    source = resolve(spec.model.model, spec.model.source, spec.model.revision, cache(), report)
    whole = folder.model.is_dir()
    return Trained(
        base=source.path,
        result=folder.model if whole else folder.adapter,
        whole=whole,
        precision=spec.method.precision,
        stored=spec.model.base,
        device=device_of(spec.model.device),
        streams=cache() / "streams" if spec.model.stream == "disk" else None,
    )
