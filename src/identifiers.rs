//! Newtypes at the border. Their [`FromStr`] is the only validator, for flags and variables alike.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use url::{Host, Url};
use uuid::Uuid;

use crate::text;

/// Why a value cannot be what it was given as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// `$(NAME)`: an Azure DevOps macro whose variable does not exist, or that was read where macros are not expanded.
    #[error("`{0}` is an Azure DevOps macro that was not expanded: the variable does not exist in this job")]
    UnexpandedMacro(String),
    /// Not a GUID.
    #[error("`{0}` is not a GUID of the form 00000000-0000-0000-0000-000000000000")]
    NotAGuid(String),
    /// The nil GUID, which pipelines use as a place holder.
    #[error("00000000-0000-0000-0000-000000000000 is a place holder, not an id")]
    NilGuid,
    /// Neither a GUID nor a domain name.
    #[error("`{0}` is neither a tenant's GUID nor one of its domain names")]
    NotATenant(String),
    /// `common`, `organizations` and `consumers` have no service principals.
    #[error("`{0}` is not one tenant: a workload logs in to the tenant that its identity is in")]
    SharedTenant(String),
    /// Not a URL at all.
    #[error("`{0}` is not a URL")]
    NotAUrl(String),
    /// Plain http beyond this machine.
    #[error("`{0}` is not https (http is for loopback addresses only)")]
    NotHttps(String),
    /// Beyond this host's own network.
    #[error("`{0}` is not on this host: only loopback and link-local addresses are")]
    NotOnHost(String),
    /// Not a certificate's thumbprint.
    #[error("it is not the SHA-1 thumbprint of a certificate (40 hexadecimal digits)")]
    NotAThumbprint,
    /// Not a resource id.
    #[error("`{0}` is not a resource id of the form /subscriptions/<guid>/…")]
    NotAResourceId(String),
    /// Not where a role can be assigned.
    #[error(
        "`{0}` is no scope of a role: it is /subscriptions/<guid>, something below one, or \
         /providers/Microsoft.Management/managementGroups/<name>"
    )]
    NotARoleScope(String),
    /// User name, password, query or fragment in a base URL.
    #[error("`{0}` has more than a scheme, a host and a path")]
    NotABaseUrl(String),
    /// A scope that is no resource.
    #[error(
        "`{0}` is neither a resource URI, nor a resource's GUID, nor one of these with `/.default` behind it"
    )]
    NotAScope(String),
    /// An audience with white space or nothing in it.
    #[error("`{0}` is not an audience: it is empty or has white space in it")]
    NotAnAudience(String),
    /// A claim's name that no issuer has.
    #[error("`{0}` is not the name of a claim: lower-case letters and `_`")]
    NotAClaim(String),
    /// A variable name that no shell could set.
    #[error("`{0}` is not the name of an environment variable")]
    NotAVariable(String),
}

fn shown(value: &str) -> String {
    text::one_line(&value.chars().take(200).collect::<String>())
}

fn reject_macro(value: &str) -> Result<&str, Invalid> {
    let value = value.trim();
    if value.starts_with("$(") && value.ends_with(')') {
        return Err(Invalid::UnexpandedMacro(shown(value)));
    }
    Ok(value)
}

fn guid(value: &str) -> Result<String, Invalid> {
    let value = reject_macro(value)?;
    match Uuid::try_parse(value) {
        Ok(uuid) if value.len() == 36 && uuid.is_nil() => Err(Invalid::NilGuid),
        Ok(uuid) if value.len() == 36 => Ok(uuid.hyphenated().to_string()),
        _ => Err(Invalid::NotAGuid(shown(value))),
    }
}

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The validated text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

