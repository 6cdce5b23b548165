//! No secret of a run stands anywhere but where the docs say so: one loop over every command, outcome and verbosity.
//!
//! A cell is one run of the shipped binary. Of each, everything that others can see is looked through: stdout, stderr,
//! every file below the job's temp, home and workspace, the runner's files, the requests' URLs, and the arguments and
//! environments of azfed and of whatever it has started, read while they are alive.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::Read,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use azfed_emulator::{Action, Host, JobOverrides, Platform, Spelling, world};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use clap::CommandFactory;

use crate::harness::{Job, files_below};

/// The only variables that hold a secret (README, "What later steps have"): what opens the endpoints.
const OPENING: [&str; 4] = ["IDENTITY_HEADER", "MSI_SECRET", "ARM_OIDC_REQUEST_TOKEN", "ARM_MSI_ENDPOINT"];
/// The only files that hold one, mode 0600, below the login's directory (docs/threat-model.md).
const LOGIN_FILES: [&str; 3] =
    ["assertion", "azure/service_principal_entries.json", "azure/msal_token_cache.json"];
/// Of the proxy that every job here has, and that nothing on loopback goes through.
const PROXY_PASSWORD: &str = "Pr0xy-Pa55word.of-the-machine";
/// What az prints beside an access token, in some versions.
const REFRESH_TOKEN: &str = "0.AAAAsentinelRefreshToken-of_the_operator";
/// As long as a client secret of Entra's, and in its form.
const CLIENT_SECRET: &str = "xyz8Q~sentinelsentinelsentinelsentinel.1";

// ---- finding ----------------------------------------------------------------------------------------------------

/// A piece of a secret of so many characters is one.
const SHORTEST: usize = 16;
/// In each such piece there is one of these at a multiple of its length.
const BLOCK: usize = SHORTEST / 2;

/// Finds each piece of 16 characters of a secret, as it is and in base64, in a text that may be folded into lines, and
/// escaped twice. Of a JWT the signature is meant: without it the rest proves nothing.
struct Finder {
    forms: Vec<(String, Vec<u8>)>,
    blocks: HashMap<[u8; BLOCK], Vec<(usize, usize)>>,
    may_begin: Vec<bool>,
}

impl Finder {
    fn new<'a>(secrets: impl IntoIterator<Item = &'a String>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            let parts: Vec<&str> = secret.split('.').collect();
            let is_jwt = secret.starts_with("eyJ") && parts.len() == 3;
            let kernel = if is_jwt { parts[2] } else { secret.as_str() };
            let whose = if is_jwt { format!("the signature {}…", &kernel[..8]) } else { secret.clone() };
            forms.push((whose.clone(), kernel.as_bytes().to_vec()));
            for engine in [STANDARD, URL_SAFE] {
                for offset in 0..3 {
                    let encoded = engine.encode([&b"   "[..offset], kernel.as_bytes()].concat()).into_bytes();
                    forms.push((format!("{whose} in base64"), encoded[4..encoded.len() - 4].to_vec()));
                }
            }
        }
        let mut blocks: HashMap<[u8; BLOCK], Vec<(usize, usize)>> = HashMap::new();
        let mut may_begin = vec![false; 1 << 16];
        for (form, (_, bytes)) in forms.iter().enumerate() {
            for at in (0..bytes.len().saturating_sub(BLOCK - 1)).step_by(BLOCK) {
                let block: [u8; BLOCK] = bytes[at..at + BLOCK].try_into().unwrap();
                may_begin[hash(&block)] = true;
                blocks.entry(block).or_default().push((form, at));
            }
        }
        Self { forms, blocks, may_begin }
    }

    /// Whose secret stands in a text, and in which form.
    fn find(&self, text: &[u8]) -> Option<&str> {
        let folded = |text: &[u8]| -> Vec<u8> {
            text.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte != 0).collect()
        };
        let mut last = text.to_vec();
        self.find_plain(&folded(text)).or_else(|| {
            for _ in 0..2 {
                let next = unescaped(&last);
                if next == last {
                    break;
                }
                if let Some(found) = self.find_plain(&folded(&next)) {
                    return Some(found);
                }
                last = next;
            }
            None
        })
    }

    fn find_plain(&self, text: &[u8]) -> Option<&str> {
        let forwards = |form: &[u8], at: usize, place: usize| {
            form[at..].iter().zip(&text[place..]).take_while(|(one, other)| one == other).count()
        };
        let backwards = |form: &[u8], at: usize, place: usize| {
            let pairs = form[..at].iter().rev().zip(text[..place].iter().rev());
            pairs.take_while(|(one, other)| one == other).count()
        };
        for (place, window) in text.windows(BLOCK).enumerate() {
            if !self.may_begin[hash(window)] {
                continue;
            }
            for (form, at) in self.blocks.get(window).into_iter().flatten() {
                let (whose, bytes) = &self.forms[*form];
                if forwards(bytes, *at, place) + backwards(bytes, *at, place) >= SHORTEST {
                    return Some(whose);
                }
            }
        }
        None
    }
}

fn hash(block: &[u8]) -> usize {
    (usize::from(block[0]) ^ usize::from(block[5]) << 4) & 0xff
        | (usize::from(block[2]) ^ usize::from(block[7]) << 3) << 8 & 0xff00
}

/// The text as whoever unescapes it reads it: URLs, JSON, HTML, C.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let hex = |digits: Option<&[u8]>| u8::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    let mut clean = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let html = || {
            let end = rest.iter().take(8).position(|byte| *byte == b';')?;
            let number = std::str::from_utf8(rest.get(2..end)?).ok()?;
            let byte = number
                .strip_prefix('x')
                .map_or_else(|| number.parse().ok(), |digits| u8::from_str_radix(digits, 16).ok())?;
            Some((byte, end + 1))
        };
        let escape = match rest[0] {
            b'%' => hex(rest.get(1..3)).map(|byte| (byte, 3)),
            b'\\' if rest.starts_with(b"\\u00") => hex(rest.get(4..6)).map(|byte| (byte, 6)),
            b'\\' if rest.starts_with(b"\\x") => hex(rest.get(2..4)).map(|byte| (byte, 4)),
            b'\\' if rest.get(1).is_some_and(|next| b"nrt".contains(next)) => Some((b'\n', 2)),
            b'\\' => rest.get(1).map(|next| (*next, 2)),
            b'&' if rest.starts_with(b"&#") => html(),
            _ => None,
        };
        let (byte, length) = escape.unwrap_or((rest[0], 1));
        clean.push(byte);
        at += length;
    }
    clean
}

