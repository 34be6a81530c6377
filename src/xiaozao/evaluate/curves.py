"""A run's numbers as files: metrics.csv for a spreadsheet, loss.png to send around, loss.svg for the report.

    events -> collect -> History -> write_metrics, draw_curve

The CSV holds the numbers as the run computed them; only the column that says so is smoothed. Drawing uses matplotlib's
figure objects and none of its global state, so that it is safe in any thread, and the same events give the same bytes.
"""

import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from xiaozao.events import Evaluated, Event, Started, Step
from xiaozao.texts.catalogue import Language, catalogue, say

TEXT, MUTED, GRID, SURFACE = "#1a2029", "#566070", "#d5dae1", "#ffffff"
TRAIN, VALIDATION = "#1d5fd1", "#a35c10"
# What stands for each colour on a page that has a dark side as well.
VARIABLES = {TEXT: "--text", MUTED: "--muted", GRID: "--line", SURFACE: "--bg", TRAIN: "--accent", VALIDATION: "--eval"}
COLUMNS = (
    "step", "epoch", "loss", "smoothed_loss", "validation_loss", "learning_rate", "grad_norm",
    "tokens", "tokens_per_second", "seconds", "peak_bytes", "validation_accuracy", "validation_margin",
)  # fmt: skip
LABELS = ("curve.step", "curve.loss", "curve.train", "curve.smoothed", "curve.validation", "curve.best", "curve.empty")
CJK_FONTS = (
    "Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "HarmonyOS Sans SC", "SimHei",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Hiragino Sans GB", "Noto Sans SC", "Noto Sans CJK JP",
    "Source Han Sans CN", "Noto Serif CJK SC", "DengXian", "SimSun", "STHeiti", "Heiti SC", "Songti SC",
    "Arial Unicode MS", "LXGW WenKai", "AR PL UMing CN", "Droid Sans Fallback",
)  # fmt: skip
FEW = 40  # with fewer steps each one gets a dot, or a run of one step would be an empty picture


@dataclass(frozen=True)
class History:
    """The steps and validations that led to the result, each step once."""

    steps: tuple[Step, ...]
    evaluations: tuple[Evaluated, ...]

    @property
    def best(self) -> Evaluated | None:
        """The last validation that was the best so far."""
        return next((one for one in reversed(self.evaluations) if one.best), None)

    def smoothed(self) -> list[float]:
        """The training loss, smoothed over about a fifteenth of the run, at most 50 steps."""
        return smooth([one.loss for one in self.steps], span=min(50.0, max(1.0, len(self.steps) / 15)))


def collect(events: Iterable[Event]) -> History:
    """The steps and validations in the journal. A resumed run replaces the steps after its checkpoint."""
    steps: dict[int, Step] = {}
    evaluations: dict[int, Evaluated] = {}
    for event in events:
        if isinstance(event, Started):
            last = event.resumed_from or 0
            steps = {at: one for at, one in steps.items() if at <= last}
            evaluations = {at: one for at, one in evaluations.items() if at <= last}
        elif isinstance(event, Step):
            steps[event.step] = event
        elif isinstance(event, Evaluated):
            evaluations[event.step] = event
    return History(tuple(steps[at] for at in sorted(steps)), tuple(evaluations[at] for at in sorted(evaluations)))


def smooth(values: Sequence[float], span: float) -> list[float]:
    """The exponential moving average with its start-up bias taken out, so that it begins at the first value.

    A value that is not finite is passed over: one NaN must not blank the rest of the curve.
    """
    decay = 1 - 2 / (span + 1)
    total = weight = 0.0
    result = []
    for value in values:
        if math.isfinite(value):
            total = decay * total + (1 - decay) * value
            weight = decay * weight + (1 - decay)
        result.append(total / weight if weight else math.nan)
    return result


def write_metrics(events: Iterable[Event], folder: Path) -> Path:
    """metrics.csv: one line per step, every number with all its digits; an empty cell where nothing was measured."""
    history = collect(events)
    smoothed = dict(zip((one.step for one in history.steps), history.smoothed(), strict=True))
    steps = {one.step: one for one in history.steps}
    validation = {one.step: one for one in history.evaluations}
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for at in sorted(steps.keys() | validation.keys()):
        table.writerow(_row(at, steps.get(at), smoothed.get(at), validation.get(at)))
    path = folder / "metrics.csv"
    path.write_bytes(text.getvalue().encode())
    return path


def draw_curve(events: Iterable[Event], folder: Path, language: Language) -> tuple[Path, Path]:
    """loss.png and loss.svg: each step faint, the smoothed loss strong, validation dashed with diamonds, best a star.

    The drawing in loss.svg keeps its text, which a browser sets in the reader's font: it is always in the reader's
    language. The picture in loss.png is Chinese where matplotlib finds a font that can write it; otherwise English.
    """
    font = chinese_font() if language == "zh-CN" else None
    history = collect(events)
    png, svg = folder / "loss.png", folder / "loss.svg"
    _save(history, svg, language, font)
    _save(history, png, language if font else "en", font)
    return png, svg


