//! Codefresh: a build asks its provider for a token; a step of Codefresh's does the same, and leaves it in a variable.
//!
//! Sources: codefresh-io/docs.codefresh.io `_docs/integrations/oidc-pipelines.md`, codefresh-io/steps
//! `incubating/obtain-oidc-id-token/step.yaml`.

use super::{Error, Stored, github::issued, masked};
use crate::{
    assertion::Assertion,
    env::{Env, names},
    error::Hints,
    http::Http,
    identifiers::{Audience, Endpoint},
    secret::Secret,
    ui::Ui,
};

/// The platform's name.
pub const NAME: &str = "Codefresh";
/// Every token's issuer.
pub const ISSUER: &str = "https://oidc.codefresh.io";

/// A build with an OIDC token.
#[derive(Debug)]
pub enum Codefresh {
    /// One that may ask for any number of them.
    Asking(Asking),
    /// One that a step has got already.
    Ready(Stored),
}

/// Whom to ask.
#[derive(Debug)]
pub struct Asking {
    pub(super) request_url: Endpoint,
    request_token: Secret,
}

impl Codefresh {
    /// The build's request URL and request token, else the token of a step before.
    pub(super) fn detect(env: &Env, audience: &Audience) -> Result<Self, Error> {
        let variable = names::codefresh::OIDC_REQUEST_URL;
        if let (Some(url), Some(request_token)) =
            (env.get(variable), env.secret(names::codefresh::OIDC_REQUEST_TOKEN))
        {
            let request_url = url.parse().map_err(|invalid| Error::Variable { variable, invalid })?;
            return Ok(Self::Asking(Asking { request_url, request_token }));
        }
        let name = names::codefresh::ID_TOKEN;
        match env.secret(name) {
            Some(token) => Ok(Self::Ready(Stored::Variable(name.to_owned(), token))),
            None => Err(Error::NotGranted {
                issuer: NAME,
                missing: if env.is_set(variable) {
                    format!("{} is not set, which goes with {variable}", names::codefresh::OIDC_REQUEST_TOKEN)
                } else {
                    format!("{variable} and {name} are not set")
                },
                hints: obtain(audience),
            }),
        }
    }
}

impl Asking {
    /// `GET <request url>?audience=<audience>`; the request token stands alone in its header.
    pub(super) async fn fetch_assertion(
        &self,
        http: &Http,
        audience: &Audience,
        ui: &Ui,
    ) -> Result<Assertion, Error> {
        let failed = |source| Error::Http { issuer: NAME, source };
        let endpoint = self.request_url.with_query("audience", audience.as_str());
        let channel = http.channel(&endpoint).map_err(failed)?;
        let request = channel.get(&endpoint).secret_header("authorization", &self.request_token);
        let answer = channel.send(&endpoint, request).await.map_err(failed)?;
        masked(ui, &issued(NAME, &answer, "id_token")?, NAME)
    }
}

/// The step that gets a token.
pub(super) fn obtain(audience: &Audience) -> Hints {
    Hints::with_lines(
        "put Codefresh's own step before this one, and nothing that changes ID_TOKEN between them:",
        &[
            "obtain_id_token:",
            "  type: obtain-oidc-id-token",
            "  arguments:",
            &format!("    AUDIENCE: {audience}"),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask_asks() {
        let audience: Audience = "api://AzureADTokenExchange".parse().unwrap();
        let detect =
            |pairs: &[(&str, &str)]| Codefresh::detect(&Env::from_pairs(pairs.iter().copied()), &audience);
        let url = ("CF_OIDC_REQUEST_URL", "https://oidc.codefresh.io/token");
        let request_token = ("CF_OIDC_REQUEST_TOKEN", "t");
        let ready = ("ID_TOKEN", "e30.e30.c2ln");
        assert!(matches!(detect(&[url, request_token, ready]), Ok(Codefresh::Asking(_))));
        assert!(matches!(detect(&[url, ready]), Ok(Codefresh::Ready(_))));
        assert!(matches!(detect(&[url]), Err(Error::NotGranted { .. })));
        let plain = ("CF_OIDC_REQUEST_URL", "http://oidc.codefresh.io/token");
        assert!(matches!(detect(&[plain, request_token]), Err(Error::Variable { .. })));
    }
}
