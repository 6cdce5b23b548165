//! What endpoints answer: one shape for tokens, with a date in several spellings, and several shapes for refusals.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::{Error, Host};
use crate::{clock, error::Hints, http::Answer, secret::Secret, text};

/// A token, and what the answer says of it.
#[derive(Debug)]
pub struct Granted {
    /// The token.
    pub secret: Secret,
    /// How long it lives from now.
    pub lifetime: Duration,
    /// Whose it is, where the answer repeats that.
    pub client_id: Option<String>,
    /// The same, by object id.
    pub object_id: Option<String>,
    /// The same, by resource id.
    pub resource_id: Option<String>,
}

/// Reads an answer. `named` is whether the request said which identity.
pub fn read(host: &Host, named: bool, answer: &Answer) -> Result<Granted, Error> {
    let mut body: Map<String, Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
    let unreadable = |reason| Error::Unreadable { host: host.name(), status: answer.status, reason };
    if answer.status != 200 {
        let message = message(&body);
        return Err(Error::Refused {
            host: host.name(),
            status: answer.status,
            hints: hints(host, named, answer.status, &message),
            message,
            retry_after: answer.retry_after,
        });
    }
    let secret = match body.remove("access_token") {
        Some(Value::String(token)) => Secret::new(token),
        _ => return Err(unreadable("no JSON object with an `access_token`")),
    };
    if secret.expose().is_empty() || secret.expose().contains(|c: char| c.is_control() || c == ' ') {
        return Err(unreadable("its `access_token` is none"));
    }
    let lifetime = body.get("expires_in").and_then(number).map(Duration::from_secs).or_else(|| {
        expires_on(body.get("expires_on")?)
            .map(|expiry| expiry.saturating_sub(clock::now()))
            .map(Duration::from_secs)
    });
    if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
        return Err(unreadable("its token has expired already; is this machine's clock right?"));
    }
    let text = |name: &str| {
        let text = body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(ToOwned::to_owned)
    };
    Ok(Granted {
        secret,
        lifetime: lifetime.ok_or_else(|| unreadable("it does not say when the token expires"))?,
        client_id: text("client_id"),
        object_id: text("object_id"),
        resource_id: text("msi_res_id").or_else(|| text("mi_res_id")),
    })
}

/// A number, as such or as text.
fn number(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    Some(number?.min(clock::LAST))
}

