//! Microsoft Entra's token endpoint and MSAL's discovery documents.
//!
//! Sources: Microsoft Learn "OAuth 2.0 client credentials flow", "Workload identity federation considerations",
//! "Microsoft Entra authentication and authorization error codes"; texts as users have posted them.

use std::time::SystemTime;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    keys::Token,
    message::{Answer, Request, json, with},
    world::{
        APPLICATION, APPLICATION_OBJECT, BARE_IDENTITY, CLOUDS, FederatedCredential, IDENTITY,
        IDENTITY_OBJECT, OPERATOR_OBJECT, SUBSCRIPTION, TENANT, World, entra_issuer, now,
    },
};

/// The number of a refusal, for the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aadsts(pub u32);

/// Resources that the tenant knows; ARM has several names.
const RESOURCES: [&str; 7] = [
    "https://vault.azure.net",
    "https://storage.azure.com",
    "https://graph.microsoft.com",
    "https://database.windows.net",
    "https://ossrdbms-aad.database.windows.net",
    "6dae42f8-4368-4678-94ff-3960e28e3630",
    "api://AzureADTokenExchange",
];

/// The audience of Azure DevOps' Entra-issued assertions; their credentials name the exchange audience.
pub(crate) const AZURE_DEVOPS_AUDIENCE: &str = "fb60f99c-7a34-4190-8149-302f77469936";

/// The cloud whose Entra was asked: by host, or by a path prefix on the loopback name.
fn cloud(request: &Request) -> usize {
    let host = request.host.as_str();
    if ["login.microsoftonline.us", "login.usgovcloudapi.net"].contains(&host)
        || request.path.starts_with("/usgov/")
    {
        1
    } else if ["login.chinacloudapi.cn", "login.partner.microsoftonline.cn"].contains(&host)
        || request.path.starts_with("/china/")
    {
        2
    } else {
        0
    }
}

/// The names of Azure Resource Manager in a cloud.
pub(crate) fn resource_manager_names(cloud: usize) -> [&'static str; 2] {
    match cloud {
        1 => ["https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net"],
        2 => ["https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn"],
        _ => ["https://management.azure.com", "https://management.core.windows.net"],
    }
}

/// `POST /{tenant}/oauth2/v2.0/token`
pub(crate) fn token(request: &Request, world: &World) -> Answer {
    match exchange(request, world) {
        Ok(granted) => granted,
        Err((code, detail)) => refusal(code, request, &detail),
    }
}

type Refused = (u32, String);

fn exchange(request: &Request, world: &World) -> Result<Answer, Refused> {
    let refuse = |code: u32, detail: &str| (code, detail.to_owned());
    if request.method != "POST" {
        return Err(refuse(900_561, "The endpoint only accepts POST requests."));
    }
    let cloud = cloud(request);
    let tenant = request.path.trim_end_matches("/oauth2/v2.0/token").rsplit('/').next().unwrap_or_default();
    if Uuid::try_parse(tenant).is_err() && !tenant.contains('.') {
        return Err(refuse(900_023, tenant));
    }
    if tenant != TENANT && tenant != "contoso.onmicrosoft.com" {
        return Err(refuse(90_002, tenant));
    }
    let form = request.form();
    let field = |name: &str| {
        let mut values = form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        values.next().filter(|value| !value.is_empty() && values.next().is_none())
    };
    let required = |name: &str| field(name).ok_or_else(|| (900_144, name.to_owned()));
    if required("grant_type")? != "client_credentials" {
        return Err(refuse(70_003, field("grant_type").unwrap_or_default()));
    }
    let client = required("client_id")?;
    let scope = required("scope")?;
    if ![IDENTITY, APPLICATION, BARE_IDENTITY].contains(&client) {
        return Err((700_016, client.to_owned()));
    }
    let assertion_type = field("client_assertion_type");
    let Some(assertion) = field("client_assertion") else {
        return Err(refuse(7_000_218, ""));
    };
    if assertion_type != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
        return Err(refuse(7_000_218, ""));
    }
    check_assertion(assertion, client, cloud, world)?;
    let resource = check_scope(scope, cloud)?;
    Ok(grant(client, &resource, world))
}

