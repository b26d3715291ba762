"""Parts of `fairlead demo-support` by themselves; test_sockets_browser.py and the e2e tests use them, too."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.cli.demo_support import relay
from fairlead.cli.demo_support.chromium import matches
from tests.sandbox_service import toolenvs


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        pytest.param("https://a.example/x", "https://a.example/x", True, id="the same"),
        pytest.param("https://a.example/x", "https://a.example/x?y", False, id="longer"),
        pytest.param("https://a.example/*", "https://a.example/x?y", True, id="anything behind"),
        pytest.param("https://a.example/*", "https://a.example.evil.example/", False, id="another host"),
        pytest.param("*/sdk.js", "https://static.example/2.0/sdk.js", True, id="anything before"),
        pytest.param("*/sdk.js", "https://static.example/sdk.js.map", False, id="another ending"),
        pytest.param("https://*/assets/*.js", "https://a.example/assets/b.js", True, id="in between"),
        pytest.param("https://*/assets/*.js", "https://a.example/b.js", False, id="a part is missing"),
    ],
)
def test_addresses_are_matched_as_the_browser_matches_them(pattern: str, url: str, expected: bool) -> None:
    assert matches(pattern, url) is expected


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says what it hears."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(near,), daemon=True).start()

    def answer(near: socket.socket) -> None:
        with near:
            while data := near.recv(1000):
                near.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.close()


def _said(line: relay.Line) -> bytes:
    with socket.create_connection(("127.0.0.1", line.port), timeout=60) as near:
        near.sendall(b"hello")
        try:
            return near.recv(100)
        except ConnectionError:
            return b""


def test_a_line_passes_on_is_cut_and_is_mended(echo: int) -> None:
    with relay.laid() as line:
        assert _said(line) == b""
        line.lead_to(echo)
        assert _said(line) == b"hello"
        with socket.create_connection(("127.0.0.1", line.port), timeout=60) as near:
            near.sendall(b"still there")
            assert near.recv(100) == b"still there"
            assert line.cut() == 1
            assert near.recv(100) == b""
        assert _said(line) == b""
        line.mend()
        assert _said(line) == b"hello"


def _demo(data_dir: Path, **variables: str) -> tuple[int, dict[str, object]]:
    command = ["-m", "fairlead.cli.main", "demo-support", "--json"]
    ended = subprocess.run(
        [sys.executable, *command, "--data-dir", str(data_dir), "--toolenvs", str(toolenvs())],
        capture_output=True,
        timeout=180,
        env={"HOME": str(data_dir.parent), **variables},
    )
    return ended.returncode, json.loads(ended.stdout)


def test_without_a_browser_and_without_a_way_to_install_it_the_demo_says_what_to_do(tmp_path: Path) -> None:
    code, problem = _demo(tmp_path / "demo", PATH=str(tmp_path))
    assert (code, problem["code"]) == (1, "demo.browser_missing")
    assert "apt-get install chromium fonts-nanum" in str(problem["remedy"])


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, problem = _demo(tmp_path, PATH="/usr/bin:/bin")
    assert (code, problem["code"]) == (1, "demo.failed")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
