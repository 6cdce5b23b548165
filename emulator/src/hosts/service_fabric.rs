//! Service Fabric's endpoint, on a listener of its own with a self-signed certificate.
//!
//! Source: Microsoft Learn "How to leverage a Service Fabric application's managed identity to access Azure services".

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Refusal, issue, parameters, settle};
use crate::{
    message::{Answer, Request, json},
    world::{HostIdentity, World},
};

/// The only one.
pub(super) const API_VERSION: &str = "2019-07-01-preview";

/// Which certificate the listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceFabricCertificate {
    /// The one of the thumbprint.
    Right,
    /// Another self-signed one for the same name.
    Wrong,
    /// One that the emulator's own authority has signed.
    Signed,
}

fn refused(status: u16, code: &str, message: &str) -> Refusal {
    let correlation = Uuid::new_v4().to_string();
    Refusal::new(
        status,
        json!({ "error": { "correlationId": correlation, "code": code, "message": message } }),
    )
}

/// `GET /metadata/identity/oauth2/token`
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    if request.path != "/metadata/identity/oauth2/token" {
        return Err(refused(404, "NotFound", "The requested resource was not found."));
    }
    if request.method != "GET" {
        return Err(refused(405, "MethodNotAllowed", "The HTTP method is not allowed."));
    }
    if request.header("x-forwarded-for").is_some() {
        return Err(refused(400, "InvalidRequest", "The X-Forwarded-For header is not allowed."));
    }
    let secret = request
        .header("secret")
        .filter(|secret| !secret.is_empty())
        .ok_or_else(|| refused(400, "SecretHeaderNotFound", "Secret is not found in the request headers."))?;
    let parameters = parameters(&request.query, &["api-version", "resource"])
        .map_err(|what| refused(400, "InvalidRequest", &what))?;
    let version = parameters.get("api-version").copied().unwrap_or_default();
    if version != API_VERSION {
        let text =
            format!("The api-version '{version}' is not supported. Supported version is '{API_VERSION}'.");
        return Err(refused(400, "InvalidApiVersion", &text));
    }
    let resource = parameters.get("resource").ok_or_else(|| {
        let text = "The parameter 'resource' should not be null or empty string.";
        refused(400, "ArgumentNullOrEmpty", text)
    })?;
    // the application's manifest says which identity it is: here the system-assigned one, else the first
    let settings = world.lock().settings.clone();
    let system = settings.system_assigned.then(HostIdentity::system);
    let identity = system
        .or_else(|| settings.user_assigned.first().cloned())
        .filter(|_| secret == world.host_secret)
        .ok_or_else(|| {
            let text = "Managed identity not found for the specified application host.";
            refused(404, "ManagedIdentityNotFound", text)
        })?;
    let issued = issue(&identity, resource, world)
        .ok_or_else(|| refused(500, "InternalServerError", "An error occurred."))?;
    Ok(json(
        200,
        &json!({
            "token_type": "Bearer", "access_token": issued.jwt, "expires_on": issued.at + issued.lifetime,
            "resource": resource,
        }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, object_of, read, world},
        world::{IDENTITY, IDENTITY_OBJECT, SYSTEM_IDENTITY_OBJECT},
    };

    fn right(world: &World) -> Request {
        let query = [("api-version", API_VERSION), ("resource", "https://vault.azure.net/")];
        but(&get(&query, &[("secret", &world.host_secret)]), |request| {
            "/metadata/identity/oauth2/token".clone_into(&mut request.path);
        })
    }

    #[test]
    fn which_identity() {
        let all = world(|_| ());
        assert_eq!(object_of(answer(&right(&all), &all)), SYSTEM_IDENTITY_OBJECT);
        assert!(read(answer(&right(&all), &all)).1["expires_on"].is_u64());
        let user_assigned = world(|settings| settings.system_assigned = false);
        assert_eq!(object_of(answer(&right(&user_assigned), &user_assigned)), IDENTITY_OBJECT);
    }

    #[test]
    fn what_is_refused() {
        let world = world(|_| ());
        let right = right(&world);
        for (asked, status, code) in [
            (but(&right, |request| request.headers.clear()), 400, "SecretHeaderNotFound"),
            (
                but(&right, |request| drop(request.headers.insert("secret".into(), "x".into()))),
                404,
                "ManagedIdentityNotFound",
            ),
            (
                but(&right, |request| drop(request.headers.insert("x-forwarded-for".into(), "x".into()))),
                400,
                "InvalidRequest",
            ),
            (but(&right, |request| "POST".clone_into(&mut request.method)), 405, "MethodNotAllowed"),
            (but(&right, |request| request.path.push('/')), 404, "NotFound"),
            (but(&right, |request| drop(request.query.remove(0))), 400, "InvalidApiVersion"),
            (
                but(&right, |request| "2020-05-01".clone_into(&mut request.query[0].1)),
                400,
                "InvalidApiVersion",
            ),
            (but(&right, |request| drop(request.query.remove(1))), 400, "ArgumentNullOrEmpty"),
            (
                but(&right, |request| request.query.push(("client_id".into(), IDENTITY.into()))),
                400,
                "InvalidRequest",
            ),
            (
                but(&right, |request| "https://x.example".clone_into(&mut request.query[1].1)),
                500,
                "InternalServerError",
            ),
        ] {
            let (got, body) = read(answer(&asked, &world));
            assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)), "{asked:?}");
        }
    }
}
