# What the scripts here share: how to say that something failed, and how to become root. Sourced, never run.

fail() {
  printf 'setup: %s\n' "$1" >&2
  printf 'hint: %s\n' "$2" >&2
  exit 1
}

# Say nothing unless the command fails; then say everything it said.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || status=$?
  [ "$status" -eq 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Install Debian packages, or say which: install_packages REASON PACKAGE...
install_packages() {
  local reason=$1 hint
  shift
  hint="install as root: apt-get install $*"
  { command -v apt-get && as_root true; } >/dev/null 2>&1 || fail "$reason" "$hint"
  echo "setup: installing $*"
  { quietly as_root apt-get update && quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } ||
    fail "$* could not be installed" "$hint"
}
