"""GGUF -> a folder of bf16 safetensors, as a program of its own: python -m xiaozao.models.loading.convert FILE FOLDER

Dequantising needs four bytes a parameter for a moment; in a process of its own that peak is not the run's.
An error of ours is printed as JSON {"kind", "key", "params", "problems"} on stdout, for the process that started this.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from xiaozao.errors import XiaozaoError
from xiaozao.hub.ggufheader import read_gguf
from xiaozao.machine.guard import refuse_kernels


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit code of the error, or 0."""
    parser = argparse.ArgumentParser(prog="python -m xiaozao.models.loading.convert", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parsed = parser.parse_args(arguments)
    try:
        read_gguf(parsed.file)
        refuse_kernels()
        # Only now: this imports transformers, which must find the door shut.
        importlib.import_module("xiaozao.models.loading.dequantise").convert(parsed.file, parsed.folder)
    except XiaozaoError as error:
        problems = [{"key": one.key, "params": one.params} for one in error.problems]
        document = {"kind": type(error).__name__, "key": error.key, "params": error.params, "problems": problems}
        sys.stdout.write(json.dumps(document, default=str) + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
