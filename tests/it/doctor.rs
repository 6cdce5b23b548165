//! `azfed doctor`: healthy jobs and each way to be ill; the words, the exit code of a login, the schema, no leaks.

use std::fs;

use azfed_emulator::{Action, FederatedCredential, JobOverrides, Platform, world};
use serde_json::Value;

use crate::harness::{Job, Outcome, assert_shown};

use Platform::{AzureDevops, Github, Gitlab, Kubernetes};

/// A patient: a job, and the arguments of the examination.
struct Patient {
    job: Job,
    arguments: Vec<String>,
}

impl Patient {
    fn new(platform: Platform) -> Self {
        Self::with(platform, &JobOverrides::default())
    }

    fn with(platform: Platform, overrides: &JobOverrides) -> Self {
        let job = Job::with(platform, overrides);
        let url = job.emulator.http_url();
        let arguments = ["--timeout", "5", "--resource-manager", &url];
        Self { arguments: arguments.iter().map(ToString::to_string).collect(), job }
    }

    fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.job.set(name, value);
        self
    }

    fn unset(mut self, name: &str) -> Self {
        self.job.unset(name);
        self
    }

    fn fault(self, kind: &str, action: Action) -> Self {
        self.job.fault(kind, 0, action);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        fs::write(self.job.path(name), content).unwrap();
        self
    }

    /// An az that prints this.
    fn az(mut self, script: &str) -> Self {
        self.job.az(script);
        self
    }

    /// The az of an operator who is logged in.
    fn operator(mut self) -> Self {
        let access_token = self.job.emulator.operator_token();
        self.job.az_with(&access_token);
        self
    }

    fn run(&self, more: &[&str]) -> Outcome {
        let arguments: Vec<&str> = ["doctor"]
            .into_iter()
            .chain(self.arguments.iter().map(String::as_str))
            .chain(more.iter().copied())
            .collect();
        self.job.run(&arguments)
    }

    /// What every examination must be: the snapshot's words, this exit code, a report for machines that says the same,
    /// and no secret anywhere. Gives the report.
    fn check(&self, name: &str, code: i32) -> Value {
        let outcome = self.run(&[]);
        assert_eq!(outcome.code, Some(code), "{name}: {}", self.job.show(&outcome));
        assert_shown!(format!("doctor_{}", name.replace(' ', "_")), self.job.stable(&outcome.stdout));
        self.check_leaks(name, &outcome);
        for more in [&["--json"][..], &["--json", "--verbose"]] {
            let outcome = self.run(more);
            assert_eq!(outcome.code, Some(code), "{name}: {}", self.job.show(&outcome));
            self.check_leaks(name, &outcome);
            assert!(schema(&outcome.stdout), "{name}: {}", outcome.stdout);
        }
        assert_eq!(self.job.left_in_temp(), Vec::<std::path::PathBuf>::new(), "{name}");
        let report: Value = serde_json::from_str(&self.run(&["--json"]).stdout).unwrap();
        assert_eq!((&report["ok"], &report["exit_code"]), (&(code == 0).into(), &code.into()), "{name}");
        report
    }

    fn check_leaks(&self, name: &str, outcome: &Outcome) {
        let all = outcome.all();
        assert_eq!(self.job.leaks(&all), Vec::<String>::new(), "{name}");
        assert!(!all.contains("sentinel"), "{name}: {all}");
        for line in all.lines() {
            let line = line.trim_start();
            let command = line.starts_with("::") || line.contains("##[") || line.contains("##vso[");
            let ours = ["::add-mask::", "##vso[task.setsecret]"];
            assert!(!command || ours.iter().any(|start| line.starts_with(start)), "{name}: {line}");
        }
    }

    /// The exit code of the login that was examined.
    fn login(&self) -> Option<i32> {
        let mut arguments = vec!["login", "--no-keep-fresh", "--timeout", "5"];
        let own = ["--resource-manager", "--credentials", "--with-arm", "--offline", "--timeout"];
        let mut given = self.arguments.iter().map(String::as_str);
        while let Some(argument) = given.next() {
            match argument {
                "--with-arm" | "--offline" => {}
                own_value if own.contains(&own_value) => drop(given.next()),
                other => arguments.push(other),
            }
        }
        self.job.run(&arguments).code
    }
}

