//! The platform's OIDC token, which Entra takes as a client assertion (RFC 7523), and what it claims.
//!
//! azfed reads claims to explain and to choose; it never verifies a signature: that is Entra's part.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::{clock, identifiers::Audience, secret::Secret};

/// Longest assertion that is looked at: more than any platform's, less than what hurts.
pub const LONGEST: usize = 1 << 20;

/// Why a text is not an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// White space in the middle, or characters that no JWT has.
    #[error("it has characters that no JWT has")]
    Characters,
    /// Not three parts.
    #[error("it is not a signed JWT (three parts with dots between)")]
    Parts,
    /// The middle part is not base64url of a JSON object.
    #[error("its claims are not JSON")]
    Claims,
}

/// An OIDC token with its claims read.
#[derive(Debug)]
pub struct Assertion {
    /// The token itself.
    pub jwt: Secret,
    /// What it claims.
    pub claims: Claims,
}

/// The claims that matter here (RFC 7519, 4.1). All of them are foreign text.
///
/// A claim of an unexpected type counts as missing: what is wrong with it is Entra's to judge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Subject.
    pub sub: String,
    /// Audiences; all platforms but Kubernetes give one.
    pub aud: Vec<String>,
    /// Expiry, in seconds since 1970.
    pub exp: Option<u64>,
    /// Issued at, in seconds since 1970.
    pub iat: Option<u64>,
    /// Object id of the identity, in Entra's tokens.
    pub oid: Option<String>,
    /// Client id of the identity, in Entra's tokens.
    pub client: Option<String>,
    /// Tenant, in Entra's tokens.
    pub tid: Option<String>,
    /// Resource id of the managed identity, or of the host whose own it is, in Entra's tokens.
    pub xms_mirid: Option<String>,
    /// Deployment environment, in GitHub's and GitLab's tokens.
    pub environment: Option<String>,
    /// `ref`: what the job runs for, in GitHub's tokens; its name, in GitLab's.
    pub git_ref: Option<String>,
    /// `branch` or `tag`.
    pub ref_type: Option<String>,
    /// The project, which GitLab's tokens alone have.
    pub project_path: Option<String>,
}

impl Claims {
    /// The time between issue and expiry; two minutes where the token does not say.
    pub fn life(&self) -> Duration {
        Duration::from_secs(self.exp.zip(self.iat).map_or(120, |(exp, iat)| exp.saturating_sub(iat)))
    }

    /// The time until expiry, by this machine's clock.
    pub fn left(&self, now: SystemTime) -> Duration {
        let expiry = self.exp.and_then(|exp| UNIX_EPOCH.checked_add(Duration::from_secs(exp)));
        expiry.map_or(self.life(), |expiry| expiry.duration_since(now).unwrap_or_default())
    }

    /// The claims of a JWT, unverified.
    pub fn of(jwt: &str) -> Result<Self, Malformed> {
        if jwt.is_empty() {
            return Err(Malformed::Empty);
        }
        if !jwt.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte)) {
            return Err(Malformed::Characters);
        }
        let mut parts = jwt.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed::Parts);
        };
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(Malformed::Parts);
        }
        let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| Malformed::Claims)?;
        let Ok(Value::Object(claims)) = serde_json::from_slice(&bytes) else {
            return Err(Malformed::Claims);
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some issuers write fractions"
        )]
        let seconds = |name: &str| {
            let value = claims.get(name)?;
            let seconds = value
                .as_u64()
                .or_else(|| value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64));
            Some(seconds?.min(clock::LAST))
        };
        Ok(Self {
            iss: text("iss").unwrap_or_default(),
            sub: text("sub").unwrap_or_default(),
            aud: match claims.get("aud") {
                Some(Value::String(one)) => vec![one.clone()],
                Some(Value::Array(many)) => {
                    many.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
                }
                _ => Vec::new(),
            },
            exp: seconds("exp"),
            iat: seconds("iat"),
            oid: text("oid"),
            client: text("appid").or_else(|| text("azp")),
            tid: text("tid"),
            xms_mirid: text("xms_mirid"),
            environment: text("environment"),
            git_ref: text("ref"),
            ref_type: text("ref_type"),
            project_path: text("project_path"),
        })
    }

    /// How long ago the token expired, if it did.
    pub fn expired_since(&self, now: SystemTime) -> Option<Duration> {
        let expiry = UNIX_EPOCH.checked_add(Duration::from_secs(self.exp?))?;
        now.duration_since(expiry).ok()
    }

    /// Whether the token is for this audience, among others perhaps.
    pub fn is_for(&self, audience: &Audience) -> bool {
        self.aud.iter().any(|aud| aud == audience.as_str())
    }
}

impl Assertion {
    /// Reads a token; white space around it does not count.
    pub fn parse(token: &Secret) -> Result<Self, Malformed> {
        let jwt = token.expose().trim();
        Ok(Self { claims: Claims::of(jwt)?, jwt: Secret::new(jwt.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn claims_are_read() {
        let token = jwt(
            r#"{"iss":"https://i","sub":"s","aud":["a","b"],"exp":1700000000.5,"iat":1,"nbf":"x","oid":"o"}"#,
        );
        let claims = Claims::of(&token).unwrap();
        assert_eq!((claims.iss.as_str(), claims.sub.as_str()), ("https://i", "s"));
        assert_eq!(claims.aud, ["a", "b"]);
        assert_eq!((claims.exp, claims.iat), (Some(1_700_000_000), Some(1)));
        assert!(claims.is_for(&"b".parse().unwrap()) && !claims.is_for(&"c".parse().unwrap()));
    }

    #[test]
    fn odd_types_count_as_missing() {
        let claims = Claims::of(&jwt(r#"{"iss":1,"sub":null,"aud":{},"exp":-5}"#)).unwrap();
        assert_eq!(claims, Claims::default());
        assert_eq!(Claims::of(&jwt(r#"{"exp":1e400}"#)), Err(Malformed::Claims));
        for huge in ["18446744073709551615", "1e300"] {
            let claims = Claims::of(&jwt(&format!(r#"{{"exp":{huge},"iat":0}}"#))).unwrap();
            assert_eq!(claims.exp, Some(clock::LAST));
            assert_eq!(claims.life() * 2, Duration::from_secs(clock::LAST * 2));
        }
    }

    #[test]
    fn what_is_no_jwt() {
        for (token, expected) in [
            ("", Malformed::Empty),
            ("a b", Malformed::Characters),
            ("<html>", Malformed::Characters),
            ("a.b", Malformed::Parts),
            ("a.b.", Malformed::Parts),
            ("a.b.c.d.e", Malformed::Parts),
            ("a.b.c", Malformed::Claims),
            ("e30.W10.c2ln", Malformed::Claims),
        ] {
            assert_eq!(Claims::of(token), Err(expected), "{token}");
        }
    }

    #[test]
    fn white_space_around_does_not_count() {
        let token = jwt("{}");
        let assertion = Assertion::parse(&Secret::new(format!("{token}\r\n"))).unwrap();
        assert_eq!(assertion.jwt.expose(), token);
    }

    #[test]
    fn expiry() {
        let claims = Claims { exp: Some(1000), ..Claims::default() };
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(claims.expired_since(at(999)), None);
        assert_eq!(claims.expired_since(at(1010)), Some(Duration::from_secs(10)));
        assert_eq!(Claims { exp: Some(u64::MAX), ..Claims::default() }.expired_since(at(1)), None);
    }
}
