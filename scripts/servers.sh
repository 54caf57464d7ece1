#!/usr/bin/env bash
# Install the servers whose private copies the tests start, where they are missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

missing=()
command -v rabbitmq-server >/dev/null || [ -x /usr/sbin/rabbitmq-server ] || missing+=(rabbitmq-server)
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -gt 0 ] || exit 0

# The packages would start servers of their own, which nobody here uses and nobody would stop.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ] && as_root true 2>/dev/null; then
  trap 'as_root rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
fi
install_packages "the tests need servers that are missing: ${missing[*]}" "${missing[@]}"
