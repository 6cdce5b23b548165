//! The other CIs and clouds: from what each of them sets to an access token, and what is said where it does not grant one.

use std::fs;

use azfed_emulator::{
    AwsFederation, JobOverrides, Workload,
    workloads::{AWS_PRINCIPAL, BUILDKITE_PIPELINE, CIRCLECI_ORGANIZATION, GOOGLE_ACCOUNT},
    world,
};

use crate::harness::{Job, Outcome, assert_shown, status};

const EXCHANGE: &str = "api://AzureADTokenExchange";

/// The platform's own program, which prints this token when it is called as its documentation says.
fn with_program(job: &mut Job, workload: Workload, audience: &str) {
    let (name, called) = match workload {
        Workload::Buildkite => (
            "buildkite-agent",
            format!("oidc request-token --audience {audience} --subject-claim pipeline_id"),
        ),
        Workload::Circleci => ("circleci", format!("run oidc get --claims {{\"aud\":\"{audience}\"}}")),
        _ => return,
    };
    let overrides = JobOverrides {
        audience: Some(audience.to_owned()),
        subject_claim: (workload == Workload::Buildkite).then(|| "pipeline_id".to_owned()),
        ..JobOverrides::default()
    };
    fs::write(job.path("token"), job.emulator.mint_workload(workload, &overrides)).unwrap();
    let token = job.path("token");
    job.program(name, &format!("[ \"$*\" = '{called}' ] || exit 9\nexec /bin/cat '{token}'"));
}

/// A job of this platform, with what it needs, and the flags that it takes.
fn job(workload: Workload) -> (Job, Vec<&'static str>) {
    let mut job = Job::of(workload, &JobOverrides::default());
    with_program(&mut job, workload, EXCHANGE);
    let flags = match workload {
        Workload::Jenkins => vec!["--assertion-env", "DEPLOY_ID_TOKEN"],
        Workload::GoogleCloud => vec!["--source", "google-cloud"],
        Workload::Aws => vec!["--source", "aws"],
        _ => Vec::new(),
    };
    if matches!(workload, Workload::Forgejo | Workload::Gitea) {
        for name in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"] {
            let path = job.path(name);
            fs::write(&path, "").unwrap();
            job.set(name, &path);
        }
        job.set("RUNNER_TEMP", &job.path("temp"));
    }
    (job, flags)
}

/// Everything but Bitbucket, which never gets so far.
fn workloads() -> impl Iterator<Item = Workload> {
    Workload::ALL.into_iter().filter(|workload| *workload != Workload::Bitbucket)
}

fn check(job: &Job, outcome: &Outcome) {
    assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new(), "{}", job.show(outcome));
}

#[test]
fn each_of_them_logs_in() {
    for workload in workloads() {
        let (job, flags) = job(workload);
        let outcome = job.run(&[&["token"], &flags[..]].concat());
        assert_eq!(outcome.code, Some(0), "{workload:?} {}", job.show(&outcome));
        assert!(job.emulator.secrets().contains(&outcome.stdout.trim().to_owned()), "{workload:?}");
        assert_eq!(job.leaks(&outcome.stderr), Vec::<String>::new(), "{workload:?}");
    }
}

#[test]
fn later_steps_have_the_login() {
    for workload in workloads() {
        let (job, flags) = job(workload);
        let arguments = [&["login", "--no-keep-fresh", "-v"], &flags[..]].concat();
        let outcome = job.run(&arguments);
        assert_eq!(outcome.code, Some(0), "{workload:?} {}", job.show(&outcome));
        check(&job, &outcome);
        let name = format!("{workload:?}").to_ascii_lowercase();
        assert_shown!(format!("platform_login_{name}"), job.show(&outcome));
        let outcome = job.run(&["logout"]);
        assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    }
}

#[test]
fn what_is_asked_for() {
    for (workload, kind) in
        [(Workload::Forgejo, "forgejo.assertion"), (Workload::GoogleCloud, "google"), (Workload::Aws, "aws")]
    {
        let (job, flags) = job(workload);
        assert_eq!(job.run(&[&["assertion"], &flags[..]].concat()).code, Some(0), "{workload:?}");
        let requests = job.emulator.requests();
        assert_eq!(requests.iter().map(|request| request.kind).collect::<Vec<_>>(), [kind]);
    }
}

