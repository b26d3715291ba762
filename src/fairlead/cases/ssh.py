"""Hosts over SSH: pooled connections, bounded channels, pinned host keys; files go through `sftp`.

    async with open_ssh(target) as host:
        answer = await host.sh("nproc")

A host belongs to the event loop that opened it. A frozen peer is found within KEEPALIVE_S · 4 = 4 s.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from pydantic import SecretStr

from fairlead.cases.jobs import Answer, HostAuthFailed, HostBusy, HostKeyMismatch, HostUnreachable
from fairlead.cases.sftp import SftpFiles, lost, session_errors
from fairlead.kernel import resilience, telemetry
from fairlead.kernel.errors import FairleadError, SettingsInvalid
from fairlead.kernel.resilience import Guard, Policy

KEEPALIVE_S = 1.0
KEEPALIVE_MISSES = 3
SCRIPTS = 8  # under way at once on one host
ABANDON_S = 10.0
_POLICY = Policy(
    deadline_s=24 * 3600.0,  # every call brings its own, shorter one
    attempts=6,
    wait_initial_s=0.2,
    wait_max_s=3.0,
    failures_to_open=8,
    rest_s=3.0,
)


class HostSettingsInvalid(SettingsInvalid):
    """The host cannot be reached with the settings as they stand."""

    code = "cases.host_settings_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """How to reach a host. There are no passwords, and no key is ever accepted that is not pinned."""

    name: str  # what settings, logs and errors call it
    address: str
    user: str
    root: str  # absolute folder there that is ours
    known_hosts: str  # lines as `ssh-keyscan` and ~/.ssh/known_hosts have them
    port: int = 22
    key_file: Path | None = None
    passphrase: SecretStr | None = None  # of key_file
    agent: str | None = None  # socket of an SSH agent
    connections: int = 3
    channels: int = 8  # per connection; OpenSSH's MaxSessions is 10
    connect_timeout_s: float = 10.0


@dataclass(slots=True, eq=False)
class _Link:
    connection: asyncssh.SSHClientConnection
    channels: int
    used: int = 0
    shells: list["_Shell"] = field(default_factory=list)  # idle ones

    @property
    def is_free(self) -> bool:
        return self.used < self.channels and not self.connection.is_closed()


@dataclass(slots=True)
class _Pool:
    target: SshTarget
    options: dict[str, Any]
    links: list[_Link] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    connecting: int = 0
    connected_before: bool = False

    @asynccontextmanager
    async def link(self, *, for_script: bool = False) -> AsyncIterator[_Link]:
        """A connection with room for one more channel, for the length of the block."""
        link = await self._take(for_script)
        try:
            if not for_script and link.used + len(link.shells) > link.channels:
                link.shells.pop().close()
            yield link
        finally:
            link.used -= 1
            # Notifying needs the condition's lock, which a cancelled task must not wait for.
            _keep(asyncio.ensure_future(self.notify()))

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _take(self, for_script: bool) -> _Link:
        while True:
            async with self.changed:
                self.links = [link for link in self.links if not link.connection.is_closed()]
                free = [link for link in self.links if link.is_free]
                if free:
                    best = min(free, key=lambda link: (for_script and not link.shells, link.used))
                    best.used += 1
                    return best
                if len(self.links) + self.connecting >= self.target.connections:
                    await self.changed.wait()
                    continue
                self.connecting += 1
            await self._add()

    async def _add(self) -> None:
        try:
            link = _Link(await self._connect(), self.target.channels)
            self.links.append(link)
            # Waiting for a lost connection to be noticed would leave those in the queue asleep.
            _keep(asyncio.ensure_future(self._watch(link)))
        finally:
            self.connecting -= 1
            _keep(asyncio.ensure_future(self.notify()))

    async def _watch(self, link: _Link) -> None:
        await link.connection.wait_closed()
        await self.notify()

    async def _connect(self) -> asyncssh.SSHClientConnection:
        if self.connected_before or self.connecting > 1:
            # sshd drops connects that come all at once (MaxStartups), as they do after its restart.
            await asyncio.sleep(random.uniform(0.0, 0.2))  # noqa: S311 - no secret
        with _connect_errors(self.target):
            async with asyncio.timeout(self.target.connect_timeout_s):
                connection = await self._authenticated()
        self.connected_before = True
        telemetry.count("fairlead_ssh_connects_total")
        telemetry.log.info("ssh.connected", host=self.target.name)
        return connection

    async def _authenticated(self) -> asyncssh.SSHClientConnection:
        address, port = self.target.address, self.target.port
        options = {**self.options, "username": self.target.user}
        if self.target.agent is None:
            return await asyncssh.connect(address, port, **options)
        async with asyncssh.connect_agent(self.target.agent) as agent:
            # Naming no keys at all would make asyncssh try those in this account's ~/.ssh.
            keys = [*options.pop("client_keys"), *await agent.get_keys()]
            return await asyncssh.connect(address, port, client_keys=keys or None, **options)

    async def close(self) -> None:
        for link in self.links:
            link.connection.abort()
        for link in self.links:
            await link.connection.wait_closed()


_kept: set[asyncio.Future[Any]] = set()


def _keep(task: asyncio.Future[Any]) -> None:
    """Hold a task until it is done; the event loop itself does not."""
    _kept.add(task)
    task.add_done_callback(_kept.discard)


class _Shell:
    """One `/bin/sh` there for script after script: an account's start-up files run once, not each time."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        self.group = 0  # of the processes there: sshd makes every session one

    @classmethod
    async def start(cls, connection: asyncssh.SSHClientConnection) -> "_Shell":
        shell = cls(await connection.create_process("exec /bin/sh", encoding=None))
        try:
            # What comes first is what the account's start-up files say.
            shell.group = int((await shell.run("echo; echo $$")).stdout.split()[-1])
        except BaseException:
            shell.close()
            raise
        return shell

    async def run(self, script: str) -> Answer:
        """Raises ConnectionError where the shell goes away."""
        end = secrets.token_hex(16)
        # Without a terminal nobody echoes: what precedes `end` is the script's own output.
        framed = f"(\n{script}\n) </dev/null\nprintf '%s %d\\n' {end} $?; echo {end} >&2\n"
        self._process.stdin.write(framed.encode("utf-8", "surrogateescape"))
        mark = end.encode()
        (stdout, code), (stderr, _) = await asyncio.gather(
            _until(self._process.stdout, mark), _until(self._process.stderr, mark)
        )
        return Answer(int(code), stdout, stderr)

    def close(self) -> None:
        self._process.close()

    async def closed(self) -> None:
        """Returns once the host has let go of it, which it does when what runs in it has ended."""
        await self._process.wait_closed()


