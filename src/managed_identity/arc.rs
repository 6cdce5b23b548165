//! Azure Arc-enabled servers: the agent wants a proof that the caller may read a file of root's.
//!
//! Source: Microsoft Learn "Authenticate against Azure resources with Azure Arc-enabled servers".

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Error, Question, Selector};
use crate::{
    env::{Env, names::host},
    error::Hints,
    identifiers::Endpoint,
    secret::Secret,
    text,
};

/// The host's name.
pub const NAME: &str = "Azure Arc agent";

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
const API_VERSION: &str = "2020-06-01";
const AGENT: &str = "/opt/azcmagent/bin/himds";
const TOKENS: &str = "/var/opt/azcmagent/tokens";
const LONGEST_KEY: u64 = 4096;

/// A server with the Connected Machine agent.
#[derive(Debug)]
pub struct Arc {
    endpoint: Endpoint,
    /// The only directory that a challenge may point into.
    tokens: PathBuf,
}

/// Why a challenge is not met. A process that answered for the agent could point to any file that this one may read, and
/// would be sent its content: so the path is confined before anything is opened.
#[derive(Debug, thiserror::Error)]
pub enum Challenge {
    /// No header, or another scheme.
    #[error("it names no file (WWW-Authenticate: Basic realm=<path>)")]
    None,
    /// Not in the agent's directory, once links are resolved.
    #[error("{} is not a file in {}", shown(.path), .directory.display())]
    Outside {
        /// The path.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// Another suffix.
    #[error("{} does not end with .key", shown(.0))]
    Suffix(PathBuf),
    /// Larger than any key.
    #[error("{} is larger than {LONGEST_KEY} bytes", shown(.0))]
    Size(PathBuf),
    /// Not text that a header can hold.
    #[error("{} holds no key", shown(.0))]
    Content(PathBuf),
    /// It cannot be read.
    #[error("{}: {reason}", shown(.path))]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// The system's directory is not known.
    #[error("{} is not set, which says where the agent keeps its keys", host::PROGRAM_DATA)]
    NoDirectory,
}

fn shown(path: &Path) -> String {
    text::one_line(&path.to_string_lossy())
}

impl Challenge {
    pub(super) fn hints(&self) -> Hints {
        match self {
            Self::Unreadable { reason, .. } if reason.kind() == io::ErrorKind::PermissionDenied => {
                if cfg!(windows) {
                    Hints::one(
                        "the user of this job must be in the group Administrators or \
                         \"Hybrid agent extension applications\"",
                    )
                } else {
                    Hints::with_lines(
                        "the user of this job must be in the group himds; then log in anew, or restart the runner's service:",
                        &["sudo usermod --append --groups himds <user>"],
                    )
                }
            }
            Self::Unreadable { .. } | Self::NoDirectory => {
                Hints::one("see whether the agent is well: `azcmagent show`")
            }
            _ => Hints::one(
                "nothing was sent; find out what answers at the agent's address, port 40342 of this machine: it did not behave \
                 as the agent does",
            ),
        }
    }
}

/// Whether this server has the agent.
pub(super) fn is_here(env: &Env) -> bool {
    env.is_set(host::IDENTITY_ENDPOINT) && env.is_set(host::IMDS_ENDPOINT) || agent(env).exists()
}

fn agent(env: &Env) -> PathBuf {
    match env.get(host::PROGRAM_FILES) {
        Some(programs) if cfg!(windows) => {
            Path::new(programs).join("AzureConnectedMachineAgent").join("himds.exe")
        }
        _ => PathBuf::from(AGENT),
    }
}

impl Arc {
    pub(super) fn detect(env: &Env) -> Result<Self, Error> {
        let variable = host::IDENTITY_ENDPOINT;
        let endpoint = Endpoint::of_host(env.get(variable).unwrap_or(DEFAULT_ENDPOINT));
        let endpoint = endpoint.map_err(|invalid| Error::Variable { variable, invalid })?;
        let tokens = if cfg!(windows) {
            let data = env.get(host::PROGRAM_DATA).ok_or(Challenge::NoDirectory)?;
            Path::new(data).join("AzureConnectedMachineAgent").join("Tokens")
        } else {
            PathBuf::from(TOKENS)
        };
        Ok(Self { endpoint, tokens })
    }

    pub(super) fn question(&self, resource: &str, selector: &Selector) -> Question<'_> {
        let endpoint = self.endpoint.with_query("api-version", API_VERSION).with_query("resource", resource);
        let endpoint = match selector.pair(["client_id", "object_id", "msi_res_id"]) {
            Some((name, value)) => endpoint.with_query(name, value),
            None => endpoint,
        };
        Question { endpoint, metadata: true, secret: None, posted: false }
    }

