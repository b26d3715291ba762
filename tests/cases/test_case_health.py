"""Whether the pipeline is well: looks at hosts, scans of folders, the overview, and the gauges."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr, ValidationError

from fairlead.cases import health, machine, places, store
from fairlead.cases.intake import Stability, Watched, scan
from fairlead.cases.places import open_places
from fairlead.cases.slurm import SlurmExecutor
from fairlead.cases.steps.port import CaseParts, Turns
from fairlead.cases.store import CaseStatus
from fairlead.cases.verify import VerdictCriteria
from fairlead.cli.client import ServerRefused
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import open_objects
from fairlead.kernel.settings import CaseHostSettings, CasesSettings
from tests.cases.bench_of_cases import HOSTS, PROJECT, Bench, bench
from tests.ssh_service import SshServer, start_sshd


@pytest.fixture
def made(tmp_path: Path, database: Database) -> Iterator[Bench]:
    with bench(database, tmp_path) as opened:
        yield opened


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    with start_sshd(tmp_path / "sshd") as server:
        yield server


def over_ssh(server: SshServer, folder: Path, **values: Any) -> CaseHostSettings:
    target, pinned = server.target(), folder / "known_hosts"
    pinned.write_text(server.known_hosts)
    about = {
        "name": "far", "executor": "ssh", "address": target.address, "port": target.port, "user": target.user,
        "known_hosts": pinned, "identity_file": target.key_file, "work_dir": target.root,
    }  # fmt: skip
    return CaseHostSettings.model_validate(about | values)


@asynccontextmanager
async def parts(made: Bench, folder: Path, *hosts: CaseHostSettings) -> AsyncIterator[CaseParts]:
    async with open_places(hosts) as opened:
        yield CaseParts(
            database=made.database,
            objects=open_objects((folder / "objects").as_uri()),
            machine=machine.load(),
            places=opened,
            settings=CasesSettings(scan={PROJECT: folder / "scan"}),
            criteria=VerdictCriteria(),
            work=folder,
            calculating=Turns(1),
        )


def host(made: Bench, name: str) -> store.HostRecord:
    with made.database.reading() as conn:
        found = store.host(conn, name)
    assert found is not None
    return found


def long_ago(made: Bench, name: str) -> None:
    """As if nobody had asked the host for a while."""
    then = utc_now() - timedelta(seconds=health.HOST_LOOK_S)
    with made.database.transaction() as conn:
        store.update_host(conn, name, then, tried_at=then)


def gauge(name: str, **labels: str) -> float:
    families = text_string_to_metric_families(telemetry.exposition().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    (found,) = [sample.value for sample in samples if labels.items() <= sample.labels.items()]
    return float(found)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_host_is_asked_now_and_then_and_its_problem_is_kept_until_it_answers(
    made: Bench, tmp_path: Path, sshd: SshServer
) -> None:
    async with parts(made, tmp_path, over_ssh(sshd, tmp_path)) as opened:
        assert await health.look_at_hosts(opened, deadline_s=60.0) == 1
        # Another worker, or this one a moment later, finds that it was asked already.
        assert await health.look_at_hosts(opened, deadline_s=60.0) == 0
        well = await asyncio.to_thread(host, made, "far")
        assert (well.problem, well.looked_at is not None) == (None, True)
        await asyncio.to_thread(sshd.kill)
        await asyncio.to_thread(long_ago, made, "far")
        assert await health.look_at_hosts(opened, deadline_s=1.0) == 1
        away = await asyncio.to_thread(host, made, "far")
        assert away.problem is not None
        assert away.problem["code"] == "cases.host_unreachable"
        assert away.looked_at == well.looked_at
        await asyncio.to_thread(health.measure, opened)
        assert gauge("fairlead_case_host_up", host="far") == 0
        await asyncio.to_thread(sshd.start)
        await asyncio.to_thread(long_ago, made, "far")
        assert await health.look_at_hosts(opened, deadline_s=60.0) == 1
        assert (await asyncio.to_thread(host, made, "far")).problem is None


SMI = """#!/bin/sh
case "$1" in
  --query-gpu*) echo "0, GPU-a, Pretended, 1000, 700, 30, 88, [N/A]" ;;
  -L) echo "GPU 0: Pretended (UUID: GPU-a)" ;;
