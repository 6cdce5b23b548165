//! Azure Resource Manager and Key Vault, as far as the clients' tests reach.

use serde_json::{Value, json};

use crate::{
    entra::resource_manager_names,
    keys::Token,
    message::{Answer, Request, json, with},
    world::{
        BARE_IDENTITY, FederatedCredential, ManagedIdentity, OPERATOR_OBJECT, SUBSCRIPTION, TENANT, World,
        now,
    },
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
    let visible = (world.lock().settings.role_assignments || is_operator(request))
        && claim(request, "tid").is_some_and(|tenant| tenant == TENANT);
    if !visible && path.contains("/providers/") {
        return refusal(
            403,
            "AuthorizationFailed",
            &format!("The client does not have authorization to perform the action over scope '{path}'."),
        );
    }
    if let Some(answer) =
        managed_identities(request, &path, world).or_else(|| authorisation(request, &path, world))
    {
        return answer;
    }
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
        (_, Some("/providers")) => list(
            ["Authorization", "Compute", "ManagedIdentity", "Network", "Resources", "Storage"]
                .map(|name| json!({ "namespace": format!("Microsoft.{name}"), "registrationState": "Registered" }))
                .to_vec(),
        ),
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

fn is_operator(request: &Request) -> bool {
    claim(request, "oid").is_some_and(|object| object == OPERATOR_OBJECT)
}

/// A claim of the request's access token.
fn claim(request: &Request, name: &str) -> Option<Value> {
    let mut token = request.bearer().and_then(Token::parse)?;
    Some(token.claims[name].take())
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    json(status, &json!({ "error": { "code": code, "message": message } }))
}

/// User-assigned managed identities and their federated credentials. Credentials that are written here are trusted by
/// Entra.
fn managed_identities(request: &Request, path: &str, world: &World) -> Option<Answer> {
    if path
        == format!("/subscriptions/{SUBSCRIPTION}/providers/microsoft.managedidentity/userassignedidentities")
    {
        let state = world.lock();
        // one a page
        let page = request.query("$skiptoken").and_then(|page| page.parse().ok()).unwrap_or(0_usize);
        let list = state.identities.iter().skip(page).take(1).map(|(key, identity)| {
            let (group, name) = key.split_once('/').unwrap_or_default();
            json!({
                "id": format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"),
                "name": name,
                "properties": { "tenantId": TENANT, "clientId": identity.client_id, "principalId": identity.principal_id },
            })
        });
        let mut body = json!({ "value": list.collect::<Vec<Value>>() });
        if page + 1 < state.identities.len() {
            let version = request.query("api-version").unwrap_or_default();
            let next = page + 1;
            body["nextLink"] =
                json!(format!("{}{}?api-version={version}&$skiptoken={next}", request.base, request.path));
        }
        return Some(json(200, &body));
    }
    let rest = path.strip_prefix(&format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/"))?;
    let (group, rest) = rest.split_once("/providers/microsoft.managedidentity/userassignedidentities/")?;
    if !["contoso-prod", "ids"].contains(&group) {
        return Some(refusal(
            404,
            "ResourceGroupNotFound",
            &format!("Resource group '{group}' could not be found."),
        ));
    }
    let (name, credential) = match rest.split_once("/federatedidentitycredentials") {
        Some((name, credential)) => (name, Some(credential.trim_start_matches('/'))),
        None => (rest, None),
    };
    let key = format!("{group}/{name}");
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let mut state = world.lock();
    let shown = |identity: &ManagedIdentity| {
        json!({
            "id": format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/{key}"), "name": name, "location": identity.location,
            "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
            "properties": { "tenantId": TENANT, "clientId": identity.client_id, "principalId": identity.principal_id },
        })
    };
    if credential.is_none() && request.method == "PUT" {
        let made = ManagedIdentity {
            client_id: BARE_IDENTITY.to_owned(),
            principal_id: "78787878-7878-4787-8787-787878787878".to_owned(),
            location: body["location"].as_str()?.to_owned(),
            credentials: std::collections::BTreeMap::new(),
            unknown_for: 1,
        };
        let identity = state.identities.entry(key.clone()).or_insert(made);
        return Some(json(201, &shown(identity)));
    }
    let Some(identity) = state.identities.get_mut(&key) else {
        return Some(refusal(404, "ResourceNotFound", &format!("The Resource '{name}' was not found.")));
    };
    let Some(credential) = credential else { return Some(json(200, &shown(identity))) };
    let listed = |name: &str, one: &FederatedCredential| json!({ "name": name, "properties": { "issuer": one.issuer, "subject": one.subject, "audiences": [one.audience] } });
    if request.method == "GET" {
        let list: Vec<Value> = identity.credentials.values().map(|(name, one)| listed(name, one)).collect();
        return Some(json(200, &json!({ "value": list })));
    }
    if identity.unknown_for > 0 {
        identity.unknown_for -= 1;
        return Some(refusal(404, "ResourceNotFound", "The identity was not found."));
    }
    let text = |name: &str| {
        body.pointer(&format!("/properties/{name}")).and_then(Value::as_str).map(ToOwned::to_owned)
    };
    let (Some(issuer), Some(subject), Some(audience)) =
        (text("issuer"), text("subject"), text("audiences/0"))
    else {
        return Some(refusal(400, "BadRequest", "issuer, subject and one audience are required."));
    };
    let written = FederatedCredential { client_id: identity.client_id.clone(), issuer, subject, audience };
    let name = request.path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_same = |(other, one): (&String, &(String, FederatedCredential))| {
        *other != credential && (&one.1.issuer, &one.1.subject) == (&written.issuer, &written.subject)
    };
    if identity.credentials.iter().any(is_same) {
        return Some(refusal(
            400,
            "BadRequest",
            "Issuer and subject combination already exists for this Managed Identity.",
        ));
    }
    let before = identity.credentials.insert(credential.to_owned(), (name.clone(), written.clone()));
    if let Some((_, before)) = before {
        state.credentials.retain(|one| *one != before);
    }
    state.credentials.push(written.clone());
    Some(json(201, &listed(&name, &written)))
}

/// Role definitions and assignments at any scope.
fn authorisation(request: &Request, path: &str, world: &World) -> Option<Answer> {
    let (scope, rest) = path.split_once("/providers/microsoft.authorization/")?;
    if rest == "roledefinitions" {
        let known = ["roleName eq 'Reader'", "roleName eq 'Contributor'"];
        let known = known.into_iter().find(|filter| request.query("$filter") == Some(filter));
        let name = known.and_then(|filter| filter.split('\'').nth(1)).unwrap_or_default();
        let known = known.is_some();
        let reader = json!({ "id": format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7"), "properties": { "roleName": name } });
        return Some(json(200, &json!({ "value": if known { vec![reader] } else { Vec::new() } })));
    }
    rest.strip_prefix("roleassignments/")?;
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let mut state = world.lock();
    if state.assignments.contains_key(path) {
        return Some(refusal(409, "RoleAssignmentExists", "The role assignment already exists."));
    }
    state.assignments.insert(path.to_owned(), body.clone());
    Some(json(201, &body))
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
