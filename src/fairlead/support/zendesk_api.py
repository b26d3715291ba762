"""What Zendesk's API tells: the organization of a ticket, and whether a user is still an agent.

Only installations with `api_email` and `api_token` are asked. The address comes from the settings, ids are
digits, redirects are not followed, and answers are remembered for a minute.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2

from fairlead.kernel.errors import FairleadError, Forbidden, NotFound, Unavailable
from fairlead.kernel.resilience import Guard, Policy, Throttled, call
from fairlead.support.zendesk import Installation, zendesk_id

REMEMBERED_S = 60.0
ANSWER_MAX_BYTES = 1024 * 1024
NO_ORGANIZATION = ""  # known: the ticket has none. None means that nobody could be asked.
_REMEMBERED = 10_000
_AGENTS = frozenset({"agent", "admin"})  # Zendesk's own words


class ZendeskUnavailable(Unavailable):
    """Zendesk's API does not answer at the moment."""

    code = "support.zendesk_unavailable"


class ZendeskThrottled(Throttled):
    """Zendesk's API asks for fewer calls."""

    code = "support.zendesk_throttled"


class ZendeskRefused(FairleadError):
    """Zendesk's API does not accept this server's credentials, or answers something else than expected."""

    code, status, retryable = "support.zendesk_refused", 502, False


class TicketUnknown(NotFound):
    """There is no such ticket in this Zendesk."""

    code = "support.ticket_unknown"


class NotAnAgent(Forbidden):
    """Zendesk does not know this user as an active agent."""

    code = "auth.not_an_agent"


class Directory:
    """Asks the API of each installation. Belongs to one event loop; `close` it at the end."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._http: httpx2.AsyncClient | None = None
        self._guards: dict[str, Guard] = {}
        self._known: dict[tuple[str, str], tuple[float, Any]] = {}
        self._failed: dict[str, tuple[float, FairleadError]] = {}  # installations whose last call failed

    async def close(self) -> None:
        """Release the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def check(self) -> None:
        """For `/health`, without asking: raises what an installation's last call raised within a minute."""
        for failed_at, error in self._failed.values():
            if self._now() - failed_at < REMEMBERED_S:
                raise error

    async def organization_of(self, installation: Installation, ticket: str) -> str | None:
        """The id of the ticket's organization, NO_ORGANIZATION, or None where there is no API to ask.

        Raises ZendeskIdInvalid, TicketUnknown, ZendeskRefused, ZendeskUnavailable, ZendeskThrottled and what
        `resilience.call` raises.
        """
        zendesk_id(ticket, "ticket")
        if not installation.has_api:
            return None
        found = await self._get(installation, f"tickets/{ticket}")
        if found is None:
            raise TicketUnknown(f"There is no ticket {ticket}.", remedy="Check its number.")
        organization = _part(found, "ticket").get("organization_id")
        return NO_ORGANIZATION if organization is None else zendesk_id(str(organization), "organization")

    async def require_agent(self, installation: Installation, user: str) -> None:
        """Return if the user is an active agent, or where there is no API to ask.

        Raises NotAnAgent for customers, suspended and deleted users, and what `organization_of` raises.
        """
        zendesk_id(user, "user")
        if not installation.has_api:
            return
        found = await self._get(installation, f"users/{user}")
        known = _part(found, "user") if found is not None else {}
        active = known.get("active") is True and known.get("suspended") is not True
        if known.get("role") not in _AGENTS or not active:
            raise NotAnAgent(remedy="Ask an administrator of Zendesk for the role of an agent.")

    async def _get(self, installation: Installation, path: str) -> Any:
        """The decoded answer; None for 404."""
        key = (installation.id, path)
        until, value = self._known.get(key, (0.0, None))
        if self._now() < until:
            return value
        guard = self._guards.setdefault(installation.id, _guard())
        try:
            value = await call(guard, self._fetch, installation, path, safe_to_retry=True)
        except FairleadError as error:
            self._failed[installation.id] = (self._now(), error)
            raise
        self._failed.pop(installation.id, None)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = (self._now() + REMEMBERED_S, value)
        return value

    async def _fetch(self, installation: Installation, path: str) -> Any:
        assert installation.api_email is not None
        assert installation.api_token is not None
        if self._http is None:
            # No settings of proxies or credentials from the environment; no redirects.
            self._http = httpx2.AsyncClient(timeout=httpx2.Timeout(4.0), trust_env=False)
        url = f"{installation.api_url}/api/v2/{path}.json"
        basic = (f"{installation.api_email}/token", installation.api_token.get_secret_value())
        try:
            async with self._http.stream("GET", url, auth=basic) as response:
                return await _answer(response, installation)
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise ZendeskUnavailable(
                f"The API of {installation.subdomain}.zendesk.com does not answer ({type(error).__name__}).",
                remedy="Try again in a moment.",
            ) from error


def _guard() -> Guard:
    return Guard("zendesk.api", Policy(deadline_s=5.0, attempts=2), calls_per_second=10)


async def _answer(response: httpx2.Response, installation: Installation) -> Any:
    status, name = response.status_code, f"The API of {installation.subdomain}.zendesk.com"
    if status == 404:
        return None
    if status == 429:
        wait = response.headers.get("retry-after", "")
        seconds = min(int(wait), 3600) if wait.isascii() and wait.isdigit() else 60
        raise ZendeskThrottled(
            f"{name} asks for fewer calls.", remedy=f"Wait {seconds} s.", retry_after_s=seconds
        )
    if status >= 500:
        raise ZendeskUnavailable(f"{name} failed with status {status}.", remedy="Try again in a moment.")
    if status != 200:
        raise ZendeskRefused(
            f"{name} answered with status {status}.",
            remedy="Check api_email and api_token of the installation.",
            installation=installation.id,
        )
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > ANSWER_MAX_BYTES:
            raise ZendeskRefused(f"{name} answered more than {ANSWER_MAX_BYTES} bytes.")
    try:
        return json.loads(content)
    except ValueError:
        raise ZendeskRefused(
            f"{name} did not answer with JSON.", remedy="Check api_url of the installation."
        ) from None


def _part(found: Any, name: str) -> dict[str, Any]:
    part = found.get(name) if isinstance(found, dict) else None
    if not isinstance(part, dict):
        raise ZendeskRefused(
            f"Zendesk's API answered without a {name}.", remedy="Check api_url of the installation."
        )
    return part
