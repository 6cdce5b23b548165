//! One table of everything that goes wrong: the right exit code, the same words, nothing left, nothing leaked.

use std::{
    fmt::Write,
    fs,
    time::{Duration, Instant},
};

use azfed_emulator::{Action, Fault, Host, JobOverrides, Platform, Spelling, world};

use crate::harness::{Job, assert_shown};

use Platform::{AzureDevops, Github, Gitlab, Kubernetes};

/// A job, what is wrong with it, and the exit code that says so.
struct Scenario {
    name: &'static str,
    platform: Platform,
    overrides: JobOverrides,
    arguments: Vec<&'static str>,
    change: Box<dyn Fn(&mut Job)>,
    code: i32,
}

fn scenario(name: &'static str, platform: Platform, code: i32) -> Scenario {
    Scenario {
        name,
        platform,
        overrides: JobOverrides::default(),
        arguments: Vec::new(),
        change: Box::new(|_| ()),
        code,
    }
}

impl Scenario {
    fn args(mut self, arguments: &[&'static str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    fn job(mut self, overrides: JobOverrides) -> Self {
        self.overrides = overrides;
        self
    }

    fn change(mut self, change: impl Fn(&mut Job) + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    fn set(self, name: &'static str, value: &'static str) -> Self {
        self.change(move |job| job.set(name, value))
    }

    fn unset(self, name: &'static str) -> Self {
        self.change(move |job| job.unset(name))
    }

    fn fault(self, kind: &'static str, action: Action) -> Self {
        self.change(move |job| {
            job.emulator.fault(Fault {
                kind: kind.to_owned(),
                times: 0,
                after: 0,
                late_ms: 300,
                action: action.clone(),
            });
        })
        .args(&["--timeout", "1"])
    }

    fn entra(name: &'static str, code: u32, exit: i32) -> Self {
        scenario(name, Github, exit).fault("entra.token", Action::Aadsts { code })
    }
}

fn job() -> JobOverrides {
    JobOverrides::default()
}

#[expect(clippy::unnecessary_wraps, reason = "every use is an override that is set")]
fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn status(status: u16) -> Action {
    Action::Status { status, body: String::new(), headers: std::iter::empty::<(String, String)>().collect() }
}

fn inputs() -> Vec<Scenario> {
    vec![
        scenario("no client id", Github, 2).unset("AZURE_CLIENT_ID"),
        scenario("no tenant id", Gitlab, 2).unset("AZURE_TENANT_ID"),
        scenario("client id is no guid", Github, 2).set("AZURE_CLIENT_ID", "infra-prod"),
        scenario("client id is a macro", AzureDevops, 2).set("AZURE_CLIENT_ID", "$(clientId)"),
        scenario("tenant is common", Github, 2).set("AZURE_TENANT_ID", "common"),
        scenario("subscription is a name", Github, 2).set("AZURE_SUBSCRIPTION_ID", "Contoso Production"),
        scenario("flag is no guid", Gitlab, 2).args(&["--client-id", "::add-mask::x"]),
        scenario("unknown flag", Gitlab, 2).args(&["--client-secret", "x"]),
        scenario("unknown cloud", Github, 2).set("ARM_ENVIRONMENT", "german"),
        scenario("two clouds", Github, 2).change(|job| {
            job.set("AZURE_ENVIRONMENT", "AzureChinaCloud");
            job.set("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/");
        }),
        scenario("authority is http", Github, 2).set("AZURE_AUTHORITY_HOST", "http://login.example.com/"),
        scenario("scope is no resource", Github, 2).args(&["--scope", "vault"]),
        scenario("two scopes in one", Github, 2).args(&["--scope", "https://a.example https://b.example"]),
        scenario("timeout of nothing", Github, 2).args(&["--timeout", "0"]),
        scenario("a client secret too", Github, 2).set("ARM_CLIENT_SECRET", "sentinel"),
        scenario("a certificate too", Github, 2).set("AZURE_CLIENT_CERTIFICATE_PATH", "/x.pem"),
        scenario("two sources", Github, 2).args(&["--assertion-env", "A", "--assertion-file", "b"]),
        scenario("a source that does not fit", Github, 2).args(&[
            "--source",
            "github",
            "--assertion-file",
            "b",
        ]),
        scenario("two platforms", Gitlab, 2).set("TF_BUILD", "True"),
        scenario("access token output elsewhere", Gitlab, 2).args(&["--output-access-token"]),
        scenario("ca file is missing", Gitlab, 2).change(|job| {
            job.set("SSL_CERT_FILE", "/nowhere/ca.pem");
            job.set("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1/");
        }),
        scenario("temp is missing", Github, 1).change(|job| {
            let file = job.path("file");
            fs::write(&file, "").unwrap();
            job.set("RUNNER_TEMP", "/proc/1");
        }),
        scenario("github env is a directory", Github, 1).change(|job| {
            let directory = job.path("temp");
            fs::create_dir_all(format!("{directory}-env")).unwrap();
            job.set("GITHUB_ENV", &format!("{directory}-env"));
        }),
    ]
}

fn platforms() -> Vec<Scenario> {
    let none = JobOverrides { permissions: text("none"), ..job() };
    vec![
        scenario("github grants nothing", Github, 3).job(none.clone()),
        scenario("github pull request", Github, 3).job(none.clone()).set("GITHUB_EVENT_NAME", "pull_request"),
        scenario("github refuses the request token", Github, 3)
            .set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "stale"),
        scenario("github request url is http", Github, 2)
            .set("ACTIONS_ID_TOKEN_REQUEST_URL", "http://example.com/"),
        scenario("github is down", Github, 5).fault("github.assertion", status(503)),
        scenario("github answers html", Github, 5).fault("github.assertion", Action::Html),
        scenario("github answers something else", Github, 5).fault("github.assertion", Action::WrongJson),
        scenario("github redirects", Github, 3).fault(
            "github.assertion",
            Action::Redirect { status: 302, to: "https://elsewhere.example/x".to_owned() },
        ),
        scenario("github sends 10 MB", Github, 3).fault("github.assertion", Action::Huge),
        scenario("github drops", Github, 5).fault("github.assertion", Action::Drop),
        scenario("gitlab declares nothing", Gitlab, 3).job(none.clone()),
        scenario("gitlab has another name", Gitlab, 3).job(none.clone()).args(&["--assertion-env", "MINE"]),
        scenario("gitlab audience", Gitlab, 3)
            .job(JobOverrides { audience: text("https://gitlab.com"), ..job() }),
        scenario("gitlab expired", Gitlab, 3).job(JobOverrides { lifetime: Some(0), ..job() }),
        scenario("gitlab token is cut", Gitlab, 3).set("AZURE_ID_TOKEN", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiI"),
        scenario("azure devops is not mapped", AzureDevops, 3).job(none),
        scenario("azure devops macro", AzureDevops, 3).set("SYSTEM_ACCESSTOKEN", "$(System.AccessToken)"),
        scenario("azure devops no connection", AzureDevops, 2)
            .unset("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID"),
        scenario("azure devops other connection", AzureDevops, 3)
            .args(&["--service-connection-id", "12345678-1234-4234-8234-123456789012"]),
        scenario("azure devops stale token", AzureDevops, 3).set("SYSTEM_ACCESSTOKEN", "stale"),
        scenario("file is missing", Kubernetes, 2).args(&["--assertion-file", "nowhere"]),
        scenario("file is a directory", Kubernetes, 2).args(&["--assertion-file", "temp"]),
        scenario("file is empty", Kubernetes, 2).change(|job| fs::write(job.path("token"), "\n").unwrap()),
        scenario("file is huge", Kubernetes, 2)
            .change(|job| fs::write(job.path("token"), vec![b'a'; 2 << 20]).unwrap()),
        scenario("file expired", Kubernetes, 3).job(JobOverrides { lifetime: Some(0), ..job() }),
        scenario("variable is empty", Kubernetes, 2).args(&["--assertion-env", "MINE"]).set("MINE", ""),
    ]
}

fn entra() -> Vec<Scenario> {
    vec![
        scenario("wrong subject", Github, 4)
            .job(JobOverrides { subject: text("repo:contoso/infra:pull_request"), ..job() }),
        scenario("hostile subject", Github, 4)
            .job(JobOverrides { subject: text("x\n::add-mask::y\r\n##vso[task.complete]`z`"), ..job() }),
        scenario("letter case", Github, 4)
            .job(JobOverrides { subject: text("repo:Contoso/infra:environment:prod"), ..job() }),
        scenario("wrong issuer", Gitlab, 4)
            .job(JobOverrides { issuer: text("https://gitlab.example.com/"), ..job() }),
        scenario("wrong audience", Gitlab, 4)
            .job(JobOverrides { audience: text("api://mine"), ..job() })
            .args(&["--audience", "api://mine"]),
        scenario("wrong signature", Github, 4).job(JobOverrides { tampered: true, ..job() }),
        scenario("expired on arrival", Github, 4).job(JobOverrides { lifetime: Some(0), ..job() }),
        scenario("not yet valid", Gitlab, 4).job(JobOverrides { not_before: Some(3600), ..job() }),
        scenario("no credentials", Github, 4).set("AZURE_CLIENT_ID", world::BARE_IDENTITY),
        scenario("object id for client id", Github, 4).set("AZURE_CLIENT_ID", world::IDENTITY_OBJECT),
        scenario("unknown tenant", Github, 4).set("AZURE_TENANT_ID", "nowhere.onmicrosoft.com"),
        scenario("unknown resource", Github, 4).args(&["--scope", "https://nowhere.example"]),
        Scenario::entra("conditional access", 53_003, 4),
        Scenario::entra("unknown code", 123_456, 4),
        Scenario::entra("issuer not reachable", 501_661, 5),
        Scenario::entra("throttled", 90_055, 5),
        Scenario::entra("passing fault", 90_033, 5),
        scenario("entra is down", Github, 5).fault("entra.token", status(502)),
        scenario("a page of another server", Github, 5).fault(
            "entra.token",
            Action::Status {
                status: 403,
                body: "<html>::error::blocked by policy</html>".to_owned(),
                headers: std::iter::empty::<(String, String)>().collect(),
            },
        ),
        scenario("entra drops", Github, 5).fault("entra.token", Action::Drop),
        scenario("entra resets", Github, 5).fault("entra.token", Action::ResetMidBody),
        scenario("entra answers nothing", Github, 5).fault("entra.token", Action::Empty),
        scenario("entra answers html", Github, 5).fault("entra.token", Action::Html),
        scenario("entra answers half", Github, 5).fault("entra.token", Action::TruncatedJson),
        scenario("entra drips", Github, 5).fault("entra.token", Action::SlowDrip),
        scenario("entra sends 10 MB", Github, 5).fault("entra.token", Action::Huge),
        scenario("entra redirects", Github, 5).fault(
            "entra.token",
            Action::Redirect { status: 307, to: "https://elsewhere.example/token".to_owned() },
        ),
        scenario("nobody listens", Gitlab, 5).args(&[
            "--authority-host",
            "http://127.0.0.1:1",
            "--timeout",
            "2",
        ]),
        scenario("tls without trust", Gitlab, 5).args(&["--timeout", "1"]).change(|job| {
            let ca = job.path("other-ca.pem");
            let other = azfed_emulator::Emulator::start(azfed_emulator::Options::default()).unwrap();
            fs::write(&ca, other.ca_pem()).unwrap();
            job.set("SSL_CERT_FILE", &ca);
            let url = job.emulator.https_url();
            job.set("AZURE_AUTHORITY_HOST", &url);
        }),
    ]
}

/// How many tries a run made is a matter of chance: their lines, and the masks of their tokens, count as one.
fn without_repetition(shown: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in shown.lines() {
        let again = line.split("; trying again in").next().unwrap_or_default();
        let repeated = if line.contains("; trying again in") {
            lines.iter().any(|said| said.contains("; trying again in") && said.starts_with(again))
        } else {
            line.ends_with("<secret>") && lines.contains(&line)
        };
        if repeated {
            // the one that goes before a mask command
            lines.pop_if(|before| line.starts_with("::") && before.is_empty());
        } else {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

fn check(scenarios: Vec<Scenario>) {
    for scenario in scenarios {
        for command in [&["login"][..], &["token"], &["assertion"]] {
            run(&scenario, command[0]);
        }
    }
}

fn run(scenario: &Scenario, command: &str) {
    let mut job = Job::with(scenario.platform, &scenario.overrides);
    (scenario.change)(&mut job);
    if command != "login" {
        // the same failure through the other commands: no leak, no panic, nothing left; not every input concerns them
        let only_logins = ["--output-access-token", "--scope", "--audience"];
        if scenario.arguments.iter().any(|argument| only_logins.contains(argument)) {
            return;
        }
    }
    let mut arguments = vec![command, "--verbose"];
    let for_entra = ["--client-id", "--client-secret"];
    if command == "assertion" && scenario.arguments.iter().any(|argument| for_entra.contains(argument)) {
        return;
    }
    arguments.extend(&scenario.arguments);
    let started = Instant::now();
    let outcome = job.run(&arguments);
    let name = scenario.name;
    assert!(started.elapsed() < Duration::from_secs(10), "{name} took too long");
    if command == "login" {
        assert_eq!(outcome.code, Some(scenario.code), "{name}: {}", job.show(&outcome));
        assert_shown!(name.replace(' ', "_"), without_repetition(&job.show(&outcome)));
        for file in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE"] {
            let written = job.read(file);
            // the variables are the last to be written: outputs and state may be there when they cannot be
            assert!(written.is_empty() || name == "github env is a directory", "{name}: {file}: {written}");
        }
    } else {
        assert_ne!(outcome.code, Some(101), "{name}: {command} panicked: {}", job.show(&outcome));
        if outcome.code != Some(0) {
            assert_eq!(outcome.stdout, "", "{name}: {command} failed and wrote to stdout");
        }
    }
    let printed = if outcome.code == Some(0) { outcome.stderr.clone() } else { outcome.all() };
    assert!(!printed.contains("sentinel"), "{name}: {printed}");
    assert_eq!(job.leaks(&printed), Vec::<String>::new(), "{name}: {command}");
    assert_eq!(job.leaks(&job.read("GITHUB_STEP_SUMMARY")), Vec::<String>::new(), "{name}: {command}");
    assert_eq!(job.left_in_temp(), Vec::<std::path::PathBuf>::new(), "{name}: {command}");
    // the same explanation on the job's page, whichever command it was that logged in
    let summaries = job.summaries().join("") + &job.read("GITHUB_STEP_SUMMARY");
    let has_page =
        matches!(scenario.platform, Github | AzureDevops) && !scenario.arguments.contains(&"--client-secret");
    let is_usage = outcome.code == Some(2) && outcome.stderr.starts_with("azfed: error: invalid value");
    if has_page && !is_usage && command != "assertion" && outcome.code != Some(0) && outcome.code != Some(1) {
        let fact = outcome.stderr.lines().find(|line| line.starts_with("azfed: error: ")).unwrap();
        assert!(summaries.contains(fact), "{name}: {command}: {summaries}");
        assert_eq!(summaries.matches("### Azure login failed").count(), 1, "{name}: {command}: {summaries}");
    }
    assert_eq!(job.leaks(&summaries), Vec::<String>::new(), "{name}: {command}");
    let requests = job.emulator.requests();
    let in_urls: Vec<String> =
        requests.iter().map(|request| format!("{} {:?}", request.path, request.query)).collect();
    let in_urls = in_urls.join("\n");
    assert_eq!(job.leaks(&in_urls), Vec::<String>::new(), "{name}: {command}");
    for line in outcome.stderr.lines() {
        let command = line.trim_start().starts_with("::") || line.contains("##[") || line.contains("##vso[");
        let ours = [
            "::error title=azfed::",
            "::warning title=azfed::",
            "::add-mask::",
            "##vso[task.logissue type=",
            "##vso[task.setsecret]",
            "##vso[task.uploadsummary]",
        ];
        assert!(!command || ours.iter().any(|start| line.starts_with(start)), "{name}: {line}");
    }
}

#[test]
fn bad_input() {
    check(inputs());
}

#[test]
fn platforms_that_give_nothing() {
    check(platforms());
}

#[test]
fn entra_that_refuses_or_fails() {
    check(entra());
}

/// Every number of the table, from Entra's answer to what a user reads, and one that the table does not have.
#[test]
fn each_of_entras_codes_gives_its_fix() {
    let job = Job::new(Github);
    let mut shown = String::new();
    let codes = azfed::entra::aadsts::TABLE.iter().flat_map(|row| row.codes).copied().chain([123_456]);
    for code in codes {
        job.emulator.reset();
        job.fault("entra.token", 0, Action::Aadsts { code });
        let outcome = job.run(&["login", "--timeout", "2"]);
        assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new(), "AADSTS{code}");
        assert!(
            outcome.stderr.contains("azfed: hint: "),
            "AADSTS{code} has no next step: {}",
            outcome.stderr
        );
        let explained = format!("docs/errors.md#aadsts{code}");
        let is_known = azfed::entra::aadsts::row(code).is_some();
        assert!(
            !is_known || outcome.stderr.contains("docs/errors.md#aadsts"),
            "{explained}: {}",
            outcome.stderr
        );
        // what it presented is the same each time, and in other snapshots
        let said: Vec<&str> = outcome
            .stderr
            .lines()
            .filter(|line| {
                !line.contains("; trying again in ") && !line.starts_with("    ") && !line.starts_with("::")
            })
            .filter(|line| {
                !line.starts_with("  presented") && !line.starts_with("  asked for") && !line.is_empty()
            })
            .collect();
        writeln!(shown, "AADSTS{code}: exit code {}\n{}\n", outcome.code.unwrap(), said.join("\n")).unwrap();
    }
    assert!(job.left_in_temp().is_empty());
    assert_shown!("every_code", job.stable(&shown));
}

/// A failure stands beside the job with everything that it takes to mend it, in one annotation and on the job's page,
/// whichever command logged in.
#[test]
fn the_annotation_and_the_page_say_what_to_do() {
    let subject = "repo:contoso/infra:environment:100% staging";
    let wrong = JobOverrides { subject: text(subject), ..job() };
    for command in [&["login"][..], &["exec", "--", "true"], &["token"]] {
        let job = Job::with(Github, &wrong);
        let outcome = job.run(command);
        assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
        let annotations: Vec<&str> =
            outcome.stderr.lines().filter(|line| line.starts_with("::error")).collect();
        let [annotation] = annotations.as_slice() else { panic!("{}", outcome.stderr) };
        // as the runner reads it (actions/runner `src/Runner.Common/ActionCommand.cs`)
        let read = annotation.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%");
        let lines: Vec<&str> = read.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "::error title=azfed::Microsoft Entra refused this job's token (AADSTS700213)",
                &format!(
                    "subject {subject}: a job of environment `100% staging` in GitHub repository contoso/infra"
                ),
                "hint: subjects match exactly, letter case too; add a federated credential for this one:",
            ]
        );
        assert!(read.contains(&format!("--subject '{subject}' --audiences")), "{read}");
        let summary = job.read("GITHUB_STEP_SUMMARY");
        assert!(
            summary.starts_with("### Azure login failed\n\n```text\nazfed: error: "),
            "{command:?}: {summary}"
        );
        assert!(summary.contains(&format!("--subject '{subject}' --audiences")), "{command:?}: {summary}");
    }
    let wrong = JobOverrides { subject: text("sc://contoso/infra/other;]"), ..job() };
    for command in [&["login"][..], &["exec", "--", "true"], &["token"]] {
        let job = Job::with(AzureDevops, &wrong);
        let outcome = job.run(command);
        assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
        let issue = outcome.stderr.lines().find(|line| line.starts_with("##vso[task.logissue")).unwrap();
        assert!(issue.contains("%3B subject sc://contoso/infra/other%3B%5D: a job that uses"), "{issue}");
        let prefix = "##vso[task.uploadsummary]";
        let uploads: Vec<&str> =
            outcome.stderr.lines().filter_map(|line| line.strip_prefix(prefix)).collect();
        let [path] = uploads.as_slice() else { panic!("{command:?}: {}", outcome.stderr) };
        assert!(path.starts_with(&job.path("temp")), "{path}");
        let summary = fs::read_to_string(path).unwrap();
        assert!(
            summary.starts_with("### Azure login failed\n\n```text\nazfed: error: "),
            "{command:?}: {summary}"
        );
        assert!(summary.contains("--subject 'sc://contoso/infra/other;]' --audiences"), "{summary}");
        assert_eq!(job.leaks(&summary), Vec::<String>::new());
    }
    // a command that cannot be run, and one that fails by itself, are no failed logins
    let job = Job::new(Github);
    assert_eq!(job.run(&["exec", "--", "no-such-command"]).code, Some(127));
    assert_eq!(job.run(&["exec", "--", "sh", "-c", "exit 3"]).code, Some(3));
    assert_eq!(job.read("GITHUB_STEP_SUMMARY"), "");
    // what a command asked for stands on the page of Azure DevOps too
    let job = Job::new(AzureDevops);
    let script = r#"curl -s -H "X-IDENTITY-HEADER: $IDENTITY_HEADER" "$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net" >/dev/null"#;
    let mut command = job.command(&["exec", "--", "sh", "-c", script]);
    let outcome = crate::harness::Outcome::of(&command.env("PATH", "/usr/bin:/bin").output().unwrap());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let summaries = job.summaries();
    assert_eq!(summaries.len(), 1, "{}", outcome.stderr);
    assert!(
        summaries[0].starts_with("### Azure: what sh asked for\n\n| resource | times |"),
        "{summaries:?}"
    );
    assert!(summaries[0].contains("| https://vault.azure.net | 1 |"), "{summaries:?}");
    assert!(outcome.stderr.contains("##vso[task.uploadsummary]/"), "{}", outcome.stderr);
}

/// A server that repeats what it was sent, in each field that is shown and in each spelling: to the job's log goes none of
/// it.
#[test]
fn what_a_server_repeats_is_not_shown() {
    let jobs: [(fn() -> Job, &str, &[&[&str]]); 6] = [
        (|| Job::new(Github), "entra.token", &[&["login"], &["token"], &["doctor"], &["exec", "--", "true"]]),
        (|| Job::new(Gitlab), "entra.token", &[&["login"], &["token"]]),
        (|| Job::new(Github), "github.assertion", &[&["login"], &["assertion"], &["doctor"]]),
        (|| Job::new(AzureDevops), "azure-devops.assertion", &[&["login"], &["assertion"]]),
        (|| Job::on(Host::AppService), "app-service", &[&["login"], &["token"]]),
        (|| Job::on(Host::AzureMl), "azure-ml", &[&["token"]]),
    ];
    for (job, kind, commands) in jobs {
        let job = job();
        for spelling in Spelling::ALL {
            for status in [400, 503] {
                if status == 503 && spelling != Spelling::Form {
                    continue;
                }
                job.emulator.reset();
                job.fault(kind, 0, Action::Echo { status, spelling });
                for command in commands {
                    let outcome = job.run(&[&["-v"], *command, &["--timeout", "1"]].concat());
                    let what = format!("{kind} {spelling:?} {status} {command:?}: {}", outcome.all());
                    assert_ne!(outcome.code, Some(0), "{what}");
                    assert!(outcome.all().contains('…'), "{what}");
                    assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new(), "{what}");
                    let summary = job.read("GITHUB_STEP_SUMMARY");
                    assert_eq!(job.leaks(&summary), Vec::<String>::new(), "{what}");
                }
            }
        }
    }
}

