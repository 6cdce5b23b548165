#!/usr/bin/env python3
"""Counts the instructions of `azfed token`, by callgrind: to the first byte sent, and to the end; and what spends them.

Usage: bench/instructions.py [--top N]   (after ./test.sh install build && cargo build --release --package azfed-emulator; needs valgrind)

It builds azfed and the floor (bench/peers/floor) once more, with their symbols. The first byte is that of the first TLS
greeting. Instructions of the kernel do not count. Two runs of one binary differ by less than a hundredth.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))

import namespace  # noqa: E402
from emulator import Emulator  # noqa: E402
from login import EMULATOR, MUSL, TARGET, environment  # noqa: E402

SYMBOLS = os.path.join(TARGET, "symbols")
PROGRAMS = {
    "azfed token": ["azfed", "token"],
    "the floor": ["floor"],
}
# what a Rust program sends with, on musl
SENDS = ("send", "writev", "sendmsg", "sendto")
LONGEST_NAME = 90


def build():
    """The programs as they are shipped, but for the symbols."""
    for directory, name in ((ROOT, "azfed"), (os.path.join(ROOT, "bench", "peers", "floor"), "floor")):
        command = ["cargo", "rustc", "--quiet", "--release", "--locked", "--target", MUSL, "--target-dir", os.path.join(SYMBOLS, name), "--bin", name]
        subprocess.run([*command, "--", "-C", "strip=none"], cwd=directory, check=True)


def profile(command, variables, directory):
    """Runs a command under callgrind; the paths of its profiles, in the order in which they were written."""
    out = tempfile.mkdtemp(dir=directory)
    dumps = [f"--dump-before={name}" for name in SENDS]
    program = os.path.join(SYMBOLS, command[0], MUSL, "release", command[0])
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}/profile", *dumps, program, *command[1:]]
    done = subprocess.run(valgrind, env=variables, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stderr}")
    parts = [name for name in os.listdir(out) if re.fullmatch(r"profile\.\d+", name)]
    parts.sort(key=lambda name: int(name.rpartition(".")[2]))
    return [os.path.join(out, name) for name in parts if instructions(os.path.join(out, name))]


def instructions(path):
    """The sum that a profile ends with."""
    with open(path, encoding="utf-8") as file:
        found = re.findall(r"^(?:totals|summary): (\d+)", file.read(), re.MULTILINE)
    return int(found[-1]) if found else 0


def spenders(path, is_inclusive):
    """Functions of a profile with their instructions, most first."""
    switch = "yes" if is_inclusive else "no"
    annotated = subprocess.run(["callgrind_annotate", "--threshold=100", f"--inclusive={switch}", "--show-percs=no", path],
                               capture_output=True, text=True, check=True)
    rows = []
    for line in annotated.stdout.splitlines():
        found = re.match(r"\s*([\d,]+)\s+\S*?:(.*?)(?: \[[^\]]*\])?$", line)
        if found:
            name = re.sub(r"::h[0-9a-f]{16}|'\d+$", "", found[2])
            rows.append((int(found[1].replace(",", "")), name))
    return sorted(rows, reverse=True)


def show(name, rows, total, top):
    print(f"\n| {name} | instructions | share |\n|---|---|---|")
    for count, function in rows[:top]:
        function = function if len(function) <= LONGEST_NAME else function[:LONGEST_NAME] + "…"
        print(f"| `{function.replace('|', '/')}` | {count / 1e6:.2f} M | {count * 100 / total:.0f} % |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=int, default=15)
    parser.add_argument("--inclusive", action="store_true", help="functions with all that they call, too")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is needed: apt-get install valgrind")
    if not os.environ.get(namespace.INSIDE):
        build()
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="azfed-bench-") as directory:
        namespace.bring_loopback_up()
        namespace.map_names(EMULATOR, directory)
        emulator = Emulator(EMULATOR, os.path.join(directory, "emulator"))
        profiles = {name: profile(command, environment(emulator, directory), directory) for name, command in PROGRAMS.items()}
        emulator.stop()
        print("| | to the first byte sent | to the end |\n|---|---|---|")
        for name, parts in profiles.items():
            counts = [instructions(part) for part in parts]
            print(f"| {name} | {counts[0] / 1e6:.1f} M | {sum(counts) / 1e6:.1f} M |")
        for name, parts in profiles.items():
            total = instructions(parts[0])
            show(f"{name}, to the first byte: function alone", spenders(parts[0], False), total, arguments.top)
            if arguments.inclusive:
                show(f"{name}, to the first byte: with what it calls", spenders(parts[0], True), total, arguments.top * 3)


if __name__ == "__main__":
    main()
