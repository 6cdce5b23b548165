//! Azure Machine Learning's endpoint.
//!
//! Source: Azure/azure-sdk-for-net#40348: every request names an identity, and `expires_on` is a number. MSAL for Python and
//! Go name none where the user does not. Its refusals are not documented.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Choice, Refusal, issue, parameters, settle};
use crate::{
    message::{Answer, Request, json},
    world::{HostIdentity, World},
};

/// Whether requests name an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AzureMlNames {
    /// All of them.
    Required,
    /// Those that name none mean the default one.
    Optional,
}

fn refused(status: u16, message: &str) -> Refusal {
    Refusal::new(status, json!({ "error": { "code": "UserError", "message": message } }))
}

/// `GET /azure-ml/token`
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    if request.method != "GET" {
        return Err(refused(405, "The HTTP method is not allowed."));
    }
    if request.header("x-forwarded-for").is_some() {
        return Err(refused(400, "The X-Forwarded-For header is not allowed."));
    }
    if request.header("secret") != Some(world.host_secret.as_str()) {
        return Err(refused(401, "The secret header is missing or wrong."));
    }
    let known = ["api-version", "resource", "clientid"];
    let parameters = parameters(&request.query, &known).map_err(|what| refused(400, &what))?;
    if parameters.get("api-version").copied() != Some("2017-09-01") {
        return Err(refused(400, "The api-version is missing or not supported."));
    }
    let required = |name: &str| {
        parameters
            .get(name)
            .copied()
            .ok_or_else(|| refused(400, &format!("The parameter {name} is missing.")))
    };
    let resource = required("resource")?;
    let settings = world.lock().settings.clone();
    let client = match (parameters.get("clientid"), settings.azure_ml_names) {
        (None, AzureMlNames::Optional) => default_client(world),
        _ => required("clientid")?.to_owned(),
    };
    let identity = Choice::Client(&client)
        .find(&settings)
        .ok_or_else(|| refused(400, &format!("No identity with client id {client} is assigned.")))?;
    let issued =
        issue(&identity, resource, world).ok_or_else(|| refused(400, "The resource is not known."))?;
    Ok(json(
        200,
        &json!({
            "access_token": issued.jwt, "expires_on": issued.at + issued.lifetime, "resource": resource,
            "token_type": "Bearer",
        }),
    ))
}

/// The identity that is meant where the user names none.
pub(super) fn default_client(world: &World) -> String {
    let settings = world.lock().settings.clone();
    let system = settings.system_assigned.then(HostIdentity::system);
    let default = system.or_else(|| settings.user_assigned.first().cloned());
    default.map(|identity| identity.client_id).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, object_of, read, world},
        world::{IDENTITY, IDENTITY_OBJECT, SYSTEM_IDENTITY, SYSTEM_IDENTITY_OBJECT},
    };

    #[test]
    fn one_identity_is_named() {
        let world = world(|_| ());
        assert_eq!(default_client(&world), SYSTEM_IDENTITY);
        let query = [
            ("api-version", "2017-09-01"),
            ("resource", "https://storage.azure.com"),
            ("clientid", IDENTITY),
        ];
        let right = get(&query, &[("secret", &world.host_secret)]);
        assert_eq!(object_of(answer(&right, &world)), IDENTITY_OBJECT);
        assert!(read(answer(&right, &world)).1["expires_on"].is_u64());
        for (asked, status) in [
            (but(&right, |request| request.headers.clear()), 401),
            (but(&right, |request| drop(request.headers.insert("x-forwarded-for".into(), "x".into()))), 400),
            (but(&right, |request| "POST".clone_into(&mut request.method)), 405),
            (but(&right, |request| "2019-08-01".clone_into(&mut request.query[0].1)), 400),
            (but(&right, |request| drop(request.query.remove(1))), 400),
            (but(&right, |request| drop(request.query.remove(2))), 400),
            (but(&right, |request| "client_id".clone_into(&mut request.query[2].0)), 400),
            (but(&right, |request| IDENTITY_OBJECT.clone_into(&mut request.query[2].1)), 400),
        ] {
            assert_eq!(answer(&asked, &world).status(), status, "{asked:?}");
        }
        world.lock().settings.azure_ml_names = AzureMlNames::Optional;
        let unnamed = but(&right, |request| drop(request.query.remove(2)));
        assert_eq!(object_of(answer(&unnamed, &world)), SYSTEM_IDENTITY_OBJECT);
    }
}
