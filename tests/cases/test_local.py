"""Detached jobs of this machine: what their end is taken for, and what they see of us."""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from fairlead.cases.detached import DetachedExecutor, Facts, state_of
from fairlead.cases.jobs import HostDiskFull, JobRef, JobSpec, JobState, Resources
from fairlead.cases.local import LocalHost
from tests.contracts.test_executors import WAIT_S, processes_of, until

SLEEP = ("sh", "-c", "sleep 300 & wait")


@pytest.fixture
def executor(tmp_path: Path) -> DetachedExecutor:
    """On this machine, with an empty root."""
    return DetachedExecutor(LocalHost("here", str(tmp_path / "root")))


def spec(name: str, *argv: str, resources: Resources | None = None) -> JobSpec:
    return JobSpec(name=name, argv=argv, working_dir="/", resources=resources or Resources())


@pytest.mark.parametrize(
    ("code", "alive", "cancelled", "timed_out", "expected"),
    [
        pytest.param(None, True, False, False, JobState.RUNNING, id="running"),
        pytest.param(None, True, True, False, JobState.RUNNING, id="being-cancelled"),
        pytest.param(None, False, True, False, JobState.CANCELLED, id="cancelled-hard"),
        pytest.param(143, False, True, False, JobState.CANCELLED, id="cancelled"),
        pytest.param(0, False, True, False, JobState.SUCCEEDED, id="done-before-the-cancel"),
        pytest.param(None, False, False, False, JobState.LOST, id="lost"),
        pytest.param(0, False, False, False, JobState.SUCCEEDED, id="done"),
        pytest.param(1, False, False, False, JobState.FAILED, id="failed"),
        pytest.param(124, False, False, True, JobState.TIMED_OUT, id="timed-out"),
        pytest.param(124, False, False, False, JobState.FAILED, id="its-own-124"),
    ],
)
def test_the_facts_about_a_job_mean_one_state(
    code: int | None, alive: bool, cancelled: bool, timed_out: bool, expected: JobState
) -> None:
    assert state_of(Facts(code, alive, cancelled, timed_out)) is expected


def left_of(tmp_path: Path, name: str = "run-1-dose") -> list[int]:
    """Pids of what lives of the job."""
    return processes_of(tmp_path / "root", name)


def supervisor_of(tmp_path: Path, name: str) -> int:
    return int((tmp_path / "root" / "jobs" / name / "pid").read_text().split()[0])


async def test_a_job_whose_supervisor_is_killed_is_lost_and_nothing_of_it_goes_on(
    executor: DetachedExecutor, tmp_path: Path
) -> None:
    ref = await executor.submit(spec("run-1-dose", *SLEEP))
    await until(lambda: len(left_of(tmp_path)) >= 3, "the job did not begin")
    os.kill(supervisor_of(tmp_path, "run-1-dose"), signal.SIGKILL)
    status = await executor.wait(ref, WAIT_S)
    assert (status.state, status.exit_code) == (JobState.LOST, None)
    assert left_of(tmp_path) == []


async def test_a_killed_program_is_seen_as_a_failure(executor: DetachedExecutor, tmp_path: Path) -> None:
    ref = await executor.submit(spec("run-1-dose", "sleep", "300"))

    def engine() -> list[int]:
        found = []
        for pid in left_of(tmp_path):
            with suppress(OSError):  # it ended since we looked
                if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    found.append(pid)
        return found

    await until(lambda: bool(engine()), "the job did not begin")
    os.kill(engine()[0], signal.SIGKILL)
    status = await executor.wait(ref, WAIT_S)
    assert (status.state, status.exit_code) == (JobState.FAILED, 137)


@pytest.mark.parametrize("field", [1, 2], ids=["pid-of-another-process", "host-was-restarted"])
async def test_another_process_with_the_same_number_is_not_taken_for_the_job(
    executor: DetachedExecutor, tmp_path: Path, field: int
) -> None:
    ref = await executor.submit(spec("run-1-dose", *SLEEP))
    try:
        assert (await executor.status(ref)).state is JobState.RUNNING
        path = tmp_path / "root" / "jobs" / "run-1-dose" / "pid"
        parts = path.read_text().split()
        parts[field] = "1"
        path.write_text(" ".join(parts) + "\n")
        assert (await executor.status(ref)).state is JobState.LOST
    finally:
        await executor.cancel(ref)


