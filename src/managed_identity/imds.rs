//! The instance metadata service: Azure VMs, scale sets, container instances, nodes of clusters.
//!
//! Source: Microsoft Learn "How to use managed identities for Azure resources on an Azure VM to acquire an access token".

use std::time::Duration;

use serde_json::Value;

use super::{Error, Question, Selector};
use crate::{
    env::{Env, names},
    http::Answer,
    identifiers::Endpoint,
};

/// The host's name.
pub const NAME: &str = "Azure instance metadata service";
/// Where nothing else speaks for the service, this long without an answer speaks against it: something else takes every
/// connection there, as a firewall or a captive portal does.
const ASSUMED_FOR: Duration = Duration::from_secs(10);
/// While the service is renewed it answers 410, for 70 seconds at the most.
pub(super) const RENEWAL: Duration = Duration::from_secs(10);

const BASE: &str = "http://169.254.169.254";
const PATH: &str = "metadata/identity/oauth2/token";
const API_VERSION: &str = "2018-02-01";

/// A machine with an instance metadata service.
#[derive(Debug)]
pub struct Imds {
    base: Endpoint,
    /// Whether nothing but the lack of everything else speaks for it.
    assumed: bool,
    /// Whether this is a pod, which has had no token named.
    pod: bool,
}

impl Imds {
    pub(super) fn detect(env: &Env, assumed: bool) -> Result<Self, Error> {
        let variable = names::host::POD_IDENTITY_AUTHORITY_HOST;
        let named = env.get(variable);
        let base = Endpoint::of_host(named.unwrap_or(BASE));
        let base = base.map_err(|invalid| Error::Variable { variable, invalid })?;
        let pod = env.is_set(names::host::KUBERNETES_SERVICE_HOST);
        Ok(Self { base, assumed: assumed && named.is_none(), pod })
    }

    /// Where tokens are asked for, where it is not the address that every client knows.
    pub fn unusual_endpoint(&self) -> Option<String> {
        let endpoint = self.base.join(PATH);
        (self.base.url().as_str().trim_end_matches('/') != BASE).then(|| endpoint.url().to_string())
    }

    pub(super) fn question(&self, resource: &str, selector: &Selector) -> Question<'_> {
        let endpoint =
            self.base.join(PATH).with_query("api-version", API_VERSION).with_query("resource", resource);
        let endpoint = match selector.pair(["client_id", "object_id", "msi_res_id"]) {
            Some((name, value)) => endpoint.with_query(name, value),
            None => endpoint,
        };
        Question { endpoint, metadata: true, secret: None, posted: false }
    }

    /// What an answer is waited for.
    pub(super) async fn in_time<T>(
        &self,
        endpoint: &Endpoint,
        answer: impl Future<Output = T>,
    ) -> Result<T, Error> {
        if !self.assumed {
            return Ok(answer.await);
        }
        let silent = |_| {
            let (host, seconds) = (endpoint.host(), ASSUMED_FOR.as_secs());
            self.absent(format!("{host} took the connection, and gave no answer within {seconds} s"))
        };
        tokio::time::timeout(ASSUMED_FOR, answer).await.map_err(silent)
    }

    pub(super) fn absent(&self, reason: String) -> Error {
        Error::Absent { host: NAME, assumed: self.assumed, pod: self.pod, reason }
    }

    /// Other clouds have a service at the same address, and so have proxies and networks that answer for all: what they
    /// say is not Azure's JSON, or a page. (410 is: the service is there, and being renewed.)
    pub fn is_somebody_elses(&self, answer: &Answer) -> bool {
        if answer.status == 200 {
            return answer.body.trim_ascii_start().starts_with(b"<");
        }
        let is_json =
            serde_json::from_slice::<Value>(&answer.body).is_ok_and(|body| body.get("error").is_some());
        !is_json && matches!(answer.status, 400..=405) && (self.assumed || answer.status != 404)
    }
}
