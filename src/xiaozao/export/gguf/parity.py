"""Whether llama.cpp, from the written file, is asked the same and answers the same as the trained model.

Two things are compared over PROMPTS: the ids of the whole rendered prompt, which must be equal, and the distribution
of the first token of the answer, by its Kullback-Leibler divergence in nats from the trained model's in fp32.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from xiaozao.data.formats import Turn
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import ArtefactError
from xiaozao.export.gguf.llamacpp import ask
from xiaozao.models.blocks import Decoder, run

PROMPTS = (
    "What is the capital of France?", "Name three colours, separated by commas.", "17 + 25 = ?",
    "I want to cancel my order #4021 - it's late!!", "Where's  my\nrefund?\n\nI'VE waited 10 days...",
    "Write one sentence about the sea.", "Is 7 larger than 12? Answer yes or no.", "def add(a, b):\n    return",
    "我想查一下订单 2024-05-01 的物流。", "北京今天天气怎么样？",
    "Café naïve – € 3.50 🚀", "3333 33 3 '' \"quoted\" (a/b) <x> [y] {z}",
)  # fmt: skip
# Mean divergence above which an export is refused. llama.cpp rounds activations as well as weights, and small models
# suffer more from both, so they have bounds of their own, measured on SmolLM2-135M (docs/export.md).
LARGE = 10**9  # parameters
EXACT = ("f32", "f16")
BOUNDS = {
    "f32": 1e-3, "f16": 1e-3, "bf16": 0.02, "q8_0": 0.01, "q6_k": 0.03, "q5_k_m": 0.05, "q4_k_m": 0.1, "q4_0": 0.2,
    "iq4_xs": 0.2,
}  # fmt: skip
SMALL_BOUNDS = {
    "f32": 1e-3, "f16": 1e-3, "bf16": 0.05, "q8_0": 0.03, "q6_k": 0.06, "q5_k_m": 0.6, "q4_k_m": 0.3, "q4_0": 1.0,
    "iq4_xs": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """prompts compared; mean and largest divergence of the first token (nats); how often the likeliest is the same."""

    prompts: int
    mean: float
    largest: float
    same_first: int


def compare(file: Path, decoder: Decoder, tokenizer: ChatTokenizer, thinking: bool, wanted: str) -> Parity:
    """Compare the file with the trained model, which `decoder` is, best in fp32.

    Raises ArtefactError where llama.cpp reads other tokens, or answers further away than the type allows.
    """
    prompts = [tokenizer.encode_prompt((Turn("user", text),), thinking=thinking) for text in PROMPTS]
    requests = [
        {"messages": [{"role": "user", "content": text}], "ids": ids, "thinking": thinking}
        for text, ids in zip(PROMPTS, prompts, strict=True)
    ]
    gaps, same = [], 0
    for text, ids, answer in zip(PROMPTS, prompts, ask(file, requests), strict=True):
        if answer["ids"] != ids:
            place = next((at for at, (a, b) in enumerate(zip(ids, answer["ids"], strict=False)) if a != b), len(ids))
            raise ArtefactError("export_tokens", prompt=text, place=place, ours=len(ids), theirs=len(answer["ids"]))
        theirs = {int(number): value for number, value in answer["logprobs"].items()}
        gap, agrees = _divergence(_logprobs(decoder, ids), theirs)
        gaps.append(gap)
        same += agrees
    mean = sum(gaps) / len(gaps)
    size = sum(one.numel() for one in decoder.model.parameters())
    bound = (BOUNDS if size >= LARGE else SMALL_BOUNDS)[wanted]
    if not mean <= bound:
        key = "export_parity_exact" if wanted in EXACT else "export_parity"
        raise ArtefactError(key, type=wanted, gap=f"{mean:.3g}", bound=bound)
    return Parity(len(gaps), mean, max(gaps), same)


def _logprobs(decoder: Decoder, ids: list[int]) -> torch.Tensor:
    decoder.model.eval()
    with torch.no_grad():
        return decoder.head.logits(run(decoder, [torch.tensor(ids)])[-1:])[0].double().log_softmax(0)


def _divergence(ours: torch.Tensor, theirs: dict[int, float]) -> tuple[float, bool]:
    """KL(ours, theirs) over the tokens that are told, all others as one; and whether the likeliest is the same."""
    numbers = torch.tensor(list(theirs))
    p, q = ours[numbers].exp(), torch.tensor(list(theirs.values())).double().exp()
    rest_p, rest_q = max(1 - float(p.sum()), 1e-12), max(1 - float(q.sum()), 1e-12)
    gap = float((p * (p / q.clamp_min(1e-30)).clamp_min(1e-30).log()).sum()) + rest_p * math.log(rest_p / rest_q)
    return max(gap, 0.0), int(ours.argmax()) == max(theirs, key=lambda number: theirs[number])
