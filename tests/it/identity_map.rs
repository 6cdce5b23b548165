//! `--identity-map`: one file says which identity a job is.

use std::fs;

use azfed_emulator::{FederatedCredential, JobOverrides, Platform, world};

use crate::harness::{Job, assert_shown};

const MAP: &str = r#"{
  "tenant_id": "22222222-2222-4222-8222-222222222222",
  "identities": [
    { "environment": "prod", "client_id": "11111111-1111-4111-8111-111111111111", "identity": "deploy-prod",
      "resource_group": "ids", "subscription_id": "44444444-4444-4444-8444-444444444444", "branch": "main" },
    { "environment": "staging", "branch": "main", "client_id": "77777777-7777-4777-8777-777777777777", "identity": "deploy-staging" },
    { "tag": "v1", "client_id": "77777777-7777-4777-8777-777777777777", "identity": "deploy-staging" }
  ]
}"#;

/// A job without ids in its environment, with the map in its workspace.
fn job(platform: Platform, overrides: &JobOverrides) -> Job {
    let mut job = Job::with(platform, overrides);
    for name in ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"] {
        job.unset(name);
    }
    fs::write(job.path("identities.json"), MAP).unwrap();
    job
}

fn trusted(job: &Job, credentials: &str) {
    let list: serde_json::Value = serde_json::from_str(credentials).unwrap();
    for one in list.as_array().unwrap() {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let client_id = if one["name"].as_str().unwrap().ends_with("prod") {
            world::IDENTITY
        } else {
            world::BARE_IDENTITY
        };
        job.emulator.trust(FederatedCredential {
            client_id: client_id.to_owned(),
            issuer: text(&one["issuer"]),
            subject: text(&one["subject"]),
            audience: text(&one["audiences"][0]),
        });
    }
}

#[test]
fn each_job_is_its_identity_once_the_printed_credentials_are_there() {
    let subject =
        |subject: &str| JobOverrides { subject: Some(subject.to_owned()), ..JobOverrides::default() };
    let gitlab = |environment: &str| JobOverrides {
        environment: Some(environment.to_owned()),
        ..JobOverrides::default()
    };
    for (platform, overrides, client) in [
        (Platform::Github, JobOverrides::default(), world::IDENTITY),
        (Platform::Github, subject("repo:contoso/infra:environment:staging"), world::BARE_IDENTITY),
        (Platform::Github, subject("repo:contoso/infra:ref:refs/tags/v1"), world::BARE_IDENTITY),
        (Platform::Gitlab, gitlab("prod"), world::IDENTITY),
        (Platform::Gitlab, gitlab("staging"), world::BARE_IDENTITY),
    ] {
        let job = job(platform, &overrides);
        let described = match platform {
            Platform::Github => ["github", "--repo", "contoso/infra"].as_slice(),
            _ => &["gitlab", "--project", "contoso/infra", "--server", world::GITLAB_ISSUER],
        };
        let map = ["--identity-map", "identities.json"];
        let printed = job.run(&[&["trust"], described, &map, &["--as", "json"]].concat());
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        trusted(&job, &printed.stdout);
        let login = job.run(&[&["login", "--output", "json", "--no-keep-fresh"], &map[..]].concat());
        assert_eq!(login.code, Some(0), "{platform:?}: {}", login.stderr);
        let masked =
            login.stdout.lines().filter(|line| !line.starts_with("::")).collect::<Vec<_>>().join("\n");
        let handed_over: serde_json::Value = serde_json::from_str(&masked).unwrap();
        assert_eq!(handed_over["client_id"], client);
        let asked =
            job.emulator.requests().into_iter().filter(|request| request.kind == "github.assertion").count();
        assert_eq!(
            asked,
            usize::from(platform == Platform::Github),
            "the assertion that chose is the one that is presented"
        );
        let token = job.run(&[&["token", "--format", "json"], &map[..]].concat());
        assert!(token.stdout.contains(client), "{}", token.stderr);
        let exec = job.run(&[&["exec"], &map[..], &["--", "sh", "-c", "echo $AZURE_CLIENT_ID"]].concat());
        assert_eq!(exec.stdout, format!("{client}\n"), "{}", exec.stderr);
    }
}

#[test]
fn one_of_them_and_no_other() {
    let case = |name: &str, overrides: &JobOverrides, content: &str| {
        let job = job(Platform::Github, overrides);
        fs::write(job.path("identities.json"), content).unwrap();
        let outcome = job.run(&["login", "--identity-map", "identities.json"]);
        assert_shown!(format!("identity_map_{name}"), job.show(&outcome));
        assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new());
        assert!(job.left_in_temp().is_empty());
    };
    let other = JobOverrides {
        subject: Some("repo:contoso/infra:ref:refs/heads/x".to_owned()),
        ..JobOverrides::default()
    };
    case("none", &other, MAP);
    let twice = MAP.replace(r#""tag": "v1""#, r#""branch": "main""#);
    case("several", &JobOverrides::default(), &twice);
    case("no_json", &JobOverrides::default(), "identities: []");
    case(
        "a_secret",
        &JobOverrides::default(),
        &MAP.replace("\"identity\": \"deploy-prod\"", "\"client_secret\": \"x\""),
    );
    let job = job(Platform::Github, &JobOverrides::default());
    assert_eq!(
        job.run(&["login", "--identity-map", "identities.json", "--client-id", world::IDENTITY]).code,
        Some(2)
    );
    assert_eq!(job.run(&["login", "--identity-map", "no-such-file"]).code, Some(2));
}

