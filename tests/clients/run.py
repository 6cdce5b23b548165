#!/usr/bin/env python3
"""Logs in with the shipped binary as a job of each platform, then lets the real clients work with what it handed over.

The real names (login.microsoftonline.com, management.azure.com, …) lead to the emulator, in namespaces of the test's
own. Usage: run.py --azfed FILE --emulator FILE --tools DIR [--without CLIENT]… [NAME]…
"""

import argparse
import base64
import contextlib
import glob
import itertools
import json
import os
import re
import stat
import threading
import time
import urllib.parse

import suite
from clients import (CHECKS, PYTHON, STATE, Clients, check_az, check_az_elsewhere, check_provider, check_python, check_terraform, check_token,
                     claims, exec_script, expect)
from emulator import APPLICATION, IDENTITY, SUBSCRIPTION, TENANT, said
from runners import ALL, OTHERS, AzureDevOps, GitHub, GitLab, Pod, execute, is_alive

WHO = ("--client-id", IDENTITY, "--tenant-id", TENANT, "--subscription-id", SUBSCRIPTION)
VAULT = "https://vault.azure.net"
ARM = "https://management.azure.com"


def case_list():
    """A suite's cases, and what adds one."""
    cases = []

    def case(function):
        cases.append((function.__name__, function))
        return function

    return cases, case


CASES, case = case_list()


class Context:
    """What every case has at hand."""

    def __init__(self, arguments, emulator, root):
        self.azfed, self.emulator, self.root = arguments.azfed, emulator, root
        self.clients = Clients(arguments.tools, arguments.without)
        self.made = 0

    def job(self, kind, **job):
        self.made += 1
        return kind(self.emulator, self.azfed, os.path.join(self.root, f"job{self.made}"), **job)

    def has(self, client):
        return client not in self.clients.without


def login(runner, *arguments, **variables):
    outcome = runner.run("login", *WHO, *arguments, **variables)
    assert outcome.code == 0, outcome.show()
    return outcome


def files_below(directory):
    for folder, _, names in os.walk(directory):
        for name in names:
            yield os.path.join(folder, name)


def spellings(secret):
    """A secret as it is, in base64 and in a URL."""
    yield secret
    for offset in range(3):
        encoded = base64.b64encode(b" " * offset + secret.encode()).decode()
        yield encoded[4:-4]
    yield urllib.parse.quote(secret, safe="")


def pasted(stderr):
    """The lines below the first hint of a message that have to be pasted."""
    lines = iter(stderr.splitlines())
    next(line for line in lines if line.startswith("azfed: hint: ") and line.endswith(":"))
    return "".join(line + "\n" for line in itertools.takewhile(lambda line: line.startswith("    "), lines))


def leaks(emulator, text):
    return [secret[:20] for secret in emulator.secrets() for spelling in spellings(secret) if spelling in text]


def check_no_leak(emulator, runner, outcome):
    """No secret but in the commands that make the runner hide it, and none in what it takes from the step."""
    lines = (outcome.stdout + outcome.stderr).splitlines()
    kept = "\n".join(line for line in lines if not line.startswith(runner.MASKING or "\0"))
    assert not leaks(emulator, kept), f"a secret in the log: {kept}"
    for name in GitHub.FILES if isinstance(runner, GitHub) else ():
        if os.path.exists(runner.file(name)):
            with open(runner.file(name), encoding="utf-8") as file:
                assert not leaks(emulator, file.read()), f"a secret in {name}"


def check_nothing_left(runner):
    """But the summaries that the Azure DevOps agent reads after the step, and removes with its temp."""
    left = [name for name in os.listdir(runner.temp) if not re.fullmatch(r"azfed-summary-\w{12}\.md", name)]
    assert not left, left


def check_home_untouched(runner):
    assert os.listdir(runner.home) == [], f"made in ~: {os.listdir(runner.home)}"


