#!/usr/bin/env python3
"""Runs a thousand real azfed processes against the emulator, 64 at a time, and says that none failed.

Usage: bench/processes.py [--count N] [--at-once N]   (after ./test.sh install build && cargo build --release --package azfed-emulator)

Half of them are `azfed login`, each with its background process, which `azfed logout` ends right after; half are
`azfed token`. All share this machine's cores with the emulator. The figures are of login and token alone.
"""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))

import namespace  # noqa: E402
from emulator import Emulator  # noqa: E402
from login import AZFED, EMULATOR, environment  # noqa: E402


def one(command, variables):
    """Seconds that it took, and what it said if it failed."""
    started = time.perf_counter()
    done = subprocess.run([AZFED, command], env=variables, capture_output=True, text=True, timeout=120)
    wall = time.perf_counter() - started
    said = f"{command}: exit code {done.returncode}: {done.stderr}" if done.returncode else ""
    if command == "login":
        ended = subprocess.run([AZFED, "logout"], env=variables, capture_output=True, text=True, timeout=120)
        said = said or (f"logout: exit code {ended.returncode}: {ended.stderr}" if ended.returncode else "")
    return wall, said


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=64)
    arguments = parser.parse_args()
    for program in (AZFED, EMULATOR):
        if not os.path.exists(program):
            sys.exit(f"{program} is missing: see --help")
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="azfed-bench-") as directory:
        namespace.bring_loopback_up()
        namespace.map_names(EMULATOR, directory)
        emulator = Emulator(EMULATOR, os.path.join(directory, "emulator"))
        commands = ["login", "token"] * (arguments.count // 2)
        jobs = [environment(emulator, directory) for _ in commands]
        emulator.forget()
        started = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(arguments.at_once) as pool:
            outcomes = list(pool.map(one, commands, jobs))
        wall = time.perf_counter() - started
        exchanges = len(emulator.requests("entra.token"))
        emulator.stop()
    failures = [said for _, said in outcomes if said]
    print(f"{len(commands)} processes, {arguments.at_once} at a time: {len(failures)} failed, {wall:.1f} s in all, "
          f"{exchanges} exchanges at Entra; load before {os.getloadavg()[1]:.1f}.\n")
    print("| | processes | median | 99th percentile | longest |\n|---|---|---|---|---|")
    for command in ("login", "token"):
        walls = sorted(wall for which, (wall, _) in zip(commands, outcomes) if which == command)
        median, late = walls[len(walls) // 2], walls[len(walls) * 99 // 100]
        print(f"| azfed {command} | {len(walls)} | {median * 1000:.0f} ms | {late * 1000:.0f} ms | {walls[-1] * 1000:.0f} ms |")
    if failures:
        sys.exit("\n".join(failures[:5]))


if __name__ == "__main__":
    main()
