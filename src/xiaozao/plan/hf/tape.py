"""Tensors without values and the autograd engine's bookkeeping: who holds which memory, and until when. No torch.

    storage      memory of the allocator; goes back when its last holder lets go, as in torch: Python counts references
    tensor       a view of a storage: number of elements, bytes of one, and the node that made it
    node         one step backwards: what it saved, and what its gradients are given to

The engine runs the node that was made last first, hands a gradient on without copying where torch does, adds two
gradients into the first when nobody else holds it, and lets go of what a node saved as soon as it has run
(torch/csrc/autograd/engine.cpp, input_buffer.cpp, functions/accumulate_grad.h). Checkpoints are the non-reentrant ones
of torch.utils.checkpoint: a layer is computed again when the first of its saved tensors is asked for, and only up to
the last one that was saved.
"""

import heapq
import sys
from collections.abc import Callable, Iterable, Sequence

from xiaozao.plan.allocator import CachingAllocator

WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, RUNTIME = range(5)  # in the order of spec/plan.py's PARTS


class Storage:
    """Memory of the allocator, held as long as somebody holds this."""

    __slots__ = ("allocator", "block")

    def __init__(self, allocator: CachingAllocator, size: int, kind: int) -> None:
        self.allocator, self.block = allocator, allocator.allocate(size, kind)

    def __del__(self) -> None:
        if hasattr(self, "block"):  # not where the allocator refused
            self.allocator.free(self.block)


class Tensor:
    """A tensor's size and memory. `wants` a gradient; a leaf that does has no node and keeps its `grad`."""

    __slots__ = ("grad", "item", "node", "numel", "storage", "wants")

    def __init__(
        self, numel: int, item: int, storage: Storage, node: "Node | None" = None, wants: bool = False
    ) -> None:
        self.numel, self.item, self.storage, self.node, self.wants = numel, item, storage, node, wants
        self.grad: Tensor | None = None


Backward = Callable[["Tape", Tensor, list[Storage | None]], Sequence[Tensor | None]]


class Node:
    """One step of the backward pass: from the gradient of an output to those of the inputs."""

    __slots__ = ("backward", "inputs", "kept", "order", "saved", "sizes")

    def __init__(self, inputs: Iterable[Tensor], backward: Backward, order: int) -> None:
        inputs = tuple(inputs)
        self.inputs: list[Node | Tensor | None] = [(one.node or one) if one.wants else None for one in inputs]
        self.sizes = [(one.numel, one.item) for one in inputs]
        self.saved: list[Storage | Place] = []
        self.kept: Storage | None = None  # until the graph is gone
        self.backward, self.order = backward, order


class Place:
    """Where a checkpointed layer's saved tensor will be once the layer has been computed again."""

    __slots__ = ("frame", "index")

    def __init__(self, frame: "Frame", index: int) -> None:
        self.frame, self.index = frame, index


class Frame:
    """A checkpointed layer: how to compute it again, and what that gave."""

    __slots__ = ("again", "count", "recomputed")

    def __init__(self, again: Callable[[], object]) -> None:
        self.again, self.count = again, 0
        self.recomputed: list[Storage | None] | None = None


class _Enough(Exception):
    """Everything that was saved has been computed again."""


