"""Real Chromium, headless, driven through the DevTools protocol over a pipe: no port, no driver.

It ends when this process does, however that happens: the pipe's end is its end.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.kernel.errors import FairleadError

DEADLINE_S = 60.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
    # A page on the web may not look into this machine's network; ours plays one and has to.
    "--disable-features=LocalNetworkAccessChecks,IsolateOrigins,site-per-process",
    # Frames of other origins stay in their page's process, where one session reaches them all.
    "--disable-site-isolation-trials",
]


class BrowserFailed(FairleadError):
    """The browser did not do what it was told."""

    code, status, retryable = "demo.browser_failed", 500, False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a page that was held up."""

    url: str
    method: str
    body: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page gets for it."""

    body: bytes
    content_type: str = "text/javascript"
    status: int = 200


StandIn = Callable[[Asked], Answer]


def program() -> str | None:
    """The browser, where one is installed."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """A running Chromium. One thread; calls block."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process, self._to, self._from = process, to, back
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def call(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> Any:
        """The result of one protocol call. Raises BrowserFailed."""
        number = self._post(method, params, session)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            message = self._message(deadline)
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserFailed(f"{method}: {message['error']}")
                return message["result"]
            self._dispatch(message)

    def _post(self, method: str, params: dict[str, Any] | None, session: str | None) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise BrowserFailed(f"Chromium did not answer within {DEADLINE_S:g} s.")
            chunk = os.read(self._from, 1 << 20)
            if not chunk:
                raise BrowserFailed(f"Chromium ended with {self._process.poll()}.")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _dispatch(self, message: dict[str, Any]) -> None:
        page = self._pages.get(message.get("sessionId", ""))
        if page is None:
            return
        method, params = message.get("method", ""), message.get("params", {})
        if method == "Fetch.requestPaused":
            # Not awaited: its answer is dropped when it comes.
            self._post("Fetch.fulfillRequest", page.stand_in(params), page.session)
        else:
            page.hear(method, params)

    def page(
        self, url: str, *, stand_ins: Mapping[str, StandIn | bytes], width: int = 1200, height: int = 720
    ) -> "Page":
        """A new page at `url`; requests to addresses like a key of `stand_ins` get its answer.

        In such a key `*` stands for anything; bytes are a script.
        """
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, session["sessionId"], target, stand_ins)
        self._pages[page.session] = page
        for domain in ("Runtime", "Log", "Page", "Network"):
            page.call(f"{domain}.enable")
        if stand_ins:
            page.call("Fetch.enable", {"patterns": [{"urlPattern": pattern} for pattern in stand_ins]})
        page.call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        page.call("Page.navigate", {"url": url})
        return page


