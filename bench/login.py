#!/usr/bin/env python3
"""Measures `azfed login` against `az login` and against curl + jq, in one run, over TLS, on the emulator.

Usage: bench/login.py [--runs N]   (after ./test.sh install build && cargo build --release --package azfed-emulator)

The real names lead to the emulator in private namespaces. The runs are interleaved; the figures are medians. A second
experiment puts 100 ms of round-trip time before the emulator and counts round trips.
"""

import argparse
import glob
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))

import namespace  # noqa: E402
from emulator import IDENTITY, SUBSCRIPTION, TENANT, Emulator  # noqa: E402

TARGET = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
TOOLS = os.path.join(ROOT, "target", "tools")
MUSL = "x86_64-unknown-linux-musl"
AZFED = os.path.join(TARGET, MUSL, "release", "azfed")
EMULATOR = os.path.join(TARGET, "release", "azfed-emulator")
AZ = os.path.join(TOOLS, "venv", "bin", "az")
LATENCY_MS = 100


def environment(emulator, directory):
    """What a step of a GitHub job has."""
    temp = tempfile.mkdtemp(dir=directory)
    files = {name: os.path.join(temp, name) for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE")}
    for path in files.values():
        with open(path, "w", encoding="ascii"):
            pass
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": temp, "RUNNER_TEMP": temp, **files,
        "AZURE_CLIENT_ID": IDENTITY, "AZURE_TENANT_ID": TENANT, "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AUTHORITY": "https://login.microsoftonline.com", "AZ": AZ, "AZURE_CORE_COLLECT_TELEMETRY": "0",
        "SSL_CERT_FILE": emulator.ca, "CURL_CA_BUNDLE": emulator.ca, "REQUESTS_CA_BUNDLE": emulator.ca,
        **emulator.environment("github"),
    }


def measure(command, variables):
    """Wall and CPU seconds of a command and all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def process_and_descendants(pid):
    yield pid
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path, encoding="ascii") as file:
                children = file.read().split()
        except OSError:  # it has just ended
            continue
        for child in children:
            yield from process_and_descendants(int(child))


def peak_memory(command, variables):
    """The peak in MiB of the largest process of a command.

    Read again and again from /proc in a run of its own, which the reading slows down: getrusage(2) would also count
    what this Python had in memory when it started the command.
    """
    peak = 0
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        for pid in process_and_descendants(process.pid):
            try:
                with open(f"/proc/{pid}/status", encoding="ascii") as file:
                    peak = max([peak, *(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))])
            except OSError:
                continue
    return peak / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    for program in (AZFED, EMULATOR, AZ):
        if not os.path.exists(program):
            sys.exit(f"{program} is missing: run ./test.sh install build && cargo build --release --package azfed-emulator")
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="azfed-bench-") as directory:
        namespace.bring_loopback_up()
        namespace.map_names(EMULATOR, directory)
        emulator = Emulator(EMULATOR, os.path.join(directory, "emulator"))
        commands = {
            "azfed login": [AZFED, "login"],
            "azfed exec -- true": [AZFED, "exec", "--", "true"],
            "curl + jq": [os.path.join(ROOT, "bench", "curl-jq.sh")],
            "az login": [os.path.join(ROOT, "bench", "az-login.sh")],
        }
        figures = {name: [] for name in commands}
        for run in range(arguments.runs + 1):
            for name, command in commands.items():
                figure = measure(command, environment(emulator, directory))
                if run:  # the first round warms caches up
                    figures[name].append(figure)
        memory = {
            name: max(peak_memory(command, environment(emulator, directory)) for _ in range(5))
            for name, command in commands.items()
        }
        emulator.call("POST", "settings", {"latency_ms": LATENCY_MS})
        far = [measure([AZFED, "login"], environment(emulator, directory))[0] for _ in range(5)]
        emulator.stop()
    median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}
    base = median["azfed login"]
    print(f"Medians of {arguments.runs} interleaved runs, TLS 1.3, emulator on the same machine.\n")
    print("| login | wall | CPU | peak memory | azfed's wall is |\n|---|---|---|---|---|")
    for name, (wall, cpu) in median.items():
        ratio = "-" if name.startswith("azfed") else f"1/{wall / base[0]:.1f}"
        print(f"| {name} | {wall * 1000:.1f} ms | {cpu * 1000:.1f} ms | {memory[name]:.1f} MiB | {ratio} |")
    trips = statistics.median(far) * 1000 / LATENCY_MS
    print(f"\nWith a round-trip time of {LATENCY_MS} ms, `azfed login` takes {trips:.2f} round trips (median of {len(far)}).")


if __name__ == "__main__":
    main()