newtype! {
    /// Client (application) id of a managed identity or an app registration: a GUID, in lower case.
    ClientId
}
newtype! {
    /// Tenant: a GUID in lower case, or one of the tenant's domain names.
    TenantId
}
newtype! {
    /// Object (principal) id of a managed identity: a GUID, in lower case.
    ObjectId
}
newtype! {
    /// Azure resource id of a user-assigned managed identity.
    ResourceId
}
newtype! {
    /// Where a role is assigned: a subscription, what is below one, or a management group; no slash at its end.
    RoleScope
}
newtype! {
    /// Subscription id: a GUID, in lower case.
    SubscriptionId
}
newtype! {
    /// Azure DevOps service connection id: a GUID, in lower case.
    ServiceConnectionId
}
newtype! {
    /// Audience of an assertion, as the federated identity credential names it.
    Audience
}
newtype! {
    /// One resource's `/.default` scope.
    Scope
}
newtype! {
    /// Name of an environment variable.
    VariableName
}
newtype! {
    /// Name of the claim that an issuer is to make the subject.
    SubjectClaim
}

impl FromStr for ClientId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        guid(value).map(Self)
    }
}

impl FromStr for ObjectId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        guid(value).map(Self)
    }
}

impl FromStr for ResourceId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?.trim_end_matches('/');
        if is_in_subscription(value) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::NotAResourceId(shown(value)))
        }
    }
}

impl ResourceId {
    /// Its resource group and name, if it is a user-assigned managed identity's.
    pub fn managed_identity(&self) -> Option<(&str, &str)> {
        let segments: Vec<&str> = self.0.split('/').collect();
        let [_, _, _, groups, group, providers, namespace, kind, name] = segments.as_slice() else {
            return None;
        };
        let is_one = groups.eq_ignore_ascii_case("resourceGroups")
            && providers.eq_ignore_ascii_case("providers")
            && namespace.eq_ignore_ascii_case("Microsoft.ManagedIdentity")
            && kind.eq_ignore_ascii_case("userAssignedIdentities");
        (is_one && is_name(group) && is_name(name)).then_some((*group, *name))
    }
}

impl FromStr for RoleScope {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?;
        let scope = value.strip_suffix('/').unwrap_or(value);
        let group = match scope.split('/').collect::<Vec<_>>().as_slice() {
            ["", providers, namespace, kind, name] => {
                providers.eq_ignore_ascii_case("providers")
                    && namespace.eq_ignore_ascii_case("Microsoft.Management")
                    && kind.eq_ignore_ascii_case("managementGroups")
                    && is_name(name)
            }
            _ => false,
        };
        if group || is_in_subscription(scope) {
            Ok(Self(scope.to_owned()))
        } else {
            Err(Invalid::NotARoleScope(shown(value)))
        }
    }
}

/// A subscription's path or one below it, which leads nowhere else in a URL.
fn is_in_subscription(path: &str) -> bool {
    let mut segments = path.split('/');
    let starts = segments.next() == Some("")
        && segments.next().is_some_and(|segment| segment.eq_ignore_ascii_case("subscriptions"))
        && segments.next().is_some_and(|id| guid(id).is_ok_and(|guid| guid.len() == id.len()));
    starts && path.len() <= 600 && segments.all(|segment| is_segment(segment, "-_.()$~@+,=:"))
}

/// A name of Azure's that stands in a path and on a command line as what it is.
pub fn is_name(name: &str) -> bool {
    name.chars().count() <= 128 && !name.starts_with('-') && is_segment(name, "-_.()")
}

/// One segment of a path: nothing but letters, digits and these, and not dots alone.
fn is_segment(segment: &str, others: &str) -> bool {
    let allowed = |c: char| (c.is_alphanumeric() && !text::is_hidden(c)) || others.contains(c);
    !segment.chars().all(|c| c == '.') && segment.chars().all(allowed)
}

impl FromStr for SubscriptionId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        guid(value).map(Self)
    }
}

impl FromStr for ServiceConnectionId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        guid(value).map(Self)
    }
}

impl FromStr for TenantId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?;
        if ["common", "organizations", "consumers"].contains(&value.to_ascii_lowercase().as_str()) {
            return Err(Invalid::SharedTenant(shown(value)));
        }
        match guid(value) {
            Ok(guid) => Ok(Self(guid)),
            Err(Invalid::NilGuid) => Err(Invalid::NilGuid),
            Err(_) if is_domain(value) => Ok(Self(value.to_ascii_lowercase())),
            Err(_) => Err(Invalid::NotATenant(shown(value))),
        }
    }
}

