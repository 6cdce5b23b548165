//! What each client already knows how to ask, served on loopback for one child process: a managed identity endpoint in
//! the forms of App Service and of the instance metadata service, and an OIDC request URL.
//!
//! Sources: Microsoft Learn "Use managed identities for App Service" (`IDENTITY_ENDPOINT`, `MSI_ENDPOINT`), "How to use
//! managed identities … on a virtual machine" (`/metadata/identity/oauth2/token`), actions/toolkit
//! `packages/core/src/oidc-utils.ts` (the OIDC request).

pub mod vault;

use std::{convert::Infallible, net::Ipv4Addr, rc::Rc, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::{net::TcpListener, sync::Semaphore};

use self::vault::{Lookup, Vault};
use crate::{identifiers::Scope, secret::Secret};

/// Connections that are served at once; more wait in the listener's queue.
const MOST_CONNECTIONS: usize = 512;
/// A client that does not finish its request, or is silent between two, is let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest request head.
const LONGEST_HEAD: usize = 16 << 10;

const APP_SERVICE: &str = "/msi/token";
const OIDC: &str = "/oidc/token";
const METADATA: &str = "/metadata/identity/oauth2/token";

/// The secrets of one process' endpoints: 256 random bits each, in hexadecimal.
#[derive(Debug)]
pub struct Keys {
    /// `IDENTITY_HEADER`, `MSI_SECRET`
    pub identity: Secret,
    /// `ARM_OIDC_REQUEST_TOKEN`
    pub oidc: Secret,
    /// Path of the metadata form, whose clients send no header.
    pub path: Secret,
}

impl Keys {
    /// New ones, from the operating system.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let key = || {
            let mut bytes = [0_u8; 32];
            getrandom::fill(&mut bytes)?;
            Ok::<_, getrandom::Error>(Secret::new(
                bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")),
            ))
        };
        Ok(Self { identity: key()?, oidc: key()?, path: key()? })
    }
}

/// Open endpoints.
#[derive(Debug)]
pub struct Endpoints {
    listener: TcpListener,
    port: u16,
    keys: Keys,
}

impl Endpoints {
    /// Opens a random port on 127.0.0.1.
    pub async fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port, keys: Keys::generate().map_err(std::io::Error::other)? })
    }

    /// The secrets.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// `IDENTITY_ENDPOINT`, `MSI_ENDPOINT`
    pub fn identity_url(&self) -> String {
        format!("http://127.0.0.1:{}{APP_SERVICE}", self.port)
    }

    /// `ARM_OIDC_REQUEST_URL`
    pub fn oidc_url(&self) -> String {
        format!("http://127.0.0.1:{}{OIDC}", self.port)
    }

    /// `ARM_MSI_ENDPOINT`, with its secret in the path.
    pub fn metadata_url(&self) -> Secret {
        Secret::new(format!("http://127.0.0.1:{}/{}{METADATA}", self.port, self.keys.path.expose()))
    }

    /// Serves until it is dropped. A stuck client holds up no other.
    pub async fn serve(self, vault: Rc<Vault>) {
        let endpoints = Rc::new(self);
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = endpoints.listener.accept().await else { continue };
            let (endpoints, vault) = (Rc::clone(&endpoints), Rc::clone(&vault));
            tokio::task::spawn_local(async move {
                let service = service_fn(|request| {
                    let (endpoints, vault) = (Rc::clone(&endpoints), Rc::clone(&vault));
                    async move { Ok::<_, Infallible>(endpoints.answer(&request, &vault).await) }
                });
                // a connection that breaks is its client's affair
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .max_buf_size(LONGEST_HEAD)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(place);
            });
        }
    }
}

type Answer = Response<Full<Bytes>>;

impl Endpoints {
    async fn answer<B>(&self, request: &Request<B>, vault: &Rc<Vault>) -> Answer {
        if let Some(refused) = self.refuse_stranger(request) {
            return refused;
        }
        let path = request.uri().path();
        let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        if path == OIDC {
            let given = header("authorization");
            let is_bearer = given.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
            if !is_bearer || !same(given.get(7..).unwrap_or_default(), &self.keys.oidc) {
                return empty(StatusCode::UNAUTHORIZED);
            }
            return oidc(request, vault).await;
        }
        if path == APP_SERVICE {
            let version = query(request, "api-version");
            let name = if version.as_deref() == Some("2017-09-01") { "secret" } else { "x-identity-header" };
            if !same(header(name), &self.keys.identity) {
                return empty(StatusCode::UNAUTHORIZED);
            }
            let form = match version.as_deref() {
                Some("2019-08-01") => Form::AppService,
                Some("2017-09-01") => Form::Legacy,
                _ => return refused("an api-version of 2019-08-01 or 2017-09-01 is needed"),
            };
            return token(request, vault, form).await;
        }
        let key = path.strip_suffix(METADATA).and_then(|key| key.strip_prefix('/')).unwrap_or_default();
        if !same(key.as_bytes(), &self.keys.path) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        if !header("metadata").eq_ignore_ascii_case(b"true") {
            return refused("the header `Metadata: true` is missing");
        }
        token(request, vault, Form::Metadata).await
    }

