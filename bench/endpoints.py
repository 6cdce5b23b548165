#!/usr/bin/env python3
"""Measures the endpoints of `azfed exec` under load, and what `azfed login --keep-fresh` leaves running.

Usage: bench/endpoints.py [--idle SECONDS] [--soak [--soak-seconds SECONDS]]
(after ./test.sh install build && cargo build --release --package azfed-emulator && cargo build --release --example load)

The real names lead to the emulator in private namespaces. The load generator (examples/load.rs) is the command that
`azfed exec` runs; both share the machine's cores with the emulator.

`--soak` asks 500 times a second for ten minutes, as SDKs and Terraform do, with tokens that live for two minutes, and
fails when a request fails or azfed's memory grows by more than 1 MiB after the first tenth.
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
from login import AZFED, EMULATOR, TARGET, environment  # noqa: E402

LOAD = os.path.join(TARGET, "release", "examples", "load")
SOAK_RATE = 500
SOAK_SECONDS = 600
MOST_GROWTH_KIB = 1024
RESOURCES = ("https://management.azure.com", "https://vault.azure.net", "https://storage.azure.com")


def run(emulator, directory, clients, requests, pause_ms):
    emulator.forget()
    command = [AZFED, "exec", "--quiet", "--", LOAD, str(clients), str(requests), str(pause_ms), *RESOURCES]
    done = subprocess.run(command, env=environment(emulator, directory), capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(lines) != 1:
        sys.exit(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return {**lines[0], "entra": len(emulator.requests("entra.token"))}


def memory_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def soak(emulator, directory, seconds):
    """What the load generator says, azfed's memory in KiB at each tenth of the time, and requests to Entra."""
    emulator.call("POST", "settings", {"access_token_lifetime_s": 120})
    emulator.forget()
    command = [AZFED, "exec", "--quiet", "--", LOAD, "soak", str(SOAK_RATE), str(seconds), *RESOURCES]
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment(emulator, directory), stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    memory = []
    for tenth in range(1, 11):
        time.sleep(max(0, started + seconds * tenth / 10 - 0.5 - time.monotonic()))
        memory.append(memory_kib(process.pid))
    stdout, _ = process.communicate(timeout=60)
    lines = [json.loads(line) for line in stdout.splitlines()]
    if process.returncode != 0 or len(lines) != 1:
        sys.exit(f"exit code {process.returncode}\n{stdout}")
    return lines[0], memory, len(emulator.requests("entra.token"))


def show_soak(outcome, memory, asked, seconds):
    print(f"{SOAK_RATE} requests a second for {seconds} s: {outcome['answered']} answered, {outcome['failed']} failed, "
          f"median {outcome['median_ms']:.2f} ms, 99th percentile {outcome['p99_ms']:.2f} ms, {asked} requests to Entra "
          f"for {len(RESOURCES)} resources whose tokens live 120 s; load {os.getloadavg()[0]:.1f}.\n")
    print("| | " + " | ".join(f"{seconds * tenth / 10:.0f} s" for tenth in range(1, 11)) + " |\n|" + "---|" * 11)
    print("| azfed's memory | " + " | ".join(f"{kib / 1024:.2f} MiB" for kib in memory) + " |")
    if outcome["failed"] or max(memory) - memory[0] > MOST_GROWTH_KIB:
        sys.exit("the soak FAILED")


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
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--soak-seconds", type=int, default=SOAK_SECONDS)
    arguments = parser.parse_args()
    for program in (AZFED, EMULATOR, LOAD):
        if not os.path.exists(program):
            sys.exit(f"{program} is missing: see --help")
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="azfed-bench-") as directory:
        namespace.bring_loopback_up()
        namespace.map_names(EMULATOR, directory)
        emulator = Emulator(EMULATOR, os.path.join(directory, "emulator"))
        if arguments.soak:
            figures = soak(emulator, directory, arguments.soak_seconds)
            emulator.stop()
            show_soak(*figures, arguments.soak_seconds)
            return
        rows = [
            ("64, each asks every 20 ms", run(emulator, directory, 64, 64 * 100, 20)),
            ("64, each asks again at once", run(emulator, directory, 64, 64 * 400, 0)),
            ("256, each asks again at once", run(emulator, directory, 256, 256 * 100, 0)),
        ]
        peak, used = idle(emulator, directory, arguments.idle)
        emulator.stop()
    print("| clients | answered | failed | median | 99th percentile | answers a second | first token of a resource | requests to Entra, for 3 resources |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows:
        rate = row["answered"] / row["seconds"]
        print(f"| {name} | {row['answered']} | {row['failed']} | {row['median_ms']:.2f} ms | {row['p99_ms']:.2f} ms | {rate:.0f} | {max(row['first_ms']):.0f} ms | {row['entra']} |")
    print(f"\nThe background process of a login: {peak:.1f} MiB at its peak, {used:.0f} ms of CPU in {arguments.idle} s idle.")


if __name__ == "__main__":
    main()
