"""A very small AWS for what the sandbox cannot show: regions that are off, long listings, who asks for what.

Speaks STS GetCallerIdentity and EC2 DescribeRegions, DescribeVolumes; everything else is denied.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

ACCOUNT = "123412341234"
REGIONS = {
    "us-east-1": "opt-in-not-required",
    "ap-northeast-2": "opt-in-not-required",
    "af-south-1": "not-opted-in",
}
_ERROR = "<Error><Code>UnauthorizedOperation</Code><Message>SECRET-WORDS</Message></Error>"
_DENIED = f"<Response><Errors>{_ERROR}</Errors></Response>"


class SmallAws(ThreadingHTTPServer):
    """Counts what it was asked."""

    daemon_threads = True

    def __init__(self, volumes: int, stall_at: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.volumes = volumes
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.stall_at = stall_at
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: SmallAws

    def do_GET(self) -> None:
        self._answer(403, _DENIED)

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        action = body.get("Action", ["?"])[0]
        with self.server.lock:
            self.server.asked[action] += 1
        if action == "GetCallerIdentity":
            inside = f"<Arn>arn:aws:iam::{ACCOUNT}:root</Arn><UserId>u</UserId><Account>{ACCOUNT}</Account>"
            self._answer(200, f"<R><GetCallerIdentityResult>{inside}</GetCallerIdentityResult></R>")
        elif action == "DescribeRegions":
            items = "".join(
                f"<item><regionName>{name}</regionName><optInStatus>{state}</optInStatus></item>"
                for name, state in REGIONS.items()
            )
            self._answer(200, f"<R><regionInfo>{items}</regionInfo></R>")
        elif action == "DescribeVolumes":
            first, size = int(body.get("NextToken", ["0"])[0]), int(body["MaxResults"][0])
            if first == self.server.stall_at:
                self.server.go_on.wait(60)
            last = min(first + size, self.server.volumes)
            items = "".join(
                f"<item><volumeId>vol-{n:08d}</volumeId><size>8</size><status>in-use</status>"
                f"<volumeType>gp3</volumeType><encrypted>{str(n % 1000 != 0).lower()}</encrypted></item>"
                for n in range(first, last)
            )
            more = f"<nextToken>{last}</nextToken>" if last < self.server.volumes else ""
            self._answer(200, f"<R><volumeSet>{items}</volumeSet>{more}</R>")
        else:
            self._answer(403, _DENIED)

    def _answer(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def small_aws(volumes: int = 0, *, stall_at: int | None = None) -> Iterator[SmallAws]:
    """One on a free port, with that many volumes in every region; the page from `stall_at` never comes."""
    server = SmallAws(volumes, stall_at)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
