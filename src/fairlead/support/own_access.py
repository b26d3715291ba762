"""The account of whoever works at this machine, by a profile or the SDK's own chain: for the command line.

Child programs get what customers' do (see `access`): an address on loopback and a token, no credentials.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fairlead.kernel.clock import utc_now
from fairlead.support.collect import DEFAULT_REGION, Access, Keys, keys_of, session_of
from fairlead.support.credentials import Offer, empty_home, open_endpoint
from fairlead.support.held_folders import held_folder


@dataclass(frozen=True, slots=True)
class OwnAccess:
    """An account, open."""

    collect: Access
    _offer: Offer
    _home: Path

    def environment(self) -> dict[str, str]:
        """All of a child program's environment."""
        region = self.collect.region or DEFAULT_REGION
        return self._offer.environment(self._home, region=region, endpoint_url=self.collect.endpoint_url)


@asynccontextmanager
async def open_own(access: Access) -> AsyncIterator[OwnAccess]:
    """`access` with a way for child programs, until the block's end. Raises AccountUnreachable."""
    session = await asyncio.to_thread(session_of, access)

    async def keys() -> Keys:
        return await asyncio.to_thread(keys_of, session)

    await keys()  # what is not there is told now, and not by a child
    async with AsyncExitStack() as stack:
        home = stack.enter_context(held_folder(Path(tempfile.gettempdir()), "fairlead-own-"))
        endpoint = await stack.enter_async_context(open_endpoint(utc_now))
        yield OwnAccess(access, endpoint.offer(keys), empty_home(home))
