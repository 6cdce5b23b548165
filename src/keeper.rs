//! One background process a login: it renews what the login wrote before it is too old, and serves the endpoints to
//! later steps where they were asked for.
//!
//! The login starts it, hands it what it needs through a pipe (nothing secret stands in its arguments or in its
//! environment), and waits for its answer. It ends with `azfed logout`, when the login's directory is gone, with the
//! job, when the platform says no for good, and after a day.

pub mod owner;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
};

use self::owner::Owner;
use crate::{
    assertion::Assertion,
    clock::{self, Moment},
    config::{Identity, Target},
    endpoints::{Address, Keys, vault::Vault},
    entra::AccessToken,
    env::{Env, names},
    error::{Error, Hints},
    exchange::Exchange,
    export,
    secret::Secret,
    state::{self, Kept},
    text,
    ui::Ui,
};

/// No job of a hosted runner lasts longer, and an identity that is kept for ever is one that is lost one day.
const LONGEST: Duration = Duration::from_hours(24);
/// How often it looks whether it is still needed.
const ROUND: Duration = Duration::from_secs(2);
/// How long the login waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Refusals in a row that are taken for final: a job that is over, most likely.
const FINAL_REFUSALS: u32 = 3;
/// Before the next try, after one that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest orders that are read.
const LONGEST_ORDERS: u64 = 8 << 20;
/// What the login says when it has handed over: without it the background process removes the login, and goes.
const STAY: &str = "stay\n";

/// Variables of the login step that the background process has too: those of the operating system, of proxies and of
/// certificates, and the two by which runners find what a job has left running.
const INHERITED: [&str; 19] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    names::system::SSL_CERT_FILE,
    names::system::SSL_CERT_DIR,
    names::system::TMPDIR,
    names::system::TEMP,
    "SystemRoot",
    "windir",
    "PATH",
    "RUST_BACKTRACE",
    "RUNNER_TRACKING_ID",
    "VSTS_PROCESS_LOOKUP_ID",
    "LANG",
];

/// Why a login cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The background process could not be started, or did not answer.
    #[error("the background process that keeps this login could not be started: {0}")]
    Start(String),
    /// The platform gives one assertion a job.
    #[error("{0} gives a job one OIDC token, which cannot be renewed")]
    NotRenewable(String),
    /// What it was told makes no sense.
    #[error("this command is for `azfed login` only")]
    Orders,
}

impl Failure {
    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::Start(_) => Hints::one(
                "`--no-keep-fresh` logs in without it; `azfed exec -- COMMAND` needs no background process",
            ),
            Self::NotRenewable(_) => Hints::one(
                "leave `--keep-fresh` out; name every resource that the job needs with `--scope`, so that its access \
                 tokens outlive the OIDC token, or ask for an OIDC token that lives longer (GitLab: the job's `timeout:`)",
            ),
            Self::Orders => Hints::none(),
        }
    }
}

/// What the login hands over.
#[derive(Debug)]
pub struct Handed<'a> {
    /// Who to be.
    pub identity: &'a Identity,
    /// Where.
    pub target: &'a Target,
    /// The way to Entra, or to the host.
    pub exchange: &'a Exchange,
    /// The assertion at hand, where it took one.
    pub assertion: Option<&'a Assertion>,
    /// The access tokens at hand.
    pub tokens: &'a [AccessToken],
    /// The login's directory.
    pub directory: &'a str,
    /// All tries for one token together.
    pub timeout: Duration,
    /// Whether to serve the endpoints.
    pub endpoints: bool,
    /// The only resources that they serve.
    pub allowed: &'a [crate::identifiers::Scope],
}

/// The same, as the background process reads it.
#[derive(Deserialize)]
pub struct Orders {
    environment: BTreeMap<String, String>,
    /// The login's directory.
    pub directory: String,
    owner: Option<(u32, Option<u64>)>,
    assertion: Option<String>,
    tokens: Vec<HandedToken>,
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Orders").field("directory", &self.directory).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct HandedToken {
    scope: String,
    secret: String,
    issued_at: u64,
    expires_on: u64,
}

/// What it answers: which process it is, and where its endpoints are.
#[derive(Serialize, Deserialize)]
struct Ready {
    pid: u32,
    endpoints: Option<ReadyEndpoints>,
}

#[derive(Serialize, Deserialize)]
struct ReadyEndpoints {
    port: u16,
    identity: String,
    oidc: String,
    path: String,
}

/// A background process that waits for the word to stay.
#[derive(Debug)]
pub struct Keeper {
    /// Its process id.
    pub pid: u32,
    /// Its endpoints, where they were asked for.
    pub address: Option<Address>,
    orders: ChildStdin,
    _process: Child,
}

impl Keeper {
    /// Starts it. Its stderr is a file in the login's directory.
    pub async fn start(handed: &Handed<'_>, env: &Env, ui: &Ui) -> Result<Self, Failure> {
        let started = tokio::time::timeout(PATIENCE, Self::try_start(handed, env, ui)).await;
        let elapsed = || io::Error::from(io::ErrorKind::TimedOut);
        started.unwrap_or_else(|_| Err(elapsed())).map_err(|error| Failure::Start(error.to_string()))
    }

