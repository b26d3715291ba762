"""The port behind which work runs elsewhere: hosts, jobs, executors. No SDK, no I/O.

A job is found again by its name, whoever asks and however often this process died in between:

    ref = await executor.submit(spec)            # the second call finds the first one's job
    status = await executor.wait(ref, deadline_s=3600, on_progress=show)
    if status.state is not JobState.SUCCEEDED: ...
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from fairlead.kernel.errors import FairleadError, InvalidInput, NotFound, Unavailable
from fairlead.kernel.resilience import OutcomeUnknown, Throttled

Stream = Literal["stdout", "stderr"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RECENT_BYTES = 4096  # of standard output, in every status
TAIL_BYTES = 256 * 1024  # most that one `tail` returns


class HostUnreachable(Unavailable):
    """No connection to the host could be made."""

    code = "cases.host_unreachable"


class HostConnectionLost(OutcomeUnknown):
    """The connection to the host broke during a command, which may or may not have run."""

    code = "cases.host_connection_lost"


class HostBusy(Throttled):
    """The host has no free session for us at the moment; nothing was done."""

    code = "cases.host_busy"


class HostKeyMismatch(FairleadError):
    """The host shows another key than the pinned one; nothing was sent to it."""

    code, status, retryable = "cases.host_key_mismatch", 502, False


class HostAuthFailed(FairleadError):
    """The host refuses our key."""

    code, status, retryable = "cases.host_auth_failed", 502, False


class HostDiskFull(FairleadError):
    """The host's disk has no room left."""

    code, status, retryable = "cases.host_disk_full", 507, False


class HostPermission(FairleadError):
    """The host's account may not do this there."""

    code, status, retryable = "cases.host_permission", 502, False


class HostCommandFailed(FairleadError):
    """A command of ours failed on the host."""

    code, status, retryable = "cases.host_command_failed", 502, False


class JobInvalid(InvalidInput):
    """The description of the job cannot be carried out safely."""

    code = "cases.job_invalid"


class JobUnknown(NotFound):
    """The host knows no such job."""

    code = "cases.job_unknown"


class JobRefused(FairleadError):
    """The scheduler refuses the job as it is described."""

    code, status, retryable = "cases.job_refused", 422, False


class JobDeadline(FairleadError):
    """The job did not end in time; it may still be running there."""

    code, status, retryable = "cases.job_deadline", 504, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job needs. Slurm enforces all of it; a plain host only the GPUs' visibility and the time."""

    gpus: int = 0  # how many; Slurm picks them
    gpu_ids: tuple[str, ...] = ()  # the leased ones (index or UUID) on a plain host: CUDA_VISIBLE_DEVICES
    cpus: int = 1
    memory_mb: int | None = None
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One program to run. Raises JobInvalid where it cannot be carried out safely.

    `name` is the job's identity: derive it from run and step, never from a patient. Arguments and
    environment reach the host quoted, never through a template; put no secret in either. Paths
    are absolute ones of the host; output goes to the job's own folder unless named here.
    """

    name: str
    argv: tuple[str, ...] = field(repr=False)  # paths may hold what belongs in no log
    working_dir: str = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdout: str | None = field(default=None, repr=False)
    stderr: str | None = field(default=None, repr=False)
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        """Refuse what could mean something else on the host."""
        check_name(self.name)
        paths = [path for path in (self.working_dir, self.stdout, self.stderr) if path is not None]
        texts = [*self.argv, *self.env.values(), *paths]
        faults = {
            "argv is empty": not self.argv or not self.argv[0],
            "a path is not absolute": any(not path.startswith("/") for path in paths),
            "a text holds a NUL character": any("\0" in text for text in texts),
            "an environment name is not a shell variable": not all(map(_VARIABLE.fullmatch, self.env)),
        }
        if found := [fault for fault, present in faults.items() if present]:
            raise JobInvalid(
                f"Job {self.name}: {'; '.join(found)}.",
                remedy="Correct the step or engine that describes it.",
            )


def check_name(name: str) -> None:
    """Raise JobInvalid where `name` is not safe as a folder, a variable's value and a Slurm job name."""
    if not NAME.fullmatch(name):
        raise JobInvalid(
            "A job's name is made of letters, digits, '.', '_' and '-' and begins with a letter or digit.",
            remedy="Derive it from the ids of run and step.",
        )


