#!/usr/bin/env bash
# Stands where systemctl stands on a machine that systemd runs: `restart` really stops and starts the program.
set -euo pipefail
[ "$1" = restart ]
pid_file=$DEPLOY_ROOT/serve.pid
if [ -f "$pid_file" ]; then
  pid=$(cat "$pid_file")
  kill -TERM "$pid" 2>/dev/null || true
  for _ in $(seq 600); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
fi
cd "$DEPLOY_ROOT"
FAIRLEAD_AWS__MCP__WARM=false setsid "$DEPLOY_ROOT/current/.venv/bin/fairlead" serve --port "$DEPLOY_TEST_PORT" --data-dir "$DEPLOY_ROOT/data" \
  >>"$DEPLOY_ROOT/serve.log" 2>&1 9>&- &
echo $! >"$pid_file"
