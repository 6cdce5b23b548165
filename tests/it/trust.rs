//! `azfed trust`: what it prints, whether its tools take it, and whether Entra then takes the job it is for.

use std::{
    fmt::Write as _,
    fs,
    io::Write,
    process::{Command, Stdio},
};

use azfed_emulator::{FederatedCredential, JobOverrides, Platform, world};

use crate::harness::{Job, Outcome, assert_shown};

fn trust(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_azfed"));
    command.arg("trust").args(arguments).env_clear().stdin(Stdio::null());
    Outcome::of(&command.output().unwrap())
}

fn printed(arguments: &[&str]) -> String {
    let outcome = trust(&[arguments, &["--quiet"]].concat());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    outcome.stdout
}

const GITHUB: [&str; 12] = [
    "github",
    "--repo",
    "contoso/infra",
    "--environment",
    "prod",
    "--environment",
    "it's \"${x}\" %{y}: \\",
    "--branch",
    "release/1.0",
    "--pull-request",
    "--immutable",
    "100/200",
];
const AZURE_DEVOPS: [&str; 13] = [
    "azure-devops",
    "--organization-id",
    world::ORGANIZATION,
    "--tenant-id",
    world::TENANT,
    "--connection-id",
    world::CONNECTION,
    "--organization",
    "contoso",
    "--project",
    "infra",
    "--connection",
    "azure-prod",
];

#[test]
fn every_form() {
    for form in ["az", "terraform", "terraform-azurerm4", "bicep", "arm", "json"] {
        let named = ["--as", form, "--identity", "deploy", "--resource-group", "ids", "--name", "ci"];
        assert_shown!(format!("trust_{form}"), printed(&[&GITHUB[..], &named].concat()));
    }
    assert_shown!("trust_classic", printed(&["github", "--repo", "contoso/infra", "--tag", "v1"]));
    let workflow = "contoso/ci/.github/workflows/deploy.yml@refs/heads/main";
    let arguments =
        ["github", "--repo", "contoso/infra", "--environment", "prod", "--reusable-workflow", workflow];
    assert_shown!("trust_reusable_workflow", printed(&arguments));
    assert_shown!(
        "trust_gitlab",
        printed(&["gitlab", "--project", "contoso/apps/infra", "--branch", "main", "--tag", "v1"])
    );
    let protected =
        ["gitlab", "--project", "contoso/apps/infra", "--environment-protected", "--deployment-tier"];
    let tier = ["production", "--ref-protected", "--branch", "main"];
    assert_shown!("trust_gitlab_components", printed(&[&protected[..], &tier].concat()));
    let by_id = ["gitlab", "--project", "contoso/infra", "--project-id", "42", "--by-id", "--ref-protected"];
    assert_shown!("trust_gitlab_by_id", printed(&by_id));
    assert_shown!("trust_azure_devops", printed(&AZURE_DEVOPS));
    let pod = [
        "kubernetes",
        "--issuer",
        "https://oidc.example/aks/",
        "--namespace",
        "apps",
        "--service-account",
        "deployer",
    ];
    assert_shown!("trust_kubernetes", printed(&pod));
}

#[test]
fn flexible_ones() {
    let github = [
        "github",
        "--repo",
        "contoso/infra",
        "--immutable",
        "100/200",
        "--branch",
        "release/*",
        "--environment",
        "prod",
        "--flexible",
    ];
    for form in ["az", "bicep", "arm", "json"] {
        assert_shown!(format!("trust_flexible_{form}"), printed(&[&github[..], &["--as", form]].concat()));
    }
    let gitlab = [
        "gitlab",
        "--project",
        "contoso/infra",
        "--project-id",
        "42",
        "--tag",
        "v*",
        "--flexible",
        "--as",
        "json",
    ];
    assert!(
        printed(&gitlab).contains(
            r#""value": "claims['sub'] matches 'project_path:contoso/infra:ref_type:tag:ref:v*' and claims['project_id'] eq '42'""#
        ),
        "{}",
        printed(&gitlab)
    );
    for (arguments, said) in [
        (
            &[&github[..], &["--as", "terraform"]].concat()[..],
            "azurerm has no resource for flexible credentials",
        ),
        (&["github", "--repo", "a/b", "--branch", "x", "--flexible"], "--immutable"),
        (&["gitlab", "--project", "a/b", "--branch", "x", "--flexible"], "--project-id"),
        (
            &["github", "--repo", "a/b", "--immutable", "1/2", "--environment", "it's", "--flexible"],
            "has a quote",
        ),
    ] {
        let outcome = trust(arguments);
        assert_eq!(outcome.code, Some(2), "{arguments:?}");
        assert!(outcome.stderr.contains(said), "{arguments:?}: {}", outcome.stderr);
    }
}

