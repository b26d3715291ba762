#!/usr/bin/env bash
# Puts a commit into service: installs it beside the one that runs, switches, and switches back by itself where the
# new one does not become healthy. Nothing that runs is touched before the new release is installed.
#
#   scripts/deploy.sh [REF]        deploy REF (default: origin/main, fetched first)
#   scripts/deploy.sh --rollback   back to the release before this one
#   scripts/deploy.sh --status     what runs, what is kept
#
# Layout under DEPLOY_ROOT (default: the folder that holds this checkout):
#   repo/ this checkout · releases/COMMIT/ installed releases · current -> releases/COMMIT · previous -> …
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=${DEPLOY_ROOT:-$(dirname "$repo")}
systemctl=${DEPLOY_SYSTEMCTL:-systemctl}
unit=${DEPLOY_UNIT:-fairlead.target}
health_url=${DEPLOY_HEALTH_URL:-http://127.0.0.1:8700/health}
health_s=${DEPLOY_HEALTH_S:-60}
keep=${DEPLOY_KEEP_RELEASES:-3}

say() { printf 'deploy: %s\n' "$*"; }
fail() { printf 'deploy: %s\n' "$*" >&2; exit 1; }

# The release that a link points to, or nothing.
target_of() { if [ -L "$root/$1" ]; then basename "$(readlink "$root/$1")"; fi; }

# Moves a link in one step: whoever starts meanwhile finds the old release or the new one.
point() { ln -sfn "releases/$2" "$root/.$1.new" && mv -Tf "$root/.$1.new" "$root/$1"; }

# Whether what runs becomes healthy within so many seconds.
healthy() {
  local deadline=$((SECONDS + $1))
  until "$root/current/.venv/bin/python" - "$health_url" <<'PYTHON' 2>/dev/null
import json, sys, urllib.request
# "degraded" answers with 200 too: without a worker nothing would be done.
sys.exit(json.load(urllib.request.urlopen(sys.argv[1], timeout=5))["status"] != "ok")
PYTHON
  do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}

# Restarting fails where the program does not start; the health check tells, so go on to it.
restart() { "$systemctl" restart "$unit" || say "$systemctl restart $unit failed"; }

switch_to() {
  local wanted=$1 before
  before=$(target_of current)
  point current "$wanted"
  restart
  if healthy "$health_s"; then
    if [ -n "$before" ] && [ "$before" != "$wanted" ]; then point previous "$before"; fi
    say "$wanted is in service and healthy"
    return
  fi
  if [ -z "$before" ] || [ "$before" = "$wanted" ]; then
    fail "$wanted is not healthy after $health_s s, and there is no other release. See: journalctl -u 'fairlead-*' -n 100"
  fi
  say "$wanted is not healthy after $health_s s; back to $before" >&2
  point current "$before"
  restart
  # It was healthy before, and there is nothing else to turn to: worth a longer wait.
  healthy $((3 * health_s)) || fail "$before is not healthy either. See: journalctl -u 'fairlead-*' -n 100"
  fail "rolled back: $before is in service and healthy; $wanted was not"
}

install_release() {
  local commit=$1 folder="$root/releases/$1"
  [ ! -e "$folder/.installed" ] || { say "$commit is installed"; return; }
  say "installing $commit"
  rm -rf "$folder"
  git -C "$repo" worktree prune
  git -C "$repo" worktree add --quiet --force --detach "$folder" "$commit"
  if ! make --silent -C "$folder" setup || ! "$folder/.venv/bin/fairlead" --help >/dev/null; then
    git -C "$repo" worktree remove --force "$folder"
    fail "$commit cannot be installed; nothing was switched"
  fi
  touch "$folder/.installed"
}

# Keeps the releases in use and the newest few.
prune() {
  local current previous folder name kept=0
  current=$(target_of current)
  previous=$(target_of previous)
  while IFS= read -r folder; do
    name=$(basename "$folder")
    kept=$((kept + 1))
    if [ "$name" != "$current" ] && [ "$name" != "$previous" ] && [ "$kept" -gt "$keep" ]; then
      git -C "$repo" worktree remove --force "$folder"
      say "removed $name"
    fi
  done < <(find "$root/releases" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2-)
}

mkdir -p "$root/releases"
exec 9>"$root/.deploy.lock"
flock --nonblock 9 || fail "another deployment is going on"

case ${1:-} in
--status)
  say "current  $(target_of current)"
  say "previous $(target_of previous)"
  ;;
--rollback)
  previous=$(target_of previous)
  [ -n "$previous" ] || fail "there is no release before this one"
  switch_to "$previous"
  ;;
-*)
  fail "unknown option $1; see the head of this script"
  ;;
*)
  git -C "$repo" fetch --quiet --prune --tags origin
  commit=$(git -C "$repo" rev-parse --verify --quiet "${1:-origin/main}^{commit}") || fail "there is no commit ${1:-origin/main}"
  install_release "$commit"
  switch_to "$commit"
  prune
  ;;
esac
