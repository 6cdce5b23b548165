//! Google Cloud: the metadata server gives a workload an identity token of its service account.
//!
//! Sources: cloud.google.com `compute/docs/instances/verifying-instance-identity`, `docs/authentication/get-id-token`,
//! googleapis/google-cloud-go `compute/metadata` (the fixed address, `GCE_METADATA_HOST`).

use super::{Error, masked};
use crate::{
    assertion::Assertion,
    env::{Env, names},
    error::Hints,
    http::{self, Answer, Channel, host_channel},
    identifiers::{Audience, Endpoint},
    secret::Secret,
    text,
    ui::Ui,
};

/// The platform's name, and the one who is asked.
pub const NAME: &str = "Google Cloud's metadata server";
/// Every token's issuer.
pub const ISSUER: &str = "https://accounts.google.com";
/// The server's address. Its names are another's to resolve.
const ADDRESS: &str = "169.254.169.254";
const NAMES: [&str; 2] = ["metadata.google.internal", "metadata"];

/// A workload with a service account.
#[derive(Debug)]
pub struct GoogleCloud {
    pub(super) endpoint: Endpoint,
    channel: Channel,
}

impl GoogleCloud {
    /// The metadata server; never asks whether it is there.
    pub(super) fn detect(env: &Env) -> Result<Self, Error> {
        let variable = names::google_cloud::METADATA_HOST;
        let host = env.get(variable).map_or(ADDRESS, str::trim);
        let name = host.strip_suffix(":80").unwrap_or(host);
        let is_name = |known: &&str| name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(known);
        let host = if NAMES.iter().any(is_name) { ADDRESS } else { host };
        let base = Endpoint::of_cloud_host(&format!("http://{host}"))
            .map_err(|invalid| Error::Variable { variable, invalid })?;
        let endpoint = base.join("computeMetadata/v1/instance/service-accounts/default/identity");
        let channel = host_channel(None).map_err(|source| Error::Http { issuer: NAME, source })?;
        Ok(Self { endpoint, channel })
    }

    /// `GET …/identity?audience=<audience>&format=full`, which no page in a browser can send for its header.
    pub(super) async fn fetch_assertion(&self, audience: &Audience, ui: &Ui) -> Result<Assertion, Error> {
        let endpoint = self.endpoint.with_query("audience", audience.as_str()).with_query("format", "full");
        let request = self.channel.get(&endpoint).header("Metadata-Flavor", "Google");
        let answer = self.channel.send(&endpoint, request).await.map_err(absent)?;
        masked(ui, &issued(answer)?, NAME)
    }
}

/// The token in the metadata server's answer, which is nothing else.
pub fn issued(answer: Answer) -> Result<Secret, Error> {
    let body = String::from_utf8(answer.body).unwrap_or_default();
    if answer.status != 200 {
        let is_page = body.trim_start().starts_with('<');
        return Err(Error::Refused {
            issuer: NAME,
            status: answer.status,
            message: if is_page { String::new() } else { text::one_line(&body) },
            retry_after: answer.retry_after,
            request_id: None,
        });
    }
    Ok(Secret::new(body))
}

/// Where nothing answers, there is none, and asking again helps nobody.
fn absent(source: http::Error) -> Error {
    match source {
        http::Error::Unreachable { host, reason } => Error::NotGranted {
            issuer: NAME,
            missing: format!("{host}: {reason}"),
            hints: Hints::one(
                "Compute Engine, GKE, Cloud Run and Cloud Build have one at 169.254.169.254, unless GCE_METADATA_HOST names \
                 another; elsewhere leave `--source` away",
            ),
        },
        source => Error::Http { issuer: NAME, source },
    }
}

/// The next steps where the server says no.
pub(super) fn refused(status: u16) -> Hints {
    match status {
        404 => Hints::one(
            "give the instance, service or pod a service account (on GKE, Workload Identity Federation with an annotated \
             Kubernetes service account): without one there is no identity token",
        ),
        403 => Hints::one(
            "something between here and the metadata server added X-Forwarded-For, or removed Metadata-Flavor",
        ),
        _ => Hints::none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_on_this_host() {
        let at = |value: &str| {
            GoogleCloud::detect(&Env::from_pairs([("GCE_METADATA_HOST", value)]))
                .map(|found| found.endpoint.host())
        };
        assert_eq!(at("").unwrap(), "169.254.169.254");
        for name in [
            "metadata.google.internal",
            "Metadata.Google.Internal.:80",
            "metadata.google.internal:80",
            "metadata",
        ] {
            assert_eq!(at(name).unwrap(), "169.254.169.254", "{name}");
        }
        assert_eq!(at("[fd20:ce::254]").unwrap(), "[fd20:ce::254]");
        assert_eq!(at("127.0.0.1:8080").unwrap(), "127.0.0.1:8080");
        for wrong in ["metadata.example.com", "10.0.0.1", "user@169.254.169.254", "a b"] {
            assert!(matches!(at(wrong), Err(Error::Variable { .. })), "{wrong}");
        }
    }
}
