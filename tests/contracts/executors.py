"""The executors as the contract suite gets them: this machine, a host over SSH, a Slurm cluster over SSH."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fairlead.cases.detached import DetachedExecutor
from fairlead.cases.jobs import Executor, Host
from fairlead.cases.local import LocalHost
from fairlead.cases.slurm import SlurmExecutor
from fairlead.cases.ssh import open_ssh
from tests.slurm_service import Slurm, start_slurm
from tests.ssh_service import SshServer, start_sshd


@dataclass(frozen=True)
class Place:
    """An executor with what stands behind it."""

    kind: str
    executor: Executor
    host: Host
    server: SshServer | None


@asynccontextmanager
async def open_place(kind: str, root: Path, server: SshServer | None) -> AsyncIterator[Place]:
    """An executor of `kind` whose host's root is `root`."""
    async with AsyncExitStack() as stack:
        if kind == "local":
            local = LocalHost("here", str(root))
            yield Place(kind, DetachedExecutor(local), local, None)
            return
        assert server is not None
        host = await stack.enter_async_context(open_ssh(server.target(root=str(root))))
        executor = SlurmExecutor(host) if kind == "slurm" else DetachedExecutor(host)
        yield Place(kind, executor, host, server)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """The session's sshd; nobody may kill it."""
    with start_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """The session's Slurm cluster."""
    with start_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_sshd(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An sshd whose sessions know the cluster."""
    variables = {"SLURM_CONF": str(slurm.conf)}
    folder = tmp_path_factory.mktemp("slurm-sshd")
    with start_sshd(folder, kind="openssh", variables=variables) as server:
        yield server


@pytest.fixture(params=["local", "ssh", "slurm"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """An executor of every kind, with nothing in it."""
    fixture = {"ssh": "sshd", "slurm": "slurm_sshd"}.get(request.param)
    server = request.getfixturevalue(fixture) if fixture else None
    async with open_place(request.param, tmp_path / "root", server) as opened:
        yield opened
