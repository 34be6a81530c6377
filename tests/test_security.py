"""Nothing that comes from a model, a checkpoint or a run folder is ever executed, and no door is left through which."""

import ast
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.utils import import_utils

from tests.toy import toy_folder, write_chats
from xiaozao.errors import EnvironmentProblem, UsageError
from xiaozao.machine.guard import refuse_kernels
from xiaozao.models.artefacts.checkpoint import step_folder, write_folder
from xiaozao.runs.launch import command, environment
from xiaozao.spec.run import RunSpec
from xiaozao.spec.yamlfile import read_yaml
from xiaozao.store.files import RunFolder

SOURCE = Path(__file__).parents[1] / "src" / "xiaozao"

# --- calls that we do not make -----------------------------------------------------------------------------------

IMPORTS = {
    "pickle": "pickle", "_pickle": "pickle", "cloudpickle": "pickle", "joblib": "pickle", "dill": "pickle",
    "marshal": "pickle", "shelve": "pickle", "requests": "network", "urllib.request": "network", "httpx": "network",
    "http.client": "network", "aiohttp": "network", "socket": "network", "jinja2.Environment": "jinja2",
    "jinja2.Template": "jinja2", "jinja2.nativetypes": "jinja2", "torch.package": "torch.load",
}  # fmt: skip
NAMES = {
    "torch.load": "torch.load", "torch.jit.load": "torch.load", "torch.hub.load": "torch.load",
    "torch.serialization.load": "torch.load", "torch.export.load": "torch.load",
    "yaml.load": "yaml.load", "yaml.load_all": "yaml.load", "yaml.full_load": "yaml.load",
    "yaml.full_load_all": "yaml.load", "yaml.unsafe_load": "yaml.load", "yaml.unsafe_load_all": "yaml.load",
    "yaml.Loader": "yaml.load", "yaml.FullLoader": "yaml.load", "yaml.UnsafeLoader": "yaml.load",
    "eval": "eval", "exec": "eval", "compile": "eval", "__import__": "import_module", "builtins.eval": "eval",
    "builtins.exec": "eval", "builtins.compile": "eval",
    "os.system": "shell", "os.popen": "shell", "subprocess.getoutput": "shell", "subprocess.getstatusoutput": "shell",
    "shutil.unpack_archive": "extractall", "runpy.run_path": "eval", "runpy.run_module": "eval",
    "multiprocessing.Process": "pickle", "multiprocessing.Pool": "pickle",
}  # fmt: skip

# Where one of them stands all the same, and why. An entry that is no longer needed fails the test as well.
ALLOWED = {
    ("spec/yamlfile.py", "yaml.load"): "with our own loader, a SafeLoader that knows numbers, no tags and no aliases",
    ("cli/declared.py", "import_module"): "the work of a verb, by a name that stands in that file, when it is called",
    ("data/reading.py", "import_module"): "of two readers, by names that stand in that file, in a process of its own",
    ("export/gguf/llamacpp.py", "network"): "asks llama.cpp's server that runs in that same process, on this machine",
    ("hub/reach.py", "network"): "asks whether a hub answers, for the first kilobyte of one fixed file, on request",
}


