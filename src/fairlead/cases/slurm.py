"""Jobs in a Slurm cluster, through a host that has sbatch, squeue, sacct and scancel.

The host's `root` must lie on a file system that the compute nodes share: a job's folder (see `detached`)
holds its output and, once it has ended by itself, its exit code. So a finished job is known even where the
cluster keeps no accounting; sacct is asked for those that were ended from outside.
"""

import hashlib
import math
import re
import shlex
from dataclasses import dataclass

from fairlead.cases import detached
from fairlead.cases.detached import PREPARE, REPORT, UNKNOWN, block, checked, outputs, parse_report
from fairlead.cases.jobs import (
    Answer,
    Chunk,
    Host,
    HostCommandFailed,
    JobRef,
    JobRefused,
    JobSpec,
    JobState,
    JobStatus,
    JobUnknown,
    OnProgress,
    Stream,
)
from fairlead.kernel import resilience, telemetry
from fairlead.kernel.errors import Unavailable
from fairlead.kernel.resilience import Guard, Policy

_AWAY, _REFUSED = 76, 77  # exit codes of our scripts
_POLICY = Policy(
    deadline_s=120.0, attempts=4, wait_initial_s=0.3, wait_max_s=2.0, failures_to_open=8, rest_s=2.0
)
GONE_TRIES = 150  # · 0.2 s: how long a cancelled job may take to leave the queue
_SAFE = re.compile(r"[A-Za-z0-9._:,=@+-]+")


class SlurmUnavailable(Unavailable):
    """Slurm's controller does not answer; running jobs go on without it."""

    code = "cases.slurm_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmOptions:
    """What a site's cluster wants to be told with every job."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpu_resource: str = "gpu"  # as in --gres=gpu:1, or gpu:a100

    def __post_init__(self) -> None:
        """Refuse what sbatch could take for something else."""
        for value in (self.partition, self.account, self.qos, self.gpu_resource):
            if value is not None and (not _SAFE.fullmatch(value) or value.startswith("-")):
                raise JobRefused(
                    f"{value!r} is no name that Slurm uses.", remedy="Correct the host's settings."
                )


# Clients wait for minutes for a controller that is away; ours ask again by themselves.
_CLIENT = """
ask() {
  said=$(timeout 15 "$@" 2>"$dir/said.$$")
  case $? in
    0) rm -f "$dir/said.$$"; return 0;;
    124) away=1;;
    *) away=; cat "$dir/said.$$" >&2;;
  esac
  # A controller that dies in the middle of a question leaves half an answer, or none.
  grep -qiE 'unable to contact|connection (refused|timed out|failure|reset)|socket timed out|communications' \
    "$dir/said.$$" && away=1
  grep -qiE 'zero bytes|broken pipe|(receive|send) failure|not connected' "$dir/said.$$" && away=1
  rm -f "$dir/said.$$"
  [ -n "$away" ] && [ ! -e "$dir/rc" ] && exit 76
  return 1
}
# past FIELD VALUE: what accounting knows of a job (id|name|state|exit). The database where there is one, else
# the file that jobcomp/filetxt keeps, for which sacct leaves filtering to us.
past() {
  for source in -X -c; do
    ask sacct $source -n -P -S now-30days -o jobid,jobname,state,exitcode 2>/dev/null || continue
    said=$(echo "$said" | awk -F"|" -v n="$1" -v v="$2" '$n == v { last = $0 } END { if (last) print last }')
    [ -n "$said" ] && return 0
  done
  said=
}
"""

# A crash between sbatch and the file `slurm` leaves a job that is found again by its name.
_SUBMIT = """
if [ ! -s slurm ] && [ ! -e cancelled ]; then
  {outputs}
  ask squeue -h -t all --name={queued} -o %A || exit 77
  id=$(echo "$said" | head -n 1)
  if [ -z "$id" ]; then
    past 2 {queued}
    id=${{said%%|*}}
  fi
  if [ -z "$id" ]; then
    printf %s {supervisor} >run.sh && [ -s run.sh ] || give_up
    ask sbatch --parsable {flags} "$dir/run.sh" || exit 77
    id=${{said%%;*}}
  fi
  echo "$id" >slurm.tmp && mv -f slurm.tmp slurm || give_up
