//! The CIs and clouds beside the big ones: from a description to the credentials of their jobs.

use super::{Error, Job, Trust, immutable, part, plain, reference, repository};
use crate::{
    cli::{
        TrustOptions,
        elsewhere::{
            AwsTrust, BuildkiteTrust, CircleciTrust, CodefreshTrust, ForgejoTrust, GoogleCloudTrust,
            HcpTerraformTrust, Phase, RunType, SemaphoreTrust, SpaceliftTrust,
        },
    },
    platform::{buildkite, circleci, codefresh, google_cloud},
    subject::{self, CodefreshTrigger, Context, Repository},
    text,
};

impl Job {
    fn of(name: String, issuer: &str, subject: String) -> Self {
        Self { name, issuer: issuer.to_owned(), subject, anchor: None, identity: None }
    }
}

/// A word of a subject whose parts have this mark between them.
fn segment(flag: &'static str, value: &str, mark: char) -> Result<String, Error> {
    let value = plain(flag, value)?;
    if value.contains(mark) {
        return Err(part(flag, &value, "has the mark in it that stands between the parts of a subject"));
    }
    Ok(value)
}

/// A host's name, which is all that an issuer has beside its scheme.
fn host(flag: &'static str, value: &str) -> Result<String, Error> {
    let value = plain(flag, value.trim_end_matches('/'))?;
    let value = value.strip_prefix("https://").unwrap_or(&value).to_owned();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_host) {
        return Err(part(flag, &value, "is not the name of a host"));
    }
    Ok(value)
}

/// A platform that fixes the audience fixes the credential's too.
fn with_audience(options: &TrustOptions, audience: &str) -> Result<TrustOptions, Error> {
    let audience = match &options.audience {
        Some(audience) => audience.clone(),
        None => audience.parse().map_err(|_| part("audience", audience, "is not an audience"))?,
    };
    Ok(TrustOptions { audience: Some(audience), ..options.clone() })
}

impl Trust {
    /// Jobs of Buildkite.
    pub fn buildkite(described: &BuildkiteTrust) -> Result<Self, Error> {
        let of = |ids: &[uuid::Uuid], what: &str| {
            let jobs = ids.iter().map(|id| {
                Job::of(
                    format!("buildkite-{what}-{}", &id.to_string()[..8]),
                    buildkite::ISSUER,
                    id.to_string(),
                )
            });
            jobs.collect::<Vec<_>>()
        };
        let jobs = [
            of(&described.pipelines, "pipeline"),
            of(&described.clusters, "cluster"),
            of(&described.queues, "queue"),
        ]
        .concat();
        if jobs.is_empty() {
            return Err(Error::Nothing("say whose jobs: --pipeline-id, --cluster-id or --queue-id"));
        }
        let mut trust = Self::new(jobs, &described.options)?;
        for (ids, claim) in [(&described.clusters, "cluster_id"), (&described.queues, "queue_id")] {
            if !ids.is_empty() {
                trust.notes.push(format!(
                    "Log in with --subject-claim {claim}, or set BUILDKITE_OIDC_TOKEN_SUBJECT_CLAIM={claim}."
                ));
            }
        }
        trust.notes.push("Every build has this subject, whatever its branch, pull requests from forks too where they are built: give deployments a pipeline of their own.".to_owned());
        Ok(trust)
    }

    /// Jobs of `CircleCI`.
    pub fn circleci(described: &CircleciTrust) -> Result<Self, Error> {
        let issuer = format!("{}{}", circleci::ISSUER, described.organization_id);
        let vcs = match (&described.vcs_origin, &described.vcs_ref) {
            (Some(origin), Some(git_ref)) => {
                Some((plain("--vcs-origin", origin)?, plain("--vcs-ref", git_ref)?))
            }
            _ => None,
        };
        let jobs = described.users.iter().map(|user| {
            let vcs = vcs.as_ref().map(|(origin, git_ref)| (origin.as_str(), git_ref.as_str()));
            let subject = subject::circleci(described.organization_id, described.project_id, *user, vcs);
            Job::of(format!("circleci-{}", &user.to_string()[..8]), &issuer, subject)
        });
        let mut trust = Self::new(jobs.collect(), &described.options)?;
        trust.notes.push("The subject has the user who started the pipeline: each user needs a credential, and `azfed trust here` in a job says which form the subject has. Or start deployments by a schedule, which runs as one user.".to_owned());
        Ok(trust)
    }

