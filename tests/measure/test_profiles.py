"""The process that traces: what the traces in a test's own process cannot show, because they are not the first."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.measure import profiles as module
from xiaozao.measure.profiles import Tracer
from xiaozao.plan.profile_cache import Profiles
from xiaozao.spec.parts import MethodSpec
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.profile import QUESTION, TraceRequest
from xiaozao.spec.tape import Steps

LLAMA: dict[str, object] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 384, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
PLAIN = TraceRequest(LLAMA, MethodSpec(alpha=1.0, rank=64), "fp32", "none", "batched", "none", "adamw", 128, False)


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


def test_a_fresh_process_says_what_steps_reserve_and_it_is_kept(tmp_path: Path) -> None:
    steps, tracer = Steps(PLAIN, (RowSizes((64, 64), 126),), False, None), Tracer()
    kept = Profiles(tmp_path, tracer.trace, tracer.reserve)
    try:
        found = kept.reserved(steps)
    finally:
        tracer.close()
    assert found is not None and 0 < found.allocated < found.reserved
    assert replace(kept, reserve=lambda _: pytest.fail("asked again")).reserved(steps) == found


def test_what_libraries_print_is_no_answer() -> None:
    code = (
        "import os, sys, xiaozao.measure.answering as module\n"
        "from xiaozao.errors import UnsupportedModel\n"
        "def trace(question):\n"
        "    print('a warning'); os.write(1, b'another\\n')\n"
        "    raise UnsupportedModel('trace', model='m', detail='why')\n"
        "module.trace = trace\n"
        "sys.exit(module.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=QUESTION.dump_json(PLAIN), capture_output=True, check=True
    )
    assert done.stdout == b'{"failed": "why"}\n'
    assert b"a warning" in done.stderr and b"another" in done.stderr


def test_a_process_that_dies_is_no_verdict_on_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODULE", "xiaozao.no_such_thing")
    tracer = Tracer()
    try:
        with pytest.raises(EnvironmentProblem) as caught:
            tracer.trace(PLAIN)
        assert caught.value.key == "tracer" and "no_such_thing" in caught.value.what()
        assert Profiles(tmp_path, tracer.trace).get(PLAIN) is None
    finally:
        tracer.close()
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_traced_does_not_end_the_process() -> None:
    tracer = Tracer()
    try:
        with pytest.raises(UnsupportedModel) as caught:
            tracer.trace(replace(PLAIN, config={"model_type": "no such thing"}))
        assert "no such thing" in caught.value.what()
        assert tracer.trace(PLAIN).blocks == 4
    finally:
        tracer.close()