fn fed(program: &str, arguments: &[&str], input: &str) -> Outcome {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Outcome::of(&child.wait_with_output().unwrap())
}

#[test]
fn the_shell_runs_it_as_it_is_meant() {
    let directory = tempfile::tempdir().unwrap();
    let az = directory.path().join("az");
    fs::write(&az, "#!/bin/sh\nfor word; do printf '[%s]' \"$word\"; done; echo\n").unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    assert!(Command::new("chmod").args(["+x", az.to_str().unwrap()]).status().unwrap().success());
    let script = printed(&[&GITHUB[..], &["--identity", "deploy", "--resource-group", "größe(1)"]].concat());
    let mut shell = Command::new("sh");
    let outcome =
        Outcome::of(&shell.args(["-u", "-c", &script]).env_clear().env("PATH", &path).output().unwrap());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let list: serde_json::Value =
        serde_json::from_str(&printed(&[&GITHUB[..], &["--as", "json"]].concat())).unwrap();
    let mut expected = String::new();
    for one in list.as_array().unwrap() {
        let text = |name: &str| one[name].as_str().unwrap().to_owned();
        let audience = one["audiences"][0].as_str().unwrap();
        writeln!(
            expected,
            "[identity][federated-credential][create][--identity-name][deploy][--resource-group][größe(1)][--name][{}]\
             [--issuer][{}][--subject][{}][--audiences][{audience}]",
            text("name"),
            text("issuer"),
            text("subject"),
        )
        .unwrap();
    }
    assert_eq!(outcome.stdout, expected);
    assert!(
        expected.contains("[repo:contoso@100/infra@200:environment:it's \"${x}\" %{y}%3A \\]"),
        "{expected}"
    );
}

/// Terraform itself says what it has read.
#[test]
fn terraform_reads_it_as_it_is_meant() {
    // `./test.sh --without terraform` says at its end what it left out
    if std::env::var("AZFED_TEST_WITHOUT").is_ok_and(|without| without.contains("terraform")) {
        return;
    }
    for form in ["terraform", "terraform-azurerm4"] {
        let hcl = printed(&[&GITHUB[..], &["--as", form]].concat());
        let formatted = fed("terraform", &["fmt", "-check", "-diff", "-"], &hcl);
        assert_eq!(formatted.code, Some(0), "{}", formatted.all());
    }
    let hcl = printed(&[&GITHUB[..], &["--as", "terraform"]].concat());
    let quoted = hcl.lines().filter_map(|line| line.strip_prefix("  subject ")?.split_once("= "));
    let list: serde_json::Value =
        serde_json::from_str(&printed(&[&GITHUB[..], &["--as", "json"]].concat())).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (quoted, list): (Vec<_>, &Vec<serde_json::Value>) = (quoted.collect(), list.as_array().unwrap());
    assert_eq!((quoted.len(), list.len()), (4, 4), "{hcl}");
    for ((_, quoted), one) in quoted.into_iter().zip(list) {
        let mut console = Command::new("terraform")
            .arg("console")
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(console.stdin.take().unwrap(), "jsonencode({quoted})").unwrap();
        let outcome = Outcome::of(&console.wait_with_output().unwrap());
        let once: String = serde_json::from_str(outcome.stdout.trim()).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&once).unwrap(), one["subject"]);
    }
}

