//! Who exists, what is trusted, and what goes wrong on request.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    aws::AwsFederation,
    blob::Blob,
    echo::Spelling,
    hosts::{
        arc::{self, ArcAgent, ArcChallenge},
        azure_ml::AzureMlNames,
        service_fabric::ServiceFabricCertificate,
        token_proxy::{IDENTITY_BINDING_AUDIENCE, IdentityBinding, TOKEN_PROXY_NAME},
    },
    issuers::JobOverrides,
    keys::Key,
    message::Recorded,
    server::Tls,
    workloads::{self, Workload},
};

/// The tenant.
pub const TENANT: &str = "22222222-2222-4222-8222-222222222222";
/// The user-assigned managed identity `infra-prod`.
pub const IDENTITY: &str = "11111111-1111-4111-8111-111111111111";
/// Its object id.
pub const IDENTITY_OBJECT: &str = "33333333-3333-4333-8333-333333333333";
/// The app registration `infra-app`.
pub const APPLICATION: &str = "55555555-5555-4555-8555-555555555555";
/// Its service principal's object id.
pub const APPLICATION_OBJECT: &str = "66666666-6666-4666-8666-666666666666";
/// A managed identity with no federated identity credential.
pub const BARE_IDENTITY: &str = "77777777-7777-4777-8777-777777777777";
/// The user-assigned managed identity `a-neighbour`.
pub const NEIGHBOUR: &str = "bcbcbcbc-bcbc-4bcb-8bcb-bcbcbcbcbcbc";
/// Its object id.
pub const NEIGHBOUR_OBJECT: &str = "cdcdcdcd-cdcd-4cdc-8cdc-cdcdcdcdcdcd";
/// The system-assigned managed identity of the host `runner-1`.
pub const SYSTEM_IDENTITY: &str = "12121212-1212-4121-8121-121212121212";
/// Its object id.
pub const SYSTEM_IDENTITY_OBJECT: &str = "13131313-1313-4131-8131-131313131313";
/// Another tenant in the same cloud.
pub const OTHER_TENANT: &str = "eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee";
/// A multi-tenant app registration of the first tenant, which the other tenant has let in.
pub const OTHER_APPLICATION: &str = "abababab-abab-4aba-8aba-abababababab";
/// The object id of its service principal in the other tenant.
pub const OTHER_APPLICATION_OBJECT: &str = "acacacac-acac-4aca-8aca-acacacacacac";
/// Somebody who may read everything, as an operator with an az of their own does.
pub const OPERATOR_OBJECT: &str = "88888888-8888-4888-8888-888888888888";
/// The subscription.
pub const SUBSCRIPTION: &str = "44444444-4444-4444-8444-444444444444";
/// The Azure DevOps service connection `azure-prod`.
pub const CONNECTION: &str = "99999999-9999-4999-8999-999999999999";
/// The Azure DevOps organisation's id.
pub const ORGANIZATION: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";

/// GitHub's issuer.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
/// GitLab's issuer.
pub const GITLAB_ISSUER: &str = "https://gitlab.example.com";
/// The Kubernetes cluster's issuer; AKS writes a slash at its end.
pub const KUBERNETES_ISSUER: &str = "https://oidc.prod-aks.azure.com/contoso/";

/// Subject of the GitHub job.
pub const GITHUB_SUBJECT: &str = "repo:contoso/infra:environment:prod";
/// Subject of the GitLab job.
pub const GITLAB_SUBJECT: &str = "project_path:contoso/infra:ref_type:branch:ref:main";
/// Subject of the Kubernetes pod.
pub const KUBERNETES_SUBJECT: &str = "system:serviceaccount:ci:runner";
/// Subject of the Azure DevOps job, from the older issuer.
pub const AZURE_DEVOPS_SUBJECT: &str = "sc://contoso/infra/azure-prod";

/// Azure DevOps' older issuer.
pub fn vstoken_issuer() -> String {
    format!("https://vstoken.dev.azure.com/{ORGANIZATION}")
}

/// Azure DevOps' newer issuer: Entra itself.
pub fn entra_issuer() -> String {
    format!("https://login.microsoftonline.com/{TENANT}/v2.0")
}

