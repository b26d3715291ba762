"""How long an answer of the embedded model takes, with warm MCP servers in front of a sandbox.

.venv/bin/python -m tests.benchmarks.bench_answers
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fairlead.support.answers.model import Clarify, Delta, Piece
from fairlead.support.answers.pool import Toolsets
from fairlead.support.model import Intent
from tests.sandbox_service import start_sandbox, toolenvs
from tests.support import accuracy
from tests.support.answering import ACME, Desk, seed

Line = tuple[str, float, str]
_WARM = ("Who deleted my bucket today?", "지금 울리는 알람 보여줘", "EC2 인스턴스 목록")
_READ = {Intent.API_ACTIVITY: 50, Intent.MONITORING: 50, Intent.INVENTORY: 50, Intent.GENERAL: 30}


def _questions() -> list[str]:
    """180 of the accuracy set, both languages."""
    rows = accuracy.questions()
    return [
        row["text"]
        for intent, most in _READ.items()
        for row in [row for row in rows if row["intent"] == intent][:most]
    ]


def _percentiles(name: str, seconds: Sequence[float]) -> list[Line]:
    ordered = sorted(seconds)
    return [
        (f"support.answer.{name}.{label}", round(1000 * ordered[int(len(ordered) * share)], 1), "ms")
        for label, share in (("p50", 0.5), ("p99", 0.99))
    ]


async def _measured(desk: Desk) -> list[Line]:
    started = time.perf_counter()
    for text in _WARM:
        await desk.ask(text)
    cold = time.perf_counter() - started
    heard: list[float] = []
    tokens: list[float] = []
    answers: list[float] = []
    read = 0
    for text in _questions():
        times: list[tuple[float, Piece]] = []
        started = time.perf_counter()
        found = await desk.ask(text, told=partial(_noted, times))
        if isinstance(found.found, Clarify):
            continue
        answers.append(time.perf_counter() - started)
        heard.append(times[0][0] - started)
        tokens.append(next(at for at, piece in times if isinstance(piece, Delta)) - started)
        read += bool(found.calls)
    memory = sum(_resident_mb(number) for number in desk.processes(ACME))
    return [
        ("support.answer.servers.cold_start", round(cold, 2), "s"),
        ("support.answer.servers.memory", round(memory), "MB"),
        ("support.answer.questions", len(answers), "questions"),
        ("support.answer.questions_that_read_aws", read, "questions"),
        *_percentiles("first_piece", heard),
        *_percentiles("first_token", tokens),
        *_percentiles("whole", answers),
    ]


def _noted(times: list[tuple[float, Piece]], piece: Piece) -> None:
    times.append((time.perf_counter(), piece))


def _resident_mb(number: int) -> float:
    status = Path(f"/proc/{number}/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def _asked(endpoint_url: str, folder: Path) -> list[Line]:
    toolsets = Toolsets(root=toolenvs(), homes=folder)
    try:
        return await _measured(Desk(toolsets, endpoint_url, folder))
    finally:
        await toolsets.close()


def run() -> list[Line]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder, start_sandbox(Path(folder)) as sandbox:
        seed(sandbox)
        return asyncio.run(_asked(sandbox.endpoint_url, Path(folder) / "homes"))


if __name__ == "__main__":
    for name, value, unit in run():
        print(f"{name:48} {value:>10} {unit}")