async def test_what_a_program_leaves_behind_ends_with_it(executor: DetachedExecutor, tmp_path: Path) -> None:
    ref = await executor.submit(spec("run-1-dose", "sh", "-c", "setsid sleep 300 & exit 5"))
    assert (await executor.wait(ref, WAIT_S)).exit_code == 5
    # It is killed before its job's end is told; the kernel, and the supervisor itself, end a moment later.
    await until(lambda: not left_of(tmp_path), "a process is left")


async def test_the_end_of_a_job_leaves_another_fairleads_job_of_the_same_name_alone(tmp_path: Path) -> None:
    production = DetachedExecutor(LocalHost("here", str(tmp_path / "production")), grace_s=0.5)
    staging = DetachedExecutor(LocalHost("here", str(tmp_path / "staging")), grace_s=0.5)
    ref = await production.submit(spec("run-1-dose", *SLEEP))
    try:
        assert (await staging.wait(await staging.submit(spec("run-1-dose", "true")), WAIT_S)).exit_code == 0
        assert (await production.status(ref)).state is JobState.RUNNING
        await staging.cancel(await staging.submit(spec("run-2-dose", *SLEEP)))
        assert (await production.status(ref)).state is JobState.RUNNING
    finally:
        await production.cancel(ref)


async def test_a_time_limit_ends_the_job(executor: DetachedExecutor, tmp_path: Path) -> None:
    limited = spec("run-1-dose", "sleep", "300", resources=Resources(time_limit_s=0.5))
    status = await executor.wait(await executor.submit(limited), WAIT_S)
    assert status.state is JobState.TIMED_OUT
    await until(lambda: not left_of(tmp_path), "a process is left")


async def test_a_job_sees_its_gpus_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_TOKEN", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    executor = DetachedExecutor(LocalHost("here", str(tmp_path / "root")))
    resources = Resources(gpus=2, gpu_ids=("GPU-a", "GPU-b"))
    ref = await executor.submit(spec("run-1-dose", "env", resources=resources))
    await executor.wait(ref, WAIT_S)
    seen = (await executor.tail(ref, "stdout")).data.decode()
    assert "CUDA_VISIBLE_DEVICES=GPU-a,GPU-b\n" in seen
    assert f"FAIRLEAD_JOB={tmp_path}/root/jobs/run-1-dose\n" in seen
    assert "hunter2" not in seen


async def test_a_submission_that_died_half_way_is_begun_anew(
    executor: DetachedExecutor, tmp_path: Path
) -> None:
    folder = tmp_path / "root" / "jobs" / "run-1-dose"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "run.sh").write_text("half a scr")
    assert await executor.find("run-1-dose") is None
    ref = await executor.submit(spec("run-1-dose", "true"))
    assert (await executor.wait(ref, WAIT_S)).state is JobState.SUCCEEDED


def command(*argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, capture_output=True)


async def test_a_full_disk_refuses_a_job_with_an_error_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "full"
    root.mkdir()
    made = await asyncio.to_thread(command, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(root))
    if made.returncode != 0:
        pytest.skip("this account may not mount a small file system: full disks were NOT tried")
    try:
        executor = DetachedExecutor(LocalHost("here", str(root)))
        with suppress(OSError):
            (root / "filler").write_bytes(bytes(1_000_000))
        with pytest.raises(HostDiskFull):
            await executor.submit(spec("run-1-dose", "true"))
        (root / "filler").unlink()
        ref = await executor.submit(spec("run-1-dose", "true"))
        assert (await executor.wait(ref, WAIT_S)).state is JobState.SUCCEEDED
    finally:
        await asyncio.to_thread(command, "umount", "-l", str(root))


async def test_forty_jobs_at_once_are_all_found_again(executor: DetachedExecutor) -> None:
    specs = [spec(f"run-{number}-dose", "sh", "-c", f"exit {number % 3}") for number in range(40)]
    refs: list[JobRef] = await asyncio.gather(*map(executor.submit, specs))
    ends = await asyncio.gather(*(executor.wait(ref, WAIT_S) for ref in refs))
    assert [end.exit_code for end in ends] == [number % 3 for number in range(40)]
