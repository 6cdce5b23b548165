//! JWTs, their claims, what these say in words, and how they compare with credentials.
//!
//! The input: a token or its claims; behind the first line break, credentials as az prints them.

use std::time::{Duration, UNIX_EPOCH};

use azfed::{
    assertion::{Assertion, Claims},
    cloud::Cloud,
    nearest::{self, Credential, Outcome, Presented},
    secret::Secret,
    subject, text,
};

use super::check;

/// A token, as it comes and as the claims of one.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, credentials) = text.split_once('\n').unwrap_or((&text, ""));
    token(&text, credentials);
    token(&check::jwt(first), credentials);
}

fn token(token: &str, credentials: &str) {
    match Assertion::parse(&Secret::new(token.to_owned())) {
        Ok(assertion) => {
            let jwt = assertion.jwt.expose();
            assert_eq!(jwt, token.trim());
            assert_eq!(jwt.matches('.').count(), 2);
            assert!(!jwt.contains(|c: char| c.is_control() || c.is_whitespace()));
            assert_eq!(Ok(&assertion.claims), Claims::of(jwt).as_ref());
            claims(&assertion.claims, credentials);
        }
        Err(malformed) => check::inert(&malformed.to_string()),
    }
}

fn claims(claims: &Claims, credentials: &str) {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (left, expired) = (claims.left(now), claims.expired_since(now));
    if expired.is_some() {
        assert_eq!(left, Duration::ZERO);
    }
    assert!(claims.exp.is_some() || left == claims.life());
    if let Some(words) = subject::words(&claims.iss, &claims.sub) {
        check::inert(&text::one_line(&words));
    }
    let presented = Presented::of(claims, &Cloud::public().audience());
    let own = Credential {
        name: "own".to_owned(),
        issuer: presented.issuer.clone(),
        subject: Some(presented.subject.clone()),
        audiences: vec!["another".to_owned(), presented.audience.clone()],
        owner: nearest::Owner::default(),
    };
    assert_eq!(nearest::compare(&presented, std::slice::from_ref(&own)), Outcome::Match("own".to_owned()));
    let Ok(credentials) = nearest::read(credentials) else { return };
    compare(&presented, &credentials);
    // each of them presents itself
    for credential in &credentials {
        let (Some(subject), Some(audience)) = (&credential.subject, credential.audiences.first()) else {
            continue;
        };
        let presented = Presented {
            issuer: credential.issuer.clone(),
            subject: subject.clone(),
            audience: audience.clone(),
        };
        assert!(matches!(nearest::compare(&presented, &credentials), Outcome::Match(_)));
    }
}

fn compare(presented: &Presented, credentials: &[Credential]) {
    let is_it = |credential: &Credential| {
        credential.issuer == presented.issuer
            && credential.subject.as_ref() == Some(&presented.subject)
            && credential.audiences.contains(&presented.audience)
    };
    let outcome = nearest::compare(presented, credentials);
    match &outcome {
        Outcome::Match(name) => assert!(credentials.iter().any(|one| is_it(one) && one.name == *name)),
        Outcome::Nearest { name, differences } => {
            assert!(!credentials.iter().any(is_it) && credentials.iter().any(|one| one.name == *name));
            assert!(!differences.is_empty() && differences.iter().all(|one| !one.kind.is_empty()));
        }
        Outcome::Nothing => assert!(credentials.iter().all(|one| one.subject.is_none())),
    }
    let lines = outcome.render();
    check::inert(&lines.join("\n"));
    for line in lines {
        let ours = ["the credential `", "there is no", "no credential matches", "  "];
        assert!(ours.iter().any(|start| line.starts_with(start)), "{line:?}");
    }
}