def login_on(kind):
    def test(context):
        runner, emulator = context.job(kind), context.emulator
        emulator.forget()
        outcome = login(runner, *kind.source, "--scope", ARM, "--scope", VAULT, "-v")
        check_no_leak(emulator, runner, outcome)
        posts = emulator.requests("entra.token")
        assert sorted(dict(post["form"])["scope"] for post in posts) == [ARM + "/.default", VAULT + "/.default"], posts
        if kind in OTHERS:
            issuers = {claims(dict(post["form"])["client_assertion"])["iss"] for post in posts}
            assert issuers == {emulator.world["workloads"][kind.platform]["issuer"]}, issuers
        asked = emulator.requests("github.assertion") + emulator.requests("azure-devops.assertion")
        assert len(asked) == (1 if kind in (GitHub, AzureDevOps) else 0), asked
        assert not leaks(emulator, json.dumps([(one["path"], one["query"]) for one in emulator.requests()]))
        directory = runner.handed_over["AZFED_LOGIN_DIR"]
        assert os.path.dirname(directory) == runner.temp and stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        # on GitHub and what is like it each step has what Terraform needs to ask the issuer itself
        assert ("ARM_OIDC_TOKEN_FILE_PATH" in runner.later_step()) == (not isinstance(runner, GitHub)), runner.handed_over
        modes = {path: stat.S_IMODE(os.stat(path).st_mode) for path in files_below(directory)}
        assert set(modes.values()) == {0o600}, modes
        for name, check in CHECKS.items():
            if context.has(name):
                check(context.clients, runner)
        check_home_untouched(runner)
        logout = runner.run("logout")
        assert logout.code == 0 and directory in logout.stderr, logout.show()
        check_nothing_left(runner)
        for path in files_below(runner.directory):
            if path == getattr(runner, "token_file", None):
                continue  # the platform's own
            with open(path, encoding="utf-8", errors="replace") as file:
                assert not leaks(emulator, file.read()), f"a secret left in {path}"
        again = runner.run("logout")
        assert (again.code, again.stderr) == (0, "azfed: nothing to remove\n"), again.show()

    test.__name__ = f"login_on_{kind.__name__}"
    return case(test)


for one_kind in (*ALL, *OTHERS):
    login_on(one_kind)


@case
def az_uses_the_tokens_it_was_given_after_the_assertion_has_expired(context):
    if not context.has("az"):
        return "az is left out"
    runner, emulator = context.job(GitLab, lifetime=2), context.emulator
    login(runner, "--scope", ARM, "--scope", VAULT)
    time.sleep(2.5)
    emulator.forget()
    check_az(context.clients, runner)
    for resource in (VAULT, ARM, ARM + "/", "https://management.core.windows.net/"):
        token = json.loads(expect(context.clients.az(runner, "account", "get-access-token", "--resource", resource), resource))
        assert token["tenant"] == TENANT and token["subscription"] == SUBSCRIPTION, token
    listed = json.loads(expect(context.clients.az(runner, "keyvault", "secret", "list", "--vault-name", "contoso"), "az keyvault"))
    assert [secret["name"] for secret in listed] == ["greeting"], listed
    assert emulator.requests("entra.token") == []
    refused = context.clients.az(runner, "account", "get-access-token", "--resource", "https://database.windows.net")
    assert refused.code != 0 and "AADSTS700024" in refused.stderr, refused.show()
    runner.run("logout")


@case
def az_gets_other_resources_with_the_assertion(context):
    if not context.has("az"):
        return "az is left out"
    runner = context.job(AzureDevOps)
    login(runner)
    listed = json.loads(expect(context.clients.az(runner, "keyvault", "secret", "list", "--vault-name", "contoso"), "az keyvault"))
    assert [secret["name"] for secret in listed] == ["greeting"], listed
    runner.run("logout")


@case
def an_identity_without_a_subscription(context):
    if not context.has("az"):
        return "az is left out"
    runner = context.job(GitHub)
    outcome = runner.run("login", "--client-id", IDENTITY, "--tenant-id", TENANT)
    assert outcome.code == 0, outcome.show()
    account = json.loads(expect(context.clients.az(runner, "account", "show"), "az account show"))
    assert (account["id"], account["name"]) == (TENANT, "N/A(tenant level account)"), account
    expect(context.clients.az(runner, "account", "get-access-token"), "az account get-access-token")
    assert "ARM_SUBSCRIPTION_ID" not in runner.handed_over
    runner.run("logout")


@case
def two_logins_stand_side_by_side(context):
    runner = context.job(GitHub)
    login(runner)
    first, first_outputs, first_state = dict(runner.handed_over), runner.outputs, runner.state
    second = runner.run("login", "--client-id", APPLICATION, "--tenant-id", TENANT, "--subscription-id", SUBSCRIPTION)
    assert second.code == 0, second.show()
    assert runner.handed_over["AZURE_CLIENT_ID"] == APPLICATION and runner.outputs["client-id"] == APPLICATION
    assert first_outputs["az-config-dir"] != runner.outputs["az-config-dir"]
    if context.has("az"):
        for directory, client in ((first["AZURE_CONFIG_DIR"], IDENTITY), (runner.outputs["az-config-dir"], APPLICATION)):
            account = json.loads(expect(context.clients.az(runner, "account", "show", AZURE_CONFIG_DIR=directory), "az"))
            assert account["user"]["name"] == client, account
    # the post step of the second login removes the second login
    second_directory = runner.handed_over["AZFED_LOGIN_DIR"]
    runner.run("logout", STATE_azfed_login_dir=runner.state["azfed_login_dir"])
    assert not os.path.exists(second_directory) and os.path.exists(first["AZFED_LOGIN_DIR"])
    runner.run("logout", STATE_azfed_login_dir=first_state["azfed_login_dir"])
    check_nothing_left(runner)


