//! AWS: its Security Token Service gives a principal of an account with outbound federation a token.
//!
//! Sources: docs.aws.amazon.com `STS/latest/APIReference/API_GetWebIdentityToken`, `IAM/latest/UserGuide` "Create a
//! signed AWS API request", `sdkref/latest/guide` "Container credential provider", "Service-specific endpoints".

mod signature;

use std::{path::Path, time::SystemTime};

use serde::Deserialize;
use url::form_urlencoded;

pub use self::signature::Key;
use self::signature::Signed;
use super::{Error, masked};
use crate::{
    assertion::Assertion,
    env::{Env, names::aws as names},
    error::Hints,
    http::{Answer, Http, host_channel},
    identifiers::{Audience, Endpoint},
    secret::Secret,
    text,
    ui::Ui,
};

/// The platform's name, and the one who is asked.
pub const NAME: &str = "AWS STS";
/// Where ECS serves a container's credentials.
const CONTAINERS: &str = "http://169.254.170.2";
/// How long a token lives: as long as the exchange may take, and no longer than the temporary credential behind it.
const SECONDS: &str = "300";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// A workload with an IAM principal.
#[derive(Debug)]
pub struct Aws {
    pub(super) endpoint: Endpoint,
    region: String,
    credentials: Credentials,
}

/// Where the principal's own credential comes from.
#[derive(Debug)]
enum Credentials {
    Variables(Key),
    Container { endpoint: Endpoint, authorization: Option<Authorization> },
}

/// What opens a container's endpoint.
#[derive(Debug)]
enum Authorization {
    Value(Secret),
    File(String),
}

/// What that endpoint answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answered {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

impl Aws {
    pub(super) fn detect(env: &Env) -> Result<Self, Error> {
        let (_, region) =
            env.first(&[names::REGION, names::DEFAULT_REGION]).ok_or_else(|| Error::NotGranted {
                issuer: NAME,
                missing: format!("{} is not set", names::REGION),
                hints: Hints::one(
                    "set AWS_REGION: only the Security Token Service of a region issues such tokens",
                ),
            })?;
        let region = region.trim().to_owned();
        let well_formed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || !region.bytes().all(well_formed) {
            return Err(Error::Contradiction(format!(
                "{}: `{}` is not the name of a region",
                names::REGION,
                text::one_line(&region)
            )));
        }
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let regional = format!("https://sts.{region}.{domain}");
        let (variable, url) =
            env.first(&[names::ENDPOINT_URL_STS, names::ENDPOINT_URL]).unwrap_or((names::REGION, &regional));
        let endpoint = url.parse().map_err(|invalid| Error::Variable { variable, invalid })?;
        Ok(Self { endpoint, region, credentials: Credentials::detect(env)? })
    }

    /// `POST Action=GetWebIdentityToken`, signed. Entra takes RS256 and nothing else.
    pub(super) async fn fetch_assertion(
        &self,
        http: &Http,
        audience: &Audience,
        ui: &Ui,
    ) -> Result<Assertion, Error> {
        let failed = |source| Error::Http { issuer: NAME, source };
        let fetched;
        let key = match &self.credentials {
            Credentials::Variables(key) => key,
            Credentials::Container { endpoint, authorization } => {
                fetched = of_container(endpoint, authorization.as_ref(), http, ui).await?;
                &fetched
            }
        };
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "GetWebIdentityToken")
            .append_pair("Version", "2011-06-15")
            .append_pair("Audience.member.1", audience.as_str())
            .append_pair("SigningAlgorithm", "RS256")
            .append_pair("DurationSeconds", SECONDS)
            .finish();
        let mut headers = vec![("content-type", FORM.to_owned()), ("host", self.endpoint.host())];
        let signed = Signed {
            key,
            region: &self.region,
            service: "sts",
            path: self.endpoint.url().path(),
            now: SystemTime::now(),
        };
        let authorization = signed.authorization(&mut headers, &body);
        let channel = http.channel(&self.endpoint).map_err(failed)?;
        let mut request = channel.post(&self.endpoint);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(name, value);
        }
        if let Some(session) = &key.session {
            request = request.secret_header(signature::SESSION, session);
        }
        let request = request.secret_header("authorization", &authorization).body(body);
        let answer = channel.send(&self.endpoint, request).await.map_err(failed)?;
        masked(ui, &issued(answer)?, NAME)
    }

    /// The variables that it takes its part from.
    pub fn variables() -> Vec<&'static str> {
        vec![
            names::ACCESS_KEY_ID,
            names::SECRET_ACCESS_KEY,
            names::SESSION_TOKEN,
            names::REGION,
            names::DEFAULT_REGION,
            names::ENDPOINT_URL_STS,
            names::ENDPOINT_URL,
            names::CONTAINER_CREDENTIALS_RELATIVE_URI,
            names::CONTAINER_CREDENTIALS_FULL_URI,
            names::CONTAINER_AUTHORIZATION_TOKEN,
            names::CONTAINER_AUTHORIZATION_TOKEN_FILE,
        ]
    }
}

