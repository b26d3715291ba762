"""The demo's "GPU host": a real SSH server on loopback, which ends when standard input does.

`python -m fairlead.cli.demo_cases.gpu_host FOLDER` makes keys in FOLDER and prints one line of JSON: which
server it is, its port and the account. Debian's OpenSSH server where it is installed, else asyncssh's own.
"""

import asyncio
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import asyncssh

START_S = 10.0
_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PubkeyAuthentication yes
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


def free_port() -> int:
    """A port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def openssh() -> Path | None:
    """Debian's sshd, where it is installed and can run here."""
    found = shutil.which("sshd", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
    # Started by root it drops privileges into this folder, which its service makes at boot.
    if found and os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return Path(found) if found else None


async def main(folder: Path, program: Path | None) -> None:
    """Serve until standard input ends: with sshd `program`, else with asyncssh."""
    port = free_port()
    make_keys(folder, port)
    about = {"port": port, "user": getpass.getuser(), "server": "OpenSSH" if program else "asyncssh"}
    if program is None:
        server = await asyncssh.listen(
            "127.0.0.1",
            port,
            server_host_keys=[str(folder / "host_key")],
            authorized_client_keys=str(folder / "authorized_keys"),
            process_factory=_shell,
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


async def _shell(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", process.command or "exec sh", stdin=pipe, stdout=pipe, stderr=pipe
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    process.exit(await child.wait())
    await process.wait_closed()


def _announce(about: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).absolute(), openssh()))
