//! The federated identity credentials that a job needs, as its owner's tools take them. Pure: from a description or from
//! claims to text.
//!
//! Sources: Microsoft Learn "Workload identity federation considerations" (names, limits, concurrent writes),
//! hashicorp/terraform-provider-azurerm `federated_identity_credential`, Microsoft.ManagedIdentity
//! userAssignedIdentities/federatedIdentityCredentials 2023-01-31.

pub mod apply;
mod elsewhere;

use std::{collections::BTreeMap, fmt::Write};

use serde_json::json;
use uuid::Uuid;

use crate::{
    cli::{AzureDevopsTrust, Form, GithubTrust, GitlabTrust, KubernetesTrust, TrustOptions},
    error::Hints,
    identifiers,
    identity_map::IdentityMap,
    nearest::Owner,
    subject::{self, Components, Context, Repository},
    text,
};

/// Federated credentials that one identity can have.
const MOST: usize = 20;
/// From here on it is worth a word.
const MANY: usize = 15;
/// Longest issuer, subject or audience.
const LONGEST: usize = 600;

/// Why a description is of no job.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part that cannot be.
    #[error("{flag}: `{}` {reason}", text::one_line(value))]
    Part {
        /// The flag.
        flag: &'static str,
        /// What it has.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// No job at all.
    #[error("{0}")]
    Nothing(&'static str),
    /// More than one identity can have.
    #[error("{0} credentials are needed, and an identity can have {MOST}")]
    TooMany(usize),
    /// More than one Bicep file can reach.
    #[error("the identities are in several resource groups ({}), and a Bicep file is for one", text::one_line(.0))]
    SeveralGroups(String),
    /// Azure DevOps by names alone.
    #[error("the organisation's id is missing: the issuers of Azure DevOps have it, and not its name")]
    OrganizationId(Box<NamedConnection>),
    /// A claim that is missing.
    #[error("this job's OIDC token has no {0}")]
    Claim(&'static str),
}

impl Error {
    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::TooMany(_) => Hints::one(
                "use an identity for each environment, or for each few branches; environments need one credential however \
                 many branches deploy to them",
            ),
            Self::OrganizationId(named) => named.hints(),
            Self::SeveralGroups(_) => Hints::one(
                "`--resource-group` is the group of entries that name none; `--as arm` prints one template with a deployment for each group; `--as az` and `terraform` name each \
                 identity's own",
            ),
            Self::Part { reason, .. } if *reason == WILDCARD => Hints::one(
                "name each environment, branch and tag; a GitHub environment covers every branch that may deploy to it",
            ),
            _ => Hints::none(),
        }
    }
}

/// A service connection of Azure DevOps, as far as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedConnection {
    organization: Option<String>,
    project: Option<String>,
    connection: Option<String>,
}

impl NamedConnection {
    /// The commands that learn the ids with az and then print the credentials (Azure DevOps REST API: connection data;
    /// service endpoints, "Get Service Endpoints By Names"). They run as they stand.
    fn hints(&self) -> Hints {
        let (Some(organization), Some(project), Some(connection)) =
            (&self.organization, &self.project, &self.connection)
        else {
            return Hints::one(
                "say --organization, --project and --connection, and azfed prints the command that asks az for the ids; the \
                 service connection's page (Manage workload identity federation) has them too, in issuer and subject",
            );
        };
        let names = [organization, project, connection];
        if names.iter().any(|name| text::one_line(name) != name.as_str()) {
            return Hints::none();
        }
        let base = format!("https://dev.azure.com/{}", encoded(organization));
        let endpoints = format!(
            "{base}/{}/_apis/serviceendpoint/endpoints?endpointNames={}&api-version=7.1",
            encoded(project),
            encoded(connection)
        );
        let asked = |url: &str, query: &str| {
            format!(
                "\"$(az rest --resource {AZURE_DEVOPS} --url '{url}' --query '{query}' --output tsv)\" \\"
            )
        };
        let word = text::shell_word;
        Hints::with_lines(
            "the ids are in Azure DevOps, and your own az asks for them:",
            &[
                &format!(
                    "azfed trust azure-devops --organization {} --project {} --connection {} \\",
                    word(organization),
                    word(project),
                    word(connection)
                ),
                &format!(
                    "  --organization-id {}",
                    asked(&format!("{base}/_apis/connectionData"), "instanceId")
                ),
                &format!("  --connection-id {}", asked(&endpoints, "value[0].id")),
                &format!(
                    "  --tenant-id {}",
                    asked(&endpoints, "value[0].authorization.parameters.tenantid").trim_end_matches(" \\")
                ),
            ],
        )
    }
}

/// Azure DevOps as a resource.
const AZURE_DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798";

/// A segment of a URL's path, or a value of its query (RFC 3986, 2.1).
fn encoded(value: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(one).collect()
}

/// What stands for an identity and a group that were not named.
const PLACEHOLDERS: [&str; 3] = ["IDENTITY", "GROUP", "CLIENT-ID"];
const WILDCARD: &str = "has a wildcard, and Entra compares subjects to the letter";

