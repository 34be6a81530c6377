"""The model on the tape against the real one: the tensors that transformers, PEFT and autograd keep, byte for byte."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tests.toy import SHAPE
from xiaozao.plan.allocator import CachingAllocator
from xiaozao.plan.hf.attention import Heads
from xiaozao.plan.hf.load import Loading, load
from xiaozao.plan.hf.model import Forward, Model, Setting
from xiaozao.plan.hf.tape import ACTIVATIONS, GRADIENTS, Node, Storage, Tape, Tensor
from xiaozao.plan.workload import ModelShape

# PEFT asks by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

BATCH, LENGTH, RANK = 2, 24, 4
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
FAMILIES: dict[str, dict[str, Any]] = {"llama": {}, "qwen2": {"bias": True}, "qwen3": {"qk_norm": True}}


def real_model(kind: str, task: str, **changes: Any) -> Any:
    """A tiny model in fp32 with eager attention, as transformers and PEFT make it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SHAPE, "head_dim": 8, **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if task == "lora":
        model = get_peft_model(model, LoraConfig(r=RANK, target_modules=list(TARGETS), lora_dropout=0.0))
    return model.train()


def real_saved(model: Any) -> int:
    """Bytes of all tensors that autograd keeps for backward, weights and single numbers apart; each storage once."""
    weights = {one.untyped_storage().data_ptr() for one in [*model.parameters(), *model.buffers()]}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.zeros(BATCH, LENGTH, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    assert loss is not None
    found = {place: one.untyped_storage().nbytes() for place, one in saved.items() if place not in weights}
    return sum(size for size in found.values() if size > 8)


def forward(kind: str, task: str, checkpoint: str = "", **changes: Any) -> tuple[Tape, Model, Tensor]:
    """The same on a tape: it, the model's tensors and the loss."""
    shape = ModelShape.from_config({**SHAPE, "head_dim": 8, **changes})
    family = {"bias": False, "qk_norm": False, **FAMILIES[kind]}
    tape = Tape(CachingAllocator(kinds=5), workspace_bytes=512)
    rank = RANK if task == "lora" else 0
    model = load(tape, Loading(shape, 4, "none", task == "full", family["bias"], family["qk_norm"], rank, TARGETS, 2))
    heads = Heads(BATCH, LENGTH, shape.heads, shape.kv_heads, shape.head_size)
    setting = Setting(heads, "eager", half=False, compute=4, autocast=False, checkpoint=checkpoint,
                      inputs_want=checkpoint != "" and task == "lora", mask=False, cache=False)  # fmt: skip
    ids = tape.empty(BATCH * LENGTH, 8)
    loss, _, _ = Forward(tape, model, setting).run(ids, ids)
    assert loss is not None
    return tape, model, loss


def storages(model: Model) -> list[Storage]:
    """Those of the weights, a tied head's once more."""
    tensors = [model.embed, model.norm, model.head]
    for layer in model.layers:
        tensors += layer.norms.values()
        for one in layer.linears.values():
            tensors += [each for each in (one.weight, one.bias, one.a, one.b) if each is not None]
    return [one.storage for one in tensors]


def saved_on_tape(model: Model, loss: Tensor) -> int:
    """Bytes of what the nodes behind the loss keep, weights and single numbers apart."""
    found: dict[int, int] = {}
    waiting, seen = [loss.node], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, Node) and id(node) not in seen:
            seen.add(id(node))
            waiting += [edge for edge in node.inputs if isinstance(edge, Node)]
            found |= {id(one): one.block.requested for one in node.saved if isinstance(one, Storage)}
    weights = {id(one) for one in storages(model)}
    return sum(size for place, size in found.items() if place not in weights and size > 8)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("task", ["lora", "full"])
@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 4}, {"tie_word_embeddings": False}], ids=str)
def test_autograd_keeps_the_bytes_that_the_tape_keeps(kind: str, task: str, changes: dict[str, Any]) -> None:
    _, model, loss = forward(kind, task, **changes)
    assert saved_on_tape(model, loss) == real_saved(real_model(kind, task, **changes))


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("task", ["lora", "full"])
def test_weights_are_those_of_transformers_and_peft(kind: str, task: str) -> None:
    _, model, _ = forward(kind, task)
    real = real_model(kind, task)
    learning = sorted(one.numel() for one in real.parameters() if one.requires_grad)
    assert sorted(one.numel for one in model.trainable()) == learning
    weights = {id(one): one.block.requested for one in storages(model)}
    assert sum(weights.values()) == sum(one.nbytes for one in real.parameters())


@pytest.mark.parametrize("task", ["lora", "full"])
@pytest.mark.parametrize("checkpoint", ["", "saved", "reentrant"])
def test_backward_leaves_a_gradient_for_all_that_learns_and_frees_the_rest(task: str, checkpoint: str) -> None:
    tape, model, loss = forward("llama", task, checkpoint)
    forward_end = tape.allocator.allocated
    tape.backward(loss)
    grads = [one.grad for one in model.trainable()]
    assert [grad.numel for grad in grads if grad is not None] == [one.numel for one in model.trainable()]
    # enable_input_require_grads makes a leaf of the embeddings' output, which gets a gradient too.
    inputs = BATCH * LENGTH * SHAPE["hidden_size"] * 4 if task == "lora" and checkpoint else 0
    assert tape.allocator.held[GRADIENTS] == inputs + sum(one.storage.block.size for one in grads if one is not None)
    kept = tape.allocator.held[ACTIVATIONS]
    del loss
    assert tape.allocator.held[ACTIVATIONS] <= kept
    assert tape.allocator.allocated < forward_end + tape.allocator.held[GRADIENTS]


@pytest.mark.parametrize("checkpoint", ["saved", "reentrant"])
def test_a_checkpoint_keeps_the_input_of_each_layer_alone(checkpoint: str) -> None:
    def kept(checkpoint: str, blocks: int) -> int:
        tape, _, loss = forward("llama", "lora", checkpoint, num_hidden_layers=blocks)
        held = tape.allocator.held[ACTIVATIONS]
        del loss
        return held

    one_more = kept(checkpoint, 3) - kept(checkpoint, 2)
    assert one_more == BATCH * LENGTH * SHAPE["hidden_size"] * 4
    assert kept("", 3) - kept("", 2) > 5 * one_more


def test_equal_passes_leave_nothing_behind() -> None:
    tape, model, loss = forward("llama", "lora", "saved")
    tape.backward(loss)
    for one in model.trainable():
        one.grad = None
    del loss
    assert tape.allocator.held[ACTIVATIONS] == 0
    assert tape.allocator.held[GRADIENTS] == 0
