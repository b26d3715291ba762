"""The case pipeline over SSH to one host on loopback: latency, overhead, many cases at once, crashes, Slurm.

    .venv/bin/python -m tests.benchmarks pipeline

Overhead is the wall clock without the time in which at least one dose job was running; that is taken on the
host, by the wrapper that starts the jobs. `instant` cases are calculated by a program that needs no time but
that of its start. Client, worker and host share the cores of one machine.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.cases import faults, machine
from fairlead.cases.store import CaseStatus
from fairlead.kernel import toolenv
from fairlead.kernel.db import migrate, open_database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.settings import CaseHostSettings
from tests.cases import engine_subjects
from tests.cases.clinic import Clinic, opened, until
from tests.sandbox_service import toolenvs
from tests.slurm_service import start_slurm
from tests.ssh_service import SshServer, start_sshd

Line = tuple[str, float, str]
PATIENCE_S = 1200.0
ROUNDS = 5  # of each kind of crash

_WRAPPER = """#!/bin/sh
began=$(date +%s.%N)
{python} "$@"
code=$?
echo "$began $(date +%s.%N)" >>{folder}/jobs.log
exit $code
"""


def _cases(folder: Path, count: int) -> list[Path]:
    """`count` different cases; but for their identity they are one."""
    machines = machine.load()
    return [faults.generate_case(folder / f"{n:03}", machines, seed=n + 1).folder for n in range(count)]


def _instant(folder: Path, busy_s: float = 0.0) -> dict[str, Any]:
    path = repr([place for place in sys.path if place])
    body = engine_subjects.COMMAND.replace("{path!r}", path).replace("(10 + beam)", "(10 + beam % 100000)")
    if busy_s:
        body = body.replace("import json", f"import time; time.sleep({busy_s})\nimport json", 1)
    program = engine_subjects.script(folder / "calculate", body)
    return {"engine": "command", "engine_options": {"argv": [str(program), "{request}", "{out}", "{beam}"]}}


def _host(server: SshServer, folder: Path, **values: Any) -> CaseHostSettings:
    wrapper = folder / "python"
    wrapper.write_text(_WRAPPER.format(python=sys.executable, folder=folder))
    wrapper.chmod(0o755)
    known = folder / "known_hosts"
    known.write_text(server.known_hosts)
    target = server.target()
    given = {
        "name": "gpu1", "executor": "ssh", "work_dir": target.root, "python": str(wrapper), "slots": 2,
        "address": target.address, "port": target.port, "user": target.user,
        "known_hosts": known, "identity_file": target.key_file,
    }  # fmt: skip
    return CaseHostSettings(**{**given, **values})


@contextmanager
def _clinic(
    server: SshServer, name: str, *, host: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Clinic]:
    with tempfile.TemporaryDirectory(prefix=f"fairlead-{name}-") as place:
        folder = Path(place)
        database = open_database(f"sqlite:///{folder / 'template.db'}")
        migrate(database)
        database.close()
        given = {"hosts": (_host(server, folder, **(host or {})),), **settings}
        if settings.get("engine") is None:
            given |= _instant(folder, float(settings.pop("busy_s", 0.0)))
            given.pop("busy_s", None)
        with opened(folder, folder / "template.db", **given) as clinic:
            yield clinic


@dataclass(frozen=True)
class Figures:
    """What one run took, in seconds, and the worker's peak memory in MB."""

    wall: float
    engine: float
    cpu: float  # the worker's own, not that of jobs
    peak: float

    @property
    def overhead(self) -> float:
        return self.wall - self.engine


def _run(clinic: Clinic, sources: Sequence[Path]) -> Figures:
    """All cases put at once, until the last one has its verdict."""
    (clinic.folder / "worker.log").touch()
    worker = clinic.start()
    until(lambda: "worker.started" in clinic.log(), "the worker works", PATIENCE_S)
    for number, source in enumerate(sources):  # everything but the marker that makes a case
        target = clinic.scan / f"SYN{number:06}"
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("_CASE_READY"))
    used = _cpu_s(worker.pid or 0)
    began = time.time()
    for number in range(len(sources)):
        (clinic.scan / f"SYN{number:06}" / "_CASE_READY").touch()
    peak = 0.0

    def ended() -> bool:
        nonlocal peak
        peak = max(peak, _peak_mb(worker.pid or 0))
        cases = clinic.cases()
        return len(cases) == len(sources) and all(case.status.final for case in cases)

    until(ended, "every case ends", PATIENCE_S)
    wall = time.time() - began
    wrong = [
        case for case in clinic.cases() if case.status is not CaseStatus.COMPLETED or case.verdict != "pass"
    ]
    if wrong:
        raise RuntimeError(f"{len(wrong)} cases did not pass: {wrong[0].problem}")
    used = _cpu_s(worker.pid or 0) - used
    return Figures(wall, _covered(clinic.folder / "jobs.log"), used, peak)


