"""The optimizers by name.

A new one is a rule (rules.py, lowrank.py) and an entry in OPTIMIZERS; engine.py is shared by all.

name          states, bytes per parameter            for
adamw         8                                      lora, full
adamw8bit     2                                      lora, full
adafactor     about 0: a row and a column a matrix   lora, full
apollo-mini   about 0: two columns a matrix          full
galore        8 r / short side, and the projector    full
badam         8, of one block; so are gradients      full
"""

from collections.abc import Callable
from importlib.util import find_spec

from torch import nn

from xiaozao.errors import EnvironmentProblem
from xiaozao.models.layers.quantize import CPU
from xiaozao.train.optim.by_blocks import ByBlocks
from xiaozao.train.optim.eightbit import table
from xiaozao.train.optim.engine import Optimizer, Options
from xiaozao.train.optim.lowrank import Apollo, GaLore
from xiaozao.train.optim.rules import Adafactor, AdamW, AdamW8bit

Parameters = dict[str, nn.Parameter]


def _adamw(parameters: Parameters, options: Options) -> Optimizer:
    return Optimizer(parameters, AdamW(), options)


def _adamw8bit(parameters: Parameters, options: Options) -> Optimizer:
    ready("adamw8bit")
    return Optimizer(parameters, AdamW8bit(), options)


def _adafactor(parameters: Parameters, options: Options) -> Optimizer:
    return Optimizer(parameters, Adafactor(), options)


def _apollo(parameters: Parameters, options: Options) -> Optimizer:
    return Optimizer(parameters, Apollo(options.every, options.seed), options)


def _galore(parameters: Parameters, options: Options) -> Optimizer:
    return Optimizer(parameters, GaLore(options.rank, options.every), options)


def _badam(parameters: Parameters, options: Options) -> Optimizer:
    return ByBlocks(parameters, AdamW(), options)


OPTIMIZERS: dict[str, Callable[[Parameters, Options], Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
    "apollo-mini": _apollo,
    "galore": _galore,
    "badam": _badam,
}


def ready(optimizer: str) -> None:
    """Import and build what an optimizer needs, before anything large is loaded or fake tensors are in use.

    Raises EnvironmentProblem if a package is missing.
    """
    if optimizer == "adamw8bit":
        if find_spec("bitsandbytes") is None:
            raise EnvironmentProblem("no_bitsandbytes_optimizer")
        for signed in (True, False):
            table(CPU, signed)
