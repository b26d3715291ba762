"""How the command line reaches the server: where it is, who is calling, what went wrong.

The address and the token come from FAIRLEAD_URL and FAIRLEAD_TOKEN, else from the credentials
that `fairlead login` keeps, readable by their owner only, in the user's configuration folder.
"""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.kernel.errors import FairleadError

if TYPE_CHECKING:
    import httpx2

DEFAULT_URL = "http://127.0.0.1:8700"


class ServerUnreachable(FairleadError):
    """The Fairlead server does not answer."""

    code, status, retryable = "cli.server_unreachable", 503, True


class NotLoggedIn(FairleadError):
    """You are not logged in."""

    code, status, retryable = "cli.not_logged_in", 401, False


class ServerRefused(FairleadError):
    """The server refused the request."""

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        """Takes over the code, message, remedy and details of the server's problem document."""
        details = problem.get("details")
        super().__init__(
            str(problem.get("detail") or problem.get("title") or f"HTTP {status}"),
            remedy=problem.get("remedy"),
            **(details if isinstance(details, dict) else {}),
        )
        self.body = {"status": status, "code": "http.error", **problem}

    def problem(self) -> dict[str, Any]:
        """The server's own document."""
        return self.body


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the server is and what to show it."""

    url: str
    access_token: str | None = None
    refresh_token: str | None = None


def credentials_path() -> Path:
    """The file that `fairlead login` writes."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")  # noqa: TID251
    return Path(base) / "fairlead" / "credentials.json"


