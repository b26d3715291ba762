"""Customers' accounts, opened with credentials that AWS granted for this customer, agent and ticket, or not.

    async with open_accesses(settings, database=database) as accesses:
        access = await accesses.open(customer, actor=agent.actor, ticket="4711")  # raises AccessRefused
        async with open_account(access.collect) as account: …  # guarded reads, in this process
        subprocess … env=access.environment()  # a child program

An `AccountAccess` stays the same, and good, while it is used: credentials are kept until shortly before they
expire and then asked for again. It belongs to the event loop that opened it.
"""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from fairlead.kernel import audit, telemetry
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import Unavailable
from fairlead.kernel.resilience import Guard, Policy, call
from fairlead.kernel.settings import Settings
from fairlead.support.assume import OWN_S, Door
from fairlead.support.collect import Access, Keys
from fairlead.support.credentials import Endpoint, Offer, empty_home, open_endpoint
from fairlead.support.grants import AccessPath, Opened, Request, still_good
from fairlead.support.held_folders import held_folder
from fairlead.support.model import Customer
from fairlead.support.refusals import AccessRefused, AccessUnavailable

THREADS = 8  # accounts that are being opened at once
IDLE_S = 7200.0  # an account that nobody used for so long is closed
RENEW_S = 60.0  # for AWS's answer to a thread that needs credentials
_DEADLINE_S = 50.0  # of opening one account, all its calls together
_LAST_S = 60.0  # of credentials' life in which they are no longer given out


@dataclass(frozen=True, slots=True)
class _Key:
    """What one AccountAccess is for: its credentials carry agent and ticket to the customer's CloudTrail."""

    project_id: str
    request: Request


class AccountAccess:
    """One customer's account, open."""

    def __init__(self, key: _Key, parts: "_Parts", region: str) -> None:
        """Made by `Accesses.open`; there are no credentials before `keys`."""
        self.account = key.request.account
        self.region = region  # where to look unless something else is asked for
        self.endpoint_url = parts.endpoint_url
        self.collect = Access(
            account=self.account,
            renew=self._keys_for_thread,
            region=parts.region,
            endpoint_url=self.endpoint_url,
        )
        self.path: AccessPath | None = None  # how it was opened
        self.session: str | None = None  # its name, as the customer's CloudTrail shows it; None: our own
        self.is_closed = False
        self._key, self._parts = key, parts
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._opened: Opened | None = None
        self._flight: asyncio.Task[Keys] | None = None
        self._offer: Offer | None = None
        self._home: Path | None = None
        self.used_at = parts.now()

    async def keys(self) -> Keys:
        """Credentials that hold now; many who ask at once wait for one answer. Raises AccessRefused."""
        self._refuse_if_closed()
        self.used_at = now = self._parts.now()
        if self._opened and still_good(self._opened.keys, now, self._parts.life_s(self._opened)):
            return self._opened.keys
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._renew())
            self._flight.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._flight)

    async def _renew(self) -> Keys:
        parts, request, before = self._parts, self._key.request, self._opened
        try:
            opened = await _asked(parts, request)
        except AccessRefused as error:
            if error.retryable and before and _has_left(before.keys, parts.now(), _LAST_S):
                return before.keys  # AWS is slow to answer, and these are what it gave
            await parts.record("support.account_refused", self._key, {"reason": error.code})
            telemetry.log.warning("support.account_refused", account=self.account, error=error.code)
            raise
        if before is None or opened.path is not AccessPath.OWN:
            await parts.record("support.account_opened", self._key, _told(opened))
            telemetry.log.info(
                "support.account_opened", account=self.account, path=opened.path.value, session=opened.session
            )
        self._refuse_if_closed()  # meanwhile
        self._opened, self.path, self.session = opened, opened.path, opened.session
        return opened.keys

    def _refuse_if_closed(self) -> None:
        if self.is_closed:
            raise AccessUnavailable(f"The access to account {self.account} was closed.", account=self.account)

    def _keys_for_thread(self) -> Keys:
        if threading.get_ident() == self._thread:
            raise RuntimeError("credentials are asked for in a thread: the event loop is what fetches them")
        return asyncio.run_coroutine_threadsafe(self.keys(), self._loop).result(RENEW_S)

    def environment(self, region: str | None = None) -> dict[str, str]:
        """All of a child program's environment: it finds this account's credentials there, and no others.

        It holds an address on loopback and a token for it, the same at every call, and no credentials.
        """
        self._refuse_if_closed()
        if self._offer is None:
            self._offer = self._parts.endpoint.offer(self.keys)
        if self._home is None:
            self._home = empty_home(self._parts.homes)
        return self._offer.environment(
            self._home, region=region or self.region, endpoint_url=self.endpoint_url
        )

    def close(self) -> asyncio.Task[Keys] | None:
        """Nobody gets credentials through this any more; what a child already holds ends within minutes.

        Gives the question to AWS that may be under way; its answer is thrown away.
        """
        self.is_closed = True
        if self._offer:
            self._offer.withdraw()
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
        self._opened = None
        return self._flight


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What every AccountAccess of one process shares."""

    door: Door
    endpoint: Endpoint
    guard: Guard
    pool: ThreadPoolExecutor
    database: Database | None
    homes: Path
    region: str
    endpoint_url: str | None
    session_s: float
    now: Callable[[], datetime]

    def life_s(self, opened: Opened) -> float:
        return OWN_S if opened.path is AccessPath.OWN else self.session_s

    async def ask(self, request: Request) -> Opened:
        """In a thread of ours: the server's own must not run out for a slow STS."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.door.open, request)

    async def record(self, action: str, key: _Key, data: dict[str, Any]) -> None:
        """Before anybody gets what it tells of."""
        if self.database is not None:
            await asyncio.to_thread(_append, self.database, action, key, data)