/// A DNS name of at least two labels (RFC 1035, 2.3.1), which is also what keeps a tenant from changing the URL's path.
fn is_domain(value: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    value.len() <= 253 && value.contains('.') && value.split('.').all(label)
}

impl FromStr for Audience {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?;
        // 600 characters: the limit of a federated identity credential's fields
        if value.is_empty()
            || value.len() > 600
            || value.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(Invalid::NotAnAudience(shown(value)));
        }
        Ok(Self(value.to_owned()))
    }
}

impl Audience {
    /// The scope of tokens for this audience.
    pub fn scope(&self) -> Scope {
        Scope(format!("{}/.default", self.0))
    }
}

impl Scope {
    /// The resource: the scope without `/.default`.
    pub fn resource(&self) -> &str {
        self.0.strip_suffix("/.default").unwrap_or(&self.0)
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?;
        let resource = value.strip_suffix("/.default").unwrap_or(value);
        let uri = resource.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !rest.is_empty()
        });
        let inert = !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',');
        if inert && resource.len() <= 600 && (uri || guid(resource).is_ok()) {
            Ok(Self(format!("{resource}/.default")))
        } else {
            Err(Invalid::NotAScope(shown(value)))
        }
    }
}

impl FromStr for SubjectClaim {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?;
        let first = value.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if first && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::NotAClaim(shown(value)))
        }
    }
}

impl FromStr for VariableName {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let first = value.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if first && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::NotAVariable(shown(value)))
        }
    }
}

/// A URL that azfed may send a credential to: https, or http on a loopback address.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it stays on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether no router passes it on, and no proxy is asked: loopback, a link-local address, or one of those that a
    /// cloud's hosts answer themselves.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.0) || is_link_local(&self.0) || is_cloud_hosts(&self.0)
    }

    /// An endpoint of the host that this runs on: a loopback or link-local address. App Service and Container Instances
    /// serve theirs below 169.254.0.0/16, as every cloud does its instance metadata; no router passes such an address on
    /// (RFC 3927, 2.7), so what is sent there in the clear stays between host and guest.
    pub fn of_host(value: &str) -> Result<Self, Invalid> {
        let url = match value.parse() {
            Ok(Self(url)) => url,
            Err(Invalid::NotHttps(shown)) => match Url::parse(value.trim()) {
                Ok(url) if url.scheme() == "http" => url,
                _ => return Err(Invalid::NotOnHost(shown)),
            },
            Err(invalid) => return Err(invalid),
        };
        let endpoint = Self(url);
        let is_on_host = is_loopback(&endpoint.0) || is_link_local(&endpoint.0);
        if is_on_host { Ok(endpoint) } else { Err(Invalid::NotOnHost(endpoint.origin())) }
    }

    /// The same, or one of the addresses in version 6 that AWS and Google Cloud have for their hosts' services.
    pub fn of_cloud_host(value: &str) -> Result<Self, Invalid> {
        Self::of_host(value).or_else(|invalid| match Url::parse(value.trim()) {
            Ok(url) if url.scheme() == "http" && url.username().is_empty() && is_cloud_hosts(&url) => {
                Ok(Self(url))
            }
            _ => Err(invalid),
        })
    }

    /// Scheme and host, which may be shown.
    fn origin(&self) -> String {
        shown(&format!("{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default()))
    }

    /// Whether it needs TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Host and port, the part that may be shown.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Name or address, and port, where a connection goes.
    pub fn address(&self) -> (String, u16) {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        (host.to_owned(), self.0.port_or_known_default().unwrap_or_default())
    }

    /// A path below this one.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        Self(url)
    }

    /// The same place under another host name.
    pub fn with_host(&self, name: &str) -> Option<Self> {
        let mut url = self.0.clone();
        url.set_host(Some(name)).ok()?;
        Some(Self(url))
    }

    /// A link that a server gave, if it leads to this endpoint's own server.
    pub fn follow(&self, link: &str) -> Option<Self> {
        let next: Self = link.parse().ok()?;
        (next.0.origin() == self.0.origin()).then_some(next)
    }

    /// This endpoint with one more query pair.
    #[must_use]
    pub fn with_query(&self, name: &str, value: &str) -> Self {
        let mut url = self.0.clone();
        url.query_pairs_mut().append_pair(name, value);
        Self(url)
    }
}

