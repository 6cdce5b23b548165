#!/usr/bin/env python3
"""Runs the wrappers in runners that were not written here. Usage: see run.sh; names choose cases."""

import argparse
import os
import sys
import tempfile
import time
import traceback

from harness import CASES, Context

import azure_pipelines  # noqa: F401
import github  # noqa: F401
import gitlab  # noqa: F401
import namespace
from emulator import Emulator


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--azfed", required=True, type=os.path.abspath)
    parser.add_argument("--emulator", required=True, type=os.path.abspath)
    parser.add_argument("--tools", required=True, type=os.path.abspath)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    namespace.enter()
    passed, failed = 0, []
    with tempfile.TemporaryDirectory(prefix="azfed-wrappers-") as root:
        namespace.bring_loopback_up()
        namespace.map_names(arguments.emulator, root)
        emulator = Emulator(arguments.emulator, os.path.join(root, "emulator"))
        context = Context(arguments, emulator, root)
        for name, test in CASES:
            if arguments.names and not any(wanted in name for wanted in arguments.names):
                continue
            started = time.monotonic()
            try:
                test(context)
                passed += 1
                print(f"ok      {name} ({time.monotonic() - started:.1f} s)", flush=True)
            except Exception:  # a test that fails must not end the others
                failed.append(name)
                print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
        emulator.stop()
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
