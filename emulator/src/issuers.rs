//! The CI platforms' OIDC issuers, and the environment that they give a step.
//!
//! Sources: github/docs `content/actions/reference/security/oidc.md`; docs.gitlab.com
//! `ci/secrets/id_token_authentication`; learn.microsoft.com REST "Oidctoken - Create"; azure-workload-identity
//! `pkg/webhook`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    entra,
    keys::{Key, Token},
    message::{Answer, Request, answer, json, with},
    workloads::Workload,
    world::{
        AZURE_DEVOPS_SUBJECT, CONNECTION, GITHUB_ISSUER, GITHUB_SUBJECT, GITLAB_ISSUER, GITLAB_SUBJECT,
        KUBERNETES_ISSUER, KUBERNETES_SUBJECT, World, azure_devops_entra_subject, entra_issuer, now,
        vstoken_issuer,
    },
};

/// A CI platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// GitHub Actions
    Github,
    /// GitLab CI
    Gitlab,
    /// Azure DevOps
    AzureDevops,
    /// A pod with a projected service account token
    Kubernetes,
}

/// What is different about a job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobOverrides {
    /// Another subject.
    pub subject: Option<String>,
    /// Another audience, where the platform fixes it in advance.
    pub audience: Option<String>,
    /// Another issuer, with the same key.
    pub issuer: Option<String>,
    /// Another lifetime in seconds; 0 is expired already.
    pub lifetime: Option<u64>,
    /// Seconds until the token becomes valid.
    pub not_before: Option<u64>,
    /// A signature that is not the issuer's.
    pub tampered: bool,
    /// `none`: the job may not ask for an OIDC token.
    pub permissions: Option<String>,
    /// The job's deployment environment, where the subject does not say.
    pub environment: Option<String>,
    /// The claim that is the subject: `--subject-claim` of Buildkite's agent.
    pub subject_claim: Option<String>,
}

const GITHUB_PATH: &str = "/42//idtoken/job";
const GITHUB_HOST: &str = "run-actions-1-azure-eastus.actions.githubusercontent.com";
const AZURE_DEVOPS_PATH: &str = "/contoso/bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb/_apis/distributedtask/hubs/build/plans/\
                                 cccccccc-cccc-4ccc-8ccc-cccccccccccc/jobs/dddddddd-dddd-4ddd-8ddd-dddddddddddd/oidctoken";

/// A request token, which carries what the job is: so that one emulator serves several kinds of job.
pub(crate) fn request_token(world: &World, key: &Key, kind: &str, overrides: &JobOverrides) -> String {
    let token = key.sign(&json!({ "kind": kind, "job": overrides, "jti": Uuid::new_v4().to_string() }));
    world.remember_secret(&token);
    token
}

pub(crate) fn job_of(key: &Key, kind: &str, request: &Request) -> Option<JobOverrides> {
    let token = Token::parse(request.bearer()?)?;
    (key.verifies(&token) && token.claims["kind"] == kind)
        .then(|| serde_json::from_value(token.claims["job"].clone()).ok())
        .flatten()
}

