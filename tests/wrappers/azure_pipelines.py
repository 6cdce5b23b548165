"""The Azure DevOps task: in task-lib's mock runner, as the agent runs it, and packed."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile

import yaml
from clients import Clients, check_az, check_provider, check_terraform
from emulator import CONNECTION, IDENTITY, SUBSCRIPTION, TENANT
from github import contents
from harness import REPOSITORY, case, documented, secrets_in
from runners import AzureDevOps, execute, is_alive

TASK = os.path.join(REPOSITORY, "azure-pipelines", "tasks", "AzureFederatedLoginV1")
FILE = "azfed-x86_64-unknown-linux-musl"


def packed_task(context, binary=None, sum=None):
    """The task as a release packs it: its files, its modules, and the binary with the table."""
    directory = os.path.join(context.directory(), "task")
    shutil.copytree(TASK, directory)
    shutil.copytree(os.path.join(context.tools, "wrappers-task", "node_modules"), os.path.join(directory, "node_modules"))
    if binary is not None:
        os.makedirs(os.path.join(directory, "bin"))
        with open(os.path.join(directory, "bin", FILE), "wb") as file:
            file.write(binary)
        shutil.copy(os.path.join(REPOSITORY, "packaging", "version"), os.path.join(directory, "bin"))
        with open(os.path.join(directory, "bin", "checksums.txt"), "w", encoding="ascii") as file:
            file.write(f"{sum or hashlib.sha256(binary).hexdigest()} 0.1.0/{FILE}\n")
    return directory


class Agent(AzureDevOps):
    """The agent's way with a task: inputs and endpoint data in the environment, `##vso` commands back."""

    def __init__(self, context, task, scheme="WorkloadIdentityFederation", **job):
        super().__init__(context.emulator, context.azfed, context.directory(), **job)
        self.task, self.task_variables, self.result = task, {}, None
        self.endpoint = {
            "ENDPOINT_URL_SYSTEMVSSCONNECTION": "https://dev.azure.com/contoso/",
            "ENDPOINT_AUTH_SYSTEMVSSCONNECTION": json.dumps({"scheme": "OAuth"}),
            "ENDPOINT_AUTH_SCHEME_SYSTEMVSSCONNECTION": "OAuth",
            "ENDPOINT_AUTH_PARAMETER_SYSTEMVSSCONNECTION_ACCESSTOKEN": self.platform_environment["SYSTEM_ACCESSTOKEN"],
            f"ENDPOINT_URL_{CONNECTION}": "https://management.azure.com/",
            f"ENDPOINT_AUTH_{CONNECTION}": json.dumps({"scheme": scheme, "parameters": {"serviceprincipalid": IDENTITY, "tenantid": TENANT}}),
            f"ENDPOINT_AUTH_SCHEME_{CONNECTION}": scheme,
            f"ENDPOINT_AUTH_PARAMETER_{CONNECTION}_SERVICEPRINCIPALID": IDENTITY,
            f"ENDPOINT_AUTH_PARAMETER_{CONNECTION}_TENANTID": TENANT,
            f"ENDPOINT_DATA_{CONNECTION}_SUBSCRIPTIONID": SUBSCRIPTION,
            f"ENDPOINT_DATA_{CONNECTION}_ENVIRONMENT": "AzureCloud",
        }
        self.inputs = {"INPUT_AZURESUBSCRIPTION": CONNECTION, "INPUT_FOR": "terraform,az,sdk", "INPUT_TIMEOUT": "2m", "INPUT_CLEANUP": "true"}

    def node(self, script, **variables):
        environment = self.later_step()
        environment.update(self.endpoint)
        environment.update(self.inputs)
        environment.update({f"VSTS_TASKVARIABLE_{name.upper()}": value for name, value in self.task_variables.items()})
        environment.update(variables)
        self.result = None
        outcome = execute(["node", os.path.join(self.task, script)], environment, cwd=self.workspace)
        self.take(outcome)
        return outcome

    def take(self, outcome):
        own = []
        for line in outcome.stdout.splitlines():
            found = re.match(r"##vso\[task\.(settaskvariable|complete|debug|issue)(?: ([^\]]*))?\](.*)", line)
            if not found:
                own.append(line)
                continue
            event, properties, data = found.groups()
            properties = dict(pair.split("=", 1) for pair in (properties or "").split(";") if "=" in pair)
            if event == "settaskvariable":
                self.task_variables[properties["variable"]] = self.unescape(data)
            elif event == "complete":
                self.result = (properties["result"], self.unescape(data))
        rest = type(outcome)(outcome.code, "\n".join(own), outcome.stderr)
        super().take(rest)

    def visible(self, outcome):
        """The log as the agent shows it: it has known the job's access token from the start (task-lib's debug lines
        have it), and learns others from mask commands."""
        lines = (outcome.stdout + outcome.stderr).splitlines()
        text = "\n".join(line for line in lines if "##vso[task.setsecret]" not in line)
        return text.replace(self.platform_environment["SYSTEM_ACCESSTOKEN"], "***")


