"""The GitLab component: in gitlab-ci-local, and its shell where there is hardly anything."""

import hashlib
import json
import os
import re
import shutil
import subprocess

import yaml
from emulator import IDENTITY, SUBSCRIPTION, TENANT
from github import STATE, contents
from harness import REPOSITORY, case, documented, secrets_in
from mirror import Mirror
from runners import execute

TEMPLATE = os.path.join(REPOSITORY, "gitlab", "templates", "azure-login.yml")
FILE = "azfed-x86_64-unknown-linux-musl"
PLACE = "          # checksums: the release workflow writes the lines\n"


def template(sum=None):
    """The template's text, with a checksum as the release workflow writes it."""
    with open(TEMPLATE, encoding="utf-8") as file:
        text = file.read()
    assert PLACE in text
    return text.replace(PLACE, PLACE + f"          0.1.0/{FILE}) echo {sum} ;;\n") if sum else text


def shell_of(text, part="before_script", **inputs):
    """The part's script and the job's variables, with the inputs put in as GitLab does."""
    header, body = list(yaml.safe_load_all(text))
    values = {name: str(one.get("default", "")) for name, one in header["spec"]["inputs"].items()}
    values.update(inputs)
    job = body["$[[ inputs.as ]]"]
    variables = {}
    for name, value in job["variables"].items():
        for key, given in values.items():
            value = value.replace(f"$[[ inputs.{key} ]]", given)
        variables[name] = value
    return "\n".join(job[part]), variables


class Job:
    """The job's shell: `before_script`, one line of `script`, all in one `sh -e`."""

    def __init__(self, context, text, **inputs):
        self.temp = context.directory()
        given = {"client-id": IDENTITY, "tenant-id": TENANT, "subscription-id": SUBSCRIPTION, **inputs}
        self.script, variables = shell_of(text, **given)
        self.after, _ = shell_of(text, "after_script", **given)
        self.environment = {
            "PATH": "/usr/bin:/bin", "HOME": self.temp, "RUNNER_TEMP_PROJECT_DIR": os.path.join(self.temp, "temp"),
            "SSL_CERT_FILE": context.emulator.ca, **context.emulator.environment("gitlab"), **variables,
        }

    def run(self, line, shell=("sh",), **variables):
        script = f"set -e\n{self.script}\n{line}\n"
        return execute([*shell, "-c", script], {**self.environment, **variables})

    def finish(self, shell=("sh",), **variables):
        return execute([*shell, "-c", self.after], {**self.environment, **variables})

    def left(self):
        temp = os.path.join(self.temp, "temp")
        return os.listdir(temp) if os.path.isdir(temp) else []


@case
def gitlab_the_pinned_file_is_downloaded_verified_and_run(context):
    binary = contents(context.azfed)
    text = template(hashlib.sha256(binary).hexdigest())
    with Mirror({f"/v0.1.0/{FILE}": binary}) as mirror:
        for shell in (("sh",), ("busybox", "sh"), ("bash", "--posix")):
            job = Job(context, text, **{"download-url": mirror.url + "/", "scopes": "https://vault.azure.net https://management.azure.com"})
            done = job.run('echo "identity $ARM_CLIENT_ID"', shell)
            assert done.code == 0 and f"identity {IDENTITY}" in done.stdout, f"{shell}: {done.show()}"
            after = job.finish(shell)
            assert after.code == 0 and "azfed: removed " in after.stderr and job.left() == [], f"{shell}: {after.show()} {job.left()}"
            assert not secrets_in(context.emulator, done.stdout + done.stderr)
        identities = os.path.join(context.directory(), "identities.json")
        with open(identities, "w", encoding="ascii") as file:
            json.dump({"tenant_id": TENANT, "identities": [{"branch": "main", "client_id": IDENTITY}]}, file)
        job = Job(context, text, **{"download-url": mirror.url, "identity-map": identities, "tenant-id": "", "subscription-id": ""})
        done = job.run('echo "identity $ARM_CLIENT_ID"')
        assert done.code == 0 and f"identity {IDENTITY}" in done.stdout, done.show()
        job.finish()
        job = Job(context, text, **{"download-url": mirror.url, "endpoints": "true", "allow-scope": "https://vault.azure.net https://b.example"})
        ask = 'curl -s -o /dev/null -w "%{http_code}" -H "X-IDENTITY-HEADER: $IDENTITY_HEADER" "$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://'
        done = job.run(f'echo "endpoint $IDENTITY_ENDPOINT"; {ask}vault.azure.net"; echo; {ask}management.azure.com"')
        assert done.code == 0 and "endpoint http://127.0.0.1:" in done.stdout, done.show()
        assert "\n200\n4" in done.stdout, f"one resource is allowed, and the other is not: {done.show()}"
        after = job.finish()
        assert after.code == 0 and "azfed: removed " in after.stderr and job.left() == [], f"{after.show()} {job.left()}"