#[test]
fn what_is_not_granted() {
    let none = JobOverrides { permissions: Some("none".to_owned()), ..JobOverrides::default() };
    for workload in Workload::ALL {
        let mut job = Job::of(workload, &none);
        // where no program of the platform's is
        job.set("PATH", &job.path("bin"));
        let source = match workload {
            Workload::Jenkins => continue,
            // its token goes with every run, and its mark with the variables of Terraform
            Workload::Spacelift => {
                job.set("TF_VAR_spacelift_run_id", "01JKZAHVAQHFM8CC3EA5HWRMP1");
                &[][..]
            }
            Workload::GoogleCloud => &["--source", "google-cloud"],
            Workload::Aws => &["--source", "aws"],
            _ => &[],
        };
        let outcome = job.run(&[&["token", "--timeout", "3s"], source].concat());
        check(&job, &outcome);
        assert_eq!(outcome.code, Some(3), "{workload:?} {}", job.show(&outcome));
        let name = format!("{workload:?}").to_ascii_lowercase();
        assert_shown!(format!("platform_not_granted_{name}"), job.show(&outcome));
    }
}

#[test]
fn a_program_that_says_no() {
    for (name, script) in [
        ("status", "echo 'fatal: the job has ended' >&2; exit 1"),
        ("old", "echo 'flag provided but not defined: -subject-claim' >&2; exit 2"),
        (
            "secret",
            "echo \"Authorization: Token $BUILDKITE_AGENT_ACCESS_TOKEN eyJhbGciOi.e30.c2ln\" >&2; exit 1",
        ),
        ("command", "printf '##vso[task.complete]\\n::error::x\\n\\n' >&2; exit 1"),
        ("nothing", "exit 0"),
        ("words", "echo 'no token today'"),
        ("signal", "kill -9 $$"),
        ("flood", "exec cat /dev/zero"),
        ("loud", "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'the last line' >&2; exit 1"),
    ] {
        let mut job = Job::of(Workload::Buildkite, &JobOverrides::default());
        job.set("BUILDKITE_AGENT_ACCESS_TOKEN", "opaque-access-token");
        job.program("buildkite-agent", script);
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(3), "{name} {}", job.show(&outcome));
        assert!(!outcome.all().contains("opaque-access-token") && !outcome.all().contains("eyJ"), "{name}");
        assert_shown!(format!("platform_program_{name}"), job.show(&outcome));
    }
}

