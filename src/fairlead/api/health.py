"""Is everything there that the server needs? Bounded in time, and cheap however often it is asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from fairlead.kernel import telemetry

Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One dependency's answer. Says nothing about why: anybody may ask."""

    ok: bool
    latency_ms: float
    needed: bool = True  # without it the server can do nothing


def condition(verdicts: Iterable[Verdict]) -> Literal["ok", "degraded", "unavailable"]:
    """What the verdicts together mean for whoever asks this server."""
    bad = [verdict for verdict in verdicts if not verdict.ok]
    if not bad:
        return "ok"
    return "unavailable" if any(verdict.needed for verdict in bad) else "degraded"


class Health:
    """Asks each dependency, all at once, at most once per `fresh_s`; callers share one answer.

    Holds the invariant that at most one probe is under way, however many ask meanwhile.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        useful: Mapping[str, Check] | None = None,
        deadline_s: float = 2.0,
        fresh_s: float = 1.0,
    ) -> None:
        """A check returns when its dependency works, else raises or takes longer than `deadline_s`.

        Without one of `checks` the server can do nothing; without one of `useful` it loses nothing.
        """
        self._useful = frozenset(useful or {})
        self._checks = {**checks, **(useful or {})}
        self._deadline_s = deadline_s
        self._fresh_s = fresh_s
        self._probe: asyncio.Task[dict[str, Verdict]] | None = None
        self._answered = 0.0

    async def report(self) -> dict[str, Verdict]:
        """Verdicts by name, not older than `fresh_s`."""
        stale = time.monotonic() - self._answered > self._fresh_s
        if self._probe is None or (self._probe.done() and stale):
            self._probe = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._probe)

    async def _ask_all(self) -> dict[str, Verdict]:
        verdicts = await asyncio.gather(*(self._ask(name, check) for name, check in self._checks.items()))
        self._answered = time.monotonic()
        return dict(zip(self._checks, verdicts, strict=True))

    async def _ask(self, name: str, check: Check) -> Verdict:
        started = time.monotonic()
        try:
            await asyncio.wait_for(check(), self._deadline_s)
            ok = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the dependency does not work
            telemetry.log.warning("health.failed", check=name, error=type(error).__name__)
            ok = False
        return Verdict(ok, round((time.monotonic() - started) * 1000, 1), name not in self._useful)
