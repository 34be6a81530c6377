"""The rules of the house that a linter does not know. An exception is written here with its reason, or it fails."""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from importlinter.cli import lint_imports

from tests.toy import toy_folder, write_chats

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "xiaozao"
CODE = sorted(path for folder in ("src", "tests", "bench", "scripts") for path in (ROOT / folder).rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# ruff's exceptions by file: which rule, and why it cannot be kept there.
PER_FILE = {
    "src/xiaozao/cli/main.py": {
        "PLC0415": "a verb is imported when it is called, so that `zao --help` answers in 0.3 s",
        "BLE001": "the last net: what nobody foresaw becomes one sentence and an exit code",
    },
    "src/xiaozao/worker/main.py": {
        "PLC0415": "`kernels` must be refused before transformers is imported",
    },
    "src/xiaozao/worker/evaluator.py": {
        "PLC0415": "`kernels` must be refused before transformers is imported",
    },
    "src/xiaozao/worker/held.py": {
        "PLC0415": "`kernels` must be refused before transformers is imported",
        "BLE001": "the last net: a run must end with an Ended event",
    },
}

# Suppressions in the code: how many of which kind, and what makes them unavoidable.
SUPPRESSED = {
    ("src/xiaozao/models/blocks.py", "no-any-return"): (1, "a module's forward is untyped in transformers"),
    ("src/xiaozao/hub/hubs.py", "no-untyped-call"): (1, "tqdm ships no types"),
    ("src/xiaozao/measure/ledger.py", "no-untyped-call"): (1, "a dispatch mode is built untyped in torch"),
}

LONGEST_FILE, LONGEST_FUNCTION = 500, 60
NO_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "manager", "misc", "base"}

# Paths of one machine have no place in what others read. In pieces, because this file is searched as well.
MACHINE = re.compile(r"(?<![\w./~-])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "tmp/bo" + "ot")) + r")(?![\w-])")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """All modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def importers(*packages: str) -> set[str]:
    """The first folder under src/xiaozao of every file that imports one of the packages."""
    return {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        if any(name == one or name.startswith(one + ".") for name in imports(path) for one in packages)
    }


# --- who may import whom -----------------------------------------------------------------------------------------