    async fn try_start(handed: &Handed<'_>, env: &Env, ui: &Ui) -> io::Result<Self> {
        let log = state::open_log(handed.directory)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("keep").args(arguments(handed)).env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((*name, env.get(name)?))));
        // not in the workspace, which a later step may want to remove
        command.current_dir(if cfg!(windows) { r"C:\" } else { "/" });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(log));
        // a lock or a pipe that the step's shell has open must not live on in the background
        #[cfg(unix)]
        close_fds::set_fds_cloexec(3, &[]);
        let mut process = command.spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut orders = process.stdin.take().ok_or_else(gone)?;
        let stdout = process.stdout.take().ok_or_else(gone)?;
        let line = Secret::new(orders_of(handed, env, ui) + "\n");
        let mut answer = String::new();
        let talk = async {
            orders.write_all(line.expose().as_bytes()).await?;
            BufReader::new(stdout).take(64 << 10).read_line(&mut answer).await
        };
        // one that has ended already says why in its log
        let ready = match talk.await {
            Ok(_) => serde_json::from_str::<Ready>(&answer).ok(),
            Err(_) => None,
        };
        let Some(ready) = ready else {
            return Err(io::Error::other(
                state::last_log_line(handed.directory)
                    .unwrap_or_else(|| "it ended without a word".to_owned()),
            ));
        };
        let address = ready.endpoints.map(|endpoints| {
            let keys = Keys {
                identity: Secret::new(endpoints.identity),
                oidc: Secret::new(endpoints.oidc),
                path: Secret::new(endpoints.path),
            };
            Address::new(endpoints.port, keys)
        });
        Ok(Self { pid: ready.pid, address, orders, _process: process })
    }

    /// From now on it outlives this process.
    pub async fn stay(mut self) -> Result<(), Failure> {
        self.orders.write_all(STAY.as_bytes()).await.map_err(|error| Failure::Start(error.to_string()))
    }
}

/// Everything that is no secret, as flags: what `ps` shows says what the process is for.
fn arguments(handed: &Handed<'_>) -> Vec<String> {
    let mut arguments: Vec<String> = match handed.exchange.of_host() {
        Some(of_host) => of_host.selector.argument().into_iter().collect(),
        None => vec![format!("--client-id={}", handed.identity.client)],
    };
    arguments.extend([
        format!("--tenant-id={}", handed.identity.tenant),
        format!("--cloud={}", handed.target.cloud.name),
        format!("--authority-host={}", handed.target.authority.as_str()),
        format!("--audience={}", handed.exchange.audience()),
        format!("--timeout={}s", handed.timeout.as_secs()),
    ]);
    arguments.extend(handed.exchange.arguments().iter().cloned());
    if handed.endpoints {
        arguments.push("--endpoints".to_owned());
    }
    arguments.extend(handed.allowed.iter().map(|scope| format!("--allow-scope={}", scope.as_str())));
    arguments
}

fn orders_of(handed: &Handed<'_>, env: &Env, ui: &Ui) -> String {
    let names = handed.exchange.platform().variables();
    let environment: BTreeMap<&str, &str> =
        names.iter().filter_map(|name| Some((*name, env.get(name)?))).collect();
    let owner = owner::find(ui.runner).map(|owner| (owner.pid, owner.started));
    let tokens: Vec<_> = handed
        .tokens
        .iter()
        .map(|token| {
            json!({
                "scope": token.scope.as_str(),
                "secret": token.secret.expose(),
                "issued_at": token.issued_at,
                "expires_on": token.expires_on,
            })
        })
        .collect();
    json!({
        "environment": environment,
        "directory": handed.directory,
        "owner": owner,
        "assertion": handed.assertion.map(|assertion| assertion.jwt.expose()),
        "tokens": tokens,
    })
    .to_string()
}

impl Orders {
    /// Reads them from stdin, as a process of its own session that no other process of this user may look into: so a
    /// later step finds neither request token nor access token in `/proc`.
    pub fn take() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            // one that leads its group already is in nobody's way
            let _ = rustix::process::setsid();
        }
        let mut line = String::new();
        io::stdin().lock().take(LONGEST_ORDERS).read_line(&mut line).map_err(|_| Failure::Orders)?;
        let line = Secret::new(line);
        serde_json::from_str(line.expose()).map_err(|_| Failure::Orders)
    }

    /// The environment of the login step, as far as the platform needs it.
    pub fn environment(&mut self, own: &Env) -> Env {
        let handed = std::mem::take(&mut self.environment);
        let own = own.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Env::from_pairs(own.chain(handed))
    }

    /// Whose end ends this process.
    pub fn owner(&self) -> Option<Owner> {
        self.owner.map(|(pid, started)| Owner { pid, started })
    }

    /// What the login has got already.
    pub fn credentials(self) -> Result<(Option<Assertion>, Vec<AccessToken>), Failure> {
        let parse = |jwt| Assertion::parse(&Secret::new(jwt)).map_err(|_| Failure::Orders);
        let assertion = self.assertion.map(parse).transpose()?;
        let tokens = self.tokens.into_iter().map(|token| {
            let scope = token.scope.parse().map_err(|_| Failure::Orders)?;
            Ok(AccessToken::issued(Secret::new(token.secret), scope, token.issued_at, token.expires_on))
        });
        Ok((assertion, tokens.collect::<Result<_, Failure>>()?))
    }
}