/// The hosts of Entra in the clouds, in the order of [`CLOUDS`].
const AUTHORITIES: [&str; 3] =
    ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"];

/// Entra as the issuer of tokens for the exchange audience, in a cloud.
pub fn exchange_issuer(cloud: usize) -> String {
    format!("https://{}/{TENANT}/v2.0", AUTHORITIES[cloud])
}

/// Resource id of a user-assigned managed identity, as Entra and the hosts write it.
pub fn identity_resource(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourcegroups/contoso-prod/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    )
}

/// Resource id of the host `runner-1`.
pub fn host_resource() -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourcegroups/contoso-prod/providers/Microsoft.Compute/virtualMachines/runner-1"
    )
}

/// Subject of the Azure DevOps job, from the newer issuer: the tenant's GUID in .NET byte order, base64url.
pub fn azure_devops_entra_subject() -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let tenant = URL_SAFE_NO_PAD.encode(uuid::Uuid::parse_str(TENANT).unwrap().to_bytes_le());
    format!("/eid1/c/pub/t/{tenant}/a/rISbSSETf0KqFyZ8ppdXmA/sc/{ORGANIZATION}/{CONNECTION}")
}

/// The clouds, by the path prefix that stands for their Entra on the loopback name, and their exchange audience.
pub const CLOUDS: [(&str, &str); 3] = [
    ("public", "api://AzureADTokenExchange"),
    ("usgov", "api://AzureADTokenExchangeUSGov"),
    ("china", "api://AzureADTokenExchangeChina"),
];

/// A federated identity credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederatedCredential {
    /// Whose.
    pub client_id: String,
    /// Issuer, to the letter.
    pub issuer: String,
    /// Subject, to the letter.
    pub subject: String,
    /// Audience, to the letter.
    pub audience: String,
}

/// A managed identity that a host has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIdentity {
    /// Its client id.
    pub client_id: String,
    /// Its object id.
    pub object_id: String,
    /// Its resource id; of a system-assigned one, the host's.
    pub resource_id: String,
}

impl HostIdentity {
    fn new(client_id: &str, object_id: &str, resource_id: String) -> Self {
        Self { client_id: client_id.to_owned(), object_id: object_id.to_owned(), resource_id }
    }

    /// The system-assigned one.
    pub fn system() -> Self {
        Self::new(SYSTEM_IDENTITY, SYSTEM_IDENTITY_OBJECT, host_resource())
    }

    /// The user-assigned one that the jobs are, too.
    pub fn infra_prod() -> Self {
        Self::new(IDENTITY, IDENTITY_OBJECT, identity_resource("infra-prod"))
    }

    /// Another user-assigned one.
    pub fn neighbour() -> Self {
        Self::new(NEIGHBOUR, NEIGHBOUR_OBJECT, identity_resource("a-neighbour"))
    }
}

/// Whether URLs name the real hosts or the loopback port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// `http://127.0.0.1:PORT`
    Loopback,
    /// `https://login.microsoftonline.com` and the others, for a hosts file of the test's own.
    Real,
}

/// Which certificate a TLS server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsCertificate {
    /// The right one.
    Right,
    /// One for another name.
    OtherName,
    /// One that ended yesterday.
    Expired,
}

