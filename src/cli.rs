//! The command line, exactly as typed. What it means is decided in [`crate::config`].

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, and terminals show no markup")]

pub mod elsewhere;
mod late;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use uuid::Uuid;

use self::{
    elsewhere::{
        AwsTrust, BuildkiteTrust, CircleciTrust, CodefreshTrust, ForgejoTrust, GoogleCloudTrust,
        HcpTerraformTrust, NoTrust, SemaphoreTrust, SpaceliftTrust,
    },
    late::Late,
};
use crate::{
    cloud::{Cloud, CloudName},
    identifiers::{
        Audience, Authority, ClientId, Endpoint, ObjectId, ResourceId, RoleScope, Scope, ServiceConnectionId,
        SubjectClaim, SubscriptionId, TenantId, VariableName,
    },
    trust,
};

/// Where to begin.
const AT_FIRST: &str = "\
Before the job runs:  azfed trust github --repo OWNER/NAME --environment NAME   (other CIs: azfed trust --help)
In the job:           azfed login, or for one command: azfed exec -- COMMAND
On a VM, Arc server…: the same, as the host's managed identity; nothing comes before
When that fails:      azfed doctor, with the same identity and source, in the same job";

const LOGIN: &str = "\
On GitHub and Azure DevOps later steps have the login. In a shell, as on GitLab, the rest of it has:
  eval \"$(azfed login)\"
  azfed login --output powershell | Out-String | Invoke-Expression";

const EXEC: &str = "\
For example:
  azfed exec -- terraform apply
  azfed exec -- sh -c 'az group list && ./deploy.sh'";

const LOGOUT: &str = "\
On GitHub, GitLab and Azure DevOps it finds each login of the job. Elsewhere it is the one that AZFED_LOGIN_DIR names.";

const DOCTOR: &str = "\
Run it in the job whose login fails, with the login's flags for identity, cloud, OIDC token and clients. Those for resources,
long jobs and the form of the hand-over are the login's alone.";

const TRUST: &str = "\
Jenkins, and any other that has an OIDC token: in the job, `azfed trust here --assertion-env NAME`.
A managed identity of the host that a job runs on needs no credential.";

/// Logs a CI job in to Azure without a secret.
///
/// Reads the platform's OIDC token, exchanges it at Microsoft Entra for an identity's access token, and hands the
/// login to Terraform, az and the Azure SDKs.
#[derive(Debug, Parser)]
#[command(name = "azfed", version, about, long_about = None, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = AT_FIRST)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// Say what is done on stderr; never shows a token
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, action = ArgAction::SetTrue, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// azfed's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log this job in: Terraform, az and SDKs work in its later steps, with no secret anywhere
    #[command(after_help = LOGIN)]
    Login(Late<LoginArgs>),
    /// Run a command with a login that never expires, and that never touches the disk
    #[command(after_help = EXEC)]
    Exec(Late<ExecArgs>),
    /// Print an access token for one resource, alone, on stdout
    Token(Late<TokenArgs>),
    /// Print the platform's OIDC token (the assertion), alone, on stdout
    Assertion(Late<AssertionArgs>),
    /// Remove what this job's logins made, and only that
    #[command(after_help = LOGOUT)]
    Logout,
    /// Go through the login step by step, and say of each step: fine, or what is wrong and what to do
    #[command(after_help = DOCTOR)]
    Doctor(Late<DoctorArgs>),
    /// Print the federated identity credential that a job needs, before it runs; or compare with those there are
    #[command(subcommand, after_help = TRUST)]
    Trust(Late<TrustCommand>),
    /// What `exec` starts: becomes the command, which ends when `exec` has gone
    #[command(hide = true)]
    Become(Late<BecomeArgs>),
    /// What `exec` starts: waits for its end, and puts things in order where it was killed
    #[command(hide = true)]
    Watch,
    /// What `login` leaves running: renews the login until it is not needed any more
    #[command(hide = true)]
    Keep(Late<KeepArgs>),
}

