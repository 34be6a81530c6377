"""The index of runs: SQLite under home(). The run folders are the truth; this can be deleted and built anew."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from xiaozao.errors import EnvironmentProblem
from xiaozao.store.files import home

BUSY_MILLISECONDS = 10_000

# Numbered from 1 by their place; never edited, only added to. The number done is the database's user_version.
MIGRATIONS = ("CREATE TABLE runs (path TEXT PRIMARY KEY, name TEXT NOT NULL, registered REAL NOT NULL) STRICT",)


def index_path() -> Path:
    """Where the index lies."""
    return home() / "index.db"


@contextmanager
def connect() -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode, migrated. A damaged index is set aside: it can be rebuilt from the folders."""
    path = index_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _open(path)
    except sqlite3.OperationalError as error:  # locked, read-only, disk full: the file itself may be fine
        raise EnvironmentProblem("index", path=path, detail=error) from error
    except sqlite3.DatabaseError:
        path.replace(path.with_suffix(".damaged"))
        connection = _open(path)
    with closing(connection):
        yield connection


def add(path: Path, clock: float | None = None) -> None:
    """Put a run folder into the index; a second time changes nothing."""
    when = time.time() if clock is None else clock
    with connect() as connection:
        connection.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?)", (str(path), path.name, when))


def remove(path: Path) -> None:
    """Take a run folder out of the index. The folder stays."""
    with connect() as connection:
        connection.execute("DELETE FROM runs WHERE path = ?", (str(path),))


def paths(name: str | None = None) -> list[Path]:
    """The indexed run folders, newest first; those with this name only, if one is given."""
    query = "SELECT path FROM runs WHERE ?1 IS NULL OR name = ?1 ORDER BY registered DESC, path"
    with connect() as connection:
        return [Path(path) for (path,) in connection.execute(query, (name,))]


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # busy_timeout first: even switching to WAL needs a lock that another process may hold.
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        connection.execute("PRAGMA journal_mode = WAL")
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
