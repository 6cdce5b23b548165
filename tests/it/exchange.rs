//! What is asked of the platform and of Entra, and how often.

use std::time::{Duration, Instant};

use azfed_emulator::{Action, FederatedCredential, JobOverrides, Platform, Recorded, world};

use crate::harness::{Job, Outcome, status};

fn of_kind(job: &Job, kind: &str) -> Vec<Recorded> {
    job.emulator.requests().into_iter().filter(|request| request.kind == kind).collect()
}

#[test]
fn the_form_is_what_entra_documents() {
    let job = Job::new(Platform::Github);
    let outcome = job.run(&["token", "--scope", "https://vault.azure.net"]);
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    let [asked] = of_kind(&job, "github.assertion").try_into().unwrap();
    assert_eq!(
        asked.query,
        [("api-version", "2.0"), ("audience", "api://AzureADTokenExchange")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let [post] = of_kind(&job, "entra.token").try_into().unwrap();
    assert_eq!(post.path, format!("/{}/oauth2/v2.0/token", world::TENANT));
    let names: Vec<&str> = post.form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["client_id", "scope", "client_assertion_type", "client_assertion", "grant_type"]);
    assert_eq!(post.form[1].1, "https://vault.azure.net/.default");
    assert_eq!(post.headers["content-type"], "application/x-www-form-urlencoded");
    assert!(post.headers["user-agent"].starts_with("azfed/"));
    assert_eq!(post.headers["client-request-id"].len(), 36);
}

#[test]
fn azure_devops_is_asked_as_it_documents() {
    let job = Job::new(Platform::AzureDevops);
    let outcome = job.run(&["token"]);
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    let [asked] = of_kind(&job, "azure-devops.assertion").try_into().unwrap();
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.headers["x-tfs-fedauthredirect"], "Suppress");
    assert_eq!(asked.headers["content-length"], "0");
    assert_eq!(
        asked.query,
        [("api-version", "7.1"), ("serviceConnectionId", world::CONNECTION)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn every_try_has_a_fresh_assertion() {
    let job = Job::new(Platform::Github);
    job.fault("entra.token", 2, status(503, &[]));
    let outcome = job.run(&["token"]);
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    let assertions: std::collections::BTreeSet<String> = of_kind(&job, "entra.token")
        .into_iter()
        .filter_map(|post| post.form.into_iter().find(|(name, _)| name == "client_assertion"))
        .map(|(_, assertion)| assertion)
        .collect();
    assert_eq!(assertions.len(), 3);
    assert_eq!(of_kind(&job, "github.assertion").len(), 3);
}

#[test]
fn transient_answers_are_tried_again() {
    for action in [
        status(408, &[]),
        status(500, &[]),
        status(504, &[]),
        Action::Aadsts { code: 90_033 },
        Action::Aadsts { code: 7_000_272 },
        Action::Drop,
        Action::ResetMidBody,
        Action::Empty,
        Action::Html,
        Action::TruncatedJson,
    ] {
        let job = Job::new(Platform::Gitlab);
        job.fault("entra.token", 1, action.clone());
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(0), "{action:?}: {}", job.show(&outcome));
        assert_eq!(of_kind(&job, "entra.token").len(), 2, "{action:?}");
    }
}

#[test]
fn refusals_are_not_tried_again() {
    for code in [700_213, 70_025, 700_016, 90_002, 500_011, 53_003, 7_000_215, 50_196, 700_222] {
        let job = Job::new(Platform::Github);
        job.fault("entra.token", 0, Action::Aadsts { code });
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(4), "{code}: {}", job.show(&outcome));
        assert_eq!(of_kind(&job, "entra.token").len(), 1, "{code}");
    }
}

#[test]
fn an_expired_assertion_is_fetched_once_more() {
    for (code, times, exit, posts) in [(700_024, 1, 0, 2), (50_027, 1, 0, 2), (700_024, 0, 4, 2)] {
        let job = Job::new(Platform::Github);
        job.fault("entra.token", times, Action::Aadsts { code });
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(exit), "{code}: {}", job.show(&outcome));
        assert_eq!(of_kind(&job, "entra.token").len(), posts, "{code}");
    }
    // GitLab cannot mint again
    let job = Job::new(Platform::Gitlab);
    job.fault("entra.token", 1, Action::Aadsts { code: 700_024 });
    assert_eq!(job.run(&["token"]).code, Some(4));
    assert_eq!(of_kind(&job, "entra.token").len(), 1);
}

#[test]
fn retry_after_is_honoured_up_to_a_cap() {
    let job = Job::new(Platform::Gitlab);
    job.fault("entra.token", 1, status(429, &[("retry-after", "1")]));
    let started = Instant::now();
    assert_eq!(job.run(&["token"]).code, Some(0));
    assert!(started.elapsed() >= Duration::from_secs(1));

    let job = Job::new(Platform::Gitlab);
    job.fault("entra.token", 0, status(429, &[("retry-after", "3600")]));
    let started = Instant::now();
    assert_eq!(job.run(&["token"]).code, Some(5));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(of_kind(&job, "entra.token").len(), 1);
}