// ---- judging ----------------------------------------------------------------------------------------------------

/// What others can see of a run.
#[derive(Default, Clone)]
struct Seen {
    stdout: String,
    stderr: String,
    /// By their paths below the job's directory.
    files: BTreeMap<String, SeenFile>,
    processes: BTreeSet<Process>,
    urls: String,
}

#[derive(Clone)]
struct SeenFile {
    mode: u32,
    /// Of its directories, up to the login's.
    directories: u32,
    content: Vec<u8>,
}

/// A process, as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    arguments: Vec<u8>,
    environment: Vec<u8>,
}

impl Process {
    /// Which of azfed's processes it is; nothing where it is another program.
    fn role(&self) -> Option<&str> {
        let mut words =
            self.arguments.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).unwrap_or(""));
        words.next()?.ends_with("/azfed").then(|| words.next().unwrap_or_default())
    }
}

/// Where this run's secrets may stand.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
struct Rules {
    stdout: Printed,
    /// What the runner's command begins with that hides a value, where there is one.
    mask: Option<&'static str>,
    /// Whether a login was to be left.
    leaves_a_login: bool,
    access_token_output: bool,
    /// The platform's own variables that hold a secret, which `exec` passes on.
    own: Vec<&'static str>,
    is_exec: bool,
    /// Whether the user has written a secret on the command line.
    is_mistake: bool,
}

/// What a command prints because it is asked to.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Printed {
    #[default]
    NoSecret,
    /// One secret and nothing else.
    Secret,
    /// The same in the field `token`.
    Json,
}

/// What of a text has its place there by the docs: the runner's mask commands, and the variables that open the
/// endpoints, in each form of the hand-over.
fn without_documented(text: &str, rules: &Rules, all: &Finder) -> String {
    let mut rest = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let is_mask = rules.mask.is_some_and(|mask| line.starts_with(mask));
        let sets = |name: &&str| {
            [
                format!("export {name}="),
                format!("set -gx {name} "),
                format!("$env:{name} = "),
                format!("    \"{name}\": "),
                format!("##vso[task.setvariable variable={name}]"),
            ]
            .iter()
            .any(|start| line.starts_with(start))
        };
        let mut value = OPENING.iter().any(sets).then(|| line.to_owned());
        // GitHub's: NAME<<delimiter
        if let Some((name, delimiter)) = line.split_once("<<")
            && OPENING.contains(&name)
        {
            value = Some(lines.by_ref().take_while(|line| *line != delimiter).collect());
        }
        let is_documented = value.is_some_and(|value| opens(&value, all));
        if !is_mask && !is_documented {
            rest += line;
            rest.push('\n');
        }
    }
    rest
}

/// The lines of a GitHub file without one of its values.
fn without_value(text: &str, name: &str) -> String {
    let mut rest = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.split_once("<<") {
            Some((found, delimiter)) if found == name => {
                lines.by_ref().take_while(|line| *line != delimiter).for_each(drop);
            }
            _ => {
                rest += line;
                rest.push('\n');
            }
        }
    }
    rest
}

/// Every secret that is where it must not be.
fn judge(seen: &Seen, rules: &Rules, secrets: &BTreeSet<String>) -> Vec<String> {
    let all = Finder::new(secrets);
    // most texts have none at all
    let documented = |text: &str| match all.find(text.as_bytes()) {
        Some(_) => without_documented(text, rules, &all),
        None => String::new(),
    };
    let mut leaks = Vec::new();
    let mut look = |place: &str, text: &[u8]| {
        if let Some(found) = all.find(text) {
            leaks.push(format!("{found} in {place}: {}", String::from_utf8_lossy(text)));
        }
    };

    let mut stdout = documented(&seen.stdout);
    match rules.stdout {
        Printed::Secret if secrets.contains(seen.stdout.trim_end_matches('\n')) => stdout.clear(),
        Printed::Json => {
            if let Ok(mut object) = serde_json::from_str::<serde_json::Value>(&seen.stdout)
                && object["token"].as_str().is_some_and(|token| secrets.contains(token))
            {
                object["token"] = "".into();
                stdout = object.to_string();
            }
        }
        _ => {}
    }
    look("stdout", stdout.as_bytes());
    look("stderr", documented(&seen.stderr).as_bytes());
    look("a URL", seen.urls.as_bytes());

    for (path, file) in &seen.files {
        look("a file's name", path.as_bytes());
        let text = String::from_utf8_lossy(&file.content);
        let below_login = path.strip_prefix("temp/azfed-").and_then(|rest| rest.split_once('/'));
        let holds = below_login.is_some_and(|(_, path)| LOGIN_FILES.contains(&path));
        let content = match path.as_str() {
            _ if holds && rules.leaves_a_login && (file.mode, file.directories) == (0o600, 0o700) => {
                String::new()
            }
            "GITHUB_ENV" => documented(&text),
            "GITHUB_OUTPUT" if rules.access_token_output => without_value(&text, "access-token"),
            _ => text.into_owned(),
        };
        look(path, content.as_bytes());
    }

    for process in &seen.processes {
        let role = process.role();
        let is_users = rules.is_mistake && !matches!(role, Some("keep" | "watch"));
        if !is_users {
            look("arguments", &process.arguments);
        }
        // what the platform gave to azfed itself is its own, and the operator's to the operator's az
        let is_execs = rules.is_exec && matches!(role, None | Some("become"));
        if rules.is_mistake || !is_execs && !matches!(role, Some("keep" | "watch")) {
            continue;
        }
        for variable in process.environment.split(|byte| *byte == 0) {
            let text = String::from_utf8_lossy(variable);
            let (name, value) = text.split_once('=').unwrap_or_default();
            let is_proxys = name.to_ascii_lowercase().ends_with("_proxy") && value.contains(PROXY_PASSWORD);
            let is_allowed = match role {
                Some("watch") => false,
                Some("keep") => is_proxys,
                _ => is_proxys || OPENING.contains(&name) && opens(value, &all) || rules.own.contains(&name),
            };
            if !is_allowed {
                look(&format!("the environment of {}", role.unwrap_or("the command")), variable);
            }
        }
    }
    leaks
}

