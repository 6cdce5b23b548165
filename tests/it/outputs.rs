//! What is handed over, byte for byte.

use std::{fmt::Write, fs, process::Stdio};

use azfed_emulator::{JobOverrides, Platform};

use crate::harness::{Job, Outcome, assert_shown};

fn login(platform: Platform, arguments: &[&str]) -> (Job, Outcome) {
    let job = Job::new(platform);
    let outcome = job.run(&[&["login"], arguments].concat());
    assert_eq!(outcome.code, Some(0), "{}", job.show(&outcome));
    (job, outcome)
}

fn files(job: &Job) -> String {
    let mut shown = String::new();
    for path in job.left_in_temp() {
        if path.is_file() {
            let name = path.strip_prefix(job.directory.path()).unwrap().display().to_string();
            let content = fs::read_to_string(&path).unwrap();
            let is_process = name.ends_with("/keeper/pid") || name.ends_with("/keeper/lock");
            let content = if is_process { "<process>" } else { &content };
            let _ = writeln!(shown, "--- {name}\n{}", job.stable(content));
        }
    }
    shown
}

#[test]
fn github() {
    let (job, outcome) = login(Platform::Github, &["--verbose", "--output-access-token"]);
    let mut shown = job.show(&outcome);
    for name in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"] {
        let _ = write!(shown, "--- {name}\n{}", job.stable(&job.read(name)));
    }
    assert_shown!("github", shown + &files(&job));
}

#[test]
fn gitlab() {
    let (job, outcome) = login(Platform::Gitlab, &["--verbose", "--scope", "https://vault.azure.net"]);
    assert_shown!("gitlab", job.show(&outcome) + &files(&job));
    assert_eq!(job.leaks(&outcome.all()), Vec::<String>::new());
}

#[test]
fn azure_devops() {
    let (job, outcome) = login(Platform::AzureDevops, &["--verbose"]);
    assert_shown!("azure_devops", job.show(&outcome) + &files(&job));
}

#[test]
fn by_name() {
    for form in ["sh", "powershell", "fish", "dotenv", "json"] {
        let (job, outcome) = login(Platform::Kubernetes, &["--output", form, "--quiet"]);
        assert_eq!(outcome.stderr, "");
        assert_eq!(job.leaks(&outcome.stdout), Vec::<String>::new());
        assert_shown!(format!("form_{form}"), job.show(&outcome));
    }
}

#[test]
fn for_some_clients_only() {
    for (clients, present, absent) in [
        ("terraform", "ARM_CLIENT_ID", ["AZURE_CLIENT_ID", "AZURE_CONFIG_DIR"]),
        ("az", "AZURE_CONFIG_DIR", ["ARM_CLIENT_ID", "AZURE_CLIENT_ID"]),
        ("sdk", "AZURE_CLIENT_ID", ["ARM_CLIENT_ID", "AZURE_CONFIG_DIR"]),
    ] {
        let (job, outcome) = login(Platform::Gitlab, &["--for", clients]);
        assert!(outcome.stdout.contains(&format!("export {present}=")));
        for name in absent {
            assert!(!outcome.stdout.contains(&format!("export {name}=")), "{clients}: {name}");
        }
        let has_az = job.left_in_temp().iter().any(|path| path.ends_with("azure/msal_token_cache.json"));
        assert_eq!(has_az, clients == "az");
    }
}