impl fmt::Debug for Endpoint {
    /// Without path and query: some platforms put an authorisation there.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Endpoint({}://{})", self.0.scheme(), self.host())
    }
}

impl FromStr for Endpoint {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?;
        // what is no URL may have a password in front of its `@` in any form
        let shown = |value: &str| match value.rsplit_once('@') {
            Some((_, host)) => shown(&format!("…@{host}")),
            None => shown(value),
        };
        let url = Url::parse(value).map_err(|_| Invalid::NotAUrl(shown(value)))?;
        // the longest name and the longest label (RFC 1035, 2.3.4): no token is a host's name
        let is_name = |name: &str| name.len() <= 253 && name.split('.').all(|label| label.len() <= 63);
        let is_host = match url.host() {
            None => false,
            Some(Host::Domain(name)) => is_name(name),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        };
        if !is_host {
            return Err(Invalid::NotAUrl(shown(value)));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Invalid::NotABaseUrl(format!(
                "{}://…@{}",
                url.scheme(),
                url.host_str().unwrap_or_default()
            )));
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            _ => Err(Invalid::NotHttps(Self(url).origin())),
        }
    }
}

/// `localhost` counts (RFC 6761, 6.3), other names do not, wherever they resolve to.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// EKS Pod Identity's address and Google Cloud's metadata server, where the network has no version 4 (AWS SDKs and Tools
/// Reference Guide, "Container credential provider"; Google Cloud documentation, "About VM metadata").
fn is_cloud_hosts(url: &Url) -> bool {
    const EKS_POD_IDENTITY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23);
    const GOOGLE_CLOUD: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    matches!(url.host(), Some(Host::Ipv6(EKS_POD_IDENTITY | GOOGLE_CLOUD)))
}

fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_unicast_link_local(),
        _ => false,
    }
}

/// Base URL of an Entra cloud: `https://login.microsoftonline.com/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority(Endpoint);

impl Authority {
    /// The tenant's token endpoint (Microsoft identity platform, v2.0).
    pub fn token_endpoint(&self, tenant: &TenantId) -> Endpoint {
        let mut url = self.0.url().clone();
        url.set_path(&format!("{}/{tenant}/oauth2/v2.0/token", url.path().trim_end_matches('/')));
        Endpoint(url)
    }

    /// The tenant's discovery document (OpenID Connect Discovery 1.0, 4), or that of all tenants.
    pub fn discovery_endpoint(&self, tenant: Option<&TenantId>) -> Endpoint {
        let tenant = tenant.map_or("common", TenantId::as_str);
        self.0.join(&format!("{tenant}/v2.0/.well-known/openid-configuration"))
    }

    /// Host and port, as MSAL's token cache names an environment.
    pub fn host(&self) -> String {
        self.0.host()
    }

    /// The base URL, with a trailing slash.
    pub fn as_str(&self) -> &str {
        self.0.url().as_str()
    }
}

