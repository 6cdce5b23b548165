//! What a refused login prints, pasted unedited into a real shell.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use azfed_emulator::{JobOverrides, Platform, world};

use crate::harness::{Job, Outcome};

/// The lines to paste below a hint.
fn pasted(stderr: &str, hint: &str) -> String {
    let lines = stderr.lines().skip_while(|line| !(line.starts_with("azfed: hint: ") && line.contains(hint)));
    let lines = lines.skip(1).take_while(|line| line.starts_with("    "));
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// What a shell makes of these lines, typed one after the other, and whether it is still there afterwards. Its az finds
/// the identity or not, and shows each other call.
fn typed(shell: &[&str], job: &Job, lines: &str, found: &str) -> Outcome {
    let directory = job.path("az");
    fs::create_dir_all(&directory).unwrap();
    let az = format!(
        "#!/bin/sh\nif [ \"$1 $2\" = 'identity list' ]; then printf '{found}'; printf '(%s)' \"$@\" >>asked\nelse printf '[%s]' \"$@\"; echo; fi\n"
    );
    fs::write(format!("{directory}/az"), az).unwrap();
    assert!(Command::new("chmod").args(["755", &format!("{directory}/az")]).status().unwrap().success());
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .env_clear()
        .envs([
            ("PATH", format!("{directory}:/usr/bin:/bin")),
            ("PS1", String::new()),
            ("PS2", String::new()),
        ])
        .current_dir(job.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("{lines}echo still here\n");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Outcome::of(&child.wait_with_output().unwrap())
}

const SHELLS: [&[&str]; 3] = [&["sh"], &["bash", "--norc"], &["bash", "--norc", "-i"]];

#[test]
fn the_printed_commands_run_as_they_stand() {
    for subject in [
        "repo:contoso/infra:environment:staging",
        "repo:contoso/infra:environment:it's $(touch hacked) `touch hacked` !! \"<group>\" %3A \\",
    ] {
        let overrides = JobOverrides { subject: Some(subject.to_owned()), ..JobOverrides::default() };
        let job = Job::with(Platform::Github, &overrides);
        let refused = job.run(&["login"]);
        assert_eq!(refused.code, Some(4), "{}", refused.stderr);
        let lines = pasted(&refused.stderr, "add a federated credential for this one:");
        let name = lines.split("--name ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(name.starts_with("azfed-") && (3..=120).contains(&name.len()), "{name}");
        let created = format!(
            "[identity][federated-credential][create][--identity-name][infra-prod][--resource-group][contoso-prod]\
             [--name][{name}][--issuer][{}][--subject][{subject}][--audiences][api://AzureADTokenExchange]\nstill here\n",
            world::GITHUB_ISSUER
        );
        for shell in SHELLS {
            let _ = fs::remove_file(job.path("asked"));
            let outcome = typed(shell, &job, &lines, "infra-prod\\tcontoso-prod\\t/subscriptions/x\\r\\n");
            assert_eq!(outcome.stdout, created, "{shell:?}: {lines}{}", outcome.stderr);
            let query = format!("[?clientId=='{}'].[name,resourceGroup,id]", world::IDENTITY);
            assert_eq!(
                job.read("asked"),
                format!("(identity)(list)(--query)({query})(--output)(tsv)"),
                "{shell:?}"
            );
            // an app registration's client id, or another subscription's identity
            let outcome = typed(shell, &job, &lines, "");
            assert_eq!(outcome.stdout, "still here\n", "{shell:?}");
            let said = format!("az finds no managed identity {} in this subscription", world::IDENTITY);
            assert!(outcome.stderr.contains(&said), "{shell:?}: {}", outcome.stderr);
            // which is why there is a second command
            let lines = pasted(&refused.stderr, "an app registration's:");
            let outcome = typed(shell, &job, &lines, "");
            let said =
                format!("[ad][app][federated-credential][create][--id][{}][--parameters][", world::IDENTITY);
            let parameters =
                outcome.stdout.strip_prefix(&said).unwrap().strip_suffix("]\nstill here\n").unwrap();
            let parameters: serde_json::Value = serde_json::from_str(parameters).unwrap();
            assert_eq!(parameters["subject"], subject, "{shell:?}");
            assert_eq!(
                (&parameters["name"], &parameters["issuer"]),
                (&name.into(), &world::GITHUB_ISSUER.into())
            );
        }
        assert!(!fs::exists(job.path("hacked")).unwrap());
    }
}

#[test]
fn each_job_has_a_credential_of_its_own_name() {
    let name = |subject: &str| {
        let overrides = JobOverrides { subject: Some(subject.to_owned()), ..JobOverrides::default() };
        let printed = Job::with(Platform::Github, &overrides).run(&["trust", "here", "--as", "json"]).stdout;
        let list: serde_json::Value = serde_json::from_str(&printed).unwrap();
        list[0]["name"].as_str().unwrap().to_owned()
    };
    let one = name("repo:contoso/infra:ref:refs/heads/main");
    assert!(one.starts_with("azfed-main-"), "{one}");
    assert_eq!(name("repo:contoso/infra:ref:refs/heads/main"), one);
    assert_ne!(name("repo:contoso/other:ref:refs/heads/main"), one, "it would overwrite the other job's");
}

#[test]
fn a_subject_that_no_log_can_show_gets_no_command() {
    for subject in ["x##vso[task.setvariable variable=PATH]y", "::b", "a\u{202e}b", " a"] {
        let overrides = JobOverrides { subject: Some(subject.to_owned()), ..JobOverrides::default() };
        let refused = Job::with(Platform::Gitlab, &overrides).run(&["login"]);
        assert_eq!(refused.code, Some(4), "{}", refused.stderr);
        assert!(!refused.stderr.contains("az identity"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("add a federated credential for this one; by hand, as no command"),
            "{}",
            refused.stderr
        );
    }
}