#[test]
fn what_no_job_can_be() {
    for (arguments, said) in [
        (&["github", "--repo", "contoso", "--environment", "prod"][..], "`contoso` is not owner/repository"),
        (&["github", "--repo", "a/b"], "say what the job runs for"),
        (&["github", "--repo", "a/b", "--branch", "release/*"], "has a wildcard"),
        (&["github", "--repo", "a/b", "--branch", "refs/heads/x"], "is a ref: say its name"),
        (&["github", "--repo", "a/b", "--branch", "a b"], "is no name that git takes"),
        (&["github", "--repo", "a/b", "--environment", "prod "], "has white space at an end"),
        (&["github", "--repo", "a/b", "--environment", "a\nb"], "has a control character"),
        (&["github", "--repo", "a/b", "--environment", "x##vso[task.setvariable]y"], "takes for a command"),
        (&["github", "--repo", "a/b", "--environment", ""], "is empty"),
        (&["github", "--repo", "a/b", "--tag", "v1", "--immutable", "x/1"], "is not the owner's id"),
        (
            &["github", "--repo", "a/b", "--tag", "v1", "--reusable-workflow", "deploy.yml"],
            "--reusable-workflow: ",
        ),
        (&["gitlab", "--project", "infra", "--branch", "main"], "is not a path of group and project"),
        (&["gitlab", "--project", "g/p"], "GitLab's subject does not have the environment"),
        (&["gitlab", "--project", "g/p", "--deployment-tier", "staging"], "say what the job runs for"),
        (&["gitlab", "--project", "g/p", "--deployment-tier", "prod"], "[possible values: production,"),
        (&["gitlab", "--project", "g/p", "--ref-protected", "--by-id"], "--project-id"),
        (&["azure-devops", "--organization-id", world::ORGANIZATION], "the newer issuer needs"),
        (&["azure-devops", "--organization-id", "contoso"], "is not a GUID"),
        (
            &["kubernetes", "--issuer", "http://x", "--namespace", "a", "--service-account", "b"],
            "is no https URL",
        ),
        (
            &["kubernetes", "--issuer", "https://x", "--namespace", "a:b", "--service-account", "b"],
            "Kubernetes gives",
        ),
    ] {
        let outcome = trust(arguments);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(outcome.stderr.contains(said), "{arguments:?}: {}", outcome.stderr);
    }
    let environments: Vec<String> = (0..21).map(|number| format!("e{number}")).collect();
    let many = |count: usize| {
        let mut arguments = vec!["github", "--repo", "a/b", "--immutable", "1/2"];
        for environment in &environments[..count] {
            arguments.extend(["--environment", environment]);
        }
        trust(&arguments)
    };
    assert!(many(16).stdout.starts_with("# 16 credentials: an identity can have 20.\n"));
    let outcome = many(21);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains(
        "21 credentials are needed, and an identity can have 20\nazfed: hint: use an identity for each"
    ));
}

/// The call that sets a GitLab project's components is complete, and names those of the subject in its order.
#[test]
fn gitlabs_call_sets_what_the_subject_has() {
    for (arguments, project, components) in [
        (
            &[
                "--branch",
                "main",
                "--ref-protected",
                "--environment-protected",
                "--deployment-tier",
                "production",
            ][..],
            "contoso%2Finfra",
            &["project_path", "ref_type", "ref", "ref_protected", "environment_protected", "deployment_tier"]
                [..],
        ),
        (
            &["--environment-protected", "--project-id", "42"],
            "42",
            &["project_path", "environment_protected"],
        ),
        (&["--by-id", "--project-id", "42", "--tag", "v1"], "42", &["project_id", "ref_type", "ref"]),
    ] {
        let described = ["gitlab", "--project", "contoso/infra", "--server", world::GITLAB_ISSUER];
        let output = printed(&[&described[..], arguments].concat());
        let call = output.lines().find_map(|line| line.strip_prefix("# curl ")).unwrap();
        // a curl that says what it was called with
        let script = format!("GITLAB_TOKEN=secret; curl() {{ printf '%s\n' \"$@\"; }}; curl {call}");
        let called = Outcome::of(&Command::new("sh").args(["-euc", &script]).output().unwrap()).stdout;
        let words: Vec<&str> = called.lines().collect();
        let [
            "--fail",
            "--request",
            "PUT",
            "--header",
            "PRIVATE-TOKEN: secret",
            "--header",
            "content-type: application/json",
            "--data",
            data,
            url,
        ] = words.as_slice()
        else {
            panic!("{called}")
        };
        assert_eq!(*url, format!("{}/api/v4/projects/{project}", world::GITLAB_ISSUER));
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data, serde_json::json!({ "ci_id_token_sub_claim_components": components }));
        let json = printed(&[&described[..], arguments, &["--as", "json"]].concat());
        let list: serde_json::Value = serde_json::from_str(&json).unwrap();
        let subject = list[0]["subject"].as_str().unwrap();
        let named: Vec<&str> = subject.split(':').step_by(2).collect();
        assert_eq!(named, components, "{subject}");
    }
}