/// The same of Azure Resource Manager, with the access token of the job or of an operator.
#[test]
fn what_azure_resource_manager_repeats_is_not_shown() {
    let mut job = Job::new(Github);
    let token = job.emulator.operator_token();
    job.az_with(&token);
    fs::write(job.path("credentials.json"), "[]").unwrap();
    let base = job.emulator.http_url();
    let of_operator =
        ["--subscription-id", world::SUBSCRIPTION, "--resource-group", "contoso-prod", "--identity", "x"];
    for spelling in Spelling::ALL {
        job.emulator.reset();
        job.fault("arm", 0, Action::Echo { status: 403, spelling });
        for command in [
            &["doctor", "--with-arm"][..],
            &["doctor"],
            &[&["trust", "apply", "credentials.json"], &of_operator[..]].concat(),
        ] {
            let outcome = job.run(&[command, &["--resource-manager", &base]].concat());
            let what = format!("{spelling:?} {command:?}: {}", outcome.all());
            assert!(outcome.all().contains('…'), "{what}");
            assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new(), "{what}");
        }
    }
}

/// A login that failed must not let `eval` go on, whatever is wrong with its command line, and wherever its words go.
#[cfg(unix)]
#[test]
fn a_login_that_failed_ends_the_script() {
    let mut job = Job::new(Gitlab);
    for (login, code) in [
        ("login --output sh --client-id not-a-guid", 2),
        ("login --output=sh --bogus", 2),
        ("login --bogus --output sh", 2),
        ("--output sh login", 2),
        ("-v --output token login", 2),
        ("login --output", 2),
        ("login --output nonsense", 2),
        ("login --output sh --output sh", 2),
        ("login --bogus", 2),
        ("lgoin --output sh", 2),
        ("login --output \"$(printf '\\377')\"", 2),
        ("login --bogus 2>/dev/full", 2),
        ("login --bogus 2>&-", 2),
        ("login --client-id 77777777-7777-4777-8777-777777777777", 4),
        ("login --client-id 77777777-7777-4777-8777-777777777777 2>/dev/full", 4),
        ("login --client-id 77777777-7777-4777-8777-777777777777 2>&-", 4),
    ] {
        let outcome = job.sh(&format!("set -e; eval \"$(azfed {login})\"; echo the job goes on"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{login}: {}", outcome.stderr);
    }
    for (form, text) in [
        ("powershell", "throw 'azfed login failed with exit code 2'\n"),
        ("fish", "false\n"),
        ("json", ""),
        ("dotenv", ""),
        ("github", ""),
    ] {
        let outcome = job.run(&["login", "--bogus", "--output", form]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), text), "{form}");
    }
    // what is for nobody's eval is no failed login's
    for other in
        [&["token", "--output", "sh"][..], &["exec", "--bogus", "--", "login"], &["trust", "login"], &[]]
    {
        assert_eq!(job.run(other).stdout, "", "{other:?}");
    }
    job.set("GITLAB_CI", "");
    job.set("GITHUB_ACTIONS", "true");
    assert_eq!(job.run(&["login", "--bogus"]).stdout, "", "the runner reads no shell");
}

