"""Agents' live connections: 500 and 1,000 at one ticket, and what a reconnect costs.

Server, agents and the job (which writes its events as a worker does) are processes of their own on the same
machine; times include the agents'. Beside them, in the same run and with the same agents, a bare
python-socketio server that emits to a room: no sessions, no database, nothing kept to come back to.

.venv/bin/python -m tests.benchmarks.bench_realtime
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fairlead.kernel.db import migrate, open_database
from fairlead.kernel.runs import open_runs
from fairlead.kernel.runs import store as run_store
from fairlead.support import accounts, jobs
from fairlead.support.model import JobKind, Language
from tests.benchmarks import realtime_programs
from tests.services import free_port
from tests.support.live import ACCOUNT, Desk, open_desk
from tests.support.zendesk_keys import INSTALLATION, PROJECT

Line = tuple[str, float, str]
AGENTS = (500, 1000)
BROADCASTS, APART_S = 20, 0.5  # as often as a job tells how far it is
REPLAYED, TIMES = 1000, 5
USER = 361507000000
_processes = multiprocessing.get_context("forkserver")


def run() -> list[Line]:
    """All figures."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _processes.set_forkserver_preload(["tests.support.live_programs", "tests.benchmarks.realtime_programs"])
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder, _desk(Path(folder)) as desk:
        for count in AGENTS:
            ours = _crowd(desk, count)
            bare = _bare(count)
            name = f"support.realtime.{count}"
            lines += [(f"{name}.{figure}", value, unit) for figure, value, unit in ours]
            lines += [(f"{name}.bare.{figure}", value, unit) for figure, value, unit in bare]
        lines += _replays(desk)
    return lines


@contextmanager
def _desk(folder: Path) -> Iterator[Desk]:
    url = f"sqlite:///{folder}/fairlead.db"
    database = open_database(url)
    migrate(database)
    open_runs(database).close()
    database.close()
    with open_desk(folder, url) as desk:
        yield desk


@contextmanager
def _clients() -> Iterator[Connection]:
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=realtime_programs.agents, args=(theirs,))
    process.start()
    try:
        yield ours
    finally:
        ours.send(("end",))
        process.join(20)
        process.kill()


def _ask(pipe: Connection, *command: Any) -> Any:
    pipe.send(command)
    assert pipe.poll(180), command
    return pipe.recv()


def _auths(desk: Desk, ticket: str, count: int) -> list[dict[str, Any]]:
    return [{"token": desk.token(user=str(USER + number)), "ticket": ticket} for number in range(count)]


def _job(desk: Desk, ticket: str) -> str:
    runs = open_runs(desk.database)
    with desk.database.transaction() as connection:
        customer = accounts.customer(connection, PROJECT, ACCOUNT)
        run = jobs.submit(
            connection,
            runs,
            JobKind.SCREEN,
            customer,
            actor="bench",
            language=Language.ENGLISH,
            installation=INSTALLATION,
            ticket=ticket,
            details={},
        )
    runs.close()
    return run.id


def _tell(desk: Desk, job: str, number: int, **more: Any) -> int:
    data = {"percent": number % 100, "stage": "checking", "done": number, "total": 1000, **more}
    with desk.database.transaction() as connection:
        return run_store.append(connection, job, "support.progress", data).seq


def _crowd(desk: Desk, count: int) -> list[Line]:
    """`count` agents at one ticket, and a job that tells how far it is."""
    ticket = desk.ticket()
    job = _job(desk, ticket)
    server = desk.start_server()
    with _clients() as pipe:
        _ask(pipe, "connect", server.said, _auths(desk, "59", 1))  # warm
        before = _resident_mb(server.process.pid)
    with _clients() as pipe:
        connect_s = _ask(pipe, "connect", server.said, _auths(desk, ticket, count))
        last = 0
        for number in range(BROADCASTS):
            last = _tell(desk, job, number, sent_at=time.time())
            time.sleep(APART_S)
        told = _ask(pipe, "told", last)
        grown = _resident_mb(server.process.pid) - before
        resident = _resident_mb(server.process.pid)
    server.stop()
    return [
        ("connect", round(connect_s, 2), "s"),
        *_late(told["late_s"]),
        ("lost", told["lost"], "events"),
        ("server_memory", round(resident), "MB"),
        ("memory_per_agent", round(1024 * grown / count, 1), "KB"),
    ]


def _late(late_s: Sequence[float]) -> list[Line]:
    ordered = sorted(late_s)
    return [
        (f"broadcast_{label}", round(1000 * ordered[int(len(ordered) * share)], 1), "ms")
        for label, share in (("p50", 0.5), ("p99", 0.99))
    ]


def _resident_mb(pid: int | None) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


def _replays(desk: Desk) -> list[Line]:
    """What who comes back waits for: a thousand events of one job."""
    ticket = desk.ticket()
    job = _job(desk, ticket)
    last = 0
    while last < REPLAYED:
        last = _tell(desk, job, last)
    server = desk.start_server()
    took: list[float] = []
    lost = 0
    for number in range(TIMES + 1):
        with _clients() as pipe:
            began = time.time()
            _ask(pipe, "connect", server.said, _auths(desk, ticket, 1))
            told = _ask(pipe, "told", last)
            if number:  # the first one warms up
                took.append(told["last_at"] - began)
                lost += told["lost"]
    server.stop()
    return [
        ("support.realtime.replay_1000", round(1000 * statistics.median(took)), "ms"),
        ("support.realtime.replay_1000.lost", lost, "events"),
    ]


# --- the peer --------------------------------------------------------------------------------------


def _bare(count: int) -> list[Line]:
    ours, theirs = _processes.Pipe()
    port = free_port()
    process = _processes.Process(target=realtime_programs.bare_server, args=(port, theirs))
    process.start()
    assert ours.recv() == "ready"
    with _clients() as pipe:
        nobody: Sequence[Mapping[str, Any]] = [{} for _ in range(count)]
        connect_s = _ask(pipe, "connect", f"http://127.0.0.1:{port}", nobody)
        for number in range(1, BROADCASTS + 1):
            data = {"percent": number, "stage": "checking", "done": number, "total": 1000}
            ours.send(
                {"job": "j", "seq": number, "kind": "progress", "data": {**data, "sent_at": time.time()}}
            )
            time.sleep(APART_S)
        told = _ask(pipe, "told", BROADCASTS)
    ours.send(None)
    process.join(10)
    process.kill()
    return [("connect", round(connect_s, 2), "s"), *_late(told["late_s"]), ("lost", told["lost"], "events")]


if __name__ == "__main__":
    for name, value, unit in run():
        print(f"{name:48} {value:>10} {unit}")