/// Whether this is `{"ok": bool, "exit_code": number, "steps": [{"id", "status", "summary", "detail": [text], "hints": [text]}]}`, with each
/// step once and nothing else in it.
fn schema(text: &str) -> bool {
    let Ok(Value::Object(report)) = serde_json::from_str(text) else { return false };
    let ids = [
        "platform",
        "variables",
        "conflicts",
        "cloud",
        "identity",
        "network",
        "handover",
        "assertion",
        "dns",
        "connection",
        "clock",
        "entra",
        "exchange",
        "subscriptions",
        "credentials",
    ];
    let texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let step = |(step, id): (&Value, &str)| {
        let status = ["ok", "warning", "failed", "skipped"];
        step.as_object().is_some_and(|step| step.len() == 5)
            && step["id"] == id
            && step["status"].as_str().is_some_and(|value| status.contains(&value))
            && step["summary"].as_str().is_some_and(|value| !value.is_empty())
            && texts(&step["detail"])
            && texts(&step["hints"])
    };
    let steps = report.get("steps").and_then(Value::as_array);
    report.len() == 3
        && report.get("ok").is_some_and(Value::is_boolean)
        && report.get("exit_code").is_some_and(Value::is_u64)
        && steps.is_some_and(|steps| steps.len() == ids.len() && steps.iter().zip(ids).all(step))
}

fn status<'r>(report: &'r Value, id: &str) -> &'r str {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().find(|step| step["id"] == id).unwrap()["status"].as_str().unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "every use is an override that is set")]
fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn other_subject() -> JobOverrides {
    JobOverrides { subject: text("repo:contoso/infra:environment:staging"), ..JobOverrides::default() }
}

#[test]
fn healthy_jobs() {
    for (platform, name) in
        [(Github, "github"), (Gitlab, "gitlab"), (AzureDevops, "azure devops"), (Kubernetes, "pod")]
    {
        let patient = Patient::new(platform);
        let report = patient.check(&format!("healthy {name}"), 0);
        for id in ["assertion", "clock", "exchange", "subscriptions", "credentials"] {
            assert_eq!(status(&report, id), "ok", "{name}: {id}");
        }
        assert_eq!(patient.login(), Some(0), "{name}");
    }
}

#[test]
fn a_healthy_job_asks_no_more_than_it_needs() {
    let patient = Patient::new(Github);
    assert_eq!(patient.run(&[]).code, Some(0));
    let requests = patient.job.emulator.requests();
    let count = |kind: &str| requests.iter().filter(|request| request.kind == kind).count();
    assert_eq!((count("github.assertion"), count("entra.discovery"), count("entra.token")), (1, 1, 1));
    for request in requests.iter().filter(|request| request.kind == "arm") {
        assert_eq!(request.method, "GET");
        assert!(request.query.iter().any(|(name, _)| name == "api-version"), "{}", request.path);
    }
    let subscriptions = requests.iter().find(|request| request.path == "/subscriptions").unwrap();
    assert_eq!(subscriptions.query, [("api-version".to_owned(), "2022-12-01".to_owned())]);
}

#[test]
fn no_permission() {
    let none = JobOverrides { permissions: text("none"), ..JobOverrides::default() };
    for (platform, name) in [(Github, "github"), (Gitlab, "gitlab"), (AzureDevops, "azure devops")] {
        let patient = Patient::with(platform, &none);
        let report = patient.check(&format!("no permission {name}"), 3);
        // it goes on: Entra is asked all the same
        assert_eq!((status(&report, "entra"), status(&report, "exchange")), ("ok", "skipped"), "{name}");
        assert_eq!(patient.login(), Some(3), "{name}");
    }
}

#[test]
fn wrong_audience() {
    let patient = Patient::with(
        Gitlab,
        &JobOverrides { audience: text("https://gitlab.com"), ..JobOverrides::default() },
    );
    let report = patient.check("wrong audience of the token", 3);
    // the token is in hand: what it says is shown all the same
    let assertion = report["steps"][7].to_string();
    assert!(assertion.contains(world::GITLAB_SUBJECT), "{assertion}");
    assert_eq!(patient.login(), Some(3));

    let patient = Patient::new(Github).args(&["--audience", "api://mine"]);
    let report = patient.check("wrong audience of the login", 4);
    assert_eq!((status(&report, "cloud"), status(&report, "exchange")), ("warning", "failed"));
    assert_eq!(patient.login(), Some(4));
}

