"""The dashboard over a real server: what it shows, what its keys do, and what if nobody answers."""

import fcntl
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, RichLog, Static

from fairlead.cases import store
from fairlead.cases.gpus import HostState
from fairlead.cases.store import CaseStatus
from fairlead.cli.client import Client, Credentials
from fairlead.cli.dashboard import view
from fairlead.cli.dashboard.app import Dashboard
from fairlead.cli.dashboard.feed import Feed
from fairlead.cli.dashboard.panes import Rows
from fairlead.kernel.db import open_database
from tests.cases.bench_of_cases import PATIENT, PROJECT, Bench, bench
from tests.services import free_port

WIDE, NARROW = (120, 36), (80, 24)


@pytest.fixture
def made(tmp_path: Path, sqlite_template: Path) -> Iterator[Bench]:
    shutil.copy(sqlite_template, tmp_path / "fairlead.db")
    database = open_database(f"sqlite:///{tmp_path / 'fairlead.db'}")
    with bench(database, tmp_path) as opened:
        yield opened
    database.close()


@pytest.fixture
def served_bench(made: Bench) -> Iterator[Bench]:
    with made.serving():
        yield made


@asynccontextmanager
async def shown(
    made: Bench, size: tuple[int, int] = WIDE, *, who: str = "olga", url: str | None = None
) -> AsyncIterator[Pilot[None]]:
    """The dashboard of this user."""
    feed = Feed(lambda: made.client(who, url=url), PROJECT, pace_s=0.25)
    async with Dashboard(feed, PROJECT).run_test(size=size, notifications=True) as pilot:
        yield pilot


async def until(pilot: Pilot[None], condition: Callable[[], Any], what: str, patience_s: float = 60.0) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + patience_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {patience_s:g} s\n{screen(pilot)}"
        await pilot.pause(0.02)
    return answer


def screen(pilot: Pilot[None]) -> str:
    """Everything that can be read now."""
    lines = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in lines)


def rows(pilot: Pilot[None], pane: str) -> list[str]:
    return [row.plain for row in pilot.app.query_one(f"#{pane}", Rows)._shown]


def text(pilot: Pilot[None], pane: str) -> str:
    return str(pilot.app.query_one(f"#{pane}", Static).visual)


def log(pilot: Pilot[None]) -> str:
    """The log's words, wherever its lines are broken."""
    return " ".join(" ".join(line.text.split()) for line in pilot.app.query_one("#log", RichLog).lines)


async def live(pilot: Pilot[None]) -> None:
    await until(pilot, lambda: "● live" in screen(pilot) and "case 1" in text(pilot, "case"), "it is live")


async def at(pilot: Pilot[None], number: int) -> None:
    """The cursor on this case, and its details shown."""
    pilot.app.query_one("#cases").focus()
    table = pilot.app.query_one("#cases", Rows)
    numbers = [row.key for row in table._shown]
    while steps := numbers.index(str(number)) - table.cursor_row:
        await pilot.press("down" if steps > 0 else "up")
    await until(pilot, lambda: text(pilot, "case").startswith(f"case {number} "), "its details are shown")


async def test_a_wide_terminal_shows_queues_hosts_gpus_steps_details_and_log_at_once(
    served_bench: Bench,
) -> None:
    async with shown(served_bench) as pilot:
        await live(pilot)
        assert [row.split()[:2] for row in rows(pilot, "cases")] == [
            ["1", "running"], ["3", "waiting"], ["2", "pending"],
            ["6", "failed"], ["5", "completed"], ["4", "completed"],
        ]  # fmt: skip
        assert "pass 99.2" in rows(pilot, "cases")[5]
        first = rows(pilot, "running")[0]
        assert re.fullmatch(r"1 2 gpu-1 gpu-0 ━━───  40% (9\d ?s|\d+ ?m).*", first), first
        assert [row.split()[:4] for row in rows(pilot, "hosts")] == [
            ["gpu-1", "active", "1", "1"], ["cpu-1", "active", "1", "2"],
        ]  # fmt: skip
        assert "cases.host_unreachable" in rows(pilot, "hosts")[1]
        assert rows(pilot, "gpus") == [
            "gpu-1 0 h200 sxm 97 % case 1 beam 2 20480 143771", "gpu-1 1 h200 sxm 0 % free 0 143771",
        ]  # fmt: skip
        await until(pilot, lambda: "step=transfer state=done" in log(pilot), "the log is there")
        seen = screen(pilot)
        for words in ("1 arriving", "1 Cases", "2 Running", "3 Hosts", "4 GPUs", "5 Details", "6 Log"):
            assert words in seen
        assert "running 1" in text(pilot, "counts")
        await at(pilot, 5)
        assert "log.truncated 2026011209300000/layer 5.ptn: row 412" in text(pilot, "case")
        await at(pilot, 4)
        assert "✓ pass gamma 3 %/3 mm: 99.21 % (limit 95 %)" in text(pilot, "case")
        await at(pilot, 6)
        # What looks like markup is only text.
        assert "ended as failed [exit code 1]\nremedy Read the output" in text(pilot, "case")
        everything = seen + log(pilot) + text(pilot, "case") + "".join(rows(pilot, "cases"))
        assert PATIENT.lower() not in everything.lower()


