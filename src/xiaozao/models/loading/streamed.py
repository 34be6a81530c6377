"""A model whose matrices stay on disk: which ones, where they lie, and the model around them.

    base=none          in the model's own files, where transformers would take them from there as they are
    int8, nf4          in a folder of ours, made once (converted.py); also where transformers converts weights
                       while it loads (projections split, experts fused), and where they lie transposed

Everything else (norms, biases, routers, what has a forward of its own) is loaded as always.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from xiaozao.hub.folder import weight_files
from xiaozao.hub.tensorfile import read_header
from xiaozao.models.layers.linear import FrozenLinear, is_plain, put
from xiaozao.models.loading.architecture import whole
from xiaozao.models.loading.choice import Chosen, block_of, check_ties, choose, kept_as_stored
from xiaozao.models.loading.converted import read_folder, streamed_folder
from xiaozao.models.loading.mapped import DTYPES, Mapped
from xiaozao.models.loading.stream import Matrix, StreamedBase, StreamedEmbedding, read_ahead
from xiaozao.models.loading.stream import Plain as PlainMatrix
from xiaozao.models.loading.whileloading import Stored, stored

METHOD = "xiaozao-stream"
EMBEDDING = -2  # the block that it counts as: nobody's neighbour


def load_streamed(
    folder: Path, config: PreTrainedConfig, weights: torch.dtype, device: torch.device, base: str, cache: Path
) -> PreTrainedModel:
    """The transformers model of a folder, its matrices on disk. Norms and biases are held in `weights`.

    Raises UnsupportedModel, EnvironmentProblem, ArtefactError.
    """
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    chosen = choose(skeleton)
    check_ties(folder, skeleton)
    matrices = None if base != "none" else own_matrices(folder, skeleton, chosen)
    if matrices is not None:
        places, source = matrices, folder
    else:
        source = streamed_folder(folder, type(skeleton), skeleton.config, base, cache)
        places = read_folder(source)
    return around(type(skeleton), skeleton.config, places, source, weights, device)


def around(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    places: Mapping[str, Matrix],
    source: Path,
    weights: torch.dtype,
    device: torch.device,
) -> PreTrainedModel:
    """Load a model whose matrices are on disk; its other weights are read from the safetensors files in `source`."""
    with ExitStack() as stack:
        files = stored(source, stack)
        resident: dict[str, Stored | torch.Tensor] = {
            name: one for name, one in files.items() if name.removesuffix(".weight") not in places
        }
        resident |= {f"{name}.weight": torch.empty(0, dtype=weights) for name in places}
        read: Any = kind.from_pretrained(
            None, config=config, state_dict=resident, dtype=weights, attn_implementation="eager",
            output_loading_info=True, ignore_mismatched_sizes=True,
            quantization_config=StreamingConfig(places, weights, device),
        )  # fmt: skip
        model = whole(source, read)
    read_ahead(model)
    return model


def put_streamed(
    model: PreTrainedModel, chosen: Chosen, places: Mapping[str, Matrix], weights: torch.dtype, device: torch.device
) -> None:
    """Replace the chosen modules by ones that read their matrices from disk; their outputs have the dtype `weights`."""
    for name, layer in chosen.layers.items():
        base = StreamedBase(places[name], weights, device, block_of(name))
        put(model, name, FrozenLinear(base, layer.bias, isinstance(layer, Conv1D)))
    _put_ends(model, chosen, places, weights, device)


def _put_ends(
    model: PreTrainedModel, chosen: Chosen, places: Mapping[str, Matrix], weights: torch.dtype, device: torch.device
) -> None:
    """Embedding and head, which may be one matrix."""
    ends = [name for name in (chosen.embedding, chosen.head) if name is not None]
    sources = {name: name if name in places else next(one for one in ends if one in places) for name in ends}
    blocks = 1 + max((block_of(name) for name in chosen.layers), default=0)
    bases = {name: StreamedBase(places[name], weights, device, EMBEDDING) for name in sources.values()}
    if chosen.head is not None:
        bases[sources[chosen.head]].block = blocks
        head = model.get_submodule(chosen.head)
        assert is_plain(head)
        put(model, chosen.head, FrozenLinear(bases[sources[chosen.head]], head.bias))
    if chosen.embedding is not None:
        matrix = places[sources[chosen.embedding]]
        assert isinstance(matrix, PlainMatrix)
        put(model, chosen.embedding, StreamedEmbedding(bases[sources[chosen.embedding]], matrix.weight, weights))
    gone = {f"{name}.weight" for name in ends}
    tied = model.all_tied_weights_keys
    model.all_tied_weights_keys = {one: other for one, other in tied.items() if not {one, other} & gone}


def own_matrices(folder: Path, model: PreTrainedModel, chosen: Chosen) -> dict[str, Matrix] | None:
    """Where the matrices lie in the model's own files; None unless all are there as the model holds them."""
    headers = {name: (path, one) for path in weight_files(folder) for name, one in read_header(path).items()}
    kept, state = kept_as_stored(model), model.state_dict()
    matrices: dict[str, Matrix] = {}
    ends = {chosen.embedding, chosen.head} if chosen.tied else set()
    for module in [*chosen.names, *([chosen.head] if chosen.tied and chosen.head else [])]:
        name = f"{module}.weight"
        if name not in headers:
            if module in ends:
                continue  # the other end has it
            return None
        path, entry = headers[name]
        if not kept(name) or tuple(state[name].shape) != entry.shape:
            return None
        if entry.dtype not in DTYPES or isinstance(model.get_submodule(module), Conv1D):
            return None
        matrices[module] = PlainMatrix(Mapped.of(path, entry))
    return matrices if not ends or ends & matrices.keys() else None


@register_quantization_config(METHOD)
class StreamingConfig(QuantizationConfigMixin):
    """The configuration for `from_pretrained`: the place of each matrix on disk, by the name of its module."""

    def __init__(self, places: Mapping[str, Matrix], dtype: torch.dtype, device: torch.device) -> None:
        self.quant_method = cast(Any, METHOD)  # transformers lists its own methods alone
        self.places, self.dtype, self.device = places, dtype, device


@register_quantizer(METHOD)
class Streaming(HfQuantizer):
    """Puts streamed modules into the skeleton before anything is loaded into it."""

    quantization_config: StreamingConfig

    @property
    def is_trainable(self) -> bool:
        return True

    def is_serializable(self) -> bool:
        return False

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        """Until all else is loaded, an empty weight stands where there will be none."""
        self.chosen = choose(model)
        for name in {*self.chosen.names, *([self.chosen.head] if self.chosen.head else [])}:
            model.get_submodule(name).weight = nn.Parameter(torch.empty(0, device="meta"), requires_grad=False)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        config = self.quantization_config
        put_streamed(model, self.chosen, config.places, config.dtype, config.device)
        HfQuantizer.remove_quantization_config(self, model)
