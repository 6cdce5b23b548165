#!/usr/bin/env python3
"""Is an identity that the host has: the shipped binary and the real clients on each kind of host, at its own address.

169.254.169.254 and the Azure Arc agent's port lead to the emulator, in namespaces of the test's own; azfed runs without
any override. azure-identity for Python is the oracle: on each host, its requests and azfed's are compared field by field.
Usage: hosts.py --azfed FILE --emulator FILE --tools DIR [--without CLIENT]… [NAME]…
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import time

import suite
from clients import CHECKS, SHOW_WHO, check_token, claims, expect
from emulator import APPLICATION, IDENTITY, SUBSCRIPTION, TENANT, said
from run import Context, case_list, check_home_untouched, check_nothing_left, compare_provider, files_below, leaks, works_in_exec
from runners import Shell, execute

IMDS = ("169.254.169.254", 80)
ARC = ("127.0.0.1", 40342)
ARM = "https://management.azure.com"
CASES, case = case_list()


class Host(Shell):
    """A shell on a host that has managed identities: nothing in its environment but what the host sets."""

    platform = None
    host = None
    # clients that cannot ask this host by themselves, which `login` cannot change and `exec` does
    not_after_login = ()
    # which identity the clients are, and what chooses it
    client, chooses = IDENTITY, ("--client-id", IDENTITY)

    def __init__(self, emulator, azfed, directory, **job):
        super().__init__(emulator, azfed, directory, **job)
        self.platform_environment = self.emulator.call("GET", f"host/{self.host}")

    def login_step(self):
        return {**super().login_step(), "TMPDIR": self.temp, **self.handed_over}

    def make_it_so(self):
        """What the machine has while it is such a host."""
        return contextlib.nullcontext()

    def who(self):
        return (*self.chooses, "--subscription-id", SUBSCRIPTION)


class SystemAssigned:
    """The same as its system-assigned identity."""

    chooses = ()

    @property
    def client(self):
        return self.emulator.world["host_identities"]["system"]["client_id"]


class VirtualMachine(Host):
    """The instance metadata service sets nothing: it is where it always is."""

    host = "imds"

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        self.platform_environment = {}


class AppService(Host):
    host = "app-service"


class Functions(AppService):
    """The same endpoint in a worker of Functions, which has marks of its own."""

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        self.platform_environment.update(FUNCTIONS_WORKER_RUNTIME="python", FUNCTIONS_EXTENSION_VERSION="~4", WEBSITE_SITE_NAME="contoso")


class ContainerApp(Host):
    host = "container-apps"


class Automation(Host):
    host = "automation"


class Arc(Host):
    """The agent is known by its program, and sets nothing for programs that no extension of its own has started."""

    host = "arc"

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        self.platform_environment = {}

    @contextlib.contextmanager
    def make_it_so(self):
        with contextlib.ExitStack() as undo:
            for directory in ("/opt", "/var/opt"):
                subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
                undo.callback(subprocess.run, ["umount", "--lazy", directory], check=True)
            os.makedirs("/opt/azcmagent/bin")
            with open("/opt/azcmagent/bin/himds", "w", encoding="ascii"):
                pass
            os.makedirs("/var/opt/azcmagent/tokens")
            yield
            self.emulator.call("POST", "reset")


class ServiceFabric(SystemAssigned, Host):
    """Its application says which identity it is. @azure/identity for JavaScript trusts no certificate by its thumbprint."""

    host = "service-fabric"
    not_after_login = ("js",)


class MachineLearning(Host):
    host = "azure-ml"


class MachineLearningUnnamed(MachineLearning):
    """Neither its environment nor the user says which identity; its endpoint knows."""

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        del self.platform_environment["DEFAULT_IDENTITY_CLIENT_ID"]

    @contextlib.contextmanager
    def make_it_so(self):
        self.emulator.call("POST", "settings", {"azure_ml_names": "optional"})
        yield
        self.emulator.call("POST", "reset")


class CloudShell(Host):
    """The signed-in user."""

    host = "cloud-shell"
    client, chooses = "b677c290-cf4b-4a8e-a60e-91ba650a4abe", ()


class BoundPod(Host):
    """A pod of a cluster with identity bindings: its token is nobody's but the cluster's."""

    host = "identity-binding"

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        file = os.path.join(self.directory, "azure-identity-token")
        with open(file, "w", encoding="ascii") as token:
            token.write(self.emulator.call("GET", "mint/kubernetes?audience=api://AKSIdentityBinding"))
        self.platform_environment["AZURE_FEDERATED_TOKEN_FILE"] = file

    def later_step(self):
        """The SDKs prefer that variable to everything else, as the login's warning says."""
        return {name: value for name, value in super().later_step().items() if name != "AZURE_FEDERATED_TOKEN_FILE"}


