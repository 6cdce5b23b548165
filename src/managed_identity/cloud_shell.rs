//! Cloud Shell: its endpoint gives tokens of the user who is signed in to the portal.
//!
//! Source: Azure/azure-sdk-for-python `azure/identity/_credentials/cloud_shell.py`; there is no page about the protocol.

use super::{Error, Question};
use crate::{
    env::{Env, names::host},
    identifiers::Endpoint,
};

/// The host's name.
pub const NAME: &str = "Cloud Shell token endpoint";

/// A session.
#[derive(Debug)]
pub struct CloudShell {
    endpoint: Endpoint,
}

impl CloudShell {
    pub(super) fn detect(env: &Env) -> Result<Self, Error> {
        let variable = host::MSI_ENDPOINT;
        let endpoint = env.get(variable).ok_or(Error::NotHere { host: NAME, missing: variable })?;
        let endpoint =
            Endpoint::of_host(endpoint).map_err(|invalid| Error::Variable { variable, invalid })?;
        Ok(Self { endpoint })
    }

    pub(super) fn question(&self) -> Question<'_> {
        Question { endpoint: self.endpoint.clone(), metadata: true, secret: None, posted: true }
    }
}
