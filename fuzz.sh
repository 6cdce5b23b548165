#!/usr/bin/env bash
# Runs the fuzz targets, each for ten minutes or as long as you say; a finding ends it with 1. See docs/fuzzing.md.
#
#   ./fuzz.sh [--seconds N] [TARGET]...
#
# Prints a line a target: inputs, inputs a second, code edges reached, and what was found, with the file that shows it.
set -euo pipefail
cd "$(dirname "$0")"

version=0.13.2
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/fuzz
tools=$target/tools/cargo-fuzz

seconds=600
targets=()
while (($#)); do
  case $1 in
    --seconds)
      [[ ${2-} =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: --seconds takes a number" >&2 && exit 2; }
      seconds=$2
      shift 2
      ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *)
      [[ -e fuzz/fuzz_targets/$1.rs ]] || { echo "fuzz.sh: no such target: $1" >&2 && exit 2; }
      targets+=("$1")
      shift
      ;;
  esac
done
if ((!${#targets[@]})); then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

if [[ $("$tools/bin/cargo-fuzz" --version 2>/dev/null) != "cargo-fuzz $version" ]]; then
  CARGO_TARGET_DIR=$target/tools/build cargo install cargo-fuzz --version "$version" --locked --root "$tools" --quiet
fi

# Coverage is an unstable flag of the compiler, and the compiler is the stable one: this lets it take the flag. No
# sanitizer: azfed is safe Rust (`unsafe_code = "forbid"`), and what is looked for are panics and broken promises.
export RUSTC_BOOTSTRAP=1 PATH=$tools/bin:$PATH
triple=$(rustc -vV | sed -n 's/^host: //p')
(unset CARGO_TARGET_DIR && cargo fuzz build --sanitizer none --target "$triple" --target-dir "$work" 2>"$target/fuzz-build.log") ||
  { tail -n 30 "$target/fuzz-build.log" >&2 && exit 1; }

export TMPDIR=$work/tmp
rm -rf "$TMPDIR"
mkdir -p "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT

status=0
printf '%-26s %12s %9s %7s  %s\n' target inputs 'a second' edges findings
for one in "${targets[@]}"; do
  corpus=$work/corpus/$one artifacts=$work/artifacts/$one log=$work/$one.log
  mkdir -p "$corpus" "$artifacts"
  dictionary=fuzz/dictionaries/$one.dict
  [[ -e $dictionary ]] || dictionary=fuzz/dictionaries/words.dict
  found=none
  # the first directory is where new inputs go, the second only gives some
  "$work/$triple/release/$one" "$corpus" "fuzz/seeds/$one" -dict="$dictionary" -artifact_prefix="$artifacts/" \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 >"$log" 2>&1 ||
    { status=1 && found=$(sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1) && found=${found:-see $log}; }
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  edges=$(sed -n 's/^.* cov: \([0-9]*\) .*$/\1/p' "$log" | tail -n 1)
  printf '%-26s %12s %9s %7s  %s\n' "$one" "${inputs:--}" "${rate:--}" "${edges:--}" "$found"
done
exit "$status"
