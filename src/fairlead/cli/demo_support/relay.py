"""The line between browser and server: passes bytes on, and can be cut like a cable."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16


class Line:
    """A port on loopback that leads to another one while the line is whole."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self._target = 0
        self._whole = threading.Event()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the browser connects to."""
        return f"http://127.0.0.1:{self.port}"

    def lead_to(self, port: int) -> None:
        """Connections go to `port` of loopback from now on."""
        self._target = port
        self._whole.set()

    def cut(self) -> int:
        """Break every connection, and refuse new ones until `mend`; how many there were."""
        self._whole.clear()
        with self._guard:
            broken = list(self._open)
        for end in broken:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(broken) // 2

    def mend(self) -> None:
        """Let connections through again."""
        self._whole.set()

    def close(self) -> None:
        """Free the port."""
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                if self._whole.is_set():
                    threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()
                else:
                    near.close()

    def _pass_on(self, near: socket.socket) -> None:
        with suppress(OSError), near, socket.create_connection(("127.0.0.1", self._target)) as far:
            with self._guard:
                self._open |= {near, far}
            try:
                self._pump(near, far)
            finally:
                with self._guard:
                    self._open -= {near, far}

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        while self._whole.is_set():
            ready, _, _ = select.select([near, far], [], [], 1.0)
            for end in ready:
                data = end.recv(_CHUNK)
                if not data:
                    return
                other[end].sendall(data)


@contextmanager
def laid() -> Iterator[Line]:
    """A line until the block ends; it leads nowhere before `lead_to`."""
    line = Line()
    try:
        yield line
    finally:
        line.close()