/// One federated identity credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name: 3 to 120 of letters, digits, `-` and `_`.
    pub name: String,
    /// Issuer.
    pub issuer: String,
    /// Subject.
    pub subject: String,
    /// Audience.
    pub audience: String,
    /// In place of the subject: what claims must be (flexible credentials).
    pub expression: Option<String>,
    /// The identity that it is for, as far as that is known.
    pub owner: Owner,
}

impl Credential {
    /// The first version of Microsoft.ManagedIdentity that has what this credential needs.
    fn api_version(&self) -> &'static str {
        if self.expression.is_some() { "2025-01-31-preview" } else { "2023-01-31" }
    }

    /// As Azure Resource Manager has it.
    fn properties(&self, literal: fn(&str) -> String) -> serde_json::Value {
        let mut properties =
            json!({ "issuer": literal(&self.issuer), "audiences": [literal(&self.audience)] });
        match &self.expression {
            Some(expression) => {
                properties["claimsMatchingExpression"] =
                    json!({ "value": literal(expression), "languageVersion": 1 });
            }
            None => properties["subject"] = json!(literal(&self.subject)),
        }
        properties
    }
}

/// What to create, and what to know about it.
#[derive(Debug)]
pub struct Trust {
    credentials: Vec<Credential>,
    notes: Vec<String>,
}

/// A job's name for its credential, its issuer and its subject.
#[derive(Clone)]
struct Job {
    name: String,
    issuer: String,
    subject: String,
    /// The claim that a flexible credential must name beside the subject, and its value.
    anchor: Option<(&'static str, u64)>,
    /// Its identity, where a map has it.
    identity: Option<Owner>,
}

/// What a job runs for, and which identity it is.
type Wanted = (Context, Option<Owner>);

/// Every entry of a map: its context by what GitHub puts into the subject first.
fn wanted_by(map: &IdentityMap, is_gitlab: bool) -> Result<Vec<Wanted>, Error> {
    let wanted = map.entries().iter().map(|entry| {
        let context = if let (Some(name), false) = (&entry.environment, is_gitlab) {
            Context::Environment(plain("environment", name)?)
        } else if let Some(name) = &entry.branch {
            Context::Branch(reference("branch", false, name)?)
        } else if let Some(name) = &entry.tag {
            Context::Tag(reference("tag", false, name)?)
        } else if is_gitlab {
            return Err(Error::Nothing(
                "an entry of the map names an environment alone, which GitLab does not put into the subject: name its \
                 protected branch too",
            ));
        } else {
            Context::PullRequest
        };
        let owner = Owner {
            identity: entry.identity.clone(),
            resource_group: entry.resource_group.clone(),
            client_id: Some(entry.client_id().to_owned()),
        };
        Ok((context, Some(owner)))
    });
    wanted.collect()
}

impl Trust {
    /// Jobs of GitHub.
    pub fn github(
        described: &GithubTrust,
        map: Option<&IdentityMap>,
        options: &TrustOptions,
    ) -> Result<Self, Error> {
        let (owner, name) = repository(&described.repo)?;
        let ids = described.immutable.as_deref().map(immutable).transpose()?;
        let repository = Repository { owner: owner.to_owned(), name: name.to_owned(), ids };
        let mut contexts: Vec<Wanted> = map.map_or_else(|| Ok(Vec::new()), |map| wanted_by(map, false))?;
        for environment in &described.environments {
            contexts.push((
                Context::Environment(plain_or_wild("--environment", described.flexible, environment)?),
                None,
            ));
        }
        for branch in &described.branches {
            contexts.push((Context::Branch(reference("--branch", described.flexible, branch)?), None));
        }
        for tag in &described.tags {
            contexts.push((Context::Tag(reference("--tag", described.flexible, tag)?), None));
        }
        if described.pull_request {
            contexts.push((Context::PullRequest, None));
        }
        if contexts.is_empty() {
            return Err(Error::Nothing(
                "say what the job runs for: --environment, --branch, --tag or --pull-request",
            ));
        }
        let anchor = ids.filter(|_| described.flexible).map(|(_, id)| ("repository_id", id));
        let workflow = described.reusable_workflow.as_deref().map(workflow).transpose()?;
        let issuer = plain("--issuer", described.issuer.trim_end_matches('/'))?;
        let jobs = contexts.iter().map(|(context, identity)| Job {
            identity: identity.clone(),
            anchor,
            name: format!("{name}-{}", context_name(context)),
            issuer: issuer.clone(),
            subject: subject::github(&repository, context, workflow.as_deref()),
        });
        let mut trust = Self::new(jobs.collect(), options)?;
        let jobs_first = trust.credentials.first().map_or("", |first| first.subject.as_str()).to_owned();
        if repository.ids.is_none() {
            trust.notes.extend([
                format!("These subjects are classic. A repository that was made, renamed or moved after 2026-07-15, or that opted in, has immutable ones with ids; what it has says: gh api repos/{owner}/{name}/actions/oidc/customization/sub --jq .sub_claim_prefix"),
                format!(
                    "Immutable, the first of them is {}",
                    // some shells run what stands in a comment that is pasted
                    text::shell_word(&jobs_first.replacen(
                        &format!("repo:{owner}/{name}"),
                        &format!("repo:{owner}@OWNER-ID/{name}@REPOSITORY-ID"),
                        1
                    ))
                ),
                format!("If sub_claim_prefix has `@` in it, add --immutable \"$(gh api repos/{owner}/{name} --jq '\"\\(.owner.id)/\\(.id)\"')\""),
            ]);
        }
        if workflow.is_some() {
            trust.notes.push(format!("The repository's subject must have these keys: gh api --method PUT repos/{owner}/{name}/actions/oidc/customization/sub -F use_default=false -f 'include_claim_keys[]=repo' -f 'include_claim_keys[]=context' -f 'include_claim_keys[]=job_workflow_ref'"));
        }
        if described.pull_request {
            trust.notes.push("Whoever may push a branch can open such a pull request: give this identity no more than reading, or use an environment with reviewers.".to_owned());
        }
        Ok(trust)
    }