#[test]
fn wrong_subject() {
    let patient = Patient::with(Github, &other_subject());
    let report = patient.check("wrong subject", 4);
    assert_eq!(status(&report, "credentials"), "skipped");
    assert_eq!(patient.login(), Some(4));

    // the operator's az can say which credential is nearest
    let patient = Patient::with(Github, &other_subject()).operator().args(&["--with-arm"]);
    let report = patient.check("wrong subject with arm", 4);
    assert_eq!(status(&report, "credentials"), "failed");
    assert_eq!(patient.login(), Some(4));

    // immutable and classic subjects
    let immutable = JobOverrides {
        subject: text("repo:contoso@100/infra@200:environment:prod"),
        ..JobOverrides::default()
    };
    let patient = Patient::with(Github, &immutable).operator().args(&["--with-arm"]);
    patient.check("immutable subject with arm", 4);

    // an app registration is not in Azure Resource Manager
    let patient = Patient::with(Github, &other_subject()).operator().args(&["--with-arm"]);
    let report = patient.set("AZURE_CLIENT_ID", world::APPLICATION).check("an application with arm", 4);
    assert_eq!(status(&report, "credentials"), "skipped");

    let hostile = JobOverrides {
        subject: text("x\n::add-mask::y\r\n##vso[task.complete]z"),
        ..JobOverrides::default()
    };
    Patient::with(Github, &hostile).check("hostile subject", 4);
}

#[test]
fn the_printed_command_is_the_cure() {
    let patient = Patient::with(Github, &other_subject()).operator().args(&["--with-arm", "--json"]);
    let outcome = patient.run(&[]);
    assert_eq!(outcome.code, Some(4));
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let hint = report["steps"][14]["hints"][0].as_str().unwrap();
    let (_, command) = hint.split_once('\n').unwrap();
    let recorder = Patient::new(Github).az("for word; do printf '[%s]' \"$word\"; done");
    let path = recorder.job.path("bin");
    let ran =
        std::process::Command::new("/bin/sh").args(["-c", command]).env_clear().env("PATH", path).output();
    let words = Outcome::of(&ran.unwrap()).stdout;
    assert_eq!(
        words,
        "[identity][federated-credential][create][--identity-name][infra-prod][--resource-group][contoso-prod]\
         [--name][azfed-staging-40614100][--issuer][https://token.actions.githubusercontent.com]\
         [--subject][repo:contoso/infra:environment:staging][--audiences][api://AzureADTokenExchange]"
    );
    patient.job.emulator.trust(FederatedCredential {
        client_id: world::IDENTITY.to_owned(),
        issuer: world::GITHUB_ISSUER.to_owned(),
        subject: "repo:contoso/infra:environment:staging".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
    });
    assert_eq!(patient.run(&[]).code, Some(0));
}

#[test]
fn credentials_that_entra_does_not_know_yet() {
    let patient = Patient::new(Github).operator().args(&["--with-arm"]);
    let patient = patient.fault("entra.token", Action::Aadsts { code: 700_213 });
    let report = patient.check("too new a credential", 4);
    assert_eq!((status(&report, "exchange"), status(&report, "credentials")), ("failed", "warning"));
}

#[test]
fn credentials_from_a_file() {
    let list = r#"[{"name":"prod","issuer":"https://gitlab.example.com","audiences":["api://AzureADTokenExchange"],
                    "subject":"project_path:contoso/infra:ref_type:branch:ref:Main"}]"#;
    let patient =
        Patient::new(Gitlab).file("list.json", list).args(&["--offline", "--credentials", "list.json"]);
    let report = patient.check("offline with credentials", 4);
    assert_eq!((status(&report, "assertion"), status(&report, "credentials")), ("ok", "failed"));
    assert_eq!(patient.job.emulator.requests().len(), 0);

    // online, Entra knows better than a list
    let patient = Patient::new(Gitlab).file("list.json", list).args(&["--credentials", "list.json"]);
    let report: Value = serde_json::from_str(&patient.run(&["--json"]).stdout).unwrap();
    assert_eq!(status(&report, "credentials"), "warning");

    let patient = Patient::new(Gitlab).args(&["--offline", "--credentials", "nowhere.json"]);
    patient.check("credentials file is missing", 2);
}

