//! A request, and what it carries that must never come back: taken out of the answer before anybody reads it, in the
//! spellings that servers have for it. Entra, a proxy, a platform's issuer and Azure Resource Manager may all repeat a
//! request in their error answers, and those words are for the job's log.

use std::{cell::Cell, fmt};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use reqwest::{RequestBuilder, header::HeaderValue};
use serde::Serialize;

use crate::{secret::Secret, text};

/// A text of fewer bytes is no credential, and may well stand in an answer by chance.
const SHORTEST: usize = 8;
/// What stands in the place of what was taken out.
const INSTEAD: &str = "…";
/// How many steps a search may take for each byte of an answer and each form of a secret. An ordinary one takes fewer
/// than one.
const EFFORT: usize = 2;
/// The same for an answer of no length.
const LEAST_EFFORT: usize = 1 << 16;
/// How many ways of reading one secret are followed at once.
const MOST_ENDS: usize = 1 << 14;

/// A request to be sent with [`super::Channel::send`]. A credential goes in by a method that takes a [`Secret`].
pub struct Request {
    pub(super) builder: RequestBuilder,
    pub(super) carried: Carried,
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Request(***)")
    }
}

impl Request {
    pub(super) fn new(builder: RequestBuilder) -> Self {
        Self { builder, carried: Carried::default() }
    }

    /// A header that is no secret.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// A header that is one.
    #[must_use]
    pub fn secret_header(mut self, name: &str, value: &Secret) -> Self {
        self.builder = match HeaderValue::from_str(value.expose()) {
            Ok(mut header) => {
                header.set_sensitive(true);
                self.builder.header(name, header)
            }
            // the same error once more, for whoever sends it
            Err(_) => self.builder.header(name, value.expose()),
        };
        self.carrying(value)
    }

    /// `Authorization: Bearer`
    #[must_use]
    pub fn bearer(mut self, token: &Secret) -> Self {
        self.builder = self.builder.bearer_auth(token.expose());
        self.carrying(token)
    }

    /// A form; a secret in it is named by [`Request::carrying`].
    #[must_use]
    pub fn form<T: Serialize + ?Sized>(mut self, form: &T) -> Self {
        self.builder = self.builder.form(form);
        self
    }

    /// A body as it is, which holds no secret.
    #[must_use]
    pub fn body(mut self, body: String) -> Self {
        self.builder = self.builder.body(body);
        self
    }

    /// A JSON body, which holds no secret.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        self.builder = self.builder.json(body);
        self
    }

    /// Names a secret that the request has in it.
    #[must_use]
    pub fn carrying(mut self, secret: &Secret) -> Self {
        self.carried.add(secret.expose());
        self
    }
}

/// The secrets of a request, in each form in which they are looked for.
#[derive(Debug, Default)]
pub struct Carried {
    whole: Vec<Secret>,
    /// Signatures alone: looked for in refusals only, as the token in a good answer has one of its own, which test
    /// doubles make the same.
    signatures: Vec<Secret>,
}

impl Carried {
    /// One secret alone.
    pub fn of(secret: &Secret) -> Self {
        let mut carried = Self::default();
        carried.add(secret.expose());
        carried
    }

    fn add(&mut self, secret: &str) {
        self.whole.extend(forms(secret));
        // a JWT without its signature proves nothing, and the signature alone completes what else is known
        if let Some((_, signature)) = secret.rsplit_once('.') {
            self.signatures.extend(forms(signature));
        }
    }

    /// The same text without the secrets; nothing of it where it was made to be searched for ever.
    pub fn scrub(&self, text: Vec<u8>, is_refusal: bool) -> Vec<u8> {
        let signatures = self.signatures.iter().filter(|_| is_refusal);
        let forms: Vec<&Secret> = self.whole.iter().chain(signatures).collect();
        let mut may_begin = [false; 256];
        for byte in forms.iter().filter_map(|form| form.expose().bytes().next()).chain(*b"%\\&") {
            may_begin[usize::from(byte)] = true;
        }
        let effort = Effort(Cell::new(LEAST_EFFORT + EFFORT * forms.len() * text.len()));
        let found = |at: usize| {
            let length = |form: &&Secret| length_at(&text, at, form.expose().as_bytes(), &effort);
            may_begin[usize::from(text[at])].then(|| forms.iter().filter_map(length).max()).flatten()
        };
        let mut clean = Vec::new();
        let (mut at, mut copied) = (0, 0);
        while at < text.len() {
            match found(at) {
                Some(length) => {
                    clean.extend_from_slice(&text[copied..at]);
                    clean.extend_from_slice(INSTEAD.as_bytes());
                    at += length;
                    copied = at;
                }
                None => at += 1,
            }
        }
        if effort.is_spent() {
            return INSTEAD.into();
        }
        if copied == 0 {
            return text;
        }
        clean.extend_from_slice(&text[copied..]);
        clean
    }

    /// The same for a header's value.
    pub(super) fn scrub_text(&self, text: String) -> String {
        String::from_utf8_lossy(&self.scrub(text.into_bytes(), true)).into_owned()
    }
}

