"""The emulator as a process, and its controls."""

import json
import os
import subprocess
import time
import urllib.request

TENANT = "22222222-2222-4222-8222-222222222222"
IDENTITY = "11111111-1111-4111-8111-111111111111"
APPLICATION = "55555555-5555-4555-8555-555555555555"
SUBSCRIPTION = "44444444-4444-4444-8444-444444444444"
CONNECTION = "99999999-9999-4999-8999-999999999999"

# what a request says, and not how a client happens to send it
FIELDS = ("kind", "method", "path", "query", "form", "host")
HEADERS = ("metadata", "x-identity-header", "secret", "authorization", "x-forwarded-for")


def said(request):
    shown = {field: sorted(map(tuple, request[field])) if field in ("query", "form") else request[field] for field in FIELDS}
    headers = {name: value for name, value in request["headers"].items() if name in HEADERS}
    # a key is good for one request
    headers.update({"authorization": "Basic <key>"} if headers.get("authorization", "").startswith("Basic ") else {})
    # one name and one address of the same agent
    shown["host"] = shown["host"].replace("localhost", "127.0.0.1")
    return {**shown, "headers": headers}


class Emulator:
    """Serves until it is stopped, this process has gone, or an hour has passed."""

    def __init__(self, program, directory, *options, names="real", tls_listen="127.0.0.1:443"):
        self.directory = directory
        command = [program, "serve", "--dir", directory, "--names", names, "--tls-listen", tls_listen]
        self.process = subprocess.Popen(
            [*command, "--max-seconds", "3600", *options], stdout=subprocess.PIPE, text=True
        )
        ready = os.path.join(directory, "ready")
        deadline = time.monotonic() + 20
        while not os.path.exists(ready):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the emulator did not start: " + (self.process.stdout.read() or ""))
            time.sleep(0.02)
        with open(os.path.join(directory, "world.json"), encoding="utf-8") as file:
            self.world = json.load(file)
        self.ca = os.path.join(directory, "ca.pem")
        self.url = self.world["http"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_emulator/{path}", data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def environment(self, platform, **job):
        query = "&".join(f"{name}={value}" for name, value in job.items())
        return self.call("GET", f"env/{platform}?{query}")

    def requests(self, kind=None):
        return [one for one in self.call("GET", "requests") if kind in (None, one["kind"])]

    def forget(self):
        self.call("DELETE", "requests")

    def secrets(self):
        return self.call("GET", "secrets")

    def stop(self):
        self.process.terminate()
        self.process.wait()
