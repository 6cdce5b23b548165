//! Listeners, TLS, latency, faults, recording, routing.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use futures_util::{future::join_all, stream};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{
    Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    aws, azure, blob, control, echo, entra,
    hosts::{
        app_service, arc, automation, azure_ml, cloud_shell, imds,
        service_fabric::{self, ServiceFabricCertificate},
        token_proxy::{self, TOKEN_PROXY_NAME},
    },
    issuers,
    message::{Answer, Body, Door, Recorded, Request, answer, with},
    workloads::{self, Workload},
    world::{Action, Fault, Ports, TlsCertificate, World},
};

/// Every real name that is played; a test's hosts file maps them to 127.0.0.1.
pub const HOSTS: [&str; 37] = [
    "login.microsoftonline.com",
    "login.microsoft.com",
    "login.windows.net",
    "sts.windows.net",
    "login.microsoftonline.us",
    "login.usgovcloudapi.net",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
    "management.azure.com",
    "management.usgovcloudapi.net",
    "management.chinacloudapi.cn",
    "management.core.windows.net",
    "run-actions-1-azure-eastus.actions.githubusercontent.com",
    "token.actions.githubusercontent.com",
    "gitlab.example.com",
    "dev.azure.com",
    "vstoken.dev.azure.com",
    "oidc.prod-aks.azure.com",
    "contoso.vault.azure.net",
    "contosotfstate.blob.core.windows.net",
    "contosotfstate.blob.core.usgovcloudapi.net",
    "contosotfstate.blob.core.chinacloudapi.cn",
    "graph.microsoft.com",
    "agent.buildkite.com",
    "oidc.circleci.com",
    "app.terraform.io",
    "contoso.app.spacelift.io",
    "contoso.semaphoreci.com",
    "jenkins.example.com",
    "oidc.codefresh.io",
    "forgejo.example.com",
    "git.example.com",
    "api.bitbucket.org",
    "accounts.google.com",
    "metadata.google.internal",
    "sts.eu-west-1.amazonaws.com",
    "a1b2c3d4-5e6f-4a7b-8c9d-0e1f2a3b0006.tokens.sts.global.api.aws",
];

/// The emulator's own server certificates.
pub struct Tls {
    /// Signed by its own authority, or for the token proxy by another.
    own: Arc<ServerConfig>,
    /// Signed by the same authority, for another name.
    other_name: Arc<ServerConfig>,
    /// The same, for the right names, until yesterday.
    expired: Arc<ServerConfig>,
    /// Self-signed, for Service Fabric.
    service_fabric: Arc<ServerConfig>,
    /// Another one.
    wrong: Arc<ServerConfig>,
    /// The SHA-1 of Service Fabric's.
    pub thumbprint: String,
    /// The authority that vouches for the token proxy.
    pub token_proxy_ca_pem: String,
}

/// Chooses a certificate by the name that the client asks for.
#[derive(Debug)]
struct ByName {
    own: Arc<CertifiedKey>,
    token_proxy: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_token_proxy = hello.server_name() == Some(TOKEN_PROXY_NAME);
        Some(Arc::clone(if is_token_proxy { &self.token_proxy } else { &self.own }))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tls")
    }
}

impl Tls {
    pub fn new() -> (String, Self) {
        let (ca_pem, issuer) = authority("azfed emulator authority");
        let names: Vec<String> =
            HOSTS.iter().copied().chain(["localhost", "127.0.0.1"]).map(ToOwned::to_owned).collect();
        let own = signed(names.clone(), &issuer, false);
        let alone =
            |key: Arc<CertifiedKey>| config(Arc::new(ByName { own: Arc::clone(&key), token_proxy: key }));
        let other_name = alone(signed(vec!["other.example".to_owned()], &issuer, false));
        let expired = alone(signed(names, &issuer, true));
        let (token_proxy_ca_pem, issuer) = authority("azfed emulator cluster authority");
        let token_proxy = signed(vec![TOKEN_PROXY_NAME.to_owned()], &issuer, false);
        let own = config(Arc::new(ByName { own, token_proxy }));
        let (service_fabric, thumbprint) = self_signed();
        let (wrong, _) = self_signed();
        (ca_pem, Self { own, other_name, expired, service_fabric, wrong, thumbprint, token_proxy_ca_pem })
    }

