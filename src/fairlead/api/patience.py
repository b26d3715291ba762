"""How long a client may take to say what it wants: a request's head arrives in time, or the line is cut."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fairlead.kernel import telemetry

HEAD_S = 20.0  # from the connection, or from the first byte of a further request, to the end of its headers


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, which waits for a head for ever, with an end to waiting.

    Bodies, answers, streams and websockets take as long as they take.
    """

    head_s = HEAD_S
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once the head is here; begin where another one has begun."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.head_s, self._too_slow)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            telemetry.count("fairlead_http_slow_heads_total")
            self.transport.close()


def patient(head_s: float = HEAD_S) -> type[PatientProtocol]:
    """The protocol that waits `head_s` seconds for each request's head."""
    return type("PatientProtocol", (PatientProtocol,), {"head_s": head_s})
