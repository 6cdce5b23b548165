//! Everything that can go wrong on the way, for each HTTP request that azfed makes: the right exit code, in time, nothing
//! left, nothing leaked. The table in docs/faults.md is what this run found.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    process::Stdio,
    sync::Mutex,
    time::{Duration, Instant},
};

use azfed_emulator::{Action, Host, JobOverrides, Platform, TlsCertificate, Workload, world};

use crate::harness::{Job, Outcome, status};

/// What a run may take beyond its `--timeout`: starting, and the end of a request that is under way.
const GRACE: Duration = Duration::from_secs(8);

/// One request that azfed makes: of which kind, in which job, by which command.
struct Call {
    kind: &'static str,
    what: &'static str,
    job: fn() -> Job,
    command: &'static [&'static str],
    /// The exit code where the server says no: 3 for a platform and a host; 5 for Entra, whose own no has a body: what has
    /// none is somebody else's.
    no: i32,
}

fn of_binding() -> JobOverrides {
    JobOverrides {
        audience: Some(azfed_emulator::IDENTITY_BINDING_AUDIENCE.to_owned()),
        ..JobOverrides::default()
    }
}

fn bound_pod() -> Job {
    let mut job = Job::with(Platform::Kubernetes, &of_binding());
    let host = job.emulator.host_env(Host::IdentityBinding);
    job.environment.extend(host);
    job
}

fn operator() -> Job {
    let mut job = Job::new(Platform::Kubernetes);
    let token = job.emulator.operator_token();
    job.az_with(&token);
    fs::write(
        job.path("credentials.json"),
        r#"[{"name":"x","issuer":"https://token.actions.githubusercontent.com","subject":"repo:o/r:environment:x","audiences":["api://AzureADTokenExchange"]}]"#,
    )
    .unwrap();
    let manager = job.emulator.http_url();
    job.set("MANAGER", &manager);
    job
}

const CALLS: [Call; 13] = [
    Call {
        kind: "github.assertion",
        what: "GitHub's OIDC token",
        job: || Job::new(Platform::Github),
        command: &["login"],
        no: 3,
    },
    Call {
        kind: "azure-devops.assertion",
        what: "Azure DevOps' OIDC token",
        job: || Job::new(Platform::AzureDevops),
        command: &["login"],
        no: 3,
    },
    Call {
        kind: "entra.token",
        what: "Entra's access token",
        job: || Job::new(Platform::Gitlab),
        command: &["login"],
        no: 5,
    },
    Call { kind: "token-proxy", what: "a cluster's token proxy", job: bound_pod, command: &["token"], no: 5 },
    Call {
        kind: "imds",
        what: "instance metadata service",
        job: || Job::on(Host::Imds),
        command: &["login"],
        no: 3,
    },
    Call {
        kind: "app-service",
        what: "App Service",
        job: || Job::on(Host::AppService),
        command: &["token"],
        no: 3,
    },
    Call {
        kind: "automation",
        what: "Automation",
        job: || Job::on(Host::Automation),
        command: &["token"],
        no: 3,
    },
    Call {
        kind: "service-fabric",
        what: "Service Fabric",
        job: || Job::on(Host::ServiceFabric),
        command: &["token"],
        no: 3,
    },
    Call {
        kind: "azure-ml",
        what: "Azure Machine Learning",
        job: || Job::on(Host::AzureMl),
        command: &["token"],
        no: 3,
    },
    Call {
        kind: "cloud-shell",
        what: "Cloud Shell",
        job: || Job::on(Host::CloudShell),
        command: &["token"],
        no: 3,
    },
    Call {
        kind: "google",
        what: "Google Cloud's metadata server",
        job: || Job::of(Workload::GoogleCloud, &JobOverrides::default()),
        command: &["token", "--source", "google-cloud"],
        no: 3,
    },
    Call {
        kind: "aws",
        what: "AWS STS",
        job: || Job::of(Workload::Aws, &JobOverrides::default()),
        command: &["token", "--source", "aws"],
        no: 3,
    },
    Call {
        kind: "arm",
        what: "Azure Resource Manager (trust apply)",
        job: operator,
        command: &[
            "trust",
            "apply",
            "credentials.json",
            "--subscription-id",
            world::SUBSCRIPTION,
            "--resource-group",
            "contoso-prod",
            "--identity",
            "infra-prod",
        ],
        no: 4,
    },
];