fi
cat slurm 2>/dev/null
:
"""

# `rc` is read after the queue: who is not in the queue any more has written it, or never will. Where a
# signal ended the program, Slurm knows who sent it.
_STATUS = """
cd -- "$dir" 2>/dev/null || exit {unknown}
[ -s slurm ] || [ -e cancelled ] || exit {unknown}
id=$(cat slurm 2>/dev/null); alive=0; said=
if [ -n "$id" ] && {{ [ ! -e rc ] || grep -qxE '137|143' rc; }}; then
  ask squeue -h -t all -j "$id" -o '%T||%r' 2>/dev/null || said=
  [ -n "$said" ] || {{ past 1 "$id"; said=$(echo "$said" | cut -d '|' -f 3-); }}
fi
slurm=$(echo "$said" | head -n 1)
"""

_CANCEL = """
cd -- "$dir" 2>/dev/null || exit {unknown}
exec 9>>lock && flock -w 20 9 || exit 75
[ -e rc ] || : >cancelled || give_up
exec 9>&-
id=$(cat slurm 2>/dev/null)
[ -n "$id" ] || exit 0
ask scancel --full "$id" 2>/dev/null
tries={tries}
while [ "$tries" -gt 0 ]; do
  ask squeue -h -t all -j "$id" -o %T 2>/dev/null || exit 0
  case "$said" in *PENDING*|*RUNNING*|*COMPLETING*|*SUSPENDED*|*CONFIGURING*|*STAGE_OUT*) ;; *) exit 0;; esac
  tries=$((tries - 1)); sleep 0.2
done
exit 70
"""

_STATES = {
    "PENDING": JobState.PENDING,
    "CONFIGURING": JobState.PENDING,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "SPECIAL_EXIT": JobState.PENDING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "COMPLETED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "OUT_OF_MEMORY": JobState.FAILED,
    "TIMEOUT": JobState.TIMED_OUT,
    "DEADLINE": JobState.TIMED_OUT,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "NODE_FAIL": JobState.LOST,
    "BOOT_FAIL": JobState.LOST,
    "PREEMPTED": JobState.LOST,
}
_SIGNALLED = (137, 143)


def _is_decided(exit_code: int | None, state: JobState) -> bool:
    """Whether a program's own exit code says how it ended, whatever state Slurm reports.

    Where a signal ended it, Slurm knows who sent that, though it takes a moment to say so.
    """
    if exit_code is None:
        return False
    from_outside = state in (JobState.TIMED_OUT, JobState.CANCELLED) or not state.is_final
    return not (exit_code in _SIGNALLED and from_outside)


def state_of(record: str) -> JobState | None:
    """The state in `STATE|exit|…` as squeue and sacct print it ("CANCELLED by 0"); None where empty."""
    words = record.split("|", 1)[0].split()
    if not words:
        return None
    return _STATES.get(words[0].rstrip("+").upper(), JobState.RUNNING)


def exit_code_of(record: str) -> int | None:
    """The exit code in `STATE|code:signal`; 128 + signal where one ended the job."""
    parts = record.split("|")
    if len(parts) < 2 or not re.fullmatch(r"\d+:\d+", parts[1]):
        return None
    code, number = map(int, parts[1].split(":"))
    return 128 + number if number else code


def flags(spec: JobSpec, folder: str, options: SlurmOptions) -> list[str]:
    """What sbatch is told about `spec`."""
    resources = spec.resources
    gpus = resources.gpus or len(resources.gpu_ids)
    limit_s = resources.time_limit_s
    chosen = {
        "--job-name": name_in_queue(spec.name, folder),
        "--chdir": folder,
        "--output": "/dev/null",  # our supervisor writes the program's own files
        "--export": "PATH,HOME,USER,LANG",
        "--cpus-per-task": str(resources.cpus),
        "--gres": f"{options.gpu_resource}:{gpus}" if gpus else None,
        "--mem": f"{resources.memory_mb}M" if resources.memory_mb else None,
        "--time": duration(limit_s) if limit_s else None,
        "--partition": options.partition,
        "--account": options.account,
        "--qos": options.qos,
    }
    return ["--no-requeue", *(f"{flag}={value}" for flag, value in chosen.items() if value is not None)]


def name_in_queue(name: str, folder: str) -> str:
    """What the cluster calls a job: another Fairlead that uses it may have a job of the same name."""
    return f"{name}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


def duration(seconds: float) -> str:
    """As Slurm writes it: days-hours:minutes:seconds."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{rest:02}"


