//! Identity maps, lists of credentials, and everything that a flag or a variable may be.
//!
//! The input: a text; behind a zero byte, the claims of the job that an identity map is read for.

use azfed::{
    assertion::Claims,
    error::Error,
    http::Thumbprint,
    identifiers::{
        Audience, Authority, ClientId, Endpoint, Invalid, ObjectId, ResourceId, Scope, ServiceConnectionId,
        SubjectClaim, SubscriptionId, TenantId, VariableName,
    },
    identity_map::{self, IdentityMap},
    nearest, text,
};

use super::{check, lexers};

/// One text as everything.
pub fn run(data: &[u8]) {
    let whole = String::from_utf8_lossy(data);
    let (text, claims) = whole.split_once('\0').unwrap_or((&whole, "{}"));
    map(text, claims);
    match nearest::read(text) {
        Ok(credentials) => {
            assert!(credentials.iter().all(|one| !one.name.is_empty() || text.contains("\"name\"")))
        }
        Err(reason) => check::inert(&text::one_line(&reason)),
    }
    identifiers(text);
    urls(text);
    let _ = text.parse::<Thumbprint>();
    // a word of a shell is one word, in a message too
    let word = text::shell_word(&text::one_line(text));
    assert_eq!(lexers::posix(&word), Some(vec![text::one_line(text)]), "{word:?}");
    assert!(text::inert(&word) == word || word.len() >= 2000, "{word:?}");
}

fn map(text: &str, claims: &str) {
    let failed = |reason| identity_map::Error::File { file: "identities.json".to_owned(), reason };
    let map = match IdentityMap::read(text).map_err(failed) {
        Ok(map) => map,
        Err(error) => return check::rendered(&Error::IdentityMap(error).render()),
    };
    for entry in map.entries() {
        assert!(entry.client_id().trim().parse::<ClientId>().is_ok());
        let names = [&entry.environment, &entry.branch, &entry.tag];
        assert!(entry.pull_request || names.iter().any(|name| name.is_some()), "an entry for every job");
    }
    let claims = Claims::of(&check::jwt(claims)).unwrap_or_default();
    match map.choose(&claims) {
        Ok(chosen) => {
            let is_it = |entry: &&identity_map::Entry| entry.client_id().parse() == Ok(chosen.client.clone());
            let entry = map.entries().iter().find(is_it).expect("an entry");
            if let Some(environment) =
                map.entries().iter().filter(is_it).find_map(|entry| entry.environment.as_ref())
                && map.entries().iter().filter(is_it).count() == 1
            {
                assert_eq!(claims.environment.as_ref(), Some(environment), "{entry:?}");
            }
        }
        Err(error) => check::rendered(&Error::IdentityMap(error).render()),
    }
}

fn identifiers(text: &str) {
    macro_rules! reads_itself {
        ($($name:ty),*) => {$(
            match text.parse::<$name>() {
                Ok(value) => {
                    check::inert(&text::one_line(value.as_str()));
                    assert!(!value.as_str().contains(|c: char| c.is_whitespace() || c.is_control()));
                    assert_eq!(value.as_str().parse::<$name>(), Ok(value.clone()));
                }
                Err(invalid) => said(&invalid),
            }
        )*};
    }
    reads_itself!(
        Audience,
        ClientId,
        ObjectId,
        ResourceId,
        Scope,
        ServiceConnectionId,
        SubjectClaim,
        SubscriptionId,
        TenantId,
        VariableName
    );
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(format!("{}/.default", scope.resource()), scope.as_str());
    }
    if let Ok(name) = text.parse::<VariableName>() {
        assert!(name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    }
}

fn urls(text: &str) {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => {
            assert!(endpoint.is_https() || endpoint.is_loopback());
            safe(&endpoint);
            let below = endpoint.join("a/b").with_query("a b", "c&d#e");
            assert_eq!(below.url().origin(), endpoint.url().origin());
            let last =
                below.url().query_pairs().last().map(|(name, value)| (name.into_owned(), value.into_owned()));
            assert_eq!(last, Some(("a b".to_owned(), "c&d#e".to_owned())));
            let base: Endpoint = "https://management.azure.com/".parse().expect("a URL");
            let is_same = endpoint.url().origin() == base.url().origin();
            assert_eq!(base.follow(text).is_some(), is_same);
        }
        Err(invalid) => said(&invalid),
    }
    match Endpoint::of_host(text) {
        Ok(endpoint) => {
            assert!(endpoint.is_local());
            safe(&endpoint);
        }
        Err(invalid) => said(&invalid),
    }
    match text.parse::<Authority>() {
        Ok(authority) => {
            let url: Endpoint = authority.as_str().parse().expect("a URL");
            if let Ok(tenant) = text.parse::<TenantId>() {
                tenants(&authority, &url, &tenant);
            }
            tenants(&authority, &url, &"contoso.onmicrosoft.com".parse().expect("a tenant"));
        }
        Err(invalid) => said(&invalid),
    }
    if let Ok(tenant) = text.parse::<TenantId>() {
        let authority: Authority = "https://login.microsoftonline.com/".parse().expect("a URL");
        let url: Endpoint = authority.as_str().parse().expect("a URL");
        tenants(&authority, &url, &tenant);
    }
}

fn tenants(authority: &Authority, base: &Endpoint, tenant: &TenantId) {
    let endpoint = authority.token_endpoint(tenant);
    assert_eq!(endpoint.url().origin(), base.url().origin());
    let path = format!("{}/{tenant}/oauth2/v2.0/token", base.url().path().trim_end_matches('/'));
    assert_eq!((endpoint.url().path(), endpoint.url().query()), (path.as_str(), None));
}

fn safe(endpoint: &Endpoint) {
    let url = endpoint.url();
    assert!(
        ["https", "http"].contains(&url.scheme()) && url.username().is_empty() && url.password().is_none()
    );
    check::inert(&endpoint.host());
    let (address, _) = endpoint.address();
    assert!(!address.is_empty());
}

fn said(invalid: &Invalid) {
    check::inert(&text::one_line(&invalid.to_string()));
    assert!(!invalid.to_string().contains('\n'));
}
