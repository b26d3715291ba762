"""External programs whose pins conflict with ours live in their own hash-locked environments.

`ensure("ministack", root=…)` gives the interpreter of an environment that holds exactly what
`requirements/tools/ministack.txt` names, building it with uv where it does not exist yet. Any
number of processes may ask at once, and a build that was killed is taken up again by the next.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import uv

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError

BUILD_DEADLINE_S = 900.0
_LOOK_AGAIN_S = 0.1

# What the caller's shell says about *its* Python must not leak into an environment of ours.
_FOREIGN_VARIABLES = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
_FOREIGN_PREFIXES = ("UV_PYTHON", "UV_PROJECT", "UV_SYSTEM_PYTHON", "__PYVENV")

_HASH_WORDS = ("hash mismatch", "hashes are missing", "in `--require-hashes` mode")
_NETWORK_WORDS = ("failed to fetch", "error sending request", "dns error", "timed out", "connection refused")
_DISK_WORDS = ("no space left on device", "os error 28", "disk quota exceeded")


class ToolUnknown(FairleadError):
    """There is no locked set of requirements for this external program."""

    code, status, retryable = "toolenv.unknown", 500, False


class ToolBuildFailed(FairleadError):
    """The environment of an external program could not be built."""

    code, status, retryable = "toolenv.build_failed", 500, False


class ToolOffline(ToolBuildFailed):
    """The package index cannot be reached, so an external program could not be installed."""

    code, status, retryable = "toolenv.offline", 503, True


class ToolHashMismatch(ToolBuildFailed):
    """A downloaded package is not the one that was locked."""

    code, status, retryable = "toolenv.hash_mismatch", 500, False


class ToolDiskFull(ToolBuildFailed):
    """The disk has no room for the environment of an external program."""

    code, status, retryable = "toolenv.disk_full", 507, False


# Environments in use by this process: their lock files stay open, so no newer version's clean-up
# takes the files away from under a running program. The kernel lets go when the process ends.
_in_use: dict[Path, int] = {}
_in_use_guard = threading.Lock()


def locks_dir() -> Path:
    """Folder of the locked requirement sets: inside the wheel, else in the checkout."""
    packaged = Path(__file__).parents[1] / "requirements" / "tools"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "requirements" / "tools"


def ensure(name: str, *, root: Path, locks: Path | None = None) -> Path:
    """Interpreter of the environment of program `name` under `root`, built first where needed.

    Blocks (for a minute on a first build): call it through `asyncio.to_thread` from async code.
    Raises ToolUnknown for a name without a lock, and ToolOffline, ToolHashMismatch, ToolDiskFull
    or ToolBuildFailed where the build fails; the next call starts over.
    """
    lock = _lock_of(name, locks or locks_dir())
    environment = root.absolute() / f"{name}-{_digest(lock)}"
    with _in_use_guard:
        if environment in _in_use:
            if _is_ready(environment):
                return _python(environment)
            os.close(_in_use.pop(environment))  # damaged: our own hold must not keep us from mending it
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        held = _build_locked(environment, lock)
    except OSError as error:
        raise _of_os_error(error, name, root) from error
    with _in_use_guard:
        if (former := _in_use.get(environment)) is not None:
            os.close(former)
        _in_use[environment] = held
    return _python(environment)


def is_built(name: str, *, root: Path, locks: Path | None = None) -> bool:
    """Whether `ensure` would have nothing to build. Raises ToolUnknown."""
    return _is_ready(root.absolute() / f"{name}-{_digest(_lock_of(name, locks or locks_dir()))}")


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment for a program in another Python: nothing of ours leaks, plus `extra`."""
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - handed to a child, not read for settings
        if name not in _FOREIGN_VARIABLES and not name.startswith(_FOREIGN_PREFIXES)
    }
    return {**inherited, **extra}


def _lock_of(name: str, locks: Path) -> Path:
    known = sorted(path.stem for path in locks.glob("*.txt"))
    if name not in known:  # also keeps "../x" from ever becoming a path
        raise ToolUnknown(
            f"There is no external program {name!r}; known are: {', '.join(known) or 'none'}.",
            remedy=f"Add requirements/tools/{name}.in and its lock, or correct the name."
            if re.fullmatch(r"[a-z0-9-]+", name)
            else "Correct the name.",
            name=name,
        )
    return locks / f"{name}.txt"


def _digest(lock: Path) -> str:
    content = hashlib.sha256(lock.read_bytes())
    content.update(f"{sys.implementation.cache_tag} {os.uname().machine} {_base_python()}".encode())
    return content.hexdigest()[:16]


