//! Semaphore: every job has a token, whose audience is its issuer, the URL of the organisation.
//!
//! Source: docs.semaphore.io `reference/openid`.

use super::{Error, Stored};
use crate::{
    env::{Env, names},
    error::Hints,
};

/// The platform's name.
pub const NAME: &str = "Semaphore";

/// The token of a job.
pub(super) fn detect(env: &Env) -> Result<Stored, Error> {
    let name = names::semaphore::OIDC_TOKEN;
    match env.secret(name) {
        Some(token) => Ok(Stored::Variable(name.to_owned(), token)),
        None => Err(Error::NotGranted {
            issuer: NAME,
            missing: format!("{name} is not set"),
            hints: Hints::one(
                "Semaphore issues OIDC tokens on the plans that have them (Scaleup), to every job; a container of the \
                               job's own must be given the variable",
            ),
        }),
    }
}
