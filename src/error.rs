//! What the user sees when something fails: a fact, the next step, and an exit code.

use std::fmt::Write;

use crate::{
    assertion::Claims,
    config::{self, Identity},
    entra, http,
    identifiers::Audience,
    identity_map, keeper, platform, sink, state, subject, text,
    trust::{self, apply},
};

/// Next steps, as data: each a sentence, perhaps with lines to paste.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints(Vec<Hint>);

/// One next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// A sentence.
    pub text: String,
    /// Lines to paste.
    pub lines: Vec<String>,
}

impl Hint {
    /// As a log can show it. Where a line would be cut or changed for that, no line is left: half of a command may be
    /// another command.
    #[must_use]
    pub fn shown(&self) -> Self {
        let text = text::inert(&self.text);
        if self.lines.iter().all(|line| text::inert(line) == *line) {
            return Self { text, lines: self.lines.clone() };
        }
        let why = "; by hand, as a log would cut or change what there is to paste";
        Self { text: format!("{}{why}", text.trim_end_matches(':')), lines: Vec::new() }
    }
}

/// What to say in place of a command.
fn by_hand(fix: &str) -> String {
    format!(
        "{}; by hand, as no command can have its values as they are: a log would change them, or az would take one for an option \
         or a file. A job whose environment, branch or tag has a plain name gets a command",
        fix.trim_end_matches(':')
    )
}

impl Hints {
    /// Nothing to say.
    pub fn none() -> Self {
        Self::default()
    }

    /// One sentence.
    pub fn one(text: impl Into<String>) -> Self {
        Self::none().and(text)
    }

    /// One sentence with lines to paste.
    pub fn with_lines(text: impl Into<String>, lines: &[&str]) -> Self {
        Self(vec![Hint { text: text.into(), lines: lines.iter().map(|&line| line.to_owned()).collect() }])
    }

    /// These and one more sentence.
    #[must_use]
    pub fn and(mut self, text: impl Into<String>) -> Self {
        self.0.push(Hint { text: text.into(), lines: Vec::new() });
        self
    }

    /// These and one more sentence, with lines to paste.
    #[must_use]
    pub fn and_lines(mut self, text: impl Into<String>, lines: &[String]) -> Self {
        self.0.push(Hint { text: text.into(), lines: lines.to_vec() });
        self
    }

    /// Each hint.
    pub fn iter(&self) -> impl Iterator<Item = &Hint> {
        self.0.iter()
    }
}

