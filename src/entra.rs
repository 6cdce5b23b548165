//! The exchange: an assertion in, an access token out (RFC 7523, 2.2; Microsoft Learn
//! "OAuth 2.0 client credentials flow", third case).

pub mod aadsts;

use std::{fmt::Write, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    assertion::{Assertion, Claims},
    clock::{self, Moment},
    config::Identity,
    error::{Hints, Presented},
    http::{self, Answer, Channel},
    identifiers::{ClientId, Endpoint, Scope, TenantId},
    retry::{self, Verdict},
    secret::Secret,
    text,
    ui::Ui,
};

/// Entra's answer to an accepted assertion.
#[derive(Debug)]
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// Whether it has nothing that JSON would escape, as no JWT has.
    pub is_plain: bool,
    /// What it is for.
    pub scope: Scope,
    /// When it was issued, in seconds since 1970, by this machine's clock.
    pub issued_at: u64,
    /// When it expires, in seconds since 1970, by this machine's clock.
    pub expires_on: u64,
    /// When it was received.
    pub received: Moment,
    /// Object id of the identity, where the token shows it.
    pub object_id: Option<String>,
    /// Client id of the identity, where the token shows it.
    pub client: Option<ClientId>,
    /// Its tenant, where the token shows it.
    pub tenant: Option<TenantId>,
    /// Resource id of a managed identity, where the token shows it.
    pub resource_id: Option<String>,
}

impl AccessToken {
    /// A token that has just been received, and what it shows of whose it is. (Entra leaves the form of access tokens
    /// open; it is read to name things and to refuse what is somebody else's, never to allow anything.)
    pub fn new(secret: Secret, scope: &Scope, lifetime: Duration) -> Self {
        let issued_at = clock::now();
        Self::issued(secret, scope.clone(), issued_at, issued_at.saturating_add(lifetime.as_secs()))
    }

    /// The same, with the times that another process received it and said.
    pub fn issued(secret: Secret, scope: Scope, issued_at: u64, expires_on: u64) -> Self {
        let claims = Claims::of(secret.expose()).unwrap_or_default();
        let is_plain =
            secret.expose().bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        Self {
            is_plain,
            scope,
            issued_at,
            received: Moment::now(),
            expires_on,
            object_id: claims.oid.filter(|id| Uuid::try_parse(id).is_ok()),
            client: claims.client.and_then(|id| id.parse().ok()),
            tenant: claims.tid.and_then(|id| id.parse().ok()),
            resource_id: claims.xms_mirid.filter(|id| !id.is_empty()),
            secret,
        }
    }

    /// How long it lives in all, in seconds.
    pub fn life(&self) -> u64 {
        self.expires_on.saturating_sub(self.issued_at)
    }

    /// How long it has yet to live, in seconds; a clock that was set meanwhile does not prolong it.
    pub fn left(&self) -> u64 {
        self.life().saturating_sub(self.received.elapsed().as_secs())
    }
}

/// Why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Entra said no.
    #[error("Microsoft Entra refused this job's token ({})", .0.label())]
    Refused(Box<Refusal>),
    /// Entra, or something before it, is not well.
    #[error("Microsoft Entra answered {status}{}", explain(.refusal.as_deref()))]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// What it asked for.
        retry_after: Option<Duration>,
        /// Its own words, if any.
        refusal: Option<Box<Refusal>>,
    },
    /// An answer with status 200 that holds no token; Entra does this at times.
    #[error("Microsoft Entra answered 200, but without an access token")]
    Unreadable,
    /// The way there.
    #[error("no access token from Microsoft Entra: {0}")]
    Http(#[from] http::Error),
    /// The mask could not be written.
    #[error("the access token could not be masked in this job's log: {0}")]
    Mask(std::io::Error),
}

fn explain(refusal: Option<&Refusal>) -> String {
    refusal.map_or_else(String::new, |refusal| format!(" ({})", refusal.label()))
}

