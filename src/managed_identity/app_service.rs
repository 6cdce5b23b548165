//! App Service, Functions and Container Apps; Automation, whose endpoint is the same with one more header.
//!
//! Sources: Microsoft Learn "How to use managed identities for App Service and Azure Functions", "Enable managed identity
//! for your Azure Automation account".

use super::{Error, Question, Selector};
use crate::{
    env::{
        Env,
        names::{azfed, host},
    },
    identifiers::Endpoint,
    secret::Secret,
};

const APP_SERVICE: &str = "App Service managed identity endpoint";
const AUTOMATION: &str = "Automation managed identity endpoint";
const API_VERSION: &str = "2019-08-01";
/// Why an object or resource id is of no use.
pub(super) const CLIENT_ID_ONLY: &str = "it knows user-assigned identities by their client ids only";

/// A sandbox with a managed identity endpoint of its own.
#[derive(Debug)]
pub struct AppService {
    endpoint: Endpoint,
    header: Secret,
    automation: bool,
    /// Whether an azfed serves it to this process.
    ours: bool,
}

/// A runbook's sandbox and a hybrid worker's tell so (Microsoft Learn "Azure Automation runbook execution").
pub(super) fn is_automation(env: &Env) -> bool {
    env.is_set(host::AUTOMATION_ACCOUNT_ID)
        || env.get(host::POWERSHELL_HOST).is_some_and(|value| value.starts_with("AzureAutomation"))
}

impl AppService {
    pub(super) fn detect(env: &Env, automation: bool) -> Result<Self, Error> {
        let name = if automation { AUTOMATION } else { APP_SERVICE };
        let missing = |missing| Error::NotHere { host: name, missing };
        let endpoint = env.get(host::IDENTITY_ENDPOINT).ok_or_else(|| missing(host::IDENTITY_ENDPOINT))?;
        let endpoint = Endpoint::of_host(endpoint)
            .map_err(|invalid| Error::Variable { variable: host::IDENTITY_ENDPOINT, invalid })?;
        let header = env.secret(host::IDENTITY_HEADER).ok_or_else(|| missing(host::IDENTITY_HEADER))?;
        let ours = env.get(azfed::ENDPOINT).is_some_and(|ours| ours == endpoint.url().as_str());
        Ok(Self { endpoint, header, automation, ours })
    }

    pub(super) fn name(&self) -> &'static str {
        if self.automation { AUTOMATION } else { APP_SERVICE }
    }

    pub(super) fn source(&self) -> &'static str {
        if self.automation { "automation" } else { "app-service" }
    }

    /// Whether it is no host's, but another azfed's.
    pub(super) fn is_ours(&self) -> bool {
        self.ours
    }

    /// Whether it is Automation's.
    pub fn is_automation(&self) -> bool {
        self.automation
    }

    pub(super) fn question(&self, resource: &str, selector: &Selector) -> Result<Question<'_>, Error> {
        if self.automation && matches!(selector, Selector::Object(_) | Selector::Resource(_)) {
            return Err(Error::Selector { host: self.name(), flag: selector.flag(), why: CLIENT_ID_ONLY });
        }
        let endpoint = self.endpoint.with_query("api-version", API_VERSION).with_query("resource", resource);
        let endpoint = match selector.pair(["client_id", "object_id", "mi_res_id"]) {
            Some((name, value)) => endpoint.with_query(name, value),
            None => endpoint,
        };
        // Automation wants `Metadata` too; App Service does not mind it
        Ok(Question {
            endpoint,
            metadata: true,
            secret: Some(("X-IDENTITY-HEADER", &self.header)),
            posted: false,
        })
    }
}
