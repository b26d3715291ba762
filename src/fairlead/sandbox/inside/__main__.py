"""Entry by path, in MiniStack's environment: `python …/inside/__main__.py --fd N --state F --schemas D`."""

import argparse
import importlib.util
import sys
from pathlib import Path


def _only_fairlead() -> None:
    """Make `fairlead` importable without the rest of the environment it lies in."""
    package = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location(
        "fairlead", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"{package} is not the fairlead package")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fairlead"] = module
    spec.loader.exec_module(module)
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The AWS sandbox, from inside MiniStack's environment")
    parser.add_argument("--fd", type=int, required=True, help="listening socket")
    parser.add_argument("--state", required=True, help="state file")
    parser.add_argument("--schemas", required=True, help="folder of the resource schemas")
    parser.add_argument("--latency-ms", type=float, default=50.0, help="how long a request stays in progress")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    _only_fairlead()
    from fairlead.sandbox.inside import launcher

    raise SystemExit(launcher.main(given, given.fd))
