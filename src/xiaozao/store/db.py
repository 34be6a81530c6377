"""The index of runs: SQLite under home(). The run folders are the truth; this can be deleted and built anew."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from xiaozao.errors import EnvironmentProblem
from xiaozao.store.files import home
from xiaozao.store.lock import has_record_locks

BUSY_MILLISECONDS = 10_000
Answer = TypeVar("Answer")

# Numbered from 1 by their place; never edited, only added to. The number done is the database's user_version.
MIGRATIONS = ("CREATE TABLE runs (path TEXT PRIMARY KEY, name TEXT NOT NULL, registered REAL NOT NULL) STRICT",)


def index_path() -> Path:
    """Where the index lies."""
    return home() / "index.db"


def add(path: Path, clock: float | None = None) -> None:
    """Put a run folder into the index; a second time changes nothing."""
    when = time.time() if clock is None else clock
    _do(lambda index: index.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?)", (str(path), path.name, when)))


def remove(path: Path) -> None:
    """Take a run folder out of the index. The folder stays."""
    _do(lambda index: index.execute("DELETE FROM runs WHERE path = ?", (str(path),)))


def paths(name: str | None = None) -> list[Path]:
    """The indexed run folders, newest first; those with this name only, if one is given."""
    query = "SELECT path FROM runs WHERE ?1 IS NULL OR name = ?1 ORDER BY registered DESC, path"
    return _do(lambda index: [Path(path) for (path,) in index.execute(query, (name,))])


def _do(work: Callable[[sqlite3.Connection], Answer]) -> Answer:
    """Work on the index. A damaged one is set aside and built anew from the run folders, whatever is done with it.

    Raises EnvironmentProblem where another process holds it for long, or the system refuses.
    """
    path = index_path()
    try:
        with connect() as connection:
            return work(connection)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise _refused(path, error) from error
    _set_aside(path)
    try:
        with connect() as connection:
            for folder in sorted(one.parent for one in (home() / "runs").glob("*/spec.yaml")):
                known = str(folder), folder.name, folder.stat().st_mtime
                connection.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?)", known)
            return work(connection)
    except sqlite3.DatabaseError as error:
        raise _refused(path, error) from error


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether an error means that the index is damaged, and not locked, read-only or on a full disk."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest says which kind of it
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT):
        return True
    return code == sqlite3.SQLITE_ERROR and "no such" in str(error) or code == sqlite3.SQLITE_MISMATCH


def _refused(path: Path, error: sqlite3.DatabaseError) -> EnvironmentProblem:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return EnvironmentProblem("index_locked", path=path, seconds=BUSY_MILLISECONDS // 1000)
    return EnvironmentProblem("index", path=path, detail=error)


def _set_aside(path: Path) -> None:
    """Rename a damaged index together with its log files, which a new index would take for its own."""
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).replace(path.with_name(f"{path.stem}.damaged{end}"))


@contextmanager
def connect() -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode, migrated."""
    path = index_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(_open(path)) as connection:
        yield connection


def _open(path: Path) -> sqlite3.Connection:
    locks = has_record_locks(path.with_suffix(".locks"))  # a file of its own: closing it drops locks of this process
    # Where the file system has none, SQLite's own way: a file that is made exclusively, and no shared memory.
    place = path.absolute().as_uri() + ("" if locks else "?vfs=unix-dotfile")
    connection = sqlite3.connect(place, isolation_level=None, uri=True)
    try:
        # busy_timeout first: even switching to WAL needs a lock that another process may hold.
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        connection.execute(f"PRAGMA journal_mode = {'WAL' if locks else 'DELETE'}")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, in one transaction. An index of a newer version is refused and left as it is."""
    if _version(connection) == len(MIGRATIONS):
        return
    if _version(connection) > len(MIGRATIONS):
        raise EnvironmentProblem("index_newer", path=path, version=_version(connection), known=len(MIGRATIONS))
    connection.execute("BEGIN IMMEDIATE")  # another process may be migrating: wait, then look again
    for migration in MIGRATIONS[_version(connection) :]:
        connection.execute(migration)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
