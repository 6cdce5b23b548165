//! The token proxy of AKS clusters with identity bindings: known by a name that only TLS has, it takes the tokens of
//! service accounts that Entra does not.
//!
//! Sources: Microsoft Learn "Identity bindings concepts" (AKS), azure-workload-identity `pkg/webhook/consts.go`,
//! azure-sdk-for-go `sdk/azidentity/internal/customtokenproxy`. Its refusals are not documented.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Refusal, settle};
use crate::{
    entra::{self, Ask},
    keys::Token,
    message::{Answer, Door, Request},
    world::{IDENTITY, KUBERNETES_ISSUER, KUBERNETES_SUBJECT, World, now},
};

/// The name that TLS has for it.
pub const TOKEN_PROXY_NAME: &str = "sni.ests.aks";
/// The audience of the tokens that it takes.
pub const IDENTITY_BINDING_AUDIENCE: &str = "api://AKSIdentityBinding";

/// Which service account may be which identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityBinding {
    /// The identity's client id.
    pub client_id: String,
    /// The service account, as its tokens name it.
    pub subject: String,
}

impl IdentityBinding {
    /// The pod's.
    pub fn of_pod() -> Self {
        Self { client_id: IDENTITY.to_owned(), subject: KUBERNETES_SUBJECT.to_owned() }
    }
}

/// `POST /token-proxy/{tenant}/oauth2/v2.0/token`
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    // another name leads to the cluster's API server
    if request.door != Door::Tls || request.server_name.as_deref() != Some(TOKEN_PROXY_NAME) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "Unauthorized",
            "reason": "Unauthorized", "code": 401,
        });
        return Err(Refusal::new(401, status));
    }
    let ask = match Ask::read(request) {
        Ok(ask) => ask,
        Err((code, detail)) => return Ok(entra::refusal(code, request, &detail)),
    };
    let refused = |status: u16, error: &str, text: &str| {
        Refusal::new(status, json!({ "error": error, "error_description": text }))
    };
    let invalid = |text: &str| refused(401, "invalid_client", text);
    let token =
        Token::parse(&ask.assertion).ok_or_else(|| invalid("The service account token is malformed."))?;
    if token.claims["iss"] != KUBERNETES_ISSUER || !world.kubernetes.verifies(&token) {
        return Err(invalid("The service account token is not one of this cluster's."));
    }
    let audiences: Vec<&Value> = match &token.claims["aud"] {
        Value::Array(several) => several.iter().collect(),
        one => vec![one],
    };
    if audiences != [&json!(IDENTITY_BINDING_AUDIENCE)] {
        let text = format!("The service account token's audience is not {IDENTITY_BINDING_AUDIENCE}.");
        return Err(invalid(&text));
    }
    let ends = token.claims["exp"].as_u64().unwrap_or(0);
    let begins = token.claims["nbf"].as_u64().unwrap_or(0);
    if now() >= ends || now() < begins {
        return Err(invalid("The service account token is not valid at this time."));
    }
    let subject = token.claims["sub"].as_str().unwrap_or_default();
    let bindings = world.lock().settings.identity_bindings.clone();
    if !bindings.iter().any(|binding| binding.client_id == ask.client && binding.subject == subject) {
        let text = format!("{subject} may not use the identity {}.", ask.client);
        return Err(refused(403, "unauthorized_client", &text));
    }
    Ok(ask.grant(world).unwrap_or_else(|(code, detail)| entra::refusal(code, request, &detail)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, object_of, world},
        issuers::{JobOverrides, Platform, mint},
        world::{APPLICATION, IDENTITY_OBJECT, OTHER_TENANT, TENANT},
    };

    fn post(tenant: &str, client: &str, assertion: &str) -> Request {
        let request = entra::tests::post(
            &format!("token-proxy/{tenant}"),
            client,
            "https://vault.azure.net/.default",
            assertion,
        );
        but(&request, |request| {
            request.door = Door::Tls;
            request.server_name = Some(TOKEN_PROXY_NAME.to_owned());
        })
    }

    fn of_pod(world: &World, change: impl FnOnce(&mut JobOverrides)) -> String {
        let mut overrides =
            JobOverrides { audience: Some(IDENTITY_BINDING_AUDIENCE.to_owned()), ..JobOverrides::default() };
        change(&mut overrides);
        mint(world, Platform::Kubernetes, None, &overrides)
    }

    #[test]
    fn a_bound_service_account_is_its_identity() {
        let world = world(|_| ());
        let token = of_pod(&world, |_| ());
        let right = post(TENANT, IDENTITY, &token);
        assert_eq!(object_of(answer(&right, &world)), IDENTITY_OBJECT);
        for (asked, status) in [
            (but(&right, |request| request.server_name = Some("localhost".to_owned())), 401),
            (but(&right, |request| request.server_name = None), 401),
            (but(&right, |request| request.door = Door::Http), 401),
            (but(&right, |request| "GET".clone_into(&mut request.method)), 400),
            (but(&right, |request| request.body.clear()), 400),
            (post(OTHER_TENANT, IDENTITY, &token), 400),
            (post(TENANT, APPLICATION, &token), 403),
            (post(TENANT, IDENTITY, "x.y.z"), 401),
            (post(TENANT, IDENTITY, &of_pod(&world, |job| job.audience = None)), 401),
            (post(TENANT, IDENTITY, &of_pod(&world, |job| job.lifetime = Some(0))), 401),
            (post(TENANT, IDENTITY, &of_pod(&world, |job| job.not_before = Some(900))), 401),
            (post(TENANT, IDENTITY, &of_pod(&world, |job| job.tampered = true)), 401),
            (post(TENANT, IDENTITY, &of_pod(&world, |job| job.issuer = Some("https://x".to_owned()))), 401),
            (post(TENANT, IDENTITY, &of_pod(&world, |job| job.subject = Some("x".to_owned()))), 403),
        ] {
            assert_eq!(answer(&asked, &world).status(), status, "{asked:?}");
        }
        world.lock().settings.identity_bindings.clear();
        assert_eq!(answer(&right, &world).status(), 403);
    }

    #[test]
    fn entra_refuses_such_a_token() {
        let world = world(|_| ());
        let asked = post(TENANT, IDENTITY, &of_pod(&world, |_| ()));
        assert_eq!(entra::tests::code(&asked, &world), Some(700_212));
    }
}
