#!/usr/bin/env bash
# Makes a machine ready for Fairlead, as root, on Debian 12, Ubuntu 22.04+ or Amazon Linux 2023. Running it again
# changes nothing that is already right.
#
#   scripts/setup_ec2.sh GIT_URL [REF]
set -euo pipefail

url=${1:-}
ref=${2:-origin/main}
root=${DEPLOY_ROOT:-/opt/fairlead}
data=/var/lib/fairlead
settings=/etc/fairlead/fairlead.env

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
[ -n "$url" ] || fail "usage: setup_ec2.sh GIT_URL [REF]"
[ "$(id -u)" = 0 ] || fail "needs root"

if command -v apt-get >/dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends git make python3 python3-pip ca-certificates
  python=python3
elif command -v dnf >/dev/null; then
  dnf install -qy git make python3.11 python3.11-pip ca-certificates
  python=python3.11
else
  fail "neither apt-get nor dnf is here"
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11"

id fairlead >/dev/null 2>&1 || useradd --system --home-dir "$data" --shell /usr/sbin/nologin fairlead
install -d -o fairlead -g fairlead -m 0750 "$data"
install -d -o root -g fairlead -m 0750 /etc/fairlead
install -d -m 0755 "$root" "$root/releases"

[ -d "$root/repo/.git" ] || git clone --quiet "$url" "$root/repo"

# An operator's settings are never overwritten.
[ -e "$settings" ] || install -o root -g fairlead -m 0640 "$root/repo/deploy/fairlead.env.example" "$settings"

install -m 0644 "$root/repo"/deploy/systemd/fairlead* /etc/systemd/system/
systemctl daemon-reload
systemctl enable --quiet fairlead.target

PYTHON=$python DEPLOY_ROOT=$root "$root/repo/scripts/deploy.sh" "$ref"

printf '%s\n' "Fairlead runs on http://127.0.0.1:8700. Its administrator's password, printed once:" \
  "  journalctl -u fairlead-api | grep -A1 administrator" \
  "Next: settings in $settings, TLS in front (docs/how-to/deployment.md), then: scripts/deploy.sh"
