"""What the dashboard shows of an answer: rows and texts, made by pure functions.

Colours are the terminal's own red, green and magenta, readable on light and on dark; every one of them
only repeats what a word says already.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

GOOD, BAD, WARN, QUIET, LIVE = "green", "bold red", "magenta", "dim", "bold"
STALE_S = 180.0  # a look at a host or a scan that is older is worth a warning
_STYLES = {
    "running": LIVE, "failed": BAD, "fail": BAD, "pass": GOOD, "cancelled": WARN,
    "paused": WARN, "draining": WARN, "drained": WARN, "collecting": LIVE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; `key` stays the same while its cells change."""

    key: str
    cells: tuple[Text, ...]

    @property
    def plain(self) -> str:
        """What it says, for a filter."""
        return " ".join(cell.plain for cell in self.cells).lower()


Json = Mapping[str, Any]
CASES = ("case", "status", "step", "progress", "verdict", "prio", "age", "host")
RUNNING = ("case", "beam", "host", "place", "progress", "elapsed", "attempt")
HOSTS = ("host", "state", "used", "free", "seen", "problem", "kind")
GPUS = ("host", "GPU", "busy", "held by", "used MB", "of MB")


def seconds_between(earlier: str | None, later: str) -> float | None:
    """Between two times as the server writes them; never below 0."""
    if earlier is None:
        return None
    return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())


def span(seconds: float | None) -> str:
    """A length of time in at most five characters: 9s, 12m, 3h05, 4d."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 100:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}"
    return f"{whole // 86400}d"


def progress(share: float, width: int = 5) -> Text:
    """A bar and percent."""
    done = int(width * min(max(share, 0.0), 1.0))
    return Text.assemble(("━" * done, LIVE), ("─" * (width - done), QUIET), f"{100 * share:4.0f}%")


def styled(word: str | None) -> Text:
    """A state in its colour."""
    return Text(word or "", style=_STYLES.get(word or "", ""))


def all_cases(overview: Json) -> list[Json]:
    """Cases as they matter: those at work, then those that wait, then those that have ended, newest first."""
    queues = overview["queues"]
    return [*queues["running"], *queues["waiting"], *queues["done"]]


def case_rows(overview: Json, words: str = "") -> list[Row]:
    """The cases whose row holds all of `words`."""
    at = overview["at"]
    rows = [Row(str(case["number"]), _case_cells(case, at)) for case in all_cases(overview)]
    return [row for row in rows if all(word in row.plain for word in words.lower().split())]


def _case_cells(case: Json, at: str) -> tuple[Text, ...]:
    ended = case["finished_at"]
    age = seconds_between(ended or case["created_at"], at)
    verdict, rate = case["verdict"], case["pass_rate"]
    shown = styled(verdict)
    shown.plain = (verdict or "").upper()
    if rate is not None:
        shown.append(f" {rate:.1f}", style="")
    return (
        Text(str(case["number"]), justify="right"),
        styled(case["status"]),
        Text(case["step"]),
        progress(case["progress"]),
        shown,
        Text(str(case["priority"]), justify="right", style="" if case["priority"] else QUIET),
        Text(f"{span(age)}{' ago' if ended else ''}"),
        Text(case["host"] or "", style=QUIET),
    )


def running_rows(overview: Json) -> list[Row]:
    """The beams at work."""
    return [
        Row(
            f"{step['case']}/{step['beam']}",
            (
                Text(str(step["case"]), justify="right"),
                Text(str(step["beam"]), justify="right"),
                Text(step["host"] or ""),
                Text(", ".join(map(short, step["slots"])) or step["status"], style=QUIET),
                progress(step["progress"]),
                Text(span(seconds_between(step["started_at"], overview["at"])), justify="right"),
                Text(str(step["attempt"]), style=WARN if step["attempt"] > 1 else QUIET),
            ),
        )
        for step in overview["steps"]
    ]


def host_rows(overview: Json) -> list[Row]:
    """The hosts: whether they work, and how many of their places are taken."""
    rows = []
    for host in overview["hosts"]:
        used = sum(slot["job"] is not None for slot in host["slots"])
        looked = seconds_between(host["looked_at"], overview["at"])
        old = looked is None or looked > STALE_S
        problem = host["problem"]
        cells = (
            Text(host["name"], style=LIVE),
            styled("drained" if host["drained"] else host["state"]),
            Text(str(used), justify="right"),
            Text(str(len(host["slots"]) - used), justify="right"),
            Text("never" if looked is None else f"{span(looked)} ago", style=WARN if old else QUIET),
            Text(problem["code"], style=BAD) if problem else Text("–", style=QUIET),
            Text(host["executor"], style=QUIET),
        )
        rows.append(Row(host["name"], cells))
    return rows


def gpu_rows(overview: Json) -> list[Row]:
    """The GPUs of all hosts."""
    rows = []
    for host in overview["hosts"]:
        held = {slot["slot"]: slot for slot in host["slots"]}
        for gpu in host["gpus"]:
            busy = gpu.get("utilisation_percent")
            cells = (
                Text(host["name"]),
                Text(f"{gpu['index']} {gpu['name']}"),
                Text("–" if busy is None else f"{busy} %", justify="right"),
                holder(held.get(gpu["uuid"])),
                Text(_number(gpu.get("memory_used_mb")), justify="right"),
                Text(_number(gpu.get("memory_total_mb")), justify="right"),
            )
            rows.append(Row(f"{host['name']}/{gpu['uuid']}", cells))
    return rows


def _number(value: int | None) -> str:
    return "–" if value is None else str(value)


def holder(slot: Json | None) -> Text:
    """Whose job holds a place: a case of this project, or another project's job."""
    if slot is None or slot["job"] is None:
        return Text("free", style=QUIET)
    if slot["case"] is None:
        return Text("another project", style=QUIET)
    beam = next((part[1:] for part in slot["job"].split("-") if part.startswith("b")), "?")
    return Text(f"case {slot['case']} beam {beam}", style=LIVE)