class VirtualMachineAsItself(SystemAssigned, VirtualMachine):
    pass


class AppServiceAsItself(SystemAssigned, AppService):
    pass


class ArcAsItself(SystemAssigned, Arc):
    pass


class AppRegistration(VirtualMachine):
    """An app registration that trusts the machine's user-assigned identity."""

    client = APPLICATION
    chooses = ("--client-id", APPLICATION, "--tenant-id", TENANT, "--via", "managed-identity", "--via-client-id", IDENTITY)


HOSTS = (VirtualMachine, VirtualMachineAsItself, AppService, AppServiceAsItself, Functions, ContainerApp, Automation, Arc, ArcAsItself,
         ServiceFabric, MachineLearning, CloudShell, BoundPod, AppRegistration)
# those whose later steps ask the host; the others' ask the process that the login leaves behind
ASKED_BY_ALL = (VirtualMachine, VirtualMachineAsItself)


@contextlib.contextmanager
def on(context, kind):
    runner = context.job(kind)
    context.emulator.forget()
    with runner.make_it_so():
        yield runner


def logged_out(context, runner):
    logout = runner.run("logout")
    assert logout.code == 0, logout.show()
    check_nothing_left(runner)
    check_home_untouched(runner)


def check_each(context, runner):
    for name, check in CHECKS.items():
        if context.has(name) and name not in runner.not_after_login:
            check(context.clients, runner, **({"client": runner.client} if check in SHOW_WHO else {}))


def login_on(kind):
    def test(context):
        with on(context, kind) as runner:
            outcome = runner.run("login", *runner.who(), "-v")
            assert outcome.code == 0, outcome.show()
            assert not leaks(context.emulator, outcome.stderr), outcome.stderr
            directory = runner.handed_over["AZFED_LOGIN_DIR"]
            keeps = os.path.exists(os.path.join(directory, "keeper"))
            assert keeps == (kind not in (*ASKED_BY_ALL, AppRegistration)), "a process that is not needed, or none"
            if kind is not AppRegistration:
                for path in files_below(directory):
                    with open(path, encoding="utf-8", errors="replace") as file:
                        assert not leaks(context.emulator, file.read()), f"a secret in {path}"
            check_each(context, runner)
            logged_out(context, runner)

    test.__name__ = f"login_on_{kind.__name__}"
    return case(test)


def exec_on(kind):
    def test(context):
        with on(context, kind) as runner:
            works_in_exec(context, runner, *runner.who())

    test.__name__ = f"exec_on_{kind.__name__}"
    return case(test)


def token_on(kind):
    def test(context):
        with on(context, kind) as runner:
            check_token(context.clients, runner, *runner.chooses, client=runner.client)
            check_nothing_left(runner)

    test.__name__ = f"token_on_{kind.__name__}"
    return case(test)


for one_kind in HOSTS:
    login_on(one_kind)
    exec_on(one_kind)
    token_on(one_kind)


def provider_on(kind):
    def test(context):
        if not context.has("terraform"):
            return "terraform is left out"
        with on(context, kind) as runner:
            outcome = runner.run("login", *runner.who())
            assert outcome.code == 0, outcome.show()
            compare_provider(context, runner, client=runner.client)
            logged_out(context, runner)
        return None

    test.__name__ = f"provider_asks_as_the_backend_does_on_{kind.__name__}"
    return case(test)


for one_kind in ASKED_BY_ALL:
    provider_on(one_kind)


@case
def no_proxy_is_asked(context):
    """Nothing listens there: a request that went through it would fail."""
    proxies = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")}
    for kind in (VirtualMachine, AppService, Arc, ServiceFabric, BoundPod):
        with on(context, kind) as runner:
            outcome = runner.run("token", *runner.chooses, **proxies)
            assert outcome.code == 0, outcome.show()