/// A secret as it is, and what of it is the same wherever it stands in a longer text that is put into base64.
fn forms(secret: &str) -> impl Iterator<Item = Secret> {
    let offsets = [STANDARD, URL_SAFE]
        .into_iter()
        .flat_map(|engine| (0..3).map(move |offset| (engine.clone(), offset)));
    let encoded = offsets.map(move |(engine, offset)| {
        // what stands before and after shares the outermost groups of four with it
        let encoded = engine.encode([&b"   "[..offset], secret.as_bytes()].concat());
        let start = if offset == 0 { 0 } else { 4 };
        encoded.get(start..encoded.len().saturating_sub(4)).unwrap_or_default().to_owned()
    });
    std::iter::once(secret.to_owned()).chain(encoded).filter(|form| form.len() >= SHORTEST).map(Secret::new)
}

/// The steps that a search has left: what a byte may be spelled by, and what may stand in between, can be made to lead
/// to one another without end.
struct Effort(Cell<usize>);

impl Effort {
    fn spend(&self) -> Option<()> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(())
    }

    fn give_up(&self) {
        self.0.set(0);
    }

    fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// How many bytes of `text`, from `at` on, spell `form`: each of its bytes as it is or escaped, with what shows nothing anywhere
/// in between, as where lines are folded. Both may be read in more than one way, and each way is followed.
fn length_at(text: &[u8], at: usize, form: &[u8], effort: &Effort) -> Option<usize> {
    let mut ends = vec![at];
    let bytes = form.iter().filter(|byte| !byte.is_ascii_whitespace());
    for (index, byte) in bytes.enumerate() {
        let mut next = Vec::new();
        for end in ends {
            let mut rest = text.get(end..)?;
            loop {
                effort.spend()?;
                next.extend(spellings(rest, *byte).map(|length| text.len() - rest.len() + length));
                let fold = if index == 0 { 0 } else { fold(rest) };
                if fold == 0 {
                    break;
                }
                rest = &rest[fold..];
            }
        }
        if next.len() > MOST_ENDS {
            effort.give_up();
            return None;
        }
        next.sort_unstable();
        next.dedup();
        if next.is_empty() {
            return None;
        }
        ends = next;
    }
    ends.into_iter().max().map(|end| end - at)
}

/// How many bytes spell one byte here: itself, or escaped as in a URL (once or twice), in JSON, in HTML.
fn spellings(text: &[u8], byte: u8) -> impl Iterator<Item = usize> {
    let hex = |start: usize| {
        let digits = std::str::from_utf8(text.get(start..start + 2)?).ok()?;
        u8::from_str_radix(digits, 16).ok()
    };
    let after = |mark: &[u8]| text.starts_with(mark) && hex(mark.len()) == Some(byte);
    let first = text.first().copied();
    let escaped = match first {
        Some(b'%') if after(b"%25") => Some(5),
        Some(b'%') if after(b"%") => Some(3),
        Some(b'\\') if after(b"\\x") => Some(4),
        Some(b'\\') if after(b"\\u00") => Some(6),
        Some(b'\\') if text.get(1) == Some(&byte) => Some(2),
        Some(b'&') => html(text, byte),
        _ => None,
    };
    (first == Some(byte)).then_some(1).into_iter().chain(escaped)
}

/// The length of `&#46;` or `&#x2e;`, where it is this byte.
fn html(text: &[u8], byte: u8) -> Option<usize> {
    let length = text.iter().take(8).position(|byte| *byte == b';')?;
    let number = std::str::from_utf8(text.get(1..length)?).ok()?.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => number.parse(),
    };
    (code.ok()? == byte).then_some(length + 1)
}

