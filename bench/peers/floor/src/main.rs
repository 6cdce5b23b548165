//! The floor of a login: the platform's OIDC token and Entra's access token by two requests, and nothing else. No
//! retries, no checks, no masks, no files; what it gets, it prints.

use std::env::var;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

const AUDIENCE: &str = "api://AzureADTokenExchange";

fn main() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| anyhow!("provider"))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(login())
}

async fn login() -> Result<()> {
    let client = reqwest::Client::new();
    let url = format!("{}&audience={AUDIENCE}", var("ACTIONS_ID_TOKEN_REQUEST_URL")?);
    let request = client.get(url).bearer_auth(var("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?);
    let issued: Value = request.send().await?.error_for_status()?.json().await?;
    let url = format!("{}/{}/oauth2/v2.0/token", var("AUTHORITY")?, var("AZURE_TENANT_ID")?);
    let form = [
        ("client_id", var("AZURE_CLIENT_ID")?),
        ("scope", "https://management.azure.com/.default".to_owned()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
        ("client_assertion", issued["value"].as_str().context("value")?.to_owned()),
        ("grant_type", "client_credentials".to_owned()),
    ];
    let granted: Value = client.post(url).form(&form).send().await?.error_for_status()?.json().await?;
    println!("{}", granted["access_token"].as_str().context("access_token")?);
    Ok(())
}
