#!/usr/bin/env bash
# Builds what is released, so that nothing of this machine is in it: no path, no name, no time.
# Usage: packaging/build.sh TARGET FILE     (FILE: where the binary goes)
# The list of crates that cargo-auditable puts into the binary is read back by packaging/sbom.py, and by `cargo audit bin`.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1 file=$2
# as the compilers see the two directories: without links, and on Windows with a drive
native() { if command -v cygpath >/dev/null; then cygpath --windows "$1"; else (cd "$1" && pwd -P); fi; }
home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$home"
from=("$(native "$PWD")" "$(native "$home")") to=(/azfed /cargo)
flags=() # for Rust; aws-lc-sys does the same for its C
for number in 0 1; do flags+=("--remap-path-prefix=${from[number]}=${to[number]}"); done
case $target in *-windows-*) flags+=(-C link-arg=/Brepro) ;; esac
export CARGO_ENCODED_RUSTFLAGS SOURCE_DATE_EPOCH=0 CARGO_INCREMENTAL=0
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}")
cargo auditable build --release --locked --target "$target" --package azfed
case $target in *-windows-*) suffix=.exe ;; *) suffix="" ;; esac
cp "${CARGO_TARGET_DIR:-target}/$target/release/azfed$suffix" "$file"
