//! AWS Signature Version 4, as far as one POST needs it.
//!
//! Source: docs.aws.amazon.com `IAM/latest/UserGuide/reference_sigv-create-signed-request`.

use std::{fmt::Write, time::SystemTime};

use aws_lc_rs::{digest, hmac};

use crate::secret::Secret;

/// The header that a temporary credential brings with it.
pub(super) const SESSION: &str = "x-amz-security-token";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// An IAM credential.
#[derive(Debug)]
pub struct Key {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: Secret,
    /// Session token, with temporary ones.
    pub session: Option<Secret>,
}

/// What is signed, beside headers and body.
pub(super) struct Signed<'a> {
    pub(super) key: &'a Key,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) path: &'a str,
    pub(super) now: SystemTime,
}

impl Signed<'_> {
    /// The `Authorization` header of a POST. The time joins the headers, which are in the order of their names.
    pub(super) fn authorization(&self, headers: &mut Vec<(&'static str, String)>, body: &str) -> Secret {
        let time = basic_time(self.now);
        headers.push(("x-amz-date", time.clone()));
        let date = &time[..8];
        let session = self.key.session.as_ref().map(|session| (SESSION, session.expose()));
        let all = || headers.iter().map(|(name, value)| (*name, value.as_str())).chain(session);
        let names: Vec<&str> = all().map(|(name, _)| name).collect();
        let names = names.join(";");
        let mut canonical = format!("POST\n{}\n\n", if self.path.is_empty() { "/" } else { self.path });
        for (name, value) in all() {
            // a string takes every write
            let _ = writeln!(canonical, "{name}:{}", value.trim());
        }
        let _ = write!(
            canonical,
            "\n{names}\n{}",
            hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref())
        );
        let canonical = Secret::new(canonical);
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let hashed = hex(digest::digest(&digest::SHA256, canonical.expose().as_bytes()).as_ref());
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{hashed}");
        let first = Secret::new(format!("AWS4{}", self.key.secret.expose()));
        let mut key = mac(first.expose().as_bytes(), date);
        for part in [self.region, self.service, "aws4_request"] {
            key = mac(key.as_ref(), part);
        }
        let signature = hex(mac(key.as_ref(), &to_sign).as_ref());
        Secret::new(format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.key.id
        ))
    }
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `20150830T123600Z`
fn basic_time(time: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// AWS' own test suite for signatures: 2015-08-30T12:36:00Z.
    const THEN: Duration = Duration::from_mins(24_015_636);

    fn sign(headers: &[(&'static str, &str)], session: Option<&str>, body: &str) -> String {
        let key = Key {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session: session.map(|session| Secret::new(session.to_owned())),
        };
        let signed =
            Signed { key: &key, region: "us-east-1", service: "service", path: "/", now: UNIX_EPOCH + THEN };
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        signed.authorization(&mut headers, body).expose().to_owned()
    }

    #[test]
    fn aws_own_vectors() {
        let host = ("host", "example.amazonaws.com");
        let head =
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
        assert_eq!(
            sign(&[host], None, ""),
            format!(
                "{head}host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
            ),
            "post-vanilla"
        );
        assert_eq!(
            sign(&[("content-type", "application/x-www-form-urlencoded"), host], None, "Param1=value1"),
            format!(
                "{head}content-type;host;x-amz-date, Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
            ),
            "post-x-www-form-urlencoded"
        );
        let session = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        assert_eq!(
            sign(&[host], Some(session), ""),
            format!(
                "{head}host;x-amz-date;x-amz-security-token, Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
            ),
            "post-sts-header-before"
        );
    }
}
