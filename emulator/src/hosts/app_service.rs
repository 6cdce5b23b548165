//! App Service, Functions, Container Apps.
//!
//! Source: Microsoft Learn "How to use managed identities for App Service and Azure Functions"; the refusal's form as users
//! have posted it (MicrosoftDocs/azure-docs#43543).

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use uuid::Uuid;

use super::{Choice, Parameters, Refusal, issue, parameters, settle};
use crate::{
    message::{Answer, Request, json},
    world::{HostIdentity, World},
};

const NOT_FOUND: &str = "No Managed Identity found for specified ClientId/ResourceId/PrincipalId.";

fn refused(status: u16, message: &str) -> Refusal {
    let correlation = Uuid::new_v4().to_string();
    Refusal::new(status, json!({ "StatusCode": status, "Message": message, "CorrelationId": correlation }))
}

/// `GET /msi/token`
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    if request.method != "GET" {
        return Err(refused(405, "The requested resource does not support this HTTP method."));
    }
    if request.header("x-forwarded-for").is_some() {
        return Err(refused(400, "The X-Forwarded-For header is not allowed."));
    }
    match request.query("api-version") {
        Some("2019-08-01") => version_2019(request, world),
        Some("2017-09-01") => version_2017(request, world),
        _ => Err(refused(400, "The api-version is missing or not supported.")),
    }
}

fn authorise(request: &Request, header: &str, world: &World) -> Result<(), Refusal> {
    if request.header(header) == Some(world.host_secret.as_str()) {
        Ok(())
    } else {
        Err(refused(401, &format!("The {header} header is missing or wrong.")))
    }
}

fn version_2019(request: &Request, world: &World) -> Result<Answer, Refusal> {
    authorise(request, "x-identity-header", world)?;
    let known = ["api-version", "resource", "client_id", "principal_id", "object_id", "mi_res_id"];
    let parameters = parameters(&request.query, &known).map_err(|what| refused(400, &what))?;
    let choice = Choice::of(&parameters, [&["client_id"], &["principal_id", "object_id"], &["mi_res_id"]]);
    let (identity, resource) = found(choice, &parameters, world)?;
    let issued = issue(&identity, resource, world).ok_or_else(|| unknown(resource))?;
    Ok(json(
        200,
        &json!({
            "access_token": issued.jwt, "client_id": identity.client_id, "resource": resource, "token_type": "Bearer",
            "expires_on": (issued.at + issued.lifetime).to_string(), "not_before": issued.at.to_string(),
        }),
    ))
}

fn version_2017(request: &Request, world: &World) -> Result<Answer, Refusal> {
    authorise(request, "secret", world)?;
    let known = ["api-version", "resource", "clientid"];
    let parameters = parameters(&request.query, &known).map_err(|what| refused(400, &what))?;
    let choice = Choice::of(&parameters, [&["clientid"], &[], &[]]);
    let (identity, resource) = found(choice, &parameters, world)?;
    let issued = issue(&identity, resource, world).ok_or_else(|| unknown(resource))?;
    let expires_on = date(issued.at + issued.lifetime, world.lock().settings.windows_dates);
    Ok(json(
        200,
        &json!({ "access_token": issued.jwt, "expires_on": expires_on, "resource": resource, "token_type": "Bearer" }),
    ))
}

/// Where none is named, it is the system-assigned one or none.
fn found<'a>(
    choice: Option<Choice<'_>>,
    parameters: &Parameters<'a>,
    world: &World,
) -> Result<(HostIdentity, &'a str), Refusal> {
    let settings = world.lock().settings.clone();
    let resource = parameters.get("resource").copied();
    let resource = resource.ok_or_else(|| refused(400, "The resource parameter is missing."))?;
    let choice = choice.ok_or_else(|| refused(400, "Only one identity may be named."))?;
    let found = match choice {
        Choice::Unnamed => settings.system_assigned.then(HostIdentity::system),
        named => named.find(&settings),
    };
    Ok((found.ok_or_else(|| refused(400, NOT_FOUND))?, resource))
}

fn unknown(resource: &str) -> Refusal {
    refused(
        400,
        &format!(
            "AADSTS500011: The resource principal named {resource} was not found in the tenant named Contoso."
        ),
    )
}

