"""Proxies: tinyproxy and mitmproxy, each with its own access log, and small ones that are broken in one way."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse

USER = "ci-runner"
# characters that a URL must have escaped; tinyproxy's file of settings takes none of them
PASSWORD = "s3ntinel@pr/xy?#+%"
PLAIN_PASSWORD = "s3ntinel-proxy"


def spellings_of_passwords():
    """What no output may have: their beginning, and the header's form of them."""
    for password in (PASSWORD, PLAIN_PASSWORD):
        yield base64.b64encode(f"{USER}:{password}".encode()).decode().rstrip("=")
    yield "s3nt"


def wait_for_port(port, process=None):
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline or process and process.poll() is not None:
                raise
            time.sleep(0.05)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Proxy:
    """What every proxy has: an address, perhaps a login, and the targets that its own log names."""

    scheme, password = "http", PASSWORD

    def __init__(self, with_login=False):
        self.port, self.with_login = free_port(), with_login

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def url(self, password=None):
        login = f"{USER}:{urllib.parse.quote(password or self.password, safe='')}@" if self.with_login else ""
        return f"{self.scheme}://{login}{self.address}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Tinyproxy(Proxy):
    """Debian's tinyproxy: tunnels to port 443, unless told another."""

    password = PLAIN_PASSWORD

    def __init__(self, directory, with_login=False, port_allowed=443):
        super().__init__(with_login)
        os.makedirs(directory, exist_ok=True)
        self.log = os.path.join(directory, "log")
        configuration = os.path.join(directory, "tinyproxy.conf")
        lines = [f"Port {self.port}", "Listen 127.0.0.1", f'LogFile "{self.log}"', "LogLevel Connect", "MaxClients 100",
                 f"ConnectPort {port_allowed}", "Timeout 60"]
        if with_login:
            lines.append(f"BasicAuth {USER} {self.password}")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        program = shutil.which("tinyproxy") or "/usr/bin/tinyproxy"
        self.process = subprocess.Popen([program, "-d", "-c", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        wait_for_port(self.port, self.process)

    def requests(self):
        """What its log says that it was asked for: `CONNECT host:port`, or a method and a URL."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return re.findall(r"Request \(file descriptor \d+\): (\S+ \S+) HTTP/", file.read())

    def forget(self):
        os.truncate(self.log, 0)

    def stop(self):
        self.process.terminate()
        self.process.wait()


ADDON = '''
import json, os
LOG = os.environ["PROXY_LOG"]
def note(kind, what):
    with open(LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps([kind, what]) + "\\n")
def http_connect(flow):
    note("connect", f"CONNECT {flow.request.host}:{flow.request.port}")
def request(flow):
    note("inside", f"{flow.request.method} {flow.request.pretty_host}{flow.request.path.split('?')[0]}")
'''


class Mitmproxy(Proxy):
    """mitmproxy: takes TLS apart with a certificate of its own for each host, and so reads what is inside."""

    def __init__(self, directory, tools, upstream_ca, with_login=False, scheme="http"):
        super().__init__(with_login)
        self.scheme = scheme
        settings = os.path.join(directory, "settings")
        os.makedirs(settings, exist_ok=True)
        self.log = os.path.join(directory, "log")
        addon = os.path.join(directory, "addon.py")
        with open(addon, "w", encoding="utf-8") as file:
            file.write(ADDON)
        with open(self.log, "w", encoding="utf-8"):
            pass
        self.ca = os.path.join(settings, "mitmproxy-ca-cert.pem")
        options = [f"confdir={settings}", f"ssl_verify_upstream_trusted_ca={upstream_ca}", "connection_strategy=lazy"]
        if with_login:
            options.append(f"proxyauth={USER}:{self.password}")
        command = [os.path.join(tools, "mitmproxy", "bin", "mitmdump"), "--quiet", "--listen-host", "127.0.0.1",
                   "--listen-port", str(self.port), "-s", addon]
        for option in options:
            command += ["--set", option]
        environment = {"PATH": "/usr/bin:/bin", "HOME": directory, "LANG": "C.UTF-8", "PROXY_LOG": self.log}
        self.output = open(os.path.join(directory, "output"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, env=environment, stdout=self.output, stderr=subprocess.STDOUT)
        wait_for_port(self.port, self.process)

    def entries(self, kind):
        with open(self.log, encoding="utf-8") as file:
            return [what for one, what in map(json.loads, file) if one == kind]

    def requests(self):
        return self.entries("connect")

    def inside(self):
        """Method, host and path of each request within the tunnels."""
        return self.entries("inside")

    def forget(self):
        os.truncate(self.log, 0)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.output.close()


class Broken(Proxy):
    """Reads one request's head, remembers its first line, and then does one thing wrong."""

    def __init__(self, answer=b"", keep_open=False, with_login=False):
        super().__init__(with_login)
        self.answer, self.keep_open, self.lines, self.open = answer, keep_open, [], []
        self.server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        client.settimeout(30)
        head = b""
        try:
            while b"\r\n\r\n" not in head:
                more = client.recv(4096)
                if not more:
                    break
                head += more
            self.lines.append(head.split(b"\r\n")[0].decode("latin-1"))
            client.sendall(self.answer)
        except OSError:
            pass
        if self.keep_open:
            self.open.append(client)
        else:
            client.close()

    def requests(self):
        return [line.removesuffix(" HTTP/1.1") for line in self.lines if line]

    def forget(self):
        self.lines.clear()

    def stop(self):
        self.server.close()
        for client in self.open:
            client.close()


class Away(Proxy):
    """An address where nobody listens."""

    def requests(self):
        return []

    def stop(self):
        pass
