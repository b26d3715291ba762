"""Everything the sandbox knows, in one SQLite file: all services and all requests move in one transaction.

A process that is killed therefore leaves either the effect of a request together with its outcome,
or neither. A file that cannot be trusted is refused, never replaced by an empty one.
"""

import fcntl
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ministack.core import persistence

REQUESTS_KEPT_S = 7 * 86_400.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS services (name TEXT PRIMARY KEY, payload BLOB NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (token TEXT PRIMARY KEY, body TEXT NOT NULL, created REAL NOT NULL);
"""


class StateCorrupt(RuntimeError):
    """The saved state cannot be trusted."""


class StateInUse(RuntimeError):
    """Another process works on the same state."""


@dataclass(slots=True)
class Request:
    """One accepted Cloud Control request, as it is kept. Times are seconds since the epoch."""

    token: str
    client_token: str | None
    digest: str
    account: str
    region: str
    operation: str
    type_name: str
    identifier: str | None
    argument: dict[str, Any]
    status: str = "IN_PROGRESS"
    error_code: str | None = None
    message: str | None = None
    model: dict[str, Any] | None = None
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    accepted: int = 1  # how often this client token was sent
    attempts: int = 0  # how often the handler was entered
    effects: int = 0  # how often it changed something


class Store:
    """The open state file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateInUse(str(path)) from error
        existed = path.exists()
        self.path = path
        self._saved: dict[str, str] = {}
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # WAL survives the death of the process; only a power cut may lose the last moments.
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            if existed and self._db.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise StateCorrupt(f"{path} is damaged")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise StateCorrupt(f"{path} is not a readable state file: {error}") from error
        path.chmod(0o600)

    def services(self) -> dict[str, Any]:
        """Saved state of each service. Raises StateCorrupt."""
        found: dict[str, Any] = {}
        try:
            for name, payload, digest in self._db.execute("SELECT name, payload, sha256 FROM services"):
                if not isinstance(payload, bytes) or hashlib.sha256(payload).hexdigest() != digest:
                    raise StateCorrupt(f"{self.path}: the saved state of {name} does not match its checksum")
                found[name] = json.loads(payload, object_hook=persistence._json_object_hook)
                self._saved[name] = digest
        except (sqlite3.DatabaseError, ValueError) as error:
            raise StateCorrupt(f"{self.path} cannot be read: {error}") from error
        return found

    def requests(self) -> list[Request]:
        """Every request that is still kept, oldest first. Raises StateCorrupt."""
        self._db.execute("DELETE FROM requests WHERE created < ?", (time.time() - REQUESTS_KEPT_S,))
        try:
            rows = self._db.execute("SELECT body FROM requests ORDER BY created, rowid").fetchall()
            return [Request(**json.loads(body)) for (body,) in rows]
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise StateCorrupt(f"{self.path}: the saved requests cannot be read: {error}") from error

    def save(self, states: Mapping[str, Callable[[], Any]], requests: list[Request]) -> dict[str, str]:
        """Commit `requests` and every service that changed; gives which could not be written, and why."""
        changed, failed = [], {}
        for name, get_state in states.items():
            try:
                payload = _encode(name, get_state)
            except (TypeError, ValueError) as error:
                failed[name] = str(error)
                continue
            if payload is None:
                continue
            digest = hashlib.sha256(payload).hexdigest()
            if self._saved.get(name) != digest:
                changed.append((name, payload, digest))
        if not changed and not requests:
            return failed
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT OR REPLACE INTO services VALUES (?, ?, ?)", changed)
            self._db.executemany(
                "INSERT OR REPLACE INTO requests VALUES (?, ?, ?)",
                [(request.token, json.dumps(asdict(request)), request.created) for request in requests],
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._saved.update((name, digest) for name, _, digest in changed)
        return failed

    def close(self) -> None:
        """Close the file; nothing is saved by it."""
        self._db.close()
        self._lock.close()


def _encode(name: str, get_state: Callable[[], Any]) -> bytes | None:
    """The state of a service as bytes; a background thread may change it meanwhile, hence the retries."""
    for _ in range(5):
        try:
            state = get_state()
            if state is None:
                return None
            return json.dumps(state, default=persistence._json_default).encode()
        except RuntimeError:  # changed size during iteration
            continue
    raise RuntimeError(f"The state of {name} never held still")