@case
def a_slow_instance_metadata_service_is_waited_for_and_a_silent_one_is_not(context):
    with on(context, VirtualMachine) as runner:
        context.emulator.call("POST", "faults", {"kind": "imds", "times": 1, "action": "delay", "ms": 3000})
        outcome = runner.run("token", *runner.chooses)
        assert outcome.code == 0, outcome.show()
        context.emulator.call("POST", "faults", {"kind": "imds", "action": "delay", "ms": 30000})
        started = time.monotonic()
        outcome = runner.run("token", *runner.chooses, "--timeout", "2")
        assert outcome.code == 5 and time.monotonic() - started < 4, outcome.show()
        # something else takes every connection there: where nobody said that it is a machine in Azure, it is none
        started = time.monotonic()
        outcome = runner.run("token", *runner.chooses)
        assert outcome.code == 3 and "gave no answer within 10 s" in outcome.stderr, outcome.show()
        assert time.monotonic() - started < 15, "it took too long"
        context.emulator.call("POST", "reset")


@case
def arcs_attacks(context):
    """Whoever answers in the agent's place gets the content of no file that is not the agent's, and nothing at all."""
    with on(context, Arc) as runner:
        emulator = context.emulator
        for challenge, words in (
            ("symlink", "is not a file in /var/opt/azcmagent/tokens"),
            ("dot-dot", "is not a file in /var/opt/azcmagent/tokens"),
            ("elsewhere", "is not a file in /var/opt/azcmagent/tokens"),
            ("large", "is larger than 4096 bytes"),
            ("suffix", "does not end with .key"),
            ("no-file", "No such file or directory"),
            ("other-scheme", "it names no file"),
            ("no-header", "it names no file"),
        ):
            emulator.call("POST", "settings", {"arc_challenge": challenge})
            emulator.forget()
            outcome = runner.run("login", *runner.who())
            assert outcome.code == 3 and words in outcome.stderr and "azfed: hint: " in outcome.stderr, f"{challenge}: {outcome.show()}"
            (asked,) = emulator.requests("arc")
            assert "authorization" not in asked["headers"], asked
            assert not leaks(emulator, outcome.stdout + outcome.stderr), outcome.show()
            check_nothing_left(runner)
        emulator.call("POST", "settings", {"arc_challenge": "right"})
        # an agent that does not know user-assigned identities gives its own token: that is not handed on
        emulator.call("POST", "settings", {"arc_agent": "old"})
        outcome = runner.run("login", *runner.who())
        assert outcome.code == 3 and "its agent does not say whose token it is" in outcome.stderr, outcome.show()
        outcome = runner.run("token")
        assert outcome.code == 0, outcome.show()
        emulator.call("POST", "settings", {"arc_agent": "new"})


@case
def arcs_key_that_this_user_may_not_read(context):
    setpriv = shutil.which("setpriv")
    with on(context, Arc) as runner:
        for path in (context.root, runner.directory, runner.temp):
            os.chmod(path, 0o755)
        azfed = os.path.join(runner.directory, "azfed")
        shutil.copy2(context.azfed, azfed)
        context.emulator.call("POST", "settings", {"arc_challenge": "unreadable"})
        command = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", azfed, "token"]
        outcome = execute(command, runner.login_step())
        context.emulator.call("POST", "settings", {"arc_challenge": "right"})
        if "setpriv:" in outcome.stderr:
            return "no other user in this namespace: run as root"
        assert outcome.code == 3 and "sudo usermod --append --groups himds <user>" in outcome.stderr, outcome.show()
    return None