/// What opens the endpoints: 256 random bits. Nothing else that azfed writes looks like it.
fn is_opening(secret: &str) -> bool {
    secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a text has nothing secret in it but what opens the endpoints.
fn opens(text: &str, all: &Finder) -> bool {
    let others = openings(text.as_bytes()).fold(text.to_owned(), |text, opening| text.replace(&opening, ""));
    all.find(others.as_bytes()).is_none()
}

/// Everything of that form in a text.
fn openings(text: &[u8]) -> impl Iterator<Item = String> + '_ {
    text.split(|byte| !byte.is_ascii_alphanumeric())
        .filter_map(|word| std::str::from_utf8(word).ok())
        .filter(|word| is_opening(word))
        .map(ToOwned::to_owned)
}

// ---- looking ----------------------------------------------------------------------------------------------------

/// A process and everything that it has started, as far as it can be read in one piece.
fn processes_below(pid: u32, found: &mut BTreeSet<Process>) {
    found.extend(process(pid));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            processes_below(child, found);
        }
    }
}

/// One that has just been forked shows its parent's memory until it is another program: so its parent's command line must
/// be another one, and the same before and after.
fn process(pid: u32) -> Option<Process> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let arguments = read("cmdline").filter(|arguments| !arguments.is_empty())?;
    let environment = read("environ")?;
    let status = String::from_utf8(read("status")?).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    let is_forked = fs::read(format!("/proc/{parent}/cmdline")).ok()? == arguments;
    (!is_forked && read("cmdline")? == arguments).then_some(Process { arguments, environment })
}

fn seen_files(job: &Job) -> BTreeMap<String, SeenFile> {
    let root = job.directory.path();
    let mode =
        |path: &Path| fs::symlink_metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    let mut seen = BTreeMap::new();
    let runners =
        ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"].map(|name| root.join(name));
    let below = ["temp", "home", "workspace"].into_iter().flat_map(|name| files_below(&root.join(name)));
    for path in below.chain(runners).filter(|path| path.is_file()) {
        let relative = path.strip_prefix(root).unwrap();
        let own = path.ancestors().skip(1).take_while(|path| !path.ends_with("temp") && *path != root);
        let directories = own.map(mode).fold(0, |all, mode| all | mode);
        let content = fs::read(&path).unwrap_or_default();
        seen.insert(
            relative.to_str().unwrap().to_owned(),
            SeenFile { mode: mode(&path), directories, content },
        );
    }
    seen
}

// ---- the loop ---------------------------------------------------------------------------------------------------

/// Where a job runs: what asks for its identity, and which variables of the platform hold a secret.
struct Stand {
    name: &'static str,
    job: fn() -> Job,
    /// The request by which it gets what Entra is shown, or the access token itself.
    kind: &'static str,
    own: &'static [&'static str],
}

const STANDS: [Stand; 9] = [
    Stand {
        name: "GitHub",
        job: || Job::new(Platform::Github),
        kind: "github.assertion",
        own: &["ACTIONS_ID_TOKEN_REQUEST_TOKEN"],
    },
    Stand {
        name: "GitLab",
        job: || Job::new(Platform::Gitlab),
        kind: "entra.token",
        own: &["AZURE_ID_TOKEN"],
    },
    Stand {
        name: "Azure DevOps",
        job: || Job::new(Platform::AzureDevops),
        kind: "azure-devops.assertion",
        own: &["SYSTEM_ACCESSTOKEN"],
    },
    Stand { name: "pod", job: || Job::new(Platform::Kubernetes), kind: "entra.token", own: &[] },
    Stand { name: "bound pod", job: bound_pod, kind: "token-proxy", own: &[] },
    Stand { name: "virtual machine", job: || Job::on(Host::Imds), kind: "imds", own: &[] },
    Stand { name: "App Service", job: || Job::on(Host::AppService), kind: "app-service", own: &[] },
    Stand { name: "Service Fabric", job: || Job::on(Host::ServiceFabric), kind: "service-fabric", own: &[] },
    Stand { name: "Machine Learning", job: || Job::on(Host::AzureMl), kind: "azure-ml", own: &[] },
];

fn bound_pod() -> Job {
    let audience = Some(azfed_emulator::IDENTITY_BINDING_AUDIENCE.to_owned());
    let mut job = Job::with(Platform::Kubernetes, &JobOverrides { audience, ..JobOverrides::default() });
    let host = job.emulator.host_env(Host::IdentityBinding);
    job.environment.extend(host);
    job
}

/// Every command; `@` is Azure Resource Manager's URL, `!` the command that `exec` runs. Those of the second list differ in
/// the hand-over alone, and those of the third ask no platform.
const COMMANDS: [&[&str]; 21] = [
    &["login"],
    &["login", "--keep-fresh"],
    &["login", "--endpoints"],
    &["login", "--endpoints", "--allow-scope", "https://vault.azure.net"],
    &["login", "--output-access-token"],
    &[
        "login",
        "--via",
        "managed-identity",
        "--client-id",
        world::APPLICATION,
        "--via-client-id",
        world::IDENTITY,
    ],
    &["login", "--identity-map", "identities.json"],
    &["exec", "!"],
    &["exec", "--allow-scope", "https://vault.azure.net", "!"],
    &["token"],
    &["token", "--format", "json", "--scope", "https://vault.azure.net"],
    &["assertion"],
    &["doctor", "--resource-manager", "@"],
    &["doctor", "--resource-manager", "@", "--json"],
    &["doctor", "--offline"],
    &["doctor", "--resource-manager", "@", "--with-arm"],
    &["trust", "here"],
    &["trust", "check", "credentials.json"],
    &[
        "trust",
        "apply",
        "credentials.json",
        "--subscription-id",
        world::SUBSCRIPTION,
        "--resource-group",
        "contoso-prod",
        "--identity",
        "infra-prod",
        "--resource-manager",
        "@",
    ],
    &[
        "trust",
        "apply",
        "credentials.json",
        "--subscription-id",
        world::SUBSCRIPTION,
        "--resource-group",
        "contoso-prod",
        "--identity",
        "infra-prod",
        "--resource-manager",
        "@",
        "--yes",
    ],
    &["logout"],
];
const FORMS: [&[&str]; 13] = [
    &["login", "--output", "sh"],
    &["login", "--output", "powershell"],
    &["login", "--output", "fish"],
    &["login", "--output", "dotenv"],
    &["login", "--output", "json"],
    &["login", "--output", "github"],
    &["login", "--output", "azure-devops"],
    &["login", "--output", "sh", "--endpoints"],
    &["login", "--output", "powershell", "--endpoints"],
    &["login", "--output", "fish", "--endpoints"],
    &["login", "--output", "json", "--endpoints"],
    &["login", "--output", "github", "--endpoints"],
    &["login", "--output", "azure-devops", "--endpoints"],
];
const DESCRIBED: [&[&str]; 2] = [
    &["trust", "github", "--repo", "contoso/infra", "--environment", "prod"],
    &["trust", "gitlab", "--project", "contoso/infra", "--branch", "main", "--as", "json"],
];

