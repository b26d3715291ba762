"""A case from its folder to a verdict, by real worker processes that die at every step."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cases import faults, gpus, routes, store
from fairlead.cases.generate import Written
from fairlead.cases.machine import Machine
from fairlead.cases.routes import CasesDoor
from fairlead.cases.store import BeamStatus, CaseRecord, CaseStatus
from fairlead.kernel.objects import open_objects
from fairlead.kernel.projects.model import Actor
from fairlead.kernel.settings import CaseHostSettings
from tests.cases.case_worker import PROJECT
from tests.cases.clinic import Clinic, opened, until
from tests.slurm_service import start_slurm
from tests.ssh_service import SshServer, start_sshd

STEPS = (
    "case.step:validate:begun",
    "case.validated",
    "case.grouped",
    "case.interpreted",
    "case.placed",
    "case.transferred",
    "case.step:run:begun",
    "beam.progress",
    "beam.calculated",
    "beam.completed",
    "case.converted",
    "case.verdict",
    "case.cleaned",
    "case.finished",
)


_ENGINE = """#!/bin/sh
echo "$3" >>{folder}/started
echo "$CUDA_VISIBLE_DEVICES" >>{folder}/seen-gpus
while [ -e {folder}/hold ]; do sleep 0.05; done
if [ -e {folder}/refuse ]; then echo cases.unsupported: no such beam >&2; exit 1; fi
kept={kept}/$(sha256sum <"$3" | cut -c1-64) result="${{3%.json}}.result"
if [ -d "$kept" ]; then
  rm -rf "$result" && echo progress 0.50 && cp -r "$kept" "$result" && echo progress 1.00
else
  {python} "$@" || exit
  cp -r "$result" "$kept.$$" && mv -T "$kept.$$" "$kept" 2>/dev/null
