"""Real Chromium, headless, driven through the DevTools protocol over a pipe: no port, no driver."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 20.0
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
]


class Browser:
    """A running Chromium. One thread; calls block."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process, self._to, self._from = process, to, back
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def call(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> Any:
        """The result of one protocol call."""
        number = self._post(method, params, session)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            message = self._message(deadline)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
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
                raise TimeoutError("Chromium does not answer")
            chunk = os.read(self._from, 1 << 20)
            if not chunk:
                raise RuntimeError(f"Chromium ended with {self._process.poll()}")
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
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            page.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            where = params["entry"].get("url", "")
            if not where.endswith("/favicon.ico"):
                page.complaints.append(f"{params['entry']['text']} {where}")

    def page(self, url: str, *, stand_ins: dict[str, bytes], width: int = 1200, height: int = 720) -> "Page":
        """A new page at `url`; requests whose address ends like a key of `stand_ins` get that script."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, session["sessionId"], target, stand_ins)
        self._pages[page.session] = page
        for domain in ("Runtime", "Log", "Page"):
            page.call(f"{domain}.enable")
        page.call("Fetch.enable", {"patterns": [{"urlPattern": f"*{ending}"} for ending in stand_ins]})
        page.call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        page.call("Page.navigate", {"url": url})
        return page


class Page:
    """One page and what it complained about."""

    def __init__(self, browser: Browser, session: str, target: str, stand_ins: dict[str, bytes]) -> None:
        self._browser, self.session, self._target, self._stand_ins = browser, session, target, stand_ins
        self.complaints: list[str] = []

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """A protocol call for this page."""
        return self._browser.call(method, params, self.session)

    def close(self) -> None:
        """Close the page: its timers and animations would slow down the others."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})

    def stand_in(self, paused: dict[str, Any]) -> dict[str, Any]:
        """The answer to an intercepted request."""
        url = paused["request"]["url"]
        body = next(body for ending, body in self._stand_ins.items() if url.endswith(ending))
        return {
            "requestId": paused["requestId"],
            "responseCode": 200,
            "responseHeaders": [{"name": "Content-Type", "value": "text/javascript"}],
            "body": base64.b64encode(body).decode(),
        }

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; promises are awaited."""
        found = self.call(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "awaitPromise": True, "userGesture": True},
        )
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until `expression` is truthy. Fails after 20 s, showing what the page complained about."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            # One look for each frame drawn: the page has had the chance to change.
            if self.evaluate(
                f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
                " || new Promise((done) => setTimeout(() => done(false), 25))"
            ):
                return
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


def _program() -> str:
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        message = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Chromium with an empty profile. Without the program: skips, and fails where CI=true."""
    program = _program()
    with tempfile.TemporaryDirectory(prefix="fairlead-chromium-", ignore_cleanup_errors=True) as profile:
        read_there, write_here = os.pipe()
        read_here, write_there = os.pipe()
        # The protocol's pipe is file descriptors 3 and 4 of the browser.
        moved = f'exec "$0" "$@" 3<&{read_there} 4>&{write_there}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", moved, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read_there, write_there),
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
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the browser and its helpers
            process.wait(timeout=10)