/// Answers the login, and waits for the word to stay; `false` where it does not come.
pub fn answer(address: Option<&Address>) -> Result<bool, Error> {
    let endpoints = address.map(|address| ReadyEndpoints {
        port: address.port(),
        identity: address.keys().identity.expose().to_owned(),
        oidc: address.keys().oidc.expose().to_owned(),
        path: address.keys().path.expose().to_owned(),
    });
    let ready = json!(Ready { pid: std::process::id(), endpoints });
    crate::sink::stdout(Secret::new(format!("{ready}\n")).expose())?;
    let mut word = String::new();
    let read = io::stdin().lock().take(64).read_line(&mut word);
    Ok(read.is_ok() && word == STAY)
}

/// Nobody said to stay: the login failed, and removes its directory itself; or it was killed, and nobody else will.
pub fn give_up(kept: &Kept) {
    for _ in 0..20 {
        if !kept.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // there is nobody left to tell
    let _ = kept.remove();
}

/// Keeps a login until there is a reason to end, which it returns.
pub async fn run(
    vault: &Rc<Vault>,
    kept: &Kept,
    owner: Option<Owner>,
    renews: bool,
    ui: &Ui,
) -> Result<&'static str, Error> {
    let since = Moment::now();
    let watch = async {
        let mut noted = Vec::new();
        loop {
            if !kept.exists() {
                return "the login's directory is gone";
            }
            if owner.is_some_and(|owner| !owner.is_alive()) {
                // nobody is left who could say `azfed logout`
                return match kept.remove() {
                    Ok(()) => "the job's process has ended",
                    Err(_) => "the job's process has ended; the login could not be removed",
                };
            }
            let asked_for = vault.asked_for();
            // a count that cannot be written is no reason to end
            if asked_for != noted && kept.note_asked_for(&asked_for).is_ok() {
                noted = asked_for;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    let renew = async { if renews { renew(vault, kept, ui).await } else { std::future::pending().await } };
    let reason = tokio::select! {
        reason = asked_to_end() => reason,
        reason = watch => reason,
        reason = renew => reason,
        () = clock::sleep_until(since, LONGEST) => "a day has passed",
    };
    if kept.exists() {
        let _ = kept.note_asked_for(&vault.asked_for());
    }
    Ok(reason)
}

/// Gets a new assertion before half of the old one's life is over, and puts it where the old one stands.
async fn renew(vault: &Rc<Vault>, kept: &Kept, ui: &Ui) -> &'static str {
    let (mut since, mut wait) = (Moment::now(), before_half(vault.assertion_good_for().await));
    let mut refusals = 0;
    loop {
        clock::sleep_until(since, wait).await;
        let renewed = vault.renew_assertion().await;
        since = Moment::now();
        match renewed {
            Ok((assertion, good_for)) => {
                refusals = 0;
                // a file that is rotated by others may be near its end
                wait = before_half(good_for).max(Duration::from_secs(1));
                let written = export::RENEWED.iter().try_for_each(|name| {
                    kept.rewrite(name, |old| export::renewed(name, old, vault.identity(), &assertion))
                });
                match written {
                    Ok(()) => ui.info(&format!("renewed; again in {} s", wait.as_secs())),
                    Err(_) if !kept.exists() => return "the login's directory is gone",
                    Err(error) => {
                        ui.info(&format!("renewed, but not written: {error}"));
                        wait = PAUSE;
                    }
                }
            }
            Err(error) => {
                // a file may be put right again
                let is_final = vault.is_minted() && error.exit_code() != 5;
                ui.info(&format!("not renewed: {}", text::one_line(&error.to_string())));
                refusals = if is_final { refusals + 1 } else { 0 };
                if refusals == FINAL_REFUSALS {
                    return "the platform issues this job no OIDC token any more";
                }
                wait = PAUSE;
            }
        }
    }
}

/// When to renew what is good for so long. How long that is, somebody else says: so it is divided first.
fn before_half(good_for: Duration) -> Duration {
    (good_for / 5).saturating_mul(2).min(LONGEST)
}

/// `azfed logout` says so with a signal.
#[cfg(unix)]
async fn asked_to_end() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "asked to end",
        _ = interrupt.recv() => "asked to end",
        _ = hangup.recv() => "asked to end",
    }
}

/// `azfed logout` removes the directory.
#[cfg(not(unix))]
async fn asked_to_end() -> &'static str {
    std::future::pending().await
}
