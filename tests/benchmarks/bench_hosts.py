"""Hosts: SSH command latency pooled and cold; 200 MB and 108 files beside scp and rsync in the same run.

    .venv/bin/python -m tests.benchmarks hosts

All of it on loopback, against one sshd, so that the ratios mean something and the seconds little. Our
transfers include what the others leave out: a SHA-256 of everything on both sides (rsync has a checksum of
its own), and the renaming into place. Without Debian's openssh-server the ratios are left out.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from fairlead.cases import transfer
from fairlead.cases.detached import DetachedExecutor
from fairlead.cases.jobs import JobSpec
from fairlead.cases.ssh import SshHost, open_ssh
from tests.ssh_service import SshServer, start_sshd

Line = tuple[str, float, str]
ROUNDS = 3


async def _best(work: Callable[[int], Awaitable[object]]) -> float:
    """Shortest of ROUNDS times, in seconds."""
    times = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        await work(number)
        times.append(time.perf_counter() - started)
    return min(times)


async def _commands(server: SshServer, host: SshHost) -> list[Line]:
    async def cold(_: int) -> None:
        async with open_ssh(server.target()) as fresh:
            await fresh.sh("true")

    cold_s = await _best(cold)
    await host.sh("true")
    times = []
    for _ in range(100):
        started = time.perf_counter()
        await host.sh("true")
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    await asyncio.gather(*(host.sh("true") for _ in range(100)))
    together_s = time.perf_counter() - started
    return [
        ("ssh_command_cold", 1000 * cold_s, "ms"),
        ("ssh_command_pooled_median", 1000 * statistics.median(times), "ms"),
        ("ssh_commands_100_at_once", 100 / together_s, "1/s"),
    ]


async def _jobs(host: SshHost) -> list[Line]:
    executor = DetachedExecutor(host)
    lines: list[Line] = []
    for count in (1, 12, 100):
        specs = [JobSpec(name=f"bench-{count}-{n}", argv=("true",), working_dir="/") for n in range(count)]

        async def one(spec: JobSpec) -> None:
            await executor.wait(await executor.submit(spec), 60)

        started = time.perf_counter()
        await asyncio.gather(*map(one, specs))
        lines.append((f"ssh_jobs_{count}_submitted_and_awaited", time.perf_counter() - started, "s"))
    return lines


def _program(server: SshServer, name: str, source: Path, target: Path) -> list[str] | None:
    if server.kind != "openssh" or shutil.which(name) is None:
        return None
    known = server.folder / "known_hosts"
    known.write_text(server.known_hosts)
    options = ["-i", str(server.key_file), "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
    remote = f"{server.target().user}@127.0.0.1:{target}"
    if name == "scp":
        return ["scp", "-q", "-r", "-P", str(server.port), *options, f"{source}/.", remote]
    shell = " ".join(["ssh", "-p", str(server.port), *options])
    return ["rsync", "-a", "--whole-file", "-e", shell, f"{source}/", remote]


async def _run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"{command[0]} failed")


async def _transfers(server: SshServer, host: SshHost, name: str, source: Path) -> list[Line]:
    async def push(number: int) -> None:
        await transfer.push(host, source, f"{host.root}/{name}-{number}", owner="bench")

    async def pull(number: int) -> None:
        await transfer.pull(host, f"{host.root}/{name}-0", source.parent / f"{name}-back-{number}")

    push_s = await _best(push)
    lines = [(f"push_{name}", push_s, "s"), (f"pull_{name}", await _best(pull), "s")]
    for program in ("scp", "rsync"):

        async def other(number: int, program: str = program) -> None:
            target = Path(host.root) / f"{program}-{name}-{number}"
            target.mkdir()
            command = _program(server, program, source, target)
            assert command is not None
            await _run(command)

        if _program(server, program, source, source) is not None:
            theirs_s = await _best(other)
            lines += [
                (f"{program}_{name}", theirs_s, "s"),
                (f"push_to_{program}_{name}", push_s / theirs_s, "ratio"),
            ]
    return lines


async def _all(folder: Path) -> list[Line]:
    big, small = folder / "200mb", folder / "108files"
    big.mkdir()
    small.mkdir()
    (big / "big").write_bytes(os.urandom(200_000_000))
    for number in range(108):
        (small / f"{number:03}.ptn").write_bytes(os.urandom(400_000))
    with start_sshd(folder / "sshd") as server:
        if server.kind != "openssh":
            print(
                "# openssh-server is not installed: asyncssh's server instead, no scp and rsync", flush=True
            )
        async with open_ssh(server.target()) as host:
            lines = await _commands(server, host)
            lines += await _jobs(host)
            lines += await _transfers(server, host, "200mb", big)
            lines += await _transfers(server, host, "108files", small)
    return lines


def run() -> list[Line]:
    """Latencies in ms, transfers in s, and ratios (below 1: faster than the other program)."""
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        return asyncio.run(_all(Path(folder)))
