"""Connections to a real sshd: pinned keys, bounded sessions, and every way in which a connection can end."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from pydantic import SecretStr

from fairlead.cases.detached import DetachedExecutor
from fairlead.cases.jobs import (
    HostAuthFailed,
    HostKeyMismatch,
    HostUnreachable,
    JobSpec,
    JobState,
)
from fairlead.cases.ssh import (
    KEEPALIVE_MISSES,
    KEEPALIVE_S,
    HostSettingsInvalid,
    SshHost,
    SshTarget,
    open_ssh,
)
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.resilience import DeadlineExceeded
from tests.services import missing
from tests.ssh_service import SshServer, start_sshd


@pytest.fixture(scope="module", params=["openssh", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """Both servers that the product may be shown with."""
    with start_sshd(tmp_path_factory.mktemp("sshd"), kind=request.param) as started:
        yield started


@pytest.fixture
async def host(server: SshServer) -> AsyncIterator[SshHost]:
    """A host on it."""
    async with open_ssh(server.target()) as opened:
        yield opened


async def test_a_script_answers_with_its_output_its_errors_and_its_code(host: SshHost) -> None:
    answer = await host.sh("printf 'a\\0b'; echo oops >&2; exit 5")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (5, b"a\0b", b"oops\n")
    assert (await host.sh("cd /; X=1; pwd")).stdout == b"/\n"
    assert (await host.sh('echo "[$X]"; cat')).stdout == b"[]\n"  # nothing is left of the last one


async def test_what_an_accounts_start_up_files_say_is_no_answer(tmp_path: Path) -> None:
    with start_sshd(tmp_path / "sshd", kind="openssh") as talkative:
        said = "echo welcome; echo note >&2; printf 'no newline'; touch ~/talked\n"
        for name in (".bashrc", ".bash_profile", ".profile", ".zshenv"):
            (talkative.folder / "home" / name).write_text(said)
        async with open_ssh(talkative.target()) as host:
            answer = await host.sh("echo out; exit 3")
        if not (talkative.folder / "home" / "talked").exists():
            pytest.skip("this account's shell reads no start-up file: what those say was NOT tried")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (3, b"out\n", b"")


async def test_megabytes_of_output_and_errors_arrive_at_the_first_attempt(host: SshHost) -> None:
    for script in ("{0}; {0} >&2", "{0} & {0} >&2; wait"):
        big = await host._sh_once(script.format("head -c 3000000 /dev/zero"), deadline_s=60.0)
        assert (len(big.stdout), len(big.stderr)) == (3_000_000, 3_000_000)


async def test_a_hundred_scripts_at_once_share_few_connections(host: SshHost, server: SshServer) -> None:
    answers = await asyncio.gather(*(host.sh(f"echo {number}") for number in range(100)))
    assert [int(answer.stdout) for answer in answers] == list(range(100))
    # Each connection is served by at most a privileged and an unprivileged process.
    assert len(server.sessions()) <= 2 * server.target().connections


def wrong_key(server: SshServer) -> str:
    other = (server.folder / "other_key.pub").read_text().split()
    return f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda t, s: replace(t, known_hosts=wrong_key(s)), HostKeyMismatch, id="another-host-key"
        ),
        pytest.param(
            lambda t, s: replace(t, known_hosts=s.known_hosts.replace("127.0.0.1", "10.0.0.1")),
            HostKeyMismatch,
            id="no-key-for-this-host",
        ),
        pytest.param(
            lambda t, s: replace(t, key_file=s.folder / "other_key"), HostAuthFailed, id="key-not-authorised"
        ),
        pytest.param(lambda t, s: replace(t, known_hosts=""), HostSettingsInvalid, id="nothing-pinned"),
        pytest.param(lambda t, s: replace(t, key_file=None), HostSettingsInvalid, id="no-key"),
        pytest.param(
            lambda t, s: replace(t, key_file=s.folder / "none"), HostSettingsInvalid, id="key-file-missing"
        ),
        pytest.param(
            lambda t, s: replace(t, key_file=s.folder / "sshd_config"), HostSettingsInvalid, id="no-key-in-it"
        ),
    ],
)
async def test_what_keeps_us_out_is_said_in_an_error_of_its_own(
    server: SshServer,
    change: Callable[[SshTarget, SshServer], SshTarget],
    expected: type[FairleadError],
) -> None:
    with pytest.raises(expected) as caught:
        async with open_ssh(change(server.target(), server)) as opened:
            await opened.sh("true")
    assert "gpu1" in caught.value.message
    assert caught.value.remedy
    assert not caught.value.retryable


async def test_an_encrypted_key_needs_its_passphrase(server: SshServer, tmp_path: Path) -> None:
    if server.kind == "asyncssh":
        pytest.skip("the key never leaves our side: one server is enough")
    path = tmp_path / "encrypted"
    key = await asyncio.to_thread(asyncssh.read_private_key, server.key_file)
    key.write_private_key(path, passphrase="open sesame")
    target = server.target(key_file=path, passphrase=SecretStr("open sesame"))
    async with open_ssh(target) as opened:
        assert (await opened.sh("echo in")).stdout == b"in\n"
    assert "sesame" not in repr(target)
    for wrong in (None, SecretStr("hunter2")):
        with pytest.raises(HostSettingsInvalid) as caught:
            async with open_ssh(replace(target, passphrase=wrong)):
                pytest.fail("the key was opened")
        assert "hunter2" not in caught.value.message


async def test_keys_may_come_from_an_agent(server: SshServer, tmp_path: Path) -> None:
    if shutil.which("ssh-agent") is None:
        missing("ssh-agent")
    socket = tmp_path / "agent"
    agent = await asyncio.create_subprocess_exec("ssh-agent", "-D", "-a", socket, stdout=subprocess.DEVNULL)
    try:
        await until(socket.exists)
        add = await asyncio.create_subprocess_exec(
            "ssh-add", "-q", server.key_file, env={"SSH_AUTH_SOCK": str(socket), "PATH": "/usr/bin:/bin"}
        )
        assert await add.wait() == 0
        async with open_ssh(server.target(key_file=None, agent=str(socket))) as opened:
            assert (await opened.sh("echo in")).stdout == b"in\n"
    finally:
        agent.terminate()
        await agent.wait()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_scripts_do_not_appear_in_any_process_title(host: SshHost) -> None:
    shown = await host.sh("SECRET=patient-DOE; tr '\\0' ' ' </proc/$$/cmdline; cat /proc/$PPID/cmdline")
    assert b"DOE" not in shown.stdout


async def test_a_script_that_is_given_up_leaves_its_session_free(host: SshHost) -> None:
    for _ in range(3):
        waiting = [asyncio.ensure_future(host.sh("sleep 30")) for _ in range(8)]
        await asyncio.sleep(0.05)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert (await host.sh("echo free")).stdout == b"free\n"
    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(60):
            await host._sh_once("sleep 300", deadline_s=0.2)
    assert (await host.sh("echo free")).stdout == b"free\n"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SshServer]:
    """An sshd that the test may kill."""
    with start_sshd(tmp_path / "sshd", kind="openssh") as started:
        yield started


async def test_a_broken_connection_is_made_again_and_the_script_repeated(own: SshServer) -> None:
    async with open_ssh(own.target()) as opened:
        mark, over = own.folder / "begun", own.folder / "over"
        wait = f"until [ -e {over} ]; do sleep 0.1; done"
        script = f"if [ -e {mark} ]; then echo again; else touch {mark}; {wait}; fi"
        asked = asyncio.ensure_future(opened.sh(script))
        try:
            await until(mark.exists)
            own.cut()
            assert (await asyncio.wait_for(asked, 60)).stdout == b"again\n"
        finally:
            over.touch()


async def test_a_frozen_host_is_noticed_within_five_seconds_and_left_for_a_new_connection(
    own: SshServer,
) -> None:
    async with open_ssh(own.target()) as opened:
        await opened.sh("true")
        own.signal_sessions(signal.SIGSTOP)
        started = time.monotonic()
        assert (await opened.sh("echo back")).stdout == b"back\n"
        # Noticed within the first seconds; the rest is a new connection, on a machine that may be busy.
        assert KEEPALIVE_S * (KEEPALIVE_MISSES + 1) <= 5
        assert 2.5 < time.monotonic() - started < 20.0


async def test_a_host_with_fewer_sessions_than_expected_is_served_with_those(tmp_path: Path) -> None:
    with start_sshd(tmp_path / "sshd", kind="openssh") as few:
        few.kill()
        with (few.folder / "sshd_config").open("a") as config:
            config.write("MaxSessions 2\n")
        few.start()
        async with open_ssh(few.target(connections=2)) as opened:
            answers = await asyncio.gather(*(opened.sh("sleep 0.02; echo ok") for _ in range(30)))
            assert {answer.stdout for answer in answers} == {b"ok\n"}


async def test_a_job_and_the_wait_for_it_outlive_sshd(own: SshServer, tmp_path: Path) -> None:
    release = tmp_path / "release"
    script = f"while [ ! -e {release} ]; do sleep 0.02; done; exit 4"
    async with open_ssh(own.target()) as opened:
        executor = DetachedExecutor(opened)
        ref = await executor.submit(JobSpec(name="run-1-dose", argv=("sh", "-c", script), working_dir="/"))
        waiting = asyncio.ensure_future(executor.wait(ref, 300))
        await asyncio.sleep(0)
        own.kill()
        with pytest.raises(HostUnreachable) as caught:
            await opened.sh("true")
        assert caught.value.retryable
        assert not waiting.done()
        release.touch()
        own.start()
        status = await asyncio.wait_for(waiting, 40)
        assert (status.state, status.exit_code) == (JobState.FAILED, 4)