    /// Jobs of GitLab.
    pub fn gitlab(
        described: &GitlabTrust,
        map: Option<&IdentityMap>,
        options: &TrustOptions,
    ) -> Result<Self, Error> {
        let project = plain("--project", described.project.trim_matches('/'))?;
        if !project.contains('/') || project.contains(':') {
            return Err(part("--project", &project, "is not a path of group and project"));
        }
        let issuer = plain("--server", described.server.trim_end_matches('/'))?;
        let mut contexts: Vec<Wanted> = map.map_or_else(|| Ok(Vec::new()), |map| wanted_by(map, true))?;
        for branch in &described.branches {
            contexts.push((Context::Branch(reference("--branch", described.flexible, branch)?), None));
        }
        for tag in &described.tags {
            contexts.push((Context::Tag(reference("--tag", described.flexible, tag)?), None));
        }
        let components = Components {
            project_id: described.project_id.filter(|_| described.by_id),
            ref_protected: described.ref_protected,
            environment_protected: described.environment_protected,
            deployment_tier: described.deployment_tier.clone(),
        };
        let is_any = contexts.is_empty();
        if is_any && !components.ref_protected && !components.environment_protected {
            return Err(Error::Nothing(
                "say what the job runs for: --branch or --tag; or, for any of them, --ref-protected or \
                 --environment-protected; GitLab's subject does not have the environment's name",
            ));
        }
        let contexts: Vec<(Option<Context>, Option<Owner>)> = if is_any {
            vec![(None, None)]
        } else {
            contexts.into_iter().map(|(context, owner)| (Some(context), owner)).collect()
        };
        let anchor = described.project_id.filter(|_| described.flexible).map(|id| ("project_id", id));
        let last = project.rsplit('/').next().unwrap_or_default().to_owned();
        let tier = components.deployment_tier.clone();
        let mut set = Vec::new();
        let mut jobs = Vec::new();
        for (context, identity) in contexts {
            let Some((subject, names)) = subject::gitlab_with(&project, context.as_ref(), &components) else {
                continue;
            };
            set = names;
            let what = context.as_ref().map_or("protected", context_name);
            let tier = tier.as_ref().map_or_else(String::new, |tier| format!("-{tier}"));
            let name = format!("{last}-{what}{tier}");
            jobs.push(Job { identity, anchor, name, issuer: issuer.clone(), subject });
        }
        let mut trust = Self::new(jobs, options)?;
        trust.notes.push(if is_any && !components.ref_protected {
            "Whoever may deploy to a protected environment can use this identity.".to_owned()
        } else if is_any {
            "Whoever may push to a protected branch or tag can use this identity.".to_owned()
        } else {
            "Protect these branches and tags: whoever may push to one can use this identity.".to_owned()
        });
        if set != subject::GITLAB_DEFAULT {
            trust.notes.push("These subjects are the project's once its Maintainer has set their components, after the credentials are there: it changes the subject of every job of the project (GitLab 18.7 or newer; before, project, ref_type and ref only):".to_owned());
            trust.notes.push(set_components(&issuer, &project, described.project_id, &set));
        }
        Ok(trust)
    }

