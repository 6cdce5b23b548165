"""The real, unmodified clients, each run with what a later step has and nothing else."""

import base64
import json
import os
import shlex
import tempfile

from emulator import IDENTITY, SUBSCRIPTION, TENANT
from runners import execute

STATE = """
terraform {
  backend "azurerm" {
    storage_account_name = "contosotfstate"
    container_name       = "tfstate"
    key                  = "KEY"
    use_azuread_auth     = true
  }
}

resource "terraform_data" "example" {
  input = "INPUT"
}

output "example" {
  value = terraform_data.example.output
}
"""

PROVIDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "provider.py")

PYTHON = """
import json, sys, urllib.request
from azure.identity import DefaultAzureCredential
token = DefaultAzureCredential().get_token(sys.argv[1] + "/.default").token
url = sys.argv[1] + "/subscriptions?api-version=2022-12-01"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
print(json.load(urllib.request.urlopen(request))["value"][0]["displayName"])
"""

JAVASCRIPT = """
const { DefaultAzureCredential } = require("@azure/identity");
const resource = process.argv[2];
(async () => {
  const { token } = await new DefaultAzureCredential().getToken(resource + "/.default");
  const url = resource + "/subscriptions?api-version=2022-12-01";
  const answer = await fetch(url, { headers: { authorization: "Bearer " + token } });
  console.log((await answer.json()).value[0].displayName);
})().catch((error) => { console.error(error); process.exit(1); });
"""


REST = {
    "az": "az rest --skip-authorization-header --headers \"Authorization=Bearer $TOKEN\" --url $URL --query 'value[0].displayName' -o tsv",
    "python": "python3 -c 'import json, os, urllib.request as r; "
              "print(json.load(r.urlopen(r.Request(os.environ[\"URL\"], headers={\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]})))"
              "[\"value\"][0][\"displayName\"])'",
    "js": "node -e 'fetch(process.env.URL, {headers: {authorization: \"Bearer \" + process.env.TOKEN}}).then(a => a.json())"
          ".then(a => console.log(a.value[0].displayName))'",
}


class Clients:
    """Where the clients are, and which of them are wanted."""

    def __init__(self, tools, without=()):
        self.tools, self.without = tools, set(without)
        self.venv = os.path.join(tools, "venv", "bin")
        self.modules = os.path.join(tools, "js", "node_modules")

    def az(self, runner, *arguments, **variables):
        """az with the job's login; its telemetry is off, which needs another host."""
        quiet = {"AZURE_CORE_COLLECT_TELEMETRY": "0", "AZURE_CORE_NO_COLOR": "1"}
        environment = {**runner.later_step(), **quiet, **variables}
        return execute([os.path.join(self.venv, "az"), *arguments], environment, cwd=runner.workspace)

    def terraform(self, runner, directory, *arguments, **variables):
        environment = {**runner.later_step(), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **variables}
        return execute(["terraform", *arguments, "-no-color"], environment, cwd=directory)

    def provider(self, runner, **variables):
        """The requests of Terraform's azurerm provider, and not the provider itself."""
        return execute(["python3", PROVIDER], {**runner.later_step(), **variables}, cwd=runner.workspace)

    def python(self, runner, resource="https://management.azure.com", **variables):
        environment = {**runner.later_step(), **variables}
        return execute([os.path.join(self.venv, "python"), "-c", PYTHON, resource], environment, cwd=runner.workspace)

    def javascript(self, runner, resource="https://management.azure.com", **variables):
        script = os.path.join(runner.directory, "client.js")
        with open(script, "w", encoding="utf-8") as file:
            file.write(JAVASCRIPT)
        environment = {**runner.later_step(), "NODE_PATH": self.modules, **variables}
        return execute(["node", script, resource], environment, cwd=runner.workspace)


def exec_script(clients, runner, pause=9):
    """A shell script that uses every client; then, after a pause in which tokens expire, once more."""
    directory = tempfile.mkdtemp(prefix="terraform-", dir=runner.workspace)
    with open(os.path.join(directory, "main.tf"), "w", encoding="utf-8") as file:
        file.write(STATE.replace("KEY", os.path.basename(directory)).replace("INPUT", "exec"))
    for name, content in (("client.py", PYTHON), ("client.js", JAVASCRIPT)):
        with open(os.path.join(runner.workspace, name), "w", encoding="utf-8") as file:
            file.write(content)
    az, python, resource = os.path.join(clients.venv, "az"), os.path.join(clients.venv, "python"), "https://management.azure.com"
    steps = {
        "az": [f"{az} account show --query id -o tsv", f"{az} group list --query '[].name' -o tsv",
               f"{az} keyvault secret list --vault-name contoso --query '[].name' -o tsv",
               f"{az} account get-access-token --resource https://database.windows.net --query tenant -o tsv",
               f"{az} account get-access-token --resource https://storage.azure.com --query tenant -o tsv"],
        "terraform": ["terraform init -no-color >/dev/null", "terraform apply -no-color -auto-approve >/dev/null",
                      "terraform plan -no-color | grep 'No changes'"],
        "provider": [f"python3 {PROVIDER}"],
        "python": [f"{python} ../client.py {resource}"],
        "js": [f"NODE_PATH={clients.modules} node ../client.js {resource}"],
    }
    once = [step for name, group in steps.items() if name not in clients.without for step in group]
    again = [f"sleep {pause}", "echo again", *once] if pause else []
    return "\n".join(["set -e", f"cd {directory}", *once, *again])


