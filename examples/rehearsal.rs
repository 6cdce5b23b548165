//! The main job with no Azure: an emulator, the real binary run as a CI job, and a request made with what it handed over.
//!
//! ```text
//! cargo run --example rehearsal                            # a GitHub job
//! cargo run --example rehearsal -- gitlab                  # a GitLab job
//! cargo run --example rehearsal -- azure-devops            # an Azure DevOps job
//! cargo run --example rehearsal -- github --break subject  # a refusal, explained
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use azfed_emulator::{Emulator, JobOverrides, Options, Platform, world};
use serde_json::Value;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (platform, broken) = match words.as_slice() {
        [] | ["github"] => (Platform::Github, None),
        ["gitlab"] => (Platform::Gitlab, None),
        ["azure-devops"] => (Platform::AzureDevops, None),
        [name, "--break", what] => (named(name)?, Some(*what)),
        ["--break", what] => (Platform::Github, Some(*what)),
        _ => bail!("usage: rehearsal [github|gitlab|azure-devops] [--break subject|issuer|permissions]"),
    };
    let overrides = match broken {
        None => JobOverrides::default(),
        Some("subject") => JobOverrides {
            subject: Some("repo:contoso/infra:environment:staging".to_owned()),
            ..JobOverrides::default()
        },
        Some("issuer") => {
            JobOverrides { issuer: Some("https://elsewhere.example".to_owned()), ..JobOverrides::default() }
        }
        Some("permissions") => {
            JobOverrides { permissions: Some("none".to_owned()), ..JobOverrides::default() }
        }
        Some(other) => bail!("--break takes subject, issuer or permissions, not {other}"),
    };
    rehearse(platform, &overrides)
}

fn named(name: &str) -> Result<Platform> {
    serde_json::from_value(Value::from(name)).with_context(|| format!("no platform {name}"))
}

fn rehearse(platform: Platform, overrides: &JobOverrides) -> Result<ExitCode> {
    let azfed = binary()?;
    let emulator = Emulator::start(Options::default())?;
    let job = tempfile::tempdir()?;
    let temp = job.path().join("temp");
    fs::create_dir(&temp)?;
    let mut environment: BTreeMap<String, String> =
        emulator.platform_env(platform, overrides).into_iter().collect();
    let mut set = |name: &str, value: &str| environment.insert(name.to_owned(), value.to_owned());
    set("AZURE_AUTHORITY_HOST", &emulator.authority());
    match platform {
        Platform::Github => {
            set("RUNNER_TEMP", path(&temp)?);
            for name in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"] {
                let file = job.path().join(name);
                fs::write(&file, "")?;
                set(name, path(&file)?);
            }
        }
        Platform::AzureDevops => {
            set("AGENT_TEMPDIRECTORY", path(&temp)?);
            set("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", world::CONNECTION);
        }
        Platform::Gitlab | Platform::Kubernetes => {
            set("RUNNER_TEMP_PROJECT_DIR", path(&temp)?);
        }
    }
    let ids = [
        "--client-id",
        world::IDENTITY,
        "--tenant-id",
        world::TENANT,
        "--subscription-id",
        world::SUBSCRIPTION,
    ];

    println!("$ azfed login {}", ids.join(" "));
    let output = Command::new(&azfed).arg("login").args(ids).env_clear().envs(&environment).output()?;
    let hidden = |bytes: &[u8]| {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        for secret in emulator.secrets() {
            text = text.replace(&secret, "***");
        }
        text
    };
    print!("{}{}", hidden(&output.stderr), hidden(&output.stdout));
    println!("\nexit code {}", output.status.code().unwrap_or_default());
    if !output.status.success() {
        return Ok(ExitCode::from(u8::try_from(output.status.code().unwrap_or(1))?));
    }

    println!("\n# what later steps have");
    let handed_over = handed_over(platform, job.path(), &String::from_utf8_lossy(&output.stdout))?;
    for (name, value) in &handed_over {
        println!("{name}={value}");
    }
    let profile = fs::read(Path::new(&handed_over["AZURE_CONFIG_DIR"]).join("msal_token_cache.json"))?;
    let cache: Value = serde_json::from_slice(&profile)?;
    let entries = cache["AccessToken"].as_object().context("az's cache has access tokens")?;
    let token = entries.values().find_map(|entry| entry["secret"].as_str()).context("an access token")?;

    println!(
        "\n$ curl {}/subscriptions?api-version=2022-12-01   # with the access token from az's cache",
        emulator.http_url()
    );
    println!("{}", get(&format!("{}/subscriptions?api-version=2022-12-01", emulator.http_url()), token)?);

    println!("\n$ azfed logout");
    let output =
        Command::new(&azfed).arg("logout").env_clear().envs(&environment).envs(&handed_over).output()?;
    print!("{}", hidden(&output.stderr));
    println!("files left in the job's temp: {}", fs::read_dir(&temp)?.count());
    Ok(ExitCode::SUCCESS)
}

/// A request with the access token; the answer's subscription names.
fn get(url: &str, token: &str) -> Result<String> {
    let client = reqwest::Client::builder().tls_backend_preconfigured(no_tls()?).no_proxy().build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        client.get(url).bearer_auth(token).send().await?.error_for_status()?.text().await
    })?;
    let answer: Value = serde_json::from_str(&text)?;
    Ok(answer["value"][0]["displayName"].to_string())
}

/// The emulator's loopback port speaks plain http: no certificates are needed.
fn no_tls() -> Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

/// Reads the hand-over as the platform's runner does.
fn handed_over(platform: Platform, job: &Path, stdout: &str) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    match platform {
        Platform::Github => {
            let file = fs::read_to_string(job.join("GITHUB_ENV"))?;
            let mut lines = file.lines();
            while let Some(line) = lines.next() {
                let (name, delimiter) = line.split_once("<<").context("a heredoc")?;
                let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
                variables.insert(name.to_owned(), value.join("\n"));
            }
        }
        Platform::AzureDevops => {
            for line in
                stdout.lines().filter_map(|line| line.strip_prefix("##vso[task.setvariable variable="))
            {
                let (name, value) = line.split_once(']').context("a command")?;
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        Platform::Gitlab | Platform::Kubernetes => {
            for line in stdout.lines().filter_map(|line| line.strip_prefix("export ")) {
                let (name, value) = line.split_once('=').context("an export")?;
                variables.insert(name.to_owned(), value.trim_matches('\'').to_owned());
            }
        }
    }
    Ok(variables)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a temp directory in UTF-8")
}

/// The binary beside this example; built first, where it is not there yet.
fn binary() -> Result<PathBuf> {
    let example = std::env::current_exe()?;
    let directory = example.parent().and_then(Path::parent).context("target/<profile>/examples")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--bin", "azfed"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !built.success() {
        bail!("the binary could not be built");
    }
    Ok(directory.join(format!("azfed{}", std::env::consts::EXE_SUFFIX)))
}
