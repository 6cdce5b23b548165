#!/usr/bin/env python3
"""Goes out through real proxies only: tinyproxy and mitmproxy, whose own access logs say what was asked for.

Where it says `beyond`, the names of Azure and the platforms are known to the proxy alone: what went there went through it.
Usage: proxies.py --azfed FILE --emulator FILE --tools DIR [--without CLIENT]… [NAME]…
"""

import argparse
import contextlib
import glob
import json
import os
import stat
import time
import urllib.parse

import suite
from clients import CHECKS, exec_script
from emulator import SUBSCRIPTION
from run import ARM, WHO, Context, case_list, check_home_untouched, check_no_leak, check_nothing_left, files_below
from runners import AzureDevOps, GitHub, GitLab, execute
from servers import USER, Away, Broken, Mitmproxy, Tinyproxy, spellings_of_passwords

CASES, case = case_list()
ENTRA = "login.microsoftonline.com"
# an address that is neither loopback nor a proxy's to know
ELSEWHERE = "10.77.0.1"


def tunnels(*hosts):
    return {f"CONNECT {host}:443" for host in hosts}


def check_password(text, what):
    for spelling in spellings_of_passwords():
        assert spelling not in text, f"the proxy's password in {what}: {text}"


def check_processes():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(path, encoding="utf-8", errors="replace") as file:
            line = file.read()
            if "mitmdump" not in line:
                check_password(line, path)


class Jobs(Context):
    """Jobs beyond a proxy, and what their runs must not show."""

    def __init__(self, arguments, emulator, root):
        super().__init__(arguments, emulator, root)
        self.tools = arguments.tools
        bare = os.path.join(root, "no-names")
        with open(bare, "w", encoding="ascii") as file:
            file.write("127.0.0.1 localhost\n")
        self.beyond = os.path.join(root, "azfed-beyond")
        with open(self.beyond, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexec /usr/bin/unshare --mount /bin/sh -c '/bin/mount --bind \"$0\" /etc/hosts && exec \"$@\"' "
                       f"{bare} {self.azfed} \"$@\"\n")
        os.chmod(self.beyond, os.stat(self.beyond).st_mode | stat.S_IXUSR)

    def behind(self, proxy, kind=GitLab, beyond=True, **variables):
        """A job that is told of the proxy, for both kinds of URL unless `variables` say how."""
        runner = self.job(kind)
        variables = variables or {"HTTPS_PROXY": proxy.url(), "HTTP_PROXY": proxy.url()}
        runner.platform_environment.update(variables)
        if beyond:
            runner.azfed = self.beyond
        return runner

    def of(self, name):
        self.made += 1
        return os.path.join(self.root, f"{name}{self.made}")

    def tinyproxy(self, **options):
        return Tinyproxy(self.of("tinyproxy"), **options)

    def mitmproxy(self, **options):
        return Mitmproxy(self.of("mitmproxy"), self.tools, self.emulator.ca, **options)

    def run(self, runner, *arguments, code=0, **variables):
        """Runs azfed, and looks for what it must not show."""
        outcome = runner.run(*arguments, **variables)
        check_no_leak(self.emulator, runner, outcome) if arguments[0] not in ("token", "assertion") else None
        check_password(outcome.stdout + outcome.stderr, "the log")
        check_password(json.dumps(runner.handed_over), "what later steps get")
        for path in files_below(runner.temp):
            with open(path, encoding="utf-8", errors="replace") as file:
                check_password(file.read(), path)
        assert outcome.code == code, outcome.show()
        return outcome


def platform_host(runner):
    for name in ("ACTIONS_ID_TOKEN_REQUEST_URL", "SYSTEM_OIDCREQUESTURI"):
        if name in runner.platform_environment:
            return urllib.parse.urlsplit(runner.platform_environment[name]).hostname
    return None


