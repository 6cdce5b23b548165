# What test.sh and tests/wrappers/run.sh share; `$tools` is where things are installed. Sourced, not run.

# Runs "$@" unless the stamp of an earlier run says that the same lock file ($2) was installed already.
once() {
  local stamp=$tools/$1.stamp lock=$2 sum
  shift 2
  sum=$(sha256sum "$lock")
  [[ -f $stamp && $(<"$stamp") == "$sum" ]] && return
  "$@"
  echo "$sum" >"$stamp"
}

as_root() { if ((EUID)); then sudo -n "$@"; else "$@"; fi; }

install_debian_packages() {
  echo "installing $* with apt-get"
  as_root apt-get update -qq && as_root apt-get install -y -qq "$@" >/dev/null || {
    echo "could not install $*: install it by hand" >&2
    exit 1
  }
}

# `npm ci` of the package in $1, in the directory $2.
npm_ci() {
  rm -rf "${2:?}" && mkdir -p "$2"
  cp "$1/package.json" "$1/package-lock.json" "$2/"
  (cd "$2" && npm ci --silent --no-audit --no-fund)
}

# Builds a tool of tests/cargo-tools.txt, by its pinned version, into $tools/cargo/bin. Not optimised: it runs for seconds.
cargo_tool() {
  local name=$1 root=${BASH_SOURCE[0]%/*} version
  version=$(sed -n "s/^$name //p" "$root/cargo-tools.txt")
  once "$name" "$root/cargo-tools.txt" cargo install --quiet --locked --debug --force --no-track --root "$tools/cargo" \
    --version "${version:?no version of $name}" "$name"
}
