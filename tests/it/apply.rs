//! `azfed trust apply`: the plan first, then one write after the other, and what is there stays.

use std::{collections::BTreeMap, fs};

use azfed_emulator::{Action, Fault, JobOverrides, Platform, world};

use crate::harness::{Job, Outcome, assert_shown};

/// An operator whose az is logged in: a job of the emulator's, without its platform's variables.
struct Operator {
    job: Job,
    token: String,
}

impl Operator {
    fn new() -> Self {
        let mut job = Job::new(Platform::Github);
        let token = job.run(&["token"]).stdout.trim().to_owned();
        for name in ["GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"] {
            job.unset(name);
        }
        job.az_with(&token);
        Self { job, token }
    }

    fn apply(&self, identity: &str, credentials: &str, arguments: &[&str]) -> Outcome {
        fs::write(self.job.path("credentials.json"), credentials).unwrap();
        let base = self.job.emulator.http_url();
        let fixed = [
            "trust",
            "apply",
            "credentials.json",
            "--subscription-id",
            world::SUBSCRIPTION,
            "--resource-group",
            "contoso-prod",
            "--identity",
            identity,
            "--resource-manager",
            &base,
        ];
        let outcome = self.job.run(&[&fixed, arguments].concat());
        assert!(!outcome.all().contains(&self.token), "the operator's token is shown");
        outcome
    }

    /// Each credential to the identity that its entry names, unless the arguments name one.
    fn apply_each(&self, credentials: &str, arguments: &[&str]) -> Outcome {
        fs::write(self.job.path("credentials.json"), credentials).unwrap();
        let base = self.job.emulator.http_url();
        let fixed = ["trust", "apply", "credentials.json", "--subscription-id", world::SUBSCRIPTION];
        self.job.run(&[&fixed[..], &["--resource-manager", &base], arguments].concat())
    }

    fn writes(&self) -> Vec<String> {
        let requests = self.job.emulator.requests().into_iter();
        let writes = requests.filter(|request| request.kind == "arm" && request.method == "PUT");
        writes
            .map(|request| format!("{} {}", request.status, request.path.rsplit('/').next().unwrap()))
            .collect()
    }
}

fn credentials(arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_azfed"));
    command.args(["trust", "github", "--repo", "contoso/infra", "--as", "json"]).args(arguments).env_clear();
    Outcome::of(&command.output().unwrap()).stdout
}

const READER: [&str; 4] =
    ["--role", "Reader", "--scope", "/subscriptions/44444444-4444-4444-8444-444444444444"];

#[test]
fn a_new_identity_and_then_its_job_logs_in() {
    let operator = Operator::new();
    let wanted = credentials(&["--environment", "staging", "--branch", "main"]);
    let arguments = [&["--location", "westeurope"], &READER[..]].concat();
    let plan = operator.apply("infra-staging", &wanted, &arguments);
    assert_shown!("apply_plan", operator.job.show(&plan));
    assert_eq!(operator.writes(), Vec::<String>::new(), "a plan changes nothing");
    // Azure is busy with another write, and does not know the new identity everywhere yet
    operator.job.emulator.fault(Fault {
        kind: "arm".to_owned(),
        times: 1,
        after: 4,
        late_ms: 0,
        action: Action::Status {
            status: 409,
            body: r#"{"error":{"code":"ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity","message":"busy"}}"#.to_owned(),
            headers: BTreeMap::new(),
        },
    });
    let done = operator.apply("infra-staging", &wanted, &[&arguments[..], &["--yes"]].concat());
    assert_shown!("apply_done", operator.job.show(&done));
    let writes = operator.writes();
    let successful: Vec<&str> = writes.iter().filter_map(|write| write.strip_prefix("201 ")).collect();
    assert_eq!(successful[..3], ["infra-staging", "infra-staging", "infra-main"], "{writes:?}");
    // what it says is so: the described job logs in to the same Azure
    let job = {
        let overrides = JobOverrides {
            subject: Some("repo:contoso/infra:environment:staging".to_owned()),
            ..JobOverrides::default()
        };
        operator.job.emulator.platform_env(Platform::Github, &overrides)
    };
    let mut login = operator.job.command(&["login", "--client-id", world::BARE_IDENTITY, "--no-keep-fresh"]);
    login.envs(job).env("GITHUB_ACTIONS", "true");
    let login = Outcome::of(&login.output().unwrap());
    assert_eq!(login.code, Some(0), "{}", login.stderr);
    // and once more: nothing to do but the role, which is there
    let before = operator.writes().len();
    let again = operator.apply("infra-staging", &wanted, &[&READER[..], &["--yes"]].concat());
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(
        again.stdout.starts_with("keep    identity infra-staging in contoso-prod: client 77777777-"),
        "{}",
        again.stdout
    );
    assert_eq!(again.stdout.matches("\nkeep    credential ").count(), 2, "{}", again.stdout);
    assert_eq!(operator.writes()[before..].iter().map(|write| &write[..4]).collect::<Vec<_>>(), ["409 "]);
}