def everything_through(kind, with_login):
    """login, token, doctor, logout: each host through the proxy, none past it, loopback never."""

    def test(context):
        with context.tinyproxy(with_login=with_login) as proxy:
            runner = context.behind(proxy, kind)
            hosts = {ENTRA, platform_host(runner)} - {None}
            for arguments, more in (
                (("login", *WHO, "-v"), ()),
                (("token", *WHO, "--scope", "https://vault.azure.net"), ()),
                (("assertion",), {ENTRA}),
                (("doctor", *WHO), ()),
            ):
                proxy.forget()
                context.emulator.forget()
                outcome = context.run(runner, *arguments)
                asked = set(proxy.requests())
                expected = hosts - set(more) | ({"management.azure.com"} if arguments[0] == "doctor" else set())
                if arguments[0] == "doctor":
                    assert f"through the proxy {proxy.address}" in outcome.stdout + outcome.stderr, outcome.show()
                    asked -= tunnels("app.vstoken.visualstudio.com", "token.actions.githubusercontent.com", "gitlab.example.com")
                assert asked == tunnels(*expected), (arguments, asked, expected, outcome.show())
                assert arguments[0] == "assertion" or context.emulator.requests("entra.token"), "it did not arrive"
            check_processes()
            context.run(runner, "logout")
            check_nothing_left(runner)
            check_home_untouched(runner)

    test.__name__ = f"everything_through_tinyproxy_{'with_a_password_' if with_login else ''}on_{kind.__name__}"
    return case(test)


for one_kind in (GitHub, AzureDevOps, GitLab):
    everything_through(one_kind, with_login=one_kind is not AzureDevOps)
everything_through(GitHub, with_login=False)

ASK = """
import json, os, sys, time, urllib.request
def token():
    url = os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=https://management.azure.com"
    request = urllib.request.Request(url, headers={"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]})
    return json.load(urllib.request.urlopen(request))["access_token"]
first = token()
time.sleep(9)
print("renewed" if token() != first else "the same")
"""


@case
def exec_renews_through_the_proxy_and_is_asked_past_it(context):
    """The command's client, Python's own, obeys HTTP_PROXY: so what it asks on loopback would be in the proxy's log."""
    context.emulator.call("POST", "settings", {"access_token_lifetime_s": 8, "assertion_lifetime_s": 5})
    try:
        with context.tinyproxy(with_login=True) as proxy:
            runner = context.behind(proxy, GitHub)
            context.emulator.forget()
            outcome = context.run(runner, "exec", "-v", *WHO, "--", "/usr/bin/python3", "-c", ASK)
            assert outcome.stdout == "renewed\n", outcome.show()
            asked = proxy.requests()
            assert set(asked) == tunnels(ENTRA, platform_host(runner)), asked
            # for the second token: a tunnel that is still open may serve again
            assert len(asked) > 2 and len(context.emulator.requests("entra.token")) > 1, asked
            check_nothing_left(runner)
    finally:
        context.emulator.call("POST", "settings", {"access_token_lifetime_s": None, "assertion_lifetime_s": None})


@case
def the_background_process_renews_through_the_proxy(context):
    context.emulator.call("POST", "settings", {"access_token_lifetime_s": 20, "assertion_lifetime_s": 5})
    try:
        with context.tinyproxy(with_login=True) as proxy:
            runner = context.behind(proxy, GitHub)
            context.run(runner, "login", *WHO)
            log = os.path.join(runner.handed_over["AZFED_LOGIN_DIR"], "keeper", "log")
            proxy.forget()
            deadline = time.monotonic() + 20
            while not (tunnels(platform_host(runner)) <= set(proxy.requests())):
                assert time.monotonic() < deadline, "nothing renewed"
                time.sleep(0.2)
            check_processes()
            time.sleep(0.5)
            with open(log, encoding="utf-8") as file:
                said = file.read()
            check_password(said, "the background process's log")
            assert "renewed" in said, said
            assert set(proxy.requests()) <= tunnels(ENTRA, platform_host(runner)), proxy.requests()
            context.run(runner, "logout")
            check_nothing_left(runner)
    finally:
        context.emulator.call("POST", "settings", {"access_token_lifetime_s": None, "assertion_lifetime_s": None})


def operator(context, runner):
    """An az on the path that has an access token, which it was given past any proxy."""
    plain = context.job(GitHub)
    token = plain.run("token", *WHO).stdout.strip()
    directory = os.path.join(runner.directory, "bin")
    os.makedirs(directory)
    az = os.path.join(directory, "az")
    with open(az, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\necho '{json.dumps({'accessToken': token, 'tokenType': 'Bearer'})}'\n")
    os.chmod(az, 0o700)
    return f"{directory}:{runner.base()['PATH']}"


def credentials(runner):
    path = os.path.join(runner.workspace, "credentials.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump([{"name": "proxied", "issuer": "https://token.actions.githubusercontent.com",
                    "subject": "repo:contoso/infra:environment:proxied", "audiences": ["api://AzureADTokenExchange"]}], file)
    return path


APPLY = ("--subscription-id", SUBSCRIPTION, "--resource-group", "contoso-prod", "--identity", "infra-prod", "--yes")