/// How many kinds of description there are.
const KINDS: u32 = 12;

/// A description, and the subject of its job as the platform's documentation writes it.
#[expect(clippy::too_many_lines, reason = "a table")]
fn described(number: u32) -> (Platform, Vec<String>, String) {
    let word = || -> String {
        std::iter::repeat_with(fastrand::alphanumeric).take(fastrand::usize(1..12)).collect()
    };
    let (owner, name, value) = (word(), word(), format!("{}/{}-{}", word(), word(), word()));
    let (owner_id, id) = (fastrand::u32(1..), fastrand::u32(1..));
    let strings =
        |arguments: &[&str]| arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>();
    let repo = format!("{owner}/{name}");
    let immutable = format!("{owner_id}/{id}");
    let kubernetes = |issuer: &str| {
        let (namespace, account) = (word().to_lowercase(), word().to_lowercase());
        let described =
            ["kubernetes", "--issuer", issuer, "--namespace", &namespace, "--service-account", &account];
        (Platform::Kubernetes, strings(&described), format!("system:serviceaccount:{namespace}:{account}"))
    };
    match number % KINDS {
        6 => kubernetes(world::KUBERNETES_ISSUER),
        7 => (
            Platform::Github,
            strings(&["github", "--repo", &repo, "--tag", &value]),
            format!("repo:{repo}:ref:refs/tags/{value}"),
        ),
        8 => {
            let workflow = format!("{owner}/ci/.github/workflows/{name}.yml@refs/heads/main");
            (
                Platform::Github,
                strings(&[
                    "github",
                    "--repo",
                    &repo,
                    "--environment",
                    &name,
                    "--reusable-workflow",
                    &workflow,
                ]),
                format!("repo:{repo}:environment:{name}:job_workflow_ref:{workflow}"),
            )
        }
        9 => (
            Platform::AzureDevops,
            strings(&[
                "azure-devops",
                "--organization-id",
                world::ORGANIZATION,
                "--organization",
                &owner,
                "--project",
                &name,
                "--connection",
                &value,
            ]),
            format!("sc://{owner}/{name}/{value}"),
        ),
        10 => (
            Platform::Gitlab,
            strings(&[
                "gitlab",
                "--server",
                world::GITLAB_ISSUER,
                "--project",
                &repo,
                "--branch",
                &value,
                "--ref-protected",
                "--environment-protected",
                "--deployment-tier",
                "production",
            ]),
            format!(
                "project_path:{repo}:ref_type:branch:ref:{value}:ref_protected:true:environment_protected:true\
                 :deployment_tier:production"
            ),
        ),
        11 => (
            Platform::Gitlab,
            strings(&[
                "gitlab",
                "--server",
                world::GITLAB_ISSUER,
                "--project",
                &repo,
                "--project-id",
                &id.to_string(),
                "--by-id",
                "--ref-protected",
            ]),
            format!("project_id:{id}:ref_protected:true"),
        ),
        0 => (
            Platform::Github,
            strings(&["github", "--repo", &repo, "--environment", &format!("a:{value}")]),
            format!("repo:{repo}:environment:a%3A{value}"),
        ),
        1 => (
            Platform::Github,
            strings(&["github", "--repo", &repo, "--branch", &value, "--immutable", &immutable]),
            format!("repo:{owner}@{owner_id}/{name}@{id}:ref:refs/heads/{value}"),
        ),
        2 => (
            Platform::Github,
            strings(&["github", "--repo", &repo, "--pull-request", "--immutable", &immutable]),
            format!("repo:{owner}@{owner_id}/{name}@{id}:pull_request"),
        ),
        3 => (
            Platform::Gitlab,
            strings(&["gitlab", "--server", world::GITLAB_ISSUER, "--project", &repo, "--branch", &value]),
            format!("project_path:{repo}:ref_type:branch:ref:{value}"),
        ),
        4 => (
            Platform::Gitlab,
            strings(&["gitlab", "--server", world::GITLAB_ISSUER, "--project", &repo, "--tag", &value]),
            format!("project_path:{repo}:ref_type:tag:ref:{value}"),
        ),
        _ => (Platform::AzureDevops, strings(&AZURE_DEVOPS[..7]), world::azure_devops_entra_subject()),
    }
}

