"""Two optimizer steps under fake tensors -> the blocks of memory they take and give back, one after the other.

Unlike a trace (train/trace.py), from which any size follows, this is of the whole model and of real sizes: where a
block fits into a cache depends on all that came before. The first step, of one micro-batch, makes the optimizer's
states; the second has all of them, and a validation behind it.
"""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from xiaozao.spec.plan import Row
from xiaozao.spec.tape import Event, Given, Steps, Taken
from xiaozao.train.skeleton import config_of, held_by_loading
from xiaozao.train.trace import Size, Tracer, translated

LOADING = -1  # the number of what loading holds beside the weights


def record(steps: Steps) -> list[Event]:
    """The tape from the first weight on. Raises UnsupportedModel for a model that cannot be traced."""
    question = steps.question
    with translated(question), FakeTensorMode(allow_non_fake_inputs=True):
        tracer = Tracer(question, config_of(question.config))
        model, chunk = tracer.decoder.model, tracer.decoder.head.chunk
        most = held_by_loading(model, question)
        tape: list[Event] = [Taken(LOADING, most), Given(LOADING)]
        tracer.ledger.tape = tape

        def size(row: Row) -> Size:
            tape.append(row)
            return Size(row.lengths, row.targets, chunk)

        with tracer.ledger:
            tracer.ledger.count([*model.parameters(), *model.buffers()])
            tracer.begin()
            for rows in (steps.rows[:1], steps.rows):
                for row in rows:
                    tracer.micro(size(row))
                tracer.update()
            if steps.validation:
                with torch.no_grad():
                    tracer.loss(size(steps.validation))
        return list(tape)
