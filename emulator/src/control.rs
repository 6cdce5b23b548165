//! `/_emulator/…`: the same as the library's methods, for tests in other languages.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    hosts::{self, Host},
    issuers::{self, JobOverrides, Platform},
    message::{Answer, Request, answer as plain, json as as_json},
    workloads::{self, Workload},
    world::{FederatedCredential, Settings, World},
};

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Box<Answer>> {
    serde_json::from_slice(&request.body)
        .map_err(|error| Box::new(as_json(400, &json!({ "error": error.to_string() }))))
}

pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    act(request, world).unwrap_or_else(|refused| *refused)
}

fn act(request: &Request, world: &World) -> Result<Answer, Box<Answer>> {
    let done = || as_json(200, &json!({}));
    let path = request.path.trim_start_matches("/_emulator/");
    Ok(match (request.method.as_str(), path) {
        ("GET", "world") => as_json(200, &world.describe()),
        ("GET", "requests") => as_json(200, &json!(world.lock().requests)),
        ("DELETE", "requests") => {
            world.lock().requests.clear();
            done()
        }
        ("GET", "secrets") => as_json(200, &json!(world.lock().secrets)),
        ("GET", "trust") => as_json(200, &json!(world.lock().credentials)),
        ("POST", "trust") => {
            let credential: FederatedCredential = body(request)?;
            world.lock().credentials.push(credential);
            done()
        }
        ("DELETE", "trust") => {
            let subject: Value = body(request)?;
            world.lock().credentials.retain(|credential| subject["subject"] != credential.subject.as_str());
            done()
        }
        ("POST", "faults") => {
            let fault = body(request)?;
            world.lock().faults.push(fault);
            done()
        }
        ("DELETE", "faults") => {
            world.lock().faults.clear();
            done()
        }
        ("POST", "settings") => {
            let change: Value = body(request)?;
            let mut state = world.lock();
            let mut settings = json!(state.settings);
            if let (Some(settings), Some(change)) = (settings.as_object_mut(), change.as_object()) {
                settings.extend(change.clone());
            }
            let settings: Settings = serde_json::from_value(settings)
                .map_err(|error| Box::new(as_json(400, &json!({ "error": error.to_string() }))))?;
            state.settings = settings;
            drop(state);
            done()
        }
        ("POST", "reset") => {
            world.reset();
            done()
        }
        ("GET", path) if path.starts_with("env/") || path.starts_with("mint/") => {
            let (what, platform) = path.split_once('/').unwrap_or_default();
            let overrides = overrides(request);
            if let Ok(workload) = serde_json::from_value::<Workload>(json!(platform)) {
                return Ok(if what == "mint" {
                    plain(200, "text/plain", workloads::mint(world, workload, None, &overrides))
                } else {
                    variables(request, workloads::environment(world, workload, &overrides))
                });
            }
            let platform: Platform = serde_json::from_value(json!(platform))
                .map_err(|_| Box::new(as_json(404, &json!({ "error": "no such platform" }))))?;
            if what == "mint" {
                return Ok(plain(200, "text/plain", issuers::mint(world, platform, None, &overrides)));
            }
            variables(request, issuers::environment(world, platform, &overrides))
        }
        ("GET", path) if path.starts_with("host/") => {
            let host: Host = serde_json::from_value(json!(path.trim_start_matches("host/")))
                .map_err(|_| Box::new(as_json(404, &json!({ "error": "no such host" }))))?;
            variables(request, hosts::environment(world, host))
        }
        _ => as_json(404, &json!({ "error": "no such control" })),
    })
}

fn variables(request: &Request, pairs: Vec<(String, String)>) -> Answer {
    if request.query("format") == Some("sh") {
        let lines: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}='{}'\n", value.replace('\'', r"'\''")))
            .collect();
        return plain(200, "text/plain", lines.concat());
    }
    let object: serde_json::Map<String, Value> =
        pairs.into_iter().map(|(name, value)| (name, json!(value))).collect();
    as_json(200, &Value::Object(object))
}

fn overrides(request: &Request) -> JobOverrides {
    let text = |name: &str| request.query(name).map(ToOwned::to_owned);
    let number = |name: &str| request.query(name).and_then(|value| value.parse().ok());
    JobOverrides {
        subject: text("subject"),
        audience: text("audience"),
        issuer: text("issuer"),
        lifetime: number("lifetime"),
        not_before: number("not_before"),
        tampered: request.query("tampered").is_some(),
        permissions: text("permissions"),
        environment: text("environment"),
        subject_claim: text("subject_claim"),
    }
}
