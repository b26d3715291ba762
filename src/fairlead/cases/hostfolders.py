"""Folders on a host that are ours: claimed, hashed, and removed only where they carry our marker."""

import os
import posixpath
import shlex
from collections.abc import Iterable, Sequence

from fairlead.cases.jobs import Answer, Host, HostCommandFailed, HostDiskFull, HostPermission, JobInvalid
from fairlead.kernel import telemetry
from fairlead.kernel.errors import Conflict, FairleadError, NotFound

OWNER = ".fairlead-owner"
SCRIPT_S = 600.0  # hashing tens of gigabytes takes minutes
_NOT_OURS, ABSENT = 3, 5  # exit codes of scripts
_LITTLE_KIB = 256  # of free space, below which a refused write is taken for a full disk


class TransferSourceMissing(NotFound):
    """There is no such folder to transfer."""

    code = "cases.transfer_source_missing"


class FolderNotOurs(Conflict):
    """The folder does not carry the marker of the run that wants to use or remove it."""

    code = "cases.folder_not_ours"


def quoted(paths: Iterable[str]) -> str:
    """`paths` as words of a script."""
    return " ".join(map(shlex.quote, paths))


def checked_path(host: Host, folder: str) -> str:
    """`folder`, which has to lie below the host's root. Raises JobInvalid."""
    clean = posixpath.normpath(folder)
    if clean != folder.rstrip("/") or not clean.startswith(host.root.rstrip("/") + "/") or "\0" in clean:
        raise JobInvalid(
            f"A folder on host {host.name} is not below its root {host.root}.",
            remedy="Build it from the host's root and the run's id.",
        )
    return clean


def _checked(host: Host, answer: Answer) -> bytes:
    """What a script printed, or the error that its failure stands for."""
    if answer.exit_code == 0:
        return answer.stdout
    said = answer.stderr.decode("utf-8", "replace")
    if answer.exit_code == _NOT_OURS:
        raise FolderNotOurs(
            f"A folder on host {host.name} exists but does not carry this run's marker; it was left alone.",
            remedy="Look at what it is; remove it by hand if it is not needed.",
            host=host.name,
        )
    if answer.exit_code == ABSENT:
        raise TransferSourceMissing(
            f"The folder to transfer does not exist on host {host.name}.", remedy="Run the job first."
        )
    if "No space left" in said or "quota exceeded" in said.lower():
        raise host_full(host)
    if "Permission denied" in said or "Read-only file system" in said:
        raise HostPermission(
            f"The account on host {host.name} may not write or read there.",
            remedy=f"Check owner and mode of what lies below {host.root}.",
            host=host.name,
        )
    # The text may hold names of files, and those hold patients: it goes no further.
    raise HostCommandFailed(
        f"A file command failed on host {host.name} (exit {answer.exit_code}).",
        remedy="The host needs sh, find, xargs and GNU coreutils.",
        host=host.name,
    )


def host_full(host: Host) -> HostDiskFull:
    return HostDiskFull(
        f"The disk of host {host.name} is full.", remedy="Make room there, then retry.", host=host.name
    )


async def ask(host: Host, script: str) -> bytes:
    """What the script prints. Raises FolderNotOurs, TransferSourceMissing, Host… errors."""
    return _checked(host, await host.sh("{\n" + script + "\nexit\n}\n", deadline_s=SCRIPT_S))


_CLAIM = """
folder={folder} owner={owner}
mkdir -p -- {parent} || exit 1
if ! mkdir -- "$folder" 2>/dev/null; then
  [ -e "$folder" ] || [ -L "$folder" ] || {{ mkdir -- "$folder"; exit 1; }}
  [ -d "$folder" ] && [ ! -L "$folder" ] || exit {not_ours}
fi
cd -- "$folder" || exit 1
if [ -f {marker} ]; then
  [ "$(cat {marker})" = "$owner" ] || exit {not_ours}
elif [ -n "$(ls -A | grep -vxF {marker}.tmp)" ]; then
  exit {not_ours}
else
  printf %s "$owner" >{marker}.tmp && mv -f {marker}.tmp {marker} || exit 1
fi
"""

