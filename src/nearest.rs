//! What a job presents, against the credentials that an identity has: the one that matches, or the nearest one and the
//! part in which it differs.
//!
//! Entra compares issuer, subject and audience to the letter (Microsoft Learn "Workload identity federation
//! considerations").

use serde_json::Value;

use crate::{assertion::Claims, identifiers::Audience, subject, text};

/// A federated identity credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// Issuer.
    pub issuer: String,
    /// Subject; none where it has an expression instead.
    pub subject: Option<String>,
    /// Audiences; Entra takes one.
    pub audiences: Vec<String>,
    /// Whose it is to be, where `azfed trust --as json` says so.
    pub owner: Owner,
}

/// The identity that a credential is for, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub identity: Option<String>,
    /// Its resource group.
    pub resource_group: Option<String>,
    /// Its client id.
    pub client_id: Option<String>,
}

/// What a job presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Issuer.
    pub issuer: String,
    /// Subject.
    pub subject: String,
    /// The audience that the credential must have.
    pub audience: String,
}

impl Presented {
    /// What an assertion presents. The newer tokens of Azure DevOps have Entra's own audience, and their credentials
    /// the usual one.
    pub fn of(claims: &Claims, audience: &Audience) -> Self {
        let presented = claims.aud.first().filter(|_| !claims.sub.starts_with("/eid1/"));
        Self {
            issuer: claims.iss.clone(),
            subject: claims.sub.clone(),
            audience: presented.cloned().unwrap_or_else(|| audience.to_string()),
        }
    }
}

/// One part that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `issuer`, `subject` or `audience`.
    pub part: &'static str,
    /// What the job presents.
    pub presented: String,
    /// What the credential has.
    pub configured: String,
    /// What kind of difference it is.
    pub kind: String,
}

/// What the comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This credential matches.
    Match(String),
    /// None does; this one is nearest.
    Nearest {
        /// Its name.
        name: String,
        /// Where it differs.
        differences: Vec<Difference>,
    },
    /// There is none to compare with.
    Nothing,
}

/// Compares. Credentials with an expression are left out: only Entra can judge them.
pub fn compare(presented: &Presented, credentials: &[Credential]) -> Outcome {
    let mut nearest: Option<(usize, &Credential, Vec<Difference>)> = None;
    for credential in credentials {
        let Some(subject) = &credential.subject else { continue };
        let differences = differences(presented, credential, subject);
        if differences.is_empty() {
            return Outcome::Match(credential.name.clone());
        }
        let distance = differences.iter().map(distance).sum();
        if nearest.as_ref().is_none_or(|(least, _, _)| distance < *least) {
            nearest = Some((distance, credential, differences));
        }
    }
    nearest.map_or(Outcome::Nothing, |(_, credential, differences)| Outcome::Nearest {
        name: credential.name.clone(),
        differences,
    })
}

fn differences(presented: &Presented, credential: &Credential, subject: &str) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |part, presented: &str, configured: &str, kind: String| {
        found.push(Difference {
            part,
            presented: presented.to_owned(),
            configured: configured.to_owned(),
            kind,
        });
    };
    if presented.issuer != credential.issuer {
        let kind = issuer_kind(&presented.issuer, &credential.issuer);
        differ("issuer", &presented.issuer, &credential.issuer, kind);
    }
    if presented.subject != subject {
        differ("subject", &presented.subject, subject, subject_kind(&presented.subject, subject));
    }
    if !credential.audiences.contains(&presented.audience) {
        let configured = credential.audiences.join(", ");
        let kind = audience_kind(&presented.audience, &configured);
        differ("audience", &presented.audience, &configured, kind);
    }
    found
}

/// How far apart two texts are: the characters outside of their common beginning and end.
fn distance(difference: &Difference) -> usize {
    let (a, b) = (difference.presented.as_bytes(), difference.configured.as_bytes());
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let end = a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    1 + a.len().max(b.len()) - start - end
}

/// Differences that any of the three parts can have.
fn spelling(presented: &str, configured: &str) -> Option<String> {
    let kind = if presented.trim() == configured.trim() {
        "white space at an end"
    } else if presented.eq_ignore_ascii_case(configured) {
        "letter case"
    } else if presented.trim_end_matches('/') == configured.trim_end_matches('/') {
        "a slash at the end"
    } else if seen(presented) == seen(configured) {
        "characters that cannot be seen"
    } else {
        return None;
    };
    Some(kind.to_owned())
}

