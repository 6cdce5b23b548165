//! Identities that the host itself has: its endpoint is asked, and answers with an access token.
//!
//! Sources: Microsoft Learn "How to use managed identities for Azure resources on an Azure VM to acquire an access
//! token", "How to use managed identities for App Service and Azure Functions", "Authenticate against Azure resources
//! with Azure Arc-enabled servers", "How to leverage a Service Fabric application's managed identity", "Enable managed
//! identity for your Azure Automation account"; AzureAD/microsoft-authentication-library-for-python
//! `msal/managed_identity.py` and Azure/azure-sdk-for-python `azure/identity/_credentials` (Azure Machine Learning,
//! Cloud Shell).

pub mod answer;
pub mod app_service;
pub mod arc;
pub mod azure_ml;
pub mod cloud_shell;
pub mod imds;
pub mod service_fabric;

use std::time::Duration;

use crate::{
    cli::{Consumer, IdentityArgs, Source},
    entra::AccessToken,
    env::{Env, names},
    error::Hints,
    http::{self, Channel, Request, host_channel},
    identifiers::{ClientId, Endpoint, Invalid, ObjectId, ResourceId, Scope},
    retry,
    secret::Secret,
    ui::Ui,
};

use uuid::Uuid;

use self::{
    answer::Granted, app_service::AppService, arc::Arc, azure_ml::AzureMl, cloud_shell::CloudShell,
    imds::Imds, service_fabric::ServiceFabric,
};

/// A kind of host that has managed identities, with everything in it that is needed to ask for a token.
///
/// A closed enum: the compiler lists every place that a new host must touch.
#[derive(Debug)]
pub enum Host {
    /// Azure VM, scale set, container instance, node of a cluster.
    Imds(Imds),
    /// App Service, Functions, Container Apps; Automation.
    AppService(AppService),
    /// A server with the Azure Connected Machine agent.
    Arc(Arc),
    /// Service Fabric.
    ServiceFabric(ServiceFabric),
    /// Azure Machine Learning.
    AzureMl(AzureMl),
    /// Cloud Shell: the user's own identity.
    CloudShell(CloudShell),
}

/// Which of the host's identities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// The system-assigned one; where there is none, the only user-assigned one.
    #[default]
    Own,
    /// By client id.
    Client(ClientId),
    /// By object id.
    Object(ObjectId),
    /// By resource id.
    Resource(ResourceId),
}

/// A managed identity of this host.
#[derive(Debug)]
pub struct ManagedIdentity {
    /// The host.
    pub host: Host,
    /// Which of its identities.
    pub selector: Selector,
    channel: Channel,
}