impl Credentials {
    /// The variables, else the container's endpoint: the order of AWS' own tools.
    fn detect(env: &Env) -> Result<Self, Error> {
        if let (Some(id), Some(secret)) =
            (env.get(names::ACCESS_KEY_ID), env.secret(names::SECRET_ACCESS_KEY))
        {
            let key = Key { id: id.trim().to_owned(), secret, session: env.secret(names::SESSION_TOKEN) };
            return Ok(Self::Variables(key));
        }
        let relative = names::CONTAINER_CREDENTIALS_RELATIVE_URI;
        let full = names::CONTAINER_CREDENTIALS_FULL_URI;
        let (variable, url) = match (env.get(relative), env.get(full)) {
            (Some(path), _) => (relative, format!("{CONTAINERS}/{}", path.trim().trim_start_matches('/'))),
            (None, Some(url)) => (full, url.trim().to_owned()),
            (None, None) => {
                return Err(Error::NotGranted {
                    issuer: NAME,
                    missing: format!(
                        "neither {} and {} nor a container's credentials are there",
                        names::ACCESS_KEY_ID,
                        names::SECRET_ACCESS_KEY
                    ),
                    hints: Hints::one(
                        "Lambda, ECS and EKS Pod Identity set them; elsewhere: `eval \"$(aws configure export-credentials --format env)\"`",
                    ),
                });
            }
        };
        // AWS' own tools take https wherever it leads
        let endpoint = url.parse::<Endpoint>().or_else(|_| Endpoint::of_cloud_host(&url));
        let endpoint = endpoint.map_err(|invalid| Error::Variable { variable, invalid })?;
        let authorization = match env.get(names::CONTAINER_AUTHORIZATION_TOKEN_FILE) {
            Some(file) => Some(Authorization::File(file.to_owned())),
            None => env.secret(names::CONTAINER_AUTHORIZATION_TOKEN).map(Authorization::Value),
        };
        Ok(Self::Container { endpoint, authorization })
    }
}

async fn of_container(
    endpoint: &Endpoint,
    authorization: Option<&Authorization>,
    http: &Http,
    ui: &Ui,
) -> Result<Key, Error> {
    let issuer = "AWS' endpoint of container credentials";
    let failed = |source| Error::Http { issuer, source };
    let channel =
        if endpoint.is_local() { host_channel(None) } else { http.channel(endpoint) }.map_err(failed)?;
    let mut request = channel.get(endpoint).header("accept", "application/json");
    let read;
    let opens = match authorization {
        None => None,
        Some(Authorization::Value(value)) => Some(value),
        Some(Authorization::File(path)) => {
            let content = super::stored::read(Path::new(path))?;
            read = Secret::new(content.expose().trim().to_owned());
            Some(&read)
        }
    };
    if let Some(opens) = opens {
        request = request.secret_header("authorization", opens);
    }
    let answer = channel.send(endpoint, request).await.map_err(failed)?;
    if answer.status != 200 {
        return Err(Error::Refused {
            issuer,
            status: answer.status,
            message: String::new(),
            retry_after: answer.retry_after,
            request_id: None,
        });
    }
    let key = key(issuer, &answer)?;
    let secrets: Vec<&Secret> = [Some(&key.secret), key.session.as_ref()].into_iter().flatten().collect();
    ui.mask(&secrets).map_err(Error::Mask)?;
    Ok(key)
}

/// The credential in the answer of a container's endpoint.
pub fn key(issuer: &'static str, answer: &Answer) -> Result<Key, Error> {
    let answered: Answered = serde_json::from_slice(&answer.body).map_err(|_| Error::Answer {
        issuer,
        status: answer.status,
        reason: "no `AccessKeyId` and `SecretAccessKey` in it".to_owned(),
    })?;
    Ok(Key {
        id: answered.access_key_id,
        secret: Secret::new(answered.secret_access_key),
        session: answered.token.map(Secret::new),
    })
}

