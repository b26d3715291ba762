#!/usr/bin/env bash
# Puts the pinned uv into .uv/ of this checkout, verified by hash, with whatever installer the machine has.
set -euo pipefail
python=${1:-python3}
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail "needs Python 3.11 or newer as '$python'. Remedy: apt-get install python3, or make PYTHON=/path/to/python3.11 …"

if ! "$python" -m pip --version >/dev/null 2>&1; then
  # Debian ships Python without pip; only root may add it.
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "'$python' has no pip. Remedy: apt-get install python3-pip (as root), then the same command again."
  fi
  { apt-get install -qy --no-install-recommends python3-pip || { apt-get update -q && apt-get install -qy --no-install-recommends python3-pip; }; } >/dev/null 2>&1 ||
    fail "apt-get could not install python3-pip. Remedy: install it by hand, then the same command again."
fi

rm -rf .uv
"$python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes --target .uv -r requirements/uv.txt 2>&1 |
  { grep -v "Running pip as the 'root' user" || true; }
[ -x .uv/bin/uv ] || fail "uv could not be installed from the package index. Remedy: check the network and pip's settings."