/// Seconds since 1970: as a number, as text, or as the endpoint of 2017 writes dates: `06/20/2019 02:57:58 +00:00` on
/// Linux, `1/16/2020 5:24:12 AM +00:00` on Windows.
pub fn expires_on(value: &Value) -> Option<u64> {
    number(value).or_else(|| seconds_of_rfc3339(value.as_str()?)).or_else(|| {
        let rest = value.as_str()?.trim().strip_suffix("+00:00")?.trim_end();
        let (rest, afternoon) = match (rest.strip_suffix("AM"), rest.strip_suffix("PM")) {
            (Some(rest), _) => (rest, Some(false)),
            (None, Some(rest)) => (rest, Some(true)),
            (None, None) => (rest, None),
        };
        let (date, time) = rest.trim_end().split_once(' ')?;
        let numbers = |text: &str, between: char| -> Option<[u64; 3]> {
            let numbers: Vec<u64> =
                text.split(between).map(|part| part.parse().ok()).collect::<Option<_>>()?;
            numbers.try_into().ok()
        };
        let ([month, day, year], [hour, minute, second]) = (numbers(date, '/')?, numbers(time, ':')?);
        let hour = match afternoon {
            None => hour,
            Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        };
        seconds_of_rfc3339(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
    })
}

/// Also with a space for the `T`, as Automation has been seen to write it.
fn seconds_of_rfc3339(text: &str) -> Option<u64> {
    let at: SystemTime = humantime::parse_rfc3339_weak(text.trim()).ok()?;
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// An endpoint's own words: `error_description`, `message`, Service Fabric's `error.message`, or the bare `error`.
fn message(body: &Map<String, Value>) -> String {
    let error = body.get("error");
    let words = [
        body.get("error_description"),
        body.get("message"),
        error.and_then(|error| error.get("message")),
        body.get("Message"),
        error,
    ];
    let words = words.into_iter().flatten().find_map(Value::as_str);
    text::one_line(words.unwrap_or_default())
}

/// The next steps after a refusal.
fn hints(host: &Host, named: bool, status: u16, message: &str) -> Hints {
    let several = message.to_ascii_lowercase().contains("multiple user assigned identities");
    if several {
        return Hints::with_lines(
            "this host has several user-assigned identities; say which, in one of these ways (AZURE_CLIENT_ID counts as the \
             first):",
            &["--client-id <client id>", "--object-id <object (principal) id>", "--resource-id /subscriptions/…/<name>"],
        )
        .and("`az identity list --query \"[].{name:name, clientId:clientId, id:id}\" --output table` shows them");
    }
    if !(400..500).contains(&status) || matches!(status, 408 | 429) {
        return Hints::none();
    }
    let assigned = "see that the identity is assigned to this host, and that its id is right";
    let or_named = |hints: Hints| {
        let by_itself = "a user-assigned identity is never chosen by itself here: pass `--client-id`";
        if named { hints } else { hints.and(by_itself) }
    };
    match host {
        Host::AppService(app_service) if app_service.is_ours() => Hints::one(
            "this is the endpoint of another azfed, around this one, which is logged in as one identity: log in as another with \
             `--source`, or with `--assertion-file` or `--assertion-env`",
        ),
        Host::Imds(_) => Hints::one(format!(
            "{assigned}: `az vm identity assign --name <vm> --resource-group <group> --identities <identity>`"
        )),
        Host::AppService(app_service) if app_service.is_automation() => {
            or_named(Hints::one(format!("{assigned}: the Automation account's page Identity in the portal")))
        }
        Host::AppService(_) => or_named(Hints::one(format!(
            "{assigned}: `az webapp identity assign`, `az functionapp identity assign` or `az containerapp identity assign`"
        ))),
        Host::Arc(_) if named && message.to_ascii_lowercase().contains("identity not found") => Hints::one(
            "an id stands for a user-assigned identity here: leave `--client-id` and AZURE_CLIENT_ID away for the server's own, \
             else see that the identity is assigned to this server",
        ),
        Host::Arc(_) => Hints::one(format!(
            "{assigned}: `az connectedmachine show --name <server> --resource-group <group> --query identity`"
        )),
        Host::ServiceFabric(_) => {
            Hints::one("the identity is assigned in the application's resource, and named in its manifest")
        }
        Host::AzureMl(_) => Hints::one(
            "name the compute's identity: pass `--client-id`, or see that the compute sets DEFAULT_IDENTITY_CLIENT_ID",
        ),
        Host::CloudShell(_) => Hints::one("open a new session, signed in as the user who should act"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dates() {
        for (value, expected) in [
            (json!(1_700_000_000), Some(1_700_000_000)),
            (json!("1700000000"), Some(1_700_000_000)),
            (json!(u64::MAX), Some(clock::LAST)),
            (json!("18446744073709551615"), Some(clock::LAST)),
            (json!("06/20/2019 02:57:58 +00:00"), Some(1_560_999_478)),
            (json!("1/16/2020 5:24:12 AM +00:00"), Some(1_579_152_252)),
            (json!("1/16/2020 12:24:12 AM +00:00"), Some(1_579_134_252)),
            (json!("1/16/2020 12:24:12 PM +00:00"), Some(1_579_177_452)),
            (json!("1/16/2020 5:24:12 PM +00:00"), Some(1_579_195_452)),
            (json!("2020-01-16T17:24:12Z"), Some(1_579_195_452)),
            (json!("2020-01-16 17:24:12Z"), Some(1_579_195_452)),
            (json!("2020-01-16"), None),
            (json!("13/16/2020 5:24:12 +00:00"), None),
            (json!("1/16 5:24:12 +00:00"), None),
            (json!(null), None),
        ] {
            assert_eq!(expires_on(&value), expected, "{value}");
        }
    }

    #[test]
    fn words_of_a_refusal() {
        for (body, expected) in [
            (
                json!({"error": "invalid_request", "error_description": "Identity not found"}),
                "Identity not found",
            ),
            (json!({"statusCode": 400, "message": "No Managed Identity found"}), "No Managed Identity found"),
            (json!({"error": {"code": "ManagedIdentityNotFound", "message": "no\n::x"}}), "no : :x"),
            (json!({"error": "bad_resource_102"}), "bad_resource_102"),
            (json!({}), ""),
        ] {
            assert_eq!(message(body.as_object().unwrap()), expected);
        }
    }
}
