"""Writes the generated items of the probe, src/xiaozao/evaluate/probe/{arithmetic,solutions}.jsonl.

    python scripts/make_probe.py

They come from a fixed seed. The other items (facts, logic, forms, texts) were written by hand, and their files are the
source. A line is an item as evaluate/suite.py reads it.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "src" / "xiaozao" / "evaluate" / "probe"
Row = dict[str, Any]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    write("arithmetic", arithmetic())
    write("solutions", solutions())


def write(name: str, rows: Sequence[Row]) -> None:
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def arithmetic() -> list[Row]:
    """Sums and differences of one, two and three digits, and one-step word problems."""
    rows: list[Row] = []
    for language, counts in (("en", (40, 20, 15, 25)), ("zh", (30, 15, 10, 25))):
        draw, known = random.Random(f"arithmetic {language}"), set[tuple[int, str, int]]()
        for digits, count in zip((1, 2, 3), counts[:3], strict=True):
            done = 0
            while done < count:
                low, high = ((2, 12), (11, 99), (101, 999))[digits - 1]
                a, b = draw.randint(low, high), draw.randint(low, high)
                sign = "+" if digits == 1 or draw.random() < 0.6 else "-"
                result = a + b if sign == "+" else a - b
                if result <= 0 or result in (a, b) or (a, sign, b) in known:  # an echo of the question is no answer
                    continue
                known.add((a, sign, b))
                text = f"What is {a} {sign} {b}?" if language == "en" else f"{a} {sign} {b} 等于多少？"
                rows.append(item(f"{language}-{digits}-{done:02}", language, text, "number", [str(result)]))
                done += 1
        for number, (ask, result) in enumerate(problems(language, counts[3], draw)):
            rows.append(item(f"{language}-word-{number:02}", language, ask, "number", [str(result)]))
    return rows


def problems(language: str, count: int, draw: random.Random) -> Iterator[tuple[str, int]]:
    """Word problems of one step: the question and the result."""
    for number in range(count):
        name, things = draw.choice(NAMES[language]), draw.choice(THINGS[language])
        a, b = draw.randint(6, 20), draw.randint(2, 5)
        told = ENGLISH if language == "en" else CHINESE
        text = told[number % 4].format(name=name, things=things, a=a, b=b, product=a * b)
        yield text, (a + b, a - b, a * b, a)[number % 4]


NAMES = {
    "en": ("Anna", "Ben", "Clara", "David", "Emma", "Frank"),
    "zh": ("小明", "小红", "小刚", "小丽", "小军", "小芳"),
}
THINGS = {
    "en": ("apples", "pencils", "books", "stamps", "marbles", "cards"),
    "zh": ("苹果", "铅笔", "书", "邮票", "弹珠", "卡片"),
}
ENGLISH = (
    "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
    "{name} has {a} {things} and gives away {b}. How many {things} are left?",
    "{name} has {b} boxes with {a} {things} in each. How many {things} are there in all?",
    "{name} puts {product} {things} into {b} bags, the same number in each. How many {things} are in one bag?",
)
CHINESE = (
    "{name}有{a}个{things}，又得到{b}个。{name}现在有几个{things}？",
    "{name}有{a}个{things}，送掉了{b}个。还剩几个{things}？",
    "{name}有{b}个盒子，每个盒子里有{a}个{things}。一共有几个{things}？",
    "{name}把{product}个{things}平均放进{b}个袋子。每个袋子里有几个{things}？",
)
# A problem of two steps and its solution.
SOLVED = {
    "en": (
        (
            "{name} buys {b} packs of {a} {things} and finds {c} more at home. How many {things} are there?",
            "First we count the {things} in the packs: {b} times {a} is {first}. Then we add the {c} that were at "
            "home: {first} plus {c} is {plus}. The answer is {plus}.",
        ),
        (
            "{name} sells {b} bags a day. Each bag holds {a} {things}. How many {things} are sold in {d} days?",
            "In one day {b} bags with {a} {things} each are sold, which makes {b} times {a} = {first}. In {d} days "
            "that is {first} times {d} = {times}. The answer is {times}.",
        ),
    ),
    "zh": (
        (
            "{name}买了{b}包{things}，每包{a}个，家里还有{c}个。一共有多少个{things}？",
            "先算买来的：{b}包，每包{a}个，共{first}个。再加上家里的{c}个：{first} + {c} = {plus}。答案是{plus}。",
        ),
        (
            "{name}每天卖{b}袋{things}，每袋{a}个。{d}天一共卖多少个{things}？",
            "一天卖{b}袋，每袋{a}个，是{first}个。{d}天就是{first} × {d} = {times}个。答案是{times}。",
        ),
    ),
}


def solutions() -> list[Row]:
    """Problems of two steps with their worked solutions, whose likelihood is measured."""
    rows = []
    for language, forms in SOLVED.items():
        draw = random.Random(f"solutions {language}")
        for number in range(40):
            a, b, c, d = draw.randint(3, 12), draw.randint(2, 6), draw.randint(2, 9), draw.randint(2, 5)
            values = {"a": a, "b": b, "c": c, "d": d, "first": a * b, "plus": a * b + c, "times": a * b * d}
            names = {"name": draw.choice(NAMES[language]), "things": draw.choice(THINGS[language])}
            ask, told = (text.format(**values, **names) for text in forms[number % 2])
            rows.append(item(f"{language}-{number:02}", language, ask, "likelihood", [told]))
    return rows


def item(name: str, language: str, ask: str, check: str, answers: Sequence[str]) -> Row:
    return {"id": name, "language": language, "ask": ask, "check": check, "answers": list(answers)}


if __name__ == "__main__":
    main()
