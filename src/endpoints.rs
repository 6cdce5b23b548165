//! What each client already knows how to ask, served on loopback for one child process: a managed identity endpoint in
//! the forms of App Service and of the instance metadata service, and an OIDC request URL.
//!
//! Sources: Microsoft Learn "Use managed identities for App Service" (`IDENTITY_ENDPOINT`, `MSI_ENDPOINT`), "How to use
//! managed identities … on a virtual machine" (`/metadata/identity/oauth2/token`), actions/toolkit
//! `packages/core/src/oidc-utils.ts` and hashicorp/go-azure-sdk `sdk/auth/ado_pipeline_oidc_authorizer.go` (the OIDC request).

pub mod vault;

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    net::Ipv4Addr,
    rc::Rc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::AbortHandle,
};

use self::vault::{Lookup, Vault};
use crate::{clock, identifiers::Scope, secret::Secret};

/// Connections that are open at once; a further one takes the place of one that is silent.
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

/// Where endpoints are, and what opens them.
#[derive(Debug)]
pub struct Address {
    port: u16,
    keys: Keys,
    /// What clients call them, in `Host`.
    names: [String; 2],
}

impl Address {
    /// An address on 127.0.0.1.
    pub fn new(port: u16, keys: Keys) -> Self {
        let names = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}"));
        Self { port, keys, names }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
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
}

/// Open endpoints.
#[derive(Debug)]
pub struct Endpoints {
    listener: TcpListener,
    address: Address,
}

impl Endpoints {
    /// Opens a random port on 127.0.0.1.
    pub async fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let address = Address::new(port, Keys::generate().map_err(std::io::Error::other)?);
        Ok(Self { listener, address })
    }

    /// Where they are.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves until it is dropped. A stuck client holds up no other: where there is no room left, the connection that
    /// has been silent for longest makes room.
    pub async fn serve(self, vault: Rc<Vault>) {
        let endpoints = Rc::new(self);
        let connections = Rc::new(Connections::default());
        loop {
            connections.make_room();
            let Ok((stream, _)) = endpoints.listener.accept().await else {
                // out of descriptors, most likely
                connections.drop_silent();
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            // an answer is one small write, and its reader waits for it
            let _ = stream.set_nodelay(true);
            let (endpoints, vault) = (Rc::clone(&endpoints), Rc::clone(&vault));
            connections.add(|answering, done| async move {
                endpoints.address.serve_connection(stream, &vault, &answering).await;
                drop(done);
            });
        }
    }
}

/// The connections that are open, oldest first.
#[derive(Default)]
struct Connections {
    open: RefCell<BTreeMap<u64, Connection>>,
    next: Cell<u64>,
}

struct Connection {
    answering: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// Takes a connection off the list when it ends, however it ends.
struct Done {
    connections: Rc<Connections>,
    number: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.number);
    }
}

impl Connections {
    fn add<F: Future<Output = ()> + 'static>(self: &Rc<Self>, serve: impl FnOnce(Rc<Cell<bool>>, Done) -> F) {
        let number = self.next.replace(self.next.get() + 1);
        let answering = Rc::new(Cell::new(false));
        let done = Done { connections: Rc::clone(self), number };
        let task = tokio::task::spawn_local(serve(Rc::clone(&answering), done)).abort_handle();
        self.open.borrow_mut().insert(number, Connection { answering, task });
    }

    fn make_room(&self) {
        if self.open.borrow().len() >= MOST_CONNECTIONS {
            self.drop_silent();
        }
    }

    /// Ends the oldest connection on which no answer is being made.
    fn drop_silent(&self) {
        let oldest = {
            let open = self.open.borrow();
            open.iter().find(|(_, connection)| !connection.answering.get()).map(|(number, _)| *number)
        };
        let connection = oldest.and_then(|number| self.open.borrow_mut().remove(&number));
        if let Some(connection) = connection {
            connection.task.abort();
        }
    }
}

type Answer = Response<Full<Bytes>>;

