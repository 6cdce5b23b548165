//! The one HTTP client: roots, proxies, time limits, no redirects, a size cap, errors without URLs.

mod pinned;
mod proxy;
mod request;

use std::{
    error::Error as _,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use reqwest::{
    Client, ClientBuilder, Method,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderValue},
    redirect,
};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    pki_types::{CertificateDer, pem::PemObject},
};
use tower_layer::Layer;
use tower_service::Service;

use self::proxy::{Proxies, Tunnel};
pub use self::{
    pinned::Thumbprint,
    request::{Carried, Request},
};
use crate::{
    env::{Env, names},
    identifiers::Endpoint,
    retry,
};

/// The longest answer that is read.
const LONGEST_BODY: usize = 1 << 20;
/// Name resolution, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same to an endpoint of this very host: where there is one, it answers at once.
const HOST_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One request with its answer; several of them fit into the default deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection opened ahead of time is not used when it has waited longer than this.
const PARKED_FOR: Duration = Duration::from_secs(20);

/// The next step where a certificate is not trusted.
pub const CERTIFICATE_HINT: &str = "a proxy that inspects TLS, or a server of your own? name its CA certificate, a PEM file, with SSL_CERT_FILE";

/// What went wrong between here and a server. Never shows a URL: some carry authorisation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// CA certificates were asked for by variable and there are none.
    #[error("{variable} is set, but no CA certificate could be read from it: {reason}")]
    NoRoots {
        /// `SSL_CERT_FILE` or `SSL_CERT_DIR`.
        variable: &'static str,
        /// What reading it said.
        reason: String,
    },
    /// The TLS library refused its own configuration.
    #[error("TLS could not be set up: {0}")]
    Tls(String),
    /// No answer, or half of one.
    #[error("{host}: {reason}")]
    Transport {
        /// Host and port.
        host: String,
        /// What happened, from the outermost cause to the innermost.
        reason: String,
    },
    /// Not even a connection.
    #[error("{host}: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What happened, from the outermost cause to the innermost.
        reason: String,
    },
    /// The server's certificate is not one to trust.
    #[error("{host}: {reason}")]
    Certificate {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential that cannot be sent.
    #[error("{host} was not asked: the credential for it has a character that no HTTP header can hold")]
    Unsendable {
        /// Host and port.
        host: String,
    },
    /// An answer larger than any that makes sense.
    #[error("{host} sent more than 1 MiB")]
    TooLarge {
        /// Host and port.
        host: String,
    },
    /// A variable that names no proxy to use.
    #[error("{variable} {problem}")]
    Proxy {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The proxy's own 407.
    #[error("{host} through the proxy {proxy}: {said} (407)")]
    ProxyLogin {
        /// Host and port.
        host: String,
        /// Host and port of the proxy.
        proxy: String,
        /// What that means.
        said: &'static str,
    },
    /// A redirect: never followed with a credential in hand.
    #[error("{host} redirected the request ({status}) to {target}, and a credential is never sent on")]
    Redirected {
        /// Host and port.
        host: String,
        /// The status.
        status: u16,
        /// Where to, host only.
        target: String,
    },
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::Unreachable { .. })
    }

    /// Whether this is the network's fault.
    pub fn is_network(&self) -> bool {
        self.is_transient() || matches!(self, Self::Certificate { .. } | Self::ProxyLogin { .. })
    }

    /// The next step, where it is the same whoever was asked.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRoots { .. } => {
                Some("unset the variable to use the system's certificates, or name a PEM file")
            }
            Self::Certificate { .. } => Some(CERTIFICATE_HINT),
            Self::Unsendable { .. } => Some(
                "look for a line break or a control character in the variable or file that it comes from",
            ),
            Self::Proxy { .. } => Some(
                "name an HTTP proxy in HTTPS_PROXY: http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with both \
                 percent-encoded",
            ),
            Self::ProxyLogin { .. } => Some(
                "give the proxy's user and password in HTTPS_PROXY, from a secret of the pipeline: \
                 http://USER:PASSWORD@HOST:PORT, both percent-encoded",
            ),
            _ => None,
        }
    }
}

