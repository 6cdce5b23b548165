//! Service Fabric: TLS with a self-signed certificate, which the runtime tells the service.
//!
//! Source: Microsoft Learn "How to leverage a Service Fabric application's managed identity to access Azure services".

use super::{Error, Question};
use crate::{
    env::{Env, names::host},
    http::Thumbprint,
    identifiers::{Endpoint, Invalid},
    secret::Secret,
};

/// The host's name.
pub const NAME: &str = "Service Fabric managed identity endpoint";

const API_VERSION: &str = "2019-07-01-preview";

/// A service with a managed identity.
#[derive(Debug)]
pub struct ServiceFabric {
    endpoint: Endpoint,
    header: Secret,
    thumbprint: Thumbprint,
}

impl ServiceFabric {
    pub(super) fn detect(env: &Env) -> Result<Self, Error> {
        let variable = |variable| move |invalid| Error::Variable { variable, invalid };
        let value = |missing| env.get(missing).ok_or(Error::NotHere { host: NAME, missing });
        let endpoint: Endpoint =
            value(host::IDENTITY_ENDPOINT)?.parse().map_err(variable(host::IDENTITY_ENDPOINT))?;
        if !endpoint.is_https() {
            // without TLS there is no certificate that could tell the server from another
            return Err(variable(host::IDENTITY_ENDPOINT)(Invalid::NotHttps(endpoint.host())));
        }
        let thumbprint = value(host::IDENTITY_SERVER_THUMBPRINT)?;
        Ok(Self {
            endpoint,
            header: Secret::new(value(host::IDENTITY_HEADER)?.to_owned()),
            thumbprint: thumbprint.parse().map_err(variable(host::IDENTITY_SERVER_THUMBPRINT))?,
        })
    }

    pub(super) fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    pub(super) fn question(&self, resource: &str) -> Question<'_> {
        let endpoint = self.endpoint.with_query("api-version", API_VERSION).with_query("resource", resource);
        Question { endpoint, metadata: false, secret: Some(("Secret", &self.header)), posted: false }
    }
}
