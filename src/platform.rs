//! Who supplies the assertion.

pub mod aws;
pub mod azure_devops;
pub mod bitbucket;
pub mod buildkite;
pub mod circleci;
pub mod codefresh;
pub mod github;
pub mod gitlab;
pub mod google_cloud;
pub mod hcp_terraform;
pub mod identity_binding;
pub mod program;
pub mod semaphore;
pub mod spacelift;
pub mod stored;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use crate::{
    assertion::{Assertion, Claims, Malformed},
    cli::{Source, SourceArgs},
    cloud::Cloud,
    config::OfHost,
    env::{Env, names},
    error::Hints,
    http::{self, Http},
    identifiers::{Audience, Authority, Endpoint, Invalid},
    managed_identity::{self, Again, Host, ManagedIdentity},
    secret::Secret,
    text,
    ui::{Runner, Ui},
};

pub use self::{
    aws::Aws, azure_devops::AzureDevOps, buildkite::Buildkite, circleci::CircleCi, codefresh::Codefresh,
    github::GitHub, gitlab::GitLab, google_cloud::GoogleCloud, identity_binding::IdentityBinding,
    stored::Stored,
};

/// A platform that this job runs on, with everything in it that is needed to get an assertion.
///
/// A closed enum: the compiler lists every place that a new platform must touch.
#[derive(Debug)]
pub enum Platform {
    /// GitHub Actions and what speaks its contract (Forgejo, Gitea).
    GitHub(GitHub),
    /// GitLab CI.
    GitLab(GitLab),
    /// Azure DevOps.
    AzureDevOps(AzureDevOps),
    /// Buildkite.
    Buildkite(Buildkite),
    /// CircleCI.
    CircleCi(CircleCi),
    /// HCP Terraform and Terraform Enterprise.
    HcpTerraform(Stored),
    /// Spacelift.
    Spacelift(Stored),
    /// Semaphore.
    Semaphore(Stored),
    /// Codefresh.
    Codefresh(Codefresh),
    /// Google Cloud.
    GoogleCloud(GoogleCloud),
    /// AWS.
    Aws(Aws),
    /// A file or a variable.
    Stored(Stored),
    /// A pod's file, which only a proxy in its cluster takes.
    IdentityBinding(IdentityBinding),
    /// The host itself: its identity's token for the exchange audience is an assertion too.
    ManagedIdentity(ManagedIdentity),
}