/// What a server said.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, at most 1 MiB, without the secrets of the request.
    pub body: Vec<u8>,
    /// What `Retry-After` asks for.
    pub retry_after: Option<Duration>,
    /// The platform's own id of this request, for its support.
    pub request_id: Option<String>,
    /// The server's clock.
    pub date: Option<SystemTime>,
    /// What `WWW-Authenticate` asks for.
    pub challenge: Option<String>,
}

impl fmt::Debug for Answer {
    /// Without the body: it may be a credential.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Where one or more requests go.
#[derive(Debug, Clone)]
pub struct Channel {
    client: Client,
    park: Arc<AtomicBool>,
    /// The `Host` header, where it is not the URL's host.
    host: Option<HeaderValue>,
    /// What may stand between here and the server.
    proxies: Option<Arc<Proxies>>,
}

/// Makes channels that share one TLS configuration.
#[derive(Debug)]
pub struct Http {
    tls: ClientConfig,
    tls_without_roots: bool,
    proxies: Arc<Proxies>,
}

impl Http {
    /// Reads CA certificates, if any of these endpoints needs them.
    pub fn new<'e>(env: &Env, endpoints: impl IntoIterator<Item = &'e Endpoint>) -> Result<Self, Error> {
        let needed = endpoints.into_iter().any(Endpoint::is_https);
        let roots = if needed { roots(env)? } else { RootCertStore::empty() };
        let tls = tls()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls, tls_without_roots: !needed, proxies: Arc::new(Proxies::of(env)) })
    }

    /// A channel to one endpoint.
    pub fn channel(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        debug_assert!(
            !(endpoint.is_https() && self.tls_without_roots),
            "endpoint was not named to Http::new"
        );
        let builder = builder(self.tls.clone(), CONNECT_TIMEOUT);
        if endpoint.is_local() {
            return open(builder.no_proxy());
        }
        self.proxy_for(endpoint)?;
        let channel = open(self.proxies.apply(builder))?;
        Ok(Channel { proxies: Some(Arc::clone(&self.proxies)), ..channel })
    }

    /// The proxy that requests to an endpoint go through, host and port.
    pub fn proxy_for(&self, endpoint: &Endpoint) -> Result<Option<String>, Error> {
        self.proxies.of_endpoint(endpoint)
    }
}

/// A channel to an endpoint of the host that this runs on: never through a proxy, which would be asked for, and could
/// keep, a token of the host's identity. `pinned` is the server's certificate, where the host tells it.
pub fn host_channel(pinned: Option<&Thumbprint>) -> Result<Channel, Error> {
    let tls = match pinned {
        Some(thumbprint) => tls()?.dangerous().with_custom_certificate_verifier(Arc::new(thumbprint.clone())),
        None => tls()?.with_root_certificates(RootCertStore::empty()),
    };
    open(builder(tls.with_no_client_auth(), HOST_CONNECT_TIMEOUT).no_proxy())
}

/// A channel to a server inside the network, never through a proxy, and the endpoint as it is to be asked for. With
/// `name`, that is what its certificate has and what it is greeted by (RFC 6066, 3), and not the host of its URL.
pub fn named_channel(
    roots: RootCertStore,
    endpoint: &Endpoint,
    name: Option<&str>,
) -> Result<(Channel, Endpoint), Error> {
    let tls = tls()?.with_root_certificates(roots).with_no_client_auth();
    let builder = builder(tls, CONNECT_TIMEOUT).no_proxy();
    let Some(name) = name else { return Ok((open(builder)?, endpoint.clone())) };
    let named =
        endpoint.with_host(name).ok_or_else(|| Error::Tls("the server's name is no host name".to_owned()))?;
    let (host, _) = endpoint.address();
    let mut channel = open(builder.dns_resolver(Arc::new(Renamed { host })))?;
    channel.host = HeaderValue::from_str(&endpoint.host()).ok();
    Ok((channel, named))
}

/// Resolves every name to the addresses of one host.
struct Renamed {
    host: String,
}

impl Resolve for Renamed {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The CA certificates in a PEM text.
pub fn certificates(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    if store.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(store) }
}

type TlsBuilder = ConfigBuilder<ClientConfig, WantsVerifier>;

fn tls() -> Result<TlsBuilder, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))
}

