"""`zao uninstall`: remove what install.sh or install.ps1 put here; runs and caches only when asked for by name."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.disk import gigabytes
from xiaozao.errors import EnvironmentProblem, UsageError
from xiaozao.hub.cached import folder_bytes, remove_tree
from xiaozao.store.files import cache, home

RECORD = "install.json"


@dataclass(frozen=True)
class Installed:
    """What the installer made: PREFIX/venv, a record beside it, and the launchers that start it."""

    prefix: Path
    environment: Path
    launchers: tuple[Path, ...]


def installed(environment: Path) -> Installed:
    """The installation that this Python belongs to. Raises EnvironmentProblem if no installer made it.

    The record only says where launchers may be; each one is checked before it counts as ours.
    """
    record = environment.parent / RECORD
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
        names = [Path(name) for name in recorded["launchers"] if isinstance(name, str)]
    except (OSError, ValueError, KeyError, TypeError):
        raise EnvironmentProblem("not_installed_by_us", python=sys.executable) from None
    if not (environment / "pyvenv.cfg").is_file():
        raise EnvironmentProblem("not_installed_by_us", python=sys.executable)
    return Installed(environment.parent, environment, tuple(name for name in names if starts_ours(name, environment)))


def starts_ours(launcher: Path, environment: Path) -> bool:
    """Whether a launcher starts this environment: a link into it, a file beside it, or a small file that names it."""
    if launcher.is_symlink():
        return launcher.resolve().is_relative_to(environment.resolve())
    if launcher.is_file() and launcher.resolve().is_relative_to(environment.resolve().parent):
        return True
    if not launcher.is_file() or launcher.stat().st_size > 10_000:
        return False
    data = launcher.read_bytes()  # a .lnk holds its target in UTF-16, a .cmd in plain text
    return any(str(environment).encode(encoding) in data for encoding in ("utf-8", "utf-16-le"))


def remove_program(installation: Installed) -> None:
    """Remove launchers, environment and record. Windows locks running programs, so there it is done after we end."""
    for launcher in installation.launchers:
        launcher.unlink(missing_ok=True)
    (installation.prefix / RECORD).unlink(missing_ok=True)
    if os.name == "nt":
        subprocess.Popen(later(installation.environment), creationflags=getattr(subprocess, "DETACHED_PROCESS", 0))
        return
    remove_tree(installation.environment, installation.prefix)
    if not any(installation.prefix.iterdir()):
        installation.prefix.rmdir()


def later(environment: Path) -> list[str]:
    """A Windows command that waits for us to end and then removes the environment."""
    script = (
        f"Start-Sleep 3; Remove-Item -LiteralPath '{str(environment).replace(chr(39), chr(39) * 2)}' -Recurse -Force"
    )
    return ["powershell", "-NoProfile", "-NonInteractive", "-Command", script]


def _lines(parts: Sequence[tuple[str, Path]]) -> str:
    return "\n".join(f"  {gigabytes(folder_bytes(path)):>10}  {name}  {path}" for name, path in parts)


def _wanted(output: Output, name: str, path: Path, flag: bool) -> bool:
    """Whether the user wants this removed as well; --yes alone is no consent to it."""
    if flag or output.yes or not path.is_dir() or not folder_bytes(path):
        return flag and path.is_dir()
    return output.confirm(f"uninstall.also_{name}", path=path, size=gigabytes(folder_bytes(path)))


def work(runs: bool, caches: bool, dry_run: bool) -> None:
    output = current_output()
    installation = installed(Path(sys.prefix))
    extra = {"caches": (cache(), caches), "runs": (home() / "runs", runs)}
    parts = [(output.say("uninstall.program"), installation.environment)]
    parts += [(output.say(f"uninstall.{name}"), path) for name, (path, flag) in extra.items() if flag]
    plan = "\n".join([output.say("uninstall.will_remove"), *map(str, installation.launchers), _lines(parts)])
    document: dict[str, Any] = {
        "environment": str(installation.environment), "launchers": [str(one) for one in installation.launchers],
        "runs": runs, "caches": caches, "dry_run": dry_run,
    }  # fmt: skip
    if dry_run:
        output.result(plan, document)
        return
    output.hint(plan)
    if not output.confirm("disk.confirm"):
        raise UsageError("not_confirmed", command="zao uninstall --yes")
    for name, (path, flag) in extra.items():
        document[name] = _wanted(output, name, path, flag)
        if document[name]:
            remove_tree(path, path.parent)
    remove_program(installation)
    kept = "" if document["runs"] else "\n" + output.say("uninstall.kept", path=home())
    output.result(output.say("uninstall.done") + kept, document)
