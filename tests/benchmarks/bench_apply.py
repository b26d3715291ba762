"""Apply of 100 independent resources through the MCP pool on the local AWS.

Resources a second are of the apply run itself, from its first event to the committed state. The share
is of CPU time: what the MCP servers used of all that servers, worker and local AWS used meanwhile.
"""

import json
import os
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.product import Product, approve, planned, running, settled

COUNT = 100
TICKS = os.sysconf("SC_CLK_TCK")


def run() -> list[tuple[str, float, str]]:
    """Every figure as (name, value, unit)."""
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder,
        running(Path(folder) / "data") as product,
    ):
        _applied(product, "warm", 10)
        before = _cpu_s(product)
        seconds = _applied(product, "bench", COUNT)
        used = {name: after - before[name] for name, after in _cpu_s(product).items()}
        sequential = seconds / COUNT
        return [
            (f"apply_{COUNT}_seconds", seconds, "s"),
            (f"apply_{COUNT}_rate", COUNT / seconds, "resources/s"),
            (f"apply_{COUNT}_per_resource", sequential * 1000, "ms"),
            (f"apply_{COUNT}_mcp_cpu_share", 100 * used["mcp"] / sum(used.values()), "%"),
            (f"apply_{COUNT}_worker_cpu_share", 100 * used["worker"] / sum(used.values()), "%"),
            (f"apply_{COUNT}_sandbox_cpu_share", 100 * used["sandbox"] / sum(used.values()), "%"),
        ]


def _applied(product: Product, key: str, count: int) -> float:
    """Seconds that the apply of `count` parameters took."""
    product.project(key, ann="approver", bob="approver")
    ann, bob = product.user("ann"), product.user("bob")
    resources: dict[str, Any] = {
        f"P{number:03}": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Type": "String", "Name": f"/{key}/{number}", "Value": "x"},
        }
        for number in range(count)
    }
    made = planned(ann, key, json.dumps({"Resources": resources}))
    approve(bob, key, made)
    ann.post(f"/projects/{key}/plans/{made['number']}/apply")
    ended = settled(ann, key, made["number"])
    assert ended["status"] == "applied", ended["problem"]
    events = list(ann.events(ended["apply_run_id"]))
    at = {event["type"]: datetime.fromisoformat(event["at"]) for event in events}
    return (at["state.committed"] - at["apply.started"]).total_seconds()


def _cpu_s(product: Product) -> dict[str, float]:
    """CPU seconds so far of the worker, of its MCP servers, and of the local AWS."""
    worker = product.worker_pid()
    children = subprocess.run(
        ["ps", "--ppid", str(worker), "-o", "pid="], capture_output=True, text=True
    ).stdout
    return {
        "worker": _of(worker),
        "mcp": sum(_of(int(pid)) for pid in children.split()),
        "sandbox": _of(product.about["sandbox_pid"]),
    }


def _of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:  # `ps` itself is among the children, and gone
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS
