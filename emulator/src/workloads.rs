//! The other CIs' and clouds' OIDC issuers, and the environment that they give a step.
//!
//! Sources: buildkite/docs `pages/agent/cli/reference/oidc.md`; circleci.com/docs "Using OpenID Connect tokens in jobs";
//! developer.hashicorp.com "Workload identity tokens"; docs.spacelift.io "OpenID Connect"; docs.semaphoreci.com "OpenID
//! Connect"; jenkinsci/oidc-provider-plugin; codefresh.io/docs "OIDC for Codefresh pipelines"; forgejo.org/docs "Security
//! OpenID Connect" and Forgejo's `tests/integration/api_actions_oidc_test.go`; sigstore/fulcio#1257 (Bitbucket);
//! cloud.google.com "Verify the identity of a VM"; docs.aws.amazon.com "Outbound identity federation".
//! Gitea's request URL is Forgejo's here: it is not documented.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    issuers::{JobOverrides, Written, job_of, request_token, sign},
    keys::Key,
    message::{Answer, Request, answer, json as as_json, with},
    world::{APPLICATION, CLOUDS, FederatedCredential, IDENTITY, World},
};

/// The id of the Buildkite pipeline.
pub const BUILDKITE_PIPELINE: &str = "0188c8b2-4f4e-4b0d-9f66-3f3a3a0c0001";
/// The id of the `CircleCI` organisation.
pub const CIRCLECI_ORGANIZATION: &str = "3c1f2ad6-2b1c-4c6b-9d57-0d9d0a4c0002";
/// The numeric id of Google's service account.
pub const GOOGLE_ACCOUNT: &str = "112233445566778899001";
/// The AWS account's principal.
pub const AWS_PRINCIPAL: &str = "arn:aws:iam::123456789012:role/runner";

const CIRCLECI_PROJECT: &str = "7b5c7f0c-6c0d-4e9c-8d42-7a4b5c6d0003";
const CIRCLECI_USER: &str = "f0d1c2b3-a495-4867-8f0e-1d2c3b4a0004";
const GOOGLE_EMAIL: &str = "runner@contoso.iam.gserviceaccount.com";
const BITBUCKET_REPOSITORY: &str = "{5f8b9c3d-2e1a-4f6b-8c7d-9e0f1a2b0005}";
const EXCHANGE: &str = CLOUDS[0].1;

