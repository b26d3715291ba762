"""What the dashboard knows and does over HTTP, in threads of its own: drawing never waits for the network.

Threads are daemons: quitting does not wait for a server that does not answer.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from fairlead.cli.client import Client, NotLoggedIn, ServerRefused, ServerUnreachable
from fairlead.kernel.errors import FairleadError

PACE_S = 1.0
ANSWER_S = 10.0
PAGE, PAGES, KEPT = 200, 5, 2000  # events asked for at once, pages in one look, events kept


@dataclass(frozen=True, slots=True)
class Chosen:
    """The case that somebody looks at, and from which number of its log on."""

    number: int
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look. `details` and `events` are of the `chosen` case; events are all that are kept."""

    overview: dict[str, Any]
    chosen: Chosen | None
    details: dict[str, Any] | None
    events: tuple[dict[str, Any], ...]
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Away:
    """A look that failed; the next one comes by itself."""

    problem: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something to do, and what to say once it is done."""

    method: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    done: str


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an action; `problem` where the server refused it or did not answer."""

    action: Action
    problem: dict[str, Any] | None


News = Seen | Away | Done


@dataclass(slots=True)
class _Log:
    """Events of one run from a number on."""

    run_id: str
    after: int
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))
    final: bool = False


class Feed:
    """Looks again and again, and carries out actions one after another."""

    def __init__(self, connect: Callable[[], Client], project: str, *, pace_s: float = PACE_S) -> None:
        """`connect` makes a client with the caller's credentials; it is called again after a refusal."""
        self._connect = connect
        self._project = project
        self._pace_s = pace_s
        self._tell: Callable[[News], object] = lambda _: None
        self._chosen: Chosen | None = None
        self._log: tuple[Chosen, _Log] | None = None
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._actions: queue.Queue[Action] = queue.Queue()

    @property
    def cases(self) -> str:
        """Path of the project's cases."""
        return f"/projects/{self._project}/cases"

    def start(self, tell: Callable[[News], object]) -> None:
        """Begin; `tell` is called from other threads."""
        self._tell = tell
        for work in (self._look_for_ever, self._act_for_ever):
            threading.Thread(target=work, daemon=True, name=f"dashboard-{work.__name__}").start()

    def stop(self) -> None:
        """Tell nothing any more. Does not wait."""
        self._stopped.set()
        self._wake.set()

    def choose(self, chosen: Chosen | None) -> None:
        """Look at this case from now on."""
        if chosen != self._chosen:
            self._chosen = chosen
            self._wake.set()

    def act(self, action: Action) -> None:
        """Carry this out, after those that were asked for before."""
        self._actions.put(action)

    # --- looking ---

    def _look_for_ever(self) -> None:
        client: Client | None = None
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                client = client or self._connect()
                self._say(self._look(client))
            except (FairleadError, httpx2.HTTPError, LookupError, TypeError, ValueError) as error:
                if _is_refusal(error) and client is not None:
                    client.close()  # somebody may log in again meanwhile
                    client = None
                self._say(Away(problem_of(error)))
                self._stopped.wait(self._pace_s)
                continue
            self._wake.wait(self._pace_s)

    def _look(self, client: Client) -> Seen:
        overview = client.get(f"{self.cases}/overview")
        chosen, details = self._chosen, None
        events: tuple[dict[str, Any], ...] = ()
        if chosen is not None:
            details = client.get(f"{self.cases}/{chosen.number}")
            events = self._events(client, chosen, details["run_id"])
        if not {"queues", "hosts", "steps", "counts"} <= set(overview):
            raise ValueError("this is no overview")
        return Seen(overview=overview, chosen=chosen, details=details, events=events)

    def _events(self, client: Client, chosen: Chosen, run_id: str | None) -> tuple[dict[str, Any], ...]:
        """All kept events of the case's run, the new ones included: only these are asked for."""
        if run_id is None:
            return ()
        if self._log is None or self._log[0] != chosen or self._log[1].run_id != run_id:
            self._log = (chosen, _Log(run_id, chosen.after))
        log = self._log[1]
        for _ in range(PAGES):
            if log.final:
                break
            page = client.get(f"/runs/{run_id}/events", after=log.after, limit=PAGE)
            log.events.extend(page["items"])
            log.after, log.final = page["next_after"], page["final"]
            if len(page["items"]) < PAGE:
                break
        return tuple(log.events)

    # --- acting ---

    def _act_for_ever(self) -> None:
        client: Client | None = None
        while not self._stopped.is_set():
            action = self._actions.get()
            problem = None
            try:
                client = client or self._connect()
                client.request(action.method, action.path, body=action.body)
            except (FairleadError, httpx2.HTTPError, ValueError) as error:
                problem = problem_of(error)
                client = None
            self._say(Done(action, problem))
            self._wake.set()  # its effect is to be seen at once

    def _say(self, news: News) -> None:
        if not self._stopped.is_set():
            with suppress(RuntimeError):  # the dashboard closes at this moment
                self._tell(news)


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, NotLoggedIn) or (
        isinstance(error, ServerRefused) and error.problem().get("status") == 401
    )


def problem_of(error: Exception) -> dict[str, Any]:
    """Code, detail and remedy of whatever went wrong."""
    if isinstance(error, FairleadError):
        return error.problem()
    if isinstance(error, httpx2.HTTPError):
        return ServerUnreachable(
            f"The server does not answer ({type(error).__name__}).",
            remedy="Start it with `fairlead serve`, or set FAIRLEAD_URL to where it runs.",
        ).problem()
    return AnswerUnclear(
        "The server's answer is none that this dashboard understands.",
        remedy="Check FAIRLEAD_URL, and that server and command line are of the same release.",
    ).problem()


class AnswerUnclear(FairleadError):
    """The server's answer has another form than this release expects."""

    code, status, retryable = "cli.answer_unclear", 502, True