#[test]
fn offline_asks_nobody() {
    let patient = Patient::new(Github).args(&["--offline"]);
    let report = patient.check("offline", 0);
    assert_eq!((status(&report, "assertion"), status(&report, "exchange")), ("skipped", "skipped"));
    assert_eq!(patient.job.emulator.requests().len(), 0);
}

#[test]
fn no_operator() {
    for (name, patient) in [
        ("no az", Patient::new(Github).set("PATH", "/nowhere")),
        ("az is not logged in", Patient::new(Github).az("echo 'ERROR: Please run az login' >&2; exit 1")),
        ("az prints nonsense", Patient::new(Github).az("echo ::error::sentinel")),
    ] {
        let patient = patient.args(&["--with-arm"]);
        let report = patient.check(name, 0);
        assert_eq!(status(&report, "credentials"), "skipped", "{name}");
    }
}

#[test]
fn the_clock_is_wrong() {
    for (name, skew) in [("clock is behind", 3600), ("clock is ahead", -3600)] {
        let patient = Patient::new(Github);
        patient.job.emulator.set(|settings| settings.date_skew_s = skew);
        let report = patient.check(name, 0);
        assert_eq!(status(&report, "clock"), "warning");
        let summary = report["steps"][10]["summary"].as_str().unwrap();
        assert!((3598..=3602).any(|seconds| summary.contains(&format!(" {seconds} s "))), "{summary}");
    }
}

#[test]
fn a_token_that_has_expired() {
    let patient = Patient::with(Gitlab, &JobOverrides { lifetime: Some(0), ..JobOverrides::default() });
    let report = patient.check("expired", 3);
    assert_eq!(status(&report, "clock"), "ok");
    assert_eq!(patient.login(), Some(3));
}

#[test]
fn no_role_assignment() {
    let patient = Patient::new(Github);
    patient.job.emulator.set(|settings| settings.role_assignments = false);
    let report = patient.check("no role assignment", 0);
    assert_eq!((status(&report, "exchange"), status(&report, "subscriptions")), ("ok", "warning"));
    assert_eq!(patient.login(), Some(0));

    let patient = Patient::new(Github).set("AZURE_SUBSCRIPTION_ID", "12345678-1234-4234-8234-123456789012");
    let report = patient.check("another subscription", 0);
    assert_eq!(status(&report, "subscriptions"), "warning");
}

#[test]
fn azure_resource_manager_is_ill() {
    let answers = |status, body: &str| Action::Status {
        status,
        body: body.to_owned(),
        headers: std::iter::empty::<(String, String)>().collect(),
    };
    for (name, action) in [
        ("arm drops", Action::Drop),
        ("arm answers html", Action::Html),
        (
            "arm refuses",
            answers(
                401,
                r###"{"error":{"code":"InvalidAuthenticationTokenTenant","message":"##vso[x]The access token is from the wrong issuer."}}"###,
            ),
        ),
    ] {
        let patient = Patient::new(Github).fault("arm", action);
        let report = patient.check(name, 0);
        assert_eq!(status(&report, "subscriptions"), "warning", "{name}");
        assert_eq!(status(&report, "credentials"), "skipped", "{name}");
    }
}

#[test]
fn a_link_to_another_server_is_not_followed() {
    let other = azfed_emulator::Emulator::start(azfed_emulator::Options::default()).unwrap();
    let body =
        serde_json::json!({ "value": [], "nextLink": format!("{}/subscriptions?page=2", other.http_url()) });
    let patient = Patient::new(Github).fault(
        "arm",
        Action::Status {
            status: 200,
            body: body.to_string(),
            headers: std::iter::empty::<(String, String)>().collect(),
        },
    );
    assert_eq!(patient.run(&[]).code, Some(0));
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn entra_is_not_reached() {
    let patient = Patient::new(Gitlab).args(&["--authority-host", "http://127.0.0.1:1"]);
    let report = patient.check("nobody listens", 5);
    assert_eq!((status(&report, "assertion"), status(&report, "exchange")), ("ok", "skipped"));
    assert_eq!(patient.login(), Some(5));

    let patient = Patient::new(Gitlab).args(&["--authority-host", "https://entra.invalid"]);
    let outcome = patient.run(&["--json"]);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (outcome.code, status(&report, "dns"), status(&report, "connection")),
        (Some(5), "failed", "skipped")
    );
    assert!(schema(&outcome.stdout));

    // the name of the certificate's authority is no system's
    let mut patient = Patient::new(Gitlab);
    let ca = patient.job.path("other-ca.pem");
    let other = azfed_emulator::Emulator::start(azfed_emulator::Options::default()).unwrap();
    fs::write(&ca, other.ca_pem()).unwrap();
    patient.job.set("SSL_CERT_FILE", &ca);
    let url = patient.job.emulator.https_url();
    let patient = patient.args(&["--authority-host", &url]);
    let report = patient.check("certificate is not trusted", 5);
    assert_eq!(status(&report, "connection"), "failed");
    assert_eq!(patient.login(), Some(5));

    let patient = Patient::new(Gitlab)
        .set("SSL_CERT_FILE", "/nowhere/ca.pem")
        .args(&["--authority-host", "https://127.0.0.1:1"]);
    patient.check("ca file is missing", 2);
    assert_eq!(patient.login(), Some(2));
}