    /// A browser that was led here by a name of its own (DNS rebinding), a proxy, a method that changes something.
    fn refuse_stranger<B>(&self, request: &Request<B>) -> Option<Answer> {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let ours = [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        if !ours.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Some(empty(StatusCode::MISDIRECTED_REQUEST));
        }
        if ["origin", "x-forwarded-for", "forwarded"].iter().any(|name| request.headers().contains_key(*name))
        {
            return Some(empty(StatusCode::FORBIDDEN));
        }
        (request.method() != Method::GET).then(|| empty(StatusCode::METHOD_NOT_ALLOWED))
    }
}

/// How a token is asked for, and answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    AppService,
    Legacy,
    Metadata,
}

/// In constant time for secrets of the right length; the length is no secret.
fn same(given: &[u8], key: &Secret) -> bool {
    given.ct_eq(key.expose().as_bytes()).into()
}

fn query<B>(request: &Request<B>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut values = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let (_, value) = values.next()?;
    (!value.is_empty() && values.next().is_none()).then(|| value.into_owned())
}

async fn token<B>(request: &Request<B>, vault: &Rc<Vault>, form: Form) -> Answer {
    let client = query(request, "client_id").or_else(|| query(request, "clientid"));
    let others = ["object_id", "principal_id", "principalId", "mi_res_id", "msi_res_id"];
    if client.is_some_and(|client| !client.eq_ignore_ascii_case(vault.client()))
        || others.iter().any(|name| query(request, name).is_some())
    {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "Identity not found: this job is logged in as another one",
            None,
        );
    }
    let scope = query(request, "resource").and_then(|resource| resource.parse::<Scope>().ok());
    let Some(scope) = scope else {
        return refused("the resource is missing or is none");
    };
    match vault.access_token(&scope).await {
        Lookup::Granted(token) => {
            let left = token.expires_on.saturating_sub(crate::state::now());
            let expires_on = if form == Form::Legacy {
                legacy_date(token.expires_on)
            } else {
                token.expires_on.to_string()
            };
            let body = Secret::new(
                json!({
                    "access_token": token.secret.expose(),
                    "client_id": vault.client(),
                    "expires_in": left.to_string(),
                    "expires_on": expires_on,
                    "not_before": token.issued_at.to_string(),
                    "resource": scope.resource(),
                    "token_type": "Bearer",
                })
                .to_string(),
            );
            answer(StatusCode::OK, &body)
        }
        Lookup::NotAllowed => error(
            StatusCode::FORBIDDEN,
            "access_denied",
            "azfed was started with --allow-scope, and not for this resource",
            None,
        ),
        Lookup::Refused(reason) => error(StatusCode::BAD_REQUEST, "invalid_request", &reason, None),
        Lookup::Unavailable(reason, wait) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", &reason, Some(wait))
        }
    }
}

async fn oidc<B>(request: &Request<B>, vault: &Rc<Vault>) -> Answer {
    let audience = query(request, "audience");
    match vault.assertion(audience.as_deref()).await {
        Ok(assertion) => answer(
            StatusCode::OK,
            &Secret::new(json!({ "count": 1, "value": assertion.jwt.expose() }).to_string()),
        ),
        Err(reason) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            &reason,
            Some(Duration::from_secs(5)),
        ),
    }
}

/// `06/23/2026 10:11:12 +00:00`, as the endpoint of 2017 writes it.
fn legacy_date(seconds: u64) -> String {
    let rfc3339 = crate::sink::github::utc(seconds);
    let (date, time) = rfc3339.trim_end_matches('Z').split_once(' ').unwrap_or_default();
    let mut parts = date.split('-');
    let (year, month, day) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    format!("{month}/{day}/{year} {time} +00:00")
}

fn refused(reason: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, "invalid_request", reason, None)
}

fn error(status: StatusCode, code: &str, description: &str, wait: Option<Duration>) -> Answer {
    let body: Value = json!({ "error": code, "error_description": description });
    let mut answer = answer(status, &Secret::new(body.to_string()));
    if let Some(wait) = wait {
        answer.headers_mut().insert("retry-after", HeaderValue::from(wait.as_secs().max(1)));
    }
    answer
}

fn answer(status: StatusCode, body: &Secret) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.expose().as_bytes())));
    *answer.status_mut() = status;
    for (name, value) in [("content-type", "application/json; charset=utf-8"), ("cache-control", "no-store")]
    {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_different() {
        let keys = Keys::generate().unwrap();
        assert_eq!(keys.identity.expose().len(), 64);
        assert_ne!(keys.identity.expose(), keys.oidc.expose());
        assert_ne!(keys.oidc.expose(), keys.path.expose());
        assert!(
            same(keys.oidc.expose().as_bytes(), &keys.oidc)
                && !same(b"", &keys.oidc)
                && !same(keys.path.expose().as_bytes(), &keys.oidc)
        );
    }

    #[test]
    fn the_date_of_2017() {
        assert_eq!(legacy_date(1_700_000_000), "11/14/2023 22:13:20 +00:00");
    }
}
