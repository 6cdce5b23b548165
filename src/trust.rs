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
    identity_map::IdentityMap,
    subject::{self, Context, Repository},
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
            Self::Part { reason, .. } if *reason == WILDCARD => Hints::one(
                "name each environment, branch and tag; a GitHub environment covers every branch that may deploy to it",
            ),
            _ => Hints::none(),
        }
    }
}

/// What stands for an identity and a group that were not named.
const PLACEHOLDERS: [&str; 2] = ["IDENTITY", "GROUP"];
const WILDCARD: &str = "has a wildcard, and Entra compares subjects to the letter";
const QUOTE: &str = "has a quote, which no expression can hold";

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
    /// Name of the identity that it is for.
    pub identity: String,
    /// The identity's resource group.
    pub resource_group: String,
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
    /// Name and resource group of its identity, where a map has them.
    identity: Option<(String, Option<String>)>,
}

/// What a job runs for, and which identity it is.
type Wanted = (Context, Option<(String, Option<String>)>);

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
        let name = entry.identity.clone().unwrap_or_else(|| format!("IDENTITY-{}", entry.client_id()));
        Ok((context, Some((name, entry.resource_group.clone()))))
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
        let issuer = described.issuer.trim_end_matches('/').to_owned();
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
                    jobs_first.replacen(
                        &format!("repo:{owner}/{name}"),
                        &format!("repo:{owner}@OWNER-ID/{name}@REPOSITORY-ID"),
                        1
                    )
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
        if contexts.is_empty() {
            return Err(Error::Nothing(
                "say what the job runs for: --branch or --tag; GitLab's subject does not have the environment",
            ));
        }
        let anchor = described.project_id.filter(|_| described.flexible).map(|id| ("project_id", id));
        let last = project.rsplit('/').next().unwrap_or_default().to_owned();
        let jobs = contexts.iter().filter_map(|(context, identity)| {
            Some(Job {
                identity: identity.clone(),
                anchor,
                name: format!("{last}-{}", context_name(context)),
                issuer: issuer.clone(),
                subject: subject::gitlab(&project, context)?,
            })
        });
        let mut trust = Self::new(jobs.collect(), options)?;
        trust.notes.push(
            "Protect these branches and tags: whoever may push to one can use this identity.".to_owned(),
        );
        Ok(trust)
    }

    /// Jobs of Azure DevOps.
    pub fn azure_devops(described: &AzureDevopsTrust, options: &TrustOptions) -> Result<Self, Error> {
        let organization = described.organization_id;
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
        let last = subject.rsplit([':', '/']).next().unwrap_or_default();
        Self::new(
            vec![Job {
                name: format!("azfed-{last}"),
                issuer,
                subject: subject.clone(),
                identity: None,
                anchor: None,
            }],
            options,
        )
    }

    fn new(jobs: Vec<Job>, options: &TrustOptions) -> Result<Self, Error> {
        let audience = printable("--audience", &options.audience())?;
        let mut notes = Vec::new();
        let single = jobs.len() == 1;
        let mut credentials: Vec<Credential> = Vec::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let group = |own: Option<String>| {
            own.or_else(|| options.resource_group.clone()).unwrap_or_else(|| PLACEHOLDERS[1].to_owned())
        };
        for job in jobs {
            for value in [&job.issuer, &job.subject] {
                if value.chars().count() > LONGEST {
                    return Err(part("the job", value, "is longer than the 600 characters that Entra takes"));
                }
            }
            let (identity, own_group) = job.identity.unwrap_or_else(|| {
                (options.identity.clone().unwrap_or_else(|| PLACEHOLDERS[0].to_owned()), None)
            });
            let identity = identity_name(identity)?;
            let resource_group = printable("--resource-group", &group(own_group))?;
            if job.anchor.is_some() && job.subject.contains('\'') {
                return Err(part("the job", &job.subject, QUOTE));
            }
            let is_same = |other: &Credential| {
                (&other.identity, &other.issuer, &other.subject) == (&identity, &job.issuer, &job.subject)
            };
            if credentials.iter().any(is_same) {
                continue;
            }
            *counts.entry(identity.clone()).or_default() += 1;
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
                identity,
                resource_group,
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
            notes.push("Flexible credentials are a preview: a managed identity may refuse them (an app registration takes them), and `azfed trust check` cannot judge them.".to_owned());
        }
        Ok(Self { credentials, notes })
    }

    /// The identities, in the order of their first credential, with their resource groups.
    fn identities(&self) -> Vec<(&str, &str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for credential in &self.credentials {
            if !found.iter().any(|(name, _)| *name == credential.identity) {
                found.push((&credential.identity, &credential.resource_group));
            }
        }
        found
    }

    /// `login`, then `login2`, and so on.
    fn label(&self, credential: &Credential) -> String {
        match self.identities().iter().position(|(name, _)| *name == credential.identity) {
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
        Ok(match form {
            Form::Az => self.az(),
            Form::Terraform | Form::TerraformAzurerm4 if is_flexible => {
                return Err(Error::Nothing(
                    "azurerm has no resource for flexible credentials: say --as az, bicep, arm or json",
                ));
            }
            Form::Terraform => self.terraform(5),
            Form::TerraformAzurerm4 => self.terraform(4),
            Form::Bicep => self.bicep(),
            Form::Arm => self.arm(),
            Form::Json => self.json(),
        })
    }

    /// The notes as comments; each is one line.
    fn comments(&self, mark: &str) -> String {
        let mut out = String::new();
        for note in &self.notes {
            let _ = writeln!(out, "{mark} {}", text::one_line(note));
        }
        let is_open = |value: &str| PLACEHOLDERS.iter().any(|placeholder| value.starts_with(placeholder));
        if self.identities().iter().any(|(name, group)| is_open(name) || is_open(group)) {
            let _ = writeln!(
                out,
                "{mark} Put in the identity and its resource group, or say --identity and --resource-group."
            );
        }
        out
    }

    fn az(&self) -> String {
        let mut out = self.comments("#");
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
                word(&credential.identity),
                word(&credential.resource_group),
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
        let mut out = self.comments("#");
        let _ = writeln!(
            out,
            "# For the azurerm provider, version {azurerm}. One credential after the other: Azure answers 409 to two writes on one identity at a time."
        );
        for (number, (name, group)) in self.identities().into_iter().enumerate() {
            let label = if number == 0 { "login".to_owned() } else { format!("login{}", number + 1) };
            let _ = write!(
                out,
                "{}data \"azurerm_user_assigned_identity\" \"{label}\" {{\n  name                = {}\n  resource_group_name = {}\n}}\n",
                if number == 0 { "" } else { "\n" },
                hcl(name),
                hcl(group)
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
        let mut out = self.comments("//");
        out.push_str(
            "// az deployment group create --resource-group <the identity's group> --template-file <this file>\n",
        );
        for (number, (name, _)) in self.identities().into_iter().enumerate() {
            let label = if number == 0 { "login".to_owned() } else { format!("login{}", number + 1) };
            let _ = write!(
                out,
                "{}resource {label} 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {{\n  name: {}\n}}\n",
                if number == 0 { "" } else { "\n" },
                bicep(name)
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
        const TYPE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";
        let mut last: Option<(String, String)> = None;
        let resources: Vec<_> = self
            .credentials
            .iter()
            .map(|credential| {
                let depends: Vec<String> = last
                    .iter()
                    .map(|(identity, name)| {
                        format!("[resourceId('{TYPE}', {}, {})]", arm(identity), arm(name))
                    })
                    .collect();
                last = Some((credential.identity.clone(), credential.name.clone()));
                json!({
                    "type": TYPE,
                    "apiVersion": credential.api_version(),
                    "name": format!("{}/{}", credential.identity, credential.name),
                    "properties": credential.properties(literal),
                    "dependsOn": depends,
                })
            })
            .collect();
        let template = json!({
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "metadata": { "notes": self.notes },
            "resources": resources,
        });
        format!("{template:#}\n")
    }

    fn json(&self) -> String {
        let list: Vec<_> = self
            .credentials
            .iter()
            .map(|credential| {
                let mut one = credential.properties(str::to_owned);
                one["name"] = json!(credential.name);
                one
            })
            .collect();
        format!("{:#}\n", json!(list))
    }
}

fn part(flag: &'static str, value: &str, reason: &'static str) -> Error {
    Error::Part { flag, value: value.to_owned(), reason }
}

/// Something that stands in a subject as it is.
fn plain(flag: &'static str, value: &str) -> Result<String, Error> {
    plain_or_wild(flag, false, value)
}

fn plain_or_wild(flag: &'static str, wild: bool, value: &str) -> Result<String, Error> {
    let value = printable(flag, value)?;
    if value.contains('*') && !wild {
        return Err(part(flag, &value, WILDCARD));
    }
    if value.contains('\'') && wild {
        return Err(part(flag, &value, QUOTE));
    }
    Ok(value)
}

/// Something that can be printed as it is.
fn printable(flag: &'static str, value: &str) -> Result<String, Error> {
    if value.is_empty() {
        return Err(part(flag, value, "is empty"));
    }
    if value.trim() != value {
        return Err(part(flag, value, "has white space at an end"));
    }
    if value.contains(char::is_control) {
        return Err(part(flag, value, "has a control character"));
    }
    if value.contains(text::is_hidden) {
        return Err(part(flag, value, "has a character that nobody sees"));
    }
    // it goes to a log, and to a shell's history, as it is
    if value.contains("##vso[") || value.contains("##[") || value.starts_with("::") {
        return Err(part(flag, value, "has what a runner takes for a command"));
    }
    Ok(value.to_owned())
}

/// The name of a user-assigned identity (Microsoft Learn "Naming rules and restrictions for Azure resources").
fn identity_name(name: String) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let ok = (3..=128).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['-', '_']);
    if ok {
        Ok(name)
    } else {
        Err(part("--identity", &name, "is not a name that Azure takes for an identity"))
    }
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
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
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

    fn options(identity: &str, resource_group: &str, audience: &str) -> TrustOptions {
        TrustOptions {
            form: Form::Az,
            identity: Some(identity.to_owned()),
            resource_group: Some(resource_group.to_owned()),
            name: None,
            cloud: None,
            audience: Some(audience.parse().unwrap()),
        }
    }

    #[test]
    fn what_is_printed_is_no_command_and_hides_nothing() {
        let of = |options: &TrustOptions, subject: &str| Trust::of_claims("https://i", subject, options);
        assert!(of(&options("deploy", "rg", "api://x"), "s").is_ok());
        for (identity, group, audience, subject) in [
            ("a\n::error::x", "rg", "api://x", "s"),
            ("[x]", "rg", "api://x", "s"),
            ("a/b", "rg", "api://x", "s"),
            ("deploy", "a\n::error::x", "api://x", "s"),
            ("deploy", "rg", "##vso[x]", "s"),
            ("deploy", "rg", "::error::x", "s"),
            ("deploy", "rg", "api://x", "repo:a/b:environment:\u{202e}x"),
        ] {
            let described = of(&options(identity, group, audience), subject);
            assert!(
                matches!(described, Err(Error::Part { .. })),
                "{identity:?} {group:?} {audience:?} {subject:?}"
            );
        }
    }

    #[test]
    fn no_text_ends_an_expression() {
        let options = options("deploy", "rg", "api://x");
        let map = r#"{ "identities": [{ "environment": "x' or claims['sub'] eq 'y",
            "client_id": "11111111-1111-4111-8111-111111111111" }] }"#;
        let described = GithubTrust {
            repo: "a/b".to_owned(),
            environments: Vec::new(),
            branches: Vec::new(),
            tags: Vec::new(),
            pull_request: false,
            reusable_workflow: None,
            immutable: Some("1/2".to_owned()),
            issuer: "https://i".to_owned(),
            identity_map: None,
            flexible: true,
            options: options.clone(),
        };
        let map = IdentityMap::read(map).unwrap();
        let refused = Trust::github(&described, Some(&map), &options);
        assert!(matches!(refused, Err(Error::Part { reason: QUOTE, .. })));
    }

    #[test]
    fn strings_of_other_languages() {
        assert_eq!(hcl(r#"a"b\${c}%{d}"#), r#""a\"b\\$${c}%%{d}""#);
        assert_eq!(bicep(r"a'b\${c}"), r"'a\'b\\\${c}'");
        assert_eq!((arm("a'b").as_str(), literal("[a]").as_str()), ("'a''b'", "[[a]"));
    }
}
