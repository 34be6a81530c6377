"""Adds what people do when they type in a hurry: lower case, no punctuation, typing errors, abbreviations, emoji.

Noise works on a message whose {product}, {order} and {name} slots are still open, so that it never touches what the
ticket must copy.
"""

import random
import re

LONG_WORD = re.compile(r"\b[a-z]{5,}\b")
ENGLISH_SHORT = (("please", "pls"), ("Please", "Pls"), ("you", "u"), ("and", "&"), ("Thanks", "Thx"))
CHINESE_SLIPS = (("的", "得"), ("在", "再"), ("吗", "嘛"), ("怎么", "咋"), ("什么", "啥"), ("谢谢", "蟹蟹"))
EMOJI = ("🙂", "🙏", "😅", "😕")


def add_noise(text: str, language: str, rng: random.Random) -> str:
    """The message as a hurried person would have typed it."""
    return _english(text, rng) if language == "en" else _chinese(text, rng)


def _english(text: str, rng: random.Random) -> str:
    if rng.random() < 0.1:
        for long, short in ENGLISH_SHORT:
            text = re.sub(rf"\b{long}\b", short, text)
    if rng.random() < 0.15:
        text = text.lower()  # the slots' names are in lower case anyway
    if rng.random() < 0.08:
        text = re.sub(r"[.,!?](?=\s|$)", "", text)
    if rng.random() < 0.1:
        text = re.sub(r"(?<=[a-z])'(?=[a-z])", "", text)
    if rng.random() < 0.15:
        text = _typing_error(text, rng)
    return _emoji(text, rng, " ")


def _chinese(text: str, rng: random.Random) -> str:
    if rng.random() < 0.15:
        text = re.sub(r"[，。！？]", " ", text).strip()
    elif rng.random() < 0.15:
        text = re.sub(r"[。](?=.)", "，", text).removesuffix("。")
    elif rng.random() < 0.1:
        text = text.translate(str.maketrans("，。！？", ",.!?"))
    if rng.random() < 0.15:
        present = [(right, wrong) for right, wrong in CHINESE_SLIPS if right in text]
        if present:
            text = text.replace(*rng.choice(present), 1)
    return _emoji(text, rng, "")


def _typing_error(text: str, rng: random.Random) -> str:
    """One long word gets two letters swapped, one dropped or one doubled; its first and last letter stay."""
    words = [match for match in LONG_WORD.finditer(text) if text[match.start() - 1 : match.start()] != "{"]
    if not words:
        return text
    match = rng.choice(words)
    word = match.group()
    at = rng.randrange(1, len(word) - 2)
    wrong = rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
        )
    )
    return text[: match.start()] + wrong + text[match.end() :]


def _emoji(text: str, rng: random.Random, space: str) -> str:
    return text + space + rng.choice(EMOJI) if rng.random() < 0.04 else text