def short(place: str) -> str:
    """A place's name, cut where it is a GPU's long one."""
    return place if len(place) <= 12 else f"{place[:9]}…"


def counts_line(overview: Json, *, passed_s: float) -> Text:
    """How many cases there are of every status, and how the scan folder is."""
    line = Text()
    for status, count in overview["counts"].items():
        if count or status in ("pending", "running", "failed"):
            style = _STYLES.get(status, "") if count else QUIET
            line.append(f"{status} ", style=QUIET).append(f"{count}  ", style=style)
    return line.append_text(scan_line(overview, passed_s=passed_s))


def scan_line(overview: Json, *, passed_s: float) -> Text:
    """When the scan folder was last read, or why it cannot be."""
    scan = overview["scan"]
    if scan is None:
        return Text("scan folder: none", style=QUIET)
    if scan["problem"]:
        return Text(f"scan folder: {scan['problem']['code']}", style=BAD)
    age = (seconds_between(scan["scanned_at"], overview["at"]) or 0.0) + passed_s
    words = f"scan {span(age)} ago"
    if scan["unstable"]:
        words += f", {scan['unstable']} arriving"
    return Text(words, style=WARN if age > STALE_S else QUIET)


def event_line(event: Json) -> Text:
    """One event of a run: number, time, type, what it says."""
    kind, data = event["type"], event.get("data") or {}
    said = "  ".join(f"{key}={_value(value)}" for key, value in data.items() if _value(value) is not None)
    bad = kind.endswith((".failed", ".refused"))
    good = kind in ("case.finished", "run.succeeded")
    return Text.assemble(
        (f"{event['seq']:>5} {event['at'][11:19]} ", QUIET),
        (f"{kind} ", BAD if bad else GOOD if good else LIVE),
        said,
    )


def _value(value: Any) -> str | None:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, Sequence):
        return ",".join(map(str, value)) or None
    return None


# --- one case in full ----------------------------------------------------------------------------


def details(case: Json | None) -> Text:
    """Everything about one case: what it waits for, what was found, and what to do about it."""
    if case is None:
        return Text("No case is chosen.", style=QUIET)
    text = Text()
    text.append(f"case {case['number']}  ", style=LIVE).append_text(styled(case["status"]))
    text.append(f"  {case['step']} {100 * case['progress']:.0f} %  round {case['round']}")
    text.append(f"  priority {case['priority']}")
    if case["verdict"]:
        text.append("  verdict ").append(case["verdict"].upper(), style=_STYLES.get(case["verdict"], ""))
    if case["pass_rate"] is not None:
        text.append(f"  gamma {case['pass_rate']:.2f} %")
    text.append("\n")
    for line in (*_problem(case), *_checks(case), *_violations(case), *_parts(case)):
        text.append_text(line).append("\n")
    return text


def host_details(host: Json | None, at: str) -> Text:
    """Everything about one host: its problem, and who holds its places."""
    if host is None:
        return Text("No host is chosen.", style=QUIET)
    looked = seconds_between(host["looked_at"], at)
    text = Text.assemble((f"{host['name']}  ", LIVE), styled("drained" if host["drained"] else host["state"]))
    text.append(f"  {host['executor']}  answered {'never' if looked is None else f'{span(looked)} ago'}\n")
    if host["problem"]:
        text.append_text(problem_text(host["problem"])).append("\n")
    for slot in host["slots"]:
        text.append(f"{slot['slot']}: ").append_text(holder(slot)).append("\n")
    return text


def problem_text(problem: Json) -> Text:
    """Code, message and remedy of a problem."""
    text = Text.assemble((f"{problem.get('code')}: ", BAD), str(problem.get("detail") or ""))
    if problem.get("remedy"):
        text.append("\nremedy ", style=LIVE).append(str(problem["remedy"]))
    return text


def _problem(case: Json) -> Iterable[Text]:
    if case["problem"]:
        yield problem_text(case["problem"])


def _checks(case: Json) -> Iterable[Text]:
    for check in (case["result"] or {}).get("checks", ()):
        mark = ("✓ pass ", GOOD) if check["passed"] else ("✗ fail ", BAD)
        yield Text.assemble(mark, f"{check['name']}: {check['found']} (limit {check['limit']})")


def _violations(case: Json) -> Iterable[Text]:
    for found in case["violations"]:
        place = f"{found['file']}: {found['field']}" if found["field"] else found["file"]
        yield Text.assemble(("✗ ", BAD), (f"{found['rule']} ", LIVE), f"{place}: {found['message']}")


def _parts(case: Json) -> Iterable[Text]:
    for fraction in case["fractions"]:
        missing = f", missing beams {fraction['missing_beams']}" if fraction["missing_beams"] else ""
        count = len(fraction["deliveries"])
        yield Text(f"fraction {fraction['number']}: {fraction['state']}, {count} deliveries{missing}")
    for beam in case["beams"]:
        text = Text.assemble(
            f"beam {beam['beam']}: ", styled(beam["status"]), " ", progress(beam["progress"])
        )
        text.append(f"  attempt {beam['attempt']}  {beam['host'] or ''} {', '.join(beam['slots'])}".rstrip())
        yield text
        if beam["problem"]:
            yield problem_text(beam["problem"])
