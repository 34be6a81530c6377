"""config.json -> the config object of transformers, proven by a skeleton: modules without a byte of weights.

A config that says what its architecture was not written for makes the constructors fail in any way that Python has.
"""

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from xiaozao.errors import UnsupportedModel

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


def reason(error: BaseException) -> str:
    """What an exception says, on one line; with its name where it is not meant to be read."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, ValueError | StrictDataclassError) and text else f"{type(error).__name__}: {text}"
