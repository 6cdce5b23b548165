//! What a subject says, both ways: from the description of a job to its subject, and from a subject to words.
//!
//! Sources: github/docs `content/actions/reference/security/oidc.md` (subjects, immutable ones, `%3A`), docs.gitlab.com
//! `ci/secrets/id_token_authentication`, azure-devops-docs `docs/pipelines/release/troubleshoot-workload-identity.md`,
//! Kubernetes "Configure Service Accounts for Pods".

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

/// Azure DevOps' own application in Entra, in the subjects of its newer issuer.
const AZURE_DEVOPS_APPLICATION: Uuid = Uuid::from_u128(0x499b_84ac_1321_427f_aa17_267c_a697_5798);

/// What a job of GitHub or GitLab runs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A deployment environment (GitHub).
    Environment(String),
    /// A pull request without an environment (GitHub).
    PullRequest,
    /// A branch.
    Branch(String),
    /// A tag.
    Tag(String),
}

/// A GitHub repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// User or organisation.
    pub owner: String,
    /// Name.
    pub name: String,
    /// Ids of owner and repository, in immutable subjects.
    pub ids: Option<(u64, u64)>,
}

/// The subject of a GitHub job. `workflow` is the reusable workflow's `owner/repository/path@ref`, where the
/// repository's subject has the claim keys `repo`, `context` and `job_workflow_ref`.
pub fn github(repository: &Repository, context: &Context, workflow: Option<&str>) -> String {
    let Repository { owner, name, ids } = repository;
    let repository = match ids {
        Some((owner_id, id)) => format!("{owner}@{owner_id}/{name}@{id}"),
        None => format!("{owner}/{name}"),
    };
    // a colon in a value would look like the end of it
    let escaped = |value: &str| value.replace(':', "%3A");
    let context = match context {
        Context::Environment(name) => format!("environment:{}", escaped(name)),
        Context::PullRequest => "pull_request".to_owned(),
        Context::Branch(name) => format!("ref:refs/heads/{}", escaped(name)),
        Context::Tag(name) => format!("ref:refs/tags/{}", escaped(name)),
    };
    let workflow = workflow.map_or_else(String::new, |path| format!(":job_workflow_ref:{}", escaped(path)));
    format!("repo:{repository}:{context}{workflow}")
}

/// The subject of a GitLab job; there is none for environments and pull requests.
pub fn gitlab(project: &str, context: &Context) -> Option<String> {
    let (kind, name) = match context {
        Context::Branch(name) => ("branch", name),
        Context::Tag(name) => ("tag", name),
        Context::Environment(_) | Context::PullRequest => return None,
    };
    Some(format!("project_path:{project}:ref_type:{kind}:ref:{name}"))
}

/// The subject of an Azure DevOps service connection, older issuer.
pub fn azure_devops_by_names(organization: &str, project: &str, connection: &str) -> String {
    format!("sc://{organization}/{project}/{connection}")
}

/// The subject of an Azure DevOps service connection, newer issuer, public cloud. The ids stand in it as .NET writes
/// their bytes.
pub fn azure_devops_by_ids(tenant: Uuid, organization: Uuid, connection: Uuid) -> String {
    let encoded = |id: Uuid| URL_SAFE_NO_PAD.encode(id.to_bytes_le());
    format!(
        "/eid1/c/pub/t/{}/a/{}/sc/{organization}/{connection}",
        encoded(tenant),
        encoded(AZURE_DEVOPS_APPLICATION)
    )
}

/// The subject of a Kubernetes service account.
pub fn kubernetes(namespace: &str, service_account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{service_account}")
}

/// What a subject says in words. Parts of it are foreign text.
pub fn words(subject: &str) -> Option<String> {
    if let Some(rest) = subject.strip_prefix("repo:") {
        return github_words(rest);
    }
    if let Some(rest) = subject.strip_prefix("project_path:") {
        let (project, rest) = rest.split_once(":ref_type:")?;
        let (kind, name) = rest.split_once(":ref:")?;
        return Some(format!("a job of {kind} `{name}` in GitLab project {project}"));
    }
    if let Some(rest) = subject.strip_prefix("project_id:") {
        let (id, rest) = rest.split_once(":ref_type:")?;
        let (kind, name) = rest.split_once(":ref:")?;
        return Some(format!("a job of {kind} `{name}` in the GitLab project with id {id}"));
    }
    if let Some(rest) = subject.strip_prefix("sc://") {
        let (organization, rest) = rest.split_once('/')?;
        let (project, connection) = rest.split_once('/')?;
        return Some(format!(
            "a job that uses the service connection `{connection}` in project {project} of Azure DevOps organisation \
             {organization}"
        ));
    }
    if subject.starts_with("/eid1/") {
        let (_, rest) = subject.split_once("/sc/")?;
        let (organization, connection) = rest.split_once('/')?;
        return Some(format!(
            "a job that uses the service connection with id {connection} in the Azure DevOps organisation with id \
             {organization}"
        ));
    }
    let rest = subject.strip_prefix("system:serviceaccount:")?;
    let (namespace, account) = rest.split_once(':')?;
    Some(format!("a pod with service account `{account}` in Kubernetes namespace {namespace}"))
}

