"""How much one agent may ask for, however many tickets are open: the others' answers must not wait for it."""

import time
from collections.abc import Callable, Container

from fairlead.kernel.errors import FairleadError
from fairlead.support.feeds import Bucket

REQUESTS_A_SECOND, REQUESTS_AT_ONCE = 5.0, 20.0  # of one agent
REMEMBERED = 1000  # agents, until those who asked for nothing lately are forgotten


class TooManyRequests(FairleadError):
    """More requests than one agent may send."""

    code, status, retryable = "support.rate_limited", 429, True


class Allowances:
    """What each agent has left. Who comes back gets no new one."""

    def __init__(
        self,
        a_second: float = REQUESTS_A_SECOND,
        at_once: float = REQUESTS_AT_ONCE,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._a_second, self._at_once, self._now = a_second, at_once, now
        self._buckets: dict[str, Bucket] = {}

    def spend(self, actor: str) -> None:
        """One request. Raises TooManyRequests."""
        now = self._now()
        if len(self._buckets) >= REMEMBERED:
            self.forget()
        bucket = self._buckets.setdefault(actor, Bucket(self._a_second, self._at_once))
        if wait_s := bucket.take(now):
            raise TooManyRequests(
                remedy="Wait a moment, then ask again.", retry_after_s=max(1, round(wait_s))
            )

    def forget(self, but: Container[str] = ()) -> None:
        """Forget whose allowance is whole, `but` these."""
        now = self._now()
        for actor, bucket in list(self._buckets.items()):
            if actor not in but and bucket.full(now):
                self._buckets.pop(actor, None)
