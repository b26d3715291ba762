"""The sandbox as a process: it starts, refuses, stops, and never outlives its starter."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.sandbox import process
from tests.sandbox.clients import Aws
from tests.sandbox_service import SandboxProcess, start_sandbox, toolenvs

STARTER = """
import sys
from pathlib import Path
from fairlead.kernel import telemetry
from fairlead.sandbox import process
telemetry.configure(level="error")
options = process.Options(data_dir=Path(sys.argv[1]))
if sys.argv[2] == "serve":
    said = lambda sandbox: print(sandbox.pid, flush=True)
    raise SystemExit(process.serve_sandbox(options, toolenvs=Path(sys.argv[3]), ready=said))
sandbox = process.start(options, python=process.environment(Path(sys.argv[3])))
print(sandbox.pid, flush=True)
sys.stdin.read()
"""


def started_by_another(folder: Path, how: str) -> tuple[subprocess.Popen[str], int]:
    """A process that started a sandbox in `folder`, and the sandbox's pid."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(folder), how, str(toolenvs())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert starter.stdout is not None
    try:
        return starter, int(starter.stdout.readline())
    except ValueError:
        starter.kill()
        raise


def is_gone(pid: int, deadline_s: float = 60.0) -> bool:
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
    return False


def test_it_listens_on_loopback_only_and_keeps_its_secrets_to_its_owner(own_sandbox: SandboxProcess) -> None:
    listening = set()
    sockets = {link.readlink().name for link in Path(f"/proc/{own_sandbox.pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{own_sandbox.pid}/net/{table}").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                listening.add(fields[1])
    assert listening == {f"0100007F:{own_sandbox.port:04X}"}
    assert (own_sandbox.options.data_dir / "state.db").stat().st_mode & 0o077 == 0


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(process.SandboxPortTaken) as refusal, start_sandbox(tmp_path, port=port):
            pass
    assert refusal.value.details == {"port": port}


def test_a_state_folder_has_one_sandbox(own_sandbox: SandboxProcess) -> None:
    with pytest.raises(process.SandboxStateInUse):
        process.start(
            process.Options(data_dir=own_sandbox.options.data_dir, port=0),
            python=process.environment(toolenvs()),
        )
    assert own_sandbox.running.is_running


def test_a_queue_keeps_its_identity_on_another_port(own_sandbox: SandboxProcess) -> None:
    aws = Aws(own_sandbox.aws())
    url = aws.create("AWS::SQS::Queue", {"QueueName": "moved"})
    own_sandbox.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", own_sandbox.port))
        taken.listen()
        options = process.Options(data_dir=own_sandbox.options.data_dir)
        with process.start(options, python=process.environment(toolenvs())) as moved:
            assert moved.port != own_sandbox.port
            there = Aws({**own_sandbox.aws(), "endpoint_url": moved.endpoint_url})
            assert there.identifiers("AWS::SQS::Queue") == [url]
            there.client("sqs").send_message(QueueUrl=url, MessageBody="still here")


@pytest.mark.parametrize("how", ["start", "serve"])
def test_it_dies_with_a_starter_that_is_killed(tmp_path: Path, how: str) -> None:
    starter, pid = started_by_another(tmp_path, how)
    with starter:
        starter.kill()
        assert is_gone(pid)


def test_serving_ends_well_when_asked_to(tmp_path: Path) -> None:
    starter, pid = started_by_another(tmp_path, "serve")
    with starter:
        os.kill(starter.pid, signal.SIGTERM)
        assert starter.wait(60) == 0
        assert is_gone(pid)


def test_an_interpreter_that_cannot_serve_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(process.SandboxFailed) as refusal:
        process.start(process.Options(data_dir=tmp_path), python=Path(sys.executable))
    assert "exit code 1" in refusal.value.message
    assert any("hypercorn" in line or "ministack" in line for line in refusal.value.details["last_lines"])
