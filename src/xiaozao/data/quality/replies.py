"""What is wrong with an answer by itself: hollow, cut, a refusal, a loop, a copy of the question.

A kind in STYLE is a fault only where it is rare: in a file of labels every answer is one word.
"""

import re
from collections import Counter
from operator import add, eq

from xiaozao.data.formats import Conversation
from xiaozao.data.quality.endings import breaks_off
from xiaozao.data.quality.findings import Check, Hit, answers, asked_before, head, holds, tail

STYLE = {"one_word": 0.1, "no_end": 0.05, "speaker": 0.3, "white_space": 0.5}  # above this share it is the file's way
HOLLOW = {"n/a", "na", "null", "nan", "nil", "无", "略", "空", "todo", "tbd", "test", "测试", "暂无", "暂无回答",
          "暂无答案", "待补充",
          "见附件",
          "同上", "undefined", "ditto", "see above", "no answer", "no data", "无内容", "xxx", "asdf",
          "string"}  # fmt: skip
SIDES = " \t\r\n.。…-—_*?!？！~/\\\"'“”()（）"  # around what an answer says
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
HAN = re.compile("[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]")
END = re.compile(
    r"[.!?。！？…~～)）\]】》」』\"'”’*`:：;；}>|、。\d]\s*\Z|[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f❤]\s*\Z"
)
LIST_END = re.compile(
    r"^\s*(?:[-*•·]|\d+[.、)）]|[a-zA-Z][.)]|[（(]\d+[)）]|#|>|\||[A-Z][\w ]{0,30}:|[^:：\n]{1,20}[：:])"
)
CUT = re.compile(
    r"(?i)(?:\.\.\.|…|……)?\s*[\[(（【]?(?:truncated|to be continued|未完待续|未完|截断|内容过长已省略)[\])）】]?\s*\Z"
)
REFUSAL = re.compile(
    r"(?i)\A\W*(?:(?:i['’]m|i am|we['’]re) (?:really |very |truly |so )?(?:sorry|afraid),? ?(?:but )?(?:that )?(?:i"
    r"|we) "
    r"(?:can['’]?t|can ?not|am (?:not able|unable)|['’]m (?:not able|unable)|won['’]t|must decline)"
    r" (?:to )?(?:assist|help|comply|fulfil|provide|answer|do that|engage|generate|discuss|continue|create|write"
    r"|share|offer|support)"
    r"|(?:sorry|apologies|i apologi[sz]e),? ?(?:but )?i (?:can['’]?t|can ?not|am unable to) (?:assist|help|comply"
    r"|fulfil|provide|answer|do)"
    r"|(?:unfortunately, )?i(?: can['’]?t| can ?not| won['’]t| am unable to| am not able to|['’]m not able to"
    r"|['’]m unable to) (?:assist|help|comply|fulfil|engage|generate"
    r"|provide (?:that|this|you))"
    r"|(?:很?抱歉|对不起|不好意思|非常抱歉)[，,]?(?:但)?(?:我|作为.{0,16}我?)?(?:不能|无法|没有办法|不可以)"
    r"(?:提供|回答|协助|帮助|满足|完成|生成|继续|参与|讨论|给您|为您|给出)|我(?:无法|不能)(?:协助|回答|提供|满足"
    r"|完成|生成)(?:您|你|这|该|此|任何|相关|有关))"
)
DISCLAIMER = re.compile(
    r"(?i)\bas an? (?:ai|artificial intelligence|large language model|language model)\b|\bi(?: am|['’]m) (?:just "
    r"|only )?an? "
    r"(?:ai\b|artificial|large language|language model)|\bmy (?:knowledge|training)(?: data)? (?:cutoff|cut-off)"
    r"|(?:i am|i['’]m) (?:chatgpt|claude|gemini|bard|llama|qwen)\b|(?:trained|developed|created) by openai"
    r"|作为(?:一个|一名|一款|一种)?(?:AI|人工智能|大型?语言|语言|聊天)(?:大?语言|对话)?(?:模型|助手|助理|机器人|程序)"
    r"|我(?:只)?是(?:一个|一名|一款|由)?(?:AI|人工智能|OpenAI|ChatGPT|大型?语言模型|语言模型|文心一言|通义千问)"
    r"|截至我的知识|我的知识截止"
)
NATURES = ("AI", "anguage model", "n ai", "artificial", "utoff", "ut-off", "hatGPT", "laude", "emini", "Bard",
           "lama", "wen", "语言模型",
           "人工智能", "机器人", "知识截", "的知识", "文心", "通义")  # fmt: skip
