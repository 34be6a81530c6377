"""What is asked of a tool, and what came of it: the same for every tool.

A `Task` goes to a peer's runner as JSON; a `Result` is one line of results/peers.jsonl.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Task:
    """One training run. Sizes in samples and tokens; paths as text, because it travels as JSON."""

    model: str
    tokens: str
    output: str
    result: str
    batch: int = 8
    micro_batch: int = 1
    epochs: int = 1
    length: int = 2048
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 2e-4
    schedule: str = "cosine"
    method: str = "lora"
    base: str = "none"
    optimizer: str = "adamw_torch"
    precision: str = "bf16"
    checkpointing: bool = False
    device: str = "cpu"
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Told:
    """What a tool said of its own run. `seconds` is training alone: no imports, loading, or saving at the end."""

    seconds: float
    losses: tuple[float, ...]
    tokens: int
    targets: int
    trainable: int
    cuda_bytes: int = 0
    cuda_reserved_bytes: int = 0


@dataclass(frozen=True)
class Result:
    """One run: which row of which table, what was measured, or (`error`) why nothing was."""

    table: str
    data: str
    samples: int
    tool: str
    setting: str
    run: int
    machine: str = ""
    gflops: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    targets: int = 0
    trainable: int = 0
    peak_bytes: int = 0
    cuda_bytes: int = 0
    cpu_share: float = 0.0
    losses: tuple[float, ...] = ()
    heldout_loss: float | None = None
    floor_tokens_per_second: float = 0.0
    options: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, padding not counted."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def place(self) -> tuple[str, str, str, str]:
        """The row of the table it belongs to."""
        return self.table, self.data, self.tool, self.setting


def read_told(path: Path) -> Told:
    """What a runner wrote; keys that a Told does not have are left."""
    told = json.loads(path.read_text(encoding="utf-8"))
    names = {one.name for one in dataclasses.fields(Told)}
    return Told(**{name: value for name, value in told.items() if name in names})


def read_results(path: Path) -> list[Result]:
    """All lines of a results file; an absent file is an empty one."""
    if not path.is_file():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_results(path: Path, results: Iterable[Result]) -> None:
    """The whole file anew, one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: Sequence[str] = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in results]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
