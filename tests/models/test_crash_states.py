"""What a power cut may leave of one save, enumerated.

Every operation on the disk is recorded. For each prefix of the record we build every directory tree that a file system
may show afterwards: a name made, changed or removed is only certain once its folder was synced, and until then may have
reached the disk before or after others (but not before one it builds on); bytes are only certain once their file was
synced, and until then may be lost, cut in half, or zeros. In each tree a reader must find exactly an old or exactly the
new checkpoint, with nothing rejected, and the next save must succeed.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from xiaozao.errors import XiaozaoError
from xiaozao.models.artefacts.checkpoint import (
    newest,
    read_document,
    read_tensors,
    rotate,
    step_folder,
    verify,
    write_folder,
)
from xiaozao.models.artefacts.disk import Disk

Tree = dict[str, bytes | None]  # path below the root -> content, None for a folder
States = dict[frozenset[tuple[str, bytes | None]], int]  # a tree -> operations done when it was last possible


@dataclass(frozen=True)
class Op:
    """One recorded operation. `path` and `target` are relative to the root."""

    kind: str  # make | write | sync_file | sync_folder | rename | remove
    path: str
    target: str = ""
    data: bytes = b""
    folder: bool = False


class Quick(Disk):
    """The real disk without its waiting: here a power cut is played, not suffered."""

    def sync_file(self, path: Path) -> None:
        """Nothing."""

    def sync_folder(self, path: Path) -> None:
        """Nothing."""


@dataclass
class Recorder(Quick):
    """Writes down what is done to the disk, one name at a time."""

    root: Path
    ops: list[Op] = field(default_factory=list)

    def note(self, kind: str, path: Path, target: str = "", data: bytes = b"", folder: bool = False) -> None:
        self.ops.append(Op(kind, str(path.relative_to(self.root)), target, data, folder))

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self.note("make", path, folder=True)

    def write_bytes(self, path: Path, data: bytes) -> None:
        super().write_bytes(path, data)
        self.note("make", path)
        self.note("write", path, data=path.read_bytes())

    def write_tensors(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        super().write_tensors(path, tensors)
        self.note("make", path)
        self.note("write", path, data=path.read_bytes())

    def sync_file(self, path: Path) -> None:
        self.note("sync_file", path)

    def sync_folder(self, path: Path) -> None:
        self.note("sync_folder", path)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.note("rename", source, target=str(target.relative_to(self.root)))

    def remove(self, path: Path) -> None:
        if path.is_dir():
            for one in sorted(path.iterdir()):
                one.unlink()
                self.note("remove", one)
            path.rmdir()
            self.note("remove", path)


# --- a file system that forgets ----------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """A file or folder as the disk holds it: it keeps its identity when its name changes."""

    folder: bool
    entries: dict[str, "Node"] = field(default_factory=dict)
    content: bytes = b""
    pending: bytes | None = None  # written, not synced


@dataclass(eq=False)
class Change:
    """A change of names in one folder that is not certain yet."""

    parent: Node
    names: tuple[str, ...]
    new: Node | None  # what the last of the names stands for afterwards


class ForgetfulDisk:
    """Replays operations; what is not synced waits in `changes` and in each file's `pending`."""

    def __init__(self, start: Tree) -> None:
        self.root = Node(folder=True)
        self.now = self.root  # names as the running system sees them
        self.changes: list[Change] = []
        self.view: dict[str, Node] = {".": self.root}
        for path, content in sorted(start.items()):
            node = Node(folder=content is None, content=content or b"")
            self.view[path] = node
            self._parent(path).entries[Path(path).name] = node

    def _parent(self, path: str) -> Node:
        return self.view[str(Path(path).parent)]

    def apply(self, op: Op) -> None:
        name = Path(op.path).name
        if op.kind == "make" and op.path not in self.view:
            self.view[op.path] = Node(folder=op.folder)
            self.changes.append(Change(self._parent(op.path), (name,), self.view[op.path]))
        elif op.kind == "write":
            self.view[op.path].pending = op.data
        elif op.kind == "sync_file":
            node = self.view[op.path]
            node.content, node.pending = (node.content if node.pending is None else node.pending), None
        elif op.kind == "sync_folder":
            self._settle(self.view[op.path])
        elif op.kind == "rename":
            self.changes.append(Change(self._parent(op.path), (name, Path(op.target).name), self.view[op.path]))
            moved = {path: node for path, node in self.view.items() if Path(path).is_relative_to(op.path)}
            for path, node in moved.items():
                del self.view[path]
                self.view[str(Path(op.target) / Path(path).relative_to(op.path))] = node
        elif op.kind == "remove":
            self.changes.append(Change(self._parent(op.path), (name,), None))
            del self.view[op.path]

    def _settle(self, parent: Node) -> None:
        for change in [change for change in self.changes if change.parent is parent]:
            _change(parent.entries, change)
            self.changes.remove(change)

    def trees(self) -> Iterator[Tree]:
        """Every tree that may be found after a power cut now."""
        for chosen in _closed_subsets(self.changes):
            entries: dict[int, dict[str, Node]] = {}
            for change in chosen:
                _change(entries.setdefault(id(change.parent), dict(change.parent.entries)), change)
            yield from _contents(dict(_walk(self.root, "", entries)))