impl FromStr for Authority {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let value = reject_macro(value)?;
        // a bare host name is what some tools take for AZURE_AUTHORITY_HOST
        let with_scheme = if value.contains("://") { value.to_owned() } else { format!("https://{value}") };
        let endpoint: Endpoint = with_scheme.parse()?;
        let url = endpoint.url();
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Invalid::NotABaseUrl(shown(value)));
        }
        Ok(Self(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids() {
        let id: ClientId = " 11111111-AAAA-4111-8111-111111111111\n".parse().unwrap();
        assert_eq!(id.as_str(), "11111111-aaaa-4111-8111-111111111111");
        for wrong in ["", "x", "{11111111-1111-4111-8111-111111111111}", "11111111111141118111111111111111"] {
            assert!(matches!(wrong.parse::<ClientId>(), Err(Invalid::NotAGuid(_))), "{wrong}");
        }
        assert_eq!("00000000-0000-0000-0000-000000000000".parse::<ClientId>(), Err(Invalid::NilGuid));
        assert_eq!(
            "$(clientId)".parse::<ClientId>(),
            Err(Invalid::UnexpandedMacro("$(clientId)".to_owned()))
        );
    }

    #[test]
    fn paths_lead_nowhere_else() {
        const SUBSCRIPTION: &str = "/subscriptions/44444444-4444-4444-8444-444444444444";
        for below in
            ["", "/", "/resourceGroups/größe", "/resourceGroups/g/providers/M.Storage/x/y/containers/$web"]
        {
            let scope: RoleScope = format!("{SUBSCRIPTION}{below}").parse().unwrap();
            assert_eq!(scope.as_str(), format!("{SUBSCRIPTION}{}", below.trim_end_matches('/')));
        }
        "/providers/Microsoft.Management/managementGroups/contoso".parse::<RoleScope>().unwrap();
        for wrong in [
            "",
            "/",
            "//",
            "/subscriptions/mine",
            "/subscriptions/{44444444-4444-4444-8444-444444444444}",
            "/providers/Microsoft.Management/managementGroups/",
            "/providers/Microsoft.Management/managementGroups/a/b",
            "/providers/Microsoft.Management/managementGroups/..",
            "/providers/Microsoft.Authorization",
            "https://elsewhere/subscriptions/44444444-4444-4444-8444-444444444444",
        ] {
            assert!(wrong.parse::<RoleScope>().is_err(), "{wrong}");
        }
        for wrong in [
            "//",
            "/.",
            "/..",
            "/x/../../y",
            "/x//y",
            "/a%2fb",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/a b",
            "/a\u{200b}",
            "/\n",
        ] {
            let wrong = format!("{SUBSCRIPTION}/resourceGroups{wrong}/z");
            assert!(wrong.parse::<RoleScope>().is_err() && wrong.parse::<ResourceId>().is_err(), "{wrong:?}");
        }
        let identity = format!(
            "{SUBSCRIPTION}/resourcegroups/ids/providers/Microsoft.ManagedIdentity/userAssignedIdentities/infra-prod"
        );
        assert_eq!(identity.parse::<ResourceId>().unwrap().managed_identity(), Some(("ids", "infra-prod")));
        let other = identity.replace("userAssignedIdentities", "other");
        assert_eq!(other.parse::<ResourceId>().unwrap().managed_identity(), None);
    }

    #[test]
    fn tenants() {
        for right in ["22222222-2222-4222-8222-222222222222", "contoso.onmicrosoft.com", "Contoso.com"] {
            right.parse::<TenantId>().unwrap();
        }
        for wrong in ["contoso", "a/../b.com", "a b.com", "", ".com", "-a.com", "x.com?y"] {
            assert!(matches!(wrong.parse::<TenantId>(), Err(Invalid::NotATenant(_))), "{wrong}");
        }
        assert!(matches!("Common".parse::<TenantId>(), Err(Invalid::SharedTenant(_))));
    }

    #[test]
    fn endpoints() {
        for right in
            ["https://example.com/x?y=z", "http://127.0.0.1:8080/", "http://[::1]/x", "http://localhost:1/"]
        {
            right.parse::<Endpoint>().unwrap();
        }
        for wrong in
            ["http://example.com/", "http://localhost.example.com/", "ftp://127.0.0.1/", "http://10.0.0.1/"]
        {
            assert!(matches!(wrong.parse::<Endpoint>(), Err(Invalid::NotHttps(_))), "{wrong}");
        }
        assert!(matches!("https://user:pass@example.com/".parse::<Endpoint>(), Err(Invalid::NotABaseUrl(_))));
        assert!(matches!("nonsense".parse::<Endpoint>(), Err(Invalid::NotAUrl(_))));
        for clouds in ["http://[fd00:ec2::23]/x", "http://[fd20:ce::254]/x"] {
            assert!(
                Endpoint::of_cloud_host(clouds).is_ok() && Endpoint::of_host(clouds).is_err(),
                "{clouds}"
            );
        }
        assert!(Endpoint::of_cloud_host("http://[fd00::1]/").is_err());
        let here = ["127.0.0.1", "169.254.170.23", "[fe80::1]"];
        for (host, right) in
            here.map(|host| (host, true)).into_iter().chain([("[fd00::1]", false), ("10.0.0.1", false)])
        {
            for scheme in ["http", "https"] {
                assert_eq!(
                    Endpoint::of_host(&format!("{scheme}://{host}/x")).is_ok(),
                    right,
                    "{scheme} {host}"
                );
            }
        }
        for (label, right) in [("a".repeat(63), true), ("a".repeat(64), false), ("ab.".repeat(84), false)] {
            assert_eq!(format!("https://{label}.io/").parse::<Endpoint>().is_ok(), right, "{label}");
        }
        let base: Endpoint = "https://example.com/arm/?x=y".parse().unwrap();
        assert_eq!(base.join("a b").url().as_str(), "https://example.com/arm/a%20b?x=y");
        assert_eq!(base.address(), ("example.com".to_owned(), 443));
        assert_eq!("http://[::1]:8/".parse::<Endpoint>().unwrap().address(), ("::1".to_owned(), 8));
        assert!(base.follow("https://example.com/arm/next?page=2").is_some());
        for elsewhere in ["https://example.com:444/", "https://example.org/", "http://example.com/", "/arm"] {
            assert!(base.follow(elsewhere).is_none(), "{elsewhere}");
        }
        let shown = format!("{:?}", "https://example.com/secret?token=x".parse::<Endpoint>().unwrap());
        assert_eq!(shown, "Endpoint(https://example.com)");
    }

    #[test]
    fn authorities() {
        let tenant = "22222222-2222-4222-8222-222222222222".parse().unwrap();
        for (given, expected) in [
            ("login.microsoftonline.us", "https://login.microsoftonline.us/"),
            ("https://login.microsoftonline.com", "https://login.microsoftonline.com/"),
            ("http://127.0.0.1:9/entra/", "http://127.0.0.1:9/entra/"),
        ] {
            let authority: Authority = given.parse().unwrap();
            assert_eq!(
                authority.token_endpoint(&tenant).url().as_str(),
                format!("{expected}22222222-2222-4222-8222-222222222222/oauth2/v2.0/token")
            );
        }
        assert!(matches!("http://login.example.com".parse::<Authority>(), Err(Invalid::NotHttps(_))));
        assert!(matches!("https://a/?q".parse::<Authority>(), Err(Invalid::NotABaseUrl(_))));
    }

    #[test]
    fn scopes() {
        for (given, expected) in [
            ("https://vault.azure.net", "https://vault.azure.net/.default"),
            ("https://vault.azure.net/.default", "https://vault.azure.net/.default"),
            ("https://database.windows.net/", "https://database.windows.net//.default"),
            ("api://my-app", "api://my-app/.default"),
            ("6dae42f8-4368-4678-94ff-3960e28e3630", "6dae42f8-4368-4678-94ff-3960e28e3630/.default"),
        ] {
            assert_eq!(given.parse::<Scope>().unwrap().as_str(), expected);
        }
        for wrong in ["", "vault", "https://a https://b", "https://", "https://a,https://b", ".default"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables() {
        assert!("AZURE_ID_TOKEN".parse::<VariableName>().is_ok());
        for wrong in ["", "1A", "A-B", "A=B", "$A"] {
            assert!(wrong.parse::<VariableName>().is_err(), "{wrong}");
        }
    }
}