/// Why the host gives no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers where an endpoint should be.
    #[error("{} {reason}", absent(.host, *.assumed))]
    Absent {
        /// What was looked for.
        host: &'static str,
        /// Whether nothing but the lack of everything else spoke for it.
        assumed: bool,
        /// Whether this is a pod.
        pod: bool,
        /// What was found instead.
        reason: String,
    },
    /// The variables of a host are not there.
    #[error("there is no {host} here: {missing} is not set")]
    NotHere {
        /// The host that was asked for.
        host: &'static str,
        /// The variable.
        missing: &'static str,
    },
    /// The endpoints of another azfed have gone.
    #[error("the endpoints of an azfed login are not there any more: {host}: {reason}")]
    Ended {
        /// Host and port.
        host: String,
        /// What happened.
        reason: String,
    },
    /// A variable has a value that cannot be.
    #[error("{variable}: {invalid}")]
    Variable {
        /// Which.
        variable: &'static str,
        /// Why.
        invalid: Invalid,
    },
    /// This host lets nobody choose, or not in this way.
    #[error("the {host} does not take {flag}: {why}")]
    Selector {
        /// The host.
        host: &'static str,
        /// The flag.
        flag: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// The host said no.
    #[error("the {host} gave no token: status {status}{}", said(.message))]
    Refused {
        /// The host.
        host: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its own words, one line, harmless.
        message: String,
        /// When it may be asked again.
        retry_after: Option<Duration>,
        /// The next steps.
        hints: Hints,
    },
    /// An answer that is none.
    #[error("the {host} answered {status}, but without an access token: {reason}")]
    Unreadable {
        /// The host.
        host: &'static str,
        /// The HTTP status.
        status: u16,
        /// What is wrong.
        reason: &'static str,
    },
    /// A token of another identity than the one that was asked for.
    #[error("the {host} gave a token of another identity: {what}")]
    Other {
        /// The host.
        host: &'static str,
        /// What differs.
        what: String,
    },
    /// A token that does not say whose it is.
    #[error("the {host} gave a token that does not say {0} it is for", host = .1)]
    Nameless(&'static str, &'static str),
    /// Arc's proof that this process may read what root's agent wrote.
    #[error("the Azure Arc agent's challenge cannot be met: {0}")]
    Challenge(#[from] arc::Challenge),
    /// The way there.
    #[error("the {host}: {source}")]
    Http {
        /// The host.
        host: &'static str,
        /// What happened.
        source: http::Error,
    },
    /// The mask could not be written.
    #[error("the access token could not be masked in this job's log: {0}")]
    Mask(std::io::Error),
}

fn absent(host: &str, assumed: bool) -> String {
    if assumed {
        "this is not a CI job that azfed knows, no OIDC token was named, and this machine has no managed identity:"
            .to_owned()
    } else {
        format!("this machine has no {host}:")
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// What to do after a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After a backoff, not before `Retry-After`.
    Backoff(Option<Duration>),
    /// After this long; the endpoint is being renewed.
    After(Duration),
    /// No further try can succeed.
    Never,
}

/// A request for a token, as one host wants it.
struct Question<'a> {
    /// Where, with the query.
    endpoint: Endpoint,
    /// Whether `Metadata: true` goes with it, which no page in a browser can send.
    metadata: bool,
    /// The host's own secret, and the header's name.
    secret: Option<(&'static str, &'a Secret)>,
    /// Whether the resource is posted instead.
    posted: bool,
}

impl Selector {
    /// The flag that is given, else the client id that the SDKs read, else none.
    pub fn resolve(
        args: &IdentityArgs,
        env: &Env,
        warnings: &mut Vec<String>,
    ) -> Result<Self, crate::config::Error> {
        match (&args.object_id, &args.resource_id) {
            (Some(id), _) => Ok(Self::Object(id.clone())),
            (None, Some(id)) => Ok(Self::Resource(id.clone())),
            (None, None) => {
                Ok(crate::config::client_id(args, env, warnings)?.map_or(Self::Own, Self::Client))
            }
        }
    }

    /// Which one, in words.
    pub fn words(&self) -> String {
        match self {
            Self::Own => "the one that the host gives where none is named".to_owned(),
            Self::Client(id) => format!("the one with client id {id}"),
            Self::Object(id) => format!("the one with object id {id}"),
            Self::Resource(id) => id.to_string(),
        }
    }

    /// The flag that chooses like this again.
    pub fn argument(&self) -> Option<String> {
        match self {
            Self::Own => None,
            Self::Client(id) => Some(format!("--client-id={id}")),
            Self::Object(id) => Some(format!("--object-id={id}")),
            Self::Resource(id) => Some(format!("--resource-id={id}")),
        }
    }

    /// The id, and what belongs to it of three things: this host's name for it in a query, or what an answer shows.
    fn pair<T>(&self, [client, object, resource]: [T; 3]) -> Option<(T, &str)> {
        match self {
            Self::Own => None,
            Self::Client(id) => Some((client, id.as_str())),
            Self::Object(id) => Some((object, id.as_str())),
            Self::Resource(id) => Some((resource, id.as_str())),
        }
    }

    fn flag(&self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Client(_) => "`--client-id`",
            Self::Object(_) => "`--object-id`",
            Self::Resource(_) => "`--resource-id`",
        }
    }

    /// What is different about a token that should be this identity's; nothing where it does not say.
    fn differs(&self, token: &AccessToken) -> Option<String> {
        let client = token.client.as_ref().map(ClientId::as_str);
        let (got, asked) = self.pair([client, token.object_id.as_deref(), token.resource_id.as_deref()])?;
        another(asked, got)
    }

    /// What the answer around a token says of whose it is. An older agent of Azure Arc's ignores which identity is asked
    /// for, and gives the system-assigned one's token: so there a user-assigned one counts only where it is `named`.
    fn confirm(&self, granted: &Granted, named: bool) -> Result<(), String> {
        let ids = [&granted.client_id, &granted.object_id, &granted.resource_id];
        let Some((got, asked)) = self.pair(ids) else { return Ok(()) };
        match another(asked, got.as_deref()) {
            Some(what) => Err(what),
            None if named && got.is_none() => Err(UNNAMED.to_owned()),
            None => Ok(()),
        }
    }
}

