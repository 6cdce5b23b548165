//! The instance metadata service's tokens.
//!
//! Source: Microsoft Learn "How to use managed identities for Azure resources on an Azure VM to acquire an access token";
//! texts as users have posted them (AzureAD/microsoft-authentication-library-for-dotnet#3979, Azure/aad-pod-identity#1084).

use serde_json::json;

use super::{Choice, Refusal, issue, parameters, settle};
use crate::{
    message::{Answer, Request, json},
    world::{HostIdentity, Settings, World},
};

const MALFORMED: &str = "The request is missing a required parameter, includes an invalid parameter value, includes a \
                         parameter more than once, or is otherwise malformed.";

fn refused(status: u16, error: &str, description: &str) -> Refusal {
    Refusal::new(status, json!({ "error": error, "error_description": description }))
}

fn invalid(description: &str) -> Refusal {
    refused(400, "invalid_request", description)
}

/// `GET /metadata/identity/oauth2/token`
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    if request.path != "/metadata/identity/oauth2/token" {
        return Err(refused(404, "not_found", "The requested resource was not found."));
    }
    if request.method != "GET" {
        return Err(refused(405, "method_not_allowed", "The HTTP method is not allowed on this resource."));
    }
    if request.header("x-forwarded-for").is_some() {
        return Err(invalid("The X-Forwarded-For header is not allowed."));
    }
    // lower case only
    if request.header("metadata") != Some("true") {
        return Err(refused(400, "bad_request_102", "Required metadata header not specified"));
    }
    let known = ["api-version", "resource", "client_id", "object_id", "msi_res_id"];
    let parameters =
        parameters(&request.query, &known).map_err(|what| invalid(&format!("{MALFORMED} {what}")))?;
    let required = |name: &str| {
        let missing = || invalid(&format!("Required query variable '{name}' is missing"));
        parameters.get(name).copied().ok_or_else(missing)
    };
    if required("api-version")? != "2018-02-01" {
        return Err(invalid("The api-version is not supported, or is not an api-version."));
    }
    let resource = required("resource")?;
    let choice =
        Choice::of(&parameters, [&["client_id"], &["object_id"], &["msi_res_id"]]).ok_or_else(|| {
            invalid(&format!("{MALFORMED} Only one of client_id, object_id and msi_res_id may be given"))
        })?;
    let settings = world.lock().settings.clone();
    let identity = choose(choice, &settings)?;
    let issued = issue(&identity, resource, world).ok_or_else(|| {
        let text = format!(
            "AADSTS500011: The resource principal named {resource} was not found in the tenant named Contoso."
        );
        refused(400, "invalid_resource", &text)
    })?;
    Ok(json(
        200,
        &json!({
            "access_token": issued.jwt, "client_id": identity.client_id, "refresh_token": "",
            "expires_in": issued.lifetime.to_string(), "expires_on": (issued.at + issued.lifetime).to_string(),
            "ext_expires_in": issued.lifetime.to_string(), "not_before": issued.at.to_string(),
            "resource": resource, "token_type": "Bearer",
        }),
    ))
}