# The marker goes last, so that an interrupted removal can be repeated. `find -delete` follows no link and
# leaves other file systems alone.
_REMOVE = """
folder={folder} owner={owner}
[ -e "$folder" ] || [ -L "$folder" ] || exit 0
[ -d "$folder" ] && [ ! -L "$folder" ] || exit {not_ours}
root=$(cd -P -- {root} && pwd -P) && cd -P -- "$folder" && here=$(pwd -P) || exit 1
case "$here" in "$root"/?*) ;; *) exit {not_ours};; esac
[ -f {marker} ] && [ ! -L {marker} ] && [ "$(cat {marker})" = "$owner" ] || exit {not_ours}
find . -xdev -mindepth 1 -depth ! -path ./{marker} -delete || exit 1
rm -f {marker} && cd / && rmdir -- "$here"
"""


def _filled(host: Host, script: str, folder: str, owner: str) -> str:
    folder = checked_path(host, folder)
    return script.format(
        folder=shlex.quote(folder),
        parent=shlex.quote(posixpath.dirname(folder)),
        root=shlex.quote(host.root),
        owner=shlex.quote(owner),
        marker=OWNER,
        not_ours=_NOT_OURS,
    )


async def claim(host: Host, folder: str, owner: str) -> None:
    """Make `folder` below the host's root and mark it as `owner`'s. Raises FolderNotOurs."""
    await ask(host, _filled(host, _CLAIM, folder, owner))


async def remove(host: Host, folder: str, owner: str) -> None:
    """Remove `folder` and all in it, if it carries `owner`'s marker; nothing where it is gone already.

    Raises FolderNotOurs, and then has removed nothing.
    """
    await ask(host, _filled(host, _REMOVE, folder, owner))
    telemetry.log.info("transfer.removed", host=host.name, owner=owner)


async def folders(host: Host, parent: str) -> tuple[str, ...]:
    """Names of the folders in `parent` on the host; none where it is missing."""
    parent = checked_path(host, parent)
    script = (
        f"[ -d {shlex.quote(parent)} ] || exit 0\n"
        f"find {shlex.quote(parent)} -mindepth 1 -maxdepth 1 -type d -printf '%f\\0'"
    )
    return tuple(os.fsdecode(name) for name in (await ask(host, script)).split(b"\0") if name)


async def hashes(host: Host, folder: str, paths: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of those of `paths` (relative) that are files in `folder` on the host."""
    if not paths:
        return {}
    # `stat` first: what grows in between fails the comparison of hashes.
    script = (
        f"cd -- {shlex.quote(folder)} || exit 1\n"
        f"for f in {quoted(f'./{path}' for path in paths)}; do\n"
        '  [ -f "$f" ] && [ ! -L "$f" ] && printf "%s\\0" "$f"\n'
        'done | xargs -0 -r sh -c \'stat --printf="%s %n\\0" -- "$@" && sha256sum -z -- "$@"\' sh'
    )
    sizes: dict[str, int] = {}
    found: dict[str, tuple[int, str]] = {}
    for record in (await ask(host, script)).split(b"\0"):
        head, _, name = record.partition(b" ")
        path = os.fsdecode(name.lstrip(b" *")).removeprefix("./")
        if len(head) == 64 and path in sizes:
            found[path] = (sizes[path], head.decode())
        elif head.isdigit():
            sizes[path] = int(head)
    return found


async def diagnosed(host: Host, folder: str, error: HostCommandFailed) -> FairleadError:
    """A full disk's own error where that is why the host refused; SFTP's version 3 does not say."""
    script = f"df -Pk -- {shlex.quote(folder)} | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4"
    free = (await host.sh(script)).stdout.strip()
    return host_full(host) if free.isdigit() and int(free) < _LITTLE_KIB else error