    /// Runs of HCP Terraform and Terraform Enterprise.
    pub fn hcp_terraform(described: &HcpTerraformTrust) -> Result<Self, Error> {
        let issuer = format!("https://{}", host("--hostname", &described.hostname)?);
        let organization = segment("--organization", &described.organization, ':')?;
        let project = segment("--project", &described.project, ':')?;
        let phases = match described.phases.as_slice() {
            [] => &[Phase::Plan, Phase::Apply],
            phases => phases,
        };
        let mut jobs = Vec::new();
        for workspace in &described.workspaces {
            let workspace = segment("--workspace", workspace, ':')?;
            for phase in phases {
                let phase = if *phase == Phase::Plan { "plan" } else { "apply" };
                let subject = subject::hcp_terraform(&organization, &project, &workspace, phase);
                jobs.push(Job::of(format!("{workspace}-{phase}"), &issuer, subject));
            }
        }
        let mut trust = Self::new(jobs, &described.options)?;
        let audience = described.options.audience();
        trust.notes.push(format!("The workspace needs the environment variable TFC_WORKLOAD_IDENTITY_AUDIENCE={}, or with a tag such as _AZURE behind its name.", text::shell_word(&audience)));
        trust.notes.push(
            "Give plan an identity that only reads, and apply another: print them with --phase.".to_owned(),
        );
        Ok(trust)
    }

    /// Runs of Spacelift.
    pub fn spacelift(described: &SpaceliftTrust) -> Result<Self, Error> {
        let host = host("--hostname", &described.hostname)?;
        let issuer = format!("https://{host}");
        let space = segment("--space", &described.space, ':')?;
        let (caller, id) = match (&described.stack, &described.module) {
            (Some(stack), _) => ("stack", segment("--stack", stack, ':')?),
            (None, Some(module)) => ("module", segment("--module", module, ':')?),
            (None, None) => return Err(Error::Nothing("say --stack or --module")),
        };
        let run_types = match described.run_types.as_slice() {
            [] if caller == "module" => &[RunType::Testing],
            [] => &[RunType::Tracked, RunType::Proposed][..],
            run_types => run_types,
        };
        let mut jobs = Vec::new();
        for run_type in run_types {
            let (name, scopes): (_, &[&str]) = match run_type {
                RunType::Proposed => ("PROPOSED", &["read"]),
                // the plan of a run that somebody confirms reads
                RunType::Tracked => ("TRACKED", &["read", "write"]),
                RunType::Task => ("TASK", &["write"]),
                RunType::Testing => ("TESTING", &["write"]),
                RunType::Destroy => ("DESTROY", &["write"]),
            };
            for scope in scopes {
                let subject = subject::spacelift(&space, caller, &id, name, scope);
                jobs.push(Job::of(format!("{id}-{}-{scope}", name.to_ascii_lowercase()), &issuer, subject));
            }
        }
        let mut trust = Self::new(jobs, &with_audience(&described.options, &host)?)?;
        trust.notes.push("Spacelift gives all its tokens this audience, the account's host; azfed asks Entra with it by itself.".to_owned());
        Ok(trust)
    }

    /// Jobs of Semaphore.
    pub fn semaphore(described: &SemaphoreTrust) -> Result<Self, Error> {
        let organization = segment("--organization", &described.organization, ':')?;
        let issuer = match &described.server {
            Some(server) => plain("--server", server.trim_end_matches('/'))?,
            None => {
                format!("https://{}", host("--organization", &format!("{organization}.semaphoreci.com"))?)
            }
        };
        let repo = segment("--repo", &described.repo, ':')?;
        let mut contexts = Vec::new();
        for branch in &described.branches {
            contexts.push((branch, Context::Branch(reference("--branch", false, branch)?)));
        }
        for tag in &described.tags {
            contexts.push((tag, Context::Tag(reference("--tag", false, tag)?)));
        }
        if contexts.is_empty() {
            return Err(Error::Nothing("say what the job runs for: --branch or --tag"));
        }
        let jobs = contexts.iter().filter_map(|(name, context)| {
            let subject = subject::semaphore(&organization, described.project_id, &repo, context)?;
            Some(Job::of(format!("{repo}-{name}"), &issuer, subject))
        });
        let jobs = jobs.collect();
        let mut trust = Self::new(jobs, &with_audience(&described.options, &issuer)?)?;
        trust.notes.push(
            "Semaphore gives all its tokens this audience, its issuer; azfed asks Entra with it by itself."
                .to_owned(),
        );
        Ok(trust)
    }