fn issuer_kind(presented: &str, configured: &str) -> String {
    const OLDER: &str = "https://vstoken.dev.azure.com/";
    const NEWER: &str = "https://login.microsoftonline.com/";
    spelling(presented, configured).unwrap_or_else(|| {
        let is = |a: &str, b: &str| presented.starts_with(a) && configured.starts_with(b);
        if is(NEWER, OLDER) {
            "the credential has Azure DevOps' older issuer, the job the newer one".to_owned()
        } else if is(OLDER, NEWER) {
            "the credential has Azure DevOps' newer issuer, the job the older one".to_owned()
        } else if is(OLDER, OLDER) {
            "another Azure DevOps organisation".to_owned()
        } else if is(NEWER, NEWER) {
            "another tenant".to_owned()
        } else {
            "another issuer".to_owned()
        }
    })
}

fn audience_kind(presented: &str, configured: &str) -> String {
    const EXCHANGE: &str = "api://AzureADTokenExchange";
    spelling(presented, configured).unwrap_or_else(|| {
        if presented.starts_with(EXCHANGE) && configured.starts_with(EXCHANGE) {
            "another cloud's audience".to_owned()
        } else {
            "another audience".to_owned()
        }
    })
}

fn subject_kind(presented: &str, configured: &str) -> String {
    spelling(presented, configured).unwrap_or_else(|| {
        let (before, after) = (presented.strip_prefix("repo:"), configured.strip_prefix("repo:"));
        if let (Some(before), Some(after)) = (before, after) {
            return github_kind(before, after);
        }
        let (before, after) = (subject::gitlab_components(presented), subject::gitlab_components(configured));
        if let (Some(before), Some(after)) = (before, after) {
            return gitlab_kind(&before, &after);
        }
        let starts = [
            "repo:",
            "project_path:",
            "project_id:",
            "sc://",
            "/eid1/",
            "system:serviceaccount:",
            "organization:",
            "space:",
            "org:",
            "org/",
            "account:",
            "arn:",
        ];
        let family = |subject: &str| starts.iter().position(|start| subject.starts_with(start));
        match (family(presented), family(configured)) {
            (Some(3), Some(4)) | (Some(4), Some(3)) => "the subjects of Azure DevOps' two issuers".to_owned(),
            (Some(a), Some(b)) if a == b => first_segment(presented, configured),
            _ => "another kind of subject".to_owned(),
        }
    })
}

fn github_kind(presented: &str, configured: &str) -> String {
    let split = |subject: &str| {
        let (repository, context) = subject.split_once(':').unwrap_or((subject, ""));
        (repository.to_owned(), context.to_owned())
    };
    let ((repository, context), (other_repository, other_context)) = (split(presented), split(configured));
    let names = |repository: &str| {
        let parts = repository.split('/').map(|part| part.split_once('@').map_or(part, |(name, _)| name));
        parts.collect::<Vec<_>>().join("/")
    };
    if repository != other_repository && context == other_context {
        return match (repository.contains('@'), other_repository.contains('@')) {
            (true, false) if names(&repository) == names(&other_repository) => {
                "the job's subject is immutable (with ids), the credential's is classic".to_owned()
            }
            (false, true) if names(&repository) == names(&other_repository) => {
                "the job's subject is classic, the credential's is immutable (with ids)".to_owned()
            }
            _ if names(&repository).eq_ignore_ascii_case(&names(&other_repository))
                && repository.contains('@') == other_repository.contains('@') =>
            {
                if names(&repository) == names(&other_repository) {
                    "other ids: a repository or owner of the same name".to_owned()
                } else {
                    "letter case of the repository".to_owned()
                }
            }
            _ => "another repository".to_owned(),
        };
    }
    let kind = |context: &str| {
        let known = ["environment:", "ref:refs/heads/", "ref:refs/tags/", "pull_request", "pull-request"];
        known.iter().position(|start| context.starts_with(start))
    };
    let what = ["an environment", "a branch", "a tag", "a pull request", "`pull-request`"];
    let contexts = match (kind(&context), kind(&other_context)) {
        (Some(3), Some(4)) => "`pull-request` in the credential, where it must be `pull_request`".to_owned(),
        (Some(a), Some(b)) if a != b => {
            format!("the job runs for {}, the credential is for {}", what[a], what[b])
        }
        (Some(0), Some(0)) => "another environment".to_owned(),
        (Some(1), Some(1)) => "another branch".to_owned(),
        (Some(2), Some(2)) => "another tag".to_owned(),
        _ => "another context".to_owned(),
    };
    if repository == other_repository { contexts } else { format!("another repository; {contexts}") }
}