/// What can be changed while it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Which names URLs have.
    pub names: Names,
    /// Round-trip time of every connection, in milliseconds.
    pub latency_ms: u64,
    /// Lifetime of assertions in seconds, where not the platform's own.
    pub assertion_lifetime_s: Option<u64>,
    /// Lifetime of access tokens in seconds, where not Entra's own.
    pub access_token_lifetime_s: Option<u64>,
    /// `entra` or `vstoken`.
    pub azure_devops_issuer: String,
    /// Whether the identities may see the subscription.
    pub role_assignments: bool,
    /// How far the clock in `Date` headers is ahead of the machine's, in seconds.
    pub date_skew_s: i64,
    /// Whether the host has a system-assigned managed identity.
    pub system_assigned: bool,
    /// The host's user-assigned managed identities.
    pub user_assigned: Vec<HostIdentity>,
    /// Whether App Service's endpoint of 2017 writes dates as on Windows.
    pub windows_dates: bool,
    /// The directory that Azure Arc's agent writes its keys into.
    pub arc_tokens: String,
    /// What Azure Arc's agent asks the client to read.
    pub arc_challenge: ArcChallenge,
    /// Which of Azure Arc's agents it is.
    pub arc_agent: ArcAgent,
    /// Whether Azure Machine Learning's endpoint wants an identity named in every request.
    pub azure_ml_names: AzureMlNames,
    /// Which certificate every other TLS server shows.
    pub tls_certificate: TlsCertificate,
    /// Which certificate Service Fabric's endpoint shows.
    pub service_fabric_certificate: ServiceFabricCertificate,
    /// Which service accounts of the cluster may be which identities.
    pub identity_bindings: Vec<IdentityBinding>,
    /// Whether the AWS account lets its principals have tokens.
    pub aws_federation: AwsFederation,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            names: Names::Loopback,
            latency_ms: 0,
            assertion_lifetime_s: None,
            access_token_lifetime_s: None,
            azure_devops_issuer: "entra".to_owned(),
            role_assignments: true,
            date_skew_s: 0,
            system_assigned: true,
            user_assigned: vec![HostIdentity::infra_prod(), HostIdentity::neighbour()],
            windows_dates: false,
            arc_tokens: "/var/opt/azcmagent/tokens".to_owned(),
            arc_challenge: ArcChallenge::Right,
            arc_agent: ArcAgent::New,
            azure_ml_names: AzureMlNames::Required,
            tls_certificate: TlsCertificate::Right,
            service_fabric_certificate: ServiceFabricCertificate::Right,
            identity_bindings: vec![IdentityBinding::of_pod()],
            aws_federation: AwsFederation::Enabled,
        }
    }
}

/// The identity of the jobs, with one credential for each of their platforms, and a neighbour.
fn first_identities() -> BTreeMap<String, ManagedIdentity> {
    let credentials = [
        ("prod", GITHUB_ISSUER.to_owned(), GITHUB_SUBJECT.to_owned()),
        ("gitlab", GITLAB_ISSUER.to_owned(), GITLAB_SUBJECT.to_owned()),
        ("pods", KUBERNETES_ISSUER.to_owned(), KUBERNETES_SUBJECT.to_owned()),
        ("azure-devops-older", vstoken_issuer(), AZURE_DEVOPS_SUBJECT.to_owned()),
        ("azure-devops", entra_issuer(), azure_devops_entra_subject()),
    ];
    let credentials = credentials.map(|(name, issuer, subject)| {
        let audience = "api://AzureADTokenExchange".to_owned();
        let credential = FederatedCredential { client_id: IDENTITY.to_owned(), issuer, subject, audience };
        (name.to_owned(), (name.to_owned(), credential))
    });
    let identity = ManagedIdentity {
        client_id: IDENTITY.to_owned(),
        principal_id: IDENTITY_OBJECT.to_owned(),
        location: "westeurope".to_owned(),
        credentials: credentials.into_iter().collect(),
        unknown_for: 0,
    };
    let neighbour = ManagedIdentity {
        client_id: NEIGHBOUR.to_owned(),
        principal_id: NEIGHBOUR_OBJECT.to_owned(),
        credentials: BTreeMap::new(),
        ..identity.clone()
    };
    BTreeMap::from([
        ("contoso-prod/a-neighbour".to_owned(), neighbour),
        ("contoso-prod/infra-prod".to_owned(), identity),
    ])
}

/// Something that goes wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    /// Which requests: a kind as in [`Recorded`], or `any`.
    pub kind: String,
    /// How many of them; 0 for all.
    #[serde(default)]
    pub times: u32,
    /// How many go well first.
    #[serde(default)]
    pub after: u32,
    /// How late it happens, in milliseconds.
    #[serde(default)]
    pub late_ms: u64,
    /// What happens.
    #[serde(flatten)]
    pub action: Action,
}

