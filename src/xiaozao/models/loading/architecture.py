"""config.json -> the config object of transformers, proven by a skeleton: modules without a byte of weights.

A config that says what its architecture was not written for makes the constructors fail in any way that Python has.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from xiaozao.errors import UnsupportedModel
from xiaozao.hub.folder import CONFIG
from xiaozao.hub.jsonfile import wrong

# What an architecture may raise when it is built or called in a way that it was not written for.
FAILURES = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError, ArithmeticError,
            ImportError, OSError, StrictDataclassError)  # fmt: skip


def architecture_of(values: Mapping[str, Any]) -> PreTrainedConfig:
    """Raises UnsupportedModel with what the architecture said where no model can be built after the config."""
    rest = {name: value for name, value in values.items() if name != "model_type"}
    kind = str(values.get("model_type", ""))
    try:
        config = AutoConfig.for_model(kind, **rest)
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(config)
    except FAILURES as error:
        raise UnsupportedModel("architecture", model=kind, detail=reason(error)) from None
    return config


def whole(folder: Path, read: tuple[PreTrainedModel, Mapping[str, Any]]) -> PreTrainedModel:
    """The model of what `from_pretrained` gives with output_loading_info.

    Raises where transformers would go on with random numbers in place of weights that it did not find in the files, or
    not in the shape that config.json gives them: UnsupportedModel, ArtefactError.
    """
    model, info = read
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        raise wrong(folder / CONFIG, "config_shape", name=name, stored=list(stored), wanted=list(wanted))
    if missing := sorted(info["missing_keys"]):
        raise UnsupportedModel("weights_missing", count=len(missing), first=missing[0])
    return model


def reason(error: BaseException) -> str:
    """The message of an exception on one line, with the exception's name if the message alone is unclear."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, ValueError | StrictDataclassError) and text else f"{type(error).__name__}: {text}"