#[test]
fn entra_is_ill() {
    for (name, kind, action, code) in [
        ("entra refuses for good", "entra.token", Action::Aadsts { code: 53_003 }, 4),
        ("a page for discovery", "entra.discovery", Action::Html, 0),
        (
            "discovery redirects",
            "entra.discovery",
            Action::Redirect { status: 302, to: "https://portal.example/".to_owned() },
            0,
        ),
    ] {
        let patient = Patient::new(Github).fault(kind, action);
        patient.check(name, code);
        assert_eq!(patient.login(), Some(code), "{name}");
    }
    let patient = Patient::new(Github).set("AZURE_TENANT_ID", "nowhere.onmicrosoft.com");
    let report = patient.check("unknown tenant", 4);
    assert_eq!((status(&report, "entra"), status(&report, "exchange")), ("warning", "failed"));
    assert_eq!(patient.login(), Some(4));
    let patient = Patient::new(Github).fault("entra.token", Action::Drop);
    let outcome = patient.run(&["--json"]);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((outcome.code, status(&report, "exchange")), (Some(5), "failed"));
    patient.check_leaks("entra drops", &outcome);
}

#[test]
fn the_platform_refuses() {
    for (name, action, code) in [
        (
            "github refuses",
            Action::Status {
                status: 403,
                body: String::new(),
                headers: std::iter::empty::<(String, String)>().collect(),
            },
            3,
        ),
        (
            "github redirects",
            Action::Redirect { status: 302, to: "https://elsewhere.example/".to_owned() },
            3,
        ),
    ] {
        let patient = Patient::new(Github).fault("github.assertion", action);
        let report = patient.check(name, code);
        assert_eq!((status(&report, "assertion"), status(&report, "entra")), ("failed", "ok"), "{name}");
        assert_eq!(patient.login(), Some(code), "{name}");
    }
}