class Tape:
    """Makes tensors and nodes, and runs backward."""

    def __init__(self, allocator: CachingAllocator, workspace_bytes: int) -> None:
        self.allocator = allocator
        self.workspace_bytes = workspace_bytes
        self.workspaces: dict[str, Tensor] = {}  # cuBLAS's, by thread
        self.recording = True
        self.thread = "forward"  # which runs operations of the model; a checkpoint's run in the other one
        self._order = 0
        self._frame: Frame | None = None
        self._recomputing: Frame | None = None

    def empty(self, numel: int, item: int, kind: int = ACTIVATIONS) -> Tensor:
        """A tensor without a history."""
        return Tensor(numel, item, Storage(self.allocator, numel * item, kind))

    def node(self, inputs: Sequence[Tensor], saved: Sequence[Tensor | None], backward: Backward) -> Node | None:
        """The node of an operation about to run, or None where no input wants a gradient."""
        if not self.recording or not any(one.wants for one in inputs):
            return None
        self._order += 1
        node = Node(inputs, backward, self._order)
        for tensor in saved:
            if tensor is not None:
                self.save(node, tensor)
        return node

    def save(self, node: Node, tensor: Tensor) -> None:
        """Keep a tensor for the node's backward."""
        frame = self._recomputing
        if frame is not None:
            assert frame.recomputed is not None
            frame.recomputed.append(tensor.storage)
            if len(frame.recomputed) == frame.count:
                raise _Enough
        elif self._frame is not None:
            node.saved.append(Place(self._frame, self._frame.count))
            self._frame.count += 1
        else:
            node.saved.append(tensor.storage)

    def out(self, numel: int, item: int, node: Node | None) -> Tensor:
        """An operation's result, in new memory."""
        storage = Storage(self.allocator, numel * item, ACTIVATIONS)
        return Tensor(numel, item, storage, node, node is not None)

    def checkpoint(self, function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        """`function(tensor)`, of which only the input is kept."""
        if not self.recording or self._recomputing is not None:
            return function(tensor)
        detached = Tensor(tensor.numel, tensor.item, tensor.storage, None, True)
        self._frame = Frame(lambda: function(detached))
        try:
            return function(tensor)
        finally:
            self._frame = None

    def reentrant(self, function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        """`function(tensor)`, of which the input is kept; its backward computes it again and runs backward inside.

        The gradient it is given lives until it ends (torch.utils.checkpoint.CheckpointFunction).
        """

        def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Sequence[Tensor | None]:
            storage = saved[0]
            assert storage is not None
            detached = Tensor(numel, item, storage, None, True)
            tape.recording, tape.thread = True, "backward"
            out = function(detached)
            tape.thread = "forward"
            tape.backward(out, grad)
            del out
            return (detached.grad,)

        numel, item = tensor.numel, tensor.item
        node = self.node((tensor,), (tensor,), back)
        self.recording = False
        out = function(tensor)
        self.recording = True
        return Tensor(out.numel, out.item, out.storage, node, node is not None)

    def backward(self, root: Tensor, grad: Tensor | None = None) -> None:
        """Run the graph behind a scalar, or behind a tensor with its gradient; leaves get or add up their `grad`."""
        assert root.node is not None
        waiting = _dependencies(root.node)
        grads: dict[int, Tensor] = {id(root.node): grad or self.empty(1, root.item)}
        ready: list[tuple[int, int, Node | Tensor]] = [(-root.node.order, 0, root.node)]
        while ready:
            target = heapq.heappop(ready)[2]
            grad = grads.pop(id(target))
            if isinstance(target, Tensor):
                self._accumulate(target, grad)
                continue
            outs = self._run(target, grad)
            del grad
            target.saved.clear()
            for edge in target.inputs:  # popped: an iterator over the gradients would hold on to what it gave
                self._hand_on(edge, outs.pop(0), grads, waiting, ready)

    def _hand_on(
        self,
        edge: "Node | Tensor | None",
        grad: Tensor | None,
        grads: dict[int, Tensor],
        waiting: dict[int, int],
        ready: list[tuple[int, int, "Node | Tensor"]],
    ) -> None:
        """Give a gradient to the node or leaf that waits for it, which is ready when it has all of them."""
        if edge is None or grad is None:
            return
        key = id(edge)
        old = grads.get(key)
        if old is None:
            grads[key] = grad
        # In place where nobody else holds the first: the dict, the name here and the question make 3, of the storage 2.
        elif sys.getrefcount(old) > 3 or sys.getrefcount(old.storage) > 2:
            grads[key] = self.empty(old.numel, max(old.item, grad.item))
        waiting[key] -= 1
        if waiting[key] == 0:
            self._order += 1
            rank = -edge.order if isinstance(edge, Node) else -sys.maxsize  # leaves go first
            heapq.heappush(ready, (rank, self._order, edge))

    def _run(self, node: Node, grad: Tensor) -> list[Tensor | None]:
        """The gradients of a node's inputs, in their types."""
        saved = [self._unpack(one) if isinstance(one, Place) else one for one in node.saved]
        outs = list(node.backward(self, grad, saved))
        for place, (numel, item) in enumerate(node.sizes):
            if outs[place] is not None:
                outs[place] = self._fit(outs[place], numel, item)
        return outs

    def _fit(self, grad: Tensor | None, numel: int, item: int) -> Tensor | None:
        """A gradient in its input's size and type: summed over what was broadcast, cast."""
        assert grad is not None
        if grad.numel != numel:
            grad = self.empty(numel, grad.item)
        return grad if grad.item == item else self.empty(numel, item)

    def _unpack(self, place: Place) -> Storage | None:
        frame = place.frame
        if frame.recomputed is None:
            frame.recomputed = []
            self._recomputing, self.thread = frame, "backward"
            try:
                frame.again()
            except _Enough:
                pass
            finally:
                self._recomputing, self.thread = None, "forward"
        storage = frame.recomputed[place.index]
        frame.recomputed[place.index] = None
        return storage

    def _accumulate(self, leaf: Tensor, grad: Tensor) -> None:
        """Into `.grad`: stolen where it is the first one and nobody else holds it, else copied or added."""
        if leaf.grad is not None:
            return
        if sys.getrefcount(grad.storage) > 2:
            grad = self.empty(grad.numel, grad.item)
        leaf.grad = Tensor(grad.numel, grad.item, grad.storage)
        self.allocator.recount(grad.storage.block, GRADIENTS)


def _dependencies(root: Node) -> dict[int, int]:
    """How many gradients each node and leaf behind the root will get."""
    counts: dict[int, int] = {}
    stack, seen = [root], {id(root)}
    while stack:
        for edge in stack.pop().inputs:
            if edge is not None:
                counts[id(edge)] = counts.get(id(edge), 0) + 1
                if isinstance(edge, Node) and id(edge) not in seen:
                    seen.add(id(edge))
                    stack.append(edge)
    return counts
