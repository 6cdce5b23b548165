//! `azfed doctor`: a healthy job, and what it says of each that is not.

use std::fs;

use azfed_emulator::{Action, Fault, JobOverrides, Platform, world};

use crate::harness::{Job, Outcome, assert_shown};

fn doctor(job: &Job, arguments: &[&str]) -> Outcome {
    let resource_manager = job.emulator.http_url();
    let outcome = job.run(&[&["doctor", "-v", "--resource-manager", &resource_manager], arguments].concat());
    assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new());
    outcome
}

fn of(platform: Platform, overrides: &JobOverrides) -> Outcome {
    doctor(&Job::with(platform, overrides), &[])
}

/// The report as a snapshot has it.
fn shown(job: &Job, outcome: &Outcome) -> String {
    format!("exit code {}\n{}", outcome.code.unwrap(), job.stable(&outcome.stdout))
}

#[test]
fn a_healthy_job() {
    for (platform, name) in [
        (Platform::Github, "github"),
        (Platform::Gitlab, "gitlab"),
        (Platform::AzureDevops, "azure_devops"),
        (Platform::Kubernetes, "kubernetes"),
    ] {
        let job = Job::new(platform);
        let outcome = doctor(&job, &[]);
        assert_shown!(format!("doctor_{name}"), shown(&job, &outcome));
        assert!(job.left_in_temp().is_empty());
    }
    // for machines
    let job = Job::new(Platform::Github);
    let outcome = doctor(&job, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&report["ok"], &report["exit_code"]), (&true.into(), &0.into()));
    let ids: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    let expected = [
        "settings",
        "network",
        "platform",
        "assertion",
        "credentials",
        "entra",
        "clock",
        "exchange",
        "subscriptions",
    ];
    assert_eq!(ids, expected);
    assert!(
        report["steps"]
            .as_array()
            .unwrap()
            .iter()
            .all(|step| step["summary"].is_string() && step["details"].is_array())
    );
}

#[test]
fn broken_ones() {
    let case = |name: &str, job: &Job, arguments: &[&str]| {
        let outcome = doctor(job, arguments);
        assert_shown!(format!("doctor_{name}"), shown(job, &outcome));
    };
    let with = |overrides: &JobOverrides| Job::with(Platform::Github, overrides);
    case(
        "no_permission",
        &with(&JobOverrides { permissions: Some("none".to_owned()), ..JobOverrides::default() }),
        &[],
    );
    let subject = JobOverrides {
        subject: Some("repo:contoso/infra:environment:Prod".to_owned()),
        ..JobOverrides::default()
    };
    case("wrong_subject", &with(&subject), &[]);
    let job = with(&subject);
    let file = job.path("credentials.json");
    let credentials = r#"[{"name":"prod","issuer":"https://token.actions.githubusercontent.com","subject":"repo:contoso/infra:environment:prod","audiences":["api://AzureADTokenExchange"]}]"#;
    fs::write(&file, credentials).unwrap();
    case("wrong_subject_compared", &job, &["--credentials", &file]);
    let gitlab =
        JobOverrides { audience: Some("https://gitlab.example.com".to_owned()), ..JobOverrides::default() };
    case("wrong_audience", &Job::with(Platform::Gitlab, &gitlab), &[]);
    let job = Job::new(Platform::Github);
    job.emulator.set(|settings| settings.role_assignments = false);
    case("no_role", &job, &[]);
    let mut job = Job::new(Platform::Github);
    job.set("AZURE_SUBSCRIPTION_ID", "55555555-5555-4555-8555-555555555555");
    case("no_role_in_this_subscription", &job, &[]);
    let mut job = Job::new(Platform::Github);
    job.set("AZURE_AUTHORITY_HOST", "http://127.0.0.1:1");
    case("entra_away", &job, &["--timeout", "2"]);
    let mut job = Job::new(Platform::Github);
    job.set("ARM_CLIENT_ID", world::APPLICATION);
    job.set("ARM_CLIENT_SECRET", "sentinel-secret");
    job.set("ARM_OIDC_TOKEN", "sentinel-token");
    job.set("HTTPS_PROXY", "http://user:sentinel-password@127.0.0.1:1");
    let outcome = doctor(&job, &[]);
    assert!(!outcome.all().contains("sentinel"), "{}", outcome.all());
    assert_shown!("doctor_contradictions", shown(&job, &outcome));
    let mut job = Job::new(Platform::Github);
    job.set("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1");
    job.set("FAKETIME", "+2h");
    case("clock_ahead", &job, &[]);
    let mut job = Job::new(Platform::Github);
    for name in ["AZURE_CLIENT_ID", "GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL"] {
        job.unset(name);
    }
    case("nothing_known", &job, &[]);
    let job = Job::new(Platform::Github);
    job.emulator.fault(Fault {
        kind: "github.assertion".to_owned(),
        times: 0,
        after: 0,
        late_ms: 0,
        action: Action::Status {
            status: 403,
            body: String::new(),
            headers: std::collections::BTreeMap::new(),
        },
    });
    case("platform_refuses", &job, &[]);
}

#[test]
fn offline_asks_nobody() {
    for platform in [Platform::Github, Platform::Gitlab] {
        let job = Job::new(platform);
        let outcome = doctor(&job, &["--offline"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.all());
        assert_eq!(job.emulator.requests().len(), 0);
        assert_shown!(format!("doctor_offline_{platform:?}").to_lowercase(), shown(&job, &outcome));
    }
}

#[test]
fn its_exit_code_is_the_logins() {
    let expired = JobOverrides { lifetime: Some(0), ..JobOverrides::default() };
    for (overrides, code) in [
        (JobOverrides::default(), 0),
        (JobOverrides { subject: Some("x".to_owned()), ..JobOverrides::default() }, 4),
        (expired, 3),
    ] {
        let login = Job::with(Platform::Gitlab, &overrides).run(&["login"]);
        assert_eq!(
            (login.code, of(Platform::Gitlab, &overrides).code),
            (Some(code), Some(code)),
            "{}",
            login.stderr
        );
    }
}
