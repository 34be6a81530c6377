"""The process that traces: what the traces in a test's own process cannot show, because they are not the first."""

from dataclasses import replace
from typing import Any

import pytest

from xiaozao.errors import UnsupportedModel
from xiaozao.spec.parts import MethodSpec
from xiaozao.spec.profile import Question
from xiaozao.worker.profiles import Tracer

LLAMA: dict[str, object] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 384, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
PLAIN = Question(LLAMA, MethodSpec(alpha=1.0, rank=64), "fp32", "none", "batched", "none", "adamw", 128, False)


@pytest.mark.parametrize("change", [{"base": "nf4"}, {"optimizer": "adamw8bit"}])
def test_a_fresh_process_traces_what_needs_tables_of_codes(change: dict[str, Any]) -> None:
    pytest.importorskip("bitsandbytes")
    tracer = Tracer()
    try:
        less = tracer.trace(replace(PLAIN, **change))
        plain = tracer.trace(PLAIN)
    finally:
        tracer.close()
    part = "weights" if "base" in change else "states"
    assert getattr(less, part).of(4) < getattr(plain, part).of(4)


def test_a_model_that_cannot_be_traced_does_not_end_the_process() -> None:
    tracer = Tracer()
    try:
        with pytest.raises(UnsupportedModel) as caught:
            tracer.trace(replace(PLAIN, config={"model_type": "no such thing"}))
        assert "no such thing" in caught.value.what()
        assert tracer.trace(PLAIN).blocks == 4
    finally:
        tracer.close()
