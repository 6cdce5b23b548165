//! A job: its environment, its temp, its runner's files, and what azfed did in it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use azfed_emulator::{Action, Emulator, Fault, Host, JobOverrides, Options, Platform, Workload, world};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use tempfile::TempDir;

/// One emulator and one job of one platform.
pub(crate) struct Job {
    pub(crate) emulator: Emulator,
    pub(crate) directory: TempDir,
    pub(crate) environment: BTreeMap<String, String>,
}

/// How a run of azfed ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Job {
    pub(crate) fn new(platform: Platform) -> Self {
        Self::with(platform, &JobOverrides::default())
    }

    pub(crate) fn with(platform: Platform, overrides: &JobOverrides) -> Self {
        let emulator = Emulator::start(Options::default()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("temp")).unwrap();
        let mut job = Self { environment: BTreeMap::new(), emulator, directory };
        job.environment.extend(job.emulator.platform_env(platform, overrides));
        let authority = job.emulator.authority();
        for (name, value) in [
            ("AZURE_CLIENT_ID", world::IDENTITY),
            ("AZURE_TENANT_ID", world::TENANT),
            ("AZURE_SUBSCRIPTION_ID", world::SUBSCRIPTION),
            ("AZURE_AUTHORITY_HOST", &authority),
        ] {
            job.set(name, value);
        }
        let temp = job.path("temp");
        match platform {
            Platform::Github => {
                job.set("RUNNER_TEMP", &temp);
                for name in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"] {
                    let path = job.path(name);
                    fs::write(&path, "").unwrap();
                    job.set(name, &path);
                }
            }
            Platform::AzureDevops => {
                job.set("AGENT_TEMPDIRECTORY", &temp);
                job.set("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", world::CONNECTION);
            }
            Platform::Gitlab => job.set("RUNNER_TEMP_PROJECT_DIR", &temp),
            Platform::Kubernetes => {
                job.set("TMPDIR", &temp);
                let file = job.path("token");
                fs::write(&file, job.emulator.mint(platform, overrides)).unwrap();
                job.set("AZURE_FEDERATED_TOKEN_FILE", &file);
            }
        }
        job
    }

    /// A command on a host that has managed identities, and no CI.
    pub(crate) fn on(host: Host) -> Self {
        let mut job = Self::new(Platform::Kubernetes);
        for name in ["AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"] {
            job.unset(name);
        }
        job.environment.extend(job.emulator.host_env(host));
        job
    }

    /// A job of another CI, or of a workload in another cloud. No host's endpoint is in reach.
    pub(crate) fn of(workload: Workload, overrides: &JobOverrides) -> Self {
        let mut job = Self::new(Platform::Kubernetes);
        job.unset("AZURE_FEDERATED_TOKEN_FILE");
        job.environment.extend(job.emulator.workload_env(workload, overrides));
        for name in ["AZURE_POD_IDENTITY_AUTHORITY_HOST", "AWS_ENDPOINT_URL"] {
            job.set(name, "http://127.0.0.1:1");
        }
        job.environment.entry("GCE_METADATA_HOST".to_owned()).or_insert("127.0.0.1:1".to_owned());
        job
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.remove(name);
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    /// What a shell makes of a script in which `azfed` is the binary.
    pub(crate) fn sh(&self, script: &str) -> Outcome {
        let script = format!("azfed() {{ {} \"$@\"; }}\n{script}", env!("CARGO_BIN_EXE_azfed"));
        let mut sh = Command::new("/bin/sh");
        sh.args(["-c", &script]).env_clear().envs(&self.environment).env("PATH", "/usr/bin:/bin");
        Outcome::of(&sh.current_dir(self.directory.path()).stdin(Stdio::null()).output().unwrap())
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_azfed"));
        command.args(arguments).env_clear().envs(&self.environment).stdin(Stdio::null());
        command.current_dir(self.directory.path());
        command
    }

    /// The same where there is no network at all, and so no instance metadata service.
    #[cfg(target_os = "linux")]
    pub(crate) fn run_without_network(&self, arguments: &[&str]) -> Outcome {
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let mut command = Command::new("unshare");
        command.args(if is_root { &["--net"][..] } else { &["--map-root-user", "--net"] });
        command.arg(env!("CARGO_BIN_EXE_azfed")).args(arguments);
        command.env_clear().envs(&self.environment).env("PATH", "/usr/bin:/bin");
        Outcome::of(&command.current_dir(self.directory.path()).stdin(Stdio::null()).output().unwrap())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&self.command(arguments).output().unwrap())
    }

    /// Lets requests of a kind go wrong from now on: so many, or all for 0.
    pub(crate) fn fault(&self, kind: &str, times: u32, action: Action) {
        self.emulator.fault(Fault { kind: kind.to_owned(), times, after: 0, late_ms: 0, action });
    }

    /// An az that does this, first on the path.
    pub(crate) fn az(&mut self, script: &str) {
        self.program("az", script);
    }

    /// A program that does this, first on the path.
    pub(crate) fn program(&mut self, name: &str, script: &str) {
        let directory = self.path("bin");
        fs::create_dir_all(&directory).unwrap();
        let program = format!("{directory}/{name}");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        assert!(Command::new("chmod").args(["755", &program]).status().unwrap().success());
        self.set("PATH", &format!("{directory}:/usr/bin:/bin"));
    }

    /// The az of somebody who is logged in, with this access token for Azure Resource Manager and for nothing else.
    pub(crate) fn az_with(&mut self, access_token: &str) {
        let answer = serde_json::json!({ "accessToken": access_token, "tokenType": "Bearer" });
        self.az_for_a_token(&format!("echo '{answer}'"));
    }

    /// An az that does this when it is asked for an access token for Azure Resource Manager, and nothing else.
    pub(crate) fn az_for_a_token(&mut self, script: &str) {
        let asked = "account get-access-token --output json --resource https://management.azure.com";
        self.az(&format!("[ \"$*\" = '{asked}' ] || exit 9\n{script}"));
    }

    /// Every file in the job's temp, but the summaries that the Azure DevOps agent reads later.
    pub(crate) fn left_in_temp(&self) -> Vec<PathBuf> {
        let left = files_below(&self.directory.path().join("temp")).into_iter();
        left.filter(|path| !is_summary(path)).collect()
    }

    /// What those summaries say.
    pub(crate) fn summaries(&self) -> Vec<String> {
        let files = files_below(&self.directory.path().join("temp")).into_iter();
        files.filter(|path| is_summary(path)).map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// The secrets that stand in `text`, as they are, in base64 or in a URL, with mask commands left out.
    pub(crate) fn leaks(&self, text: &str) -> Vec<String> {
        let masks = ["::add-mask::", "##vso[task.setsecret]"];
        let text: Vec<&str> =
            text.lines().filter(|line| !masks.iter().any(|mask| line.starts_with(mask))).collect();
        let text = text.join("\n");
        // folded into lines, it is still there for whoever can join lines
        let text = format!("{text}\n{}", text.replace([' ', '\r', '\n'], ""));
        let spelled = |secret: &str| {
            let mut spellings = vec![secret.to_owned()];
            for (engine, offset) in
                [(STANDARD, 0), (STANDARD, 1), (STANDARD, 2), (URL_SAFE, 0), (URL_SAFE, 1), (URL_SAFE, 2)]
            {
                let encoded = engine.encode([&b"   "[..offset], secret.as_bytes()].concat());
                spellings.push(encoded[4..encoded.len() - 4].to_owned());
            }
            spellings.push(secret.replace('=', "%3D"));
            for (escape, byte) in [("%2E", '.'), ("%2e", '.'), ("\\u002e", '.')] {
                spellings.push(secret.replace(byte, escape));
            }
            let percent = secret.replace('-', "%2D").replace('_', "%5F").replace('.', "%2E");
            spellings.push(percent.clone());
            spellings.push(percent.replace('%', "%25"));
            if let [_, _, signature] = secret.split('.').collect::<Vec<_>>()[..] {
                spellings.push(signature.to_owned());
                spellings.push(signature.replace('-', "%2D").replace('_', "%5F"));
            }
            spellings
        };
        let secrets = self.emulator.secrets();
        secrets
            .into_iter()
            .filter(|secret| spelled(secret).iter().any(|spelling| text.contains(spelling)))
            .collect()
    }

    /// The outcome as a snapshot has it: what changes from run to run is replaced.
    pub(crate) fn show(&self, outcome: &Outcome) -> String {
        let mut shown =
            format!("exit code {}\n", outcome.code.map_or("none".to_owned(), |code| code.to_string()));
        for (name, text) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            if !text.is_empty() {
                let _ = write!(shown, "--- {name}\n{}", self.stable(text));
                if !text.ends_with('\n') {
                    shown.push('\n');
                }
            }
        }
        shown
    }

    /// Text without this run's ports, paths, ids and secrets.
    pub(crate) fn stable(&self, text: &str) -> String {
        let mut text = text.replace(self.directory.path().to_str().unwrap(), "<job>");
        for secret in self.emulator.secrets() {
            text = text.replace(&secret, "<secret>");
        }
        for url in [self.emulator.http_url(), self.emulator.https_url()] {
            let (_, address) = url.split_once("://").unwrap();
            text = text.replace(address, "<emulator>");
        }
        text
    }
}