@case
def gitlab_a_file_without_the_right_checksum_is_not_run(context):
    binary = contents(context.azfed)
    right = hashlib.sha256(binary).hexdigest()
    path = f"/v0.1.0/{FILE}"
    cases = [
        ("missing", template(), {path: binary}, (), "this template has no checksum for 0.1.0/azfed-"),
        ("other version", template(right), {path: binary}, (), "this template has no checksum for 9.9.9/azfed-"),
        ("wrong", template(right), {path: b"#!/bin/sh\necho stolen\n"}, (), "it was not run"),
        ("truncated", template(right), {path: binary}, (path,), "azfed: error: "),
        ("not there", template(right), {}, (), "could not be downloaded"),
    ]
    for what, text, files, truncated, message in cases:
        inputs = {"version": "9.9.9"} if what == "other version" else {}
        with Mirror(files, truncated) as mirror:
            job = Job(context, text, **{"download-url": mirror.url}, **inputs)
            done = job.run("echo went on")
        assert done.code == 1 and message in done.stderr, f"{what}: {done.show()}"
        assert "went on" not in done.stdout and "stolen" not in done.stdout, f"{what}: {done.show()}"
        job.finish()
        assert job.left() == [], what
    job = Job(context, template(right), **{"download-url": "http://127.0.0.1:1"})
    done = job.run("echo went on")
    assert done.code == 1 and "could not be downloaded" in done.stderr, done.show()
    done = Job(context, template(right)).run("echo went on")
    assert done.code == 1 and "no download-url" in done.stderr, done.show()


@case
def gitlab_a_failed_login_fails_the_job(context):
    job = Job(context, template(), **{"client-id": "55555555-0000-4000-8000-555555555555"})
    done = job.run("echo went on", AZFED_BINARY=context.azfed)
    assert done.code == 4 and "AADSTS700016" in done.stderr and "went on" not in done.stdout, done.show()
    done = job.run("echo went on", AZFED_BINARY="/nowhere/azfed")
    assert done.code == 127 and "went on" not in done.stdout, done.show()
    done = Job(context, template(), **{"client-id": "$(touch /tmp/x)`id`"}).run("echo went on", AZFED_BINARY=context.azfed)
    assert done.code == 2 and "went on" not in done.stdout, done.show()


