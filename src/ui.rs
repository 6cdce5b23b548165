//! Everything that is said on stderr, and the commands that make a runner hide a secret. Nobody else prints.

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
    /// Hides secrets in everything that the runner logs from now on.
    ///
    /// A value has no line breaks and no percent signs where it is a JWT; opaque ones are escaped as the runners
    /// unescape them (actions/toolkit `packages/core/src/command.ts`, azure-pipelines-agent
    /// `docs/design/percentEncoding.md`).
    ///
    /// GitHub's runner finds a command at the start of a line only (actions/runner
    /// `src/Runner.Common/ActionCommand.cs`), and whoever else writes to this stream may have left one unfinished: a
    /// command of the job's, a progress meter. So a line break goes ahead, in the same write. The agent of Azure DevOps
    /// finds a command anywhere.
    pub fn mask(&self, secrets: &[&Secret]) -> std::io::Result<()> {
        let command = |secret: &&Secret| match self.runner {
            Runner::GitHub => format!("::add-mask::{}\n", github_data(secret.expose())),
            _ => format!("##vso[task.setsecret]{}\n", azure_devops_data(secret.expose())),
        };
        let break_before = match self.runner {
            Runner::GitHub => "\n",
            Runner::AzureDevOps => "",
            Runner::Silent => return Ok(()),
        };
        let commands = break_before.to_owned() + &secrets.iter().map(command).collect::<String>();
        let commands = Secret::new(commands);
        match self.mask_stream {
            MaskStream::Stdout => write_now(&mut std::io::stdout().lock(), &commands),
            MaskStream::Stderr => write_now(&mut std::io::stderr().lock(), &commands),
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
        let said = self.said(prefix, line);
        to_stderr(&said);
    }

    fn said(&self, prefix: &str, line: &str) -> String {
        let time = if self.stamped { utc(clock::now()) + " " } else { String::new() };
        format!("{time}{prefix}{}\n", text::one_line(line))
    }

    /// Says what will hurt later.
    pub fn warning(&self, line: &str) {
        if !self.quiet {
            to_stderr(
                &(self.said("azfed: warning: ", line) + &self.annotation("warning", &[text::one_line(line)])),
            );
        }
    }

    /// Shows a rendered error: several lines, none of them foreign at its start. `annotation` is what the platform shows
    /// with the job: the fact first.
    pub fn error(&self, annotation: &[String], rendered: &str) {
        to_stderr(&format!("{rendered}{}", self.annotation("error", annotation)));
    }

    /// A command that shows lines, none of them foreign at its start, where the platform shows them with the job: all of
    /// them in one annotation on GitHub, the facts without the hints on Azure DevOps. It follows a line that was finished,
    /// in the same write: so it stands at the start of one.
    fn annotation(&self, level: &str, lines: &[String]) -> String {
        match self.runner {
            Runner::GitHub => format!("::{level} title=azfed::{}\n", github_data(&lines.join("\n"))),
            Runner::AzureDevOps => {
                let facts: Vec<&str> =
                    lines.iter().map(String::as_str).take_while(|line| !line.starts_with("hint: ")).collect();
                let facts = azure_devops_data(&facts.join("; "));
                format!("##vso[task.logissue type={level}]azfed: {facts}\n")
            }
            Runner::Silent => String::new(),
        }
    }

    /// Lets the Azure DevOps agent put a Markdown file onto the run's page (azure-pipelines-agent
    /// `src/Agent.Worker/TaskCommandExtension.cs`).
    pub fn upload_summary(&self, path: &str) {
        if self.runner == Runner::AzureDevOps {
            to_stderr(&format!("##vso[task.uploadsummary]{}\n", azure_devops_data(path)));
        }
    }
}

/// One write, so that no other process' output gets in between. A stderr that cannot be written to changes neither what a
/// command does nor its exit code.
fn to_stderr(said: &str) {
    let _ = std::io::stderr().lock().write_all(said.as_bytes());
}

/// The runner unescapes these in a command's data (actions/toolkit `packages/core/src/command.ts`).
fn github_data(value: &str) -> String {
    value.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
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
    use super::{azure_devops_data, github_data};

    #[test]
    fn what_the_agent_unescapes_is_escaped() {
        assert_eq!(azure_devops_data("a%b;c]d\r\ne"), "a%AZP25b%3Bc%5Dd%0D%0Ae");
        assert_eq!(github_data("a%0Ab\r\nc"), "a%250Ab%0D%0Ac");
    }
}
