//! Azure Resource Manager and Key Vault, as far as the clients' tests reach.

use serde_json::{Value, json};

use crate::{
    entra::resource_manager_names,
    keys::Token,
    message::{Answer, Request, json, with},
    world::{SUBSCRIPTION, TENANT, World, now},
};

/// Whether the request's access token is one of Entra's, for one of these resources, and still valid.
pub(crate) fn authorised(request: &Request, world: &World, resources: &[&str]) -> Result<(), &'static str> {
    let jwt = request.bearer().ok_or("Authentication failed. The 'Authorization' header is missing.")?;
    let token = Token::parse(jwt).ok_or("The access token is invalid.")?;
    if !world.entra.verifies(&token) {
        return Err("The access token's signature is invalid.");
    }
    let audience = token.claims["aud"].as_str().unwrap_or_default().trim_end_matches('/');
    if !resources.contains(&audience) {
        return Err("The access token has been obtained for wrong audience or resource.");
    }
    if token.claims["exp"].as_u64().unwrap_or_default() <= now() {
        return Err("The access token expiry UTC time is earlier than current UTC time.");
    }
    Ok(())
}

fn cloud_of(host: &str) -> usize {
    match host {
        "management.usgovcloudapi.net" => 1,
        "management.chinacloudapi.cn" => 2,
        _ => 0,
    }
}

/// Azure Resource Manager.
pub(crate) fn resource_manager(request: &Request, world: &World) -> Answer {
    let path = request.path.to_ascii_lowercase();
    let cloud = cloud_of(&request.host);
    if path.starts_with("/metadata/endpoints") {
        return json(200, &metadata(request));
    }
    if let Err(message) = authorised(request, world, &resource_manager_names(cloud)) {
        let body = json!({ "error": { "code": "InvalidAuthenticationToken", "message": message } });
        let challenge = format!(
            "Bearer authorization_uri=\"https://login.windows.net/{TENANT}\", error=\"invalid_token\", error_description=\"{message}\""
        );
        return with(json(401, &body), "www-authenticate", &challenge);
    }
    if request.query("api-version").is_none() {
        let body = json!({ "error": { "code": "MissingApiVersionParameter", "message": "The api-version query parameter (?api-version=) is required for all requests." } });
        return json(400, &body);
    }
    let visible = world.lock().settings.role_assignments;
    let subscription = json!({
        "id": format!("/subscriptions/{SUBSCRIPTION}"), "subscriptionId": SUBSCRIPTION, "tenantId": TENANT,
        "displayName": "Contoso Production", "state": "Enabled", "authorizationSource": "RoleBased",
        "managedByTenants": [], "subscriptionPolicies": { "locationPlacementId": "Public_2014-09-01", "quotaId": "EnterpriseAgreement_2014-09-01", "spendingLimit": "Off" },
    });
    let list = |items: Vec<Value>| json(200, &json!({ "value": if visible { items } else { Vec::new() } }));
    let in_subscription = path.strip_prefix(&format!("/subscriptions/{SUBSCRIPTION}"));
    match (path.trim_end_matches('/'), in_subscription.map(|rest| rest.trim_end_matches('/'))) {
        ("/subscriptions", _) => list(vec![subscription]),
        ("/tenants", _) => json(
            200,
            &json!({ "value": [{ "id": format!("/tenants/{TENANT}"), "tenantId": TENANT, "displayName": "Contoso", "defaultDomain": "contoso.onmicrosoft.com", "tenantCategory": "Home" }] }),
        ),
        (_, Some("")) if visible => json(200, &subscription),
        (_, Some("/resourcegroups")) => list(vec![json!({
            "id": format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/contoso-prod"), "name": "contoso-prod",
            "type": "Microsoft.Resources/resourceGroups", "location": "westeurope", "properties": { "provisioningState": "Succeeded" },
        })]),
        (_, Some("/locations")) => list(vec![json!({ "name": "westeurope", "displayName": "West Europe" })]),
        (_, Some(rest)) => {
            let body = json!({ "error": { "code": "AuthorizationFailed", "message": format!("The client does not have authorization to perform the action over scope '{rest}'.") } });
            json(403, &body)
        }
        _ => json(
            404,
            &json!({ "error": { "code": "SubscriptionNotFound", "message": "The subscription could not be found." } }),
        ),
    }
}

/// `GET /metadata/endpoints`: one cloud before api-version 2019-05-01, a list since.
fn metadata(request: &Request) -> Value {
    let base = &request.base;
    let cloud = json!({
        "name": "AzureCloud", "portal": "https://portal.azure.com", "resourceManager": base,
        "authentication": {
            "loginEndpoint": "https://login.microsoftonline.com", "tenant": "common", "identityProvider": "AAD",
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
        },
        "graph": "https://graph.windows.net/", "microsoftGraphResourceId": "https://graph.microsoft.com/",
        "suffixes": { "storage": "core.windows.net", "keyVaultDns": "vault.azure.net", "acrLoginServer": "azurecr.io", "sqlServerHostname": "database.windows.net" },
        "gallery": "https://gallery.azure.com/", "media": "https://rest.media.azure.net", "batch": "https://batch.core.windows.net/",
        "sqlManagement": "https://management.core.windows.net:8443/", "vmImageAliasDoc": "", "activeDirectoryDataLake": "https://datalake.azure.net/",
        "graphAudience": "https://graph.windows.net/",
    });
    if request.query("api-version").is_some_and(|version| version >= "2019-05-01") {
        json!([cloud])
    } else {
        cloud
    }
}

/// Key Vault's data plane: its challenge, a list, a secret.
pub(crate) fn vault(request: &Request, world: &World) -> Answer {
    if let Err(message) = authorised(request, world, &["https://vault.azure.net"]) {
        let body = json!({ "error": { "code": "Unauthorized", "message": message } });
        let challenge = format!(
            "Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"https://vault.azure.net\""
        );
        return with(json(401, &body), "www-authenticate", &challenge);
    }
    let id = |name: &str| format!("https://{}/secrets/{name}", request.host);
    match request.path.trim_end_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        ["", "secrets"] => json(
            200,
            &json!({ "value": [{ "id": id("greeting"), "attributes": { "enabled": true } }], "nextLink": null }),
        ),
        ["", "secrets", name, ..] => json(
            200,
            &json!({ "value": "good day", "id": format!("{}/1", id(name)), "attributes": { "enabled": true } }),
        ),
        _ => json(404, &json!({ "error": { "code": "NotFound", "message": "nothing here" } })),
    }
}
