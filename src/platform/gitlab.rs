//! GitLab CI: the token is in a variable that the job's `id_tokens:` declares, under a name of the user's choice.
//!
//! Sources: docs.gitlab.com `ci/secrets/id_token_authentication`, `ci/cloud_services/azure`.

use super::Error;
use crate::{
    assertion::Claims,
    env::{Env, names},
    error::Hints,
    identifiers::{Audience, VariableName},
    secret::Secret,
};

/// The platform's name.
pub const NAME: &str = "GitLab";

/// The names in use, in the order in which they are tried.
const USUAL: [&str; 3] = [names::azure::ID_TOKEN, names::azure::OIDC_TOKEN, names::gitlab::OIDC_TOKEN];

/// A job with an OIDC token.
#[derive(Debug)]
pub struct GitLab {
    pub(super) variable: String,
    pub(super) token: Secret,
}

impl GitLab {
    /// The token by its name, by the usual names, or the one JWT in the environment that can be meant.
    pub fn detect(env: &Env, named: Option<&VariableName>, audience: &Audience) -> Result<Self, Error> {
        let found =
            |variable: &str| env.secret(variable).map(|token| Self { variable: variable.to_owned(), token });
        if let Some(named) = named {
            return found(named.as_str()).ok_or_else(|| Error::GitLabNotGranted {
                audience: audience.clone(),
                named: Some(named.to_string()),
            });
        }
        if let Some(usual) = USUAL.into_iter().find_map(found) {
            return Ok(usual);
        }
        // a credential goes only to the issuer it came from: other JWTs in the environment are not touched
        let issuer = env.get(names::gitlab::SERVER_URL).unwrap_or_default().trim_end_matches('/');
        let fits = |value: &str| {
            Claims::of(value.trim())
                .is_ok_and(|claims| claims.iss.trim_end_matches('/') == issuer && claims.is_for(audience))
        };
        let candidates: Vec<&str> =
            env.iter().filter(|(_, value)| !issuer.is_empty() && fits(value)).map(|(name, _)| name).collect();
        match candidates.as_slice() {
            [only] => found(only).ok_or_else(|| Error::VariableUnset((*only).to_owned())),
            [] => Err(Error::GitLabNotGranted { audience: audience.clone(), named: None }),
            several => Err(Error::GitLabAmbiguous(several.join(", "))),
        }
    }
}

pub(super) fn declare(audience: &Audience) -> Hints {
    Hints::with_lines(
        "declare the token in the job, with one audience and not a list:",
        &["id_tokens:", "  AZURE_ID_TOKEN:", &format!("    aud: {audience}")],
    )
}

pub(super) fn not_granted(audience: &Audience, named: Option<&str>) -> Hints {
    let hints = declare(audience);
    match named {
        Some(name) => hints.and(format!("`{name}`, which `--assertion-env` names, is not set in this job")),
        None => hints.and("a token under another name is found too, if its audience is that one; or name it with `--assertion-env NAME`"),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn jwt(iss: &str, aud: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{iss}","aud":"{aud}"}}"#)))
    }

    fn detect(pairs: &[(&str, &str)], named: Option<&str>) -> Result<String, Error> {
        let named = named.map(|name| name.parse().unwrap());
        let server = ("CI_SERVER_URL", "https://gitlab.example.com");
        let env = Env::from_pairs(pairs.iter().copied().chain([server]));
        GitLab::detect(&env, named.as_ref(), &"api://AzureADTokenExchange".parse().unwrap())
            .map(|found| found.variable)
    }

    #[test]
    fn names_then_search() {
        let right = jwt("https://gitlab.example.com", "api://AzureADTokenExchange");
        let other_audience = jwt("https://gitlab.example.com", "https://vault.example.com");
        let other_issuer = jwt("https://elsewhere.example.com", "api://AzureADTokenExchange");
        assert_eq!(
            detect(&[("GITLAB_OIDC_TOKEN", "x"), ("AZURE_ID_TOKEN", "y")], None).unwrap(),
            "AZURE_ID_TOKEN"
        );
        assert_eq!(detect(&[("AZURE_ID_TOKEN", "y"), ("MINE", "z")], Some("MINE")).unwrap(), "MINE");
        assert_eq!(
            detect(&[("MINE", &right), ("VAULT", &other_audience), ("OTHER", &other_issuer)], None).unwrap(),
            "MINE"
        );
        assert!(
            matches!(detect(&[("A", &right), ("B", &right)], None), Err(Error::GitLabAmbiguous(names)) if names == "A, B")
        );
        assert!(matches!(
            detect(&[("A", &other_audience)], None),
            Err(Error::GitLabNotGranted { named: None, .. })
        ));
        assert!(matches!(detect(&[], Some("MINE")), Err(Error::GitLabNotGranted { named: Some(_), .. })));
    }
}
