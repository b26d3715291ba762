"""A very small STS for what the sandbox never does: answer as another account, refuse for rare reasons."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from fairlead.kernel.clock import utc_now

OWN = "111122223333"


class SmallSts(ThreadingHTTPServer):
    """Grants every role. `refusal` is the code with which it refuses to; it counts what it was asked."""

    daemon_threads = True

    def __init__(self, account: str, refusal: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.account, self.refusal = account, refusal
        self.asked: Counter[str] = Counter()
        self.granted = 0
        self.now: Callable[[], datetime] = utc_now
        self.lock = threading.Lock()
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def grant(self) -> str:
        with self.lock:
            self.granted += 1
        ends = (self.now() + timedelta(hours=1)).isoformat()
        return (
            f"<Credentials><AccessKeyId>ASIAGRANTED{self.granted:09d}</AccessKeyId>"
            f"<SecretAccessKey>secret-{self.granted}</SecretAccessKey><SessionToken>token</SessionToken>"
            f"<Expiration>{ends}</Expiration></Credentials>"
        )


class _Handler(BaseHTTPRequestHandler):
    server: SmallSts

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        action = body["Action"][0]
        with self.server.lock:
            self.server.asked[action] += 1
        self.server.may_answer.wait(60)
        granted = "ASIAGRANTED" in self.headers.get("Authorization", "")
        if action == "AssumeRole" and self.server.refusal:
            words = f"<Code>{self.server.refusal}</Code><Message>said with {body['ExternalId'][0]}</Message>"
            self._answer(400, f"<ErrorResponse><Error>{words}</Error></ErrorResponse>")
        elif action == "AssumeRole":
            self._answer(200, f"<R><AssumeRoleResult>{self.server.grant()}</AssumeRoleResult></R>")
        else:
            account = self.server.account if granted else OWN
            inside = f"<Arn>arn:aws:iam::{account}:user/somebody</Arn><UserId>u</UserId>"
            whose = f"{inside}<Account>{account}</Account>"
            self._answer(200, f"<R><GetCallerIdentityResult>{whose}</GetCallerIdentityResult></R>")

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def small_sts(account: str, *, refusal: str | None = None) -> Iterator[SmallSts]:
    """Serve it; the credentials that it grants are those of `account`."""
    server = SmallSts(account, refusal)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
