//! A child process with a login that never expires: its environment, its signals, its end.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Read},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use crate::{
    env::{
        Env,
        names::{arm, azfed, azure, host},
    },
    error::Error,
    export::{Served, Variable},
    state, text,
};

/// Variables that name another identity, or another way to be it, or that an azfed before this one has set: the child does
/// not get them, but for those that are set anew.
const OF_OTHERS: [&str; 40] = [
    azure::CLIENT_SECRET,
    azure::CLIENT_CERTIFICATE_PATH,
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_USERNAME",
    "AZURE_PASSWORD",
    "AZURE_FEDERATED_TOKEN",
    "AZURE_TOKEN_CREDENTIALS",
    "AZCOPY_SPA_CLIENT_SECRET",
    azure::FEDERATED_TOKEN_FILE,
    azure::KUBERNETES_TOKEN_PROXY,
    azure::KUBERNETES_SNI_NAME,
    azure::KUBERNETES_CA_FILE,
    azure::KUBERNETES_CA_DATA,
    host::IDENTITY_ENDPOINT,
    host::IDENTITY_HEADER,
    host::IDENTITY_SERVER_THUMBPRINT,
    host::IMDS_ENDPOINT,
    host::MSI_ENDPOINT,
    host::MSI_SECRET,
    host::DEFAULT_IDENTITY_CLIENT_ID,
    host::POD_IDENTITY_AUTHORITY_HOST,
    arm::CLIENT_SECRET,
    arm::CLIENT_CERTIFICATE,
    arm::CLIENT_CERTIFICATE_PATH,
    "ARM_CLIENT_CERTIFICATE_PASSWORD",
    "ARM_CLIENT_ID_FILE_PATH",
    "ARM_CLIENT_SECRET_FILE_PATH",
    "ARM_USE_AKS_WORKLOAD_IDENTITY",
    arm::USE_OIDC,
    arm::USE_MSI,
    arm::MSI_ENDPOINT,
    "ARM_MSI_API_VERSION",
    arm::OIDC_TOKEN,
    arm::OIDC_TOKEN_FILE_PATH,
    arm::OIDC_REQUEST_URL,
    arm::OIDC_REQUEST_TOKEN,
    arm::ADO_PIPELINE_SERVICE_CONNECTION_ID,
    arm::OIDC_AZURE_SERVICE_CONNECTION_ID,
    azfed::LOGIN_DIR,
    azfed::ENDPOINT,
];

/// What the child's environment gets, and loses.
#[derive(Debug)]
pub struct Environment {
    /// What it gets.
    pub set: Vec<Variable>,
    /// Names that were there.
    pub removed: Vec<String>,
}

/// Plans the child's environment. `own` are variables that open what the child shall not have. Pure.
pub fn environment(env: &Env, served: &Served<'_>, own: Vec<&str>) -> Environment {
    let set = served.variables();
    let identity = served.identity;
    let ids = [
        (azure::CLIENT_ID, identity.client.as_str()),
        (arm::CLIENT_ID, identity.client.as_str()),
        (azure::TENANT_ID, identity.tenant.as_str()),
        (arm::TENANT_ID, identity.tenant.as_str()),
    ];
    let of_another = ids
        .into_iter()
        .filter(|(name, id)| env.get(name).is_some_and(|value| !value.trim().eq_ignore_ascii_case(id)));
    let another_logins = env.get(azure::CONFIG_DIR).is_some_and(state::is_ours).then_some(azure::CONFIG_DIR);
    let is_set_anew = |name: &str| set.iter().any(|variable| variable.name == name);
    let removed = OF_OTHERS
        .into_iter()
        .chain(of_another.map(|(name, _)| name))
        .chain(another_logins)
        .chain(own)
        .filter(|name| (env.is_set(name) || env.is_empty(name)) && !is_set_anew(name))
        .map(ToOwned::to_owned)
        .collect();
    Environment { set, removed }
}

/// The command's name, for messages.
pub fn shown(command: &[OsString]) -> String {
    command.first().map(|program| text::one_line(&program.to_string_lossy())).unwrap_or_default()
}

/// The command, and who looks after it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Whether it has a process group of its own.
    apart: bool,
    /// Told how it ended; where it is not, this process has been killed.
    #[cfg(unix)]
    watch: Option<tokio::process::ChildStdin>,
}

/// What [`watch`] is told.
#[derive(Serialize, Deserialize)]
struct Watched {
    group: Option<u32>,
    directory: Option<String>,
}

/// What it is told at the end.
const DONE: &str = "done\n";

/// Starts the command.
///
/// On Linux that is done by a second azfed, which asks the kernel for SIGTERM when this process is gone (prctl(2),
/// `PR_SET_PDEATHSIG`), and then becomes the command: so the command does not go on with endpoints that nobody serves.
/// On Unix a third one waits for the end of this process, and then ends what the command has started and removes
/// `directory`.
///
/// Where nobody types, the command gets a process group of its own: a signal to this one's group then reaches it once,
/// by this process, and not twice. At a terminal it stays in the group that may read from it.
pub async fn spawn(
    command: &[OsString],
    environment: &Environment,
    directory: Option<&str>,
) -> io::Result<Running> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    };
    let mut child = if cfg!(target_os = "linux") {
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["become", "--parent", &std::process::id().to_string(), "--"]).args(command);
        child
    } else {
        let mut child = Command::new(program);
        child.args(arguments);
        child
    };
    child.kill_on_drop(true);
    for name in &environment.removed {
        child.env_remove(name);
    }
    for variable in &environment.set {
        child.env(variable.name, variable.value.text());
    }
    let apart = cfg!(unix) && !io::stdin().is_terminal();
    #[cfg(unix)]
    {
        if apart {
            child.process_group(0);
        }
        let mut watch = start_watch()?;
        let child = child.spawn()?;
        let watched =
            Watched { group: child.id().filter(|_| apart), directory: directory.map(ToOwned::to_owned) };
        watch.write_all(format!("{}\n", json!(watched)).as_bytes()).await?;
        Ok(Running { child, apart, watch: Some(watch) })
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        Ok(Running { child: child.spawn()?, apart })
    }
}