@case
def the_articles_one_liners_in_exec(context):
    """`az login --identity`, and the requests of `Connect-AzAccount -Identity`, on a machine that has no identity at all."""
    if not context.has("az"):
        return "az is left out"
    from runners import GitHub

    runner = context.job(GitHub)
    # Az.Accounts asks through MSAL for .NET: the endpoint, then tenants and subscriptions of Azure Resource Manager
    replay = """
import json, os, urllib.request as r
def get(url, **headers):
    return json.load(r.urlopen(r.Request(url, headers=headers)))
for resource in ("https://management.core.windows.net/", "https://management.azure.com/"):
    asked = os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=" + resource
    for client in ("", "&client_id=" + os.environ["AZURE_CLIENT_ID"]):
        granted = get(asked + client, **{"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]})
        assert granted["token_type"] == "Bearer" and int(granted["expires_on"]) > 0 and granted["resource"].rstrip("/") == resource.rstrip("/")
bearer = {"Authorization": "Bearer " + granted["access_token"]}
print(get("https://management.azure.com/subscriptions?api-version=2021-01-01", **bearer)["value"][0]["displayName"])
"""
    script = os.path.join(runner.workspace, "replay.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(replay)
    az = os.path.join(context.clients.venv, "az")
    lines = ["set -e", f"{az} login --identity --query '[0].user.name' -o tsv", f"{az} group list --query '[].name' -o tsv",
             f"{az} login --identity --client-id {IDENTITY} --query '[0].user.assignedIdentityInfo' -o tsv", f"{az} group list --query '[].name' -o tsv",
             f"python3 {script}"]
    variables = {**runner.login_step(), "AZURE_CORE_COLLECT_TELEMETRY": "0"}
    outcome = execute([context.azfed, "exec", "--client-id", IDENTITY, "--tenant-id", TENANT, "--", "sh", "-c", "\n".join(lines)],
                      variables, cwd=runner.workspace)
    expected = ["systemAssignedIdentity", "contoso-prod", f"MSIClient-{IDENTITY}", "contoso-prod", "Contoso Production"]
    assert outcome.code == 0 and outcome.stdout.split("\n")[:-1] == expected, outcome.show()
    check_nothing_left(runner)
    check_home_untouched(runner)
    return None


ORACLE = """
import json, sys
from azure.identity import ManagedIdentityCredential
print(ManagedIdentityCredential(**json.loads(sys.argv[1])).get_token(sys.argv[2] + "/.default").token)
"""
def oracle_on(kind, selectors):
    def test(context):
        if not context.has("python"):
            return "python is left out"
        with on(context, kind) as runner:
            kind_of_request = next(name for name in (runner.host, "app-service") if name in KINDS)
            for flags, arguments in selectors:
                context.emulator.forget()
                python = os.path.join(context.clients.venv, "python")
                oracle = execute([python, "-c", ORACLE, json.dumps(arguments), ARM], runner.login_step(), cwd=runner.workspace)
                expect(oracle, f"azure-identity {arguments}")
                theirs = [said(one) for one in context.emulator.requests(kind_of_request)]
                context.emulator.forget()
                outcome = runner.run("token", *flags)
                assert outcome.code == 0, outcome.show()
                ours = [said(one) for one in context.emulator.requests(kind_of_request)]
                assert theirs and claims(outcome.stdout)["oid"] == claims(oracle.stdout)["oid"], (theirs, ours)
                assert theirs == ours, f"{flags}\ntheirs {json.dumps(theirs, indent=1)}\nours   {json.dumps(ours, indent=1)}"
        return None

    test.__name__ = f"asks_as_azure_identity_does_on_{kind.__name__}"
    return case(test)


KINDS = ("imds", "app-service", "automation", "arc", "service-fabric", "azure-ml", "cloud-shell")
RESOURCE = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/contoso-prod/providers/Microsoft.ManagedIdentity/userAssignedIdentities/infra-prod"
OWN = ((), {})
CLIENT = (("--client-id", IDENTITY), {"client_id": IDENTITY})
OBJECT = (("--object-id", "33333333-3333-4333-8333-333333333333"), {"identity_config": {"object_id": "33333333-3333-4333-8333-333333333333"}})
RESOURCE_ID = (("--resource-id", RESOURCE), {"identity_config": {"resource_id": RESOURCE}})
oracle_on(VirtualMachine, (OWN, CLIENT, OBJECT, RESOURCE_ID))
oracle_on(AppService, (OWN, CLIENT, OBJECT, RESOURCE_ID))
oracle_on(ContainerApp, (OWN, CLIENT))
oracle_on(Arc, (OWN, CLIENT, OBJECT, RESOURCE_ID))
oracle_on(ServiceFabric, (OWN,))
oracle_on(Automation, (OWN, CLIENT))
oracle_on(MachineLearning, (CLIENT,))
oracle_on(MachineLearningUnnamed, (OWN, CLIENT))
oracle_on(CloudShell, (OWN,))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--azfed", required=True, type=os.path.abspath)
    parser.add_argument("--emulator", required=True, type=os.path.abspath)
    parser.add_argument("--tools", required=True, type=os.path.abspath)
    parser.add_argument("--without", action="append", default=[], choices=sorted(CHECKS))
    parser.add_argument("names", nargs="*", help="run only the cases whose name has one of these in it")
    suite.run(parser.parse_args(), CASES, Context, addresses=(IMDS, ARC))


if __name__ == "__main__":
    main()
