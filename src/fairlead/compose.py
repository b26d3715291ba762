"""The composition root: settings become opened resources, once, in one frozen record."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from fairlead.api.app import build_app
from fairlead.api.health import Check
from fairlead.cases import machine as case_machine
from fairlead.cases.gamma import criteria as gamma_criteria
from fairlead.cases.health import observe
from fairlead.cases.intake import Watched, watch
from fairlead.cases.operations import operations as case_operations
from fairlead.cases.operations import tend
from fairlead.cases.places import host_settings, open_places
from fairlead.cases.routes import CasesDoor
from fairlead.cases.routes import router as cases_router
from fairlead.cases.steps.port import CaseParts, Turns
from fairlead.cases.verify import VerdictCriteria
from fairlead.changes import notices, policy
from fairlead.changes.cloudcontrol import Resources
from fairlead.changes.mcp import Gateway
from fairlead.changes.operations import operations
from fairlead.changes.parts import ChangesParts
from fairlead.changes.registry import Registry
from fairlead.changes.routes import ChangesDoor, router
from fairlead.changes.secrets import Vault
from fairlead.kernel import runs as durable
from fairlead.kernel.db import Database, migrate, open_database
from fairlead.kernel.errors import Unavailable
from fairlead.kernel.objects import ObjectStore, open_objects
from fairlead.kernel.projects.model import ProjectSettings
from fairlead.kernel.projects.tokens import SigningKey, load_signing_key
from fairlead.kernel.runs import Runs, open_runs
from fairlead.kernel.settings import Settings
from fairlead.support.job_routes import JobsDoor
from fairlead.support.job_routes import router as jobs_router
from fairlead.support.opening import open_parts
from fairlead.support.opening import warm as warm_support
from fairlead.support.operations import operations as support_operations
from fairlead.support.records import tend as tend_records
from fairlead.support.routes import FORMS, SupportDoor
from fairlead.support.routes import router as support_router
from fairlead.support.zendesk import read_installations
from fairlead.support.zendesk_api import Directory
from fairlead.support.zendesk_app import app_dir, read_app

if TYPE_CHECKING:
    from fairlead.support.sockets import Realtime


class NoWorker(Unavailable):
    """No worker is running: jobs wait."""

    code = "worker.none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairlead:
    """Everything that is open."""

    settings: Settings
    database: Database
    objects: ObjectStore
    runs: Runs
    key: SigningKey
    registry: Registry
    zendesk: Directory


@asynccontextmanager
async def open_fairlead(settings: Settings) -> AsyncIterator[Fairlead]:
    """Open what every process of Fairlead needs; closes in reverse, even when a later part fails to open."""
    async with AsyncExitStack() as stack:
        database = await asyncio.to_thread(open_database, settings.database)
        stack.callback(database.close)
        await asyncio.to_thread(migrate, database)
        runs = await asyncio.to_thread(open_runs, database)
        stack.callback(runs.close)
        zendesk = Directory()
        stack.push_async_callback(zendesk.close)
        yield Fairlead(
            settings=settings,
            database=database,
            objects=_objects(settings),
            runs=runs,
            key=load_signing_key(settings.data_dir / "secret.key"),
            registry=Registry(),
            zendesk=zendesk,
        )


def _objects(settings: Settings) -> ObjectStore:
    given = settings.objects
    return open_objects(
        settings.objects_url,
        endpoint_url=given.endpoint_url,
        region=given.region,
        access_key_id=given.access_key_id,
        secret_access_key=given.secret_access_key,
    )


@asynccontextmanager
async def serving_app(fairlead: Fairlead) -> AsyncIterator[FastAPI]:
    """The HTTP API and, where the app is installed in a Zendesk, agents' live connections."""
    support = _support_door(fairlead)
    if not support.installations.by_id:
        yield app_of(fairlead, support)
        return
    # Only a server that needs it pays for importing it.
    sockets = await asyncio.to_thread(import_module, "fairlead.support.sockets")
    settings = fairlead.settings.support
    door = sockets.RealtimeDoor(
        database=fairlead.database,
        runs=fairlead.runs,
        key=fairlead.key,
        installations=support.installations,
        directory=fairlead.zendesk,
        public_url=settings.public_url,
        redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
    )
    async with sockets.open_realtime(door) as realtime:
        yield app_of(fairlead, support, realtime)


def app_of(fairlead: Fairlead, support: SupportDoor, realtime: "Realtime | None" = None) -> FastAPI:
    """The HTTP API over the opened parts."""
    settings = fairlead.settings
    door = ChangesDoor(
        database=fairlead.database,
        runs=fairlead.runs,
        objects=fairlead.objects,
        registry=fairlead.registry,
        vault=Vault(fairlead.key.value),
        region=settings.aws.region,
        approval_deadline_s=settings.runs.approval_deadline_s,
        max_template_bytes=settings.max_template_bytes,
    )
    return build_app(
        database=fairlead.database,
        signing_key=fairlead.key,
        runs=fairlead.runs,
        routers=[
            router(door),
            cases_router(_cases_door(fairlead)),
            support_router(support),
            jobs_router(JobsDoor(support=support, runs=fairlead.runs, objects=fairlead.objects)),
        ],
        checks={"objects": fairlead.objects.check},
        check_settings=_check_settings,
        # JSON escapes make a template at most six times as long.
        max_body_bytes=2 * settings.max_template_bytes,
        forms=FORMS,
        mounts={"/socket.io": realtime.app} if realtime else {},
        useful=_useful(fairlead, support, realtime),
    )


