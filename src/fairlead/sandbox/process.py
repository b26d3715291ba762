"""The sandbox as a process: started on our socket, waited for, stopped; it dies with its starter.

with start(python=python, data_dir=folder) as sandbox:
    boto3.client("s3", endpoint_url=sandbox.endpoint_url, …)
"""

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from fairlead.kernel import telemetry, toolenv
from fairlead.kernel.errors import FairleadError

TOOL = "ministack"  # requirements/tools/ministack.txt
DEFAULT_PORT = 8710
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 10.0
_POLL_S = 0.02
_EXIT_STATE_CORRUPT, _EXIT_STATE_IN_USE = 4, 5  # inside/launcher.py knows them too
_LOG_TAIL_BYTES = 4000
_HOST = "127.0.0.1"
_PORT_FILE = "port"


class SandboxPortTaken(FairleadError):
    """Another program listens on the sandbox's port."""

    code, status, retryable = "sandbox.port_taken", 409, False


class SandboxStateCorrupt(FairleadError):
    """The saved state of the sandbox cannot be trusted, so it was not started."""

    code, status, retryable = "sandbox.state_corrupt", 500, False


class SandboxStateInUse(FairleadError):
    """Another sandbox already works on this state folder."""

    code, status, retryable = "sandbox.state_in_use", 409, False


class SandboxFailed(FairleadError):
    """The sandbox ended or did not answer in time."""

    code, status, retryable = "sandbox.failed", 503, True


class SandboxSchemasMissing(FairleadError):
    """The resource schemas are not installed."""

    code, status, retryable = "sandbox.schemas_missing", 500, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a sandbox runs. Everything it keeps lies in `data_dir`."""

    data_dir: Path
    port: int = 0  # 0: any free one
    latency_ms: float = 50.0  # how long a Cloud Control request stays in progress
    enforce_iam: bool = False  # check signatures, trust policies (external ids) and identity policies
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"


class Sandbox:
    """A running sandbox."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
        self._process = process
        self.port = port
        self.log_path = log_path

    @property
    def endpoint_url(self) -> str:
        """Address of every AWS API, on loopback."""
        return f"http://{_HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> int | None:
        """Exit code if it ends within `timeout_s` seconds; None if it lives on."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after ten seconds. What was answered is saved either way."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            if self.wait(STOP_DEADLINE_S) is None:
                self.kill()
        self._close()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def environment(root: Path) -> Path:
    """Interpreter of MiniStack's environment under `root`, built first where it is missing."""
    return toolenv.ensure(TOOL, root=root)


def schemas_dir() -> Path:
    """Folder of the resource schemas in the cfn-lint wheel. Raises SandboxSchemasMissing."""
    spec = importlib.util.find_spec("cfnlint")  # found, not imported: that would cost seconds
    places = spec.submodule_search_locations if spec else None
    folder = Path(places[0]) / "data" / "schemas" if places else None
    if folder is None or not (folder / "providers" / "us-east-1.json").is_file():
        raise SandboxSchemasMissing(
            "The package cfn-lint, which carries the resource schemas, is not installed.",
            remedy="Run make setup, or install requirements/schemas.txt.",
        )
    return folder


def start(options: Options, *, python: Path, deadline_s: float = START_DEADLINE_S) -> Sandbox:
    """A sandbox that answers. `python` is the interpreter that `environment` gives.

    It ends when this process ends, however that happens. Blocks; call it in a thread from async code.
    Raises SandboxPortTaken, SandboxStateCorrupt, SandboxStateInUse, SandboxSchemasMissing, SandboxFailed.
    """
    schemas = schemas_dir()
    options.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_path = options.data_dir / "sandbox.log"
    remembered = _remembered_port(options.data_dir)
    with _listen_again(options.port, remembered) as listening, log_path.open("ab") as log:
        before = log.tell()
        port = listening.getsockname()[1]
        if remembered is None:
            (options.data_dir / _PORT_FILE).write_text(str(port), encoding="ascii")
        process = subprocess.Popen(  # noqa: S603 - our interpreter, our file
            _command(options, python, schemas, listening.fileno()),
            stdin=subprocess.PIPE,  # it watches for the end of this pipe
            stdout=log,
            stderr=log,
            pass_fds=[listening.fileno()],
            env=_environment(options, remembered or port),
            cwd=options.data_dir,
            start_new_session=True,  # Ctrl-C is for us; we stop it
        )
        sandbox = Sandbox(process, port, log_path)
    try:
        _wait_until_ready(sandbox, before, deadline_s)
    except BaseException:
        sandbox.kill()
        raise
    telemetry.log.info("sandbox.started", pid=sandbox.pid, port=sandbox.port, data_dir=str(options.data_dir))
    return sandbox