/// How many bytes stand here for a character that shows nothing, as it is or escaped: white space, and whatever else is
/// dropped or becomes a space before anybody reads the line ([`text::one_line`]).
fn fold(bytes: &[u8]) -> usize {
    let code = |digits: Option<&[u8]>| u32::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    // half of a pair of escapes is no character, and hides in a secret as well as a whole one
    let is_nothing =
        |code: u32| char::from_u32(code).is_none_or(|found| found == ' ' || text::is_no_text(found));
    match bytes {
        [b' ', ..] => 1,
        [b'\\', b'n' | b'r' | b't' | b'b' | b'f', ..] => 2,
        [b'%', ..] if code(bytes.get(1..3)).is_some_and(is_nothing) => 3,
        [b'\\', b'u', ..] if code(bytes.get(2..6)).is_some_and(is_nothing) => 6,
        _ => {
            let first = bytes[..bytes.len().min(4)].utf8_chunks().next();
            let first = first.and_then(|chunk| chunk.valid().chars().next());
            first.filter(|first| text::is_no_text(*first)).map_or(0, char::len_utf8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyZXBvOmEvYiJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    fn scrubbed(secret: &str, text: &str) -> String {
        let mut carried = Carried::default();
        carried.add(secret);
        carried.scrub_text(text.to_owned())
    }

    #[test]
    fn a_secret_is_found_in_each_spelling() {
        let escaped =
            |mark: &str| JWT.bytes().fold(String::new(), |text, byte| format!("{text}{mark}{byte:02x}"));
        let html = JWT.replace('.', "&#46;").replace('J', "&#x4A;");
        let folded: Vec<&str> =
            JWT.as_bytes().chunks(16).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
        for spelling in [
            JWT.to_owned(),
            escaped("%"),
            escaped("%25").to_uppercase(),
            escaped("\\u00"),
            escaped("\\x"),
            JWT.replace('.', "\\."),
            html,
            folded.join("\r\n"),
            folded.join("\\n "),
            folded.join("%0A"),
        ] {
            for (before, after) in
                [("", ""), ("client_assertion=", "&scope=x"), ("{\"a\":\"", "\"}"), ("assertion:", "")]
            {
                assert_eq!(scrubbed(JWT, &format!("{before}{spelling}{after}")), format!("{before}…{after}"));
            }
        }
        assert_eq!(scrubbed(JWT, &format!("{JWT} and {JWT}")), "… and …");
        // wherever a line is folded
        for at in 1..JWT.len() {
            for fold in [
                " ",
                "\r\n",
                "\\r\\n",
                "\\n",
                "\\t",
                "%0D%0A",
                "%20",
                "\u{feff}",
                "\u{200b}\u{ad}",
                "\u{2028}",
                "\0",
                "\\ufeff",
                "\\u0001",
                "\\udb40\\udc01",
            ] {
                assert_eq!(
                    scrubbed(JWT, &format!("{}{fold}{}", &JWT[..at], &JWT[at..])),
                    "…",
                    "{at} {fold:?}"
                );
            }
        }
        for awkward in
            ["running-nothing-to-run", "100%0a-and-%20-more", "a\\b\\n\\r-c-d", "two words and a tab\there"]
        {
            let escaped = serde_json::to_string(awkward).unwrap();
            for spelling in [awkward, &escaped[1..escaped.len() - 1]] {
                assert_eq!(scrubbed(awkward, spelling), "…", "{spelling}");
            }
        }
        assert_eq!(scrubbed(JWT, "signed c2lnbmF0dXJlLXNpZ25hdHVyZQ!"), "signed …!");
    }

    #[test]
    fn a_secret_is_found_in_base64() {
        for engine in [STANDARD, URL_SAFE] {
            for before in ["", "a", "ab", "abc", "client_assertion="] {
                let clean = scrubbed(
                    "opaque+/secret~~of>>the?job",
                    &engine.encode(format!("{before}opaque+/secret~~of>>the?job tail")),
                );
                assert!(clean.contains('…') && clean.len() < before.len() * 2 + 24, "{clean}");
            }
        }
    }

    #[test]
    fn an_answer_that_is_made_to_cost_time_is_dropped() {
        // each of these is white space, and a spelling of the letter behind it
        for (secret, start, repeated) in [
            (JWT, "eyJh", "\\b"),
            ("1f2e3d4c-5b6a-4798", "1", "\\f"),
            ("bbbbbbbbbbbbbbbbbbbb!", "", "\\b"),
            ("aaaaaaaaaaaaaaaaaaaa!", "", "a \u{200b}"),
            (JWT, "", "eyJhbGciOiJSUzI1NiJ9 "),
        ] {
            let text = format!("{start}{}", repeated.repeat((1 << 17) / repeated.len()));
            let clean = scrubbed(secret, &text);
            assert!(clean == "…" || clean == text, "{secret}: {} bytes", clean.len());
        }
        assert_eq!(scrubbed(JWT, &format!("eyJh{}", "\\b".repeat(1 << 16))), "…");
    }

    #[test]
    fn a_large_answer_stays() {
        for piece in [
            "{\"value\":[{\"id\":\"/subscriptions/44444444-4444-4444-8444-444444444444\",\"state\":\"Enabled\"}]}\n",
            "<html>\r\n    <body>&nbsp;%20%20</body>\r\n</html>\r\n",
            "ZXlKaGJHY2lPaUpTVXpJMU5pSjkuZXlKemRXSWlPaUp5WlhCdk9tRXZZaUo5",
            "\\n\\t\\u0020\\\"eyJhbGci\\\": ",
            "          \n",
        ] {
            let text = piece.repeat((1 << 18) / piece.len());
            assert!(scrubbed(JWT, &text) == text, "{piece}");
        }
    }

    #[test]
    fn everything_else_stays() {
        for text in [
            "",
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIi",
            "{\"error\":\"invalid_client\"}",
            "100%",
            "\\",
            "&",
            "&#;",
            "%2",
        ] {
            assert_eq!(scrubbed(JWT, text), text);
        }
        // too short to be one, and everywhere
        assert_eq!(scrubbed("t", "{\"t\":1}"), "{\"t\":1}");
        assert_eq!(scrubbed("", "x"), "x");
        // a good answer's token keeps its signature, whatever that is
        let mut carried = Carried::default();
        carried.add(JWT);
        let granted = "e30.e30.c2lnbmF0dXJlLXNpZ25hdHVyZQ".as_bytes().to_vec();
        assert_eq!(carried.scrub(granted.clone(), false), granted);
    }
}