@case
def gitlab_busybox_with_wget_alone_in_an_empty_root(context):
    binary = contents(context.azfed)
    root = context.directory()
    for name in ("bin", "dev", "temp", "etc"):
        os.makedirs(os.path.join(root, name))
    open(os.path.join(root, "dev", "null"), "w", encoding="ascii").close()
    shutil.copy2(shutil.which("busybox"), os.path.join(root, "bin", "busybox"))
    for name in ("sh", "cat", "chmod", "cut", "mkdir", "rm", "sha256sum", "uname", "wget"):
        os.symlink("busybox", os.path.join(root, "bin", name))
    linked = subprocess.run(["ldd", shutil.which("busybox")], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(", linked):
        os.makedirs(root + os.path.dirname(library), exist_ok=True)
        shutil.copy2(library, root + library)
    shutil.copy2(context.emulator.ca, os.path.join(root, "etc", "ca.pem"))
    shutil.copy2("/etc/hosts", os.path.join(root, "etc", "hosts"))
    with Mirror({f"/v0.1.0/{FILE}": binary}) as mirror:
        job = Job(context, template(hashlib.sha256(binary).hexdigest()), **{"download-url": mirror.url})
        job.environment.update({"PATH": "/bin", "HOME": "/", "RUNNER_TEMP_PROJECT_DIR": "/temp", "SSL_CERT_FILE": "/etc/ca.pem"})
        done = job.run('echo "identity $ARM_CLIENT_ID"', ("/usr/sbin/chroot", root, "/bin/sh"))
        assert done.code == 0 and f"identity {IDENTITY}" in done.stdout, done.show()
        job.finish(("/usr/sbin/chroot", root, "/bin/sh"))
    assert os.listdir(os.path.join(root, "temp")) == []


@case
def gitlab_the_shell_has_no_findings(context):
    shellcheck = os.path.join(context.tools, "wrappers-venv", "bin", "shellcheck")
    for part in ("before_script", "after_script"):
        script, _ = shell_of(template(), part)
        assert "set -x" not in script
        done = subprocess.run([shellcheck, "--shell=sh", "--severity=warning", "-"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


PIPELINE = """
include:
  - local: /templates/azure-login.yml
    inputs:
      client-id: %s
      tenant-id: %s
      subscription-id: %s
  - local: /templates/azure-login.yml
    inputs:
      as: .azure-login-gov
      cloud: AzureUSGovernment
      client-id: %s
      tenant-id: %s

deploy:
  extends: .azure-login
  script:
    - az group list --query "[].name" -o tsv
    - terraform init -no-color && terraform apply -no-color -auto-approve

own:
  extends: .azure-login
  before_script:
    - echo "mine first"
    - !reference [.azure-login, before_script]
  script:
    - echo "default is $(az account show --query user.name -o tsv)"
""" % (IDENTITY, TENANT, SUBSCRIPTION, IDENTITY, TENANT)


@case
def gitlab_a_pipeline_in_gitlab_ci_local(context):
    directory = context.directory()
    os.makedirs(os.path.join(directory, "templates"))
    shutil.copy(TEMPLATE, os.path.join(directory, "templates"))
    fails = documented("gitlab.md", '"$azfed_binary" doctor')
    assert fails == documented("doctor.md", '"$azfed_binary" doctor')
    for given, taken in (("deploy:", "fails:"), ("terraform apply -auto-approve", "exit 1"),
                         (" doctor ", f" doctor --resource-manager {context.emulator.world['http']} ")):
        assert given in fails
        fails = fails.replace(given, taken)
    pipeline = f"{PIPELINE}\n{fails}"
    for name, content in ((".gitlab-ci.yml", pipeline), ("main.tf", STATE.replace("act", "gitlab"))):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(content)
    for command in (["init", "-q", "-b", "main"], ["remote", "add", "origin", "git@gitlab.example.com:contoso/infra.git"], ["add", "-A"],
                    ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "test"]):
        subprocess.run(["git", *command], cwd=directory, check=True, capture_output=True)
    home, temp = context.directory(), context.directory()
    bin_directory = os.path.join(context.tools, "wrappers-js", "node_modules")
    path = ":".join([os.path.join(bin_directory, "node", "bin"), os.path.join(context.tools, "venv", "bin"), "/usr/local/bin:/usr/bin:/bin"])
    given = {"AZFED_BINARY": context.azfed, "SSL_CERT_FILE": context.emulator.ca, "REQUESTS_CA_BUNDLE": context.emulator.ca,
             "AZURE_CORE_COLLECT_TELEMETRY": "0", "CHECKPOINT_DISABLE": "1", "RUNNER_TEMP_PROJECT_DIR": temp}
    given["AZURE_ID_TOKEN"] = context.emulator.environment("gitlab")["AZURE_ID_TOKEN"]
    variables = os.path.join(home, "job.yml")
    with open(variables, "w", encoding="utf-8") as file:
        # a bare path would be taken for a file variable
        yaml.safe_dump({name: {"type": "variable", "values": {"*": value}} for name, value in given.items()}, file)
    command = [os.path.join(bin_directory, ".bin", "gitlab-ci-local"), "--force-shell-executor", "--variables-file", variables]
    for name in ("deploy", "own"):
        done = execute([*command, name], {"PATH": path, "HOME": home}, cwd=directory, timeout=300)
        assert done.code == 0, done.show()
        lines = ("contoso-prod", "Apply complete! Resources: 1 added") if name == "deploy" else ("mine first", f"default is {IDENTITY}")
        for line in lines:
            assert line in done.stdout, f"{line}\n{done.show()}"
        assert not secrets_in(context.emulator, done.stdout + done.stderr)
        assert "azfed: removed " in done.stdout + done.stderr, done.show()
    done = execute([*command, "fails"], {"PATH": path, "HOME": home}, cwd=directory, timeout=300)
    said = done.stdout + done.stderr
    assert done.code != 0 and "ok       exchange" in said and "azfed: removed " in said, done.show()
    assert not secrets_in(context.emulator, said)
    assert os.listdir(temp) == []
    listed = execute([*command, "--preview"], {"PATH": path, "HOME": home}, cwd=directory)
    assert "api://AzureADTokenExchange\n" in listed.stdout.replace('"', "").replace("'", ""), listed.show()
