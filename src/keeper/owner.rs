//! Whose end is the job's end: the process that a background process must not outlive.
//!
//! Sources: actions/runner `src/Runner.Worker` and azure-pipelines-agent `src/Agent.Worker` (one worker process a job),
//! proc(5) for `/proc/<pid>/stat`.

use serde::{Deserialize, Serialize};

use crate::ui::Runner;

/// The runners' worker processes, of which each runs one job: GitHub's, Azure DevOps', act's, Gitea's, Forgejo's.
const WORKERS: [&str; 5] = ["Runner.Worker", "Agent.Worker", "act", "act_runner", "forgejo-runner"];

/// A process, told from a later one of the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// When it started, in the kernel's own count; unknown where there is no `/proc`.
    pub started: Option<u64>,
}

/// What is known of a process. A parent or leader outside this process' PID namespace has the number 0, as nobody has.
struct Process {
    parent: u32,
    group: u32,
    session: u32,
    name: String,
    ended: bool,
    started: Option<u64>,
}

/// The nearest ancestor that ends with the job. On GitHub and Azure DevOps that is the runner's worker; a step in a
/// container does not see it, but ends with the container. Elsewhere it is the shell that runs the job's script.
pub fn find(runner: Runner) -> Option<Owner> {
    match runner {
        Runner::GitHub | Runner::AzureDevOps => {
            let mut pid = std::process::id();
            for _ in 0..64 {
                let process = look_at(pid)?;
                if WORKERS.contains(&process.name.as_str()) {
                    return Some(Owner { pid, started: process.started });
                }
                pid = process.parent;
            }
            None
        }
        Runner::Silent => shell().and_then(|pid| Some(Owner { pid, started: look_at(pid)?.started })),
    }
}

/// The leader of this process' group, else of its session: a script's commands are in the script's group, and what is
/// typed at a terminal is a group of its own in the terminal's session.
fn shell() -> Option<u32> {
    let own = look_at(std::process::id())?;
    [own.group, own.session]
        .into_iter()
        .find(|pid| *pid != std::process::id() && look_at(*pid).is_some_and(|process| !process.ended))
}

impl Owner {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self { pid, started: look_at(pid).and_then(|process| process.started) }
    }

    /// Whether it is still there.
    pub fn is_alive(&self) -> bool {
        look_at(self.pid).is_some_and(|process| !process.ended && process.started == self.started)
    }
}

#[cfg(target_os = "linux")]
fn look_at(pid: u32) -> Option<Process> {
    let mut process = parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    // a program may rename itself, and the kernel keeps 15 characters only: its file says it too
    if let Ok(file) = std::fs::read_link(format!("/proc/{pid}/exe"))
        && let Some(name) = file.file_name().and_then(|name| name.to_str())
        && WORKERS.contains(&name)
    {
        name.clone_into(&mut process.name);
    }
    Some(process)
}

/// `pid (name) state ppid … starttime …`; the name may hold anything, brackets too.
#[cfg(target_os = "linux")]
fn parse_stat(stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Process {
        name: name.to_owned(),
        ended: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: Some(fields.get(19)?.parse().ok()?),
    })
}

/// `ps` of POSIX.1-2017, where there is no `/proc`.
#[cfg(all(unix, not(target_os = "linux")))]
fn look_at(pid: u32) -> Option<Process> {
    let mut ps = std::process::Command::new("ps");
    ps.args(["-o", "ppid=", "-o", "pgid=", "-o", "comm=", "-p", &pid.to_string()])
        .stdin(std::process::Stdio::null());
    let output = ps.stderr(std::process::Stdio::null()).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    let (parent, rest) = line.trim().split_once(char::is_whitespace)?;
    let (group, file) = rest.trim().split_once(char::is_whitespace)?;
    let name = std::path::Path::new(file.trim()).file_name()?.to_str()?.to_owned();
    let session = rustix::process::getsid(rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)).ok();
    Some(Process {
        parent: parent.parse().ok()?,
        group: group.parse().ok()?,
        session: session.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).unwrap_or_default(),
        ended: name == "<defunct>",
        name,
        started: None,
    })
}

#[cfg(not(unix))]
fn look_at(_pid: u32) -> Option<Process> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let rest = "S 7 9 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        let process = parse_stat(&format!("8 (a) R 1 (b) {rest}")).unwrap();
        assert_eq!((process.name.as_str(), process.parent, process.started), ("a) R 1 (b", 7, Some(4242)));
        assert_eq!((process.group, process.session), (9, 9));
        assert!(!process.ended);
        assert!(parse_stat("8 (a) Z 1 2").is_none() && parse_stat("").is_none());
    }

    #[test]
    fn a_process_that_has_ended_is_not_alive() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let started = look_at(child.id()).unwrap().started;
        let owner = Owner { pid: child.id(), started };
        assert!(owner.is_alive());
        assert!(
            !Owner { started: started.map(|started| started - 1), ..owner }.is_alive(),
            "another process"
        );
        child.kill().unwrap();
        while look_at(child.id()).is_some_and(|process| !process.ended) {}
        assert!(!owner.is_alive(), "not reaped yet");
        child.wait().unwrap();
        assert!(!owner.is_alive());
    }
}