    fn at(&self, door: Door, world: &World) -> Option<Arc<ServerConfig>> {
        let config = match door {
            Door::Http => return None,
            Door::Tls => match world.lock().settings.tls_certificate {
                TlsCertificate::Right => &self.own,
                TlsCertificate::OtherName => &self.other_name,
                TlsCertificate::Expired => &self.expired,
            },
            Door::ServiceFabric => match world.lock().settings.service_fabric_certificate {
                ServiceFabricCertificate::Right => &self.service_fabric,
                ServiceFabricCertificate::Wrong => &self.wrong,
                ServiceFabricCertificate::Signed => &self.own,
            },
        };
        Some(Arc::clone(config))
    }
}

/// An authority: its certificate, PEM, and what it signs with.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (authority.self_signed(&key).unwrap().pem(), Issuer::new(authority, key))
}

/// A certificate for these names, and its key.
fn signed(names: Vec<String>, issuer: &Issuer<'_, KeyPair>, expired: bool) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(names).unwrap();
    if expired {
        let yesterday = SystemTime::now() - Duration::from_hours(24);
        server.not_before = (yesterday - Duration::from_hours(24)).into();
        server.not_after = yesterday.into();
    }
    server.distinguished_name.push(DnType::CommonName, "azfed emulator");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    certified(server.signed_by(&key, issuer).unwrap().der(), &key)
}

/// A certificate that only its thumbprint tells from others, and that.
fn self_signed() -> (Arc<ServerConfig>, String) {
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(["localhost".to_owned()]).unwrap();
    server.distinguished_name.push(DnType::CommonName, "localhost");
    let certificate = server.self_signed(&key).unwrap();
    let key = certified(certificate.der(), &key);
    let config = config(Arc::new(ByName { own: Arc::clone(&key), token_proxy: key }));
    (config, thumbprint(certificate.der()))
}

/// SHA-1 of a certificate (DER), as Windows and Service Fabric write it.
fn thumbprint(certificate: &[u8]) -> String {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn certified(certificate: &CertificateDer<'static>, key: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(CertifiedKey::new(vec![certificate.clone()], key))
}

fn config(certificates: Arc<ByName>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Open ports.
#[derive(Debug)]
pub(crate) struct Bound {
    listeners: Vec<(TcpListener, Door)>,
    pub ports: Ports,
}

pub(crate) async fn bind(http: SocketAddr, also_http: &[SocketAddr], tls: SocketAddr) -> io::Result<Bound> {
    let service_fabric = TcpListener::bind(SocketAddr::new(tls.ip(), 0)).await?;
    let (http, tls) = (TcpListener::bind(http).await?, TcpListener::bind(tls).await?);
    let ports = Ports {
        http: reachable(http.local_addr()?),
        tls: tls.local_addr()?.port(),
        service_fabric: service_fabric.local_addr()?.port(),
    };
    let mut listeners = vec![(http, Door::Http), (tls, Door::Tls), (service_fabric, Door::ServiceFabric)];
    for address in also_http {
        listeners.push((TcpListener::bind(address).await?, Door::Http));
    }
    Ok(Bound { listeners, ports })
}

/// An address that a client on this machine can connect to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

pub(crate) async fn serve(bound: Bound, world: Arc<World>) {
    let connections = AtomicU64::new(0);
    join_all(bound.listeners.iter().map(|(listener, door)| admit(listener, *door, &connections, &world)))
        .await;
}

/// Takes in every connection at one door.
async fn admit(listener: &TcpListener, door: Door, connections: &AtomicU64, world: &Arc<World>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let entry = Entry { door, number: connections.fetch_add(1, Ordering::Relaxed), server_name: None };
        let world = Arc::clone(world);
        tokio::spawn(async move {
            let latency = Duration::from_millis(world.lock().settings.latency_ms);
            if latency.is_zero() {
                connection(stream, entry, world).await;
            } else {
                connection(far_away(stream, latency), entry, world).await;
            }
        });
    }
}

/// How a connection came in.
#[derive(Debug, Clone)]
struct Entry {
    door: Door,
    number: u64,
    server_name: Option<String>,
}

async fn connection<S>(stream: S, mut entry: Entry, world: Arc<World>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let Some(config) = world.tls.at(entry.door, &world) else { return http(stream, entry, world).await };
    // a client that does not trust the authority ends the handshake: its own affair
    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
        entry.server_name = stream.get_ref().1.server_name().map(ToOwned::to_owned);
        http(stream, entry, world).await;
    }
}

