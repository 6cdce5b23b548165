//! A server that repeats the request in its error answer, as a proxy, a debug build or a hostile one does.

use std::fmt::Write as _;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::message::{Answer, Request, answer};

/// How the request is spelled in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spelling {
    /// `Authorization: Bearer …; client_assertion=…&`
    Form,
    /// `{"client_assertion":"…"}`
    Json,
    /// `assertion:…`
    Colon,
    /// Base64.
    Base64,
    /// The same for URLs.
    Base64Url,
    /// Escaped as in a URL, more than it would have to be.
    Url,
    /// Each character escaped as JSON may.
    Escaped,
    /// In lines of 64 characters.
    Folded,
    /// What follows the last dot alone.
    Signature,
}

impl Spelling {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Form,
        Self::Json,
        Self::Colon,
        Self::Base64,
        Self::Base64Url,
        Self::Url,
        Self::Escaped,
        Self::Folded,
        Self::Signature,
    ];
}

/// The refusal, with the request in each field that a client may show.
pub(crate) fn refuse(status: u16, spelling: Spelling, kind: &str, request: &Request) -> Answer {
    let words = spell(spelling, &carried(request));
    let content = if spelling == Spelling::Escaped {
        words.chars().fold(String::new(), |mut text, character| {
            let _ = write!(text, "\\u{:04x}", u32::from(character));
            text
        })
    } else {
        json!(words).to_string().trim_matches('"').to_owned()
    };
    let body = if kind == "arm" {
        json!({ "error": { "code": "@", "message": "@" } })
    } else {
        let names = ["error", "error_description", "timestamp", "trace_id", "correlation_id", "message"];
        json!(names.map(|name| (name, "@")).into_iter().collect::<std::collections::BTreeMap<_, _>>())
    };
    let mut answer = answer(status, "application/json", body.to_string().replace('@', &content));
    // a header holds no line break
    if let Ok(value) = words.replace(['\r', '\n'], " ").parse::<hyper::header::HeaderValue>() {
        for name in ["x-ms-request-id", "x-vss-e2eid"] {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

/// What a request authenticates itself with.
fn carried(request: &Request) -> Vec<(String, String)> {
    let headers = ["authorization", "x-identity-header", "secret"];
    let headers =
        headers.iter().filter_map(|name| Some(((*name).to_owned(), request.header(name)?.to_owned())));
    let form = request.form().into_iter().filter(|(name, _)| name == "client_assertion");
    headers.chain(form).collect()
}

fn spell(spelling: Spelling, carried: &[(String, String)]) -> String {
    let form = || carried.iter().fold(String::new(), |text, (name, value)| format!("{text}{name}={value}&"));
    match spelling {
        Spelling::Form | Spelling::Escaped => form(),
        Spelling::Json => {
            json!(carried.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()).to_string()
        }
        Spelling::Colon => {
            carried.iter().fold(String::new(), |text, (_, value)| format!("{text}assertion:{value}"))
        }
        Spelling::Base64 => STANDARD.encode(form()),
        Spelling::Base64Url => URL_SAFE.encode(form()),
        Spelling::Url => form().bytes().fold(String::new(), |mut text, byte| {
            if byte.is_ascii_alphanumeric() {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
            text
        }),
        Spelling::Folded => {
            let form = form();
            let lines: Vec<_> = form.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            lines.join("\r\n")
        }
        Spelling::Signature => {
            let values = carried.iter().filter_map(|(_, value)| value.rsplit(['.', ' ']).next());
            values.collect::<Vec<_>>().join(" ")
        }
    }
}
