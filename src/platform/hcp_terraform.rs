//! HCP Terraform and Terraform Enterprise: a run has a token for each audience that its workspace names.
//!
//! Sources: developer.hashicorp.com `terraform/cloud-docs/dynamic-provider-credentials/manual-generation`,
//! `…/workload-identity-tokens`.

use super::{Error, Stored};
use crate::{
    assertion::Claims,
    env::{Env, names},
    error::Hints,
    identifiers::Audience,
    secret::Secret,
};

/// The platform's name.
pub const NAME: &str = "HCP Terraform";

/// The token of a run: the one for this audience, else the only one there is.
pub(super) fn detect(env: &Env, audience: &Audience) -> Result<Stored, Error> {
    let tokens: Vec<(&str, &str)> = env.iter().filter(|(name, _)| is_token(name)).collect();
    let fits =
        |(_, value): &&(&str, &str)| Claims::of(value.trim()).is_ok_and(|claims| claims.is_for(audience));
    match tokens.iter().find(fits).or(tokens.first()) {
        Some((name, value)) => Ok(Stored::Variable((*name).to_owned(), Secret::new((*value).to_owned()))),
        None => Err(Error::NotGranted {
            issuer: NAME,
            missing: format!("{} is not set", names::hcp_terraform::WORKLOAD_IDENTITY_TOKEN),
            hints: ask_for(audience),
        }),
    }
}

/// Whether a variable is a token, with a tag or without.
pub(super) fn is_token(name: &str) -> bool {
    name.strip_prefix(names::hcp_terraform::WORKLOAD_IDENTITY_TOKEN).is_some_and(|tag| {
        tag.is_empty() || (tag.starts_with('_') && tag.len() > 1 && !tag.ends_with("_PATH"))
    })
}

/// What a workspace must say.
pub(super) fn ask_for(audience: &Audience) -> Hints {
    Hints::with_lines(
        "give the workspace an environment variable (category env) that asks for the token; with other audiences beside, put \
         `_AZURE` or another tag behind its name. Agents of your own need version 1.7.0:",
        &[&format!("{} = {audience}", names::hcp_terraform::WORKLOAD_IDENTITY_AUDIENCE)],
    )
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn jwt(aud: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!(r#"{{"aud":"{aud}"}}"#)))
    }

    #[test]
    fn the_token_for_the_audience_is_found() {
        let (right, other) = (jwt("api://AzureADTokenExchange"), jwt("aws.workload.identity"));
        let found = |pairs: &[(&str, &str)]| {
            detect(&Env::from_pairs(pairs.iter().copied()), &"api://AzureADTokenExchange".parse().unwrap())
                .map(|stored| stored.place())
        };
        let (plain, tagged) = ("TFC_WORKLOAD_IDENTITY_TOKEN", "TFC_WORKLOAD_IDENTITY_TOKEN_AZURE");
        assert_eq!(found(&[(plain, &other), (tagged, &right)]).unwrap(), tagged);
        assert_eq!(found(&[(plain, &right), (tagged, &other)]).unwrap(), plain);
        assert_eq!(found(&[(tagged, &other)]).unwrap(), tagged);
        for near in
            ["TFC_WORKLOAD_IDENTITY_TOKENS", "TFC_WORKLOAD_IDENTITY_TOKEN_", "TFC_WORKLOAD_IDENTITY_AUDIENCE"]
        {
            assert!(matches!(found(&[(near, &right)]), Err(Error::NotGranted { .. })), "{near}");
        }
        assert!(matches!(found(&[(plain, "")]), Err(Error::NotGranted { .. })));
    }
}