/// What happens to a request, with its name in the table.
fn faults() -> Vec<(String, Action)> {
    let mut faults: Vec<(String, Action)> = vec![
        ("the connection is dropped".to_owned(), Action::Drop),
        ("reset in the middle of the body".to_owned(), Action::ResetMidBody),
        ("no answer".to_owned(), Action::Delay { ms: 30_000 }),
        ("one byte a second".to_owned(), Action::SlowDrip),
        ("10 MB".to_owned(), Action::Huge),
        ("200 with nothing".to_owned(), Action::Empty),
        ("200 with a page".to_owned(), Action::Html),
        ("200 with half a body".to_owned(), Action::TruncatedJson),
        ("200 with another shape".to_owned(), Action::WrongJson),
        ("redirect".to_owned(), Action::Redirect { status: 307, to: "http://127.0.0.1:1/".to_owned() }),
    ];
    let statuses = [400, 401, 403, 404, 405, 408, 409, 410, 418, 425, 429, 500, 501, 502, 503, 504, 505, 599];
    faults.extend(statuses.map(|code| (code.to_string(), status(code, &[]))));
    faults
}

/// The exit codes that are right, by what happens: the network's and the service's passing faults are 5; a no is the
/// server's own; what is no answer of the contract is either, as it may be a proxy's.
fn expected(call: &Call, fault: &str, action: &Action) -> Vec<i32> {
    match action {
        Action::Status { status: 408 | 425 | 429 | 500 | 502 | 503 | 504 | 506.., .. } => vec![5],
        // App Service has been seen to answer so while it is being renewed; the metadata service says that it does
        Action::Status { status: 404 | 410 | 501 | 505, .. } if call.kind == "imds" => vec![5],
        Action::Status { status: 501 | 505, .. } => vec![call.no, 5],
        Action::Status { .. } => vec![call.no],
        Action::Drop | Action::ResetMidBody | Action::Delay { .. } | Action::SlowDrip => vec![5],
        Action::Empty | Action::Html | Action::TruncatedJson | Action::WrongJson => vec![3, 5],
        Action::Redirect { .. } | Action::Huge => vec![3, 5],
        Action::Aadsts { .. } | Action::Echo { .. } => panic!("{fault}"),
    }
    .into_iter()
    .chain(if call.kind == "arm" { vec![2, 4, 5] } else { Vec::new() })
    .collect()
}

fn judge(
    call: &Call,
    fault: &str,
    job: &Job,
    outcome: &Outcome,
    took: Duration,
    right: &[i32],
) -> Result<i32, String> {
    let code = outcome.code.unwrap_or(-1);
    let left = job.left_in_temp();
    let leaks = job.leaks(&outcome.all());
    let wrong = match () {
        () if !right.contains(&code) => format!("exit code {code}, and not {right:?}"),
        () if took > Duration::from_secs(1) + GRACE => format!("it took {took:?}"),
        () if !outcome.stderr.contains("azfed: error: ") => "no message".to_owned(),
        () if outcome.stderr.contains("panicked") => "a panic".to_owned(),
        () if !leaks.is_empty() => format!("leaks {leaks:?}"),
        () if !left.is_empty() => format!("left {left:?}"),
        () => return Ok(code),
    };
    Err(format!("{} / {fault}: {wrong}: {}", call.what, job.show(outcome)))
}

/// Runs pieces of work side by side: they wait most of the time.
fn side_by_side<T: Sync, R: Send>(work: &[T], one: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(0..work.len());
    let found: Mutex<BTreeMap<usize, R>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let place = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some(place) = place else { break };
                    let result = one(&work[place]);
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place, result);
                }
            });
        }
    });
    found.into_inner().unwrap().into_values().collect()
}

