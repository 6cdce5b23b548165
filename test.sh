#!/usr/bin/env bash
# Installs what the tests need into target/, then runs everything.
#
#   ./test.sh [--without terraform|az|python|js]... [STAGE]...
#
# Stages, in this order: install lint supply build unit clients static wrappers. Without one, all of them.
set -euo pipefail
cd "$(dirname "$0")"

root=$PWD
tools=$root/target/tools
musl=x86_64-unknown-linux-musl
azfed=$root/target/$musl/release/azfed
emulator=$root/target/debug/azfed-emulator

stages=()
without=()
unchecked=()
while (($#)); do
  case $1 in
    --without)
      case ${2-} in
        terraform | az | python | js) without+=("$2") ;;
        *) echo "test.sh: --without takes terraform, az, python or js" >&2 && exit 2 ;;
      esac
      shift 2
      ;;
    install | lint | supply | build | unit | clients | static | wrappers) stages+=("$1") && shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) echo "test.sh: no such stage: $1" >&2 && exit 2 ;;
  esac
done
((${#stages[@]})) || stages=(install lint supply build unit clients static wrappers)

is_without() {
  local one
  for one in ${without[@]+"${without[@]}"}; do [[ $one == "$1" ]] && return 0; done
  return 1
}

need() {
  command -v "$1" >/dev/null && return
  echo "test.sh: \`$1\` is not on this machine: $2" >&2
  exit 1
}

. tests/install.sh

install_venv() {
  rm -rf "$tools/venv"
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
}

install_mitmproxy() {
  rm -rf "$tools/mitmproxy"
  python3 -m venv "$tools/mitmproxy"
  "$tools/mitmproxy/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/mitmproxy-requirements.txt
}

stage_install() {
  mkdir -p "$tools"
  need cargo "install Rust 1.95 or newer"
  need python3 "install Python 3.11 or newer"
  command -v musl-gcc >/dev/null || install_debian_packages musl-tools
  [[ -e /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 ]] || install_debian_packages libfaketime
  if [[ ! -d $(rustc --print sysroot)/lib/rustlib/$musl/lib ]]; then
    need rustup "add the target $musl to this Rust"
    rustup target add "$musl"
  fi
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_debian_packages python3-venv
  if ! is_without az || ! is_without python; then
    once venv tests/clients/requirements.txt install_venv
  fi
  if ! is_without js; then
    need node "install Node.js 20 or newer, or say --without js"
    once js tests/clients/js/package-lock.json npm_ci tests/clients/js "$tools/js"
  fi
  cargo_tool cargo-deny
  command -v tinyproxy >/dev/null || install_debian_packages tinyproxy-bin
  once mitmproxy tests/clients/mitmproxy-requirements.txt install_mitmproxy
  is_without terraform || need terraform "install Terraform 1.11 or newer, or say --without terraform"
}

stage_lint() {
  cargo fmt --all --check
  cargo clippy --workspace --all-targets --locked -- -D warnings
}

# licences, bans and sources need no network; RustSec's advisories are a git repository, which not every network lets through
stage_supply() {
  need_tool cargo/bin/cargo-deny
  local deny=("$tools/cargo/bin/cargo-deny" --locked --color never)
  # cargo-deny looks at the whole workspace for every target: crates that no build here needed are fetched first
  cargo fetch --locked --quiet
  "${deny[@]}" --offline check --hide-inclusion-graph licenses bans sources
  if [[ ${AZFED_TEST_ADVISORIES-} == required ]] || timeout 60 "${deny[@]}" fetch db >/dev/null 2>&1; then
    "${deny[@]}" check advisories
  else
    unchecked+=("known vulnerabilities of the dependencies: RustSec's database is out of reach; .github/workflows/ci.yml asks it")
  fi
}

stage_build() {
  cargo build --release --locked --target "$musl" --package azfed
  cargo build --locked --package azfed-emulator
}

stage_unit() { AZFED_TEST_WITHOUT="${without[*]-}" cargo test --workspace --locked --quiet; }

need_tool() {
  [[ -x $tools/$1 ]] && return
  echo "test.sh: $tools/$1 is not there: run ./test.sh install first" >&2
  exit 1
}

need_binaries() {
  [[ -x $azfed && -x $emulator ]] && return
  echo "test.sh: nothing to test yet: run ./test.sh build first" >&2
  exit 1
}

stage_clients() {
  need_binaries
  local options=() one
  for one in ${without[@]+"${without[@]}"}; do options+=(--without "$one"); done
  local suite
  for suite in run hosts proxies; do
    python3 "tests/clients/$suite.py" --azfed "$azfed" --emulator "$emulator" --tools "$tools" ${options[@]+"${options[@]}"}
  done
}

stage_static() { need_binaries && python3 tests/clients/static.py --azfed "$azfed" --emulator "$emulator"; }

stage_wrappers() {
  local one
  for one in az terraform; do
    if is_without "$one"; then
      echo "test.sh: NOT TESTED: the wrappers, whose jobs use $one" >&2
      return
    fi
  done
  AZFED_BINARY=$azfed AZFED_EMULATOR=$emulator tests/wrappers/run.sh
}

for stage in "${stages[@]}"; do
  echo "== $stage"
  started=$SECONDS
  "stage_$stage"
  echo "== $stage: $((SECONDS - started)) s"
done
for one in ${without[@]+"${without[@]}"}; do
  echo "test.sh: NOT TESTED, as asked: $one" >&2
done
for one in ${unchecked[@]+"${unchecked[@]}"}; do
  echo "test.sh: NOT CHECKED HERE: $one" >&2
done
