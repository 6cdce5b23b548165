#!/usr/bin/env bash
# Packs the Azure DevOps extension with the release's files in it. Usage: packaging/vsix.sh DIRECTORY
# TFX names the packer where it is not on the PATH.
set -euo pipefail
directory=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -R azure-pipelines/. "$stage/"
task=$stage/tasks/AzureFederatedLoginV1
(cd "$task" && npm ci --omit=dev --silent --no-audit --no-fund)
mkdir "$task/bin"
cp packaging/version packaging/checksums.txt "$task/bin/"
for file in "$directory"/azfed-*-*; do
  case $file in *.tar.gz) ;; *) cp "$file" "$task/bin/" ;; esac
done
if [[ -z ${TFX-} ]]; then
  npm install --global --silent tfx-cli@0.23.1
  TFX=tfx
fi
cd "$stage"
"$TFX" extension create --manifest-globs vss-extension.json --output-path "$directory" \
  --override "{\"version\": \"$(<"$task/bin/version")\"}"
