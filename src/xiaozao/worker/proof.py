"""The held-out questions, asked before and after training, and the report made of the answers."""

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from xiaozao.data.formats import Turn
from xiaozao.data.prepare import PreparedData, Samples, prepare, read_conversations
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import DataError
from xiaozao.evaluate.contract import Answer, learn_contract, score
from xiaozao.evaluate.facts import Machine, ReportFacts, Side
from xiaozao.events import Answered, Ended, Evaluated, Event, Progress, Reported
from xiaozao.hub.sources import ModelFolder
from xiaozao.machine.hardware import look
from xiaozao.machine.heap import give_back
from xiaozao.models.blocks import Decoder
from xiaozao.models.generate import Sampling, generate
from xiaozao.spec.plan import MemoryPlan, Questions
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder, cache
from xiaozao.store.journal import read_events
from xiaozao.texts.catalogue import Language
from xiaozao.train.losses import mean_loss, sft
from xiaozao.worker.pages import write_report


@dataclass(frozen=True)
class Question:
    """A conversation up to the last assistant turn, and that turn as the right answer."""

    turns: tuple[Turn, ...]
    reference: str

    @property
    def text(self) -> str:
        """What the user said last."""
        return next((turn.content for turn in reversed(self.turns) if turn.role == "user"), "")


@dataclass(frozen=True)
class Exam:
    """Questions that no training saw, as text and as samples."""

    questions: tuple[Question, ...]
    samples: Samples
    tokenizer: ChatTokenizer
    answer_tokens: int

    @classmethod
    def of(cls, spec: RunSpec, model: ModelFolder) -> "Exam | None":
        """The exam that the spec asks for, or None."""
        if spec.evaluate.questions is None:
            return None
        told = spec.data.format if spec.method.objective == "sft" else "auto"  # else that of other rows than questions
        part = spec.data.model_copy(
            update={"data": spec.evaluate.questions, "validation": "none", "rows": None, "stratify": None,
                    "format": told}
        )  # fmt: skip
        samples = prepare(part, model.path, spec.train.seed, cache(), lambda stage, done, total: None).train
        kept = set(samples.lines.tolist())  # the same questions for the loss and for the answers
        questions = tuple(
            Question(tuple(one.turns[:-1]), one.turns[-1].content)
            for one in read_conversations(part)
            if one.line in kept and one.turns and one.turns[-1].role == "assistant"
        )
        if not questions:
            raise DataError("no_questions", path=str(spec.evaluate.questions))
        return cls(questions, samples, ChatTokenizer.from_folder(model.path), spec.evaluate.answer_tokens)

    @property
    def sizes(self) -> Questions:
        """The questions as a plan counts them; samples may be cut, what is asked never is."""
        asked = max(len(self.tokenizer.encode_prompt(one.turns)) for one in self.questions)
        return Questions(len(self.questions), max(asked, self.samples.longest), self.answer_tokens)

    def sit(self, who: str, decoder: Decoder, plan: MemoryPlan, on_event: Callable[[Event], object]) -> Side:
        """Let a model answer all questions greedily, as many together as planned, and take the right answers' loss."""
        begun, total = time.perf_counter(), len(self.questions)
        answers: list[Answer] = []
        for start in range(0, total, plan.together):
            on_event(Progress(f"answers_{who}", len(answers), total))
            questions = self.questions[start : start + plan.together]
            answers += self._answer(decoder, questions, self._tell(who, start, len(questions), on_event))
            give_back()
        on_event(Progress(f"answers_{who}", len(answers), total))
        loss = mean_loss(decoder, sft, self.samples, min(plan.together, plan.micro_batch)).loss
        found = score(answers, learn_contract([one.reference for one in self.questions]))
        valid = None if found.valid_json is None else found.valid_json / found.n
        on_event(Answered(who, found.n, loss, found.exact / found.n, valid, time.perf_counter() - begun))
        return Side(tuple(answers), loss)

    def _tell(
        self, who: str, start: int, count: int, on_event: Callable[[Event], object]
    ) -> Callable[[int, int], None]:
        """Hears the tokens of questions that are answered together, and tells how many would be done by now."""
        given, told = [0] * count, start

        def heard(row: int, token: int) -> None:
            nonlocal told
            given[row] += 1
            done = start + count * max(given) // (self.answer_tokens + 1)
            if done > told:
                told = done
                on_event(Progress(f"answers_{who}", done, len(self.questions)))

        return heard

    def _answer(
        self, decoder: Decoder, questions: Sequence[Question], heard: Callable[[int, int], None]
    ) -> list[Answer]:
        prompts = [self.tokenizer.encode_prompt(one.turns) for one in questions]
        tokens = generate(decoder, prompts, self.tokenizer.eos_ids, Sampling(self.answer_tokens), heard)
        return [
            Answer(one.text, one.reference, self.tokenizer.decode(ids))
            for one, ids in zip(questions, tokens, strict=True)
        ]


@dataclass(frozen=True)
class Proof:
    """The report folder of a run: answers are kept as they come, so that a resumed run does not ask the base twice."""

    run: RunFolder
    language: Language
    writes: bool = True  # of several ranks the first does

    def has(self, who: str) -> bool:
        return self._path(who).is_file()

    def keep(self, who: str, side: Side) -> None:
        """Store the answers of `who`."""
        if not self.writes:
            return
        self.run.report.mkdir(exist_ok=True)
        document = {"answers": [asdict(one) for one in side.answers], "loss": side.loss}
        self._path(who).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    def write(self, spec: RunSpec, model: str, plan: MemoryPlan, data: PreparedData, ended: Ended) -> Reported:
        """report.html and report.json, from the kept answers and the journal."""
        events = list(read_events(self.run.events))
        before = [event.loss for event in events if isinstance(event, Evaluated) and event.step == 0]
        hardware = look()
        facts = ReportFacts(
            model=model,
            data=Path(spec.data.data).name,
            rows=data.counts.rows_used,
            base=self._side("base", before[0] if before else None),
            tuned=self._side("tuned", ended.best_validation_loss),
            steps=ended.step,
            train_seconds=ended.train_seconds,
            total_seconds=time.time() - self.run.spec.stat().st_mtime,
            tokens_per_second=ended.tokens_per_second,
            peak_rss_bytes=ended.peak_rss_bytes,
            predicted_peak_bytes=ended.predicted_peak_bytes,
            predicted_parts=plan.peak.parts,
            settings=spec.options(),
            machine=Machine(hardware.cores, hardware.memory_total, spec.model.device, platform.system()),
            versions={name: version(name) for name in ("xiaozao", "torch", "transformers")},
            curve=self.run.report / "loss.svg",
        )
        html, document = write_report(self.run.report, self.language, facts)
        return Reported(str(html), str(document))

    def _path(self, who: str) -> Path:
        return self.run.report / f"answers-{who}.json"

    def _side(self, who: str, validation_loss: float | None) -> Side:
        document = json.loads(self._path(who).read_text(encoding="utf-8"))
        return Side(tuple(Answer(**one) for one in document["answers"]), document["loss"], validation_loss)
