"""Where an export is written to."""

from pathlib import Path

from xiaozao.errors import UsageError


def clear(target: Path) -> None:
    """Make room for an export: an empty folder goes away. Raises UsageError for a link and for what is not empty."""
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UsageError("export_in_use", path=target)
    if target.exists():
        target.rmdir()
