"""What an evaluation was asked to do: `evaluation.json` in its folder, written before anything is asked."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from xiaozao.errors import ArtefactError

MARGIN = 0.03  # of the items: a loss that would not matter
TOKENS, EXAMPLES = 256, 5  # of an answer, at most; rows in the prompt
DRIFT = {"texts": 0.03, "solutions": 0.10}  # of the bits per byte of before, likewise


class _Evaluation(BaseModel):
    """What all evaluations have. run: the folder of the run. limit: items of each suite. budget: bytes.

    asked: hash of everything that is asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    limit: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    budget: int | None = Field(default=None, ge=1)
    asked: str = ""

    def settings(self) -> dict[str, object]:
        """What decides the result: all but threads and memory."""
        return self.model_dump(exclude={"threads", "budget"})

    def words(self) -> Iterator[str]:
        """The options of the command line that ask for this, without what is so by itself."""
        if self.limit is not None:
            yield from ("--limit", str(self.limit))
        if self.threads is not None:
            yield from ("--threads", str(self.threads))
        if self.budget is not None:
            yield from ("--budget", f"{self.budget}B")


class BenchSpec(_Evaluation):
    """The standard tests. tasks: files of choices by name. margin: a fraction of 1. noise: the base sits twice."""

    kind: Literal["bench"] = "bench"
    tasks: dict[str, str] = Field(default_factory=dict)
    margin: float = Field(default=MARGIN, gt=0, lt=1)
    noise: bool = True

    def words(self) -> Iterator[str]:
        for name, path in self.tasks.items():
            yield from ("--task", f"{name}={path}")
        yield from super().words()
        if self.margin != MARGIN:
            yield from ("--margin", f"{100 * self.margin:.10g}")
        if not self.noise:
            yield "--once"


class FormatSpec(_Evaluation):
    """The test of form and relevance. questions: a file of questions with right answers. tokens: of an answer, at most.

    examples: how many rows of the training data are shown to the base model as it sits a second time, with `system`
    before them; 0: it sits once.
    """

    kind: Literal["format"] = "format"
    questions: str
    tokens: int = Field(default=TOKENS, ge=1)
    system: str | None = None
    examples: int = Field(default=EXAMPLES, ge=0, le=20)

    def words(self) -> Iterator[str]:
        yield from ("--questions", self.questions)
        yield from super().words()
        if self.tokens != TOKENS:
            yield from ("--tokens", str(self.tokens))
        if self.system is not None:
            yield from ("--system", self.system)
        if self.examples != EXAMPLES:
            yield from ("--examples", str(self.examples))


EvaluationSpec = Annotated[BenchSpec | FormatSpec, Field(discriminator="kind")]
SPEC: TypeAdapter[BenchSpec | FormatSpec] = TypeAdapter(EvaluationSpec)


def command_of(spec: BenchSpec | FormatSpec, run: str, *more: str) -> str:
    """What to type to go on with this evaluation, or to see it. run: the name that finds the run."""
    return shlex.join(["zao", "eval", spec.kind, run, *spec.words(), *more])


def write_evaluation(spec: BenchSpec | FormatSpec, path: Path) -> None:
    path.write_text(spec.model_dump_json(indent=1) + "\n", encoding="utf-8", newline="\n")


def read_evaluation(path: Path) -> BenchSpec | FormatSpec:
    """Raises ArtefactError for a file that is not one."""
    try:
        return SPEC.validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError, OSError) as error:
        raise ArtefactError("eval_spec", path=path, detail=str(error).splitlines()[0]) from None