class SlurmExecutor:
    """Runs jobs through Slurm; see `jobs.Executor`."""

    def __init__(self, host: Host, options: SlurmOptions | None = None) -> None:
        self._host = host
        self._options = options or SlurmOptions()
        self._guard = Guard("cases.slurm", _POLICY)

    @property
    def host_name(self) -> str:
        """Which host."""
        return self._host.name

    async def submit(self, spec: JobSpec) -> JobRef:
        """See `jobs.Executor`. Raises JobRefused where the cluster can never run it."""
        folder = detached.job_folder(self._host, spec.name)
        script = _SUBMIT.format(
            outputs=outputs(spec),
            queued=shlex.quote(name_in_queue(spec.name, folder)),
            supervisor=shlex.quote(detached.supervisor(self._host, spec, identify=False, limited=False)),
            flags=shlex.join(flags(spec, folder, self._options)),
        )
        answer = await self._ask(spec.name, PREPARE, 'cd -- "$dir" || give_up\n', _CLIENT, script)
        id_ = answer.stdout.decode().strip()
        telemetry.log.info("job.submitted", host=self._host.name, job=spec.name, slurm_job=id_)
        return JobRef(self._host.name, spec.name, id_)

    async def find(self, name: str) -> JobRef | None:
        """See `jobs.Executor`."""
        script = f'cat -- "$dir/slurm" 2>/dev/null || [ -e "$dir/cancelled" ] || exit {UNKNOWN}\n'
        try:
            answer = await self._ask(name, script)
        except JobUnknown:
            return None
        return JobRef(self._host.name, name, answer.stdout.decode().strip())

    async def status(self, ref: JobRef) -> JobStatus:
        """See `jobs.Executor`."""
        answer = await self._ask(
            ref.name, _CLIENT, _STATUS.format(unknown=UNKNOWN), 'echo "slurm=$slurm"\n', REPORT
        )
        report = parse_report(answer.stdout)
        record = report.fields.get("slurm", "")
        state = state_of(record)
        if state is None or _is_decided(report.facts.exit_code, state):
            return report.status()
        if state is JobState.SUCCEEDED:
            # It ended well and yet its supervisor wrote nothing: a full disk, or a folder that is not shared.
            state = JobState.LOST
        code = exit_code_of(record) if state.is_final else None
        return report.status(state, exit_code=code, reason=record.split("|")[-1].strip())

    async def wait(self, ref: JobRef, deadline_s: float, on_progress: OnProgress | None = None) -> JobStatus:
        """See `jobs.Executor`."""
        return await detached.wait_final(lambda: self.status(ref), ref, deadline_s, on_progress)

    async def cancel(self, ref: JobRef) -> JobStatus:
        """See `jobs.Executor`."""
        await self._ask(ref.name, _CLIENT, _CANCEL.format(unknown=UNKNOWN, tries=GONE_TRIES))
        telemetry.log.info("job.cancelled", host=self._host.name, job=ref.name)
        return await self.status(ref)

    async def tail(self, ref: JobRef, stream: Stream, from_offset: int = 0) -> Chunk:
        """See `jobs.Executor`."""
        return await detached.read_tail(self._host, ref, stream, from_offset)

    async def _ask(self, name: str, *parts: str) -> Answer:
        """Run a script that may be repeated; asks again while the controller is away."""
        script = block(self._host, name, *parts)

        async def attempt() -> Answer:
            answer = await self._host.sh(script, deadline_s=90.0)
            return self._checked(name, answer)

        return await resilience.call(self._guard, attempt, safe_to_retry=True)

    def _checked(self, name: str, answer: Answer) -> Answer:
        said = " ".join(answer.stderr.decode("utf-8", "replace").split())[:300]
        if answer.exit_code == _AWAY:
            raise SlurmUnavailable(
                f"Slurm's controller does not answer host {self._host.name}: {said}",
                remedy="Look at slurmctld there; running jobs go on without it.",
                host=self._host.name,
            )
        if answer.exit_code == _REFUSED:
            raise JobRefused(
                f"Slurm refuses job {name}: {said}",
                remedy="Compare what the job asks for with the partition's limits.",
                host=self._host.name,
                job=name,
            )
        if answer.exit_code == 70:
            raise HostCommandFailed(
                f"Job {name} has not left Slurm's queue after scancel.",
                remedy="See KillWait and UnkillableStepTimeout of the cluster.",
                host=self._host.name,
            )
        return checked(self._host, name, answer)
