"""A real sshd on a free loopback port, for any suite: Debian's where installed, else asyncssh's server.

    with start_sshd(tmp_path) as server:
        async with open_ssh(server.target()) as host: ...

`server.kind` says which of the two it is. Runs under the account of the tests; started and stopped by pid.
"""

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncssh

from fairlead.cases.ssh import SshTarget
from fairlead.cli.demo_cases import gpu_host
from tests.services import free_port, missing

START_S = 60.0


def sshd_binary() -> str | None:
    """Debian's openssh-server, if it is installed."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclass
class SshServer:
    """A running sshd that can be killed and started again on the same port with the same keys."""

    folder: Path
    port: int
    kind: str  # "openssh" or "asyncssh"
    process: subprocess.Popen[bytes] | None = None

    @property
    def key_file(self) -> Path:
        return self.folder / "client_key"

    @property
    def known_hosts(self) -> str:
        key = (self.folder / "host_key.pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {key[0]} {key[1]}\n"

    def target(self, **changes: Any) -> SshTarget:
        """How to reach it; its root is a folder of its own."""
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        target = SshTarget(
            name="gpu1",
            address="127.0.0.1",
            port=self.port,
            user=getpass.getuser(),
            root=str(root),
            known_hosts=self.known_hosts,
            key_file=self.key_file,
        )
        return replace(target, **changes)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).parents[1],
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline, "sshd does not answer"
            time.sleep(0.01)

    def _command(self) -> list[str]:
        if self.kind == "openssh":
            binary = sshd_binary()
            assert binary is not None
            return [binary, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        return [sys.executable, "-m", "tests.ssh_service", str(self.folder), str(self.port)]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                return probe.recv(4) == b"SSH-"
        except OSError:
            return False

    def sessions(self) -> list[int]:
        """Pids of the processes that serve connections."""
        if self.process is None:
            return []
        return [pid for pid in _descendants(self.process.pid) if _program(pid).startswith("sshd")]

    def cut(self) -> None:
        """kill -9 what serves the connections; the listener stays, jobs stay."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """kill -9 the listener and what serves the connections; jobs stay."""
        if self.process is None:
            return
        self.cut()
        self.process.kill()
        self.process.wait(timeout=START_S)
        self.process = None

    def programs(self) -> list[int]:
        """Pids of what the connections run at the moment: scripts and their programs, not jobs."""
        if self.process is None:
            return []
        return [pid for pid in _descendants(self.process.pid) if not _program(pid).startswith("sshd")]

    def signal_sessions(self, number: int) -> None:
        """SIGSTOP and SIGCONT make a frozen peer and thaw it."""
        assert self.process is not None
        for pid in [*self.sessions(), *([self.process.pid] if self.kind == "asyncssh" else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    for child in map(int, children):
        found += [child, *_descendants(child)]
    return found


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _write_files(folder: Path, port: int, variables: Mapping[str, str]) -> None:
    for name in ("host_key", "client_key", "other_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / name)
        key.write_public_key(folder / f"{name}.pub")
        (folder / name).chmod(0o600)
    shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
    lines: dict[str, object] = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "sshd.pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    # The account's own start files are not for us: a shell that is killed in one may block every later one.
    (folder / "home").mkdir(exist_ok=True)
    seen = {"HOME": folder / "home", **variables}
    lines["SetEnv"] = " ".join(f"{name}={value}" for name, value in seen.items())
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))


@contextmanager
def start_sshd(
    folder: Path, *, kind: str | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[SshServer]:
    """An sshd with its files in `folder`; sessions see `variables` (Debian's only).

    Skips loudly where Debian's is asked for and missing; fails in CI.
    """
    binary = sshd_binary()
    if kind == "openssh" and binary is None:
        missing("openssh-server")
    if binary is None and os.environ.get("CI") == "true":
        missing("openssh-server")
    folder.mkdir(parents=True, exist_ok=True)
    if binary is not None and os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation wants it
    port = free_port()
    _write_files(folder, port, variables or {})
    server = SshServer(folder, port, kind or ("openssh" if binary else "asyncssh"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def _serve(folder: Path, port: int) -> None:
    await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[str(folder / "host_key")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=gpu_host.shell,
        sftp_factory=True,
        encoding=None,
        config=None,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
