"""Jobs as detached processes on a host: they survive our death and that of the connection.

Every job has a folder `<root>/jobs/<name>` on its host:

    .fairlead-owner   the job's name: this folder is ours
    lock              held by whoever starts or cancels
    run.sh            the supervisor: writes `pid`, runs the program, writes `rc`
    pid               process, start time and boot id of the supervisor: together never used twice
    stdout, stderr    of the program (links, where the job names files of its own)
    rc                its exit code; renamed into place, so whole or missing
    cancelled         somebody asked for its end
    timed_out         its time limit ended it

All scripts may be repeated at any point. The lock passes from submitter to supervisor, so there is no
moment in which a second submitter could start a second process.
"""

import asyncio
import math
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fairlead.cases.ends import Ends
from fairlead.cases.jobs import (
    RECENT_BYTES,
    TAIL_BYTES,
    Answer,
    Chunk,
    Host,
    HostCommandFailed,
    HostDiskFull,
    HostPermission,
    JobDeadline,
    JobRef,
    JobSpec,
    JobState,
    JobStatus,
    JobUnknown,
    OnProgress,
    Stream,
    check_name,
)
from fairlead.kernel import telemetry
from fairlead.kernel.errors import Unavailable

GRACE_S = 5.0  # between SIGTERM and SIGKILL
POLL_FIRST_S, POLL_MOST_S = 0.05, 1.0
POLL_WOKEN_S = 1.0  # the first pause of whoever is woken when the job ends
OWNER = ".fairlead-owner"
UNKNOWN = 4  # exit code of our scripts: there is no such job
OUR_VARIABLE = "FAIRLEAD_JOB"  # a folder: another Fairlead there may have a job of the same name

_HEAD = """umask 077
dir={folder}
name={name}
"""

# Some shells' printf says "I/O error" where the disk is full.
_GIVE_UP = """
give_up() {
  df -Pk -- "${dir%/jobs/*}" | awk 'NR == 2 && $4 < 64 { print "No space left" }' >&2
  exit 73
}
"""

# The supervisor outlives SIGTERM (a trap is not inherited, unlike an ignored signal), so that it can still
# record how the program ended. `timeout` asks first and kills 5 s later.
_SUPERVISOR = """
export {variable}="$dir"
trap : TERM INT HUP
exec 2>"$dir/reason"
{exports}
read -r began _ </proc/uptime  # unlike the date, nobody sets it
if [ -e "$dir/cancelled" ]; then
  rc=143
elif cd -- {working_dir}; then
  {{ {command}; }} >"$dir/stdout" 2>"$dir/stderr" </dev/null
  rc=$?
else
  rc=126
fi
# What the program left behind ends with it, and gives up its GPU.
for _ in 1 2; do
  for left in $(grep -lszxF "{variable}=$dir" /proc/[0-9]*/environ | cut -d/ -f3); do
    [ "$left" = $$ ] || kill -s KILL "$left" 2>/dev/null
  done
done
read -r ended _ </proc/uptime
if [ {limit_s} -gt 0 ] && [ $((${{ended%.*}} - ${{began%.*}})) -ge {limit_s} ]; then
  case $rc in 124|137) : >"$dir/timed_out";; esac
fi
echo "$rc" >"$dir/rc.tmp" && mv -f -- "$dir/rc.tmp" "$dir/rc"
exit "$rc"
"""

_IDENTIFY = """
read -r stat </proc/$$/stat
set -- ${stat##*) }
shift 19
read -r boot </proc/sys/kernel/random/boot_id
echo "$$ $1 $boot" >"$dir/pid.tmp" && mv -f -- "$dir/pid.tmp" "$dir/pid" || exit 1
echo "$$ $1 $boot"
exec 9>&- >/dev/null
"""

PREPARE = f"""
mkdir -p -- "$dir" && printf %s "$name" >"$dir/{OWNER}" && exec 9>>"$dir/lock" || give_up
flock -w 20 9 || exit 75
"""