@case
def trust_apply_and_doctor_with_arm_go_through_the_proxy(context):
    try:
        with context.tinyproxy(with_login=True) as proxy:
            runner = context.behind(proxy, GitHub)
            path = operator(context, runner)
            outcome = context.run(runner, "trust", "apply", credentials(runner), *APPLY, PATH=path)
            assert "created proxied" in outcome.stderr, outcome.show()
            assert set(proxy.requests()) == tunnels("management.azure.com"), proxy.requests()
            proxy.forget()
            context.run(runner, "doctor", *WHO, "--with-arm", PATH=path)
            assert set(proxy.requests()) >= tunnels("management.azure.com", ENTRA, platform_host(runner)), proxy.requests()
    finally:
        context.emulator.call("POST", "reset")


def both_certificates(context, runner, proxy):
    """A file for clients that are spoken to by the proxy's certificates and by the emulator's own."""
    both = os.path.join(runner.directory, "both.pem")
    with open(both, "w", encoding="ascii") as file:
        for one in (proxy.ca, context.emulator.ca):
            with open(one, encoding="ascii") as ca:
                file.write(ca.read())
    return both


def inspected(with_login, scheme):
    """A proxy that takes TLS apart, known by its own CA: everything works, and what it reads is what was meant."""

    def test(context):
        with context.mitmproxy(with_login=with_login, scheme=scheme) as proxy:
            runner = context.behind(proxy, GitHub, HTTPS_PROXY=proxy.url())
            trusted = {"SSL_CERT_FILE": proxy.ca}
            if scheme == "https":
                trusted = {"SSL_CERT_FILE": both_certificates(context, runner, proxy)}
            context.run(runner, "login", *WHO, "--no-keep-fresh", **trusted)
            inside = proxy.inside()
            assert len(inside) == 2 and inside[0].startswith(f"GET {platform_host(runner)}/"), inside
            assert inside[1].startswith(f"POST {ENTRA}/") and inside[1].endswith("/oauth2/v2.0/token"), inside
            context.run(runner, "doctor", *WHO, **trusted)
            context.run(runner, "logout", **trusted)
            if scheme == "https":
                return
            # without that CA nothing is sent but the request for a tunnel
            proxy.forget()
            for arguments in (("login", *WHO), ("token", *WHO), ("exec", *WHO, "--", "true")):
                refused = context.run(runner, *arguments, code=5)
                assert "name its CA certificate, a PEM file, with SSL_CERT_FILE" in refused.stderr, refused.show()
                assert "trying again" not in refused.stderr, refused.show()
            assert proxy.inside() == [] and set(proxy.requests()) == tunnels(platform_host(runner), ENTRA), proxy.requests()
            refused = context.run(runner, "doctor", *WHO, code=5)
            assert "SSL_CERT_FILE" in refused.stdout + refused.stderr, refused.show()
            check_nothing_left(runner)

    test.__name__ = f"inspected_by_mitmproxy{'_with_a_password' if with_login else ''}{'_over_tls' if scheme == 'https' else ''}"
    return case(test)


inspected(with_login=False, scheme="http")
inspected(with_login=True, scheme="http")
inspected(with_login=True, scheme="https")


@case
def the_real_clients_work_in_exec_behind_an_inspecting_proxy(context):
    if len(context.clients.without) == len(CHECKS):
        return "every client is left out"
    with context.mitmproxy() as proxy:
        runner = context.behind(proxy, GitHub, beyond=False)
        script = exec_script(context.clients, runner, pause=0)
        variables = {**runner.login_step(), "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1",
                     "SSL_CERT_FILE": proxy.ca, "REQUESTS_CA_BUNDLE": proxy.ca, "NODE_EXTRA_CA_CERTS": both_certificates(context, runner, proxy)}
        outcome = execute([context.azfed, "exec", "-v", *WHO, "--", "sh", "-c", script], variables, cwd=runner.workspace)
        assert outcome.code == 0, outcome.show()
        check_no_leak(context.emulator, runner, outcome)
        asked = set(proxy.requests())
        assert tunnels(ENTRA, platform_host(runner)) <= asked, asked
        assert not [one for one in [*asked, *proxy.inside()] if "127.0.0.1" in one or "localhost" in one], asked


