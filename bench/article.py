"""docs/article.md: the popular article's claims about memory, with the plan's numbers beside: `make docs`.

    python -m bench.article        both pages anew

The prose stands in bench/rig/article.*.md; all numbers but the article's own are computed here by the plan's code. What
was measured of streaming is read from bench/results/elephant.jsonl.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.rig.elephant_page import Elephant
from bench.rig.results import read_rows
from xiaozao.plan.fit import Setup, every_sample, fit
from xiaozao.plan.memory import RUNTIMES
from xiaozao.plan.modelcatalogue import Entry, catalogue
from xiaozao.plan.workload import STORED, ModelShape
from xiaozao.spec.plan import MemoryPlan, Moment
from xiaozao.spec.run import RunSpec
from xiaozao.texts.catalogue import LANGUAGES, Language

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
PAGES: dict[Language, str] = {"en": "article.md", "zh-CN": "article.zh-CN.md"}
SEVEN, SEVENTY = "Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
LENGTH, BATCH, CARD = 2048, 16, 24 * 10**9
FULL = {"method": "full", "weights": "bf16", "checkpointing": "block"}

NOT_MEASURED: dict[Language, str] = {
    "en": "**Not measured yet.** Memory and hours will stand here when we have run it, and not before.",
    "zh-CN": "**尚未实测。** 我们跑过之后才会在这里写出内存和时间。",
}
LOADING: dict[Language, str] = {
    "en": " That of the last row is reached earlier, while the model is loaded and one matrix is there twice.",
    "zh-CN": "最后一行的峰值出现得更早：加载模型时，有一个矩阵会同时存在两份。",
}
MEASURED: dict[Language, Sequence[str]] = {
    "en": (
        "Measured by us, on one core of a CPU and with random weights in these shapes ([streaming.md](streaming.md),\n"
        "which also says of each run how much of the core it had: what ran beside it made some steps longer):",
        "| model | base | precision | on disk | memory, predicted | measured | tokens a step | a step | 100 steps |",
        "{size} | {base} | {type} | {weights} GB | {predicted} GB | {peak} GB | {tokens} | {seconds} s | {hours} h",
    ),
    "zh-CN": (
        "我们的实测，用一个 CPU 核、相应形状的随机权重（见 [streaming.md](streaming.md)；那里也写明每次运行\n"
        "占到核的几成，有几次旁边还跑着别的任务，每步的时间因此偏长）：",
        "| 模型 | 基座 | 精度 | 硬盘 | 内存预测 | 内存实测 | 每步 token | 每步 | 100 步 |",
        "{size} | {base} | {type} | {weights} GB | {predicted} GB | {peak} GB | {tokens} | {seconds} 秒 | {hours} 小时",
    ),
}


def main() -> None:
    """Write both pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages(results: Path = RESULTS) -> dict[str, str]:
    """File name -> content."""
    found = numbers()
    measured = read_rows(results / "elephant.jsonl", Elephant)
    return {
        PAGES[language]: (ROOT / "bench" / "rig" / f"article.{language}.md")
        .read_text(encoding="utf-8")
        .format_map({**found, "elephant": elephant_text(measured, language), "load_note": load_note(language)})
        for language in LANGUAGES
    }


def planned(model: Entry, options: Mapping[str, object], device: str = "cuda") -> MemoryPlan:
    """The plan of a run of this model with these options, one sample at a time unless said otherwise."""
    spec = RunSpec.from_options(
        {"model": model.name, "data": "none", "precision": "bf16", "length": LENGTH, "batch": BATCH, "micro_batch": 1,
         "budget": CARD, **options}
    ).decided()  # fmt: skip
    sizes = every_sample((LENGTH,))
    disk = spec.model.stream == "disk"
    setup = Setup(spec.method, spec.train, device, RUNTIMES[device], spec.model.base, stream=disk)
    return fit(model.config, setup, sizes)


def training(plan: MemoryPlan) -> Moment:
    """The largest moment of a step; loading has a peak of its own, and other parts."""
    return max((one for one in plan.moments if one.name != "load"), key=lambda moment: moment.total)


def numbers() -> dict[str, str]:
    """Every number of the page, as it is written there."""
    seven = _entry(SEVEN)
    return {
        "seven": SEVEN.partition("/")[2], "parameters": f"{_shape(seven).parameters / 1e9:.2f}",
        "length": f"{LENGTH:,}", "batch": str(BATCH), **full_numbers(seven), **lora_numbers(seven),
        **base_numbers(seven), **seventy_numbers(),
    }  # fmt: skip