def _base_python() -> Path:
    """The interpreter that our own environment was made from."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    inside = Path(sys.base_prefix) / "bin" / version
    return inside if inside.exists() else Path(sys.executable).resolve()


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _is_ready(environment: Path) -> bool:
    # `exists` follows the link: a base interpreter that was removed counts as not ready.
    return (environment / ".ready").exists() and _python(environment).exists()


def _build_locked(environment: Path, lock: Path) -> int:
    """Have `environment` ready; give the file descriptor of its shared lock."""
    lock_file = Path(f"{environment}.lock")
    give_up_at = time.monotonic() + 2 * BUILD_DEADLINE_S
    while time.monotonic() < give_up_at:
        held = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _is_ready(environment) and _try_lock(held, fcntl.LOCK_EX) and not _is_ready(environment):
                _build(environment, lock, held)
                _remove_old_versions(environment, lock.stem)
            # Going from exclusive to shared lets go for an instant, so look again afterwards.
            is_ours = _is_ready(environment) and _try_lock(held, fcntl.LOCK_SH)
            if is_ours and _is_ready(environment) and _same_file(held, lock_file):
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)
        # Somebody else builds (or tidies up): never queue for the lock, for who gets it keeps it.
        threading.Event().wait(_LOOK_AGAIN_S)
    raise ToolBuildFailed(
        f"Another process has been building {lock.stem} for too long.",
        remedy=f"End that process, or remove {environment}.",
        tool=lock.stem,
    )


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _build(environment: Path, lock: Path, held: int) -> None:
    telemetry.log.info("toolenv.building", tool=lock.stem, path=str(environment))
    if environment.exists():
        shutil.rmtree(environment)  # left by a build that was killed
    binary = uv.find_uv_bin()
    python = str(_base_python())
    _run_uv([binary, "venv", "--quiet", "--no-project", "--python", python, str(environment)], lock, held)
    install = [binary, "pip", "sync", "--quiet", "--require-hashes", "--python", str(_python(environment))]
    _run_uv([*install, str(lock)], lock, held)
    (environment / ".ready").touch()
    telemetry.log.info("toolenv.built", tool=lock.stem, path=str(environment))


def _run_uv(command: list[str], lock: Path, held: int) -> None:
    try:
        # The child inherits the lock: where we are killed, nobody builds in the same place
        # until the orphan has ended.
        done = subprocess.run(  # noqa: S603 - our own uv, our own arguments
            command,
            env=clean_environment(UV_SYSTEM_CERTS="1"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=BUILD_DEADLINE_S,
            pass_fds=(held,),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolOffline(
            f"Installing {lock.stem} did not end within {BUILD_DEADLINE_S:.0f} s.",
            remedy="Check the network to the package index, then try again.",
            tool=lock.stem,
        ) from error
    if done.returncode != 0:
        raise _of_output(done.stderr, lock)


def _of_output(output: str, lock: Path) -> ToolBuildFailed:
    """The error that uv's words stand for."""
    words = output.lower()
    reason = " ".join(line.strip() for line in output.strip().splitlines()[-6:])[:600]
    # An address in uv's words may carry the credentials of a private index.
    reason = re.sub(r"://[^/\s@]+@", "://***@", reason)
    if any(word in words for word in _DISK_WORDS):
        kind: type[ToolBuildFailed] = ToolDiskFull
        remedy = "Free some disk space (300 MB per program), or set FAIRLEAD_TOOLENV_DIR to a larger disk."
    elif any(word in words for word in _HASH_WORDS):
        kind, remedy = ToolHashMismatch, f"Do not use this index; else renew requirements/tools/{lock.name}."
    elif any(word in words for word in _NETWORK_WORDS):
        kind = ToolOffline
        remedy = "Connect to a package index (UV_DEFAULT_INDEX names another one), then try again."
    else:
        kind, remedy = ToolBuildFailed, f"See the reason; the set is requirements/tools/{lock.name}."
    return kind(f"Installing {lock.stem} failed: {reason}", remedy=remedy, tool=lock.stem)


def _of_os_error(error: OSError, name: str, root: Path) -> ToolBuildFailed:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ToolDiskFull(
            f"No room for the environment of {name} in {root}.",
            remedy="Free some disk space (300 MB per program), or set FAIRLEAD_TOOLENV_DIR to a larger disk.",
            tool=name,
        )
    return ToolBuildFailed(
        f"The environment of {name} cannot be kept in {root}: {error.strerror or error}.",
        remedy="Make that folder writable, or set FAIRLEAD_TOOLENV_DIR to another one.",
        tool=name,
    )


def _remove_old_versions(current: Path, name: str) -> None:
    """Remove environments of other versions of `name` that no process uses."""
    for lock_file in current.parent.glob(f"{name}-*.lock"):
        other = lock_file.with_suffix("")
        if other == current or not re.fullmatch(re.escape(name) + r"-[0-9a-f]{16}", other.name):
            continue
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not _try_lock(descriptor, fcntl.LOCK_EX):
                telemetry.log.info("toolenv.kept_in_use", path=str(other))
                continue
            (other / ".ready").unlink(missing_ok=True)  # first: half an environment must not look whole
            shutil.rmtree(other, ignore_errors=True)
            lock_file.unlink()
            telemetry.log.info("toolenv.removed", path=str(other))
        finally:
            os.close(descriptor)