/// A subject with one character replaced, left out, put in, or of the other letter case.
fn near_miss(subject: &str, kind: usize) -> String {
    let letters: Vec<usize> =
        subject.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic()).map(|(at, _)| at).collect();
    let at = letters[fastrand::usize(..letters.len())];
    let mut other = subject.to_owned();
    let letter = char::from(subject.as_bytes()[at]);
    match kind {
        0 => other.replace_range(at..=at, if letter == 'x' { "y" } else { "x" }),
        1 => drop(other.remove(at)),
        2 => other.insert(at, 'x'),
        _ => {
            let swapped = if letter.is_ascii_uppercase() {
                letter.to_ascii_lowercase()
            } else {
                letter.to_ascii_uppercase()
            };
            other.replace_range(at..=at, &swapped.to_string());
        }
    }
    assert_ne!(other, subject);
    other
}

#[test]
fn the_described_job_logs_in_and_no_other() {
    for number in 0..KINDS {
        let (platform, description, subject) = described(number);
        let mut arguments: Vec<&str> = description.iter().map(String::as_str).collect();
        arguments.extend(["--as", "json"]);
        let list: serde_json::Value = serde_json::from_str(&printed(&arguments)).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let is_older = text(&list[0]["issuer"]).starts_with("https://vstoken.");
        let mut job = Job::new(platform);
        job.emulator.trust(FederatedCredential {
            client_id: world::BARE_IDENTITY.to_owned(),
            issuer: text(&list[0]["issuer"]),
            subject: text(&list[0]["subject"]),
            audience: text(&list[0]["audiences"][0]),
        });
        if is_older {
            job.emulator.set(|settings| settings.azure_devops_issuer = "vstoken".to_owned());
        }
        let mut login = |subject: &str| {
            let overrides = JobOverrides { subject: Some(subject.to_owned()), ..JobOverrides::default() };
            let variables = job.emulator.platform_env(platform, &overrides);
            job.environment.extend(variables);
            job.set("AZURE_CLIENT_ID", world::BARE_IDENTITY);
            if platform == Platform::Kubernetes {
                fs::write(job.path("token"), job.emulator.mint(platform, &overrides)).unwrap();
                let file = job.path("token");
                job.set("AZURE_FEDERATED_TOKEN_FILE", &file);
            }
            job.run(&["login", "--no-keep-fresh"])
        };
        let outcome = login(&subject);
        assert_eq!(outcome.code, Some(0), "{description:?}: {}", outcome.stderr);
        for kind in 0..4 {
            let other = near_miss(&subject, kind);
            let outcome = login(&other);
            assert_eq!(outcome.code, Some(4), "{description:?} {other}: {}", outcome.stderr);
        }
    }
}

/// What is piped or redirected hides its comments: they stand on stderr too.
#[test]
fn what_there_is_to_know_is_said_on_stderr() {
    let described = ["github", "--repo", "contoso/infra", "--pull-request"];
    for form in ["az", "terraform", "bicep", "arm", "json"] {
        let outcome = trust(&[&described[..], &["--as", form]].concat());
        assert_eq!(outcome.code, Some(0));
        let said: Vec<&str> =
            outcome.stderr.lines().map(|line| line.strip_prefix("azfed: ").unwrap()).collect();
        for start in ["These subjects are classic.", "Whoever may push a branch can open such"] {
            assert!(said.iter().any(|line| line.starts_with(start)), "{form}: {}", outcome.stderr);
        }
        if form == "az" {
            let comments: Vec<&str> =
                outcome.stdout.lines().filter_map(|line| line.strip_prefix("# ")).collect();
            assert_eq!(comments, said);
        }
    }
    let tier = ["gitlab", "--project", "g/p", "--environment-protected", "--as", "json"];
    let outcome = trust(&tier);
    assert!(outcome.stderr.contains("azfed: curl --fail --request PUT --header"), "{}", outcome.stderr);
    assert_eq!(trust(&[&described[..], &["--quiet"]].concat()).stderr, "");
}