#[test]
fn the_deadline_ends_everything() {
    let job = Job::new(Platform::Github);
    job.fault("entra.token", 0, Action::Delay { ms: 60_000 });
    let started = Instant::now();
    let outcome = job.run(&["login", "--timeout", "1s"]);
    assert_eq!(outcome.code, Some(5), "{}", job.show(&outcome));
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(outcome.stderr.starts_with("azfed: error: gave up after 1 s\n"), "{}", outcome.stderr);
    assert!(job.left_in_temp().is_empty());
}

#[test]
fn scopes_go_out_together_and_one_refusal_is_all() {
    let job = Job::new(Platform::Github);
    job.fault("entra.token", 3, Action::Delay { ms: 400 });
    let started = Instant::now();
    let scopes = [
        "--scope",
        "https://vault.azure.net",
        "--scope",
        "https://storage.azure.com",
        "--scope",
        "https://graph.microsoft.com",
    ];
    let outcome = job.run(&[&["login"][..], &scopes].concat());
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    assert!(started.elapsed() < Duration::from_millis(1100), "one after the other: {:?}", started.elapsed());
    assert_eq!(of_kind(&job, "github.assertion").len(), 1);

    let job = Job::new(Platform::Github);
    let outcome =
        job.run(&["login", "--scope", "https://vault.azure.net", "--scope", "https://nowhere.example"]);
    assert_eq!(outcome.code, Some(4));
    assert!(job.left_in_temp().is_empty() && job.read("GITHUB_ENV").is_empty());
}

#[test]
fn entras_connection_is_opened_while_the_platform_mints() {
    let job = Job::new(Platform::Github);
    job.fault("github.assertion", 1, Action::Delay { ms: 300 });
    assert_eq!(job.run(&["token"]).code, Some(0));
    let (minted, exchanged) = (&of_kind(&job, "github.assertion")[0], &of_kind(&job, "entra.token")[0]);
    // connections are numbered as they are accepted: Entra's was there before the platform had answered, and was used
    assert!(exchanged.connection <= minted.connection + 1);
    assert_eq!(job.emulator.requests().len(), 2, "nothing was sent on it before");
}

#[test]
fn a_credential_never_goes_through_a_proxy_to_loopback_or_after_a_redirect() {
    let mut job = Job::new(Platform::Github);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        job.set(name, "http://127.0.0.1:1");
    }
    assert_eq!(job.run(&["token"]).code, Some(0));

    let job = Job::new(Platform::Github);
    let target = format!("{}/stolen", job.emulator.http_url());
    job.fault("entra.token", 0, Action::Redirect { status: 308, to: target });
    assert_eq!(job.run(&["token"]).code, Some(5));
    assert!(job.emulator.requests().iter().all(|request| request.path != "/stolen"));
}

#[test]
fn gitlabs_token_is_found_under_any_name() {
    let mut job = Job::new(Platform::Gitlab);
    let token = job.environment["AZURE_ID_TOKEN"].clone();
    job.unset("AZURE_ID_TOKEN");
    job.set("MY_AZURE_JWT", &token);
    assert_eq!(job.run(&["token"]).code, Some(0));
    job.unset("CI_SERVER_URL");
    assert_eq!(job.run(&["token"]).code, Some(3));
}

#[test]
fn an_app_registration_works_the_same_way() {
    let mut job = Job::with(Platform::AzureDevops, &JobOverrides::default());
    job.set("AZURE_CLIENT_ID", world::APPLICATION);
    let outcome = job.run(&["token", "--format", "json"]);
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    let token: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(token["client"], world::APPLICATION);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = token["expires_on"].as_u64().unwrap() - now;
    assert!((3590..=3600).contains(&left), "{left}");
}

#[test]
fn a_credential_that_entra_does_not_know_yet() {
    let mut job = Job::new(Platform::Github);
    job.set("AZURE_CLIENT_ID", world::BARE_IDENTITY);
    let login = job.command(&["login", "--wait-for-propagation", "60s"]);
    let running = std::thread::spawn(move || {
        let mut login = login;
        login.output().unwrap()
    });
    std::thread::sleep(Duration::from_secs(3));
    job.emulator.trust(FederatedCredential {
        client_id: world::BARE_IDENTITY.to_owned(),
        issuer: world::GITHUB_ISSUER.to_owned(),
        subject: "repo:contoso/infra:environment:prod".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
    });
    let outcome = Outcome::of(&running.join().unwrap());
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    assert!(outcome.stderr.contains("(AADSTS70025); trying again in 2.0 s"), "{}", outcome.stderr);
    let requests = job.emulator.requests();
    let count = |kind: &str| requests.iter().filter(|request| request.kind == kind).count();
    assert!(count("entra.token") >= 2);
    assert_eq!(count("github.assertion"), count("entra.token"), "a fresh assertion each time");
    // one that never comes ends with the explanation, and not with the deadline
    let other = JobOverrides {
        subject: Some("repo:contoso/infra:environment:x".to_owned()),
        ..JobOverrides::default()
    };
    let job = Job::with(Platform::Github, &other);
    let outcome = job.run(&["login", "--wait-for-propagation", "3s"]);
    assert_eq!(outcome.code, Some(4), "{}", job.show(&outcome));
    assert!(outcome.stderr.contains("  presented by this job\n"), "{}", outcome.stderr);
}