@case
def azure_devops_the_task_as_the_agent_runs_it(context):
    agent = Agent(context, packed_task(context, contents(context.azfed)))
    done = agent.node("index.js", **{"INPUT_SCOPES": "https://management.azure.com\nhttps://vault.azure.net\n"})
    assert (done.code, agent.result) == (0, ("Succeeded", "")), done.show()
    assert not secrets_in(context.emulator, agent.visible(done))
    assert "SYSTEM_ACCESSTOKEN" not in agent.later_step() and agent.secret_variables == {}
    clients = Clients(context.tools)
    check_az(clients, agent)
    check_terraform(clients, agent)
    check_provider(clients, agent)
    kept = os.path.join(agent.handed_over["AZFED_LOGIN_DIR"], "keeper", "pid")
    with open(kept, encoding="ascii") as file:
        assert is_alive(file.read()), "nothing keeps the login fresh"
    cleaned = agent.node("cleanup.js")
    assert agent.result == ("Succeeded", "") and "azfed: removed " in cleaned.stderr, cleaned.show()
    left = [name for name in os.listdir(agent.temp) if not name.startswith(("azfed-binary-", ".task"))]
    assert left == [], left


def script_step(agent, step):
    """A step of the pipeline that is a script, with what it maps."""
    mapped = {name: {"$(System.AccessToken)": agent.platform_environment["SYSTEM_ACCESSTOKEN"]}[value] for name, value in step["env"].items()}
    return execute(["bash", "-c", step["script"]], {**agent.later_step(), **mapped}, cwd=agent.workspace)


IDS = {"service_connection_id": CONNECTION, "client_id": IDENTITY, "tenant_id": TENANT}


@case
def azure_devops_later_steps_run_azfed(context):
    """What docs/azure-devops.md and docs/doctor.md say, step for step."""
    task = packed_task(context, contents(context.azfed))
    agent = Agent(context, task)
    done = agent.node("index.js")
    assert agent.result == ("Succeeded", ""), done.show()
    (directory,) = agent.prepended
    assert os.listdir(directory) == ["azfed"] and os.path.dirname(directory) == agent.temp, directory
    (step,) = yaml.safe_load(documented("azure-devops.md", "azfed exec"))
    step["script"] = step["script"].replace("terraform apply -auto-approve", "sh -c 'echo endpoint $IDENTITY_ENDPOINT'")
    done = script_step(agent, step)
    assert done.code == 0 and "endpoint http://127.0.0.1:" in done.stdout, done.show()
    assert not secrets_in(context.emulator, agent.visible(done))
    agent.node("cleanup.js")
    # the login fails, and the next step says why
    for name in ("azure-devops.md", "doctor.md"):
        agent = Agent(context, task, subject="sc://contoso/infra/other")
        agent.node("index.js")
        assert agent.result[0] == "Failed" and agent.handed_over == {}
        step = yaml.safe_load(documented(name, "condition: failed()", **IDS))[-1]
        assert step["condition"] == "failed()"
        step["script"] += " --resource-manager " + context.emulator.world["http"]
        done = script_step(agent, step)
        assert done.code == 4 and "failed   exchange" in done.stdout and "sc://contoso/infra/other" in done.stdout, done.show()
        assert not secrets_in(context.emulator, agent.visible(done))
    # a binary of the user's own is where the user has put it
    agent = Agent(context, task)
    done = agent.node("index.js", AZFED_BINARY=context.azfed)
    assert agent.result == ("Succeeded", "") and agent.prepended == [], done.show()
    agent.node("cleanup.js")