@case
def jobs_that_share_a_temp_directory_log_out_each_for_itself(context):
    """As on a shell executor, where no variable names a temp directory of the job's own."""
    first, second = (context.job(GitLab) for _ in range(2))
    shared = first.temp
    for number, runner in enumerate((first, second)):
        runner.temp = shared
        runner.platform_environment["CI_JOB_ID"] = str(7000 + number)
        login(runner)
    assert len(os.listdir(shared)) == 2
    first.run("logout")
    assert os.listdir(shared) == [os.path.basename(second.handed_over["AZFED_LOGIN_DIR"])]
    if context.has("az"):
        check_az(context.clients, second)
    second.run("logout")
    check_nothing_left(second)


def masked_on(kind, *options):
    def test(context):
        runner = context.job(kind)
        known = set(context.emulator.secrets())
        outcome = login(runner, "--scope", ARM, "--scope", VAULT, "-v", *options)
        made = set(context.emulator.secrets()) - known
        assert len(made) == 3, f"an assertion and two access tokens: {len(made)}"
        assert made <= set(runner.masks), "a secret that the runner was not told of"
        assert not leaks(context.emulator, runner.log(outcome)), runner.log(outcome)
        # a mask begins a line of its own, whatever stands before it
        lines = [line for line in outcome.stdout.splitlines() if line]
        masks = [number for number, line in enumerate(lines) if line.startswith(runner.MASKING)]
        assert masks == list(range(len(masks))), "something was written before a mask"
        assert not leaks(context.emulator, json.dumps(runner.handed_over))
        if options:
            assert runner.outputs["access-token"] in made, "the output is no access token"
        runner.run("logout")
        check_nothing_left(runner)

    test.__name__ = f"secrets_are_masked_first_on_{kind.__name__}"
    return case(test)


masked_on(GitHub, "--output-access-token")
masked_on(AzureDevOps)


@case
def what_the_user_has_in_home(context):
    """Another job's credentials in ~/.azure are not used; the user's own settings still count."""
    if not context.has("az"):
        return "az is left out"
    runner = context.job(GitHub)
    users_own = os.path.join(runner.home, ".azure")
    os.makedirs(os.path.join(users_own, "cliextensions"))
    foreign = {"client_id": "88888888-8888-4888-8888-888888888888", "tenant": TENANT, "client_assertion": "x.y.z"}
    profile = {"subscriptions": [{"id": SUBSCRIPTION, "name": "stolen", "state": "Enabled", "tenantId": TENANT, "isDefault": True,
                                  "environmentName": "AzureCloud", "user": {"name": foreign["client_id"], "type": "servicePrincipal"}}]}
    contents = {"service_principal_entries.json": json.dumps([foreign]), "azureProfile.json": json.dumps(profile),
                "config": "[defaults]\nlocation = westeurope\n[cloud]\nname = AzureChinaCloud\n"}
    for name, content in contents.items():
        with open(os.path.join(users_own, name), "w", encoding="utf-8") as file:
            file.write(content)
    login(runner)
    assert runner.handed_over["AZURE_EXTENSION_DIR"] == os.path.join(users_own, "cliextensions")
    account = json.loads(expect(context.clients.az(runner, "account", "show"), "az account show"))
    assert account["user"]["name"] == IDENTITY and account["environmentName"] == "AzureCloud", account
    shown = json.loads(expect(context.clients.az(runner, "config", "get", "defaults.location"), "az config get"))
    assert shown["value"] == "westeurope", shown
    for name, content in contents.items():
        with open(os.path.join(users_own, name), encoding="utf-8") as file:
            assert file.read() == content, name
    runner.run("logout")


def another_cloud(cloud, terraforms_name, audience, authority, resource):
    def test(context):
        runner = context.job(GitHub)
        context.emulator.forget()
        login(runner, "--cloud", cloud)
        (asked,) = context.emulator.requests("github.assertion")
        assert dict(asked["query"])["audience"] == audience, asked
        (post,) = context.emulator.requests("entra.token")
        assert post["host"] == authority, post
        assert runner.handed_over["ARM_ENVIRONMENT"] == terraforms_name
        if context.has("az"):
            check_az(context.clients, runner)
            shown = json.loads(expect(context.clients.az(runner, "cloud", "show"), "az cloud show"))
            assert shown["name"] == cloud, shown
        check_provider(context.clients, runner)
        if context.has("terraform"):
            check_terraform(context.clients, runner)
            audiences = {dict(one["query"])["audience"] for one in context.emulator.requests("github.assertion")}
            assert audiences == {audience}, audiences
        if context.has("python"):
            done = context.clients.python(runner, resource)
            assert expect(done, "azure-identity for Python").strip() == "Contoso Production"
        if context.has("js"):
            done = context.clients.javascript(runner, resource)
            assert expect(done, "@azure/identity for JavaScript").strip() == "Contoso Production"
        # back to the public cloud in the same job: nothing of the other one is left behind
        login(runner, "--cloud", "AzureCloud")
        assert runner.handed_over["ARM_ENVIRONMENT"] == "public"
        check_provider(context.clients, runner)
        if context.has("terraform"):
            check_terraform(context.clients, runner)
        runner.run("logout")
        check_nothing_left(runner)

    test.__name__ = f"another_cloud_{cloud}"
    return case(test)