async fn http<S>(stream: S, entry: Entry, world: Arc<World>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (world, entry) = (Arc::clone(&world), entry.clone());
        async move {
            let request = read(request, entry).await?;
            respond(request, &world).await
        }
    });
    // an error is a connection that a client or a fault has closed
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn read(request: hyper::Request<Incoming>, entry: Entry) -> io::Result<Request> {
    let (head, body) = request.into_parts();
    let headers: std::collections::BTreeMap<String, String> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let host = headers.get("host").cloned().unwrap_or_default();
    let query = head.uri.query().unwrap_or_default();
    let body = Limited::new(body, 16 << 20).collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
    Ok(Request {
        method: head.method.to_string(),
        base: format!("{}://{host}", if entry.door == Door::Http { "http" } else { "https" }),
        host: host.split(':').next().unwrap_or_default().to_ascii_lowercase(),
        path: head.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers,
        body,
        connection: entry.number,
        door: entry.door,
        server_name: entry.server_name,
    })
}

/// What a request is, by host where it is a name that is played, else by path.
fn kind(request: &Request) -> &'static str {
    let path = request.path.as_str();
    let host = request.host.as_str();
    match () {
        () if path.starts_with("/_emulator/") => "control",
        () if request.door == Door::ServiceFabric => "service-fabric",
        () if path.starts_with("/computeMetadata/") => "google",
        () if path == "/sts/" || host.starts_with("sts.") && host.ends_with(".amazonaws.com") => "aws",
        () if path.ends_with("/idtoken") && path.starts_with("/gitea/") => "gitea.assertion",
        () if path.ends_with("/idtoken") => "forgejo.assertion",
        () if path.starts_with("/token-proxy/") => "token-proxy",
        () if request.server_name.as_deref() == Some(TOKEN_PROXY_NAME) => "token-proxy",
        () if path == "/azure-ml/token" => "azure-ml",
        () if path == "/cloud-shell/oauth2/token" => "cloud-shell",
        () if path.starts_with("/arc/") => "arc",
        () if path.starts_with("/metadata/identity/") && request.base.ends_with(":40342") => "arc",
        () if path.starts_with("/metadata/identity/") => "imds",
        () if path == "/msi/token" => "app-service",
        () if path == "/automation/oauth2/token" => "automation",
        () if host.contains(".blob.") => "blob",
        () if host.ends_with(".vault.azure.net") => "vault",
        () if host.starts_with("management.") => "arm",
        () if path.ends_with("/oauth2/v2.0/token") => "entra.token",
        () if path.ends_with("/idtoken/job") => "github.assertion",
        () if path.ends_with("/oidctoken") => "azure-devops.assertion",
        () if path.ends_with("/discovery/instance") => "entra.discovery",
        () if path.ends_with("/v2.0/.well-known/openid-configuration") => "entra.discovery",
        () if path.contains("/.well-known/") || path.ends_with("/keys") => "jwks",
        () if ["/subscriptions", "/tenants", "/metadata"].iter().any(|start| path.starts_with(start)) => {
            "arm"
        }
        () => "unknown",
    }
}

async fn respond(request: Request, world: &Arc<World>) -> io::Result<Answer> {
    let kind = kind(&request);
    if kind == "control" {
        return Ok(control::answer(&request, world));
    }
    let seq = {
        let mut state = world.lock();
        let seq = state.requests.len();
        let recorded = Recorded {
            seq,
            at_ms: world.started.elapsed().as_millis(),
            kind,
            method: request.method.clone(),
            host: request.host.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            form: request.form(),
            body_len: request.body.len(),
            body: String::from_utf8_lossy(&request.body[..request.body.len().min(64 << 10)]).into_owned(),
            connection: request.connection,
            tls: request.door != Door::Http,
            server_name: request.server_name.clone(),
            status: 0,
            aadsts: None,
        };
        state.requests.push(recorded);
        seq
    };
    let hit = fault(world, kind);
    if let Some(Fault { late_ms, .. }) = hit {
        tokio::time::sleep(Duration::from_millis(late_ms)).await;
    }
    let answered = match hit.map(|fault| fault.action) {
        Some(Action::Delay { ms }) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(route(kind, &request, world))
        }
        Some(Action::Aadsts { code }) => Ok(entra::refusal(code, &request, "")),
        Some(Action::Echo { status, spelling }) => Ok(echo::refuse(status, spelling, kind, &request)),
        Some(action) => misbehave(action),
        None => Ok(route(kind, &request, world)),
    };
    if let Ok(answer) = &answered {
        let mut state = world.lock();
        if let Some(recorded) = state.requests.get_mut(seq) {
            recorded.status = answer.status().as_u16();
            recorded.aadsts = answer.extensions().get::<entra::Aadsts>().map(|aadsts| aadsts.0);
        }
    }
    let skew = world.lock().settings.date_skew_s;
    let distance = Duration::from_secs(skew.unsigned_abs());
    let now = std::time::SystemTime::now();
    let date = if skew < 0 { now - distance } else { now + distance };
    answered.map(|answer| with(answer, "date", &httpdate::fmt_http_date(date)))
}

