"""The peers' environments: one virtual environment per tool, from PyPI, with the versions pinned here.

    .bench/llamafactory-0.9.5/   .bench/trl-1.16.0/         a stamp written last; what is there is used again

LLaMA-Factory asks for torchvision and torchaudio, which have no build for this torch: the first is left out, and an
empty module stands for the second. No tool's own code is touched.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
BITSANDBYTES = "bitsandbytes==0.50.2"


@dataclass(frozen=True)
class Environment:
    """What pip shall install. Packages in `without` are left out; those in `empty` become an empty module."""

    name: str
    tool: str  # installed without its dependencies; these are read from its wheel
    packages: tuple[str, ...] = (TORCH, BITSANDBYTES)
    without: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


LLAMAFACTORY = Environment(
    "llamafactory-0.9.5", "llamafactory==0.9.5", without=("torchvision", "torchaudio"), empty=("torchaudio",)
)
TRL = Environment("trl-1.16.0", "trl==1.16.0", packages=(TORCH, BITSANDBYTES, "peft==0.21.2", "transformers==5.23.0"))

LMEVAL = Environment("lm-eval-0.4.13", "lm_eval==0.4.13", packages=(TORCH, "transformers==5.23.0", "accelerate"))


def cache_folder() -> Path:
    """Where environments and runs of the benches lie: `BENCH_CACHE`, else `.bench/` beside `bench/`."""
    given = os.environ.get("BENCH_CACHE")
    return Path(given) if given else Path(__file__).parents[2] / ".bench"


def build(environment: Environment) -> Path:
    """Make the environment unless it is there. Returns its python. Raises CalledProcessError where pip fails."""
    folder = cache_folder() / environment.name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "built.json"
    if stamp.is_file():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_index()]
    subprocess.run([*pip, "--no-deps", environment.tool], check=True)
    wanted = [one for one in _requirements(folder) if _name(one) not in environment.without]
    subprocess.run([*pip, *environment.packages, *wanted], check=True)
    for module in environment.empty:
        _site_packages(folder).joinpath(f"{module}.py").write_text('"""Nothing."""\n', encoding="utf-8")
    done = subprocess.run([*pip[:3], "freeze"], check=True, capture_output=True, text=True)
    stamp.write_text(json.dumps({"packages": done.stdout.split("\n")}, indent=1), encoding="utf-8")
    return python


def versions(environment: Environment) -> dict[str, str]:
    """What was installed, by name."""
    packages: list[str] = json.loads((cache_folder() / environment.name / "built.json").read_text("utf-8"))["packages"]
    return dict(line.split("==", 1) for line in packages if "==" in line)


def _site_packages(folder: Path) -> Path:
    return next(folder.glob("[Ll]ib/**/site-packages"))


def _requirements(folder: Path) -> list[str]:
    """What the one package that is not pip's own says it needs, extras left out."""
    found = importlib.metadata.distributions(path=[str(_site_packages(folder))])
    needed = [line for one in found if one.name not in ("pip", "setuptools") for line in one.requires or []]
    return [line for line in needed if "extra ==" not in line]


def _name(requirement: str) -> str:
    """`torchaudio>=2.4.0` -> `torchaudio`."""
    return "".join(one if one.isalnum() or one in "-_." else " " for one in requirement).split()[0].lower()


def _index() -> list[str]:
    """Where torch without CUDA is found, as in the Makefile; nothing on a machine with an NVIDIA driver."""
    index = os.environ.get("TORCH_CPU", "")
    return ["--extra-index-url", index] if index else []
