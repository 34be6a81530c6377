"""A folder of safetensors -> a decoder in memory. Nothing of the folder is executed; see hub/folder.py."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.hub.folder import check_loadable, read_config, weight_files
from xiaozao.hub.jsonfile import shown, wrong
from xiaozao.machine.heap import give_back
from xiaozao.models.blocks import Decoder, view
from xiaozao.models.families import check
from xiaozao.models.layers.quantize import ready
from xiaozao.models.loading.architecture import FAILURES, architecture_of, reason, whole
from xiaozao.models.loading.paged import load_paged
from xiaozao.models.loading.streamed import load_streamed
from xiaozao.models.loading.whileloading import WhileLoadingConfig, stored
from xiaozao.spec.parts import ATTENTION

STORED_AS = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}
GENERATION = "generation_config.json"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def device_of(wanted: str) -> torch.device:
    """auto -> the GPU when this torch can use one. Raises EnvironmentProblem for cuda without one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("no_cuda", torch=torch.__version__)
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class InMemory:
    """All weights in memory, the frozen linear layers as `base` stores them.

    mapped: whether weights may be the file's own pages, which stay resident while any of them is in use.
    """

    base: str = "none"
    mapped: bool = True


@dataclass(frozen=True)
class Streamed:
    """The matrices of a frozen model stay on disk, in `folder` where they have to be converted (loading/stream.py)."""

    folder: Path
    base: str = "none"


@dataclass(frozen=True)
class Paged:
    """Matrices that learn lie in a file in `folder` (loading/trainstore.py)."""

    folder: Path
    base: str = "none"  # they are not quantised


Way = InMemory | Streamed | Paged


def load(
    folder: Path, weights: torch.dtype, device: torch.device, attention: str = "auto", way: Way = InMemory()
) -> Decoder:
    """The model in `folder`, its weights in `weights` and where `way` says, checked with numbers.

    Raises ArtefactError for files that are not safe to read, UnsupportedModel for an architecture transformers
    does not know, that its base does not suit, or whose logits we could not reproduce; EnvironmentProblem where its
    base needs a package that is missing.
    """
    kind = ATTENTION[device.type] if attention == "auto" else attention
    model = load_model(folder, weights, device, way)
    try:
        return check(view(model, kind))
    except UnsupportedModel as error:
        if way == InMemory() or isinstance(way, Paged) or not isinstance(error.__cause__, AttributeError):
            raise
        # A model that looks into its layers finds no plain weight there.
        detail = error.__cause__
        raise UnsupportedModel("base_layers", model=model.config.model_type, base=way.base, detail=detail) from detail


def load_model(folder: Path, weights: torch.dtype, device: torch.device, way: Way = InMemory()) -> PreTrainedModel:
    """The transformers model alone."""
    check_loadable(folder)
    disable_progress_bar()
    values = dict(read_config(folder).values)
    kind = values["model_type"]
    if (stored_as := values.pop("quantization_config", None)) is not None:
        raise UnsupportedModel("quantized", folder=folder, method=shown(stored_as.get("quant_method", ...)))
    ready(way.base)
    config = architecture_of(values)
    try:
        match way:
            case Paged():
                if device.type != "cpu":
                    raise UnsupportedModel("paged_device", device=device.type)
                return _with_generation(load_paged(folder, config, weights, way.folder), folder)
            case Streamed():
                with device:
                    model = load_streamed(folder, config, weights, device, way.base, way.folder)
                return _with_generation(model, folder)
            case InMemory():
                return _in_memory(folder, config, weights, device, way)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise UnsupportedModel("architecture", model=kind, detail=reason(error)) from error


def _in_memory(
    folder: Path, config: PreTrainedConfig, weights: torch.dtype, device: torch.device, way: InMemory
) -> PreTrainedModel:
    with torch.device(device):
        if way.base != "none" or (device.type == "cpu" and (not way.mapped or converts(folder, weights))):
            return _load_one_by_one(folder, config, weights, way.base)
        read: Any = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=weights, local_files_only=True, trust_remote_code=False,
            use_safetensors=True, attn_implementation="eager", output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
        return whole(folder, read)


def converts(folder: Path, weights: torch.dtype) -> bool:
    """Whether the files hold another type: then mapping them would keep all of it in the resident set for nothing."""
    with safe_open(weight_files(folder)[0], framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}
    return kinds != {STORED_AS[weights]}


def _load_one_by_one(folder: Path, config: PreTrainedConfig, weights: torch.dtype, base: str) -> PreTrainedModel:
    """As from_pretrained, but each tensor is read when its turn comes, and converted before the next."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)  # the class that fits the config, and the part it takes
    with ExitStack() as stack:
        read: Any = type(skeleton).from_pretrained(
            None, config=skeleton.config, state_dict=stored(folder, stack), dtype=weights,
            attn_implementation="eager", output_loading_info=True, ignore_mismatched_sizes=True,
            quantization_config=None if base == "none" else WhileLoadingConfig(base),
        )  # fmt: skip
    return _with_generation(whole(folder, read), folder)


def _with_generation(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """What from_pretrained reads beside the weights; the heap is given back."""
    if (folder / GENERATION).is_file() and model.can_generate():
        try:
            model.generation_config = GenerationConfig.from_pretrained(folder)
        except FAILURES as error:
            raise wrong(folder / GENERATION, "json", detail=reason(error)) from error
    give_back()
    return model