/// Why a token of Azure Arc's may be another identity's.
const UNNAMED: &str =
    "its agent does not say whose token it is, as those do that know no user-assigned identities";

/// Which one it is instead; nothing where that is not said. Ids have no letter case, and more than one form.
pub fn another(asked: &str, got: Option<&str>) -> Option<String> {
    let got = got?;
    let same = match (Uuid::try_parse(asked), Uuid::try_parse(got)) {
        (Ok(asked), Ok(got)) => asked == got,
        _ => asked.trim_matches('/').eq_ignore_ascii_case(got.trim_matches('/')),
    };
    // what is no id is not repeated: it may be the token
    let is_id = Uuid::try_parse(got).is_ok() || got.parse::<ResourceId>().is_ok();
    let shown = if is_id { crate::text::one_line(got) } else { "something that is no id".to_owned() };
    (!same).then(|| format!("asked for {asked}, got {shown}"))
}

impl Host {
    /// The host that this is, by its variables and files: never touches the network. `Auto` and `ManagedIdentity` go by
    /// the order of Microsoft's MSAL, and end with the instance metadata service, which alone leaves no mark.
    pub fn detect(env: &Env, source: Source) -> Result<Self, Error> {
        match source {
            Source::Imds => Imds::detect(env, false).map(Self::Imds),
            Source::AppService => AppService::detect(env, false).map(Self::AppService),
            Source::Automation => AppService::detect(env, true).map(Self::AppService),
            Source::Arc => Arc::detect(env).map(Self::Arc),
            Source::ServiceFabric => ServiceFabric::detect(env).map(Self::ServiceFabric),
            Source::AzureMl => AzureMl::detect(env).map(Self::AzureMl),
            Source::CloudShell => CloudShell::detect(env).map(Self::CloudShell),
            source => {
                let is_set = |name: &str| env.is_set(name);
                if is_set(names::host::IDENTITY_ENDPOINT) && is_set(names::host::IDENTITY_HEADER) {
                    if is_set(names::host::IDENTITY_SERVER_THUMBPRINT) {
                        return ServiceFabric::detect(env).map(Self::ServiceFabric);
                    }
                    return AppService::detect(env, app_service::is_automation(env)).map(Self::AppService);
                }
                if is_set(names::host::MSI_ENDPOINT) {
                    if is_set(names::host::MSI_SECRET) {
                        return AzureMl::detect(env).map(Self::AzureMl);
                    }
                    return CloudShell::detect(env).map(Self::CloudShell);
                }
                if arc::is_here(env) {
                    return Arc::detect(env).map(Self::Arc);
                }
                Imds::detect(env, source == Source::Auto).map(Self::Imds)
            }
        }
    }

