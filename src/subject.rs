//! What a subject says, both ways: from the description of a job to its subject, and from a subject to words.
//!
//! Sources: github/docs `content/actions/reference/security/oidc.md` (subjects, immutable ones, `%3A`), docs.gitlab.com
//! `ci/secrets/id_token_authentication`, azure-devops-docs `docs/pipelines/release/troubleshoot-workload-identity.md`,
//! Kubernetes "Configure Service Accounts for Pods". The other CIs' are named where their tokens are taken, in
//! [`crate::platform`]; Forgejo's immutable subjects are those of forgejo/forgejo#12355.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::platform::{buildkite, google_cloud};

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

/// The subject of a GitLab job where nobody has set anything; there is none for environments and pull requests.
pub fn gitlab(project: &str, context: &Context) -> Option<String> {
    gitlab_with(project, Some(context), &Components::default()).map(|(subject, _)| subject)
}

/// What a GitLab project has in its subjects beside project and ref (`ci_id_token_sub_claim_components`; all but the
/// first three since GitLab 18.7). The setting is the project's: each of its jobs has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Components {
    /// The project's id in place of its path, which a rename may give to somebody else.
    pub project_id: Option<u64>,
    /// That branch or tag is protected.
    pub ref_protected: bool,
    /// That the environment is protected.
    pub environment_protected: bool,
    /// The environment's deployment tier.
    pub deployment_tier: Option<String>,
}

/// What GitLab has in subjects where nobody has set anything.
pub const GITLAB_DEFAULT: [&str; 3] = ["project_path", "ref_type", "ref"];
/// What it can have.
const GITLAB_COMPONENTS: [&str; 8] = [
    "project_path",
    "project_id",
    "ref_type",
    "ref",
    "ref_protected",
    "environment_protected",
    "deployment_tier",
    "environment",
];

/// The subject of a GitLab job whose project has these components, and their names in its order. Without a context it is
/// any branch and tag; there is none for environments and pull requests.
pub fn gitlab_with(
    project: &str,
    context: Option<&Context>,
    components: &Components,
) -> Option<(String, Vec<&'static str>)> {
    let mut pairs = vec![match components.project_id {
        Some(id) => ("project_id", id.to_string()),
        None => ("project_path", project.to_owned()),
    }];
    match context {
        Some(Context::Branch(name)) => {
            pairs.extend([("ref_type", "branch".to_owned()), ("ref", name.clone())]);
        }
        Some(Context::Tag(name)) => pairs.extend([("ref_type", "tag".to_owned()), ("ref", name.clone())]),
        Some(Context::Environment(_) | Context::PullRequest) => return None,
        None => {}
    }
    let is_true = |name, wanted: bool| wanted.then(|| (name, "true".to_owned()));
    pairs.extend(is_true("ref_protected", components.ref_protected));
    pairs.extend(is_true("environment_protected", components.environment_protected));
    pairs.extend(components.deployment_tier.clone().map(|tier| ("deployment_tier", tier)));
    let names = pairs.iter().map(|(name, _)| *name).collect();
    let parts: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
    Some((parts.join(":"), names))
}

/// The components of a GitLab subject, in its order. No value has a colon: git takes none in a ref, GitLab none in a path.
pub fn gitlab_components(subject: &str) -> Option<Vec<(&str, &str)>> {
    if !subject.starts_with("project_path:") && !subject.starts_with("project_id:") {
        return None;
    }
    let parts: Vec<&str> = subject.split(':').collect();
    let pairs: Vec<(&str, &str)> = parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let is_known = |(name, value): &(&str, &str)| GITLAB_COMPONENTS.contains(name) && !value.is_empty();
    (parts.len().is_multiple_of(2) && pairs.iter().all(is_known)).then_some(pairs)
}