/// What makes a command that fails alike everywhere.
const ALIKE: [&str; 8] = [
    "--output-access-token",
    "--via",
    "--identity-map",
    "--format",
    "--json",
    "--offline",
    "--with-arm",
    "check",
];

const VAULT: &str = "https%3A%2F%2Fvault.azure.net";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loudness {
    Quiet,
    Plain,
    Verbose,
    /// The same, and every variable by which platforms, Rust and TLS libraries are asked to tell more.
    Debugged,
}

impl Loudness {
    const ALL: [Self; 4] = [Self::Quiet, Self::Plain, Self::Verbose, Self::Debugged];

    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Quiet => Some("-q"),
            Self::Plain => None,
            Self::Verbose | Self::Debugged => Some("-v"),
        }
    }

    fn set(self, job: &mut Job) {
        if self != Self::Debugged {
            return;
        }
        for name in ["ACTIONS_STEP_DEBUG", "ACTIONS_RUNNER_DEBUG", "SYSTEM_DEBUG", "CI_DEBUG_TRACE"] {
            job.set(name, "true");
        }
        for (name, value) in [("RUNNER_DEBUG", "1"), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")] {
            job.set(name, value);
        }
        let keys = job.path("workspace/tls-keys.log");
        job.set("SSLKEYLOGFILE", &keys);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    /// Entra refuses.
    Refused,
    /// Entra, or the cluster's proxy, refuses and repeats the request.
    EntraRepeats,
    /// The platform or the host does.
    SourceRepeats,
    /// Azure Resource Manager does.
    ManagerRepeats,
    /// Everybody repeats the request in a fault that passes, until time is up.
    FaultRepeats,
    /// Nobody answers.
    Dead,
    /// Only a proxy leads out, which has a password, and opens no tunnel.
    Proxied,
    /// An answer of another form, with a token in it.
    Malformed,
    /// The hand-over fails: no temp directory that can be written, stdout is full, the runner's file is no file.
    NoTemp,
    FullStdout,
    NoRunnersFile,
    /// az fails, and says its token.
    AzFails,
    /// SIGTERM in the middle.
    Interrupted,
    /// A fault of the program itself, in the middle: SIGSEGV.
    Crashed,
    /// Works; then what renews and serves is refused by everybody, with the request repeated.
    RefusedLater,
    /// A token, a password, a client secret where none belongs: on the command line, or in a variable.
    Mistake,
}

impl Outcome {
    const ALL: [Self; 15] = [
        Self::Success,
        Self::Refused,
        Self::EntraRepeats,
        Self::SourceRepeats,
        Self::ManagerRepeats,
        Self::FaultRepeats,
        Self::Dead,
        Self::Proxied,
        Self::Malformed,
        Self::NoTemp,
        Self::FullStdout,
        Self::NoRunnersFile,
        Self::AzFails,
        Self::Interrupted,
        Self::Crashed,
    ];

    /// Whether it has nothing to do with where the job runs.
    fn is_alike_everywhere(self) -> bool {
        matches!(
            self,
            Self::ManagerRepeats | Self::FullStdout | Self::NoRunnersFile | Self::AzFails | Self::Crashed
        )
    }

    /// Whether the forms of the hand-over are worth telling apart.
    fn is_of_the_hand_over(self) -> bool {
        matches!(self, Self::Success | Self::NoTemp | Self::FullStdout | Self::NoRunnersFile)
    }
}

/// One run: where, of what, how it ends, how loud.
struct Cell {
    outcome: Outcome,
    loudness: Loudness,
    arguments: Vec<String>,
    /// A variable that is changed.
    variable: Option<(String, String)>,
    /// Which of several spellings and moments.
    turn: usize,
}

/// A job and its runs, one after the other.
struct Work {
    stand: &'static Stand,
    cells: Vec<Cell>,
}

/// What a run was seen to have, for the count at the end.
#[derive(Default)]
struct Tally {
    cells: usize,
    succeeded: usize,
    roles: BTreeMap<String, usize>,
    leaks: Vec<String>,
}

fn work() -> Vec<Work> {
    let words = |command: &[&str]| command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut work = Vec::new();
    for stand in &STANDS {
        let is_first = stand.name == STANDS[0].name;
        let mut all = Vec::new();
        for outcome in Outcome::ALL {
            for loudness in Loudness::ALL {
                // each of them everywhere, and each in every loudness at least once
                if !is_first && (loudness != Loudness::Debugged || outcome.is_alike_everywhere()) {
                    continue;
                }
                let forms = FORMS.iter().filter(|_| outcome.is_of_the_hand_over());
                let described = DESCRIBED.iter().filter(|_| is_first);
                let is_any = |command: &&&[&str]| {
                    is_first
                        || outcome == Outcome::Success
                        || !command.iter().any(|word| ALIKE.contains(word))
                };
                let commands: Vec<_> = COMMANDS.iter().filter(is_any).chain(forms).chain(described).collect();
                let cells = commands.into_iter().enumerate().map(|(turn, command)| Cell {
                    outcome,
                    loudness,
                    arguments: words(command),
                    variable: None,
                    turn: turn + loudness as usize,
                });
                all.extend(cells);
            }
        }
        for command in [COMMANDS[0], COMMANDS[2], COMMANDS[7]] {
            let (outcome, loudness) = (Outcome::RefusedLater, Loudness::Debugged);
            all.push(Cell { outcome, loudness, arguments: words(command), variable: None, turn: 0 });
        }
        all.extend(mistakes().into_iter().filter(|_| is_first));
        // what waits long stands side by side in the list
        let mut jobs: Vec<Vec<Cell>> = (0..all.len().div_ceil(90)).map(|_| Vec::new()).collect();
        let places = (0..jobs.len()).cycle();
        all.into_iter().zip(places).for_each(|(cell, place)| jobs[place].push(cell));
        work.extend(jobs.into_iter().map(|cells| Work { stand, cells }));
    }
    work
}

/// Stands for a token until there is one.
const TOKEN: &str = "<token>";

