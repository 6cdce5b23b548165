"""The GitHub action: its two files under the rules of the runner, and the whole of it in act."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import urllib.error
import urllib.request

import yaml
from emulator import APPLICATION, IDENTITY, SUBSCRIPTION, TENANT
from harness import REPOSITORY, case, documented, secrets_in
from mirror import Mirror
from runners import execute, is_alive

FILE = "v0.1.0/azfed-x86_64-unknown-linux-musl"
STATE = 'terraform {\n  backend "azurerm" {\n    storage_account_name = "contosotfstate"\n    container_name = "tfstate"\n' \
        '    key = "act.tfstate"\n    use_azuread_auth = true\n  }\n}\nresource "terraform_data" "example" {\n  input = "act"\n}\n'
WORKFLOW = """
on: push
jobs:
  deploy:
    runs-on: ubuntu-latest
    permissions:
      id-token: write
      contents: read
    steps:
      - uses: actions/checkout@v4
      - uses: ./
        id: first
        with:
          client-id: %(identity)s
          tenant-id: %(tenant)s
          subscription-id: %(subscription)s
          scopes: |
            https://management.azure.com
            https://vault.azure.net
      - run: az group list --query '[].name' -o tsv
      - run: terraform init -no-color && terraform apply -no-color -auto-approve
      - uses: ./
        id: second
        with:
          client-id: %(application)s
          tenant-id: %(tenant)s
          subscription-id: %(subscription)s
          enable-AzPSSession: true
      - run: echo "default is $(az account show --query user.name -o tsv)"
      - run: echo "first is $(az account show --query user.name -o tsv)"
        env:
          AZURE_CONFIG_DIR: ${{ steps.first.outputs.az-config-dir }}
      - run: echo "outputs ${{ steps.first.outputs.client-id }} ${{ steps.first.outputs.object-id }} token=${{ steps.first.outputs.access-token }}"