class JobState(StrEnum):
    """Where a job stands."""

    PENDING = "pending"  # accepted, not yet begun
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # exit code 0
    FAILED = "failed"  # another exit code, or killed by a signal (128 + its number)
    TIMED_OUT = "timed_out"  # its own time limit
    CANCELLED = "cancelled"
    LOST = "lost"  # gone without an exit code: killed with its supervisor, or the host restarted

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobRef:
    """Which job on which host; `name` alone is enough to find it again."""

    host: str
    name: str
    id: str  # pid and start time of a process, or Slurm's job number

    def as_json(self) -> dict[str, str]:
        """For a step's record; `JobRef(**recorded)` gives it back."""
        return {"host": self.host, "name": self.name, "id": self.id}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What is known about a job now."""

    state: JobState
    exit_code: int | None = None
    reason: str = ""  # in the host's or scheduler's words
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    recent: str = field(default="", repr=False)  # end of standard output, at most RECENT_BYTES


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a job's output, and where the next part begins."""

    data: bytes = field(repr=False)
    next_offset: int


OnProgress = Callable[[JobStatus], Awaitable[None]]


class Executor(Protocol):
    """A place where jobs run. All of it can be repeated; Unavailable means: try again."""

    @property
    def host_name(self) -> str:
        """Which host, as the settings call it."""

    async def submit(self, spec: JobSpec) -> JobRef:
        """Start the job, or find the one of this name, finished or cancelled ones included."""

    async def find(self, name: str) -> JobRef | None:
        """The job of this name, finished ones included."""

    async def status(self, ref: JobRef) -> JobStatus:
        """Where it stands. Raises JobUnknown."""

    async def wait(self, ref: JobRef, deadline_s: float, on_progress: OnProgress | None = None) -> JobStatus:
        """Its final status, through lost connections; `on_progress` sees every status on the way.

        Raises JobDeadline after `deadline_s` seconds (the job goes on: cancel it), JobUnknown.
        """

    async def cancel(self, ref: JobRef) -> JobStatus:
        """Stop it and all it started; the final status. A finished job keeps its own."""

    async def tail(self, ref: JobRef, stream: Stream, from_offset: int = 0) -> Chunk:
        """Output from byte `from_offset` on, at most TAIL_BYTES; empty where there is no more yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script on a host answered."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


OnBytes = Callable[[int], None]  # how many more bytes have arrived


class Files(Protocol):
    """Copies between this machine and a host. Paths there are absolute bytes; errors are Host… ones."""

    async def upload(self, source: Path, target: bytes, *, offset: int, size: int, on_bytes: OnBytes) -> None:
        """Write bytes `offset` to `size` of `source` into `target`, which is cut to `offset` first.

        Bytes arrive in order, so that what is there after an interruption is a prefix.
        """

    async def download(
        self, source: bytes, target: Path, *, offset: int, size: int, on_bytes: OnBytes
    ) -> None:
        """The other way round, with the same promise."""

    async def rename(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Each old name to its new one, over what is there, atomically one by one."""


class Host(Protocol):
    """A machine that runs shell scripts and keeps files: this one, or one over SSH."""

    @property
    def name(self) -> str:
        """What the settings call it."""

    @property
    def root(self) -> str:
        """Absolute folder there that is ours."""

    async def sh(self, script: str, *, deadline_s: float = 30.0) -> Answer:
        """Run a POSIX shell script, given through standard input and so in no process title.

        It must bear repetition: it is sent again where a connection broke. Raises Host… errors,
        never for an exit code.
        """

    def files(self) -> AbstractAsyncContextManager[Files]:
        """For the length of one transfer."""
