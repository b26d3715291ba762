"""The composition root: settings become opened resources, once, in one frozen record."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from fairlead.api.app import build_app
from fairlead.changes import policy
from fairlead.changes.cloudcontrol import Resources
from fairlead.changes.mcp import open_gateway
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
        routers=[router(door)],
        checks={"objects": fairlead.objects.check},
        check_settings=_check_settings,
        # JSON escapes make a template at most six times as long.
        max_body_bytes=2 * settings.max_template_bytes,
    )


def _check_settings(settings: ProjectSettings) -> None:
    policy.rules_of(settings.auto_approval_rules)


@asynccontextmanager
async def working(fairlead: Fairlead) -> AsyncIterator[str]:
    """Execute runs while the block is open; the value is the worker's executor id."""
    settings = fairlead.settings
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            open_gateway(settings.aws, toolenv_root=settings.toolenvs, data_dir=settings.data_dir)
        )
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
        # Servers take seconds to start: meanwhile the worker may already take runs.
        warming = asyncio.create_task(gateway.warm())
        stack.callback(warming.cancel)
        yield await stack.enter_async_context(
            durable.worker(fairlead.database, operations(parts), settings.runs)
        )