another_cloud(
    "AzureUSGovernment", "usgovernment", "api://AzureADTokenExchangeUSGov", "login.microsoftonline.us", "https://management.usgovcloudapi.net"
)
another_cloud(
    "AzureChinaCloud", "china", "api://AzureADTokenExchangeChina", "login.chinacloudapi.cn", "https://management.chinacloudapi.cn"
)


@case
def azure_devops_with_its_older_issuer(context):
    context.emulator.call("POST", "settings", {"azure_devops_issuer": "vstoken"})
    try:
        runner = context.job(AzureDevOps)
        login(runner)
        check_provider(context.clients, runner)
        if context.has("terraform"):
            check_terraform(context.clients, runner)
        runner.run("logout")
    finally:
        context.emulator.call("POST", "settings", {"azure_devops_issuer": "entra"})


@case
def terraform_renews_on_azure_devops_in_a_step_that_maps_the_jobs_token(context):
    """As docs/terraform.md says: such a step must also drop the path of the file, which Terraform prefers."""
    if not context.has("terraform"):
        return "terraform is left out"
    context.emulator.call("POST", "settings", {"azure_devops_issuer": "vstoken"})
    try:
        runner = context.job(AzureDevOps, lifetime=1)
        login(runner, "--no-keep-fresh")
        time.sleep(1.5)
        mapped = {"SYSTEM_ACCESSTOKEN": runner.login_step()["SYSTEM_ACCESSTOKEN"], "ARM_OIDC_TOKEN_FILE_PATH": ""}
        context.emulator.forget()
        try:
            check_terraform(context.clients, runner)
        except AssertionError as refused:
            assert "AADSTS700024" in str(refused), refused
        else:
            raise AssertionError("a plain step worked with an assertion that has expired")
        assert context.emulator.requests("azure-devops.assertion") == []
        check_terraform(context.clients, runner, **mapped)
        assert context.emulator.requests("azure-devops.assertion") != []
        runner.run("logout")
    finally:
        context.emulator.call("POST", "settings", {"azure_devops_issuer": "entra"})


def asked_for_tokens(emulator, check, *arguments, **variables):
    """The requests that a client does for its tokens, each once: the assertion's value and the resource aside."""
    emulator.forget()
    check(*arguments, **variables)
    shown = set()
    for one in map(said, emulator.requests()):
        if one["kind"] not in ("github.assertion", "azure-devops.assertion", "entra.token", "imds"):
            continue
        for pairs in ("query", "form"):
            known = {"client_assertion": "<assertion>", "scope": "<resource>", "resource": "<resource>"}
            one[pairs] = sorted((name, known.get(name, value)) for name, value in one[pairs])
        shown.add(json.dumps(one, sort_keys=True))
    assert shown, "it asked nobody"
    return shown


def compare_provider(context, runner, client=IDENTITY, **variables):
    """The provider's requests for tokens, replayed, are those of the real backend, which has the same authorizers."""
    backends = asked_for_tokens(context.emulator, check_terraform, context.clients, runner, **variables)
    providers = asked_for_tokens(context.emulator, check_provider, context.clients, runner, client=client, **variables)
    assert backends == providers, f"the backend\n{chr(10).join(backends)}\nthe provider\n{chr(10).join(providers)}"


def provider_on(kind):
    def test(context):
        if not context.has("terraform"):
            return "terraform is left out"
        runner = context.job(kind)
        login(runner)
        compare_provider(context, runner)
        if kind is AzureDevOps:
            job = runner.login_step()
            compare_provider(context, runner, SYSTEM_ACCESSTOKEN=job["SYSTEM_ACCESSTOKEN"], ARM_OIDC_TOKEN_FILE_PATH="")
        runner.run("logout")
        return None

    test.__name__ = f"provider_asks_as_the_backend_does_on_{kind.__name__}"
    return case(test)


for one_kind in ALL:
    provider_on(one_kind)


@case
def what_terraform_does_not_take_beside_a_login(context):
    """The backend and the provider's requests end in the same places, as docs/terraform.md says."""
    runner = context.job(GitLab)
    login(runner)
    nobody = "neither an OIDC token nor a managed identity"
    for variables, backends, providers in (
        ({"ARM_OIDC_TOKEN": "stale"}, "mismatch between supplied OIDC token", "two values for the OIDC token"),
        ({"ARM_CLIENT_SECRET": "another"}, "invalid_client", "it would present a client secret"),
        ({"ARM_USE_OIDC": "false"}, "AzureCli", nobody),
        ({"ARM_OIDC_TOKEN_FILE_PATH": runner.temp + "/none"}, "no such file or directory", "No such file or directory"),
        ({"ARM_ENVIRONMENT": "nowhere"}, "nowhere", "no cloud is called nowhere"),
    ):
        for check, words in ((check_terraform, backends), (check_provider, providers)):
            if check is check_terraform and not context.has("terraform"):
                continue
            try:
                check(context.clients, runner, **variables)
            except AssertionError as refused:
                assert words in str(refused), refused
            else:
                raise AssertionError(f"it went on with {variables}")
    runner.run("logout")


