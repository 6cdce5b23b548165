"""Small doubles of the CI runners' hand-over: what a step may write, and what the next step gets."""

import os
import re
import subprocess


class Outcome:
    """How a step ended."""

    def __init__(self, code, stdout, stderr):
        self.code, self.stdout, self.stderr = code, stdout, stderr

    def show(self):
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def execute(command, environment, cwd=None, timeout=120, stdin=""):
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, input=stdin)
    return Outcome(done.returncode, done.stdout, done.stderr)


def is_alive(process):
    """Whether a process is there, and not only its exit code for a parent that does not ask."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


class Runner:
    """A job: a temp directory, an empty home, and what its steps have set."""

    platform = None
    MASKING = ()
    # flags without which azfed does not know where the token comes from
    source = ()

    def __init__(self, emulator, azfed, directory, **job):
        self.emulator, self.azfed, self.directory = emulator, azfed, directory
        self.temp = os.path.join(directory, "temp")
        self.home = os.path.join(directory, "home")
        self.workspace = os.path.join(directory, "workspace")
        for path in (self.temp, self.home, self.workspace):
            os.makedirs(path, exist_ok=True)
        self.handed_over = {}
        self.masks = []
        self.platform_environment = emulator.environment(self.platform, **job) if self.platform else {}

    def base(self):
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": self.home, "LANG": "C.UTF-8"}

    def trust(self):
        """How each client finds the emulator's certificate authority."""
        ca = self.emulator.ca
        return {"SSL_CERT_FILE": ca, "REQUESTS_CA_BUNDLE": ca, "NODE_EXTRA_CA_CERTS": ca}

    def login_step(self):
        """What the step that runs azfed has in its environment."""
        return {**self.base(), **self.trust(), **self.platform_environment, **self.handed_over}

    def later_step(self):
        """What every step after it has."""
        return self.login_step()

    def run(self, *arguments, **variables):
        outcome = execute([self.azfed, *arguments], {**self.login_step(), **variables}, cwd=self.workspace)
        self.take(outcome)
        return outcome

    def take(self, outcome):
        raise NotImplementedError

    def log(self, outcome):
        """The step's log as people see it: without the commands that only add a mask, and with the masks applied."""
        lines = (outcome.stdout + outcome.stderr).splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith(self.MASKING))
        for mask in sorted(filter(None, self.masks), key=len, reverse=True):
            text = text.replace(mask, "***")
        return text