/// Why there is no assertion.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's identity.
    #[error(transparent)]
    ManagedIdentity(#[from] managed_identity::Error),
    /// CA certificates that are none.
    #[error("{variable} has no CA certificates: {reason}")]
    Certificates {
        /// Which variable.
        variable: &'static str,
        /// Why not.
        reason: String,
    },
    /// Several platforms' marks.
    #[error("this looks like several CI platforms at once: {0}")]
    Several(String),
    /// Flags that exclude one another.
    #[error("{0}")]
    Contradiction(String),
    /// A platform that gave a job nothing to begin with.
    #[error("{issuer} gave this job no OIDC token: {missing}")]
    NotGranted {
        /// The platform.
        issuer: &'static str,
        /// What is not there.
        missing: String,
        /// The next steps.
        hints: Hints,
    },
    /// Bitbucket: no credential can match.
    #[error(
        "{} cannot log in to Azure by its OIDC token: the subject ends with the id of the step, which is another in each run, \
         and Entra's federated credentials name whole subjects",
        bitbucket::NAME
    )]
    Bitbucket,
    /// Gitea: nobody knows its subjects yet.
    #[error(
        "no release of Gitea gives a job an OIDC token yet, so that nobody knows what its subjects will be (go-gitea/gitea#33681)"
    )]
    Gitea,
    /// Jenkins: whoever runs it says what its subjects are.
    #[error(
        "the subject of a Jenkins job is what its administrator has configured, so that azfed cannot make it up"
    )]
    Jenkins,
    /// A platform's own program.
    #[error("`{words}` gave no OIDC token: {reason}")]
    Program {
        /// What was called.
        words: &'static str,
        /// What it said, one line, harmless.
        reason: String,
        /// Whether it did not end in time.
        late: bool,
        /// The next steps.
        hints: Hints,
    },
    /// GitHub: no request URL or token.
    #[error("{contract} gave this job no way to ask for an OIDC token: {missing} not set")]
    GitHubNotGranted {
        /// Whose Actions these are.
        contract: github::Contract,
        /// Which variables are missing.
        missing: &'static str,
        /// Whether a pull request started the job.
        pull_request: bool,
    },
    /// GitLab: no token variable.
    #[error("GitLab gave this job no OIDC token for {audience}")]
    GitLabNotGranted {
        /// The audience that is needed.
        audience: Audience,
        /// The variable that was asked for by name.
        named: Option<String>,
    },
    /// GitLab: several candidates under names of the user's choice.
    #[error("several variables hold an OIDC token of this GitLab: {0}")]
    GitLabAmbiguous(String),
    /// Azure DevOps: no request URI.
    #[error(
        "Azure DevOps gave this job no way to ask for an OIDC token: {} is not set",
        names::azure_devops::OIDC_REQUEST_URI
    )]
    AzureDevOpsNoUri,
    /// Azure DevOps: the job's token is not mapped.
    #[error("this step cannot see the job's access token: {} {why}", names::azure_devops::ACCESS_TOKEN)]
    AzureDevOpsNotMapped {
        /// Unset or unexpanded.
        why: &'static str,
    },
    /// Azure DevOps: which service connection?
    #[error("no service connection is named")]
    AzureDevOpsNoConnection,
    /// A variable has a value that cannot be.
    #[error("{variable}: {invalid}")]
    Variable {
        /// Which.
        variable: &'static str,
        /// Why.
        invalid: Invalid,
    },
    /// The named variable is not set.
    #[error("the variable `{0}` is not set or empty")]
    VariableUnset(String),
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The text is no JWT.
    #[error("{place} holds no OIDC token: {malformed}")]
    Malformed {
        /// Where it came from.
        place: String,
        /// What is wrong.
        malformed: Malformed,
    },
    /// The token is for somebody else.
    #[error("the OIDC token in {place} is for the audience {presented}, but {expected} is needed")]
    Audience {
        /// Where it came from.
        place: String,
        /// What it has.
        presented: String,
        /// What it needs.
        expected: Audience,
        /// The next steps.
        hints: Hints,
    },
    /// The token has expired.
    #[error("the OIDC token in {place} expired {seconds} s ago, by this machine's clock")]
    Expired {
        /// Where it came from.
        place: String,
        /// How long ago.
        seconds: u64,
    },
    /// The platform could not be reached.
    #[error("no OIDC token from {issuer}: {source}")]
    Http {
        /// Who was asked.
        issuer: &'static str,
        /// Why not.
        source: http::Error,
    },
    /// The platform refused.
    #[error("{issuer} refused to issue an OIDC token: status {status}{}", said(.message))]
    Refused {
        /// Who was asked.
        issuer: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its own words, one line, harmless.
        message: String,
        /// When it may be asked again.
        retry_after: Option<Duration>,
        /// Its id of the request.
        request_id: Option<String>,
    },
    /// The platform's answer is not what its contract says.
    #[error("{issuer} answered {status}, but without an OIDC token: {reason}")]
    Answer {
        /// Who was asked.
        issuer: &'static str,
        /// The HTTP status.
        status: u16,
        /// What is wrong.
        reason: String,
    },
    /// The mask could not be written.
    #[error("the OIDC token could not be masked in this job's log: {0}")]
    Mask(std::io::Error),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::ManagedIdentity(error) => error.again() != Again::Never,
            Self::Http { source, .. } => source.is_transient(),
            Self::Refused { status, .. } => crate::retry::is_transient_status(*status),
            Self::Answer { status, .. } => *status == 200,
            Self::Program { late, .. } => *late,
            _ => false,
        }
    }

    /// When the platform said that it may be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::ManagedIdentity(error) => match error.again() {
                Again::Backoff(retry_after) => retry_after,
                Again::After(wait) => Some(wait),
                Again::Never => None,
            },
            _ => None,
        }
    }

    /// Whether this is the network's fault.
    pub fn is_network(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_network(),
            Self::Refused { status, .. } => crate::retry::is_transient_status(*status),
            Self::Program { late, .. } => *late,
            _ => false,
        }
    }

    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::ManagedIdentity(error) => error.hints(),
            Self::Certificates { variable, .. } => {
                Hints::one(format!("{variable} is set by the cluster's webhook: restart the pod"))
            }
            Self::Several(_) => Hints::one(
                "say which one with `--source`: `github`, `gitlab`, `azure-devops`, `file`, `env` or another",
            ),
            Self::NotGranted { hints, .. } | Self::Program { hints, .. } | Self::Audience { hints, .. } => {
                hints.clone()
            }
            Self::Bitbucket => bitbucket::hints(),
            Self::Gitea => github::of_gitea(),
            Self::Jenkins => {
                Hints::one("in the job, `azfed trust here --assertion-env NAME` prints its credential: docs/platforms.md")
            }
            Self::GitHubNotGranted { contract, pull_request, .. } => {
                github::not_granted(*contract, *pull_request)
            }
            Self::GitLabNotGranted { audience, named } => gitlab::not_granted(audience, named.as_deref()),
            Self::GitLabAmbiguous(_) => Hints::one("say which one with `--assertion-env NAME`"),
            Self::AzureDevOpsNoUri => Hints::one(
                "this needs Azure DevOps Services, and a job that runs on an agent; on Azure DevOps Server use a managed \
                 identity of the agent's machine",
            ),
            Self::AzureDevOpsNotMapped { .. } => Hints::with_lines(
                "map it in the step that runs azfed:",
                &["env:", "  SYSTEM_ACCESSTOKEN: $(System.AccessToken)"],
            ),
            Self::AzureDevOpsNoConnection => Hints::one(
                "pass `--service-connection-id` (or AZURESUBSCRIPTION_SERVICE_CONNECTION_ID): the GUID in the address of \
                 the service connection's page in the project's settings",
            ),
            Self::Variable { variable, invalid: Invalid::UnexpandedMacro(_) }
                if *variable == names::azure_devops::ACCESS_TOKEN =>
            {
                Self::AzureDevOpsNotMapped { why: "" }.hints()
            }
            Self::VariableUnset(name) if name == names::azure::FEDERATED_TOKEN_FILE => Hints::one(format!(
                "a pod with a projected OIDC token has `{name}`; elsewhere name the file with `--assertion-file PATH`"
            )),
            Self::VariableUnset(name) => {
                Hints::one(format!("set `{name}` in this job, or name another with `--assertion-env`"))
            }
            Self::File { path, .. } if is_in_login(path) => Hints::one(
                "that is a file of an azfed login which has ended: begin a new shell, or unset AZURE_FEDERATED_TOKEN_FILE and \
                 the other variables of that login",
            ),
            Self::File { .. } => Hints::one(
                "name the file that holds the OIDC token with `--assertion-file` or AZURE_FEDERATED_TOKEN_FILE",
            ),
            Self::Malformed { .. } => {
                Hints::one("an OIDC token is a JWT: three base64url parts with dots between, nothing else")
            }
            Self::Expired { .. } => Hints::one(
                "log in earlier in the job, or ask the platform for a token that lives longer (GitLab: the job's `timeout:`); \
                 check this machine's clock",
            ),
            Self::Http { source, .. } => Hints::one(source.hint().unwrap_or(
                "check that this machine reaches the platform: proxy (HTTPS_PROXY, NO_PROXY), firewall, CA (SSL_CERT_FILE)",
            )),
            Self::Refused { issuer, status, message, .. } => refused(issuer, *status, message),
            Self::Contradiction(_) | Self::Variable { .. } | Self::Answer { .. } | Self::Mask(_) => {
                Hints::none()
            }
        }
    }
}

