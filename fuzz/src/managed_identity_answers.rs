//! What a host's endpoints answer, and the dates in it.
//!
//! The input: a byte that chooses the host, one that chooses the status, the body. `{jwt}` in it is a token.

use azfed::{
    cli::Source,
    env::Env,
    error::Error,
    managed_identity::{Host, answer},
    platform,
};
use serde_json::{Value, json};

use super::check;

const ENV: [(&str, &str); 6] = [
    ("IDENTITY_ENDPOINT", "https://127.0.0.1:1/x"),
    ("IDENTITY_HEADER", "h"),
    ("IDENTITY_SERVER_THUMBPRINT", "0123456789abcdef0123456789abcdef01234567"),
    ("MSI_ENDPOINT", "http://127.0.0.1:1/x"),
    ("MSI_SECRET", "s"),
    ("IMDS_ENDPOINT", "http://127.0.0.1:1"),
];
const SOURCES: [Source; 7] = [
    Source::Imds,
    Source::AppService,
    Source::Automation,
    Source::Arc,
    Source::ServiceFabric,
    Source::AzureMl,
    Source::CloudShell,
];

/// One answer of one host, and its text as a date.
pub fn run(data: &[u8]) {
    let [kind, status, body @ ..] = data else { return };
    if check::has_signature(data) {
        return;
    }
    let text = String::from_utf8_lossy(body);
    date(&text);
    if let Some(bytes) = body.first_chunk() {
        written(u64::from_le_bytes(*bytes) % 253_402_300_800);
    }
    let jwt = check::jwt("{}");
    let body = text.replace("{jwt}", &jwt);
    let source = SOURCES[usize::from(*kind) % SOURCES.len()];
    let host = Host::detect(&Env::from_pairs(ENV), source).expect("a host");
    let answer = check::answer(check::status(*status), body.as_bytes(), None);
    if let Host::Imds(imds) = &host {
        let _ = imds.is_somebody_elses(&answer);
    }
    match answer::read(&host, status % 2 == 0, &answer) {
        Ok(granted) => {
            let object: Value = serde_json::from_str(&body).unwrap_or_default();
            assert_eq!(answer.status, 200);
            assert_eq!(object.get("access_token").and_then(Value::as_str), Some(granted.secret.expose()));
            assert!(!granted.secret.expose().contains(|c: char| c.is_control() || c == ' '));
        }
        Err(error) => {
            let rendered = Error::Platform(platform::Error::ManagedIdentity(error)).render();
            check::rendered(&rendered);
            check::shows_no(&jwt, &rendered);
        }
    }
}

/// Any text: a number stays that number, and a date is one that people can write.
fn date(text: &str) {
    let read = answer::expires_on(&json!(text));
    if let Ok(number) = text.trim().parse::<u64>() {
        assert_eq!(read, Some(number.min(253_402_300_799)));
    } else if let Some(seconds) = read {
        assert!(seconds < 253_402_300_800, "{text:?}: {seconds}");
    }
}

/// The date of some second, in each way in which it is written, is that second.
fn written(seconds: u64) {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let (twelve, half) = ((hour + 11) % 12 + 1, if hour < 12 { "AM" } else { "PM" });
    for date in [
        format!("{month:02}/{day:02}/{year:04} {hour:02}:{minute:02}:{second:02} +00:00"),
        format!("{month}/{day}/{year} {twelve}:{minute:02}:{second:02} {half} +00:00"),
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z"),
        seconds.to_string(),
    ] {
        assert_eq!(answer::expires_on(&json!(date)), Some(seconds), "{date}");
    }
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}