async def _until(stream: asyncssh.SSHReader[bytes], mark: bytes) -> tuple[bytes, bytes]:
    """What comes before `mark`, and what follows it on its line. Raises ConnectionError at the end."""
    said, found = bytearray(), -1
    while True:
        start = max(0, len(said) - len(mark))
        more = await stream.read(1024 * 1024)
        if not more:
            raise ConnectionResetError
        said += more
        found = said.find(mark, start) if found < 0 else found
        if found >= 0 and said.endswith(b"\n"):
            return bytes(said[:found]), bytes(said[found + len(mark) : -1])


class SshHost:
    """A machine over SSH; see `jobs.Host`."""

    def __init__(self, target: SshTarget, pool: _Pool) -> None:
        self.name = target.name
        self.root = target.root
        self._pool = pool
        self._guard = Guard("cases.ssh", _POLICY)
        self._scripts = asyncio.Semaphore(SCRIPTS)

    async def sh(self, script: str, *, deadline_s: float = 30.0) -> Answer:
        """Run a shell script that bears repetition; see `jobs.Host`."""

        return await resilience.call(self._guard, self._sh_once, script, deadline_s, safe_to_retry=True)

    async def _sh_once(self, script: str, deadline_s: float) -> Answer:
        async with resilience.deadline(deadline_s, f"host {self.name}"):
            return await self._sh(script)

    async def _sh(self, script: str) -> Answer:
        async with self._scripts, self._pool.link(for_script=True) as link:
            with _opening(self.name, link):
                shell = link.shells.pop() if link.shells else await _Shell.start(link.connection)
                try:
                    answer = await shell.run(script)
                except BaseException:
                    # What it still says would be taken for the next script's answer.
                    _keep(asyncio.ensure_future(self._abandon(link, shell)))
                    raise
            link.shells.append(shell)
            return answer

    async def _abandon(self, link: _Link, shell: _Shell) -> None:
        """End a script that nobody waits for; until it has ended it holds one of the host's sessions."""
        link.used += 1
        try:
            shell.close()
            if not link.connection.is_closed():
                with contextlib.suppress(FairleadError):
                    await self._sh_once(f"kill -s KILL -- -{shell.group}", ABANDON_S)
            await shell.closed()
        finally:
            link.used -= 1
            await self._pool.notify()

    @asynccontextmanager
    async def files(self) -> AsyncIterator[SftpFiles]:
        """One SFTP session, for the length of one transfer."""
        async with self._pool.link() as link:
            with _opening(self.name, link):
                sftp = await link.connection.start_sftp_client(path_encoding=None)
            try:
                yield SftpFiles(self.name, sftp)
            finally:
                sftp.exit()