#[test]
fn a_secret_is_masked_before_it_is_used() {
    let (job, outcome) = login(Platform::Github, &[]);
    let secrets: Vec<String> = job
        .emulator
        .secrets()
        .into_iter()
        .filter(|secret| secret.starts_with("eyJ"))
        .filter(|secret| *secret != job.environment["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
        .collect();
    let masks: Vec<&str> =
        outcome.stdout.lines().filter_map(|line| line.strip_prefix("::add-mask::")).collect();
    assert_eq!(masks, secrets, "the assertion first, then the access token, and nothing else on stdout");
    // each after a line break in the same write: see `a_mask_stands_at_the_start_of_a_line`
    assert_eq!(outcome.stdout.lines().count(), 2 * masks.len());

    // where stdout is data, the masks go to stderr
    for command in ["token", "assertion"] {
        let job = Job::new(Platform::AzureDevops);
        let outcome = job.run(&[command]);
        let masked = outcome
            .stderr
            .lines()
            .any(|line| line == format!("##vso[task.setsecret]{}", outcome.stdout.trim()));
        assert!(masked && outcome.code == Some(0), "{}", job.show(&outcome));
    }
}

#[test]
fn an_assertion_is_printed_alone() {
    let job = Job::new(Platform::Gitlab);
    let outcome = job.run(&["assertion"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    assert_eq!(outcome.stdout, job.environment["AZURE_ID_TOKEN"], "not even a line break");
    assert!(job.emulator.requests().is_empty() && job.left_in_temp().is_empty());
}

#[test]
fn a_reader_that_went_away_undoes_the_login() {
    let job = Job::new(Platform::Gitlab);
    let mut child = job.command(&["login"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let outcome = Outcome::of(&child.wait_with_output().unwrap());
    assert_eq!(outcome.code, Some(1), "{}", job.show(&outcome));
    assert!(outcome.stderr.starts_with("azfed: error: stdout could not be written: "), "{}", outcome.stderr);
    assert!(job.left_in_temp().is_empty());
}

#[test]
fn logout_on_each_platform() {
    for platform in [Platform::Github, Platform::Gitlab, Platform::AzureDevops] {
        let (job, _) = login(platform, &[]);
        assert_eq!(job.run(&["login"]).code, Some(0));
        assert!(!job.left_in_temp().is_empty());
        let outcome = job.run(&["logout"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{}", job.show(&outcome));
        assert!(job.left_in_temp().is_empty());
        let outcome = job.run(&["logout"]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), "azfed: nothing to remove\n"));
    }
}

#[test]
fn a_warning_for_what_will_hurt_later() {
    let mut job = Job::with(Platform::Github, &JobOverrides::default());
    job.set("ARM_OIDC_TOKEN", "old");
    job.set("ARM_CLIENT_ID", azfed_emulator::world::APPLICATION);
    let outcome = job.run(&["login"]);
    assert_shown!("warnings", job.show(&outcome));
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map_or("0", str::trim);
    let nohup = u64::from_str_radix(ignored, 16).unwrap() & 1 == 1;
    for (signal, code) in [("HUP", 129), ("INT", 130), ("QUIT", 131), ("TERM", 143)] {
        if signal == "HUP" && nohup {
            use std::io::Write;
            writeln!(std::io::stderr(), "NOT TESTED: SIGHUP, which the tests are run without (nohup)")
                .unwrap();
            continue;
        }
        let job = Job::new(Platform::Gitlab);
        job.fault("entra.token", 0, azfed_emulator::Action::Delay { ms: 30_000 });
        let child = job.command(&["login"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while job.emulator.requests().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let killed = std::process::Command::new("kill")
            .args(["-s", signal])
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        let outcome = Outcome::of(&child.wait_with_output().unwrap());
        assert_eq!(outcome.code, Some(code), "{}", job.show(&outcome));
        assert_eq!(outcome.stdout, format!("(exit {code})\n"));
        assert!(job.left_in_temp().is_empty());
    }
}

/// GitHub's runner finds a command at the start of a line only, and others write to the same stream.
#[cfg(unix)]
#[test]
fn a_mask_stands_at_the_start_of_a_line() {
    let masked = |job: &Job, log: &str| {
        // what the runner would make of it: a line that begins with the command
        let seen: String =
            log.lines().filter(|line| !line.trim_start().starts_with("::add-mask::")).collect();
        assert!(log.contains("::add-mask::"), "{log}");
        assert_eq!(job.leaks(&seen), Vec::<String>::new(), "{log}");
    };
    for script in [
        "printf 'Logging in... '; azfed login",
        "printf 'Logging in... '; azfed login >/dev/null",
        "printf 'Logging in... '; azfed login >&-",
        "printf 'Getting a token... ' >&2; T=$(azfed token)",
        "printf 'Getting a token... ' >&2; T=$(azfed assertion)",
        "azfed exec -- sh -c 'printf \"acquiring lock... \" >&2; exec curl --silent --show-error \
            --header \"X-IDENTITY-HEADER: $IDENTITY_HEADER\" --output /dev/null \
            \"$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net\"'",
        "azfed exec -- sh -c 'exec curl --header \"X-IDENTITY-HEADER: $IDENTITY_HEADER\" --output /dev/null \
            \"$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net\"'",
    ] {
        let job = Job::new(Platform::Github);
        let outcome = job.sh(&format!("{{ {script}; }} 2>&1"));
        assert_eq!(outcome.code, Some(0), "{script}: {}", outcome.stdout);
        masked(&job, &outcome.stdout);
        job.run(&["logout"]);
    }
}

/// What is shown with the job follows a finished line of its own, in the same write.
#[cfg(unix)]
#[test]
fn an_annotation_stands_at_the_start_of_a_line() {
    let mut job = Job::new(Platform::Github);
    job.set("ARM_OIDC_TOKEN", "old");
    let outcome = job.sh("printf 'Logging in... ' >&2; azfed login");
    assert!(outcome.stderr.starts_with("Logging in... azfed: warning: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("\n::warning title=azfed::"), "{}", outcome.stderr);
    job.run(&["logout"]);
    let outcome = job.sh("printf 'Logging in... ' >&2; azfed login --bogus");
    assert!(outcome.stderr.contains("\n::error title=azfed::"), "{}", outcome.stderr);
}

/// The Azure SDKs take a secret of any bytes.
#[cfg(unix)]
#[test]
fn a_client_secret_that_is_not_utf_8_is_one() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let job = Job::new(Platform::Github);
    for name in ["AZURE_CLIENT_SECRET", "ARM_CLIENT_SECRET"] {
        let run = |arguments: &[&str]| {
            let mut command = job.command(arguments);
            Outcome::of(&command.env(name, OsStr::from_bytes(b"\xff\xfesecret")).output().unwrap())
        };
        let outcome = run(&["login"]);
        assert_eq!(outcome.code, Some(2), "{}", job.show(&outcome));
        assert!(outcome.stderr.contains(&format!("{name} is set")), "{}", outcome.stderr);
        let outcome = run(&["exec", "-v", "--", "sh", "-c", "env | grep -a -c CLIENT_SECRET"]);
        assert_eq!(outcome.stdout, "0\n");
        assert!(outcome.stderr.contains(&format!("the command does not get {name}\n")), "{}", outcome.stderr);
        let outcome = run(&["doctor", "--offline"]);
        assert!(outcome.stdout.contains("set, but not UTF-8"), "{}", outcome.stdout);
    }
}
