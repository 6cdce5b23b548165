#!/usr/bin/env python3
"""Measures `azfed token`, `exec -- true` and `login` against every peer that this machine can have, and against the floor.

Usage: bench/peers.py [--runs N] [--far-runs N]   (after ./test.sh install build && cargo build --release --package azfed-emulator)

The peers do the same login in the same GitHub job, each with what it has for it; the floor (bench/peers/floor) is a
program that does the two requests with azfed's HTTP library, and nothing else. All runs are interleaved, over TLS, on
the emulator, at 0, 20 and 100 ms of round-trip time; the figures are medians. CPU is that of all processes that a
command leaves behind or waits for; bytes are IP packets with their headers, both ways, as the kernel counts them on the
loopback interface of a private network namespace.
"""

import argparse
import collections
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))

import namespace  # noqa: E402
from emulator import Emulator  # noqa: E402
from login import AZ, AZFED, EMULATOR, MUSL, TARGET, TOOLS, environment, peak_memory  # noqa: E402

PEERS = os.path.join(ROOT, "bench", "peers")
CRATES = ("floor", "azure_identity")
FLOOR = "the floor"
LATENCIES = (0, 20, 100)
PR_SET_CHILD_SUBREAPER = 36


def in_bench(*path):
    return os.path.join(ROOT, "bench", *path)


def built(name):
    return os.path.join(TARGET, "peers", MUSL, "release", name)


COMMANDS = {
    "azfed token": [AZFED, "token"],
    "azfed exec -- true": [AZFED, "exec", "--", "true"],
    "azfed login": [AZFED, "login"],
    FLOOR: [built("floor")],
    "azure_identity (Rust)": [built("azure-identity-login")],
    "curl + jq": [in_bench("curl-jq.sh")],
    "azure-identity (Python)": [os.path.join(TOOLS, "venv", "bin", "python"), in_bench("peers", "identity.py")],
    "@azure/identity (JavaScript)": ["node", in_bench("peers", "identity.cjs")],
    "az login": [in_bench("az-login.sh")],
}


def build():
    """The peers that are programs of this repository, with the profile that azfed is built with."""
    for crate in CRATES:
        command = ["cargo", "build", "--quiet", "--release", "--locked", "--target", MUSL, "--target-dir", os.path.join(TARGET, "peers")]
        subprocess.run(command, cwd=os.path.join(PEERS, crate), check=True)


def variables_for(emulator, directory):
    variables = environment(emulator, directory)
    modules = os.path.join(TOOLS, "js", "node_modules")
    return {**variables, "NODE_EXTRA_CA_CERTS": emulator.ca, "NODE_PATH": modules, "AZURE_CORE_NO_COLOR": "1"}


def children():
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return {int(pid) for pid in file.read().split()}