#[test]
fn every_credential_that_it_needs() {
    let job = job(Platform::Github, &JobOverrides::default());
    for form in ["az", "terraform", "bicep", "arm"] {
        let arguments = [
            "trust",
            "github",
            "--repo",
            "contoso/infra",
            "--immutable",
            "1/2",
            "--identity-map",
            "identities.json",
            "--as",
            form,
        ];
        // a Bicep file is for one resource group: entries that name none get this one
        let group: &[&str] = if form == "bicep" { &["--resource-group", "ids"] } else { &[] };
        let outcome = job.run(&[&arguments[..], group].concat());
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_shown!(format!("identity_map_{form}"), outcome.stdout);
    }
    // identities of the same name in two groups are two: nothing that is printed mixes them up
    let two = MAP.replace("deploy-staging", "deploy-prod").replace(
        r#""identity": "deploy-prod" }"#,
        r#""identity": "deploy-prod", "resource_group": "other-ids" }"#,
    );
    fs::write(job.path("identities.json"), two).unwrap();
    let printed = |form| {
        let map = ["--identity-map", "identities.json", "--as", form];
        job.run(&[&["trust", "github", "--repo", "contoso/infra", "--immutable", "1/2"], &map[..]].concat())
    };
    for form in ["az", "terraform", "arm", "json"] {
        let outcome = printed(form);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_shown!(format!("identity_map_two_groups_{form}"), outcome.stdout);
    }
    let outcome = printed("bicep");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    assert!(
        outcome.stderr.contains(
            "several resource groups (ids, other-ids), and a Bicep file is for one\nazfed: hint: `--resource-group`"
        ),
        "{}",
        outcome.stderr
    );
    let alone = r#"{ "identities": [{ "environment": "prod", "client_id": "11111111-1111-4111-8111-111111111111" }] }"#;
    fs::write(job.path("identities.json"), alone).unwrap();
    let outcome = job.run(&["trust", "gitlab", "--project", "g/p", "--identity-map", "identities.json"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("which GitLab does not put into the subject"), "{}", outcome.stderr);
}

#[test]
fn a_tag_is_no_branch_whatever_its_name() {
    let map = |what: &str| {
        format!(
            r#"{{ "tenant_id": "{}", "identities": [{{ {what}, "client_id": "{}" }}] }}"#,
            world::TENANT,
            world::IDENTITY
        )
    };
    for (kind, name, what, is_it) in [
        ("branch", "main", r#""branch": "main""#, true),
        ("tag", "refs/heads/main", r#""branch": "main""#, false),
        ("branch", "refs/heads/main", r#""branch": "main""#, false),
        ("branch", "refs/tags/v1", r#""tag": "v1""#, false),
        ("tag", "refs/tags/v1", r#""tag": "v1""#, false),
        ("branch", "refs/pull/7", r#""pull_request": true"#, false),
    ] {
        let overrides = JobOverrides {
            subject: Some(format!("project_path:contoso/infra:ref_type:{kind}:ref:{name}")),
            ..JobOverrides::default()
        };
        let job = job(Platform::Gitlab, &overrides);
        fs::write(job.path("identities.json"), map(what)).unwrap();
        let outcome = job.run(&["token", "--identity-map", "identities.json"]);
        let refused = outcome.stderr.contains("no entry of the identity map is for this job");
        assert_eq!(refused, !is_it, "{kind} {name}: {}", outcome.stderr);
    }
}

#[test]
fn its_names_give_no_tool_a_command() {
    let job = job(Platform::Github, &JobOverrides::default());
    for name in [
        "x\n##vso[task.setvariable variable=PATH]/evil",
        "rg\n::error::hello",
        "a b",
        "$(id)",
        "--help",
        "@/etc/passwd",
        "../x",
        "",
        "a\u{202e}b",
        "a\u{3164}b",
    ] {
        for field in ["identity", "resource_group"] {
            let map = serde_json::json!({ "identities": [
                { "environment": "prod", "client_id": world::IDENTITY, field: name },
            ] });
            fs::write(job.path("identities.json"), map.to_string()).unwrap();
            for form in ["az", "terraform", "bicep", "arm", "json"] {
                let arguments =
                    ["trust", "github", "--repo", "o/r", "--identity-map", "identities.json", "--as", form];
                let outcome = job.run(&arguments);
                assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{field} {name:?} {form}");
                let said = format!("entry 1: {field}: no name that Azure takes");
                assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
            }
        }
    }
    // an id is printed as it is meant, not as it is written
    let map = serde_json::json!({ "identities": [
        { "environment": "prod", "client_id": format!("{}\n", world::IDENTITY.to_uppercase()) },
    ] });
    fs::write(job.path("identities.json"), map.to_string()).unwrap();
    let outcome = job.run(&["trust", "github", "--repo", "o/r", "--identity-map", "identities.json"]);
    assert!(
        outcome.stdout.contains(&format!("--identity-name IDENTITY-{} ", world::IDENTITY)),
        "{}",
        outcome.all()
    );
    // and a name injects nothing into an expression
    let map = serde_json::json!({ "identities": [
        { "environment": "x' or claims['repository_owner'] eq 'evil", "client_id": world::IDENTITY },
    ] });
    fs::write(job.path("identities.json"), map.to_string()).unwrap();
    let arguments =
        ["trust", "github", "--repo", "o/r", "--immutable", "1/2", "--identity-map", "identities.json"];
    assert_eq!(job.run(&arguments).code, Some(0));
    let outcome = job.run(&[&arguments[..], &["--flexible"]].concat());
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    assert!(outcome.stderr.contains("has a quote, which no expression can hold"), "{}", outcome.stderr);
}
