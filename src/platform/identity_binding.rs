//! Pods of AKS clusters with identity bindings: the exchange goes to a proxy in the cluster, which alone takes the pod's
//! token.
//!
//! Sources: Microsoft Learn "Identity bindings concepts" (AKS), azure-workload-identity `pkg/webhook/consts.go`,
//! azure-sdk-for-go `sdk/azidentity/internal/customtokenproxy`.

use std::path::{Path, PathBuf};

use super::{Error, Stored};
use crate::{
    env::{Env, names::azure},
    http::{self, Channel},
    identifiers::{Endpoint, Invalid, TenantId},
    secret::Secret,
};

/// A pod with an identity binding.
#[derive(Debug)]
pub struct IdentityBinding {
    pub(super) stored: Stored,
    proxy: Endpoint,
    name: Option<String>,
    certificates: Certificates,
}

/// Who vouches for the proxy.
#[derive(Debug)]
enum Certificates {
    File(PathBuf),
    Data(Secret),
    System,
}

impl IdentityBinding {
    /// The proxy of this pod, if it has one and takes its token from the file that belongs to it.
    pub(super) fn detect(env: &Env, named: Option<&Path>) -> Result<Option<Self>, Error> {
        let of_binding =
            named.is_none_or(|path| env.get(azure::FEDERATED_TOKEN_FILE).map(Path::new) == Some(path));
        let Some(proxy) = env.get(azure::KUBERNETES_TOKEN_PROXY).filter(|_| of_binding) else {
            return Ok(None);
        };
        let wrong = |invalid| Error::Variable { variable: azure::KUBERNETES_TOKEN_PROXY, invalid };
        let proxy: Endpoint = proxy.parse().map_err(wrong)?;
        if !proxy.is_https() {
            return Err(wrong(Invalid::NotHttps(proxy.host())));
        }
        if proxy.url().query().is_some() || proxy.url().fragment().is_some() {
            return Err(wrong(Invalid::NotABaseUrl(proxy.host())));
        }
        let certificates = match (env.get(azure::KUBERNETES_CA_FILE), env.secret(azure::KUBERNETES_CA_DATA)) {
            (Some(_), Some(_)) => {
                return Err(Error::Contradiction(format!(
                    "{} and {} are both set, and only one can count",
                    azure::KUBERNETES_CA_FILE,
                    azure::KUBERNETES_CA_DATA
                )));
            }
            (Some(file), None) => Certificates::File(PathBuf::from(file)),
            (None, Some(data)) => Certificates::Data(data),
            (None, None) => Certificates::System,
        };
        let stored = Stored::file(env, named)?;
        let name = env.get(azure::KUBERNETES_SNI_NAME).map(|name| name.trim().to_owned());
        // an address would be connected to, and not only be the name of the proxy
        if name.as_ref().is_some_and(|name| !matches!(url::Host::parse(name), Ok(url::Host::Domain(_)))) {
            return Err(Error::Contradiction(format!("{}: it is no host name", azure::KUBERNETES_SNI_NAME)));
        }
        Ok(Some(Self { stored, proxy, name, certificates }))
    }

    /// The proxy's token endpoint for a tenant, and a way there.
    pub fn token_endpoint(&self, env: &Env, tenant: &TenantId) -> Result<(Channel, Endpoint), Error> {
        let endpoint = self.proxy.join(&format!("{}/oauth2/v2.0/token", tenant.as_str()));
        let failed = |source| Error::Http { issuer: "the cluster's token proxy", source };
        let unusable = |variable, reason: String| Error::Certificates { variable, reason };
        let roots = match &self.certificates {
            Certificates::File(path) => {
                let pem = super::stored::read(path)
                    .map_err(|error| unusable(azure::KUBERNETES_CA_FILE, error.to_string()))?;
                http::certificates(pem.expose().as_bytes())
                    .map_err(|reason| unusable(azure::KUBERNETES_CA_FILE, reason))?
            }
            Certificates::Data(pem) => http::certificates(pem.expose().as_bytes())
                .map_err(|reason| unusable(azure::KUBERNETES_CA_DATA, reason))?,
            Certificates::System => http::roots(env).map_err(failed)?,
        };
        http::named_channel(roots, &endpoint, self.name.as_deref()).map_err(failed)
    }

    /// The variables that it takes its part from.
    pub(super) fn variables() -> Vec<&'static str> {
        vec![
            azure::FEDERATED_TOKEN_FILE,
            azure::KUBERNETES_TOKEN_PROXY,
            azure::KUBERNETES_SNI_NAME,
            azure::KUBERNETES_CA_FILE,
            azure::KUBERNETES_CA_DATA,
        ]
    }
}