    /// The host's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Imds(_) => imds::NAME,
            Self::AppService(app_service) => app_service.name(),
            Self::Arc(_) => arc::NAME,
            Self::ServiceFabric(_) => service_fabric::NAME,
            Self::AzureMl(_) => azure_ml::NAME,
            Self::CloudShell(_) => cloud_shell::NAME,
        }
    }

    /// The source that chooses it again.
    pub fn source(&self) -> &'static str {
        match self {
            Self::Imds(_) => "imds",
            Self::AppService(app_service) => app_service.source(),
            Self::Arc(_) => "arc",
            Self::ServiceFabric(_) => "service-fabric",
            Self::AzureMl(_) => "azure-ml",
            Self::CloudShell(_) => "cloud-shell",
        }
    }

    /// The variables that it takes its part from.
    pub fn variables(&self) -> Vec<&'static str> {
        use names::host;
        match self {
            Self::Imds(_) => vec![host::POD_IDENTITY_AUTHORITY_HOST],
            Self::AppService(_) => vec![host::IDENTITY_ENDPOINT, host::IDENTITY_HEADER],
            Self::Arc(_) => {
                vec![host::IDENTITY_ENDPOINT, host::IMDS_ENDPOINT, host::PROGRAM_DATA, host::PROGRAM_FILES]
            }
            Self::ServiceFabric(_) => {
                vec![host::IDENTITY_ENDPOINT, host::IDENTITY_HEADER, host::IDENTITY_SERVER_THUMBPRINT]
            }
            Self::AzureMl(_) => {
                vec![host::MSI_ENDPOINT, host::MSI_SECRET, host::DEFAULT_IDENTITY_CLIENT_ID]
            }
            Self::CloudShell(_) => vec![host::MSI_ENDPOINT],
        }
    }

    /// Whether this client asks this host for tokens all by itself, whichever identity is meant. Where one of a login's
    /// clients does not, azfed serves them an endpoint that they all know.
    pub fn is_known_to(&self, consumer: Consumer) -> bool {
        match self {
            Self::Imds(_) => true,
            // Terraform sends App Service a header that it does not know (hashicorp/go-azure-sdk
            // `sdk/auth/managed_identity_authorizer.go`)
            Self::AppService(app_service) => !app_service.is_automation() && consumer != Consumer::Terraform,
            // what tells clients of it would still be there beside endpoints of another kind
            Self::ServiceFabric(_) => consumer != Consumer::Terraform,
            Self::Arc(_) | Self::AzureMl(_) | Self::CloudShell(_) => false,
        }
    }

    /// Whether what it gives are a user's tokens, which are nobody's assertions.
    pub fn is_users(&self) -> bool {
        matches!(self, Self::CloudShell(_))
    }

    /// Whether the host lets nobody choose an identity.
    fn is_fixed(&self) -> bool {
        matches!(self, Self::ServiceFabric(_) | Self::CloudShell(_))
    }

    fn question(&self, resource: &str, selector: &Selector) -> Result<Question<'_>, Error> {
        match self {
            Self::Imds(imds) => Ok(imds.question(resource, selector)),
            Self::AppService(app_service) => app_service.question(resource, selector),
            Self::Arc(arc) => Ok(arc.question(resource, selector)),
            Self::ServiceFabric(service_fabric) => Ok(service_fabric.question(resource)),
            Self::AzureMl(azure_ml) => azure_ml.question(resource, selector),
            Self::CloudShell(cloud_shell) => Ok(cloud_shell.question()),
        }
    }
}

impl ManagedIdentity {
    /// The host's identity that is meant. `chosen` is whether a flag says which, and not just a variable: the SDKs'
    /// `AZURE_CLIENT_ID` may be there for something else, where the host lets nobody choose.
    pub fn new(host: Host, selector: Selector, chosen: bool) -> Result<Self, Error> {
        if host.is_fixed() && chosen && selector != Selector::Own {
            return Err(Error::Selector {
                host: host.name(),
                flag: selector.flag(),
                why: "its configuration says which identity it is",
            });
        }
        let selector = if host.is_fixed() { Selector::Own } else { selector };
        // what cannot be asked for is said before anything is asked
        host.question("", &selector)?;
        let pinned = match &host {
            Host::ServiceFabric(service_fabric) => Some(service_fabric.thumbprint()),
            _ => None,
        };
        let channel = host_channel(pinned).map_err(|source| Error::Http { host: host.name(), source })?;
        Ok(Self { host, selector, channel })
    }