/// A CI beside the big ones, or a workload of another cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Buildkite: its agent program asks.
    Buildkite,
    /// `CircleCI`: ready-made tokens for the organisation, others by its program.
    Circleci,
    /// HCP Terraform.
    HcpTerraform,
    /// Spacelift.
    Spacelift,
    /// Semaphore.
    Semaphore,
    /// Jenkins with the `oidc-provider` plugin.
    Jenkins,
    /// Codefresh, after its step `obtain-oidc-id-token`.
    Codefresh,
    /// Forgejo Actions.
    Forgejo,
    /// Gitea Actions.
    Gitea,
    /// Bitbucket Pipelines.
    Bitbucket,
    /// A Google Cloud workload.
    GoogleCloud,
    /// An AWS workload.
    Aws,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Buildkite,
        Self::Circleci,
        Self::HcpTerraform,
        Self::Spacelift,
        Self::Semaphore,
        Self::Jenkins,
        Self::Codefresh,
        Self::Forgejo,
        Self::Gitea,
        Self::Bitbucket,
        Self::GoogleCloud,
        Self::Aws,
    ];

    /// Its issuer.
    pub fn issuer(self) -> String {
        match self {
            Self::Buildkite => "https://agent.buildkite.com".to_owned(),
            Self::Circleci => format!("https://oidc.circleci.com/org/{CIRCLECI_ORGANIZATION}"),
            Self::HcpTerraform => "https://app.terraform.io".to_owned(),
            Self::Spacelift => "https://contoso.app.spacelift.io".to_owned(),
            Self::Semaphore => "https://contoso.semaphoreci.com".to_owned(),
            Self::Jenkins => "https://jenkins.example.com/oidc".to_owned(),
            Self::Codefresh => "https://oidc.codefresh.io".to_owned(),
            Self::Forgejo => "https://forgejo.example.com/api/actions".to_owned(),
            Self::Gitea => "https://git.example.com/gitea/api/actions".to_owned(),
            Self::Bitbucket => {
                "https://api.bitbucket.org/2.0/workspaces/contoso/pipelines-config/identity/oidc".to_owned()
            }
            Self::GoogleCloud => "https://accounts.google.com".to_owned(),
            Self::Aws => "https://a1b2c3d4-5e6f-4a7b-8c9d-0e1f2a3b0006.tokens.sts.global.api.aws".to_owned(),
        }
    }

    /// The subject that its federated credential has. Bitbucket's is another one with each step.
    pub fn subject(self) -> String {
        match self {
            Self::Buildkite => BUILDKITE_PIPELINE.to_owned(),
            Self::Circleci => {
                format!("org/{CIRCLECI_ORGANIZATION}/project/{CIRCLECI_PROJECT}/user/{CIRCLECI_USER}")
            }
            Self::HcpTerraform => terraform_subject("apply"),
            Self::Spacelift => "space:prod-01HF:stack:infra:run_type:TRACKED:scope:write".to_owned(),
            Self::Semaphore => {
                "org:contoso:project:2d3e4f50-6172-4839-9a4b-5c6d7e8f0007:repo:infra:ref_type:branch:ref:refs/heads/main"
                    .to_owned()
            }
            Self::Jenkins => "https://jenkins.example.com/job/infra/".to_owned(),
            Self::Codefresh => {
                "account:66327682d5f6e0bfd0ef936a:pipeline:6ab48c904c7ffadba0ee23df:scm_repo_url:https://github.com/contoso/infra:scm_user_name:octocat:scm_ref:main"
                    .to_owned()
            }
            Self::Forgejo => "repo:contoso-5/infra-4:ref:refs/heads/main".to_owned(),
            Self::Gitea => "repo:contoso/infra:ref:refs/heads/main".to_owned(),
            Self::Bitbucket => format!("{BITBUCKET_REPOSITORY}:{{{}}}", Uuid::new_v4()),
            Self::GoogleCloud => GOOGLE_ACCOUNT.to_owned(),
            Self::Aws => AWS_PRINCIPAL.to_owned(),
        }
    }

    /// The audience of its federated credential: for the CIs that fix it, theirs.
    pub fn audience(self) -> String {
        match self {
            Self::Spacelift => "contoso.app.spacelift.io".to_owned(),
            Self::Semaphore => self.issuer(),
            _ => EXCHANGE.to_owned(),
        }
    }

    /// What it writes where nobody asks for an audience.
    fn usual_audience(self) -> String {
        match self {
            Self::Buildkite => "https://buildkite.com/contoso".to_owned(),
            Self::Circleci => CIRCLECI_ORGANIZATION.to_owned(),
            Self::Codefresh => "https://g.codefresh.io".to_owned(),
            Self::Forgejo => "https://forgejo.example.com/contoso".to_owned(),
            Self::Gitea => "https://git.example.com/gitea/contoso".to_owned(),
            Self::Bitbucket => {
                "ari:cloud:bitbucket::workspace/6a7b8c9d-0e1f-4a2b-8c3d-4e5f6a7b0008".to_owned()
            }
            other => other.audience(),
        }
    }

    fn lifetime(self) -> u64 {
        match self {
            Self::Buildkite | Self::Codefresh | Self::Aws => 300,
            Self::HcpTerraform => 7_200,
            _ => 3_600,
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::Buildkite => "buildkite",
            Self::Circleci => "circleci",
            Self::HcpTerraform => "hcp-terraform",
            Self::Spacelift => "spacelift",
            Self::Semaphore => "semaphore",
            Self::Jenkins => "jenkins",
            Self::Codefresh => "codefresh",
            Self::Forgejo => "forgejo",
            Self::Gitea => "gitea",
            Self::Bitbucket => "bitbucket",
            Self::GoogleCloud => "google-cloud",
            Self::Aws => "aws",
        }
    }

    /// A key for each.
    pub(crate) fn keys() -> Vec<(Self, Key)> {
        Self::ALL.map(|workload| (workload, Key::new(workload.id()))).into()
    }

    /// Whose issuer this is; `CircleCI` has two.
    pub(crate) fn of_issuer(issuer: &str) -> Option<Self> {
        let root = (issuer == "https://oidc.circleci.com").then_some(Self::Circleci);
        root.or_else(|| Self::ALL.into_iter().find(|workload| workload.issuer() == issuer))
    }

    /// Whose issuer is on this host.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.issuer().split('/').nth(2) == Some(host))
    }
}

