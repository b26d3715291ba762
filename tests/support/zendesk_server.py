"""A small Zendesk: the two addresses of its API that are asked, over real HTTP."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EMAIL, TOKEN = "bot@acme.example", "zendesk-api-token"


@dataclass
class ZendeskServer:
    """What it knows and was asked. `failing` is a status that it answers with instead."""

    url: str = ""
    organizations: dict[str, int | None] = field(default_factory=dict)  # ticket → organization
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failing: int | None = None
    body: bytes | None = None  # instead of JSON

    @property
    def settings(self) -> dict[str, str]:
        """Of an installation that asks it."""
        return {"api_url": self.url, "api_email": EMAIL, "api_token": TOKEN}

    def agent(self, user: str, **values: Any) -> None:
        """Let it know an active agent."""
        self.users[user] = {"role": "agent", "active": True, "suspended": False, **values}

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and document."""
        _, _, _, kind, name = path.split("/")
        number = name.removesuffix(".json")
        if kind == "tickets" and number in self.organizations:
            return 200, {"ticket": {"id": int(number), "organization_id": self.organizations[number]}}
        if kind == "users" and number in self.users:
            return 200, {"user": {"id": int(number), **self.users[number]}}
        return 404, {"error": "RecordNotFound"}


@contextmanager
def running_zendesk() -> Iterator[ZendeskServer]:
    """A server on a free port."""
    zendesk = ZendeskServer()
    credentials = base64.b64encode(f"{EMAIL}/token:{TOKEN}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            zendesk.asked.append(self.path)
            status, document = zendesk.answer(self.path)
            if self.headers.get("Authorization") != f"Basic {credentials}":
                status, document = 401, {"error": "Couldn't authenticate you"}
            status = zendesk.failing or status
            content = zendesk.body if zendesk.body is not None else json.dumps(document).encode()
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", f"{zendesk.url}/api/v2/tickets/1.json")
            if status == 429:
                self.send_header("Retry-After", "7")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    zendesk.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield zendesk
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