/// One variant a stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Flags or variables.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The platform's token.
    #[error(transparent)]
    Platform(#[from] platform::Error),
    /// The HTTP client itself.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The exchange.
    #[error("{source}")]
    Entra {
        /// What Entra or the way to it said.
        source: entra::Error,
        /// What was presented and asked for.
        presented: Box<Presented>,
    },
    /// The first of two exchanges.
    #[error("on the way through the managed identity in between: {0}")]
    Between(Box<Error>),
    /// The exchange, where a cluster's token proxy makes it.
    #[error("through the cluster's token proxy: {0}")]
    TokenProxy(Box<Error>),
    /// Files of the login.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Handing over.
    #[error(transparent)]
    Sink(#[from] sink::Error),
    /// Out of time.
    #[error("gave up after {seconds} s{}", last.as_ref().map_or_else(String::new, |last| format!("; the last try said: {last}")))]
    Deadline {
        /// `--timeout`
        seconds: u64,
        /// What the last try said.
        last: Option<Box<Error>>,
    },
    /// The endpoints of `exec`.
    #[error("no port on 127.0.0.1 could be opened for the command: {0}")]
    Endpoints(std::io::Error),
    /// The background process of a login.
    #[error(transparent)]
    Keeper(#[from] keeper::Failure),
    /// Azure Resource Manager.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The file that chooses the identity.
    #[error(transparent)]
    IdentityMap(#[from] identity_map::Error),
    /// The description of a job.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// The command of `exec`.
    #[error("{program} could not be run: {reason}")]
    Command {
        /// Its name, one line, harmless.
        program: String,
        /// Why not.
        reason: std::io::Error,
    },
    /// A signal.
    #[error("interrupted by signal {0}")]
    Interrupted(u8),
}

/// What the job showed to Entra, and what it asked for.
#[derive(Debug)]
pub struct Presented {
    /// The assertion's claims.
    pub claims: Claims,
    /// The audience that the federated credential must have.
    pub audience: Audience,
    /// Who was asked for.
    pub identity: Identity,
}

impl Error {
    /// The exit code: who has to act.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Trust(_) | Self::IdentityMap(_) => 2,
            Self::Platform(platform::Error::Contradiction(_) | platform::Error::Several(_)) => 2,
            Self::Platform(platform::Error::Variable { .. } | platform::Error::AzureDevOpsNoConnection) => 2,
            Self::Platform(platform::Error::File { .. } | platform::Error::VariableUnset(_)) => 2,
            Self::Platform(platform::Error::Http {
                source: http::Error::Proxy { .. } | http::Error::Unsendable { .. },
                ..
            }) => 2,
            Self::Platform(platform::Error::Mask(_)) => 1,
            Self::Platform(platform::Error::ManagedIdentity(error)) => error.exit_code(),
            Self::Platform(platform::Error::Certificates { .. }) => 2,
            Self::Between(error) | Self::TokenProxy(error) => error.exit_code(),
            Self::Platform(error) if error.is_network() => 5,
            Self::Platform(_) => 3,
            Self::Http(http::Error::NoRoots { .. } | http::Error::Proxy { .. }) => 2,
            Self::Http(http::Error::Tls(_)) => 1,
            Self::Http(_) | Self::Deadline { .. } => 5,
            Self::Entra { source, .. } => {
                if source.is_refusal() {
                    4
                } else {
                    5
                }
            }
            Self::Apply(apply::Error::Refused { status, .. })
                if !crate::retry::is_transient_status(*status) =>
            {
                4
            }
            Self::Apply(apply::Error::Http(http::Error::Proxy { .. })) => 2,
            Self::Apply(error) if error.is_network() => 5,
            Self::Apply(apply::Error::Operator(_)) => 3,
            Self::Apply(_) => 2,
            Self::State(_) | Self::Sink(_) => 1,
            Self::Endpoints(_) => 1,
            Self::Keeper(keeper::Failure::Start(_)) => 1,
            Self::Keeper(keeper::Failure::NotRenewable(_) | keeper::Failure::Orders) => 2,
            Self::Command { reason, .. } => crate::exec::not_started(reason),
            Self::Interrupted(signal) => 128_u8.saturating_add(*signal),
        }
    }

    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::Config(error) => error.hints(),
            Self::Platform(error) => error.hints(),
            Self::Http(error) => error.hint().map_or_else(Hints::none, Hints::one),
            Self::TokenProxy(error) => through_token_proxy(error),
            Self::Entra { source, presented } => source.hints(presented),
            Self::State(error) => error.hints(),
            Self::Sink(error) => error.hints(),
            Self::Keeper(error) => error.hints(),
            Self::Trust(error) => error.hints(),
            Self::IdentityMap(error) => error.hints(),
            Self::Apply(error) => error.hints(),
            Self::Deadline { last: Some(last), .. } | Self::Between(last) => last.hints(),
            Self::Deadline { last: None, .. } => Hints::one(
                "the network or the service is slow: run the job again, check the proxy (HTTPS_PROXY, NO_PROXY), or raise \
                 `--timeout`",
            ),
            Self::Command { .. } => Hints::one("the command follows `--`: azfed exec -- terraform apply"),
            Self::Endpoints(_) | Self::Interrupted(_) => Hints::none(),
        }
    }

    /// The error of the last try, where time ran out, and of the exchange that failed; else this one.
    fn last(&self) -> &Self {
        match self {
            Self::Deadline { last: Some(last), .. } | Self::Between(last) | Self::TokenProxy(last) => {
                last.last()
            }
            other => other,
        }
    }

    /// What stands below the message: the cause, and what was presented. No line starts with foreign text.
    pub fn explanation(&self) -> String {
        let mut out = String::new();
        if let Self::Entra { source, presented } = self.last() {
            if let Some(cause) = source.cause() {
                let _ = writeln!(out, "  {cause}");
            }
            if source.is_refusal() {
                out.push_str(&presented.render());
            }
        }
        out
    }

    /// What stands beside the job: the fact, the subject that was presented, the next steps. A line each, no line
    /// starts with foreign text.
    pub fn annotation(&self) -> Vec<String> {
        let mut lines = vec![text::one_line(&self.to_string())];
        if let Self::Entra { source, presented } = self.last()
            && source.is_refusal()
        {
            lines.push(format!("subject {}", presented.subject()));
        }
        for hint in self.hints().iter() {
            lines.push(format!("hint: {}", text::inert(&hint.text)));
            lines.extend(hint.lines.iter().map(|line| format!("    {}", text::inert(line))));
        }
        lines
    }

    /// What support asks for, and where to read on.
    pub fn references(&self) -> String {
        match self.last() {
            Self::Entra { source, .. } => source.trace(),
            Self::Platform(platform::Error::Refused { request_id: Some(id), .. }) => {
                format!("azfed: request {}\n", text::one_line(id))
            }
            _ => String::new(),
        }
    }

    /// The whole message, for stderr. No line starts with foreign text.
    pub fn render(&self) -> String {
        let mut out = format!("azfed: error: {}\n", text::one_line(&self.to_string()));
        out.push_str(&self.explanation());
        for hint in self.hints().iter() {
            let hint = hint.shown();
            let _ = writeln!(out, "azfed: hint: {}", hint.text);
            for line in &hint.lines {
                let _ = writeln!(out, "    {line}");
            }
        }
        out.push_str(&self.references());
        out
    }
}

