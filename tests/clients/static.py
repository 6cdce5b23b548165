#!/usr/bin/env python3
"""Says of the release binary: one static file, small, at home in an empty root, modest with memory.

Usage: static.py --azfed FILE --emulator FILE
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from emulator import IDENTITY, SUBSCRIPTION, TENANT, Emulator

MIB = 1 << 20


def program_headers(path):
    """The types of an ELF file's program headers (ELF-64 object file format)."""
    with open(path, "rb") as file:
        head = file.read(64)
        assert head[:5] == b"\x7fELF\x02", "not a 64-bit ELF file"
        (offset,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
    return [struct.unpack_from("<IIQQQQ", table, size * number) for number in range(count)]


def needed_libraries(path, headers):
    """Entries of type DT_NEEDED (1) in the dynamic section (PT_DYNAMIC, 2), if there is one."""
    with open(path, "rb") as file:
        content = file.read()
    count = 0
    for kind, _, offset, _, _, size in headers:
        if kind == 2:
            for at in range(offset, offset + size, 16):
                (tag,) = struct.unpack_from("<q", content, at)
                count += tag == 1
    return count


def login_in_empty_root(azfed, emulator, root):
    """A whole login where there is nothing but the binary, its input and a temp directory."""
    for name in ("temp", "etc"):
        os.makedirs(os.path.join(root, name))
    shutil.copy2(azfed, os.path.join(root, "azfed"))
    shutil.copy2(emulator.ca, os.path.join(root, "etc", "ca.pem"))
    variables = {"TMPDIR": "/temp", "SSL_CERT_FILE": "/etc/ca.pem", "AZURE_AUTHORITY_HOST": f"https://127.0.0.1:{emulator.world['tls_port']}"}
    variables |= emulator.environment("gitlab")
    chroot = ["unshare", "--map-root-user"] if os.geteuid() else []
    command = [*chroot, "/usr/sbin/chroot", root, "/azfed", "login", "--client-id", IDENTITY, "--tenant-id", TENANT,
               "--subscription-id", SUBSCRIPTION]
    # a pipe that is full holds the process at its last write: then its peak can be read, which /proc keeps for each
    # program alone (getrusage(2) would count this Python's memory from before the exec)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    filled = 0
    try:
        while True:
            filled += os.write(write_end, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write_end, True)
    process = subprocess.Popen(command, env=variables, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    deadline = time.monotonic() + 20
    while not [one for one in emulator.requests("entra.token") if one["status"] == 200]:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    time.sleep(0.3)
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        (peak,) = [int(line.split()[1]) for line in file if line.startswith("VmHWM:")]
    with os.fdopen(read_end) as file:
        stdout = file.read()[filled:]
    assert process.wait() == 0, process.stderr.read()
    assert "export AZURE_CONFIG_DIR='/temp/azfed-" in stdout, stdout
    return peak * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--azfed", required=True, type=os.path.abspath)
    parser.add_argument("--emulator", required=True, type=os.path.abspath)
    arguments = parser.parse_args()
    headers = program_headers(arguments.azfed)
    with tempfile.TemporaryDirectory(prefix="azfed-static-") as directory:
        emulator = Emulator(arguments.emulator, os.path.join(directory, "emulator"), names="loopback", tls_listen="127.0.0.1:0")
        memory = login_in_empty_root(arguments.azfed, emulator, os.path.join(directory, "root"))
        emulator.stop()
    size = os.path.getsize(arguments.azfed)
    checks = [
        ("no interpreter (PT_INTERP)", all(header[0] != 3 for header in headers), "none"),
        ("no shared libraries (DT_NEEDED)", needed_libraries(arguments.azfed, headers) == 0, "none"),
        ("size at most 6 MiB", size <= 6 * MIB, f"{size / MIB:.2f} MiB"),
        ("login over TLS in an empty root", True, "done"),
        ("peak memory under 16 MiB", memory < 16 * MIB, f"{memory / MIB:.1f} MiB"),
    ]
    for name, good, figure in checks:
        print(f"{'ok     ' if good else 'FAILED '} {name}: {figure}")
    failed = sum(not good for _, good, _ in checks)
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
