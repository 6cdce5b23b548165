//! Through which proxy a request goes, if any.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{ClientBuilder, NoProxy};
use url::Url;

use super::Error;
use crate::{
    env::{Env, names::system},
    identifiers::Endpoint,
};

/// The proxy for https, as the environment has it, else as the system has it: plain http never leaves this machine.
///
/// `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY`, `all_proxy`: the first that is not empty counts, as it does for curl and
/// Go. The HTTP client's own reading takes an empty one for the last word, and passes over one that makes no sense.
pub(super) struct Proxies {
    matcher: Matcher,
    variable: Option<Variable>,
}

/// A variable that names a proxy.
struct Variable {
    name: &'static str,
    meant: Result<reqwest::Proxy, &'static str>,
}

impl fmt::Debug for Proxies {
    /// Without the URL: it may hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.variable.as_ref().map(|variable| variable.name);
        formatter.debug_struct("Proxies").field("variable", &name).finish_non_exhaustive()
    }
}

impl Proxies {
    pub(super) fn of(env: &Env) -> Self {
        let first =
            |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, env.get(name)?)));
        let Some((name, value)) = first(system::HTTPS_PROXY).or_else(|| first(system::ALL_PROXY)) else {
            return Self { matcher: Matcher::from_system(), variable: None };
        };
        // `*.suffix` as Go reads it: the client knows `.suffix` alone
        let except = first(system::NO_PROXY).map_or("", |(_, value)| value).split(',').map(str::trim);
        let except: Vec<&str> =
            except.map(|one| if one.starts_with("*.") { &one[1..] } else { one }).collect();
        let except = except.join(",");
        // where the value makes no sense, any proxy tells which hosts would have gone through it
        let (url, meant) = match meant(value) {
            Ok(url) => (url.as_str().to_owned(), Ok(url)),
            Err(problem) => ("http://localhost".to_owned(), Err(problem)),
        };
        let meant = meant.and_then(|url| {
            let proxy = reqwest::Proxy::https(url).map_err(|_| NO_URL)?;
            Ok(proxy.no_proxy(NoProxy::from_string(&except)))
        });
        let matcher = Matcher::builder().https(url).no(except).build();
        Self { matcher, variable: Some(Variable { name, meant }) }
    }

    /// Host and port of the proxy that requests to an endpoint go through.
    pub(super) fn of_endpoint(&self, endpoint: &Endpoint) -> Result<Option<String>, Error> {
        if endpoint.is_local() {
            return Ok(None);
        }
        let uri: Option<hyper::Uri> = endpoint.url().as_str().parse().ok();
        let Some(proxy) = uri.and_then(|uri| self.matcher.intercept(&uri)) else { return Ok(None) };
        if let Some(Variable { name, meant: Err(problem) }) = &self.variable {
            return Err(Error::Proxy { variable: name, problem });
        }
        let host = proxy.uri().host().unwrap_or_default();
        Ok(Some(proxy.uri().port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))))
    }

    /// Whether that proxy is given a user and a password.
    pub(super) fn has_login(&self, endpoint: &Endpoint) -> bool {
        let uri: Option<hyper::Uri> = endpoint.url().as_str().parse().ok();
        uri.and_then(|uri| self.matcher.intercept(&uri)).is_some_and(|proxy| proxy.basic_auth().is_some())
    }

    /// A client that goes this way.
    pub(super) fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.variable {
            Some(Variable { meant: Ok(proxy), .. }) => builder.proxy(proxy.clone()),
            _ => builder,
        }
    }
}

const NO_URL: &str = "is not a proxy's URL";

/// A proxy's URL, or what is wrong with it.
fn meant(value: &str) -> Result<Url, &'static str> {
    let value = value.trim();
    let with_scheme = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&with_scheme).map_err(|_| NO_URL)?;
    if matches!(url.scheme(), "socks4" | "socks4a" | "socks5" | "socks5h") {
        return Err("names a SOCKS proxy, and azfed speaks HTTP with proxies");
    }
    // `/`, `?` or `#` in a password ends the host before the `@`: what stands before it would be taken for the host
    let after = [Some(url.path()), url.query(), url.fragment()];
    if after.into_iter().flatten().any(|part| part.contains('@')) {
        return Err("has a user or a password with a character that must be percent-encoded");
    }
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
    if usable { Ok(url) } else { Err(NO_URL) }
}

/// What the HTTP client says of a tunnel, in other words (hyper-util `client/legacy/connect/proxy/tunnel.rs`).
pub(super) enum Tunnel {
    /// 407.
    WantsLogin,
    /// Anything else.
    Failed(String),
}

impl Tunnel {
    /// What is said, where it is of a tunnel at all.
    pub(super) fn of(reason: &str) -> Option<Self> {
        let said = reason.strip_prefix("tunnel error: ")?;
        Some(match said.strip_prefix("failed to create underlying connection") {
            Some(cause) => Self::Failed(cause.trim_start_matches(": ").to_owned()),
            None if said.starts_with("proxy authorization required") => Self::WantsLogin,
            None if said.starts_with("unexpected end of file") => {
                Self::Failed("it hung up without an answer".to_owned())
            }
            None => Self::Failed("it did not open a tunnel".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(variables: &[(&str, &str)], endpoint: &str) -> String {
        let env = Env::from_pairs(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        match Proxies::of(&env).of_endpoint(&endpoint.parse().unwrap()) {
            Ok(Some(proxy)) => proxy,
            Ok(None) => "directly".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    const ENTRA: &str = "https://login.microsoftonline.com/x";

    #[test]
    fn the_first_variable_that_is_not_empty() {
        for (variables, expected) in [
            (&[("HTTPS_PROXY", "http://u:p@one:1"), ("https_proxy", "http://two:2")][..], "one:1"),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "http://two:2")], "two:2"),
            (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://three:3")], "three:3"),
            (&[("all_proxy", "four:4"), ("HTTP_PROXY", "http://five:5")], "four:4"),
            (&[("HTTPS_PROXY", "https://u:p@ss@six:6/")], "six:6"),
            (&[("HTTPS_PROXY", "http://one:1"), ("NO_PROXY", ""), ("no_proxy", "*")], "directly"),
            (&[("HTTPS_PROXY", "http://one:1"), ("NO_PROXY", "x, *.microsoftonline.com")], "directly"),
        ] {
            assert_eq!(way(variables, ENTRA), expected, "{variables:?}");
        }
    }

    #[test]
    fn one_that_makes_no_sense_is_an_error_where_it_would_count() {
        for value in
            ["http://[x", "socks5://u:p@x:1", "http://u:12/3@x:1", "http://u:1#2@x:1", "ftp://x", "http://"]
        {
            let said = way(&[("HTTPS_PROXY", value)], ENTRA);
            assert!(said.starts_with("HTTPS_PROXY ") && !said.contains("u:1"), "{value}: {said}");
            assert_eq!(
                way(&[("HTTPS_PROXY", value), ("NO_PROXY", ".microsoftonline.com")], ENTRA),
                "directly"
            );
            assert_eq!(way(&[("HTTPS_PROXY", value)], "https://127.0.0.1:1"), "directly");
        }
    }

    #[test]
    fn its_debug_form_has_no_password() {
        let env = Env::from_pairs([("ALL_PROXY".to_owned(), "http://u:sentinel@x:1".to_owned())]);
        assert!(!format!("{:?}", Proxies::of(&env)).contains("sentinel"));
    }
}