def test_the_import_contracts_hold(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_every_room_has_its_place_in_the_contract_of_rows() -> None:
    rows = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    placed = {room.strip() for row in rows for room in row.split("|")}
    rooms = {f"xiaozao.{path.stem}" for path in SOURCE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert placed == {room for room in rooms if not room.rpartition(".")[2].startswith("__")}


def test_databases_servers_and_tensor_files_are_the_business_of_few() -> None:
    assert importers("sqlite3", "sqlalchemy") <= {"store"}
    assert importers("safetensors") <= {"models", "export"}
    assert importers("fastapi", "starlette", "uvicorn", "http.server", "socketserver", "flask") <= {"studio", "serve"}


def test_sql_stands_only_in_the_store() -> None:
    statement = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|ATTACH|BEGIN)\s+[\w*]")
    found = {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.match(node.value)
    }
    assert found == {"store"}


# Modules that share a name: entry points, the same of another stack, a verb beside what it shows, and the sources of
# two kinds. Every other name says where to look.
SHARED_NAMES = {
    "main": {"cli/main.py", "worker/main.py"},
    "sources": {"data/sources.py", "hub/sources.py"},
    "plan": {"cli/plan.py", "spec/plan.py", "plan/hf/plan.py"},
    "runs": {"cli/runs.py", "store/runs.py"},
    "summary": {"cli/summary.py", "evaluate/summary.py"},
    "disk": {"cli/disk.py", "models/artefacts/disk.py"},
    "launch": {"cli/launch.py", "runs/launch.py"},
    "attention": {"models/layers/attention.py", "plan/hf/attention.py"},
    "load": {"models/load.py", "plan/hf/load.py"},
    "tape": {"spec/tape.py", "plan/hf/tape.py"},
}


def test_a_module_has_a_name_of_its_own() -> None:
    places: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        places.setdefault(path.stem, set()).add(path.relative_to(SOURCE).as_posix())
    shared = {name: found for name, found in places.items() if len(found) > 1 and not name.startswith("__")}
    assert shared == SHARED_NAMES


# --- what must be instant stays without torch --------------------------------------------------------------------

LOADED = """
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "transformers", "bitsandbytes"})))
"""

LOOK = "import json, sys, xiaozao.cli.main" + LOADED

USE = (
    """
import json, sys
from pathlib import Path
from xiaozao.data.prepare import prepare
from xiaozao.events import Started
from xiaozao.hub.sources import resolve
from xiaozao.plan.command import plan_command
from xiaozao.spec.run import RunSpec
from xiaozao.store import db
from xiaozao.store.files import cache, create_run, open_run
from xiaozao.store.journal import Journal, read_records
model, data, output = sys.argv[1:]
quiet = lambda *_: None
folder = resolve(model, "auto", None, cache(), quiet)
spec = RunSpec.from_options({"model": model, "data": data, "output": output, "length": 256, "validation": 0.2})
run = create_run(output, "toy")
run.spec.write_text(spec.to_yaml(), encoding="utf-8")
with Journal(run.events) as journal:
    journal.record(Started("toy", 1))
db.add(open_run(output).path)
assert len(read_records(run.events)[0]) == 1 and db.paths() == [run.path]
assert plan_command(spec, folder.path).plan.peak_bytes > 0
prepared = prepare(spec.data, folder.path, 0, cache(), quiet)
assert prepared.counts is not None
"""
    + LOADED
)


def python(code: str, *arguments: object, home: Path) -> Any:
    """What `code` prints as JSON, in a process of its own."""
    home.mkdir(exist_ok=True)
    variables = {"ZAO_HOME": str(home), "ZAO_OFFLINE": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env={**os.environ, **variables}, capture_output=True, text=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_line_is_there_without_torch(tmp_path: Path) -> None:
    assert python(LOOK, home=tmp_path) == []


def test_planning_data_and_store_do_their_work_without_torch(tmp_path: Path) -> None:
    model, data = toy_folder(tmp_path / "model"), write_chats(tmp_path / "chats.jsonl", 40)
    assert python(USE, model, data, tmp_path / "run", home=tmp_path / "home") == []


# --- exceptions --------------------------------------------------------------------------------------------------


def test_the_exceptions_from_the_linter_are_those_named_here() -> None:
    lint = PYPROJECT["tool"]["ruff"]["lint"]
    assert {path: set(rules) for path, rules in lint["per-file-ignores"].items()} == {
        path: set(rules) for path, rules in PER_FILE.items()
    }
    assert not {"ignore", "extend-ignore", "extend-per-file-ignores", "unfixable"} & lint.keys()
    assert set(lint["select"]) >= set("E F I B UP RUF100 C901 PLR0913 PLR0915 PLC0415 BLE001 T201".split())
    assert PYPROJECT["tool"]["mypy"]["strict"] is True
    assert PYPROJECT["tool"]["pytest"]["ini_options"]["filterwarnings"][0] == "error"


def test_the_exceptions_in_the_code_are_those_named_here() -> None:
    found: Counter[tuple[str, str]] = Counter()
    for path in CODE:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.COMMENT:
                found.update((name_of(path), kind) for kind in suppressions(token.string))
    assert dict(found) == {place: count for place, (count, _) in SUPPRESSED.items()}


def suppressions(comment: str) -> list[str]:
    """The rules that a comment switches off; `# fmt: skip` is layout and counts as none."""
    kinds = re.findall(r"type:\s*ignore\[([\w\s,-]+)\]", comment)
    if not kinds and re.search(r"type:\s*ignore", comment):
        kinds = ["everything"]
    if re.search(r"\bnoqa\b|ruff:\s|pylint:|mypy:\s|fmt:\s*off", comment):
        kinds.append("linter")
    return [kind.strip() for kinds_of_one in kinds for kind in kinds_of_one.split(",")]


@pytest.mark.parametrize(
    ("comment", "kinds"),
    [
        ("# type: ignore[misc]", ["misc"]),
        ("# type:ignore[misc, override]  # why", ["misc", "override"]),
        ("# type: ignore", ["everything"]),
        ("# " + "noqa: E501", ["linter"]),
        ("# mypy: disable-error-code=misc", ["linter"]),
        ("# fmt: off", ["linter"]),
        ("# fmt: skip", []),
        ("# why this type is ignored", []),
    ],
)
def test_each_kind_of_suppression_is_seen(comment: str, kinds: list[str]) -> None:
    assert suppressions(comment) == kinds


# --- size, names, words ------------------------------------------------------------------------------------------


def test_init_files_are_empty() -> None:
    assert [name_of(path) for path in CODE if path.name == "__init__.py" and path.stat().st_size] == []


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in CODE if path.is_relative_to(SOURCE) or path.is_relative_to(ROOT / "tests")}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name_of(path) for path in CODE if NO_NAMES & {*path.relative_to(ROOT).with_suffix("").parts}] == []


def test_no_file_and_no_function_is_too_long() -> None:
    long = {
        name_of(path): lines for path in CODE if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST_FILE
    }
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long[f"{name_of(path)}:{node.name}"] = lines
    assert long == {}


def test_nothing_names_a_path_of_the_machine_it_was_written_on() -> None:
    texts = [ROOT / name for name in ("pyproject.toml", "Makefile", "constraints.txt")]
    texts += sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("install.*"))
    for folder in ("src", "tests", "docs", "bench", "scripts", ".ci"):
        texts += [path for path in sorted((ROOT / folder).rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    found = {}
    for path in texts:
        if path.exists() and (hit := MACHINE.search(path.read_bytes().decode("utf-8", "replace"))):
            found[name_of(path)] = hit[0]
    assert found == {}


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("see /wor" + "k/main", True),
        ("'/roo" + "t'", True),
        ("src/worker", False),
        ("/worker", False),
        ("a/work", False),
    ],
)
def test_a_path_of_the_machine_is_recognised(text: str, hit: bool) -> None:
    assert bool(MACHINE.search(text)) is hit


# --- what is shipped ---------------------------------------------------------------------------------------------


def shipped() -> list[str]:
    """The files besides code that the package cannot work without."""
    languages = [f"demo/data/{language}/{part}.jsonl" for language in ("en", "zh") for part in PARTS]
    pages = [f"evaluate/{name}.html.j2" for name in ("pieces", "report", "summary", "blind/sheet")]
    return ["texts/en.json", "texts/zh-CN.json", *pages, "evaluate/look.css", "plan/catalogue.json", *languages]


PARTS = ("train", "validation", "heldout")


def test_the_wheel_holds_the_texts_and_the_data_of_the_demo() -> None:
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/xiaozao"]}
    package = files("xiaozao")
    assert [name for name in shipped() if not package.joinpath(name).is_file()] == []


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a clone")
def test_nothing_that_is_shipped_is_ignored_by_git() -> None:
    """The wheel's builder leaves out what .gitignore names."""
    told = ["git", "check-ignore", "--no-index", *(f"src/xiaozao/{name}" for name in shipped())]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
