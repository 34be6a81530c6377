"""The processes of a run: one, or several that torchrun started and that work as one. A process is called a rank.

    Place     which of them this is, from the environment
    Ranks     what they say to each other; of one process every method is the identity

What all ranks must decide alike (stop, save, the best validation) is a sum that all know, or the first rank's word.
A rank that fails leaves word in the store that torchrun keeps, because the others only see a connection break.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, Shard

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
PATIENCE = timedelta(minutes=30)  # of a collective: the others may wait for a checkpoint to be written
PREPARING = timedelta(days=7)  # of those that wait for the first rank, which may be downloading a model
FAILED = "xiaozao/failed"

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Which process this is of how many, in all and on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Place":
        """As torchrun says it; without torchrun a process is alone."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if any(name not in environment for name in names):
            return cls()
        return cls(*(int(environment[name]) for name in names))


@dataclass(frozen=True)
class Piece(Generic[T]):
    """One piece of a rank's work: its number among all, and the weight of its result, 0 where it only keeps step."""

    number: int
    item: T
    weight: float


@dataclass(frozen=True)
class Ranks:
    """This process among its like. `mesh` is there once they are connected."""

    place: Place = field(default_factory=Place)
    store: Store | None = None
    mesh: DeviceMesh | None = None

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def world(self) -> int:
        return self.place.world

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes files and speaks for all."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[Piece[T]]:
        """This rank's items: number j goes to rank j % world, and every rank gets equally many.

        All must run the same number of passes, because each pass of each block is a collective; a rank that has
        nothing left repeats the last item with weight 0.
        """
        mine = range(self.rank, -(-len(items) // self.world) * self.world, self.world)
        last = len(items) - 1
        return [Piece(number, items[min(number, last)], float(number <= last)) for number in mine]

    def sum(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over all ranks, in double precision."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def maximum(self, value: float) -> float:
        """The largest of all ranks."""
        return self._reduced((value,), dist.ReduceOp.MAX)[0]

    def first(self, value: float) -> float:
        """The first rank's value; so this also waits for the first rank."""
        return self.sum(value if self.is_first else 0.0)[0]

    def norm(self, part: float) -> float:
        """The Euclidean norm over all ranks, from the norm of what this one holds."""
        return part if self.mesh is None else math.sqrt(self.sum(part * part)[0])

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sharded tensors made whole on the first rank, one after the other, in host memory; nothing on the others."""
        if self.mesh is None:
            return dict(tensors)
        whole = {}
        for name, tensor in tensors.items():
            full = made_whole(tensor.detach())
            if self.is_first:
                whole[name] = full.cpu()
        return whole

    def in_turn(self, work: Callable[[], T]) -> T:
        """The first rank does it alone, then the first of each machine, then all others: caches are filled once."""
        if self.store is None:
            return work()
        leaders = range(0, self.world, self.place.local_world)
        if not self.is_first:
            self.store.wait([_done(0)], PREPARING)
        if self.rank not in leaders:
            self.store.wait([_done(leader) for leader in leaders], PREPARING)
        done = work()
        self.store.set(_done(self.rank), "1")
        return done

    def connect(self, device: torch.device) -> "Ranks":
        """The same ranks, able to compute together: gloo on CPUs, nccl on GPUs."""
        if self.store is None:
            return self
        if device.type == "cuda":
            torch.cuda.set_device(self.place.local_rank)
        self._await_all()
        group = PrefixStore("xiaozao/group", self.store)
        dist.init_process_group(
            BACKENDS[device.type], store=group, rank=self.rank, world_size=self.world, timeout=PATIENCE
        )
        return Ranks(self.place, self.store, init_device_mesh(device.type, (self.world,)))

    def _await_all(self) -> None:
        """Wait until every rank has had its turn, in short naps, so that a signal is heard; or until one has failed."""
        assert self.store is not None
        deadline = time.monotonic() + PREPARING.total_seconds()
        while not self.store.check([_done(rank) for rank in range(self.world)]):
            if self.failure() is not None or time.monotonic() > deadline:
                raise RuntimeError("connection to another rank: it failed before it was ready")
            time.sleep(0.1)

    def tell_failure(self, record: Mapping[str, Any]) -> None:
        """Leave word of why this rank ends. The first word stands, because the others fail of it."""
        if self.store is not None:
            text = json.dumps({**record, "rank": self.rank}, default=str, ensure_ascii=False)
            self.store.compare_set(FAILED, "", text)

    def failure(self) -> dict[str, Any] | None:
        """What a rank that failed left, or None."""
        if self.store is None or not self.store.check([FAILED]):
            return None
        left: dict[str, Any] = json.loads(self.store.get(FAILED))
        return left

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> tuple[float, ...]:
        if self.mesh is None:
            return tuple(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.mesh.device_type)
        dist.all_reduce(together, how)
        return tuple(together.tolist())


ALONE = Ranks()


def join(environment: Mapping[str, str]) -> Ranks:
    """The ranks of this process: alone, or in touch with those that torchrun started."""
    place = Place.of(environment)
    if place.world == 1:
        return ALONE
    store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
    return Ranks(place, store)


def leave() -> None:
    """Close the connections, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def made_whole(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded as one that is not; every rank asks for it, and gets it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut(full: Tensor, like: Tensor) -> Tensor:
    """This rank's part of `full`, cut as the parameter `like` is. Numbers (0 dimensions) are not cut."""
    if not isinstance(like, DTensor) or full.ndim == 0:
        return full
    mesh = like.device_mesh
    size = -(-full.shape[0] // mesh.size())
    start = min(size * mesh.get_local_rank(), full.shape[0])
    return full[start : start + size]


def joined(part: Tensor, like: Tensor) -> Tensor:
    """A part that belongs to the parameter `like`, such as a moment, as a sharded tensor; the reverse of `cut`."""
    if not isinstance(like, DTensor) or part.ndim == 0:
        return part
    return DTensor.from_local(
        part, like.device_mesh, (Shard(0),), run_check=False, shape=like.shape, stride=like.stride()
    )


def _done(rank: int) -> str:
    return f"xiaozao/ready/{rank}"