/// What to do where a pod's cluster answers for Entra (Azure/AKS#4658; Microsoft Learn "Set up identity bindings on AKS").
fn through_token_proxy(error: &Error) -> Hints {
    match error {
        Error::Entra { source: entra::Error::Http(http::Error::Certificate { .. }), .. } => Hints::one(
            "AZURE_KUBERNETES_CA_FILE or AZURE_KUBERNETES_CA_DATA does not vouch for it under the name in \
             AZURE_KUBERNETES_SNI_NAME: restart the pod, so that the cluster's webhook sets them anew",
        ),
        Error::Entra { source, presented } if source.is_refusal() && !source.has_code() => Hints::with_lines(
            "bind the identity to this cluster (`az aks identity-binding create`), and let this pod's service account use it, by \
             a ClusterRoleBinding to a ClusterRole with this rule:",
            &[
                "- apiGroups: [cid.wi.aks.azure.com]",
                &format!("  resources: [\"{}\"]", presented.identity.client),
                "  verbs: [use-managed-identity]",
            ],
        ),
        error => error.hints(),
    }
}

/// Whether a command can have what a job presents, as it is.
fn can_be_pasted(claims: &Claims, audience: &Audience) -> bool {
    [&claims.iss, &claims.sub, audience.as_str()].into_iter().all(text::is_value)
}

fn shown(value: &str) -> String {
    if value.is_empty() { "(none)".to_owned() } else { text::one_line(value) }
}

impl Presented {
    /// The subject, and what it says.
    fn subject(&self) -> String {
        let words = self.words().map_or_else(String::new, |words| format!(": {}", text::one_line(&words)));
        format!("{}{words}", shown(&self.claims.sub))
    }

    fn words(&self) -> Option<String> {
        if self.is_managed_identitys() {
            Some(format!("the managed identity with object id {}", self.claims.sub))
        } else {
            subject::words(&self.claims.iss, &self.claims.sub)
        }
    }

    fn render(&self) -> String {
        let aud = self.claims.aud.iter().map(|aud| text::one_line(aud)).collect::<Vec<_>>().join(", ");
        let mut out = String::from("\n  presented by this job\n");
        let _ = writeln!(out, "    issuer    {}", shown(&self.claims.iss));
        let _ = writeln!(out, "    subject   {}", shown(&self.claims.sub));
        let _ = writeln!(out, "    audience  {}", shown(&aud));
        if let Some(words) = self.words() {
            let _ = writeln!(out, "    that is   {}", text::one_line(&words));
        }
        out.push_str("  asked for\n");
        let _ = writeln!(out, "    client    {}", self.identity.client);
        let _ = writeln!(out, "    tenant    {}", self.identity.tenant);
        out.push('\n');
        out
    }

    /// Whether the assertion is a managed identity's token, which only an app registration can trust (Microsoft Learn
    /// "Configure an application to trust a managed identity").
    fn is_managed_identitys(&self) -> bool {
        self.claims.oid.as_ref() == Some(&self.claims.sub)
    }

    /// How to create the federated credential that this job needs: commands that run as they stand, pasted into a POSIX
    /// shell. No word of them is the job's but in quotes, and none of them ends the shell that they are pasted into.
    pub fn create_hints(&self, fix: &str) -> Hints {
        let (issuer, subject) = (&self.claims.iss, &self.claims.sub);
        // what a log cannot show as it is would create another credential than this job's
        let is_shown = |line: &str| !line.is_empty() && text::inert(line) == line;
        let is_value = |claim: &&String| is_shown(claim) && claim.trim() == claim.as_str();
        if !can_be_pasted(&self.claims, &self.audience) || ![issuer, subject].iter().all(is_value) {
            return Hints::one(by_hand(fix));
        }
        let name = trust::name_of(issuer, subject);
        let client = self.identity.client.as_str().to_ascii_lowercase();
        let word = text::shell_word;
        let parameters = serde_json::json!({
            "name": name,
            "issuer": issuer,
            "subject": subject,
            "audiences": [self.audience.as_str()],
        });
        let application = [
            format!("az ad app federated-credential create --id {client} \\"),
            format!("  --parameters {}", word(&parameters.to_string())),
        ];
        if !application.iter().all(|line| is_shown(line)) {
            return Hints::one(by_hand(fix));
        }
        if self.is_managed_identitys() {
            return Hints::with_lines(fix, &application.each_ref().map(String::as_str));
        }
        let lines = [
            format!(
                "az identity list --query \"[?clientId=='{client}'].[name,resourceGroup,id]\" --output tsv | {{"
            ),
            "  if read -r identity group id".to_owned(),
            "  then az identity federated-credential create --identity-name \"$identity\" --resource-group \"$group\" \\"
                .to_owned(),
            format!("    --name {name} --issuer {} \\", word(issuer)),
            format!("    --subject {} --audiences {}", word(subject), word(self.audience.as_str())),
            format!(
                "  else echo 'az finds no managed identity {client} in this subscription: az account set --subscription its own' >&2"
            ),
            "  fi; }".to_owned(),
        ];
        Hints::with_lines(fix, &lines.each_ref().map(String::as_str))
            .and_lines("the same where that client id is an app registration's:", &application)
    }
}