impl Command {
    /// The command's name, as typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Login(_) => "login",
            Self::Exec(_) => "exec",
            Self::Token(_) => "token",
            Self::Assertion(_) => "assertion",
            Self::Logout => "logout",
            Self::Doctor(_) => "doctor",
            Self::Trust(_) => "trust",
            Self::Become(_) => "become",
            Self::Watch => "watch",
            Self::Keep(_) => "keep",
        }
    }
}

/// `azfed login`
#[derive(Debug, Clone, clap::Args)]
pub struct LoginArgs {
    /// Who to be
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,

    /// Resource to get an access token for, as a URI or a `/.default` scope; repeatable [default: Azure Resource Manager]
    #[arg(long = "scope", value_name = "SCOPE", help_heading = "Hand-over")]
    pub scopes: Vec<Scope>,

    /// Which clients the login is for
    #[arg(
        long = "for",
        value_name = "CLIENTS",
        value_delimiter = ',',
        default_value = "terraform,az,sdk",
        help_heading = "Hand-over"
    )]
    pub consumers: Vec<Consumer>,

    /// How later steps get the login
    #[arg(long, value_name = "FORM", default_value = "auto", help_heading = "Hand-over")]
    pub output: Output,

    /// On GitHub, put the first scope's access token into the step's output `access-token` (masked)
    #[arg(long, help_heading = "Hand-over")]
    pub output_access_token: bool,

    /// How it lasts
    #[command(flatten)]
    pub lasting: LastingArgs,

    /// Where this job has just made the identity or its federated credential: go on asking for this long while Entra
    /// does not know it yet, beside `--timeout`
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub wait_for_propagation: Option<Duration>,
}

/// What `azfed login` does for later steps of a long job.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Long jobs")]
pub struct LastingArgs {
    /// In the background, renew what is on disk, until `azfed logout` or the job's end [default on GitHub and Azure
    /// DevOps]
    #[arg(long, overrides_with = "no_keep_fresh")]
    pub keep_fresh: bool,

    /// Leave what is on disk as it is: it ends with the OIDC token
    #[arg(long, overrides_with = "keep_fresh", conflicts_with = "endpoints")]
    pub no_keep_fresh: bool,

    /// Put nothing on disk: serve later steps a managed identity endpoint and an OIDC request URL on loopback, until
    /// `azfed logout` or the job's end
    #[arg(long)]
    pub endpoints: bool,

    /// The only resources that the endpoints serve, as URIs or `/.default` scopes; repeatable [default: any]
    #[arg(long = "allow-scope", value_name = "SCOPE", requires = "endpoints")]
    pub allowed: Vec<Scope>,
}

/// `azfed doctor`
#[derive(Debug, Clone, clap::Args)]
pub struct DoctorArgs {
    /// Who to be
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,

    /// Which clients the login is for
    #[arg(
        long = "for",
        value_name = "CLIENTS",
        value_delimiter = ',',
        default_value = "terraform,az,sdk",
        help_heading = "Hand-over"
    )]
    pub consumers: Vec<Consumer>,

    /// Print one JSON object
    #[arg(long, help_heading = "Examination")]
    pub json: bool,

    /// Stop before the network
    #[arg(long, help_heading = "Examination", conflicts_with = "with_arm")]
    pub offline: bool,

    /// Read the identity's federated credentials with your own az login: the identity itself seldom may
    #[arg(long, help_heading = "Examination")]
    pub with_arm: bool,

    /// Take the identity's federated credentials from a file, as `az identity federated-credential list` or ARM prints
    /// them; `-` is stdin
    #[arg(long, value_name = "FILE", help_heading = "Examination", conflicts_with = "with_arm")]
    pub credentials: Option<PathBuf>,

    /// Azure Resource Manager's base URL, where it is not the cloud's own
    #[arg(long, value_name = "URL", help_heading = "Cloud")]
    pub resource_manager: Option<Endpoint>,
}

