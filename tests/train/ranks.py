"""Runs of a toy over several ranks: what a rank does, and how a test starts ranks.

`python -m tests.train.ranks WORK FOLDER`, started once per rank with torchrun's variables, does one of WORKS and leaves
what it found in FOLDER/WORK.RANK.json.
"""

import faulthandler
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tests.toy import toy_folder, toy_samples
from xiaozao.data.order import Order
from xiaozao.events import Evaluated, Event, Step
from xiaozao.models.adapter import adapter_tensors
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder, Packing
from xiaozao.models.generate import Sampling, generate
from xiaozao.models.layers.linear import adapt, matching
from xiaozao.models.load import InMemory, load
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.train.distributed import shard, whole_adapters, whole_model
from xiaozao.train.loop import Loop, Settings
from xiaozao.train.losses import sft
from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.ranks import ALONE, Ranks, join, leave
from xiaozao.train.state import Keeper, Position

CPU = torch.device("cpu")
# 22 samples: three windows of 7 and a last one of a single sample, which is fewer micro-batches than ranks.
LENGTHS = [9, 30, 14, 22, 7, 18, 25, 11, 16, 28, 12, 20, 8, 19, 23, 10, 27, 13, 21, 17, 26, 15]
SETTINGS = Settings(5e-3, "cosine", 2, 0.01, 1.0, eval_every=5, save_every=8, patience=None, compute=torch.float32)


@dataclass(frozen=True)
class Case:
    """A run of windows of 7, 7, 7 and 1 samples in micro-batches of 2."""

    name: str
    base: str | None = None  # None: everything learns
    optimizer: str = "adamw"
    checkpointing: str = "none"
    fused: bool = False
    epochs: int = 2  # of four steps
    packing: Packing = "packed"
    shape: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("lora", "none", epochs=5),
    Case("nf4", "nf4", epochs=5),
    Case("int8", "int8", checkpointing="block"),
    Case("lora, selective", "none", checkpointing="selective"),
    Case("full", epochs=5),
    Case("full, block", checkpointing="block"),
    Case("full, untied, odd sizes", shape={"tie_word_embeddings": False, "vocab_size": 383, "intermediate_size": 45}),
    Case("padded", "none", packing="padded"),
    Case("fused", fused=True),
    Case("adamw8bit", optimizer="adamw8bit"),
    Case("adafactor", optimizer="adafactor"),
    Case("apollo-mini", optimizer="apollo-mini"),
    Case("galore", optimizer="galore"),
]

CROSSING = [Case("crossing lora", "nf4"), Case("crossing full"), Case("crossing whole rule", optimizer="adafactor")]


def decoder_of(case: Case, folder: Path) -> Decoder:
    """The toy of a case, from a folder of its own for each shape."""
    model = folder / f"toy{len(case.shape)}"
    decoder = load(model, torch.float32, CPU, way=InMemory(case.base or "none"))
    if case.base:
        adapt(decoder.model, matching(decoder.model, decoder.head.linear, ("all-linear",)), 5, 10.0, seed=1)
    fuse(decoder)
    recompute(decoder, case.checkpointing)
    if case.packing == "packed":
        return decoder
    decoder.model.set_attn_implementation("eager")
    return replace(decoder, packing="padded")


@dataclass(frozen=True)
class Found:
    """What a run came to: the losses of its steps and validations, and what it made."""

    losses: list[float]
    norms: list[float]
    validations: list[float]
    weights: dict[str, list[float]]  # the sum and the norm of each tensor that is written
    answers: list[list[int]]
    stopped_at: int | None = None


