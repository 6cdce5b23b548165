//! What Azure Resource Manager says of the identity: the subscriptions that it sees, and its federated credentials.
//!
//! Sources: Microsoft Learn REST "Subscriptions - List", "User Assigned Identities - List By Subscription", "Federated
//! Identity Credentials - List".

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    http::{self, Answer, Channel, Http},
    identifiers::{ClientId, Endpoint, ResourceId, SubscriptionId},
    nearest::{self, Credential},
    retry,
    secret::Secret,
    text,
};

const SUBSCRIPTIONS_VERSION: &str = "2022-12-01";
const IDENTITIES_VERSION: &str = "2023-01-31";
/// Pages of one list that are read; a page has up to a thousand entries.
const MOST_PAGES: usize = 20;
/// Subscriptions that are looked through for the identity.
const MOST_SUBSCRIPTIONS: usize = 20;
/// Tries of one request.
const MOST_TRIES: u32 = 3;

/// Why Azure Resource Manager told nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The way there.
    #[error("no answer from Azure Resource Manager: {0}")]
    Http(#[from] http::Error),
    /// It said no.
    #[error("Azure Resource Manager answered {status}{}", said(code, message))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its code, harmless.
        code: String,
        /// Its words, harmless.
        message: String,
    },
    /// An answer of another shape.
    #[error("Azure Resource Manager's answer has no list")]
    Unreadable,
    /// None in time.
    #[error("no answer from Azure Resource Manager in time")]
    Late,
}

fn said(code: &str, message: &str) -> String {
    match (code.is_empty(), message.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!(" ({code})"),
        (false, false) => format!(" ({code}): {message}"),
    }
}

impl Error {
    /// Whether the caller may not do what it asked for.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status: 403, .. })
    }
}

/// A subscription that the caller sees.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its id.
    pub subscription_id: String,
    /// Its name.
    #[serde(default)]
    pub display_name: String,
    /// `Enabled`, or why it cannot be used.
    #[serde(default)]
    pub state: String,
}

/// A user-assigned managed identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// Its path.
    id: ResourceId,
    /// Its name.
    pub name: String,
    /// Its resource group.
    pub resource_group: String,
}

/// Azure Resource Manager, as one caller sees it.
#[derive(Debug)]
pub struct ResourceManager<'a> {
    channel: Channel,
    base: &'a Endpoint,
    access_token: &'a Secret,
}

impl<'a> ResourceManager<'a> {
    /// A channel with a caller's access token.
    pub fn new(http: &Http, base: &'a Endpoint, access_token: &'a Secret) -> Result<Self, Error> {
        Ok(Self { channel: http.channel(base)?, base, access_token })
    }