impl Address {
    /// Serves one connection to its end. `answering` is whether an answer is being made.
    pub async fn serve_connection<S>(&self, stream: S, vault: &Rc<Vault>, answering: &Cell<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let service = service_fn(|request| async move {
            answering.set(true);
            let answer = self.answer(&request, vault).await;
            answering.set(false);
            Ok::<_, Infallible>(answer)
        });
        // a connection that breaks is its client's affair
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(LONGEST_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

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
            let name = if request.method() == Method::POST { "oidcToken" } else { "value" };
            return oidc(&Parameters::of(request), vault, name).await;
        }
        if path == APP_SERVICE {
            let parameters = Parameters::of(request);
            let version = parameters.get("api-version");
            let name = if version == Some("2017-09-01") { "secret" } else { "x-identity-header" };
            if !same(header(name), &self.keys.identity) {
                return empty(StatusCode::UNAUTHORIZED);
            }
            let form = match version {
                Some("2019-08-01") => Form::AppService,
                Some("2017-09-01") => Form::Legacy,
                _ => return refused("an api-version of 2019-08-01 or 2017-09-01 is needed"),
            };
            return token(&parameters, vault, form).await;
        }
        let key = path.strip_suffix(METADATA).and_then(|key| key.strip_prefix('/')).unwrap_or_default();
        if !same(key.as_bytes(), &self.keys.path) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        if !header("metadata").eq_ignore_ascii_case(b"true") {
            return refused("the header `Metadata: true` is missing");
        }
        token(&Parameters::of(request), vault, Form::Metadata).await
    }

    /// A browser that was led here by a name of its own (DNS rebinding), a proxy, a method that changes something. Azure
    /// DevOps' form of the OIDC request is a POST: Terraform takes it wherever a service connection's id is set.
    fn refuse_stranger<B>(&self, request: &Request<B>) -> Option<Answer> {
        let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        if !self.names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(host)) {
            return Some(empty(StatusCode::MISDIRECTED_REQUEST));
        }
        let forwarded_for = HeaderName::from_static("x-forwarded-for");
        if [header::ORIGIN, forwarded_for, header::FORWARDED]
            .iter()
            .any(|name| request.headers().contains_key(name))
        {
            return Some(empty(StatusCode::FORBIDDEN));
        }
        let is_known = request.method() == Method::GET
            || request.method() == Method::POST && request.uri().path() == OIDC;
        (!is_known).then(|| empty(StatusCode::METHOD_NOT_ALLOWED))
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

const TWICE: &str = "a parameter comes twice";

/// A request's parameters, as they came.
struct Parameters<'r>(Vec<(Cow<'r, str>, Cow<'r, str>)>);

impl<'r> Parameters<'r> {
    fn of<B>(request: &'r Request<B>) -> Self {
        Self(url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect())
    }

    /// The value of a parameter; an empty one is none.
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(value.as_ref()).filter(|value| !value.is_empty())
    }

    /// Whether a parameter comes twice, in whatever letter case: which of the two is meant, nobody can tell.
    fn is_ambiguous(&self) -> bool {
        let is_again = |(place, (name, _)): (usize, &(Cow<'_, str>, _))| {
            self.0.iter().take(place).any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        self.0.iter().enumerate().any(is_again)
    }

    /// Whether one that could choose an identity, whatever its spelling, chooses another than this client.
    fn name_another(&self, client: &str) -> bool {
        let is = |name: &str, known: &str| {
            let letters = name.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase());
            letters.eq(known.bytes())
        };
        self.0.iter().filter(|(_, value)| !value.is_empty()).any(|(name, value)| {
            let by_other_ids = ["objectid", "principalid", "miresid", "msiresid", "resourceid"];
            if is(name, "clientid") {
                !value.eq_ignore_ascii_case(client)
            } else {
                by_other_ids.iter().any(|known| is(name, known))
            }
        })
    }
}

/// What a client gets beside the token.
#[derive(Serialize)]
struct Granted<'a> {
    client_id: &'a str,
    expires_in: String,
    expires_on: String,
    not_before: String,
    resource: &'a str,
    token_type: &'static str,
}