@case
def a_job_that_names_its_service_connection_for_terraform(context):
    """Terraform then asks in Azure DevOps' form, azfed's endpoints too."""
    for arguments in (("login", "--endpoints"), ("exec",)):
        for name in ("ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID", "ARM_OIDC_AZURE_SERVICE_CONNECTION_ID"):
            runner = context.job(AzureDevOps)
            connection = {name: context.emulator.world["connection"]}
            if arguments == ("exec",):
                # as the provider block's `ado_pipeline_service_connection_id` does
                script = f"export {name}={connection[name]}\n" + exec_script(context.clients, runner, pause=0)
                variables = {**runner.login_step(), **connection, "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1"}
                outcome = execute([context.azfed, "exec", *WHO, "--", "sh", "-c", script], variables, cwd=runner.workspace)
                assert outcome.code == 0, outcome.show()
                continue
            login(runner, "--endpoints", **connection)
            check_provider(context.clients, runner, **connection)
            if context.has("terraform"):
                check_terraform(context.clients, runner, **connection)
            runner.run("logout")


@case
def a_pods_own_file_is_handed_on_so_that_its_renewal_is_seen(context):
    runner = context.job(Pod)
    login(runner)
    assert runner.handed_over["ARM_OIDC_TOKEN_FILE_PATH"] == runner.token_file
    assert "AZURE_FEDERATED_TOKEN_FILE" not in runner.handed_over, "unchanged"
    runner.rotate()
    if context.has("python"):
        check_python(context.clients, runner)
    with open(runner.token_file, "a", encoding="ascii") as file:
        file.write("\n")
    login(runner)
    assert runner.handed_over["AZURE_FEDERATED_TOKEN_FILE"] == runner.handed_over["AZFED_LOGIN_DIR"] + "/assertion"
    if context.has("python"):
        check_python(context.clients, runner)
    runner.run("logout")


