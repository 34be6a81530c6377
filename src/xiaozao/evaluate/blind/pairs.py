"""The questions of a blind vote with both answers, cleaned of what would tell whose they are.

`read_pairs` takes them from the answers that a run with `questions=` keeps. Another source of answers would be another
function that returns AnswerPairs; nothing after it knows where they come from.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from xiaozao.errors import ArtefactError, NotFound
from xiaozao.store.files import RunFolder
from xiaozao.texts.visible import visible

# Marks of chat templates, which differ from model to model and tell which one spoke.
MARKS = re.compile(
    r"<\|[^|<>\n]{1,60}\|>|<｜[^｜<>\n]{1,60}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk)>|\[(?:BOS|EOS|PAD|UNK)\]|<extra_id_\d+>"
)


@dataclass(frozen=True)
class AnswerPair:
    """A question and the answers of both models, cleaned."""

    question: str
    base: str
    tuned: str

    @property
    def same(self) -> bool:
        """Whether both answers are the same, up to white space: then there is nothing to vote on."""
        return self.base.split() == self.tuned.split()


@dataclass(frozen=True)
class Source:
    """The pairs of a run, and a hash of the files that they were read from."""

    pairs: tuple[AnswerPair, ...]
    digest: str


def read_pairs(run: RunFolder, name: str) -> Source:
    """The questions of a run with both answers. name: what the user calls the run.

    Raises NotFound where a model has not answered yet, ArtefactError where the files are damaged.
    """
    base, tuned = run.answers("base"), run.answers("tuned")
    if not base.is_file() and not tuned.is_file():
        raise NotFound("blind_no_answers", name=name, path=base, spec=run.spec)
    for path, who in ((base, "base"), (tuned, "tuned")):
        if not path.is_file():
            raise NotFound(f"blind_no_{who}", name=name, path=path, spec=run.spec)
    before, after = _answers(base, run), _answers(tuned, run)
    if [one[0] for one in before] != [one[0] for one in after]:
        raise ArtefactError(
            "blind_answers_differ", base=len(before), tuned=len(after), folder=run.report, spec=run.spec
        )  # fmt: skip
    pairs = (
        AnswerPair(clean(question), clean(first), clean(second))
        for (question, first), (_, second) in zip(before, after, strict=True)
    )
    return Source(tuple(pairs), digest_of(run) or "")


def digest_of(run: RunFolder) -> str | None:
    """The hash of the files with the answers; None where one is not there."""
    files = (run.answers("base"), run.answers("tuned"))
    if not all(path.is_file() for path in files):
        return None
    return hashlib.sha256(b"\n".join(path.read_bytes() for path in files)).hexdigest()


def clean(text: str) -> str:
    """A text without marks of templates and white space around it; characters that steer a terminal are escaped.

    Marks may be nested (`<|a<|b|>|>`), so that taking one out makes another: it goes on until none is left.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    while (shorter := MARKS.sub("", text)) != text:
        text = shorter
    return visible(text.strip())


def _answers(path: Path, run: RunFolder) -> list[tuple[str, str]]:
    """The questions and answers in a file that a run wrote."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        answers = [(one["question"], one["answer"]) for one in document["answers"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise ArtefactError("blind_answers_damaged", path=path, detail=detail, spec=run.spec) from None
    wrong = next((at for at, pair in enumerate(answers, 1) if not all(isinstance(text, str) for text in pair)), None)
    if wrong is not None:
        raise ArtefactError("blind_answers_damaged", path=path, detail=f"answers[{wrong}]", spec=run.spec)
    return answers