#[test]
fn a_program_that_does_not_end() {
    let mut job = Job::of(Workload::Circleci, &JobOverrides::default());
    // nor does what it has started, whether it waits for that or has ended itself
    for last in ["exec sleep 60", "exit 0"] {
        let pids = job.path("pids");
        job.program("circleci", &format!("sleep 60 &\necho $! $$ >'{pids}'; {last}"));
        let outcome = job.run(&["token", "--timeout", "1s"]);
        assert_eq!(outcome.code, Some(5), "{}", job.show(&outcome));
        let running = || {
            let pids = job.read("pids");
            let is_running = |pid: &&str| {
                let state = fs::read_to_string(format!("/proc/{pid}/stat"));
                state.is_ok_and(|state| !state.contains(") Z "))
            };
            pids.split_whitespace().filter(is_running).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        for _ in 0..100 {
            if running().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(running(), Vec::<String>::new(), "still running: {last}");
    }
}

#[test]
fn the_claim_that_is_the_subject() {
    for (variable, flag, claim) in
        [(Some("cluster_id"), None, "cluster_id"), (Some("cluster_id"), Some("queue_id"), "queue_id")]
    {
        let mut job = Job::of(Workload::Buildkite, &JobOverrides::default());
        job.program("buildkite-agent", "printf '%s\\n' \"$@\" >arguments; exit 1");
        if let Some(variable) = variable {
            job.set("BUILDKITE_OIDC_TOKEN_SUBJECT_CLAIM", variable);
        }
        let flag = flag.map(|flag| format!("--subject-claim={flag}"));
        let mut arguments = vec!["token"];
        arguments.extend(flag.as_deref());
        assert_eq!(job.run(&arguments).code, Some(3));
        let expected = format!("oidc\nrequest-token\n--audience\n{EXCHANGE}\n--subject-claim\n{claim}\n");
        assert_eq!(job.read("arguments"), expected);
    }
    let outcome =
        Job::of(Workload::Buildkite, &JobOverrides::default()).run(&["token", "--subject-claim", "--x"]);
    assert_eq!(outcome.code, Some(2));
}

#[test]
fn circleci_without_its_program_by_the_ready_token() {
    let mut job = Job::of(Workload::Circleci, &JobOverrides::default());
    job.set("PATH", &job.path("bin"));
    let outcome = job.run(&["token"]);
    let organization = job.environment["CIRCLE_ORGANIZATION_ID"].clone();
    let way_out = format!("--assertion-env CIRCLE_OIDC_TOKEN_V2 --audience {organization}");
    assert_eq!(outcome.code, Some(3));
    assert!(outcome.stderr.contains(&way_out), "{}", outcome.stderr);
    // whose subject is the first form's, as the application's credential has it
    let arguments = ["token", "--assertion-env", "CIRCLE_OIDC_TOKEN", "--audience", &organization];
    let outcome = job.run(&[&arguments[..], &["--client-id", world::APPLICATION]].concat());
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
}

#[test]
fn a_fixed_audience_needs_no_flag_and_takes_no_other() {
    for workload in [Workload::Spacelift, Workload::Semaphore] {
        let job = Job::of(workload, &JobOverrides::default());
        let fixed = workload.audience();
        assert_eq!(job.run(&["token", "--audience", &fixed]).code, Some(0));
        let outcome = job.run(&["token", "--audience", EXCHANGE]);
        assert_eq!(outcome.code, Some(3));
        let name = format!("{workload:?}").to_ascii_lowercase();
        assert_shown!(format!("platform_audience_{name}"), job.show(&outcome));
        // and the credential that the error would have made has the platform's
        let overrides = JobOverrides {
            subject: Some("space:x:stack:y:run_type:TASK:scope:write".to_owned()),
            ..JobOverrides::default()
        };
        let job = Job::of(workload, &overrides);
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(4), "{}", job.show(&outcome));
        assert!(outcome.stderr.contains(&format!("--audiences {fixed}")), "{}", outcome.stderr);
    }
}

#[test]
fn another_audience_in_a_ready_token() {
    for workload in [Workload::HcpTerraform, Workload::Codefresh] {
        let overrides =
            JobOverrides { audience: Some("aws.workload.identity".to_owned()), ..JobOverrides::default() };
        let job = Job::of(workload, &overrides);
        let outcome = job.run(&["token"]);
        assert_eq!(outcome.code, Some(3), "{}", job.show(&outcome));
        let name = format!("{workload:?}").to_ascii_lowercase();
        assert_shown!(format!("platform_audience_{name}"), job.show(&outcome));
    }
}

#[test]
fn a_tag_of_the_users_choice() {
    let mut job = Job::of(Workload::HcpTerraform, &JobOverrides::default());
    let right = job.environment.remove("TFC_WORKLOAD_IDENTITY_TOKEN").unwrap();
    let other =
        JobOverrides { audience: Some("aws.workload.identity".to_owned()), ..JobOverrides::default() };
    let other = job.emulator.mint_workload(Workload::HcpTerraform, &other);
    job.set("TFC_WORKLOAD_IDENTITY_TOKEN", &other);
    job.set("TFC_WORKLOAD_IDENTITY_TOKEN_AZURE", &right);
    assert_eq!(job.run(&["token"]).code, Some(0));
}

#[test]
fn what_entra_refuses_is_said_in_words() {
    for (workload, subject) in [
        (Workload::HcpTerraform, "organization:contoso:project:infra:workspace:dev:run_phase:plan"),
        (Workload::Semaphore, "org:contoso:project:x:repo:infra:ref_type:branch:ref:refs/heads/x"),
        (Workload::GoogleCloud, "42"),
        (Workload::Aws, "arn:aws:iam::123456789012:role/other"),
        (Workload::Forgejo, "repo:contoso/infra:pull_request"),
    ] {
        let overrides = JobOverrides { subject: Some(subject.to_owned()), ..JobOverrides::default() };
        let mut job = Job::of(workload, &overrides);
        if workload == Workload::Forgejo {
            job.unset("GITHUB_ACTIONS");
        }
        let source = match workload {
            Workload::GoogleCloud => &["--source", "google-cloud"][..],
            Workload::Aws => &["--source", "aws"],
            _ => &[],
        };
        let outcome = job.run(&[&["token"], source].concat());
        assert_eq!(outcome.code, Some(4), "{workload:?} {}", job.show(&outcome));
        check(&job, &outcome);
        assert!(outcome.stderr.contains(&format!("--subject {subject}")), "{}", outcome.stderr);
        let name = format!("{workload:?}").to_ascii_lowercase();
        assert_shown!(format!("platform_refused_{name}"), job.show(&outcome));
    }
}

#[test]
fn aws_says_no() {
    let aws = || Job::of(Workload::Aws, &JobOverrides::default());
    let disabled = aws();
    disabled.emulator.set(|settings| settings.aws_federation = AwsFederation::Disabled);
    let mut key = aws();
    key.set("AWS_SECRET_ACCESS_KEY", "wrong");
    let mut session = aws();
    session.unset("AWS_SESSION_TOKEN");
    let mut region = aws();
    region.unset("AWS_REGION");
    let mut nobody = aws();
    nobody.unset("AWS_ACCESS_KEY_ID");
    for (name, job) in
        [("disabled", disabled), ("key", key), ("session", session), ("region", region), ("nobody", nobody)]
    {
        let outcome = job.run(&["token", "--source", "aws"]);
        assert_eq!(outcome.code, Some(3), "{name} {}", job.show(&outcome));
        check(&job, &outcome);
        let shown = job.show(&outcome);
        let shown = shown.lines().filter(|line| !line.starts_with("azfed: request ")).collect::<Vec<_>>();
        assert_shown!(format!("platform_aws_{name}"), shown.join("\n"));
    }
}

#[test]
fn aws_credentials_of_a_container() {
    use std::io::{Read, Write};

    let mut job = Job::of(Workload::Aws, &JobOverrides::default());
    let answer = serde_json::json!({
        "AccessKeyId": job.environment.remove("AWS_ACCESS_KEY_ID").unwrap(),
        "SecretAccessKey": job.environment.remove("AWS_SECRET_ACCESS_KEY").unwrap(),
        "Token": job.environment.remove("AWS_SESSION_TOKEN").unwrap(),
        "Expiration": "2027-01-01T00:00:00Z",
    })
    .to_string();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        )
        .unwrap();
        head
    });
    fs::write(job.path("authorization"), "opens-it\n").unwrap();
    job.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://127.0.0.1:{port}/v1/credentials"));
    job.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &job.path("authorization"));
    let outcome = job.run(&["token", "--source", "aws", "-v"]);
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    assert_eq!(job.leaks(&outcome.stderr), Vec::<String>::new());
    let head = served.join().unwrap();
    assert!(
        head.starts_with("get /v1/credentials ") && head.contains("authorization: opens-it\r\n"),
        "{head}"
    );
}

