"""Log-likelihoods of continuations equal those of transformers' own forward pass over each context and choice."""

import random

import pytest
import torch

from tests.small import small_model
from tests.toy import toy_decoder
from xiaozao.models.blocks import Decoder, view
from xiaozao.models.families import check
from xiaozao.models.likelihood import Branches, branches, log_likelihoods, rows_of

FAMILIES = ("llama", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3", "gpt2", "gpt_neox", "opt", "mamba", "bloom")


def questions(count: int, seed: int = 0, high: int = 150, longest: int = 5) -> list[Branches]:
    draw = random.Random(seed)

    def ids(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, high) for _ in range(draw.randint(least, most)))

    return [Branches(ids(1, 6), tuple(ids(1, longest) for _ in range(draw.randint(1, 4)))) for _ in range(count)]


def reference(decoder: Decoder, question: Branches) -> list[float]:
    """By the model's own forward pass, one context with one choice at a time, in float64."""
    told = []
    model = decoder.model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    for choice in question.choices:
        ids = torch.tensor([[*question.context, *choice]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0].double().log_softmax(1)
        start = len(question.context) - 1
        told.append(float(sum(logits[start + at, token] for at, token in enumerate(choice))))
    model.set_attn_implementation(before)
    return told


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_choice_has_the_likelihood_that_the_model_gives_it_alone(kind: str) -> None:
    decoder = check(view(small_model(kind), "batched"))
    asked = questions(7)
    told = log_likelihoods(decoder, asked, most=40)
    for question, sums in zip(asked, told, strict=True):
        assert sums == pytest.approx(reference(decoder, question), abs=2e-4)


def test_a_context_is_read_once_for_all_its_choices() -> None:
    decoder = toy_decoder()
    sizes: list[int] = []
    hook = decoder.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: sizes.append(given[0].numel())
    )
    asked = questions(5)
    assert branches(decoder, 8)
    sizes.clear()
    log_likelihoods(decoder, asked)
    hook.remove()
    assert sum(sizes) == sum(len(one.context) + sum(map(len, one.choices)) for one in asked)


def test_a_branch_that_is_longer_than_a_window_is_read_apart_and_right() -> None:
    decoder = check(view(small_model("gemma2"), "batched"))
    long = [Branches(tuple(range(10, 30)), ((40, 41), (42, 43, 44)))]
    assert not branches(decoder, long[0].longest)
    assert log_likelihoods(decoder, long)[0] == pytest.approx(reference(decoder, long[0]), abs=2e-4)


def test_neither_the_order_nor_the_row_changes_a_number() -> None:
    decoder, asked = toy_decoder(), questions(9, high=250)
    whole = log_likelihoods(decoder, asked)
    turned = log_likelihoods(decoder, asked[::-1], most=1)[::-1]
    assert [sums for one in whole for sums in one] == pytest.approx([sums for one in turned for sums in one], abs=1e-4)


def test_a_row_holds_at_most_so_many_tokens_and_each_question_once() -> None:
    asked = questions(30)
    rows = list(rows_of(asked, 60))
    assert sorted(index for row in rows for index in row) == list(range(30))
    assert all(len(row) == 1 or sum(asked[index].tokens for index in row) <= 60 for row in rows)


def test_dropout_and_training_mode_are_left_as_they_were() -> None:
    decoder = toy_decoder(attention_dropout=0.5)
    decoder.model.train()
    assert log_likelihoods(decoder, questions(3)) == log_likelihoods(decoder, questions(3))
    assert decoder.model.training