/// A secret in each option of each command, and in each variable that azfed knows.
fn mistakes() -> Vec<Cell> {
    let password = format!("https://user:{PROXY_PASSWORD}@127.0.0.1:1/x");
    let values = [TOKEN, &password, CLIENT_SECRET];
    let mut wrong: Vec<(Vec<String>, Option<(String, String)>)> = Vec::new();
    let mut known = BTreeSet::new();
    let mut root = azfed::cli::Args::command();
    root.build();
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let own = std::iter::once((vec![command.get_name()], command));
        let below =
            command.get_subcommands().map(|child| (vec![command.get_name(), child.get_name()], child));
        for (path, command) in own.chain(below) {
            let options = command.get_arguments().filter(|argument| argument.get_action().takes_values());
            for option in options.filter_map(clap::Arg::get_long) {
                // the same option means the same in each command
                let values = if known.insert(option.to_owned()) { &values[..] } else { &[] };
                for value in values {
                    let words = path.iter().map(|word| (*word).to_owned());
                    wrong.push((words.chain([format!("--{option}={value}")]).collect(), None));
                }
            }
            for more in
                [format!("--token={TOKEN}"), format!("--client-secret={CLIENT_SECRET}"), TOKEN.to_owned()]
            {
                let words = path.iter().map(|word| (*word).to_owned());
                wrong.push((words.chain([more]).collect(), None));
            }
        }
    }
    let names = include_str!("../../src/env.rs").lines().filter_map(|line| {
        let (_, value) = line.trim().strip_prefix("pub const ")?.split_once(": &str = \"")?;
        value.strip_suffix("\";").filter(|name| !["TMPDIR", "TEMP"].contains(name))
    });
    for name in names {
        for value in values {
            for command in [&["login", "--timeout", "1"][..], &["doctor", "--offline"]] {
                let command = command.iter().map(|word| (*word).to_owned()).collect();
                wrong.push((command, Some((name.to_owned(), value.to_owned()))));
            }
        }
    }
    let cell = |(turn, (arguments, variable))| {
        let (outcome, loudness) = (Outcome::Mistake, Loudness::Debugged);
        Cell { outcome, loudness, arguments, variable, turn }
    };
    wrong.into_iter().enumerate().map(cell).collect()
}

/// A job with a home, a workspace, an operator's az, and a proxy with a password that leads nowhere.
fn prepare(work: &Work) -> (Job, BTreeSet<String>) {
    let mut job = (work.stand.job)();
    for name in ["home", "workspace", "outside", "directory"] {
        fs::create_dir(job.path(name)).unwrap();
    }
    let (home, temp) = (job.path("home"), job.path("temp"));
    job.set("HOME", &home);
    job.set("TMPDIR", &temp);
    job.set("HTTPS_PROXY", &format!("http://user:{PROXY_PASSWORD}@127.0.0.1:1"));
    let nobody = "http://127.0.0.1:1".to_owned();
    job.environment.entry("AZURE_POD_IDENTITY_AUTHORITY_HOST".to_owned()).or_insert(nobody);
    az_of(&mut job);
    let secrets = job.emulator.secrets().into_iter();
    let ours = [
        PROXY_PASSWORD,
        REFRESH_TOKEN,
        CLIENT_SECRET,
        &job.emulator.mint(Platform::Gitlab, &JobOverrides::default()),
    ];
    let secrets = secrets.chain(ours.map(ToOwned::to_owned)).collect();
    (job, secrets)
}

/// The az of an operator, which prints more than it is asked for.
fn az_of(job: &mut Job) {
    let operator = job.emulator.operator_token();
    let answer =
        serde_json::json!({ "accessToken": operator, "refreshToken": REFRESH_TOKEN, "tokenType": "Bearer" });
    job.az_for_a_token(&format!("echo '{answer}'"));
}

/// The files that commands read, and nothing of the run before.
fn tidy(job: &Job) {
    for name in ["temp", "home", "workspace", "outside"] {
        let directory = job.path(name);
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
    }
    for name in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"] {
        fs::write(job.path(name), "").unwrap();
    }
    let credentials = r#"[{"name":"x","issuer":"https://token.actions.githubusercontent.com","subject":"repo:contoso/infra:environment:x","audiences":["api://AzureADTokenExchange"]}]"#;
    fs::write(job.path("workspace/credentials.json"), credentials).unwrap();
    let map = serde_json::json!({ "tenant_id": world::TENANT, "identities": [
        { "environment": "prod", "client_id": world::IDENTITY }, { "branch": "main", "client_id": world::IDENTITY },
    ] });
    fs::write(job.path("workspace/identities.json"), map.to_string()).unwrap();
}

