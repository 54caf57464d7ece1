#!/usr/bin/env bash
# Make the virtual environment from requirements.lock: setup.sh PYTHON VENV
set -euo pipefail

python=$1
venv=$2

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

check_python() {
  command -v "$python" >/dev/null || fail "$python is not installed" "install python3 (3.11 or newer), or name one: make setup PYTHON=python3.12"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, $python is $("$python" -V 2>&1)" "name a newer one: make setup PYTHON=python3.12"
}

# Debian and Ubuntu keep ensurepip, without which there is no venv, in a package of its own.
install_venv_module() {
  install_packages "$python can't make virtual environments: its module ensurepip is missing" \
    "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
}

make_venv() {
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install_venv_module
  quietly "$python" -m venv --clear "$venv"
}

pip_install() {
  quietly "$venv/bin/python" -m pip install --no-input --disable-pip-version-check "$@"
}

check_python
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
# Without build isolation the backend looks for its own program on the PATH.
PATH=$(cd "$venv/bin" && pwd):$PATH
echo "setup: installing the locked packages into $venv"
pip_install --only-binary :all: --require-hashes -r requirements.lock
pip_install --no-deps --no-build-isolation --editable .
