"""The findings as one HTML file to hand on: without a script and without a single request to anywhere.

All that comes from the data passes the template's escaping, and characters that steer a text show as what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from xiaozao.data.quality.findings import GRAVITY, Found
from xiaozao.errors import EnvironmentProblem, UsageError
from xiaozao.texts.catalogue import Language, say
from xiaozao.texts.visible import visible

TEMPLATE = Path(__file__).with_name("findings.html.j2")


@dataclass(frozen=True)
class Checked:
    """What the page says of the file itself."""

    name: str
    size: int
    rows_read: int
    rows_used: int
    problems: Sequence[str]
    compared: int


def render(checked: Checked, findings: Sequence[Found], language: Language) -> str:
    """The page as HTML."""
    environment = SandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["visible"] = lambda text: visible(str(text))
    counts = {gravity: sum(found.gravity == gravity for found in findings) for gravity in GRAVITY}

    def words(key: str, **params: object) -> str:
        return say(key, language, **params)

    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        say=words, language=language, checked=checked, findings=findings, counts=counts,
        size=f"{checked.size:,} B" if checked.size < 10**6 else f"{checked.size / 10**6:,.1f} MB",
    )  # fmt: skip


def write(path: Path, page: str, overwrite: bool) -> None:
    """Write the page. Raises UsageError for a file that is there, EnvironmentProblem if it cannot be written."""
    if path.exists() and not overwrite:
        raise UsageError("fix_exists", path=path)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem("fix_write", path=path, detail=error.strerror or str(error)) from None
