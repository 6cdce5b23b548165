//! Requests as they arrived, and answers.

use std::{collections::BTreeMap, io};

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Response, StatusCode, body::Bytes};
use serde::Serialize;
use serde_json::Value;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Answer = Response<Body>;

/// Where a request came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Door {
    #[default]
    Http,
    Tls,
    ServiceFabric,
}

/// A request, read whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub method: String,
    /// Host without port, lower case.
    pub host: String,
    /// `http` or `https`, and the Host header as it came: what to put into URLs of answers.
    pub base: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub connection: u64,
    pub door: Door,
    /// The name by which the client asked for a certificate.
    pub server_name: Option<String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn form(&self) -> Vec<(String, String)> {
        match self.header("content-type") {
            Some(kind) if kind.starts_with("application/x-www-form-urlencoded") => {
                url::form_urlencoded::parse(&self.body).into_owned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The token of `Authorization: Bearer`, whose scheme has no letter case (RFC 9110, 11.1).
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }
}

/// A request as the tests see it.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    /// Its number, from 0.
    pub seq: usize,
    /// When it arrived, in milliseconds since the start.
    pub at_ms: u128,
    /// What it was: `github.assertion`, `azure-devops.assertion`, `entra.token`, `entra.discovery`, `jwks`, `arm`,
    /// `vault`, `blob`, `unknown`; a host's managed identity endpoint: `imds`, `app-service`, `automation`, `arc`, `service-fabric`, `azure-ml`, `cloud-shell`, `token-proxy`; other CIs'
    /// and clouds': `forgejo.assertion`, `gitea.assertion`, `google`, `aws`.
    pub kind: &'static str,
    /// The method.
    pub method: String,
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
    /// The query's pairs.
    pub query: Vec<(String, String)>,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The form's pairs.
    pub form: Vec<(String, String)>,
    /// Length of the body.
    pub body_len: usize,
    /// The body as text, up to 64 KiB of it.
    pub body: String,
    /// Number of the TCP connection.
    pub connection: u64,
    /// Whether over TLS.
    pub tls: bool,
    /// The name by which the client asked for a certificate.
    pub server_name: Option<String>,
    /// The answer's status; 0 where there was none.
    pub status: u16,
    /// The AADSTS number of a refusal.
    pub aadsts: Option<u32>,
}

pub(crate) fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    if !content_type.is_empty() {
        answer.headers_mut().insert("content-type", content_type.parse().unwrap());
    }
    answer
}

pub(crate) fn json(status: u16, value: &Value) -> Answer {
    answer(status, "application/json; charset=utf-8", value.to_string())
}

pub(crate) fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    answer.headers_mut().insert(name, value.parse().unwrap());
    answer
}
