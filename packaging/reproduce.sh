#!/usr/bin/env bash
# Builds the commit twice, in surroundings that share nothing, and compares the two files byte for byte.
# Usage: packaging/reproduce.sh [TARGET] [FILE]     (FILE: what the two builds must be equal to as well)
# Differ: directory, CARGO_HOME, HOME, user name, time zone, locale, umask, number of jobs. Needs cargo-auditable.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-x86_64-unknown-linux-musl} released=${2-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
commit=$(git rev-parse HEAD)
test -z "$(git status --porcelain --untracked-files=no)" || echo "reproduce.sh: it is the commit that is built, not what has changed since" >&2
toolchain=${RUSTUP_HOME:-$HOME/.rustup}

# number, directory, umask, and the surroundings
build() {
  local number=$1 directory=$work/$2 mask=$3
  shift 3
  mkdir -p "$directory"
  git archive "$commit" | tar --extract -C "$directory"
  (
    umask "$mask"
    env --unset=RUSTFLAGS --unset=CARGO_TARGET_DIR RUSTUP_HOME="$toolchain" "$@" "$directory/packaging/build.sh" "$target" "$work/$number"
  )
  rm -rf "${directory:?}"
}

build first a 022 CARGO_HOME="$work/cargo" HOME="$work" USER=one TZ=UTC LC_ALL=C CARGO_BUILD_JOBS=2
build second a-longer/name/of/a-directory 077 CARGO_HOME="$work/another/place/for/.cargo" HOME=/nonexistent USER=another-user \
  TZ=Pacific/Kiritimati LC_ALL=C.UTF-8 CARGO_BUILD_JOBS=3
(cd "$work" && sha256sum first second)
cmp "$work/first" "$work/second"
for private in "$work" "$HOME/" "$(hostname)"; do
  # a short name of a machine stands in any file
  if ((${#private} > 5)) && grep --quiet --text --fixed-strings -- "$private" "$work/first"; then
    echo "reproduce.sh: the binary has \`$private\` in it" >&2
    exit 1
  fi
done
if [[ -n $released ]]; then cmp "$work/first" "$released"; fi
echo "reproduce.sh: two builds of $commit for $target are the same"