/// The exit code is the command's, whatever becomes of its words.
#[cfg(unix)]
#[test]
fn no_exit_code_depends_on_stderr() {
    let job = Job::new(Gitlab);
    for (command, code) in [
        ("token", 0),
        ("token --bogus", 2),
        ("token --client-id 77777777-7777-4777-8777-777777777777", 4),
        ("assertion", 0),
        ("login -v", 0),
        ("logout", 0),
        ("doctor --client-id 77777777-7777-4777-8777-777777777777", 4),
        ("trust github --bogus", 2),
        ("exec -- sh -c 'exit 7'", 7),
        ("exec -- no-such-command", 127),
        ("--version", 0),
        ("", 2),
    ] {
        for stderr in ["2>/dev/full", "2>&-", "2>/dev/null", "2>&1 >&- | true; exit $?"] {
            let broken = stderr.contains('|');
            let script = if broken {
                format!(
                    "{{ azfed {command} >/dev/null; echo $? >code; }} 2>&1 | true; read code <code; exit $code"
                )
            } else {
                format!("azfed {command} {stderr} >/dev/null")
            };
            let outcome = job.sh(&script);
            assert_eq!(outcome.code, Some(code), "{command} {stderr}: {}", outcome.stderr);
        }
    }
    // a secret that cannot be masked is not handed out
    let job = Job::new(Github);
    for command in ["token", "exec -- true"] {
        let outcome = job.sh(&format!("azfed {command} 2>/dev/full"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{command}");
    }
}

/// A reader of stdout that has gone, or a full disk, is an error of its own, and no signal or panic.
#[cfg(unix)]
#[test]
fn an_output_that_cannot_be_written_fails() {
    let job = Job::new(Gitlab);
    for command in
        ["login", "token", "assertion", "doctor", "trust github --repo contoso/infra --branch main"]
    {
        let outcome = job.sh(&format!("azfed {command} >/dev/full"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{command}: {}", outcome.stderr);
        let said = |line: &str| line.starts_with("azfed: error: stdout could not be written: ");
        assert!(outcome.stderr.lines().any(said), "{command}: {}", outcome.stderr);
    }
    assert!(job.left_in_temp().is_empty());
}