def works_in_exec(context, runner, *who):
    """Every client in one command, with no credential on disk, and none left anywhere."""
    script = exec_script(context.clients, runner, pause=0)
    variables = {**runner.login_step(), "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    outcome = execute([context.azfed, "exec", *who, "--", "sh", "-c", script], variables, cwd=runner.workspace)
    assert outcome.code == 0, outcome.show()
    lines = outcome.stdout.splitlines()
    shown = {"az": "contoso-prod", "terraform": "No changes", "provider": '"subscription": "Contoso Production"', "python": "Contoso Production", "js": "Contoso Production"}
    for client, words in shown.items():
        assert not context.has(client) or any(words in line for line in lines), f"{client}: {outcome.show()}"
    expected = sum(context.has(client) for client in ("python", "js"))
    assert lines.count("Contoso Production") == expected, outcome.show()
    check_no_leak(context.emulator, runner, outcome)
    check_nothing_left(runner)
    check_home_untouched(runner)


def exec_on(kind):
    """The same twice, the second time when every token of the first time has expired."""

    def test(context):
        emulator = context.emulator
        lives = {"access_token_lifetime_s": 12}
        if kind in (GitHub, AzureDevOps):
            lives["assertion_lifetime_s"] = 5
        emulator.call("POST", "settings", lives)
        try:
            runner = context.job(kind)
            emulator.forget()
            script = exec_script(context.clients, runner)
            variables = {**runner.login_step(), "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1",
                         "AZURE_CLIENT_SECRET": "another-identity", "ARM_OIDC_TOKEN": "stale"}
            outcome = execute([context.azfed, "exec", "-v", *WHO, "--", "sh", "-c", script], variables, cwd=runner.workspace)
            assert outcome.code == 0, outcome.show()
            first, again, second = outcome.stdout.partition("again\n")
            assert again and [line for line in second.splitlines() if line in first] == second.splitlines(), outcome.show()
            if context.has("python"):
                assert "Contoso Production" in second, outcome.show()
            for line in ("the command does not get AZURE_CLIENT_SECRET", "the command does not get ARM_OIDC_TOKEN", "sh asked for https://management.azure.com: "):
                assert line in outcome.stderr, outcome.show()
            check_no_leak(emulator, runner, outcome)
            # the agent reads the page of what was asked for once azfed has gone
            pages = re.findall(r"^##vso\[task\.uploadsummary\](/.*\.md)$", outcome.stderr, re.MULTILINE)
            assert list(files_below(runner.temp)) == pages and len(pages) == (kind is AzureDevOps), "left behind"
            refused = [one for one in emulator.requests("entra.token") if one["status"] != 200]
            assert refused == [], refused
            check_home_untouched(runner)
        finally:
            emulator.call("POST", "settings", {"access_token_lifetime_s": None, "assertion_lifetime_s": None})

    test.__name__ = f"exec_on_{kind.__name__}"
    return case(test)


for one_kind in ALL:
    exec_on(one_kind)


def exec_on_another(kind):
    def test(context):
        works_in_exec(context, context.job(kind), *WHO, *kind.source)

    test.__name__ = f"exec_on_{kind.__name__}"
    return case(test)


for one_kind in OTHERS:
    exec_on_another(one_kind)


def token_on(kind):
    def test(context):
        runner = context.job(kind)
        check_token(context.clients, runner, "--client-id", IDENTITY, "--tenant-id", TENANT, *kind.source)
        check_nothing_left(runner)

    test.__name__ = f"token_on_{kind.__name__}"
    return case(test)


for one_kind in (*ALL, *OTHERS):
    token_on(one_kind)


@case
def a_list_of_resources_holds_for_each_client(context):
    """By `exec` and after `login --endpoints`: what is on the list works, what is not is refused with words that are shown. The
    azurerm provider needs Microsoft Graph, whatever else it is for."""
    graph, words = "https://graph.microsoft.com", "azfed was started with --allow-scope"
    for arguments in (("exec",), ("login", "--endpoints")):
        runner = context.job(GitHub)
        allowed = ("--allow-scope", ARM, "--allow-scope", "https://storage.azure.com")
        if arguments == ("exec",):
            variables = {**runner.login_step(), "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
            for more in ((), ("--allow-scope", graph)):
                script = exec_script(context.clients, runner, pause=0).replace("set -e", "")
                outcome = execute([context.azfed, "exec", *WHO, *allowed, *more, "--", "sh", "-c", script], variables, cwd=runner.workspace)
                shown = outcome.stdout + outcome.stderr
                for client, line in (("az", "contoso-prod"), ("terraform", "No changes"), ("python", "Contoso Production")):
                    assert not context.has(client) or line in outcome.stdout, outcome.show()
                assert ("provider: the managed identity: HTTP 403" in shown and words in shown) == (not more), outcome.show()
                assert ('"subscription": "Contoso Production"' in outcome.stdout) == bool(more), outcome.show()
                assert "ARM_OIDC" not in shown and "(in vain): " in outcome.stderr or not context.has("az"), outcome.show()
        else:
            login(runner, "--endpoints", *allowed, "--allow-scope", graph)
            for name, check in CHECKS.items():
                if context.has(name):
                    check(context.clients, runner)
            if context.has("az"):
                refused = context.clients.az(runner, "account", "get-access-token", "--resource", VAULT)
                assert refused.code != 0 and words in refused.stderr, refused.show()
            logout = runner.run("logout")
            assert f"{VAULT} (in vain): " in logout.stderr or not context.has("az"), logout.show()


@contextlib.contextmanager
def rotation(runner):
    """Rotates a pod's token file every second, as the kubelet does every 48 minutes."""
    ended = threading.Event()

    def rotate():
        while not ended.wait(1):
            runner.rotate()

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def stays_valid_on(kind, *arguments):
    """Every client works in later steps when the login's assertion has ended long ago, and its access tokens too."""

    def test(context):
        emulator = context.emulator
        emulator.call("POST", "settings", {"access_token_lifetime_s": 20, "assertion_lifetime_s": None if kind is GitLab else 5})
        try:
            runner = context.job(kind)
            outcome = login(runner, *arguments, "-v")
            check_no_leak(emulator, runner, outcome)
            directory = runner.handed_over["AZFED_LOGIN_DIR"]
            with open(os.path.join(directory, "keeper", "pid"), encoding="ascii") as file:
                process = int(file.read())
            emulator.forget()
            with rotation(runner) if kind is Pod else contextlib.nullcontext():
                for _ in range(2):
                    time.sleep(6)
                    for path in glob.glob("/proc/[0-9]*/cmdline"):
                        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(path, encoding="utf-8", errors="replace") as file:
                            assert not leaks(emulator, file.read()), f"a secret in {path}"
                    for name, check in CHECKS.items():
                        if context.has(name):
                            check(context.clients, runner)
                    if context.has("az") and (kind is not GitLab or "--endpoints" in arguments):
                        check_az_elsewhere(context.clients, runner)
            refused = [one for one in emulator.requests("entra.token") if one["status"] != 200]
            assert refused == [], refused
            with open(os.path.join(directory, "keeper", "log"), encoding="utf-8") as file:
                log = file.read()
            assert not leaks(emulator, log), log
            assert ("renewed; again in" in log) == (kind is not GitLab), log
            if "--endpoints" in arguments:
                for path in files_below(directory):
                    with open(path, encoding="utf-8", errors="replace") as file:
                        assert not leaks(emulator, file.read()), f"a secret in {path}"
            check_home_untouched(runner)
            logout = runner.run("logout")
            assert logout.code == 0 and f"removed {directory}" in logout.stderr, logout.show()
            assert ("later steps asked for https://" in logout.stderr) == ("--endpoints" in arguments), logout.show()
            assert not is_alive(process), "it goes on after logout"
            check_nothing_left(runner)
        finally:
            emulator.call("POST", "settings", {"access_token_lifetime_s": None, "assertion_lifetime_s": None})

    test.__name__ = f"login{''.join(arguments).replace('-', '_')}_stays_valid_on_{kind.__name__}"
    return case(test)


for one_kind in ALL:
    stays_valid_on(one_kind, "--endpoints")
for one_kind, options in ((GitHub, ()), (AzureDevOps, ()), (Pod, ("--keep-fresh",))):
    stays_valid_on(one_kind, *options)


@case
def az_creates_what_trust_prints_and_the_job_logs_in(context):
    """The printed commands, run by the real az; then the job that they are for, which was refused before."""
    if not context.has("az"):
        return "az is left out"
    emulator = context.emulator
    try:
        operator = context.job(GitHub)
        login(operator)
        path = f"{context.clients.venv}:{operator.base()['PATH']}"
        for number, (kind, subject, described) in enumerate((
            (GitHub, "repo:contoso/infra:environment:it's%3A staging", ("github", "--repo", "contoso/infra", "--environment", "it's: staging")),
            (GitLab, "project_path:contoso/infra:ref_type:tag:ref:v1", ("gitlab", "--server", "https://gitlab.example.com", "--project", "contoso/infra", "--tag", "v1")),
        )):
            job = context.job(kind, subject=urllib.parse.quote(subject))
            assert job.run("login", *WHO).code == 4
            printed = operator.run("trust", *described, "--identity", "infra-prod", "--resource-group", "contoso-prod", "--name", f"printed-{number}")
            assert printed.code == 0, printed.show()
            created = execute(["sh", "-c", printed.stdout], {**operator.later_step(), "PATH": path, "AZURE_CORE_COLLECT_TELEMETRY": "0"})
            assert created.code == 0 and json.loads(created.stdout)["subject"] == subject, created.show()
            listed = execute(["az", "identity", "federated-credential", "list", "--identity-name", "infra-prod", "--resource-group", "contoso-prod"],
                             {**operator.later_step(), "PATH": path, "AZURE_CORE_COLLECT_TELEMETRY": "0"})
            file = os.path.join(job.workspace, "credentials.json")
            with open(file, "w", encoding="utf-8") as credentials:
                credentials.write(expect(listed, "az identity federated-credential list"))
            checked = job.run("trust", "check", file)
            assert (checked.code, checked.stdout) == (0, f"the credential `printed-{number}` matches\n"), checked.show()
            login(job)
            job.run("logout")
        # what a failed login prints, pasted as it stands into a shell that reads line after line
        job = context.job(GitHub, subject="repo:contoso/infra:ref:refs/heads/wrong")
        failed = job.run("login", *WHO)
        assert failed.code == 4, failed.show()
        shell = {**operator.later_step(), "PATH": path, "AZURE_CORE_COLLECT_TELEMETRY": "0"}
        created = expect(execute(["sh"], shell, stdin=pasted(failed.stderr)), "the pasted commands")
        assert json.loads(created)["subject"] == "repo:contoso/infra:ref:refs/heads/wrong", created
        login(job)
        job.run("logout")
        # a client id that is no managed identity's: it says so, and changes nothing
        refused = job.run("login", "--client-id", APPLICATION, "--tenant-id", TENANT)
        assert refused.code == 4, refused.show()
        nothing = execute(["sh"], shell, stdin=pasted(refused.stderr) + "echo still here\n")
        assert nothing.stdout == "still here\n" and f"no managed identity {APPLICATION} in this subscription" in nothing.stderr, nothing.show()
        # the same by azfed itself, with az as the operator's login
        applied = operator.run("trust", "apply", file, "--subscription-id", SUBSCRIPTION, "--resource-group", "contoso-prod",
                               "--identity", "infra-apply", "--location", "westeurope", "--yes", PATH=path)
        assert applied.code == 0 and "created printed-1" in applied.stderr, applied.show()
        operator.run("logout")
    finally:
        emulator.call("POST", "reset")


# what a GitLab job's one shell is told, with the client that it takes
SESSION = (
    ('eval "$(azfed login)"  # which identity: AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_SUBSCRIPTION_ID', None),
    ("env | grep ^ARM_ | sort", None),
    ("terraform init | grep azurerm", "terraform"),
    ("terraform apply -auto-approve | grep Apply", "terraform"),
    ("az group list --output table", "az"),
    ("python3 subscriptions.py  # DefaultAzureCredential() of azure-identity", "python"),
    ("azfed logout", None),
)


@case
def the_picture_of_a_login(context):
    """docs/login.txt, of which tests/it/pictures.rs draws docs/login.svg. AZFED_UPDATE_DOCS=1 writes it anew."""
    runner, clients = context.job(GitLab), context.clients
    programs = os.path.join(runner.directory, "bin")
    os.mkdir(programs)
    for name, program in (("azfed", context.azfed), ("az", os.path.join(clients.venv, "az"))):
        os.symlink(program, os.path.join(programs, name))
    with open(os.path.join(programs, "python3"), "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {clients.venv}/python "$@"\n')
    os.chmod(file.name, 0o755)
    sources = {
        "main.tf": STATE.replace("KEY", "picture").replace("INPUT", "login"),
        "subscriptions.py": PYTHON.replace("sys.argv[1]", repr(ARM)),
    }
    for name, source in sources.items():
        with open(os.path.join(runner.workspace, name), "w", encoding="utf-8") as file:
            file.write(source)
    environment = {
        **runner.login_step(), "PATH": programs + ":" + runner.base()["PATH"],
        "AZURE_CLIENT_ID": IDENTITY, "AZURE_TENANT_ID": TENANT, "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1", "TF_CLI_ARGS": "-no-color",
    }
    taken = [command for command, client in SESSION if client is None or context.has(client)]
    script = "exec 2>&1\n" + "".join(f"{command}\nprintf '\\0'\n" for command in taken)
    outcome = execute(["sh", "-c", script], environment, cwd=runner.workspace)
    assert outcome.code == 0 and not leaks(context.emulator, outcome.stdout), outcome.show()
    check_nothing_left(runner)
    # what changes from run to run has a fixed spelling
    text = outcome.stdout.replace(runner.temp, "/builds/contoso/infra.tmp")
    text = re.sub(r"(?<=/azfed-)[A-Za-z0-9]{12}", "Vf1umrNGNCyK", text)
    text = re.sub(r" until 20\S+ \S+", " until 2026-11-25 10:12:27Z", text)
    steps = [f"$ {command}\n{shown}" for command, shown in zip(taken, text.split("\0"))]
    path = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "login.txt")
    if "AZFED_UPDATE_DOCS" in os.environ and len(taken) == len(SESSION):
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(steps))
    with open(path, encoding="utf-8") as file:
        written = file.read()
    for step in steps:
        assert step in written, f"docs/login.txt has not:\n{step}"
    assert len(taken) < len(SESSION) or written == "".join(steps), f"docs/login.txt is not:\n{''.join(steps)}"


def refused_on(kind):
    def test(context):
        runner = context.job(kind, subject="repo:contoso/infra:environment:staging")
        if kind is AzureDevOps:
            runner.platform_environment = context.emulator.environment("azure-devops", subject="sc://contoso/infra/other")
        outcome = runner.run("login", *WHO, "-v")
        assert outcome.code == 4, outcome.show()
        code = "AADSTS7002137" if kind is AzureDevOps else "AADSTS700213"
        assert outcome.stderr.count(f"azfed: error: Microsoft Entra refused this job's token ({code})") == 1, outcome.show()
        for part in ("  presented by this job", "then az identity federated-credential create", f"docs/errors.md#{code.lower()}"):
            assert part in outcome.stderr, outcome.show()
        check_no_leak(context.emulator, runner, outcome)
        check_nothing_left(runner)
        assert runner.handed_over == {}, runner.handed_over
        if kind is GitHub:
            assert "### Azure login failed" in runner.summary and code in runner.summary, runner.summary
            annotation = outcome.stderr.splitlines()[-1]
            assert annotation.startswith(f"::error title=azfed::Microsoft Entra refused this job's token ({code})%0Asubject "), outcome.show()
            assert "--subject repo:contoso/infra:environment:staging" in annotation, annotation
            assert (runner.outputs, runner.state) == ({}, {})
        if kind is AzureDevOps:
            assert "##vso[task.logissue type=error]azfed: Microsoft Entra refused" in outcome.stderr
            (path,) = re.findall(r"^##vso\[task\.uploadsummary\](/.*\.md)$", outcome.stderr, re.MULTILINE)
            with open(path, encoding="utf-8") as file:
                assert code in file.read(), path

    test.__name__ = f"refused_on_{kind.__name__}"
    return case(test)


for one_kind in ALL:
    refused_on(one_kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--azfed", required=True, type=os.path.abspath)
    parser.add_argument("--emulator", required=True, type=os.path.abspath)
    parser.add_argument("--tools", required=True, type=os.path.abspath)
    parser.add_argument("--without", action="append", default=[], choices=sorted(CHECKS))
    parser.add_argument("names", nargs="*", help="run only the cases whose name has one of these in it")
    arguments = parser.parse_args()
    suite.run(arguments, CASES, Context)


if __name__ == "__main__":
    main()
