"""A folder of safetensors -> a decoder in memory. Nothing of the folder is executed; see hub/folder.py."""

from contextlib import ExitStack
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


def load(
    folder: Path,
    weights: torch.dtype,
    device: torch.device,
    attention: str = "auto",
    base: str = "none",
    streams: Path | None = None,
    live: Path | None = None,
    mapped: bool = True,
) -> Decoder:
    """The model in `folder`, its weights in `weights` and its linear layers stored as `base`, checked with numbers.

    streams: where matrices are converted to that then stay on disk (loading/stream.py); None holds all in memory.
    live: where matrices lie that stay on disk and learn (models/loading/trainstore.py); then `base` must be none.
    mapped: whether weights may be the file's own pages, which stay resident while any of them is in use.

    Raises ArtefactError for files that are not safe to read, UnsupportedModel for an architecture transformers
    does not know, that `base` does not suit, or whose logits we could not reproduce; EnvironmentProblem where `base`
    needs a package that is missing.
    """
    kind = ATTENTION[device.type] if attention == "auto" else attention
    model = load_model(folder, weights, device, base, streams, live, mapped)
    try:
        return check(view(model, kind))
    except UnsupportedModel as error:
        if (base == "none" and streams is None) or not isinstance(error.__cause__, AttributeError):
            raise
        # A model that looks into its layers finds no plain weight there.
        detail = error.__cause__
        raise UnsupportedModel("base_layers", model=model.config.model_type, base=base, detail=detail) from detail


def load_model(
    folder: Path,
    weights: torch.dtype,
    device: torch.device,
    base: str = "none",
    streams: Path | None = None,
    live: Path | None = None,
    mapped: bool = True,
) -> PreTrainedModel:
    """The transformers model alone."""
    check_loadable(folder)
    disable_progress_bar()
    values = dict(read_config(folder).values)
    kind = values["model_type"]
    if (stored_as := values.pop("quantization_config", None)) is not None:
        raise UnsupportedModel("quantized", folder=folder, method=shown(stored_as.get("quant_method", ...)))
    ready(base)
    config = architecture_of(values)
    try:
        if live is not None:
            if device.type != "cpu":
                raise UnsupportedModel("paged_device", device=device.type)
            return _with_generation(load_paged(folder, config, weights, live), folder)
        if streams is not None:
            return _load_streamed(folder, config, weights, device, base, streams)
        with torch.device(device):
            if base != "none" or (device.type == "cpu" and (not mapped or converts(folder, weights))):
                return _load_one_by_one(folder, config, weights, base)
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=weights, local_files_only=True, trust_remote_code=False,
                use_safetensors=True, attn_implementation="eager", output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
            model: PreTrainedModel = whole(folder, read)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise UnsupportedModel("architecture", model=kind, detail=reason(error)) from error
    return model


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


def _load_streamed(
    folder: Path, config: PreTrainedConfig, weights: torch.dtype, device: torch.device, base: str, streams: Path
) -> PreTrainedModel:
    with device:
        model = load_streamed(folder, config, weights, device, base, streams)
    return _with_generation(model, folder)