/// Whether a file is, or was, in the directory of a login.
fn is_in_login(file: &Path) -> bool {
    let directory = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
    directory.is_some_and(|name| crate::state::is_name_of_login(&name))
}

fn refused(issuer: &str, status: u16, message: &str) -> Hints {
    match (issuer, status) {
        (aws::NAME, _) => aws::refused(message),
        (google_cloud::NAME, _) => google_cloud::refused(status),
        (azure_devops::NAME, 404) => Hints::one(
            "Azure DevOps issues a token only for a service connection that a task of this job names as its input, and \
             only if the pipeline may use it: add a task with that `azureSubscription`, check the id, and authorise the pipeline",
        ),
        (azure_devops::NAME, 401 | 403) => Hints::one(
            "the job's access token was not accepted: map `SYSTEM_ACCESSTOKEN: $(System.AccessToken)`, not a personal access token",
        ),
        (github::NAME, 401 | 403) => {
            Hints::one("a request token is valid in its own job only, and for about six hours")
        }
        _ => Hints::none(),
    }
}

impl Platform {
    /// Which platform this job runs on, from its environment alone: never touches the network.
    ///
    /// A CI platform comes before `AZURE_FEDERATED_TOKEN_FILE`: an earlier login of the same job sets that variable,
    /// and self-hosted runners in pods have it for their own identity.
    ///
    /// `of_host` says which identity of the host is meant, where it is the host's.
    pub fn detect(
        env: &Env,
        args: &SourceArgs,
        audience: &Audience,
        of_host: &OfHost,
    ) -> Result<Self, Error> {
        match source(env, args)? {
            Source::Github => GitHub::detect(env).map(Self::GitHub),
            Source::Gitlab => GitLab::detect(env, args.assertion_env.as_ref(), audience).map(Self::GitLab),
            Source::AzureDevops => {
                AzureDevOps::detect(env, args.service_connection_id.as_ref()).map(Self::AzureDevOps)
            }
            Source::Buildkite => Buildkite::detect(env, args.subject_claim.as_ref()).map(Self::Buildkite),
            Source::Circleci => Ok(Self::CircleCi(CircleCi::detect(env))),
            Source::HcpTerraform => hcp_terraform::detect(env, audience).map(Self::HcpTerraform),
            Source::Spacelift => Ok(Self::Spacelift(spacelift::detect(env))),
            Source::Semaphore => semaphore::detect(env).map(Self::Semaphore),
            Source::Codefresh => Codefresh::detect(env, audience).map(Self::Codefresh),
            Source::GoogleCloud => GoogleCloud::detect(env).map(Self::GoogleCloud),
            Source::Aws => Aws::detect(env).map(Self::Aws),
            Source::File => match IdentityBinding::detect(env, args.assertion_file.as_deref())? {
                Some(binding) => Ok(Self::IdentityBinding(binding)),
                None => Stored::file(env, args.assertion_file.as_deref()).map(Self::Stored),
            },
            Source::Env => Stored::variable(env, args.assertion_env.as_ref()).map(Self::Stored),
            host => {
                let host = Host::detect(env, host)?;
                let identity = ManagedIdentity::new(host, of_host.selector.clone(), of_host.chosen)?;
                Ok(Self::ManagedIdentity(identity))
            }
        }
    }

