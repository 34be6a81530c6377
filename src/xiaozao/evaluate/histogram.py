"""The lengths of a file's rows as a picture: a bar per range, in the style of the curves."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from xiaozao.evaluate.curves import MUTED, TRAIN, chinese_font, save_figure, style_axes
from xiaozao.texts.catalogue import Language, say

TURNED = 6  # with more bars their names are turned, so that they do not touch


def draw_histogram(bars: Sequence[tuple[str, int]], path: Path, what: str, language: Language) -> None:
    """Draw bars (name of a range, rows). what: a key of the catalogue, for what is measured.

    The text of an SVG is always in the reader's language; a PNG is Chinese where matplotlib finds a font for it.
    """
    font = chinese_font((what, "stats.rows_axis")) if language == "zh-CN" else None
    language = language if font or path.suffix.lower() == ".svg" else "en"

    def draw(axes: Axes) -> None:
        style_axes(axes, say(what, language), say("stats.rows_axis", language))
        axes.grid(visible=False, axis="x")
        places = range(len(bars))
        axes.bar(places, [rows for _, rows in bars], color=TRAIN, width=0.9)
        axes.set_xticks(places, [name for name, _ in bars], rotation=45 if len(bars) > TURNED else 0, ha="center")
        for place, (_, rows) in enumerate(bars):
            if rows:
                axes.text(place, rows, f"{rows:,}", ha="center", va="bottom", color=MUTED, size=8)

    save_figure(path, font, draw)
