//! Cloud Shell's endpoint: tokens of the user.
//!
//! Source: Azure/CloudShell#109 and #477; AzureAD/microsoft-authentication-library-for-python `msal/managed_identity.py`.

use serde_json::json;

use super::{Refusal, parameters, settle};
use crate::{
    entra,
    message::{Answer, Request, json},
    world::World,
};

/// What it has tokens for; the exchange audience is not among it.
const AUDIENCES: [&str; 7] = [
    "https://management.core.windows.net",
    "https://management.azure.com",
    "https://vault.azure.net",
    "https://graph.microsoft.com",
    "https://storage.azure.com",
    "https://database.windows.net",
    "https://ossrdbms-aad.database.windows.net",
];

fn refused(status: u16, code: &str, message: &str) -> Refusal {
    Refusal::new(status, json!({ "error": { "code": code, "message": message } }))
}

/// `POST /cloud-shell/oauth2/token`
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    let invalid = |message: &str| refused(400, "InvalidRequest", message);
    if request.method != "POST" {
        return Err(refused(405, "MethodNotAllowed", "The HTTP method is not allowed."));
    }
    if request.header("x-forwarded-for").is_some() {
        return Err(invalid("The X-Forwarded-For header is not allowed."));
    }
    if request.header("metadata") != Some("true") {
        return Err(invalid("Required metadata header not specified"));
    }
    if !request.query.is_empty() {
        return Err(invalid("The resource is expected in the form."));
    }
    let form = request.form();
    let parameters = parameters(&form, &["resource"]).map_err(|what| invalid(&what))?;
    let resource = parameters.get("resource").ok_or_else(|| invalid("The resource is missing."))?;
    if !AUDIENCES.contains(&resource.trim_end_matches('/')) {
        let text = format!("Audience {resource} is not a supported MSI token audience.");
        return Err(refused(400, "AudienceNotSupported", &text));
    }
    let issued = entra::issue_to_operator(resource, world);
    Ok(json(
        200,
        &json!({
            "access_token": issued.jwt, "refresh_token": "", "resource": resource, "token_type": "Bearer",
            "expires_in": issued.lifetime.to_string(), "expires_on": (issued.at + issued.lifetime).to_string(),
            "not_before": issued.at.to_string(),
        }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, read, world},
        keys::Token,
        world::OPERATOR_OBJECT,
    };

    #[test]
    fn tokens_of_the_user() {
        let world = world(|_| ());
        let headers = [("metadata", "true"), ("content-type", "application/x-www-form-urlencoded")];
        let right = but(&get(&[], &headers), |request| {
            "POST".clone_into(&mut request.method);
            request.body = b"resource=https%3A%2F%2Fmanagement.core.windows.net%2F".to_vec();
        });
        let (status, body) = read(answer(&right, &world));
        assert_eq!(status, 200, "{body}");
        let claims = Token::parse(body["access_token"].as_str().unwrap()).unwrap().claims;
        assert_eq!((&claims["idtyp"], &claims["oid"]), (&json!("user"), &json!(OPERATOR_OBJECT)));
        let with_body = |body: &[u8]| but(&right, |request| request.body = body.to_vec());
        for (asked, status, code) in [
            (but(&right, |request| "GET".clone_into(&mut request.method)), 405, "MethodNotAllowed"),
            (but(&right, |request| drop(request.headers.remove("metadata"))), 400, "InvalidRequest"),
            (but(&right, |request| drop(request.headers.remove("content-type"))), 400, "InvalidRequest"),
            (
                but(&right, |request| drop(request.headers.insert("x-forwarded-for".into(), "x".into()))),
                400,
                "InvalidRequest",
            ),
            (
                but(&right, |request| request.query.push(("api-version".into(), "2018-02-01".into()))),
                400,
                "InvalidRequest",
            ),
            (with_body(b"resource=https%3A%2F%2Fvault.azure.net&client_id=x"), 400, "InvalidRequest"),
            (with_body(b"resource=api%3A%2F%2FAzureADTokenExchange"), 400, "AudienceNotSupported"),
        ] {
            let (got, body) = read(answer(&asked, &world));
            assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)), "{asked:?}");
        }
    }
}