_START = """
if [ ! -s "$dir/pid" ] && [ ! -e "$dir/cancelled" ]; then
  {outputs}
  printf %s {supervisor} >"$dir/run.sh" && [ -s "$dir/run.sh" ] || give_up
  ( env {variable}="$dir" setsid sh "$dir/run.sh" </dev/null 2>/dev/null & ) | head -n 1
fi
[ -s "$dir/pid" ] || [ -e "$dir/cancelled" ] || give_up
"""

# Dead is looked at before `rc`: whoever is dead then has written it, or never will.
_STATUS = """
cd -- "$dir" 2>/dev/null || exit {unknown}
[ -s pid ] || [ -e cancelled ] || exit {unknown}
alive=0
if [ -s pid ] && [ ! -e rc ]; then
  read -r pid start boot <pid
  read -r now </proc/sys/kernel/random/boot_id
  if [ "$boot" = "$now" ] && read -r stat 2>/dev/null </proc/"$pid"/stat; then
    set -- ${{stat##*) }}
    [ "$1" != Z ] && shift 19 && [ "$1" = "$start" ] && alive=1
  fi
fi
"""

REPORT = """
rc=; [ -e rc ] && rc=$(cat rc)
cancelled=0; [ -e cancelled ] && cancelled=1
timed_out=0; [ -e timed_out ] && timed_out=1
out=$(stat -Lc %s stdout 2>/dev/null || echo 0)
err=$(stat -Lc %s stderr 2>/dev/null || echo 0)
reason=$(head -c 300 reason 2>/dev/null | tr '\\n' ' ')
id=$(cat pid 2>/dev/null | tr ' ' :)
echo "rc=$rc"; echo "alive=$alive"; echo "cancelled=$cancelled"; echo "timed_out=$timed_out"
echo "stdout=$out"; echo "stderr=$err"; echo "id=$id"; echo "reason=$reason"; echo
tail -c RECENT stdout 2>/dev/null
:
""".replace("RECENT", str(RECENT_BYTES))


# Whatever the job started has the variable in its environment, whichever session or group it moved to.
_STOP = """
marked() {{
  grep -lszxF "{variable}=$dir" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
}}
sweep() {{
  tries=$2
  while pids=$(marked) && [ -n "$pids" ] && [ "$tries" -gt 0 ]; do
    kill -s "$1" $pids 2>/dev/null
    tries=$((tries - 1)); sleep 0.05
  done
  [ -z "$(marked)" ]
}}
sweep TERM {tries} || sweep KILL 100 || exit 70
"""

_CANCEL = """
cd -- "$dir" 2>/dev/null || exit {unknown}
exec 9>>lock && flock -w 20 9 || exit 75
[ -e rc ] || : >cancelled || give_up
exec 9>&-
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a job's folder and the process table say."""

    exit_code: int | None
    alive: bool
    cancelled: bool
    timed_out: bool


def state_of(facts: Facts) -> JobState:
    """What the facts mean."""
    match facts:
        case Facts(exit_code=0):
            return JobState.SUCCEEDED
        case Facts(exit_code=None, alive=True):
            return JobState.RUNNING
        case Facts(cancelled=True):
            return JobState.CANCELLED
        case Facts(exit_code=None):
            return JobState.LOST
        case Facts(timed_out=True):
            return JobState.TIMED_OUT
    return JobState.FAILED


def job_folder(host: Host, name: str) -> str:
    """Where the job's files lie on its host. Raises JobInvalid."""
    check_name(name)
    return f"{host.root.rstrip('/')}/jobs/{name}"


def block(host: Host, name: str, *parts: str) -> str:
    """A script about one job; the shell reads all of it before it begins, whoever eats its input."""
    head = _HEAD.format(folder=shlex.quote(job_folder(host, name)), name=shlex.quote(name))
    return "{\n" + head + _GIVE_UP + "".join(parts) + "exit\n}\n"


def outputs(spec: JobSpec) -> str:
    """Script: the links to output files that the job names itself."""
    wanted = {"stdout": spec.stdout, "stderr": spec.stderr}
    lines = [
        f'ln -sfn -- {shlex.quote(path)} "$dir/{stream}" || give_up'
        for stream, path in wanted.items()
        if path is not None
    ]
    return "\n  ".join([*lines, ":"])