def sinks(tree: ast.Module) -> Iterator[str]:
    """The rules that a module breaks; aliases of imports are followed."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                known[alias.asname or root] = alias.name if alias.asname else root
                yield from _imported(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield from _imported(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = _dotted(node, known)
            if "." in name and name.partition(".")[0] in known:  # not a variable that happens to be called pickle
                yield from _imported(name)
            if name in NAMES:
                yield NAMES[name]
            if isinstance(node, ast.Attribute) and node.attr == "extractall":
                yield "extractall"
        elif isinstance(node, ast.Call):
            yield from _called(node, _dotted(node.func, known))


def _imported(name: str) -> Iterator[str]:
    for module, rule in IMPORTS.items():
        if name == module or name.startswith(module + "."):
            yield rule


def _called(call: ast.Call, name: str) -> Iterator[str]:
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    off = {key for key, value in values.items() if isinstance(value, ast.Constant) and value.value is False}
    if name == "numpy.load" and "allow_pickle" not in off:
        yield "np.load"
    if "allow_pickle" in values and "allow_pickle" not in off:
        yield "np.load"
    if "shell" in values and "shell" not in off:
        yield "shell"
    if "trust_remote_code" in values and "trust_remote_code" not in off:
        yield "trust_remote_code"
    if name == "importlib.import_module" and not (call.args and isinstance(call.args[0], ast.Constant)):
        yield "import_module"


def _dotted(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    return f"{_dotted(node.value, known)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def test_no_module_calls_what_can_execute_data() -> None:
    found = {
        (path.relative_to(SOURCE).as_posix(), rule)
        for path in SOURCE.rglob("*.py")
        for rule in sinks(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import pickle", "pickle"),
        ("import os, marshal", "pickle"),
        ("from joblib import load", "pickle"),
        ("import torch\ntorch.load('x', weights_only=True)", "torch.load"),
        ("import torch as t\nt.load('x')", "torch.load"),
        ("from torch import load as read\nread('x')", "torch.load"),
        ("import torch\nread = torch.load", "torch.load"),
        ("import torch\ntorch.hub.load('a', 'b')", "torch.load"),
        ("import numpy as np\nnp.load('x')", "np.load"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "np.load"),
        ("import numpy as np\nnp.load('x', allow_pickle=flag)", "np.load"),
        ("from numpy import load\nload('x')", "np.load"),
        ("import yaml\nyaml.load(x, Loader=L)", "yaml.load"),
        ("import yaml\nyaml.unsafe_load(x)", "yaml.load"),
        ("from yaml import full_load", ""),
        ("from yaml import full_load\nfull_load(x)", "yaml.load"),
        ("eval('1')", "eval"),
        ("run = exec", "eval"),
        ("compile('1', '', 'eval')", "eval"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "shell"),
        ("f('ls', shell=flag)", "shell"),
        ("from os import system\nsystem('ls')", "shell"),
        ("import jinja2\njinja2.Environment()", "jinja2"),
        ("from jinja2 import Template", "jinja2"),
        ("import tarfile\ntarfile.open(x).extractall(y)", "extractall"),
        ("import importlib\nimportlib.import_module(name)", "import_module"),
        ("from importlib import import_module\nimport_module(f'{a}.b')", "import_module"),
        ("__import__(name)", "import_module"),
        ("import requests", "network"),
        ("from urllib.request import urlopen", "network"),
        ("import urllib\nurllib.request.urlopen(x)", "network"),
        ("load(x, trust_remote_code=True)", "trust_remote_code"),
        ("import re, torch\nre.compile('x')\ntorch.compile(f)\nmodel.eval()\nf(shell=False)", ""),
        ("import numpy as np\nnp.load('x', allow_pickle=False)", ""),
        ("import importlib\nimportlib.import_module('json')", ""),
        ("import yaml\nyaml.safe_dump(x)\nyaml.SafeLoader", ""),
        ("from urllib.parse import quote", ""),
        ("for pickle in files:\n    print(pickle.name)", ""),
        ("from jinja2.sandbox import ImmutableSandboxedEnvironment", ""),
    ],
)
def test_the_search_finds_each_kind_and_nothing_else(code: str, rule: str) -> None:
    assert set(sinks(ast.parse(code))) == ({rule} if rule else set())


# --- pickles lie around everywhere -------------------------------------------------------------------------------

PICKLES = (
    "pytorch_model.bin", "adapter_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth",
    "training_args.bin", "value_head.bin", "trainer_state.bin", ".mdl", ".msc", "x.pkl", "objects.npy", "objects.npz",
    "dataset_info", "consolidated.00.pth", "tokenizer.pkl",
)  # fmt: skip
MODULES = ("sitecustomize.py", "usercustomize.py", "conftest.py", "torch.py", "json.py", "modeling_toy.py")


class Canary:
    """Whoever unpickles it creates the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.marker,))


def lay_canaries(folder: Path, marker: Path) -> None:
    """Every kind of file that some tool would unpickle or import."""
    canary = Canary(marker)
    objects = np.array([canary], dtype=object)
    for number, name in enumerate(PICKLES):
        if name.endswith(".npy"):
            np.save(folder / name, objects, allow_pickle=True)
        elif name.endswith(".npz"):
            np.savez(folder / name, objects)
        elif number % 2:
            file = io.BytesIO()
            torch.save(canary, file)
            (folder / name).write_bytes(file.getvalue())
        else:
            (folder / name).write_bytes(pickle.dumps(canary, protocol=number % 6))
    for name in MODULES:
        (folder / name).write_text(f"import os\nos.mkdir({str(marker)!r})\n", encoding="utf-8")


