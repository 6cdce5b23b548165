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
        APPLICATION, APPLICATION_OBJECT, BARE_IDENTITY, CLOUDS, FederatedCredential, HostIdentity, IDENTITY,
        OPERATOR_OBJECT, OTHER_APPLICATION, OTHER_APPLICATION_OBJECT, OTHER_TENANT, TENANT, World,
        exchange_issuer, is_exchange_issuer, now,
    },
};

/// The number of a refusal, for the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aadsts(pub u32);

/// Resources that the tenant knows; ARM has several names.
const RESOURCES: [&str; 5] = [
    "https://vault.azure.net",
    "https://storage.azure.com",
    "https://database.windows.net",
    "https://ossrdbms-aad.database.windows.net",
    "6dae42f8-4368-4678-94ff-3960e28e3630",
];

/// Microsoft Graph, by cloud.
const GRAPH: [&str; 3] =
    ["https://graph.microsoft.com", "https://graph.microsoft.us", "https://microsoftgraph.chinacloudapi.cn"];

/// What Entra writes for the exchange audience into tokens of its own, Azure DevOps' assertions among them; federated
/// credentials name the exchange audience.
pub(crate) const EXCHANGE_AUDIENCE: &str = "fb60f99c-7a34-4190-8149-302f77469936";

/// The cloud whose Entra was asked: by host, or by a path prefix on the loopback name.
pub(crate) fn cloud(request: &Request) -> usize {
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

/// The number of a refusal, and what its text names.
pub(crate) type Refused = (u32, String);

fn exchange(request: &Request, world: &World) -> Result<Answer, Refused> {
    let ask = Ask::read(request)?;
    check_assertion(&ask.assertion, &ask.client, ask.cloud, world)?;
    ask.grant(world)
}

/// What a client asks for, and shows.
pub(crate) struct Ask {
    principal: Principal,
    scope: String,
    cloud: usize,
    /// The client id.
    pub client: String,
    /// The assertion, not checked.
    pub assertion: String,
}

impl Ask {
    /// Takes a request apart.
    pub(crate) fn read(request: &Request) -> Result<Self, Refused> {
        let refuse = |code: u32, detail: &str| (code, detail.to_owned());
        if request.method != "POST" {
            return Err(refuse(900_561, "The endpoint only accepts POST requests."));
        }
        let cloud = cloud(request);
        let tenant =
            request.path.trim_end_matches("/oauth2/v2.0/token").rsplit('/').next().unwrap_or_default();
        if Uuid::try_parse(tenant).is_err() && !tenant.contains('.') {
            return Err(refuse(900_023, tenant));
        }
        let tenant = match tenant {
            TENANT | "contoso.onmicrosoft.com" => TENANT,
            OTHER_TENANT | "fabrikam.onmicrosoft.com" => OTHER_TENANT,
            unknown => return Err(refuse(90_002, unknown)),
        };
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
        let Some(principal) = Principal::find(tenant, client) else {
            return Err((700_016, client.to_owned()));
        };
        let assertion_type = field("client_assertion_type");
        let Some(assertion) = field("client_assertion") else {
            return Err(refuse(7_000_218, ""));
        };
        if assertion_type != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
            return Err(refuse(7_000_218, ""));
        }
        Ok(Self {
            principal,
            scope: scope.to_owned(),
            cloud,
            client: client.to_owned(),
            assertion: assertion.to_owned(),
        })
    }

    /// The token, where the assertion is good.
    pub(crate) fn grant(&self, world: &World) -> Result<Answer, Refused> {
        let resource = check_scope(&self.scope, self.cloud)?;
        Ok(grant(&self.principal, &resource, self.cloud, world))
    }
}

