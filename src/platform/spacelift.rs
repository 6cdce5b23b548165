//! Spacelift: every run has a token, whose audience is the host of its account.
//!
//! Source: docs.spacelift.io `integrations/cloud-providers/oidc`.

use std::path::PathBuf;

use super::{Error, Stored};
use crate::{
    assertion::Assertion,
    env::{Env, names},
    error::Hints,
    ui::Ui,
};

/// The platform's name.
pub const NAME: &str = "Spacelift";
/// Where every run has its token beside the variable.
const FILE: &str = "/mnt/workspace/spacelift.oidc";

/// The token of a run.
pub(super) fn detect(env: &Env) -> Stored {
    let name = names::spacelift::OIDC_TOKEN;
    match env.secret(name) {
        Some(token) => Stored::Variable(name.to_owned(), token),
        None => Stored::File(PathBuf::from(FILE)),
    }
}

/// The same token, read. Without its file this is no run, or none that gets one.
pub(super) fn fetch_assertion(stored: &Stored, ui: &Ui) -> Result<Assertion, Error> {
    stored.fetch_assertion(ui).map_err(|error| match (stored, error) {
        (Stored::File(_), Error::File { path, reason }) => Error::NotGranted {
            issuer: NAME,
            missing: format!("{} is not set, and {}: {reason}", names::spacelift::OIDC_TOKEN, path.display()),
            hints: Hints::one(
                "Spacelift gives every run of a paid account a token; a container of the run's own must be given the variable",
            ),
        },
        (_, error) => error,
    })
}