/// The answer with a token. Large enough at once: a buffer that grew would leave pieces of the token behind. A token that
/// is plain is not searched, each time, for what JSON would escape: that was a quarter of an answer's work.
fn with_token(token: &str, is_plain: bool, granted: &Granted<'_>) -> serde_json::Result<Secret> {
    let rest = serde_json::to_string(granted)?;
    let mut body = String::with_capacity(token.len() + rest.len() + 32);
    body.push_str("{\"access_token\":");
    if is_plain {
        body.push('"');
        body.push_str(token);
        body.push('"');
    } else {
        body.push_str(&serde_json::to_string(token)?);
    }
    body.push(',');
    body.push_str(rest.trim_start_matches('{'));
    Ok(Secret::new(body))
}

async fn token(parameters: &Parameters<'_>, vault: &Rc<Vault>, form: Form) -> Answer {
    if parameters.is_ambiguous() {
        return refused(TWICE);
    }
    if parameters.name_another(vault.client()) {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "Identity not found: this job is logged in as another one",
            None,
        );
    }
    let scope = parameters.get("resource").and_then(|resource| resource.parse::<Scope>().ok());
    let Some(scope) = scope else {
        return refused("the resource is missing or is none");
    };
    match vault.access_token(&scope).await {
        Lookup::Granted(token) => {
            // by the clock as it is now: it is the one that the client will look at
            let (now, left) = (clock::now(), token.left());
            let expires_on = now.saturating_add(left);
            let expires_on =
                if form == Form::Legacy { legacy_date(expires_on) } else { expires_on.to_string() };
            let granted = Granted {
                client_id: vault.client(),
                expires_in: left.to_string(),
                expires_on,
                not_before: token.issued_at.min(now).to_string(),
                resource: scope.resource(),
                token_type: "Bearer",
            };
            match with_token(token.secret.expose(), token.is_plain, &granted) {
                Ok(body) => answer(StatusCode::OK, body),
                Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
            }
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

/// An assertion under the name that the form of the request has for it.
async fn oidc(parameters: &Parameters<'_>, vault: &Rc<Vault>, name: &str) -> Answer {
    if parameters.is_ambiguous() {
        return refused(TWICE);
    }
    match vault.assertion(parameters.get("audience")).await {
        Ok(assertion) => answer(
            StatusCode::OK,
            Secret::new(json!({ "count": 1, name: assertion.jwt.expose() }).to_string()),
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
    // the instance metadata service's form, and App Service's: clients of the one do not read the other
    let body: Value = json!({
        "error": code,
        "error_description": description,
        "statusCode": status.as_u16(),
        "message": description,
    });
    let mut answer = answer(status, Secret::new(body.to_string()));
    if let Some(wait) = wait {
        answer.headers_mut().insert("retry-after", HeaderValue::from(wait.as_secs().max(1)));
    }
    answer
}

/// A body that is overwritten once it has been sent.
struct Body(Secret);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

fn answer(status: StatusCode, body: Secret) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_owner(Body(body))));
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
    use crate::entra::AccessToken;

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
    fn every_token_is_json() {
        let scope: Scope = "https://vault.azure.net".parse().unwrap();
        for (text, is_plain) in [("eyJ.e30.c2ln", true), ("", true), ("a\"b", false), ("a\\b\u{1}é", false)]
        {
            let token = AccessToken::issued(Secret::new(text.to_owned()), scope.clone(), 1, 2);
            assert_eq!(token.is_plain, is_plain, "{text}");
            let granted = Granted {
                client_id: "1",
                expires_in: "2".to_owned(),
                expires_on: "3".to_owned(),
                not_before: "4".to_owned(),
                resource: "https://vault.azure.net",
                token_type: "Bearer",
            };
            let body = with_token(text, is_plain, &granted).unwrap();
            let read: Value = serde_json::from_str(body.expose()).unwrap();
            assert_eq!((&read["access_token"], &read["token_type"]), (&json!(text), &json!("Bearer")));
            assert_eq!(read.as_object().unwrap().len(), 7);
        }
    }

    #[test]
    fn the_date_of_2017() {
        assert_eq!(legacy_date(1_700_000_000), "11/14/2023 22:13:20 +00:00");
    }
}