def python(code: str, *arguments: object, cwd: Path, **variables: str) -> dict[str, Any]:
    """What `code` prints as JSON, run as our worker is run: the same flags, the same clean environment."""
    told = [*command(RunFolder(cwd))[:2], "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(
        told, cwd=cwd, env={**environment(), **variables}, capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


# Counts the files that are opened, from before anything of ours is imported. An audit hook cannot be taken off again,
# so this needs a process of its own; so does a socket that refuses for good.
WATCH = """
import json, sys
from pathlib import Path
opened, connected = [], []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(Path(arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]).name)
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        connected.append(str(arguments))
        raise OSError("no network here")
sys.addaudithook(watch)
from xiaozao.errors import XiaozaoError
refused, done = {}, []
def attempt(name, act):
    try:
        act()
        done.append(name)
    except XiaozaoError as error:
        refused[name] = [error.code, str(error)]
def report():
    print(json.dumps({"opened": opened, "connected": connected, "refused": refused, "done": done,
                      "modules": sorted(sys.modules), "path": sys.path}))
"""

LOOK = (
    WATCH
    + """
from xiaozao.data.prepare import prepare
from xiaozao.hub import folder as config
from xiaozao.models.artefacts import checkpoint
from xiaozao.hub.sources import resolve
from xiaozao.plan.command import plan_command
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import cache, open_run
whole, broken, checkpoints, data = (Path(argument) for argument in sys.argv[1:5])
quiet = lambda *_: None
spec = RunSpec.from_options({"model": str(whole), "data": str(data), "length": 256})
attempt("open run", lambda: open_run(str(checkpoints.parent)))
attempt("prepare", lambda: prepare(spec.data, whole, 0, cache(), quiet))
attempt("plan", lambda: plan_command(spec, whole))
for name, folder in (("whole", whole), ("broken", broken)):
    attempt(f"resolve {name}", lambda: resolve(str(folder), "auto", None, cache(), quiet))
    attempt(f"check {name}", lambda: config.check_folder(folder))
    attempt(f"tensors {name}", lambda: config.tensors(folder))
    attempt(f"complete {name}", lambda: config.is_complete(folder))
attempt("newest", lambda: checkpoint.newest(checkpoints).folder.name == "step-00000002" or sys.exit(1))
attempt("verify", lambda: checkpoint.verify(checkpoints / "step-00000001"))
attempt("read", lambda: checkpoint.read_tensors(checkpoints / "step-00000001", "weights"))
attempt("named", lambda: checkpoint.verify(checkpoints / "step-00000003"))
attempt("rotate", lambda: checkpoint.rotate(checkpoints, 1, frozenset()))
report()
"""
)


def untouched(answer: dict[str, Any], marker: Path) -> bool:
    """No canary ran, and none was even opened. `json.py` and `torch.py` are also files of installed packages."""
    own = {*PICKLES, *MODULES} - {"json.py", "torch.py"}
    return not own & set(answer["opened"]) and not marker.exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    lay_canaries(tmp_path, marker)
    readers: dict[str, Callable[[Path], object]] = {
        "pytorch_model.bin": lambda path: pickle.loads(path.read_bytes()),
        "adapter_model.bin": lambda path: torch.load(path, weights_only=False),
        "objects.npy": lambda path: np.load(path, allow_pickle=True),
    }
    for name, read in readers.items():
        read(tmp_path / name)
        marker.rmdir()
    subprocess.run([sys.executable, tmp_path / "conftest.py"], check=True)
    marker.rmdir()


def test_canaries_in_model_and_run_folders_are_neither_run_nor_opened(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    whole, broken, checkpoints = toy_folder(tmp_path / "whole"), tmp_path / "broken", tmp_path / "run" / "checkpoints"
    data = write_chats(tmp_path / "chats.jsonl", 40)
    broken.mkdir()
    (broken / "config.json").write_bytes((whole / "config.json").read_bytes())
    for step in (1, 2, 3):
        write_folder(step_folder(checkpoints, step), {"weights": {"w": torch.ones(step)}}, {"state": {"step": step}})
    (checkpoints / "step-00000003" / "manifest.json").unlink()
    (checkpoints.parent / "spec.yaml").write_text("model: m\n", encoding="utf-8")
    for folder in (whole, broken, checkpoints.parent, checkpoints, *checkpoints.iterdir()):
        lay_canaries(folder, marker)
    answer = python(LOOK, whole, broken, checkpoints, data, cwd=whole, ZAO_HOME=str(tmp_path / "home"))
    assert untouched(answer, marker)
    assert not answer["connected"]
    assert {name: code for name, (code, _) in answer["refused"].items()} == dict.fromkeys(
        ("resolve broken", "check broken", "tensors broken", "named"), "ARTEFACT_REFUSED"
    )
    assert set(answer["done"]) == {
        "open run", "prepare", "plan", "resolve whole", "check whole", "tensors whole", "complete whole",
        "complete broken", "newest", "verify", "read", "rotate",
    }  # fmt: skip
    assert any(name in answer["refused"]["check broken"][1] for name in PICKLES)


def test_files_that_lie_where_the_worker_runs_cannot_be_imported(tmp_path: Path) -> None:
    lay_canaries(tmp_path, tmp_path / "marker")
    look = (
        "import xiaozao.worker.main, importlib.util, json, sys\n"
        "print(json.dumps({'path': sys.path, 'torch': importlib.util.find_spec('torch').origin}))"
    )
    answer = python(look, cwd=tmp_path)
    assert not (tmp_path / "marker").exists()
    assert not Path(answer["torch"]).is_relative_to(tmp_path)
    for entry in answer["path"]:
        assert entry
        assert not Path(entry).resolve().is_relative_to(tmp_path)


def test_the_worker_inherits_no_way_to_bring_code_in() -> None:
    own = {name: "x" for name in ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES")}
    assert not own.keys() & environment({**own, "PATH": "/bin"}).keys()
    assert command(RunFolder(Path("run")))[1:4] == ["-P", "-m", "xiaozao.worker.main"]


# --- a config is only a config -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_target_", "class_path", "module", "__class__", "torch.load", "auto_map"])
def test_an_option_cannot_name_something_to_import(name: str) -> None:
    before = set(sys.modules)
    options = {"model": "m", "data": "d", name: "antigravity.open"}
    with pytest.raises(UsageError) as caught:
        RunSpec.from_options(options)
    assert [problem.params["name"] for problem in caught.value.problems] == [name]
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/name:antigravity.fly_id",
        "model: !!python/module:antigravity",
        "model: !!python/object/apply:os.mkdir [marker]",
        "!!python/object/new:os.mkdir [marker]",
        "model: !!python/tuple [a]",
        "model: &a [1]\ndata: *a",
    ],
)
def test_yaml_cannot_name_something_to_import(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    with pytest.raises(UsageError):
        read_yaml(text, "run.yaml")
    assert set(sys.modules) == before
    assert not list(tmp_path.iterdir())


# --- what transformers would do ----------------------------------------------------------------------------------

LOAD = (
    WATCH
    + """
from xiaozao.machine.guard import refuse_kernels
refuse_kernels()
import torch
from xiaozao.models.load import load
attempt("load", lambda: load(Path(sys.argv[1]), torch.float32, torch.device("cpu")))
report()
"""
)


@pytest.mark.real
def test_a_model_loads_without_network_code_or_pickle_whatever_its_config_orders(tmp_path: Path) -> None:
    folder, marker = toy_folder(tmp_path / "model"), tmp_path / "marker"
    lay_canaries(folder, marker)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "auto_map": {"AutoModelForCausalLM": "modeling_toy.Toy", "AutoConfig": "modeling_toy.Toy"},
        "trust_remote_code": True,
        "_attn_implementation_internal": "evil/kernel",
        "_attn_implementation": "evil/kernel",
        "attn_implementation": "evil/kernel",
        "use_kernels": True,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    answer = python(LOAD, folder, cwd=folder)
    assert untouched(answer, marker)
    assert answer["done"] == ["load"], answer["refused"]
    assert answer["connected"] == []
    assert not [name for name in answer["modules"] if name.startswith(("transformers_modules", "modeling_toy"))]


KERNELS = """
import json, sys
if sys.argv[1] == "guarded":
    from xiaozao.machine.guard import refuse_kernels
    refuse_kernels()
from transformers.utils import is_kernels_available
try:
    import transformers.integrations.hub_kernels
except ImportError:
    pass  # the imitation has none of the names that are looked for in it
print(json.dumps({"available": is_kernels_available()}))
"""


@pytest.mark.real
@pytest.mark.parametrize("state", ["guarded", "open"])
def test_the_package_that_fetches_compiled_code_is_shut_out(tmp_path: Path, state: str) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n", encoding="utf-8")
    info = tmp_path / "kernels-0.0.dist-info"
    info.mkdir()
    required = import_utils.KERNELS_MIN_VERSION
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {required}\n", encoding="utf-8")
    answer = python(KERNELS, state, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    unguarded = state == "open"  # shows that the imitation would have been taken
    assert answer["available"] is unguarded
    assert marker.exists() is unguarded


def test_the_guard_says_when_it_comes_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    assert "transformers" in sys.modules
    with pytest.raises(EnvironmentProblem, match="pip uninstall kernels"):
        refuse_kernels()
