//! Automation's sandboxes and hybrid workers: App Service's endpoint with one more header.
//!
//! Source: Microsoft Learn "Enable managed identity for your Azure Automation account"; the older endpoint's date as a user
//! has posted it (Azure/azure-sdk-for-python#19641). Its refusals are not documented.

use serde_json::json;

use super::{Choice, Refusal, issue, parameters, settle, spaced_date};
use crate::{
    message::{Answer, Request, json},
    world::{HostIdentity, World},
};

fn refused(status: u16, description: &str) -> Refusal {
    Refusal::new(status, json!({ "error": "invalid_request", "error_description": description }))
}

/// `GET /automation/oauth2/token`, or `POST` with a form
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    if request.header("x-forwarded-for").is_some() {
        return Err(refused(400, "The X-Forwarded-For header should not be present."));
    }
    if !request.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(refused(400, "The Metadata header must be present and equal to true."));
    }
    let secret = Some(world.host_secret.as_str());
    let by_new_name = request.header("x-identity-header") == secret;
    if !by_new_name && request.header("secret") != secret {
        return Err(refused(401, "The X-IDENTITY-HEADER header is missing or wrong."));
    }
    let pairs = match request.method.as_str() {
        "GET" => request.query.clone(),
        "POST" if request.query.is_empty() => request.form(),
        _ => return Err(refused(405, "The HTTP method is not allowed, or has a query.")),
    };
    let parameters =
        parameters(&pairs, &["api-version", "resource", "client_id"]).map_err(|what| refused(400, &what))?;
    // the documented samples have no version
    if !matches!(parameters.get("api-version").copied(), None | Some("2019-08-01" | "2017-09-01")) {
        return Err(refused(400, "The api-version is not supported."));
    }
    let resource = parameters.get("resource").ok_or_else(|| refused(400, "The resource is missing."))?;
    let settings = world.lock().settings.clone();
    let found = match Choice::of(&parameters, [&["client_id"], &[], &[]]) {
        Some(Choice::Unnamed) => settings.system_assigned.then(HostIdentity::system),
        choice => choice.and_then(|choice| choice.find(&settings)),
    };
    let identity =
        found.ok_or_else(|| refused(400, "No managed identity was found for this Automation account."))?;
    let issued =
        issue(&identity, resource, world).ok_or_else(|| refused(400, "The resource is not known."))?;
    let ends = issued.at + issued.lifetime;
    let expires_on = if by_new_name { ends.to_string() } else { spaced_date(ends) };
    Ok(json(
        200,
        &json!({
            "access_token": issued.jwt, "expires_on": expires_on, "resource": resource, "token_type": "Bearer",
            "client_id": identity.client_id,
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
        let query = [("resource", "https://management.azure.com/"), ("api-version", "2019-08-01")];
        get(&query, &[("x-identity-header", &world.host_secret), ("metadata", "True")])
    }

    #[test]
    fn which_identity() {
        let world = world(|_| ());
        let right = right(&world);
        assert_eq!(object_of(answer(&right, &world)), SYSTEM_IDENTITY_OBJECT);
        let named = but(&right, |request| request.query.push(("client_id".to_owned(), IDENTITY.to_owned())));
        assert_eq!(object_of(answer(&named, &world)), IDENTITY_OBJECT);
        let form = but(&right, |request| {
            "POST".clone_into(&mut request.method);
            request.query.clear();
            request.headers.insert("content-type".into(), "application/x-www-form-urlencoded".into());
            request.body = b"resource=https%3A%2F%2Fvault.azure.net".to_vec();
        });
        assert_eq!(object_of(answer(&form, &world)), SYSTEM_IDENTITY_OBJECT);
        let older = but(&right, |request| {
            let secret = request.headers.remove("x-identity-header").unwrap();
            request.headers.insert("secret".to_owned(), secret);
        });
        let (_, body) = read(answer(&older, &world));
        assert!(body["expires_on"].as_str().unwrap().ends_with('Z'), "{body}");
    }

    #[test]
    fn what_is_refused() {
        let world = world(|_| ());
        let right = right(&world);
        let query = |name: &str, value: &str| {
            but(&right, |request| request.query.push((name.to_owned(), value.to_owned())))
        };
        for (asked, status) in [
            (but(&right, |request| drop(request.headers.remove("metadata"))), 400),
            (but(&right, |request| drop(request.headers.remove("x-identity-header"))), 401),
            (but(&right, |request| drop(request.headers.insert("x-forwarded-for".into(), "x".into()))), 400),
            (but(&right, |request| "PUT".clone_into(&mut request.method)), 405),
            (but(&right, |request| "2018-02-01".clone_into(&mut request.query[1].1)), 400),
            (but(&right, |request| drop(request.query.remove(0))), 400),
            (query("object_id", IDENTITY_OBJECT), 400),
            (query("mi_res_id", IDENTITY_OBJECT), 400),
            (query("client_id", IDENTITY_OBJECT), 400),
            (query("resource", "https://vault.azure.net"), 400),
        ] {
            assert_eq!(read(answer(&asked, &world)).0, status, "{asked:?}");
        }
    }
}