    /// The host, and which identity, for messages.
    pub fn describe(&self) -> String {
        let which = match &self.selector {
            Selector::Own => String::new(),
            Selector::Client(id) => format!(" with client id {id}"),
            Selector::Object(id) => format!(" with object id {id}"),
            Selector::Resource(id) => format!(" {id}"),
        };
        format!("the managed identity{which} of this host ({})", self.host.name())
    }

    /// One try to get a token. It is masked before it is returned.
    pub async fn access_token(&self, scope: &Scope, ui: &Ui) -> Result<AccessToken, Error> {
        let name = self.host.name();
        let question = self.host.question(scope.resource(), &self.selector)?;
        let request = self.request(&question, scope.resource());
        let mut answer = self.send(&question.endpoint, request).await?;
        if let (Host::Arc(arc), 401) = (&self.host, answer.status) {
            let key = arc.answer_to(answer.challenge.as_deref())?;
            ui.mask(&[&key]).map_err(Error::Mask)?;
            let request = self.request(&question, scope.resource());
            let authorization = Secret::new(format!("Basic {}", key.expose()));
            let request = request.secret_header("authorization", &authorization).carrying(&key);
            answer = self.send(&question.endpoint, request).await?;
        }
        let granted = match &self.host {
            Host::Imds(imds) if imds.is_somebody_elses(&answer) => {
                return Err(
                    imds.absent(format!("what answers at {} is not Azure's", question.endpoint.host()))
                );
            }
            _ => answer::read(&self.host, self.selector != Selector::Own, &answer)?,
        };
        ui.mask(&[&granted.secret]).map_err(Error::Mask)?;
        let other = |what| Error::Other { host: name, what };
        self.selector.confirm(&granted, matches!(self.host, Host::Arc(_))).map_err(other)?;
        let token = AccessToken::new(granted.secret, scope, granted.lifetime);
        match self.selector.differs(&token) {
            Some(what) => Err(other(what)),
            None => Ok(token),
        }
    }

    fn request(&self, question: &Question<'_>, resource: &str) -> Request {
        let request = if question.posted {
            self.channel.post(&question.endpoint).form(&[("resource", resource)])
        } else {
            self.channel.get(&question.endpoint)
        };
        let request = if question.metadata { request.header("Metadata", "true") } else { request };
        match question.secret {
            Some((header, secret)) => request.secret_header(header, secret),
            None => request,
        }
    }

    async fn send(&self, endpoint: &Endpoint, request: Request) -> Result<http::Answer, Error> {
        let sent = self.channel.send(endpoint, request);
        let answered = match &self.host {
            Host::Imds(imds) => imds.in_time(endpoint, sent).await?,
            _ => sent.await,
        };
        answered.map_err(|source| match (&self.host, source) {
            (Host::Imds(imds), http::Error::Unreachable { host, reason }) => {
                imds.absent(format!("{host}: {reason}"))
            }
            (Host::AppService(app_service), http::Error::Unreachable { host, reason })
                if app_service.is_ours() =>
            {
                Error::Ended { host, reason }
            }
            // a name or a page of somebody else's, as in a hotel's network
            (Host::Imds(imds), http::Error::Redirected { host, .. }) => {
                imds.absent(format!("what answers at {host} is not Azure's"))
            }
            (host, source) => Error::Http { host: host.name(), source },
        })
    }
}

