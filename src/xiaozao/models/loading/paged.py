"""Full training with the matrices in a file (trainstore.py): each is in memory only while it is used.

    load       a matrix is read, put into the file, and forgotten before the next is read
    forward    the block's matrices are asked for ahead of time; each leaves when its layer has answered
    backward   the layer needs it again; it leaves when it has moved (train/optim/engine.py)

Norms, biases and whatever else is no plain matrix stay in memory, and learn there.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer

from xiaozao.errors import UnsupportedModel
from xiaozao.hub.folder import tensors
from xiaozao.models.loading.architecture import whole
from xiaozao.models.loading.choice import block_of, check_ties, choose, kept_as_stored
from xiaozao.models.loading.stream import ReadAhead
from xiaozao.models.loading.trainstore import PAGE, PagedStore
from xiaozao.models.loading.whileloading import WhileLoading, WhileLoadingConfig, check_all_there, stored

METHOD = "xiaozao-paged"
STORES: WeakKeyDictionary[nn.Module, PagedStore] = WeakKeyDictionary()  # of the models that are there
STATES, WRITTEN = 8, 4  # bytes a parameter, at most: what an optimizer keeps there, and what is written at the end


def load_paged(folder: Path, config: PreTrainedConfig, weights: torch.dtype, live: Path) -> PreTrainedModel:
    """The transformers model of a folder, with its matrices in a file of `live`, in `weights`; all of it learns.

    Raises UnsupportedModel for a model whose weights transformers rearranges while it loads, EnvironmentProblem where
    the disk has too little room.
    """
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    if not _as_in_files(folder, skeleton):
        raise UnsupportedModel("paged_layout", model=config.model_type)
    check_ties(folder, skeleton)
    count, names = sum(one.count for one in tensors(folder).values()), len(list(skeleton.parameters()))
    needed = count * weights.itemsize
    capacity = needed + count * (STATES + WRITTEN) + 8 * names * PAGE
    store = PagedStore(live, capacity, needed)
    with ExitStack() as stack:
        read: Any = type(skeleton).from_pretrained(
            None, config=skeleton.config, state_dict=stored(folder, stack), dtype=weights,
            attn_implementation="eager", output_loading_info=True,
            ignore_mismatched_sizes=True, quantization_config=PagingConfig(store, weights),
        )  # fmt: skip
        model = whole(folder, read)
    return model


def _as_in_files(folder: Path, model: PreTrainedModel) -> bool:
    """Whether a model's weights have the names and the form of those in its files, so that they can be written so."""
    kept = kept_as_stored(model)
    return all(kept(name) for name in tensors(folder))


def paged_layers(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The modules whose matrices go into the file; of one matrix for both ends, the embedding."""
    chosen, embedding = choose(model), model.get_input_embeddings()
    yield from chosen.layers.items()
    for name, module in model.named_modules():
        own = module is embedding and isinstance(module, nn.Embedding)  # also one that scales what it gives
        if own or (name == chosen.head and not chosen.tied):
            yield name, module


def store_of(model: nn.Module) -> PagedStore | None:
    """The file that a model's matrices lie in, if they do."""
    return STORES.get(model)


@register_quantization_config(METHOD)
class PagingConfig(WhileLoadingConfig):
    """The configuration for `from_pretrained`: where to put the matrices, and in which dtype."""

    def __init__(self, store: PagedStore, dtype: torch.dtype) -> None:
        super().__init__("none")
        self.quant_method = cast(Any, METHOD)
        self.store, self.dtype = store, dtype


@register_quantizer(METHOD)
class Paging(WhileLoading):
    """The quantiser that transformers asks which tensors to convert: all that go into the file."""

    quantization_config: PagingConfig

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        self.taken, self.tied = dict(paged_layers(model)), choose(model).tied
        self.placed: dict[str, Tensor] = {}

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        check_all_there(self.taken, self.placed)
        for name, layer in self.taken.items():
            layer.weight = nn.Parameter(self.placed[name])
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        if self.tied and head is not None and embedding in self.taken.values():
            head.weight = embedding.weight
        STORES[model] = self.quantization_config.store
        _page(model, self.quantization_config.store, self.taken)
        HfQuantizer.remove_quantization_config(self, model)

    def keep(self, name: str, weight: Tensor) -> None:
        """Put one matrix into the file; it comes as (out, in)."""
        config = self.quantization_config
        own = weight.t() if isinstance(self.taken[name], Conv1D) else weight
        self.placed[name] = config.store.put(name, own.to(config.dtype))


def _page(model: PreTrainedModel, store: PagedStore, taken: dict[str, nn.Module]) -> None:
    """Release a layer's matrix after its forward, and read the block's matrices ahead when its first layer runs."""
    blocks = defaultdict(list)
    for name, layer in taken.items():
        if (region := store.of(cast(Tensor, layer.weight))) is not None:
            blocks[block_of(name)].append(region)
    ahead = ReadAhead(blocks)
    for name, layer in taken.items():
        number = block_of(name)
        layer.register_forward_pre_hook(lambda *_, number=number: ahead.visit(number))
        layer.register_forward_hook(lambda layer, *_: store.leave([layer.weight]))