def _cpu_s(pid: int) -> float:
    """Seconds of all cores that the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _covered(log: Path) -> float:
    """Seconds that at least one of the logged intervals covers."""
    intervals = sorted(tuple(map(float, line.split())) for line in log.read_text().splitlines())
    covered, end = 0.0, 0.0
    for began, ended in intervals:
        covered += max(0.0, ended - max(began, end))
        end = max(end, ended)
    return covered


def _latency(server: SshServer, sources: list[Path]) -> list[Line]:
    lines: list[Line] = []
    for name, settings in (("reference", {"engine": "reference"}), *_mcsquare()):
        with _clinic(server, name, **settings) as clinic:
            found = _run(clinic, sources[:1])
        lines += [
            (f"cases_ssh_1_{name}_wall", found.wall, "s"),
            (f"cases_ssh_1_{name}_engine", found.engine, "s"),
            (f"cases_ssh_1_{name}_overhead", found.overhead, "s"),
        ]
    return lines


def _mcsquare() -> list[tuple[str, dict[str, Any]]]:
    try:
        toolenv.ensure("mcsquare", root=toolenvs())
    except FairleadError as error:
        print(f"# mcsquare left out: {error.message}")
        return []
    options = {"protons": 1_000_000, "threads": 2, "toolenvs": str(toolenvs())}
    return [("mcsquare_1e6", {"engine": "mcsquare", "engine_options": options})]


def _many(server: SshServer, sources: list[Path]) -> list[Line]:
    lines: list[Line] = []
    for count, name in ((1, "instant"), (10, "instant"), (12, "reference"), (100, "instant")):
        settings: dict[str, Any] = {} if name == "instant" else {"engine": name}
        with _clinic(server, f"{count}-{name}", **settings) as clinic:
            found = _run(clinic, sources[:count])
        prefix = f"cases_ssh_{count}_{name}"
        lines += [
            (f"{prefix}_wall", found.wall, "s"),
            (f"{prefix}_overhead", found.overhead, "s"),
            (f"{prefix}_throughput", 60 * count / found.wall, "1/min"),
            (f"{prefix}_worker_cpu_per_case", found.cpu / count, "s"),
            (f"{prefix}_worker_peak", found.peak, "MB"),
        ]
    return lines


def _recovery(server: SshServer, sources: list[Path]) -> list[Line]:
    lines: list[Line] = []
    for what in ("worker", "sshd"):
        found = [_goes_on_after(what, server, sources[number]) for number in range(ROUNDS)]
        lines += [
            (f"cases_killed_{what}_work_goes_on_median", statistics.median(found), "s"),
            (f"cases_killed_{what}_work_goes_on_max", max(found), "s"),
        ]
    return lines


def _goes_on_after(what: str, server: SshServer, source: Path) -> float:
    """Seconds from the kill of `what` until another worker goes on, or this one is connected again."""
    with _clinic(server, f"kill-{what}", busy_s=3.0) as clinic:
        (clinic.folder / "worker.log").touch()
        first = clinic.start()
        clinic.put(source)
        until(lambda: _begun(clinic), "a beam has begun", PATIENCE_S)
        if what == "worker":
            clinic.start()
            until(lambda: clinic.log().count("worker.started") == 2, "another one waits", PATIENCE_S)
        seen, began = _signs(clinic, what), time.monotonic()
        if what == "worker":
            first.kill()
        else:
            server.kill()
            server.start()
        until(lambda: _signs(clinic, what) > seen, "work goes on", PATIENCE_S)
        waited = time.monotonic() - began
        if clinic.ended().verdict != "pass":
            raise RuntimeError("the case did not pass")
        return waited


def _signs(clinic: Clinic, what: str) -> int:
    """How often work was seen to go on. A job that sleeps says nothing, so of sshd connections tell."""
    return len(_events(clinic)) if what == "worker" else clinic.log().count("ssh.connected")


def _events(clinic: Clinic) -> list[tuple[str, dict[str, Any]]]:
    case = clinic.case()
    return clinic.events(case.run_id) if case and case.run_id else []


def _begun(clinic: Clinic) -> bool:
    return any(type_ == "beam.started" for type_, _ in _events(clinic))


def _slurm(folder: Path, sources: list[Path]) -> list[Line]:
    with (
        start_slurm(folder / "slurm") as cluster,
        start_sshd(folder / "slurm-sshd", variables={"SLURM_CONF": str(cluster.conf)}) as server,
        _clinic(server, "slurm", host={"executor": "slurm", "gpus": 1}, busy_s=0.5) as clinic,
    ):
        found = _run(clinic, sources[:40])
        jobs = len((clinic.folder / "jobs.log").read_text().splitlines())
    return [
        ("cases_slurm_40_on_4_gpus_wall", found.wall, "s"),
        ("cases_slurm_40_on_4_gpus_jobs", jobs, "jobs"),
        ("cases_slurm_40_on_4_gpus_throughput", 60 * 40 / found.wall, "1/min"),
        ("cases_slurm_40_on_4_gpus_worker_peak", found.peak, "MB"),
    ]


def run() -> list[Line]:
    """All lines of this benchmark."""
    os.environ["MALLOC_ARENA_MAX"] = "2"  # as `fairlead serve` and the systemd unit start workers
    with tempfile.TemporaryDirectory(prefix="fairlead-pipeline-") as place:
        folder = Path(place)
        sources = _cases(folder / "cases", 100)
        with start_sshd(folder / "sshd") as server:
            if server.kind != "openssh":
                print("# openssh-server is not installed: asyncssh's server instead", flush=True)
            lines = [*_latency(server, sources), *_many(server, sources), *_recovery(server, sources)]
        return [*lines, *_slurm(folder, sources)]
