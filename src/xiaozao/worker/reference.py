"""What an objective needs beside its data: the loss with its numbers, and the log-probabilities at the start.

An adapter that can be switched off gives the model that training began with back at any time. Where it cannot, all its
log-probabilities are computed before the first step and kept in the run folder, so that a resumed run has the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from xiaozao.data.prepare import PreparedData, Samples
from xiaozao.errors import ArtefactError
from xiaozao.events import Event, Progress
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder
from xiaozao.models.load import DTYPES
from xiaozao.models.precision import computing
from xiaozao.plan.lengths import order_of
from xiaozao.spec.fields import marked
from xiaozao.spec.objectives import BETAS
from xiaozao.spec.parts import BY_DEVICES, MethodSpec
from xiaozao.spec.run import RunSpec
from xiaozao.train.losses import LOSSES, Loss
from xiaozao.train.preference_losses import Preference, Strength
from xiaozao.train.ranks import ALONE, Ranks

NAME = "reference"


def loss_of(method: MethodSpec) -> Loss:
    """The loss of a resolved method."""
    beta = method.beta or BETAS.get(method.objective, 0.0)
    weights = method.desirable_weight, method.undesirable_weight
    return LOSSES[method.objective](Strength(beta, method.gamma or 0.0, method.label_smoothing, *weights))


def switches_off(method: MethodSpec) -> bool:
    """Whether the model that training began with comes back when the adapter is switched off.

    What trains whole does not; PiSSA's start does, but for the rounding of its base.
    """
    return method.method == "lora" and method.adapter != "pissa" and not method.also


def with_reference(
    data: PreparedData,
    loss: Loss,
    decoder: Decoder,
    spec: RunSpec,
    folder: Path,
    identity: Mapping[str, str],
    emit: Callable[[Event], object],
    ranks: Ranks = ALONE,
) -> PreparedData:
    """The data with the log-probabilities at the start, where the loss looks at them and the adapter does not say them.

    The decoder must be as it was loaded. They are read from `folder` if they lie there whole and for the same run, else
    computed and written there.
    """
    if not isinstance(loss, Preference) or not loss.referenced or switches_off(spec.method):
        return data
    parts = {"train": data.train, **({"validation": data.validation} if data.validation else {})}
    same = {name: value for name, value in identity.items() if name not in marked(BY_DEVICES)}
    values = _read(folder, same, parts)
    if ranks.sum(float(values is None))[0]:  # all or none: computing is done together
        values = _compute(parts, loss, decoder, spec, order_of(spec, data).size, emit, ranks)
        if ranks.is_first:
            checkpoint.write_folder(folder, {NAME: values}, {NAME: same})
    assert values is not None
    ready = {name: replace(one, reference=values[name].numpy()) for name, one in parts.items()}
    return replace(data, train=ready["train"], validation=ready.get("validation"))


def _compute(
    parts: Mapping[str, Samples],
    loss: Preference,
    decoder: Decoder,
    spec: RunSpec,
    size: int,
    emit: Callable[[Event], object],
    ranks: Ranks,
) -> dict[str, torch.Tensor]:
    with computing(decoder, DTYPES[spec.method.precision]):
        return {
            name: torch.from_numpy(
                loss.reference(decoder, one, size, ranks, lambda done, total: emit(Progress("reference", done, total)))
            )
            for name, one in parts.items()
        }


def _read(folder: Path, identity: Mapping[str, str], parts: Mapping[str, Samples]) -> dict[str, torch.Tensor] | None:
    """What lies in the folder, or None where it is not whole, or of other data or another model."""
    try:
        checkpoint.verify(folder)
        if checkpoint.read_document(folder, NAME) != dict(identity):
            return None
        tensors = checkpoint.read_tensors(folder, NAME)
    except ArtefactError:
        return None
    sequences = {name: len(one.offsets) - 1 for name, one in parts.items()}
    return tensors if {name: one.shape[1] for name, one in tensors.items()} == sequences else None