def train(case: Case, folder: Path, ranks: Ranks = ALONE, checkpoints: str | None = None, stop: int = 0) -> Found:
    """One run of a case, from the newest checkpoint in folder/checkpoints if there is one."""
    events: list[Event] = []
    micro_batch = -(-7 // ranks.world) if case.fused else 2  # fused, a rank has one micro-batch a step
    sharded = shard(decoder_of(case, folder), ranks)
    decoder = sharded.decoder
    optimizer = OPTIMIZERS[case.optimizer](decoder.trainable(), Options(0.01, rank=4, every=5))
    keeper = Keeper(folder / (checkpoints or f"{case.name} {ranks.world}"), {"devices": str(ranks.world)}, 2, ranks)
    loop = Loop(
        decoder, sharded.loss(sft), Order(toy_samples(LENGTHS), 7, micro_batch, case.epochs, seed=3),
        toy_samples([12, 18, 9], seed=9), replace(SETTINGS, fused=case.fused), keeper, events.append,
        lambda: bool(ranks.first(float(any(isinstance(one, Step) and one.step == stop for one in events)))),
        lambda: 0, ranks=ranks,
    )  # fmt: skip
    start = checkpoint.newest(keeper.folder).folder
    progress, stopped = loop.run(optimizer, keeper.load(start, decoder, optimizer) if start else Position())
    answers = sharded.together(lambda: generate(decoder, [[5, 9, 17], [40, 41]], frozenset({2}), Sampling(6)))
    steps = [one for one in events if isinstance(one, Step)]
    return Found(
        [one.loss for one in steps], [one.grad_norm for one in steps],
        [one.loss for one in events if isinstance(one, Evaluated)],
        written(case, decoder, ranks), answers, progress.step if stopped else None,
    )  # fmt: skip


def written(case: Case, decoder: Decoder, ranks: Ranks) -> dict[str, list[float]]:
    """What would be written: of each tensor, its sum and its norm. Nothing on ranks that write nothing."""
    if case.base:
        with whole_adapters(decoder, ranks) as writes:
            tensors = adapter_tensors(decoder.model) if writes else {}
    else:
        model = whole_model(decoder, ranks)
        tensors = dict(model.named_parameters()) if model else {}
    return {name: [float(one.detach().sum()), float(one.detach().norm())] for name, one in tensors.items()}


def make_toys(folder: Path) -> None:
    """The model folders of all cases."""
    for case in CASES:
        toy_folder(folder / f"toy{len(case.shape)}", **case.shape)


def begun(case: Case, folder: Path, ranks: Ranks, other: int) -> Found:
    """The first three steps of a run that another number of ranks will finish."""
    return train(case, folder, ranks, f"{case.name} {ranks.world} to {other}", stop=3)


def _train_all(folder: Path, ranks: Ranks) -> dict[str, Any]:
    found = {case.name: vars(train(case, folder, ranks)) for case in CASES}
    for case in CROSSING:
        found[f"{case.name} 2 to 1"] = vars(begun(case, folder, ranks, 1))
        found[f"{case.name} 1 to 2"] = vars(train(case, folder, ranks, f"{case.name} 1 to 2"))
    return found


WORKS: dict[str, Callable[[Path, Ranks], object]] = {"train": _train_all}


def start(work: str, folder: Path, world: int = 2) -> list[subprocess.Popen[bytes]]:
    """Start the ranks of a work on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    return [_rank(work, folder, number, names) for number in range(world)]


def _rank(work: str, folder: Path, number: int, names: Mapping[str, object]) -> subprocess.Popen[bytes]:
    own = {key: str(value) for key, value in {**names, "RANK": number, "LOCAL_RANK": number}.items()}
    with (folder / f"{work}.{number}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.train.ranks", work, str(folder)], env={**os.environ, **own},
            cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip


def results(processes: Sequence[subprocess.Popen[bytes]], work: str, folder: Path) -> list[Any]:
    """What each rank found, once all have ended; a rank that failed shows its log."""
    for number, process in enumerate(processes):
        code = process.wait(600)
        assert code == 0, (folder / f"{work}.{number}.log").read_text()
    return [json.loads((folder / f"{work}.{n}.json").read_text()) for n in range(len(processes))]


def main(work: str, folder: Path) -> None:
    """Be one rank."""
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(300)  # into the log, if the ranks wait for each other
    ranks = join(os.environ)
    ranks.in_turn(lambda: None)
    ranks = ranks.connect(CPU)
    found = WORKS[work](folder, ranks)
    (folder / f"{work}.{ranks.rank}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
