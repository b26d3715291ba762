"""CPU time and memory of a plan, beside terraform's plan of the same graph in the same run.

    .venv/bin/python -m tests.benchmarks.bench_plan

Prints `name value unit` lines. What is timed: decoding and proving a state version, diff, order, risk,
cost and digest, with one resource in ten changed; not: reading YAML, network, starting Python. CPU seconds
(user + system) are compared, because wall times mean little on shared cores. Where terraform is on the
PATH, it plans the same graph of `terraform_data` (the same edges, a padding of the same size) from an
empty state, which is the least that it ever has to do.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.changes import diff
from fairlead.changes.intrinsics import Join
from fairlead.changes.model import Desired, Plan, Recorded, Reference
from fairlead.changes.registry import Registry
from fairlead.changes.state.codec import encode, parse, parse_resources
from fairlead.changes.state.model import ResourceStatus, Snapshot, state_resource
from fairlead.kernel.memory import gc_paused

Line = tuple[str, float, str]
Edges = dict[str, list[str]]

PADDING = "x" * 200
TYPE = "AWS::SSM::Parameter"


def edges(shape: str, count: int) -> Edges:
    """`fan`: all need the first. `dag`: each needs up to three earlier ones. Always the same graph."""
    names = [f"R{i:05d}" for i in range(count)]
    if shape == "fan":
        return {name: names[:1] if i else [] for i, name in enumerate(names)}
    return {name: sorted({names[(i * k) // 7] for k in (2, 3, 5) if i}) for i, name in enumerate(names)}


def wanted(graph: Edges) -> dict[str, Desired]:
    """The template: each value joins what it needs, one in ten differs from what is recorded."""
    made = {}
    for index, (name, needs) in enumerate(graph.items()):
        parts: list[Any] = [
            PADDING,
            "v2" if index % 10 == 0 else "v1",
            *(Reference(need, "Tier") for need in needs),
        ]
        made[name] = Desired(
            logical_id=name,
            type=TYPE,
            properties={**_plain(name), "Value": Join("/", parts)},
            dynamic=bool(needs),
            depends_on=tuple(needs),
        )
        if not needs:
            made[name].properties["Value"] = "/".join(str(part) for part in parts)
    return made


def _plain(name: str) -> dict[str, Any]:
    tags = [{"Key": key, "Value": f"{key}-{name}"} for key in ("Environment", "Project")]
    return {
        "Name": f"/bench/{name}",
        "Type": "String",
        "Tier": "Standard",
        "Description": "a parameter",
        "Tags": tags,
    }


def state_file(graph: Edges) -> bytes:
    """What the state log holds before: about 1.4 KB per resource."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    resources = []
    for name, needs in graph.items():
        properties = {**_plain(name), "Value": "/".join([PADDING, "v1", *("Standard" for _ in needs)])}
        known = Recorded(
            logical_id=name,
            type=TYPE,
            identifier=f"/bench/{name}",
            properties=properties,
            observed={**properties, "Arn": f"arn:aws:ssm:us-east-1:000000000000:parameter/bench/{name}"},
            depends_on=tuple(needs),
        )
        resources.append(
            state_resource(
                known, region="us-east-1", status=ResourceStatus.ACTIVE, created_at=now, updated_at=now
            )
        )
    snapshot = Snapshot(resources=resources, actor="bench", description="", timestamp=now)
    return encode("bench", 1, None, snapshot, "nonce")[2]


def planned(
    data: bytes, template: dict[str, Desired], registry: Registry
) -> tuple[Plan, dict[str, Recorded]]:
    """What is timed. The state is given back too, since whoever plans still needs it."""
    with gc_paused():
        state = parse_resources(parse(data, "bench", 1))
        recorded = {each.logical_id: each.recorded() for each in state}
        return diff.plan(template, recorded, {}, registry, base_version=1), recorded


def measure(shape: str, count: int, rounds: int = 9) -> dict[str, float]:
    """CPU milliseconds of the round that neighbours disturbed least, and the process's peak memory in MB."""
    graph = edges(shape, count)
    data, template, registry = state_file(graph), wanted(graph), Registry()
    registry.get(TYPE)
    gc.collect()
    times = []
    for _ in range(rounds):
        before = time.process_time()
        made, recorded = planned(data, template, registry)
        times.append((time.process_time() - before) * 1000)
        del recorded
        assert len(made.changes) == -(-count // 10), len(made.changes)
        assert made.unchanged == count - len(made.changes)
    return {"cpu_ms": min(times), "rss_mb": _peak_mb(), "state_mb": len(data) / 1e6}


def _peak_mb() -> float:
    """Peak memory of this program. Not ru_maxrss: that one remembers the process that started us."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _in_a_process_of_its_own(shape: str, count: int) -> dict[str, float]:
    """Memory of one case must not hold what another left behind."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_plan", "--one", shape, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def terraform_config(graph: Edges) -> str:
    """The same graph of `terraform_data`, as JSON configuration."""
    blocks = {
        name: {"input": "/".join([PADDING, "v1", *(f"${{terraform_data.{need}.id}}" for need in needs)])}
        for name, needs in graph.items()
    }
    return json.dumps({"resource": {"terraform_data": blocks}})


def terraform_plan_cpu_s(binary: str, graph: Edges) -> float:
    """CPU seconds (user + system, children included) of `terraform plan` from an empty state."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "main.tf.json").write_text(terraform_config(graph), encoding="utf-8")
        environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
        subprocess.run(
            [binary, "init", "-input=false"], cwd=folder, env=environment, check=True, capture_output=True
        )
        with Path(folder, "log").open("wb") as log:
            command = [binary, "plan", "-input=false", "-lock=false", "-out=plan"]
            child = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"terraform plan ended with {child.returncode}")
        return usage.ru_utime + usage.ru_stime


def run() -> list[Line]:
    """All lines of this benchmark."""
    lines: list[Line] = []
    ours = {}
    for shape, count in (("dag", 1_000), ("fan", 1_000), ("dag", 10_000)):
        found = ours[shape, count] = _in_a_process_of_its_own(shape, count)
        lines.append((f"plan_{shape}_{count}_cpu", found["cpu_ms"], "ms"))
        lines.append((f"plan_{shape}_{count}_rss", found["rss_mb"], "MB"))
    binary = shutil.which("terraform")
    for shape in ("dag", "fan") if binary else ():
        theirs = terraform_plan_cpu_s(str(binary), edges(shape, 1_000))
        lines.append((f"terraform_plan_{shape}_1000_cpu", theirs * 1000, "ms"))
        lines.append(
            (f"terraform_to_plan_{shape}_1000_cpu", theirs * 1000 / ours[shape, 1_000]["cpu_ms"], "ratio")
        )
    return lines


def _main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
        return
    for name, value, unit in run():
        print(f"{name} {value:.3f} {unit}")


if __name__ == "__main__":
    _main()