/// An error answer of the token endpoint. Everything in it is foreign text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// OAuth's error code (RFC 6749, 5.2).
    #[serde(default)]
    pub error: String,
    /// A sentence for people.
    #[serde(default)]
    pub error_description: String,
    /// The AADSTS numbers: what to decide on.
    #[serde(default)]
    pub error_codes: Vec<u64>,
    /// When.
    #[serde(default)]
    pub timestamp: String,
    /// Microsoft's id of the answer.
    #[serde(default)]
    pub trace_id: String,
    /// Microsoft's id of the request.
    #[serde(default)]
    pub correlation_id: String,
}

impl Refusal {
    /// The AADSTS number.
    pub fn code(&self) -> Option<u32> {
        self.error_codes.first().and_then(|code| u32::try_from(*code).ok())
    }

    fn label(&self) -> String {
        match self.code() {
            Some(code) => format!("AADSTS{code}"),
            None if self.error.is_empty() => "no reason given".to_owned(),
            None => text::one_line(&self.error),
        }
    }

    /// Entra's own words, without the ids that follow them.
    pub fn words(&self) -> String {
        text::one_line(self.error_description.split(" Trace ID:").next().unwrap_or_default())
    }
}

impl Error {
    /// What to do next.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Refused(refusal) => {
                refusal.code().and_then(aadsts::row).map_or(Verdict::Stop, |row| row.class.verdict(None))
            }
            // an answer that is not Entra's (a proxy's page, say) and that no later request would change
            Self::Unavailable { status, refusal: None, .. } if !retry::is_transient_status(*status) => {
                Verdict::Stop
            }
            Self::Unavailable { retry_after, refusal, .. } => refusal
                .as_deref()
                .and_then(Refusal::code)
                .and_then(aadsts::row)
                .map_or(Verdict::Again { retry_after: *retry_after }, |row| row.class.verdict(*retry_after)),
            Self::Unreadable => Verdict::Again { retry_after: None },
            Self::Http(error) if error.is_transient() => Verdict::Again { retry_after: None },
            Self::Http(_) | Self::Mask(_) => Verdict::Stop,
        }
    }

    /// Whether it may be that Entra does not know a new credential or identity yet.
    pub fn may_be_propagation(&self) -> bool {
        let row = self.refusal().and_then(Refusal::code).and_then(aadsts::row);
        row.is_some_and(|row| row.class == aadsts::Class::Propagation)
    }

    /// Whether Entra itself said no, for a reason that stays.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                !refusal.code().and_then(aadsts::row).is_some_and(|row| row.class == aadsts::Class::Transient)
            }
            _ => false,
        }
    }

    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unavailable { refusal, .. } => refusal.as_deref(),
            _ => None,
        }
    }

    /// What it means.
    pub fn cause(&self) -> Option<String> {
        let refusal = self.refusal()?;
        Some(match refusal.code().and_then(aadsts::row) {
            Some(row) => row.meaning.to_owned(),
            None => format!("its own words: {}", refusal.words()),
        })
    }

    /// The next steps.
    pub fn hints(&self, presented: &Presented) -> Hints {
        let Some(refusal) = self.refusal() else {
            return match self {
                Self::Http(error) if error.hint().is_some() => {
                    error.hint().map_or_else(Hints::none, Hints::one)
                }
                Self::Http(http::Error::Redirected { .. }) => {
                    Hints::one("check `--authority-host`: Entra's token endpoint does not redirect")
                }
                Self::Http(_) | Self::Unavailable { .. } => Hints::one(
                    "check that this machine reaches Microsoft Entra: proxy (HTTPS_PROXY, NO_PROXY), firewall, CA (SSL_CERT_FILE)",
                ),
                Self::Unreadable => Hints::one("run the job again"),
                _ => Hints::none(),
            };
        };
        let Some(row) = refusal.code().and_then(aadsts::row) else {
            return Hints::one(match refusal.code() {
                Some(code) => {
                    format!("look the code up: https://login.microsoftonline.com/error?code={code}")
                }
                None => "see what this authority's documentation says about it".to_owned(),
            });
        };
        if row.shows_command { presented.create_hints(row.fix) } else { Hints::one(row.fix) }
    }

    /// Whether it has an AADSTS number, as everything has that Entra itself says.
    pub fn has_code(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code().is_some())
    }

    /// The ids that Microsoft's support asks for, and where to read on.
    pub fn trace(&self) -> String {
        let Some(refusal) = self.refusal() else { return String::new() };
        let mut out = String::new();
        let shown = |value: &str| if value.is_empty() { "-".to_owned() } else { text::one_line(value) };
        let _ = writeln!(
            out,
            "azfed: trace {} correlation {} {}",
            shown(&refusal.trace_id),
            shown(&refusal.correlation_id),
            shown(&refusal.timestamp)
        );
        if let Some(row) = refusal.code().and_then(aadsts::row) {
            let anchor: Vec<String> = row.codes.iter().map(|code| format!("aadsts{code}")).collect();
            let _ = writeln!(out, "azfed: more: docs/errors.md#{}", anchor.join("-"));
        }
        out
    }
}