/// What the platform sets for a step: without temp directories and command files.
pub(crate) fn environment(
    world: &World,
    platform: Platform,
    overrides: &JobOverrides,
) -> Vec<(String, String)> {
    let granted = overrides.permissions.as_deref() != Some("none");
    let mut pairs: Vec<(&str, String)> = vec![("CI", "true".to_owned())];
    match platform {
        Platform::Github => {
            pairs.extend([
                ("GITHUB_ACTIONS", "true".to_owned()),
                ("GITHUB_EVENT_NAME", "push".to_owned()),
                ("GITHUB_JOB", "deploy".to_owned()),
                ("GITHUB_REF", "refs/heads/main".to_owned()),
                ("GITHUB_REPOSITORY", "contoso/infra".to_owned()),
                ("GITHUB_RUN_ATTEMPT", "1".to_owned()),
                ("GITHUB_RUN_ID", "1658821493".to_owned()),
                ("GITHUB_SERVER_URL", "https://github.com".to_owned()),
            ]);
            if granted {
                let url = format!("{}{GITHUB_PATH}?api-version=2.0", world.url_of(GITHUB_HOST));
                pairs.push(("ACTIONS_ID_TOKEN_REQUEST_URL", url));
                pairs.push((
                    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
                    request_token(world, &world.github, "github", overrides),
                ));
            }
        }
        Platform::Gitlab => {
            pairs.extend([
                ("GITLAB_CI", "true".to_owned()),
                ("CI_JOB_ID", "4711".to_owned()),
                ("CI_PROJECT_PATH", "contoso/infra".to_owned()),
                ("CI_SERVER_URL", GITLAB_ISSUER.to_owned()),
                ("CI_SERVER_HOST", "gitlab.example.com".to_owned()),
            ]);
            if granted {
                pairs.push(("AZURE_ID_TOKEN", mint(world, platform, None, overrides)));
            }
        }
        Platform::AzureDevops => {
            pairs.extend([
                ("TF_BUILD", "True".to_owned()),
                ("BUILD_BUILDID", "17".to_owned()),
                ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/contoso/".to_owned()),
                ("SYSTEM_JOBID", "dddddddd-dddd-4ddd-8ddd-dddddddddddd".to_owned()),
                ("SYSTEM_TEAMPROJECT", "infra".to_owned()),
                ("SYSTEM_OIDCREQUESTURI", format!("{}{AZURE_DEVOPS_PATH}", world.url_of("dev.azure.com"))),
            ]);
            if granted {
                pairs.push((
                    "SYSTEM_ACCESSTOKEN",
                    request_token(world, &world.azure_devops, "azure-devops", overrides),
                ));
            }
        }
        Platform::Kubernetes => pairs.clear(),
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The claims beside the subject, which say the same as it does. GitLab's subject does not have the environment.
fn more_claims(platform: Platform, subject: &str, environment: Option<&str>) -> Value {
    let after = |name: &str| subject.split_once(name).map(|(_, value)| value);
    match platform {
        Platform::Github => {
            let environment = environment.map(ToOwned::to_owned);
            let environment = environment.or_else(|| Some(after(":environment:")?.replace("%3A", ":")));
            let is_pull_request = subject.ends_with(":pull_request");
            let git_ref = if is_pull_request {
                "refs/pull/7/merge"
            } else {
                after(":ref:").unwrap_or("refs/heads/main")
            };
            json!({
                "repository": "contoso/infra", "repository_owner": "contoso", "repository_owner_id": "100",
                "repository_id": "200", "environment": environment, "ref": git_ref,
                "ref_type": if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" },
                "event_name": if is_pull_request { "pull_request" } else { "push" },
                "job_workflow_ref": "contoso/infra/.github/workflows/deploy.yml@refs/heads/main",
            })
        }
        Platform::Gitlab => json!({
            "project_path": "contoso/infra", "project_id": "42", "environment": environment,
            "ref_type": after(":ref_type:").and_then(|rest| rest.split(':').next()), "ref": after(":ref:"),
        }),
        Platform::AzureDevops | Platform::Kubernetes => json!({}),
    }
}

/// An assertion as the platform's issuer writes it.
pub(crate) fn mint(
    world: &World,
    platform: Platform,
    asked_audience: Option<&str>,
    overrides: &JobOverrides,
) -> String {
    let settings = world.lock().settings.clone();
    let by_entra = settings.azure_devops_issuer == "entra";
    let exchange = "api://AzureADTokenExchange";
    let (issuer, subject, key, lifetime, audience) = match platform {
        Platform::Github => {
            (GITHUB_ISSUER.to_owned(), GITHUB_SUBJECT.to_owned(), &world.github, 300, exchange)
        }
        Platform::Gitlab => {
            (GITLAB_ISSUER.to_owned(), GITLAB_SUBJECT.to_owned(), &world.gitlab, 3600, exchange)
        }
        Platform::Kubernetes => {
            (KUBERNETES_ISSUER.to_owned(), KUBERNETES_SUBJECT.to_owned(), &world.kubernetes, 3600, exchange)
        }
        Platform::AzureDevops if by_entra => {
            (entra_issuer(), azure_devops_entra_subject(), &world.entra, 86_700, entra::EXCHANGE_AUDIENCE)
        }
        Platform::AzureDevops => {
            (vstoken_issuer(), AZURE_DEVOPS_SUBJECT.to_owned(), &world.azure_devops, 300, exchange)
        }
    };
    let audience = asked_audience.or(overrides.audience.as_deref()).unwrap_or(audience);
    let subject = overrides.subject.clone().unwrap_or(subject);
    let more = more_claims(platform, &subject, overrides.environment.as_deref());
    let audience = if platform == Platform::Kubernetes { json!([audience]) } else { json!(audience) };
    sign(world, Written { key, issuer, subject, audience, lifetime, more }, overrides)
}

/// What an issuer writes.
pub(crate) struct Written<'a> {
    pub key: &'a Key,
    pub issuer: String,
    pub subject: String,
    pub audience: Value,
    pub lifetime: u64,
    /// Further claims.
    pub more: Value,
}

/// The token, changed where the job is different.
pub(crate) fn sign(world: &World, written: Written<'_>, overrides: &JobOverrides) -> String {
    let Written { key, issuer, subject, audience, lifetime, more } = written;
    let usual = world.lock().settings.assertion_lifetime_s.unwrap_or(lifetime);
    let lifetime = overrides.lifetime.unwrap_or(usual);
    let at = now();
    let mut claims = json!({
        "iss": overrides.issuer.clone().unwrap_or(issuer),
        "sub": subject,
        "aud": audience,
        "iat": at,
        "nbf": overrides.not_before.map_or(at.saturating_sub(600), |seconds| at + seconds),
        "exp": at + lifetime,
        "jti": Uuid::new_v4().to_string(),
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut jwt = key.sign(&claims);
    if overrides.tampered {
        let (head, _) = jwt.rsplit_once('.').unwrap();
        let other = world.gitlab.sign(&json!({}));
        let (_, signature) = other.rsplit_once('.').unwrap();
        jwt = format!("{head}.{signature}");
    }
    world.remember_secret(&jwt);
    jwt
}

/// GitHub: `GET <request url>&audience=…`
pub(crate) fn github(request: &Request, world: &World) -> Answer {
    if request.method != "GET" {
        return answer(405, "", "");
    }
    let Some(job) = job_of(&world.github, "github", request) else {
        return json(401, &json!({ "$id": "1", "message": "The request token is not valid for this job." }));
    };
    let audiences: Vec<&str> = request
        .query
        .iter()
        .filter(|(name, _)| name == "audience")
        .map(|(_, value)| value.as_str())
        .collect();
    if audiences.len() > 1 || request.query("api-version").is_none() {
        return json(400, &json!({ "message": "One audience and an api-version are expected." }));
    }
    let audience = audiences.first().copied().unwrap_or("https://github.com/contoso");
    json(200, &json!({ "count": 1, "value": mint(world, Platform::Github, Some(audience), &job) }))
}

/// Azure DevOps: `POST …/oidctoken?api-version=7.1&serviceConnectionId=…`
pub(crate) fn azure_devops(request: &Request, world: &World) -> Answer {
    if request.method != "POST" {
        return json(
            405,
            &json!({ "message": "The requested resource does not support http method 'GET'." }),
        );
    }
    let Some(job) = job_of(&world.azure_devops, "azure-devops", request) else {
        if request.header("x-tfs-fedauthredirect") == Some("Suppress") {
            return json(401, &json!({ "message": "The access token is not valid." }));
        }
        let page = answer(302, "text/html", "<html><body>Sign in</body></html>");
        return with(page, "location", "https://spsprodeus1.vssps.visualstudio.com/_signin");
    };
    if request.query("api-version").is_none() {
        return json(400, &json!({ "message": "No api-version was supplied for the \"POST\" request." }));
    }
    match request.query("serviceConnectionId") {
        Some(CONNECTION) => {
            json(200, &json!({ "oidcToken": mint(world, Platform::AzureDevops, None, &job) }))
        }
        other => json(
            404,
            &json!({
                "$id": "1",
                "message": format!("No service connection found with identifier {}.", other.unwrap_or_default()),
                "typeKey": "ServiceEndpointNotFoundException",
            }),
        ),
    }
}

/// Discovery documents and key sets of the issuers.
pub(crate) fn discovery(request: &Request, world: &World) -> Answer {
    let key = match request.host.as_str() {
        "token.actions.githubusercontent.com" => &world.github,
        "gitlab.example.com" => &world.gitlab,
        "oidc.prod-aks.azure.com" => &world.kubernetes,
        "vstoken.dev.azure.com" => &world.azure_devops,
        host => Workload::of_host(host).map_or(&world.entra, |workload| world.key_of_workload(workload)),
    };
    if request.path.ends_with("openid-configuration") {
        let base = &request.base;
        let prefix = request.path.trim_end_matches("/.well-known/openid-configuration");
        return json(
            200,
            &json!({
                "issuer": format!("{base}{prefix}"),
                "jwks_uri": format!("{base}{prefix}/.well-known/jwks"),
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
            }),
        );
    }
    json(200, &key.jwks())
}