def load_credentials(url: str | None = None) -> Credentials:
    """The environment's, else the stored ones."""
    environment = os.environ  # noqa: TID251
    if token := environment.get("FAIRLEAD_TOKEN"):
        return Credentials(url or environment.get("FAIRLEAD_URL") or DEFAULT_URL, token)
    try:
        stored = json.loads(credentials_path().read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        stored = {}
    wanted = url or environment.get("FAIRLEAD_URL") or stored.get("url") or DEFAULT_URL
    if stored.get("url") != wanted:
        return Credentials(wanted)
    return Credentials(wanted, stored.get("access_token"), stored.get("refresh_token"))


def store_credentials(credentials: Credentials) -> Path:
    """Keep them, readable by the owner only; the file is never readable by others, not even briefly."""
    path = credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(
            {
                "url": credentials.url,
                "access_token": credentials.access_token,
                "refresh_token": credentials.refresh_token,
            },
            file,
        )
    temporary.replace(path)
    return path


class Client:
    """The HTTP API with our credentials; renews a session that has run out, once."""

    def __init__(self, credentials: Credentials, *, keep: bool = True, answer_s: float = 60.0) -> None:
        """`keep` stores renewed tokens back into the credentials file; `answer_s`: longest wait for one."""
        import httpx2  # a fifth of a second that `fairlead --help` need not wait

        self.credentials = credentials
        self._keep = keep
        self._http = httpx2.Client(
            base_url=credentials.url, timeout=httpx2.Timeout(min(30.0, answer_s), read=answer_s)
        )

    def close(self) -> None:
        """Release the connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, Any] | None = None,
        auth: bool = True,
    ) -> Any:
        """The decoded JSON answer, or None for an empty one. Raises what the server refused with."""
        response = self._send(method, path, body, query, auth=auth)
        if response.status_code == 401 and auth and self._renew():
            response = self._send(method, path, body, query, auth=auth)
        return self._decoded(response)

    def content(self, path: str) -> bytes:
        """GET what is no JSON: a page, a picture. Raises what the server refused with."""
        response = self._send("GET", path, None, None, auth=True)
        if response.status_code == 401 and self._renew():
            response = self._send("GET", path, None, None, auth=True)
        if response.status_code >= 400:
            self._decoded(response)
        return response.content

    def get(self, path: str, **query: Any) -> Any:
        """GET with the query arguments that are not None."""
        return self.request("GET", path, query={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """POST a JSON body."""
        return self.request("POST", path, body=body if body is not None else {})

    def events(self, run_id: str, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """Events of a run as they happen, from sequence number `after` on; reconnects by itself."""
        import httpx2

        failures = 0
        while True:
            try:
                for event in self._stream(run_id, after):
                    failures = 0
                    after = event["seq"]
                    yield event
                    if event["type"] in ("run.succeeded", "run.failed", "run.cancelled"):
                        return
            except (httpx2.TransportError, httpx2.StreamError) as error:
                failures += 1
                if failures > 5:
                    raise ServerUnreachable(f"{self.credentials.url} stopped answering: {error}") from error

    def _stream(self, run_id: str, after: int) -> Iterator[dict[str, Any]]:
        import httpx2

        headers = {"accept": "text/event-stream", **self._authorization()}
        timeout = httpx2.Timeout(30.0, read=60.0)
        with self._http.stream(
            "GET", f"/runs/{run_id}/events", params={"after": after}, headers=headers, timeout=timeout
        ) as response:
            if response.status_code == 401 and self._renew():
                return
            if response.status_code >= 400:
                response.read()
                self._decoded(response)
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def _authorization(self) -> dict[str, str]:
        if not self.credentials.access_token:
            raise NotLoggedIn(
                f"You are not logged in to {self.credentials.url}.",
                remedy="Run `fairlead login`, or set FAIRLEAD_TOKEN.",
            )
        return {"authorization": f"Bearer {self.credentials.access_token}"}

    def _send(
        self, method: str, path: str, body: Any, query: dict[str, Any] | None, *, auth: bool
    ) -> "httpx2.Response":
        import httpx2

        headers = self._authorization() if auth else {}
        try:
            return self._http.request(method, path, json=body, params=query, headers=headers)
        except httpx2.TransportError as error:
            raise ServerUnreachable(
                f"{self.credentials.url} does not answer ({type(error).__name__}).",
                remedy="Start it with `fairlead serve`, or set FAIRLEAD_URL to where it runs.",
            ) from error
        except httpx2.InvalidURL as error:
            raise ServerUnreachable(
                f"{self.credentials.url} is not a URL: {error}", remedy="Correct FAIRLEAD_URL."
            ) from error

    def _renew(self) -> bool:
        if not self.credentials.refresh_token:
            return False
        if not self._keep:
            return self._refresh()
        # A refresh token works once: of several commands that run at once, one renews for all.
        with credentials_path().with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stored = load_credentials(self.credentials.url)
            if stored.refresh_token and stored.refresh_token != self.credentials.refresh_token:
                self.credentials = stored
                return True
            return self._refresh()

    def _refresh(self) -> bool:
        response = self._http.post(
            "/sessions/refresh", json={"refresh_token": self.credentials.refresh_token}
        )
        if response.status_code != 200:
            return False
        body = response.json()
        self.credentials = Credentials(self.credentials.url, body["access_token"], body["refresh_token"])
        if self._keep:
            store_credentials(self.credentials)
        return True

    def _decoded(self, response: "httpx2.Response") -> Any:
        if response.status_code < 400:
            return response.json() if response.content else None
        try:
            problem = response.json()
        except json.JSONDecodeError:
            problem = {}
        raise ServerRefused(problem if isinstance(problem, dict) else {}, response.status_code)


def connect() -> Client:
    """A client with the credentials of this user."""
    return Client(load_credentials())


def current_project(explicit: str | None) -> str:
    """The project to work on: the option, else FAIRLEAD_PROJECT."""
    project = explicit or os.environ.get("FAIRLEAD_PROJECT")  # noqa: TID251
    if not project:
        import typer

        raise typer.BadParameter("Which project? Give --project NAME or set FAIRLEAD_PROJECT.")
    return project


def read_input(path: Path) -> bytes:
    """The bytes of a file, or of standard input for `-`. Raises a clear error for what cannot be read."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadable(
            f"{path}: {error.strerror or error}", remedy="Check the path and its permissions.", path=str(path)
        ) from error


class FileUnreadable(FairleadError):
    """A file could not be read."""

    code, status, retryable = "cli.file_unreadable", 400, False
