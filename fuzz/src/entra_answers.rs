//! What Entra, or whatever answers in its place, answers, up to the message that a user sees.
//!
//! The input: a byte that chooses the status, the body; behind an empty line, the claims that were presented. `{jwt}` in
//! the body is the assertion that was sent.

use azfed::{
    assertion::Claims,
    cloud::Cloud,
    config::Identity,
    entra::{self, AccessToken},
    error::{Error, Presented},
    http::Carried,
    secret::Secret,
    sink::github,
};

use super::check;

const CLAIMS: &str = r#"{"iss":"https://token.actions.githubusercontent.com","sub":"repo:contoso/infra:environment:prod","aud":"api://AzureADTokenExchange"}"#;

/// One answer.
pub fn run(data: &[u8]) {
    let [status, text @ ..] = data else { return };
    let text = String::from_utf8_lossy(text);
    let (body, claims) = text.split_once("\n\n").unwrap_or((&text, CLAIMS));
    let sent = check::jwt(claims);
    let body = body.replace("{jwt}", &sent);
    let status = check::status(*status);
    let is_refusal = !(200..300).contains(&status);
    // a platform's claims may say anything, and a good answer's token may have any signature
    if check::has_signature(if is_refusal { claims.as_bytes() } else { data }) {
        return;
    }
    let body = Carried::of(&Secret::new(sent.clone())).scrub(body.into_bytes(), is_refusal);
    let answer = check::answer(status, &body, None);
    let source = match entra::granted(&answer) {
        Ok((secret, lifetime)) => {
            assert!(answer.status == 200 && !secret.expose().is_empty());
            assert!(!secret.expose().contains(|c: char| c.is_control() || c == ' '));
            let scope = Cloud::public().resource_manager_scope();
            let token = AccessToken::new(Secret::new(secret.expose().to_owned()), &scope, lifetime);
            assert!(token.left() <= lifetime.as_secs() && token.life() <= lifetime.as_secs());
            return;
        }
        Err(source) => source,
    };
    let presented = Presented {
        claims: Claims::of(&sent).unwrap_or_default(),
        audience: Cloud::public().audience(),
        identity: Identity {
            client: "11111111-1111-4111-8111-111111111111".parse().expect("an id"),
            tenant: "22222222-2222-4222-8222-222222222222".parse().expect("an id"),
            subscription: None,
        },
    };
    let _ = (source.verdict(), source.may_be_propagation());
    let error = Error::Entra { source, presented: Box::new(presented) };
    assert!([4, 5].contains(&error.exit_code()));
    let rendered = error.render();
    check::rendered(&rendered);
    check::shows_no(&sent, &rendered);
    check::shows_no(&sent, &error.to_string());
    let summary = github::failure_summary(&rendered);
    assert_eq!(summary.matches("```").count(), 2, "{summary:?}");
}