""" % {"identity": IDENTITY, "tenant": TENANT, "subscription": SUBSCRIPTION, "application": APPLICATION}


def checkout(context, rows=()):
    """A copy of what the action consists of, with these rows in its table."""
    directory = context.directory()
    for name in ("action", "packaging"):
        shutil.copytree(os.path.join(REPOSITORY, name), os.path.join(directory, name))
    shutil.copy(os.path.join(REPOSITORY, "action.yml"), directory)
    with open(os.path.join(directory, "packaging", "checksums.txt"), "a", encoding="ascii") as file:
        file.writelines(f"{sum} {name}\n" for sum, name in rows)
    return directory


class Step:
    """One use of the action as the runner does it: inputs and files in the environment, main, then post."""

    def __init__(self, context, directory, **inputs):
        self.directory = directory
        self.temp = context.directory()
        self.files = {name: os.path.join(self.temp, name) for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")}
        for path in self.files.values():
            open(path, "w", encoding="ascii").close()
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": self.temp, "RUNNER_TEMP": self.temp, "SSL_CERT_FILE": context.emulator.ca,
            "RUNNER_TOOL_CACHE": os.path.join(self.temp, "tools"), **self.files, **context.emulator.environment("github"),
            "INPUT_CLIENT-ID": IDENTITY, "INPUT_TENANT-ID": TENANT, "INPUT_FOR": "terraform,az,sdk", "INPUT_TIMEOUT": "2m",
            **{f"INPUT_{name.upper().replace('_', '-')}": value for name, value in inputs.items()},
        }

    def main(self, **variables):
        return execute(["node", os.path.join(self.directory, "action", "main.mjs")], {**self.environment, **variables})

    def post(self, **variables):
        state = {}
        with open(self.files["GITHUB_STATE"], encoding="utf-8") as file:
            lines = file.read().splitlines()
        while lines:
            line = lines.pop(0)
            if "<<" in line:
                name, delimiter = line.split("<<")
                state[f"STATE_{name}"] = lines.pop(0)
                assert lines.pop(0) == delimiter
            else:
                name, value = line.split("=", 1)
                state[f"STATE_{name}"] = value
        return execute(["node", os.path.join(self.directory, "action", "post.mjs")], {**self.environment, **state, **variables})


def contents(path):
    with open(path, "rb") as file:
        return file.read()


@case
def github_the_pinned_file_is_downloaded_verified_run_and_cached(context):
    binary = contents(context.azfed)
    table = [(hashlib.sha256(binary).hexdigest(), FILE.removeprefix("v"))]
    step = Step(context, checkout(context, table))
    with Mirror({f"/{FILE}": binary}) as mirror:
        done = step.main(**{"INPUT_DOWNLOAD-URL": mirror.url + "/"})
        assert done.code == 0, done.show()
        assert mirror.asked == [f"/{FILE}"], mirror.asked
        added = contents(step.files["GITHUB_PATH"]).decode().strip()
        assert os.path.dirname(added) == step.temp and os.listdir(added) == ["azfed"], added
        again = step.main(**{"INPUT_DOWNLOAD-URL": mirror.url})
        assert again.code == 0 and len(mirror.asked) == 1, again.show()
        # a cache that somebody has written to is not believed
        cached = os.path.join(step.temp, "tools", "azfed", "0.1.0", os.path.basename(FILE))
        with open(cached, "wb") as file:
            file.write(b"#!/bin/sh\necho stolen\n")
        third = step.main(**{"INPUT_DOWNLOAD-URL": mirror.url})
        assert third.code == 0 and len(mirror.asked) == 2 and "stolen" not in third.stdout, third.show()
    post = step.post()
    assert post.code == 0 and "azfed: removed " in post.stderr, post.show()


@case
def github_a_file_without_the_right_checksum_is_not_run(context):
    binary = contents(context.azfed)
    right = hashlib.sha256(binary).hexdigest()
    name = FILE.removeprefix("v")
    cases = [
        ("missing", [], {}, (), "this commit has no checksum for 0.1.0/azfed-"),
        ("wrong", [(right, name)], {f"/{FILE}": b"#!/bin/sh\necho stolen\n"}, (), "it was not run"),
        ("truncated", [(right, name)], {f"/{FILE}": binary}, (f"/{FILE}",), "could not be downloaded"),
        ("not there", [(right, name)], {}, (), "status 404"),
    ]
    for what, table, files, truncated, message in cases:
        step = Step(context, checkout(context, table))
        with Mirror(files, truncated) as mirror:
            done = step.main(**{"INPUT_DOWNLOAD-URL": mirror.url})
        assert done.code == 1 and message in done.stdout and "stolen" not in done.stdout, f"{what}: {done.show()}"
        assert contents(step.files["GITHUB_ENV"]) == b"", what
        post = step.post()
        assert (post.code, post.stdout) == (0, ""), f"{what}: {post.show()}"
    step = Step(context, checkout(context, [(right, name)]))
    done = step.main(**{"INPUT_DOWNLOAD-URL": "http://127.0.0.1:1"})
    assert done.code == 1 and "could not be downloaded" in done.stdout, done.show()
    done = step.main()
    assert done.code == 1 and "set download-url" in done.stdout, done.show()


@case
def github_later_steps_run_azfed(context):
    """What docs/github.md and docs/doctor.md say, step for step."""
    binary = contents(context.azfed)
    table = [(hashlib.sha256(binary).hexdigest(), FILE.removeprefix("v"))]
    for name in ("github.md", "doctor.md"):
        step = Step(context, checkout(context, table))
        step.environment.update(context.emulator.environment("github", subject="repo:contoso/infra:ref:refs/heads/other"))
        with Mirror({f"/{FILE}": binary}) as mirror:
            done = step.main(**{"INPUT_DOWNLOAD-URL": mirror.url})
        assert done.code == 4, done.show()
        added = contents(step.files["GITHUB_PATH"]).decode().strip()
        documented_step = yaml.safe_load(documented(name, "if: failure()"))[-1]
        assert documented_step["if"] == "failure()"
        script = documented_step["run"].replace("${{ vars.AZURE_CLIENT_ID }}", IDENTITY).replace("${{ vars.AZURE_TENANT_ID }}", TENANT)
        environment = {**step.environment, "PATH": f"{added}:/usr/bin:/bin"}
        done = execute(["bash", "-e", "-c", script + " --resource-manager " + context.emulator.world["http"]], environment)
        assert done.code == 4 and "failed   exchange" in done.stdout and "refs/heads/other" in done.stdout, done.show()
        assert not secrets_in(context.emulator, done.stdout + visible(done.stderr))


def visible(log):
    """The log as the runner shows it: less its mask commands, at the start of a line."""
    return "\n".join(line for line in log.splitlines() if not line.startswith("::add-mask::"))


@case
def github_inputs_are_arguments_and_nothing_else(context):
    step = Step(context, checkout(context), client_id="$(touch /tmp/x); --output=json")
    done = step.main(AZFED_BINARY=context.azfed)
    assert done.code == 2 and "is not a GUID" in done.stderr, done.show()
    step = Step(context, checkout(context), creds='{"clientSecret":"sentinel"}')
    done = step.main(AZFED_BINARY=context.azfed)
    assert done.code == 1 and "client-id: <client id>" in done.stdout and "sentinel" not in done.stdout, done.show()
    step = Step(context, checkout(context), auth_type="IDENTITY")
    assert step.main(AZFED_BINARY=context.azfed).code == 1
    identities = os.path.join(context.directory(), "identities.json")
    with open(identities, "w", encoding="ascii") as file:
        file.write('{"identities": [{"environment": "prod", "client_id": "%s"}]}' % IDENTITY)
    step = Step(context, checkout(context), client_id="", identity_map=identities, wait_for_propagation="2m")
    done = step.main(AZFED_BINARY=context.azfed)
    assert done.code == 0 and f"as {IDENTITY}" in done.stderr, done.show()
    step.post(AZFED_BINARY=context.azfed)
    step = Step(context, checkout(context), environment="azureusgovernment", scopes=" https://vault.azure.net \n\n")
    context.emulator.forget()
    done = step.main(AZFED_BINARY=context.azfed)
    assert done.code == 0, done.show()
    (post,) = context.emulator.requests("entra.token")
    assert post["host"] == "login.microsoftonline.us" and dict(post["form"])["scope"] == "https://vault.azure.net/.default"


def ask(values, resource):
    """The status of a request to the endpoint that later steps have."""
    request = urllib.request.Request(f"{values['IDENTITY_ENDPOINT']}?api-version=2019-08-01&resource={resource}")
    request.add_header("X-IDENTITY-HEADER", values["IDENTITY_HEADER"])
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


@case
def github_ways_to_last(context):
    for inputs, has_keeper, has_endpoints in [({}, True, False), ({"keep_fresh": "false"}, False, False), ({"endpoints": "TRUE", "keep_fresh": "true", "allow_scope": " https://vault.azure.net \n\nhttps://b.example"}, True, True)]:
        step = Step(context, checkout(context), **inputs)
        done = step.main(AZFED_BINARY=context.azfed)
        assert done.code == 0, done.show()
        (directory,) = [name for name in os.listdir(step.temp) if name.startswith("azfed-")]
        kept = os.path.join(step.temp, directory, "keeper", "pid")
        assert os.path.exists(kept) == has_keeper, inputs
        handed_over = contents(step.files["GITHUB_ENV"])
        assert (b"IDENTITY_ENDPOINT<<" in handed_over) == has_endpoints, inputs
        # a list of resources: what would open any other resource is not handed over, and what is asked for is looked at
        if has_endpoints:
            values = dict(re.findall(r"(?m)^(\w+)<<(?:\S+)\n(.*)$", handed_over.decode()))
            statuses = [ask(values, resource) for resource in ("https://vault.azure.net", "https://management.azure.com")]
            assert statuses[0] == 200 and statuses[1] >= 400, statuses
        process = contents(kept).decode() if has_keeper else None
        assert process is None or is_alive(process), inputs
        post = step.post(AZFED_BINARY=context.azfed)
        assert post.code == 0 and "azfed: removed " in post.stderr, post.show()
        assert process is None or not is_alive(process), inputs


@case
def github_the_post_step_never_fails_the_job(context):
    copy = os.path.join(context.directory(), "azfed")
    shutil.copy2(context.azfed, copy)
    step = Step(context, checkout(context))
    assert step.main(AZFED_BINARY=copy).code == 0
    kept = step.post(INPUT_CLEANUP="false")
    assert kept.code == 0 and "stays" in kept.stdout, kept.show()
    os.remove(copy)
    with open(copy, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\necho stolen\n")
    os.chmod(copy, 0o755)
    done = step.post()
    assert done.code == 0 and "::warning title=azfed::" in done.stdout and "stolen" not in done.stdout, done.show()


@case
def github_each_file_is_short(context):
    for name in ("main.mjs", "post.mjs"):
        with open(os.path.join(REPOSITORY, "action", name), encoding="utf-8") as file:
            assert len(file.readlines()) < 100, name


def act(context, directory, environment, **job):
    """The workflow in act, in host mode; the runner's OIDC endpoint is the emulator's."""
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "test"]):
        subprocess.run(["git", *command], cwd=directory, check=True, capture_output=True)
    home = context.directory()
    given = {"AZFED_BINARY": context.azfed, "SSL_CERT_FILE": context.emulator.ca, "REQUESTS_CA_BUNDLE": context.emulator.ca,
             "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1", **environment}
    for name, value in context.emulator.environment("github", **job).items():
        if name.startswith("ACTIONS_"):
            given[name] = value
    command = [os.path.join(context.tools, "wrappers-venv", "bin", "act"), "push", "--platform", "ubuntu-latest=-self-hosted",
               "--no-cache-server", "--artifact-server-addr", "127.0.0.1", "--env-file", os.path.join(home, "job.env")]
    with open(os.path.join(home, "job.env"), "w", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in given.items())
    path = os.path.join(context.tools, "venv", "bin") + ":/usr/local/bin:/usr/bin:/bin"
    return execute(command, {"PATH": path, "HOME": home}, cwd=directory, timeout=300), home


def login_directories(home):
    return [os.path.join(folder, name) for folder, names, _ in os.walk(home) for name in names
            if name.startswith("azfed-") and stat.S_ISDIR(os.lstat(os.path.join(folder, name)).st_mode)]


@case
def github_a_workflow_in_act(context):
    directory = checkout(context)
    os.makedirs(os.path.join(directory, ".github", "workflows"))
    with open(os.path.join(directory, ".github", "workflows", "test.yml"), "w", encoding="utf-8") as file:
        file.write(WORKFLOW)
    with open(os.path.join(directory, "main.tf"), "w", encoding="utf-8") as file:
        file.write(STATE)
    done, home = act(context, directory, {})
    assert done.code == 0, done.show()
    for line in ("| contoso-prod", "Apply complete! Resources: 1 added", f"| default is {APPLICATION}", f"| first is {IDENTITY}",
                 f"| outputs {IDENTITY} 33333333-3333-4333-8333-333333333333 token=\n", "Connect-AzAccount -ServicePrincipal", "Job succeeded"):
        assert line in done.stdout, f"{line}\n{done.show()}"
    assert done.stdout.count("azfed: removed ") == 2, done.show()
    assert login_directories(home) == []
    assert not secrets_in(context.emulator, done.stdout + done.stderr)


@case
def github_a_refusal_in_act(context):
    directory = checkout(context)
    os.makedirs(os.path.join(directory, ".github", "workflows"))
    with open(os.path.join(directory, ".github", "workflows", "test.yml"), "w", encoding="utf-8") as file:
        file.write(WORKFLOW)
    done, home = act(context, directory, {}, subject="repo:contoso/infra:environment:staging")
    assert done.code != 0 and "Job failed" in done.stdout, done.show()
    assert "### Azure login failed" in done.stdout and "AADSTS700213" in done.stdout, done.show()
    assert "contoso-prod" not in done.stdout and login_directories(home) == []
    assert not secrets_in(context.emulator, done.stdout + done.stderr)


@case
def github_workflows_and_action_have_no_findings(context):
    zizmor = os.path.join(context.tools, "wrappers-venv", "bin", "zizmor")
    done = execute([zizmor, "--offline", "--no-progress", "--persona", "regular", REPOSITORY + "/action.yml", REPOSITORY + "/.github/workflows"],
                   {"PATH": "/usr/bin:/bin", "HOME": context.directory()})
    assert done.code == 0, done.show()
