"""The index: migrated once, shared between processes, replaceable."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from xiaozao.errors import EnvironmentProblem
from xiaozao.store import db
from xiaozao.store.files import home

ADD = """
import sys
from pathlib import Path
from xiaozao.store import db
for number in range(20):
    db.add(Path(f"/{sys.argv[1]}/{number}"), float(number))
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "家"))


def test_a_new_index_is_in_wal_mode_and_at_the_last_migration() -> None:
    with db.connect() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (db.BUSY_MILLISECONDS,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(db.MIGRATIONS),)


def test_several_processes_write_at_once_and_nothing_is_lost() -> None:
    writers = [subprocess.Popen([sys.executable, "-c", ADD, str(number)]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert len(db.paths()) == 80


def test_an_index_of_a_newer_version_is_refused_and_left_alone() -> None:
    db.add(Path("/a"))
    with closing(sqlite3.connect(db.index_path())) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(EnvironmentProblem) as caught:
        db.paths()
    assert "99" in str(caught.value)
    assert str(len(db.MIGRATIONS)) in caught.value.what("zh-CN")
    with closing(sqlite3.connect(db.index_path())) as connection:
        assert connection.execute("SELECT path FROM runs").fetchall() == [("/a",)]


def test_a_damaged_index_is_set_aside_and_begun_anew() -> None:
    db.index_path().parent.mkdir()
    db.index_path().write_bytes(b"no database at all " * 100)
    db.add(Path("/a"))
    assert db.paths() == [Path("/a")]
    assert db.index_path().with_suffix(".damaged").read_bytes().startswith(b"no database")


def test_an_index_that_cannot_be_opened_is_named() -> None:
    db.index_path().mkdir(parents=True)
    with pytest.raises(EnvironmentProblem) as caught:
        db.paths()
    assert caught.value.exit_code == 9
    assert "index.db" in caught.value.what("zh-CN")


def test_paths_are_found_by_name() -> None:
    for path in ("/x/a", "/y/a", "/x/b"):
        db.add(Path(path), 1.0)
    assert db.paths("a") == [Path("/x/a"), Path("/y/a")]
    db.remove(Path("/x/a"))
    assert db.paths("a") == [Path("/y/a")]


def spoil(how: str) -> None:
    """The index as something else: half of it, zeros after its first page, another program's, an empty one of ours."""
    for number in range(400):
        db.add(Path(f"/{number}" * 30))
    path = db.index_path()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    if how == "another's":
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("CREATE TABLE mine (x); PRAGMA user_version = 1")
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data[:4096] + bytes(len(data) - 4096))


@pytest.mark.parametrize("how", ["cut", "zeros", "another's"])
@pytest.mark.parametrize("first", ["write", "read"])
def test_a_damaged_index_is_built_anew_from_the_folders_for_writing_as_for_reading(how: str, first: str) -> None:
    run = home() / "runs" / "one"
    run.mkdir(parents=True)
    (run / "spec.yaml").write_text("model: m\n", encoding="utf-8")
    spoil(how)
    if first == "write":
        db.add(Path("/b"), 1e12)
    assert db.paths() == ([Path("/b"), run] if first == "write" else [run])
    assert db.index_path().with_suffix(".damaged").is_file()


def test_an_index_that_another_holds_for_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_MILLISECONDS", 200)
    db.add(Path("/a"))
    with closing(sqlite3.connect(db.index_path(), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(EnvironmentProblem) as caught:
            db.add(Path("/b"))
        assert caught.value.key == "index_locked" and "index.db" in caught.value.what("zh-CN")
    db.add(Path("/b"))
    assert len(db.paths()) == 2


# A file system without locks, as Lustre without its option or NFS without its daemon is to a program.
NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
static int any(int fd, int cmd, void *arg, const char *name) {
    if (cmd == F_SETLK || cmd == F_SETLKW || cmd == F_GETLK) { errno = ENOLCK; return -1; }
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
    return real(fd, cmd, arg);
}
int flock(int fd, int op) { errno = ENOSYS; return -1; }
#define WITH(name) int name(int fd, int cmd, ...) { \
    va_list all; va_start(all, cmd); void *arg = va_arg(all, void *); va_end(all); return any(fd, cmd, arg, #name); }
WITH(fcntl)
WITH(fcntl64)
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="takes locks away with a C library")
def test_several_processes_share_an_index_where_there_are_no_file_locks(tmp_path: Path) -> None:
    (tmp_path / "nolocks.c").write_text(NO_LOCKS, encoding="utf-8")
    library = tmp_path / "nolocks.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "nolocks.c", "-ldl"], check=True)
    variables = {**os.environ, "LD_PRELOAD": str(library)}
    writers = [subprocess.Popen([sys.executable, "-c", ADD, str(number)], env=variables) for number in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(db.paths()) == 60
