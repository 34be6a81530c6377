"""Writes docs/options.md and docs/config.schema.json from the fields of the spec: `make docs`."""

import json
from pathlib import Path

from xiaozao.spec.fields import json_schema, options_page

DOCS = Path(__file__).parents[1] / "docs"


def pages() -> dict[str, str]:
    """File name -> content."""
    return {
        "options.md": options_page(),
        "config.schema.json": json.dumps(json_schema(), ensure_ascii=False, indent=2) + "\n",
    }


def main() -> None:
    """Write the files."""
    DOCS.mkdir(exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
