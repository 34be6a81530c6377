"""Weights are quantised as they are read, one tensor at a time, through the seam that transformers has for it.

    file -> one tensor -> transformers' own conversion (experts fused, projections split) -> codes -> the next

So the model is never whole in 16 bits, and every family loads with the conversions it needs. The linear layers of the
blocks are quantised; embedding, norms, head and routers stay in the compute dtype. A model most of whose weights are
no linear layers (experts fused into one tensor) is refused: it would not become small.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module
from transformers.utils.quantization_config import QuantizationConfigMixin

from xiaozao.errors import UnsupportedModel
from xiaozao.hub.folder import weight_files
from xiaozao.machine.heap import give_back
from xiaozao.models.layers.linear import FrozenLinear, is_plain, is_router, put
from xiaozao.models.layers.quantize import BASES, Int8Base, Nf4Base

METHOD = "xiaozao"
BYTES = {"int8": 1.0, "nf4": 0.516}
ENOUGH = 0.5  # of the weights of the blocks
WAITING = 1 << 24  # bytes that glibc may keep before they are asked back


@register_quantization_config(METHOD)
class WhileLoadingConfig(QuantizationConfigMixin):
    """The configuration for `from_pretrained`: the name of a base."""

    def __init__(self, base: str) -> None:
        self.quant_method = cast(Any, METHOD)  # transformers lists its own methods alone
        self.base = base


@register_quantizer(METHOD)
class WhileLoading(HfQuantizer):
    """The quantiser that transformers asks which tensors to convert, and into what."""

    quantization_config: WhileLoadingConfig

    def __init__(self, quantization_config: WhileLoadingConfig, pre_quantized: bool = False) -> None:
        super().__init__(quantization_config, pre_quantized=pre_quantized)
        self.taken: dict[str, nn.Module] = {}  # the modules whose weights are converted
        self.made: dict[str, Int8Base | Nf4Base] = {}
        self.waiting = 0  # bytes

    @property
    def quantized_element_size(self) -> float:
        return BYTES[self.quantization_config.base]

    @property
    def is_trainable(self) -> bool:
        return True

    def is_serializable(self) -> bool:
        return False

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: object) -> bool:
        return param_name.endswith(".weight") and param_name.removesuffix(".weight") in self.taken

    def get_quantize_ops(self) -> ConversionOps:
        return _Take(self)

    def freed(self, size: int) -> None:
        """Weights of `size` bytes became codes. glibc would keep what they took: 2.5 times as much as they leave."""
        self.waiting += size
        if self.waiting > WAITING:
            self.waiting = 0
            give_back()

    def keep(self, name: str, weight: Tensor) -> None:
        """Take the matrix (out, in) of a module; the base it becomes waits for the end of the load."""
        self.made[name] = BASES[self.quantization_config.base](weight)

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        kept = self.get_modules_to_not_convert(model, None, list(model._keep_in_fp32_modules or ()))
        layers: dict[str, nn.Module] = {
            name: one
            for name, one in model.named_modules()
            if is_plain(one) and not is_router(name) and should_convert_module(name, kept)
        }
        check_share(model, layers, self.quantization_config.base)
        self.taken = layers

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: object) -> None:
        check_all_there(self.taken, self.made)
        for name, base in self.made.items():
            layer = self.taken[name]
            bias = layer.get_parameter("bias") if getattr(layer, "bias", None) is not None else None
            put(model, name, FrozenLinear(base, bias, isinstance(layer, Conv1D)))
        HfQuantizer.remove_quantization_config(self, model)
        self.taken, self.made = {}, {}


class _Take(ConversionOps):
    """A weight -> what `keep` makes of it."""

    def __init__(self, loading: WhileLoading) -> None:
        self.loading = loading

    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str] | None = None,
        target_patterns: list[str] | None = None,
        **_: object,
    ) -> dict[str, Any]:
        """{name: tensor} -> {name: what the module's `weight` is meanwhile}."""
        converted = {}
        for name, value in input_dict.items():
            weight: Tensor = value[0] if isinstance(value, list) else value
            module = name.removesuffix(".weight")
            if module not in self.loading.taken:
                converted[name] = weight
                continue
            transposed = isinstance(self.loading.taken[module], Conv1D)
            self.loading.keep(module, weight.t().contiguous() if transposed else weight)
            converted[name] = weight.new_empty(0)  # the weight itself would be kept until the end of the load
            self.loading.freed(weight.nbytes)
        return converted


def check_all_there(taken: Mapping[str, nn.Module], done: Mapping[str, object]) -> None:
    """Raise UnsupportedModel where a module's weight was not among those that were read."""
    missing = sorted(taken.keys() - done.keys())
    if missing:
        raise UnsupportedModel("weights_missing", count=len(missing), first=missing[0])


def check_share(model: nn.Module, layers: Mapping[str, nn.Module], base: str) -> None:
    """Raise UnsupportedModel where the linear layers are the smaller part of the blocks' weights."""
    embeddings = {f"{name}.weight" for name, one in model.named_modules() if isinstance(one, nn.Embedding)}
    heads = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    counted = {
        name: one.numel()
        for name, one in model.named_parameters()
        if name not in embeddings and (heads is None or one is not heads.weight)
    }
    rest = {name: size for name, size in counted.items() if name.removesuffix(".weight") not in layers}
    everything, other = sum(counted.values()), sum(rest.values())
    if everything - other < ENOUGH * everything:
        share, first = (everything - other) / everything, max(rest, key=lambda name: rest[name])
        raise UnsupportedModel("base_share", base=base, share=f"{share:.0%}", first=first)


class Stored:
    """A tensor in a file, read when it is indexed; transformers asks for `tensor[...]`.

    A slice of safetensors would do, but reading one takes twice its bytes.
    """

    def __init__(self, file: Any, name: str) -> None:
        self.file, self.name = file, name

    def __getitem__(self, everything: object) -> Tensor:
        tensor: Tensor = self.file.get_tensor(self.name)
        return tensor


def stored(folder: Path, stack: ExitStack) -> dict[str, Stored]:
    """The tensors of a model folder, none of them read yet; its files are open until the stack is closed.

    Read rather than mapped: the pages of a mapped file count in the resident set, and it would grow to the whole file.
    """
    by_name: dict[str, Stored] = {}
    for path in weight_files(folder):
        file = stack.enter_context(safe_open(path, framework="pt", backend="pread"))
        by_name |= {name: Stored(file, name) for name in file.keys()}
    return by_name
