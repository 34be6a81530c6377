"""An optimizer that trains one block of the model at a time; only that block has gradients and moments.

BAdam (Luo, Yu & Li 2024): block coordinate descent with Adam as the inner solver. Every `every` steps the next block of
a shuffled round takes its turn, with fresh moments. A matrix outside the blocks (embeddings, an untied head) is a block
of its own; vectors outside them (the final norm) go with the last block.
"""

import random
import re

from torch import nn

from xiaozao.train.optim.engine import Optimizer, Options, Rule

BLOCK = re.compile(r"(?:^|.*?\.)\d+(?=\.)")  # the name up to its first number: model.layers.3


def block_of(name: str) -> str | None:
    """The block that a parameter is part of, `model.layers.3`, or None outside them."""
    match = BLOCK.match(name)
    return match[0] if match else None


def blocks_of(parameters: dict[str, nn.Parameter]) -> list[list[str]]:
    """The names of the parameters, in groups that learn together."""
    groups: dict[str, list[str]] = {}
    vectors, last = [], ""
    for name, parameter in parameters.items():
        block = block_of(name)
        if block is None and parameter.dim() < 2:
            vectors.append(name)
        else:
            groups.setdefault(block or name, []).append(name)
        last = block or last
    if vectors:
        groups.setdefault(last or vectors[0], []).extend(vectors)
    return list(groups.values())


class ByBlocks(Optimizer):
    """An optimizer whose parameters take turns. What is not on turn has requires_grad off, until `release`."""

    def __init__(self, parameters: dict[str, nn.Parameter], rule: Rule, options: Options) -> None:
        super().__init__(parameters, rule, options)
        self.blocks = blocks_of(parameters)

    def turn(self, step: int) -> list[str]:
        """The names of the parameters that train in a step; each round has a shuffled order, by (seed, step)."""
        round_, place = divmod(step // self.options.every, len(self.blocks))
        order = list(range(len(self.blocks)))
        random.Random(f"{self.options.seed}/{round_}").shuffle(order)
        return self.blocks[order[place]]

    def heavy_turns(self) -> list[int]:
        """The first steps at which the largest group and the largest one after the blocks (an untied head) train.

        Training the head keeps no activations of the blocks, but more of its own. Among equal blocks the first counts.
        """

        def size(group: list[str]) -> int:  # vectors outside the blocks weigh nothing beside them
            own = (self.parameters[name] for name in group)
            return sum(one.numel() for name, one in zip(group, own, strict=True) if one.dim() > 1 or block_of(name))

        inside = [place for place, group in enumerate(self.blocks) if block_of(group[0])]
        end = inside[-1] + 1 if inside else len(self.blocks)
        parts = [part for part in (self.blocks[:end], self.blocks[end:]) if part]
        return [self._first(max(part, key=size)) for part in parts]

    def _first(self, group: list[str]) -> int:
        steps = range(0, self.options.every * len(self.blocks), self.options.every)
        return next(one for one in steps if self.turn(one) == group)

    def begin(self, step: int) -> None:
        super().begin(step)
        names = frozenset(self.turn(step))
        fresh = step % self.options.every == 0
        self.states = {name: one for name, one in self.states.items() if name in names and not fresh}
        self.counts = {name: one for name, one in self.counts.items() if name in self.states}
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in names)

    def release(self) -> None:
        super().release()
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
