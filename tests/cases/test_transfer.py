"""File trees over SSH and within this machine: resumed, verified, and never outside of what is ours."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.cases import hostfolders, transfer
from fairlead.cases.jobs import Host, HostDiskFull, HostPermission, JobInvalid
from fairlead.cases.local import LocalHost
from fairlead.cases.ssh import open_ssh
from fairlead.cases.transfer import TransferProgress
from tests.ssh_service import SshServer, start_sshd

HOSTILE = (
    "plain.ptn",
    "deep/er/we ird '\"$(touch pwned)`id`;&|*.ptn",
    "new\nline\ttab",
    "-rf",
    "--version",
    "ümläut ✓",
    "back\\slash",
    "x.part",
    "deep/.hidden",
    "empty",
    "percent %s %n",
    os.fsdecode(b"not-utf8-\xff\xfe"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """The module's sshd; nobody may kill it."""
    with start_sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture(params=["local", "ssh"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    """A host of either kind with an empty root."""
    root = tmp_path / "root"
    root.mkdir()
    if request.param == "local":
        yield LocalHost("here", str(root))
        return
    sshd: SshServer = request.getfixturevalue("server")
    async with open_ssh(sshd.target(root=str(root))) as opened:
        yield opened


def tree(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files below it, ours apart."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".fairlead-")
    }


class Watch:
    """Keeps every progress report."""

    def __init__(self, then: Callable[[TransferProgress], None] = lambda _: None) -> None:
        self.seen: list[TransferProgress] = []
        self.then = then

    def __call__(self, progress: TransferProgress) -> None:
        self.seen.append(progress)
        self.then(progress)

    def check(self) -> None:
        """It never ran backwards and ended complete."""
        for number in ("bytes_done", "files_done"):
            values = [getattr(progress, number) for progress in self.seen]
            assert values == sorted(values)
        last = self.seen[-1]
        assert (last.bytes_done, last.files_done) == (last.bytes_total, last.files_total)


async def test_a_tree_with_hostile_names_goes_there_and_back_unchanged(host: Host, tmp_path: Path) -> None:
    files = {name: os.urandom(1000 * number) for number, name in enumerate(HOSTILE)}
    files["empty"] = b""
    source, watch, back = tree(tmp_path / "source", **files), Watch(), Watch()
    target = f"{host.root}/cases/run-1/in"
    sent = await transfer.push(host, source, target, owner="run-1", on_progress=watch)
    got = await transfer.pull(host, target, tmp_path / "back", on_progress=back)
    assert contents(tmp_path / "back") == contents(Path(target)) == files
    assert sent == got
    assert sent.size_bytes == sum(map(len, files.values()))
    watch.check()
    back.check()
    assert sorted(entry.name for entry in os.scandir(tmp_path)) == ["back", "root", "source"]


async def test_what_is_there_already_is_not_sent_again_and_what_changed_is(
    host: Host, tmp_path: Path
) -> None:
    source = tree(tmp_path / "source", a=b"a" * 1000, b=b"b" * 1000)
    target = f"{host.root}/in"
    await transfer.push(host, source, target, owner="run-1")
    before = {name: (Path(target) / name).stat().st_ino for name in "ab"}
    (source / "b").write_bytes(b"c" * 1000)
    await transfer.push(host, source, target, owner="run-1")
    after = {name: (Path(target) / name).stat().st_ino for name in "ab"}
    assert before["a"] == after["a"]
    assert before["b"] != after["b"]
    assert contents(Path(target)) == contents(source)


def spoil(path: Path) -> None:
    """Change its first byte."""
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("damage", [pytest.param(False, id="intact"), pytest.param(True, id="corrupt")])
async def test_a_part_is_resumed_where_it_is_a_prefix_and_thrown_away_where_it_is_not(
    host: Host, tmp_path: Path, damage: bool
) -> None:
    data = os.urandom(3_000_000)
    source, target = tree(tmp_path / "source", big=data), f"{host.root}/in"
    await hostfolders.claim(host, target, "run-1")
    part = tree(Path(target), **{f"{transfer.PARTS}/{transfer._part('big')}": data[:2_000_000]})
    if damage:
        path = part / transfer.PARTS / transfer._part("big")
        spoil(path)
    watch = Watch()
    await transfer.push(host, source, target, owner="run-1", on_progress=watch)
    assert watch.seen[0].bytes_done == (0 if damage else 2_000_000)
    assert contents(Path(target)) == {"big": data}
    # And the way back.
    back = tree(tmp_path / "back", **{f"{transfer.PARTS}/{transfer._part('big')}": data[:2_000_000]})
    if damage:
        path = back / transfer.PARTS / transfer._part("big")
        spoil(path)
    watch = Watch()
    await transfer.pull(host, target, back, on_progress=watch)
    assert watch.seen[0].bytes_done == (0 if damage else 2_000_000)
    assert contents(back) == {"big": data}


async def test_a_transfer_goes_on_after_sshd_was_killed_and_restarted(tmp_path: Path) -> None:
    data = os.urandom(30_000_000)
    source = tree(tmp_path / "source", big=data, **{f"small{n}": os.urandom(500) for n in range(20)})
    with start_sshd(tmp_path / "sshd") as own:
        async with open_ssh(own.target()) as opened:
            target, kills = f"{opened.root}/in", 0

            def kill(progress: TransferProgress) -> None:
                nonlocal kills
                if progress.bytes_done > (kills + 1) * 8_000_000 and kills < 1:
                    kills += 1
                    own.kill()
                    asyncio.get_running_loop().call_later(0.1, own.start)

            watch = Watch(kill)
            await transfer.push(opened, source, target, owner="run-1", on_progress=watch)
            assert kills == 1
            watch.check()
            assert contents(Path(target)) == contents(source)
            kills, back = 0, Watch(kill)
            await transfer.pull(opened, target, tmp_path / "back", on_progress=back)
            assert kills == 1
            back.check()
    assert contents(tmp_path / "back") == contents(source)


@pytest.mark.parametrize("mode", ["ab", "r+b"], ids=["grows", "is-overwritten"])
async def test_a_source_that_changes_meanwhile_is_never_taken_for_complete(
    host: Host, tmp_path: Path, mode: str
) -> None:
    source = tree(tmp_path / "source", big=os.urandom(2_000_000))

    def change(progress: TransferProgress) -> None:
        with (source / "big").open(mode) as stream:
            stream.write(b"more")

    with pytest.raises(transfer.TransferSourceChanged):
        await transfer.push(host, source, f"{host.root}/in", owner="run-1", on_progress=change)
    assert not (Path(host.root) / "in" / "big").exists()
    assert not (Path(host.root) / "in" / transfer.MANIFEST).exists()
    await transfer.push(host, source, f"{host.root}/in", owner="run-1")
    assert contents(Path(host.root) / "in") == contents(source)


@pytest.mark.parametrize("kind", ["link", "fifo"])
async def test_links_and_devices_are_refused_on_both_sides(host: Host, tmp_path: Path, kind: str) -> None:
    source, there = tree(tmp_path / "source", a=b"a"), Path(host.root) / "out"
    tree(there, a=b"a")
    for folder in (source, there):
        if kind == "link":
            (folder / "b").symlink_to("/etc/passwd")
        else:
            os.mkfifo(folder / "b")
    with pytest.raises(transfer.TransferUnsafe, match="'b'"):
        await transfer.push(host, source, f"{host.root}/in", owner="run-1")
    with pytest.raises(transfer.TransferUnsafe, match="'b'"):
        await transfer.pull(host, str(there), tmp_path / "back")
    wanted = await transfer.pull(host, str(there), tmp_path / "back", wanted=lambda path: path == "a")
    assert [file.path for file in wanted.files] == ["a"]


async def test_a_folder_that_does_not_exist_is_said_to_be_missing(host: Host, tmp_path: Path) -> None:
    with pytest.raises(hostfolders.TransferSourceMissing):
        await transfer.push(host, tmp_path / "none", f"{host.root}/in", owner="run-1")
    with pytest.raises(hostfolders.TransferSourceMissing):
        await transfer.pull(host, f"{host.root}/none", tmp_path / "back")


async def test_only_a_folder_with_our_marker_is_written_to_or_removed(host: Host, tmp_path: Path) -> None:
    root, outside = Path(host.root), tree(tmp_path / "outside", keep=b"keep")
    source = tree(tmp_path / "source", a=b"a")
    tree(root / "foreign", keep=b"keep")
    await transfer.push(host, source, f"{root}/ours", owner="run-1")
    (root / "ours" / "link").symlink_to(outside)
    (root / "link").symlink_to(root / "ours")
    (root / "up").symlink_to(outside.parent)
    (outside / hostfolders.OWNER).write_text("run-1")
    for folder in ("foreign", "ours", "link"):
        with pytest.raises(hostfolders.FolderNotOurs):
            await transfer.push(host, source, f"{root}/{folder}", owner="run-2")
        with pytest.raises(hostfolders.FolderNotOurs):
            await hostfolders.remove(host, f"{root}/{folder}", "run-2")
    for folder in ("link", "up/outside"):
        with pytest.raises(hostfolders.FolderNotOurs):
            await hostfolders.remove(host, f"{root}/{folder}", "run-1")
    await hostfolders.remove(host, f"{root}/ours", "run-1")
    await hostfolders.remove(host, f"{root}/ours", "run-1")
    assert not (root / "ours").exists()
    assert contents(outside) == contents(root / "foreign") == {"keep": b"keep"}


@pytest.mark.parametrize(
    "path", ["{root}", "{root}/", "{root}/../x", "{root}x/y", "/", "/etc", "x", "{root}/a/../.."]
)
async def test_no_path_outside_of_the_hosts_root_is_touched(host: Host, tmp_path: Path, path: str) -> None:
    named = path.format(root=host.root)
    with pytest.raises(JobInvalid):
        await hostfolders.remove(host, named, "run-1")
    with pytest.raises(JobInvalid):
        await transfer.push(host, tree(tmp_path / "source", a=b"a"), named, owner="run-1")


@contextmanager
def small_disk(path: Path, *options: str) -> Iterator[Path]:
    """A file system of 1 MiB at `path`; needs the right to mount."""
    path.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True)
    if made.returncode != 0:
        pytest.skip("this account may not mount a small file system: full disks were NOT tried")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


async def test_a_full_disk_is_named_on_either_side_and_the_transfer_can_be_repeated(
    host: Host, tmp_path: Path
) -> None:
    source = tree(tmp_path / "source", big=os.urandom(3_000_000))
    with small_disk(Path(host.root) / "full"):
        with pytest.raises(HostDiskFull) as there:
            await transfer.push(host, source, f"{host.root}/full/in", owner="run-1")
        assert host.name in there.value.message
    await transfer.push(host, source, f"{host.root}/in", owner="run-1")
    with small_disk(tmp_path / "back"), pytest.raises(transfer.DiskFull):
        await transfer.pull(host, f"{host.root}/in", tmp_path / "back")
    await transfer.pull(host, f"{host.root}/in", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


async def test_a_lost_permission_is_named_on_either_side(host: Host, tmp_path: Path) -> None:
    source = tree(tmp_path / "source", a=b"a")
    for folder in (Path(host.root) / "locked", tmp_path / "locked"):
        folder.mkdir()
    await transfer.push(host, source, f"{host.root}/in", owner="run-1")
    with read_only(Path(host.root) / "locked"), pytest.raises(HostPermission):
        await transfer.push(host, source, f"{host.root}/locked/in", owner="run-1")
    with read_only(tmp_path / "locked"), pytest.raises(transfer.FileRefused):
        await transfer.pull(host, f"{host.root}/in", tmp_path / "locked" / "back")


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Nobody may write there; for root, whom modes do not bind, a read-only file system."""
    if os.geteuid() != 0:
        path.chmod(0o500)
        yield
        path.chmod(0o700)
        return
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", path], capture_output=True)
    if made.returncode != 0:
        pytest.skip("root that may not mount cannot lose a permission: NOT tried")
    yield
    subprocess.run(["umount", "-l", path], check=True)


async def test_a_hundred_small_files_take_little_longer_than_their_bytes(host: Host, tmp_path: Path) -> None:
    source = tree(tmp_path / "source", **{f"{n}.ptn": os.urandom(20_000) for n in range(108)})
    started = time.monotonic()
    await transfer.push(host, source, f"{host.root}/in", owner="run-1")
    assert contents(Path(host.root) / "in") == contents(source)
    assert time.monotonic() - started < 45.0  # a round trip per file and step would take longer on a network
