//! What an examination came to, for people and for machines. Pure.

use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use crate::{
    error::{Error, Hint, Hints},
    text,
};

/// The steps in the order in which a login would stumble over them.
const LOGIN_ORDER: [&str; 12] = [
    "conflicts",
    "cloud",
    "variables",
    "identity",
    "platform",
    "network",
    "assertion",
    "dns",
    "connection",
    "exchange",
    "credentials",
    "handover",
];

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Fine.
    Ok,
    /// The login works, but something is wrong or odd.
    Warning,
    /// The login fails.
    Failed,
    /// Not tried.
    Skipped,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One step. All of its text is harmless, whatever it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    id: &'static str,
    status: Status,
    summary: String,
    detail: Vec<String>,
    hints: Vec<Hint>,
    exit_code: u8,
}

impl Step {
    fn new(id: &'static str, status: Status, summary: &str) -> Self {
        let summary = text::one_line(summary);
        Self { id, status, summary, detail: Vec::new(), hints: Vec::new(), exit_code: 0 }
    }

    /// A step that is fine.
    pub fn ok(id: &'static str, summary: &str) -> Self {
        Self::new(id, Status::Ok, summary)
    }

    /// A step that a login gets over, with something to say about it.
    pub fn warning(id: &'static str, summary: &str) -> Self {
        Self::new(id, Status::Warning, summary)
    }

    /// A step that was not tried.
    pub fn skipped(id: &'static str, why: &str) -> Self {
        Self::new(id, Status::Skipped, why)
    }

    /// A step that a login does not get over.
    pub fn failed(id: &'static str, summary: &str, exit_code: u8) -> Self {
        Self { exit_code, ..Self::new(id, Status::Failed, summary) }
    }

    /// The same, in the words of the error that a login would end with.
    pub fn error(id: &'static str, error: &Error) -> Self {
        let mut step = Self::failed(id, &error.to_string(), error.exit_code());
        for line in error.explanation().lines().filter(|line| !line.is_empty()) {
            step = step.with(line.strip_prefix("  ").unwrap_or(line));
        }
        for line in error.references().lines() {
            step = step.with(line.trim_start_matches("azfed: "));
        }
        step.hints(&error.hints())
    }

    /// This step with one more line below it.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        self.detail.push(text::inert(line));
        self
    }

    /// This step with more lines below it: names, and what they have, side by side.
    #[must_use]
    pub fn with_table(self, rows: &[(&str, String)]) -> Self {
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        rows.iter().fold(self, |step, (name, value)| {
            let value = if value.is_empty() { "(none)" } else { value };
            step.with(&format!("{name:<width$}  {}", text::one_line(value)))
        })
    }

    /// This step with one more next step.
    #[must_use]
    pub fn hint(self, text: impl Into<String>) -> Self {
        self.hints(&Hints::one(text))
    }

    /// This step with more next steps.
    #[must_use]
    pub fn hints(mut self, hints: &Hints) -> Self {
        self.hints.extend(hints.iter().map(Hint::shown));
        self
    }

    /// How it went.
    pub fn status(&self) -> Status {
        self.status
    }

    fn render(&self, width: usize) -> String {
        let mut out = format!("{:<8} {:<width$}  {}\n", self.status.word(), self.id, self.summary);
        for line in &self.detail {
            let _ = writeln!(out, "           {line}");
        }
        for hint in &self.hints {
            let _ = writeln!(out, "         hint: {}", hint.text);
            for line in &hint.lines {
                let _ = writeln!(out, "             {line}");
            }
        }
        out
    }

    fn json(&self) -> serde_json::Value {
        let hints: Vec<String> = self
            .hints
            .iter()
            .map(|hint| [&[hint.text.clone()][..], &hint.lines].concat().join("\n"))
            .collect();
        json!({
            "id": self.id,
            "status": self.status,
            "summary": self.summary,
            "detail": self.detail,
            "hints": hints,
        })
    }
}

/// Every step, in the order of the examination.
#[derive(Debug, Default)]
pub struct Report(Vec<Step>);

impl Report {
    /// Adds a step.
    pub fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    /// The step that a login would end at.
    fn end(&self) -> Option<&Step> {
        let place = |step: &&Step| LOGIN_ORDER.iter().position(|id| *id == step.id);
        self.0.iter().filter(|step| step.status == Status::Failed).min_by_key(place)
    }

    fn has(&self, status: Status) -> bool {
        self.0.iter().any(|step| step.status == status)
    }

    /// The exit code that a login would have.
    pub fn exit_code(&self) -> u8 {
        self.end().map_or(0, |step| step.exit_code)
    }

    /// For people.
    pub fn render(&self) -> String {
        let width = self.0.iter().map(|step| step.id.len()).max().unwrap_or_default();
        let mut out: String = self.0.iter().map(|step| step.render(width)).collect();
        let tried = self.0.iter().any(|step| step.id == "exchange" && step.status != Status::Skipped);
        let verdict = match self.end() {
            Some(step) => format!("the login fails at {}, with exit code {}", step.id, step.exit_code),
            None if tried => "the login works".to_owned(),
            None => "nothing is wrong as far as it was tried".to_owned(),
        };
        let warned = self.end().is_none() && self.has(Status::Warning);
        let _ = writeln!(out, "\n{verdict}{}", if warned { "; see the warnings" } else { "" });
        out
    }

    /// For machines: `{"ok", "exit_code", "steps": [{"id", "status", "summary", "detail", "hints"}]}`.
    pub fn json(&self) -> String {
        let steps: Vec<_> = self.0.iter().map(Step::json).collect();
        let report = json!({ "ok": self.end().is_none(), "exit_code": self.exit_code(), "steps": steps });
        format!("{report:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_step_a_login_ends_at() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), 0);
        report.push(Step::failed("platform", "x", 3));
        assert_eq!(report.exit_code(), 3);
        report.push(Step::failed("exchange", "x", 4));
        assert_eq!(report.exit_code(), 3);
        report.push(Step::failed("identity", "x", 2));
        assert_eq!(report.exit_code(), 2);
    }

    #[test]
    fn foreign_text_stays_harmless() {
        let hostile = "::error::x\n##vso[task.complete]y";
        let hints = Hints::with_lines(hostile, &[hostile]);
        let step = Step::warning("platform", hostile).with(hostile).hints(&hints);
        let mut report = Report::default();
        report.push(step.with_table(&[("a", hostile.to_owned()), ("name", String::new())]));
        for shown in [report.render(), report.json()] {
            let command = |line: &str| line.trim_start().starts_with("::") || line.contains("##");
            assert!(!shown.lines().any(command) && !shown.contains(" ::"), "{shown}");
        }
        assert!(report.render().contains("\n           name  (none)\n"));
    }
}
