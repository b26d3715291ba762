"""The composition root: settings become opened resources, once, in one frozen record."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from fairlead.api.app import build_app
from fairlead.cases import machine as case_machine
from fairlead.cases.gamma import criteria as gamma_criteria
from fairlead.cases.intake import Watched, watch
from fairlead.cases.operations import operations as case_operations
from fairlead.cases.operations import tend
from fairlead.cases.places import host_settings, open_places
from fairlead.cases.routes import CasesDoor
from fairlead.cases.routes import router as cases_router
from fairlead.cases.steps.port import CaseParts
from fairlead.cases.verify import VerdictCriteria
from fairlead.changes import policy
from fairlead.changes.cloudcontrol import Resources
from fairlead.changes.mcp import Gateway
from fairlead.changes.operations import operations
from fairlead.changes.parts import ChangesParts
from fairlead.changes.registry import Registry
from fairlead.changes.routes import ChangesDoor, router
from fairlead.changes.secrets import Vault
from fairlead.kernel import runs as durable
from fairlead.kernel.db import Database, migrate, open_database
from fairlead.kernel.objects import ObjectStore, open_objects
from fairlead.kernel.projects.model import ProjectSettings
from fairlead.kernel.projects.tokens import SigningKey, load_signing_key
from fairlead.kernel.runs import Runs, open_runs
from fairlead.kernel.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairlead:
    """Everything that is open."""

    settings: Settings
    database: Database
    objects: ObjectStore
    runs: Runs
    key: SigningKey
    registry: Registry


@asynccontextmanager
async def open_fairlead(settings: Settings) -> AsyncIterator[Fairlead]:
    """Open what every process of Fairlead needs; closes in reverse, even when a later part fails to open."""
    async with AsyncExitStack() as stack:
        database = await asyncio.to_thread(open_database, settings.database)
        stack.callback(database.close)
        await asyncio.to_thread(migrate, database)
        runs = await asyncio.to_thread(open_runs, database)
        stack.callback(runs.close)
        yield Fairlead(
            settings=settings,
            database=database,
            objects=_objects(settings),
            runs=runs,
            key=load_signing_key(settings.data_dir / "secret.key"),
            registry=Registry(),
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


def app_of(fairlead: Fairlead) -> FastAPI:
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
        routers=[router(door), cases_router(_cases_door(fairlead))],
        checks={"objects": fairlead.objects.check},
        check_settings=_check_settings,
        # JSON escapes make a template at most six times as long.
        max_body_bytes=2 * settings.max_template_bytes,
    )


def _cases_door(fairlead: Fairlead) -> CasesDoor:
    return CasesDoor(
        database=fairlead.database,
        runs=fairlead.runs,
        objects=fairlead.objects,
        hosts=host_settings(fairlead.settings.cases, fairlead.settings.data_dir),
    )


def _check_settings(settings: ProjectSettings) -> None:
    policy.rules_of(settings.auto_approval_rules)


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
        every_operation = (*operations(parts), *case_operations(case_parts))
        executor = await stack.enter_async_context(
            durable.worker(fairlead.database, every_operation, settings.runs)
        )
        await stack.enter_async_context(_in_background(tend(case_parts)))
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
            calculating=asyncio.Semaphore(1),
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
