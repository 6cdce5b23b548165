//! CircleCI: a command in the job prints a token for any audience; the ready one is for the organisation's id alone.
//!
//! Sources: circleci-docs `guides/permissions-authentication/oidc-tokens-with-custom-claims`, `openid-connect-tokens`.

use super::{Error, masked, program::Program};
use crate::{
    assertion::{Assertion, Claims},
    env::{Env, names},
    error::Hints,
    identifiers::Audience,
    text,
    ui::Ui,
};

/// The platform's name.
pub const NAME: &str = "CircleCI";
/// An organisation's issuer is below this.
pub const ISSUER: &str = "https://oidc.circleci.com/org/";

/// A job that may ask for an OIDC token.
#[derive(Debug)]
pub struct CircleCi {
    pub(super) program: Program,
    /// The ready token's audience, for the way out.
    ready: Option<String>,
}

impl CircleCi {
    pub(super) fn detect(env: &Env) -> Self {
        let ready = [names::circleci::OIDC_TOKEN_V2, names::circleci::OIDC_TOKEN]
            .into_iter()
            .find_map(|name| Claims::of(env.secret(name)?.expose().trim()).ok())
            .and_then(|claims| claims.aud.into_iter().next());
        Self { program: Program::new(env, "circleci", "circleci run oidc get", "CIRCLE"), ready }
    }

    pub(super) async fn fetch_assertion(&self, audience: &Audience, ui: &Ui) -> Result<Assertion, Error> {
        let claims = serde_json::json!({ "aud": audience.as_str() }).to_string();
        let arguments = ["run", "oidc", "get", "--claims", claims.as_str()];
        let printed = self.program.run(&arguments, || self.missing(), |_| refused()).await?;
        masked(ui, &printed, &self.program.place())
    }

    fn missing(&self) -> Hints {
        let hints = Hints::one(
            "CircleCI puts its program on PATH in each job; a container that the job itself starts has none",
        );
        match &self.ready {
            Some(organization) => {
                let organization = text::shell_word(organization);
                hints.and(format!(
                    "or take the ready token, whose audience is always the organisation's id: `--assertion-env {} --audience \
                     {organization}`, with a federated credential that has that audience",
                    names::circleci::OIDC_TOKEN_V2
                ))
            }
            None => hints,
        }
    }
}

/// The next steps where CircleCI says no.
fn refused() -> Hints {
    Hints::one(
        "CircleCI gives a build of a fork no OIDC token unless the project's settings say so (Advanced, \"Pass secrets to \
         builds from forked pull requests\"), and `circleci run oidc` works in a job only",
    )
}