    /// Jobs of Azure DevOps.
    pub fn azure_devops(described: &AzureDevopsTrust, options: &TrustOptions) -> Result<Self, Error> {
        let Some(organization) = described.organization_id else {
            return Err(Error::OrganizationId(Box::new(NamedConnection {
                organization: described.organization.clone(),
                project: described.project.clone(),
                connection: described.connection.clone(),
            })));
        };
        let mut jobs = Vec::new();
        let named = described.connection.as_deref().map(|name| plain("--connection", name)).transpose()?;
        let job_name = named.clone().unwrap_or_else(|| "azure-devops".to_owned());
        if let (Some(tenant), Some(connection)) = (described.tenant_id, described.connection_id) {
            jobs.push(Job {
                name: job_name.clone(),
                issuer: format!("https://login.microsoftonline.com/{tenant}/v2.0"),
                subject: subject::azure_devops_by_ids(tenant, organization, connection),
                identity: None,
                anchor: None,
            });
        }
        if let (Some(organization_name), Some(project), Some(connection)) =
            (&described.organization, &described.project, &named)
        {
            let organization_name = plain("--organization", organization_name)?;
            let project = plain("--project", project)?;
            jobs.push(Job {
                name: format!("{job_name}-older-issuer"),
                issuer: format!("https://vstoken.dev.azure.com/{organization}"),
                subject: subject::azure_devops_by_names(&organization_name, &project, connection),
                identity: None,
                anchor: None,
            });
        }
        if jobs.is_empty() {
            return Err(Error::Nothing(
                "the newer issuer needs --organization-id, --tenant-id (the service connection's) and --connection-id; the \
                 older one --organization-id, --organization, --project and --connection",
            ));
        }
        let mut trust = Self::new(jobs, options)?;
        trust.notes.push("The service connection's page (Manage workload identity federation) shows its issuer and subject: https://vstoken.dev.azure.com/… is the older issuer, which ends in July 2027.".to_owned());
        Ok(trust)
    }

    /// Pods.
    pub fn kubernetes(described: &KubernetesTrust, options: &TrustOptions) -> Result<Self, Error> {
        let issuer = plain("--issuer", &described.issuer)?;
        if !issuer.starts_with("https://") {
            return Err(part(
                "--issuer",
                &issuer,
                "is no https URL that Entra could ask for the cluster's keys",
            ));
        }
        let label = |flag, value: &str| {
            let ok = value
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
            if ok {
                plain(flag, value)
            } else {
                Err(part(flag, value, "is not a name that Kubernetes gives"))
            }
        };
        let namespace = label("--namespace", &described.namespace)?;
        let account = label("--service-account", &described.service_account)?;
        let job = Job {
            name: format!("{namespace}-{account}"),
            subject: subject::kubernetes(&namespace, &account),
            issuer,
            identity: None,
            anchor: None,
        };
        Self::new(vec![job], options)
    }

    /// The job whose claims these are.
    pub fn of_claims(issuer: &str, subject: &str, options: &TrustOptions) -> Result<Self, Error> {
        let issuer = if issuer.is_empty() { Err(Error::Claim("issuer")) } else { plain("issuer", issuer) }?;
        let subject =
            if subject.is_empty() { Err(Error::Claim("subject")) } else { plain("subject", subject) }?;
        Self::new(
            vec![Job { name: name_of(&issuer, &subject), issuer, subject, identity: None, anchor: None }],
            options,
        )
    }

    fn new(jobs: Vec<Job>, options: &TrustOptions) -> Result<Self, Error> {
        for (flag, name) in [
            ("--identity", &options.identity),
            ("--resource-group", &options.resource_group),
            ("--name", &options.name),
        ] {
            if let Some(name) = name.as_ref().filter(|name| !identifiers::is_name(name)) {
                return Err(part(flag, name, "is no name that Azure takes"));
            }
        }
        let mut notes = Vec::new();
        let single = jobs.len() == 1;
        let audience = alone("the audience", false, &options.audience())?;
        let mut credentials: Vec<Credential> = Vec::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for job in jobs {
            alone("the issuer", false, &job.issuer)?;
            // a quote would end the string that the subject is in
            alone("the subject", job.anchor.is_some(), &job.subject)?;
            for value in [&job.issuer, &job.subject] {
                if value.chars().count() > LONGEST {
                    return Err(part("the job", value, "is longer than the 600 characters that Entra takes"));
                }
            }
            let mut owner = job.identity.unwrap_or_else(|| Owner {
                identity: options.identity.clone(),
                client_id: options.client_id.as_ref().map(ToString::to_string),
                resource_group: None,
            });
            owner.resource_group = owner.resource_group.or_else(|| options.resource_group.clone());
            let is_same = |other: &Credential| {
                is_one(&other.owner, &owner) && (&other.issuer, &other.subject) == (&job.issuer, &job.subject)
            };
            if credentials.iter().any(is_same) {
                continue;
            }
            *counts.entry(format!("{}/{}", group_of(&owner), name_in(&owner)).to_lowercase()).or_default() +=
                1;
            let wanted = match &options.name {
                Some(name) if single => name.clone(),
                Some(name) => format!("{name}-{}", job.name),
                None => job.name,
            };
            let taken = |name: &str| credentials.iter().any(|other| other.name.eq_ignore_ascii_case(name));
            let name = credential_name(&wanted);
            let numbered = (2..=credentials.len() + 2).map(|number| format!("{name:.110}-{number}"));
            let name =
                std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name);
            let expression = job.anchor.map(|(claim, id)| {
                let operator = if job.subject.contains('*') { "matches" } else { "eq" };
                format!("claims['sub'] {operator} '{}' and claims['{claim}'] eq '{id}'", job.subject)
            });
            credentials.push(Credential {
                name,
                expression,
                issuer: job.issuer,
                subject: job.subject,
                audience: audience.clone(),
                owner,
            });
        }
        match counts.values().max() {
            Some(&most) if most > MOST => return Err(Error::TooMany(most)),
            Some(&most) if most > MANY => {
                notes.push(format!("{most} credentials: an identity can have {MOST}."));
            }
            _ => {}
        }
        if credentials.iter().any(|credential| credential.expression.is_some()) {
            notes.push("Flexible credentials are a preview: a managed identity may refuse them (an app registration takes them: --as az-app), and `azfed trust check` cannot judge them.".to_owned());
        }
        Ok(Self { credentials, notes })
    }