# NO_PROXY, and whether Entra is then asked past the proxy
EXCEPTIONS = {
    ENTRA: True,
    ENTRA.upper(): True,
    ".microsoftonline.com": True,
    "microsoftonline.com": True,
    "*.microsoftonline.com": True,
    f"example.com , {ENTRA}": True,
    "*": True,
    "example.com": False,
    "online.com": False,
    ".login.microsoftonline.com.example": False,
    "127.0.0.0/8": False,
    f"{ENTRA}:8443": False,
}


@case
def no_proxy_in_each_form(context):
    with context.tinyproxy() as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            for value, past in EXCEPTIONS.items():
                proxy.forget()
                context.emulator.forget()
                runner = context.behind(proxy, beyond=False, HTTPS_PROXY=proxy.url(), **{name: value})
                context.run(runner, "token", *WHO)
                assert context.emulator.requests("entra.token"), value
                assert (proxy.requests() == []) == past, f"{name}={value}: {proxy.requests()}"
        # networks are for addresses: nobody is there, and whether the proxy was asked is what counts
        for value, past in (("10.0.0.0/8", True), (ELSEWHERE, True), ("10.78.0.0/16", False), ("10", False)):
            proxy.forget()
            runner = context.behind(proxy, beyond=False, HTTPS_PROXY=proxy.url(), NO_PROXY=value)
            context.run(runner, "token", *WHO, "--authority-host", f"https://{ELSEWHERE}", "--timeout", "2", code=5)
            assert (proxy.requests() == []) == past, f"{value}: {proxy.requests()}"
        # beyond the proxy, what is excepted is out of reach, and doctor says so
        runner = context.behind(proxy, HTTPS_PROXY=proxy.url(), NO_PROXY=f".{ENTRA}")
        said = context.run(runner, "doctor", *WHO, code=5)
        assert f"{ENTRA} directly" in said.stdout + said.stderr, said.show()


@case
def the_proxy_by_each_variable(context):
    with context.tinyproxy(with_login=True) as proxy, Broken() as other:
        url = proxy.url()
        for used, variables in (
            (True, {"HTTPS_PROXY": url}),
            (True, {"https_proxy": url}),
            (True, {"ALL_PROXY": url}),
            (True, {"all_proxy": url}),
            (True, {"HTTPS_PROXY": url, "ALL_PROXY": other.url()}),
            (True, {"https_proxy": url, "all_proxy": other.url(), "HTTP_PROXY": other.url()}),
            (True, {"HTTPS_PROXY": "", "ALL_PROXY": url}),
            (True, {"HTTPS_PROXY": "", "https_proxy": url}),
            (True, {"HTTPS_PROXY": url.removeprefix("http://")}),
            (True, {"HTTPS_PROXY": url + "/"}),
            (True, {"HTTPS_PROXY": url, "NO_PROXY": "", "no_proxy": "example.com"}),
            (False, {"HTTP_PROXY": url, "http_proxy": url}),
            (False, {"HTTPS_PROXY": url, "NO_PROXY": "", "no_proxy": "*"}),
            (False, {"HTTPS_PROXY": ""}),
        ):
            proxy.forget()
            runner = context.behind(proxy, beyond=used, **variables)
            context.run(runner, "token", *WHO)
            assert (proxy.requests() != []) == used, f"{list(variables)}: {proxy.requests()}"
        assert other.requests() == [], other.requests()


def html(status):
    body = "<html><body>Please sign in to the network s3nt</body></html>"
    return f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


# what is wrong with the proxy: how to make it, what azfed says, whether it tries again
FAILURES = {
    "asks_for_a_password": (lambda context: context.tinyproxy(with_login=True), "wants a user and a password", False),
    "takes_another_password": (lambda context: context.mitmproxy(with_login=True), "does not take the user and the password", False),
    "takes_another_password_and_answers_401": (lambda context: context.tinyproxy(with_login=True), "did not open a tunnel", True),
    "forbids_the_host": (lambda context: context.tinyproxy(port_allowed=563), "did not open a tunnel", True),
    "is_away": (lambda _: Away(with_login=True), "Connection refused", True),
    "answers_html": (lambda _: Broken(html("200 OK"), with_login=True), "", True),
    "answers_html_and_an_error": (lambda _: Broken(html("503 Service Unavailable"), with_login=True), "did not open a tunnel", True),
    "redirects": (lambda _: Broken(html("302 Found\r\nLocation: https://portal.example.com"), with_login=True), "did not open a tunnel", True),
    "speaks_no_http": (lambda _: Broken(b"220 mail.example.com ESMTP\r\n", with_login=True), "did not open a tunnel", True),
    "hangs_up": (lambda _: Broken(with_login=True), "", True),
    "says_nothing": (lambda _: Broken(keep_open=True, with_login=True), "no connection in time", True),
}