fn run(job: &Job, call: &Call) -> (Outcome, Duration) {
    let manager = job.environment.get("MANAGER").cloned();
    let mut arguments = call.command.to_vec();
    if let Some(manager) = &manager {
        arguments.extend(["--resource-manager", manager]);
    }
    arguments.extend(["--timeout", "1"]);
    let started = Instant::now();
    let outcome = job.run(&arguments);
    (outcome, started.elapsed())
}

#[test]
fn each_request_survives_each_fault() {
    let faults = faults();
    let work: Vec<(&Call, &(String, Action))> =
        CALLS.iter().flat_map(|call| faults.iter().map(move |fault| (call, fault))).collect();
    let found = side_by_side(&work, |(call, (fault, action))| {
        let job = (call.job)();
        job.fault(call.kind, 0, action.clone());
        let (outcome, took) = run(&job, call);
        judge(call, fault, &job, &outcome, took, &expected(call, fault, action))
    });
    let wrong: Vec<&str> =
        found.iter().filter_map(|found| found.as_ref().err().map(String::as_str)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), found.len(), wrong.join("\n"));
    let found: Vec<i32> = found.into_iter().filter_map(Result::ok).collect();
    let mut table = String::from(HEAD);
    let names: Vec<&str> = CALLS.iter().map(|call| call.what).collect();
    let _ = writeln!(table, "| | {} |", names.join(" | "));
    let _ = writeln!(table, "|---|{}", "---|".repeat(CALLS.len()));
    for (row, (fault, _)) in faults.iter().enumerate() {
        let cells: Vec<String> =
            (0..CALLS.len()).map(|column| found[column * faults.len() + row].to_string()).collect();
        let _ = writeln!(table, "| {fault} | {} |", cells.join(" | "));
    }
    table.push_str(&tls());
    table.push_str(&surroundings());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
    if std::env::var_os("AZFED_UPDATE_DOCS").is_some() {
        fs::write(path, &table).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), table, "AZFED_UPDATE_DOCS=1 writes it anew");
}

const HEAD: &str = "# What goes wrong, and how azfed ends

Made by `AZFED_UPDATE_DOCS=1 cargo test --test it faults::`, and compared by each run of the tests
(`each_request_survives_each_fault` in `tests/it/faults.rs`): the shipped binary against the emulator, with `--timeout 1`. In
each cell the exit code. For each of them the test also asserts: the end comes within the deadline, nothing stands in the job's temp, no secret in the output, no panic, and a message with
`azfed: error:`.

5 is a passing fault of network or service, 3 the platform's or host's no, 4 Entra's or Azure Resource Manager's, 2 a
configuration, 1 this machine.

## Requests

";

/// Certificates, where the request goes over TLS.
fn tls() -> String {
    let mut table = String::from("\n## TLS\n\n| certificate | Entra | token proxy |\n|---|---|---|\n");
    let cases: [(&str, TlsCertificate, bool); 3] = [
        ("of an authority that is not trusted", TlsCertificate::Right, false),
        ("for another name", TlsCertificate::OtherName, true),
        ("expired", TlsCertificate::Expired, true),
    ];
    for (name, certificate, trusted) in cases {
        let mut codes = Vec::new();
        for kind in ["entra.token", "token-proxy"] {
            let call = CALLS.iter().find(|call| call.kind == kind).unwrap();
            let mut job = (call.job)();
            let ca = job.path("ca.pem");
            fs::write(&ca, job.emulator.ca_pem()).unwrap();
            if kind == "entra.token" {
                let authority = job.emulator.https_url();
                job.set("AZURE_AUTHORITY_HOST", &authority);
                if trusted {
                    job.set("SSL_CERT_FILE", &ca);
                }
            } else if !trusted {
                let other = job.emulator.ca_pem().to_owned();
                job.set("AZURE_KUBERNETES_CA_DATA", &other);
            }
            job.emulator.set(|settings| settings.tls_certificate = certificate);
            let (outcome, took) = run(&job, call);
            codes.push(judge(call, name, &job, &outcome, took, &[5]).unwrap().to_string());
            assert_eq!(job.emulator.requests().iter().filter(|request| request.kind == kind).count(), 0);
            assert!(outcome.stderr.contains("certificate"), "{name}: {}", outcome.stderr);
        }
        let _ = writeln!(table, "| {name} | {} |", codes.join(" | "));
    }
    table
}

