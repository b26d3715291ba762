"""Plays Zendesk: keys and signatures, its API, its proxy, and the page around the app.

Only this is played. The app in the page is the packaged one, as the server serves it, and what is signed here
is verified there like anything that Zendesk signs.
"""

import base64
import http.client
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fairlead.cli.demo_support.chromium import Answer, Asked, StandIn

PAGE = Path(__file__).parent / "page"
SUBDOMAIN, INSTALLATION = "hangang-msp", "360009876543"
ORIGIN = f"https://{SUBDOMAIN}.zendesk.com"
EMAIL = f"fairlead@{SUBDOMAIN}.example"
_TYPES = {"css": "text/css", "js": "text/javascript"}
_WORDS = {
    "ko": {
        "words": {"internalNote": "내부 메모", "publicReply": "공개 답변"},
        "apps": "앱",
        "demo": "데모: Zendesk 역할을 하는 페이지",
    },
    "en": {
        "words": {"internalNote": "Internal note", "publicReply": "Public reply"},
        "apps": "Apps",
        "demo": "Demo: a page that plays Zendesk",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a customer wrote."""

    number: int
    organization: int
    organization_name: str
    requester: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An agent, and how Zendesk looks to them."""

    user: int
    name: str
    locale: str = "ko-KR"
    scheme: str = "light"


@dataclass(slots=True)
class Zendesk:
    """One Zendesk with one installation of the app."""

    tickets: dict[int, Ticket]
    agents: dict[int, Person]
    key: RSAPrivateKey = field(
        repr=False, default_factory=lambda: generate_private_key(public_exponent=65537, key_size=2048)
    )
    shared_secret: str = field(repr=False, default_factory=lambda: secrets.token_hex(32))
    api_token: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(24))
    api_url: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)  # of the uploaded package
    agent: Person | None = None  # who is signed in
    renewed: int = 0
    last_token: str = field(repr=False, default="")

    @property
    def location(self) -> str:
        """Where the package says that the app is."""
        return str(self.manifest["location"]["support"]["ticket_sidebar"]["url"])

    @property
    def app(self) -> str:
        """Origin of the app."""
        parts = urlsplit(self.location)
        return f"{parts.scheme}://{parts.netloc}"

    def public_key(self) -> bytes:
        """What an administrator downloads and pins."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def settings(self, project: str, key_file: Path) -> dict[str, Any]:
        """The installation, as the server's settings have it."""
        return {
            "id": INSTALLATION,
            "project": project,
            "subdomain": SUBDOMAIN,
            "public_key_file": str(key_file),
            "shared_secret": self.shared_secret,
            "api_url": self.api_url,
            "api_email": EMAIL,
            "api_token": self.api_token,
        }

    def sign(self, *, key: RSAPrivateKey | None = None) -> str:
        """The token of a signed URL for who is signed in."""
        assert self.agent is not None
        at = int(time.time())
        claims = {
            "iss": f"{SUBDOMAIN}.zendesk.com",
            "aud": f"{ORIGIN}/api/v2/apps/installations/{INSTALLATION}.json",
            "sub": str(self.agent.user),
            "iat": at,
            "nbf": at,
            "exp": at + 60,
            "jti": secrets.token_hex(8),
            "context": {"product": "support", "location": "ticket_sidebar"},
        }
        return jwt.encode(claims, key or self.key, algorithm="RS256")

    # --- what the browser asks for ---------------------------------------------------------------

    def stand_ins(self) -> dict[str, StandIn | bytes]:
        """Everything under Zendesk's addresses."""
        return {
            f"{ORIGIN}/proxy/*": self._proxy,
            f"{ORIGIN}/agent/tickets/*": self._page,
            f"{ORIGIN}/demo/*": _file,
            "https://static.zdassets.com/*": (PAGE / "zaf_sdk.js").read_bytes(),
        }

    def _page(self, asked: Asked) -> Answer:
        assert self.agent is not None
        ticket = self.tickets[int(urlsplit(asked.url).path.rsplit("/", 1)[-1])]
        language = "ko" if self.agent.locale.startswith("ko") else "en"
        words: Mapping[str, Any] = _WORDS[language]
        self.last_token = self.sign()
        given = {
            "app": self.app,
            "location": self.location,
            "token": self.last_token,
            "language": language,
            "scheme": self.agent.scheme,
            "words": words["words"],
            "values": {"ticket.id": ticket.number, "currentUser.locale": self.agent.locale},
            "shown": {
                "demo": words["demo"],
                "apps": words["apps"],
                "agent": self.agent.name,
                "number": f"#{ticket.number}",
                "organization": ticket.organization_name,
                "subject": ticket.subject,
                "requester": ticket.requester,
                "text": ticket.text,
            },
        }
        text = json.dumps(given, ensure_ascii=False).replace("<", "\\u003c")
        page = (PAGE / "zendesk.html").read_text(encoding="utf-8").replace("<!-- given -->", text)
        return Answer(page.encode(), "text/html; charset=utf-8")

    def _proxy(self, asked: Asked) -> Answer:
        """Sign the app's request with the installation's secret and send it on, to allowed hosts only."""
        options = json.loads(asked.body)
        parts = urlsplit(options["url"])
        if parts.netloc not in self.manifest["domainWhitelist"]:
            return Answer(b"{}", "application/json", 403)
        at = int(time.time())
        expiry = {"iat": at, "exp": at + int(options["jwt"]["expiry"])}
        token = jwt.encode(expiry, self.shared_secret, algorithm="HS256")
        headers = {
            name: value.replace("{{jwt.token}}", token) for name, value in options["headers"].items()
        } | {"Content-Type": options["contentType"]}
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request(options["type"], parts.path, options["data"], headers)
            answer = connection.getresponse()
            self.renewed += answer.status == 200
            return Answer(answer.read(), "application/json", answer.status)
        except OSError:
            return Answer(b"{}", "application/json", 502)
        finally:
            connection.close()

    # --- what the server asks for ----------------------------------------------------------------

    def look_up(self, path: str) -> Any:
        """What its API says; None where there is no such thing."""
        kind, _, name = path.removeprefix("/api/v2/").removesuffix(".json").partition("/")
        number = int(name) if name.isdecimal() else 0
        if kind == "tickets" and number in self.tickets:
            return {"ticket": {"id": number, "organization_id": self.tickets[number].organization}}
        if kind == "users" and number in self.agents:
            return {"user": {"id": number, "role": "agent", "active": True, "suspended": False}}
        return None

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Its API on a free port of loopback while the block is open."""
        zendesk = self
        entitled = "Basic " + base64.b64encode(f"{EMAIL}/token:{self.api_token}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = secrets.compare_digest(self.headers.get("Authorization", ""), entitled)
                found = zendesk.look_up(urlsplit(self.path).path) if allowed else None
                body = json.dumps(found or {"error": "RecordNotFound"}).encode()
                self.send_response(200 if found else 404 if allowed else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.api_url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


def _file(asked: Asked) -> Answer:
    name = Path(urlsplit(asked.url).path).name
    return Answer((PAGE / name).read_bytes(), _TYPES[name.rsplit(".", 1)[-1]])
