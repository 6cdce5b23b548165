//! Spacelift: every run has a token, whose audience is the host of its account.
//!
//! Source: docs.spacelift.io `integrations/cloud-providers/oidc`.

use std::path::PathBuf;

use super::Stored;
use crate::env::{Env, names};

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
