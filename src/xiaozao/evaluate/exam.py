"""The held-out questions: asked before and after training."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xiaozao.data.conversations import read_conversations
from xiaozao.data.prepare import Samples, prepare
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import DataError
from xiaozao.evaluate.contract import Answer, learn_contract, score
from xiaozao.evaluate.facts import Side
from xiaozao.evaluate.questions import Question, question_part, questions_of
from xiaozao.events import Answered, Event, Progress
from xiaozao.hub.sources import ModelFolder
from xiaozao.machine.heap import give_back
from xiaozao.models.blocks import Decoder
from xiaozao.models.generate import Sampling, generate
from xiaozao.spec.plan import MemoryPlan, Questions
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import cache

# (model, samples, samples in a micro-batch) -> mean loss of their target tokens: training's own, so it is handed in.
LossOf = Callable[[Decoder, Samples, int], float]


@dataclass(frozen=True)
class Exam:
    """Held-out questions, as text and as samples."""

    questions: tuple[Question, ...]
    samples: Samples
    tokenizer: ChatTokenizer
    answer_tokens: int

    @classmethod
    def of(cls, spec: RunSpec, model: ModelFolder) -> "Exam | None":
        """The exam that the spec asks for, or None."""
        if spec.evaluate.questions is None:
            return None
        part = question_part(spec, spec.evaluate.questions)
        samples = prepare(part, model.path, spec.train.seed, cache(), lambda stage, done, total: None).train
        kept = set(samples.lines.tolist())  # the same questions for the loss and for the answers
        questions = tuple(one for one in questions_of(read_conversations(part), part) if one.line in kept)
        if not questions:
            raise DataError("no_questions", path=str(spec.evaluate.questions))
        return cls(
            questions, samples, ChatTokenizer.from_folder(model.path, spec.data.template), spec.evaluate.answer_tokens
        )

    @property
    def sizes(self) -> Questions:
        """The sizes of the questions for a plan. Samples may be truncated; prompts never are."""
        asked = max(len(self.tokenizer.encode_prompt(one.turns, one.tools, one.thinking)) for one in self.questions)
        return Questions(len(self.questions), max(asked, self.samples.longest), self.answer_tokens)

    def sit(
        self, who: str, decoder: Decoder, plan: MemoryPlan, loss_of: LossOf, on_event: Callable[[Event], object]
    ) -> Side:
        """Let a model answer all questions greedily, in batches as planned.

        Also computes the loss of the right answers.
        """
        begun, total = time.perf_counter(), len(self.questions)
        answers: list[Answer] = []
        for start in range(0, total, plan.together):
            on_event(Progress(f"answers_{who}", len(answers), total))
            questions = self.questions[start : start + plan.together]
            answers += self._answer(decoder, questions, self._tell(who, start, len(questions), on_event))
            give_back()
        on_event(Progress(f"answers_{who}", len(answers), total))
        loss = loss_of(decoder, self.samples, min(plan.together, plan.samples))
        scored = score(answers, learn_contract([one.reference for one in self.questions]))
        valid = None if scored.valid_json is None else scored.valid_json / scored.n
        on_event(Answered(who, scored.n, loss, scored.exact / scored.n, valid, time.perf_counter() - begun))
        return Side(tuple(answers), loss)

    def _tell(
        self, who: str, start: int, count: int, on_event: Callable[[Event], object]
    ) -> Callable[[int, int], None]:
        """A callback for the tokens of questions that are answered together.

        Reports how many answers that amounts to.
        """
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
        prompts = [self.tokenizer.encode_prompt(one.turns, one.tools, one.thinking) for one in questions]
        tokens = generate(decoder, prompts, self.tokenizer.eos_ids, Sampling(self.answer_tokens), heard)
        return [
            Answer(one.text, one.reference, self.tokenizer.decode(ids))
            for one, ids in zip(questions, tokens, strict=True)
        ]