def fails(name):
    make, words, again = FAILURES[name]

    def test(context):
        with make(context) as proxy:
            url = proxy.url("wrong") if name.startswith("takes_another_password") else proxy.url()
            if name == "asks_for_a_password":
                url = url.replace(url.split("//")[1].split("@")[0] + "@", "")
            # the connection's own limit is ten seconds, and then there is something to say
            timeout = ("--timeout", "12") if name == "says_nothing" else ("--timeout", "2")
            for kind in (GitHub, GitLab):
                runner = context.behind(proxy, kind, HTTPS_PROXY=url)
                path = operator(context, runner)
                for arguments in (("login", *WHO, *timeout), ("token", *WHO, *timeout), ("exec", *WHO, *timeout, "--", "echo", "ran"),
                                  ("doctor", *WHO, *timeout), ("trust", "apply", credentials(runner), *APPLY)):
                    # what lasts as long as its limit is done once each
                    if again and (kind, arguments[0]) not in ((GitHub, "login"), (GitHub, "exec"), (GitLab, "token"), (GitLab, "doctor")):
                        continue
                    if name == "says_nothing" and (kind, arguments[0]) != (GitLab, "token"):
                        continue
                    started = time.monotonic()
                    outcome = context.run(runner, *arguments, code=5, PATH=path)
                    said = outcome.stdout + outcome.stderr
                    assert words in said and "HTTPS_PROXY" in said, outcome.show()
                    assert proxy.address in said, "the proxy is not named: " + outcome.show()
                    assert "ran\n" not in outcome.stdout, outcome.show()
                    if arguments[0] != "doctor":
                        assert ("trying again" in said) == again, outcome.show()
                    assert time.monotonic() - started < 14, "it took too long"
                check_nothing_left(runner)
            assert set(proxy.requests()) <= tunnels(ENTRA, platform_host(context.job(GitHub)), "management.azure.com"), proxy.requests()

    test.__name__ = f"a_proxy_that_{name}"
    return case(test)


for one_name in FAILURES:
    fails(one_name)


@case
def a_proxy_whose_name_is_unknown(context):
    runner = context.behind(None, GitLab, HTTPS_PROXY=f"http://{USER}:s3ntinel@proxy.corp.example:3128")
    # a C library's resolver may take five seconds to say so
    outcome = context.run(runner, "token", *WHO, "--timeout", "12", code=5)
    assert "proxy.corp.example:3128" in outcome.stderr and "HTTPS_PROXY" in outcome.stderr, outcome.show()


@case
def a_proxy_that_azfed_cannot_use(context):
    with Broken() as proxy:
        for url in (f"socks5://{USER}:s3ntinel@{proxy.address}", f"socks5h://{proxy.address}"):
            runner = context.behind(proxy, GitLab, ALL_PROXY=url)
            outcome = context.run(runner, "token", *WHO, "--timeout", "3", code=2)
            assert "SOCKS" in outcome.stderr and "HTTPS_PROXY" in outcome.stderr, outcome.show()
            assert proxy.requests() == [], proxy.requests()
        # a password that is not escaped: what is then taken for the proxy's host is a part of it, and is not shown
        for url in (f"http://{USER}:3/s3ntinel@{proxy.address}", f"http://{USER}:3#s3ntinel@{proxy.address}", f"http://{USER}:3?s3ntinel@{proxy.address}"):
            runner = context.behind(proxy, GitLab, HTTPS_PROXY=url)
            for arguments in (("token", *WHO, "--timeout", "3"), ("doctor", *WHO, "--timeout", "3")):
                outcome = context.run(runner, *arguments, code=2)
                assert f"{USER}:3" not in outcome.stdout + outcome.stderr, outcome.show()
                assert "HTTPS_PROXY" in outcome.stdout + outcome.stderr, outcome.show()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--azfed", required=True, type=os.path.abspath)
    parser.add_argument("--emulator", required=True, type=os.path.abspath)
    parser.add_argument("--tools", required=True, type=os.path.abspath)
    parser.add_argument("--without", action="append", default=[], choices=sorted(CHECKS))
    parser.add_argument("names", nargs="*", help="run only the cases whose name has one of these in it")
    arguments = parser.parse_args()
    suite.run(arguments, CASES, Jobs)


if __name__ == "__main__":
    main()
