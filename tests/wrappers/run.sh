#!/usr/bin/env bash
# Installs the runners that the wrappers are tested with into target/tools/, then runs the tests.
# AZFED_BINARY and AZFED_EMULATOR name the two programs.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools
mkdir -p "$tools"

. tests/install.sh

install_python() {
  rm -rf "$tools/wrappers-venv"
  python3 -m venv "$tools/wrappers-venv"
  "$tools/wrappers-venv/bin/pip" install --quiet --disable-pip-version-check -r tests/wrappers/requirements.txt
}

once wrappers-venv tests/wrappers/requirements.txt install_python
once wrappers-js tests/wrappers/js/package-lock.json npm_ci tests/wrappers/js "$tools/wrappers-js"
task=azure-pipelines/tasks/AzureFederatedLoginV1
once wrappers-task $task/package-lock.json npm_ci $task "$tools/wrappers-task"
command -v rsync >/dev/null || install_debian_packages rsync
# linked dynamically: the static one's wget cannot resolve names in another root
ldd "$(command -v busybox)" >/dev/null 2>&1 || install_debian_packages busybox
exec "$tools/wrappers-venv/bin/python" tests/wrappers/run.py --azfed "$AZFED_BINARY" --emulator "$AZFED_EMULATOR" --tools "$tools" "$@"
