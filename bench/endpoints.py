#!/usr/bin/env python3
"""Measures the endpoints of `azfed exec` under load, and what `azfed login --keep-fresh` leaves running.

Usage: bench/endpoints.py [--idle SECONDS]   (after ./test.sh install build && cargo build --release --example load)

The real names lead to the emulator in private namespaces. The load generator (examples/load.rs) is the command that
`azfed exec` runs; both share the machine's cores with the emulator.
"""

import argparse
import glob
import json
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

LOAD = os.path.join(ROOT, "target", "release", "examples", "load")
RESOURCES = ("https://management.azure.com", "https://vault.azure.net", "https://storage.azure.com")


def run(emulator, directory, clients, requests, pause_ms):
    emulator.forget()
    command = [AZFED, "exec", "--quiet", "--", LOAD, str(clients), str(requests), str(pause_ms), *RESOURCES]
    done = subprocess.run(command, env=environment(emulator, directory), capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(lines) != 1:
        sys.exit(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return {**lines[0], "entra": len(emulator.requests("entra.token"))}


def processor_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def idle(emulator, directory, seconds):
    """Peak memory in MiB of the background process of a login, and its CPU time in ms over so many seconds."""
    variables = environment(emulator, directory)
    subprocess.run([AZFED, "login", "--keep-fresh"], env=variables, check=True, capture_output=True, timeout=60)
    (path,) = glob.glob(os.path.join(variables["RUNNER_TEMP"], "azfed-*", "keeper", "pid"))
    with open(path, encoding="ascii") as file:
        pid = file.read()
    before = processor_ticks(pid)
    time.sleep(seconds)
    used = (processor_ticks(pid) - before) * 1000 / os.sysconf("SC_CLK_TCK")
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024
    subprocess.run([AZFED, "logout"], env=variables, check=True, capture_output=True, timeout=60)
    return peak, used


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=60)
    arguments = parser.parse_args()
    for program in (AZFED, EMULATOR, LOAD):
        if not os.path.exists(program):
            sys.exit(f"{program} is missing: run ./test.sh install build && cargo build --release --example load")
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="azfed-bench-") as directory:
        namespace.bring_loopback_up()
        namespace.map_names(EMULATOR, directory)
        emulator = Emulator(EMULATOR, os.path.join(directory, "emulator"))
        rows = [
            ("64, each asks every 20 ms", run(emulator, directory, 64, 64 * 100, 20)),
            ("64, each asks again at once", run(emulator, directory, 64, 64 * 400, 0)),
            ("256, each asks again at once", run(emulator, directory, 256, 10_000, 0)),
        ]
        peak, used = idle(emulator, directory, arguments.idle)
        emulator.stop()
    print("| clients | answered | failed | median | 99th percentile | answers a second | requests to Entra, for 3 resources |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows:
        rate = row["answered"] / row["seconds"]
        print(f"| {name} | {row['answered']} | {row['failed']} | {row['median_ms']:.2f} ms | {row['p99_ms']:.2f} ms | {rate:.0f} | {row['entra']} |")
    print(f"\nThe background process of a login: {peak:.1f} MiB at its peak, {used:.0f} ms of CPU in {arguments.idle} s idle.")


if __name__ == "__main__":
    main()