    /// Who supplies the assertion, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::GitHub(github) => github.contract.to_string(),
            Self::GitLab(gitlab) => format!("{} in {}", gitlab::NAME, gitlab.variable),
            Self::Buildkite(buildkite) => {
                format!("{}, subject by {}", buildkite::NAME, buildkite.subject_claim())
            }
            Self::CircleCi(_) => circleci::NAME.to_owned(),
            Self::HcpTerraform(stored) => format!("{} in {}", hcp_terraform::NAME, stored.place()),
            Self::Spacelift(stored) => format!("{} in {}", spacelift::NAME, stored.place()),
            Self::Semaphore(stored) => format!("{} in {}", semaphore::NAME, stored.place()),
            Self::Codefresh(Codefresh::Asking(_)) => codefresh::NAME.to_owned(),
            Self::Codefresh(Codefresh::Ready(stored)) => {
                format!("{} in {}", codefresh::NAME, stored.place())
            }
            Self::GoogleCloud(_) => google_cloud::NAME.to_owned(),
            Self::Aws(_) => aws::NAME.to_owned(),
            Self::AzureDevOps(azure_devops) => {
                format!("{} for service connection {}", azure_devops::NAME, azure_devops.connection())
            }
            Self::Stored(stored) => stored.place(),
            Self::IdentityBinding(binding) => {
                format!("{}, by the cluster's token proxy", binding.stored.place())
            }
            Self::ManagedIdentity(identity) => identity.describe(),
        }
    }

    /// The token that something else put there, where it is that.
    fn stored(&self) -> Option<&Stored> {
        match self {
            Self::HcpTerraform(stored)
            | Self::Spacelift(stored)
            | Self::Semaphore(stored)
            | Self::Codefresh(Codefresh::Ready(stored))
            | Self::Stored(stored) => Some(stored),
            Self::IdentityBinding(binding) => Some(&binding.stored),
            _ => None,
        }
    }

    /// Whether asking again can give another assertion.
    pub fn is_renewable(&self) -> bool {
        match self {
            Self::GitLab(_) | Self::Spacelift(_) => false,
            other => match other.stored() {
                Some(stored) => matches!(stored, Stored::File(_)),
                None => true,
            },
        }
    }

    /// Whether it takes a request to get an assertion.
    pub fn is_minted(&self) -> bool {
        !matches!(self, Self::GitLab(_)) && self.stored().is_none()
    }

    /// Whether an assertion that was got a moment ago has its whole life before it. Google Cloud's metadata server
    /// gives the same one again while it lives.
    pub fn is_fresh(&self) -> bool {
        self.is_minted() && !matches!(self, Self::GoogleCloud(_))
    }

    /// Whether a login is kept fresh unless somebody says otherwise: where it mints, and later steps are other processes
    /// on the same machine.
    pub fn is_kept_fresh(&self) -> bool {
        matches!(self, Self::GitHub(_) | Self::AzureDevOps(_))
    }

    /// The audience that the platform gives all its tokens, whatever a job would like.
    pub fn fixed_audience(&self, ui: &Ui) -> Option<Audience> {
        match self {
            Self::Spacelift(_) | Self::Semaphore(_) => self.claims_in_hand(ui)?.aud.first()?.parse().ok(),
            _ => None,
        }
    }

    /// The flags that choose this platform again.
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Self::GitHub(_) => vec!["--source=github".to_owned()],
            Self::Buildkite(buildkite) => vec![
                "--source=buildkite".to_owned(),
                format!("--subject-claim={}", buildkite.subject_claim()),
            ],
            Self::CircleCi(_) => vec!["--source=circleci".to_owned()],
            Self::HcpTerraform(_) => vec!["--source=hcp-terraform".to_owned()],
            Self::Spacelift(_) => vec!["--source=spacelift".to_owned()],
            Self::Semaphore(_) => vec!["--source=semaphore".to_owned()],
            Self::Codefresh(_) => vec!["--source=codefresh".to_owned()],
            Self::GoogleCloud(_) => vec!["--source=google-cloud".to_owned()],
            Self::Aws(_) => vec!["--source=aws".to_owned()],
            Self::AzureDevOps(azure_devops) => vec![
                "--source=azure-devops".to_owned(),
                format!("--service-connection-id={}", azure_devops.connection()),
            ],
            Self::GitLab(gitlab) => {
                vec!["--source=gitlab".to_owned(), format!("--assertion-env={}", gitlab.variable)]
            }
            Self::Stored(Stored::File(path)) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                vec!["--source=file".to_owned(), format!("--assertion-file={}", path.display())]
            }
            Self::Stored(Stored::Variable(name, _)) => {
                vec!["--source=env".to_owned(), format!("--assertion-env={name}")]
            }
            // the proxy goes with the variable that names the file
            Self::IdentityBinding(_) => vec!["--source=file".to_owned()],
            Self::ManagedIdentity(identity) => vec![format!("--source={}", identity.host.source())],
        }
    }

    /// The variables that it takes its part from.
    pub fn variables(&self) -> Vec<&str> {
        match self {
            Self::GitHub(_) => vec![
                names::github::ID_TOKEN_REQUEST_URL,
                names::github::ID_TOKEN_REQUEST_TOKEN,
                names::github::FORGEJO_ACTIONS,
                names::github::GITEA_ACTIONS,
            ],
            Self::Buildkite(buildkite) => buildkite.program.variables().collect(),
            Self::CircleCi(circleci) => circleci.program.variables().collect(),
            Self::Codefresh(Codefresh::Asking(_)) => {
                vec![names::codefresh::OIDC_REQUEST_URL, names::codefresh::OIDC_REQUEST_TOKEN]
            }
            Self::GoogleCloud(_) => vec![names::google_cloud::METADATA_HOST],
            Self::Aws(_) => Aws::variables(),
            Self::HcpTerraform(stored)
            | Self::Spacelift(stored)
            | Self::Semaphore(stored)
            | Self::Codefresh(Codefresh::Ready(stored)) => stored.variable_name().into_iter().collect(),
            Self::AzureDevOps(_) => {
                vec![names::azure_devops::OIDC_REQUEST_URI, names::azure_devops::ACCESS_TOKEN]
            }
            Self::GitLab(gitlab) => vec![names::gitlab::SERVER_URL, &gitlab.variable],
            Self::Stored(stored) => stored.variable_name().into_iter().collect(),
            Self::IdentityBinding(_) => IdentityBinding::variables(),
            Self::ManagedIdentity(identity) => identity.host.variables(),
        }
    }

    /// The variables that open it, and so every resource that its assertions open.
    pub fn credentials(&self) -> Vec<&str> {
        match self {
            Self::GitHub(_) => {
                vec![names::github::ID_TOKEN_REQUEST_URL, names::github::ID_TOKEN_REQUEST_TOKEN]
            }
            Self::AzureDevOps(_) => vec![names::azure_devops::ACCESS_TOKEN],
            Self::Buildkite(_) => vec![names::buildkite::AGENT_ACCESS_TOKEN],
            Self::CircleCi(_) => vec![names::circleci::OIDC_TOKEN_V2, names::circleci::OIDC_TOKEN],
            // a step before may have left one
            Self::Codefresh(_) => vec![
                names::codefresh::OIDC_REQUEST_URL,
                names::codefresh::OIDC_REQUEST_TOKEN,
                names::codefresh::ID_TOKEN,
            ],
            Self::Stored(Stored::File(_)) | Self::IdentityBinding(_) => {
                vec![names::azure::FEDERATED_TOKEN_FILE]
            }
            // what opens them is not for this alone
            Self::GoogleCloud(_) | Self::Aws(_) | Self::ManagedIdentity(_) => Vec::new(),
            Self::GitLab(gitlab) => vec![&gitlab.variable],
            _ => self.variables(),
        }
    }

    /// The host's identity, where it is that.
    pub fn managed_identity(&self) -> Option<&ManagedIdentity> {
        match self {
            Self::ManagedIdentity(identity) => Some(identity),
            _ => None,
        }
    }

    /// Where assertions are asked for, if it takes a request.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::GitHub(github) => Some(&github.request_url),
            Self::AzureDevOps(azure_devops) => Some(&azure_devops.request_uri),
            Self::Codefresh(Codefresh::Asking(asking)) => Some(&asking.request_url),
            Self::GoogleCloud(google_cloud) => Some(&google_cloud.endpoint),
            Self::Aws(aws) => Some(&aws.endpoint),
            _ => None,
        }
    }

    /// Gets an assertion. It is masked in the job's log before it is returned.
    pub async fn fetch_assertion(
        &self,
        http: &Http,
        audience: &Audience,
        ui: &Ui,
    ) -> Result<Assertion, Error> {
        let assertion = match self {
            Self::GitHub(github) => github.fetch_assertion(http, audience, ui).await?,
            Self::AzureDevOps(azure_devops) => azure_devops.fetch_assertion(http, ui).await?,
            Self::GitLab(gitlab) => masked(ui, &gitlab.token, &gitlab.variable)?,
            Self::Buildkite(buildkite) => buildkite.fetch_assertion(audience, ui).await?,
            Self::CircleCi(circleci) => circleci.fetch_assertion(audience, ui).await?,
            Self::Codefresh(Codefresh::Asking(asking)) => asking.fetch_assertion(http, audience, ui).await?,
            Self::GoogleCloud(google_cloud) => google_cloud.fetch_assertion(audience, ui).await?,
            Self::Aws(aws) => aws.fetch_assertion(http, audience, ui).await?,
            Self::Spacelift(stored) => spacelift::fetch_assertion(stored, ui)?,
            Self::HcpTerraform(stored)
            | Self::Semaphore(stored)
            | Self::Codefresh(Codefresh::Ready(stored))
            | Self::Stored(stored) => stored.fetch_assertion(ui)?,
            Self::IdentityBinding(binding) => binding.stored.fetch_assertion(ui)?,
            Self::ManagedIdentity(identity) => {
                let token = identity.access_token(&audience.scope(), ui).await?;
                let place = || format!("the token of {}", identity.describe());
                Assertion::parse(&token.secret)
                    .map_err(|malformed| Error::Malformed { place: place(), malformed })?
            }
        };
        self.check(&assertion, audience)?;
        Ok(assertion)
    }

    /// What a token that is in hand claims, be it usable or not.
    pub fn claims_in_hand(&self, ui: &Ui) -> Option<Claims> {
        let assertion = match self {
            Self::GitLab(gitlab) => masked(ui, &gitlab.token, &gitlab.variable),
            other => other.stored()?.fetch_assertion(ui),
        };
        assertion.ok().map(|assertion| assertion.claims)
    }

    /// What can be said before anything is sent to Entra.
    ///
    /// A token that the platform minted a moment ago is not held against this machine's clock. Azure DevOps' newer
    /// tokens come from Entra, with Entra's own audience, which its federated credentials do not name.
    fn check(&self, assertion: &Assertion, audience: &Audience) -> Result<(), Error> {
        let place = match self {
            Self::AzureDevOps(_) => return Ok(()),
            Self::GitLab(gitlab) => gitlab.variable.clone(),
            other => other.stored().map_or_else(|| other.describe(), Stored::place),
        };
        // Entra writes the exchange audience as its application's id into tokens of its own
        let audiences = &assertion.claims.aud;
        let is_for_it = match self {
            // the proxy wants an audience of its own
            Self::IdentityBinding(_) => true,
            Self::ManagedIdentity(_) if !audiences.is_empty() => {
                audiences.iter().all(|aud| Uuid::try_parse(aud).is_ok())
            }
            Self::Stored(_) if is_entras(&assertion.claims) => audiences == &[EXCHANGE_APPLICATION],
            _ => false,
        };
        if !is_for_it && !assertion.claims.is_for(audience) {
            let presented =
                assertion.claims.aud.iter().map(|aud| text::one_line(aud)).collect::<Vec<_>>().join(", ");
            let presented = if presented.is_empty() { "nobody".to_owned() } else { presented };
            let hints = self.other_audience(audience);
            return Err(Error::Audience { place, presented, expected: audience.clone(), hints });
        }
        if !self.is_fresh()
            && let Some(since) = assertion.claims.expired_since(SystemTime::now())
        {
            return Err(Error::Expired { place, seconds: since.as_secs() });
        }
        Ok(())
    }
}

