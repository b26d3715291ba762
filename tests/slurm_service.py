"""A real Slurm (munged, slurmctld, slurmd) on loopback for any suite: Debian's packages slurm-wlm and munge.

    with start_slurm(tmp_path) as slurm:
        with start_sshd(tmp_path, variables={"SLURM_CONF": str(slurm.conf)}) as server: ...

Runs under the account of the tests, without systemd; started and stopped by pid. Without the packages it
skips loudly, and fails where CI=true.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.services import free_port, missing

START_S = 90.0
GPUS = 4


@dataclass
class Slurm:
    """A running cluster of one node."""

    folder: Path
    gpus: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def start(self, name: str, *arguments: str | Path) -> None:
        """Start one daemon in the foreground."""
        binary = _binary(name)
        assert binary is not None
        with (self.folder / f"{name}.out").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [binary, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )

    def start_controller(self) -> None:
        self.start("slurmctld", "-D", "-f", self.conf)

    def kill_controller(self) -> None:
        """kill -9 slurmctld."""
        self.stop("slurmctld", signal.SIGKILL)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        process = self.processes.pop(name, None)
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=30)

    def command(self, *argv: str) -> str:
        """What a Slurm client prints."""
        done = subprocess.run(argv, env=self.environment(), capture_output=True, text=True, timeout=90)
        return done.stdout + done.stderr

    def kill_rest(self) -> None:
        """kill -9 what the daemons started and left: supervisors of steps, and programs of jobs."""
        marker = f"SLURM_CONF={self.conf}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if marker in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def await_idle(self) -> None:
        """Return once the node takes jobs."""
        deadline = time.monotonic() + START_S
        while "idle" not in self.command("sinfo", "-h", "-o", "%t"):
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name}: {self.logs()}"
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def logs(self) -> str:
        """The ends of all logs."""
        names = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in names)


def _binary(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _gpu_devices(folder: Path) -> list[Path]:
    """Character devices that stand for GPUs; empty where this account may not make any."""
    devices = [folder / f"gpu{number}" for number in range(GPUS)]
    try:
        for number, device in enumerate(devices):
            os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(240, number))
    except PermissionError:
        return []
    return devices


def _write_files(folder: Path, gpus: int) -> None:
    user = getpass.getuser()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    host = socket.gethostname().split(".")[0]
    gres = f"Gres=gpu:{gpus}" if gpus else ""
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{gpus - 1}]\n" if gpus else "")
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    (folder / "slurm.conf").write_text(f"""
ClusterName=fairlead
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
SlurmdParameters=config_overrides
MessageTimeout=2
KillWait=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=2000 {gres} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
""")


@contextmanager
def start_slurm(folder: Path) -> Iterator[Slurm]:
    """A cluster of one node with its files in `folder`, ready for jobs."""
    for name in ("slurmctld", "slurmd", "munged", "sbatch"):
        if _binary(name) is None:
            missing(f"Slurm ({name} of the packages slurm-wlm and munge)")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    slurm = Slurm(folder, len(_gpu_devices(folder)))
    _write_files(folder, slurm.gpus)
    try:
        files = [f"--{name}={folder}/munge.{end}" for name, end in MUNGE_FILES.items()]
        slurm.start("munged", "--foreground", "--force", *files)
        slurm.start_controller()
        slurm.start("slurmd", "-D", "-f", slurm.conf)
        slurm.await_idle()
        yield slurm
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            slurm.command("scancel", "--full", "--state=RUNNING", "--state=PENDING", "-u", getpass.getuser())
        for name in ("slurmd", "slurmctld", "munged"):
            slurm.stop(name, signal.SIGKILL)  # at once; nothing here is to be kept
        slurm.kill_rest()


MUNGE_FILES = {
    "key-file": "key",
    "socket": "socket",
    "pid-file": "pid",
    "log-file": "log",
    "seed-file": "seed",
}
