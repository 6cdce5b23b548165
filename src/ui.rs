//! Everything that is said on stderr, and the commands that make a runner hide a secret. Nobody else prints.

#![expect(clippy::print_stderr, reason = "this module is where azfed talks")]

use std::io::Write;

use crate::{clock, secret::Secret, sink::github::utc, text};

/// How the runner that reads this job's log is told to hide a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// `::add-mask::`
    GitHub,
    /// `##vso[task.setsecret]`
    AzureDevOps,
    /// Nothing to tell: GitLab hides its own id tokens and offers no more (gitlab-org/gitlab-runner#38464).
    Silent,
}

impl Runner {
    /// The command that hides a secret, where there is one.
    ///
    /// The value has no line breaks and no percent signs where it is a JWT; opaque ones are escaped as the runners
    /// unescape them (actions/toolkit `packages/core/src/command.ts`, azure-pipelines-agent
    /// `docs/design/percentEncoding.md`).
    pub fn mask(self, secret: &Secret) -> Option<Secret> {
        let value = secret.expose();
        let command = match self {
            Self::Silent => return None,
            Self::GitHub => {
                format!(
                    "::add-mask::{}\n",
                    value.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
                )
            }
            Self::AzureDevOps => format!("##vso[task.setsecret]{}\n", azure_devops_data(value)),
        };
        Some(Secret::new(command))
    }
}

/// Where mask commands go. Runners read both streams, each in its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskStream {
    /// Before everything else that `login` writes there.
    Stdout,
    /// Where stdout is data that a step captures.
    Stderr,
}

/// The one who talks.
#[derive(Debug)]
pub struct Ui {
    /// Whether to say what is done.
    pub verbose: bool,
    /// Whether to say nothing but errors.
    pub quiet: bool,
    /// Whose log this is.
    pub runner: Runner,
    /// Where mask commands go.
    pub mask_stream: MaskStream,
    /// Whether each line begins with the time, as in a log that is read later.
    pub stamped: bool,
}

impl Ui {
    /// Hides a secret in everything that the runner logs from now on.
    pub fn mask(&self, secret: &Secret) -> std::io::Result<()> {
        let Some(command) = self.runner.mask(secret) else { return Ok(()) };
        match self.mask_stream {
            MaskStream::Stdout => write_now(&mut std::io::stdout().lock(), &command),
            MaskStream::Stderr => write_now(&mut std::io::stderr().lock(), &command),
        }
    }

    /// Says what is done, when asked to.
    pub fn debug(&self, line: &str) {
        if self.verbose {
            self.say("azfed: ", line);
        }
    }

    /// Says what happened.
    pub fn info(&self, line: &str) {
        if !self.quiet {
            self.say("azfed: ", line);
        }
    }

    fn say(&self, prefix: &str, line: &str) {
        let time = if self.stamped { utc(clock::now()) + " " } else { String::new() };
        // a log that cannot be written to is no reason to fail the login
        let _ = writeln!(std::io::stderr().lock(), "{time}{prefix}{}", text::one_line(line));
    }

    /// Says what will hurt later.
    pub fn warning(&self, line: &str) {
        if self.quiet {
            return;
        }
        self.say("azfed: warning: ", line);
        self.annotate("warning", line);
    }

    /// Shows a rendered error: several lines, none of them foreign at its start.
    pub fn error(&self, headline: &str, rendered: &str) {
        eprint!("{rendered}");
        self.annotate("error", headline);
    }

    /// Puts a line where the platform shows it with the job.
    fn annotate(&self, level: &str, line: &str) {
        let line = text::one_line(line);
        match self.runner {
            Runner::GitHub => eprintln!("::{level} title=azfed::{}", line.replace('%', "%25")),
            Runner::AzureDevOps => {
                eprintln!("##vso[task.logissue type={level}]azfed: {}", azure_devops_data(&line));
            }
            Runner::Silent => {}
        }
    }
}

/// The agent unescapes these in a command's data too (azure-pipelines-agent `src/Agent.Sdk/CommandStringConvertor.cs`).
pub fn azure_devops_data(value: &str) -> String {
    value
        .replace('%', "%AZP25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
        .replace(';', "%3B")
        .replace(']', "%5D")
}

fn write_now(stream: &mut dyn Write, command: &Secret) -> std::io::Result<()> {
    stream.write_all(command.expose().as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::azure_devops_data;

    #[test]
    fn what_the_agent_unescapes_is_escaped() {
        assert_eq!(azure_devops_data("a%b;c]d\r\ne"), "a%AZP25b%3Bc%5Dd%0D%0Ae");
    }
}