/// The components that differ, where both have the same; else that the project's setting is another.
fn gitlab_kind(presented: &[(&str, &str)], configured: &[(&str, &str)]) -> String {
    let names =
        |components: &[(&str, &str)]| components.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let (mine, other) = (names(presented), names(configured));
    if mine != other {
        return format!("the job's subject has the components {mine}; the credential's has {other}");
    }
    let differs = presented.iter().zip(configured).filter(|(one, other)| one.1 != other.1);
    let kinds: Vec<&str> = differs
        .map(|((name, _), _)| match *name {
            "project_path" | "project_id" => "another project",
            "ref_type" => "a branch and a tag",
            "ref" => "another branch or tag",
            "ref_protected" => "a protected and an unprotected branch or tag",
            "environment_protected" => "a protected and an unprotected environment",
            "deployment_tier" => "another deployment tier",
            _ => "another environment",
        })
        .collect();
    kinds.join("; ")
}

/// The name before the first segment that differs, in subjects of `name:value` pairs.
fn first_segment(presented: &str, configured: &str) -> String {
    let is_of = |starts: &[&str]| starts.iter().any(|start| presented.starts_with(start));
    let separator = if is_of(&["sc://", "/eid1/", "org/"]) { '/' } else { ':' };
    let mut last = "";
    for (one, other) in presented.split(separator).zip(configured.split(separator)) {
        if one != other {
            break;
        }
        last = one;
    }
    match last {
        "serviceaccount" => "another namespace".to_owned(),
        _ if is_of(&["system:serviceaccount:"]) => "another service account".to_owned(),
        _ if is_of(&["arn:"]) => "another principal".to_owned(),
        "run_phase" => "plan and apply, which need a credential each".to_owned(),
        "commit" => {
            "another commit, which is never the same again: log in with `--subject-claim pipeline_id`"
                .to_owned()
        }
        "user" | "initiator" | "scm_user_name" => "another user, who needs a credential too".to_owned(),
        "organization" | "org" => "another organisation".to_owned(),
        "scm_ref" | "vcs-ref" => "another branch or tag".to_owned(),
        "project" | "workspace" | "space" | "stack" | "module" | "pipeline" | "account" | "repo" => {
            format!("another {last}")
        }
        "run_type" => "another type of run".to_owned(),
        "scope" => "read and write, which need a credential each".to_owned(),
        _ if is_of(&["sc://", "/eid1/"]) => "another organisation, project or service connection".to_owned(),
        _ => "another subject".to_owned(),
    }
}

impl Outcome {
    /// For people. No line starts with foreign text.
    pub fn render(&self) -> Vec<String> {
        match self {
            Self::Match(name) => vec![format!("the credential `{}` matches", text::one_line(name))],
            Self::Nothing => vec!["there is no credential with a subject to compare with".to_owned()],
            Self::Nearest { name, differences } => {
                let mut lines = vec![format!("no credential matches; nearest is `{}`", text::one_line(name))];
                for difference in differences {
                    let presented = visible(&difference.presented);
                    let configured = visible(&difference.configured);
                    let column =
                        presented.chars().zip(configured.chars()).take_while(|(a, b)| a == b).count();
                    lines.push(format!("  {} differs: {}", difference.part, difference.kind));
                    lines.push(format!("    presented   {presented}"));
                    lines.push(format!("    configured  {configured}"));
                    lines.push(format!("                {}^", " ".repeat(column)));
                }
                lines
            }
        }
    }
}

/// The characters that can be seen.
fn seen(value: &str) -> String {
    value.chars().filter(|&character| !text::is_no_text(character)).collect()
}

