//! AWS' Security Token Service, as far as outbound identity federation reaches: one action, signed.
//!
//! Sources: docs.aws.amazon.com `GetWebIdentityToken`, "Outbound identity federation", "Create a signed AWS API request"
//! (Signature Version 4) and its two worked examples.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    issuers::JobOverrides,
    message::{Answer, Request, answer},
    workloads::{self, Workload},
    world::{Names, World},
};

/// The access key's id.
pub(crate) const ACCESS_KEY: &str = "ASIAEMULATED00000001";
/// The region of the workload, and of the endpoint.
pub(crate) const REGION: &str = "eu-west-1";

const HOST: &str = "sts.eu-west-1.amazonaws.com";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// How far a request's time may be off.
const LEEWAY_S: u64 = 900;

/// Whether the account lets its principals have tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AwsFederation {
    /// It does.
    Enabled,
    /// Nobody has enabled it.
    Disabled,
}

pub(crate) fn secret_key(world: &World) -> String {
    format!("{}/secret", world.host_secret)
}

pub(crate) fn session_token(world: &World) -> String {
    format!("{}/session", world.host_secret)
}

/// The endpoint, as `AWS_ENDPOINT_URL_STS` names it.
pub(crate) fn endpoint(world: &World) -> String {
    let path = if world.lock().settings.names == Names::Real { "" } else { "/sts" };
    format!("{}{path}/", world.url_of(HOST))
}

struct Refused {
    status: u16,
    code: &'static str,
    message: String,
}

fn refused(status: u16, code: &'static str, message: impl Into<String>) -> Refused {
    Refused { status, code, message: message.into() }
}

/// `POST /` with a form, on the regional endpoint
pub(crate) fn sts(request: &Request, world: &World) -> Answer {
    let id = Uuid::new_v4();
    match judge(request, world) {
        Ok(result) => answer(
            200,
            "text/xml",
            format!(
                "<GetWebIdentityTokenResponse xmlns=\"{NAMESPACE}\"><GetWebIdentityTokenResult>{result}\
                 </GetWebIdentityTokenResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\
                 </GetWebIdentityTokenResponse>"
            ),
        ),
        Err(Refused { status, code, message }) => answer(
            status,
            "text/xml",
            format!(
                "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}\
                 </Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            ),
        ),
    }
}

fn judge(request: &Request, world: &World) -> Result<String, Refused> {
    let invalid = |text: String| refused(400, "ValidationError", text);
    if request.method != "POST" || !request.query.is_empty() {
        return Err(refused(400, "MalformedInput", "A form is expected, and no query."));
    }
    authorise(request, world)?;
    let form = request.form();
    let mut audiences = Vec::new();
    let mut duration = None;
    let mut algorithm = None;
    let mut operation = (None, None);
    for (index, (name, value)) in form.iter().enumerate() {
        if form[..index].iter().any(|(other, _)| other == name) {
            return Err(refused(400, "MalformedInput", format!("{name} comes more than once.")));
        }
        match name.as_str() {
            "Action" => operation.0 = Some(value.as_str()),
            "Version" => operation.1 = Some(value.as_str()),
            "SigningAlgorithm" => algorithm = Some(value.as_str()),
            "DurationSeconds" => duration = Some(value.as_str()),
            name if name
                .strip_prefix("Audience.member.")
                .is_some_and(|number| number.parse::<u8>().is_ok()) =>
            {
                audiences.push(value.as_str());
            }
            name => return Err(invalid(format!("{name} is not a parameter."))),
        }
    }
    let on_global_endpoint = request.host == "sts.amazonaws.com";
    if operation != (Some("GetWebIdentityToken"), Some("2011-06-15")) || on_global_endpoint {
        let (action, version) = (operation.0.unwrap_or_default(), operation.1.unwrap_or_default());
        let text = format!("Could not find operation {action} for version {version}");
        return Err(refused(400, "InvalidAction", text));
    }
    if world.lock().settings.aws_federation == AwsFederation::Disabled {
        let text = "The outbound web identity federation feature is not enabled for this account.";
        return Err(refused(403, "OutboundWebIdentityFederationDisabled", text));
    }
    let [audience] = audiences.as_slice() else {
        return Err(invalid("Between 1 and 10 audiences are expected; the emulator takes one.".to_owned()));
    };
    if audience.is_empty() || audience.len() > 1000 {
        return Err(invalid("An audience has between 1 and 1000 characters.".to_owned()));
    }
    if algorithm != Some("RS256") {
        return Err(invalid("SigningAlgorithm is RS256 or ES384; the emulator has RS256.".to_owned()));
    }
    let duration =
        duration.unwrap_or("300").parse::<u64>().ok().filter(|seconds| (60..=3600).contains(seconds));
    let duration = duration.ok_or_else(|| invalid("DurationSeconds is between 60 and 3600.".to_owned()))?;
    let job = world.lock().workload_job.clone();
    let job = JobOverrides { lifetime: job.lifetime.or(Some(duration)), ..job };
    let jwt = workloads::mint(world, Workload::Aws, Some(audience), &job);
    let ends = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(duration));
    Ok(format!("<WebIdentityToken>{jwt}</WebIdentityToken><Expiration>{ends}</Expiration>"))
}