def run(command, variables, spared):
    """Wall and CPU seconds of a command; what it leaves behind (azfed's own background process) is told to end, and counts."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            sys.exit(f"{command}: exit code {process.returncode}\n{output.read().decode()}")
    return wall, used.ru_utime + used.ru_stime + end(command, variables, spared)


def end(command, variables, spared):
    """Ends what a command left behind, and says what CPU seconds that has used."""
    if command == COMMANDS["azfed login"]:
        time.sleep(0.03)  # the background process has settled
        subprocess.run([AZFED, "logout"], env=variables, check=True, capture_output=True, timeout=60)
    cpu = 0
    deadline = time.monotonic() + 10
    while children() - spared:
        pid, _, used = os.wait4(-1, os.WNOHANG)
        if pid:
            cpu += used.ru_utime + used.ru_stime
        elif time.monotonic() > deadline:
            sys.exit(f"{command}: what it left behind does not end")
        else:
            time.sleep(0.001)
    return cpu


def loopback_bytes():
    with open("/proc/net/dev", encoding="ascii") as file:
        (line,) = (line for line in file if line.strip().startswith("lo:"))
    return int(line.split()[1])


def memory_of(command, emulator, directory, spared):
    variables = variables_for(emulator, directory)
    peak = peak_memory(command, variables)
    end(command, variables, spared)
    return peak


def traffic(command, emulator, directory, spared):
    """Bytes on the wire, requests and connections of one run."""
    variables = variables_for(emulator, directory)
    emulator.forget()
    before = loopback_bytes()
    run(command, variables, spared)
    sent = loopback_bytes() - before
    requests = emulator.requests()
    return sent, len(requests), len({one["connection"] for one in requests})


def measure(arguments, emulator, directory):
    # orphans come to this process, which waits for them and so learns what they used
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_CHILD_SUBREAPER) failed")
    spared = children()
    figures = {latency: collections.defaultdict(list) for latency in LATENCIES}
    for latency in LATENCIES:
        emulator.call("POST", "settings", {"latency_ms": latency})
        for turn in range((arguments.far_runs if latency else arguments.runs) + 1):
            for name, command in COMMANDS.items():
                figure = run(command, variables_for(emulator, directory), spared)
                if turn:  # the first round warms caches up
                    figures[latency][name].append(figure)
    emulator.call("POST", "settings", {"latency_ms": 20})  # long enough to be seen
    memory = {
        name: max(memory_of(command, emulator, directory, spared) for _ in range(3))
        for name, command in COMMANDS.items()
    }
    emulator.call("POST", "settings", {"latency_ms": 0})
    wire = {
        name: [statistics.median(column) for column in zip(*(traffic(command, emulator, directory, spared) for _ in range(3)))]
        for name, command in COMMANDS.items()
    }
    return figures, memory, wire


def show(figures, memory, wire, arguments):
    wall = {latency: {name: statistics.median(wall for wall, _ in rows) for name, rows in by_name.items()}
            for latency, by_name in figures.items()}
    cpu = {name: statistics.median(cpu for _, cpu in rows) for name, rows in figures[0].items()}
    print(f"Medians of {arguments.runs} interleaved runs at 0 ms of round-trip time and {arguments.far_runs} at 20 and at 100 ms; "
          f"load {os.getloadavg()[0]:.1f}.\n")
    print("| | wall, 0 ms | to the floor | CPU | to the floor | peak memory | on the wire | requests / connections |\n|---|---|---|---|---|---|---|---|")
    for name in COMMANDS:
        sent, requests, connections = wire[name]
        print(f"| {name} | {wall[0][name] * 1000:.1f} ms | {wall[0][name] / wall[0][FLOOR]:.2f} | {cpu[name] * 1000:.1f} ms "
              f"| {cpu[name] / cpu[FLOOR]:.2f} | {memory[name]:.1f} MiB | {sent / 1024:.1f} KiB | {requests:.0f} / {connections:.0f} |")
    print("\n| | wall, 0 ms | 20 ms | 100 ms | round trips | to `azfed token`, 0 ms | 20 ms | 100 ms |\n|---|---|---|---|---|---|---|---|")
    for name in COMMANDS:
        trips = (wall[100][name] - wall[20][name]) / 0.080
        walls = " | ".join(f"{wall[latency][name] * 1000:.1f} ms" for latency in LATENCIES)
        ratios = " | ".join(f"{wall[latency][name] / wall[latency]['azfed token']:.2f}" for latency in LATENCIES)
        print(f"| {name} | {walls} | {trips:.1f} | {ratios} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--far-runs", type=int, default=7)
    arguments = parser.parse_args()
    if not os.environ.get(namespace.INSIDE):
        build()
    for program in (AZFED, EMULATOR, AZ, *(built(name) for name in ("floor", "azure-identity-login"))):
        if not os.path.exists(program):
            sys.exit(f"{program} is missing: run ./test.sh install build && cargo build --release --package azfed-emulator")
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="azfed-bench-") as directory:
        namespace.bring_loopback_up()
        namespace.map_names(EMULATOR, directory)
        emulator = Emulator(EMULATOR, os.path.join(directory, "emulator"))
        figures, memory, wire = measure(arguments, emulator, directory)
        emulator.stop()
    show(figures, memory, wire, arguments)


if __name__ == "__main__":
    main()