def _change(entries: dict[str, Node], change: Change) -> None:
    for name in change.names:
        entries.pop(name, None)
    if change.new is not None:
        entries[change.names[-1]] = change.new


def _closed_subsets(changes: list[Change]) -> Iterator[list[Change]]:
    """Subsets that hold, with each change, the earlier ones of the same folder that touch the same name."""
    needs = [
        {
            i
            for i in range(j)
            if changes[i].parent is changes[j].parent and set(changes[i].names) & set(changes[j].names)
        }
        for j in range(len(changes))
    ]
    for picked in itertools.product((False, True), repeat=len(changes)):
        if all(picked[i] for j in range(len(changes)) if picked[j] for i in needs[j]):
            yield [change for change, chosen in zip(changes, picked, strict=True) if chosen]


def _walk(node: Node, path: str, entries: dict[int, dict[str, Node]]) -> Iterator[tuple[str, Node]]:
    for name, child in entries.get(id(node), node.entries).items():
        yield f"{path}{name}", child
        yield from _walk(child, f"{path}{name}/", entries)


def _contents(nodes: dict[str, Node]) -> Iterator[Tree]:
    """All ways in which bytes that are not synced may have arrived."""
    ways: list[list[bytes | None]] = []
    for node in nodes.values():
        if node.folder:
            ways.append([None])
        elif node.pending is None:
            ways.append([node.content])
        else:
            half = node.pending[: len(node.pending) // 2]
            ways.append([node.content, half, bytes(len(node.pending)), node.pending])
    for contents in itertools.product(*ways):
        yield dict(zip(nodes, contents, strict=True))


# --- what is tried -----------------------------------------------------------------------------------------------


def save(checkpoints: Path, step: int, payload: int, disk: Disk) -> None:
    tensors = {name: {"w": torch.full((4,), float(payload))} for name in ("model", "moments")}
    write_folder(step_folder(checkpoints, step), tensors, {"state": {"payload": payload}}, disk)


def first(root: Path, disk: Disk) -> None:
    save(root / "checkpoints", 1, 1, disk)


def following(root: Path, disk: Disk) -> None:
    save(root / "checkpoints", 2, 2, disk)


def again(root: Path, disk: Disk) -> None:
    save(root / "checkpoints", 1, 3, disk)


def rotation(root: Path, disk: Disk) -> None:
    rotate(root / "checkpoints", 1, frozenset(), disk)


def sweep(root: Path, disk: Disk) -> None:
    newest(root / "checkpoints", disk=disk)


def left_aside(root: Path) -> None:
    """As a crash between the two renames leaves it, with the new folder half written."""
    save(root / "checkpoints", 1, 1, Quick())
    (root / "checkpoints/step-00000001").rename(root / "checkpoints/step-00000001.aside")
    (root / "checkpoints/step-00000001.partial").mkdir()
    (root / "checkpoints/step-00000001.partial/model.safetensors").write_bytes(b"half")


def left_damaged(root: Path) -> None:
    """A folder set aside is whole, the one in its place is not."""
    save(root / "checkpoints", 1, 1, Quick())
    shutil.copytree(root / "checkpoints/step-00000001", root / "checkpoints/step-00000001.aside")
    (root / "checkpoints/step-00000001/state.json").unlink()


def saved(*steps: int) -> Callable[[Path], None]:
    def prepare(root: Path) -> None:
        for step in steps:
            save(root / "checkpoints", step, step, Quick())

    return prepare


def snapshot(root: Path) -> Tree:
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def build(tree: Tree, root: Path) -> Path:
    root.mkdir()
    for path, content in sorted(tree.items()):
        if content is None:
            (root / path).mkdir(parents=True)
        else:
            (root / path).write_bytes(content)
    return root


def payload_found(root: Path) -> int | str | None:
    """The payload of the newest checkpoint, None without one, or what is wrong."""
    try:
        found = newest(root / "checkpoints", disk=Quick())
        for folder in (root / "checkpoints").glob("step-????????"):
            verify(folder)  # older ones too: what is half removed must not bear a checkpoint's name
        if found.rejected:
            return f"rejected {found.rejected}"
        if found.folder is None:
            return None
        weights = torch.cat([read_tensors(found.folder, name)["w"] for name in ("model", "moments")])
        payload = int(read_document(found.folder, "state")["payload"])
    except XiaozaoError as error:
        return str(error)
    return payload if torch.equal(weights, torch.full((8,), float(payload))) else "a mix"


def distinct(start: Tree, ops: list[Op]) -> States:
    """Every different tree after every prefix, with the length of the last prefix that allows it."""
    disk = ForgetfulDisk(start)
    states = {frozenset(tree.items()): 0 for tree in disk.trees()}
    for number, op in enumerate(ops, 1):
        disk.apply(op)
        states |= {frozenset(tree.items()): number for tree in disk.trees()}
    return states


SCENARIOS: dict[str, tuple[Callable[[Path], None], Callable[[Path, Disk], None], set[int | None], int | None]] = {
    # name: prepared by, done, what may be found after a power cut, what must be found once it has returned
    "the first save": (saved(), first, {None, 1}, 1),
    "the next save": (saved(1), following, {1, 2}, 2),
    "a save over the same step": (saved(1), again, {1, 3}, 3),
    "a rotation": (saved(1, 2), rotation, {2}, 2),
    "a sweep after a crash between the renames": (left_aside, sweep, {1}, 1),
    "a sweep of a damaged folder": (left_damaged, sweep, {1}, 1),
}


def states_of(name: str, root: Path, kind: type[Recorder] = Recorder) -> tuple[States, int]:
    """Do it once for real: the trees that a power cut may leave, and the number of operations."""
    prepare, act, _, _ = SCENARIOS[name]
    root.mkdir()
    prepare(root)
    before = snapshot(root)
    disk = kind(root)
    act(root, disk)
    return distinct(before, disk.ops), len(disk.ops)


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_a_power_cut_the_old_or_the_new_checkpoint_is_found(name: str, tmp_path: Path) -> None:
    _, _, allowed, final = SCENARIOS[name]
    states, operations = states_of(name, tmp_path / "real")
    seen: set[frozenset[tuple[str, bytes | None]]] = set()
    for number, (state, prefix) in enumerate(states.items()):
        root = build(dict(state), tmp_path / str(number))
        found = payload_found(root)
        assert found in allowed, (prefix, dict(state))
        assert found == final or prefix < operations, "it said that it was saved, and it was not"
        swept = frozenset(snapshot(root).items())
        if swept not in seen:  # there are few ways in which things lie after the sweep, and one save for each will do
            seen.add(swept)
            save(root / "checkpoints", 1 if name == "a save over the same step" else 9, 9, Quick())
            assert payload_found(root) == 9
            assert all(path.suffix == "" for path in (root / "checkpoints").iterdir())


def test_the_enumeration_covers_hundreds_of_states(tmp_path: Path) -> None:
    counts = {name: len(states_of(name, tmp_path / str(number))[0]) for number, name in enumerate(SCENARIOS)}
    assert min(counts.values()) > 4, counts
    assert sum(counts.values()) > 500, counts


class NoFileSync(Recorder):
    def sync_file(self, path: Path) -> None:
        """Nothing."""


class NoFolderSync(Recorder):
    def sync_folder(self, path: Path) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [(NoFileSync, "the next save"), (NoFolderSync, "the next save"), (NoFolderSync, "a rotation")],
)
def test_a_protocol_that_leaves_out_a_sync_would_be_caught(kind: type[Recorder], name: str, tmp_path: Path) -> None:
    states, _ = states_of(name, tmp_path / "real", kind)
    roots = (build(dict(state), tmp_path / str(number)) for number, state in enumerate(reversed(states)))
    assert any(payload_found(root) not in SCENARIOS[name][2] for root in roots)