/// `azfed trust`
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// For jobs of a GitHub repository
    Github(GithubTrust),
    /// For jobs of a GitLab project
    Gitlab(GitlabTrust),
    /// For jobs that use a service connection of Azure DevOps
    AzureDevops(AzureDevopsTrust),
    /// For pods with a service account
    Kubernetes(KubernetesTrust),
    /// For jobs of Buildkite
    Buildkite(BuildkiteTrust),
    /// For jobs of a CircleCI project
    Circleci(CircleciTrust),
    /// For runs of a workspace of HCP Terraform or Terraform Enterprise: plan and apply
    HcpTerraform(HcpTerraformTrust),
    /// For runs of a stack or module of Spacelift
    Spacelift(SpaceliftTrust),
    /// For jobs of a Semaphore project
    Semaphore(SemaphoreTrust),
    /// For builds of a Codefresh pipeline
    Codefresh(CodefreshTrust),
    /// For jobs of a repository on Forgejo
    Forgejo(ForgejoTrust),
    /// For Google Cloud workloads with a service account
    GoogleCloud(GoogleCloudTrust),
    /// For AWS workloads with an IAM principal
    Aws(AwsTrust),
    /// Says why no credential can be for a step of Bitbucket Pipelines, and the way out
    Bitbucket(NoTrust),
    /// Says why no credential for a job of Gitea Actions can be made ahead, and the way out
    Gitea(NoTrust),
    /// Says how to see the credential of a Jenkins job
    Jenkins(NoTrust),
    /// For the job that this runs in, from its OIDC token
    Here(HereTrust),
    /// Say which credential of a list matches a job, or how the nearest one differs; exit code 4 where none matches
    Check(CheckTrust),
    /// Create an identity, credentials and a role assignment with your own az login; shows the plan first
    Apply(ApplyTrust),
}