fn terraform_subject(phase: &str) -> String {
    format!("organization:contoso:project:infra:workspace:prod:run_phase:{phase}")
}

/// `CircleCI`'s second form of the subject, which says what was checked out.
fn circleci_subject_2() -> String {
    format!("{}/vcs-origin/github.com/contoso/infra/vcs-ref/refs/heads/main", Workload::Circleci.subject())
}

/// One credential for each, and those that a second form takes. Bitbucket's names a step that is over.
pub(crate) fn first_credentials() -> Vec<FederatedCredential> {
    let credential = |client_id: &str, workload: Workload, subject: String, audience: String| {
        FederatedCredential { client_id: client_id.to_owned(), issuer: workload.issuer(), subject, audience }
    };
    let mut credentials: Vec<_> = Workload::ALL
        .into_iter()
        .map(|workload| credential(IDENTITY, workload, workload.subject(), workload.audience()))
        .collect();
    credentials.extend([
        credential(IDENTITY, Workload::HcpTerraform, terraform_subject("plan"), EXCHANGE.to_owned()),
        credential(IDENTITY, Workload::Circleci, circleci_subject_2(), EXCHANGE.to_owned()),
        credential(
            APPLICATION,
            Workload::Circleci,
            Workload::Circleci.subject(),
            CIRCLECI_ORGANIZATION.to_owned(),
        ),
    ]);
    credentials
}

/// Who they are, by name.
pub(crate) fn describe() -> Value {
    let described = |workload: Workload| {
        let of = json!({
            "issuer": workload.issuer(), "subject": workload.subject(), "audience": workload.audience(),
        });
        (workload.id().to_owned(), of)
    };
    Value::Object(Workload::ALL.into_iter().map(described).collect())
}

/// The claims beside the subject, as far as somebody might read them.
fn more_claims(workload: Workload, subject: &str) -> Value {
    match workload {
        Workload::Buildkite => json!({
            "organization_slug": "contoso", "pipeline_slug": "infra", "build_number": 17, "build_branch": "main",
            "build_commit": "0123456789abcdef0123456789abcdef01234567", "step_key": "deploy",
            "pipeline_id": BUILDKITE_PIPELINE, "job_id": "0188c8b2-4f4e-4b0d-9f66-3f3a3a0c0009",
        }),
        Workload::Circleci => json!({
            "oidc.circleci.com/project-id": CIRCLECI_PROJECT, "oidc.circleci.com/ssh-rerun": false,
        }),
        Workload::HcpTerraform => json!({
            "terraform_organization_name": "contoso", "terraform_project_name": "infra",
            "terraform_workspace_name": "prod",
            "terraform_run_phase": subject.rsplit(':').next(),
        }),
        Workload::Spacelift => {
            json!({ "spaceId": "prod-01HF", "callerType": "stack", "callerId": "infra", "scope": "write" })
        }
        Workload::Semaphore => {
            json!({ "org": "contoso", "prj": "infra", "brn": "main", "ref": "refs/heads/main" })
        }
        Workload::Jenkins => json!({ "build_number": 17 }),
        Workload::Codefresh => json!({
            "account_id": "66327682d5f6e0bfd0ef936a", "pipeline_id": "6ab48c904c7ffadba0ee23df", "scm_ref": "main",
        }),
        Workload::Forgejo | Workload::Gitea => json!({
            "repository": "contoso/infra", "repository_owner": "contoso", "ref": "refs/heads/main",
            "ref_type": "branch", "event_name": "push",
        }),
        Workload::Bitbucket => json!({ "repositoryUuid": BITBUCKET_REPOSITORY, "branchName": "main" }),
        Workload::GoogleCloud => json!({ "azp": GOOGLE_ACCOUNT }),
        Workload::Aws => json!({
            "https://sts.amazonaws.com/": { "aws_account": "123456789012", "source_region": "eu-west-1", "principal_id": AWS_PRINCIPAL },
        }),
    }
}

