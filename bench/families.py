"""Which families of models train here, and how: `make bench-families`.

    python -m bench.families                          all model types that are not examined yet
    python -m bench.families --only "qwen" --again    some, anew
    python -m bench.families --page                   docs/families.md alone

What is done to each: bench/rig/families.py. A process of its own does the work and is started anew when it hangs or
dies, so one model type cannot end the whole; each is a line of results/families.jsonl as soon as it is done.
"""

import argparse
import logging
import multiprocessing
import re
import sys
import warnings
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from transformers import __version__

from bench.rig.families import KINDS, examine
from bench.rig.families_page import Finding, families_page, read_findings, write_findings
from bench.rig.task import RESULTS

FILE, PAGE = RESULTS / "families.jsonl", Path(__file__).parents[1] / "docs" / "families.md"
PATIENCE = 180  # seconds for one model type


class Examiner:
    """A process that examines one model type after the other."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, kind: str) -> Finding:
        """What became of this type; `wrong` where the process did not answer."""
        self.connection.send(kind)
        try:
            if self.connection.poll(PATIENCE):
                found = self.connection.recv()
                assert isinstance(found, Finding)
                return found
            detail = f"no answer in {PATIENCE} s"
        except EOFError:
            detail = "the process died"
        self.process.kill()
        self.process.join()
        self._start()
        return Finding(kind, "wrong", detail)


def work(connection: "Connection[Finding, str]") -> None:
    """The process's main function: kinds come in, findings go out."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    while True:
        connection.send(examine(connection.recv()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a pattern: only the model types whose name holds it")
    parser.add_argument("--again", action="store_true", help="examine anew what is there")
    parser.add_argument("--page", action="store_true", help="only write docs/families.md from the results")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if not options.page:
        done = {one.kind for one in read_findings(FILE) if one.version == __version__}
        chosen = [kind for kind in KINDS if re.search(options.only, kind) and (options.again or kind not in done)]
        run_kinds(chosen)
    known = [one for one in read_findings(FILE) if one.kind in KINDS]
    PAGE.write_text(families_page(known), encoding="utf-8")
    return 1 if any(one.way == "wrong" for one in known) else 0


def run_kinds(kinds: list[str]) -> None:
    """One after the other, each kept as soon as it is done."""
    examiner = Examiner()
    for kind in kinds:
        finding = replace(examiner.ask(kind), version=__version__)
        write_findings(FILE, [*(one for one in read_findings(FILE) if one.kind != kind), finding])
        sys.stdout.write(f"{kind}: {finding.way} {finding.detail}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