def expect(outcome, what):
    assert outcome.code == 0, f"{what}: {outcome.show()}"
    return outcome.stdout


def claims(token):
    """What a JWT says, unverified: the emulator verifies it wherever it is used."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def check_token(clients, runner, *flags, client=IDENTITY):
    """What `azfed token` prints, in each client that takes a token; Terraform takes none."""
    for name, command in REST.items():
        if name in clients.without:
            continue
        variables = {**runner.login_step(), "URL": "https://management.azure.com/subscriptions?api-version=2022-12-01",
                     "AZURE_CORE_COLLECT_TELEMETRY": "0", "HOME": os.path.join(runner.directory, "other-home")}
        variables["PATH"] = f"{clients.venv}:{variables['PATH']}"
        script = f"set -e\nTOKEN=$({shlex.join([runner.azfed, 'token', *flags])})\nexport TOKEN\n{command}"
        outcome = execute(["sh", "-c", script], variables, cwd=runner.workspace)
        assert outcome.code == 0 and outcome.stdout.strip() == "Contoso Production", f"{name}: {outcome.show()}"
    shown = runner.run("token", *flags, "--format", "json", "--scope", "https://vault.azure.net")
    granted = json.loads(expect(shown, "azfed token"))
    assert claims(granted["token"])["appid"] == client == granted["client"], shown.show()


def check_az(clients, runner, client=IDENTITY):
    """An account, a request to Resource Manager, a token."""
    account = json.loads(expect(clients.az(runner, "account", "show", "-o", "json"), "az account show"))
    assert (account["id"], account["tenantId"]) == (SUBSCRIPTION, TENANT), account
    groups = json.loads(expect(clients.az(runner, "group", "list", "-o", "json"), "az group list"))
    assert [group["name"] for group in groups] == ["contoso-prod"], groups
    answer = json.loads(expect(clients.az(runner, "account", "get-access-token", "-o", "json"), "az account get-access-token"))
    assert claims(answer["accessToken"])["appid"] == client, "a token of another identity"


def check_az_elsewhere(clients, runner):
    """Three resources beside Resource Manager: one through its own commands, two tokens."""
    listed = json.loads(expect(clients.az(runner, "keyvault", "secret", "list", "--vault-name", "contoso"), "az keyvault"))
    assert [secret["name"] for secret in listed] == ["greeting"], listed
    for resource in ("https://database.windows.net", "https://storage.azure.com"):
        expect(clients.az(runner, "account", "get-access-token", "--resource", resource), resource)


def check_terraform(clients, runner, **variables):
    """init, apply (which locks and writes the state) and plan on the azurerm backend."""
    directory = tempfile.mkdtemp(prefix="terraform-", dir=runner.workspace)
    with open(os.path.join(directory, "main.tf"), "w", encoding="utf-8") as file:
        file.write(STATE.replace("KEY", os.path.basename(directory)).replace("INPUT", type(runner).__name__))
    expect(clients.terraform(runner, directory, "init", **variables), "terraform init")
    applied = expect(clients.terraform(runner, directory, "apply", "-auto-approve", **variables), "terraform apply")
    assert "Apply complete! Resources: 1 added" in applied, applied
    planned = expect(clients.terraform(runner, directory, "plan", **variables), "terraform plan")
    assert "No changes." in planned, planned


def check_provider(clients, runner, client=IDENTITY, **variables):
    """What Terraform's azurerm provider asks for until it is configured, and a data source: see provider.py."""
    shown = json.loads(expect(clients.provider(runner, **variables), "the azurerm provider's requests"))
    assert (shown["client"], shown["subscription"]) == (client, "Contoso Production"), shown


def check_python(clients, runner):
    assert expect(clients.python(runner), "azure-identity for Python").strip() == "Contoso Production"


def check_javascript(clients, runner):
    assert expect(clients.javascript(runner), "@azure/identity for JavaScript").strip() == "Contoso Production"


CHECKS = {"az": check_az, "terraform": check_terraform, "provider": check_provider, "python": check_python, "js": check_javascript}
# those that say which identity they are
SHOW_WHO = (check_az, check_provider)
