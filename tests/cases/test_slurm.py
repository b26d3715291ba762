"""What Slurm's words mean, and a real controller that dies."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cases.jobs import Executor, JobRefused, JobSpec, JobState, Resources
from fairlead.cases.local import LocalHost
from fairlead.cases.slurm import (
    SlurmExecutor,
    SlurmOptions,
    SlurmUnavailable,
    duration,
    exit_code_of,
    flags,
    state_of,
)
from fairlead.cases.ssh import SshHost, open_ssh
from tests.contracts.executors import slurm, slurm_sshd
from tests.contracts.test_executors import processes_of, until
from tests.slurm_service import Slurm
from tests.ssh_service import SshServer

__all__ = ["slurm", "slurm_sshd"]


@pytest.mark.parametrize(
    ("record", "state", "code"),
    [
        ("", None, None),
        ("PENDING||Resources", JobState.PENDING, None),
        ("RUNNING||None", JobState.RUNNING, None),
        ("COMPLETING||None", JobState.RUNNING, None),
        ("COMPLETED|0:0|", JobState.SUCCEEDED, 0),
        ("FAILED|3:0", JobState.FAILED, 3),
        ("FAILED|0:9", JobState.FAILED, 137),
        ("OUT_OF_MEMORY|0:125", JobState.FAILED, 253),
        ("TIMEOUT|0:15", JobState.TIMED_OUT, 143),
        ("CANCELLED by 1000|0:15", JobState.CANCELLED, 143),
        ("CANCELLED+|0:15", JobState.CANCELLED, 143),
        ("NODE_FAIL|1:0", JobState.LOST, 1),
        ("PREEMPTED|0:0", JobState.LOST, 0),
        ("A_STATE_OF_THE_FUTURE|0:0", JobState.RUNNING, 0),
    ],
)
def test_every_state_of_slurm_has_its_meaning(record: str, state: JobState | None, code: int | None) -> None:
    assert (state_of(record), exit_code_of(record)) == (state, code)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1, "0-00:00:01"), (59.2, "0-00:01:00"), (3600, "0-01:00:00"), (90061, "1-01:01:01")],
)
def test_a_time_limit_is_written_as_slurm_reads_it(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("resources", "options", "expected"),
    [
        (Resources(), SlurmOptions(), {"--cpus-per-task=1"}),
        (Resources(gpus=2), SlurmOptions(gpu_resource="gpu:a100"), {"--gres=gpu:a100:2"}),
        (Resources(memory_mb=512, cpus=4), SlurmOptions(), {"--mem=512M", "--cpus-per-task=4"}),
        (
            Resources(),
            SlurmOptions(partition="p", account="a", qos="q"),
            {"--partition=p", "--qos=q", "--account=a"},
        ),
    ],
)
def test_a_jobs_needs_become_flags(resources: Resources, options: SlurmOptions, expected: set[str]) -> None:
    spec = JobSpec(name="run-1", argv=("true",), working_dir="/", resources=resources)
    assert expected <= set(flags(spec, "/folder", options))
    assert "--no-requeue" in flags(spec, "/folder", options)


@pytest.mark.parametrize("value", ["a;reboot", "--wrap=x", "a b", ""])
def test_settings_that_sbatch_could_take_for_something_else_are_refused(value: str) -> None:
    with pytest.raises(JobRefused):
        SlurmOptions(partition=value)


@pytest.fixture
async def host(slurm_sshd: SshServer, tmp_path: Path) -> AsyncIterator[SshHost]:
    """A login host of the cluster."""
    async with open_ssh(slurm_sshd.target(root=str(tmp_path / "root"))) as opened:
        yield opened


def spec(name: str, script: str, **needs: Any) -> JobSpec:
    return JobSpec(name=name, argv=("sh", "-c", script), working_dir="/", resources=Resources(**needs))


async def test_gpus_are_given_by_slurm(slurm: Slurm, host: SshHost, tmp_path: Path) -> None:
    if slurm.gpus == 0:
        pytest.skip("this account may not make devices: GPUs of Slurm were NOT tried")
    executor = SlurmExecutor(host)
    ref = await executor.submit(spec(f"{tmp_path.name}-d", "echo $CUDA_VISIBLE_DEVICES", gpus=2))
    status = await executor.wait(ref, 60)
    assert len(status.recent.strip().split(",")) == 2


async def test_a_job_whose_number_was_never_written_down_is_found_by_its_name(
    slurm: Slurm, host: SshHost, tmp_path: Path
) -> None:
    executor: Executor = SlurmExecutor(host)
    known = spec(f"{tmp_path.name}-c", f"echo once >>{tmp_path}/count; sleep 300")
    ref = await executor.submit(known)
    number = Path(host.root) / "jobs" / known.name / "slurm"
    number.unlink()
    assert await executor.submit(known) == ref
    await until((tmp_path / "count").exists, "the job did not begin")
    # Ended by somebody else: only Slurm knows why.
    slurm.command("scancel", "--full", ref.id)
    status = await executor.wait(ref, 60)
    assert status.state is JobState.CANCELLED
    await until(lambda: not processes_of(host.root, known.name), "a process is left")
    number.unlink()
    assert await executor.submit(known) == ref
    assert (tmp_path / "count").read_text() == "once\n"


async def test_another_fairleads_job_of_the_same_name_is_another_job(
    slurm: Slurm, host: SshHost, slurm_sshd: SshServer, tmp_path: Path
) -> None:
    named = spec(f"{tmp_path.name}-n", "sleep 300")
    ref = await SlurmExecutor(host).submit(named)
    async with open_ssh(slurm_sshd.target(root=str(tmp_path / "staging"))) as other:
        staging = SlurmExecutor(other)
        theirs = await staging.submit(named)
        assert theirs.id != ref.id
        await staging.cancel(theirs)
    assert (await SlurmExecutor(host).status(ref)).state in (JobState.PENDING, JobState.RUNNING)
    await SlurmExecutor(host).cancel(ref)


async def test_the_controller_may_be_killed_and_restarted_while_jobs_run_and_are_waited_for(
    slurm: Slurm, host: SshHost, tmp_path: Path
) -> None:
    executor, go = SlurmExecutor(host), tmp_path / "go"
    script = f"touch {tmp_path}/ready; while [ ! -e {go} ]; do sleep 0.02; done; exit 6"
    ref = await executor.submit(spec(f"{tmp_path.name}-a", script))
    await until((tmp_path / "ready").exists, "the job did not begin")
    slurm.kill_controller()
    try:
        waiting = asyncio.ensure_future(executor.wait(ref, 60))
        go.touch()
        # Its exit code is in its folder: the controller is not needed to learn of its end.
        status = await waiting
        assert (status.state, status.exit_code) == (JobState.FAILED, 6)
    finally:
        await asyncio.to_thread(slurm.start_controller)
        await until(lambda: "UP" in slurm.command("scontrol", "ping"), "slurmctld did not start")
    assert await executor.submit(spec(f"{tmp_path.name}-a", script)) == ref
    refused = spec(f"{tmp_path.name}-b", "true", gpus=99)
    with pytest.raises(JobRefused, match="not available"):
        await executor.submit(refused)


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("squeue", "echo 'slurm_load_jobs error: Zero Bytes were transmitted or received' >&2; exit 1"),
        ("squeue", "echo 'slurm_load_jobs error: Message receive failure' >&2; exit 1"),
        ("timeout", "exit 124"),
    ],
    ids=["half an answer", "a lost answer", "no answer in time"],
)
async def test_a_controller_that_dies_in_the_middle_of_a_question_is_away_and_refuses_nothing(
    program: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / program).write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    executor = SlurmExecutor(LocalHost("cluster", str(tmp_path / "root")))
    with pytest.raises(SlurmUnavailable) as caught:
        await executor.submit(JobSpec(name="run-1-dose", argv=("true",), working_dir="/"))
    assert caught.value.retryable
