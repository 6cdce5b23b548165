//! `azfed trust` for the CIs and clouds beside the big ones, each by its own terms.

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, and terminals show no markup")]

use clap::ValueEnum;
use uuid::Uuid;

use super::TrustOptions;
use crate::trust;

/// `azfed trust buildkite`
#[derive(Debug, clap::Args)]
pub struct BuildkiteTrust {
    /// Id of a pipeline (its settings, General); repeatable
    #[arg(long = "pipeline-id", value_name = "GUID", value_parser = trust::guid)]
    pub pipelines: Vec<Uuid>,
    /// Id of a cluster, for all its pipelines; log in with `--subject-claim cluster_id`
    #[arg(long = "cluster-id", value_name = "GUID", value_parser = trust::guid)]
    pub clusters: Vec<Uuid>,
    /// Id of a queue, for all that runs in it; log in with `--subject-claim queue_id`
    #[arg(long = "queue-id", value_name = "GUID", value_parser = trust::guid)]
    pub queues: Vec<Uuid>,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust circleci`
#[derive(Debug, clap::Args)]
pub struct CircleciTrust {
    /// Id of the organisation
    #[arg(long, value_name = "GUID", value_parser = trust::guid)]
    pub organization_id: Uuid,
    /// Id of the project
    #[arg(long, value_name = "GUID", value_parser = trust::guid)]
    pub project_id: Uuid,
    /// Id of a user whose pipelines may log in; repeatable
    #[arg(long = "user-id", value_name = "GUID", value_parser = trust::guid, required = true)]
    pub users: Vec<Uuid>,
    /// Repository, for tokens that name it: github.com/OWNER/NAME
    #[arg(long, value_name = "HOST/OWNER/NAME", requires = "vcs_ref")]
    pub vcs_origin: Option<String>,
    /// What was checked out, for tokens that name it: refs/heads/main
    #[arg(long, value_name = "REF", requires = "vcs_origin")]
    pub vcs_ref: Option<String>,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust hcp-terraform`
#[derive(Debug, clap::Args)]
pub struct HcpTerraformTrust {
    /// Organisation
    #[arg(long, value_name = "NAME")]
    pub organization: String,
    /// Project
    #[arg(long, value_name = "NAME", default_value = "Default Project")]
    pub project: String,
    /// Workspace; repeatable
    #[arg(long = "workspace", value_name = "NAME", required = true)]
    pub workspaces: Vec<String>,
    /// Phase of the run; repeatable [default: both]
    #[arg(long = "phase", value_name = "PHASE")]
    pub phases: Vec<Phase>,
    /// Host, where it is not app.terraform.io: app.eu.terraform.io, or Terraform Enterprise's
    #[arg(long, value_name = "HOST", default_value = "app.terraform.io")]
    pub hostname: String,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// A phase of a run of HCP Terraform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// What reads
    Plan,
    /// What writes
    Apply,
}

/// `azfed trust spacelift`
#[derive(Debug, clap::Args)]
pub struct SpaceliftTrust {
    /// Host of the account: NAME.app.spacelift.io
    #[arg(long, value_name = "HOST")]
    pub hostname: String,
    /// Id of the space
    #[arg(long, value_name = "ID")]
    pub space: String,
    /// Id of the stack
    #[arg(long, value_name = "ID", conflicts_with = "module", required_unless_present = "module")]
    pub stack: Option<String>,
    /// Id of the module
    #[arg(long, value_name = "ID")]
    pub module: Option<String>,
    /// Type of the run; repeatable [default: a stack's tracked and proposed, a module's testing]
    #[arg(long = "run-type", value_name = "TYPE")]
    pub run_types: Vec<RunType>,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// A type of run of Spacelift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunType {
    /// Of a pull request: reads
    Proposed,
    /// Of the tracked branch: reads in its plan, writes in its apply
    Tracked,
    /// A command: writes
    Task,
    /// Of a module: writes
    Testing,
    /// Removes a stack's resources: writes
    Destroy,
}

/// `azfed trust semaphore`
#[derive(Debug, clap::Args)]
pub struct SemaphoreTrust {
    /// Organisation, as in the URL
    #[arg(long, value_name = "NAME")]
    pub organization: String,
    /// Id of the project
    #[arg(long, value_name = "GUID", value_parser = trust::guid)]
    pub project_id: Uuid,
    /// Repository, without its owner
    #[arg(long, value_name = "NAME")]
    pub repo: String,
    /// Branch that the job runs for; repeatable
    #[arg(long = "branch", value_name = "NAME")]
    pub branches: Vec<String>,
    /// Tag that the job runs for; repeatable
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Semaphore's URL, where it is not https://ORGANIZATION.semaphoreci.com
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust codefresh`
#[derive(Debug, clap::Args)]
pub struct CodefreshTrust {
    /// Id of the account
    #[arg(long, value_name = "ID")]
    pub account_id: String,
    /// Id of the pipeline
    #[arg(long, value_name = "ID")]
    pub pipeline_id: String,
    /// User who starts the build by hand; without this and --repo-url, builds that a schedule starts
    #[arg(long, value_name = "NAME")]
    pub initiator: Option<String>,
    /// Repository, for builds that git starts: https://github.com/OWNER/NAME
    #[arg(long, value_name = "URL", requires_all = ["user", "git_ref"])]
    pub repo_url: Option<String>,
    /// User who pushes
    #[arg(long, value_name = "NAME", requires = "repo_url")]
    pub user: Option<String>,
    /// Branch or tag, by its name alone
    #[arg(long = "ref", value_name = "NAME", requires = "repo_url")]
    pub git_ref: Option<String>,
    /// Target branch, for builds of a pull request
    #[arg(long, value_name = "NAME", requires = "repo_url")]
    pub pull_request_target: Option<String>,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust forgejo`
#[derive(Debug, clap::Args)]
pub struct ForgejoTrust {
    /// Forgejo's URL
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// Repository
    #[arg(long, value_name = "OWNER/NAME")]
    pub repo: String,
    /// Ids of owner and repository, which repositories of 2026 and later have in their subjects
    #[arg(long, value_name = "OWNER-ID/REPOSITORY-ID")]
    pub immutable: Option<String>,
    /// Branch that the job runs for; repeatable
    #[arg(long = "branch", value_name = "NAME")]
    pub branches: Vec<String>,
    /// Tag that the job runs for; repeatable
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Jobs of pull requests
    #[arg(long)]
    pub pull_request: bool,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust google-cloud`
#[derive(Debug, clap::Args)]
pub struct GoogleCloudTrust {
    /// Numeric id of the service account: gcloud iam service-accounts describe … --format 'value(uniqueId)'
    #[arg(long, value_name = "NUMBER")]
    pub service_account_id: String,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust aws`
#[derive(Debug, clap::Args)]
pub struct AwsTrust {
    /// Issuer of the account: aws iam get-outbound-web-identity-federation-info
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// Principal: arn:aws:iam::ACCOUNT:role/NAME
    #[arg(long, value_name = "ARN")]
    pub principal: String,
    /// What to print
    #[command(flatten)]
    pub options: TrustOptions,
}

/// `azfed trust bitbucket`, `gitea` and `jenkins`, which say why there is nothing to print
#[derive(Debug, clap::Args)]
pub struct NoTrust {
    /// Whatever there is to say about the job
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub described: Vec<String>,
}
