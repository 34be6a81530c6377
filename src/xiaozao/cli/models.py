"""`zao models`: which models are here, which would suit, fetching one, its path, removing it."""

from typing import Any

from rich.console import RenderableType
from rich.table import Table

from xiaozao.cli.console import Output, current_output
from xiaozao.errors import NotFound, UsageError
from xiaozao.hub.cached import CachedModel, cached_models, remove_model
from xiaozao.hub.folder import parameter_count, tensor_bytes
from xiaozao.hub.sources import resolve
from xiaozao.store.files import cache

SOURCES = ("auto", "hf", "modelscope", "local")


def typed(model: CachedModel) -> str:
    """The value of model= that selects this cached model."""
    return f"pypi:{model.name}" if model.origin == "pypi" else model.name


def document(model: CachedModel) -> dict[str, Any]:
    """A cached model for a program."""
    path = str(model.path) if model.path else None
    return {"name": typed(model), "origin": model.origin, "path": path, "bytes": model.bytes, "commit": model.commit}


def _listing(models: list[CachedModel], output: Output) -> RenderableType:
    if not models:
        return output.say("models.none")
    table = Table(box=None, pad_edge=False)
    for key in ("name", "origin", "size", "state"):
        table.add_column(output.say(f"models.{key}"), justify="right" if key == "size" else "left", overflow="fold")
    for model in models:
        state = output.say("models.whole" if model.path else "models.partial")
        table.add_row(typed(model), model.origin, f"{model.bytes / 1e9:.2f} GB", state)
    return table


def named(name: str) -> CachedModel:
    """The cached model of that name. Raises NotFound, or UsageError where two caches hold one."""
    matching = [
        one for one in cached_models(cache()) if name in (typed(one), f"{one.origin}:{one.name}", one.root.name)
    ]
    if not matching:
        raise NotFound("model_not_cached", name=name)
    if len(matching) > 1:
        raise UsageError("model_twice", name=name, names=", ".join(f"{one.origin}:{one.name}" for one in matching))
    return matching[0]


def ls() -> None:
    output = current_output()
    cached = cached_models(cache())
    output.result(
        _listing(cached, output), {"models": [document(one) for one in cached]}, "\n".join(map(typed, cached))
    )


def pull(model: str, source: str, revision: str | None) -> None:
    output = current_output()
    with output.stages() as report:
        folder = resolve(model, source, revision, cache(), report)
    count, size = parameter_count(folder.path), tensor_bytes(folder.path)
    where = {"name": folder.name, "origin": folder.origin, "path": str(folder.path), "commit": folder.commit}
    human = output.say(
        "models.pulled", name=model, path=folder.path, count=f"{count / 1e6:.1f}", size=f"{size / 1e9:.2f}"
    )
    output.result(human, {**where, "parameters": count, "bytes": size}, str(folder.path))


def path(model: str) -> None:
    output = current_output()
    with output.stages() as report:
        folder = resolve(model, "auto", None, cache(), report, offline=True)
    output.result(str(folder.path), {"name": folder.name, "path": str(folder.path)}, str(folder.path))


def remove(model: str, dry_run: bool) -> None:
    output = current_output()
    cached = named(model)
    if not dry_run:
        if not output.confirm("models.remove", name=typed(cached), path=cached.root, size=f"{cached.bytes / 1e9:.2f}"):
            raise UsageError("not_confirmed", command=f"zao models rm {model} --yes")
        remove_model(cached, cache())
    key = "models.would_remove" if dry_run else "models.removed"
    human = output.say(key, name=typed(cached), path=cached.root, size=f"{cached.bytes / 1e9:.2f}")
    output.result(human, {"removed": not dry_run, "path": str(cached.root), "bytes": cached.bytes})