@case
def azure_devops_the_tasks_ways_to_last(context):
    task = packed_task(context, contents(context.azfed))
    agent = Agent(context, task)
    done = agent.node("index.js", INPUT_KEEPFRESH="false")
    assert agent.result == ("Succeeded", ""), done.show()
    assert not os.path.exists(os.path.join(agent.handed_over["AZFED_LOGIN_DIR"], "keeper"))
    agent.node("cleanup.js")
    agent = Agent(context, task)
    done = agent.node("index.js", INPUT_ENDPOINTS="true", INPUT_KEEPFRESH="true", INPUT_ALLOWSCOPE="https://management.azure.com\nhttps://storage.azure.com\nhttps://graph.microsoft.com\n")
    assert agent.result == ("Succeeded", "") and "IDENTITY_ENDPOINT" in agent.handed_over, done.show()
    assert agent.handed_over["IDENTITY_HEADER"] in agent.masks
    clients = Clients(context.tools)
    check_az(clients, agent)
    check_terraform(clients, agent)
    check_provider(clients, agent)
    cleaned = agent.node("cleanup.js")
    assert "later steps asked for https://management" in cleaned.stderr, cleaned.show()


@case
def azure_devops_refusals_of_the_task(context):
    binary = contents(context.azfed)
    task = packed_task(context, binary)
    cases = [
        (Agent(context, task, scheme="ServicePrincipal"), "convert it to workload identity federation"),
        (Agent(context, packed_task(context)), "was packed without"),
        (Agent(context, packed_task(context, binary, "0" * 64)), "it was not run"),
        (Agent(context, packed_task(context, b"#!/bin/sh\necho stolen\n", hashlib.sha256(binary).hexdigest())), "it was not run"),
        (Agent(context, task, subject="sc://contoso/infra/other"), "azfed login: exit code 4"),
    ]
    for agent, message in cases:
        done = agent.node("index.js")
        assert agent.result and agent.result[0] == "Failed" and message in agent.result[1], f"{message}: {done.show()}"
        assert "stolen" not in done.stdout and agent.handed_over == {}, done.show()
        assert not secrets_in(context.emulator, agent.visible(done))
        cleaned = agent.node("cleanup.js")
        assert agent.result == ("Succeeded", ""), cleaned.show()
    agent = Agent(context, task)
    agent.inputs["INPUT_CLEANUP"] = "false"
    agent.node("index.js")
    agent.node("cleanup.js")
    assert os.path.isdir(agent.handed_over["AZFED_LOGIN_DIR"])


MOCK = """
const path = require("node:path");
const { TaskMockRunner } = require("azure-pipelines-task-lib/mock-run");
const runner = new TaskMockRunner(path.join(__dirname, "index.js"));
const connection = "%s";
process.env.AZFED_BINARY = "/opt/azfed";
process.env.AGENT_TEMPDIRECTORY = process.cwd();
process.env.SYSTEM_OIDCREQUESTURI = "https://dev.azure.com/contoso/x/oidctoken";
process.env[`ENDPOINT_AUTH_SCHEME_${connection}`] = "WorkloadIdentityFederation";
process.env[`ENDPOINT_AUTH_PARAMETER_${connection}_SERVICEPRINCIPALID`] = "client";
process.env[`ENDPOINT_AUTH_PARAMETER_${connection}_TENANTID`] = "tenant";
process.env[`ENDPOINT_DATA_${connection}_SUBSCRIPTIONID`] = "subscription";
process.env[`ENDPOINT_DATA_${connection}_ENVIRONMENT`] = "AzureChinaCloud";
process.env.ENDPOINT_AUTH_PARAMETER_SYSTEMVSSCONNECTION_ACCESSTOKEN = "job-access-token";
runner.setInput("azureSubscription", connection);
runner.setInput("scopes", "https://a.example\\n--output=json");
runner.setInput("audience", "api://mine");
runner.setInput("allowScope", "https://a.example\\nhttps://b.example");
runner.registerMock("node:child_process", {
  spawnSync(program, options, { env }) {
    console.log("CALLED " + JSON.stringify({ program, options, token: env.SYSTEM_ACCESSTOKEN, uri: env.SYSTEM_OIDCREQUESTURI }));
    return { status: 0 };
  },
});
runner.run();
""" % CONNECTION