/// A shell line in which `"$@"` is azfed's command, and what must be there for it.
const SURROUNDINGS: [(&str, &str, i32); 8] = [
    ("no `HOME`", "unset HOME; exec \"$@\"", 0),
    (
        "temp directory cannot be written",
        "RUNNER_TEMP_PROJECT_DIR=/proc; TMPDIR=/proc; export RUNNER_TEMP_PROJECT_DIR TMPDIR; exec \"$@\"",
        1,
    ),
    ("stdout is closed, which is as if it were /dev/null", "exec \"$@\" >&-", 0),
    ("stdout is full", "exec \"$@\" >/dev/full", 1),
    ("nobody reads stdout", "\"$@\" | exec true; exit ${PIPESTATUS:-1}", 1),
    ("stderr is closed", "exec \"$@\" 2>&-", 0),
    ("stderr is full", "exec \"$@\" 2>/dev/full", 0),
    ("stdin is closed", "exec \"$@\" <&-", 0),
];

fn surroundings() -> String {
    let mut table = String::from(
        "\n## What is around it\n\n`azfed login` on GitLab, which would succeed.\n\n| | exit code |\n|---|---|\n",
    );
    for (name, script, code) in SURROUNDINGS {
        let job = Job::new(Platform::Gitlab);
        let mut command = std::process::Command::new("bash");
        let azfed = env!("CARGO_BIN_EXE_azfed");
        command.args(["-c", script, "bash", azfed, "login", "--timeout", "5"]);
        command.env_clear().envs(&job.environment).env("PATH", "/usr/bin:/bin");
        let outcome = Outcome::of(&command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(outcome.code, Some(code), "{name}: {}", job.show(&outcome));
        assert!(!outcome.stderr.contains("panicked"), "{name}: {}", outcome.stderr);
        assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new(), "{name}");
        if code != 0 {
            assert_eq!(job.left_in_temp(), Vec::<std::path::PathBuf>::new(), "{name}");
        }
        let _ = writeln!(table, "| {name} | {code} |");
    }
    table.push_str(&full_disk());
    table.push_str(&clocks());
    table
}

/// A temp directory of some kilobytes, in a mount namespace of the test's own.
fn full_disk() -> String {
    let job = Job::new(Platform::Gitlab);
    let is_root = std::process::Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let script = "mount -t tmpfs -o size=8k none \"$RUNNER_TEMP_PROJECT_DIR\" && \"$@\"; code=$?; \
                  echo \"left: <$(ls -A \"$RUNNER_TEMP_PROJECT_DIR\")>\" >&2; exit $code";
    let mut command = std::process::Command::new("unshare");
    command.args(if is_root { &["--mount"][..] } else { &["--map-root-user", "--mount"] });
    command.args(["sh", "-c", script, "sh", env!("CARGO_BIN_EXE_azfed"), "login", "--quiet"]);
    command.env_clear().envs(&job.environment).env("PATH", "/usr/bin:/bin");
    let outcome = Outcome::of(&command.stdin(Stdio::null()).output().unwrap());
    assert_eq!(outcome.code, Some(1), "{}", job.show(&outcome));
    assert!(outcome.stderr.contains("No space left on device"), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("left: <>\n"), "{}", outcome.stderr);
    assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new());
    "| the disk is full | 1 |\n".to_owned()
}

/// An hour off, either way: the platform's tokens are minted now, whatever this machine thinks.
fn clocks() -> String {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(
        fs::exists(library).unwrap(),
        "{library} is missing: `./test.sh install`, or apt-get install libfaketime"
    );
    let mut table = String::new();
    for (name, offset) in [("the clock is an hour ahead", "+3600"), ("the clock is an hour behind", "-3600")]
    {
        let job = Job::new(Platform::Github);
        let mut command = job.command(&["token"]);
        let outcome =
            Outcome::of(&command.env("LD_PRELOAD", library).env("FAKETIME", offset).output().unwrap());
        assert_eq!(outcome.code, Some(0), "{name}: {}", job.show(&outcome));
        let _ = writeln!(table, "| {name} (GitHub) | 0 |");
    }
    table
}
