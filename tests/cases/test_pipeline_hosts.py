"""A case to its verdict while the way to its host, or what runs there, dies at every step."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from fairlead.cases.generate import Written
from fairlead.cases.store import CaseStatus
from tests.cases.clinic import Clinic, opened, until
from tests.cases.test_pipeline import STEPS, over_ssh, started
from tests.slurm_service import start_slurm
from tests.ssh_service import start_sshd

Strike = Callable[[], None]


@contextmanager
def threatened(what: str, folder: Path, database: Path, kept: Path) -> Iterator[tuple[Clinic, Strike]]:
    """A clinic with one host, and what kills -9 a part of the way there and starts it again."""
    place = folder / "clinic"
    place.mkdir()
    with ExitStack() as stack:
        variables, values = {}, {}
        if what == "slurmctld":
            cluster = stack.enter_context(start_slurm(folder / "slurm"))
            variables = {"SLURM_CONF": str(cluster.conf)}
            values = {"executor": "slurm", "gpus": 1}
        server = stack.enter_context(start_sshd(folder / "sshd", variables=variables))
        host = over_ssh(server, place, kept, **values)
        clinic = stack.enter_context(opened(place, database, hosts=(host,)))

        def restart_sshd() -> None:
            server.kill()
            server.start()

        def restart_controller() -> None:
            cluster.kill_controller()
            cluster.start_controller()

        strikes = {"connection": server.cut, "sshd": restart_sshd, "slurmctld": restart_controller}
        yield clinic, strikes[what]


def told(clinic: Clinic, event: str) -> bool:
    """Whether the case has written `event`, or has ended without."""
    case = clinic.case()
    if case is None or case.run_id is None:
        return False
    names = {
        name
        for kind, data in clinic.events(case.run_id)
        for name in (kind, f"{kind}:{data.get('step')}:{data.get('state')}")
    }
    return event in names or case.status.final


def jobs_at(root: Path) -> list[int]:
    """Pids of everything that belongs to a job of the host at `root`."""
    mark, found = f"\0FAIRLEAD_JOB={root}/".encode(), []
    for place in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in b"\0" + place.read_bytes():
                found.append(int(place.parent.name))
    return found


def test_a_case_survives_its_processes_on_the_host_dying_at_every_step(
    tmp_path: Path, sqlite_template: Path, clean: Written, kept: Path
) -> None:
    place = tmp_path / "clinic"
    place.mkdir()
    with (
        start_sshd(tmp_path / "sshd") as server,
        opened(place, sqlite_template, hosts=(over_ssh(server, place, kept),), attempts=10) as clinic,
    ):
        (place / "hold").touch()
        clinic.put(clean.folder)
        clinic.start()
        killed_jobs = 0
        for event in STEPS[:-1]:
            until(partial(told, clinic, event), event)
            if event == "case.step:run:begun":
                until(lambda: set(started(clinic)) == {"beam-2.json", "beam-3.json"}, "both have begun")
            jobs = jobs_at(Path(server.target().root))
            killed_jobs += bool(jobs)
            for pid in (*jobs, *server.programs()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if jobs:
                (place / "hold").unlink(missing_ok=True)
        case = clinic.ended()
        assert (case.status, case.verdict) == (CaseStatus.COMPLETED, "pass"), clinic.log()
        # Killed ones are calculated again, and no others: at most both beams at every strike that hit jobs.
        assert killed_jobs
        assert len(started(clinic)) > 2
        assert len(started(clinic)) <= 2 + 2 * killed_jobs, clinic.log()
        assert jobs_at(Path(server.target().root)) == []


@pytest.mark.parametrize("what", ["connection", "sshd", "slurmctld"])
def test_a_case_survives_the_way_to_its_host_dying_at_every_step_and_computes_nothing_twice(
    tmp_path: Path, sqlite_template: Path, clean: Written, kept: Path, what: str
) -> None:
    with threatened(what, tmp_path, sqlite_template, kept) as (clinic, strike):
        clinic.put(clean.folder)
        clinic.start()
        struck = 0
        for event in STEPS[:-1]:
            until(partial(told, clinic, event), event)
            case = clinic.case()
            if case is not None and case.status.final:
                break
            strike()
            struck += 1
        case = clinic.ended()
        assert (case.status, case.verdict) == (CaseStatus.COMPLETED, "pass"), (case.problem, clinic.log())
        assert started(clinic) == ["beam-2.json", "beam-3.json"], clinic.log()
        assert struck >= len(STEPS) // 2
