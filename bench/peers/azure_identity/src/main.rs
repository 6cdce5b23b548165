//! A login on the `azure_identity` crate: its `ClientAssertionCredential`, whose assertion is the platform's OIDC token.

use std::{env::var, error::Error};

use azure_core::{credentials::TokenCredential, http::ClientMethodOptions};
use azure_identity::{ClientAssertion, ClientAssertionCredential};
use serde_json::Value;

const AUDIENCE: &str = "api://AzureADTokenExchange";

#[derive(Debug)]
struct GitHub;

impl GitHub {
    async fn ask(&self) -> Result<String, Box<dyn Error + Send + Sync>> {
        let url = format!("{}&audience={AUDIENCE}", var("ACTIONS_ID_TOKEN_REQUEST_URL")?);
        let request = reqwest::Client::new().get(url).bearer_auth(var("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?);
        let issued: Value = request.send().await?.error_for_status()?.json().await?;
        Ok(issued["value"].as_str().ok_or("no value")?.to_owned())
    }
}

#[async_trait::async_trait]
impl ClientAssertion for GitHub {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        self.ask().await.map_err(|error| azure_core::Error::new(azure_core::error::ErrorKind::Credential, error))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(login())
}

async fn login() -> Result<(), Box<dyn Error>> {
    let (tenant, client) = (var("AZURE_TENANT_ID")?, var("AZURE_CLIENT_ID")?);
    let credential = ClientAssertionCredential::new(tenant, client, GitHub, None)?;
    let token = credential.get_token(&["https://management.azure.com/.default"], None).await?;
    println!("{}", token.token.secret());
    Ok(())
}
