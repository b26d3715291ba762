"""What every executor promises, whatever runs the job."""

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairlead.cases.jobs import (
    JobDeadline,
    JobInvalid,
    JobRef,
    JobSpec,
    JobState,
    JobStatus,
    JobUnknown,
    Resources,
)
from tests.contracts.executors import Place, place, slurm, slurm_sshd, sshd

__all__ = ["place", "slurm", "slurm_sshd", "sshd"]

WAIT_S = 90.0


def job(*argv: str, **changes: Any) -> JobSpec:
    """A job with a name of its own."""
    return replace(JobSpec(name=f"run-{uuid.uuid4().hex[:12]}-step", argv=argv, working_dir="/"), **changes)


def shell(script: str, **changes: Any) -> JobSpec:
    """A job that runs a shell script."""
    return job("sh", "-c", script, **changes)


def processes_of(root: str | Path, name: str) -> list[int]:
    """Pids of everything that the job of the host at `root` started, whatever session it moved to."""
    marker = f"FAIRLEAD_JOB={root}/jobs/{name}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return once `condition()` holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_arguments_environment_and_output_arrive_as_they_were_given(
    place: Place, tmp_path: Path
) -> None:
    hostile = (
        "it's",
        'a "b"',
        "$(touch pwned) `id`",
        "a;b|c&d>e",
        "line\nbreak",
        "-n",
        "*",
        "",
        "naïve ✓",
        "\\n",
    )
    program = "import json,os,sys; print(json.dumps([sys.argv[1:], os.environ['X'], os.getcwd()]))"
    spec = job(
        sys.executable,
        "-c",
        program,
        *hostile,
        env={"X": "a b'c\n$HOME"},
        working_dir=str(tmp_path),
    )
    ref = await place.executor.submit(spec)
    status = await place.executor.wait(ref, WAIT_S)
    output = (await place.executor.tail(ref, "stdout")).data
    assert (status.state, status.exit_code) == (JobState.SUCCEEDED, 0), status
    assert json.loads(output) == [list(hostile), "a b'c\n$HOME", str(tmp_path)]
    assert status.stdout_bytes == len(output)
    assert status.recent == output.decode()


async def test_many_submissions_start_one_job_and_neither_a_late_one_nor_a_cancel_changes_its_end(
    place: Place, tmp_path: Path
) -> None:
    spec = shell(f"echo once >>{tmp_path}/count; sleep 0.2")
    refs = await asyncio.gather(*(place.executor.submit(spec) for _ in range(5)))
    assert len(set(refs)) == 1
    assert (await place.executor.wait(refs[0], WAIT_S)).state is JobState.SUCCEEDED
    assert await place.executor.submit(spec) == refs[0]
    assert await place.executor.find(spec.name) == refs[0]
    assert (await place.executor.status(JobRef(**refs[0].as_json()))).exit_code == 0
    assert (await place.executor.cancel(refs[0])).state is JobState.SUCCEEDED
    assert (tmp_path / "count").read_text() == "once\n"


FAILURES = {
    "a code of its own": (shell("echo why >&2; exit 7"), 7),
    "a signal": (shell("kill -9 $$"), 137),
    "no such program": (shell("exec /no/such/program"), 127),
    "no such folder": (job("true", working_dir="/no/such/folder"), 126),
}


async def test_a_failure_keeps_its_exit_code_and_what_was_said_about_it(place: Place) -> None:
    specs = {why: replace(spec, name=f"run-{uuid.uuid4().hex}") for why, (spec, _) in FAILURES.items()}
    refs = {why: await place.executor.submit(spec) for why, spec in specs.items()}
    ends = {why: await place.executor.wait(ref, WAIT_S) for why, ref in refs.items()}
    assert {status.state for status in ends.values()} == {JobState.FAILED}
    assert {why: s.exit_code for why, s in ends.items()} == {why: code for why, (_, code) in FAILURES.items()}
    assert (await place.executor.tail(refs["a code of its own"], "stderr")).data == b"why\n"
    assert "/no/such/folder" in ends["no such folder"].reason


async def test_a_cancelled_job_leaves_no_process_even_where_it_ignores_signals_and_changes_session(
    place: Place, tmp_path: Path
) -> None:
    script = f"setsid sleep 300 & trap '' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    spec = shell(script)
    if place.kind != "slurm":
        place = replace(place, executor=type(place.executor)(place.host, grace_s=0.3))  # type: ignore[call-arg]
    ref = await place.executor.submit(spec)
    await until((tmp_path / "ready").exists, "the job did not begin")
    # The session of the first one is begun by a process that may not have had its turn yet.
    await until(lambda: len(processes_of(place.host.root, spec.name)) >= 2, "the job did not begin")
    assert (await place.executor.cancel(ref)).state is JobState.CANCELLED
    await until(lambda: not processes_of(place.host.root, spec.name), "a process is left")
    assert (await place.executor.wait(ref, WAIT_S)).state is JobState.CANCELLED
    assert await place.executor.submit(spec) == ref
    assert (await place.executor.status(ref)).state is JobState.CANCELLED
    assert processes_of(place.host.root, spec.name) == []