    /// The content of the file that a challenge names.
    pub(super) fn answer_to(&self, challenge: Option<&str>) -> Result<Secret, Challenge> {
        key(challenge, &self.tokens)
    }
}

/// The content of the file that a challenge names, if that is one of the directory's.
pub fn key(challenge: Option<&str>, tokens: &Path) -> Result<Secret, Challenge> {
    let path = challenge.and_then(realm).ok_or(Challenge::None)?;
    let unreadable = |reason| Challenge::Unreadable { path: path.clone(), reason };
    let outside = || Challenge::Outside { path: path.clone(), directory: tokens.to_owned() };
    if path.extension().is_none_or(|suffix| suffix != "key") {
        return Err(Challenge::Suffix(path));
    }
    // what is written must be in the directory, and what it leads to as well
    if path.parent() != Some(tokens) {
        return Err(outside());
    }
    let real = fs::canonicalize(&path).map_err(unreadable)?;
    let directory = fs::canonicalize(tokens).map_err(unreadable)?;
    if real.parent() != Some(directory.as_path()) || real.file_name() != path.file_name() {
        return Err(outside());
    }
    if !fs::symlink_metadata(&real).map_err(unreadable)?.is_file() {
        return Err(outside());
    }
    let mut content = Vec::new();
    let file = File::open(&real).map_err(unreadable)?;
    file.take(LONGEST_KEY + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > LONGEST_KEY {
        return Err(Challenge::Size(path));
    }
    let key = String::from_utf8(content).ok().map(|key| Secret::new(key.trim().to_owned()));
    let is_visible = |key: &Secret| key.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    key.filter(|key| !key.expose().is_empty() && is_visible(key)).ok_or(Challenge::Content(path))
}

/// The path in `Basic realm=<path>`.
fn realm(challenge: &str) -> Option<PathBuf> {
    let (scheme, rest) = challenge.trim().split_once(' ')?;
    let (name, path) = rest.trim().split_once('=')?;
    let path = path.trim().trim_matches('"');
    (scheme.eq_ignore_ascii_case("basic") && name.trim().eq_ignore_ascii_case("realm") && !path.is_empty())
        .then(|| PathBuf::from(path))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_leads_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = fs::canonicalize(directory.path()).unwrap().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let arc = Arc { endpoint: DEFAULT_ENDPOINT.parse().unwrap(), tokens: tokens.clone() };
        let write = |path: PathBuf, content: &str| fs::write(path, content).unwrap();
        write(tokens.join("a.key"), "the key\n");
        write(tokens.join("a.txt"), "x");
        write(tokens.join("empty.key"), " \n");
        write(tokens.join("lines.key"), "a\r\nb");
        write(tokens.join("large.key"), &"x".repeat(4097));
        write(tokens.join("largest.key"), &"x".repeat(4096));
        write(directory.path().join("other.key"), "not for them");
        fs::create_dir(tokens.join("below.key")).unwrap();
        write(tokens.join("below.key/b.key"), "x");
        std::os::unix::fs::symlink(directory.path().join("other.key"), tokens.join("link.key")).unwrap();
        std::os::unix::fs::symlink(tokens.join("a.txt"), tokens.join("inner.key")).unwrap();
        let ask = |path: &str| arc.answer_to(Some(&format!("Basic realm={}/{path}", tokens.display())));
        assert_eq!(ask("a.key").unwrap().expose(), "the key");
        assert_eq!(ask("largest.key").unwrap().expose().len(), 4096);
        assert!(matches!(ask("a.txt"), Err(Challenge::Suffix(_))));
        assert!(matches!(ask("large.key"), Err(Challenge::Size(_))));
        assert!(matches!(ask("empty.key"), Err(Challenge::Content(_))));
        assert!(matches!(ask("lines.key"), Err(Challenge::Content(_))));
        for outside in
            ["link.key", "inner.key", "../other.key", "./../other.key", "below.key/b.key", "below.key"]
        {
            assert!(matches!(ask(outside), Err(Challenge::Outside { .. })), "{outside}");
        }
        assert!(matches!(ask("missing.key"), Err(Challenge::Unreadable { .. })));
        let asked = |challenge: Option<&str>| arc.answer_to(challenge).unwrap_err().to_string();
        for none in [
            None,
            Some(""),
            Some("Basic"),
            Some("Basic realm="),
            Some("Bearer realm=/x.key"),
            Some("Basic path=/x"),
        ] {
            assert!(asked(none).contains("names no file"), "{none:?}");
        }
        assert!(asked(Some("Basic realm=/etc/passwd")).contains(".key"));
        assert!(asked(Some("Basic realm=relative.key")).contains("is not a file in"));
    }
}