esac
"""


async def test_gpus_are_looked_at_and_everything_is_measured(
    made: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    here = [about.model_copy(update={"work_dir": str(tmp_path)}) for about in HOSTS]
    async with parts(made, tmp_path, *here) as opened:
        assert await health.look_at_hosts(opened, deadline_s=60.0) == 2
        (gpu,) = (await asyncio.to_thread(host, made, "gpu-1")).gpus
        assert (gpu["memory_used_mb"], gpu["utilisation_percent"]) == (700, 88)
        await asyncio.to_thread(health.measure, opened)
        (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
        await asyncio.to_thread(long_ago, made, "gpu-1")
        assert await health.look_at_hosts(opened, deadline_s=60.0) == 1
        hiccup = await asyncio.to_thread(host, made, "gpu-1")
        # Its GPUs are not forgotten at once: beams that wait for them would fail.
        assert (hiccup.gpus, (hiccup.problem or {}).get("code")) == ([gpu], "cases.no_gpus")
    assert gauge("fairlead_cases", status="running") == 1
    assert gauge("fairlead_cases", status="completed") == 2
    assert gauge("fairlead_cases", status="cancelled") == 0
    assert gauge("fairlead_case_places", host="cpu-1", state="used") == 1
    assert gauge("fairlead_case_places", host="cpu-1", state="free") == 2
    assert gauge("fairlead_case_gpu_leases", host="gpu-1") == 1
    assert gauge("fairlead_case_gpu_leases", host="cpu-1") == 0
    assert gauge("fairlead_case_host_up", host="gpu-1") == 1
    assert gauge("fairlead_case_queue_beams") == 0
    assert 0 < gauge("fairlead_case_pending_oldest_seconds") < 60
    assert gauge("fairlead_case_scan_up", project=PROJECT) == 1
    assert gauge("fairlead_case_scan_unstable", project=PROJECT) == 1
    assert 3 <= gauge("fairlead_case_scan_age_seconds", project=PROJECT) < 60


async def test_a_scan_folder_that_is_gone_is_a_problem_until_it_is_there_again(
    made: Bench, tmp_path: Path
) -> None:
    scanned = {PROJECT: tmp_path / "Doe-Jane"}
    watched = Watched(database=made.database, runs=made.runs, scan=scanned, stability_s=60, rescan_s=60)

    def seen() -> store.ScanRecord:
        with made.database.reading() as conn:
            found = store.scan(conn, PROJECT)
        assert found is not None
        return found

    assert await scan(watched, Stability(60)) == 0
    gone = await asyncio.to_thread(seen)
    assert gone.problem is not None
    assert gone.problem["code"] == "cases.scan_folder_unusable"
    assert "no such file" in gone.problem["detail"]
    assert "Doe" not in str(gone.problem)
    (tmp_path / "Doe-Jane" / "case").mkdir(parents=True)
    (tmp_path / "Doe-Jane" / "case" / "_CASE_READY").touch()
    assert await scan(watched, Stability(60)) == 1
    back = await asyncio.to_thread(seen)
    assert (back.problem, back.unstable) == (None, 1)
    assert back.scanned_at is not None
    assert gone.scanned_at is not None
    assert back.scanned_at > gone.scanned_at


def test_the_overview_has_the_queues_in_order_and_is_for_members_only(made: Bench) -> None:
    path = f"/projects/{PROJECT}/cases/overview"
    with made.serving():
        found = made.client("vera").get(path)
        assert {name: [case["number"] for case in cases] for name, cases in found["queues"].items()} == {
            "waiting": [3, 2], "running": [1], "done": [6, 5, 4],
        }  # fmt: skip
        assert found["counts"] == {
            "pending": 1, "waiting": 1, "running": 1, "completed": 2, "failed": 1, "cancelled": 0,
        }  # fmt: skip
        (step,) = found["steps"]
        assert (step["case"], step["beam"], step["host"], step["slots"]) == (1, 2, "gpu-1", ["GPU-0"])
        # Another project's job is a job, and of no case that one could look at.
        held = [(slot["slot"], slot["job"] is not None, slot["case"]) for slot in found["hosts"][1]["slots"]]
        assert held == [("cpu-0", True, None), ("cpu-1", False, None), ("cpu-2", False, None)]
        assert found["hosts"][0]["slots"][0]["case"] == 1
        assert found["hosts"][1]["problem"]["code"] == "cases.host_unreachable"
        assert found["scan"]["unstable"] == 1
        assert len(made.client("vera").get(path, most=1)["queues"]["done"]) == 1
        made.set(2, priority=50)
        assert [c["number"] for c in made.client("vera").get(path)["queues"]["waiting"]] == [2, 3]
        with made.database.transaction() as conn:
            conn.exec_driver_sql("DELETE FROM members WHERE role = 'viewer'")
        with pytest.raises(ServerRefused) as refused:
            made.client("vera").get(path)
    assert refused.value.problem()["code"] == "projects.not_found"


def test_an_overview_of_thousands_of_cases_is_short(made: Bench) -> None:
    case = made.case(4)
    with made.database.transaction() as conn:
        one = {column.name: getattr(case, column.name) for column in store.cases.columns}
        rows = [one | {"id": f"x{n}", "number": n, "identity": f"x{n}"} for n in range(100, 3100)]
        conn.execute(store.cases.insert(), rows)
    with made.database.reading() as conn:
        found = store.overview(conn, PROJECT, [CaseStatus.COMPLETED], limit=100)
        assert store.counts(conn, PROJECT)[CaseStatus.COMPLETED] == 3002
    assert (len(found), found[1].number, found[1].result) == (100, 3099, None)


# --- settings of hosts ---------------------------------------------------------------------------


async def test_a_key_with_a_passphrase_opens_a_host_and_never_shows(tmp_path: Path, sshd: SshServer) -> None:
    locked = tmp_path / "locked"
    asyncssh.read_private_key(sshd.key_file).write_private_key(locked, passphrase="open sesame", rounds=50)
    shutil.copymode(sshd.key_file, locked)
    about = over_ssh(sshd, tmp_path, identity_file=locked, passphrase=SecretStr("open sesame"))
    assert "sesame" not in repr(about)
    async with open_places([about]) as opened:
        assert await places.look(opened["far"]) is None
    for wrong in (None, SecretStr("shut")):
        with pytest.raises(FairleadError) as caught:
            async with open_places([about.model_copy(update={"passphrase": wrong})]):
                pass
        assert caught.value.code == "cases.host_settings_invalid"
        assert "shut" not in str(caught.value.problem())


async def test_what_a_cluster_wants_to_be_told_comes_from_the_settings(
    tmp_path: Path, sshd: SshServer
) -> None:
    wanted = {"partition": "gpus", "account": "physics", "qos": "short", "gpu_resource": "gpu:a100"}
    async with open_places([over_ssh(sshd, tmp_path, executor="slurm", gpus=1, **wanted)]) as opened:
        executor = opened["far"].executor
        assert isinstance(executor, SlurmExecutor)
        options = executor._options
    assert {name: getattr(options, name) for name in wanted} == wanted


@pytest.mark.parametrize("key", ["partition", "account", "qos", "gpu_resource"])
def test_words_that_sbatch_could_take_for_an_option_are_no_settings(key: str) -> None:
    for value in ("--wrap=x", "a b", "a;b", ""):
        with pytest.raises(ValidationError, match=key):
            CaseHostSettings.model_validate({"name": "a", "work_dir": "/w", key: value})