/// The system-assigned one where none is named, else the only user-assigned one.
fn choose(choice: Choice<'_>, settings: &Settings) -> Result<HostIdentity, Refusal> {
    let found = match (choice, settings.user_assigned.as_slice()) {
        (Choice::Unnamed, _) if settings.system_assigned => Some(HostIdentity::system()),
        (Choice::Unnamed, [only]) => Some(only.clone()),
        (Choice::Unnamed, [_, _, ..]) => {
            return Err(invalid(
                "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
            ));
        }
        _ => choice.find(settings),
    };
    found.ok_or_else(|| invalid("Identity not found"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, object_of, read, world},
        keys::Token,
        world::{
            IDENTITY, IDENTITY_OBJECT, NEIGHBOUR_OBJECT, SYSTEM_IDENTITY, SYSTEM_IDENTITY_OBJECT, TENANT,
            exchange_issuer, host_resource, identity_resource,
        },
    };

    fn right() -> Request {
        let query = [("api-version", "2018-02-01"), ("resource", "https://management.azure.com/")];
        but(&get(&query, &[("metadata", "true")]), |request| {
            "/metadata/identity/oauth2/token".clone_into(&mut request.path);
        })
    }

    fn with(name: &str, value: &str) -> Request {
        but(&right(), |request| request.query.push((name.to_owned(), value.to_owned())))
    }

    #[test]
    fn a_token_as_entra_writes_it() {
        let world = world(|_| ());
        let (status, body) = read(answer(&right(), &world));
        assert_eq!(
            (status, &body["client_id"], &body["token_type"]),
            (200, &json!(SYSTEM_IDENTITY), &json!("Bearer"))
        );
        assert_eq!(body["expires_in"], "86400");
        let jwt = body["access_token"].as_str().unwrap();
        let token = Token::parse(jwt).unwrap();
        assert!(world.entra.verifies(&token));
        assert!(world.lock().secrets.iter().any(|secret| secret == jwt));
        for (name, expected) in [
            ("aud", "https://management.azure.com/".to_owned()),
            ("iss", format!("https://sts.windows.net/{TENANT}/")),
            ("appid", SYSTEM_IDENTITY.to_owned()),
            ("oid", SYSTEM_IDENTITY_OBJECT.to_owned()),
            ("tid", TENANT.to_owned()),
            ("xms_mirid", host_resource()),
        ] {
            assert_eq!(token.claims[name], expected, "{name}");
        }
    }

    #[test]
    fn a_token_for_the_exchange_audience() {
        let asked = but(&right(), |request| "api://AzureADTokenExchange".clone_into(&mut request.query[1].1));
        let (_, body) = read(answer(&asked, &world(|_| ())));
        let claims = Token::parse(body["access_token"].as_str().unwrap()).unwrap().claims;
        assert_eq!(claims["iss"], exchange_issuer(0));
        assert_eq!(claims["aud"], "fb60f99c-7a34-4190-8149-302f77469936");
        assert_eq!(claims["sub"], SYSTEM_IDENTITY_OBJECT);
    }

    #[test]
    fn which_identity() {
        let all = world(|_| ());
        assert_eq!(object_of(answer(&right(), &all)), SYSTEM_IDENTITY_OBJECT);
        assert_eq!(object_of(answer(&with("client_id", IDENTITY), &all)), IDENTITY_OBJECT);
        assert_eq!(object_of(answer(&with("object_id", NEIGHBOUR_OBJECT), &all)), NEIGHBOUR_OBJECT);
        assert_eq!(
            object_of(answer(&with("msi_res_id", &identity_resource("infra-prod")), &all)),
            IDENTITY_OBJECT
        );
        let only = world(|settings| {
            settings.system_assigned = false;
            settings.user_assigned.truncate(1);
        });
        assert_eq!(object_of(answer(&right(), &only)), IDENTITY_OBJECT);
        let several = world(|settings| settings.system_assigned = false);
        let (status, body) = read(answer(&right(), &several));
        assert_eq!((status, &body["error"]), (400, &json!("invalid_request")));
        assert!(
            body["error_description"]
                .as_str()
                .unwrap()
                .starts_with("Multiple user assigned identities exist")
        );
        let none = world(|settings| {
            settings.system_assigned = false;
            settings.user_assigned.clear();
        });
        for (asked, of) in
            [(right(), &none), (with("client_id", IDENTITY), &none), (with("client_id", TENANT), &all)]
        {
            let expected = json!({ "error": "invalid_request", "error_description": "Identity not found" });
            assert_eq!(read(answer(&asked, of)), (400, expected));
        }
    }

    #[test]
    fn what_is_refused() {
        let world = world(|_| ());
        let headers = |name: &str, value: &str| {
            but(&right(), |request| {
                request.headers.insert(name.to_owned(), value.to_owned());
            })
        };
        for (asked, status, error) in [
            (headers("metadata", "True"), 400, "bad_request_102"),
            (headers("metadata", ""), 400, "bad_request_102"),
            (but(&right(), |request| request.headers.clear()), 400, "bad_request_102"),
            (headers("x-forwarded-for", "10.0.0.1"), 400, "invalid_request"),
            (but(&right(), |request| "POST".clone_into(&mut request.method)), 405, "method_not_allowed"),
            (but(&right(), |request| request.path.push('/')), 404, "not_found"),
            (
                but(&right(), |request| "2017-09-01".clone_into(&mut request.query[0].1)),
                400,
                "invalid_request",
            ),
            (but(&right(), |request| drop(request.query.remove(0))), 400, "invalid_request"),
            (but(&right(), |request| drop(request.query.remove(1))), 400, "invalid_request"),
            (
                but(&right(), |request| "https://x.example".clone_into(&mut request.query[1].1)),
                400,
                "invalid_resource",
            ),
            (but(&right(), |request| request.query[1].1.push_str(".default")), 400, "invalid_resource"),
            (with("resource", "https://vault.azure.net"), 400, "invalid_request"),
            (with("mi_res_id", &identity_resource("infra-prod")), 400, "invalid_request"),
            (with("clientid", IDENTITY), 400, "invalid_request"),
            (with("client_id", ""), 400, "invalid_request"),
            (
                but(&with("client_id", IDENTITY), |request| {
                    request.query.push(("object_id".to_owned(), IDENTITY_OBJECT.to_owned()));
                }),
                400,
                "invalid_request",
            ),
        ] {
            let (got, body) = read(answer(&asked, &world));
            assert_eq!((got, body["error"].as_str()), (status, Some(error)), "{asked:?}");
        }
    }
}