    /// Builds of Codefresh.
    pub fn codefresh(described: &CodefreshTrust) -> Result<Self, Error> {
        let account = segment("--account-id", &described.account_id, ':')?;
        let pipeline = segment("--pipeline-id", &described.pipeline_id, ':')?;
        let initiator =
            described.initiator.as_deref().map(|name| segment("--initiator", name, ':')).transpose()?;
        let git = match (&described.repo_url, &described.user, &described.git_ref) {
            (Some(url), Some(user), Some(git_ref)) => Some((
                plain("--repo-url", url)?,
                segment("--user", user, ':')?,
                reference("--ref", false, git_ref)?,
            )),
            _ => None,
        };
        let target = described
            .pull_request_target
            .as_deref()
            .map(|name| reference("--pull-request-target", false, name))
            .transpose()?;
        let trigger = CodefreshTrigger { initiator, git, target };
        let job = Job::of(
            format!("codefresh-{pipeline}"),
            codefresh::ISSUER,
            subject::codefresh(&account, &pipeline, &trigger),
        );
        let mut trust = Self::new(vec![job], &described.options)?;
        trust.notes.push("The subject has what started the build, and who: each needs a credential. `azfed trust here` in a build prints its own.".to_owned());
        Ok(trust)
    }

    /// Jobs of Forgejo Actions.
    pub fn forgejo(described: &ForgejoTrust) -> Result<Self, Error> {
        let server = plain("--server", described.server.trim_end_matches('/'))?;
        if !server.starts_with("https://") {
            return Err(part("--server", &server, "is no https URL that Entra could ask for its keys"));
        }
        let issuer = format!("{server}/api/actions");
        let (owner, name) = repository(&described.repo)?;
        let ids = described.immutable.as_deref().map(immutable).transpose()?;
        let repository = Repository { owner: owner.to_owned(), name: name.to_owned(), ids };
        let mut contexts = Vec::new();
        for branch in &described.branches {
            contexts.push((branch.as_str(), Context::Branch(reference("--branch", false, branch)?)));
        }
        for tag in &described.tags {
            contexts.push((tag.as_str(), Context::Tag(reference("--tag", false, tag)?)));
        }
        if described.pull_request {
            contexts.push(("pull-request", Context::PullRequest));
        }
        if contexts.is_empty() {
            return Err(Error::Nothing("say what the job runs for: --branch, --tag or --pull-request"));
        }
        let jobs = contexts.iter().filter_map(|(context_name, context)| {
            let subject = subject::forgejo(&repository, context)?;
            Some(Job::of(format!("{name}-{context_name}"), &issuer, subject))
        });
        let mut trust = Self::new(jobs.collect(), &described.options)?;
        if repository.ids.is_none() {
            trust.notes.push(format!("A newer repository (2026) has ids in its subjects, repo:{owner}-OWNER-ID/{name}-REPOSITORY-ID:…: add --immutable with what {} says (.owner.id and .id). `azfed trust here` in a job prints what it has.", text::shell_word(&format!("{server}/api/v1/repos/{owner}/{name}"))));
        }
        trust.notes.push(
            "The workflow or job must say enable-openid-connect: true, and Entra must reach the server."
                .to_owned(),
        );
        Ok(trust)
    }

    /// Workloads of Google Cloud.
    pub fn google_cloud(described: &GoogleCloudTrust) -> Result<Self, Error> {
        let id = plain("--service-account-id", &described.service_account_id)?;
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(part(
                "--service-account-id",
                &id,
                "is not a number: the subject has the account's unique id, and not its e-mail address",
            ));
        }
        let job = Job::of(format!("google-cloud-{id}"), google_cloud::ISSUER, id);
        let mut trust = Self::new(vec![job], &described.options)?;
        trust.notes.push("Log in with --source google-cloud.".to_owned());
        Ok(trust)
    }

    /// Workloads of AWS.
    pub fn aws(described: &AwsTrust) -> Result<Self, Error> {
        let issuer = plain("--issuer", &described.issuer)?;
        if !issuer.starts_with("https://") {
            return Err(part("--issuer", &issuer, "is no https URL"));
        }
        let principal = plain("--principal", &described.principal)?;
        let fields: Vec<&str> = principal.splitn(6, ':').collect();
        let [_, _, service, _, _, resource] = fields.as_slice() else {
            return Err(part("--principal", &principal, "is not an ARN"));
        };
        if !principal.starts_with("arn:") || *service != "iam" {
            return Err(part(
                "--principal",
                &principal,
                "is not the ARN of an IAM principal: for a role that is assumed, name the role (arn:aws:iam::…:role/…) and not the session",
            ));
        }
        let last = resource.rsplit('/').next().unwrap_or_default();
        let job = Job::of(format!("aws-{last}"), &issuer, principal.clone());
        let mut trust = Self::new(vec![job], &described.options)?;
        trust.notes.push("Log in with --source aws. The account needs `aws iam enable-outbound-web-identity-federation` once, the principal the action sts:GetWebIdentityToken.".to_owned());
        Ok(trust)
    }
}
