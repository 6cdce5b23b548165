#!/usr/bin/env bash
# Installs the runners that the wrappers are tested with into target/tools/, then runs the tests.
# AZFED_BINARY and AZFED_EMULATOR name the two programs.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools
mkdir -p "$tools"

# Runs "$@" unless the stamp of an earlier run says that the same lock file ($2) was installed already.
once() {
  local stamp=$tools/$1.stamp sum
  sum=$(sha256sum "$2")
  shift 2
  [[ -f $stamp && $(<"$stamp") == "$sum" ]] && return
  "$@"
  echo "$sum" >"$stamp"
}

install_python() {
  rm -rf "$tools/wrappers-venv"
  python3 -m venv "$tools/wrappers-venv"
  "$tools/wrappers-venv/bin/pip" install --quiet --disable-pip-version-check -r tests/wrappers/requirements.txt
}

npm_ci() {
  rm -rf "${2:?}" && mkdir -p "$2"
  cp "$1/package.json" "$1/package-lock.json" "$2/"
  (cd "$2" && npm ci --silent --no-audit --no-fund)
}

install_debian_packages() {
  echo "tests/wrappers: installing $* with apt-get"
  if ((EUID)); then sudo -n apt-get update -qq && sudo -n apt-get install -y -qq "$@" >/dev/null
  else apt-get update -qq && apt-get install -y -qq "$@" >/dev/null; fi || {
    echo "tests/wrappers: could not install $*: install it by hand" >&2
    exit 1
  }
}

once wrappers-venv tests/wrappers/requirements.txt install_python
once wrappers-js tests/wrappers/js/package-lock.json npm_ci tests/wrappers/js "$tools/wrappers-js"
task=azure-pipelines/tasks/AzureFederatedLoginV1
once wrappers-task $task/package-lock.json npm_ci $task "$tools/wrappers-task"
command -v rsync >/dev/null || install_debian_packages rsync
# linked dynamically: the static one's wget cannot resolve names in another root
ldd "$(command -v busybox)" >/dev/null 2>&1 || install_debian_packages busybox
exec "$tools/wrappers-venv/bin/python" tests/wrappers/run.py --azfed "$AZFED_BINARY" --emulator "$AZFED_EMULATOR" --tools "$tools" "$@"
