"""Optimizer steps under fake tensors -> the blocks of memory they take and give back, one after the other.

Unlike a trace (measure/trace.py), from which any size follows, this is of the whole model and of real sizes: where a
block fits into a cache depends on all that came before.

    the weights, the largest of them held twice until all are there
    a step of one micro-batch, which makes the optimizer's states
    a step for each of the largest micro-batches: twice, where gradients are added to
    a validation
"""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from xiaozao.measure.skeleton import config_of, held_by_loading
from xiaozao.measure.trace import Size, Tracer, translated
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.tape import Event, Given, Steps, Taken

LOADING = -1  # the number of what loading holds beside the weights


def record(steps: Steps) -> list[Event]:
    """The tape from the first weight on. Raises UnsupportedModel for a model that cannot be traced."""
    question = steps.question
    with translated(question), FakeTensorMode(allow_non_fake_inputs=True):
        tracer = Tracer(question, config_of(question.config))
        model, chunk = tracer.decoder.model, tracer.decoder.head.chunk
        tape: list[Event] = [Taken(LOADING, held_by_loading(model, question))]
        tracer.ledger.tape = tape

        def size(row: RowSizes) -> Size:
            tape.append(row)
            return Size(row.lengths, row.targets, chunk)

        with tracer.ledger:
            tracer.ledger.count([*model.parameters(), *model.buffers()])
            tape.append(Given(LOADING))
            tracer.begin()
            times = 2 if steps.accumulates else 1
            for row, micros in [(steps.rows[0], 1), *((row, times) for row in steps.rows)]:
                for _ in range(micros):
                    tracer.micro(size(row))
                tracer.update()
            if steps.validation:
                with torch.no_grad():
                    tracer.loss(size(steps.validation))
        return list(tape)
