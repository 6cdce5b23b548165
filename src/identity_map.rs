//! One committed file that says which identity a job is, by its environment, branch or tag. It holds ids, no secrets.
//!
//! JSON, as everything that azfed reads is: a second format would bring a parser into the binary.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::{
    assertion::Claims,
    error::Hints,
    identifiers::{ClientId, SubscriptionId, TenantId, is_name},
    text,
};

/// Longest file that is read.
const LONGEST: u64 = 1 << 20;

/// Why a file chooses no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, or says nothing.
    #[error("the identity map {file}: {}", text::one_line(reason))]
    File {
        /// Its path.
        file: String,
        /// Why not.
        reason: String,
    },
    /// No entry is for this job.
    #[error("no entry of the identity map is for this job ({job})")]
    Nothing {
        /// What the job is.
        job: String,
    },
    /// More than one entry is for this job.
    #[error("entries {entries} of the identity map are all for this job ({job})")]
    Several {
        /// Their numbers, from 1.
        entries: String,
        /// What the job is.
        job: String,
    },
}

impl Error {
    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::File { .. } => Hints::with_lines(
                "it is one JSON object:",
                &[
                    r#"{ "tenant_id": "<guid>", "identities": ["#,
                    r#"  { "environment": "prod", "client_id": "<guid>", "subscription_id": "<guid>" },"#,
                    r#"  { "branch": "main", "client_id": "<guid>" } ] }"#,
                ],
            ),
            Self::Nothing { .. } => Hints::one(
                "add an entry whose `environment`, `branch`, `tag` and `pull_request` are this job's, or run the job for one \
                 that has an entry",
            ),
            Self::Several { .. } => Hints::one(
                "an entry is for every job that has what it names: name more in one of them, or take one away",
            ),
        }
    }
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityMap {
    tenant_id: Option<String>,
    subscription_id: Option<String>,
    identities: Vec<Entry>,
}

/// One identity, and which jobs are it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Deployment environment.
    pub environment: Option<String>,
    /// Branch.
    pub branch: Option<String>,
    /// Tag.
    pub tag: Option<String>,
    /// Jobs of pull requests (GitHub).
    #[serde(default)]
    pub pull_request: bool,
    client_id: String,
    tenant_id: Option<String>,
    subscription_id: Option<String>,
    /// Name of the managed identity, for `azfed trust`.
    pub identity: Option<String>,
    /// Its resource group, for `azfed trust`.
    pub resource_group: Option<String>,
}

/// The identity that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Client id.
    pub client: ClientId,
    /// Tenant, where the file says.
    pub tenant: Option<TenantId>,
    /// Subscription, where the file says.
    pub subscription: Option<SubscriptionId>,
}

/// What a job is, by its claims.
struct Job<'a> {
    environment: Option<&'a str>,
    branch: Option<&'a str>,
    tag: Option<&'a str>,
    pull_request: bool,
}

impl<'a> Job<'a> {
    fn of(claims: &'a Claims) -> Self {
        let reference = claims.git_ref.as_deref().unwrap_or_default();
        let is_gitlabs = claims.project_path.is_some();
        // GitHub writes the whole ref, GitLab the name alone, which may look like a whole ref: the type decides first
        let named = |prefix: &str, kind: &str| match claims.ref_type.as_deref() {
            Some(other) if other != kind => None,
            Some(_) if is_gitlabs || !reference.starts_with("refs/") => Some(reference),
            _ if is_gitlabs => None,
            _ => reference.strip_prefix(prefix),
        };
        Self {
            environment: claims.environment.as_deref().filter(|name| !name.is_empty()),
            branch: named("refs/heads/", "branch").filter(|name| !name.is_empty()),
            tag: named("refs/tags/", "tag").filter(|name| !name.is_empty()),
            pull_request: !is_gitlabs && reference.starts_with("refs/pull/"),
        }
    }

    fn describe(&self) -> String {
        let parts = [("environment", self.environment), ("branch", self.branch), ("tag", self.tag)];
        let mut said: Vec<String> = parts
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} `{}`", text::one_line(value?))))
            .collect();
        if self.pull_request {
            said.push("pull request".to_owned());
        }
        if said.is_empty() { "no environment, branch or tag".to_owned() } else { said.join(", ") }
    }
}