/// Whether the request has the signature of the workload's key.
fn authorise(request: &Request, world: &World) -> Result<(), Refused> {
    let incomplete = |text: &str| refused(400, "IncompleteSignature", text);
    let header = request.header("authorization").ok_or_else(|| {
        refused(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
    })?;
    let parts =
        header.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| incomplete("Not AWS4-HMAC-SHA256."))?;
    let part = |name: &str| {
        let found = parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| incomplete(&format!("Authorization header requires {name}.")))
    };
    let (credential, signed, given) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let [key, date, region, service, end] = credential.split('/').collect::<Vec<_>>()[..] else {
        return Err(incomplete("The credential scope has five parts."));
    };
    let unknown =
        || refused(403, "InvalidClientTokenId", "The security token included in the request is invalid.");
    if key != ACCESS_KEY || request.header("x-amz-security-token") != Some(session_token(world).as_str()) {
        return Err(unknown());
    }
    let mismatch = |text: &str| refused(403, "SignatureDoesNotMatch", text);
    if (region, service, end) != (REGION, "sts", "aws4_request") {
        return Err(mismatch("Credential should be scoped to a valid region and the service sts."));
    }
    let at = request.header("x-amz-date").ok_or_else(|| incomplete("X-Amz-Date is missing."))?;
    if !at.starts_with(&format!("{date}T")) {
        return Err(mismatch(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date.",
        ));
    }
    let then = seconds(at).ok_or_else(|| incomplete("X-Amz-Date is not a date."))?;
    if crate::world::now().abs_diff(then) > LEEWAY_S {
        return Err(mismatch("Signature expired, or not yet current."));
    }
    let signed: Vec<&str> = signed.split(';').collect();
    if ["host", "x-amz-date", "x-amz-security-token"].iter().any(|name| !signed.contains(name)) {
        return Err(mismatch("'Host', 'X-Amz-Date' and 'X-Amz-Security-Token' must be signed headers."));
    }
    let scope = Scope { date, region, service };
    if signature(request, &signed, at, &scope, &secret_key(world)) != given {
        return Err(mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
             Key and signing method.",
        ));
    }
    Ok(())
}

/// `20150830T123600Z` as seconds since 1970.
fn seconds(at: &str) -> Option<u64> {
    let piece = |range: std::ops::Range<usize>| at.get(range);
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}Z",
        piece(0..4)?,
        piece(4..6)?,
        piece(6..8)?,
        piece(9..11)?,
        piece(11..13)?,
        piece(13..15)?
    );
    let at = humantime::parse_rfc3339(&rfc3339).ok()?;
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

struct Scope<'a> {
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