STAMMER = re.compile(r"\b(\w{2,20}(?: \w{1,20}){0,3})(?: \1\b){3,}")
STAMMER_HAN = re.compile("([\u4e00-\u9fff，,、]{2,12}?)\\1{2,}")
UNITS = (". ", "!", "?", "。", "！", "？")  # end a sentence, as a line break does
BRACKETS = {")": "(", "）": "（", "]": "[", "】": "【", "}": "{", "》": "《", "」": "「", "』": "『", "”": "“"}
PAIRED = re.compile("[()（）\\[\\]【】{}《》「」『』“”]")
NUMBERING = re.compile(
    r"(?m)(?:^|(?<=[\s，。；：、]))(?:[0-9]{1,2}|[a-zA-Z]|[ivxIVX]{1,4}|[一二三四五六七八九十]+|第?[①-⑳])[)）]"
    r"|[:;8=]['-]?[()]|[)（]:"
)


def hollow(conversation: Conversation) -> Hit | None:
    """An answer that fills a field and says nothing: "N/A", "无", "…"."""
    for number, turn in answers(conversation):
        bare = turn.content.strip(SIDES).lower()
        if not bare or (bare in HOLLOW and not bare.isdigit()):
            return Hit(turn.content.strip()[:40], number)
    return None


def one_word(conversation: Conversation) -> Hit | None:
    """The only answer of a row is one word."""
    given = list(answers(conversation))
    if len(given) != 1 or given[0][1].reasoning:
        return None
    number, turn = given[0]
    text = turn.content.strip()
    if len(text) > 24:
        return None
    han, words = len(HAN.findall(text)), WORD.findall(text)
    short = han <= 2 if han else len(words) == 1 and words[0].isalpha()
    return Hit(text, number) if words and short else None


def no_end(conversation: Conversation) -> Hit | None:
    """An answer in prose that stops without a mark, in a comma or in a conjunction."""
    for number, turn in answers(conversation):
        text = turn.content.rstrip()
        if CUT.search(text[-40:]):
            return Hit(tail(text), number)
        line = text[text.rfind("\n") + 1 :]
        if len(text) < 25 or END.search(text[-8:]) or not _is_prose(line, text):
            continue
        return Hit(tail(text), number)
    return None


def hanging(conversation: Conversation) -> Hit | None:
    """An answer that ends in a comma, an opening bracket or a word that has to go on."""
    for number, turn in answers(conversation):
        text = turn.content.rstrip()
        if len(text) >= 8 and "```" not in text and "|" not in text[-200:] and breaks_off(text):
            return Hit(tail(text), number)
    return None


def unbalanced(conversation: Conversation) -> Hit | None:
    """A code fence, bracket or quotation mark that is opened and not closed. In code and formulas brackets are free."""
    for number, turn in answers(conversation):
        text = turn.content
        if text.count("```") % 2:
            return Hit(tail(text), number)
        if "`" in text or "\\" in text or "$" in text or ";\n" in text or "def " in text:
            continue
        if (
            any(text.count(left) != text.count(right) for right, left in BRACKETS.items())
            and (place := _unclosed(text)) is not None
        ):
            return Hit(tail(text[: place + 40], 80), number)
    return None


def refusal(conversation: Conversation) -> Hit | None:
    """An answer that declines."""
    for number, turn in answers(conversation):
        if REFUSAL.search(turn.content[:160]):
            return Hit(head(turn.content), number)
    return None


def disclaimer(conversation: Conversation) -> Hit | None:
    """Find an answer in which the model describes itself as an AI, such as “As an AI language model”."""
    for number, turn in answers(conversation):
        if not holds(turn.content, NATURES):
            continue
        if match := DISCLAIMER.search(turn.content):
            return Hit(head(turn.content[max(0, match.start() - 10) :]), number)
    return None


