"""Head and body of an answer leave together, so that a kill loses an answer whole.

Hypercorn writes them one after the other. botocore takes a head without its body for an empty
answer, not for an error: a caller would believe that its request was never seen.
"""

from typing import Any

import h11
from hypercorn.events import RawData
from hypercorn.protocol.h11 import H11Protocol


def install() -> None:
    """Hold each head back until something follows it. Once per process."""

    async def send_together(self: Any, event: Any) -> None:
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self.held_head = data  # one connection answers one request at a time
            return
        data = self.__dict__.pop("held_head", b"") + (data or b"")
        await self.send(RawData(data=data))

    H11Protocol._send_h11_event = send_together