/// What happens instead of an answer, or before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Another answer.
    Status {
        /// The status.
        status: u16,
        /// The body.
        #[serde(default)]
        body: String,
        /// Headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Entra's answer with this AADSTS number.
    Aadsts {
        /// The number.
        code: u32,
    },
    /// A refusal that repeats what the request authenticates itself with.
    Echo {
        /// The status.
        status: u16,
        /// How.
        spelling: Spelling,
    },
    /// The right answer, but late.
    Delay {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// The connection is closed without an answer.
    Drop,
    /// Half an answer, then the connection is closed.
    ResetMidBody,
    /// 200 with no body.
    Empty,
    /// 200 with a page of HTML.
    Html,
    /// 200 with half of a JSON object.
    TruncatedJson,
    /// 200 with JSON of another shape.
    WrongJson,
    /// A redirect.
    Redirect {
        /// The status.
        status: u16,
        /// Where to.
        to: String,
    },
    /// 200 with 10 MB.
    Huge,
    /// 200, one byte a second.
    SlowDrip,
}

/// What changes while it runs.
#[derive(Debug, Default)]
pub struct State {
    pub settings: Settings,
    pub credentials: Vec<FederatedCredential>,
    pub faults: Vec<Fault>,
    pub requests: Vec<Recorded>,
    pub secrets: Vec<String>,
    pub blobs: BTreeMap<String, Blob>,
    /// Managed identities by `group/name`, in lower case.
    pub identities: BTreeMap<String, ManagedIdentity>,
    /// Role assignments by their path, in lower case.
    pub assignments: BTreeMap<String, Value>,
    /// What Azure Arc's agent has written.
    pub arc: arc::Keys,
    /// What is different about the job of Google Cloud or AWS.
    pub workload_job: JobOverrides,
}

/// A user-assigned managed identity, as Azure Resource Manager has it.
#[derive(Debug, Clone)]
pub struct ManagedIdentity {
    pub client_id: String,
    pub principal_id: String,
    pub location: String,
    /// Its federated credentials by name, in lower case.
    pub credentials: BTreeMap<String, (String, FederatedCredential)>,
    /// Requests that do not know it yet.
    pub unknown_for: u32,
}

/// Where it listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Plain http.
    pub http: SocketAddr,
    /// TLS.
    pub tls: u16,
    /// Service Fabric's endpoint.
    pub service_fabric: u16,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    pub ports: Ports,
    pub ca_pem: String,
    pub tls: Tls,
    pub started: Instant,
    pub github: Key,
    pub gitlab: Key,
    pub azure_devops: Key,
    pub kubernetes: Key,
    pub entra: Key,
    /// The other CIs' and clouds'.
    workloads: Vec<(Workload, Key)>,
    /// What opens the managed identity endpoints that have a secret.
    pub host_secret: String,
    state: Mutex<State>,
}

