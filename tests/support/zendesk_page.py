"""Test harness: the packaged app as its server will serve it, in a page that plays Zendesk.

The app's files come out of the zip that `package` writes, unchanged but for the session that the server fills
in. Two scripts have stand-ins: Zendesk's SDK and socket.io's client (the test plays the server).
"""
# Rows of tables and JavaScript stay on one line; texts are what users type.

import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fairlead.support.zendesk_app import package
from tests.support.chromium import Browser, Page, running_chromium

ROOT = Path(__file__).parents[2]
HARNESS = Path(__file__).parent / "harness"
TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "json": "application/json",
    "png": "image/png",
}
STAND_INS = {
    "*/zaf_sdk.min.js": (HARNESS / "fake_zaf_sdk.js").read_bytes(),
    "*/vendor/socket.io.esm.min.js": (HARNESS / "fake_socket_io.js").read_bytes(),
}
APP = "frames[0]"


@contextmanager
def served_app(folder: Path, report: str = "<p>report</p>") -> Iterator[str]:
    """Address of a server with the harness page, the packaged app and one report."""
    package(ROOT / "zendesk-app", folder / "app.zip")
    with zipfile.ZipFile(folder / "app.zip") as archive:
        files = {f"/support/zendesk/{name}": archive.read(name) for name in archive.namelist()}
    page = "/support/zendesk/assets/iframe.html"
    files[page] = files[page].replace(
        b'name="fairlead-session" content=""', b'name="fairlead-session" content="session-1"'
    )
    files["/reports/1"] = report.encode()
    for path in HARNESS.iterdir():
        files[f"/harness/{path.name}"] = path.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            body = files.get(path)
            self.send_response(200 if body is not None else 404)
            kind = TYPES.get(path.rsplit(".", 1)[-1], "text/html")
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            """Only links to reports are asked for."""
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = asked["url"] in files and self.headers["Authorization"] == "Bearer session-1"
            problem = {"detail": "There is no such report.", "remedy": "Ask for it again."}
            body = {"url": asked["url"] + "?link=proof"} if known else problem
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def ticket_page(browser: Browser, address: str, query: str = "") -> Iterator[Page]:
    """`open_ticket`, closed at the end."""
    page = open_ticket(browser, address, query)
    try:
        yield page
    finally:
        page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Real Chromium."""
    with running_chromium() as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `served_app` answers."""
    with served_app(tmp_path_factory.mktemp("app")) as running:
        yield running


@pytest.fixture
def ticket(browser: Browser, address: str) -> Iterator[Page]:
    """A ticket with the app, which in the end has not complained and has run nothing hostile."""
    with ticket_page(browser, address) as page:
        yield page
        assert page.complaints == []
        assert page.evaluate("window.pwned ?? null") is None


def open_ticket(
    browser: Browser, address: str, query: str = "", *, width: int = 1200, height: int = 720
) -> Page:
    """The harness page with the app connected."""
    url = f"{address}/harness/zendesk.html?{query}"
    page = browser.page(url, stand_ins=STAND_INS, width=width, height=height)
    page.until(f"{APP}.wire?.socket.connected && {APP}.document.documentElement.dataset.state === 'online'")
    return page