#[cfg(unix)]
fn start_watch() -> io::Result<tokio::process::ChildStdin> {
    let mut watch = Command::new(std::env::current_exe()?);
    watch.arg("watch").env_clear().current_dir("/");
    watch.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // not in the group that a terminal or a runner sends signals to
    watch.process_group(0);
    let mut watch = watch.spawn()?;
    watch.stdin.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))
}

/// Waits for the end of the `exec` that started it. Where that was killed, nobody else ends what the command has started
/// itself, or removes the directory.
pub fn watch() -> Result<(), Error> {
    let mut told = String::new();
    let failed = |reason| Error::Command { program: "azfed watch".to_owned(), reason };
    io::stdin().lock().take(LONGEST_WATCHED).read_to_string(&mut told).map_err(failed)?;
    let (first, last) = told.split_once('\n').unwrap_or_default();
    let Ok(watched) = serde_json::from_str::<Watched>(first) else { return Ok(()) };
    if last == DONE {
        return Ok(());
    }
    #[cfg(unix)]
    if let Some(group) = watched.group.and_then(|group| i32::try_from(group).ok()).filter(|group| *group > 1)
    {
        use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
        if let Some(group) = Pid::from_raw(group) {
            // one whose processes have all ended is what was wanted
            let _ = kill_process_group(group, Signal::TERM);
            let removed = watched.directory.map_or(Ok(()), |directory| state::remove_left(&directory));
            let since = Instant::now();
            while since.elapsed() < GRACE && test_kill_process_group(group).is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
            let _ = kill_process_group(group, Signal::KILL);
            return removed.map_err(failed);
        }
    }
    watched.directory.map_or(Ok(()), |directory| state::remove_left(&directory)).map_err(failed)
}

/// What the command has to end in an orderly way, after SIGTERM: as long as Terraform may take to write its state.
#[cfg(unix)]
const GRACE: Duration = Duration::from_secs(20);

const LONGEST_WATCHED: u64 = 64 << 10;

/// Becomes the command; what comes back is why not.
pub fn become_command(parent: u32, command: &[OsString]) -> Error {
    let failed = |reason| Error::Command { program: shown(command), reason };
    let Some((program, arguments)) = command.split_first() else {
        return failed(io::Error::from(io::ErrorKind::NotFound));
    };
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
            return failed(error.into());
        }
        // it may have gone before the kernel was asked
        let parent_now = getppid().map(|pid| pid.as_raw_nonzero().get());
        if parent_now.and_then(|pid| u32::try_from(pid).ok()) != Some(parent) {
            return Error::Interrupted(15);
        }
    }
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut command = std::process::Command::new(program);
        let reason = std::os::unix::process::CommandExt::exec(command.args(arguments));
        // the attempt has made SIGPIPE deadly, as the command would have had it: nobody to read why is no end of its own
        let _ = signal(SignalKind::pipe());
        failed(reason)
    }
    #[cfg(not(unix))]
    {
        let _ = (parent, program, arguments);
        failed(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// The exit code that a shell would give for how the child ended.
pub fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128_u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX));
    }
    u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)
}

/// The exit code of a command that could not be started (POSIX.1-2017, Shell Command Language, 2.8.2).
pub fn not_started(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

impl Running {
    /// Waits for the command, and passes on the signals that come meanwhile.
    #[cfg(unix)]
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        use rustix::process::{Pid, Signal, kill_process, kill_process_group};
        use tokio::signal::unix::{SignalKind, signal};
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut quit = signal(SignalKind::quit())?;
        loop {
            let received = tokio::select! {
                status = self.child.wait() => {
                    let status = status?;
                    self.done().await;
                    return Ok(status);
                }
                // what is typed at a terminal reaches the child too: passed on, it would arrive twice, and Terraform
                // takes the second interrupt for an order to stop at once
                _ = interrupt.recv() => if self.apart { Signal::INT } else { continue },
                _ = quit.recv() => if self.apart { Signal::QUIT } else { continue },
                _ = terminate.recv() => Signal::TERM,
                _ = hangup.recv() => Signal::HUP,
            };
            if let Some(pid) = pid {
                // a child that has just ended is found by the next round
                let _ =
                    if self.apart { kill_process_group(pid, received) } else { kill_process(pid, received) };
            }
        }
    }

    /// The command has ended, and this process removes the directory itself.
    #[cfg(unix)]
    async fn done(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            // one that has gone has nothing left to do
            let _ = watch.write_all(DONE.as_bytes()).await;
        }
    }

    /// Waits for the command; the console sends its events to it by itself.
    #[cfg(not(unix))]
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                _ = tokio::signal::ctrl_c() => {}
            }
        }
    }
}
