"""Runs cases one after the other against one emulator, in namespaces of their own."""

import os
import sys
import tempfile
import time
import traceback

import namespace
from emulator import Emulator


def run(arguments, cases, context_of, addresses=()):
    """Each case is a name and a function of a context; one that returns a reason was skipped. The emulator also serves plain
    http at `addresses`."""
    namespace.enter()
    passed, failed, skipped = 0, [], []
    with tempfile.TemporaryDirectory(prefix="azfed-test-") as root:
        namespace.bring_loopback_up()
        namespace.map_names(arguments.emulator, root)
        options = []
        for number, (address, port) in enumerate(addresses, 1):
            if not address.startswith("127."):
                namespace.add_address(address, number)
            options += ["--also-listen", f"{address}:{port}"]
        emulator = Emulator(arguments.emulator, os.path.join(root, "emulator"), *options)
        context = context_of(arguments, emulator, root)
        for name, test in cases:
            if arguments.names and not any(wanted in name for wanted in arguments.names):
                continue
            started = time.monotonic()
            try:
                reason = test(context)
                if reason:
                    skipped.append(f"{name}: {reason}")
                    print(f"SKIPPED {name}: {reason}", flush=True)
                else:
                    passed += 1
                    print(f"ok      {name} ({time.monotonic() - started:.1f} s)", flush=True)
            except Exception:  # a test that fails must not end the others
                failed.append(name)
                print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
        emulator.stop()
    for line in skipped:
        print(f"skipped: {line}")
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    sys.exit(1 if failed or not passed else 0)
