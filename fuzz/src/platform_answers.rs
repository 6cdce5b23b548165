//! What platforms answer, and what their programs print.
//!
//! The input: a byte that chooses the platform, one that chooses the status, the body. `{jwt}` in it is a token.

use azfed::{
    env::Env,
    error::Error,
    platform::{self, aws, azure_devops, codefresh, github, google_cloud, program::Program},
    secret::Secret,
};
use serde_json::Value;

use super::check;

/// A password of the platform's, which a program may repeat.
const PASSWORD: &str = "opaque-password-0123456789";

/// One answer of one platform.
pub fn run(data: &[u8]) {
    let [kind, status, body @ ..] = data else { return };
    if check::has_signature(data) {
        return;
    }
    let jwt = check::jwt(r#"{"iss":"https://i","sub":"s","aud":"a"}"#);
    let body = String::from_utf8_lossy(body).replace("{jwt}", &jwt).replace("{password}", PASSWORD);
    let status = check::status(*status);
    let answer = || check::answer(status, body.as_bytes(), Some(body.clone()));
    let in_json = |issuer, field| {
        let issued = github::issued(issuer, &answer(), field);
        if let Ok(token) = &issued {
            assert!((200..300).contains(&status));
            let object: Value = serde_json::from_str(&body).unwrap_or_default();
            assert_eq!(object.get(field).and_then(Value::as_str), Some(token.expose()));
        }
        issued
    };
    let issued: Result<Secret, platform::Error> = match kind % 7 {
        0 => in_json(github::NAME, "value"),
        1 => in_json(azure_devops::NAME, "oidcToken"),
        2 => in_json(codefresh::NAME, "id_token"),
        3 => {
            let issued = aws::issued(answer());
            if let Ok(token) = &issued {
                assert!(
                    status == 200
                        && body.contains(token.expose())
                        && !token.expose().contains("</WebIdentityToken>")
                );
            }
            issued
        }
        4 => aws::key("AWS' endpoint of container credentials", &answer()).map(|key| key.secret),
        5 => {
            let issued = google_cloud::issued(answer());
            assert!(issued.as_ref().ok().is_none_or(|token| status == 200 && token.expose() == body));
            issued
        }
        _ => return program(&body, &jwt),
    };
    if let Err(error) = issued {
        let rendered = Error::Platform(error).render();
        check::rendered(&rendered);
        check::shows_no(&jwt, &rendered);
    }
}

fn program(said: &str, jwt: &str) {
    let env = Env::from_pairs([("BUILDKITE_AGENT_ACCESS_TOKEN", PASSWORD), ("BUILDKITE", "true")]);
    let words = Program::new(&env, "buildkite-agent", "buildkite-agent oidc", "BUILDKITE").last_words(said);
    check::inert(&words);
    check::shows_no(jwt, &words);
    assert!(!words.contains('\n') && !words.contains(PASSWORD), "{words:?}");
}