@case
def azure_devops_the_task_in_task_libs_mock_runner(context):
    task = packed_task(context)
    with open(os.path.join(task, "mock.js"), "w", encoding="utf-8") as file:
        file.write(MOCK)
    done = execute(["node", "mock.js"], {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": task}, cwd=task)
    called = [json.loads(line.removeprefix("CALLED ")) for line in done.stdout.splitlines() if line.startswith("CALLED ")]
    expected = ["login", "--source=azure-devops", "--output=azure-devops", f"--service-connection-id={CONNECTION}", "--client-id=client",
                "--tenant-id=tenant", "--subscription-id=subscription", "--cloud=AzureChinaCloud", "--audience=api://mine",
                "--scope=https://a.example", "--scope=--output=json", "--allow-scope=https://a.example", "--allow-scope=https://b.example"]
    assert called == [{"program": "/opt/azfed", "options": expected, "token": "job-access-token",
                       "uri": "https://dev.azure.com/contoso/x/oidctoken"}], done.show()
    assert "##vso[task.complete result=Succeeded" in done.stdout, done.show()


@case
def azure_devops_the_extension_is_packed(context):
    repository = context.directory()
    for name in ("azure-pipelines", "gitlab", "packaging"):
        shutil.copytree(os.path.join(REPOSITORY, name), os.path.join(repository, name))
    output = os.path.join(repository, "dist")
    os.makedirs(output)
    shutil.copy2(context.azfed, os.path.join(output, FILE))
    modules = os.path.join(context.tools, "wrappers-js", "node_modules")
    # the modules are there already: the packing itself is what is looked at
    stub = os.path.join(repository, "bin")
    os.makedirs(stub)
    with open(os.path.join(stub, "npm"), "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\ntest \"$1\" = ci && cp -R {context.tools}/wrappers-task/node_modules .\n")
    os.chmod(os.path.join(stub, "npm"), 0o755)
    path = ":".join([stub, os.path.join(modules, "node", "bin"), "/usr/local/bin:/usr/bin:/bin"])
    environment = {"PATH": path, "HOME": repository, "TFX": os.path.join(modules, ".bin", "tfx")}
    pinned = execute(["python3", "packaging/pin.py", output], environment, cwd=repository)
    assert pinned.stdout == "pinned 1 files of 0.1.0\n", pinned.show()
    done = execute(["packaging/vsix.sh", output], environment, cwd=repository, timeout=180)
    assert done.code == 0, done.show()
    (vsix,) = [name for name in os.listdir(output) if name.endswith(".vsix")]
    with zipfile.ZipFile(os.path.join(output, vsix)) as archive:
        names = set(archive.namelist())
        task = "tasks/AzureFederatedLoginV1/"
        for name in ("task.json", "index.js", "cleanup.js", "binary.js", f"bin/{FILE}", "bin/checksums.txt", "bin/version",
                     "node_modules/azure-pipelines-task-lib/task.js"):
            assert task + name in names, f"{name} is not in {sorted(names)[:40]}"
        assert "overview.md" in names
        assert archive.read(f"{task}bin/{FILE}") == contents(context.azfed)
        sum = hashlib.sha256(contents(context.azfed)).hexdigest()
        assert f"{sum} 0.1.0/{FILE}\n".encode() in archive.read(f"{task}bin/checksums.txt")
        manifest = json.loads(archive.read(task + "task.json"))
    with open(os.path.join(repository, "gitlab", "templates", "azure-login.yml"), encoding="utf-8") as file:
        assert f"          0.1.0/{FILE}) echo {sum} ;;\n" in file.read()
    again = execute(["python3", "packaging/pin.py", output], environment, cwd=repository)
    assert again.code == 0 and contents(os.path.join(repository, "packaging", "checksums.txt")).count(FILE.encode()) == 1
    assert manifest["inputs"][0]["type"] == "connectedService:AzureRM" and set(manifest["execution"]) == {"Node20_1", "Node24"}


@case
def azure_devops_the_template_names_what_it_runs(context):
    """The step template's script, run as AzureCLI@2 runs an inline script: with that task's variables."""
    with open(os.path.join(REPOSITORY, "azure-pipelines", "templates", "azure-login.yml"), encoding="utf-8") as file:
        (step,) = yaml.safe_load(file)["steps"]
    assert step["task"] == "AzureCLI@2" and step["env"]["SYSTEM_ACCESSTOKEN"] == "$(System.AccessToken)"
    agent = AzureDevOps(context.emulator, context.azfed, context.directory())
    stub = os.path.join(agent.directory, "bin")
    os.makedirs(stub)
    with open(os.path.join(stub, "az"), "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\necho {SUBSCRIPTION}\n")
    os.chmod(os.path.join(stub, "az"), 0o755)
    with tempfile.NamedTemporaryFile("w", suffix=".sh", dir=agent.directory, delete=False) as file:
        file.write(step["inputs"]["inlineScript"])
    said = {"AZFED_ENDPOINTS": "", "AZFED_ALLOW_SCOPE": ""}
    environment = {**agent.login_step(), **said, "PATH": stub + ":/usr/bin:/bin", "AZFED_BINARY": context.azfed, "AZFED_FOR": "terraform,az,sdk",
                   "AZFED_SCOPES": "https://management.azure.com https://vault.azure.net", "AZURESUBSCRIPTION_CLIENT_ID": IDENTITY,
                   "AZURESUBSCRIPTION_TENANT_ID": TENANT}
    odd = os.path.join(agent.directory, "100%;]")
    os.makedirs(odd)
    shutil.copy2(context.azfed, os.path.join(odd, "azfed"))
    environment["AZFED_BINARY"] = os.path.join(odd, "azfed")
    outcome = execute(["bash", file.name], environment, cwd=agent.workspace)
    assert outcome.code == 0, outcome.show()
    agent.take(outcome)
    assert agent.handed_over["ARM_SUBSCRIPTION_ID"] == SUBSCRIPTION
    assert agent.prepended == [odd], agent.prepended
    (step,) = yaml.safe_load(documented("azure-devops.md", "azfed exec"))
    step["script"] = step["script"].replace("terraform apply -auto-approve", "true")
    done = script_step(agent, step)
    assert done.code == 0, done.show()
    # one that is on the PATH already stays in its place; and it is found where the login fails
    failed = {**environment, "PATH": odd + ":" + environment["PATH"], "AZURESUBSCRIPTION_CLIENT_ID": "x"}
    outcome = execute(["bash", file.name], failed, cwd=agent.workspace)
    assert outcome.code == 2 and "prependpath" not in outcome.stdout, outcome.show()
    outcome = execute(["bash", file.name], {**failed, "PATH": environment["PATH"]}, cwd=agent.workspace)
    assert outcome.code == 2 and "##vso[task.prependpath]" in outcome.stdout, outcome.show()
    check_terraform(Clients(context.tools), agent)
    check_provider(Clients(context.tools), agent)
    script = contents(file.name).decode().replace('"$AZFED_BINARY" "$@"\n', 'printf "%s\\n" "$@"\n')
    listed = {**environment, "AZFED_ENDPOINTS": "True", "AZFED_ALLOW_SCOPE": "https://a.example https://b.example"}
    words = execute(["bash", "-c", script], listed, cwd=agent.workspace).stdout.split()
    assert words[-5:] == ["--endpoints", "--allow-scope", "https://a.example", "--allow-scope", "https://b.example"], words
    assert subprocess.run([context.azfed, "logout"], env=agent.later_step(), capture_output=True).returncode == 0