/// `api://AzureADTokenExchange` as Entra writes it.
const EXCHANGE_APPLICATION: &str = "fb60f99c-7a34-4190-8149-302f77469936";

/// Whether Entra is the issuer of a token.
fn is_entras(claims: &Claims) -> bool {
    let issuer = claims.iss.parse::<Endpoint>().ok();
    let authority = issuer.and_then(|issuer| issuer.url().host_str()?.parse::<Authority>().ok());
    authority.is_some_and(|authority| Cloud::of_authority(&authority).is_some())
}

impl Platform {
    /// The next steps where a token is for somebody else.
    fn other_audience(&self, audience: &Audience) -> Hints {
        match self {
            Self::GitLab(_) => gitlab::declare(audience),
            Self::HcpTerraform(_) => hcp_terraform::ask_for(audience),
            Self::Codefresh(_) => codefresh::obtain(audience),
            Self::Stored(stored) if stored.is_service_accounts_own() => stored::project(audience),
            Self::Spacelift(_) | Self::Semaphore(_) => Hints::one(
                "the platform gives all its tokens this audience: leave `--audience` away, and give the federated credential \
                 the platform's",
            ),
            _ => Hints::one(
                "have the token issued for that audience, or say `--audience` where the federated credential has another one",
            ),
        }
    }
}

