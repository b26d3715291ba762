"""The demo's host, with either server: jobs and files work as on a real one."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from fairlead.cases import hostfolders, transfer
from fairlead.cases.jobs import JobSpec, JobState
from fairlead.cases.places import open_places
from fairlead.cli.demo_cases import gpu_host
from fairlead.kernel.settings import CaseHostSettings
from tests.services import missing

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from fairlead.cli.demo_cases import gpu_host
asyncio.run(gpu_host.main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None))
"""


@pytest.fixture(params=["OpenSSH", "asyncssh"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CaseHostSettings]:
    program = gpu_host.openssh()
    if request.param == "OpenSSH" and program is None:
        missing("sshd (Debian: openssh-server)")
    more = [str(program)] if request.param == "OpenSSH" else []
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "keys"), *more]
    with Popen(command, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        about = json.loads(process.stdout.readline())
        assert about["server"] == request.param
        yield CaseHostSettings(
            name="demo",
            executor="ssh",
            address="127.0.0.1",
            port=about["port"],
            user=about["user"],
            known_hosts=tmp_path / "keys" / "known_hosts",
            identity_file=tmp_path / "keys" / "client_key",
            work_dir=str(tmp_path / "there"),
        )
        process.stdin.close()  # it ends with its parent
        assert process.wait(60) == 0


async def test_a_job_runs_on_files_that_were_sent_there(host: CaseHostSettings, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "word").write_text("proton")
    async with asyncio.timeout(180), open_places([host]) as places:
        place = places["demo"]
        folder = f"{host.work_dir}/cases/c1"
        await transfer.push(place.host, tmp_path / "here", folder, owner="c1")
        spec = JobSpec(name="c1-b1", argv=("sh", "-c", "mkdir out && cp word out"), working_dir=folder)
        ref = await place.executor.submit(spec)
        status = await place.executor.wait(ref, 90)
        assert status.state is JobState.SUCCEEDED
        await transfer.pull(place.host, f"{folder}/out", tmp_path / "back")
        await hostfolders.remove(place.host, folder, "c1")
    assert (tmp_path / "back" / "word").read_text() == "proton"
    assert not (tmp_path / "there" / "cases" / "c1").exists()
