//! What the user sees when something fails: a fact, the next step, and an exit code.

use std::fmt::Write;

use crate::{
    assertion::{Claims, without_tokens},
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
            Self::Platform(platform::Error::Mask(_)) => 1,
            Self::Platform(platform::Error::ManagedIdentity(error)) => error.exit_code(),
            Self::Platform(platform::Error::Certificates { .. }) => 2,
            Self::Between(error) | Self::TokenProxy(error) => error.exit_code(),
            Self::Platform(error) if error.is_network() => 5,
            Self::Platform(_) => 3,
            Self::Http(http::Error::NoRoots { .. }) => 2,
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
            Self::Http(http::Error::NoRoots { .. }) => {
                Hints::one("unset the variable to use the system's certificates, or name a PEM file")
            }
            Self::Http(_) => Hints::none(),
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

    /// What support asks for, and where to read on.
    pub fn references(&self) -> String {
        match self.last() {
            Self::Entra { source, .. } => source.trace(),
            Self::Platform(platform::Error::Refused { request_id: Some(id), .. }) => {
                format!("azfed: request {}\n", without_tokens(id))
            }
            _ => String::new(),
        }
    }

    /// The whole message, for stderr. No line starts with foreign text.
    pub fn render(&self) -> String {
        let mut out = format!("azfed: error: {}\n", text::one_line(&self.to_string()));
        out.push_str(&self.explanation());
        for hint in self.hints().iter() {
            let _ = writeln!(out, "azfed: hint: {}", text::inert(&hint.text));
            for line in &hint.lines {
                let _ = writeln!(out, "    {}", text::inert(line));
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

impl Presented {
    fn render(&self) -> String {
        let shown = |value: &str| if value.is_empty() { "(none)".to_owned() } else { text::one_line(value) };
        let aud = self.claims.aud.iter().map(|aud| text::one_line(aud)).collect::<Vec<_>>().join(", ");
        let mut out = String::from("\n  presented by this job\n");
        let _ = writeln!(out, "    issuer    {}", shown(&self.claims.iss));
        let _ = writeln!(out, "    subject   {}", shown(&self.claims.sub));
        let _ = writeln!(out, "    audience  {}", shown(&aud));
        let words = if self.is_managed_identitys() {
            Some(format!("the managed identity with object id {}", self.claims.sub))
        } else {
            subject::words(&self.claims.iss, &self.claims.sub)
        };
        if let Some(words) = words {
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

    /// The command that creates the federated credential that this job needs.
    pub fn create_command(&self) -> Vec<String> {
        let word = |value: &str| text::shell_word(&text::one_line(value));
        if self.is_managed_identitys() {
            let parameters = serde_json::json!({
                "name": "<name>",
                "issuer": text::one_line(&self.claims.iss),
                "subject": text::one_line(&self.claims.sub),
                "audiences": [self.audience.as_str()],
            });
            return vec![
                format!("az ad app federated-credential create --id {} \\", self.identity.client),
                format!("  --parameters {}", text::shell_word(&parameters.to_string())),
            ];
        }
        vec![
            "az identity federated-credential create --identity-name <identity> --resource-group <group> \\"
                .to_owned(),
            format!("  --name <name> --issuer {} \\", word(&self.claims.iss)),
            format!("  --subject {} --audiences {}", word(&self.claims.sub), word(self.audience.as_str())),
        ]
    }
}