impl World {
    pub(crate) fn new(settings: Settings, ports: Ports) -> Self {
        let (ca_pem, tls) = Tls::new();
        let host_secret = uuid::Uuid::new_v4().simple().to_string().to_uppercase();
        Self {
            state: Mutex::new(first_state(settings)),
            ports,
            ca_pem,
            tls,
            started: Instant::now(),
            github: Key::new("github"),
            gitlab: Key::new("gitlab"),
            azure_devops: Key::new("azure-devops"),
            kubernetes: Key::new("kubernetes"),
            entra: Key::new("entra"),
            workloads: Workload::keys(),
            host_secret,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reset(&self) {
        let mut state = self.lock();
        *state = first_state(state.settings.clone());
    }

    pub fn http_url(&self) -> String {
        format!("http://{}", self.ports.http)
    }

    /// Service Fabric's endpoint.
    pub fn service_fabric_url(&self) -> String {
        format!("https://localhost:{}/metadata/identity/oauth2/token", self.ports.service_fabric)
    }

    /// The cluster's token proxy.
    pub fn token_proxy_url(&self) -> String {
        format!("https://localhost:{}/token-proxy", self.ports.tls)
    }

    /// Base URL of a host that the emulator plays.
    pub fn url_of(&self, host: &str) -> String {
        match self.lock().settings.names {
            Names::Loopback => self.http_url(),
            Names::Real => format!("https://{host}"),
        }
    }

    /// Keeps what must never be seen in a log.
    pub fn remember_secret(&self, secret: &str) {
        let mut state = self.lock();
        if !state.secrets.iter().any(|known| known == secret) {
            state.secrets.push(secret.to_owned());
        }
    }

    /// The key of an issuer, if it is one of ours.
    pub fn key_of(&self, issuer: &str) -> Option<&Key> {
        match issuer {
            GITHUB_ISSUER => Some(&self.github),
            GITLAB_ISSUER => Some(&self.gitlab),
            KUBERNETES_ISSUER => Some(&self.kubernetes),
            issuer if issuer == vstoken_issuer() => Some(&self.azure_devops),
            issuer if is_exchange_issuer(issuer) => Some(&self.entra),
            issuer => Workload::of_issuer(issuer).map(|workload| self.key_of_workload(workload)),
        }
    }

    /// The key of another CI's or cloud's issuer.
    pub(crate) fn key_of_workload(&self, workload: Workload) -> &Key {
        self.workloads.iter().find(|(other, _)| *other == workload).map(|(_, key)| key).unwrap()
    }

    pub fn describe(&self) -> Value {
        json!({
            "http": self.http_url(),
            "https": format!("https://localhost:{}", self.ports.tls),
            "http_port": self.ports.http.port(),
            "tls_port": self.ports.tls,
            "authority": self.url_of("login.microsoftonline.com"),
            "tenant": TENANT,
            "identity": IDENTITY,
            "identity_object": IDENTITY_OBJECT,
            "application": APPLICATION,
            "bare_identity": BARE_IDENTITY,
            "subscription": SUBSCRIPTION,
            "connection": CONNECTION,
            "host_identities": {
                "system": HostIdentity::system(),
                "infra-prod": HostIdentity::infra_prod(),
                "a-neighbour": HostIdentity::neighbour(),
            },
            "service_fabric": {
                "url": self.service_fabric_url(),
                "port": self.ports.service_fabric,
                "thumbprint": self.tls.thumbprint,
            },
            "token_proxy": {
                "url": self.token_proxy_url(),
                "server_name": TOKEN_PROXY_NAME,
                "audience": IDENTITY_BINDING_AUDIENCE,
                "ca_pem": self.tls.token_proxy_ca_pem,
            },
            "workloads": workloads::describe(),
            "other_tenant": OTHER_TENANT,
            "other_application": OTHER_APPLICATION,
            "settings": self.lock().settings,
        })
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Whether Entra is that issuer, in one of the clouds.
pub(crate) fn is_exchange_issuer(issuer: &str) -> bool {
    (0..CLOUDS.len()).any(|cloud| exchange_issuer(cloud) == issuer)
}

fn first_state(settings: Settings) -> State {
    State { settings, credentials: first_credentials(), identities: first_identities(), ..State::default() }
}

fn first_credentials() -> Vec<FederatedCredential> {
    let jobs = [
        (GITHUB_ISSUER.to_owned(), GITHUB_SUBJECT.to_owned()),
        (GITLAB_ISSUER.to_owned(), GITLAB_SUBJECT.to_owned()),
        (KUBERNETES_ISSUER.to_owned(), KUBERNETES_SUBJECT.to_owned()),
        (vstoken_issuer(), AZURE_DEVOPS_SUBJECT.to_owned()),
        (entra_issuer(), azure_devops_entra_subject()),
    ];
    let mut credentials = Vec::new();
    for client_id in [IDENTITY, APPLICATION] {
        for (issuer, subject) in &jobs {
            for (_, audience) in CLOUDS {
                credentials.push(FederatedCredential {
                    client_id: client_id.to_owned(),
                    issuer: issuer.clone(),
                    subject: subject.clone(),
                    audience: audience.to_owned(),
                });
            }
        }
    }
    credentials.extend(workloads::first_credentials());
    // managed identities as the credentials of app registrations, within one cloud
    for (client_id, subject) in [
        (APPLICATION, SYSTEM_IDENTITY_OBJECT),
        (APPLICATION, IDENTITY_OBJECT),
        (OTHER_APPLICATION, IDENTITY_OBJECT),
    ] {
        for (cloud, (_, audience)) in CLOUDS.iter().enumerate() {
            credentials.push(FederatedCredential {
                client_id: client_id.to_owned(),
                issuer: exchange_issuer(cloud),
                subject: subject.to_owned(),
                audience: (*audience).to_owned(),
            });
        }
    }
    credentials
}
