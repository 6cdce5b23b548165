//! A child process with a login that never expires: its environment, its signals, its end.

use std::{ffi::OsString, io, process::ExitStatus};

use tokio::process::{Child, Command};

use crate::{
    env::{
        Env,
        names::{arm, azfed, azure, host},
    },
    error::Error,
    export::{Served, Variable},
    text,
};

/// Variables that name another identity, or another way to be it: the child does not get them.
const OF_OTHERS: [&str; 24] = [
    azure::CLIENT_SECRET,
    azure::CLIENT_CERTIFICATE_PATH,
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_USERNAME",
    "AZURE_PASSWORD",
    azure::FEDERATED_TOKEN_FILE,
    azure::KUBERNETES_TOKEN_PROXY,
    host::POD_IDENTITY_AUTHORITY_HOST,
    host::IDENTITY_SERVER_THUMBPRINT,
    host::IMDS_ENDPOINT,
    host::DEFAULT_IDENTITY_CLIENT_ID,
    arm::CLIENT_SECRET,
    arm::CLIENT_CERTIFICATE,
    arm::CLIENT_CERTIFICATE_PATH,
    "ARM_CLIENT_CERTIFICATE_PASSWORD",
    "ARM_CLIENT_ID_FILE_PATH",
    "ARM_CLIENT_SECRET_FILE_PATH",
    arm::OIDC_TOKEN,
    arm::OIDC_TOKEN_FILE_PATH,
    arm::OIDC_REQUEST_URL,
    arm::OIDC_REQUEST_TOKEN,
    arm::ADO_PIPELINE_SERVICE_CONNECTION_ID,
    arm::OIDC_AZURE_SERVICE_CONNECTION_ID,
    azfed::LOGIN_DIR,
];

/// What the child's environment gets, and loses.
#[derive(Debug)]
pub struct Environment {
    /// What it gets.
    pub set: Vec<Variable>,
    /// Names that were there.
    pub removed: Vec<&'static str>,
}

/// Plans the child's environment. Pure.
pub fn environment(env: &Env, served: &Served<'_>) -> Environment {
    let set = served.variables();
    let is_set_anew = |name: &str| set.iter().any(|variable| variable.name == name);
    let removed = OF_OTHERS.into_iter().filter(|name| env.is_set(name) && !is_set_anew(name)).collect();
    Environment { set, removed }
}

/// The command's name, for messages.
pub fn shown(command: &[OsString]) -> String {
    command.first().map(|program| text::one_line(&program.to_string_lossy())).unwrap_or_default()
}

/// Starts the command.
///
/// On Linux that is done by a second azfed, which asks the kernel for SIGTERM when this process is gone (prctl(2),
/// `PR_SET_PDEATHSIG`), and then becomes the command: so the command does not go on with endpoints that nobody serves.
pub fn spawn(command: &[OsString], environment: &Environment) -> io::Result<Child> {
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
    for name in OF_OTHERS {
        child.env_remove(name);
    }
    for variable in &environment.set {
        child.env(variable.name, variable.value.text());
    }
    child.spawn()
}

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

/// Waits for the child, and passes on the signals that come meanwhile.
#[cfg(unix)]
pub async fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    use std::io::IsTerminal;

    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{SignalKind, signal};
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    // what is typed at a terminal reaches the child too: passed on, it would arrive twice, and Terraform takes the
    // second interrupt for an order to stop at once
    let typed = io::stdin().is_terminal();
    loop {
        let received = tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => if typed { continue } else { Signal::INT },
            _ = quit.recv() => if typed { continue } else { Signal::QUIT },
            _ = terminate.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
        };
        if let Some(pid) = pid {
            // a child that has just ended is found by the next round
            let _ = kill_process(pid, received);
        }
    }
}

/// Waits for the child; the console sends its events to it by itself.
#[cfg(not(unix))]
pub async fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}
