"""The demo's "GPU host": a real SSH server on loopback, which ends when standard input does.

`python -m fairlead.cli.demo_cases.gpu_host FOLDER` makes keys in FOLDER and prints one line of JSON: which
server it is, its port and the account. Debian's OpenSSH server where it is installed, else asyncssh's own.
"""

import asyncio
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncssh

START_S = 30.0
_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey "{folder}/host_key"
AuthorizedKeysFile "{folder}/authorized_keys"
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PubkeyAuthentication yes
SetEnv "HOME={folder}"
Subsystem sftp internal-sftp
LogLevel ERROR
"""


def make_keys(folder: Path, port: int) -> None:
    """A host key, a client key that may log in, and the pinned host key as known_hosts has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    host, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    for name, key in (("host_key", host), ("client_key", client)):
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(key.export_private_key())
    (folder / "authorized_keys").write_bytes(client.export_public_key())
    public = host.export_public_key().decode().strip()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n", encoding="ascii")


@contextmanager
def free_port() -> Iterator[int]:
    """A port on loopback that the system gives to nobody else during the block; a server may listen there."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


def openssh() -> Path | None:
    """Debian's sshd, where it is installed and can run here."""
    found = shutil.which("sshd", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
    # Started by root it drops privileges into this folder, which its service makes at boot.
    if found and os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return Path(found) if found else None


async def main(folder: Path, program: Path | None) -> None:
    """Serve until standard input ends: with sshd `program`, else with asyncssh."""
    with free_port() as port:
        make_keys(folder, port)
        await _serve(folder, program, port)


async def _serve(folder: Path, program: Path | None, port: int) -> None:
    about = {"port": port, "user": getpass.getuser(), "server": "OpenSSH" if program else "asyncssh"}
    if program is None:
        server = await asyncssh.listen(
            "127.0.0.1",
            port,
            server_host_keys=[str(folder / "host_key")],
            authorized_client_keys=str(folder / "authorized_keys"),
            process_factory=shell,
            sftp_factory=True,
            encoding=None,
        )
        _announce(about)
        await asyncio.to_thread(sys.stdin.buffer.read)
        server.close()
        return
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(port=port, folder=folder), encoding="utf-8")
    process = subprocess.Popen(  # noqa: ASYNC220, S603 - it lives as long as we do
        [str(program), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        await _answers(port)
        _announce(about)
        await asyncio.to_thread(sys.stdin.buffer.read)
    finally:
        process.terminate()
        process.wait()


async def _answers(port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def shell(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    """What sshd does: the account's shell runs the command in a session of its own; all it says is sent."""
    (stdin, in_), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    try:
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", process.command or "exec sh",
            stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
        )  # fmt: skip
    finally:
        for theirs in (stdin, stdout, stderr):
            os.close(theirs)
    # Pipes and not streams: asyncssh reads a stream twice at once where the client was slow, and then gives
    # up the connection. No EOF: it would be one of both outputs where only the first has ended.
    await process.redirect(stdin=in_, stdout=out, stderr=err, send_eof=False)
    gone = asyncio.ensure_future(process.wait_closed())
    ended = asyncio.ensure_future(child.wait())
    await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    code = await ended
    said = asyncio.ensure_future(_all_sent(process))
    await asyncio.wait({gone, said}, return_when=asyncio.FIRST_COMPLETED)
    said.cancel()
    process.exit(code if code >= 0 else 128 - code)
    await gone


async def _all_sent(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    with suppress(OSError, asyncssh.Error):  # the client has gone
        await process.stdout.drain()
        await process.stderr.drain()


def _announce(about: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).absolute(), openssh()))