    /// The identities, in the order of their first credential.
    fn identities(&self) -> Vec<&Owner> {
        let mut found: Vec<&Owner> = Vec::new();
        for credential in &self.credentials {
            if !found.iter().any(|owner| is_one(owner, &credential.owner)) {
                found.push(&credential.owner);
            }
        }
        found
    }

    /// Their resource groups, in the same order.
    fn groups(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for owner in self.identities() {
            let group = group_of(owner);
            if !found.iter().any(|other| other.eq_ignore_ascii_case(group)) {
                found.push(group);
            }
        }
        found
    }

    /// `login`, then `login2`, and so on.
    fn label(&self, credential: &Credential) -> String {
        match self.identities().iter().position(|owner| is_one(owner, &credential.owner)) {
            None | Some(0) => "login".to_owned(),
            Some(number) => format!("login{}", number + 1),
        }
    }

    /// The credentials.
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }

    /// As one of the owner's tools takes it.
    pub fn render(&self, form: Form) -> Result<String, Error> {
        let is_flexible = self.credentials.iter().any(|credential| credential.expression.is_some());
        gated(match form {
            Form::Az => format!("{}{}", self.comments(Form::Az, "#"), self.az()),
            Form::AzApp => self.az_app(),
            Form::Terraform | Form::TerraformAzurerm4 if is_flexible => {
                return Err(Error::Nothing(
                    "azurerm has no resource for flexible credentials: say --as az, bicep, arm or json",
                ));
            }
            Form::Terraform => self.terraform(5),
            Form::TerraformAzurerm4 => self.terraform(4),
            Form::Bicep if self.groups().len() > 1 => {
                return Err(Error::SeveralGroups(self.groups().join(", ")));
            }
            Form::Bicep => self.bicep(),
            Form::Arm => self.arm(),
            Form::Json => self.json(),
        })
    }

    /// Azure CLI's commands without a comment, for a hint.
    pub fn commands(&self) -> Result<String, Error> {
        gated(self.az())
    }

    /// What there is to know about what is printed, a line each.
    pub fn notes(&self, form: Form) -> Vec<String> {
        let mut notes: Vec<String> = self.notes.iter().map(|note| text::one_line(note)).collect();
        let is_open = |owner: &&Owner| match form {
            Form::AzApp => owner.client_id.is_none(),
            _ => owner.identity.is_none() || owner.resource_group.is_none(),
        };
        if self.identities().iter().any(is_open) {
            notes.push(match form {
                Form::AzApp => "Put in the app registration's client id, or say --client-id.".to_owned(),
                Form::Json | Form::Arm => {
                    "Say --identity and --resource-group, or give them to `azfed trust apply` (--as json)."
                        .to_owned()
                }
                _ => "Put in the identity and its resource group, or say --identity and --resource-group."
                    .to_owned(),
            });
        }
        notes
    }

    /// The notes as comments; each is one line.
    fn comments(&self, form: Form, mark: &str) -> String {
        let mut out = String::new();
        for note in self.notes(form) {
            let _ = writeln!(out, "{mark} {note}");
        }
        out
    }

    /// For app registrations; what az has no words for yet goes to Microsoft Graph (Microsoft Graph beta, "Create
    /// federatedIdentityCredential").
    fn az_app(&self) -> String {
        let mut out = self.comments(Form::AzApp, "#");
        if self.credentials.len() > 1 {
            out.push_str("set -e\n");
        }
        let word = text::shell_word;
        for credential in &self.credentials {
            let mut parameters = credential.properties(str::to_owned);
            parameters["name"] = json!(credential.name);
            let client_id = credential.owner.client_id.as_deref().unwrap_or(PLACEHOLDERS[2]);
            let parameters = word(&parameters.to_string());
            let _ = if credential.expression.is_none() {
                writeln!(
                    out,
                    "az ad app federated-credential create --id {} \\\n  --parameters {parameters}",
                    word(client_id)
                )
            } else {
                writeln!(
                    out,
                    "az rest --method post --headers content-type=application/json \\\n  --url {} \\\n  --body {parameters}",
                    word(&format!(
                        "https://graph.microsoft.com/beta/applications(appId='{client_id}')/federatedIdentityCredentials"
                    ))
                )
            };
        }
        out
    }

    fn az(&self) -> String {
        let mut out = String::new();
        if self.credentials.len() > 1 {
            out.push_str(
                "# One after the other: Azure answers 409 to two writes on one identity at a time.\nset -e\n",
            );
        }
        let word = text::shell_word;
        for credential in &self.credentials {
            let _ = writeln!(
                out,
                "az identity federated-credential create --identity-name {} --resource-group {} \\\n  --name {} --issuer {} \\\n  {} \\\n  --audiences {}",
                word(&name_in(&credential.owner)),
                word(group_of(&credential.owner)),
                word(&credential.name),
                word(&credential.issuer),
                credential.expression.as_ref().map_or_else(
                    || format!("--subject {}", word(&credential.subject)),
                    |expression| format!("--cme-version 1 --cme-value {}", word(expression)),
                ),
                word(&credential.audience),
            );
        }
        out
    }

    fn terraform(&self, azurerm: u8) -> String {
        let mut out = self.comments(Form::Terraform, "#");
        let _ = writeln!(
            out,
            "# For the azurerm provider, version {azurerm}. One credential after the other: Azure answers 409 to two writes on one identity at a time."
        );
        for (number, owner) in self.identities().into_iter().enumerate() {
            let label = if number == 0 { "login".to_owned() } else { format!("login{}", number + 1) };
            let _ = write!(
                out,
                "{}data \"azurerm_user_assigned_identity\" \"{label}\" {{\n  name                = {}\n  resource_group_name = {}\n}}\n",
                if number == 0 { "" } else { "\n" },
                hcl(&name_in(owner)),
                hcl(group_of(owner))
            );
        }
        let mut last: Option<String> = None;
        for credential in &self.credentials {
            let label = symbol(&credential.name);
            let mut attributes = vec![("name", hcl(&credential.name))];
            let data = format!("data.azurerm_user_assigned_identity.{}", self.label(credential));
            let id = format!("{data}.id");
            if azurerm >= 5 {
                attributes.push(("user_assigned_identity_id", id));
            } else {
                attributes.push(("parent_id", id));
                attributes.push(("resource_group_name", format!("{data}.resource_group_name")));
            }
            attributes.extend([
                ("issuer", hcl(&credential.issuer)),
                ("subject", hcl(&credential.subject)),
                ("audience", format!("[{}]", hcl(&credential.audience))),
            ]);
            if let Some(last) = &last {
                attributes.push(("depends_on", format!("[azurerm_federated_identity_credential.{last}]")));
            }
            let width = attributes.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
            let _ = writeln!(out, "\nresource \"azurerm_federated_identity_credential\" \"{label}\" {{");
            for (name, value) in attributes {
                let _ = writeln!(out, "  {name:width$} = {value}");
            }
            out.push_str("}\n");
            last = Some(label);
        }
        out
    }

    fn bicep(&self) -> String {
        let mut out = self.comments(Form::Bicep, "//");
        for group in self.groups() {
            let _ = writeln!(
                out,
                "// az deployment group create --resource-group {} --template-file <this file>",
                text::shell_word(group)
            );
        }
        for (number, owner) in self.identities().into_iter().enumerate() {
            let label = if number == 0 { "login".to_owned() } else { format!("login{}", number + 1) };
            let _ = write!(
                out,
                "{}resource {label} 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {{\n  name: {}\n}}\n",
                if number == 0 { "" } else { "\n" },
                bicep(&name_in(owner))
            );
        }
        let mut last: Option<String> = None;
        for (number, credential) in self.credentials.iter().enumerate() {
            let label = format!("credential{}", number + 1);
            let _ = write!(
                out,
                "\nresource {label} 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@{}' = {{\n  \
                 parent: {}\n  name: {}\n  properties: {{\n    issuer: {}\n    {}\n    audiences: [\n      {}\n    ]\n  }}\n",
                credential.api_version(),
                self.label(credential),
                bicep(&credential.name),
                bicep(&credential.issuer),
                credential.expression.as_ref().map_or_else(
                    || format!("subject: {}", bicep(&credential.subject)),
                    |expression| {
                        format!(
                            "claimsMatchingExpression: {{\n      value: {}\n      languageVersion: 1\n    }}",
                            bicep(expression)
                        )
                    },
                ),
                bicep(&credential.audience),
            );
            if let Some(last) = &last {
                let _ = write!(out, "  dependsOn: [\n    {last}\n  ]\n");
            }
            out.push_str("}\n");
            last = Some(label);
        }
        out
    }

    fn arm(&self) -> String {
        const SCHEMA: &str =
            "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";
        let template = |resources: Vec<serde_json::Value>| json!({ "$schema": SCHEMA, "contentVersion": "1.0.0.0", "resources": resources });
        let groups = self.groups();
        let mut outer = match groups.as_slice() {
            [group] => template(self.arm_resources(group)),
            // one deployment for each group: an identity's credentials are where it is
            groups => template(
                groups
                    .iter()
                    .enumerate()
                    .map(|(number, group)| {
                        json!({
                            "type": "Microsoft.Resources/deployments",
                            "apiVersion": "2022-09-01",
                            "name": format!("{:.64}", credential_name(&format!("azfed-{}-{group}", number + 1))),
                            "resourceGroup": literal(group),
                            "properties": {
                                "mode": "Incremental",
                                "expressionEvaluationOptions": { "scope": "inner" },
                                "template": template(self.arm_resources(group)),
                            },
                        })
                    })
                    .collect(),
            ),
        };
        let mut notes = self.notes.clone();
        notes.push(format!(
            "az deployment group create --resource-group {} --template-file <this file>",
            text::shell_word(groups.first().unwrap_or(&PLACEHOLDERS[1]))
        ));
        outer["metadata"] = json!({ "notes": notes });
        format!("{outer:#}\n")
    }

    fn arm_resources(&self, group: &str) -> Vec<serde_json::Value> {
        const TYPE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";
        let mut last: Option<(String, String)> = None;
        let here = self.credentials.iter().filter(|one| group_of(&one.owner).eq_ignore_ascii_case(group));
        here.map(|credential| {
            let identity = name_in(&credential.owner);
            let depends: Vec<String> = last
                .iter()
                .map(|(identity, name)| format!("[resourceId('{TYPE}', {}, {})]", arm(identity), arm(name)))
                .collect();
            last = Some((identity.clone(), credential.name.clone()));
            json!({
                "type": TYPE,
                "apiVersion": credential.api_version(),
                "name": literal(&format!("{identity}/{}", credential.name)),
                "properties": credential.properties(literal),
                "dependsOn": depends,
            })
        })
        .collect()
    }

    fn json(&self) -> String {
        let list: Vec<_> = self
            .credentials
            .iter()
            .map(|credential| {
                let mut one = credential.properties(str::to_owned);
                one["name"] = json!(credential.name);
                let owner = &credential.owner;
                for (name, value) in [
                    ("identity", &owner.identity),
                    ("resourceGroup", &owner.resource_group),
                    ("clientId", &owner.client_id),
                ] {
                    if let Some(value) = value {
                        one[name] = json!(value);
                    }
                }
                one
            })
            .collect();
        format!("{:#}\n", json!(list))
    }
}