/// Signature Version 4 of a request.
fn signature(request: &Request, signed: &[&str], at: &str, scope: &Scope<'_>, secret: &str) -> String {
    let mut query: Vec<String> =
        request.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    query.sort();
    let headers: Vec<String> = signed
        .iter()
        .map(|name| {
            let value = request.header(name).unwrap_or_default();
            format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{}\n{}\n{}",
        request.method,
        request.path,
        query.join("&"),
        headers.concat(),
        signed.join(";"),
        hex(digest(&SHA256, &request.body).as_ref())
    );
    let Scope { date, region, service } = scope;
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{at}\n{date}/{region}/{service}/aws4_request\n{}",
        hex(digest(&SHA256, canonical.as_bytes()).as_ref())
    );
    let key = [*date, *region, *service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, text| keyed(&key, text));
    hex(&keyed(&key, &to_sign))
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// Percent-encoding of all but the unreserved characters.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, world},
        keys::Token,
        workloads::AWS_PRINCIPAL,
    };

    const EXAMPLE_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    #[test]
    fn signatures_of_the_worked_examples() {
        let at = "20150830T123600Z";
        let scope = |service| Scope { date: "20150830", region: "us-east-1", service };
        let vanilla = but(&get(&[], &[("host", "example.amazonaws.com"), ("x-amz-date", at)]), |request| {
            "/".clone_into(&mut request.path);
        });
        assert_eq!(
            signature(&vanilla, &["host", "x-amz-date"], at, &scope("service"), EXAMPLE_KEY),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        let headers = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", at),
        ];
        let users = but(&get(&[("Action", "ListUsers"), ("Version", "2010-05-08")], &headers), |request| {
            "/".clone_into(&mut request.path);
        });
        assert_eq!(
            signature(&users, &["content-type", "host", "x-amz-date"], at, &scope("iam"), EXAMPLE_KEY),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
        assert_eq!(seconds(at), Some(1_440_938_160));
        assert_eq!(seconds("today"), None);
    }

    const RIGHT: &str = "Action=GetWebIdentityToken&Version=2011-06-15&Audience.member.1=api%3A%2F%2FAzureADTokenExchange\
                         &SigningAlgorithm=RS256&DurationSeconds=600";

    /// A signed request with this form, changed before and after it is signed.
    fn post(
        world: &World,
        form: &str,
        before: impl FnOnce(&mut Request),
        after: impl FnOnce(&mut Request),
    ) -> Request {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", HOST),
            ("x-amz-date", &now),
            ("x-amz-security-token", &session_token(world)),
        ];
        let mut request = get(&[], &headers);
        "POST".clone_into(&mut request.method);
        "/".clone_into(&mut request.path);
        HOST.clone_into(&mut request.host);
        form.as_bytes().clone_into(&mut request.body);
        before(&mut request);
        let signed = ["content-type", "host", "x-amz-date", "x-amz-security-token"];
        let at = request.header("x-amz-date").unwrap().to_owned();
        let scope = Scope { date: &at[..8], region: REGION, service: "sts" };
        let signature = signature(&request, &signed, &at, &scope, &secret_key(world));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{}/{REGION}/sts/aws4_request, SignedHeaders={}, Signature={signature}",
            scope.date,
            signed.join(";")
        );
        request.headers.insert("authorization".to_owned(), authorization);
        after(&mut request);
        request
    }

    fn read(answer: Answer) -> (u16, String) {
        let status = answer.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(http_body_util::BodyExt::collect(answer.into_body())).unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    fn between<'a>(text: &'a str, name: &str) -> &'a str {
        let start = text.split_once(&format!("<{name}>")).unwrap().1;
        start.split_once(&format!("</{name}>")).unwrap().0
    }

    #[test]
    fn a_signed_request_gets_a_token() {
        let world = world(|_| ());
        let (status, body) = read(sts(&post(&world, RIGHT, |_| (), |_| ()), &world));
        assert_eq!(status, 200, "{body}");
        let claims = Token::parse(between(&body, "WebIdentityToken")).unwrap().claims;
        assert_eq!(
            (&claims["sub"], &claims["aud"]),
            (&AWS_PRINCIPAL.into(), &"api://AzureADTokenExchange".into())
        );
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
        assert!(between(&body, "Expiration").ends_with('Z'));
    }

    #[test]
    fn what_is_refused() {
        let world = world(|_| ());
        let set = |name: &'static str, value: &'static str| {
            move |request: &mut Request| drop(request.headers.insert(name.to_owned(), value.to_owned()))
        };
        let authorization = |from: &'static str, to: &'static str| {
            move |request: &mut Request| {
                let header = request.headers.get_mut("authorization").unwrap();
                *header = header.replace(from, to);
            }
        };
        let form = |text: &str| post(&world, text, |_| (), |_| ());
        let later = |change: &dyn Fn(&mut Request)| post(&world, RIGHT, |_| (), |request| change(request));
        for (asked, status, code) in [
            (
                later(&|request| drop(request.headers.remove("authorization"))),
                403,
                "MissingAuthenticationToken",
            ),
            (later(&set("authorization", "Bearer x")), 400, "IncompleteSignature"),
            (later(&authorization("Signature=", "Signature=0")), 403, "SignatureDoesNotMatch"),
            (later(&authorization("eu-west-1", "us-east-1")), 403, "SignatureDoesNotMatch"),
            (later(&authorization("ASIA", "AKIA")), 403, "InvalidClientTokenId"),
            (later(&authorization("host;", "")), 403, "SignatureDoesNotMatch"),
            (later(&set("x-amz-security-token", "x")), 403, "InvalidClientTokenId"),
            (later(&set("host", "sts.us-east-1.amazonaws.com")), 403, "SignatureDoesNotMatch"),
            (later(&|request| request.body.push(b' ')), 403, "SignatureDoesNotMatch"),
            (
                post(&world, RIGHT, set("x-amz-date", "20150830T123600Z"), |_| ()),
                403,
                "SignatureDoesNotMatch",
            ),
            (
                post(&world, RIGHT, |request| "GET".clone_into(&mut request.method), |_| ()),
                400,
                "MalformedInput",
            ),
            (
                post(&world, RIGHT, |request| "sts.amazonaws.com".clone_into(&mut request.host), |_| ()),
                400,
                "InvalidAction",
            ),
            (form(&RIGHT.replace("GetWebIdentityToken", "GetCallerIdentity")), 400, "InvalidAction"),
            (form(&RIGHT.replace("2011-06-15", "2012-01-01")), 400, "InvalidAction"),
            (form(&RIGHT.replace("Audience.member.1", "Audience")), 400, "ValidationError"),
            (form(&RIGHT.replace("RS256", "ES256")), 400, "ValidationError"),
            (form(&RIGHT.replace("=600", "=30")), 400, "ValidationError"),
            (form(&RIGHT.replace("=600", "=7200")), 400, "ValidationError"),
            (form(&format!("{RIGHT}&Action=GetWebIdentityToken")), 400, "MalformedInput"),
        ] {
            let (got, body) = read(sts(&asked, &world));
            assert_eq!((got, between(&body, "Code")), (status, code), "{asked:?}");
        }
        world.lock().settings.aws_federation = AwsFederation::Disabled;
        let (status, body) = read(sts(&form(RIGHT), &world));
        assert_eq!((status, between(&body, "Code")), (403, "OutboundWebIdentityFederationDisabled"));
    }
}