async def _asked(parts: _Parts, request: Request) -> Opened:
    try:
        return await call(parts.guard, parts.ask, request)
    except AccessRefused:
        raise
    except Unavailable as error:  # no answer in time, or none for a while
        raise AccessUnavailable(error.message, remedy=error.remedy, account=request.account) from error


def _append(database: Database, action: str, key: _Key, data: dict[str, Any]) -> None:
    request = key.request
    with database.transaction() as connection:
        audit.append(
            connection,
            actor=request.agent,
            action=action,
            subject=f"account:{request.account}",
            project_id=key.project_id,
            data={"account": request.account, "ticket": request.ticket, **data},
        )


def _told(opened: Opened) -> dict[str, Any]:
    return {
        "path": opened.path.value,
        "session": opened.session,
        "role": opened.role,
        "hub": opened.hub,
        "expires_at": iso(opened.keys.expires_at) if opened.session and opened.keys.expires_at else None,
    }


def _has_left(keys: Keys, now: datetime, seconds: float) -> bool:
    return keys.expires_at is None or keys.expires_at - now > timedelta(seconds=seconds)


class Accesses:
    """The accounts that are open in this process."""

    def __init__(self, parts: _Parts, settings: Settings) -> None:
        """Made by `open_accesses`."""
        self._parts, self._settings = parts, settings
        self._open: dict[_Key, AccountAccess] = {}

    async def open(self, customer: Customer, *, actor: str, ticket: str | None) -> AccountAccess:
        """`customer`'s account, for `actor` and `ticket`; the same one while it is open.

        Raises AccessRefused; the account is then not open, and nothing else was tried in its place.
        """
        role = customer.role_name or self._settings.support.access.role_name
        external_id = SecretStr(customer.external_id) if customer.external_id else None
        key = _Key(
            customer.project_id,
            Request(
                account=customer.account, role_name=role, external_id=external_id, agent=actor, ticket=ticket
            ),
        )
        self._tidy(key)
        access = self._open.get(key)
        if access is None or access.is_closed:
            region = customer.regions[0] if customer.regions else self._settings.aws.region
            access = self._open[key] = AccountAccess(key, self._parts, region)
        try:
            await access.keys()
        except AccessRefused:
            if access.path is None:  # it never was open
                access.close()
            raise
        return access

    def _tidy(self, wanted: _Key) -> None:
        """Close what is idle, and what was opened by a role or ExternalId that the customer has no more."""
        now, request = self._parts.now(), wanted.request
        for key, access in list(self._open.items()):
            same = key.project_id == wanted.project_id and key.request.account == request.account
            outdated = same and (
                (key.request.role_name, key.request.external_id) != (request.role_name, request.external_id)
            )
            if outdated or now - access.used_at > timedelta(seconds=IDLE_S):
                access.close()
            if access.is_closed:
                del self._open[key]

    async def close(self) -> None:
        """Close every account."""
        flights = [
            flight for access in self._open.values() if (flight := access.close()) and not flight.done()
        ]
        self._open.clear()
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)


@asynccontextmanager
async def open_accesses(
    settings: Settings, *, database: Database | None = None, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[Accesses]:
    """What opens customers' accounts, until the end of the block. Each opening is audited in `database`.

    Raises SettingsInvalid. Nothing is asked of AWS before an account is opened.
    """
    given = settings.support.access
    async with AsyncExitStack() as stack:
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="access")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        homes = stack.enter_context(held_folder(settings.data_dir.absolute() / "support-access", "homes-"))
        parts = _Parts(
            door=Door(settings, now),
            endpoint=await stack.enter_async_context(open_endpoint(now)),
            guard=Guard("aws.access", Policy(deadline_s=_DEADLINE_S, attempts=1)),
            pool=pool,
            database=database,
            homes=homes,
            region=settings.aws.region,
            endpoint_url=settings.aws.endpoint_url,
            session_s=given.session_s,
            now=now,
        )
        accesses = Accesses(parts, settings)
        stack.push_async_callback(accesses.close)
        yield accesses
