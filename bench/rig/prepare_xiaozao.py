"""Xiaozao's preparation of a file, timed: `python prepare_xiaozao.py FILE MODEL LENGTH CORES FOLDER`."""

import json
import sys
import time
from pathlib import Path

from xiaozao.data.prepare import prepare
from xiaozao.spec.parts import DataSpec


def main() -> None:
    file, model, length, _, folder = sys.argv[1:]
    spec = DataSpec(data=file, validation="none", length=int(length))
    begun = time.perf_counter()
    data = prepare(spec, Path(model), 0, Path(folder) / f"cache-{time.time_ns()}", lambda *_: None)
    seconds = time.perf_counter() - begun
    told = {"seconds": seconds, "tokens": data.train.tokens, "targets": data.train.target_tokens}
    (Path(folder) / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