async def test_a_narrow_terminal_shows_the_cases_and_the_pane_that_has_the_keys(served_bench: Bench) -> None:
    async with shown(served_bench, NARROW) as pilot:
        await live(pilot)
        assert "case 1  running" in screen(pilot)
        assert "h200" not in screen(pilot).lower()
        await pilot.press("4")
        await until(pilot, lambda: "H200 SXM" in screen(pilot), "the GPUs are shown")
        assert "case 1  running  run" not in screen(pilot)
        await pilot.press("tab", "tab")
        await until(pilot, lambda: "state=begun" in screen(pilot), "the log is shown")
        await pilot.press("shift+tab")
        await until(pilot, lambda: "case 1  running  run" in screen(pilot), "the details are shown")
        for line in screen(pilot).splitlines():
            assert len(line) == 80
        assert "q Quit" in screen(pilot).splitlines()[-1]
        await pilot.resize_terminal(*WIDE)
        await until(pilot, lambda: "4 GPUs" in screen(pilot) and "6 Log" in screen(pilot), "it grows")


async def test_keys_change_priority_and_retry_through_the_api(served_bench: Bench) -> None:
    async with shown(served_bench) as pilot:
        await live(pilot)
        await at(pilot, 2)
        await pilot.press("p", "p", "p", "P")
        await until(pilot, lambda: served_bench.case(2).priority == 2, "the priority is 2")
        await until(pilot, lambda: "0% 2 " in rows(pilot, "cases")[2].replace("  ", " "), "it is shown")
        await at(pilot, 6)
        await pilot.press("r")
        await until(pilot, lambda: served_bench.case(6).round == 2, "case 6 begins again")
        await until(pilot, lambda: "Case 6: a new round begins." in screen(pilot), "it is said")


async def test_an_administrator_pauses_a_host(served_bench: Bench) -> None:
    async with shown(served_bench, who="root") as pilot:
        await live(pilot)
        await pilot.press("3", "down", "d")
        await until(pilot, lambda: "Host cpu-1" in screen(pilot), "it asks")
        await pilot.press("p")
        await until(pilot, lambda: "paused" in rows(pilot, "hosts")[1], "the host is paused")
        with served_bench.database.reading() as conn:
            host = store.host(conn, "cpu-1")
        assert host is not None
        assert host.state is HostState.PAUSED


async def test_cancelling_asks_first_and_means_the_case_that_was_chosen_then(served_bench: Bench) -> None:
    async with shown(served_bench) as pilot:
        await live(pilot)
        await at(pilot, 2)
        await pilot.press("c")
        await until(pilot, lambda: "Cancel case 2" in screen(pilot), "it asks")
        await pilot.press("escape")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 1, "the question is gone")
        assert served_bench.case(2).status is CaseStatus.PENDING
        await pilot.press("c")
        served_bench.set(5, status=CaseStatus.PENDING)  # rows move under the question
        await until(pilot, lambda: rows(pilot, "cases")[3].startswith("5 pending"), "the rows moved")
        await pilot.press("y")
        await until(pilot, lambda: served_bench.case(2).status is CaseStatus.CANCELLED, "case 2 is cancelled")
        assert served_bench.case(5).status is CaseStatus.PENDING


