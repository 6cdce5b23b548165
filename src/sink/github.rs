//! GitHub's command files: variables, outputs, state, summary.
//!
//! Source: actions/runner `src/Runner.Worker/FileCommandManager.cs`.

use std::{fmt::Write, fs, io, path::Path};

use uuid::Uuid;

use super::{Error, Facts};
use crate::{
    clock,
    env::{Env, names::github},
    export::Plan,
    secret::Secret,
    state, text,
};

/// Writes the four files. The variables come last: with them the login takes effect.
pub fn write(plan: &Plan, facts: &Facts<'_>, env: &Env) -> Result<(), Error> {
    let identity = facts.granted.identity;
    let expires_on = facts.expires_on().to_string();
    let mut outputs = vec![("client-id", identity.client.as_str()), ("tenant-id", identity.tenant.as_str())];
    outputs.extend(
        identity.subscription.as_ref().map(|subscription| ("subscription-id", subscription.as_str())),
    );
    outputs.extend(facts.object_id().map(|id| ("object-id", id)));
    outputs.push(("expires-on", &expires_on));
    outputs.extend(facts.az_config_dir(plan).map(|directory| ("az-config-dir", directory)));
    if facts.login.output_access_token {
        outputs.extend(facts.granted.tokens.first().map(|token| ("access-token", token.secret.expose())));
    }
    append(env, github::OUTPUT, &outputs)?;
    append(env, github::STATE, &[("azfed_login_dir", facts.directory)])?;
    let variables: Vec<_> =
        plan.variables.iter().map(|variable| (variable.name, variable.value.text())).collect();
    append(env, github::ENV, &variables)
}

/// Appends to the job's summary; a summary that cannot be written is no failure.
pub fn summarise(env: &Env, markdown: &str) -> io::Result<()> {
    match env.get(github::STEP_SUMMARY) {
        Some(path) => state::append(Path::new(path), markdown.as_bytes()),
        None => Ok(()),
    }
}

/// The summary of a login: who, where, until when.
pub fn success_summary(facts: &Facts<'_>) -> String {
    let mut rows = vec![
        ("cloud", facts.login.target.cloud.name.to_owned()),
        ("client", facts.granted.identity.client.to_string()),
        ("tenant", facts.granted.identity.tenant.to_string()),
    ];
    rows.extend(facts.granted.identity.subscription.as_ref().map(|id| ("subscription", id.to_string())));
    rows.extend(facts.granted.assertion.map(|assertion| ("subject", assertion.claims.sub.clone())));
    for token in facts.granted.tokens {
        rows.push(("access token", format!("{} until {}", token.scope.resource(), utc(token.expires_on))));
    }
    let mut summary = String::from("### Azure login\n\n| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(summary, "| {name} | {} |", text::markdown(&value));
    }
    summary + "\n"
}

/// The summary of a command's run: which resources it asked for, and how often.
pub fn asked_for_summary(program: &str, asked_for: &[(String, u64)]) -> String {
    let mut summary =
        format!("### Azure: what {} asked for\n\n| resource | times |\n|---|---|\n", text::markdown(program));
    for (resource, times) in asked_for {
        let _ = writeln!(summary, "| {} | {times} |", text::markdown(resource));
    }
    summary + "\n"
}

/// The summary of a failure: the message as the log has it.
pub fn failure_summary(rendered: &str) -> String {
    let inert = rendered.replace("```", "'''");
    format!("### Azure login failed\n\n```text\n{}\n```\n\n", inert.trim_end())
}

/// Seconds since 1970 as people read them.
pub fn utc(seconds: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(clock::LAST));
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ")
}

/// Appends `pairs` to the file that a variable names, where it is set.
fn append(env: &Env, variable: &'static str, pairs: &[(&str, &str)]) -> Result<(), Error> {
    let Some(path) = env.get(variable) else { return Ok(()) };
    let path = Path::new(path);
    let failed = |reason| Error::File { variable, reason };
    // a step that wrote a last line without its end must not swallow ours
    let unfinished = fs::read(path).is_ok_and(|content| content.last().is_some_and(|byte| *byte != b'\n'));
    let delimiter = format!("ghadelimiter_{}", Uuid::new_v4());
    let mut content = String::from(if unfinished { "\n" } else { "" });
    content.push_str(&pairs.iter().map(|(name, value)| heredoc(name, value, &delimiter)).collect::<String>());
    let content = Secret::new(content);
    state::append(path, content.expose().as_bytes()).map_err(failed)
}

/// `NAME<<DELIMITER`, the value, the delimiter: each on lines of their own. The delimiter is random, so that no value
/// can end it.
fn heredoc(name: &str, value: &str, delimiter: &str) -> String {
    format!("{name}<<{delimiter}\n{value}\n{delimiter}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_is_ended_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        fs::write(&path, "A=b").unwrap();
        let env = Env::from_pairs([("GITHUB_ENV", path.to_str().unwrap())]);
        append(&env, "GITHUB_ENV", &[("C", "d\ne")]).unwrap();
        let content = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = content.lines().collect();
        let [first, opening, "d", "e", closing] = lines.as_slice() else { panic!("{content}") };
        assert_eq!(*first, "A=b");
        assert_eq!(*opening, format!("C<<{closing}"));
        assert!(closing.starts_with("ghadelimiter_") && closing.len() == 49 && content.ends_with('\n'));
    }

    #[test]
    fn a_summary_is_inert() {
        assert!(
            !failure_summary("a ``` b")
                .trim_start_matches("### Azure login failed\n\n```text")
                .contains(" ``` ")
        );
        assert_eq!(utc(1_700_000_000), "2023-11-14 22:13:20Z");
    }
}