    /// The subscriptions that the caller has a role in.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        let endpoint = self.base.join("subscriptions").with_query("api-version", SUBSCRIPTIONS_VERSION);
        // what is no id would lead elsewhere in a path, and may be of any length
        let subscription = |value| {
            let one: Subscription = serde_json::from_value(value).ok()?;
            let id: SubscriptionId = one.subscription_id.parse().ok()?;
            Some(Subscription { subscription_id: id.to_string(), ..one })
        };
        Ok(self.list(endpoint).await?.into_iter().filter_map(subscription).collect())
    }

    /// The identity with a client id, in the first of these subscriptions that has it.
    pub async fn find(
        &self,
        client: &ClientId,
        subscriptions: &[String],
    ) -> Result<Option<ManagedIdentity>, Error> {
        let mut refused = None;
        for subscription in subscriptions.iter().take(MOST_SUBSCRIPTIONS) {
            let path = format!(
                "subscriptions/{subscription}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
            );
            let endpoint = self.base.join(&path).with_query("api-version", IDENTITIES_VERSION);
            match self.list(endpoint).await {
                Ok(list) => {
                    if let Some(found) = list.iter().find_map(|value| managed_identity(value, client)) {
                        return Ok(Some(found));
                    }
                }
                Err(error @ Error::Refused { .. }) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// The identity's federated credentials.
    pub async fn credentials(&self, identity: &ManagedIdentity) -> Result<Vec<Credential>, Error> {
        let path = format!("{}/federatedIdentityCredentials", identity.id.as_str().trim_start_matches('/'));
        let endpoint = self.base.join(&path).with_query("api-version", IDENTITIES_VERSION);
        let list = Value::Array(self.list(endpoint).await?);
        nearest::read(&list.to_string()).map_err(|_| Error::Unreadable)
    }

    /// Every entry of a list, page after page, as long as the links stay with the same server.
    async fn list(&self, first: Endpoint) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        let mut next = Some(first);
        for _ in 0..MOST_PAGES {
            let Some(endpoint) = next else { break };
            let answer = get(&self.channel, &endpoint, Some(self.access_token), None).await?;
            let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if answer.status != 200 {
                let word = |name: &str| text::one_line(body["error"][name].as_str().unwrap_or_default());
                return Err(Error::Refused {
                    status: answer.status,
                    code: word("code"),
                    message: word("message"),
                });
            }
            // an index would panic where the answer is no object
            let Some(Value::Array(page)) = body.get_mut("value").map(Value::take) else {
                return Err(Error::Unreadable);
            };
            all.extend(page);
            next = body["nextLink"].as_str().and_then(|link| self.base.follow(link));
        }
        Ok(all)
    }
}

/// A GET, asked again while the server has a passing fault and another try has time.
pub async fn get(
    channel: &Channel,
    endpoint: &Endpoint,
    bearer: Option<&Secret>,
    time: Option<Duration>,
) -> Result<Answer, http::Error> {
    let started = Instant::now();
    let mut next = 2;
    loop {
        let request = channel.get(endpoint).header("accept", "application/json");
        let request = match bearer {
            Some(bearer) => request.bearer(bearer),
            None => request,
        };
        let answered = channel.send(endpoint, request).await;
        let (passing, retry_after) = match &answered {
            Ok(answer) => (retry::is_transient_status(answer.status), answer.retry_after),
            Err(error) => (error.is_transient(), None),
        };
        let wait = if passing && next <= MOST_TRIES {
            retry::wait(next, retry_after, fastrand::f64())
        } else {
            None
        };
        match wait {
            // else what this try said is the last word
            Some(wait) if time.is_none_or(|time| started.elapsed() + wait < time) => {
                tokio::time::sleep(wait).await;
            }
            _ => return answered,
        }
        next += 1;
    }
}

/// The identity in a list's entry, if it is the one with this client id.
fn managed_identity(value: &Value, client: &ClientId) -> Option<ManagedIdentity> {
    let its: ClientId = value["properties"]["clientId"].as_str()?.parse().ok()?;
    let id: ResourceId = value["id"].as_str()?.parse().ok()?;
    let (group, name) = id.managed_identity()?;
    let (resource_group, name) = (group.to_owned(), name.to_owned());
    (its == *client).then_some(ManagedIdentity { id, name, resource_group })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_identity_is_known_by_its_client_id() {
        let client: ClientId = "aaaaaaaa-1111-4111-8111-111111111111".parse().unwrap();
        let entry = |id: &str, client: &str| json!({ "id": id, "name": "infra-prod", "properties": { "clientId": client } });
        let id = "/subscriptions/44444444-4444-4444-8444-444444444444/resourcegroups/ids/providers/Microsoft.ManagedIdentity/userAssignedIdentities/infra-prod";
        let found = managed_identity(&entry(id, "AAAAAAAA-1111-4111-8111-111111111111"), &client).unwrap();
        assert_eq!((found.name.as_str(), found.resource_group.as_str()), ("infra-prod", "ids"));
        for wrong in [
            entry(id, "bbbbbbbb-1111-4111-8111-111111111111"),
            entry("https://elsewhere/resourceGroups/ids", client.as_str()),
            entry("/subscriptions/s", client.as_str()),
            entry(&id.replace("/ids/", "/ids/../../x/"), client.as_str()),
            entry(&id.replace("infra-prod", "a\n#b"), client.as_str()),
            entry(&id.replace("infra-prod", "--help"), client.as_str()),
            json!({}),
            json!([]),
            json!("x"),
        ] {
            assert_eq!(managed_identity(&wrong, &client), None, "{wrong}");
        }
    }
}