fn route(kind: &str, request: &Request, world: &World) -> Answer {
    match kind {
        "entra.token" => entra::token(request, world),
        "entra.discovery" => entra::discovery(request),
        "github.assertion" => issuers::github(request, world),
        "azure-devops.assertion" => issuers::azure_devops(request, world),
        "jwks" => issuers::discovery(request, world),
        "arm" => azure::resource_manager(request, world),
        "vault" => azure::vault(request, world),
        "blob" => blob::answer(request, world),
        "imds" => imds::answer(request, world),
        "app-service" => app_service::answer(request, world),
        "arc" => arc::answer(request, world),
        "google" => workloads::google(request, world),
        "aws" => aws::sts(request, world),
        "forgejo.assertion" => workloads::actions(request, Workload::Forgejo, world),
        "gitea.assertion" => workloads::actions(request, Workload::Gitea, world),
        "token-proxy" => token_proxy::answer(request, world),
        "azure-ml" => azure_ml::answer(request, world),
        "cloud-shell" => cloud_shell::answer(request, world),
        "service-fabric" => service_fabric::answer(request, world),
        "automation" => automation::answer(request, world),
        _ => answer(404, "text/plain", "nothing here"),
    }
}

/// The fault that hits this request, if one does.
fn fault(world: &World, kind: &str) -> Option<Fault> {
    let mut state = world.lock();
    let position = state.faults.iter().position(|fault| fault.kind == kind || fault.kind == "any")?;
    let fault = &mut state.faults[position];
    if fault.after > 0 {
        fault.after -= 1;
        return None;
    }
    let hit = fault.clone();
    if fault.times == 1 {
        state.faults.remove(position);
    } else if fault.times > 1 {
        fault.times -= 1;
    }
    Some(hit)
}

fn misbehave(action: Action) -> io::Result<Answer> {
    const JSON: &str = "application/json";
    Ok(match action {
        Action::Status { status, body, headers } => {
            let mut answered = answer(status, JSON, body);
            for (name, value) in headers {
                let name: hyper::header::HeaderName = name.parse().map_err(io::Error::other)?;
                answered.headers_mut().insert(name, value.parse().map_err(io::Error::other)?);
            }
            answered
        }
        Action::Drop => return Err(io::Error::other("dropped on request")),
        Action::ResetMidBody => scripted(vec![Some("{\"access_".into()), None], Duration::ZERO),
        Action::Empty => answer(200, JSON, ""),
        Action::Html => answer(200, "text/html", "<html><body>Sign in to your account</body></html>"),
        Action::TruncatedJson => answer(200, JSON, "{\"access_token\":\"ey"),
        Action::WrongJson => answer(200, JSON, "[{\"value\":{\"nested\":true}}]"),
        Action::Redirect { status, to } => with(answer(status, "", ""), "location", &to),
        Action::Huge => answer(200, JSON, vec![b' '; 10_000_000]),
        Action::SlowDrip => scripted((0..600).map(|_| Some(" ".into())).collect(), Duration::from_secs(1)),
        Action::Delay { .. } | Action::Aadsts { .. } | Action::Echo { .. } => {
            answer(500, "text/plain", "not a misbehaviour")
        }
    })
}

/// A body in pieces; a missing piece breaks the connection.
fn scripted(pieces: Vec<Option<Bytes>>, pause: Duration) -> Answer {
    let pieces: VecDeque<Option<Bytes>> = pieces.into();
    let frames = stream::unfold(pieces, move |mut pieces| async move {
        tokio::time::sleep(pause).await;
        let piece = pieces.pop_front()?;
        let frame = piece.map(Frame::data).ok_or_else(|| io::Error::other("reset on request"));
        Some((frame, pieces))
    });
    let body: Body = BodyExt::boxed_unsync(StreamBody::new(frames));
    Response::new(body)
}