async def test_what_one_may_not_do_is_said_with_code_and_remedy(served_bench: Bench) -> None:
    async with shown(served_bench, who="vera") as pilot:
        await live(pilot)
        await at(pilot, 6)
        await pilot.press("r")
        await until(pilot, lambda: "auth.permission_missing" in screen(pilot), "it is refused")
        await until(pilot, lambda: "remedy:" in screen(pilot), "there is a remedy")
        assert served_bench.case(6).round == 1


async def test_a_filter_shows_cases_that_hold_its_words_and_escape_shows_all(served_bench: Bench) -> None:
    async with shown(served_bench) as pilot:
        await live(pilot)
        await pilot.press("slash", *"cpu-1", "space", *"pass")
        await until(pilot, lambda: len(rows(pilot, "cases")) == 1, "only one case is left")
        assert rows(pilot, "cases")[0].startswith("4 ")
        await pilot.press("enter")
        await until(pilot, lambda: not pilot.app.query_one("#filter", Input).display, "the field closes")
        await until(pilot, lambda: text(pilot, "case").startswith("case 4 "), "its details are shown")
        await pilot.press("escape")
        await until(pilot, lambda: len(rows(pilot, "cases")) == 6, "all are shown")


async def test_the_log_is_live_and_begins_at_any_number(served_bench: Bench) -> None:
    async with shown(served_bench) as pilot:
        await live(pilot)
        served_bench.happened(1, "beam.progress", beam=2, progress=0.7)
        await until(pilot, lambda: "beam=2 progress=0.7" in log(pilot), "the event arrives")
        assert "case.step step=validate" in log(pilot)
        await pilot.press("g")
        await until(pilot, lambda: "which number" in screen(pilot), "it asks")
        await pilot.press(*"8", "enter")
        await until(
            pilot,
            lambda: re.findall(r"(\d+) \d\d:\d\d:\d\d ", log(pilot)) == ["8", "9", "10"],
            "the log begins anew",
        )
        served_bench.happened(1, "beam.progress", beam=2, progress=0.8)
        await until(pilot, lambda: "progress=0.8" in log(pilot), "it goes on")
        assert log(pilot).count("progress=0.7") == 1


async def test_enter_shows_everything_about_a_case_and_stays_live(served_bench: Bench) -> None:
    async with shown(served_bench, NARROW) as pilot:
        await live(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "beam 2: running" in screen(pilot), "its beams are shown")
        served_bench.set(1, priority=42)
        await until(pilot, lambda: "priority 42" in screen(pilot), "it is live")
        await pilot.press("escape", "3", "down", "enter")
        await until(pilot, lambda: "No connection to host cpu-1." in screen(pilot), "the host is explained")
        assert "another project" in screen(pilot)
        await pilot.press("escape", "question_mark")
        await until(pilot, lambda: "priority up, down" in screen(pilot), "the keys are explained")


async def test_a_server_that_goes_away_is_named_and_one_that_comes_back_is_found(made: Bench) -> None:
    port = free_port()
    serving = made.serving(port)
    url = serving.__enter__()
    async with shown(made, url=url) as pilot:
        await live(pilot)
        serving.__exit__(None, None, None)
        await until(pilot, lambda: "SERVER AWAY" in screen(pilot), "it says so")
        assert len(rows(pilot, "cases")) == 6
        await pilot.press("r")
        await until(pilot, lambda: "cli.server_unreachable" in screen(pilot), "an action says so too")
        await until(pilot, lambda: "fairlead serve" in screen(pilot), "with a remedy")
        made.set(1, priority=9)
        with made.serving(port):
            await until(pilot, lambda: "● live" in screen(pilot), "it is found again")
            await until(pilot, lambda: " 9 " in rows(pilot, "cases")[0], "and shows what happened meanwhile")