fn gitlab_words(subject: &str) -> Option<String> {
    let components = gitlab_components(subject)?;
    let of = |wanted: &str| components.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let project = match (of("project_path"), of("project_id")) {
        (Some(path), _) if path.contains('/') => format!("GitLab project {path}"),
        (None, Some(id)) => format!("the GitLab project with id {id}"),
        _ => return None,
    };
    let protected = match of("ref_protected") {
        Some("true") => "protected ",
        Some("false") => "unprotected ",
        _ => "",
    };
    let context = match (of("ref_type"), of("ref")) {
        (Some(kind), Some(name)) => format!(" of {protected}{kind} `{name}`"),
        (None, Some(name)) => format!(" of {protected}branch or tag `{name}`"),
        (Some(kind), None) => format!(" of any {protected}{kind}"),
        (None, None) if protected.is_empty() => String::new(),
        (None, None) => format!(" of any {protected}branch or tag"),
    };
    let which = match of("environment_protected") {
        Some("true") => "a protected environment",
        Some("false") => "an unprotected environment",
        _ => "an environment",
    };
    let tier = of("deployment_tier").map_or_else(String::new, |tier| format!(" of tier `{tier}`"));
    let name = of("environment").map_or_else(String::new, |name| format!(" named `{name}`"));
    let is_deployment = of("environment_protected").or(of("deployment_tier")).or(of("environment")).is_some();
    let deployment =
        if is_deployment { format!(", deploying to {which}{name}{tier}") } else { String::new() };
    Some(format!("a job{context} in {project}{deployment}"))
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

/// The subject of a `CircleCI` job, with the repository and what was checked out in the second form.
pub fn circleci(organization: Uuid, project: Uuid, user: Uuid, vcs: Option<(&str, &str)>) -> String {
    let vcs =
        vcs.map_or_else(String::new, |(origin, git_ref)| format!("/vcs-origin/{origin}/vcs-ref/{git_ref}"));
    format!("org/{organization}/project/{project}/user/{user}{vcs}")
}

/// The subject of a phase of a run of HCP Terraform.
pub fn hcp_terraform(organization: &str, project: &str, workspace: &str, phase: &str) -> String {
    format!("organization:{organization}:project:{project}:workspace:{workspace}:run_phase:{phase}")
}

/// The subject of a run of Spacelift. `caller` is `stack` or `module`.
pub fn spacelift(space: &str, caller: &str, id: &str, run_type: &str, scope: &str) -> String {
    format!("space:{space}:{caller}:{id}:run_type:{run_type}:scope:{scope}")
}

/// The subject of a Semaphore job; pull requests have their numbers in it, and there is none for environments.
pub fn semaphore(organization: &str, project: Uuid, repo: &str, context: &Context) -> Option<String> {
    let (kind, git_ref) = match context {
        Context::Branch(name) => ("branch", format!("refs/heads/{name}")),
        Context::Tag(name) => ("tag", format!("refs/tags/{name}")),
        Context::Environment(_) | Context::PullRequest => return None,
    };
    Some(format!("org:{organization}:project:{project}:repo:{repo}:ref_type:{kind}:ref:{git_ref}"))
}

/// What starts a build of Codefresh: a schedule, where it is nothing of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodefreshTrigger {
    /// Who starts it by hand.
    pub initiator: Option<String>,
    /// The repository's URL, who pushed, and the name of the branch or tag.
    pub git: Option<(String, String, String)>,
    /// The target branch of a pull request.
    pub target: Option<String>,
}

/// The subject of a build of Codefresh.
pub fn codefresh(account: &str, pipeline: &str, trigger: &CodefreshTrigger) -> String {
    let mut subject = format!("account:{account}:pipeline:{pipeline}");
    let mut more = |name: &str, value: &str| {
        subject.extend([":", name, ":", value]);
    };
    if let Some(initiator) = &trigger.initiator {
        more("initiator", initiator);
    }
    if let Some((url, user, git_ref)) = &trigger.git {
        more("scm_repo_url", url);
        more("scm_user_name", user);
        more("scm_ref", git_ref);
    }
    if let Some(target) = &trigger.target {
        more("scm_pull_request_target_branch", target);
    }
    subject
}

/// The subject of a Forgejo job: GitHub's form, but ids go behind `-`. There is none for environments.
pub fn forgejo(repository: &Repository, context: &Context) -> Option<String> {
    let Repository { owner, name, ids } = repository;
    let context = match context {
        Context::Branch(name) => format!("ref:refs/heads/{name}"),
        Context::Tag(name) => format!("ref:refs/tags/{name}"),
        Context::PullRequest => "pull_request".to_owned(),
        Context::Environment(_) => return None,
    };
    Some(match ids {
        Some((owner_id, id)) => format!("repo:{owner}-{owner_id}/{name}-{id}:{context}"),
        None => format!("repo:{owner}/{name}:{context}"),
    })
}