async def test_output_is_read_from_any_byte_on_while_the_job_runs(place: Place, tmp_path: Path) -> None:
    spec = shell(f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo second")
    ref = await place.executor.submit(spec)
    seen: list[JobStatus] = []

    async def watch(status: JobStatus) -> None:
        seen.append(status)
        if status.stdout_bytes:
            (tmp_path / "go").touch()

    await place.executor.wait(ref, WAIT_S, watch)
    assert JobState.RUNNING in {status.state for status in seen}
    assert seen[-1].state is JobState.SUCCEEDED
    assert [status.stdout_bytes for status in seen] == sorted(status.stdout_bytes for status in seen)
    first = await place.executor.tail(ref, "stdout", 0)
    assert first.data == b"first\nsecond\n"
    rest = await place.executor.tail(ref, "stdout", 6)
    assert (rest.data, rest.next_offset) == (b"second\n", 13)
    assert (await place.executor.tail(ref, "stdout", 13)).data == b""


async def test_output_goes_to_the_files_that_the_job_names(place: Place, tmp_path: Path) -> None:
    spec = shell("echo out; echo err >&2", stdout=str(tmp_path / "o ut"), stderr=str(tmp_path / "err"))
    (tmp_path / "o ut").write_text("Total execution time: of a former run\n")
    ref = await place.executor.submit(spec)
    await place.executor.wait(ref, WAIT_S)
    assert (tmp_path / "o ut").read_text() == "out\n"
    assert (tmp_path / "err").read_text() == "err\n"
    assert (await place.executor.tail(ref, "stderr")).data == b"err\n"


async def test_a_deadline_passes_without_ending_the_job(place: Place) -> None:
    ref = await place.executor.submit(job("sleep", "300"))
    with pytest.raises(JobDeadline):
        await place.executor.wait(ref, 0.1)
    assert not (await place.executor.status(ref)).state.is_final
    assert (await place.executor.cancel(ref)).state is JobState.CANCELLED


async def test_an_unknown_job_is_said_to_be_unknown(place: Place) -> None:
    ref = JobRef(place.executor.host_name, "run-0-nothing", "1")
    assert await place.executor.find("run-0-nothing") is None
    for ask in (place.executor.status, place.executor.cancel):
        with pytest.raises(JobUnknown):
            await ask(ref)
    with pytest.raises(JobUnknown):
        await place.executor.tail(ref, "stdout")
    with pytest.raises(JobUnknown):
        await place.executor.wait(ref, WAIT_S)


SUBMITTER = """
import asyncio, pickle, sys
from pathlib import Path
from fairlead.cases.jobs import JobSpec
from tests.contracts.executors import open_place
kind, root, name, release, server = sys.argv[1:]
async def main():
    known = pickle.loads(Path(server).read_bytes())
    script = f"while [ ! -e {release} ]; do sleep 0.02; done; echo done; exit 3"
    spec = JobSpec(name=name, argv=("sh", "-c", script), working_dir="/")
    async with open_place(kind, Path(root), known) as place:
        ref = await place.executor.submit(spec)
        print("submitted", flush=True)
        await place.executor.wait(ref, 300)
asyncio.run(main())
"""


async def test_a_job_survives_kill_9_of_the_process_that_waits_for_it(place: Place, tmp_path: Path) -> None:
    known = tmp_path / "server"
    known.write_bytes(pickle.dumps(replace(place.server, process=None) if place.server else None))
    name, release = f"run-{uuid.uuid4().hex[:12]}-step", tmp_path / "release"
    arguments = [place.kind, place.host.root, name, str(release), str(known)]
    submitter = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", SUBMITTER, *arguments], stdout=subprocess.PIPE
    )
    try:
        assert submitter.stdout is not None
        lines = [await asyncio.to_thread(submitter.stdout.readline)]
        while lines[-1] and lines[-1] != b"submitted\n":
            lines.append(await asyncio.to_thread(submitter.stdout.readline))
        assert lines[-1] == b"submitted\n", lines
    finally:
        os.kill(submitter.pid, signal.SIGKILL)
        submitter.wait()
        if submitter.stdout:
            submitter.stdout.close()
    ref = await place.executor.find(name)
    assert ref is not None
    assert not (await place.executor.status(ref)).state.is_final
    release.touch()
    status = await place.executor.wait(ref, WAIT_S)
    assert (status.state, status.exit_code, status.recent) == (JobState.FAILED, 3, "done\n")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": "../escape"}, id="traversal"),
        pytest.param({"name": "a b"}, id="space"),
        pytest.param({"name": "a\nb"}, id="newline"),
        pytest.param({"name": "-rf"}, id="option"),
        pytest.param({"name": "x" * 121}, id="long"),
        pytest.param({"name": ""}, id="empty"),
        pytest.param({"argv": ()}, id="no-program"),
        pytest.param({"argv": ("a\0b",)}, id="nul"),
        pytest.param({"working_dir": "relative"}, id="relative"),
        pytest.param({"stdout": "relative"}, id="relative-output"),
        pytest.param({"env": {"A;reboot": "1"}}, id="variable"),
    ],
)
def test_a_job_that_cannot_be_carried_out_safely_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(JobInvalid):
        job(**{"argv": ("true",), **changes}) if "argv" not in changes else job(*changes["argv"])


def test_a_job_keeps_its_paths_and_variables_out_of_logs() -> None:
    spec = shell("cat /cases/DOE^JOHN", env={"A": "DOE"}, resources=Resources(gpus=1), stdout="/cases/DOE")
    assert "DOE" not in repr(spec)