/// Bodies that are no answer, with a token in them.
fn malformed(turn: usize, token: &str) -> Action {
    let bodies = [
        format!(r#"{{"access_token":{{"x":"{token}"}},"value":["{token}"],"oidcToken":7}}"#),
        format!("<html><title>{token}</title></html>"),
        format!(r#"{{"access_token":"{token}","value":"{token}"#),
        format!(r#"{{"error":"{token}","error_description":"{token}","message":"{token}"}}"#),
        format!(r#"{{"access_token":"so {token} it is","value":"so {token} it is","expires_in":"{token}"}}"#),
        token.to_owned(),
    ];
    Action::Status { status: 200, body: bodies[turn % bodies.len()].clone(), headers: BTreeMap::new() }
}

/// What goes wrong on the way.
fn faults(job: &Job, stand: &Stand, cell: &Cell, token: &str) {
    let spelling = Spelling::ALL[cell.turn % Spelling::ALL.len()];
    let entra = if stand.kind == "token-proxy" { "token-proxy" } else { "entra.token" };
    let repeats = |status| Action::Echo { status, spelling };
    let in_turn = if cell.turn.is_multiple_of(2) { "any" } else { entra };
    match cell.outcome {
        Outcome::Refused => job.fault(entra, 0, Action::Aadsts { code: 700_213 }),
        Outcome::EntraRepeats => job.fault(entra, 0, repeats(400)),
        Outcome::SourceRepeats => job.fault(stand.kind, 0, repeats(401)),
        Outcome::ManagerRepeats => job.fault("arm", 0, repeats(403)),
        Outcome::FaultRepeats => job.fault(in_turn, 0, repeats(503)),
        Outcome::Dead => job.fault(in_turn, 0, Action::Drop),
        Outcome::Malformed => job.fault(in_turn, 0, malformed(cell.turn / 2, token)),
        Outcome::Interrupted | Outcome::Crashed => job.fault(in_turn, 0, Action::Delay { ms: 30_000 }),
        _ => {}
    }
}

/// What is different about the job's environment.
fn surroundings(job: &mut Job, cell: &Cell, token: &str) {
    cell.loudness.set(job);
    match cell.outcome {
        Outcome::Proxied => {
            let proxy = job.emulator.http_url().replace("http://", &format!("http://user:{PROXY_PASSWORD}@"));
            job.set("HTTPS_PROXY", &proxy);
            job.set("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com");
        }
        Outcome::NoTemp => {
            for name in ["RUNNER_TEMP", "AGENT_TEMPDIRECTORY", "RUNNER_TEMP_PROJECT_DIR", "TMPDIR"] {
                job.set(name, "/proc/1");
            }
        }
        Outcome::NoRunnersFile => {
            let directory = job.path("directory");
            job.set("GITHUB_ENV", &directory);
        }
        Outcome::AzFails => job.az_for_a_token(&format!("echo 'ERROR: {token} has expired' >&2; exit 1")),
        Outcome::RefusedLater => job.emulator.set(|settings| settings.assertion_lifetime_s = Some(3)),
        _ => {}
    }
    if let Some((name, value)) = &cell.variable {
        job.set(name, &value.replace(TOKEN, token));
    }
}

/// The command line of a cell.
fn command_line(job: &Job, cell: &Cell, token: &str) -> Vec<String> {
    let out = job.path("outside");
    // the command tells what it sees of itself, waits until it has been looked at, and asks
    let script = format!(
        "cat /proc/$$/limits >{out}/limits.part; mv {out}/limits.part {out}/limits
         until [ -e {out}/go ]; do sleep 0.02; done
         printf 'header = \"X-IDENTITY-HEADER: %s\"' \"$IDENTITY_HEADER\" |
           curl -s -K - \"$IDENTITY_ENDPOINT?api-version=2019-08-01&resource={VAULT}\" >{out}/answer
         true"
    );
    let named: Vec<&str> = cell.arguments.iter().map(String::as_str).collect();
    let takes_time = match named[..] {
        ["trust", "here" | "check" | "apply", ..] => true,
        ["trust" | "logout", ..] => false,
        _ => true,
    };
    let mut line = vec![cell.arguments[0].clone()];
    line.extend(cell.loudness.flag().map(ToOwned::to_owned));
    for word in &cell.arguments[1..] {
        match word.as_str() {
            "@" => line.push(job.emulator.http_url()),
            "!" => {}
            word => line.push(word.replace(TOKEN, token)),
        }
    }
    let is_limited = named.iter().any(|word| word.starts_with("--timeout"));
    if takes_time && !is_limited {
        line.extend(["--timeout".to_owned(), "1".to_owned()]);
    }
    if named.contains(&"!") {
        line.extend(["--", "sh", "-c", &script].map(ToOwned::to_owned));
    }
    line
}

fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Whether a request waits for its answer.
fn is_held(job: &Job) -> bool {
    job.emulator.requests().iter().any(|request| request.status == 0)
}

/// Lets it run, looks at its processes meanwhile, and does to it what its outcome says.
fn attend(job: &Job, cell: &Cell, child: &mut Child, seen: &mut Seen) -> ExitStatus {
    let started = Instant::now();
    let (mut looks, mut is_over) = (0, false);
    let (told, go) = (job.path("outside/limits"), job.path("outside/go"));
    loop {
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "{:?} {:?} goes on",
            cell.outcome,
            cell.arguments
        );
        let mut now = BTreeSet::new();
        processes_below(child.id(), &mut now);
        if fs::exists(&told).unwrap() && !fs::exists(&go).unwrap() {
            let roles: Vec<_> = now.iter().map(Process::role).collect();
            if roles.contains(&None) && roles.contains(&Some("watch")) {
                if cell.outcome == Outcome::RefusedLater {
                    let refusal = Action::Echo { status: 400, spelling: Spelling::Form };
                    job.fault("any", 0, refusal);
                }
                fs::write(&go, "").unwrap();
            }
        }
        // the shell that becomes azfed
        seen.processes
            .extend(now.into_iter().filter(|process| !process.arguments.starts_with(b"/bin/sh\0-c\0ulimit")));
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        looks += 1;
        let signal = match cell.outcome {
            Outcome::Interrupted => Some("-TERM"),
            Outcome::Crashed => Some("-SEGV"),
            _ => None,
        };
        if let Some(signal) = signal.filter(|_| looks > 2 && !is_over && is_held(job)) {
            send(signal, child.id());
            is_over = true;
        }
        std::thread::sleep(Duration::from_millis(if looks < 10 { 4 } else { 25 }));
    }
}

/// The keeper's process, and its log once it has tried to renew.
fn attend_keeper(job: &Job, stand: &Stand, cell: &Cell, seen: &mut Seen) {
    for directory in fs::read_dir(job.path("temp")).unwrap().map(|entry| entry.unwrap().path()) {
        let Some(pid) =
            fs::read_to_string(directory.join("keeper/pid")).ok().and_then(|pid| pid.parse().ok())
        else {
            continue;
        };
        processes_below(pid, &mut seen.processes);
        let mints = ["github.assertion", "azure-devops.assertion"].contains(&stand.kind);
        if cell.outcome == Outcome::RefusedLater && mints {
            job.fault(stand.kind, 0, Action::Echo { status: 401, spelling: Spelling::Form });
            let log = || fs::read_to_string(directory.join("keeper/log")).unwrap();
            let started = Instant::now();
            while !log().contains("not renewed") {
                assert!(started.elapsed() < Duration::from_secs(30), "it does not renew: {}", log());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Runs azfed to its end.
fn start(job: &Job, cell: &Cell, token: &str, seen: &mut Seen) -> ExitStatus {
    let line = command_line(job, cell, token);
    let mut command = if cell.outcome == Outcome::Crashed {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "ulimit -c $(ulimit -H -c); exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_azfed")])
            .args(&line);
        shell.env_clear().envs(&job.environment);
        shell
    } else {
        job.command(&line.iter().map(String::as_str).collect::<Vec<_>>())
    };
    command.current_dir(job.path("workspace")).stdin(Stdio::null()).stderr(Stdio::piped());
    let stdout = match cell.outcome {
        Outcome::FullStdout => fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
        _ => Stdio::piped(),
    };
    let mut child = command.stdout(stdout).spawn().unwrap();
    let status = attend(job, cell, &mut child, seen);
    for (stream, text) in [
        (child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read>), &mut seen.stdout),
        (child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read>), &mut seen.stderr),
    ] {
        if let Some(mut stream) = stream {
            stream.read_to_string(text).unwrap();
        }
    }
    status
}

/// Where the docs say that this run's secrets may stand.
fn rules(stand: &Stand, cell: &Cell, is_done: bool) -> Rules {
    let has = |word: &str| cell.arguments.iter().any(|argument| argument == word);
    let limited = has("--allow-scope");
    Rules {
        stdout: match cell.arguments[0].as_str() {
            "token" if is_done && has("json") => Printed::Json,
            "token" | "assertion" if is_done => Printed::Secret,
            _ => Printed::NoSecret,
        },
        leaves_a_login: is_done || cell.arguments[0] == "logout",
        mask: match stand.name {
            "GitHub" => Some("::add-mask::"),
            "Azure DevOps" => Some("##vso[task.setsecret]"),
            _ => None,
        },
        // outputs are written before the variables, which may fail
        access_token_output: has("--output-access-token"),
        own: if limited { Vec::new() } else { stand.own.to_vec() },
        is_exec: cell.arguments[0] == "exec",
        is_mistake: cell.outcome == Outcome::Mistake,
    }
}

/// What else there is to see, and what later words say.
fn beside(job: &Job, cell: &Cell, status: ExitStatus, seen: &Seen, all: &Finder) -> Vec<String> {
    let mut leaks = Vec::new();
    if let Some(answer) =
        fs::read(job.path("outside/answer")).ok().filter(|_| cell.outcome == Outcome::RefusedLater)
    {
        let found = all.find(&answer);
        leaks.extend(found.map(|found| format!("{found} in the endpoint's answer")));
    }
    let own_limits = fs::read_to_string("/proc/self/limits").unwrap();
    let limits = fs::read_to_string(job.path("outside/limits")).ok();
    if limits.is_some_and(|limits| limits != own_limits) && cell.outcome != Outcome::Crashed {
        leaks.push("the command's limits are not its user's".to_owned());
    }
    if status.core_dumped() {
        leaks.push("a core file".to_owned());
    }
    if seen.stderr.contains("panicked") || status.code() == Some(101) {
        leaks.push(format!("a panic: {}", seen.stderr));
    }
    // what is left goes as a later step would have it
    let left = fs::read_dir(job.path("temp")).unwrap().map(|entry| entry.unwrap().path());
    for directory in left.filter(|path| path.is_dir()) {
        let mut logout = job.command(&["logout", "-v"]);
        let ended =
            logout.env("AZFED_LOGIN_DIR", &directory).env("TMPDIR", job.path("temp")).output().unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        leaks.extend(all.find(&said).map(|found| format!("{found} in the words of logout")));
    }
    leaks
}

/// One cell.
fn run(job: &mut Job, work: &Work, cell: &Cell, known: &BTreeSet<String>, tally: &Mutex<Tally>) {
    let stand = work.stand;
    let what = || {
        format!(
            "{} {:?} {:?} {:?} {:?}",
            stand.name, cell.outcome, cell.loudness, cell.arguments, cell.variable
        )
    };
    tidy(job);
    job.emulator.reset();
    let token = known.iter().find(|secret| secret.starts_with("eyJ")).unwrap();
    let before = job.environment.clone();
    surroundings(job, cell, token);
    if cell.arguments[0] == "logout" {
        // on some of them it fails without more flags, and there is nothing to remove
        let _ = job.command(&["login", "--timeout", "2"]).output().unwrap();
    }
    faults(job, stand, cell, token);

    let mut seen = Seen::default();
    let status = start(job, cell, token, &mut seen);
    attend_keeper(job, stand, cell, &mut seen);
    seen.files = seen_files(job);
    seen.urls = job
        .emulator
        .requests()
        .iter()
        .fold(String::new(), |text, request| format!("{text}{} {:?}\n", request.path, request.query));

    let is_done = status.success();
    let rules = rules(stand, cell, is_done);
    let mut secrets = known.clone();
    secrets.extend(job.emulator.secrets());
    for text in [seen.stdout.as_bytes(), seen.stderr.as_bytes()]
        .into_iter()
        .chain(seen.files.values().map(|file| file.content.as_slice()))
        .chain(seen.processes.iter().map(|process| process.environment.as_slice()))
    {
        secrets.extend(openings(text));
    }
    if rules.is_mistake {
        // where azfed was told to go, and to write
        seen.urls.clear();
        seen.files.retain(|path, _| path == "GITHUB_STEP_SUMMARY" || path.contains("azfed-summary-"));
    }
    let mut leaks = judge(&seen, &rules, &secrets);
    leaks.extend(beside(job, cell, status, &seen, &Finder::new(&secrets)));
    job.environment = before;
    if cell.outcome == Outcome::AzFails {
        az_of(job);
    }
    if cell.outcome == Outcome::RefusedLater {
        job.emulator.set(|settings| settings.assertion_lifetime_s = None);
    }

    let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tally.cells += 1;
    tally.succeeded += usize::from(is_done && cell.outcome == Outcome::Success);
    for process in &seen.processes {
        *tally.roles.entry(process.role().unwrap_or("(command)").to_owned()).or_default() += 1;
    }
    tally.leaks.extend(leaks.into_iter().map(|leak| format!("{}: {leak}", what())));
}

#[test]
fn no_secret_stands_anywhere_but_where_the_docs_say() {
    let work = work();
    let planned: usize = work.iter().map(|work| work.cells.len()).sum();
    let next = Mutex::new(work.iter());
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                loop {
                    let work = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some(work) = work else { break };
                    let (mut job, secrets) = prepare(work);
                    for cell in &work.cells {
                        run(&mut job, work, cell, &secrets, &tally);
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    assert!(tally.leaks.is_empty(), "{} leaks:\n{}", tally.leaks.len(), tally.leaks.join("\n"));
    assert_eq!(tally.cells, planned);
    // what proves nothing: a loop in which nothing was reached
    assert!(planned > 3000 && tally.succeeded > 300, "{planned} cells, {} logins", tally.succeeded);
    for role in
        ["login", "exec", "token", "assertion", "doctor", "trust", "logout", "keep", "watch", "(command)"]
    {
        assert!(tally.roles.get(role).is_some_and(|seen| *seen > 5), "{role}: {:?}", tally.roles);
    }
}

/// The loop's own proof: what it looks for is found in each place and in each spelling, and what the docs name is not.
#[test]
fn a_secret_is_seen_wherever_it_is_planted() {
    let job = Job::new(Platform::Github);
    let jwt = job.environment["ACTIONS_ID_TOKEN_REQUEST_TOKEN"].clone();
    let opening = "0123456789abcdef".repeat(4);
    let secrets: BTreeSet<String> = [&jwt, &opening, PROXY_PASSWORD].map(ToOwned::to_owned).into();
    let file =
        |content: &str, mode| SeenFile { mode, directories: 0o700, content: content.as_bytes().to_vec() };
    let process = |role: &str, argument: &str, variable: &str| Process {
        arguments: format!("/bin/{role}\0{argument}").into_bytes(),
        environment: format!("A=b\0{variable}").into_bytes(),
    };
    let each = |text: &str, one: fn(u8) -> String| text.bytes().map(one).collect::<String>();
    let signature = jwt.rsplit('.').next().unwrap();
    let folded: Vec<String> =
        jwt.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let mut planted = vec![
        jwt.clone(),
        opening.clone(),
        PROXY_PASSWORD.to_owned(),
        signature[41..57].to_owned(),
        each(&jwt, |byte| format!("%{byte:02x}")),
        each(&jwt, |byte| format!("%25{byte:02X}")),
        each(&jwt, |byte| format!("\\u00{byte:02x}")),
        each(&jwt, |byte| format!("&#{byte};")),
        folded.join("\n"),
        folded.join("\\r\\n"),
    ];
    for before in ["", "a", "ab"] {
        planted.push(STANDARD.encode(format!("{before}{jwt}")));
        planted.push(URL_SAFE.encode(format!("{before}{PROXY_PASSWORD}")));
    }
    let mut places: Vec<Box<dyn Fn(&mut Seen, &str)>> = vec![
        Box::new(|seen, text| seen.stdout = format!("x {text} x\n")),
        Box::new(|seen, text| seen.stdout = format!("X_HEADER='{text}'\n")),
        Box::new(|seen, text| seen.stderr = format!("::error::{text}\n")),
        Box::new(|seen, text| seen.stderr = format!("##vso[task.setsecret]{text}\n")),
        Box::new(|seen, text| seen.urls = format!("/x?{text}")),
    ];
    for path in [
        "home/x",
        "workspace/assertion",
        "temp/x",
        "temp/azfed-x/keeper/log",
        "GITHUB_ENV",
        "GITHUB_OUTPUT",
        "GITHUB_STATE",
        "GITHUB_STEP_SUMMARY",
    ] {
        places.push(Box::new(move |seen, text| drop(seen.files.insert(path.to_owned(), file(text, 0o600)))));
    }
    places.push(Box::new(move |seen, text| {
        seen.files.insert("temp/azfed-x/assertion".to_owned(), file(text, 0o644));
    }));
    for role in ["azfed\0login", "azfed\0keep", "azfed\0watch", "sh"] {
        places.push(Box::new(move |seen, text| _ = seen.processes.insert(process(role, text, ""))));
    }
    for (role, name) in [
        ("azfed\0keep", "IDENTITY_HEADER"),
        ("azfed\0watch", "HTTPS_PROXY"),
        ("azfed\0become", "X"),
        ("sh", "X"),
    ] {
        places.push(Box::new(move |seen, text| {
            seen.processes.insert(process(role, "", &format!("{name}={text}")));
        }));
    }
    let rules = Rules { mask: Some("::add-mask::"), is_exec: true, leaves_a_login: true, ..Rules::default() };
    assert_eq!(judge(&Seen::default(), &rules, &secrets), Vec::<String>::new());
    for (number, place) in places.iter().enumerate() {
        for text in &planted {
            let mut seen = Seen::default();
            place(&mut seen, text);
            assert_eq!(judge(&seen, &rules, &secrets).len(), 1, "place {number}: {text}");
        }
    }
    // where the docs say that it stands, and one step beside
    for (stdout, leaks) in [
        (format!("::add-mask::{jwt}\n"), 0),
        (format!(" ::add-mask::{jwt}\n"), 1),
        (format!("export IDENTITY_HEADER={opening}\n"), 0),
        (format!("export IDENTITY_HEADER={jwt}\n"), 1),
        (format!("ARM_MSI_ENDPOINT<<x\nhttp://127.0.0.1:1/{opening}/msi\nx\n"), 0),
        (format!("ARM_MSI_ENDPOINT<<x\nhttp://127.0.0.1:1/{opening}/msi\nx\n{opening}\n"), 1),
    ] {
        let seen = Seen { stdout: stdout.clone(), ..Seen::default() };
        assert_eq!(judge(&seen, &rules, &secrets).len(), leaks, "{stdout}");
    }
    let mut seen = Seen { stdout: format!("{jwt}\n"), ..Seen::default() };
    seen.files.insert("temp/azfed-x/assertion".to_owned(), file(&jwt, 0o600));
    seen.processes.insert(process("azfed\0keep", "", &format!("HTTPS_PROXY=http://u:{PROXY_PASSWORD}@h")));
    seen.processes.insert(process("sh", "", &format!("MSI_SECRET={opening}")));
    let of_token = Rules { stdout: Printed::Secret, leaves_a_login: true, is_exec: true, ..Rules::default() };
    assert_eq!(judge(&seen, &of_token, &secrets), Vec::<String>::new());
    assert_eq!(judge(&seen, &Rules { is_exec: true, ..Rules::default() }, &secrets).len(), 2);
}

/// The same of a process that lives, and of one that leaves a core file where the machine lets it.
#[test]
fn a_living_secret_and_a_core_file_are_seen() {
    let job = Job::new(Platform::Github);
    let jwt = &job.environment["ACTIONS_ID_TOKEN_REQUEST_TOKEN"];
    let secrets = BTreeSet::from([jwt.clone()]);
    let rules = Rules { is_exec: true, ..Rules::default() };
    let mut child = Command::new("/bin/sh");
    child.args(["-c", "sleep 5 & wait", jwt]).env_clear().env("X", jwt).env("PATH", "/usr/bin:/bin");
    let mut child = child.stdin(Stdio::null()).spawn().unwrap();
    let mut found = BTreeSet::new();
    let started = Instant::now();
    while found.len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(30), "{found:?}");
        found.clear();
        processes_below(child.id(), &mut found);
        std::thread::sleep(Duration::from_millis(10));
    }
    send("-KILL", child.id());
    child.wait().unwrap();
    let seen = Seen { processes: found, ..Seen::default() };
    assert_eq!(judge(&seen, &rules, &secrets).len(), 3, "its argument, its variable, its child's");
    let script = "ulimit -c \"$(ulimit -H -c)\"; ulimit -c; kill -SEGV $$";
    let mut crash = Command::new("/bin/sh");
    let ended = crash.args(["-c", script]).current_dir(job.directory.path()).output().unwrap();
    assert!(ended.stdout == b"0\n" || ended.status.core_dumped(), "{:?}", ended.status);
}
