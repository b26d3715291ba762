"""The hosts that calculate doses, opened from the settings, and what each can hold."""

import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fairlead.cases.detached import DetachedExecutor
from fairlead.cases.gpus import Gpu, HostState, Slots, discover
from fairlead.cases.jobs import Executor, Host
from fairlead.cases.local import LocalHost
from fairlead.cases.store import HostRecord
from fairlead.kernel.errors import SettingsInvalid
from fairlead.kernel.settings import CaseHostSettings, CasesSettings

LOOK_S = 15.0  # how long a host may take to answer a look


class HostInvalid(SettingsInvalid):
    """The settings of a host that calculates doses cannot be used."""

    code = "cases.host_invalid"


@dataclass(frozen=True, slots=True)
class Place:
    """One host: where files go, and where jobs run."""

    about: CaseHostSettings
    host: Host
    executor: Executor

    @property
    def leases_gpus(self) -> bool:
        """Whether we choose the GPUs of a job; under Slurm the cluster does."""
        return self.about.gpus > 0 and self.about.executor != "slurm"

    def slots(self, found: Sequence[str], state: HostState) -> Slots:
        """What the host can hold; `found` are the ids of its GPUs."""
        if self.leases_gpus:
            return Slots(host=self.about.name, gpus=tuple(found), state=state)
        return Slots(host=self.about.name, cpu_jobs=self.about.slots, state=state)


def names(about: CaseHostSettings, known: HostRecord | None) -> list[str]:
    """What the host's places are called: its GPUs as last seen where they are leased, else its slots."""
    if about.gpus and about.executor != "slurm":
        return [str(gpu["uuid"]) for gpu in known.gpus] if known else []
    return [f"cpu-{number}" for number in range(about.slots)]


async def look(place: Place) -> tuple[Gpu, ...] | None:
    """Ask the host whether it works, and its cluster too; its GPUs where we lease them, else None.

    Raises Host… errors and SlurmUnavailable.
    """
    if place.leases_gpus:
        return await discover(place.host)
    if place.about.executor == "slurm":
        answer = await place.host.sh("timeout 10 sinfo -h -o %P >/dev/null", deadline_s=LOOK_S)
        if answer.exit_code != 0:
            from fairlead.cases.slurm import SlurmUnavailable

            raise SlurmUnavailable(
                f"Slurm's controller does not answer host {place.about.name}.",
                remedy="Look at slurmctld there; running jobs go on without it.",
                host=place.about.name,
            )
    else:
        await place.host.sh(":", deadline_s=LOOK_S)
    return None


def host_settings(settings: CasesSettings, data_dir: Path) -> tuple[CaseHostSettings, ...]:
    """The hosts of the settings; this machine, with two places, where none is named."""
    if settings.hosts:
        return settings.hosts
    here = str((data_dir / "cases" / "host").absolute())
    return (CaseHostSettings(name="local", work_dir=here, python=sys.executable, slots=2),)


@asynccontextmanager
async def open_places(hosts: Iterable[CaseHostSettings]) -> AsyncIterator[Mapping[str, Place]]:
    """Every host by name; connections are made when first needed. Raises HostInvalid."""
    async with AsyncExitStack() as stack:
        opened: dict[str, Place] = {}
        for about in hosts:
            if about.name in opened:
                raise HostInvalid(f"Two hosts are called {about.name}.", remedy="Correct cases.hosts.")
            opened[about.name] = await _open(about, stack)
        yield opened


async def _open(about: CaseHostSettings, stack: AsyncExitStack) -> Place:
    if about.executor == "local":
        host: Host = LocalHost(about.name, about.work_dir)
        return Place(about, host, DetachedExecutor(host))
    from fairlead.cases.ssh import SshTarget, open_ssh

    if not about.address or not about.user or about.known_hosts is None:
        raise HostInvalid(
            f"The host {about.name} lacks address, user or known_hosts.", remedy="Complete cases.hosts."
        )
    try:
        pinned = about.known_hosts.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise HostInvalid(
            f"The known_hosts file of the host {about.name} cannot be read.", remedy="Correct cases.hosts."
        ) from None
    target = SshTarget(
        name=about.name,
        address=about.address,
        user=about.user,
        root=about.work_dir,
        known_hosts=pinned,
        port=about.port,
        key_file=about.identity_file,
        passphrase=about.passphrase,
        agent=str(about.agent) if about.agent else None,
    )
    host = await stack.enter_async_context(open_ssh(target))
    if about.executor == "slurm":
        from fairlead.cases.slurm import SlurmExecutor, SlurmOptions

        options = SlurmOptions(
            partition=about.partition,
            account=about.account,
            qos=about.qos,
            gpu_resource=about.gpu_resource,
        )
        return Place(about, host, SlurmExecutor(host, options))
    return Place(about, host, DetachedExecutor(host))