fn check_assertion(assertion: &str, client: &str, cloud: usize, world: &World) -> Result<(), Refused> {
    let parsed = Token::parse(assertion).ok_or((50_027, String::new()))?;
    let claim = |name: &str| parsed.claims[name].as_str().unwrap_or_default().to_owned();
    let (issuer, subject) = (claim("iss"), claim("sub"));
    let by_entra = is_exchange_issuer(&issuer);
    if issuer.starts_with("https://sts.windows.net/") {
        return Err((700_222, String::new()));
    }
    if by_entra && claim("idtyp") == "user" {
        return Err((700_229, String::new()));
    }
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
        [one] if by_entra && one == EXCHANGE_AUDIENCE => expected.to_owned(),
        _ if by_entra => return Err((7_002_206, String::new())),
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
    let of_managed_identity = Uuid::try_parse(&subject).is_ok();
    Err((if by_entra && !of_managed_identity { 7_002_137 } else { 700_213 }, subject))
}

fn check_scope(scope: &str, cloud: usize) -> Result<String, Refused> {
    if scope.contains(char::is_whitespace) {
        return Err((28_002, scope.to_owned()));
    }
    let Some(resource) = scope.strip_suffix("/.default") else {
        return Err((1_002_012, scope.to_owned()));
    };
    if is_resource(resource, cloud) { Ok(resource.to_owned()) } else { Err((500_011, resource.to_owned())) }
}

/// Whether the tenant knows such a resource.
pub(crate) fn is_resource(resource: &str, cloud: usize) -> bool {
    let name = resource.trim_end_matches('/');
    RESOURCES.contains(&name)
        || resource_manager_names(cloud).contains(&name)
        || name == GRAPH[cloud]
        || resource == CLOUDS[cloud].1
}

/// Whom tokens are issued to.
pub(crate) struct Principal {
    tenant: &'static str,
    client: String,
    object: String,
    /// The resource id of a managed identity.
    resource: Option<String>,
}

impl From<&HostIdentity> for Principal {
    fn from(identity: &HostIdentity) -> Self {
        Self {
            tenant: TENANT,
            client: identity.client_id.clone(),
            object: identity.object_id.clone(),
            resource: Some(identity.resource_id.clone()),
        }
    }
}

impl Principal {
    /// The service principal of a client in a tenant.
    pub(crate) fn find(tenant: &'static str, client: &str) -> Option<Self> {
        let application = |object: &str| {
            Some(Self { tenant, client: client.to_owned(), object: object.to_owned(), resource: None })
        };
        match (tenant, client) {
            (TENANT, IDENTITY) => Some(Self::from(&HostIdentity::infra_prod())),
            (TENANT, APPLICATION | BARE_IDENTITY | OTHER_APPLICATION) => application(APPLICATION_OBJECT),
            (OTHER_TENANT, OTHER_APPLICATION) => application(OTHER_APPLICATION_OBJECT),
            _ => None,
        }
    }
}

/// A token and its times.
pub(crate) struct Issued {
    pub jwt: String,
    pub at: u64,
    pub lifetime: u64,
}

/// A token for a resource: in the first version's form, as Entra writes them for Azure's resources, and in the second
/// version's for the exchange audience.
pub(crate) fn issue(principal: &Principal, resource: &str, cloud: usize, world: &World) -> Issued {
    let managed = principal.resource.is_some();
    let for_exchange = resource == CLOUDS[cloud].1;
    let usual = if managed || for_exchange { 86_400 } else { 3_600 };
    let lifetime = world.lock().settings.access_token_lifetime_s.unwrap_or(usual);
    let (tenant, at) = (principal.tenant, now());
    let mut claims = json!({
        "iat": at, "nbf": at, "exp": at + lifetime, "azp": principal.client, "idtyp": "app",
        "oid": principal.object, "sub": principal.object, "tid": tenant,
        "uti": Uuid::new_v4().simple().to_string(),
    });
    let more = if for_exchange {
        json!({ "aud": EXCHANGE_AUDIENCE, "iss": exchange_issuer(cloud).replace(TENANT, tenant), "azpacr": "2", "ver": "2.0" })
    } else {
        json!({
            "aud": resource, "iss": format!("https://sts.windows.net/{tenant}/"), "appid": principal.client,
            "appidacr": "2", "idp": format!("https://sts.windows.net/{tenant}/"), "ver": "1.0",
        })
    };
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if let Some(resource) = &principal.resource {
        claims["xms_mirid"] = json!(resource);
    }
    let jwt = world.entra.sign(&claims);
    world.remember_secret(&jwt);
    Issued { jwt, at, lifetime }
}

