"""The common part of all optimizers: parameters by name, their states, and the update of a weight by its gradient.

    rule       one parameter: (value, gradient, state, rate) -> value and state changed in place
    Optimizer  all parameters: when, with which rate, in which precision, how it is saved

Parameters are updated one by one and know nothing of each other, so that an update can also happen in the middle of
backward (train/update.py). Weights in bf16 are moved in fp32, a piece at a time, and rounded at random
(models/layers/rounding.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from xiaozao.models.layers.rounding import generator, round_into
from xiaozao.models.loading.trainstore import PagedStore
from xiaozao.train.ranks import cut, joined, made_whole

CHUNK = 1 << 20  # elements moved at a time where a copy in fp32 is needed; a multiple of the 8-bit states' blocks
State = dict[str, Tensor]


@dataclass(frozen=True)
class Options:
    """The options of an optimizer. `factors` multiply the learning rate of the parameters they name."""

    weight_decay: float = 0.0
    seed: int = 0
    factors: Mapping[str, float] = field(default_factory=dict)
    rank: int = 128  # of a projection of the gradient
    every: int = 200  # steps until the projection, or the block that learns, changes
    store: PagedStore | None = None  # where parameters lie that are not in memory; their states lie there too


@dataclass(frozen=True)
class Slot:
    """One parameter in an update: its name, its value in fp32 or fp64, gradient and state, and how often it moved."""

    name: str
    value: Tensor
    grad: Tensor
    state: State
    count: int  # with this update


class Rule:
    """The update rule of a parameter. Weight decay is decoupled: value *= 1 - rate * decay."""

    elementwise = False  # whether elements move without looking at each other, so that a piece can move alone
    sharded = False  # whether that holds for a rank's rows too, and the states have the parameter's own shape

    def start(self, name: str, value: Tensor) -> State:
        """The state before the first update; `value` says shape and device."""
        raise NotImplementedError

    def apply(self, slots: Sequence[Slot], rate: float, decay: float) -> None:
        """Move values and states in place."""
        raise NotImplementedError

    def part(self, state: State, start: int, end: int) -> State:
        """The state of elements start:end of the flat parameter, as views."""
        raise NotImplementedError


class Optimizer:
    """Named parameters and a rule. `parameters` may be fp32, or bf16, which is rounded stochastically."""

    def __init__(self, parameters: dict[str, nn.Parameter], rule: Rule, options: Options) -> None:
        self.parameters, self.rule, self.options = parameters, rule, options
        self.states: dict[str, State] = {}
        self.counts: dict[str, int] = {}
        self.at = 0

    def begin(self, step: int) -> None:
        """Say which step of the run comes next, before its forward pass."""
        self.at = step

    def step(self, rate: float) -> None:
        """One update of all that have a gradient; gradients are dropped."""
        self.update([name for name, one in self.parameters.items() if one.grad is not None], rate)
        self.at += 1

    def update(self, names: Sequence[str], rate: float) -> None:
        """Update these parameters and drop their gradients.

        In no precision but theirs, though an update in the middle of backward meets the autocast of the forward pass.
        """
        device = next(iter(self.parameters.values())).device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            self._move(names, rate)

    def _move(self, names: Sequence[str], rate: float) -> None:
        direct: dict[float, list[Slot]] = {}
        for name in names:
            factor = self.options.factors.get(name, 1.0)
            if self._gathers(name):
                self._update_whole(name, rate * factor)
            elif self.parameters[name].dtype == torch.bfloat16:
                self._update_rounded(self._slot(name), rate * factor)
            elif self.rule.elementwise and self._away(name):
                self._update_in_pieces(self._slot(name), rate * factor)
            else:
                direct.setdefault(factor, []).append(self._slot(name))
        for factor, slots in direct.items():
            self.rule.apply(slots, rate * factor, self.options.weight_decay)
        for name in names:
            self.parameters[name].grad = None
            self._leave(self.parameters[name], *self.states[name].values())

    def heavy_turns(self) -> list[int]:
        """Steps among which is the one that needs most memory.

        Only the first if all steps update the same parameters.
        """
        return [0]

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the states that the first update would make, for the parameters that train now."""
        for name, parameter in self.parameters.items():
            if parameter.requires_grad and name not in self.states:
                value = made_whole(parameter.detach()) if self._gathers(name) else local(parameter.detach())
                self._start(name, value)

    def release(self) -> None:
        """Drop the states: training is over or begins anew."""
        self.states.clear()
        self.counts.clear()

    def state(self) -> dict[str, Tensor]:
        """The states by `<kind>.<parameter name>`, sharded as the parameters are."""
        return {
            f"{kind}.{name}": joined(value, self.parameters[name]) if self.rule.sharded else value
            for name, state in self.states.items()
            for kind, value in {"step": torch.tensor(float(self.counts[name])), **state}.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put whole states back, by name. Copied: a file's buffer is not aligned, which changes last bits."""
        self.states, self.counts = {}, {}
        for key, value in state.items():
            kind, _, name = key.partition(".")
            own = self.states.setdefault(name, {})
            if kind == "step":
                self.counts[name] = int(value)
            else:
                part = cut(value, self.parameters[name]) if self.rule.sharded else value
                own[kind] = self._placed(name, kind, part.to(self.parameters[name].device, copy=True))

    def _start(self, name: str, value: Tensor) -> None:
        """The first states of a parameter; those in the file are zeros, which nobody has to make."""
        store = self.options.store
        if store is None or not self._away(name):
            self.states[name] = self.rule.start(name, value)
            return
        described = self.rule.start(name, torch.empty_like(value, device="meta"))
        self.states[name] = {kind: store.zeros(f"{kind}.{name}", one) for kind, one in described.items()}

    def _placed(self, name: str, kind: str, state: Tensor) -> Tensor:
        """A state that was saved, in the file where its parameter lies in one."""
        store = self.options.store
        return store.put(f"{kind}.{name}", state) if store is not None and self._away(name) else state

    def _away(self, name: str) -> bool:
        """Whether a parameter lies in the file."""
        store = self.options.store
        return store is not None and store.of(self.parameters[name]) is not None

    def _leave(self, *tensors: Tensor) -> None:
        """Release updated parameters and states that are in the file; they are not needed for a while."""
        if self.options.store is not None:
            self.options.store.leave(tensors)

    def _slot(self, name: str) -> Slot:
        """The parameter as a rule sees it; counts the update."""
        parameter = self.parameters[name]
        assert parameter.grad is not None
        take = made_whole if self._gathers(name) else local
        value, grad = take(parameter.detach()), take(parameter.grad)
        if name not in self.states:
            self._start(name, value)
        self.counts[name] = self.counts.get(name, 0) + 1
        return Slot(name, value, grad.to(value.dtype), self.states[name], self.counts[name])

    def _gathers(self, name: str) -> bool:
        """Whether a sharded parameter moves as a whole, on every rank alike, because the rule looks across its rows."""
        return isinstance(self.parameters[name], DTensor) and not self.rule.sharded

    def _update_whole(self, name: str, rate: float) -> None:
        slot, parameter = self._slot(name), self.parameters[name]
        if slot.value.dtype == torch.bfloat16:
            self._update_rounded(slot, rate)
        else:
            self.rule.apply([slot], rate, self.options.weight_decay)
        local(parameter).copy_(cut(slot.value, parameter))

    def _update_rounded(self, slot: Slot, rate: float) -> None:
        name, decay = slot.name, self.options.weight_decay
        parameter = self.parameters[name]
        # Ranks that move their own rows draw noise of their own; on one rank, and on whole parameters, all is as ever.
        rows: object = parameter
        if isinstance(rows, DTensor) and not self._gathers(name):
            name = f"{name}/{rows.device_mesh.get_local_rank()}"
        noise = generator(self.options.seed, self.at, name, slot.value.device)
        target, grad = slot.value.view(-1), slot.grad.reshape(-1)
        whole = None if self.rule.elementwise else slot.value.float()
        if whole is not None:
            self.rule.apply([Slot(name, whole, slot.grad.float(), slot.state, slot.count)], rate, decay)
        for start in range(0, target.numel(), CHUNK):
            end, state = min(start + CHUNK, target.numel()), None
            if whole is None:
                piece, state = target[start:end].float(), self.rule.part(slot.state, start, end)
                self.rule.apply([Slot(name, piece, grad[start:end].float(), state, slot.count)], rate, decay)
            else:
                piece = whole.view(-1)[start:end]
            round_into(target[start:end], piece, noise)
            if state is not None:
                self._leave(target[start:end], *state.values())

    def _update_in_pieces(self, slot: Slot, rate: float) -> None:
        """Update a parameter in the file piece by piece."""
        value, grad = slot.value.view(-1), slot.grad.reshape(-1)
        for start in range(0, value.numel(), CHUNK):
            end = min(start + CHUNK, value.numel())
            state = self.rule.part(slot.state, start, end)
            piece = Slot(slot.name, value[start:end], grad[start:end], state, slot.count)
            self.rule.apply([piece], rate, self.options.weight_decay)
            self._leave(piece.value, *state.values())


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that may be sharded."""
    own = getattr(tensor, "to_local", None)
    return tensor if own is None else own()