async def test_a_server_that_accepts_and_never_answers_holds_up_nothing(made: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with shown(made, url=url) as pilot:
            began = time.monotonic()
            await until(pilot, lambda: "asking the server" in screen(pilot), "it waits")
            await pilot.press("question_mark")
            await until(pilot, lambda: "priority up, down" in screen(pilot), "keys work meanwhile")
            await pilot.press("escape", "q")
        assert time.monotonic() - began < 50.0  # it waits for an answer for a minute


async def test_an_expired_login_is_said_and_a_new_one_is_used(served_bench: Bench) -> None:
    tokens = ["wrong"]

    def connect() -> Client:
        return Client(Credentials(served_bench.url, tokens[0]), keep=False)

    async with Dashboard(Feed(connect, PROJECT, pace_s=0.25), PROJECT).run_test(size=WIDE) as pilot:
        await until(pilot, lambda: "NO ANSWER (auth." in screen(pilot), "it is refused")
        tokens[0] = served_bench.tokens["root"]
        await live(pilot)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "\u2013"), (0, "0s"), (99.9, "99s"), (100, "1m"), (3599, "59m"), (3600, "1h00"), (90_000, "1d")],
)
def test_lengths_of_time_are_short(seconds: float | None, words: str) -> None:
    assert view.span(seconds) == words


SCANS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "never": (None, "scan folder: none"),
    "well": ({"scanned_at": "2026-01-01T00:00:00.000Z", "unstable": 0, "problem": None}, "scan 9s ago"),
    "broken": (
        {"scanned_at": None, "unstable": 0, "problem": {"code": "cases.scan_folder_unusable"}},
        "scan folder: cases.scan_folder_unusable",
    ),
}


@pytest.mark.parametrize(("scan", "words"), SCANS.values(), ids=SCANS.keys())
def test_the_scan_folder_is_told_of(scan: dict[str, Any] | None, words: str) -> None:
    overview = {"at": "2026-01-01T00:00:05.000Z", "scan": scan}
    assert view.scan_line(overview, passed_s=4.0).plain == words


def terminal(made: Bench, folder: Path, **variables: str) -> tuple["subprocess.Popen[bytes]", int]:
    """The command in a terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLORTERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fairlead.cli.main", "cases", "dashboard", "-p", PROJECT],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True,
        env={
            **kept, "TERM": "xterm-256color", "XDG_CONFIG_HOME": str(folder),
            "FAIRLEAD_URL": made.url, "FAIRLEAD_TOKEN": made.tokens["root"], **variables,
        },
    )  # fmt: skip
    os.close(slave)
    return process, master


def read_until(master: int, words: bytes, patience_s: float = 60.0) -> bytes:
    found, deadline = b"", time.monotonic() + patience_s
    while words not in found:
        assert time.monotonic() < deadline, found[-2000:]
        if select.select([master], [], [], 0.1)[0]:
            found += os.read(master, 65536)
    return found


def read_rest(master: int, patience_s: float = 60.0) -> bytes:
    """What follows until the program ends: while nobody reads, it cannot write, and does not end."""
    found, deadline = b"", time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                found += os.read(master, 65536)
            except OSError:  # the other side is closed
                return found
    raise AssertionError(found[-2000:])


def colours(painted: bytes) -> tuple[set[int], set[int]]:
    """Codes that set a foreground, and codes that set a background, in what was written to a terminal."""
    fore, back = set(), set()
    for found in re.findall(rb"\x1b\[([\d;]*)m", painted):
        codes = [int(code or 0) for code in found.split(b";")]
        while codes:
            code = codes.pop(0)
            if code in (38, 48):
                codes = codes[4:] if codes[:1] == [2] else codes[2:]
            if 30 <= code <= 38 or 90 <= code <= 97:
                fore.add(code)
            elif 40 <= code <= 48 or 100 <= code <= 107:
                back.add(code)
    return fore, back


def test_in_a_real_terminal_it_paints_no_background_and_without_colour_none_at_all(
    served_bench: Bench, tmp_path: Path
) -> None:
    painted = {}
    for name, variables in (("colour", {}), ("plain", {"NO_COLOR": "1"})):
        process, master = terminal(served_bench, tmp_path, **variables)
        try:
            painted[name] = read_until(master, b"beam 2: ")
            os.write(master, b"q")
            painted[name] += read_rest(master)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            os.close(master)
    # Red, green and magenta of the terminal, as it has chosen them for its own background.
    assert colours(painted["colour"]) == ({31, 32, 35}, set())
    assert colours(painted["plain"]) == (set(), set())


def test_without_a_terminal_it_says_what_to_use_instead() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fairlead.cli.main", "cases", "dashboard", "-p", PROJECT],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cli.not_a_terminal" in done.stderr
    assert "fairlead cases list" in done.stderr