fn is_summary(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.starts_with("azfed-summary-") && Path::new(name).extension().is_some_and(|end| end == "md")
}

/// An answer with this status, and no body.
pub(crate) fn status(status: u16, headers: &[(&str, &str)]) -> Action {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Action::Status { status, body: String::new(), headers }
}

/// Sends a request as it stands to a port on loopback: status, head in lower case, body.
pub(crate) fn send(port: u16, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// A GET of a path on such a port.
pub(crate) fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    send(
        port,
        &format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{}\r\n",
            headers.concat()
        ),
    )
}

/// The port of a URL on loopback, and its path with the query.
pub(crate) fn port_and_path(url: &str) -> (u16, String) {
    let (address, path) = url.strip_prefix("http://127.0.0.1:").unwrap().split_once('/').unwrap();
    (address.parse().unwrap(), format!("/{path}"))
}

impl Outcome {
    pub(crate) fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
            files.push(path);
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Compares with a snapshot, less what changes from run to run.
macro_rules! assert_shown {
    ($name:expr, $shown:expr) => {
        insta::with_settings!({
            omit_expression => true,
            prepend_module_to_snapshot => false,
            snapshot_path => "snapshots",
            filters => vec![
                (r"azfed-[A-Za-z0-9]{12}\b", "azfed-<random>"),
                (r"azfed-summary-[A-Za-z0-9]{12}", "azfed-summary-<random>"),
                (r"trace [0-9a-f-]{36} correlation [0-9a-f-]{36} \S+ \S+", "trace <id> correlation <id> <time>"),
                (r"(localhost|sni\.ests\.aks):\d+", "$1:<port>"),
                (r"(?:(azfed: .*; trying again in )\d+\.\d s\n)+", "${1}<wait> s\n"),
                (r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "until <time>"),
                (r"trying again in \d+\.\d s", "trying again in <wait> s"),
                (r"ghadelimiter_[0-9a-f-]{36}", "ghadelimiter_<random>"),
                (r"\b1[789]\d{8}\b", "<seconds>"),
                (r"\d+ s of them left", "<some> s of them left"),
                (r"clock is \d+ s", "clock is <some> s"),
                (r"process \d+ keeps", "process <pid> keeps"),
                (r"expired \d+ s ago", "expired <some> s ago"),
            ],
        }, { insta::assert_snapshot!($name, $shown) });
    };
}
pub(crate) use assert_shown;