/// The endpoint of 2017's dates: `06/20/2019 02:57:58 +00:00`, on Windows `6/20/2019 2:57:58 AM +00:00`.
fn date(seconds: u64, windows: bool) -> String {
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    let numbers: Vec<u32> =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    let [year, month, day, hour, minute, second] = numbers.try_into().unwrap();
    if windows {
        let half = if hour < 12 { "AM" } else { "PM" };
        let hour = if hour % 12 == 0 { 12 } else { hour % 12 };
        format!("{month}/{day}/{year} {hour}:{minute:02}:{second:02} {half} +00:00")
    } else {
        format!("{month:02}/{day:02}/{year} {hour:02}:{minute:02}:{second:02} +00:00")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, object_of, read, world},
        world::{IDENTITY, IDENTITY_OBJECT, NEIGHBOUR_OBJECT, SYSTEM_IDENTITY_OBJECT, identity_resource},
    };

    fn right(world: &World) -> Request {
        let query = [("api-version", "2019-08-01"), ("resource", "https://vault.azure.net")];
        get(&query, &[("x-identity-header", &world.host_secret)])
    }

    fn older(world: &World) -> Request {
        let query = [("api-version", "2017-09-01"), ("resource", "https://vault.azure.net")];
        get(&query, &[("secret", &world.host_secret)])
    }

    fn with(request: &Request, name: &str, value: &str) -> Request {
        but(request, |request| request.query.push((name.to_owned(), value.to_owned())))
    }

    #[test]
    fn which_identity() {
        let all = world(|_| ());
        for (name, value, expected) in [
            ("client_id", IDENTITY, IDENTITY_OBJECT),
            ("object_id", NEIGHBOUR_OBJECT, NEIGHBOUR_OBJECT),
            ("principal_id", NEIGHBOUR_OBJECT, NEIGHBOUR_OBJECT),
            ("mi_res_id", &identity_resource("infra-prod"), IDENTITY_OBJECT),
        ] {
            assert_eq!(object_of(answer(&with(&right(&all), name, value), &all)), expected);
        }
        assert_eq!(object_of(answer(&right(&all), &all)), SYSTEM_IDENTITY_OBJECT);
        assert_eq!(object_of(answer(&with(&older(&all), "clientid", IDENTITY), &all)), IDENTITY_OBJECT);
        assert_eq!(object_of(answer(&older(&all), &all)), SYSTEM_IDENTITY_OBJECT);
        // not even the only one, where it is not named
        let only = world(|settings| {
            settings.system_assigned = false;
            settings.user_assigned.truncate(1);
        });
        let (status, body) = read(answer(&right(&only), &only));
        assert_eq!((status, body["Message"].as_str()), (400, Some(NOT_FOUND)));
        assert_eq!(object_of(answer(&with(&right(&only), "client_id", IDENTITY), &only)), IDENTITY_OBJECT);
    }

    #[test]
    fn what_is_refused() {
        let world = world(|_| ());
        let (right, older) = (right(&world), older(&world));
        let mixed = but(&right, |request| {
            let secret = request.headers.remove("x-identity-header").unwrap();
            request.headers.insert("secret".to_owned(), secret);
        });
        for (asked, status) in [
            (but(&right, |request| request.headers.clear()), 401),
            (mixed, 401),
            (
                but(&right, |request| drop(request.headers.insert("x-identity-header".into(), "x".into()))),
                401,
            ),
            (but(&right, |request| drop(request.headers.insert("x-forwarded-for".into(), "x".into()))), 400),
            (but(&right, |request| "POST".clone_into(&mut request.method)), 405),
            (but(&right, |request| "2018-02-01".clone_into(&mut request.query[0].1)), 400),
            (but(&right, |request| drop(request.query.remove(0))), 400),
            (but(&right, |request| drop(request.query.remove(1))), 400),
            (with(&right, "msi_res_id", &identity_resource("infra-prod")), 400),
            (with(&right, "clientid", IDENTITY), 400),
            (with(&right, "api-version", "2019-08-01"), 400),
            (with(&with(&right, "client_id", IDENTITY), "object_id", IDENTITY_OBJECT), 400),
            (with(&right, "client_id", IDENTITY_OBJECT), 400),
            (but(&older, |request| request.headers.clear()), 401),
            (with(&older, "client_id", IDENTITY), 400),
        ] {
            let (got, body) = read(answer(&asked, &world));
            assert_eq!((got, body["StatusCode"].as_u64()), (status, Some(status.into())), "{asked:?}");
        }
    }

    #[test]
    fn dates_of_2017() {
        for (seconds, linux, windows) in [
            (1_560_999_478, "06/20/2019 02:57:58 +00:00", "6/20/2019 2:57:58 AM +00:00"),
            (1_579_134_252, "01/16/2020 00:24:12 +00:00", "1/16/2020 12:24:12 AM +00:00"),
            (1_579_195_452, "01/16/2020 17:24:12 +00:00", "1/16/2020 5:24:12 PM +00:00"),
        ] {
            assert_eq!((date(seconds, false).as_str(), date(seconds, true).as_str()), (linux, windows));
        }
        let world = world(|_| ());
        let (_, body) = read(answer(&older(&world), &world));
        assert!(body["expires_on"].as_str().unwrap().ends_with(" +00:00"), "{body}");
    }
}
