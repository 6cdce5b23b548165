//! A token that something else put into a file or a variable: Kubernetes pods, Jenkins, anything.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{Error, masked};
use crate::{
    assertion::{Assertion, LONGEST},
    env::{Env, names},
    error::Hints,
    identifiers::{Audience, VariableName},
    secret::Secret,
    ui::Ui,
};

/// Where the token stands.
#[derive(Debug)]
pub enum Stored {
    /// A file, which may be rewritten at any time: it is read again for each try.
    File(PathBuf),
    /// A variable.
    Variable(String, Secret),
}

impl Stored {
    /// The named file, else the one of `AZURE_FEDERATED_TOKEN_FILE`.
    pub fn file(env: &Env, named: Option<&Path>) -> Result<Self, Error> {
        named
            .map(Path::to_path_buf)
            .or_else(|| env.get(names::azure::FEDERATED_TOKEN_FILE).map(PathBuf::from))
            .map(Self::File)
            .ok_or_else(|| Error::VariableUnset(names::azure::FEDERATED_TOKEN_FILE.to_owned()))
    }

    /// The named variable, else the usual ones.
    pub fn variable(env: &Env, named: Option<&VariableName>) -> Result<Self, Error> {
        let usual = [names::azure::ID_TOKEN, names::azure::OIDC_TOKEN];
        let candidates: Vec<&str> = named.map_or_else(|| usual.to_vec(), |name| vec![name.as_str()]);
        let found = env.first(&candidates).ok_or_else(|| Error::VariableUnset(candidates.join("`, `")))?;
        Ok(Self::Variable(found.0.to_owned(), Secret::new(found.1.to_owned())))
    }

    /// The path or name, for messages.
    pub fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Variable(name, _) => name.clone(),
        }
    }

    /// The variable, if it is one.
    pub(super) fn variable_name(&self) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Variable(name, _) => Some(name),
        }
    }

    /// Whether it is the token that every pod has for its cluster's API server.
    pub(super) fn is_service_accounts_own(&self) -> bool {
        matches!(self, Self::File(path) if path.to_string_lossy().contains("/kubernetes.io/serviceaccount/"))
    }

    /// The file, if it holds the token and nothing else: then other readers may have its own path, and see it renewed.
    pub fn exact_file(&self, assertion: &Assertion) -> Option<&Path> {
        let Self::File(path) = self else { return None };
        let exact = read(path).is_ok_and(|content| content.expose() == assertion.jwt.expose());
        (exact && path.is_absolute()).then_some(path)
    }

    pub(super) fn fetch_assertion(&self, ui: &Ui) -> Result<Assertion, Error> {
        match self {
            Self::File(path) => masked(ui, &read(path)?, &self.place()),
            Self::Variable(name, token) => masked(ui, token, name),
        }
    }
}

/// What a pod needs for a token of its own (Kubernetes documentation, "Projected volumes", serviceAccountToken).
pub(super) fn project(audience: &Audience) -> Hints {
    Hints::with_lines(
        "that is the pod's token for its cluster's API server: mount another one into the pod, and name its file with \
         `--assertion-file` or AZURE_FEDERATED_TOKEN_FILE (on AKS, workload identity does that by itself):",
        &[
            "volumes:",
            "- name: azure-identity-token",
            "  projected:",
            "    sources:",
            &format!(
                "    - serviceAccountToken: {{ audience: {audience}, expirationSeconds: 3600, path: azure-identity-token }}"
            ),
        ],
    )
}

/// A regular file of at most 1 MiB of text.
pub(super) fn read(path: &Path) -> Result<Secret, Error> {
    let failed = |reason: &str| Error::File { path: path.to_owned(), reason: reason.to_owned() };
    let io = |error: std::io::Error| failed(&error.to_string());
    // looked at before it is opened: opening a named pipe would wait for its writer
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(failed("is a directory"));
    }
    if !metadata.is_file() {
        return Err(failed("is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut content)).map_err(io)?;
    if content.len() > LONGEST {
        return Err(failed("is larger than 1 MiB"));
    }
    let content = String::from_utf8(content).map_err(|_| failed("is not text"))?;
    if content.trim().is_empty() {
        return Err(failed("is empty"));
    }
    Ok(Secret::new(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_token() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        for (path, expected) in [
            (directory.path().join("missing"), "No such file"),
            (directory.path().to_owned(), "is a directory"),
            (file("empty", b" \n"), "is empty"),
            (file("binary", &[0xff, 0xfe]), "is not text"),
            (file("huge", &vec![b'a'; LONGEST + 1]), "is larger than 1 MiB"),
        ] {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
