"""Wakes whoever waits for jobs of a host as soon as they end: one script there looks for all of them.

Only a shortcut: a waiter looks again by itself after its own time, whatever becomes of the script.
"""

import asyncio
import contextlib
import shlex
from collections.abc import Collection

from fairlead.cases.jobs import Host
from fairlead.kernel.errors import FairleadError

LOOKS, LOOK_S = 10, 0.05  # of one script: a job that is waited for meanwhile is in the next one

# Nothing of it starts a process but `sleep`.
_SCRIPT = """
cd -- {jobs} 2>/dev/null || {{ sleep {pause_s}; exit 0; }}
i=0
while [ "$i" -lt {looks} ]; do
  found=
  for job in {names}; do
    [ -e "$job/rc" ] && echo "$job" && found=yes
  done
  [ -z "$found" ] || exit 0
  sleep {look_s}
  i=$((i + 1))
done
"""


class Ends:
    """Ends of the detached jobs of one host."""

    def __init__(self, host: Host) -> None:
        """Nobody waits yet."""
        self._host = host
        self._waiting: dict[asyncio.Event, str] = {}
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, job: str, timeout_s: float) -> None:
        """Return when `job` has ended, or after `timeout_s`."""
        ended = asyncio.Event()
        self._waiting[ended] = job
        try:
            if self._listening is None or self._listening.done():
                self._listening = asyncio.create_task(self._listen())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await ended.wait()
        finally:
            del self._waiting[ended]

    async def _listen(self) -> None:
        while self._waiting:
            try:
                answer = await self._host.sh(_script(self._host, set(self._waiting.values())))
            except FairleadError:
                return  # the next one who waits begins anew
            ended = set(answer.stdout.decode("utf-8", "replace").split("\n"))
            for event, job in self._waiting.items():
                if job in ended:
                    event.set()
            # Let who was woken look first; who still waits is asked for again.
            await asyncio.sleep(0)


def _script(host: Host, jobs: Collection[str]) -> str:
    return _SCRIPT.format(
        jobs=shlex.quote(f"{host.root.rstrip('/')}/jobs"),
        names=" ".join(map(shlex.quote, sorted(jobs))),
        looks=LOOKS,
        look_s=LOOK_S,
        pause_s=LOOKS * LOOK_S,
    )