fn check_assertion(assertion: &str, client: &str, cloud: usize, world: &World) -> Result<(), Refused> {
    let parsed = Token::parse(assertion).ok_or((50_027, String::new()))?;
    let claim = |name: &str| parsed.claims[name].as_str().unwrap_or_default().to_owned();
    let (issuer, subject) = (claim("iss"), claim("sub"));
    let credentials: Vec<FederatedCredential> = world
        .lock()
        .credentials
        .iter()
        .filter(|credential| credential.client_id == client)
        .cloned()
        .collect();
    if credentials.is_empty() {
        return Err((70_025, client.to_owned()));
    }
    let of_issuer: Vec<_> = credentials.iter().filter(|credential| credential.issuer == issuer).collect();
    let Some(key) = world.key_of(&issuer).filter(|_| !of_issuer.is_empty()) else {
        return Err((700_211, issuer));
    };
    if !key.verifies(&parsed) {
        return Err((700_027, String::new()));
    }
    // the clock may be five minutes off for the beginning, not for the end
    let (begins, ends) =
        (parsed.claims["nbf"].as_u64().unwrap_or(0), parsed.claims["exp"].as_u64().unwrap_or(0));
    if now() + 300 < begins || now() >= ends {
        return Err((700_024, format!("{begins} {ends}")));
    }
    let audiences = match &parsed.claims["aud"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        _ => Vec::new(),
    };
    let expected = CLOUDS[cloud].1;
    let presented = match audiences.as_slice() {
        [one] if issuer == entra_issuer() && one == AZURE_DEVOPS_AUDIENCE => expected.to_owned(),
        [one] => one.clone(),
        several => return Err((700_212, several.join(" "))),
    };
    let fits_cloud = |credential: &&FederatedCredential| {
        let another_clouds =
            CLOUDS.iter().any(|(_, audience)| *audience == credential.audience && *audience != expected);
        credential.audience == presented && !another_clouds
    };
    let of_audience: Vec<_> = of_issuer.into_iter().filter(fits_cloud).collect();
    if of_audience.is_empty() {
        return Err((700_212, presented));
    }
    if of_audience.iter().any(|credential| credential.subject == subject) {
        return Ok(());
    }
    if of_audience.iter().any(|credential| credential.subject.eq_ignore_ascii_case(&subject)) {
        return Err((7_002_138, subject));
    }
    Err((if issuer == entra_issuer() { 7_002_137 } else { 700_213 }, subject))
}

fn check_scope(scope: &str, cloud: usize) -> Result<String, Refused> {
    if scope.contains(char::is_whitespace) {
        return Err((28_002, scope.to_owned()));
    }
    let Some(resource) = scope.strip_suffix("/.default") else {
        return Err((1_002_012, scope.to_owned()));
    };
    let name = resource.trim_end_matches('/');
    if RESOURCES.contains(&name) || resource_manager_names(cloud).contains(&name) {
        Ok(resource.to_owned())
    } else {
        Err((500_011, resource.to_owned()))
    }
}

fn grant(client: &str, resource: &str, world: &World) -> Answer {
    let managed = client == IDENTITY;
    let lifetime =
        world.lock().settings.access_token_lifetime_s.unwrap_or(if managed { 86_400 } else { 3_600 });
    let object = if managed { IDENTITY_OBJECT } else { APPLICATION_OBJECT };
    let issued = now();
    let mut claims = json!({
        "aud": resource,
        "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": issued, "nbf": issued, "exp": issued + lifetime,
        "appid": client, "azp": client, "idtyp": "app", "oid": object, "sub": object, "tid": TENANT,
        "uti": Uuid::new_v4().simple().to_string(), "ver": "1.0",
    });
    if managed {
        claims["xms_mirid"] = json!(format!(
            "/subscriptions/{SUBSCRIPTION}/resourcegroups/contoso-prod/providers/Microsoft.ManagedIdentity/userAssignedIdentities/infra-prod"
        ));
    }
    let access_token = world.entra.sign(&claims);
    world.remember_secret(&access_token);
    let body = json!({
        "token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": access_token,
    });
    let answer = with(json(200, &body), "cache-control", "no-store");
    with(answer, "x-ms-request-id", &Uuid::new_v4().to_string())
}

/// What az has of an operator: an access token to Azure Resource Manager of the public cloud.
pub(crate) fn operator_token(world: &World) -> String {
    let issued = now();
    let access_token = world.entra.sign(&json!({
        "aud": resource_manager_names(0)[0], "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": issued, "nbf": issued, "exp": issued + 3_600,
        "idtyp": "user", "oid": OPERATOR_OBJECT, "sub": OPERATOR_OBJECT, "tid": TENANT, "ver": "1.0",
    }));
    world.remember_secret(&access_token);
    access_token
}

