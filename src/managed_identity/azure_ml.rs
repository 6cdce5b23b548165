//! Azure Machine Learning: compute instances, clusters, online endpoints.
//!
//! Source: Azure/azure-sdk-for-python `azure/identity/_credentials/azure_ml.py`; there is no page about the protocol.

use super::{Error, Question, Selector, app_service::CLIENT_ID_ONLY};
use crate::{
    env::{Env, names::host},
    identifiers::{ClientId, Endpoint},
    secret::Secret,
};

/// The host's name.
pub const NAME: &str = "Azure Machine Learning managed identity endpoint";

const API_VERSION: &str = "2017-09-01";

/// A compute with a managed identity.
#[derive(Debug)]
pub struct AzureMl {
    endpoint: Endpoint,
    secret: Secret,
    default: Option<ClientId>,
}

impl AzureMl {
    pub(super) fn detect(env: &Env) -> Result<Self, Error> {
        let missing = |missing| Error::NotHere { host: NAME, missing };
        let endpoint = env.get(host::MSI_ENDPOINT).ok_or_else(|| missing(host::MSI_ENDPOINT))?;
        let endpoint = Endpoint::of_host(endpoint)
            .map_err(|invalid| Error::Variable { variable: host::MSI_ENDPOINT, invalid })?;
        let secret = env.secret(host::MSI_SECRET).ok_or_else(|| missing(host::MSI_SECRET))?;
        let variable = host::DEFAULT_IDENTITY_CLIENT_ID;
        let default = env.get(variable).map(str::parse).transpose();
        let default = default.map_err(|invalid| Error::Variable { variable, invalid })?;
        Ok(Self { endpoint, secret, default })
    }

    pub(super) fn question(&self, resource: &str, selector: &Selector) -> Result<Question<'_>, Error> {
        let client = match selector {
            Selector::Own => self.default.as_ref(),
            Selector::Client(id) => Some(id),
            Selector::Object(_) | Selector::Resource(_) => {
                return Err(Error::Selector { host: NAME, flag: selector.flag(), why: CLIENT_ID_ONLY });
            }
        };
        let endpoint = self.endpoint.with_query("api-version", API_VERSION).with_query("resource", resource);
        let endpoint = match client {
            Some(id) => endpoint.with_query("clientid", id.as_str()),
            None => endpoint,
        };
        Ok(Question { endpoint, metadata: false, secret: Some(("secret", &self.secret)), posted: false })
    }
}