/// For app registrations: az's own command, and for flexible ones Microsoft Graph, which alone takes expressions.
#[test]
fn the_shell_runs_what_is_for_app_registrations() {
    let application = ["--as", "az-app", "--client-id", "55555555-5555-4555-8555-555555555555"];
    let run = |arguments: &[&str]| {
        let script = format!("az() {{ printf '%s\\n' \"$@\"; echo; }}\n{}", printed(arguments));
        let outcome = Outcome::of(&Command::new("sh").args(["-uc", &script]).output().unwrap());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{script}");
        let calls = outcome.stdout.split("\n\n").filter(|call| !call.is_empty());
        calls.map(|call| call.lines().map(ToOwned::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let calls = run(&[&GITHUB[..], &application].concat());
    let json = printed(&[&GITHUB[..], &["--as", "json"]].concat());
    let list: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(calls.len(), list.len());
    for (call, one) in calls.iter().zip(&list) {
        let id = "55555555-5555-4555-8555-555555555555";
        assert_eq!(call[..6], ["ad", "app", "federated-credential", "create", "--id", id]);
        assert_eq!(call[6], "--parameters");
        let parameters: serde_json::Value = serde_json::from_str(&call[7]).unwrap();
        assert_eq!(&parameters, one);
    }
    let flexible =
        ["gitlab", "--project", "contoso/infra", "--tag", "v*", "--project-id", "42", "--flexible"];
    let calls = run(&[&flexible[..], &application].concat());
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(
        call[..6],
        ["rest", "--method", "post", "--headers", "content-type=application/json", "--url"]
    );
    assert_eq!(
        call[6],
        "https://graph.microsoft.com/beta/applications(appId='55555555-5555-4555-8555-555555555555')/federatedIdentityCredentials"
    );
    assert_eq!(call[7], "--body");
    let body: serde_json::Value = serde_json::from_str(&call[8]).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "name": "infra-v-", "issuer": "https://gitlab.com", "audiences": ["api://AzureADTokenExchange"],
            "claimsMatchingExpression": {
                "languageVersion": 1,
                "value": "claims['sub'] matches 'project_path:contoso/infra:ref_type:tag:ref:v*' and claims['project_id'] eq '42'",
            },
        })
    );
    let unnamed = printed(&[&flexible[..], &["--as", "az-app"]].concat());
    assert!(
        unnamed.contains("say --client-id") && unnamed.contains("appId='\\''CLIENT-ID'\\''"),
        "{unnamed}"
    );
}