fn github_words(rest: &str) -> Option<String> {
    let (repository, context) = rest.split_once(':')?;
    let (context, workflow) = match context.split_once(":job_workflow_ref:") {
        Some((context, workflow)) => (context, format!(", in the reusable workflow {}", plain(workflow))),
        None => (context, String::new()),
    };
    let what = if let Some(name) = context.strip_prefix("environment:") {
        format!("of environment `{}`", plain(name))
    } else if let Some(name) = context.strip_prefix("ref:refs/heads/") {
        format!("of branch `{}`, without an environment,", plain(name))
    } else if let Some(name) = context.strip_prefix("ref:refs/tags/") {
        format!("of tag `{}`, without an environment,", plain(name))
    } else if context == "pull_request" {
        "of a pull request, without an environment,".to_owned()
    } else {
        return None;
    };
    let (owner, name) = repository.split_once('/')?;
    let without_id = |part: &str| part.split_once('@').map_or(part, |(name, _)| name).to_owned();
    let immutable = if owner.contains('@') && name.contains('@') { " (immutable subject)" } else { "" };
    Some(format!(
        "a job {what} in GitHub repository {}/{}{immutable}{workflow}",
        without_id(owner),
        without_id(name)
    ))
}

fn plain(value: &str) -> String {
    value.replace("%3A", ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(ids: Option<(u64, u64)>) -> Repository {
        Repository { owner: "contoso".to_owned(), name: "infra".to_owned(), ids }
    }

    #[test]
    fn github_both_ways() {
        let ids = Some((100, 200));
        for (ids, context, workflow, subject, said) in [
            (
                None,
                Context::Environment("prod".to_owned()),
                None,
                "repo:contoso/infra:environment:prod",
                "a job of environment `prod` in GitHub repository contoso/infra",
            ),
            (
                ids,
                Context::Environment("a:b".to_owned()),
                None,
                "repo:contoso@100/infra@200:environment:a%3Ab",
                "a job of environment `a:b` in GitHub repository contoso/infra (immutable subject)",
            ),
            (
                None,
                Context::PullRequest,
                None,
                "repo:contoso/infra:pull_request",
                "a job of a pull request, without an environment, in GitHub repository contoso/infra",
            ),
            (
                ids,
                Context::Branch("feature/x".to_owned()),
                None,
                "repo:contoso@100/infra@200:ref:refs/heads/feature/x",
                "a job of branch `feature/x`, without an environment, in GitHub repository contoso/infra (immutable subject)",
            ),
            (
                None,
                Context::Tag("v1".to_owned()),
                Some("contoso/ci/.github/workflows/deploy.yml@refs/heads/main"),
                "repo:contoso/infra:ref:refs/tags/v1:job_workflow_ref:contoso/ci/.github/workflows/deploy.yml@refs/heads/main",
                "a job of tag `v1`, without an environment, in GitHub repository contoso/infra, in the reusable workflow \
                 contoso/ci/.github/workflows/deploy.yml@refs/heads/main",
            ),
        ] {
            assert_eq!(github(&repository(ids), &context, workflow), subject);
            assert_eq!(words(subject).as_deref(), Some(said));
        }
    }

    #[test]
    fn the_others_both_ways() {
        assert_eq!(gitlab("contoso/infra", &Context::PullRequest), None);
        let tenant = Uuid::from_u128(0x2222_2222_2222_4222_8222_2222_2222_2222);
        let organization = Uuid::from_u128(0xaaaa_aaaa_aaaa_4aaa_8aaa_aaaa_aaaa_aaaa);
        let connection = Uuid::from_u128(0x9999_9999_9999_4999_8999_9999_9999_9999);
        for (made, subject, said) in [
            (
                gitlab("g/p", &Context::Branch("main".to_owned())).unwrap(),
                "project_path:g/p:ref_type:branch:ref:main",
                "a job of branch `main` in GitLab project g/p",
            ),
            (
                azure_devops_by_names("contoso", "infra", "azure-prod"),
                "sc://contoso/infra/azure-prod",
                "a job that uses the service connection `azure-prod` in project infra of Azure DevOps organisation contoso",
            ),
            (
                azure_devops_by_ids(tenant, organization, connection),
                "/eid1/c/pub/t/IiIiIiIiIkKCIiIiIiIiIg/a/rISbSSETf0KqFyZ8ppdXmA/sc/aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa/99999999-9999-4999-8999-999999999999",
                "a job that uses the service connection with id 99999999-9999-4999-8999-999999999999 in the Azure DevOps \
                 organisation with id aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
            ),
            (
                kubernetes("apps", "deployer"),
                "system:serviceaccount:apps:deployer",
                "a pod with service account `deployer` in Kubernetes namespace apps",
            ),
        ] {
            assert_eq!(made, subject);
            assert_eq!(words(subject).as_deref(), Some(said));
        }
    }

    #[test]
    fn what_is_no_subject_of_ours_has_no_words() {
        for subject in ["", "repo:", "repo:x", "repo:a/b:c", "project_path:x", "sc://x", "x", "/eid1/x"] {
            assert_eq!(words(subject), None, "{subject}");
        }
    }
}