/// The identity's name, or what stands for it.
fn name_in(owner: &Owner) -> String {
    match (&owner.identity, &owner.client_id) {
        (Some(name), _) => name.clone(),
        (None, Some(client_id)) => format!("{}-{client_id}", PLACEHOLDERS[0]),
        (None, None) => PLACEHOLDERS[0].to_owned(),
    }
}

/// Its resource group, or what stands for it.
fn group_of(owner: &Owner) -> &str {
    owner.resource_group.as_deref().unwrap_or(PLACEHOLDERS[1])
}

/// Whether they are the same identity: Azure's names have no letter case.
fn is_one(one: &Owner, other: &Owner) -> bool {
    name_in(one).eq_ignore_ascii_case(&name_in(other)) && group_of(one).eq_ignore_ascii_case(group_of(other))
}

fn part(flag: &'static str, value: &str, reason: &'static str) -> Error {
    Error::Part { flag, value: value.to_owned(), reason }
}

/// What is to be printed, if no line of it is more than text.
fn gated(out: String) -> Result<String, Error> {
    // `lines` would take a carriage return away
    let is_text = |line: &str| !line.contains(text::is_no_text) && !text::has_command(line);
    if out.split('\n').all(is_text) {
        Ok(out)
    } else {
        Err(Error::Nothing(
            "what would be printed has text in it that a runner or terminal takes for a command",
        ))
    }
}