#[test]
fn google_says_no() {
    for (name, code, expected) in [("no_account", 404, 3), ("busy", 503, 5)] {
        let job = Job::of(Workload::GoogleCloud, &JobOverrides::default());
        job.fault("google", 0, status(code, &[]));
        let outcome = job.run(&["token", "--source", "google-cloud", "--timeout", "1s"]);
        assert_eq!(outcome.code, Some(expected), "{name} {}", job.show(&outcome));
        assert_shown!(format!("platform_google_{name}"), job.show(&outcome));
    }
}

#[test]
fn codefresh_asks_by_itself() {
    let mut job = Job::of(Workload::Codefresh, &JobOverrides::default());
    let (url, body) = (job.emulator.http_url(), job.environment.remove("ID_TOKEN").unwrap());
    job.set("CF_OIDC_REQUEST_URL", &format!("{url}/codefresh/token"));
    job.set("CF_OIDC_REQUEST_TOKEN", "opaque-request-token");
    job.set("ID_TOKEN", "an older one");
    let body = serde_json::json!({ "id_token": body }).to_string();
    job.fault(
        "unknown",
        0,
        azfed_emulator::Action::Status { status: 200, body, headers: std::collections::BTreeMap::new() },
    );
    let outcome = job.run(&["token"]);
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    let requests = job.emulator.requests();
    let asked = requests.iter().find(|request| request.path == "/codefresh/token").unwrap();
    assert_eq!(asked.query, [("audience".to_owned(), EXCHANGE.to_owned())]);
    assert_eq!(asked.headers["authorization"], "opaque-request-token");
}