@contextmanager
def _connect_errors(target: SshTarget) -> Iterator[None]:
    """Turn what a connect can meet into errors of ours."""
    place = f"host {target.name}"
    try:
        yield
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise HostKeyMismatch(
            f"The key that {place} shows is not the pinned one ({error.reason}).",
            remedy="Find out why. Where the host was really set up anew, check its key with its "
            "administrator and correct known_hosts in the settings.",
            host=target.name,
        ) from error
    except asyncssh.PermissionDenied as error:
        raise HostAuthFailed(
            f"{place.capitalize()} refuses our key for its account {target.user}.",
            remedy="Put our public key into that account's authorized_keys, or name the right key_file.",
            host=target.name,
        ) from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise HostUnreachable(
            f"No connection to {place}: {str(error) or type(error).__name__}.",
            remedy="Check address, port, network and that sshd runs there.",
            host=target.name,
        ) from error


@contextmanager
def _opening(name: str, link: _Link) -> Iterator[None]:
    """Turn what a session of this connection can meet into errors of ours."""
    try:
        with session_errors(name):
            yield
    except asyncssh.ChannelOpenError as error:
        if link.connection.is_closed():
            raise lost(name) from error
        link.channels = max(1, link.used - 1)  # its MaxSessions is smaller than we took it for
        raise HostBusy(
            f"Host {name} opens no further session on this connection.",
            remedy="Lower `channels` for it, or raise MaxSessions there.",
            host=name,
        ) from error


async def _options(target: SshTarget) -> dict[str, Any]:
    """What asyncssh needs. Nothing is taken from this account's own ~/.ssh or environment."""
    try:
        pinned = asyncssh.import_known_hosts(target.known_hosts)
    except ValueError as error:
        raise HostSettingsInvalid(
            f"Host {target.name}: known_hosts cannot be read: {error}.",
            remedy="Give lines as `ssh-keyscan` prints them.",
            host=target.name,
        ) from error
    if not target.known_hosts.strip() or (target.key_file is None and target.agent is None):
        raise HostSettingsInvalid(
            f"Host {target.name} needs known_hosts, and key_file or agent.",
            remedy="`ssh-keyscan` shows the host's keys; compare them with its administrator's.",
            host=target.name,
        )
    keys = [] if target.key_file is None else [await asyncio.to_thread(_private_key, target)]
    return {
        "known_hosts": pinned,
        "config": None,
        "client_keys": keys,
        "agent_path": None,
        "preferred_auth": "publickey",
        "password_auth": False,
        "kbdint_auth": False,
        "gss_auth": False,
        "gss_kex": False,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": KEEPALIVE_MISSES,
        "login_timeout": target.connect_timeout_s,
        "compression_algs": None,
    }


def _private_key(target: SshTarget) -> asyncssh.SSHKey:
    assert target.key_file is not None
    secret = target.passphrase.get_secret_value() if target.passphrase else None
    try:
        return asyncssh.read_private_key(target.key_file, secret)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise HostSettingsInvalid(
            f"Host {target.name}: the key file {target.key_file} cannot be used: {why}.",
            remedy="Check the path, its mode, and the passphrase.",
            host=target.name,
        ) from None


@asynccontextmanager
async def open_ssh(target: SshTarget) -> AsyncIterator[SshHost]:
    """A host over SSH; connects when first used. Raises HostSettingsInvalid."""
    pool = _Pool(target, await _options(target))
    try:
        yield SshHost(target, pool)
    finally:
        await pool.close()