/// `azfed trust github`
#[derive(Debug, clap::Args)]
pub struct GithubTrust {
    /// Repository
    #[arg(long, value_name = "OWNER/NAME")]
    pub repo: String,
    /// Deployment environment of the job; repeatable
    #[arg(long = "environment", value_name = "NAME")]
    pub environments: Vec<String>,
    /// Branch that the job runs for; repeatable
    #[arg(long = "branch", value_name = "NAME")]
    pub branches: Vec<String>,
    /// Tag that the job runs for; repeatable
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Jobs of pull requests
    #[arg(long)]
    pub pull_request: bool,
    /// Only in this reusable workflow, as OWNER/REPOSITORY/.github/workflows/FILE@refs/heads/BRANCH
    #[arg(long, value_name = "WORKFLOW")]
    pub reusable_workflow: Option<String>,
    /// Ids of owner and repository, where the repository has immutable subjects
    #[arg(long, value_name = "OWNER-ID/REPOSITORY-ID")]
    pub immutable: Option<String>,
    /// Issuer, where it is not github.com's
    #[arg(long, value_name = "URL", default_value = "https://token.actions.githubusercontent.com")]
    pub issuer: String,
    /// JSON file of identities: prints every credential that it needs, instead of those named by flags
    #[arg(long, value_name = "FILE")]
    pub identity_map: Option<PathBuf>,
    /// Print flexible credentials (preview): `*` in names, checked with the repository's id; needs --immutable
    #[arg(long, requires = "immutable")]
    pub flexible: bool,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust gitlab`
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct GitlabTrust {
    /// Project, with its groups
    #[arg(long, value_name = "GROUP/PROJECT")]
    pub project: String,
    /// Branch that the job runs for; repeatable
    #[arg(long = "branch", value_name = "NAME")]
    pub branches: Vec<String>,
    /// Tag that the job runs for; repeatable
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// The branch or tag is a protected one, whichever it is where none is named (GitLab 18.7; sets the project's
    /// sub-claim components)
    #[arg(long)]
    pub ref_protected: bool,
    /// The job's environment is a protected one (GitLab 18.7; sets the project's sub-claim components)
    #[arg(long)]
    pub environment_protected: bool,
    /// Deployment tier of the job's environment (GitLab 18.7; sets the project's sub-claim components)
    #[arg(
        long,
        value_name = "TIER",
        value_parser = ["production", "staging", "testing", "development", "other"],
        conflicts_with = "identity_map"
    )]
    pub deployment_tier: Option<String>,
    /// Name the project by its id, which no rename gives to another (sets the project's sub-claim components)
    #[arg(long, requires = "project_id")]
    pub by_id: bool,
    /// GitLab's URL, which is its issuer
    #[arg(long, value_name = "URL", default_value = "https://gitlab.com")]
    pub server: String,
    /// JSON file of identities: prints every credential that it needs, instead of those named by flags
    #[arg(long, value_name = "FILE")]
    pub identity_map: Option<PathBuf>,
    /// Print flexible credentials (preview): `*` in names, checked with the project's id; needs --project-id
    #[arg(long, requires = "project_id")]
    pub flexible: bool,
    /// The project's id, for --by-id and for flexible credentials
    #[arg(long, value_name = "NUMBER")]
    pub project_id: Option<u64>,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust azure-devops`
#[derive(Debug, clap::Args)]
pub struct AzureDevopsTrust {
    /// Id of the organisation; without it, azfed says how az tells it
    #[arg(long, value_name = "GUID", value_parser = trust::guid)]
    pub organization_id: Option<Uuid>,
    /// Tenant of the service connection (newer issuer)
    #[arg(long, value_name = "GUID", value_parser = trust::guid)]
    pub tenant_id: Option<Uuid>,
    /// Id of the service connection (newer issuer)
    #[arg(long, value_name = "GUID", value_parser = trust::guid)]
    pub connection_id: Option<Uuid>,
    /// Name of the organisation (older issuer)
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    /// Name of the project (older issuer)
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Name of the service connection (older issuer)
    #[arg(long, value_name = "NAME")]
    pub connection: Option<String>,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust kubernetes`
#[derive(Debug, clap::Args)]
pub struct KubernetesTrust {
    /// Issuer of the cluster, with its slash at the end where it has one
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// Namespace
    #[arg(long, value_name = "NAME")]
    pub namespace: String,
    /// Service account
    #[arg(long, value_name = "NAME")]
    pub service_account: String,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust here`
#[derive(Debug, clap::Args)]
pub struct HereTrust {
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust check`
#[derive(Debug, clap::Args)]
pub struct CheckTrust {
    /// Credentials as `az identity federated-credential list` or ARM prints them; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Issuer that the job presents, instead of an OIDC token
    #[arg(long, value_name = "URL", requires = "subject")]
    pub issuer: Option<String>,
    /// Subject that the job presents, instead of an OIDC token
    #[arg(long, value_name = "SUBJECT", requires = "issuer")]
    pub subject: Option<String>,
    /// The Azure cloud, for its audience
    #[command(flatten)]
    pub cloud: CloudArgs,
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,
}

/// `azfed trust apply`
#[derive(Debug, clap::Args)]
pub struct ApplyTrust {
    /// Credentials as `azfed trust … --as json` prints them; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Subscription of the identity
    #[arg(long, value_name = "GUID")]
    pub subscription_id: SubscriptionId,
    /// Resource group of the identity, which must be there [default: the one that the file names]
    #[arg(long, value_name = "NAME")]
    pub resource_group: Option<String>,
    /// Name of the user-assigned managed identity [default: each credential's own, as the file names it]
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Where to make the identity, if it is not there
    #[arg(long, value_name = "REGION")]
    pub location: Option<String>,
    /// Role to assign to the identity
    #[arg(long, value_name = "NAME", requires = "scope")]
    pub role: Option<String>,
    /// Where, as a resource id: /subscriptions/…, or a management group's
    #[arg(long, value_name = "RESOURCE-ID", requires = "role")]
    pub scope: Option<RoleScope>,
    /// Do it
    #[arg(long)]
    pub yes: bool,
    /// The Azure cloud
    #[arg(long, value_name = "NAME")]
    pub cloud: Option<CloudName>,
    /// Azure Resource Manager's base URL, where it is not the cloud's own
    #[arg(long, value_name = "URL")]
    pub resource_manager: Option<Endpoint>,
    /// Give up on a request after this long, all tries together: seconds, or with a unit as in 90s, 2m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// What `azfed trust` prints.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct TrustOptions {
    /// For which tool
    #[arg(long = "as", value_name = "FORM", default_value = "az")]
    pub form: Form,
    /// Name of the user-assigned managed identity
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Its resource group
    #[arg(long, value_name = "NAME")]
    pub resource_group: Option<String>,
    /// Client id of the app registration (--as az-app), or of the managed identity, which `apply` then compares
    #[arg(long, value_name = "GUID")]
    pub client_id: Option<ClientId>,
    /// Name of the credential; with several, the beginning of their names
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The Azure cloud, for its audience
    #[arg(long, value_name = "NAME")]
    pub cloud: Option<CloudName>,
    /// Audience, where it is not the cloud's own
    #[arg(long, value_name = "AUDIENCE")]
    pub audience: Option<Audience>,
}

impl TrustOptions {
    /// The credential's audience.
    pub fn audience(&self) -> String {
        let clouds_own = self.cloud.map_or_else(Cloud::public, |CloudName(cloud)| cloud).audience();
        self.audience.as_ref().unwrap_or(&clouds_own).to_string()
    }
}

/// A tool that creates federated identity credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Shell commands for Azure CLI
    Az,
    /// Shell commands for Azure CLI, for an app registration
    AzApp,
    /// HCL for azurerm 5
    Terraform,
    /// HCL for azurerm 4
    #[value(name = "terraform-azurerm4")]
    TerraformAzurerm4,
    /// A Bicep file
    Bicep,
    /// An ARM template
    Arm,
    /// A list, as `az identity federated-credential list` prints it
    Json,
}

/// `azfed keep`
#[derive(Debug, clap::Args)]
pub struct KeepArgs {
    /// Who to be
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,

    /// Serve the endpoints
    #[arg(long)]
    pub endpoints: bool,

    /// The only resources that they serve
    #[arg(long = "allow-scope", value_name = "SCOPE")]
    pub allowed: Vec<Scope>,
}

/// `azfed exec`
#[derive(Debug, Clone, clap::Args)]
pub struct ExecArgs {
    /// Who to be
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,

    /// Which clients the login is for
    #[arg(
        long = "for",
        value_name = "CLIENTS",
        value_delimiter = ',',
        default_value = "terraform,az,sdk",
        help_heading = "Hand-over"
    )]
    pub consumers: Vec<Consumer>,

    /// The only resources that the command may ask for, as URIs or `/.default` scopes; repeatable [default: any]
    #[arg(long = "allow-scope", value_name = "SCOPE", help_heading = "Limits")]
    pub allowed: Vec<Scope>,

    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND", help_heading = "Command")]
    pub command: Vec<OsString>,
}

/// `azfed become`
#[derive(Debug, clap::Args)]
pub struct BecomeArgs {
    /// Process id of the `exec` that started this one
    #[arg(long)]
    pub parent: u32,

    /// The command and its arguments
    #[arg(required = true, last = true)]
    pub command: Vec<OsString>,
}

/// `azfed token`
#[derive(Debug, Clone, clap::Args)]
pub struct TokenArgs {
    /// Who to be
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,

    /// Resource to get an access token for, as a URI or a `/.default` scope [default: Azure Resource Manager]
    #[arg(long, value_name = "SCOPE", help_heading = "Hand-over")]
    pub scope: Option<Scope>,

    /// What to print
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Hand-over")]
    pub format: TokenFormat,
}

/// `azfed assertion`
#[derive(Debug, clap::Args)]
pub struct AssertionArgs {
    /// The Azure cloud, for its audience
    #[command(flatten)]
    pub cloud: CloudArgs,
    /// Where the assertion comes from
    #[command(flatten)]
    pub source: SourceArgs,
}

/// Who to be.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Identity")]
pub struct IdentityArgs {
    /// Client id of the managed identity or app registration [variables: AZURE_CLIENT_ID, ARM_CLIENT_ID]
    #[arg(long, value_name = "GUID")]
    pub client_id: Option<ClientId>,

    /// Tenant that the identity is in [variables: AZURE_TENANT_ID, ARM_TENANT_ID]
    #[arg(long, value_name = "GUID")]
    pub tenant_id: Option<TenantId>,

    /// Object (principal) id of a managed identity of this host, instead of its client id
    #[arg(long, value_name = "GUID", conflicts_with = "client_id")]
    pub object_id: Option<ObjectId>,

    /// Resource id of a managed identity of this host, instead of its client id
    #[arg(long, value_name = "RESOURCE-ID", conflicts_with_all = ["client_id", "object_id"])]
    pub resource_id: Option<ResourceId>,

    /// Subscription that Terraform and az work in [variables: AZURE_SUBSCRIPTION_ID, ARM_SUBSCRIPTION_ID]
    #[arg(long, value_name = "GUID")]
    pub subscription_id: Option<SubscriptionId>,

    /// JSON file that says which identity a job is, by its environment, branch or tag; instead of --client-id
    #[arg(long, value_name = "FILE", conflicts_with_all = ["client_id", "object_id", "resource_id"])]
    pub identity_map: Option<PathBuf>,

    /// Cloud, authority and audience
    #[command(flatten)]
    pub cloud: CloudArgs,
}

/// The cloud to log in to.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cloud")]
pub struct CloudArgs {
    /// AzureCloud, AzureUSGovernment or AzureChinaCloud [variables: AZURE_ENVIRONMENT, ARM_ENVIRONMENT]
    #[arg(long, value_name = "NAME")]
    pub cloud: Option<CloudName>,

    /// Entra's base URL, where it is not the cloud's own [variable: AZURE_AUTHORITY_HOST]
    #[arg(long, value_name = "URL")]
    pub authority_host: Option<Authority>,

    /// Audience of the OIDC token, where the federated credential's is not the cloud's own
    #[arg(long, value_name = "AUDIENCE")]
    pub audience: Option<Audience>,
}

/// Where the assertion comes from.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "OIDC token")]
pub struct SourceArgs {
    /// Where the OIDC token comes from, or which host's managed identity to be
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub source: Source,

    /// Variable that holds the OIDC token (GitLab's `id_tokens:`, Jenkins, others)
    #[arg(long, value_name = "NAME")]
    pub assertion_env: Option<VariableName>,

    /// File that holds the OIDC token [variable: AZURE_FEDERATED_TOKEN_FILE]
    #[arg(long, value_name = "PATH")]
    pub assertion_file: Option<PathBuf>,

    /// Azure DevOps service connection [variables: AZURESUBSCRIPTION_SERVICE_CONNECTION_ID,
    /// ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID, ARM_OIDC_AZURE_SERVICE_CONNECTION_ID]
    #[arg(long, value_name = "GUID")]
    pub service_connection_id: Option<ServiceConnectionId>,

    /// On Buildkite, the claim that is the subject: pipeline_id, cluster_id, queue_id, organization_id [default:
    /// pipeline_id] [variable: BUILDKITE_OIDC_TOKEN_SUBJECT_CLAIM]
    #[arg(long, value_name = "CLAIM")]
    pub subject_claim: Option<SubjectClaim>,

    /// An identity between the OIDC token and `--client-id`, which is then an app registration that trusts it
    #[arg(long, value_name = "KIND")]
    pub via: Option<Between>,

    /// Client id of the managed identity in between
    #[arg(long, value_name = "GUID", requires = "via")]
    pub via_client_id: Option<ClientId>,

    /// Its object id instead, where it is this host's
    #[arg(long, value_name = "GUID", requires = "via", conflicts_with = "via_client_id")]
    pub via_object_id: Option<ObjectId>,

    /// Its resource id instead, where it is this host's
    #[arg(long, value_name = "RESOURCE-ID", requires = "via", conflicts_with_all = ["via_client_id", "via_object_id"])]
    pub via_resource_id: Option<ResourceId>,

    /// Tenant of the managed identity in between, where `--tenant-id` is another one
    #[arg(long, value_name = "GUID", requires = "via")]
    pub via_tenant_id: Option<TenantId>,

    /// Give up after this long, all tries together: seconds, or with a unit as in 90s, 2m
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, help_heading = "Limits")]
    pub timeout: Duration,
}

/// Who supplies the assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The CI platform that this job runs on, else AZURE_FEDERATED_TOKEN_FILE, else the host's managed identity
    Auto,
    /// GitHub Actions; Forgejo and Gitea Actions
    Github,
    /// GitLab CI
    Gitlab,
    /// Azure DevOps
    AzureDevops,
    /// Buildkite
    Buildkite,
    /// CircleCI
    Circleci,
    /// HCP Terraform and Terraform Enterprise
    HcpTerraform,
    /// Spacelift
    Spacelift,
    /// Semaphore
    Semaphore,
    /// Codefresh
    Codefresh,
    /// A file, as in Kubernetes pods
    File,
    /// An environment variable
    Env,
    /// A workload on Google Cloud, by its service account; never chosen by itself
    GoogleCloud,
    /// A workload on AWS, by its IAM principal; never chosen by itself
    Aws,
    /// A managed identity of the host that this runs on, whatever host it is
    ManagedIdentity,
    /// The same, of an Azure VM, scale set, container instance or node
    Imds,
    /// The same, of App Service, Functions, Container Apps
    AppService,
    /// The same, of Automation
    Automation,
    /// The same, of an Azure Arc-enabled server
    Arc,
    /// The same, of Service Fabric
    ServiceFabric,
    /// The same, of Azure Machine Learning
    AzureMl,
    /// The signed-in user, in Cloud Shell
    CloudShell,
}

impl Source {
    /// Whether it is the host itself, or the search for it that is left when there is no other mark.
    pub fn is_host(self) -> bool {
        match self {
            Self::Github
            | Self::Gitlab
            | Self::AzureDevops
            | Self::Buildkite
            | Self::Circleci
            | Self::HcpTerraform
            | Self::Spacelift
            | Self::Semaphore
            | Self::Codefresh
            | Self::File
            | Self::Env
            | Self::GoogleCloud
            | Self::Aws => false,
            Self::Auto
            | Self::ManagedIdentity
            | Self::Imds
            | Self::AppService
            | Self::Automation
            | Self::Arc
            | Self::ServiceFabric
            | Self::AzureMl
            | Self::CloudShell => true,
        }
    }
}

/// What stands between the assertion's source and the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Between {
    /// A managed identity, whose token for the exchange audience is the assertion
    ManagedIdentity,
}

/// A client that the login is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Consumer {
    /// Terraform and OpenTofu, provider and backend; Pulumi
    Terraform,
    /// Azure CLI
    Az,
    /// Azure SDKs, kubelogin, AzCopy, azd
    Sdk,
}

impl Consumer {
    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terraform => "Terraform",
            Self::Az => "az",
            Self::Sdk => "the Azure SDKs",
        }
    }
}

/// How later steps get the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// What the platform offers, else `sh`
    Auto,
    /// GITHUB_ENV, GITHUB_OUTPUT, GITHUB_STATE, GITHUB_STEP_SUMMARY
    Github,
    /// `##vso[task.setvariable]` on stdout
    AzureDevops,
    /// `export` lines for `eval` in a POSIX shell
    Sh,
    /// `$env:` lines for Invoke-Expression
    Powershell,
    /// `set -gx` lines for fish
    Fish,
    /// NAME=VALUE lines
    Dotenv,
    /// One JSON object
    Json,
}

/// What `azfed token` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenFormat {
    /// The access token
    Text,
    /// token, expires_on, scope, client, tenant
    Json,
}

/// Between a second and an hour.
fn duration(value: &str) -> Result<Duration, String> {
    let value = value.trim();
    let (number, unit) = match value.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (value.strip_suffix('s').unwrap_or(value), 1),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (1..=3600).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "not between 1s and 60m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_agrees() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (given, seconds) in [("60", 60), ("90s", 90), ("2m", 120), ("3600", 3600)] {
            assert_eq!(duration(given), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "0", "-1", "61m", "1h", "s", "18446744073709551615m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