#[test]
fn the_identity_map_chooses() {
    let map = format!(r#"{{"identities":[{{"environment":"prod","client_id":"{}"}}]}}"#, world::IDENTITY);
    let patient = || Patient::new(Github).unset("AZURE_CLIENT_ID").file("map.json", &map);
    let chooses = patient().args(&["--identity-map", "map.json"]);
    let report = chooses.check("identity map", 0);
    assert!(report["steps"][4].to_string().contains("from `--identity-map`"), "{report}");
    assert_eq!(chooses.login(), Some(0));
    // the map goes by the token, and offline GitHub gives none
    let offline = patient().args(&["--identity-map", "map.json", "--offline"]);
    let report = offline.check("identity map offline", 0);
    assert_eq!(status(&report, "identity"), "skipped");
    assert_eq!(offline.job.emulator.requests().len(), 0);
    let other =
        Patient::with(Github, &other_subject()).file("map.json", &map).args(&["--identity-map", "map.json"]);
    let code = other.login().unwrap();
    assert_ne!(code, 0);
    let report = other.check("identity map without this job", code);
    assert_eq!(status(&report, "identity"), "failed");
}

#[test]
fn variables_that_contradict() {
    for (name, variable, value, code) in [
        ("a secret beside", "ARM_CLIENT_SECRET", "sentinel", 2),
        ("a certificate beside", "AZURE_CLIENT_CERTIFICATE_PATH", "/sentinel", 2),
        ("another client id", "ARM_CLIENT_ID", world::APPLICATION, 0),
        ("a static token", "ARM_OIDC_TOKEN", "sentinel", 0),
        ("two clouds", "AZURE_ENVIRONMENT", "AzureChinaCloud", 2),
    ] {
        let mut patient = Patient::new(Github).set(variable, value);
        if name == "two clouds" {
            patient.job.set("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/");
            patient = patient.args(&["--offline"]);
        }
        patient.check(name, code);
        assert_eq!(patient.login(), Some(code), "{name}");
    }
    // who does not hand the login to Terraform may have its secret
    let patient = Patient::new(Github).set("ARM_CLIENT_SECRET", "sentinel").args(&["--for", "az"]);
    let report = patient.check("a secret of another client", 0);
    assert_eq!(status(&report, "conflicts"), "warning");
    assert_eq!(patient.login(), Some(0));
}

#[test]
fn ids_that_cannot_be() {
    for (name, variable, value, code) in [
        ("client id is empty", "AZURE_CLIENT_ID", "", 2),
        ("client id is a macro", "AZURE_CLIENT_ID", "$(clientId)", 2),
        ("tenant is common", "AZURE_TENANT_ID", "common", 2),
        ("client and tenant are one", "AZURE_CLIENT_ID", world::TENANT, 4),
        ("github env is missing", "GITHUB_ENV", "", 2),
    ] {
        let patient = Patient::new(Github).set(variable, value);
        patient.check(name, code);
        assert_eq!(patient.login(), Some(code), "{name}");
    }
}

#[test]
fn a_temp_that_cannot_be_written() {
    let patient = Patient::new(Github).set("RUNNER_TEMP", "/proc/1");
    let outcome = patient.run(&["--json"]);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((outcome.code, status(&report, "handover")), (Some(1), "failed"));
    assert_eq!(patient.login(), Some(1));
}

#[test]
fn proxies_are_named_without_their_passwords() {
    let patient = Patient::new(Gitlab)
        .set("HTTPS_PROXY", "http://user:sentinel@127.0.0.1:1")
        .set("SSL_CERT_FILE", "ca.pem")
        .args(&["--authority-host", "https://login.microsoftonline.com"]);
    let ca = patient.job.emulator.ca_pem().to_owned();
    let patient = patient.file("ca.pem", &ca);
    let report = patient.check("a proxy that is not there", 5);
    assert_eq!((status(&report, "dns"), status(&report, "connection")), ("skipped", "failed"));
    let patient = patient.set("NO_PROXY", ".microsoftonline.com").args(&["--offline"]);
    patient.check("no proxy for entra", 0);
    let patient = Patient::new(Gitlab).set("HTTPS_PROXY", "http://[sentinel").args(&[
        "--offline",
        "--authority-host",
        "https://login.microsoftonline.com",
    ]);
    patient.check("a proxy that is no url", 2);
}

/// What a hint has to paste, done in a shell whose az prints its words; `touched` says whether more than az was run.
fn pasted(command: &str) -> (String, bool) {
    let recorder = Patient::new(Github).az("for word; do printf '[%s]' \"$word\"; done");
    let bin = recorder.job.path("bin");
    fs::write(format!("{bin}/touch"), "#!/bin/sh\necho >\"$0.ed\"\n").unwrap();
    let chmod = std::process::Command::new("chmod").args(["755", &format!("{bin}/touch")]).status();
    assert!(chmod.unwrap().success());
    let ran =
        std::process::Command::new("/bin/sh").args(["-c", command]).env_clear().env("PATH", &bin).output();
    (Outcome::of(&ran.unwrap()).all(), fs::exists(format!("{bin}/touch.ed")).unwrap())
}

#[test]
fn what_is_pasted_is_what_is_meant() {
    let with_subject = |subject: &str| {
        Patient::with(Gitlab, &JobOverrides { subject: text(subject), ..JobOverrides::default() })
            .operator()
            .args(&["--with-arm"])
    };
    let id = format!(
        "/subscriptions/{}/resourcegroups/contoso-prod/providers/Microsoft.ManagedIdentity/userAssignedIdentities/infra-prod",
        world::SUBSCRIPTION
    );
    let subject = "project_path:g/p:ref_type:branch:ref:it's; touch x; #y";
    for (id, name, is_found) in [
        (id.clone(), "a\n#b", true),
        (id.clone(), "--help", true),
        (id.replace("infra-prod", "a\n#b"), "a", false),
        (id.replace("infra-prod", "@x"), "a", false),
        (id.replace("contoso-prod", "../x"), "a", false),
    ] {
        let patient = with_subject(subject);
        let properties = serde_json::json!({ "clientId": world::IDENTITY });
        let list = serde_json::json!({ "value": [{ "id": id, "name": name, "properties": properties }] });
        patient.job.emulator.fault(azfed_emulator::Fault {
            kind: "arm".to_owned(),
            times: 1,
            after: 1,
            late_ms: 0,
            action: Action::Status {
                status: 200,
                body: list.to_string(),
                headers: std::iter::empty::<(String, String)>().collect(),
            },
        });
        let report: Value = serde_json::from_str(&patient.run(&["--json"]).stdout).unwrap();
        let step = &report["steps"][14];
        if !is_found {
            assert_eq!(step["status"], "skipped", "{step}");
            continue;
        }
        let (_, command) = step["hints"][0].as_str().unwrap().split_once('\n').unwrap();
        let (words, touched) = pasted(command);
        assert!(!touched, "{command}");
        assert!(words.contains("[--identity-name][infra-prod][--resource-group][contoso-prod]"), "{words}");
        assert!(words.contains(&format!("[--subject][{subject}]")), "{words}");
    }
    // what a log would cut or change is not printed at all: neither here nor by a login
    for subject in [
        &format!("project_path:g/p:ref_type:branch:ref:{}", "'".repeat(560)),
        &format!("project_path:g/p:ref_type:branch:ref:{}", "😀'".repeat(280)),
        "x\u{200b}y",
        "x\u{202e}y",
        "x\u{7}y",
        "x\ny",
        "::x",
        "##[x]",
        "--help",
        "@/etc/passwd",
        " x",
    ] {
        let patient = with_subject(subject);
        let outcome = patient.run(&[]);
        assert_eq!(outcome.code, Some(4), "{subject:?}");
        assert!(!outcome.stdout.contains("federated-credential create"), "{subject:?}: {}", outcome.stdout);
        assert_eq!(outcome.stdout.matches("by hand").count(), 2, "{subject:?}: {}", outcome.stdout);
        let login = patient.job.run(&["login", "--no-keep-fresh"]);
        assert!(!login.stderr.contains("federated-credential create"), "{subject:?}: {}", login.stderr);
        assert!(login.stderr.contains("by hand"), "{subject:?}: {}", login.stderr);
    }
}

#[test]
fn an_answer_that_is_no_object_is_no_panic() {
    let long = serde_json::json!({ "value": [{ "subscriptionId": "x".repeat(70_000) }] }).to_string();
    let padded = " ".repeat(70_000) + world::SUBSCRIPTION;
    let padded =
        serde_json::json!({ "value": [{ "subscriptionId": padded, "state": "Disabled" }] }).to_string();
    for body in [
        "[]",
        "\"x\"",
        "1",
        "true",
        "null",
        "{}",
        r#"{"value":1}"#,
        r#"{"value":[1,"x",[],null]}"#,
        &long,
        &padded,
    ] {
        for more in [&["--json"][..], &["--json", "--with-arm"]] {
            let patient = Patient::new(Github).operator().fault(
                "arm",
                Action::Status {
                    status: 200,
                    body: body.to_owned(),
                    headers: std::iter::empty::<(String, String)>().collect(),
                },
            );
            let outcome = patient.run(more);
            assert_eq!(outcome.code, Some(0), "{body:.40}: {}", outcome.stderr);
            let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
            assert_eq!(status(&report, "subscriptions"), "warning", "{body:.40}");
        }
    }
    for body in ["[]", "1"] {
        for kind in ["entra.discovery", "entra.token", "github.assertion"] {
            let answer = Action::Status {
                status: 200,
                body: body.to_owned(),
                headers: std::iter::empty::<(String, String)>().collect(),
            };
            let outcome = Patient::new(Github).fault(kind, answer).run(&["--json"]);
            assert!(!outcome.stderr.contains("panicked"), "{kind} {body}: {}", outcome.stderr);
            assert!(schema(&outcome.stdout), "{kind} {body}: {}", outcome.stdout);
        }
    }
}