/// The background process has the platform's variables, and no others of the step.
#[cfg(target_os = "linux")]
#[test]
fn a_program_is_asked_again_while_a_login_is_kept() {
    let mut job = Job::of(Workload::Buildkite, &JobOverrides::default());
    let overrides = JobOverrides {
        audience: Some(EXCHANGE.to_owned()),
        subject_claim: Some("pipeline_id".to_owned()),
        lifetime: Some(4),
        ..JobOverrides::default()
    };
    fs::write(job.path("token"), job.emulator.mint_workload(Workload::Buildkite, &overrides)).unwrap();
    job.set("BUILDKITE_AGENT_ACCESS_TOKEN", "opaque-access-token");
    job.set("OTHER", "x");
    let (calls, token) = (job.path("calls"), job.path("token"));
    job.program(
        "buildkite-agent",
        &format!("echo \"$BUILDKITE_AGENT_ACCESS_TOKEN $OTHER\" >>'{calls}'; exec /bin/cat '{token}'"),
    );
    let outcome = job.run(&["login", "--keep-fresh"]);
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    check(&job, &outcome);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while job.read("calls").lines().count() < 2 {
        assert!(std::time::Instant::now() < deadline, "not asked again");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(job.run(&["logout"]).code, Some(0));
    let calls = job.read("calls");
    let calls: Vec<&str> = calls.lines().take(2).collect();
    assert_eq!(calls, ["opaque-access-token x", "opaque-access-token "]);
}

#[test]
fn bitbucket_is_told_why() {
    let job = Job::of(Workload::Bitbucket, &JobOverrides::default());
    for arguments in [&["login"][..], &["exec", "--", "true"], &["assertion"], &["trust", "here"]] {
        let outcome = job.run(arguments);
        assert_eq!(outcome.code, Some(3), "{}", job.show(&outcome));
        assert!(outcome.stderr.contains("--source managed-identity"), "{}", outcome.stderr);
    }
    // whose word counts
    let outcome = job.run(&["token", "--assertion-env", "BITBUCKET_STEP_OIDC_TOKEN"]);
    assert_eq!(outcome.code, Some(4), "{}", job.show(&outcome));
}

#[test]
fn doctor_knows_them() {
    for workload in workloads() {
        let (job, flags) = job(workload);
        let arguments = [&["doctor", "--offline"], &flags[..]].concat();
        let outcome = job.run(&arguments);
        check(&job, &outcome);
        assert_eq!(outcome.code, Some(0), "{workload:?} {}", job.show(&outcome));
        let name = format!("{workload:?}").to_ascii_lowercase();
        assert_shown!(format!("platform_doctor_{name}"), job.show(&outcome));
        let resource_manager = job.emulator.http_url();
        let online = ["doctor", "--resource-manager", &resource_manager];
        let outcome = job.run(&[&online, &flags[..]].concat());
        check(&job, &outcome);
        assert_eq!(outcome.code, Some(0), "{workload:?} {}", job.show(&outcome));
    }
    let outcome = Job::of(Workload::Bitbucket, &JobOverrides::default()).run(&["doctor", "--offline"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.all());
}

#[test]
fn trust_here_is_what_entra_takes() {
    for workload in workloads() {
        let (job, flags) = job(workload);
        let outcome = job.run(&[&["trust", "here", "--as", "json"], &flags[..]].concat());
        assert_eq!(outcome.code, Some(0), "{workload:?} {}", job.show(&outcome));
        let list: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(list[0]["subject"], workload.subject(), "{workload:?}");
        assert_eq!(list[0]["issuer"], workload.issuer(), "{workload:?}");
        assert_eq!(list[0]["audiences"][0], workload.audience(), "{workload:?}");
        fs::write(job.path("credentials.json"), &outcome.stdout).unwrap();
        let outcome = job.run(&[&["trust", "check", "credentials.json"], &flags[..]].concat());
        assert_eq!(outcome.code, Some(0), "{workload:?} {}", job.show(&outcome));
    }
}

/// A description by each platform's own terms, and the job that it is of.
const DESCRIBED: [(Workload, &[&str]); 10] = [
    (Workload::Buildkite, &["buildkite", "--pipeline-id", BUILDKITE_PIPELINE]),
    (
        Workload::Circleci,
        &[
            "circleci",
            "--organization-id",
            CIRCLECI_ORGANIZATION,
            "--project-id",
            "7b5c7f0c-6c0d-4e9c-8d42-7a4b5c6d0003",
            "--user-id",
            "f0d1c2b3-a495-4867-8f0e-1d2c3b4a0004",
        ],
    ),
    (
        Workload::HcpTerraform,
        &["hcp-terraform", "--organization", "contoso", "--project", "infra", "--workspace", "prod"],
    ),
    (
        Workload::Spacelift,
        &["spacelift", "--hostname", "contoso.app.spacelift.io", "--space", "prod-01HF", "--stack", "infra"],
    ),
    (
        Workload::Semaphore,
        &[
            "semaphore",
            "--organization",
            "contoso",
            "--project-id",
            "2d3e4f50-6172-4839-9a4b-5c6d7e8f0007",
            "--repo",
            "infra",
            "--branch",
            "main",
        ],
    ),
    (
        Workload::Codefresh,
        &[
            "codefresh",
            "--account-id",
            "66327682d5f6e0bfd0ef936a",
            "--pipeline-id",
            "6ab48c904c7ffadba0ee23df",
            "--repo-url",
            "https://github.com/contoso/infra",
            "--user",
            "octocat",
            "--ref",
            "main",
        ],
    ),
    (
        Workload::Forgejo,
        &[
            "forgejo",
            "--server",
            "https://forgejo.example.com/",
            "--repo",
            "contoso/infra",
            "--immutable",
            "5/4",
            "--branch",
            "main",
        ],
    ),
    (
        Workload::Gitea,
        &[
            "forgejo",
            "--server",
            "https://git.example.com/gitea",
            "--repo",
            "contoso/infra",
            "--branch",
            "main",
        ],
    ),
    (Workload::GoogleCloud, &["google-cloud", "--service-account-id", GOOGLE_ACCOUNT]),
    (
        Workload::Aws,
        &[
            "aws",
            "--issuer",
            "https://a1b2c3d4-5e6f-4a7b-8c9d-0e1f2a3b0006.tokens.sts.global.api.aws",
            "--principal",
            AWS_PRINCIPAL,
        ],
    ),
];

#[test]
fn trust_by_a_description() {
    let job = Job::of(Workload::Jenkins, &JobOverrides::default());
    for (workload, described) in DESCRIBED {
        let outcome = job.run(&[&["trust", "--quiet"], described].concat());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{workload:?}");
        let name = format!("{workload:?}").to_ascii_lowercase();
        assert_shown!(format!("platform_trust_{name}"), outcome.stdout);
        let outcome = job.run(&[&["trust"], described, &["--as", "json"]].concat());
        let list: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        let is_the_jobs = |one: &serde_json::Value| {
            one["issuer"] == workload.issuer()
                && one["subject"] == workload.subject()
                && one["audiences"][0] == workload.audience()
        };
        assert!(list.as_array().unwrap().iter().any(is_the_jobs), "{workload:?} {list:#}");
    }
    let more: [(&str, &[&str]); 4] = [
        (
            "buildkite_cluster",
            &["buildkite", "--cluster-id", BUILDKITE_PIPELINE, "--queue-id", BUILDKITE_PIPELINE],
        ),
        (
            "spacelift_module",
            &[
                "spacelift",
                "--hostname",
                "https://contoso.app.spacelift.io/",
                "--space",
                "root",
                "--module",
                "vpc",
            ],
        ),
        (
            "hcp_terraform_enterprise",
            &[
                "hcp-terraform",
                "--hostname",
                "tfe.example.com",
                "--organization",
                "o",
                "--workspace",
                "w",
                "--phase",
                "plan",
            ],
        ),
        ("codefresh_schedule", &["codefresh", "--account-id", "a", "--pipeline-id", "p"]),
    ];
    for (name, described) in more {
        let outcome = job.run(&[&["trust", "--quiet"], described].concat());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{name}");
        assert_shown!(format!("platform_trust_{name}"), outcome.stdout);
    }
}

#[test]
fn trust_refuses_what_cannot_be() {
    let job = Job::of(Workload::Jenkins, &JobOverrides::default());
    let cases: [(&[&str], u8, &str); 13] = [
        (&["buildkite"], 2, "say whose jobs"),
        (&["buildkite", "--pipeline-id", "infra"], 2, "is not a GUID"),
        (
            &["circleci", "--organization-id", CIRCLECI_ORGANIZATION, "--project-id", CIRCLECI_ORGANIZATION],
            2,
            "--user-id",
        ),
        (&["hcp-terraform", "--organization", "a:b", "--workspace", "w"], 2, "has the mark in it"),
        (&["hcp-terraform", "--organization", "o", "--workspace", "w*"], 2, "has a wildcard"),
        (&["spacelift", "--hostname", "a/b", "--space", "s", "--stack", "x"], 2, "is not the name of a host"),
        (
            &["semaphore", "--organization", "o", "--project-id", CIRCLECI_ORGANIZATION, "--repo", "r"],
            2,
            "--branch or --tag",
        ),
        (&["google-cloud", "--service-account-id", "a@b.iam.gserviceaccount.com"], 2, "is not a number"),
        (
            &["aws", "--issuer", "https://x", "--principal", "arn:aws:sts::1:assumed-role/x/y"],
            2,
            "name the role",
        ),
        (&["forgejo", "--server", "http://x", "--repo", "a/b", "--branch", "c"], 2, "is no https URL"),
        (&["bitbucket", "--workspace", "contoso"], 3, "another in each run"),
        (&["gitea", "--repo", "contoso/infra"], 3, "azfed trust forgejo"),
        (&["jenkins"], 3, "azfed trust here --assertion-env NAME"),
    ];
    for (described, code, said) in cases {
        let outcome = job.run(&[&["trust"], described].concat());
        assert_eq!(outcome.code, Some(i32::from(code)), "{described:?} {}", outcome.all());
        assert!(outcome.stderr.contains(said), "{described:?} {}", outcome.stderr);
    }
}

#[test]
fn trust_check_names_the_part() {
    let mut job = Job::of(Workload::Jenkins, &JobOverrides::default());
    job.set("AZURE_CLIENT_ID", "");
    for (issuer, configured, subject, said) in [
        (
            "https://app.terraform.io",
            "organization:o:project:p:workspace:w:run_phase:plan",
            "organization:o:project:p:workspace:w:run_phase:apply",
            "plan and apply",
        ),
        (
            "https://agent.buildkite.com",
            "organization:o:pipeline:p:ref:refs/heads/main:commit:1:step:s",
            "organization:o:pipeline:p:ref:refs/heads/main:commit:2:step:s",
            "--subject-claim pipeline_id",
        ),
        (
            "https://oidc.circleci.com/org/o",
            "org/o/project/p/user/a",
            "org/o/project/p/user/b",
            "another user",
        ),
        (
            "https://x.app.spacelift.io",
            "space:s:stack:x:run_type:TRACKED:scope:read",
            "space:s:stack:x:run_type:TRACKED:scope:write",
            "read and write",
        ),
        ("https://x", "arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b", "another principal"),
    ] {
        let list = serde_json::json!([{
            "name": "one", "issuer": issuer, "subject": configured, "audiences": [EXCHANGE],
        }]);
        fs::write(job.path("list.json"), list.to_string()).unwrap();
        let outcome = job.run(&["trust", "check", "list.json", "--issuer", issuer, "--subject", subject]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.all());
        assert!(outcome.stdout.contains(said), "{said}: {}", outcome.stdout);
    }
}

#[test]
fn a_command_that_may_not_ask_for_all_cannot_by_the_platforms_variables() {
    for (workload, names) in [
        (Workload::Buildkite, &["BUILDKITE_AGENT_ACCESS_TOKEN"][..]),
        (Workload::Circleci, &["CIRCLE_OIDC_TOKEN", "CIRCLE_OIDC_TOKEN_V2"]),
        (Workload::HcpTerraform, &["TFC_WORKLOAD_IDENTITY_TOKEN"]),
        (Workload::Spacelift, &["SPACELIFT_OIDC_TOKEN"]),
        (Workload::Semaphore, &["SEMAPHORE_OIDC_TOKEN"]),
        (Workload::Codefresh, &["ID_TOKEN"]),
        (Workload::Forgejo, &["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"]),
    ] {
        let (mut job, _) = job(workload);
        if workload == Workload::Buildkite {
            job.set("BUILDKITE_AGENT_ACCESS_TOKEN", "opaque-access-token");
        }
        for (flags, is_there) in
            [(&["exec"][..], true), (&["exec", "--allow-scope", "https://vault.azure.net"], false)]
        {
            let outcome = job.run(&[flags, &["--", "env"]].concat());
            assert_eq!(outcome.code, Some(0), "{workload:?} {}", job.show(&outcome));
            for name in names {
                let found = outcome.stdout.lines().any(|line| line.starts_with(&format!("{name}=")));
                assert_eq!(found, is_there, "{workload:?} {name}");
            }
        }
    }
}