/// A connection with a constant round-trip time: what the client sends arrives that much later, its first bytes also
/// the round trip later that TCP's own handshake takes.
fn far_away(stream: TcpStream, round_trip: Duration) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(far);
    let (send, mut receive) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let connected = Instant::now() + round_trip;
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let left = Instant::now().max(connected);
            if send.send((left + round_trip, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((arrives, bytes)) = receive.recv().await {
            tokio::time::sleep_until(arrives).await;
            if to_server.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to_server.shutdown().await;
    });
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    });
    near
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        sync::Mutex,
    };

    use rustls::{
        ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::aws_lc_rs::default_provider,
        pki_types::{ServerName, UnixTime},
    };

    use super::*;
    use crate::{Emulator, Host, JobOverrides, Options, Platform};

    /// Trusts everybody, and keeps the thumbprint.
    #[derive(Debug, Default)]
    struct Anyone(Mutex<String>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            certificate: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            *self.0.lock().unwrap() = thumbprint(certificate);
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            default_provider().signature_verification_algorithms.supported_schemes()
        }
    }

    /// The status of an answer over TLS, and the thumbprint of the certificate.
    fn over_tls(port: u16, name: &str, request: &str) -> (u16, String) {
        let anyone = Arc::new(Anyone::default());
        let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&anyone) as _;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let status = exchange(StreamOwned::new(connection, stream), request);
        let thumbprint = anyone.0.lock().unwrap().clone();
        (status, thumbprint)
    }

    fn exchange(mut stream: impl Read + Write, request: &str) -> u16 {
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        String::from_utf8_lossy(&head)[9..].parse().unwrap()
    }

    fn get(path: &str, header: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\r\n")
    }

    const TOKEN: &str = "/metadata/identity/oauth2/token";

    #[test]
    fn every_address_of_plain_http() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let free = std::net::TcpListener::bind(any).unwrap().local_addr().unwrap();
        let options = Options { also_http: vec![free], ..Options::default() };
        let emulator = Emulator::start(options).unwrap();
        let request = get(
            &format!("{TOKEN}?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"),
            "Metadata: true",
        );
        let own: SocketAddr = emulator.http_url().strip_prefix("http://").unwrap().parse().unwrap();
        for address in [own, free] {
            assert_eq!(exchange(TcpStream::connect(address).unwrap(), &request), 200);
        }
        let requests = emulator.requests();
        assert_eq!(requests.iter().map(|request| request.kind).collect::<Vec<_>>(), ["imds", "imds"]);
        assert_eq!(requests[0].query[1], ("resource".to_owned(), "https://vault.azure.net".to_owned()));
        assert_eq!(reachable(([0, 0, 0, 0], 80).into()), ([127, 0, 0, 1], 80).into());
    }

    #[test]
    fn certificates_of_service_fabric() {
        let emulator = Emulator::start(Options::default()).unwrap();
        let port = emulator.world.ports.service_fabric;
        let variables = emulator.host_env(Host::ServiceFabric);
        let secret = &variables.iter().find(|(name, _)| name == "IDENTITY_HEADER").unwrap().1;
        let request = get(
            &format!("{TOKEN}?api-version=2019-07-01-preview&resource=https%3A%2F%2Fvault.azure.net"),
            &format!("Secret: {secret}"),
        );
        let expected = emulator.service_fabric_thumbprint();
        for (certificate, is_right) in [
            (ServiceFabricCertificate::Right, true),
            (ServiceFabricCertificate::Wrong, false),
            (ServiceFabricCertificate::Signed, false),
        ] {
            emulator.set(|settings| settings.service_fabric_certificate = certificate);
            let (status, thumbprint) = over_tls(port, "localhost", &request);
            assert_eq!((status, thumbprint == expected), (200, is_right), "{certificate:?}");
        }
        assert!(emulator.requests().iter().all(|request| request.kind == "service-fabric" && request.tls));
    }

    #[test]
    fn the_token_proxy_by_its_name() {
        let emulator = Emulator::start(Options::default()).unwrap();
        let overrides = JobOverrides {
            audience: Some(crate::IDENTITY_BINDING_AUDIENCE.to_owned()),
            ..JobOverrides::default()
        };
        let token = emulator.mint(Platform::Kubernetes, &overrides);
        let asked = crate::entra::tests::post(
            &format!("token-proxy/{}", crate::world::TENANT),
            crate::world::IDENTITY,
            "https://vault.azure.net/.default",
            &token,
        );
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{}",
            asked.path,
            asked.body.len(),
            String::from_utf8_lossy(&asked.body)
        );
        let port = emulator.world.ports.tls;
        let (granted, own) = over_tls(port, TOKEN_PROXY_NAME, &request);
        let (refused, other) = over_tls(port, "localhost", &request);
        assert_eq!((granted, refused), (200, 401));
        assert_ne!(own, other);
        let names: Vec<_> = emulator.requests().into_iter().map(|request| request.server_name).collect();
        assert_eq!(names, [Some(TOKEN_PROXY_NAME.to_owned()), Some("localhost".to_owned())]);
    }
}
