//! A platform's own program, which prints an OIDC token: no shell, a size limit, a deadline, and an error that shows no
//! credential.

use std::{fmt, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

use super::Error;
use crate::{assertion::LONGEST, env::Env, error::Hints, secret::Secret, text};

/// A request of the program's own, with its tries.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is kept of what it says on stderr.
const LONGEST_WORDS: usize = 16 << 10;

/// A program in a job, with the variables of the platform that it reads.
pub struct Program {
    name: &'static str,
    /// What it is called for, in messages.
    words: &'static str,
    variables: Vec<(String, Secret)>,
}

impl fmt::Debug for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Program {
    /// A program of the platform whose variables have this prefix. A background process has no others, so they are held
    /// here.
    pub fn new(env: &Env, name: &'static str, words: &'static str, prefix: &str) -> Self {
        let of_platform = |name: &str| name.starts_with(prefix) || ["HOME", "USERPROFILE"].contains(&name);
        let variables = env
            .iter()
            .filter(|(name, _)| of_platform(name))
            .map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())))
            .collect();
        Self { name, words, variables }
    }

    /// The names of these variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| name.as_str())
    }

    /// What it prints, for messages.
    pub(super) fn place(&self) -> String {
        format!("what `{}` printed", self.words)
    }

    /// What it prints.
    ///
    /// `missing` and `refused` are the next steps where it is not there, and where it says no.
    pub(super) async fn run(
        &self,
        arguments: &[&str],
        missing: impl FnOnce() -> Hints,
        refused: impl FnOnce(&str) -> Hints,
    ) -> Result<Secret, Error> {
        let failed = |reason: String, late: bool, hints: Hints| Error::Program {
            words: self.words,
            reason,
            late,
            hints,
        };
        let mut command = Command::new(self.name);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(self.variables.iter().map(|(name, value)| (name, value.expose())));
        command.kill_on_drop(true);
        // what it starts itself ends with it
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => format!("`{}` was not found", self.name),
                _ => format!("`{}` could not be run: {error}", self.name),
            };
            failed(reason, false, missing())
        })?;
        #[cfg(unix)]
        let mut group = Group::of(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let talk = async {
            let (printed, said) = tokio::try_join!(all(stdout), end(stderr))?;
            Ok::<_, std::io::Error>((printed, said, child.wait().await?))
        };
        let (printed, said, status) = match tokio::time::timeout(PATIENCE, talk).await {
            Ok(Ok(ended)) => {
                #[cfg(unix)]
                group.leave();
                ended
            }
            Ok(Err(error)) => return Err(failed(error.to_string(), false, Hints::none())),
            Err(_) => {
                let reason = format!("no answer within {} s", PATIENCE.as_secs());
                return Err(failed(reason, true, Hints::none()));
            }
        };
        if printed.expose().len() > LONGEST {
            return Err(failed("it printed more than 1 MiB".to_owned(), false, Hints::none()));
        }
        if !status.success() {
            let said = self.last_words(&said);
            let how =
                status.code().map_or_else(|| "by a signal".to_owned(), |code| format!("with status {code}"));
            let hints = refused(&said);
            let said = if said.is_empty() { said } else { format!(": {said}") };
            return Err(failed(format!("it ended {how}{said}"), false, hints));
        }
        Ok(printed)
    }

    /// The last line of what it said, less what must not stand in a log.
    pub fn last_words(&self, said: &str) -> String {
        self.without_credentials(said.lines().rev().find(|line| !line.trim().is_empty()))
    }

    fn without_credentials(&self, line: Option<&str>) -> String {
        let without_values = |line: &str| {
            let is_secret = |name: &str| name.contains("TOKEN") || name.contains("SECRET");
            let secrets =
                self.variables.iter().filter(|(name, value)| is_secret(name) && value.expose().len() >= 8);
            secrets.fold(line.to_owned(), |line, (_, value)| line.replace(value.expose(), "***"))
        };
        // making it one line may take away what stood within a value
        let line = text::one_line(&without_values(line.unwrap_or_default()));
        without_values(&line)
    }
}

/// The program and what it has started: killed where nobody waits for its end any more.
#[cfg(unix)]
struct Group(Option<rustix::process::Pid>);

#[cfg(unix)]
impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(rustix::process::Pid::from_raw))
    }

    /// The program has ended, and its number may be another's from now on.
    fn leave(&mut self) {
        self.0 = None;
    }
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// What it prints, as far as a token can be that long. Beyond that the pipe is closed, which ends the program.
async fn all(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Secret> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(LONGEST as u64 + 1).read_to_end(&mut bytes).await?;
    }
    Ok(Secret::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The end of what it says, however much that is.
async fn end(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; LONGEST_WORDS]);
    if let Some(mut stream) = stream {
        loop {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            bytes.extend_from_slice(&chunk[..read]);
            let surplus = bytes.len().saturating_sub(LONGEST_WORDS);
            bytes.drain(..surplus);
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_show_no_credential() {
        let env = Env::from_pairs([("BUILDKITE_AGENT_ACCESS_TOKEN", "opaque-secret"), ("BUILDKITE", "true")]);
        let program = Program::new(&env, "buildkite-agent", "", "BUILDKITE");
        for (said, shown) in [
            ("fatal: 401", "fatal: 401"),
            ("Authorization: Token opaque-secret", "Authorization: Token ***"),
            ("got eyJhbGciOi.eyJpc3Mi.c2ln, which", "got …, which"),
            ("oidc: token=eyJhbGciOi.eyJpc3Mi.c2ln", "oidc: token=…"),
            ("opaque-\u{200b}secret", "***"),
            ("##[error]x", "# #[error]x"),
            ("true", "true"),
        ] {
            assert_eq!(program.without_credentials(Some(said)), shown);
        }
    }
}