/// Takes a token in hand: masked first, then read.
fn masked(ui: &Ui, token: &Secret, place: &str) -> Result<Assertion, Error> {
    let token = Secret::new(token.expose().trim().to_owned());
    if !token.expose().is_empty() {
        ui.mask(&[&token]).map_err(Error::Mask)?;
    }
    Assertion::parse(&token).map_err(|malformed| Error::Malformed { place: place.to_owned(), malformed })
}

/// Whose log this job writes, whatever the source of the assertion is.
pub fn runner(env: &Env) -> Runner {
    if env.get(names::github::ACTIONS) == Some("true") {
        Runner::GitHub
    } else if is_azure_devops(env) {
        Runner::AzureDevOps
    } else {
        Runner::Silent
    }
}

fn is_azure_devops(env: &Env) -> bool {
    env.get(names::azure_devops::TF_BUILD).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Whether a login here begins with the host's identity.
pub fn begins_with_host(env: &Env, args: &SourceArgs) -> bool {
    source(env, args).is_ok_and(Source::is_host)
}

/// Whether what `AZURE_FEDERATED_TOKEN_FILE` names was put there by a login of azfed's: behind an identity in between, it is
/// that identity's, and no beginning for another login.
fn is_of_login(env: &Env) -> bool {
    let file = env.get(names::azure::FEDERATED_TOKEN_FILE).map(Path::new);
    file.and_then(Path::parent).is_some_and(|directory| {
        env.get(names::azfed::LOGIN_DIR).is_some_and(|login| Path::new(login) == directory)
    })
}

/// Which source is meant; `Auto` where nothing but the instance metadata service is left.
fn source(env: &Env, args: &SourceArgs) -> Result<Source, Error> {
    let contradiction = |text: &str| Err(Error::Contradiction(text.to_owned()));
    match (args.source, &args.assertion_env, &args.assertion_file) {
        (_, Some(_), Some(_)) => {
            return contradiction("`--assertion-env` and `--assertion-file` name two sources");
        }
        (source, _, _)
            if source != Source::Auto
                && source.is_host()
                && (args.assertion_env.is_some() || args.assertion_file.is_some()) =>
        {
            return contradiction("a host's identity needs neither `--assertion-env` nor `--assertion-file`");
        }
        (Source::Auto, None, Some(_)) => return Ok(Source::File),
        (Source::Auto, _, None) => {}
        (Source::Gitlab | Source::Env, Some(_), None) | (Source::File, None, Some(_)) => {
            return Ok(args.source);
        }
        (_, Some(_), None) => {
            return contradiction("`--assertion-env` goes with `--source gitlab`, `env` or `auto`");
        }
        (_, None, Some(_)) => return contradiction("`--assertion-file` goes with `--source file` or `auto`"),
        (chosen, None, None) => return Ok(chosen),
    }
    let found: Vec<_> = marks(env).into_iter().filter(|(here, _, _)| *here).collect();
    match (found.as_slice(), &args.assertion_env) {
        ([(_, Some(Source::Gitlab), _)], Some(_)) => Ok(Source::Gitlab),
        ([] | [_], Some(_)) => Ok(Source::Env),
        // a runner of one's own in a cluster
        ([] | [(_, None, _)], None)
            if env.is_set(names::azure::FEDERATED_TOKEN_FILE)
                && !(args.via.is_some() && is_of_login(env)) =>
        {
            Ok(Source::File)
        }
        ([], None) => Ok(Source::Auto),
        ([(_, Some(only), _)], None) => Ok(*only),
        ([(_, None, _)], None) => Err(Error::Bitbucket),
        (several, _) => {
            Err(Error::Several(several.iter().map(|(_, _, name)| *name).collect::<Vec<_>>().join(", ")))
        }
    }
}

/// By what each CI platform says that a job is its own; Bitbucket has no source, as no credential could match.
fn marks(env: &Env) -> [(bool, Option<Source>, &'static str); 10] {
    let says = |name: &str| env.get(name) == Some("true");
    [
        (
            says(names::github::ACTIONS)
                || says(names::github::FORGEJO_ACTIONS)
                || says(names::github::GITEA_ACTIONS)
                || env.is_set(names::github::ID_TOKEN_REQUEST_URL),
            Some(Source::Github),
            github::NAME,
        ),
        (says(names::gitlab::CI), Some(Source::Gitlab), gitlab::NAME),
        (is_azure_devops(env), Some(Source::AzureDevops), azure_devops::NAME),
        (says(names::buildkite::BUILDKITE), Some(Source::Buildkite), buildkite::NAME),
        (says(names::circleci::CIRCLECI), Some(Source::Circleci), circleci::NAME),
        (
            env.is_set(names::hcp_terraform::RUN_ID)
                || env.iter().any(|(name, _)| hcp_terraform::is_token(name)),
            Some(Source::HcpTerraform),
            hcp_terraform::NAME,
        ),
        (
            env.is_set(names::spacelift::OIDC_TOKEN) || env.is_set(names::spacelift::RUN_ID),
            Some(Source::Spacelift),
            spacelift::NAME,
        ),
        (says(names::semaphore::SEMAPHORE), Some(Source::Semaphore), semaphore::NAME),
        (
            env.is_set(names::codefresh::BUILD_ID) || env.is_set(names::codefresh::OIDC_REQUEST_URL),
            Some(Source::Codefresh),
            codefresh::NAME,
        ),
        (env.is_set(names::bitbucket::BUILD_NUMBER), None, bitbucket::NAME),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(source: Source) -> SourceArgs {
        SourceArgs {
            source,
            assertion_env: None,
            assertion_file: None,
            service_connection_id: None,
            subject_claim: None,
            via: None,
            via_client_id: None,
            via_object_id: None,
            via_resource_id: None,
            via_tenant_id: None,
            timeout: Duration::from_mins(1),
        }
    }

    #[test]
    fn detection_takes_no_near_misses() {
        let table: [(&[(&str, &str)], Option<Source>); 37] = [
            (&[], Some(Source::Auto)),
            (&[("GITHUB_ACTIONS", "true")], Some(Source::Github)),
            (&[("GITHUB_ACTIONS", "")], Some(Source::Auto)),
            (&[("GITHUB_ACTIONS", "TRUE")], Some(Source::Auto)),
            (&[("GITHUB_ACTIONS", "1")], Some(Source::Auto)),
            (&[("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x")], Some(Source::Github)),
            (&[("GITLAB_CI", "true")], Some(Source::Gitlab)),
            (&[("GITLAB_CI", "1")], Some(Source::Auto)),
            (&[("TF_BUILD", "True")], Some(Source::AzureDevops)),
            (&[("TF_BUILD", "yes")], Some(Source::Auto)),
            (&[("AZURE_FEDERATED_TOKEN_FILE", "/x")], Some(Source::File)),
            (&[("AZURE_FEDERATED_TOKEN_FILE", "/x"), ("GITLAB_CI", "true")], Some(Source::Gitlab)),
            (&[("CI", "true")], Some(Source::Auto)),
            (&[("FORGEJO_ACTIONS", "true")], Some(Source::Github)),
            (&[("GITHUB_ACTIONS", "true"), ("GITEA_ACTIONS", "true")], Some(Source::Github)),
            (&[("GITEA_ACTIONS", "1")], Some(Source::Auto)),
            (&[("BUILDKITE", "true")], Some(Source::Buildkite)),
            (&[("BUILDKITE", "TRUE")], Some(Source::Auto)),
            (&[("BUILDKITE_OIDC_TOKEN_SUBJECT_CLAIM", "cluster_id")], Some(Source::Auto)),
            (&[("CIRCLECI", "true")], Some(Source::Circleci)),
            (&[("CIRCLECI", "1")], Some(Source::Auto)),
            (&[("CIRCLE_OIDC_TOKEN_V2", "x")], Some(Source::Auto)),
            (&[("TFC_RUN_ID", "run-1")], Some(Source::HcpTerraform)),
            (&[("TFC_WORKLOAD_IDENTITY_TOKEN", "x")], Some(Source::HcpTerraform)),
            (&[("TFC_WORKLOAD_IDENTITY_TOKEN_AZURE", "x")], Some(Source::HcpTerraform)),
            (&[("TFC_WORKLOAD_IDENTITY_AUDIENCE", "x")], Some(Source::Auto)),
            (&[("TFC_RUN_ID", "")], Some(Source::Auto)),
            (&[("SPACELIFT_OIDC_TOKEN", "x")], Some(Source::Spacelift)),
            (&[("TF_VAR_spacelift_run_id", "x")], Some(Source::Spacelift)),
            (&[("SEMAPHORE", "true")], Some(Source::Semaphore)),
            (&[("SEMAPHORE", "yes")], Some(Source::Auto)),
            (&[("SEMAPHORE_OIDC_TOKEN", "x")], Some(Source::Auto)),
            (&[("CF_BUILD_ID", "x")], Some(Source::Codefresh)),
            (&[("ID_TOKEN", "x")], Some(Source::Auto)),
            (&[("BITBUCKET_BUILD_NUMBER", "7")], None),
            (&[("BITBUCKET_BUILD_NUMBER", "7"), ("AZURE_FEDERATED_TOKEN_FILE", "/x")], Some(Source::File)),
            // never by themselves
            (&[("GCE_METADATA_HOST", "x"), ("K_SERVICE", "x"), ("AWS_REGION", "x")], Some(Source::Auto)),
        ];
        for (pairs, expected) in table {
            let found = source(&Env::from_pairs(pairs.iter().copied()), &args(Source::Auto));
            assert_eq!(found.ok(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn several_platforms_need_a_word() {
        let env = Env::from_pairs([("GITLAB_CI", "true"), ("TF_BUILD", "True")]);
        assert!(matches!(source(&env, &args(Source::Auto)), Err(Error::Several(_))));
        assert_eq!(source(&env, &args(Source::Gitlab)).ok(), Some(Source::Gitlab));
    }

    #[test]
    fn flags_that_exclude_one_another() {
        let env = Env::default();
        let both = SourceArgs {
            assertion_env: Some("A".parse().unwrap()),
            assertion_file: Some("b".into()),
            ..args(Source::Auto)
        };
        let github = SourceArgs { assertion_file: Some("b".into()), ..args(Source::Github) };
        for wrong in [both, github] {
            assert!(matches!(source(&env, &wrong), Err(Error::Contradiction(_))));
        }
    }
}