/// An assertion as the workload's issuer writes it.
pub(crate) fn mint(
    world: &World,
    workload: Workload,
    asked_audience: Option<&str>,
    overrides: &JobOverrides,
) -> String {
    let audience = asked_audience.or(overrides.audience.as_deref());
    let audience = audience.map_or_else(|| workload.usual_audience(), ToOwned::to_owned);
    let subject = overrides.subject.clone().unwrap_or_else(|| match workload {
        // without a claim of choice, the commit is in it
        Workload::Buildkite => {
            "organization:contoso:pipeline:infra:ref:refs/heads/main:commit:0123456789abcdef0123456789abcdef01234567:step:deploy"
                .to_owned()
        }
        other => other.subject(),
    });
    let more = more_claims(workload, &subject);
    let chosen = overrides.subject_claim.as_deref().and_then(|claim| more[claim].as_str());
    let written = Written {
        key: world.key_of_workload(workload),
        issuer: workload.issuer(),
        subject: chosen.map_or(subject, ToOwned::to_owned),
        audience: if workload == Workload::Bitbucket { json!([audience]) } else { json!(audience) },
        lifetime: workload.lifetime(),
        more,
    };
    sign(world, written, overrides)
}

/// What tells a step where it is.
fn marks(workload: Workload) -> &'static [(&'static str, &'static str)] {
    match workload {
        Workload::Buildkite => &[
            ("CI", "true"),
            ("BUILDKITE", "true"),
            ("BUILDKITE_ORGANIZATION_SLUG", "contoso"),
            ("BUILDKITE_PIPELINE_SLUG", "infra"),
            ("BUILDKITE_PIPELINE_ID", BUILDKITE_PIPELINE),
            ("BUILDKITE_BRANCH", "main"),
            ("BUILDKITE_JOB_ID", "0188c8b2-4f4e-4b0d-9f66-3f3a3a0c0009"),
        ],
        Workload::Circleci => &[
            ("CI", "true"),
            ("CIRCLECI", "true"),
            ("CIRCLE_ORGANIZATION_ID", CIRCLECI_ORGANIZATION),
            ("CIRCLE_PROJECT_ID", CIRCLECI_PROJECT),
            ("CIRCLE_BRANCH", "main"),
            ("CIRCLE_BUILD_NUM", "17"),
        ],
        Workload::HcpTerraform => &[
            ("TFC_RUN_ID", "run-0123456789abcdef"),
            ("TFC_PROJECT_NAME", "infra"),
            ("TFC_WORKSPACE_NAME", "prod"),
            ("TFC_WORKSPACE_SLUG", "contoso/prod"),
        ],
        Workload::Spacelift => {
            &[("SPACELIFT", "true"), ("SPACELIFT_STACK_ID", "infra"), ("SPACELIFT_SPACE_ID", "prod-01HF")]
        }
        Workload::Semaphore => &[
            ("CI", "true"),
            ("SEMAPHORE", "true"),
            ("SEMAPHORE_ORGANIZATION_URL", "https://contoso.semaphoreci.com"),
            ("SEMAPHORE_PROJECT_NAME", "infra"),
        ],
        Workload::Jenkins => &[
            ("JENKINS_URL", "https://jenkins.example.com/"),
            ("JOB_URL", "https://jenkins.example.com/job/infra/"),
            ("BUILD_NUMBER", "17"),
        ],
        Workload::Codefresh => &[
            ("CI", "true"),
            ("CF_BUILD_ID", "6ab48c904c7ffadba0ee23e0"),
            ("CF_PIPELINE_NAME", "infra/deploy"),
        ],
        Workload::Forgejo => &[
            ("CI", "true"),
            ("FORGEJO_ACTIONS", "true"),
            ("GITEA_ACTIONS", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_REPOSITORY", "contoso/infra"),
            ("GITHUB_RUN_ID", "42"),
            ("GITHUB_SERVER_URL", "https://forgejo.example.com"),
        ],
        Workload::Gitea => &[
            ("CI", "true"),
            ("GITEA_ACTIONS", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_REPOSITORY", "contoso/infra"),
            ("GITHUB_RUN_ID", "42"),
            ("GITHUB_SERVER_URL", "https://git.example.com/gitea"),
        ],
        Workload::Bitbucket => &[
            ("CI", "true"),
            ("BITBUCKET_BUILD_NUMBER", "17"),
            ("BITBUCKET_WORKSPACE", "contoso"),
            ("BITBUCKET_REPO_SLUG", "infra"),
        ],
        Workload::GoogleCloud => &[("K_SERVICE", "runner"), ("K_REVISION", "runner-00001")],
        Workload::Aws => &[("AWS_REGION", crate::aws::REGION), ("AWS_ACCESS_KEY_ID", crate::aws::ACCESS_KEY)],
    }
}

/// What the workload's platform sets for a step: without temp directories and command files.
pub(crate) fn environment(
    world: &World,
    workload: Workload,
    overrides: &JobOverrides,
) -> Vec<(String, String)> {
    let granted = overrides.permissions.as_deref() != Some("none");
    let token =
        |asked: Option<&str>| mint(world, workload, overrides.audience.as_deref().or(asked), overrides);
    let mut pairs: Vec<(&str, String)> =
        marks(workload).iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if granted {
        match workload {
            Workload::Buildkite => {}
            Workload::Circleci => {
                pairs.push(("CIRCLE_OIDC_TOKEN", token(None)));
                let second = JobOverrides { subject: Some(circleci_subject_2()), ..overrides.clone() };
                pairs.push(("CIRCLE_OIDC_TOKEN_V2", mint(world, workload, None, &second)));
            }
            Workload::HcpTerraform => pairs.push(("TFC_WORKLOAD_IDENTITY_TOKEN", token(None))),
            Workload::Spacelift => pairs.push(("SPACELIFT_OIDC_TOKEN", token(None))),
            Workload::Semaphore => pairs.push(("SEMAPHORE_OIDC_TOKEN", token(None))),
            // a name of the user's choice
            Workload::Jenkins => pairs.push(("DEPLOY_ID_TOKEN", token(None))),
            Workload::Codefresh => pairs.push(("ID_TOKEN", token(Some(EXCHANGE)))),
            Workload::Bitbucket => pairs.push(("BITBUCKET_STEP_OIDC_TOKEN", token(Some(EXCHANGE)))),
            Workload::Forgejo | Workload::Gitea => {
                let (host, prefix) = if workload == Workload::Forgejo {
                    ("forgejo.example.com", "")
                } else {
                    ("git.example.com", "/gitea")
                };
                let url = format!(
                    "{}{prefix}/api/actions/_apis/pipelines/workflows/42/idtoken?placeholder=true",
                    world.url_of(host)
                );
                pairs.push(("ACTIONS_ID_TOKEN_REQUEST_URL", url));
                let key = world.key_of_workload(workload);
                let token = request_token(world, key, workload.id(), overrides);
                pairs.push(("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token));
            }
            // these are asked later, by no token that could carry what the job is
            Workload::GoogleCloud => {
                world.lock().workload_job = overrides.clone();
                pairs.push(("GCE_METADATA_HOST", world.ports.http.to_string()));
            }
            Workload::Aws => {
                world.lock().workload_job = overrides.clone();
                for (name, value) in [
                    ("AWS_SECRET_ACCESS_KEY", crate::aws::secret_key(world)),
                    ("AWS_SESSION_TOKEN", crate::aws::session_token(world)),
                ] {
                    world.remember_secret(&value);
                    pairs.push((name, value));
                }
                pairs.push(("AWS_ENDPOINT_URL_STS", crate::aws::endpoint(world)));
            }
        }
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Forgejo and Gitea: `GET <request url>&audience=…`
pub(crate) fn actions(request: &Request, workload: Workload, world: &World) -> Answer {
    let refused = |status, message: &str| as_json(status, &json!({ "message": message }));
    if request.method != "GET" {
        return answer(405, "", "");
    }
    let Some(job) = job_of(world.key_of_workload(workload), workload.id(), request) else {
        return refused(401, "Unauthorized");
    };
    let audiences: Vec<&str> = request
        .query
        .iter()
        .filter(|(name, _)| name == "audience")
        .map(|(_, value)| value.as_str())
        .collect();
    let known = request.query.iter().all(|(name, _)| name == "audience" || name == "placeholder");
    if audiences.len() > 1 || !known || request.query("placeholder") != Some("true") {
        return refused(400, "The URL is not the one that the job was given.");
    }
    as_json(200, &json!({ "value": mint(world, workload, audiences.first().copied(), &job) }))
}

/// Google Cloud: `GET /computeMetadata/v1/instance/service-accounts/default/identity?audience=…&format=full`
pub(crate) fn google(request: &Request, world: &World) -> Answer {
    let text = |status: u16, body: &str| {
        with(answer(status, "text/html; charset=UTF-8", body.to_owned()), "metadata-flavor", "Google")
    };
    if request.header("metadata-flavor") != Some("Google") {
        return text(403, "Missing Metadata-Flavor:Google header.");
    }
    if request.header("x-forwarded-for").is_some() {
        return text(403, "Your client does not have permission to get this URL from this server.");
    }
    if request.method != "GET" {
        return text(405, "The request method is inappropriate for this URL.");
    }
    let account = request
        .path
        .strip_prefix("/computeMetadata/v1/instance/service-accounts/")
        .and_then(|rest| rest.strip_suffix("/identity"));
    if ![Some("default"), Some(GOOGLE_EMAIL)].contains(&account) {
        return text(404, "The requested URL was not found on this server.");
    }
    let known = ["audience", "format", "licenses"];
    let is_once = |name: &str| request.query.iter().filter(|(other, _)| other == name).count() <= 1;
    if request.query.iter().any(|(name, _)| !known.contains(&name.as_str()) || !is_once(name)) {
        return text(400, "The query is malformed.");
    }
    let Some(audience) = request.query("audience").filter(|audience| !audience.is_empty()) else {
        return text(400, "non-empty audience parameter required");
    };
    if !matches!(request.query("format"), None | Some("standard" | "full")) {
        return text(400, "The format is neither standard nor full.");
    }
    let overrides = world.lock().workload_job.clone();
    text(200, &mint(world, Workload::GoogleCloud, Some(audience), &overrides))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entra::tests::{code, post},
        hosts::tests::{but, get, object_of, read, world},
        keys::Token,
        world::{IDENTITY_OBJECT, TENANT},
    };

    const ARM: &str = "https://management.azure.com/.default";

    fn text(answer: Answer) -> (u16, String) {
        let status = answer.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(http_body_util::BodyExt::collect(answer.into_body())).unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[test]
    fn each_of_them_is_trusted() {
        let world = world(|_| ());
        for workload in Workload::ALL {
            let overrides = JobOverrides {
                subject_claim: Some("pipeline_id".to_owned()).filter(|_| workload == Workload::Buildkite),
                ..JobOverrides::default()
            };
            let jwt = mint(&world, workload, Some(&workload.audience()), &overrides);
            let asked = post(TENANT, IDENTITY, ARM, &jwt);
            if workload == Workload::Bitbucket {
                assert_eq!(code(&asked, &world), Some(700_213));
            } else {
                assert_eq!(object_of(crate::entra::token(&asked, &world)), IDENTITY_OBJECT, "{workload:?}");
            }
            let name = serde_json::to_value(workload).unwrap();
            assert_eq!(name, workload.id());
            assert_eq!(Workload::of_issuer(&workload.issuer()), Some(workload));
        }
    }

    #[test]
    fn what_is_not_trusted() {
        let world = world(|_| ());
        let none = JobOverrides::default();
        for (jwt, expected) in [
            // the commit is in the subject
            (mint(&world, Workload::Buildkite, Some(EXCHANGE), &none), 700_213),
            // the ready-made token is for the organisation
            (mint(&world, Workload::Circleci, None, &none), 700_212),
            (mint(&world, Workload::Spacelift, Some(EXCHANGE), &none), 700_212),
            (mint(&world, Workload::Codefresh, None, &none), 700_212),
            (
                mint(
                    &world,
                    Workload::Circleci,
                    Some(EXCHANGE),
                    &JobOverrides { issuer: Some("https://oidc.circleci.com".to_owned()), ..none.clone() },
                ),
                700_211,
            ),
            (
                mint(&world, Workload::Jenkins, None, &JobOverrides { tampered: true, ..none.clone() }),
                700_027,
            ),
        ] {
            assert_eq!(code(&post(TENANT, IDENTITY, ARM, &jwt), &world), Some(expected), "{jwt}");
        }
        let ready = mint(&world, Workload::Circleci, None, &none);
        assert_eq!(code(&post(TENANT, APPLICATION, ARM, &ready), &world), None);
    }

    #[test]
    fn a_token_in_the_environment_unless_it_is_not_granted() {
        let world = world(|_| ());
        for workload in Workload::ALL {
            let with = environment(&world, workload, &JobOverrides::default());
            let none = JobOverrides { permissions: Some("none".to_owned()), ..JobOverrides::default() };
            let without = environment(&world, workload, &none);
            assert_eq!(with.len() > without.len(), workload != Workload::Buildkite, "{workload:?}");
            for (name, value) in
                with.iter().filter(|(name, _)| name.contains("TOKEN") && !name.ends_with("URL"))
            {
                assert!(world.lock().secrets.iter().any(|secret| secret == value), "{name}");
            }
        }
    }

    #[test]
    fn forgejo_and_gitea_mint_for_their_own_jobs() {
        let world = world(|_| ());
        for (workload, other) in [(Workload::Forgejo, Workload::Gitea), (Workload::Gitea, Workload::Forgejo)]
        {
            let variables = environment(&world, workload, &JobOverrides::default());
            let value = |name: &str| &variables.iter().find(|(other, _)| other == name).unwrap().1;
            let bearer = format!("bearer {}", value("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
            let right =
                get(&[("placeholder", "true"), ("audience", EXCHANGE)], &[("authorization", &bearer)]);
            let (status, body) = read(actions(&right, workload, &world));
            assert_eq!(status, 200, "{body}");
            let claims = Token::parse(body["value"].as_str().unwrap()).unwrap().claims;
            assert_eq!((&claims["iss"], &claims["aud"]), (&json!(workload.issuer()), &json!(EXCHANGE)));
            assert_eq!(actions(&right, other, &world).status(), 401);
            for (asked, status) in [
                (but(&right, |request| request.headers.clear()), 401),
                (but(&right, |request| "POST".clone_into(&mut request.method)), 405),
                (but(&right, |request| drop(request.query.remove(0))), 400),
                (but(&right, |request| request.query.push(("audience".into(), "x".into()))), 400),
                (but(&right, |request| request.query.push(("api-version".into(), "2.0".into()))), 400),
            ] {
                assert_eq!(actions(&asked, workload, &world).status(), status, "{asked:?}");
            }
        }
    }

    #[test]
    fn googles_metadata_server() {
        let world = world(|_| ());
        let query = [("audience", EXCHANGE), ("format", "full")];
        let right = but(&get(&query, &[("metadata-flavor", "Google")]), |request| {
            "/computeMetadata/v1/instance/service-accounts/default/identity".clone_into(&mut request.path);
        });
        let (status, jwt) = text(google(&right, &world));
        assert_eq!(status, 200, "{jwt}");
        let claims = Token::parse(&jwt).unwrap().claims;
        assert_eq!((&claims["sub"], &claims["aud"]), (&json!(GOOGLE_ACCOUNT), &json!(EXCHANGE)));
        for (asked, status) in [
            (but(&right, |request| request.headers.clear()), 403),
            (
                but(&right, |request| {
                    drop(request.headers.insert("metadata-flavor".into(), "google".into()));
                }),
                403,
            ),
            (but(&right, |request| drop(request.headers.insert("x-forwarded-for".into(), "x".into()))), 403),
            (but(&right, |request| "POST".clone_into(&mut request.method)), 405),
            (but(&right, |request| request.path.push('/')), 404),
            (but(&right, |request| drop(request.query.remove(0))), 400),
            (but(&right, |request| request.query[0].1.clear()), 400),
            (but(&right, |request| "jwt".clone_into(&mut request.query[1].1)), 400),
            (but(&right, |request| request.query.push(("audience".into(), "x".into()))), 400),
            (but(&right, |request| request.query.push(("x".into(), "x".into()))), 400),
        ] {
            assert_eq!(google(&asked, &world).status(), status, "{asked:?}");
        }
    }
}
