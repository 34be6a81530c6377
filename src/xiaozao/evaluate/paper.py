"""What an evaluation asks, and of whom: the suites that each sitting gets, from what the user asked for. No torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xiaozao.evaluate.form import written_in
from xiaozao.evaluate.questions import QUESTIONS, Question, examples, read_questions, suite_of, taught
from xiaozao.evaluate.suite import Suite, cut, hash_of, obedience, probe, read_choices
from xiaozao.spec.evaluation import BenchSpec, FormatSpec
from xiaozao.spec.run import RunSpec

PROBE_TOKENS = 48
SHOW = {"en": "Answer as in these examples.", "zh": "请按照这些示例的方式回答。"}  # said to a model, not to a user


@dataclass(frozen=True)
class Paper:
    """sittings: what each of "base", "again", "prompted" and "tuned" is asked. tokens: of an answer, at most."""

    sittings: Mapping[str, Sequence[Suite]]
    tokens: int
    questions: tuple[Question, ...] = ()
    rows: tuple[Question, ...] = ()  # of the training data
    left: int = 0  # rows of the questions' file that cannot be asked

    @property
    def hash(self) -> str:
        return hash_of([suite for suites in self.sittings.values() for suite in suites])

    def without(self, left: Mapping[str, Collection[str]]) -> "Paper":
        """The paper without some items of each suite, by their ids; for all who sit, and in what is judged."""
        sittings = {who: tuple(_without(one, left) for one in suites) for who, suites in self.sittings.items()}
        asked = left.get(QUESTIONS, ())
        questions = tuple(one for at, one in enumerate(self.questions) if str(at) not in asked)
        return replace(self, sittings=sittings, questions=questions)


def _without(suite: Suite, left: Mapping[str, Collection[str]]) -> Suite:
    ids = left.get(suite.name, ())
    return replace(suite, items=tuple(one for one in suite.items if one.id not in ids))


def paper_of(spec: BenchSpec | FormatSpec, run: RunSpec) -> Paper:
    """The paper of an evaluation of this run. Raises what reading the files raises."""
    if isinstance(spec, BenchSpec):
        shipped = [cut(one, spec.limit) for one in probe()]
        files = [read_choices(name, Path(path), spec.limit) for name, path in spec.tasks.items()]
        suites = (*shipped, *files)
        return Paper({"base": suites, **({"again": suites} if spec.noise else {}), "tuned": suites}, PROBE_TOKENS)
    (questions, left), rows = read_questions(run, spec.questions, spec.limit), taught(run)
    plain = (suite_of(questions), *(cut(one, spec.limit) for one in obedience()))
    sittings: dict[str, Sequence[Suite]] = {"base": plain}
    if spec.examples and rows:
        system = spec.system or run.data.system or SHOW["zh" if _chinese(rows) else "en"]
        sittings["prompted"] = (suite_of(questions, examples(rows, spec.examples, system)),)
    return Paper({**sittings, "tuned": plain}, spec.tokens, questions, rows, left)


def _chinese(rows: Sequence[Question]) -> bool:
    return written_in(" ".join(one.reference for one in rows[:50])) == "zh"
