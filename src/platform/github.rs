//! GitHub Actions: the job asks its own issuer for a token.
//!
//! Sources: github/docs `content/actions/reference/security/oidc.md`, actions/toolkit
//! `packages/core/src/oidc-utils.ts`. Forgejo Actions speaks the same contract (forgejo.org/docs
//! `user/actions/security-openid-connect`), and Gitea Actions, where it has an issuer.

use std::fmt;

use serde_json::Value;

use super::{Error, masked};
use crate::{
    assertion::Assertion,
    env::{Env, names},
    error::Hints,
    http::{Answer, Http},
    identifiers::{Audience, Endpoint},
    secret::Secret,
    text,
    ui::Ui,
};

/// The platform's name.
pub const NAME: &str = "GitHub";

/// Whose Actions these are: the variables are the same, the permission is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// GitHub's own.
    GitHub,
    /// Forgejo's.
    Forgejo,
    /// Gitea's.
    Gitea,
}

impl Contract {
    /// Forgejo's runner sets Gitea's mark too, and both set GitHub's.
    fn of(env: &Env) -> Self {
        let says = |name: &str| env.get(name) == Some("true");
        if says(names::github::FORGEJO_ACTIONS) {
            Self::Forgejo
        } else if says(names::github::GITEA_ACTIONS) {
            Self::Gitea
        } else {
            Self::GitHub
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::GitHub => NAME,
            Self::Forgejo => "Forgejo",
            Self::Gitea => "Gitea",
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A job that may ask for an OIDC token.
#[derive(Debug)]
pub struct GitHub {
    /// Whose Actions these are.
    pub contract: Contract,
    /// Where to ask; regional, and GitHub Enterprise has its own, so no host is pinned.
    pub request_url: Endpoint,
    request_token: Secret,
}

impl GitHub {
    /// The job's request URL and request token.
    pub fn detect(env: &Env) -> Result<Self, Error> {
        let contract = Contract::of(env);
        let url = env.get(names::github::ID_TOKEN_REQUEST_URL);
        let request_token = env.secret(names::github::ID_TOKEN_REQUEST_TOKEN);
        let (Some(url), Some(request_token)) = (url, request_token) else {
            let missing = match url {
                None if !env.is_set(names::github::ID_TOKEN_REQUEST_TOKEN) => {
                    "ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN are"
                }
                None => "ACTIONS_ID_TOKEN_REQUEST_URL is",
                Some(_) => "ACTIONS_ID_TOKEN_REQUEST_TOKEN is",
            };
            let pull_request =
                env.get(names::github::EVENT_NAME).is_some_and(|event| event.starts_with("pull_request"));
            return Err(Error::GitHubNotGranted { contract, missing, pull_request });
        };
        let request_url = url
            .parse()
            .map_err(|invalid| Error::Variable { variable: names::github::ID_TOKEN_REQUEST_URL, invalid })?;
        Ok(Self { contract, request_url, request_token })
    }

    /// Where Terraform gets assertions for this audience: the request URL with the audience in it, which
    /// hashicorp/go-azure-sdk keeps (`sdk/auth/github_oidc_authorizer.go`).
    pub fn request_url_for(&self, audience: &Audience) -> String {
        self.request_url.with_query("audience", audience.as_str()).url().to_string()
    }

    /// `GET <request url>&audience=<audience>`
    pub(super) async fn fetch_assertion(
        &self,
        http: &Http,
        audience: &Audience,
        ui: &Ui,
    ) -> Result<Assertion, Error> {
        let issuer = self.contract.name();
        let failed = |source| Error::Http { issuer, source };
        let endpoint = self.request_url.with_query("audience", audience.as_str());
        let channel = http.channel(&endpoint).map_err(failed)?;
        let request = channel.get(&endpoint).bearer(&self.request_token).header("accept", "application/json");
        let answer = channel.send(&endpoint, request).await.map_err(failed)?;
        masked(ui, &issued(issuer, &answer, "value")?, issuer)
    }
}

/// The token in a platform's answer, under the name that its contract gives it.
pub fn issued(issuer: &'static str, answer: &Answer, field: &str) -> Result<Secret, Error> {
    if !(200..300).contains(&answer.status) {
        return Err(Error::Refused {
            issuer,
            status: answer.status,
            message: message(&answer.body),
            retry_after: answer.retry_after,
            request_id: answer.request_id.clone(),
        });
    }
    let mut object: serde_json::Map<String, Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
    match object.remove(field) {
        Some(Value::String(token)) => Ok(Secret::new(token)),
        _ => Err(Error::Answer {
            issuer,
            status: answer.status,
            reason: format!("no JSON object with a `{field}`"),
        }),
    }
}

/// A platform's own words in a refusal, if they are JSON with a message; never a page of HTML.
fn message(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = value.get("message").or_else(|| value.get("error")).and_then(Value::as_str);
    text::one_line(text.unwrap_or_default())
}

pub(super) fn not_granted(contract: Contract, pull_request: bool) -> Hints {
    let (permission, lines): (_, &[&str]) = match contract {
        Contract::GitHub => (
            "give the job the permission (in a reusable workflow the calling job needs it too):",
            &["permissions:", "  id-token: write", "  contents: read"],
        ),
        Contract::Forgejo => (
            "ask for it in the workflow or in the job (Forgejo 15 or newer; `permissions:` says nothing there):",
            &["enable-openid-connect: true"],
        ),
        Contract::Gitea => (
            "this Gitea or its runner may have no OIDC issuer: see its release notes. Where it has one, give the job the \
             permission:",
            &["permissions:", "  id-token: write"],
        ),
    };
    let hints = Hints::with_lines(permission, lines);
    let fork = match contract {
        Contract::GitHub => {
            "GitHub gives no OIDC token to pull requests from forks and from Dependabot, whatever the permissions say: \
             log in only where `github.event.pull_request.head.repo.full_name == github.repository`"
        }
        Contract::Forgejo | Contract::Gitea => {
            "a pull request from a fork gets no OIDC token: log in only where the branch is the repository's own"
        }
    };
    if pull_request { hints.and(format!("this is a pull request: {fork}")) } else { hints.and(fork) }
}

/// What there is in the place of a credential that is made ahead.
pub(super) fn of_gitea() -> Hints {
    Hints::one("Forgejo has an issuer: `azfed trust forgejo --server URL --repo OWNER/NAME --branch NAME`")
        .and("where this Gitea has one after all, `azfed trust here` in a job prints that job's credential")
        .and("else run the job on a runner of your own in Azure that has a managed identity, and say `--source managed-identity`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_variables_are_named() {
        let url = ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://example.com/x?api-version=2.0");
        let token = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t");
        for (pairs, expected) in [
            (vec![], "ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN are"),
            (vec![url], "ACTIONS_ID_TOKEN_REQUEST_TOKEN is"),
            (vec![token], "ACTIONS_ID_TOKEN_REQUEST_URL is"),
        ] {
            let Err(Error::GitHubNotGranted { missing, .. }) = GitHub::detect(&Env::from_pairs(pairs)) else {
                panic!("granted");
            };
            assert_eq!(missing, expected);
        }
        let github = GitHub::detect(&Env::from_pairs([url, token])).unwrap();
        assert_eq!(
            github.request_url_for(&"api://AzureADTokenExchangeUSGov".parse().unwrap()),
            "https://example.com/x?api-version=2.0&audience=api%3A%2F%2FAzureADTokenExchangeUSGov"
        );
    }

    #[test]
    fn a_request_url_must_be_https() {
        let env = Env::from_pairs([
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://example.com/"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
        ]);
        assert!(matches!(GitHub::detect(&env), Err(Error::Variable { .. })));
    }
}
