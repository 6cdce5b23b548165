//! What holds for everything that is said, and what the targets have in common.

use azfed::http::Answer;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Seeds begin foreign text with this, and so does the fuzzer: no line may.
const FOREIGN: &str = "ZQ";

/// A text that a runner takes for no command, and a terminal for no order.
pub fn inert(text: &str) {
    for line in text.split('\n') {
        assert!(!line.contains(char::is_control), "a control character: {line:?}");
        assert!(!line.contains(is_hidden), "a character that nobody sees: {line:?}");
        assert!(!line.contains("##[") && !line.contains("##vso["), "a command: {line:?}");
        assert!(!line.trim_start().starts_with("::"), "a command: {line:?}");
    }
}

/// A rendered message: inert, and every line begins with azfed's own words.
pub fn rendered(text: &str) {
    inert(text);
    for line in text.lines() {
        let is_ours = line.is_empty() || line.starts_with("azfed: ") || line.starts_with("  ");
        assert!(is_ours && !line.trim_start().starts_with(FOREIGN), "foreign text at its start: {line:?}");
    }
}

/// What turns the direction of a text, hides in it, or ends a line for some readers.
pub fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

const SIGNATURE: &str = "c2lnbmF0dXJlLXRoYXQtbm9ib2R5LW1heS1zZWU";

/// A token with this payload.
pub fn jwt(payload: &str) -> String {
    format!("eyJhbGciOiJSUzI1NiJ9.{}.{SIGNATURE}", URL_SAFE_NO_PAD.encode(payload))
}

/// Whether an input has the signature by itself, and not by a place holder: the fuzzer sees what is compared. As it is or
/// as a reader of JSON has it, less the characters that are dropped.
pub fn has_signature(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let seen = |text: &str| text.replace(azfed::text::is_no_text, "").contains(SIGNATURE);
    seen(&text) || seen(&unescaped(&text))
}

/// A text less JSON's escapes, of characters that are no text too.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = |part: &str| u32::from_str_radix(part.strip_prefix('u')?.get(..4)?, 16).ok();
        match code(part) {
            Some(code) => {
                clean.extend(char::from_u32(code));
                clean.push_str(&part[5..]);
            }
            None => clean.push_str(part),
        }
    }
    clean
}

/// No part of a text from which `token` could be used.
pub fn shows_no(token: &str, text: &str) {
    assert!(!text.contains(token) && !text.contains(SIGNATURE), "the token is in {text:?}");
}

/// A status that the first byte chooses: those that decide something, and any other.
pub fn status(byte: u8) -> u16 {
    const KNOWN: [u16; 12] = [200, 200, 200, 201, 400, 401, 403, 404, 410, 429, 500, 503];
    KNOWN.get(usize::from(byte)).copied().unwrap_or(100 + u16::from(byte) * 2)
}

/// An answer with this body.
pub fn answer(status: u16, body: &[u8], header: Option<String>) -> Answer {
    Answer {
        status,
        body: body.to_vec(),
        retry_after: None,
        request_id: header.clone(),
        date: None,
        challenge: header,
    }
}