/// One harmless line, with spaces at its ends made visible.
fn visible(value: &str) -> String {
    let line = text::one_line(value);
    if line.trim() == value {
        line
    } else {
        format!("`{}`", text::one_line(&value.replace(['\n', '\r', '\t'], " ")))
    }
}

/// Reads credentials as az and ARM print them: a list, a list below `value`, or one; their fields plain or below
/// `properties`.
pub fn read(json: &str) -> Result<Vec<Credential>, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| format!("it is not JSON: {error}"))?;
    let list = match &value {
        Value::Array(list) => list.clone(),
        Value::Object(object) => match object.get("value") {
            Some(Value::Array(list)) => list.clone(),
            _ => vec![value.clone()],
        },
        _ => return Err("it is neither a list of credentials nor one".to_owned()),
    };
    list.iter().enumerate().map(|(number, one)| credential(number, one)).collect()
}

fn credential(number: usize, value: &Value) -> Result<Credential, String> {
    let properties = value.get("properties").unwrap_or(value);
    let text = |name: &str| properties.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let wrong = |what: &str| format!("credential {} has no {what}", number + 1);
    let subject = text("subject");
    let has_expression =
        properties.get("claimsMatchingExpression").is_some_and(|expression| !expression.is_null());
    if subject.is_none() && !has_expression {
        return Err(wrong("subject"));
    }
    // az writes a resource group too, and ARM an id: of where the credential is, and not of where it is to be
    let own = |name: &str| value.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let owner = Owner { identity: own("identity"), resource_group: None, client_id: own("clientId") };
    let is_owned = owner.identity.is_some() || owner.client_id.is_some();
    let owner = Owner { resource_group: own("resourceGroup").filter(|_| is_owned), ..owner };
    let audiences =
        properties.get("audiences").and_then(Value::as_array).ok_or_else(|| wrong("audiences"))?;
    Ok(Credential {
        name: value
            .get("name")
            .and_then(Value::as_str)
            .map_or_else(|| format!("credential {}", number + 1), ToOwned::to_owned),
        issuer: text("issuer").ok_or_else(|| wrong("issuer"))?,
        owner,
        subject,
        audiences: audiences.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITHUB: &str = "https://token.actions.githubusercontent.com";
    const EXCHANGE: &str = "api://AzureADTokenExchange";

    fn presented(issuer: &str, subject: &str) -> Presented {
        Presented { issuer: issuer.to_owned(), subject: subject.to_owned(), audience: EXCHANGE.to_owned() }
    }

    fn configured(issuer: &str, subject: &str, audience: &str) -> Credential {
        Credential {
            name: "one".to_owned(),
            issuer: issuer.to_owned(),
            subject: Some(subject.to_owned()),
            audiences: vec![audience.to_owned()],
            owner: Owner::default(),
        }
    }

    fn only(presented: &Presented, configured: Credential) -> (&'static str, String) {
        let Outcome::Nearest { mut differences, .. } = compare(presented, &[configured]) else {
            panic!("no difference")
        };
        assert_eq!(differences.len(), 1, "{differences:?}");
        let difference = differences.remove(0);
        (difference.part, difference.kind)
    }

    #[test]
    fn each_near_miss_is_named() {
        let classic = "repo:contoso/infra:environment:prod";
        let immutable = "repo:contoso@100/infra@200:environment:prod";
        for (job, credential, kind) in [
            (classic, "repo:contoso/infra:environment:Prod", "letter case"),
            (classic, "repo:contoso/infra:environment:prod ", "white space at an end"),
            (classic, "repo:contoso/infra:environment:staging", "another environment"),
            (
                classic,
                "repo:contoso/infra:ref:refs/heads/main",
                "the job runs for an environment, the credential is for a branch",
            ),
            (classic, "repo:contoso/other:environment:prod", "another repository"),
            (
                classic,
                "repo:contoso/other:pull_request",
                "another repository; the job runs for an environment, the credential is for a pull request",
            ),
            (classic, immutable, "the job's subject is classic, the credential's is immutable (with ids)"),
            (immutable, classic, "the job's subject is immutable (with ids), the credential's is classic"),
            (
                immutable,
                "repo:contoso@100/infra@201:environment:prod",
                "other ids: a repository or owner of the same name",
            ),
            (
                "repo:contoso/infra:pull_request",
                "repo:contoso/infra:pull-request",
                "`pull-request` in the credential, where it must be `pull_request`",
            ),
            ("repo:c/i:ref:refs/heads/main", "repo:c/i:ref:refs/heads/master", "another branch"),
            (
                "repo:c/i:ref:refs/heads/v1",
                "repo:c/i:ref:refs/tags/v1",
                "the job runs for a branch, the credential is for a tag",
            ),
            (
                "project_path:g/p:ref_type:branch:ref:main",
                "project_path:g/q:ref_type:branch:ref:main",
                "another project",
            ),
            (
                "project_path:g/p:ref_type:branch:ref:main",
                "project_path:g/p:ref_type:tag:ref:main",
                "a branch and a tag",
            ),
            (
                "project_path:g/p:ref_type:branch:ref:main",
                "project_path:g/p:ref_type:branch:ref:x",
                "another branch or tag",
            ),
            ("sc://o/p/c", "sc://o/p/d", "another organisation, project or service connection"),
            ("/eid1/c/pub/t/a/a/b/sc/o/c", "sc://o/p/d", "the subjects of Azure DevOps' two issuers"),
            ("system:serviceaccount:a:b", "system:serviceaccount:c:b", "another namespace"),
            ("system:serviceaccount:a:b", "system:serviceaccount:a:c", "another service account"),
            ("system:serviceaccount:a:b", classic, "another kind of subject"),
        ] {
            let found = only(&presented(GITHUB, job), configured(GITHUB, credential, EXCHANGE));
            assert_eq!(found, ("subject", kind.to_owned()), "{job} {credential}");
        }
        let older = "https://vstoken.dev.azure.com/aaaa";
        let newer = "https://login.microsoftonline.com/bbbb/v2.0";
        for (job, credential, kind) in [
            (GITHUB, "https://token.actions.githubusercontent.com/", "a slash at the end"),
            (GITHUB, "https://Token.actions.githubusercontent.com", "letter case"),
            (GITHUB, "https://gitlab.com", "another issuer"),
            (newer, older, "the credential has Azure DevOps' older issuer, the job the newer one"),
            (older, newer, "the credential has Azure DevOps' newer issuer, the job the older one"),
            (older, "https://vstoken.dev.azure.com/cccc", "another Azure DevOps organisation"),
            (newer, "https://login.microsoftonline.com/cccc/v2.0", "another tenant"),
        ] {
            let found = only(&presented(job, classic), configured(credential, classic, EXCHANGE));
            assert_eq!(found, ("issuer", kind.to_owned()), "{job} {credential}");
        }
        for (audience, kind) in [
            ("api://AzureADTokenExchangeUSGov", "another cloud's audience"),
            ("api://azureadtokenexchange", "letter case"),
            ("https://github.com/contoso", "another audience"),
        ] {
            let found = only(&presented(GITHUB, classic), configured(GITHUB, classic, audience));
            assert_eq!(found, ("audience", kind.to_owned()));
        }
    }

    #[test]
    fn each_of_gitlabs_components_is_named() {
        for (job, credential, kind) in [
            (
                "project_path:g/p:ref_type:branch:ref:main:deployment_tier:production",
                "project_path:g/p:ref_type:branch:ref:main:deployment_tier:staging",
                "another deployment tier",
            ),
            (
                "project_path:g/p:environment_protected:true:deployment_tier:production",
                "project_path:g/p:environment_protected:false:deployment_tier:staging",
                "a protected and an unprotected environment; another deployment tier",
            ),
            (
                "project_id:1:ref:main:ref_protected:true",
                "project_id:1:ref:main:ref_protected:false",
                "a protected and an unprotected branch or tag",
            ),
            ("project_path:g/p:environment:a", "project_path:g/p:environment:b", "another environment"),
            (
                "project_path:g/p:ref_type:branch:ref:main:ref_protected:true",
                "project_path:g/p:ref_type:branch:ref:main",
                "the job's subject has the components project_path, ref_type, ref, ref_protected; the credential's has \
                 project_path, ref_type, ref",
            ),
            (
                "project_path:g/p:ref_type:branch:ref:main",
                "project_id:1:ref_type:branch:ref:main",
                "the job's subject has the components project_path, ref_type, ref; the credential's has project_id, ref_type, \
                 ref",
            ),
        ] {
            let found = only(&presented(GITHUB, job), configured(GITHUB, credential, EXCHANGE));
            assert_eq!(found, ("subject", kind.to_owned()), "{job} {credential}");
        }
        let word = || std::iter::repeat_with(fastrand::lowercase).take(8).collect::<String>();
        for _ in 0..500 {
            let (project, branch, tag) = (format!("{}/{}", word(), word()), word(), word());
            let right = [
                ("ref_type", "branch"),
                ("ref", &branch),
                ("ref_protected", "true"),
                ("environment_protected", "true"),
                ("deployment_tier", "production"),
            ];
            let subject = |pairs: &[(&str, &str)]| {
                let parts = pairs.iter().map(|(name, value)| format!(":{name}:{value}"));
                format!("project_path:{project}{}", parts.collect::<String>())
            };
            let at = fastrand::usize(..right.len());
            let (value, kind) = [
                ("tag", "a branch and a tag"),
                (tag.as_str(), "another branch or tag"),
                ("false", "a protected and an unprotected branch or tag"),
                ("false", "a protected and an unprotected environment"),
                ("staging", "another deployment tier"),
            ][at];
            let mut wrong = right;
            wrong[at].1 = value;
            let found =
                only(&presented(GITHUB, &subject(&right)), configured(GITHUB, &subject(&wrong), EXCHANGE));
            assert_eq!(found, ("subject", kind.to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn a_character_anywhere_is_found_and_named() {
        let job = presented(GITHUB, "repo:contoso/infra:environment:prod");
        let right = configured(GITHUB, &job.subject, EXCHANGE);
        assert_eq!(compare(&job, std::slice::from_ref(&right)), Outcome::Match("one".to_owned()));
        for _ in 0..2000 {
            let mut wrong = right.clone();
            let part = ["issuer", "subject", "audience"][fastrand::usize(..3)];
            let text = match part {
                "issuer" => &mut wrong.issuer,
                "subject" => wrong.subject.as_mut().unwrap(),
                _ => &mut wrong.audiences[0],
            };
            let before = text.clone();
            let at = fastrand::usize(..=text.len());
            match fastrand::u8(..3) {
                0 => text.insert(at, fastrand::alphanumeric()),
                1 if at < text.len() => drop(text.remove(at)),
                _ if at < text.len() => text.replace_range(at..=at, "~"),
                _ => continue,
            }
            assert_ne!(before, *text);
            // a stranger beside it is further away
            let stranger =
                configured("https://gitlab.example", "project_path:a/b:ref_type:branch:ref:c", "x");
            let Outcome::Nearest { name, differences } =
                compare(&job, &[Credential { name: "far".to_owned(), ..stranger }, wrong.clone()])
            else {
                panic!("{wrong:?} matches")
            };
            assert_eq!(
                (name.as_str(), differences.len(), differences[0].part),
                ("one", 1, part),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_miss_of_any_kind_is_named_as_that_kind() {
        let word = || {
            let letters = std::iter::repeat_with(fastrand::lowercase);
            letters.take(fastrand::usize(2..12)).collect::<String>()
        };
        for _ in 0..2000 {
            let (owner, repository, name) = (word(), word(), word());
            let (issuer, audience) = (format!("https://{}.example", word()), EXCHANGE);
            let of = |context: &str| format!("repo:{owner}/{repository}:{context}");
            let environment = of(&format!("environment:{name}"));
            let job = presented(&issuer, &environment);
            let right = configured(&issuer, &environment, audience);
            let subject = |subject: String| Credential { subject: Some(subject), ..right.clone() };
            let older = "https://vstoken.dev.azure.com/1".to_owned();
            let newer = "https://login.microsoftonline.com/2/v2.0".to_owned();
            let (job, wrong, part, kind) = match fastrand::u8(..12) {
                0 => (
                    job,
                    subject(environment.to_uppercase().replace("REPO:", "repo:")),
                    "subject",
                    "letter case",
                ),
                1 => (job, subject(format!(" {environment}")), "subject", "white space at an end"),
                2 => {
                    let ids =
                        format!("repo:{owner}@{}/{repository}@{}:environment:{name}", 1, fastrand::u32(..));
                    (
                        job,
                        subject(ids),
                        "subject",
                        "the job's subject is classic, the credential's is immutable (with ids)",
                    )
                }
                3 => {
                    let ids = format!("repo:{owner}@1/{repository}@{}:environment:{name}", fastrand::u32(..));
                    let job = presented(&issuer, &ids);
                    (
                        job,
                        right,
                        "subject",
                        "the job's subject is immutable (with ids), the credential's is classic",
                    )
                }
                4 => (
                    presented(&issuer, &of("pull_request")),
                    subject(of("pull-request")),
                    "subject",
                    "`pull-request` in the credential, where it must be `pull_request`",
                ),
                5 => (
                    presented(&issuer, &of(&format!("ref:refs/heads/{name}"))),
                    right,
                    "subject",
                    "the job runs for a branch, the credential is for an environment",
                ),
                6 => (
                    job,
                    subject(of(&format!("environment:{name}{}", word()))),
                    "subject",
                    "another environment",
                ),
                7 => {
                    let other = format!("repo:{owner}/{repository}{}:environment:{name}", word());
                    (job, subject(other), "subject", "another repository")
                }
                8 => {
                    let slash = Credential { issuer: format!("{issuer}/"), ..right };
                    (job, slash, "issuer", "a slash at the end")
                }
                9 => {
                    let issuer = issuer.to_uppercase();
                    (job, Credential { issuer, ..right }, "issuer", "letter case")
                }
                10 => (
                    Presented { issuer: newer, ..job },
                    Credential { issuer: older, ..right },
                    "issuer",
                    "the credential has Azure DevOps' older issuer, the job the newer one",
                ),
                _ => {
                    let audiences = vec![format!("{EXCHANGE}USGov")];
                    (job, Credential { audiences, ..right }, "audience", "another cloud's audience")
                }
            };
            assert_eq!(only(&job, wrong.clone()), (part, kind.to_owned()), "{job:?} {wrong:?}");
        }
    }

    #[test]
    fn az_and_arm_are_read() {
        let az = r#"[{"name":"one","issuer":"i","subject":"s","audiences":["a"],"resourceGroup":"g"}]"#;
        let arm = r#"{"value":[{"name":"one","properties":{"issuer":"i","subject":"s","audiences":["a"]}}]}"#;
        let expected = vec![configured("i", "s", "a")];
        assert_eq!(read(az).unwrap(), expected);
        let ours = r#"[{"name":"one","issuer":"i","subject":"s","audiences":["a"],"identity":"d","resourceGroup":"g","clientId":"c"}]"#;
        let some = |text: &str| Some(text.to_owned());
        let owner = Owner { identity: some("d"), resource_group: some("g"), client_id: some("c") };
        assert_eq!(read(ours).unwrap(), [Credential { owner, ..configured("i", "s", "a") }]);
        assert_eq!(read(arm).unwrap(), expected);
        assert_eq!(read(r#"{"name":"one","issuer":"i","subject":"s","audiences":["a"]}"#).unwrap(), expected);
        let flexible = r#"[{"name":"f","issuer":"i","subject":null,"audiences":["a"],"claimsMatchingExpression":{"value":"x"}}]"#;
        assert_eq!(compare(&presented("i", "s"), &read(flexible).unwrap()), Outcome::Nothing);
        assert_eq!(read("[{}]").unwrap_err(), "credential 1 has no subject");
        assert!(read("nonsense").is_err() && read("3").is_err());
    }

    #[test]
    fn the_first_difference_is_marked() {
        let job = presented(GITHUB, "repo:contoso/infra:environment:prod");
        let outcome = compare(&job, &[configured(GITHUB, "repo:contoso/infra:environment:Prod", EXCHANGE)]);
        assert_eq!(
            outcome.render(),
            [
                "no credential matches; nearest is `one`",
                "  subject differs: letter case",
                "    presented   repo:contoso/infra:environment:prod",
                "    configured  repo:contoso/infra:environment:Prod",
                "                                               ^",
            ]
        );
    }
}