/// The token in STS' answer.
pub fn issued(answer: Answer) -> Result<Secret, Error> {
    let text = Secret::new(String::from_utf8(answer.body).unwrap_or_default());
    if answer.status != 200 {
        let said = |tag| element(text.expose(), tag).map(text::one_line).unwrap_or_default();
        let (code, message) = (said("Code"), said("Message"));
        return Err(Error::Refused {
            issuer: NAME,
            status: answer.status,
            message: if code.is_empty() { code } else { format!("{code}: {message}") },
            retry_after: answer.retry_after,
            request_id: element(text.expose(), "RequestId").map(ToOwned::to_owned),
        });
    }
    let token = element(text.expose(), "WebIdentityToken").ok_or_else(|| Error::Answer {
        issuer: NAME,
        status: answer.status,
        reason: "no `WebIdentityToken` in it".to_owned(),
    })?;
    Ok(Secret::new(token.to_owned()))
}

/// The text of the first element of this name; STS' answers have no attributes, and tokens no markup.
fn element<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(text.trim())
}

/// The next steps where STS says no.
pub(super) fn refused(message: &str) -> Hints {
    let code = message.split_once(':').map_or(message, |(code, _)| code);
    match code.strip_suffix("Exception").unwrap_or(code) {
        "OutboundWebIdentityFederationDisabled" => Hints::with_lines(
            "an administrator of the AWS account turns outbound federation on, once:",
            &["aws iam enable-outbound-web-identity-federation"],
        ),
        "AccessDenied" => {
            Hints::one("allow the principal the action `sts:GetWebIdentityToken`, in a policy of its own")
        }
        "SignatureDoesNotMatch" => Hints::one("check this machine's clock, and AWS_SECRET_ACCESS_KEY"),
        "ExpiredToken" | "InvalidClientTokenId" | "UnrecognizedClient" => Hints::one(
            "get the credentials anew: AWS_SESSION_TOKEN must belong to AWS_ACCESS_KEY_ID, and has an end",
        ),
        "SessionDurationEscalation" => {
            Hints::one("the temporary credential ends within five minutes: get a new one before")
        }
        "InvalidAction" => Hints::one("use the endpoint of a region: the global one has no such tokens"),
        _ => Hints::none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [(&str, &str); 3] = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_REGION", "eu-central-1"),
    ];

    fn detect(pairs: &[(&str, &str)]) -> Result<Aws, Error> {
        Aws::detect(&Env::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn the_endpoint_is_the_regions() {
        assert_eq!(detect(&KEY).unwrap().endpoint.host(), "sts.eu-central-1.amazonaws.com");
        let china = [KEY[0], KEY[1], ("AWS_DEFAULT_REGION", "cn-north-1")];
        assert_eq!(detect(&china).unwrap().endpoint.host(), "sts.cn-north-1.amazonaws.com.cn");
        let vpc = [
            KEY[0],
            KEY[1],
            KEY[2],
            ("AWS_ENDPOINT_URL_STS", "https://sts.vpce.example"),
            ("AWS_ENDPOINT_URL", "https://x"),
        ];
        assert_eq!(detect(&vpc).unwrap().endpoint.host(), "sts.vpce.example");
        assert!(matches!(detect(&KEY[..2]), Err(Error::NotGranted { .. })));
        assert!(matches!(
            detect(&[KEY[0], KEY[1], ("AWS_REGION", "eu.evil.example/")]),
            Err(Error::Contradiction(_))
        ));
        assert!(matches!(
            detect(&[KEY[0], KEY[1], KEY[2], ("AWS_ENDPOINT_URL", "http://x")]),
            Err(Error::Variable { .. })
        ));
    }

    #[test]
    fn credentials_of_a_container_stay_on_the_host() {
        let with = |pair| detect(&[KEY[2], pair]);
        assert!(with(("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x")).is_ok());
        assert!(with(("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")).is_ok());
        assert!(matches!(
            with(("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/")),
            Err(Error::Variable { .. })
        ));
        assert!(matches!(with(("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")), Err(Error::NotGranted { .. })));
    }

    #[test]
    fn elements() {
        let xml = "<R>\n<WebIdentityToken>e30.e30.c2ln</WebIdentityToken></R>";
        assert_eq!(element(xml, "WebIdentityToken"), Some("e30.e30.c2ln"));
        assert_eq!(element("<Code>x", "Code"), None);
    }
}