impl Error {
    /// Whether and when to ask again.
    pub fn again(&self) -> Again {
        match self {
            Self::Refused { host: imds::NAME, status: 410, .. } => Again::After(imds::RENEWAL),
            Self::Refused { host: imds::NAME, status: 404 | 500.., retry_after, .. } => {
                Again::Backoff(*retry_after)
            }
            Self::Refused { status, retry_after, .. } if retry::is_transient_status(*status) => {
                Again::Backoff(*retry_after)
            }
            Self::Unreadable { status: 200, .. } => Again::Backoff(None),
            Self::Http { source, .. } if source.is_transient() => Again::Backoff(None),
            _ => Again::Never,
        }
    }

    /// The exit code: who has to act.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Variable { .. } | Self::Selector { .. } | Self::Ended { .. } => 2,
            Self::Http { source: http::Error::Unsendable { .. }, .. } => 2,
            Self::Mask(_) => 1,
            _ if self.again() != Again::Never => 5,
            Self::Http { source, .. } if source.is_network() => 5,
            _ => 3,
        }
    }

    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::Absent { assumed: true, pod: true, .. } => Hints::one(
                "this is a pod: on AKS, set the label `azure.workload.identity/use: \"true\"` on it, and let it run as the \
                 service account that the identity trusts; on other clusters, project a token and name its file: docs/sources.md",
            ),
            Self::Absent { assumed: true, .. } => Hints::one(
                "looked for GITHUB_ACTIONS, GITLAB_CI, TF_BUILD and the marks of other CI platforms, AZURE_FEDERATED_TOKEN_FILE, \
                 IDENTITY_ENDPOINT, MSI_ENDPOINT, Azure Arc's agent and Azure's instance metadata service; elsewhere, name the \
                 OIDC token with `--assertion-file PATH` or `--assertion-env NAME`; on Google Cloud and AWS, say `--source \
                 google-cloud` or `--source aws`",
            ),
            Self::Absent { .. } => Hints::one(
                "Azure VMs, scale sets and container instances have one; in a container, its network must reach \
                 169.254.169.254; elsewhere leave `--source` and AZURE_POD_IDENTITY_AUTHORITY_HOST away",
            ),
            Self::NotHere { .. } => {
                Hints::one("leave `--source` away, or say what this host is: see `azfed login --help`")
            }
            Self::Selector { why: app_service::CLIENT_ID_ONLY, .. } => Hints::one(
                "pass `--client-id`: `az identity show --name <identity> --resource-group <group> --query clientId`",
            ),
            Self::Selector { .. } => Hints::one("leave the flag away"),
            Self::Refused { hints, .. } => hints.clone(),
            Self::Ended { .. } => Hints::one(
                "that login has ended, and this shell has its variables yet: begin a new one, or \
                 `unset IDENTITY_ENDPOINT IDENTITY_HEADER MSI_ENDPOINT MSI_SECRET AZFED_ENDPOINT`",
            ),
            Self::Other { host: arc::NAME, .. } => Hints::one(
                "nothing was handed over; assign the identity that you want to this host, and update its agent: older ones \
                 ignore which identity is asked for",
            ),
            Self::Other { .. } => Hints::one(
                "nothing was handed over; name an identity that is assigned to this host, and its own tenant, or neither (AZURE_CLIENT_ID and \
                 AZURE_TENANT_ID count as named)",
            ),
            Self::Nameless(..) => Hints::one("pass `--client-id` and `--tenant-id`"),
            Self::Challenge(challenge) => challenge.hints(),
            Self::Http { host: service_fabric::NAME, source: http::Error::Certificate { .. } } => Hints::one(
                "the server's certificate is not the one of IDENTITY_SERVER_THUMBPRINT, and nothing was sent to it: restart the \
                 service, so that it gets the cluster's new one",
            ),
            Self::Http { source: source @ http::Error::Unsendable { .. }, .. } => {
                source.hint().map_or_else(Hints::none, Hints::one)
            }
            Self::Http { .. } => Hints::one("see whether the host's own endpoint is running"),
            Self::Variable { .. } => {
                Hints::one("the host sets this variable itself: see what this job has put in its place")
            }
            Self::Unreadable { .. } | Self::Mask(_) => Hints::none(),
        }
    }
}
