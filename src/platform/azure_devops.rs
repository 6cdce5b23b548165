//! Azure DevOps: the job asks for a token of one service connection.
//!
//! Sources: learn.microsoft.com REST "Oidctoken - Create", azure-sdk-for-rust
//! `sdk/identity/azure_identity/src/azure_pipelines_credential.rs`.

use super::{Error, github::issued, masked};
use crate::{
    assertion::Assertion,
    env::{Env, names},
    http::Http,
    identifiers::{Endpoint, Invalid, ServiceConnectionId},
    secret::Secret,
    ui::Ui,
};

/// The platform's name.
pub const NAME: &str = "Azure DevOps";

/// The version of the REST API.
const API_VERSION: &str = "7.1";

/// Variables that name the service connection.
const CONNECTION: [&str; 3] = [
    names::azure::SUBSCRIPTION_SERVICE_CONNECTION_ID,
    names::arm::ADO_PIPELINE_SERVICE_CONNECTION_ID,
    names::arm::OIDC_AZURE_SERVICE_CONNECTION_ID,
];

/// A job that may ask for an OIDC token.
#[derive(Debug)]
pub struct AzureDevOps {
    pub(super) request_uri: Endpoint,
    access_token: Secret,
    connection: ServiceConnectionId,
}

impl AzureDevOps {
    /// The job's request URI, access token and service connection.
    pub fn detect(env: &Env, connection: Option<&ServiceConnectionId>) -> Result<Self, Error> {
        let uri = env.get(names::azure_devops::OIDC_REQUEST_URI).ok_or(Error::AzureDevOpsNoUri)?;
        let request_uri = uri.parse().map_err(|invalid| Error::Variable {
            variable: names::azure_devops::OIDC_REQUEST_URI,
            invalid,
        })?;
        let access_token = env
            .secret(names::azure_devops::ACCESS_TOKEN)
            .ok_or(Error::AzureDevOpsNotMapped { why: "is not set" })?;
        if access_token.expose().starts_with("$(") {
            return Err(Error::AzureDevOpsNotMapped { why: "is a macro that was not expanded" });
        }
        let connection = match (connection, env.first(&CONNECTION)) {
            (Some(connection), _) => connection.clone(),
            (None, Some((variable, value))) => {
                value.parse().map_err(|invalid: Invalid| Error::Variable { variable, invalid })?
            }
            (None, None) => return Err(Error::AzureDevOpsNoConnection),
        };
        Ok(Self { request_uri, access_token, connection })
    }

    /// The service connection.
    pub fn connection(&self) -> &ServiceConnectionId {
        &self.connection
    }

    /// `POST <request uri>?api-version=7.1&serviceConnectionId=<connection>`
    pub(super) async fn fetch_assertion(&self, http: &Http, ui: &Ui) -> Result<Assertion, Error> {
        let failed = |source| Error::Http { issuer: NAME, source };
        let endpoint = self
            .request_uri
            .with_query("api-version", API_VERSION)
            .with_query("serviceConnectionId", self.connection.as_str());
        let channel = http.channel(&endpoint).map_err(failed)?;
        let request = channel
            .post(&endpoint)
            .bearer(&self.access_token)
            .header("content-type", "application/json")
            .header("content-length", "0")
            .header("accept", "application/json")
            // without it an access token that is not accepted gets a redirect to a page for people
            .header("x-tfs-fedauthredirect", "Suppress");
        let answer = channel.send(&endpoint, request).await.map_err(failed)?;
        masked(ui, &issued(NAME, &answer, "oidcToken")?, NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: (&str, &str) = ("SYSTEM_OIDCREQUESTURI", "https://dev.azure.com/contoso/p/_apis/oidctoken");
    const TOKEN: (&str, &str) = ("SYSTEM_ACCESSTOKEN", "t");
    const GUID: &str = "99999999-9999-4999-8999-999999999999";

    fn detect(pairs: &[(&str, &str)]) -> Result<AzureDevOps, Error> {
        AzureDevOps::detect(&Env::from_pairs(pairs.iter().copied()), None)
    }

    #[test]
    fn each_missing_part_has_its_own_error() {
        assert!(matches!(detect(&[TOKEN]), Err(Error::AzureDevOpsNoUri)));
        assert!(matches!(detect(&[URI]), Err(Error::AzureDevOpsNotMapped { why: "is not set" })));
        assert!(matches!(
            detect(&[URI, ("SYSTEM_ACCESSTOKEN", "$(System.AccessToken)")]),
            Err(Error::AzureDevOpsNotMapped { why: "is a macro that was not expanded" })
        ));
        assert!(matches!(detect(&[URI, TOKEN]), Err(Error::AzureDevOpsNoConnection)));
        assert!(matches!(
            detect(&[URI, TOKEN, ("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "azure-prod")]),
            Err(Error::Variable { invalid: Invalid::NotAGuid(_), .. })
        ));
        for name in CONNECTION {
            assert_eq!(detect(&[URI, TOKEN, (name, GUID)]).unwrap().connection().as_str(), GUID);
        }
    }
}