/// What a subject of this issuer says in words. Parts of it are foreign text.
pub fn words(issuer: &str, subject: &str) -> Option<String> {
    if let Some(rest) = subject.strip_prefix("repo:") {
        let contract = if issuer.ends_with("/api/actions") { "Forgejo" } else { "GitHub" };
        return github_words(contract, rest);
    }
    if issuer == buildkite::ISSUER && Uuid::try_parse(subject).is_ok() {
        return Some(format!(
            "a job in Buildkite of the pipeline, or of what else `--subject-claim` says, with id {subject}"
        ));
    }
    if issuer == google_cloud::ISSUER {
        return Some(format!("a Google Cloud workload with the service account with id {subject}"));
    }
    if let Some(words) = elsewhere(subject) {
        return Some(words);
    }
    if subject.starts_with("project_path:") || subject.starts_with("project_id:") {
        return gitlab_words(subject);
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

/// The subjects of the other CIs and clouds.
fn elsewhere(subject: &str) -> Option<String> {
    if subject.starts_with("arn:aws") {
        return Some(format!("an AWS workload that is {subject}"));
    }
    if let Some(rest) = subject.strip_prefix("organization:") {
        let (organization, rest) = rest.split_once(':')?;
        if let Some(rest) = rest.strip_prefix("pipeline:") {
            let (pipeline, rest) = rest.split_once(":ref:")?;
            let (git_ref, rest) = rest.split_once(":commit:")?;
            let (commit, _) = rest.split_once(":step:")?;
            return Some(format!(
                "a job of one commit, {commit}, of {git_ref} in Buildkite pipeline {organization}/{pipeline}"
            ));
        }
        if let Some(rest) = rest.strip_prefix("module:") {
            let (module, _) = rest.split_once(":operation:")?;
            return Some(format!(
                "a test run of module `{module}` in HCP Terraform organisation {organization}"
            ));
        }
        let (project, rest) = rest.strip_prefix("project:")?.split_once(":workspace:")?;
        let (workspace, phase) = rest.split_once(":run_phase:")?;
        return Some(format!(
            "the {phase} of workspace `{workspace}` in project {project} of HCP Terraform organisation {organization}"
        ));
    }
    if let Some(rest) = subject.strip_prefix("space:") {
        let (space, rest) = rest.split_once(':')?;
        let (caller, rest) = rest.split_once(':')?;
        let (id, rest) = rest.split_once(":run_type:")?;
        let (run_type, scope) = rest.split_once(":scope:")?;
        return Some(format!(
            "a run of type {run_type}, which may {scope}, of {caller} `{id}` in Spacelift space {space}"
        ));
    }
    if let Some(rest) = subject.strip_prefix("org:") {
        let (organization, rest) = rest.split_once(":project:")?;
        let (project, rest) = rest.split_once(":repo:")?;
        let (repo, rest) = rest.split_once(":ref_type:")?;
        let (_, git_ref) = rest.split_once(":ref:")?;
        return Some(format!(
            "a job for {git_ref} of repository {repo} in the Semaphore project with id {project} of organisation \
             {organization}"
        ));
    }
    if let Some(rest) = subject.strip_prefix("org/") {
        let (_, rest) = rest.split_once("/project/")?;
        let (project, rest) = rest.split_once("/user/")?;
        let (user, rest) = rest.split_once("/vcs-origin/").unwrap_or((rest, ""));
        let what = match rest.split_once("/vcs-ref/") {
            Some((origin, git_ref)) => format!(" for {git_ref} of {origin}"),
            None => String::new(),
        };
        return Some(format!(
            "a job{what} that the user with id {user} started in the CircleCI project with id {project}"
        ));
    }
    let rest = subject.strip_prefix("account:")?;
    let (account, rest) = rest.split_once(":pipeline:")?;
    let (pipeline, rest) = rest.split_once(':').unwrap_or((rest, ""));
    let git = rest.split_once("scm_repo_url:").and_then(|(_, rest)| {
        let (url, rest) = rest.split_once(":scm_user_name:")?;
        let (user, git_ref) = rest.split_once(":scm_ref:")?;
        let git_ref = git_ref.split_once(':').map_or(git_ref, |(git_ref, _)| git_ref);
        Some(format!(" for `{git_ref}` of {url}, by {user},"))
    });
    let by_hand = || rest.strip_prefix("initiator:").map(|user| format!(" that {user} started"));
    let what = git.or_else(by_hand).unwrap_or_default();
    Some(format!(
        "a build{what} of the Codefresh pipeline with id {pipeline} in the account with id {account}"
    ))
}

fn github_words(contract: &str, rest: &str) -> Option<String> {
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
        "a job {what} in {contract} repository {}/{}{immutable}{workflow}",
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
            assert_eq!(words("https://i", subject).as_deref(), Some(said));
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
            assert_eq!(words("https://i", subject).as_deref(), Some(said));
        }
    }

    #[test]
    fn gitlabs_components_both_ways() {
        let tier = |tier: &str| Some(tier.to_owned());
        let (branch, tag) = (Context::Branch("main".to_owned()), Context::Tag("v1".to_owned()));
        for (context, components, subject, said) in [
            (
                Some(&branch),
                Components {
                    environment_protected: true,
                    deployment_tier: tier("production"),
                    ..Components::default()
                },
                "project_path:g/p:ref_type:branch:ref:main:environment_protected:true:deployment_tier:production",
                "a job of branch `main` in GitLab project g/p, deploying to a protected environment of tier `production`",
            ),
            (
                Some(&tag),
                Components { ref_protected: true, ..Components::default() },
                "project_path:g/p:ref_type:tag:ref:v1:ref_protected:true",
                "a job of protected tag `v1` in GitLab project g/p",
            ),
            (
                None,
                Components {
                    project_id: Some(42),
                    ref_protected: true,
                    deployment_tier: tier("staging"),
                    ..Components::default()
                },
                "project_id:42:ref_protected:true:deployment_tier:staging",
                "a job of any protected branch or tag in the GitLab project with id 42, deploying to an environment of tier `staging`",
            ),
            (
                Some(&branch),
                Components::default(),
                "project_path:g/p:ref_type:branch:ref:main",
                "a job of branch `main` in GitLab project g/p",
            ),
        ] {
            let (made, names) = gitlab_with("g/p", context, &components).unwrap();
            assert_eq!(made, subject);
            assert_eq!(words("", subject).as_deref(), Some(said));
            let read: Vec<&str> = gitlab_components(subject).unwrap().iter().map(|(name, _)| *name).collect();
            assert_eq!(read, names);
        }
        assert_eq!(gitlab_with("g/p", Some(&Context::PullRequest), &Components::default()), None);
        for (subject, said) in [
            ("project_path:g/p", "a job in GitLab project g/p"),
            ("project_path:g/p:ref_type:tag", "a job of any tag in GitLab project g/p"),
            (
                "project_path:g/p:ref:x:ref_protected:false:environment_protected:false",
                "a job of unprotected branch or tag `x` in GitLab project g/p, deploying to an unprotected environment",
            ),
            (
                "project_path:g/p:environment:prod",
                "a job in GitLab project g/p, deploying to an environment named `prod`",
            ),
        ] {
            assert_eq!(words("", subject).as_deref(), Some(said));
        }
        for odd in [
            "project_path:g/p:ref",
            "project_path:g/p:ref:",
            "project_path:g/p:a:b",
            "project_path:g/p:ref:a:b",
        ] {
            assert_eq!(words("", odd), None, "{odd}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn elsewhere_both_ways() {
        let id = Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1111);
        let main = Context::Branch("main".to_owned());
        let git = |initiator: Option<&str>, target: Option<&str>| CodefreshTrigger {
            initiator: initiator.map(ToOwned::to_owned),
            git: Some((
                "https://github.com/contoso/infra".to_owned(),
                "octocat".to_owned(),
                "main".to_owned(),
            )),
            target: target.map(ToOwned::to_owned),
        };
        let by_hand =
            CodefreshTrigger { initiator: Some("octocat".to_owned()), ..CodefreshTrigger::default() };
        for (made, issuer, subject, said) in [
            (
                id.to_string(),
                "https://agent.buildkite.com",
                "11111111-1111-4111-8111-111111111111",
                "a job in Buildkite of the pipeline, or of what else `--subject-claim` says, with id \
                 11111111-1111-4111-8111-111111111111",
            ),
            (
                "organization:contoso:pipeline:infra:ref:refs/heads/main:commit:0123:step:deploy".to_owned(),
                "https://agent.buildkite.com",
                "organization:contoso:pipeline:infra:ref:refs/heads/main:commit:0123:step:deploy",
                "a job of one commit, 0123, of refs/heads/main in Buildkite pipeline contoso/infra",
            ),
            (
                circleci(id, id, id, None),
                "",
                "org/11111111-1111-4111-8111-111111111111/project/11111111-1111-4111-8111-111111111111/user/\
                 11111111-1111-4111-8111-111111111111",
                "a job that the user with id 11111111-1111-4111-8111-111111111111 started in the CircleCI project with id \
                 11111111-1111-4111-8111-111111111111",
            ),
            (
                circleci(id, id, id, Some(("github.com/contoso/infra", "refs/heads/main"))),
                "",
                "org/11111111-1111-4111-8111-111111111111/project/11111111-1111-4111-8111-111111111111/user/\
                 11111111-1111-4111-8111-111111111111/vcs-origin/github.com/contoso/infra/vcs-ref/refs/heads/main",
                "a job for refs/heads/main of github.com/contoso/infra that the user with id \
                 11111111-1111-4111-8111-111111111111 started in the CircleCI project with id \
                 11111111-1111-4111-8111-111111111111",
            ),
            (
                hcp_terraform("contoso", "Default Project", "prod", "apply"),
                "",
                "organization:contoso:project:Default Project:workspace:prod:run_phase:apply",
                "the apply of workspace `prod` in project Default Project of HCP Terraform organisation contoso",
            ),
            (
                "organization:contoso:module:vpc:operation:test_run".to_owned(),
                "",
                "organization:contoso:module:vpc:operation:test_run",
                "a test run of module `vpc` in HCP Terraform organisation contoso",
            ),
            (
                spacelift("root", "stack", "infra", "TRACKED", "write"),
                "",
                "space:root:stack:infra:run_type:TRACKED:scope:write",
                "a run of type TRACKED, which may write, of stack `infra` in Spacelift space root",
            ),
            (
                semaphore("contoso", id, "infra", &main).unwrap(),
                "",
                "org:contoso:project:11111111-1111-4111-8111-111111111111:repo:infra:ref_type:branch:ref:refs/heads/main",
                "a job for refs/heads/main of repository infra in the Semaphore project with id \
                 11111111-1111-4111-8111-111111111111 of organisation contoso",
            ),
            (
                codefresh("a", "p", &CodefreshTrigger::default()),
                "",
                "account:a:pipeline:p",
                "a build of the Codefresh pipeline with id p in the account with id a",
            ),
            (
                codefresh("a", "p", &by_hand),
                "",
                "account:a:pipeline:p:initiator:octocat",
                "a build that octocat started of the Codefresh pipeline with id p in the account with id a",
            ),
            (
                codefresh("a", "p", &git(Some("x"), Some("prod"))),
                "",
                "account:a:pipeline:p:initiator:x:scm_repo_url:https://github.com/contoso/infra:scm_user_name:octocat:scm_ref:main\
                 :scm_pull_request_target_branch:prod",
                "a build for `main` of https://github.com/contoso/infra, by octocat, of the Codefresh pipeline with id p in the \
                 account with id a",
            ),
            (
                forgejo(&repository(Some((5, 4))), &main).unwrap(),
                "https://forgejo.example.com/api/actions",
                "repo:contoso-5/infra-4:ref:refs/heads/main",
                "a job of branch `main`, without an environment, in Forgejo repository contoso-5/infra-4",
            ),
            (
                forgejo(&repository(None), &Context::PullRequest).unwrap(),
                "https://forgejo.example.com/api/actions",
                "repo:contoso/infra:pull_request",
                "a job of a pull request, without an environment, in Forgejo repository contoso/infra",
            ),
            (
                "112233".to_owned(),
                "https://accounts.google.com",
                "112233",
                "a Google Cloud workload with the service account with id 112233",
            ),
            (
                "arn:aws:iam::123456789012:role/x".to_owned(),
                "",
                "arn:aws:iam::123456789012:role/x",
                "an AWS workload that is arn:aws:iam::123456789012:role/x",
            ),
        ] {
            assert_eq!(made, subject);
            assert_eq!(words(issuer, subject).as_deref(), Some(said), "{subject}");
        }
        assert_eq!(semaphore("o", id, "r", &Context::PullRequest), None);
    }

    #[test]
    fn what_is_no_subject_of_ours_has_no_words() {
        for subject in [
            "",
            "repo:",
            "repo:x",
            "repo:a/b:c",
            "project_path:x",
            "sc://x",
            "x",
            "/eid1/x",
            "organization:",
            "organization:a:b:c",
            "space:a",
            "org:a",
            "org/a",
            "account:a",
            "0188c8b2-4f4e-4b0d-9f66-3f3a3a0c0001",
            "112233",
        ] {
            assert_eq!(words("https://i", subject), None, "{subject}");
        }
    }
}