#[test]
fn what_is_there_stays_or_is_named_before_it_changes() {
    let operator = Operator::new();
    let same = credentials(&["--environment", "prod"]);
    let outcome = operator.apply("infra-prod", &same, &[]);
    let expected = "keep    identity infra-prod in contoso-prod: client 11111111-1111-4111-8111-111111111111\n\
                    keep    credential prod for repo:contoso/infra:environment:prod\n\n\
                    a job of environment `prod` in GitHub repository contoso/infra can log in:\n    \
                    azfed login --client-id 11111111-1111-4111-8111-111111111111 --tenant-id 22222222-2222-4222-8222-222222222222 \
                    --subscription-id 44444444-4444-4444-8444-444444444444\n\
                    what is new takes Entra some minutes: `--wait-for-propagation 2m` for a job that starts at once\n";
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), expected), "{}", outcome.stderr);
    let other = credentials(&["--environment", "Prod", "--name", "prod"]);
    let outcome = operator.apply("infra-prod", &other, &[]);
    assert!(
        outcome.stdout.contains("change  credential prod for repo:contoso/infra:environment:Prod; it was for repo:contoso/infra:environment:prod\n"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stderr.ends_with("azfed: nothing was changed: say `--yes` to go on\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(operator.writes(), Vec::<String>::new());
    assert_eq!(operator.apply("infra-prod", &other, &["--yes"]).code, Some(0));
    assert_eq!(operator.writes(), ["201 prod"]);
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let mut operator = Operator::new();
    let one = credentials(&["--environment", "prod"]);
    let environments: Vec<String> =
        (0..16).flat_map(|number| ["--environment".to_owned(), format!("e{number}")]).collect();
    let many = credentials(&environments.iter().map(String::as_str).collect::<Vec<_>>());
    for (identity, wanted, arguments, code, said) in [
        ("new", one.as_str(), &[][..], 2, "there is no identity new yet, and `--location` does not say"),
        ("../x", &one, &[], 2, "`../x` is no name of an identity"),
        ("infra-prod", "[{}]", &[], 2, "credential 1 has no subject"),
        ("infra-prod", &many, &["--yes"], 2, "would have 21 federated credentials"),
        (
            "infra-prod",
            &one,
            &["--role", "Emperor", READER[2], READER[3], "--yes"],
            2,
            "there is no role `Emperor` at /subscriptions/44444444-4444-4444-8444-444444444444",
        ),
        ("infra-prod", &one, &["--role", "Reader"], 2, "--scope"),
        ("infra-prod", &one, &["--resource-group", "nowhere"], 2, "--resource-group"),
    ] {
        let outcome = operator.apply(identity, wanted, arguments);
        assert_eq!(outcome.code, Some(code), "{identity} {arguments:?}: {}", outcome.all());
        assert!(outcome.stderr.contains(said), "{identity} {arguments:?}: {}", outcome.stderr);
    }
    let flexible = credentials(&["--branch", "r/*", "--immutable", "1/2", "--flexible"]);
    let outcome = operator.apply("infra-prod", &flexible, &["--yes"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.stderr.contains("has an expression (flexible), and no subject\nazfed: hint: `apply` creates exact credentials only")
            && outcome.stderr.contains("`--as az-app` the one for an app registration"),
        "{}",
        outcome.stderr
    );
    operator.job.az_for_a_token("echo 'ERROR: Please run az login' >&2; exit 1");
    let outcome = operator.apply("infra-prod", &one, &[]);
    assert_eq!(outcome.code, Some(3));
    assert!(outcome.stderr.contains("there is no login of yours to do this with: az account get-access-token: ERROR: Please run az login\nazfed: hint: `az login` first"), "{}", outcome.stderr);
    operator.job.az_with("not-a-token");
    let outcome = operator.apply("infra-prod", &one, &[]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("Azure Resource Manager refused to read the identity: 401"),
        "{}",
        outcome.stderr
    );
    assert_eq!(operator.writes(), Vec::<String>::new());
}

/// What `azfed trust github --identity-map … --as json` prints.
fn mapped(operator: &Operator, map: &str) -> String {
    fs::write(operator.job.path("identities.json"), map).unwrap();
    let printed = operator.job.run(&[
        "trust",
        "github",
        "--repo",
        "contoso/infra",
        "--identity-map",
        "identities.json",
        "--as",
        "json",
    ]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout
}

const MAP: &str = r#"{ "identities": [
    { "environment": "prod", "client_id": "11111111-1111-4111-8111-111111111111", "identity": "infra-prod", "resource_group": "contoso-prod" },
    { "branch": "main", "client_id": "11111111-1111-4111-8111-111111111111", "identity": "Infra-Prod", "resource_group": "Contoso-Prod" },
    { "pull_request": true, "client_id": "bcbcbcbc-bcbc-4bcb-8bcb-bcbcbcbcbcbc", "identity": "a-neighbour", "resource_group": "contoso-prod" }
] }"#;

#[test]
fn each_identity_of_a_map_gets_its_own() {
    let operator = Operator::new();
    let list = mapped(&operator, MAP);
    // the one that was named does not get the pull requests' credential
    for named in [
        &["--identity", "infra-prod"][..],
        &["--identity", "infra-prod", "--resource-group", "contoso-prod"],
        &["--resource-group", "elsewhere"],
    ] {
        let outcome = operator.apply_each(&list, &[named, &["--yes"]].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{named:?}");
        assert!(
            outcome.stderr.contains("and not for") && outcome.stderr.contains("hint: leave `--identity`"),
            "{named:?}: {}",
            outcome.stderr
        );
    }
    let outcome = operator.apply_each(&list, &[&READER[..], &["--yes"]].concat());
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.stderr.contains("`--role` goes to one identity, and the file has credentials for 2"),
        "{}",
        outcome.stderr
    );
    assert_eq!(operator.writes(), Vec::<String>::new());
    let plan = operator.apply_each(&list, &[]);
    assert_shown!("apply_map_plan", operator.job.show(&plan));
    assert_eq!(operator.writes(), Vec::<String>::new());
    let done = operator.apply_each(&list, &["--yes"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_shown!("apply_map_done", operator.job.show(&done));
    let requests = operator.job.emulator.requests().into_iter();
    let writes: Vec<String> = requests
        .filter(|request| request.kind == "arm" && request.method == "PUT")
        .map(|request| request.path.rsplit("/userAssignedIdentities/").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        writes,
        [
            "infra-prod/federatedIdentityCredentials/infra-main",
            "a-neighbour/federatedIdentityCredentials/infra-pull-request"
        ]
    );
}

#[test]
fn a_map_that_does_not_say_whose_changes_nothing() {
    let operator = Operator::new();
    let without_group = MAP.replace(r#", "resource_group": "contoso-prod" }"#, " }");
    let other_client = MAP.replace("bcbcbcbc-bcbc-4bcb-8bcb-bcbcbcbcbcbc", world::BARE_IDENTITY);
    let nameless = MAP.replace(r#""identity": "a-neighbour", "#, "");
    let plain = r#"[{ "name": "one", "issuer": "https://i.example", "subject": "s", "audiences": ["a"] }]"#;
    for (list, arguments, said) in [
        (mapped(&operator, &without_group), &[][..], "credential `infra-prod` names no resource group"),
        (mapped(&operator, &nameless), &[], "credential `infra-pull-request` names no identity"),
        (
            mapped(&operator, &nameless),
            &["--identity", "infra-prod"],
            "credential `infra-pull-request` is for client id bcbcbcbc-bcbc-4bcb-8bcb-bcbcbcbcbcbc, and not for identity \
             `infra-prod`, whose client id is 11111111-1111-4111-8111-111111111111",
        ),
        (
            mapped(&operator, &other_client),
            &[],
            "is for client id 77777777-7777-4777-8777-777777777777, and not for identity `a-neighbour`",
        ),
        (
            mapped(&operator, &MAP.replace("a-neighbour", "new")),
            &["--location", "westeurope"],
            "and not for identity `new`, which is not there yet",
        ),
        (plain.to_owned(), &["--resource-group", "contoso-prod"], "credential `one` names no identity"),
        ("[]".to_owned(), &[], "the file has no credentials"),
    ] {
        let outcome = operator.apply_each(&list, &[arguments, &["--yes"]].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}: {list}");
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
        assert_eq!(operator.writes(), Vec::<String>::new(), "{said}");
    }
}

/// The blocks of a language in a page, without what indents them.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(indent) = line.strip_suffix(&format!("```{language}")) else { continue };
        let block = lines.by_ref().take_while(|line| line.trim() != "```");
        found.push(block.map(|line| line.strip_prefix(indent).unwrap_or(line).to_owned() + "\n").collect());
    }
    found
}

/// Every command of docs/granular-access.md and docs/trust.md's first, as it stands: with the shipped binary, an az that
/// says what it was called with, and the emulator's Azure.
#[test]
fn the_page_on_granular_access_runs() {
    use std::process::Command;
    let page = |name: &str| {
        fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
    };
    let granular = page("granular-access.md");
    let mut scripts = blocks(&granular, "sh");
    assert_eq!(scripts.len(), 11, "{scripts:?}");
    assert!(!scripts.iter().any(|script| script.contains("| sh")), "a pipe hides notes and failures");
    scripts.extend(blocks(&page("trust.md"), "sh").into_iter().take(2));
    let mut job = Job::new(Platform::Github);
    let token = job.run(&["token"]).stdout.trim().to_owned();
    job.az(&format!(
        "if [ \"$1 $2\" = 'account get-access-token' ]; then echo '{{\"accessToken\":\"{token}\"}}'; exit; fi\n\
         for word; do printf '[%s]' \"$word\"; done; echo"
    ));
    // the same binary, and for `apply` the emulator in place of Azure
    let azfed = job.path("bin/azfed");
    let base = job.emulator.http_url();
    let binary = env!("CARGO_BIN_EXE_azfed");
    fs::write(
        &azfed,
        format!(
            "#!/bin/sh\nif [ \"$1 $2\" = 'trust apply' ]; then set -- \"$@\" --resource-manager {base}; fi\nexec {binary} \"$@\"\n"
        ),
    )
    .unwrap();
    assert!(Command::new("chmod").args(["755", &azfed]).status().unwrap().success());
    let maps = blocks(&granular, "json");
    let [map] = maps.as_slice() else { panic!("{maps:?}") };
    fs::write(job.path("identities.json"), map).unwrap();
    for name in ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"] {
        job.unset(name);
    }
    let mut shown = String::new();
    for (number, script) in scripts.iter().enumerate() {
        let file = job.path(&format!("block-{number}"));
        fs::write(&file, script).unwrap();
        for arguments in [vec!["-n", &file], vec![file.as_str()]] {
            let mut shell = Command::new("sh");
            shell.args(&arguments).env_clear().envs(&job.environment).current_dir(job.directory.path());
            let outcome = Outcome::of(&shell.output().unwrap());
            assert_eq!(outcome.code, Some(0), "{arguments:?}: {script}{}", outcome.all());
            shown += &outcome.stdout;
        }
        // a step that fails is not passed over
        if script.contains("&&\n") {
            let broken = script.replace("contoso/infra", "contoso");
            let mut shell = Command::new("sh");
            // elsewhere, since the blocks after it go on with this one's files
            shell.args(["-c", &broken]).env_clear().envs(&job.environment).current_dir(job.path("temp"));
            let outcome = Outcome::of(&shell.output().unwrap());
            assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{broken}{}", outcome.stderr);
        }
    }
    job.run(&["logout"]);
    for called in [
        "[--name][infra-prod][--issuer][https://token.actions.githubusercontent.com][--subject][repo:contoso/infra:environment:prod]",
        "[--subject][repo:contoso/infra:environment:staging]",
        "[--subject][project_path:contoso/infra:ref_type:branch:ref:production]",
        "[--subject][project_path:contoso/infra:ref_type:branch:ref:main:ref_protected:true:environment_protected:true\
         :deployment_tier:production]",
        // what is created, and what the notes say
        "create  credential infra-prod for repo:contoso/infra:environment:prod\nassign  role Contributor",
        "https://gitlab.com/api/v4/projects/contoso%2Finfra",
        "https://graph.microsoft.com/beta/applications(appId=",
    ] {
        assert!(shown.contains(called), "{called}: {shown}");
    }
}

/// The next answers of Azure Resource Manager but these few are this.
fn answers(operator: &Operator, after: u32, times: u32, body: &str) {
    operator.job.emulator.fault(Fault {
        kind: "arm".to_owned(),
        times,
        after,
        late_ms: 0,
        action: Action::Status { status: 200, body: body.to_owned(), headers: BTreeMap::new() },
    });
}

fn one(name: &str, subject: &str, audience: &str) -> serde_json::Value {
    serde_json::json!({ "name": name, "issuer": "https://i", "subject": subject, "audiences": [audience] })
}

#[test]
fn a_role_stands_where_the_plan_says() {
    let operator = Operator::new();
    let file = credentials(&["--environment", "prod"]);
    for scope in [
        "",
        "/",
        "/subscriptions/mine",
        "/subscriptions/44444444-4444-4444-8444-444444444444/resourceGroups/small/../../../other",
        "/subscriptions/44444444-4444-4444-8444-444444444444/resourceGroups/small/%2e%2e/x",
        "/subscriptions/44444444-4444-4444-8444-444444444444/resourceGroups//x",
        "/subscriptions/44444444-4444-4444-8444-444444444444?x=",
        "/providers/Microsoft.Management/managementGroups/..",
        "/providers/Microsoft.Authorization",
    ] {
        let outcome = operator.apply("infra-prod", &file, &["--role", "Reader", "--scope", scope, "--yes"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{scope}");
    }
    assert_eq!(operator.job.emulator.requests().iter().filter(|request| request.kind == "arm").count(), 0);
    let group = "/providers/Microsoft.Management/managementGroups/contoso";
    let outcome = operator.apply("infra-prod", &file, &["--role", "Reader", "--scope", group]);
    assert!(!outcome.stderr.contains("is no scope of a role"), "{}", outcome.stderr);

    // a list that does not keep to the filter gives no other role than the plan says
    let operator = Operator::new();
    answers(&operator, 2, 1, r#"{"value":[{"id":"/x","properties":{"roleName":"Owner"}}]}"#);
    let outcome = operator.apply("infra-prod", &file, &[&READER[..], &["--yes"]].concat());
    assert_eq!(outcome.code, Some(2), "{}", outcome.all());
    assert!(outcome.stderr.contains("there is no role `Reader`"), "{}", outcome.stderr);
    assert_eq!(operator.writes(), Vec::<String>::new());
}

#[test]
fn what_azure_says_is_no_command() {
    let identity = |client: &str, tenant: &str, principal: &str| {
        serde_json::json!({ "properties": { "clientId": client, "tenantId": tenant, "principalId": principal } })
            .to_string()
    };
    let id = "11111111-1111-4111-8111-111111111111";
    for (body, said) in [
        (identity(&format!("{id}; touch x #"), id, id), "clientId: "),
        (identity(id, "$(touch x)", id), "tenantId: "),
        (identity(id, id, "p"), "principalId: "),
        (r#"{"properties":{}}"#.to_owned(), "its answer has no clientId"),
        ("[]".to_owned(), "its answer is no JSON object"),
        ("<html>".to_owned(), "its answer is no JSON object"),
    ] {
        let operator = Operator::new();
        answers(&operator, 0, 0, &body);
        let arguments = ["--yes", "--location", "westeurope"];
        let outcome = operator.apply("infra-prod", &credentials(&["--environment", "prod"]), &arguments);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(4), ""), "{body}");
        assert!(
            outcome.stderr.contains("refused to read the identity: 200 ") && outcome.stderr.contains(said),
            "{}",
            outcome.stderr
        );
        assert_eq!(operator.writes(), Vec::<String>::new(), "{body}");
    }
    // a name in a list leads to no other resource
    let operator = Operator::new();
    let listed =
        serde_json::json!({ "value": [one("../../../../elsewhere", "repo:a/b:environment:prod", "other")] });
    answers(&operator, 1, 1, &listed.to_string());
    let file = serde_json::json!([one("mine", "repo:a/b:environment:prod", "api://AzureADTokenExchange")]);
    let outcome = operator.apply("infra-prod", &file.to_string(), &["--yes"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("`../../../../elsewhere` is no name of a federated credential"),
        "{}",
        outcome.stderr
    );
    assert_eq!(operator.writes(), Vec::<String>::new());
    // and what it was sent does not come back
    let operator = Operator::new();
    operator.job.fault(
        "arm",
        0,
        Action::Status {
            status: 403,
            body: serde_json::json!({ "error": { "message": format!("Bearer {} may not", operator.token) } })
                .to_string(),
            headers: BTreeMap::new(),
        },
    );
    let outcome = operator.apply("infra-prod", &file.to_string(), &["--yes"]);
    assert!(outcome.stderr.contains("403 Bearer … may not"), "{}", outcome.stderr);
}

#[test]
fn what_would_overwrite_itself_is_refused() {
    let file = |credentials: &[serde_json::Value]| serde_json::Value::from(credentials.to_vec()).to_string();
    for (wanted, said) in [
        (
            file(&[one("One", "s", "a"), one("one", "t", "a")]),
            "credential `one`: the file has another one of that name",
        ),
        (
            file(&[one("one", "s", "a"), one("two", "s", "a")]),
            "credential `two`: the file has another one with its issuer",
        ),
        (
            file(&[one("one", "s", "a"), one("two", "s", "b")]),
            "credential `two`: the file has another one with its issuer",
        ),
    ] {
        let operator = Operator::new();
        let outcome = operator.apply("infra-prod", &wanted, &["--yes"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{wanted}");
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        assert_eq!(operator.writes(), Vec::<String>::new());
    }
    // the identity's credential `prod` stays for the first, and would become the second's
    let prod = credentials(&["--environment", "prod", "--name", "other"]);
    let mut list: Vec<serde_json::Value> = serde_json::from_str(&prod).unwrap();
    list.push(one("PROD", "t", "a"));
    for _ in 0..2 {
        let operator = Operator::new();
        let outcome = operator.apply("infra-prod", &file(&list), &["--yes"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{}", outcome.all());
        assert!(outcome.stderr.contains("name it otherwise"), "{}", outcome.stderr);
        assert_eq!(operator.writes(), Vec::<String>::new());
        list.reverse();
    }
}

#[test]
fn the_proof_is_what_azure_has_then() {
    let file = serde_json::json!([one("new", "repo:a/b:environment:prod", "a")]).to_string();
    // somebody else, or Azure itself, takes it away: identity, list, write, then the proof's identity and its list
    let operator = Operator::new();
    answers(&operator, 4, 0, r#"{"value":[],"properties":{}}"#);
    let outcome = operator.apply("infra-prod", &file, &["--yes"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.all());
    assert!(
        outcome.stderr.contains("refused to keep the federated credential new: 200 the identity does not have it as it was written"),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stdout.contains("can log in"), "{}", outcome.stdout);
    assert_eq!(operator.writes(), ["201 new"]);
    // a list that is late is no lie
    let operator = Operator::new();
    answers(&operator, 4, 1, r#"{"value":[]}"#);
    let outcome = operator.apply("infra-prod", &file, &["--yes"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.all());
    assert!(
        outcome.stdout.contains("a job of environment `prod` in GitHub repository a/b can log in:"),
        "{}",
        outcome.stdout
    );
}