def supervisor(host: Host, spec: JobSpec, *, identify: bool, limited: bool) -> str:
    """The program that runs the job and records its end."""
    resources = spec.resources
    variables = dict(spec.env)
    if resources.gpu_ids:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(resources.gpu_ids)
    limit_s = math.ceil(resources.time_limit_s or 0) if limited else 0
    command = shlex.join(spec.argv)
    if limit_s:
        command = f"timeout -k 5 {limit_s} {command}"
    body = _SUPERVISOR.format(
        variable=OUR_VARIABLE,
        exports="\n".join(f"export {key}={shlex.quote(value)}" for key, value in variables.items()),
        working_dir=shlex.quote(spec.working_dir),
        command=command,
        limit_s=limit_s,
    )
    head = _HEAD.format(folder=shlex.quote(job_folder(host, spec.name)), name=shlex.quote(spec.name))
    return "#!/bin/sh\n" + head + (_IDENTIFY if identify else "") + body


def checked(host: Host, name: str, answer: Answer) -> Answer:
    """`answer`, or the error that its exit code stands for."""
    if answer.exit_code == 0:
        return answer
    if answer.exit_code == UNKNOWN:
        raise JobUnknown(
            f"Host {host.name} knows no job {name}.", remedy="Submit it.", host=host.name, job=name
        )
    said = answer.stderr.decode("utf-8", "replace")
    if "No space left" in said or "quota exceeded" in said.lower():
        raise HostDiskFull(
            f"The disk of host {host.name} is full.", remedy="Make room there, then retry.", host=host.name
        )
    if "Permission denied" in said or "Read-only file system" in said:
        raise HostPermission(
            f"The account on host {host.name} may not write in {host.root}.",
            remedy="Check owner and mode of that folder.",
            host=host.name,
        )
    raise HostCommandFailed(
        f"Host {host.name} failed to handle job {name} (exit {answer.exit_code}): {said.strip()[:300]}",
        remedy="The host needs sh, flock, setsid, timeout, grep and GNU coreutils.",
        host=host.name,
        job=name,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """A parsed answer of REPORT."""

    facts: Facts
    id: str
    reason: str
    stdout_bytes: int
    stderr_bytes: int
    recent: str
    fields: Mapping[str, str]

    def status(
        self, state: JobState | None = None, *, exit_code: int | None = None, reason: str = ""
    ) -> JobStatus:
        """As the port gives it; `state`, `exit_code` and `reason` where somebody knows better."""
        return JobStatus(
            state=state or state_of(self.facts),
            exit_code=self.facts.exit_code if exit_code is None else exit_code,
            reason=reason or self.reason,
            stdout_bytes=self.stdout_bytes,
            stderr_bytes=self.stderr_bytes,
            recent=self.recent,
        )


def parse_report(output: bytes) -> Report:
    """What REPORT printed."""
    head, _, recent = output.partition(b"\n\n")
    fields = dict(line.split("=", 1) for line in head.decode("utf-8", "replace").splitlines() if "=" in line)
    code = fields.get("rc", "")
    return Report(
        facts=Facts(
            exit_code=int(code) if code else None,
            alive=fields.get("alive") == "1",
            cancelled=fields.get("cancelled") == "1",
            timed_out=fields.get("timed_out") == "1",
        ),
        id=fields.get("id", ""),
        reason=fields.get("reason", "").strip(),
        stdout_bytes=int(fields.get("stdout") or 0),
        stderr_bytes=int(fields.get("stderr") or 0),
        recent=recent.decode("utf-8", "replace"),
        fields=fields,
    )


async def read_tail(host: Host, ref: JobRef, stream: Stream, from_offset: int) -> Chunk:
    """Output of a job from a byte on."""
    script = block(
        host,
        ref.name,
        f'cd -- "$dir" 2>/dev/null || exit {UNKNOWN}\n',
        f"[ -e {stream} ] || exit 0\n",
        f"tail -c +{int(from_offset) + 1} {stream} | head -c {TAIL_BYTES}\n",
    )
    data = checked(host, ref.name, await host.sh(script)).stdout
    return Chunk(data, from_offset + len(data))


async def wait_final(
    look: Callable[[], Awaitable[JobStatus]],
    ref: JobRef,
    deadline_s: float,
    on_progress: OnProgress | None,
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    first_s: float = POLL_FIRST_S,
) -> JobStatus:
    """Ask `look` until the job has ended; a host that is away is waited for.

    `pause` is how to wait for the next look, the first time for `first_s`; it may return early.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    pause_s = first_s
    while True:
        rest = pause
        try:
            status = await look()
        except Unavailable as error:
            rest = asyncio.sleep
            telemetry.log.warning("job.host_away", host=ref.host, job=ref.name, code=error.code)
        else:
            if on_progress is not None:
                await on_progress(status)
            if status.state.is_final:
                return status
        left_s = end - loop.time()
        if left_s <= 0:
            raise JobDeadline(
                f"Job {ref.name} on host {ref.host} did not end within {deadline_s:g} s.",
                remedy="Cancel it, or give it longer.",
                host=ref.host,
                job=ref.name,
            )
        await rest(min(pause_s, left_s))
        pause_s = min(1.3 * pause_s, POLL_MOST_S)


class DetachedExecutor:
    """Runs jobs as processes of a host, local or over SSH; see `jobs.Executor`."""

    def __init__(self, host: Host, *, grace_s: float = GRACE_S) -> None:
        self._host = host
        self._grace_s = grace_s
        self._ends = Ends(host)

    @property
    def host_name(self) -> str:
        """Which host."""
        return self._host.name

    async def submit(self, spec: JobSpec) -> JobRef:
        """See `jobs.Executor`."""
        start = _START.format(
            outputs=outputs(spec),
            supervisor=shlex.quote(supervisor(self._host, spec, identify=True, limited=True)),
            variable=OUR_VARIABLE,
        )
        script = block(self._host, spec.name, PREPARE, start, 'tr " " : <"$dir/pid" 2>/dev/null\n:\n')
        answer = checked(self._host, spec.name, await self._host.sh(script, deadline_s=45.0))
        lines = answer.stdout.decode().split("\n")
        found = next((line for line in reversed(lines) if ":" in line), "")
        telemetry.log.info("job.submitted", host=self._host.name, job=spec.name)
        return JobRef(self._host.name, spec.name, found)

    async def find(self, name: str) -> JobRef | None:
        """See `jobs.Executor`."""
        try:
            report = await self._report(name)
        except JobUnknown:
            return None
        return JobRef(self._host.name, name, report.id)

    async def status(self, ref: JobRef) -> JobStatus:
        """See `jobs.Executor`."""
        return (await self._report(ref.name)).status()

    async def wait(self, ref: JobRef, deadline_s: float, on_progress: OnProgress | None = None) -> JobStatus:
        """See `jobs.Executor`."""
        status = await wait_final(
            lambda: self.status(ref), ref, deadline_s, on_progress,
            pause=lambda pause_s: self._ends.wait(ref.name, pause_s), first_s=POLL_WOKEN_S,
        )  # fmt: skip
        if status.state is JobState.LOST:
            await self._stop(ref)  # its supervisor is gone, what it started may not be
        return status

    async def cancel(self, ref: JobRef) -> JobStatus:
        """See `jobs.Executor`."""
        script = block(self._host, ref.name, _CANCEL.format(unknown=UNKNOWN))
        checked(self._host, ref.name, await self._host.sh(script))
        await self._stop(ref)
        telemetry.log.info("job.cancelled", host=self._host.name, job=ref.name)
        return await self.status(ref)

    async def tail(self, ref: JobRef, stream: Stream, from_offset: int = 0) -> Chunk:
        """See `jobs.Executor`."""
        return await read_tail(self._host, ref, stream, from_offset)

    async def _report(self, name: str) -> Report:
        script = block(self._host, name, _STATUS.format(unknown=UNKNOWN), REPORT)
        return parse_report(checked(self._host, name, await self._host.sh(script)).stdout)

    async def _stop(self, ref: JobRef) -> None:
        tries = max(1, int(self._grace_s / 0.05))
        script = block(self._host, ref.name, _STOP.format(variable=OUR_VARIABLE, tries=tries))
        checked(self._host, ref.name, await self._host.sh(script, deadline_s=self._grace_s + 30.0))