def _useful(fairlead: Fairlead, support: SupportDoor, realtime: "Realtime | None") -> Mapping[str, Check]:
    """Parts of which each can be away without a loss: jobs and agents wait, servers read for themselves."""

    async def workers() -> None:
        if not await asyncio.to_thread(durable.workers_live, fairlead.database):
            raise NoWorker

    found: dict[str, Check] = {"workers": workers}
    if any(one.has_api for one in support.installations.by_id.values()):
        found["zendesk"] = support.directory.check
    if realtime is not None and fairlead.settings.support.redis_url is not None:
        found["redis"] = realtime.check_redis
    return found


def _cases_door(fairlead: Fairlead) -> CasesDoor:
    return CasesDoor(
        database=fairlead.database,
        runs=fairlead.runs,
        objects=fairlead.objects,
        hosts=host_settings(fairlead.settings.cases, fairlead.settings.data_dir),
    )


def _support_door(fairlead: Fairlead) -> SupportDoor:
    """What the routes of `support` need, installations and their keys read. Raises InstallationInvalid."""
    settings = fairlead.settings.support
    return SupportDoor(
        database=fairlead.database,
        key=fairlead.key,
        settings=settings,
        installations=read_installations(settings.installations),
        directory=fairlead.zendesk,
        app_files=read_app(app_dir())[0],
    )


def _check_settings(settings: ProjectSettings) -> None:
    policy.rules_of(settings.auto_approval_rules)
    notices.check(settings.notifications)


@asynccontextmanager
async def working(fairlead: Fairlead, gateway: Gateway) -> AsyncIterator[str]:
    """Execute runs while the block is open, with AWS through `gateway`; the value is the executor id."""
    settings = fairlead.settings
    async with AsyncExitStack() as stack:
        parts = ChangesParts(
            database=fairlead.database,
            objects=fairlead.objects,
            resources=Resources(gateway),
            registry=fairlead.registry,
            vault=Vault(fairlead.key.value),
            region=settings.aws.region,
            parallelism=settings.runs.apply_parallelism,
            max_template_bytes=settings.max_template_bytes,
        )
        case_parts = await stack.enter_async_context(_case_parts(fairlead))
        support_parts = await stack.enter_async_context(
            open_parts(settings, fairlead.database, fairlead.objects)
        )
        every_operation = (
            *operations(parts),
            *case_operations(case_parts),
            *support_operations(support_parts),
        )
        executor = await stack.enter_async_context(
            durable.worker(fairlead.database, every_operation, settings.runs)
        )
        await stack.enter_async_context(_in_background(tend(case_parts)))
        await stack.enter_async_context(_in_background(observe(case_parts)))
        if settings.support.installations:
            await stack.enter_async_context(_in_background(warm_support(settings.toolenvs)))
        keep_days = settings.support.retention_days
        await stack.enter_async_context(
            _in_background(tend_records(fairlead.database, fairlead.objects, keep_days))
        )
        if settings.cases.watch and settings.cases.scan:
            await stack.enter_async_context(_in_background(watching_cases(fairlead)))
        yield executor


@asynccontextmanager
async def _case_parts(fairlead: Fairlead) -> AsyncIterator[CaseParts]:
    """What runs of `cases` need, the connections to hosts included."""
    settings = fairlead.settings.cases
    given = settings.criteria
    criteria = VerdictCriteria(
        gamma=gamma_criteria(
            dose_percent=given.dose_percent,
            distance_mm=given.distance_mm,
            cutoff_percent=given.cutoff_percent,
            normalisation=given.normalisation,
        ),
        pass_rate_percent=given.pass_rate_percent,
        position_mm=given.position_mm,
        layer_mu_percent=given.layer_mu_percent,
        spot_size_percent=given.spot_size_percent,
    )
    work = fairlead.settings.data_dir / "cases" / "work"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with open_places(host_settings(settings, fairlead.settings.data_dir)) as places:
        yield CaseParts(
            database=fairlead.database,
            objects=fairlead.objects,
            machine=case_machine.load(settings.machine_file),
            places=places,
            settings=settings,
            criteria=criteria,
            work=work,
            calculating=Turns(1),
        )


async def watching_cases(fairlead: Fairlead) -> None:
    """Watch the scan folders until cancelled."""
    settings = fairlead.settings.cases
    await watch(
        Watched(
            database=fairlead.database,
            runs=fairlead.runs,
            scan=settings.scan,
            stability_s=settings.stability_s,
            rescan_s=settings.rescan_s,
        )
    )


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
