#!/usr/bin/env bash
# Install the servers whose private copies the tests start, where they are missing; Azurite goes into .servers.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

AZURITE=3.35.0

missing=()
command -v rabbitmq-server >/dev/null || [ -x /usr/sbin/rabbitmq-server ] || missing+=(rabbitmq-server)
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v softhsm2-util >/dev/null || missing+=(softhsm2)
command -v npm >/dev/null || missing+=(nodejs npm)

if [ ${#missing[@]} -gt 0 ]; then
  # The packages would start servers of their own, which nobody here uses and nobody would stop.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ] && as_root true 2>/dev/null; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  install_packages "the tests need servers that are missing: ${missing[*]}" "${missing[@]}"
fi

installed=.servers/node_modules/azurite/package.json
if ! grep -qs "\"version\": \"$AZURITE\"" "$installed"; then
  echo "setup: installing azurite $AZURITE"
  quietly npm install --prefix .servers --no-save --no-audit --no-fund "azurite@$AZURITE" ||
    fail "Azurite could not be installed" "npm has to reach its registry: npm install --prefix .servers azurite@$AZURITE"
fi