/// A value that is a word by itself: az takes `-` in front for an option, and `@` for a file.
fn alone(flag: &'static str, wild: bool, value: &str) -> Result<String, Error> {
    if value.starts_with(['-', '@']) {
        return Err(part(flag, value, "starts with `-` or `@`, which az takes for an option or a file"));
    }
    plain_or_wild(flag, wild, value)
}

/// Something that stands in a subject as it is.
fn plain(flag: &'static str, value: &str) -> Result<String, Error> {
    plain_or_wild(flag, false, value)
}

fn plain_or_wild(flag: &'static str, wild: bool, value: &str) -> Result<String, Error> {
    if value.is_empty() {
        return Err(part(flag, value, "is empty"));
    }
    if value.trim() != value {
        return Err(part(flag, value, "has white space at an end"));
    }
    if value.contains(char::is_control) {
        return Err(part(flag, value, "has a control character"));
    }
    if value.contains(text::is_no_text) {
        return Err(part(flag, value, "has a character that nobody sees, or that turns the others around"));
    }
    // it goes to a log, and to a shell's history, as it is
    if text::has_command(value) {
        return Err(part(flag, value, "has what a runner takes for a command"));
    }
    if value.contains('*') && !wild {
        return Err(part(flag, value, WILDCARD));
    }
    if value.contains('\'') && wild {
        return Err(part(flag, value, "has a quote, which no expression can hold"));
    }
    Ok(value.to_owned())
}

