"""A private network and mount namespace in which the real names of Azure and the CI platforms lead to the emulator."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

INSIDE = "AZFED_TEST_NAMESPACE"


def enter():
    """Runs this program again inside new namespaces, unless it is there already."""
    if os.environ.get(INSIDE):
        return
    unshare = shutil.which("unshare") or sys.exit("error: `unshare` (util-linux) is needed for the real-client tests")
    options = ["--mount", "--net"] if os.geteuid() == 0 else ["--map-root-user", "--mount", "--net"]
    if subprocess.run([unshare, *options, "true"], capture_output=True).returncode != 0:
        sys.exit(
            "error: this machine allows no private namespaces (unshare " + " ".join(options) + ");\n"
            "hint: run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1"
        )
    os.environ[INSIDE] = "1"
    os.execv(unshare, [unshare, *options, sys.executable, *sys.argv])


def bring_loopback_up():
    """Does what `ip link set lo up` does (netdevice(7), SIOCSIFFLAGS), where there may be no `ip`."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(handle, get_flags, request))
        fcntl.ioctl(handle, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def map_names(emulator, directory):
    """Puts the emulator's names into a hosts file that only this namespace sees."""
    names = subprocess.run([emulator, "hosts"], capture_output=True, text=True, check=True).stdout
    hosts = os.path.join(directory, "hosts")
    with open(hosts, "w", encoding="ascii") as file:
        file.write("127.0.0.1 localhost\n" + names)
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)


def add_address(address, alias):
    """Does what `ip address add` does on the loopback interface (netdevice(7), SIOCSIFADDR on an alias of it)."""
    set_address = 0x8916
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        name = f"lo:{alias}".encode()
        fcntl.ioctl(handle, set_address, struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(address)))