/// What the token endpoint answers.
fn grant(principal: &Principal, resource: &str, cloud: usize, world: &World) -> Answer {
    let Issued { jwt, lifetime, .. } = issue(principal, resource, cloud, world);
    let body = json!({
        "token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": jwt,
    });
    let answer = with(json(200, &body), "cache-control", "no-store");
    with(answer, "x-ms-request-id", &Uuid::new_v4().to_string())
}

/// What az has of an operator: an access token to Azure Resource Manager of the public cloud.
pub(crate) fn operator_token(world: &World) -> String {
    issue_to_operator(resource_manager_names(0)[0], world).jwt
}

/// The application that an operator has signed in with: the portal's, whose Cloud Shell it is (Microsoft Learn "Verify
/// first-party Microsoft applications in sign-in reports").
const PORTAL: &str = "b677c290-cf4b-4a8e-a60e-91ba650a4abe";

/// A user's token.
pub(crate) fn issue_to_operator(resource: &str, world: &World) -> Issued {
    let (at, lifetime) = (now(), 3_600);
    let jwt = world.entra.sign(&json!({
        "aud": resource, "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": at, "nbf": at, "exp": at + lifetime, "appid": PORTAL, "idtyp": "user",
        "oid": OPERATOR_OBJECT, "sub": OPERATOR_OBJECT, "tid": TENANT, "ver": "1.0",
    }));
    world.remember_secret(&jwt);
    Issued { jwt, at, lifetime }
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
        700_222 => (400, "invalid_request", "Microsoft Entra ID-issued tokens may not be used for federated identity credential flows.".to_owned()),
        700_229 => (400, "invalid_request", "Only app-only tokens can be used as federated identity credentials for the Microsoft Entra issuer.".to_owned()),
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
    let is_another = [OTHER_TENANT, "fabrikam.onmicrosoft.com"].contains(&tenant);
    if tenant != TENANT
        && !is_another
        && !["common", "organizations", "contoso.onmicrosoft.com"].contains(&tenant)
    {
        return refusal(90_002, request, tenant);
    }
    let base = format!("{}{start}", request.base);
    json(
        200,
        &json!({
            "issuer": exchange_issuer(0).replace(TENANT, if is_another { OTHER_TENANT } else { TENANT }),
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, object_of, read, world},
        issuers::{JobOverrides, Platform, mint},
        world::IDENTITY_OBJECT,
    };

    const ARM: &str = "https://management.azure.com/.default";
    const EXCHANGE: &str = "api://AzureADTokenExchange/.default";

    pub(crate) fn post(path: &str, client: &str, scope: &str, assertion: &str) -> Request {
        but(&get(&[], &[("content-type", "application/x-www-form-urlencoded")]), |request| {
            "POST".clone_into(&mut request.method);
            request.path = format!("/{path}/oauth2/v2.0/token");
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "client_credentials")
                .append_pair("client_id", client)
                .append_pair("scope", scope)
                .append_pair(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                )
                .append_pair("client_assertion", assertion)
                .finish();
            request.body = form.into_bytes();
        })
    }

    pub(crate) fn code(request: &Request, world: &World) -> Option<u32> {
        token(request, world).extensions().get::<Aadsts>().map(|aadsts| aadsts.0)
    }

    fn of(identity: &HostIdentity, resource: &str, world: &World) -> String {
        issue(&Principal::from(identity), resource, 0, world).jwt
    }

    #[test]
    fn a_managed_identity_is_a_credential_of_an_app() {
        let world = world(|_| ());
        let exchange = CLOUDS[0].1;
        let own = of(&HostIdentity::system(), exchange, &world);
        assert_eq!(object_of(token(&post(TENANT, APPLICATION, ARM, &own), &world)), APPLICATION_OBJECT);
        let shared = of(&HostIdentity::infra_prod(), exchange, &world);
        let foreign = token(&post(OTHER_TENANT, OTHER_APPLICATION, ARM, &shared), &world);
        let (_, body) = read(foreign);
        let claims = Token::parse(body["access_token"].as_str().unwrap()).unwrap().claims;
        assert_eq!(
            (&claims["tid"], &claims["oid"]),
            (&json!(OTHER_TENANT), &json!(OTHER_APPLICATION_OBJECT))
        );
        assert_eq!(claims["iss"], format!("https://sts.windows.net/{OTHER_TENANT}/"));
        let neighbours = of(&HostIdentity::neighbour(), exchange, &world);
        let for_arm = of(&HostIdentity::system(), "https://management.azure.com", &world);
        for (asked, expected) in [
            (post(TENANT, APPLICATION, ARM, &neighbours), 700_213),
            (post(OTHER_TENANT, OTHER_APPLICATION, ARM, &own), 700_213),
            (post(OTHER_TENANT, APPLICATION, ARM, &own), 700_016),
            (post(OTHER_TENANT, IDENTITY, ARM, &own), 700_016),
            (post(TENANT, BARE_IDENTITY, ARM, &own), 70_025),
            (post(&format!("usgov/{TENANT}"), APPLICATION, ARM, &own), 700_213),
            (post(TENANT, APPLICATION, ARM, &for_arm), 700_222),
        ] {
            assert_eq!(code(&asked, &world), Some(expected), "{asked:?}");
        }
    }

    #[test]
    fn two_hops_from_a_job() {
        let world = world(|_| ());
        let job = mint(&world, Platform::Github, None, &JobOverrides::default());
        let (status, body) = read(token(&post(TENANT, IDENTITY, EXCHANGE, &job), &world));
        assert_eq!(status, 200, "{body}");
        let between = body["access_token"].as_str().unwrap();
        let claims = Token::parse(between).unwrap().claims;
        assert_eq!(
            (&claims["iss"], &claims["aud"], &claims["sub"]),
            (&json!(exchange_issuer(0)), &json!(EXCHANGE_AUDIENCE), &json!(IDENTITY_OBJECT))
        );
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 86_400);
        assert_eq!(object_of(token(&post(TENANT, APPLICATION, ARM, between), &world)), APPLICATION_OBJECT);
    }

    #[test]
    fn a_sovereign_cloud_has_an_issuer_and_an_audience_of_its_own() {
        let world = world(|_| ());
        let overrides = JobOverrides { audience: Some(CLOUDS[1].1.to_owned()), ..JobOverrides::default() };
        let job = mint(&world, Platform::Gitlab, None, &overrides);
        let tenant = format!("usgov/{TENANT}");
        let scope = format!("{}/.default", CLOUDS[1].1);
        let (_, body) = read(token(&post(&tenant, IDENTITY, &scope, &job), &world));
        let between = body["access_token"].as_str().unwrap();
        let arm = "https://management.usgovcloudapi.net/.default";
        assert_eq!(object_of(token(&post(&tenant, APPLICATION, arm, between), &world)), APPLICATION_OBJECT);
        assert_eq!(code(&post(TENANT, APPLICATION, ARM, between), &world), Some(700_212));
        assert_eq!(code(&post(&tenant, IDENTITY, EXCHANGE, &job), &world), Some(500_011));
    }

    #[test]
    fn tokens_of_entra_that_are_no_assertions() {
        let world = world(|_| ());
        let users = issue_to_operator(CLOUDS[0].1, &world).jwt;
        assert_eq!(code(&post(TENANT, APPLICATION, ARM, &users), &world), Some(700_222));
        let claims = json!({
            "iss": exchange_issuer(0), "sub": IDENTITY_OBJECT, "aud": "https://vault.azure.net", "exp": now() + 60,
        });
        let elsewhere = world.entra.sign(&claims);
        assert_eq!(code(&post(TENANT, APPLICATION, ARM, &elsewhere), &world), Some(7_002_206));
        let user =
            world.entra.sign(&json!({ "iss": exchange_issuer(0), "idtyp": "user", "exp": now() + 60 }));
        assert_eq!(code(&post(TENANT, APPLICATION, ARM, &user), &world), Some(700_229));
    }
}
