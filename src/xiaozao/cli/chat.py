"""`zao chat RUN`: talk with the trained model, or with its base, in the terminal."""

import sys

import torch

from xiaozao.cli.console import Output, current_output
from xiaozao.data.chatcontract import check_contract
from xiaozao.data.formats import Turn
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.models.blocks import Decoder
from xiaozao.models.generate import Sampling, generate
from xiaozao.runs.results import trained
from xiaozao.texts.visible import visible
from xiaozao.worker.opening import find_trained


def work(run: str, ask: str | None, base: bool, system: str | None, max_tokens: int, temperature: float) -> None:
    output = current_output()
    folder, spec = trained(run)
    with output.stages() as report:
        opened = find_trained(folder, spec, report)
        report("load", 0, 0)
        decoder = opened.open_base() if base else opened.open_tuned()
    if not base and not opened.is_vouched_for:
        output.note("cli.export.no_manifest", folder=opened.result)
    prompt = system if system is not None else spec.data.system
    opening = [Turn("system", prompt)] if prompt else []
    tokenizer = ChatTokenizer.from_folder(opened.base, spec.data.template)
    talk = Talk(decoder, tokenizer, check_contract(opened.result, tokenizer), Sampling(max_tokens, temperature), output)
    if ask is not None:
        answer = talk.answer([*opening, Turn("user", ask)], live=False)
        output.result(answer, {"question": ask, "answer": answer}, quiet=answer)
        return
    converse(talk, opening, output)


class Talk:
    """A loaded model that answers a conversation; the answer is streamed to a terminal."""

    def __init__(
        self, decoder: Decoder, tokenizer: ChatTokenizer, thinking: bool, sampling: Sampling, output: Output
    ) -> None:
        self.decoder, self.tokenizer, self.thinking = decoder, tokenizer, thinking
        self.sampling, self.output = sampling, output
        torch.manual_seed(sampling.seed)

    def answer(self, turns: list[Turn], live: bool) -> str:
        """The answer to the last turn; `live` prints it as it comes."""
        said: list[int] = []
        shown = ""

        def on_token(_: int, token: int) -> None:
            nonlocal shown
            said.append(token)
            text = self.tokenizer.decode(said)
            if live and not text.endswith("\ufffd"):  # a character may take several tokens
                sys.stdout.write(visible(text[len(shown) :]))
                sys.stdout.flush()
                shown = text

        prompt = self.tokenizer.encode_prompt(tuple(turns), thinking=self.thinking)
        ids = generate(self.decoder, [prompt], self.tokenizer.eos_ids, self.sampling, on_token)[0]
        return self.tokenizer.decode(ids)


def converse(talk: Talk, opening: list[Turn], output: Output) -> None:
    """Read and answer lines until the input ends or the user types /exit; /new starts over."""
    output.note("cli.chat.hello")
    turns = list(opening)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line == "/exit":
            return
        if line == "/new":
            turns = list(opening)
        elif line:
            turns.append(Turn("user", line))
            turns.append(Turn("assistant", talk.answer(turns, live=True)))
            sys.stdout.write("\n")