#[derive(Serialize)]
struct Request<'a> {
    client_id: &'a str,
    scope: &'a str,
    client_assertion_type: &'a str,
    client_assertion: &'a str,
    grant_type: &'a str,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(deserialize_with = "lifetime")]
    expires_in: u64,
}

/// Seconds, as a number or as text.
fn lifetime<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .map(|seconds| seconds.min(clock::LAST))
        .ok_or_else(|| serde::de::Error::custom("no number of seconds"))
}

/// One try to exchange the assertion for an access token to one scope. The token is masked before it is returned.
pub async fn exchange(
    channel: &Channel,
    endpoint: &Endpoint,
    identity: &Identity,
    assertion: &Assertion,
    scope: &Scope,
    ui: &Ui,
) -> Result<AccessToken, Error> {
    let request = channel
        .post(endpoint)
        .header("accept", "application/json")
        .header("client-request-id", &Uuid::new_v4().to_string())
        .header("return-client-request-id", "true")
        .form(&Request {
            client_id: identity.client.as_str(),
            scope: scope.as_str(),
            client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            client_assertion: assertion.jwt.expose(),
            grant_type: "client_credentials",
        })
        .carrying(&assertion.jwt);
    let answer = channel.send(endpoint, request).await?;
    let (secret, lifetime) = granted(&answer)?;
    ui.mask(&[&secret]).map_err(Error::Mask)?;
    Ok(AccessToken::new(secret, scope, lifetime))
}

/// The access token in Entra's answer, and how long it lives.
pub fn granted(answer: &Answer) -> Result<(Secret, Duration), Error> {
    if answer.status == 200 {
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| Error::Unreadable)?;
        if granted.access_token.is_empty()
            || granted.access_token.contains(|c: char| c.is_control() || c == ' ')
        {
            return Err(Error::Unreadable);
        }
        return Ok((Secret::new(granted.access_token), Duration::from_secs(granted.expires_in)));
    }
    let refusal: Option<Refusal> = serde_json::from_slice(&answer.body)
        .ok()
        .filter(|refusal: &Refusal| !refusal.error.is_empty() || !refusal.error_codes.is_empty());
    match refusal {
        Some(refusal) if !retry::is_transient_status(answer.status) => Err(Error::Refused(Box::new(refusal))),
        refusal => Err(Error::Unavailable {
            status: answer.status,
            retry_after: answer.retry_after,
            refusal: refusal.map(Box::new),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(description: &str) -> Refusal {
        serde_json::from_value(
            serde_json::json!({ "error": "invalid_client", "error_description": description }),
        )
        .unwrap()
    }

    #[test]
    fn words_show_neither_ids_nor_assertions() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";
        let shown =
            refusal(&format!("AADSTS99: token '{jwt}' is\r\n##vso[x] bad. Trace ID: 1 Correlation ID: 2"))
                .words();
        assert_eq!(shown, "AADSTS99: token '…' is  # #vso[x] bad.");
    }
}