/// Entra's refusal with this number.
pub(crate) fn refusal(code: u32, request: &Request, detail: &str) -> Answer {
    let (status, error, text) = words(code, detail);
    let trace = Uuid::new_v4().to_string();
    let correlation = request.header("client-request-id").unwrap_or(&trace).to_owned();
    let timestamp = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace('T', " ");
    let description = format!(
        "AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
    );
    let body = json!({
        "error": error, "error_description": description, "error_codes": [code], "timestamp": timestamp,
        "trace_id": trace, "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    let mut answer = with(json(status, &body), "x-ms-request-id", &trace);
    answer.extensions_mut().insert(Aadsts(code));
    answer
}

const CHECK: &str = "Please check your federated identity credential Subject, Audience and Issuer against the presented \
                     assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation";

/// Status, OAuth error and text of a number.
fn words(code: u32, detail: &str) -> (u16, &'static str, String) {
    let no_match = |what: &str| {
        format!(
            "No matching federated identity record found for presented assertion {what} '{detail}'. {CHECK}"
        )
    };
    match code {
        70_021 => (400, "invalid_request", format!("No matching federated identity record found for presented assertion. {detail}")),
        700_211 => (401, "invalid_client", no_match("issuer")),
        700_212 => (401, "invalid_client", no_match("audience")),
        700_213 => (401, "invalid_client", no_match("subject")),
        7_002_137 => (401, "invalid_client", format!("{} Please make sure the federated identity credential Subject is '/eid1/c/pub/t/…'.", no_match("subject"))),
        7_002_138 => (
            401,
            "invalid_client",
            format!(
                "No matching federated identity record found for presented assertion subject '{detail}'. The subject matches with \
                 case-insensitive comparison, but not with case-sensitive comparison. {CHECK}"
            ),
        ),
        7_002_206 => (400, "invalid_request", "Forbidden token audience. Token audience must match the cloud-specific AAD Token Exchange App Uri.".to_owned()),
        7_002_381 => (
            401,
            "invalid_client",
            "Federated identity credentials issued by 'https://token.actions.githubusercontent.com/' for applications or managed \
             identities registered in this tenant must contain the enterprise claim with value 'contoso' but actual value is ''."
                .to_owned(),
        ),
        70_025 => (401, "invalid_client", format!("The client '{detail}' has no configured federated identity credentials.")),
        7_000_272 => (401, "invalid_client", "The certificate with identifier 'github' used to sign the federated credential could not be found in the metadata of identity provider.".to_owned()),
        50_166 | 501_661 | 90_061 => (400, "invalid_request", "Request to External OIDC endpoint failed.".to_owned()),
        700_024 => (
            401,
            "invalid_client",
            format!("Client assertion is not within its valid time range. Current time: {}, assertion valid from and expiry time of assertion: {detail}.", now()),
        ),
        700_027 => (401, "invalid_client", "Client assertion contains an invalid signature. [Reason - The key was not found.]".to_owned()),
        50_027 => (400, "invalid_request", "JWT token is invalid or malformed.".to_owned()),
        700_016 => (
            400,
            "unauthorized_client",
            format!(
                "Application with identifier '{detail}' was not found in the directory 'Contoso'. This can happen if the application \
                 has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have \
                 sent your authentication request to the wrong tenant."
            ),
        ),
        90_002 => (
            400,
            "invalid_request",
            format!("Tenant '{detail}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."),
        ),
        900_023 => (400, "invalid_request", format!("Specified tenant identifier '{detail}' is neither a valid DNS name, nor a valid external domain.")),
        900_144 => (400, "invalid_request", format!("The request body must contain the following parameter: '{detail}'.")),
        900_382 | 900_432 => (400, "invalid_request", "Confidential Client is not supported in Cross Cloud request.".to_owned()),
        500_011 => (400, "invalid_resource", format!("The resource principal named {detail} was not found in the tenant named Contoso.")),
        1_002_012 => (
            400,
            "invalid_scope",
            format!(
                "The provided value for scope {detail} is not valid. Client credential flows must have a scope value with /.default \
                 suffixed to the resource identifier (application ID URI)."
            ),
        ),
        7_000_218 => (401, "invalid_client", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.".to_owned()),
        50_033 | 90_006 | 90_012 | 90_024 | 90_033 => (503, "temporarily_unavailable", "A transient error has occurred. Please try again.".to_owned()),
        90_055 => (429, "temporarily_unavailable", "Tenant throttled due to too many requests.".to_owned()),
        53_003 => (
            400,
            "interaction_required",
            "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.".to_owned(),
        ),
        _ => (400, "invalid_request", format!("The request was refused. {detail}")),
    }
}

/// MSAL's instance discovery and OpenID Connect Discovery 1.0.
pub(crate) fn discovery(request: &Request) -> Answer {
    if request.path.ends_with("/discovery/instance") {
        let entry = |network: &str, aliases: &[&str]| json!({ "preferred_network": network, "preferred_cache": aliases[0], "aliases": aliases });
        return json(
            200,
            &json!({
                "tenant_discovery_endpoint": format!("{}/{TENANT}/v2.0/.well-known/openid-configuration", request.base),
                "api-version": "1.1",
                "metadata": [
                    entry("login.microsoftonline.com", &["login.windows.net", "login.microsoftonline.com", "login.microsoft.com", "sts.windows.net"]),
                    entry("login.partner.microsoftonline.cn", &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"]),
                    entry("login.microsoftonline.us", &["login.microsoftonline.us", "login.usgovcloudapi.net"]),
                ],
            }),
        );
    }
    let start = request.path.trim_end_matches("/v2.0/.well-known/openid-configuration");
    let tenant = start.rsplit('/').next().unwrap_or_default();
    if tenant != TENANT && !["common", "organizations", "contoso.onmicrosoft.com"].contains(&tenant) {
        return refusal(90_002, request, tenant);
    }
    let base = format!("{}{start}", request.base);
    json(
        200,
        &json!({
            "issuer": entra_issuer(),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }),
    )
}