/// What every request has in common.
fn builder(tls: ClientConfig, connect_timeout: Duration) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .referer(false)
        .connect_timeout(connect_timeout)
        .timeout(REQUEST_TIMEOUT)
        .user_agent(concat!("azfed/", env!("CARGO_PKG_VERSION")))
}

fn open(builder: ClientBuilder) -> Result<Channel, Error> {
    let park = Arc::new(AtomicBool::new(false));
    let builder = builder.connector_layer(ParkLayer { park: Arc::clone(&park), slot: Arc::default() });
    let client = builder.build().map_err(|error| Error::Tls(reason(&error)))?;
    Ok(Channel { client, park, host: None, proxies: None })
}

impl Channel {
    /// A GET request, to be sent with [`Channel::send`].
    pub fn get(&self, endpoint: &Endpoint) -> Request {
        self.request(Method::GET, endpoint)
    }

    /// A POST request, to be sent with [`Channel::send`].
    pub fn post(&self, endpoint: &Endpoint) -> Request {
        self.request(Method::POST, endpoint)
    }

    /// A PUT request, to be sent with [`Channel::send`].
    pub fn put(&self, endpoint: &Endpoint) -> Request {
        self.request(Method::PUT, endpoint)
    }

    fn request(&self, method: Method, endpoint: &Endpoint) -> Request {
        let request = self.client.request(method, endpoint.url().clone());
        Request::new(match &self.host {
            Some(host) => request.header(header::HOST, host.clone()),
            None => request,
        })
    }

    /// Opens a connection (name resolution, TCP, TLS) and keeps it for the next request; sends nothing on it.
    ///
    /// A failure says nothing: the request that follows meets it again and reports it.
    pub async fn open_ahead(&self, endpoint: &Endpoint) {
        self.park.store(true, Ordering::Relaxed);
        drop(self.get(endpoint).builder.send().await);
        self.park.store(false, Ordering::Relaxed);
    }

    /// What went wrong, and between here and whom.
    fn failure(&self, endpoint: &Endpoint, error: &reqwest::Error) -> Error {
        let (mut host, mut reason) = (endpoint.host(), reason(error));
        if error.is_builder() {
            return Error::Unsendable { host };
        }
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.of_endpoint(endpoint).ok().flatten());
        if let Some(proxy) = proxy {
            match Tunnel::of(&reason) {
                Some(Tunnel::WantsLogin) => {
                    let has_login = self.proxies.as_ref().is_some_and(|proxies| proxies.has_login(endpoint));
                    let said = if has_login {
                        "it does not take the user and the password that it was given"
                    } else {
                        "it wants a user and a password"
                    };
                    return Error::ProxyLogin { host, proxy, said };
                }
                Some(Tunnel::Failed(said)) => reason = said,
                None => {}
            }
            host = format!("{host} through the proxy {proxy}");
        }
        if is_certificate(error) {
            Error::Certificate { host, reason }
        } else if error.is_connect() {
            Error::Unreachable { host, reason }
        } else {
            Error::Transport { host, reason }
        }
    }

    /// Sends a request and reads its answer, less the secrets that the request carried.
    pub async fn send(&self, endpoint: &Endpoint, request: Request) -> Result<Answer, Error> {
        let host = || endpoint.host();
        let transport = |error: reqwest::Error| self.failure(endpoint, &error);
        let Request { builder, carried } = request;
        let mut response = builder.send().await.map_err(transport)?;
        let status = response.status();
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(carried.scrub_text(value.to_owned()))
        };
        if status.is_redirection() {
            let target =
                header("location").and_then(|to| Some(endpoint.url().join(&to).ok()?.host_str()?.to_owned()));
            return Err(Error::Redirected {
                host: host(),
                status: status.as_u16(),
                target: target.unwrap_or_else(|| "nowhere".to_owned()),
            });
        }
        let challenge = header(header::WWW_AUTHENTICATE.as_str());
        let date = header(header::DATE.as_str());
        let retry_after = header(header::RETRY_AFTER.as_str())
            .and_then(|value| retry::retry_after(&value, date.as_deref()));
        let request_id =
            ["x-ms-request-id", "x-vss-e2eid", "x-github-request-id"].into_iter().find_map(header);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > LONGEST_BODY {
                return Err(Error::TooLarge { host: host() });
            }
            body.extend_from_slice(&chunk);
        }
        let date = date.and_then(|date| httpdate::parse_http_date(&date).ok());
        let body = carried.scrub(body, !status.is_success());
        Ok(Answer { status: status.as_u16(), body, retry_after, request_id, date, challenge })
    }
}