def loop(conversation: Conversation) -> Hit | None:
    """An answer in which a sentence or a few words come again and again."""
    for number, turn in answers(conversation):
        text = turn.content
        if len(text) < 12 or "```" in text:
            continue
        match = _stammered(text)
        if match and len(set(match[1])) > 1 and len(match[0]) >= (16 if match[0].isascii() else 12):
            return Hit(head(text[match.start() :]), number)
        if again := _again(text):
            return Hit(head(again), number)
    return None


def echo(conversation: Conversation) -> Hit | None:
    """An answer that is the question once more."""
    for number, turn in answers(conversation):
        question = asked_before(conversation, number)
        if not 0.5 * len(question) <= len(turn.content) <= 1.5 * len(question):
            continue
        asked, given = _bare(question), _bare(turn.content)
        if len(given) >= 6 and asked and (given == asked or (len(asked) >= 8 and given.startswith(asked)
                                                             and len(given) < 1.25 * len(asked))):  # fmt: skip
            return Hit(head(turn.content), number)
    return None


def _is_prose(line: str, text: str) -> bool:
    """Whether a last line is a sentence: not an item of a list, a heading, code, a verse or a table."""
    if LIST_END.match(line) or any(sign in text for sign in ("```", "http", "<", "=", "\\")):
        return False
    if HAN.search(line):
        return len(line) >= 16 and (text.count("\n") < 3 or len(line) >= 24)
    words = line.split()
    marked = any(mark in text[:-1] for mark in ".!?")
    return len(words) >= (8 if marked else 12) and text.count("\n") * 60 < len(text)


def _unclosed(text: str) -> int | None:
    """Where a bracket stands that has no partner."""
    if not PAIRED.search(text):
        return None
    spared = {place for match in NUMBERING.finditer(text) for place in range(*match.span())}
    open_: list[tuple[str, int]] = []
    for match in PAIRED.finditer(text):
        sign, place = match[0], match.start()
        if sign not in BRACKETS:
            open_ += [] if place in spared else [(sign, place)]
        elif open_ and _same(open_[-1][0], BRACKETS[sign]):
            open_.pop()
        elif place not in spared:
            return place
    return open_[-1][1] if open_ else None


def _same(left: str, right: str) -> bool:
    """Half and full width close each other, as people type them."""
    pairs = {"(": "（", "（": "(", "[": "【", "【": "["}
    return left == right or pairs.get(left) == right


def _stammered(text: str) -> "re.Match[str] | None":
    """Words, or Chinese characters, that come four times on end. The patterns are slow, so counts decide first."""
    words = text.split()
    if (
        len(words) - len(set(words)) >= 3
        and any(sum(map(eq, words, words[step:])) >= 3 * step for step in (1, 2, 3, 4))
        and (match := STAMMER.search(text))
    ):
        return match
    if text.isascii() or len(text) - len(set(text)) < 5:
        return None
    pairs = list(map(add, text, text[1:]))
    if len(pairs) - len(set(pairs)) < 5:  # a repeated gram repeats its pairs
        return None
    grams = [text[place : place + 4] for place in range(len(text) - 3)]
    return STAMMER_HAN.search(text) if len(grams) - len(set(grams)) >= 5 else None


def units_of(text: str) -> list[str]:
    """The sentences and lines of a text, without space around them."""
    for end in UNITS[:3] if text.isascii() else UNITS:
        text = text.replace(end, "\n")
    return list(map(str.strip, text.split("\n")))


def _again(text: str) -> str:
    """A sentence that comes three times on end, or four times in all and makes up a third of the text."""
    units = [unit for unit in units_of(text) if len(unit) >= 4]
    if len(units) - len(set(units)) < 2:
        return ""
    for first, second, third in zip(units, units[1:], units[2:], strict=False):
        if first == second == third and (len(first) >= 6 or units.count(first) >= 4):
            return first
    if len(units) < 4:
        return ""
    unit, count = Counter(units).most_common(1)[0]
    return unit if count >= 4 and len(unit) >= 12 and count * len(unit) * 3 >= len(text) else ""


def _bare(text: str) -> str:
    return "".join(WORD.findall(text)).lower()


CHECKS: dict[str, Check] = {
    "hollow_answer": hollow,
    "one_word": one_word,
    "no_end": no_end,
    "hanging": hanging,
    "unbalanced": unbalanced,
    "refusal": refusal,
    "disclaimer": disclaimer,
    "loop": loop,
    "echo": echo,
}