/// A branch or a tag (git-check-ref-format(1)).
fn reference(flag: &'static str, wild: bool, value: &str) -> Result<String, Error> {
    let value = plain_or_wild(flag, wild, value)?;
    if value.starts_with("refs/") {
        return Err(part(flag, &value, "is a ref: say its name, without refs/heads/ or refs/tags/"));
    }
    if value.contains([' ', '~', '^', ':', '?', '[', '\\']) || value.contains("..") || value.ends_with('/') {
        return Err(part(flag, &value, "is no name that git takes"));
    }
    Ok(value)
}

fn repository(value: &str) -> Result<(&str, &str), Error> {
    let wrong = || part("--repo", value, "is not owner/repository");
    let (owner, name) = value.split_once('/').ok_or_else(wrong)?;
    let ok = |part: &str| {
        !part.chars().all(|c| c == '.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if ok(owner) && ok(name) { Ok((owner, name)) } else { Err(wrong()) }
}

fn immutable(value: &str) -> Result<(u64, u64), Error> {
    let ids = value.split_once('/').and_then(|(owner, id)| Some((owner.parse().ok()?, id.parse().ok()?)));
    ids.ok_or_else(|| part("--immutable", value, "is not the owner's id, a slash and the repository's id"))
}

fn workflow(value: &str) -> Result<String, Error> {
    let value = plain("--reusable-workflow", value)?;
    let well_formed = value.split_once('@').is_some_and(|(path, reference)| {
        path.contains("/.github/workflows/") && (reference.starts_with("refs/") || reference.len() == 40)
    });
    if well_formed {
        Ok(value)
    } else {
        Err(part("--reusable-workflow", &value, "is not owner/repository/.github/workflows/file@refs/…"))
    }
}

/// The call that gives a GitLab project's subjects these components (docs.gitlab.com `api/projects`, "Edit a project").
fn set_components(issuer: &str, project: &str, id: Option<u64>, components: &[&str]) -> String {
    let project = id.map_or_else(|| encoded(project), |id| id.to_string());
    let data = json!({ "ci_id_token_sub_claim_components": components });
    format!(
        "curl --fail --request PUT --header \"PRIVATE-TOKEN: $GITLAB_TOKEN\" --header 'content-type: application/json' --data {} {}",
        text::shell_word(&data.to_string()),
        text::shell_word(&format!("{issuer}/api/v4/projects/{project}"))
    )
}

fn context_name(context: &Context) -> &str {
    match context {
        Context::Environment(name) | Context::Branch(name) | Context::Tag(name) => name,
        Context::PullRequest => "pull-request",
    }
}

/// A name within Azure's rules: a letter or digit, then 2 to 119 of those, `-` and `_`.
fn credential_name(wanted: &str) -> String {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    let name: String =
        wanted.chars().map(|character| if allowed(character) { character } else { '-' }).collect();
    let name = name.trim_start_matches(['-', '_']);
    let name: String = name.chars().take(120).collect();
    if name.len() < 3 { format!("job-{name}") } else { name }
}

/// A name for the credential of a job that is known by its claims alone. Azure overwrites a credential of the same name:
/// so it is another one for another job, whatever the last part of its subject is (RFC 9562, version 5).
pub fn name_of(issuer: &str, subject: &str) -> String {
    let last = subject.rsplit([':', '/']).find(|part| !part.is_empty()).unwrap_or_default();
    let id = text::name_based_uuid(&format!("{issuer} {subject}")).simple().to_string();
    format!("{:.110}-{:.8}", credential_name(&format!("azfed-{last}")), id)
}

/// A name that Terraform takes for a resource.
fn symbol(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("c-{name}") } else { name }
}

/// A string of HCL (hashicorp/hcl `hclsyntax/spec.md`, "Template Expressions").
fn hcl(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{");
    format!("\"{escaped}\"")
}

/// A string of Bicep (Microsoft Learn "Data types in Bicep", strings).
fn bicep(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'").replace("${", "\\${"))
}

/// A string inside an expression of an ARM template.
fn arm(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A value of an ARM template that is no expression, whatever it starts with.
fn literal(value: &str) -> String {
    if value.starts_with('[') { format!("[{value}") } else { value.to_owned() }
}

/// A GUID, for clap.
pub fn guid(value: &str) -> Result<Uuid, String> {
    Uuid::try_parse(value.trim()).map_err(|_| "is not a GUID".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_within_azures_rules() {
        for (wanted, name) in [
            ("infra-prod", "infra-prod"),
            ("infra-release/1.0", "infra-release-1-0"),
            ("-x", "job-x"),
            ("", "job-"),
            ("größe", "gr--e"),
        ] {
            assert_eq!(credential_name(wanted), name);
        }
        assert_eq!(credential_name(&"a".repeat(300)).len(), 120);
    }

    #[test]
    fn strings_of_other_languages() {
        assert_eq!(hcl(r#"a"b\${c}%{d}"#), r#""a\"b\\$${c}%%{d}""#);
        assert_eq!(bicep(r"a'b\${c}"), r"'a\'b\\\${c}'");
        assert_eq!((arm("a'b").as_str(), literal("[a]").as_str()), ("'a''b'", "[[a]"));
    }
}