impl Entry {
    /// Its client id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    fn is_for(&self, job: &Job<'_>) -> bool {
        let same = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        same(&self.environment, job.environment)
            && same(&self.branch, job.branch)
            && same(&self.tag, job.tag)
            && (!self.pull_request || job.pull_request)
    }

    fn names_nothing(&self) -> bool {
        let texts = [&self.environment, &self.branch, &self.tag];
        texts.iter().all(|text| text.is_none()) && !self.pull_request
    }
}

impl IdentityMap {
    /// Reads the file; every id in it is looked at, the other jobs' too.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |reason: String| Error::File { file: path.display().to_string(), reason };
        let metadata = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
        if !metadata.is_file() || metadata.len() > LONGEST {
            return Err(failed("it is not a regular file of at most 1 MiB".to_owned()));
        }
        let content = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let mut map: Self = serde_json::from_str(&content).map_err(|error| failed(error.to_string()))?;
        if map.identities.is_empty() {
            return Err(failed("it has no identities".to_owned()));
        }
        let mut clients = Vec::new();
        for (number, entry) in map.identities.iter().enumerate() {
            let failed = |reason: String| failed(format!("entry {}: {reason}", number + 1));
            if entry.names_nothing() {
                return Err(failed("it names no environment, branch, tag or pull request".to_owned()));
            }
            let texts = [&entry.environment, &entry.branch, &entry.tag];
            if texts.into_iter().flatten().any(|text| text.is_empty() || text.contains('*')) {
                return Err(failed("a name is empty or has a wildcard".to_owned()));
            }
            for (field, name) in [("identity", &entry.identity), ("resource_group", &entry.resource_group)] {
                if name.as_ref().is_some_and(|name| !is_name(name)) {
                    return Err(failed(format!("{field}: no name that Azure takes")));
                }
            }
            clients.push(map.chosen(entry).map_err(failed)?.client);
        }
        // from here on as it is meant, and not as it is written
        for (entry, client) in map.identities.iter_mut().zip(clients) {
            entry.client_id = client.to_string();
        }
        Ok(map)
    }

    fn chosen(&self, entry: &Entry) -> Result<Chosen, String> {
        let tenant = entry.tenant_id.as_ref().or(self.tenant_id.as_ref());
        let subscription = entry.subscription_id.as_ref().or(self.subscription_id.as_ref());
        Ok(Chosen {
            client: entry.client_id.parse().map_err(|invalid| format!("client_id: {invalid}"))?,
            tenant: tenant
                .map(|id| id.parse())
                .transpose()
                .map_err(|invalid| format!("tenant_id: {invalid}"))?,
            subscription: subscription
                .map(|id| id.parse())
                .transpose()
                .map_err(|invalid| format!("subscription_id: {invalid}"))?,
        })
    }

    /// The one identity that a job with these claims is.
    pub fn choose(&self, claims: &Claims) -> Result<Chosen, Error> {
        let job = Job::of(claims);
        let found: Vec<(usize, &Entry)> =
            self.identities.iter().enumerate().filter(|(_, entry)| entry.is_for(&job)).collect();
        match found.as_slice() {
            [(_, entry)] => self.chosen(entry).map_err(|reason| Error::File { file: String::new(), reason }),
            [] => Err(Error::Nothing { job: job.describe() }),
            several => Err(Error::Several {
                entries: several
                    .iter()
                    .map(|(number, _)| (number + 1).to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
                job: job.describe(),
            }),
        }
    }

    /// Every entry.
    pub fn entries(&self) -> &[Entry] {
        &self.identities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROD: &str = "11111111-1111-4111-8111-111111111111";
    const MAIN: &str = "55555555-5555-4555-8555-555555555555";

    fn load(json: &str) -> Result<IdentityMap, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), json).unwrap();
        IdentityMap::load(file.path())
    }

    fn claims(environment: Option<&str>, git_ref: &str, ref_type: &str) -> Claims {
        Claims {
            environment: environment.map(ToOwned::to_owned),
            git_ref: Some(git_ref.to_owned()),
            ref_type: Some(ref_type.to_owned()),
            ..Claims::default()
        }
    }

    #[test]
    fn one_entry_or_none() {
        let map = load(&format!(
            r#"{{ "identities": [
                {{ "environment": "prod", "client_id": "{PROD}" }},
                {{ "branch": "main", "client_id": "{MAIN}" }},
                {{ "tag": "v1", "client_id": "{MAIN}" }},
                {{ "pull_request": true, "client_id": "{MAIN}" }} ] }}"#
        ))
        .unwrap();
        let chosen = |claims: &Claims| map.choose(claims).map(|chosen| chosen.client.to_string());
        assert_eq!(chosen(&claims(Some("prod"), "refs/heads/x", "branch")).unwrap(), PROD);
        assert_eq!(chosen(&claims(None, "refs/heads/main", "branch")).unwrap(), MAIN);
        assert_eq!(chosen(&claims(None, "main", "branch")).unwrap(), MAIN);
        assert_eq!(chosen(&claims(None, "v1", "tag")).unwrap(), MAIN);
        assert_eq!(chosen(&claims(None, "refs/pull/7/merge", "branch")).unwrap(), MAIN);
        // a tag or branch of GitLab's may have any name, also one that looks like another's ref
        let gitlabs = |git_ref: &str, ref_type: &str| Claims {
            project_path: Some("g/p".to_owned()),
            ..claims(None, git_ref, ref_type)
        };
        assert_eq!(chosen(&gitlabs("main", "branch")).unwrap(), MAIN);
        for (claims, said) in [
            (
                gitlabs("refs/heads/main", "tag"),
                "no entry of the identity map is for this job (tag `refs/heads/main`)",
            ),
            (
                gitlabs("refs/tags/v1", "branch"),
                "no entry of the identity map is for this job (branch `refs/tags/v1`)",
            ),
            (
                gitlabs("refs/heads/main", "branch"),
                "no entry of the identity map is for this job (branch `refs/heads/main`)",
            ),
            (
                gitlabs("refs/pull/7/merge", "branch"),
                "no entry of the identity map is for this job (branch `refs/pull/7/merge`)",
            ),
            (
                Claims { ref_type: None, ..gitlabs("refs/heads/main", "") },
                "no entry of the identity map is for this job (no environment, branch or tag)",
            ),
            (
                claims(None, "refs/heads/main", "tag"),
                "no entry of the identity map is for this job (no environment, branch or tag)",
            ),
            (claims(None, "v1", "branch"), "no entry of the identity map is for this job (branch `v1`)"),
            (claims(None, "main", "tag"), "no entry of the identity map is for this job (tag `main`)"),
            (
                claims(Some("Prod"), "x", "branch"),
                "no entry of the identity map is for this job (environment `Prod`, branch `x`)",
            ),
            (
                Claims::default(),
                "no entry of the identity map is for this job (no environment, branch or tag)",
            ),
            (
                claims(Some("prod"), "main", "branch"),
                "entries 1, 2 of the identity map are all for this job (environment `prod`, branch `main`)",
            ),
        ] {
            assert_eq!(chosen(&claims).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn what_is_no_map() {
        for (json, said) in [
            ("", "EOF"),
            ("{}", "missing field `identities`"),
            (r#"{ "identities": [] }"#, "it has no identities"),
            (
                &format!(r#"{{ "identities": [{{ "client_id": "{PROD}" }}] }}"#),
                "entry 1: it names no environment",
            ),
            (
                &format!(r#"{{ "identities": [{{ "branch": "r/*", "client_id": "{PROD}" }}] }}"#),
                "has a wildcard",
            ),
            (r#"{ "identities": [{ "branch": "main", "client_id": "x" }] }"#, "entry 1: client_id: "),
            (
                &format!(r#"{{ "identities": [{{ "Branch": "main", "client_id": "{PROD}" }}] }}"#),
                "unknown field `Branch`",
            ),
            (
                &format!(
                    r#"{{ "identities": [{{ "branch": "main", "client_id": "{PROD}", "client_secret": "s" }}] }}"#
                ),
                "unknown field",
            ),
        ] {
            let error = load(json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}
