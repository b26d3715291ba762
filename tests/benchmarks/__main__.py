"""`make bench`: runs every benchmark, prints `name value unit` lines, writes build/bench.json.

`python -m tests.benchmarks plan state` runs only those. No test depends on these times.
"""

import importlib
import json
import os
import platform
import sys
from pathlib import Path

from fairlead.kernel import telemetry

OUT = Path("build/bench.json")


def main(wanted: list[str]) -> int:
    """Run the benchmarks named (default: all); 1 if one of them failed."""
    folder = Path(__file__).parent
    names = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    if unknown := sorted(set(wanted) - set(names)):
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(names)}", file=sys.stderr)
        return 1
    telemetry.configure(level="warning", form="text")
    figures: dict[str, dict[str, object]] = {}
    failed = []
    for name in wanted or names:
        print(f"# {name}", flush=True)
        try:
            rows = importlib.import_module(f"tests.benchmarks.bench_{name}").run()
        except Exception as error:
            print(f"# {name} failed: {type(error).__name__}: {error}", flush=True)
            failed.append(name)
            continue
        for figure, value, unit in rows:
            print(f"{figure} {value:.6g} {unit}", flush=True)
            figures[figure] = {"value": value, "unit": unit}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    about = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    OUT.write_text(json.dumps({"about": about, "failed": failed, "figures": figures}, indent=2) + "\n")
    print(f"# written to {OUT}")
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