/// Whether TLS failed for the server's certificate: no later try would end better.
///
/// An `io::Error` is its inner error's wrapper, and as a source it is passed over: so both ways inwards are looked at.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    wrapped.is_some_and(|inner| is_certificate(inner)) || error.source().is_some_and(is_certificate)
}

/// The causes of an error, outermost first, each said once.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return if error.is_connect() { "no connection in time" } else { "no answer in time" }.to_owned();
    }
    let mut reasons: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // hyper's own frame around the cause says nothing to a user
        if !text.starts_with("client error (") && !reasons.iter().any(|said| said.contains(&text)) {
            reasons.push(text);
        }
        cause = error.source();
    }
    if reasons.is_empty() { "the request failed".to_owned() } else { reasons.join(": ") }
}

/// The largest file of CA certificates that is read.
const LONGEST_ROOTS: u64 = 16 << 20;

/// The CA certificates to trust.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR`, where set, are the only ones (OpenSSL's convention, which Go and Terraform
/// share), and an error where they give none. Else the system's store. Else, where that is empty (images built from
/// scratch), Mozilla's list as bundled at build time.
pub fn roots(env: &Env) -> Result<RootCertStore, Error> {
    // opening a named pipe would wait for its writer, and a device has no end
    let file = names::system::SSL_CERT_FILE;
    if let Some(path) = env.get(file)
        && std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() || metadata.len() > LONGEST_ROOTS)
    {
        let reason = "it is no regular file of at most 16 MiB".to_owned();
        return Err(Error::NoRoots { variable: file, reason });
    }
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    let chosen =
        [names::system::SSL_CERT_FILE, names::system::SSL_CERT_DIR].into_iter().find(|name| env.is_set(name));
    match chosen {
        Some(variable) if store.is_empty() => Err(Error::NoRoots {
            variable,
            reason: found.errors.first().map_or_else(|| "nothing there".to_owned(), ToString::to_string),
        }),
        None if store.is_empty() => {
            store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
            Ok(store)
        }
        _ => Ok(store),
    }
}

/// Wraps reqwest's connector so that a finished connection can be kept for the next request.
struct ParkLayer<C> {
    park: Arc<AtomicBool>,
    slot: Arc<Mutex<Option<(Instant, C)>>>,
}

impl<C> Clone for ParkLayer<C> {
    fn clone(&self) -> Self {
        Self { park: Arc::clone(&self.park), slot: Arc::clone(&self.slot) }
    }
}

impl<S, C> Layer<S> for ParkLayer<C> {
    type Service = Parking<S, C>;

    fn layer(&self, inner: S) -> Parking<S, C> {
        Parking { inner, park: self.clone() }
    }
}

/// A connector with one parking place.
struct Parking<S, C> {
    inner: S,
    park: ParkLayer<C>,
}

impl<S: Clone, C> Clone for Parking<S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), park: self.park.clone() }
    }
}

/// Tells the request that only opened a connection that there is nothing more to do.
#[derive(Debug, thiserror::Error)]
#[error("the connection is open and waits for a request")]
struct Parked;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<S, R, C> Service<R> for Parking<S, C>
where
    S: Service<R, Response = C, Error = BoxError, Future: Send + 'static>,
    C: Send + 'static,
{
    type Response = C;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<C, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let slot = Arc::clone(&self.park.slot);
        if self.park.park.swap(false, Ordering::Relaxed) {
            let connecting = self.inner.call(destination);
            return Box::pin(async move {
                let connection = connecting.await?;
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), connection));
                Err(Parked.into())
            });
        }
        let parked = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((since, connection)) = parked
            && since.elapsed() < PARKED_FOR
        {
            return Box::pin(std::future::ready(Ok(connection)));
        }
        Box::pin(self.inner.call(destination))
    }
}