/// With names alone it prints the command that asks az for the ids; pasted, that prints the credentials.
#[test]
fn azure_devops_by_names_asks_az_for_the_ids() {
    let names = [
        "azure-devops",
        "--organization",
        "contoso",
        "--project",
        "it's infra",
        "--connection",
        "azure & prod",
    ];
    let outcome = trust(&names);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    let lines = outcome.stderr.lines().filter_map(|line| line.strip_prefix("    "));
    let script = format!(
        "azfed() {{ {} --quiet \"$@\"; }}\n\
         az() {{ case \"$*\" in\n  *'/contoso/_apis/connectionData --query instanceId'*) echo {} ;;\n  \
         *'/contoso/it%27s%20infra/_apis/serviceendpoint/endpoints?endpointNames=azure%20%26%20prod&api-version=7.1 --query value[0].id'*) echo {} ;;\n  \
         *'--query value[0].authorization.parameters.tenantid'*) echo {} ;;\n  *) exit 9 ;; esac; }}\n{}\n",
        env!("CARGO_BIN_EXE_azfed"),
        world::ORGANIZATION,
        world::CONNECTION,
        world::TENANT,
        lines.collect::<Vec<_>>().join("\n")
    );
    let ran = Outcome::of(&Command::new("sh").args(["-euc", &script]).env_clear().output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{script}");
    assert!(
        ran.stdout.contains(&format!("--subject {}", world::azure_devops_entra_subject())),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains(r"--subject 'sc://contoso/it'\''s infra/azure & prod'"), "{}", ran.stdout);
    let outcome =
        trust(&["azure-devops", "--tenant-id", world::TENANT, "--connection-id", world::CONNECTION]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.stderr.contains("hint: say --organization, --project and --connection, and azfed prints"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn here_is_the_job_it_runs_in() {
    for (platform, name) in [
        (Platform::Github, "github"),
        (Platform::Gitlab, "gitlab"),
        (Platform::AzureDevops, "azure_devops"),
        (Platform::Kubernetes, "kubernetes"),
    ] {
        let job = Job::new(platform);
        let outcome = job.run(&["trust", "here"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new());
        assert_shown!(format!("trust_here_{name}"), job.stable(&outcome.stdout));
    }
    let hostile = JobOverrides {
        subject: Some("x##vso[task.setvariable variable=PATH]y".to_owned()),
        ..JobOverrides::default()
    };
    let outcome = Job::with(Platform::Gitlab, &hostile).run(&["trust", "here"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    assert!(!outcome.stderr.contains("##vso["), "{}", outcome.stderr);
    let not_granted = JobOverrides { permissions: Some("none".to_owned()), ..JobOverrides::default() };
    assert_eq!(Job::with(Platform::Github, &not_granted).run(&["trust", "here"]).code, Some(3));
}

#[test]
fn check_says_which_or_how_near() {
    let job = Job::new(Platform::Github);
    let file = job.path("credentials.json");
    let mut list: serde_json::Value = serde_json::from_str(&printed(&[
        "github",
        "--repo",
        "contoso/infra",
        "--environment",
        "Prod",
        "--branch",
        "main",
        "--as",
        "json",
    ]))
    .unwrap();
    fs::write(&file, list.to_string()).unwrap();
    let outcome = job.run(&["trust", "check", &file]);
    let expected = "no credential matches; nearest is `infra-Prod`\n  subject differs: letter case\n    \
                    presented   repo:contoso/infra:environment:prod\n    configured  repo:contoso/infra:environment:Prod\n                                               ^\n";
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(4), expected), "{}", outcome.stderr);
    list[0]["subject"] = "repo:contoso/infra:environment:prod".into();
    fs::write(&file, list.to_string()).unwrap();
    let outcome = job.run(&["trust", "check", &file]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "the credential `infra-Prod` matches\n"));
    // a policy test: no job, no network
    let described = [
        "check",
        &file,
        "--issuer",
        world::GITHUB_ISSUER,
        "--subject",
        "repo:contoso/infra:ref:refs/heads/main",
    ];
    assert_eq!(trust(&described).stdout, "the credential `infra-main` matches\n");
    assert_eq!(trust(&[&described[..], &["--cloud", "AzureChinaCloud"]].concat()).code, Some(4));
    for (content, said) in [("nonsense", "it is not JSON"), ("[{}]", "credential 1 has no subject")] {
        fs::write(&file, content).unwrap();
        let outcome = trust(&described);
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    assert_eq!(trust(&["check", "no-such-file", "--issuer", "i", "--subject", "s"]).code, Some(2));
    let mut piped = Command::new(env!("CARGO_BIN_EXE_azfed"));
    piped.args(["trust", "check", "-", "--issuer", "i", "--subject", "s"]).env_clear();
    let mut piped = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(br#"{"value":[{"name":"n","properties":{"issuer":"i","subject":"s","audiences":["api://AzureADTokenExchange"]}}]}"#).unwrap();
    assert_eq!(piped.wait_with_output().unwrap().stdout, b"the credential `n` matches\n");
}

/// Each flag's value is that value to the tool that gets it, and text to whoever reads it.
#[test]
fn no_value_is_an_option_a_file_or_a_command() {
    let github = ["github", "--repo", "o/r", "--immutable", "1/2", "--environment", "prod"];
    let pod = ["kubernetes", "--namespace", "a", "--service-account", "b", "--issuer"];
    let commands = ["x\n::error::y", "x\n##vso[task.setvariable variable=PATH]/evil", "a##[b]", "a\rb"];
    let marks = ["a\u{202e}b", "a\u{200b}b", "a\u{2066}b", "a\u{61c}b", "a\u{2028}b", "a\u{e0041}b"];
    let words = ["--help", "-x", "@/etc/passwd"];
    let names = [&commands[..], &marks, &words, &["a b", "$(x)", "a/b", "..", "", "a'b", "a\"b"]].concat();
    let mut cases: Vec<Vec<String>> = Vec::new();
    let mut case = |arguments: &[&str]| cases.push(arguments.iter().map(ToString::to_string).collect());
    for name in names {
        for flag in ["--identity", "--resource-group", "--name"] {
            case(&[&github[..], &[&format!("{flag}={name}")]].concat());
        }
    }
    for value in [&commands[..], &marks].concat() {
        case(&[&github[..], &[&format!("--environment={value}")]].concat());
        case(&["github", "--repo", "o/r", &format!("--branch={value}")]);
        case(&["gitlab", "--branch", "main", &format!("--project=g/{value}")]);
        case(&[&github[..], &[&format!("--issuer=https://{value}")]].concat());
        case(&[&pod[..], &[&format!("https://{value}")]].concat());
        case(&[&AZURE_DEVOPS[..11], &[&format!("--connection={value}")]].concat());
        if !value.contains("##[") {
            continue;
        }
        case(&[&github[..], &[&format!("--audience={value}")]].concat());
    }
    for value in words {
        case(&[&github[..], &[&format!("--issuer={value}")]].concat());
        case(&[&github[..], &[&format!("--audience={value}")]].concat());
    }
    case(&["github", "--repo", "../..", "--environment", "prod"]);
    for case in cases {
        for form in ["az", "terraform", "bicep", "arm", "json"] {
            let mut arguments: Vec<&str> = case.iter().map(String::as_str).collect();
            arguments.extend(["--as", form]);
            let outcome = trust(&arguments);
            assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
            let shown = outcome.stderr.lines().all(|line| {
                !line.starts_with("::")
                    && !line.contains("##[")
                    && !line.contains(['\r', '\u{202e}', '\u{61c}', '\u{e0041}'])
            });
            assert!(shown, "{arguments:?}: {}", outcome.stderr);
        }
    }
    // what only looks like one stays possible
    let scoped = printed(&["github", "--repo", "o/r", "--immutable", "1/2", "--tag", "@scope/package@1.0.0"]);
    assert!(scoped.contains("--subject repo:o@1/r@2:ref:refs/tags/@scope/package@1.0.0 "), "{scoped}");
}

/// Some shells run what stands in a comment that is pasted.
#[test]
fn a_comment_has_no_command_in_it() {
    let printed = printed(&["github", "--repo", "o/r", "--environment", "x; touch y"]);
    assert!(
        printed.contains(
            "# Immutable, the first of them is 'repo:o@OWNER-ID/r@REPOSITORY-ID:environment:x; touch y'\n"
        ),
        "{printed}"
    );
    let forgejo = ["forgejo", "--server", "https://x; touch y", "--repo", "o/r", "--branch", "main"];
    let outcome = trust(&forgejo);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(!outcome.stdout.contains(" https://x; touch y"), "{}", outcome.stdout);
}

#[test]
fn nothing_is_injected_into_an_expression() {
    let workflow = "o/r/.github/workflows/x.yml@refs/heads/a' and claims['sub'] matches '.";
    let github = ["github", "--repo", "o/r", "--immutable", "1/2", "--flexible", "--environment"];
    for arguments in [
        &[&github[..], &["prod", "--reusable-workflow", workflow]].concat()[..],
        &[&github[..], &["x' or claims['repository_owner'] eq 'evil"]].concat(),
        &["github", "--repo", "o/r", "--immutable", "1/2", "--flexible", "--branch", "a'b"],
        &[
            "gitlab",
            "--project",
            "g/p' or claims['x'] eq 'y",
            "--project-id",
            "7",
            "--flexible",
            "--branch",
            "main",
        ],
        &["gitlab", "--project", "g/p", "--project-id", "7", "--flexible", "--tag", "v'1"],
    ] {
        let outcome = trust(arguments);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            outcome.stderr.contains("has a quote, which no expression can hold"),
            "{arguments:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn check_names_what_cannot_be_seen() {
    let job = Job::new(Platform::Github);
    let file = job.path("credentials.json");
    let one = serde_json::json!({ "name": "n", "issuer": "https://i", "subject": "repo:a/b:environment:prod\u{200b}", "audiences": ["api://AzureADTokenExchange"] });
    fs::write(&file, one.to_string()).unwrap();
    let outcome = trust(&["check", &file, "--issuer", "https://i", "--subject", "repo:a/b:environment:prod"]);
    assert_eq!(outcome.code, Some(4));
    assert!(outcome.stdout.contains("subject differs: characters that cannot be seen"), "{}", outcome.stdout);
}