fi
if [ -e {folder}/damage ] && mv {folder}/damage {folder}/damaged 2>/dev/null; then
  for file in "${{3%.json}}".result/*.npy; do printf x >"$file"; done
fi
"""


def counting_host(folder: Path, kept: Path) -> CaseHostSettings:
    """This machine, where every start of the engine leaves a line in `started`.

    What the engine once calculated for a request is given again, from `kept`, to the next one that asks.
    While there is a file `hold` no engine begins; with `refuse` all fail; `damage` spoils one result.
    """
    python = folder / "python"
    python.write_text(_ENGINE.format(folder=folder, kept=kept, python=sys.executable))
    python.chmod(0o755)
    return CaseHostSettings(name="here", work_dir=str(folder / "host"), python=str(python), slots=2)


@pytest.fixture
def clinic(tmp_path: Path, sqlite_template: Path, kept: Path) -> Iterator[Clinic]:
    with opened(tmp_path, sqlite_template, hosts=(counting_host(tmp_path, kept),)) as made:
        yield made


def started(clinic: Clinic) -> list[str]:
    """The beams whose engine was started, one entry a start."""
    file = clinic.folder / "started"
    return sorted(file.read_text().split()) if file.exists() else []


def figures(case: CaseRecord) -> dict[str, Any]:
    assert case.result is not None, case
    return {name: case.result[name] for name in ("verdict", "checks", "gamma", "fractions")}


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, clean: Written, kept: Path
) -> dict[str, Any]:
    """The result of the clean case where nobody dies."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with opened(folder, sqlite_template, hosts=(counting_host(folder, kept),)) as made:
        made.put(clean.folder)
        made.start()
        case = made.ended()
        assert (case.status, case.verdict, case.problem) == (CaseStatus.COMPLETED, "pass", None), made.log()
        assert started(made) == ["beam-2.json", "beam-3.json"]
        progress = [
            data["progress"]
            for kind, data in made.events(case.run_id)
            if kind == "case.step" and "progress" in data
        ]
        assert progress == sorted(progress)
        assert case.progress == 1.0
        assert made.jobs() == []
        patient = clean.identity.patient_id
        assert patient not in made.log()
        assert patient not in str(made.events(case.run_id))
        left = {path.name for path in (folder / "work" / f"{case.id}-r1").iterdir()}
        assert not left & {"source", "in"}
        return figures(case)


@pytest.mark.parametrize("when", ["", "!"], ids=["before the commit", "after the commit"])
def test_a_case_survives_kill_9_at_every_step_and_computes_nothing_twice(
    clinic: Clinic, clean: Written, undisturbed: dict[str, Any], when: str
) -> None:
    clinic.put(clean.folder)
    events = [f"{event}{when}" for event in STEPS]
    case = clinic.keep_running(*events)

    def alive_at() -> set[str]:
        return set(events) - {path.name.removeprefix("died-") for path in clinic.folder.glob("died-*")}

    until(lambda: not alive_at(), f"a worker died at every step\n{clinic.log()}")
    assert figures(case) == undisturbed
    assert started(clinic) == ["beam-2.json", "beam-3.json"]
    assert clinic.jobs() == []
    told = [kind for kind, _ in clinic.events(case.run_id) if kind in ("case.verdict", "case.finished")]
    assert told == ["case.verdict", "case.finished"]


def test_clocks_that_are_hours_apart_cost_no_beam_and_no_second_calculation(
    clinic: Clinic, clean: Written, undisturbed: dict[str, Any]
) -> None:
    (clinic.folder / "hold").touch()
    folder = clinic.put(clean.folder)
    for path in (folder, *folder.iterdir()):  # the sender's clock is wrong as well
        os.utime(path, (4e9, 4e9))
    late = clinic.start(ahead_s=-7200.0)
    until(lambda: len(started(clinic)) == 2, "both beams have begun")
    early = clinic.start(ahead_s=7200.0)  # by its clock every lease has run out
    until(lambda: clinic.log().count("worker.started") == 2, "the second worker works")
    late.kill()
    late.join()
    (clinic.folder / "hold").unlink()
    case = clinic.ended()
    assert figures(case) == undisturbed
    assert started(clinic) == ["beam-2.json", "beam-3.json"]
    assert early.is_alive()
    with clinic.database.reading() as conn:
        assert gpus.leases(conn) == ()


def post(clinic: Clinic, number: int, what: str) -> None:
    """What the routes do, without HTTP."""
    actor = Actor(user_id="u", username="ann", is_admin=False)
    door = CasesDoor(database=clinic.database, runs=clinic.runs, objects=open_objects("memory://"), hosts=())
    with clinic.database.transaction() as conn:
        act = {"cancel": routes.cancel, "retry": routes.retry}[what]
        act(door, conn, store.by_number(conn, PROJECT, number), actor)


def processes_of(clinic: Clinic) -> list[str]:
    """Command lines of running processes that work in the clinic's host folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(clinic.folder / "python") in line:
                found.append(line)
    return found


def test_cancelling_stops_the_processes_and_retrying_begins_anew(clinic: Clinic, clean: Written) -> None:
    (clinic.folder / "hold").touch()
    clinic.put(clean.folder)
    clinic.start()
    until(lambda: len(started(clinic)) == 2, "both beams have begun")
    assert len(processes_of(clinic)) >= 2
    assert not any(clean.identity.patient_id in line for line in processes_of(clinic))
    post(clinic, 1, "cancel")
    case = clinic.ended()
    assert (case.status, case.verdict) == (CaseStatus.CANCELLED, None)
    until(lambda: not processes_of(clinic), "the processes end")
    with clinic.database.reading() as conn:
        beams = store.beams_of(conn, case.id, 1)
    assert [(beam.status, beam.gpus) for beam in beams] == [(BeamStatus.CANCELLED, [])] * 2
    (clinic.folder / "hold").unlink()
    post(clinic, 1, "retry")
    again = clinic.ended(round_=2)
    assert (again.status, again.verdict, again.round) == (CaseStatus.COMPLETED, "pass", 2)


def test_late_deliveries_wake_a_waiting_case_and_a_broken_record_fails_without_any_job(
    tmp_path: Path, sqlite_template: Path, clean: Written, machines: Machine, kept: Path
) -> None:
    hosts = (counting_host(tmp_path, kept),)
    with opened(tmp_path, sqlite_template, hosts=hosts, fraction_wait_s=3600.0) as clinic:
        folder = clinic.put(clean.folder)
        late = clean.deliveries[max(clean.deliveries)].name
        shutil.move(folder / late, tmp_path / late)
        broken = faults.generate_case(tmp_path / "broken", machines, fault="truncated-log", seed=5)
        clinic.put(broken.folder, "SYN000005")
        clinic.start()
        waiting = until(
            lambda: next((c for c in clinic.cases() if c.status is CaseStatus.WAITING), None), "a case waits"
        )
        other = clinic.ended(3 - waiting.number)
        assert (other.status, other.verdict) == (CaseStatus.COMPLETED, "fail")
        assert [v["rule"] for v in other.violations or []] == ["log.truncated"]
        assert started(clinic) == []
        with clinic.database.reading() as conn:
            (fraction,) = store.fractions_of(conn, waiting.id)
        assert (fraction.state, fraction.missing) == ("pending", [3])
        shutil.copytree(tmp_path / late, folder / late)
        case = clinic.ended(waiting.number)
        assert (case.verdict, case.round) == ("pass", 1)
        with clinic.database.reading() as conn:
            (fraction,) = store.fractions_of(conn, waiting.id)
        assert (fraction.state, fraction.missing) == ("complete", [])


def test_a_damaged_result_is_refused_and_calculated_again(clinic: Clinic, clean: Written) -> None:
    (clinic.folder / "damage").touch()
    clinic.put(clean.folder)
    clinic.start()
    case = clinic.ended()
    assert (case.status, case.verdict) == (CaseStatus.COMPLETED, "pass"), case.problem
    assert len(started(clinic)) == 3
    refused = [data for kind, data in clinic.events(case.run_id) if kind == "beam.refused"]
    assert [data["code"] for data in refused] == ["cases.result_incomplete"]


def test_an_engine_that_fails_fails_the_case_and_gives_its_places_back(
    clinic: Clinic, clean: Written
) -> None:
    (clinic.folder / "refuse").touch()
    clinic.put(clean.folder)
    clinic.start()
    case = clinic.ended()
    assert (case.status, case.verdict) == (CaseStatus.FAILED, None)
    assert case.problem is not None
    assert case.problem["code"] == "cases.beams_failed"
    assert case.problem["details"]["first"]["details"]["exit_code"] == 1
    assert "cases.unsupported: no such beam" in case.problem["detail"]
    assert started(clinic) == ["beam-2.json", "beam-3.json"]
    with clinic.database.reading() as conn:
        assert store.running_beams(conn) == []
    assert until(lambda: clinic.runs.get(str(case.run_id)).status.final, "the run ends")


def test_a_killed_engine_is_started_again_and_no_other(clinic: Clinic, clean: Written) -> None:
    (clinic.folder / "hold").touch()
    clinic.put(clean.folder)
    clinic.start()
    until(lambda: len(started(clinic)) == 2, "both beams have begun")
    with clinic.database.reading() as conn:
        job = next(beam.job for beam in store.running_beams(conn) if beam.beam == 3)
    pid = (clinic.folder / "host" / "jobs" / str(job) / "pid").read_text().split()[0]
    os.killpg(int(pid), signal.SIGKILL)
    (clinic.folder / "hold").unlink()
    case = clinic.ended()
    assert (case.status, case.verdict) == (CaseStatus.COMPLETED, "pass")
    assert started(clinic) == ["beam-2.json", "beam-3.json", "beam-3.json"]


def test_deliveries_that_arrive_while_the_case_is_calculated_begin_a_second_round(
    clinic: Clinic, clean: Written, tmp_path: Path
) -> None:
    folder = clinic.put(clean.folder)
    late = clean.deliveries[max(clean.deliveries)].name
    shutil.move(folder / late, tmp_path / late)
    (clinic.folder / "hold").touch()
    clinic.start()
    until(lambda: len(started(clinic)) == 2, "both beams have begun")
    before = clinic.case()
    shutil.copytree(tmp_path / late, folder / late)
    until(lambda: before and clinic.cases()[0].content != before.content, "the delivery is noticed")
    (clinic.folder / "hold").unlink()
    case = clinic.ended(round_=2)
    assert (case.round, case.verdict) == (2, "pass")
    assert before is not None
    first = until(lambda: clinic.runs.get(str(before.run_id)).result, "its first run ends")
    assert first["verdict"] == "fail"


def test_a_case_that_waits_for_deliveries_can_be_cancelled(
    tmp_path: Path, sqlite_template: Path, clean: Written, kept: Path
) -> None:
    hosts = (counting_host(tmp_path, kept),)
    with opened(tmp_path, sqlite_template, hosts=hosts, fraction_wait_s=3600.0) as clinic:
        shutil.rmtree(clinic.put(clean.folder) / clean.deliveries[max(clean.deliveries)].name)
        clinic.start()
        until(lambda: any(case.status is CaseStatus.WAITING for case in clinic.cases()), "the case waits")
        post(clinic, 1, "cancel")
        assert clinic.ended().status is CaseStatus.CANCELLED
        assert started(clinic) == []


def over_ssh(server: SshServer, folder: Path, kept: Path, **values: Any) -> CaseHostSettings:
    """The counting host, reached through `server`."""
    pinned = folder / "known_hosts"
    pinned.write_text(server.known_hosts)
    target = server.target()
    reached = {
        "executor": "ssh",
        "address": target.address,
        "port": target.port,
        "user": target.user,
        "known_hosts": pinned,
        "identity_file": target.key_file,
        "work_dir": target.root,
    }
    return counting_host(folder, kept).model_copy(update={**reached, **values})


def test_a_slurm_cluster_calculates_a_case_on_its_own_gpus(
    tmp_path: Path, sqlite_template: Path, clean: Written, kept: Path
) -> None:
    folder = tmp_path / "clinic"
    folder.mkdir()
    with (
        start_slurm(tmp_path / "slurm") as cluster,
        start_sshd(tmp_path / "sshd", variables={"SLURM_CONF": str(cluster.conf)}) as server,
        opened(
            folder, sqlite_template, hosts=(over_ssh(server, folder, kept, executor="slurm", gpus=1),)
        ) as clinic,
    ):
        clinic.put(clean.folder)
        clinic.start()
        case = clinic.ended()
        assert (case.status, case.verdict) == (CaseStatus.COMPLETED, "pass"), clinic.log()
        assert started(clinic) == ["beam-2.json", "beam-3.json"]


_NVIDIA_SMI = """#!/bin/sh
case "$1" in
  --query-gpu*) for n in 0 1; do echo "$n, GPU-$n, Pretended, 1000, 0, 30, 0, [N/A]"; done ;;
  -L) for n in 0 1; do echo "GPU $n: Pretended (UUID: GPU-$n)"; done ;;
esac
"""


def test_over_ssh_a_killed_sshd_and_a_killed_worker_cost_no_second_calculation(
    tmp_path: Path, sqlite_template: Path, clean: Written, kept: Path
) -> None:
    folder = tmp_path / "clinic"
    folder.mkdir()
    (tmp_path / "nvidia-smi").write_text(_NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with (
        start_sshd(tmp_path / "sshd", variables={"PATH": path}) as server,
        opened(folder, sqlite_template, hosts=(over_ssh(server, folder, kept, gpus=1),)) as clinic,
    ):
        (folder / "hold").touch()
        clinic.put(clean.folder)
        worker = clinic.start()
        until(lambda: len(started(clinic)) == 2, "both beams have begun")
        server.kill()
        worker.kill()
        (folder / "hold").unlink()
        clinic.start()
        until(lambda: clinic.log().count("worker.started") == 2, "the new worker works")
        server.start()
        case = clinic.ended()
        assert (case.status, case.verdict) == (CaseStatus.COMPLETED, "pass"), clinic.log()
        assert started(clinic) == ["beam-2.json", "beam-3.json"]
        assert sorted((folder / "seen-gpus").read_text().split()) == ["GPU-0", "GPU-1"]
        with clinic.database.reading() as conn:
            assert gpus.leases(conn) == ()
