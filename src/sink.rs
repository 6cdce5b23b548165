//! From the plan to the platform's bytes, and their one write.

pub mod github;
pub mod shell;

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::{
    cli::Output,
    config::Login,
    env::{Env, names},
    error::Hints,
    export::{Granted, Plan, Variable},
    secret::Secret,
    state,
    ui::{self, Runner, Ui},
};

/// Why the login could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A runner's file could not be written.
    #[error("{variable} could not be written: {reason}")]
    File {
        /// The variable that names it.
        variable: &'static str,
        /// Why not.
        reason: io::Error,
    },
    /// stdout could not be written.
    #[error("stdout could not be written: {0}")]
    Stdout(io::Error),
    /// A value that the form cannot hold.
    #[error("the value of {0} has a line break, which this form cannot hold")]
    LineBreak(&'static str),
}

impl Error {
    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::File { .. } => {
                Hints::one("the runner's files must be writable for this step, with room left")
            }
            Self::Stdout(_) => Hints::none(),
            Self::LineBreak(_) => Hints::one("choose another `--output`"),
        }
    }
}

/// What later steps may want to know, and what is not for their environment.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The login, as meant.
    pub login: &'a Login,
    /// What it came to.
    pub granted: &'a Granted<'a>,
    /// The login's directory.
    pub directory: &'a str,
}

impl Facts<'_> {
    /// When the first of the access tokens expires, in seconds since 1970.
    pub fn expires_on(&self) -> u64 {
        self.granted.tokens.iter().map(|token| token.expires_on).min().unwrap_or_default()
    }

    /// Object id of the identity, where a token shows it.
    pub fn object_id(&self) -> Option<&str> {
        self.granted.tokens.iter().find_map(|token| token.object_id.as_deref())
    }

    /// az's directory, where the login is for az.
    pub fn az_config_dir<'p>(&self, plan: &'p Plan) -> Option<&'p str> {
        plan.variables
            .iter()
            .find(|variable| variable.name == names::azure::CONFIG_DIR)
            .map(|variable| variable.value.text())
    }
}

/// Hands the plan over, all of it or nothing.
pub fn write(plan: &Plan, facts: &Facts<'_>, env: &Env) -> Result<(), Error> {
    match facts.login.output {
        Output::Github => github::write(plan, facts, env),
        Output::AzureDevops => stdout(Secret::new(azure_devops(&plan.variables)).expose()),
        Output::Sh | Output::Auto => stdout(Secret::new(lines(&plan.variables, shell::sh)).expose()),
        Output::Powershell => stdout(Secret::new(lines(&plan.variables, shell::powershell)).expose()),
        Output::Fish => stdout(Secret::new(lines(&plan.variables, shell::fish)).expose()),
        Output::Dotenv => stdout(Secret::new(dotenv(&plan.variables)?).expose()),
        Output::Json => stdout(Secret::new(json(plan, facts)).expose()),
    }
}

/// What stdout says when a login failed whose output is for `eval`: without it, `eval ""` would succeed.
pub fn write_failure(output: Output, exit_code: u8) {
    let text = match output {
        Output::Sh => format!("(exit {exit_code})\n"),
        Output::Powershell => format!("throw 'azfed login failed with exit code {exit_code}'\n"),
        Output::Fish => "false\n".to_owned(),
        _ => return,
    };
    // the exit code says it too
    let _ = stdout(&text);
}

/// Puts Markdown onto the job's page, where the platform has one: GitHub's summary, Azure DevOps' run. A summary that
/// cannot be written is no failure.
pub fn summarise(markdown: &str, env: &Env, ui: &Ui) {
    let written = match ui.runner {
        Runner::AzureDevOps => azure_devops_summary(markdown, env).map(|path| ui.upload_summary(&path)),
        Runner::GitHub | Runner::Silent => github::summarise(env, markdown),
    };
    if let Err(error) = written {
        ui.debug(&format!("the job's summary could not be written: {error}"));
    }
}

/// A file in the agent's temp, which the agent reads after this process has gone, perhaps as another user, and removes
/// when the job ends.
fn azure_devops_summary(markdown: &str, env: &Env) -> io::Result<String> {
    let temp = std::path::absolute(state::temp(env))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix("azfed-summary-").suffix(".md").rand_bytes(12);
    #[cfg(unix)]
    builder.permissions(<std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644));
    let mut file = builder.tempfile_in(temp)?;
    file.write_all(markdown.as_bytes())?;
    let (_, path) = file.keep().map_err(|error| error.error)?;
    path.into_os_string().into_string().map_err(|_| io::Error::other("its path is not UTF-8"))
}

/// One write, then flushed.
pub fn stdout(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Stdout)
}

fn lines(variables: &[Variable], line: fn(&str, &str) -> String) -> String {
    variables.iter().map(|variable| line(variable.name, variable.value.text()) + "\n").collect()
}

/// `##vso[task.setvariable]` for each: none of them is a secret, so that later steps have them in their environment.
fn azure_devops(variables: &[Variable]) -> String {
    lines(variables, |name, value| {
        format!("##vso[task.setvariable variable={name}]{}", ui::azure_devops_data(value))
    })
}

/// GitLab's dotenv report has neither quotes nor several lines.
fn dotenv(variables: &[Variable]) -> Result<String, Error> {
    match variables.iter().find(|variable| variable.value.text().contains(['\n', '\r'])) {
        Some(variable) => Err(Error::LineBreak(variable.name)),
        None => Ok(lines(variables, |name, value| format!("{name}={value}"))),
    }
}

fn json(plan: &Plan, facts: &Facts<'_>) -> String {
    let variables: Map<String, Value> = plan
        .variables
        .iter()
        .map(|variable| (variable.name.to_owned(), json!(variable.value.text())))
        .collect();
    let identity = facts.granted.identity;
    let object = json!({
        "environment": variables,
        "client_id": identity.client.as_str(),
        "tenant_id": identity.tenant.as_str(),
        "subscription_id": identity.subscription.as_ref().map(crate::identifiers::SubscriptionId::as_str),
        "object_id": facts.object_id(),
        "expires_on": facts.expires_on(),
        "az_config_dir": facts.az_config_dir(plan),
    });
    format!("{object:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let variables = [Variable::plain("A", "a%b;c]d'e")];
        assert_eq!(azure_devops(&variables), "##vso[task.setvariable variable=A]a%AZP25b%3Bc%5Dd'e\n");
        assert_eq!(dotenv(&variables).unwrap(), "A=a%b;c]d'e\n");
        assert!(matches!(dotenv(&[Variable::plain("A", "a\nB=b")]), Err(Error::LineBreak("A"))));
    }
}