class GitHub(Runner):
    """Source: actions/runner src/Runner.Worker/FileCommandManager.cs, ActionCommandManager.cs."""

    platform = "github"
    MASKING = ("::add-mask::",)
    FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        self.outputs, self.state, self.summary = {}, {}, ""
        self.empty_files()

    def empty_files(self):
        for name in self.FILES:
            with open(self.file(name), "w", encoding="utf-8"):
                pass

    def file(self, name):
        return os.path.join(self.directory, name)

    def login_step(self):
        files = {name: self.file(name) for name in self.FILES}
        return {**super().login_step(), "RUNNER_TEMP": self.temp, **files}

    def run(self, *arguments, **variables):
        self.empty_files()
        return super().run(*arguments, **variables)

    def take(self, outcome):
        for line in (outcome.stdout + outcome.stderr).splitlines():
            if line.strip().startswith("::add-mask::"):
                value = line.strip().removeprefix("::add-mask::")
                self.masks.append(value.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%"))
        self.handed_over.update(self.parse("GITHUB_ENV"))
        self.outputs = self.parse("GITHUB_OUTPUT")
        self.state = self.parse("GITHUB_STATE")
        with open(self.file("GITHUB_STEP_SUMMARY"), encoding="utf-8") as file:
            self.summary = file.read()

    def parse(self, name):
        with open(self.file(name), encoding="utf-8", newline="") as file:
            lines = file.read().split("\n")
        values, position = {}, 0
        while position < len(lines):
            line = lines[position]
            position += 1
            if not line:
                continue
            equals, heredoc = line.find("="), line.find("<<")
            if equals >= 0 and (heredoc < 0 or equals < heredoc):
                values[line[:equals]] = line[equals + 1 :]
                continue
            assert heredoc > 0, f"invalid line in {name}: {line!r}"
            key, delimiter = line[:heredoc], line[heredoc + 2 :]
            end = lines.index(delimiter, position)
            assert end < len(lines) - 1, f"EOF marker missing new line in {name}"
            values[key] = "\n".join(lines[position:end])
            position = end + 1
        assert "NODE_OPTIONS" not in values
        return values


class AzureDevOps(Runner):
    """Source: azure-pipelines-agent src/Microsoft.VisualStudio.Services.Agent/Command.cs, TaskCommandExtension.cs."""

    platform = "azure-devops"
    MASKING = ("##vso[task.setsecret]",)

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        self.secret_variables = {}
        self.prepended = []

    def base(self):
        base = super().base()
        return {**base, "PATH": ":".join([*reversed(self.prepended), base["PATH"]])}

    def login_step(self):
        own = {"AGENT_TEMPDIRECTORY": self.temp, "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": self.emulator.world["connection"]}
        return {**super().login_step(), **own}

    def later_step(self):
        """A plain script step: secret variables and the job's access token are not mapped into it."""
        hidden = {"SYSTEM_ACCESSTOKEN", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID"}
        return {name: value for name, value in self.login_step().items() if name not in hidden}

    def take(self, outcome):
        for line in (outcome.stdout + "\n" + outcome.stderr).splitlines():
            found = re.search(r"##vso\[(\S+?)\.(\S+?)(?: ([^\]]*))?\](.*)", line)
            if not found:
                continue
            area, event, properties, data = found.groups()
            properties = dict(pair.split("=", 1) for pair in (properties or "").split(";") if "=" in pair)
            value = self.unescape(data)
            if (area, event) == ("task", "setsecret"):
                self.masks.append(value)
            elif (area, event) == ("task", "setvariable"):
                name = properties["variable"].upper().replace(".", "_").replace(" ", "_")
                if properties.get("issecret", "").lower() == "true":
                    self.secret_variables[name] = value
                else:
                    self.handed_over[name] = value
            elif (area, event) == ("task", "prependpath"):
                self.prepended.append(value)
            elif (area, event) == ("task", "uploadsummary"):
                assert os.path.isabs(value) and os.path.isfile(value), f"the agent finds no file: {line!r}"
            else:
                assert (area, event) == ("task", "logissue"), f"unexpected command {line!r}"

    @staticmethod
    def unescape(text):
        for escaped, plain in (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%AZP25", "%")):
            text = text.replace(escaped, plain)
        return text


class Shell(Runner):
    """`eval "$(azfed login)"` in one real shell, whose environment is then everything that later commands have."""

    def run(self, *arguments, **variables):
        if arguments[0] != "login":
            return super().run(*arguments, **variables)
        marker = "=== environment ==="
        quoted = " ".join("'" + argument.replace("'", r"'\''") + "'" for argument in (self.azfed, *arguments))
        script = f'set -e\neval "$({quoted})"\necho "{marker}"\nenv -0'
        outcome = execute(["sh", "-c", script], {**self.login_step(), **variables}, cwd=self.workspace)
        before, found, after = outcome.stdout.partition(marker + "\n")
        outcome.stdout = before
        if found:
            environment = dict(pair.split("=", 1) for pair in after.split("\0") if "=" in pair)
            known = self.login_step()
            self.handed_over.update({name: value for name, value in environment.items() if known.get(name) != value})
            for name in ("_", "PWD", "OLDPWD", "SHLVL"):
                self.handed_over.pop(name, None)
        return outcome

    def take(self, outcome):
        pass


class GitLab(Shell):
    """One job's shell."""

    platform = "gitlab"

    def login_step(self):
        return {**super().login_step(), "RUNNER_TEMP_PROJECT_DIR": self.temp}


class Pod(Shell):
    """A pod with a projected service account token, as azure-workload-identity's webhook sets it up."""

    platform = "kubernetes"

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        self.token_file = os.path.join(self.directory, "azure-identity-token")
        self.rotate(**job)

    def rotate(self, **job):
        query = "&".join(f"{name}={value}" for name, value in job.items())
        with open(self.token_file + ".new", "w", encoding="ascii") as file:
            file.write(self.emulator.call("GET", f"mint/kubernetes?{query}"))
        os.replace(self.token_file + ".new", self.token_file)

    def login_step(self):
        return {**super().login_step(), "TMPDIR": self.temp, "AZURE_FEDERATED_TOKEN_FILE": self.token_file, **self.handed_over}


class Elsewhere(Shell):
    """A job of another CI, or a workload of another cloud. `program` is the platform's own, which prints this job's token."""

    program, asked = None, ""

    def __init__(self, *arguments, **job):
        super().__init__(*arguments, **job)
        self.programs = os.path.join(self.directory, "bin")
        if self.program:
            self.token_file = os.path.join(self.directory, "printed-token")
            with open(self.token_file, "w", encoding="ascii") as token:
                token.write(self.emulator.call("GET", f"mint/{self.platform}?audience=api://AzureADTokenExchange{self.asked}"))
            os.makedirs(self.programs)
            path = os.path.join(self.programs, self.program)
            with open(path, "w", encoding="ascii") as program:
                program.write(f"#!/bin/sh\nexec cat '{self.token_file}'\n")
            os.chmod(path, 0o755)

    def base(self):
        base = super().base()
        return {**base, "PATH": f"{self.programs}:{base['PATH']}"}

    def login_step(self):
        return {**super().login_step(), "TMPDIR": self.temp, **self.handed_over}


class Buildkite(Elsewhere):
    platform, program, asked = "buildkite", "buildkite-agent", "&subject_claim=pipeline_id"


class CircleCI(Elsewhere):
    platform, program = "circleci", "circleci"


class HCPTerraform(Elsewhere):
    platform = "hcp-terraform"


class Spacelift(Elsewhere):
    platform = "spacelift"


class Semaphore(Elsewhere):
    platform = "semaphore"


class Codefresh(Elsewhere):
    platform = "codefresh"


class Jenkins(Elsewhere):
    platform, source = "jenkins", ("--assertion-env", "DEPLOY_ID_TOKEN")


class GoogleCloud(Elsewhere):
    platform, source = "google-cloud", ("--source", "google-cloud")


class AWS(Elsewhere):
    platform, source = "aws", ("--source", "aws")


class Forgejo(GitHub):
    """Its runner takes GitHub's files and commands."""

    platform = "forgejo"


class Gitea(Forgejo):
    platform = "gitea"


ALL = (GitHub, GitLab, AzureDevOps, Pod)
OTHERS = (Buildkite, CircleCI, HCPTerraform, Spacelift, Semaphore, Codefresh, Jenkins, Forgejo, Gitea, GoogleCloud, AWS)