def _save(history: History, path: Path, language: Language, font: str | None) -> None:
    """One file of the curve."""
    guessed = language == "zh-CN" and font is None
    save_figure(path, font, lambda axes: _draw(axes, history, language, room=0.87 if guessed else 1.0))


def save_figure(path: Path, font: str | None, draw: Callable[[Axes], None]) -> None:
    """One picture, a PNG or an SVG by its name: what `draw` puts on its axes, in our style."""
    style = matplotlib.rc_context(
        {
            "font.family": [font, "DejaVu Sans"] if font else ["DejaVu Sans"],
            "font.size": 11,
            "axes.unicode_minus": False,  # few CJK fonts have the typographic minus
            "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and set in the reader's font
            "svg.hashsalt": "xiaozao",
        }
    )
    metadata = {"Software": None} if path.suffix.lower() == ".png" else {"Date": None, "Creator": None}
    with style, warnings.catch_warnings():
        # Without a font the widths of Chinese characters are guessed; the browser has one.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(7.2, 4.0), layout="constrained", facecolor=SURFACE)
        draw(figure.add_subplot())
        figure.savefig(path, dpi=160, metadata=metadata)


def inline_svg(svg: str) -> str:
    """A drawn curve as an element of a page: without its XML head and metadata, and in the page's own colours."""
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        body = body.replace(f": {colour}", f": var({variable})")
    return body


def chinese_font(labels: Iterable[str] = LABELS) -> str | None:
    """The first usable font that has every character of our labels (keys of the catalogue), if any."""
    needed = set("".join(catalogue("zh-CN")[label] for label in labels)) - {" "}
    for name in CJK_FONTS:
        try:
            path = findfont(FontProperties(family=name), fallback_to_default=False)
        except ValueError:
            continue
        font = get_font(path)
        if all(font.get_char_index(ord(character)) for character in needed):
            return name
    return None


def _row(at: int, step: Step | None, smoothed: float | None, validation: Evaluated | None) -> list[str]:
    loss, preferred = (validation.loss, [validation.accuracy, validation.margin]) if validation else (None, [None] * 2)
    measured: list[float | None] = [at, None, None, None, loss, *[None] * 6]
    if step is not None:
        measured = [
            at, step.epoch, step.loss, smoothed, loss, step.learning_rate, step.grad_norm,
            step.tokens, step.tokens_per_second, step.seconds, step.peak_bytes,
        ]  # fmt: skip
    return ["" if value is None else repr(value) for value in [*measured, *preferred]]


def _draw(axes: Axes, history: History, language: Language, room: float) -> None:
    """Draw the curve. room: the right end of the legend, a share of the width; below 1 if its text may be wider."""
    _style(axes, language)
    steps = [one.step for one in history.steps]
    losses = [_finite(one.loss) for one in history.steps]
    dot = "o" if len(steps) < FEW else ""
    axes.plot(steps, losses, dot + "-", color=TRAIN, alpha=0.35, lw=1, ms=3, label=say("curve.train", language))
    axes.plot(steps, history.smoothed(), color=TRAIN, lw=2.2, label=say("curve.smoothed", language))
    if history.evaluations:
        at = [one.step for one in history.evaluations]
        loss = [_finite(one.loss) for one in history.evaluations]
        axes.plot(at, loss, "D--", color=VALIDATION, lw=1.6, ms=5, label=say("curve.validation", language))
    if history.best is not None:
        label = say("curve.best", language, loss=f"{history.best.loss:.3f}")
        axes.plot([history.best.step], [history.best.loss], "*", color=VALIDATION, ms=16, mec=SURFACE, label=label)
    if not history.steps and not history.evaluations:
        axes.text(0.5, 0.5, say("curve.empty", language), transform=axes.transAxes, ha="center", color=MUTED)
    else:
        axes.legend(frameon=False, labelcolor=TEXT, loc="upper right", bbox_to_anchor=(room, 1.0))


def _style(axes: Axes, language: Language) -> None:
    style_axes(axes, say("curve.step", language), say("curve.loss", language))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def style_axes(axes: Axes, below: str, beside: str) -> None:
    """Axes in our colours, with what they measure."""
    axes.set_facecolor(SURFACE)
    axes.set_xlabel(below, color=TEXT)
    axes.set_ylabel(beside, color=TEXT)
    axes.tick_params(colors=MUTED, labelcolor=TEXT)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def _finite(value: float) -> float:
    """The values, with NaN for infinite ones: they become gaps, because an infinite loss would stretch the axis."""
    return value if math.isfinite(value) else math.nan
