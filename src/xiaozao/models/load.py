"""A folder of safetensors -> a decoder in memory. Nothing of the folder is executed; see models/config.py."""

import hashlib
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.models.blocks import Decoder, check, view
from xiaozao.models.config import check_folder, read_config

ATTENTION = {"cpu": "batched", "cuda": "sdpa"}  # the fastest on each
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def device_of(wanted: str) -> torch.device:
    """auto -> the GPU when this torch can use one. Raises EnvironmentProblem for cuda without one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("no_cuda", torch=torch.__version__)
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def load(folder: Path, weights: torch.dtype, device: torch.device, attention: str = "auto") -> Decoder:
    """The model in `folder`, its weights in `weights`, checked with numbers.

    Raises ArtefactError for files that are not safe to read, UnsupportedModel for an architecture transformers
    does not know or whose logits we could not reproduce.
    """
    kind = ATTENTION[device.type] if attention == "auto" else attention
    return check(view(load_model(folder, weights, device), kind))


def load_model(folder: Path, weights: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The transformers model alone."""
    check_folder(folder)
    disable_progress_bar()
    values = dict(read_config(folder).values)
    kind = values.pop("model_type", "")
    if "quantization_config" in values:
        raise UnsupportedModel("quantized", folder=folder, method=values["quantization_config"].get("quant_method"))
    try:
        config = AutoConfig.for_model(kind, **values)
        with torch.device(device):
            model = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=weights, local_files_only=True, trust_remote_code=False,
                use_safetensors=True, attn_implementation="sdpa",
            )  # fmt: skip
    except ValueError as error:
        raise UnsupportedModel("architecture", model=kind, detail=str(error).splitlines()[0]) from None
    return model


def weights_hash(folder: Path) -> str:
    """The SHA-256 over all weight files of a model folder, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
