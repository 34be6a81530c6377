"""Ready-made chat marks in plain text -> turns, because marks in a text are ordinary characters to a tokenizer.

<|im_start|>user ... <|im_end|>                             ChatML
<|start_header_id|>user<|end_header_id|> ... <|eot_id|>     Llama 3, and Llama 4's like it
<start_of_turn>user ... <end_of_turn>                       Gemma
<|user|> ... <|end|>                                        Phi, Zephyr, GLM
<｜User｜> ... <｜Assistant｜> ...                              DeepSeek
[INST] ... [/INST] ... </s>                                 Llama 2, Mistral
### Instruction: ... ### Response: ...                      Alpaca, and ### Human: ... ### Assistant: ...
Human: ... Assistant: ...                                   and USER:, User:, 用户：
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from xiaozao.data.turns import Turn

ROLES = {
    **dict.fromkeys(
        ("user", "human", "prompter", "instruction", "question", "input", "用户", "人类", "问", "指令", "问题"), "user"
    ),
    **dict.fromkeys(
        ("assistant", "model", "response", "answer", "output", "ai", "bot", "gpt", "助手", "答", "回答", "回复"),
        "assistant",
    ),
    **dict.fromkeys(("system", "developer", "系统"), "system"),
    **dict.fromkeys(("tool", "ipython", "observation", "function"), "tool"),
}
ENDS = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|eot|end|endoftext|end_of_text|begin_of_text)\|>|<end_of_turn>|</?s>|<bos>|<eos>"
    r"|<｜(?:end▁of▁sentence|begin▁of▁sentence)｜>|\[gMASK\]|<sop>"
)
ANY = re.compile(
    r"<\|(?:im_start|im_end|start_header_id|eot_id|user|prompter|assistant|system)\|>|<(?:start|end)_of_turn>|\[/?INST\]|<｜(?:User|Assistant)｜>"
    r"|<\|(?:fim_prefix|fim_middle|fim_suffix|endoftext|end_of_text|begin_of_text)\|>|^###\s*(?:Human|Instruction|User|System)\s*:"
    r"|\A\s*<(?:human|user|system)>:|\A\s*(?:Human|USER|User|用户)\s*[:：]|\bUSER: .{0,2000}?\bASSISTANT:",
    re.MULTILINE | re.DOTALL,
)
SYSTEM = re.compile(r"<<SYS>>\s*(.*?)\s*<</SYS>>\s*", re.DOTALL)


@dataclass(frozen=True)
class _Style:
    """The heads of turns in one way of writing: a pattern whose group 1 is the role."""

    head: re.Pattern[str]
    preamble: bool = False  # words before the first head are the system text


STYLES = (
    _Style(re.compile(r"<\|im_start\|>\s*(\w+)[^\n]*?(?:\n|$)")),
    _Style(re.compile(r"<\|(?:start_header_id|header_start)\|>\s*(\w+)\s*<\|(?:end_header_id|header_end)\|>\s*")),
    _Style(re.compile(r"<start_of_turn>\s*(\w+)\s*")),
    _Style(re.compile(r"<\|(system|user|assistant|prompter|observation|tool)\|>\s*")),
    _Style(re.compile(r"<｜(User|Assistant)｜>")),
    _Style(re.compile(r"<(human|bot|user|assistant|system)>:\s*", re.IGNORECASE)),
    _Style(
        re.compile(
            r"(?<!#)#{2,3}\s*(Instruction|Input|Response|Human|Assistant|User|System|Question|Answer|Output|指令|输入|回答|问题)\s*[:：]\s*",
            re.MULTILINE,
        ),
        preamble=True,
    ),
    _Style(re.compile(r"(?:^|\n|\s)(USER|ASSISTANT|SYSTEM):\s*"), preamble=True),
    _Style(re.compile(r"^(Human|Assistant|User|AI|Bot|System|用户|助手|系统)\s*[:：]\s*", re.MULTILINE)),
)


def has_marks(text: str) -> bool:
    """Whether a text holds marks of a chat template, or of a prompt for code to be filled in."""
    return ANY.search(text) is not None


def read_marks(text: str) -> tuple[Turn, ...]:
    """The turns of a text that is written with marks from end to end; () where it is not."""
    readers: tuple[Callable[[str], list[Turn]], ...] = (_instructed, *(_reader(style) for style in STYLES))
    for read in readers:
        turns = [turn for turn in read(text) if turn.content or turn.role == "assistant"]
        turns = turns[:-1] if turns and not turns[-1].content else turns  # an answer that is only opened
        if turns and _is_conversation(turns):
            return tuple(turns)
    return ()


def _is_conversation(turns: list[Turn]) -> bool:
    roles = [turn.role for turn in turns]
    return {"user", "assistant"} <= set(roles) and not any(has_marks(turn.content) for turn in turns)


def _reader(style: _Style) -> Callable[[str], list[Turn]]:
    return lambda text: _split(text, style)


def _split(text: str, style: _Style) -> list[Turn]:
    heads = list(style.head.finditer(text))
    if not heads:
        return []
    before = ENDS.sub("", text[: heads[0].start()]).strip()
    if before and not style.preamble:
        return []
    turns = [Turn("system", before)] if before else []
    for place, head in enumerate(heads):
        role = ROLES.get(head[1].lower())
        if role is None:
            return []
        end = heads[place + 1].start() if place + 1 < len(heads) else len(text)
        said = ENDS.sub("", text[head.end() : end]).strip()
        if turns and turns[-1].role == role == "user":  # Alpaca's instruction and its input
            turns[-1] = Turn("user", f"{turns[-1].content}\n{said}".strip())
        else:
            turns.append(Turn(role, said))
    return turns


def _instructed(text: str) -> list[Turn]:
    """[INST] question [/INST] answer </s>, the system text folded into the first question."""
    if "[INST]" not in text:
        return []
    before, *rounds = ENDS.sub("", text).split("[INST]")
    turns = [Turn("system", before.strip())] if before.strip() else []
    for said in rounds:
        asked, mark, answer = said.partition("[/INST]")
        if not mark:
            return []
        system = SYSTEM.search(asked)
        if system:
            turns.append(Turn("system", system[1]))
            asked = asked.replace(system[0], "")
        turns += [Turn("user", asked.strip()), Turn("assistant", answer.strip())]
    return turns