def full_numbers(model: Entry) -> dict[str, str]:
    """All parameters: in 16 bits, in mixed precision, and what brings them below 24 GB."""
    slim, mixed = training(planned(model, FULL)), training(planned(model, {"method": "full"}))
    eight = training(planned(model, {**FULL, "optimizer": "adamw8bit"}))
    thrifty = planned(model, {**FULL, "optimizer": "adafactor", "fused_update": True, "batch": 1})
    parts = slim.parts
    return {
        "w16": gb(parts["weights"]), "g16": gb(parts["gradients"]), "s32": gb(parts["optimizer"]),
        "sum32": gb(parts["weights"] + parts["gradients"] + parts["optimizer"]), "s8": gb(eight.parts["optimizer"]),
        "a_block": gb(parts["activations"]), "runtime": gb(parts["runtime"]), "peak16": gb(slim.total),
        "w32": gb(mixed.parts["weights"]), "g32": gb(mixed.parts["gradients"]),
        "a_mixed": gb(mixed.parts["activations"]), "peak32": gb(mixed.total), "adafactor": gb(thrifty.peak_bytes),
        "badam": gb(planned(model, {**FULL, "optimizer": "badam"}).peak_bytes),
        "paged": gb(planned(model, {**FULL, "fused_update": True, "stream": "disk", "batch": 1}, "cpu").peak_bytes),
    }  # fmt: skip


def lora_numbers(model: Entry) -> dict[str, str]:
    """What accumulation saves, and how little an adapter is."""
    together, single = planned(model, {"micro_batch": BATCH}), planned(model, {})
    again, narrow = planned(model, {"checkpointing": "block"}), planned(model, {"rank": 8})
    parts, everything = training(single).parts, _shape(model).parameters
    return {
        "lw": gb(parts["weights"]), "lg": gb(parts["gradients"], 2), "ls": gb(parts["optimizer"], 2),
        "a_all": gb(training(together).parts["activations"]), "p_all": gb(together.peak_bytes),
        "a_one": gb(parts["activations"]), "p_one": gb(single.peak_bytes),
        "a_again": gb(training(again).parts["activations"]), "p_again": gb(again.peak_bytes),
        "n8": f"{narrow.trainable / 1e6:.1f}", "share8": f"{narrow.trainable / everything:.2%}".rstrip("%"),
        "g8": gb(training(narrow).parts["gradients"], 2), "st8": gb(training(narrow).parts["optimizer"], 2),
        "n16": f"{single.trainable / 1e6:.1f}", "share16": f"{single.trainable / everything:.2%}".rstrip("%"),
        "n_full": f"{everything / 1e6:,.0f}",
    }  # fmt: skip


def load_note(language: Language) -> str:
    """Why the parts of a row are less than its peak, where the peak is that of loading."""
    loads = planned(_entry(SEVEN), {"checkpointing": "block"}).peak.name == "load"
    return LOADING[language] if loads else ""


def base_numbers(model: Entry) -> dict[str, str]:
    """A frozen base in 8 and in 4 bits, and what stays in 16."""
    shape = _shape(model)
    found: dict[str, str] = {}
    for base in ("int8", "nf4"):
        plan = planned(model, {"base": base, "checkpointing": "block"})
        found |= {f"w_{base}": gb(training(plan).parts["weights"]), f"p_{base}": gb(plan.peak_bytes)}
    outside = shape.matrix * (1 if shape.tied else 2)
    return {**found, "outside": f"{outside / 1e9:.2f}", "outside_gb": gb(2 * outside)}


def seventy_numbers() -> dict[str, str]:
    """A model of 70 billion parameters: all of it, and one block."""
    shape = _shape(_entry(SEVENTY))
    inside = sum(ins * outs for ins, outs in shape.linears.values())
    block = inside * STORED["nf4"][0] + 2 * (shape.block - inside)
    stored = shape.blocks * block + 2 * (shape.parameters - shape.blocks * shape.block)
    return {
        "seventy": SEVENTY.partition("/")[2], "p70": f"{shape.parameters / 1e9:.1f}", "w70": gb(2 * shape.parameters),
        "w70_nf4": gb(stored), "blocks70": str(shape.blocks), "block70": gb(2 * shape.block),
        "block70_nf4": gb(block, 2), "read70": f"{2 * shape.blocks * block / 1e9:.0f}",
    }  # fmt: skip


def elephant_text(measured: Sequence[Elephant], language: Language) -> str:
    """The paragraph on streaming: a table of what was measured, or that nothing was."""
    if not measured:
        return NOT_MEASURED[language]
    head, columns, cells = MEASURED[language]
    ordered = sorted(measured, key=lambda one: one.flop_a_step / one.tokens)
    rows = [f"| {cells.format_map(_cells(one))} |" for one in ordered]
    return "\n".join([head, "", columns, "|---" * (columns.count("|") - 1) + "|", *rows])


def gb(count: float, digits: int = 1) -> str:
    """Bytes as GB; 1 GB = 10^9 bytes."""
    return f"{count / 1e9:.{digits}f}"


def _cells(one: Elephant) -> dict[str, Any]:
    return {
        "size": one.size.upper(), "base": one.base, "type": one.precision, "weights": gb(one.weights_bytes),
        "predicted": gb(one.predicted_peak_bytes),
        "peak": gb(one.peak_rss_bytes), "tokens": f"{one.tokens:,}", "seconds": f"{one.step_seconds:.0f}",
        "hours": f"{one.step_seconds * 100 / 3600:.1f}",
    }  # fmt: skip


def _entry(name: str) -> Entry:
    return next(one for one in catalogue() if one.name == name)


def _shape(model: Entry) -> ModelShape:
    return ModelShape.from_config(model.config)


if __name__ == "__main__":
    main()