@dataclass
class Page:
    """One page, what it complained about and what came to it over WebSockets."""

    _browser: Browser
    session: str
    _target: str
    _stand_ins: Mapping[str, StandIn | bytes]
    complaints: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)  # of WebSockets, received, as they came
    _contexts: dict[int, str] = field(default_factory=dict)  # execution context → origin

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """A protocol call for this page."""
        return self._browser.call(method, params, self.session)

    def close(self) -> None:
        """Close the page: its timers and animations would slow down the others."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """One event of the protocol."""
        match method:
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description") or details["text"])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                where = params["entry"].get("url", "")
                if not where.endswith("/favicon.ico"):
                    self.complaints.append(f"{params['entry']['text']} {where}")
            case "Network.webSocketFrameReceived":
                self.frames.append(params["response"]["payloadData"])
            case "Runtime.executionContextCreated":
                context = params["context"]
                if context.get("auxData", {}).get("isDefault"):
                    self._contexts[context["id"]] = context["origin"]
            case "Runtime.executionContextDestroyed":
                self._contexts.pop(params["executionContextId"], None)
            case "Runtime.executionContextsCleared":
                self._contexts.clear()

    def stand_in(self, paused: dict[str, Any]) -> dict[str, Any]:
        """The answer to an intercepted request."""
        request = paused["request"]
        asked = Asked(request["url"], request["method"], request.get("postData", ""))
        stand = next(
            stand for pattern, stand in self._stand_ins.items() if matches(pattern, asked.url)
        )  # fmt: skip
        answer = Answer(stand) if isinstance(stand, bytes) else stand(asked)
        return {
            "requestId": paused["requestId"],
            "responseCode": answer.status,
            "responseHeaders": [
                {"name": "Content-Type", "value": answer.content_type},
                {"name": "Cache-Control", "value": "no-store"},
            ],
            "body": base64.b64encode(answer.body).decode(),
        }

    def evaluate(self, expression: str, *, origin: str | None = None) -> Any:
        """The JSON value of a JavaScript expression, in the page or its frame of `origin`.

        Promises are awaited. Raises AssertionError with what the page threw, BrowserFailed.
        """
        params: dict[str, Any] = {
            "expression": expression,
            "returnByValue": True,
            "awaitPromise": True,
            "userGesture": True,
        }
        if origin is not None:
            context = max((one for one, its in self._contexts.items() if its == origin), default=None)
            if context is None:
                raise BrowserFailed(f"The page has no frame of {origin}.")
            params["contextId"] = context
        found = self.call("Runtime.evaluate", params)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def until(self, expression: str, *, origin: str | None = None, deadline_s: float = DEADLINE_S) -> None:
        """Wait until `expression` is truthy. Raises AssertionError with the page's complaints."""
        deadline = time.monotonic() + deadline_s
        look = (
            f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
            " || new Promise((done) => setTimeout(() => done(false), 25))"
        )
        while time.monotonic() < deadline:
            # One look for each frame drawn: the page has had the chance to change.
            with suppress(BrowserFailed):  # while a frame loads, it is not there, or goes away under the look
                if self.evaluate(look, origin=origin):
                    return
                continue
            self.evaluate("new Promise((done) => setTimeout(done, 25))")
        raise AssertionError(f"never: {expression}; complaints: {self.complaints}")

    def key(self, name: str, *, code: int, shift: bool = False, text: str | None = None) -> None:
        """Press and release a key."""
        key = {"key": name, "code": name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        down = {"type": "keyDown" if text else "rawKeyDown", **key}
        self.call("Input.dispatchKeyEvent", {**down, **({"text": text} if text else {})})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **key})

    def screenshot(self, path: Path) -> None:
        """Write what is to be seen as PNG."""
        shot = self.call("Page.captureScreenshot", {"format": "png"})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def matches(pattern: str, url: str) -> bool:
    """Whether `url` is like `pattern`, as the browser understands it: `*` stands for anything."""
    first, *others = pattern.split("*")
    if not url.startswith(first):
        return False
    rest = url[len(first) :]
    for part in others[:-1]:
        _, found, rest = rest.partition(part)
        if not found and part:
            return False
    return rest.endswith(others[-1]) if others else not rest


@contextmanager
def running_chromium(executable: str, *, folder: Path | None = None) -> Iterator[Browser]:
    """Chromium with an empty profile, which is made in `folder` (default: the system's for such things)."""
    with tempfile.TemporaryDirectory(
        prefix="fairlead-chromium-", dir=folder, ignore_cleanup_errors=True
    ) as profile:
        read_there, write_here = os.pipe()
        read_here, write_there = os.pipe()
        # The protocol's pipe is file descriptors 3 and 4 of the browser.
        moved = f'exec "$0" "$@" 3<&{read_there} 4>&{write_there}'
        process = subprocess.Popen(  # noqa: S603 - the installed browser
            ["/bin/bash", "-c", moved, executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read_there, write_there),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_there)
        os.close(write_there)
        try:
            yield Browser(process, write_here, read_here)
        finally:
            os.close(write_here)
            os.close(read_here)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: the browser and its helpers
            process.wait(timeout=DEADLINE_S)
            _remove_socket(Path(profile))


def _remove_socket(profile: Path) -> None:
    """Remove the folder that the browser makes beside its profile and leaves where it is killed."""
    with suppress(OSError):
        shutil.rmtree((profile / "SingletonSocket").readlink().parent)
