"""Posts JSON to an address that a project names. The address may hold a secret: nothing repeats its path.

Only https is posted to, or http on this machine; no redirect is followed, no proxy of the environment
is used, and of the answer only the status is looked at: whoever sets an address cannot look behind it.
"""

import asyncio
import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import httpx2

from fairlead.kernel.errors import FairleadError, InvalidInput, Unavailable
from fairlead.kernel.resilience import Guard, Policy, Throttled, call

# A worker that ends waits for its steps: all attempts together stay below twenty seconds.
POLICY: Final = Policy(deadline_s=5.0, attempts=3, wait_initial_s=0.5, wait_max_s=2.0)


class WebhookAddress(InvalidInput):
    """Nothing is posted to such an address."""

    code = "changes.webhook_address"


class WebhookRefused(FairleadError):
    """The webhook does not take what was posted."""

    code, status, retryable = "changes.webhook_refused", 502, False


class WebhookUnanswered(Unavailable):
    """The webhook does not answer, or failed by itself."""

    code, status = "changes.webhook_unanswered", 502


class WebhookThrottled(Throttled):
    """The webhook asks for fewer posts."""

    code = "changes.webhook_throttled"


def host_of(address: str) -> str:
    """What of an address may be shown."""
    try:
        return httpx2.URL(address).host
    except httpx2.InvalidURL:
        return "?"


def check_address(address: str) -> None:
    """Raise WebhookAddress unless this is https, or http on this machine, without credentials."""
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL:
        raise WebhookAddress("The webhook's address is no URL.", remedy="Correct it.") from None
    local = url.host == "localhost" or getattr(_ip(url.host), "is_loopback", False)
    if not url.host or url.userinfo or not (url.scheme == "https" or (url.scheme == "http" and local)):
        raise WebhookAddress(
            "The webhook's address must be https, or http on this machine, without credentials.",
            remedy="Give an address that begins with https://.",
        )
    if (found := _ip(url.host)) is not None:
        _refuse(found)


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _refuse(found: IPv4Address | IPv6Address) -> None:
    # Link-local: there the metadata services of clouds answer, with credentials.
    if found.is_link_local or found.is_multicast or found.is_unspecified:
        raise WebhookAddress(
            f"The webhook's address leads to {found}, where nothing is posted to.",
            remedy="Give the address of a server.",
        )


async def post(address: str, body: Mapping[str, Any], *, delivery: str, policy: Policy = POLICY) -> int:
    """Post `body` and return the status, 200 to 299; repeated where that may help, with the same `delivery`.

    Raises WebhookAddress, WebhookRefused, WebhookUnanswered, WebhookThrottled and DeadlineExceeded.
    """
    check_address(address)
    # A guard of its own: the dead address of one project must not silence another's.
    guard = Guard("changes.webhook", policy)
    return await call(
        guard, _post, address, json.dumps(body).encode(), delivery, policy.deadline_s, safe_to_retry=True
    )


async def _post(address: str, content: bytes, delivery: str, deadline_s: float) -> int:
    url = httpx2.URL(address)
    await _refuse_where_it_leads(url)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Fairlead",
        "X-Fairlead-Delivery": delivery,
    }
    try:
        async with (
            httpx2.AsyncClient(timeout=deadline_s, trust_env=False) as client,
            client.stream("POST", url, content=content, headers=headers) as answer,
        ):
            return _accepted(answer, url.host)
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise WebhookUnanswered(
            f"The webhook at {url.host} does not answer ({type(error).__name__}).",
            remedy="Check the address in the project's settings, and that the server is up.",
        ) from None


async def _refuse_where_it_leads(url: httpx2.URL) -> None:
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port)
    except OSError:
        return  # the post itself will tell
    for *_, where in found:
        if (address := _ip(str(where[0]))) is not None:
            _refuse(address)


def _accepted(answer: httpx2.Response, host: str) -> int:
    status = answer.status_code
    if status == 429:
        raise WebhookThrottled(f"The webhook at {host} asks for fewer posts.", remedy="Wait.")
    if status >= 500 or status == 408:
        raise WebhookUnanswered(f"The webhook at {host} failed with status {status}.", remedy="Try again.")
    if not 200 <= status < 300:
        raise WebhookRefused(
            f"The webhook at {host} answered with status {status}.",
            remedy="Check the address in the project's settings; redirects are not followed.",
            answered=status,
        )
    return status