def serve_sandbox(options: Options, *, toolenvs: Path, ready: Callable[[Sandbox], None]) -> int:
    """Run a sandbox in the foreground until SIGINT or SIGTERM; what `fairlead sandbox` does.

    `ready` is called once it answers (to print its address). Returns the exit code: 0 after a stop that
    was asked for. Main thread only. Raises what `start` and `environment` raise, and SandboxFailed when
    it ends by itself.
    """
    asked = False

    def stop(_: int, __: object) -> None:
        nonlocal asked
        asked = True

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with start(options, python=environment(toolenvs)) as sandbox:
            ready(sandbox)
            while not asked:
                if sandbox.wait(0.2) is not None:
                    raise _failed(sandbox, 0, f"The sandbox ended by itself (exit code {sandbox.wait(0)}).")
        return 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _remembered_port(data_dir: Path) -> int | None:
    """The first port of this state: queue URLs carry it, and a queue's URL is its identity."""
    try:
        return int((data_dir / _PORT_FILE).read_text("ascii"))
    except (OSError, ValueError):
        return None


def _listen_again(port: int, remembered: int | None) -> socket.socket:
    if port == 0 and remembered is not None:
        with suppress(SandboxPortTaken):
            return _listen(remembered)
    return _listen(port)


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart takes its port again
        listening.bind((_HOST, port))
        listening.listen(256)
    except OSError as error:
        listening.close()
        raise SandboxPortTaken(
            f"Port {port} on {_HOST} cannot be opened: {os.strerror(error.errno or 0)}.",
            remedy="Stop the program that uses it, or choose another port (--port).",
            port=port,
        ) from error
    return listening


def _command(options: Options, python: Path, schemas: Path, fd: int) -> list[str]:
    inside = Path(__file__).parent / "inside" / "__main__.py"
    state = options.data_dir / "state.db"
    numbers = ["--fd", str(fd), "--latency-ms", str(options.latency_ms)]
    return [
        str(python),
        "-I",
        str(inside),
        *numbers,
        "--state",
        str(state),
        "--schemas",
        str(schemas),
        "--until-eof",
    ]


def _environment(options: Options, advertised_port: int) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in toolenv.clean_environment().items()
        # A caller's AWS settings would reach MiniStack's own clients and the functions it runs.
        if not name.startswith(("AWS_", "MINISTACK_", "LOCALSTACK_", "S3_"))
    }
    return {
        **inherited,
        "BIND_HOST": _HOST,
        "MINISTACK_HOST": _HOST,  # stands in queue URLs, which are identifiers: the same from every side
        "GATEWAY_PORT": str(advertised_port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",  # ours is kept by inside/store.py
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(options.data_dir / "s3"),
        "AUTH": str(options.enforce_iam).lower(),
        "LOG_LEVEL": options.log_level,
        "DOCKER_HOST": "unix:///nonexistent",  # never touch a container engine that happens to be there
    }


def _wait_until_ready(sandbox: Sandbox, log_start: int, deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not _answers(sandbox.port):
        code = sandbox.wait(_POLL_S)
        if code == _EXIT_STATE_CORRUPT:
            raise SandboxStateCorrupt(
                f"The saved state of the sandbox is not usable. {_reason(sandbox, log_start)}".strip(),
                remedy=f"Restore {sandbox.log_path.parent} from a copy, or move it away to start empty.",
                path=str(sandbox.log_path.parent),
            )
        if code == _EXIT_STATE_IN_USE:
            raise SandboxStateInUse(
                f"Another sandbox works on {sandbox.log_path.parent}.",
                remedy="Stop it, or give this one another folder.",
                path=str(sandbox.log_path.parent),
            )
        if code is not None:
            raise _failed(sandbox, log_start, f"The sandbox ended while it started (exit code {code}).")
        if time.monotonic() > deadline:
            raise _failed(sandbox, log_start, f"The sandbox did not answer within {deadline_s:g} s.")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=1)
    try:
        connection.request("GET", "/_fairlead/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(sandbox: Sandbox, log_start: int) -> str:
    written = sandbox.log_path.read_bytes()[log_start:]
    return written[-_LOG_TAIL_BYTES:].decode("utf-8", "replace")


def _reason(sandbox: Sandbox, log_start: int) -> str:
    for line in reversed(_tail(sandbox, log_start).splitlines()):
        if line.startswith('{"state_corrupt"'):
            return str(json.loads(line)["state_corrupt"])
    return ""


def _failed(sandbox: Sandbox, log_start: int, message: str) -> SandboxFailed:
    lines = _tail(sandbox, log_start).splitlines()[-5:]
    return SandboxFailed(
        message, remedy=f"Read {sandbox.log_path}.", log=str(sandbox.log_path), last_lines=lines
    )
