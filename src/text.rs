//! Text that came from outside (claims, server messages, variables) made safe to show in a job's log.

use aws_lc_rs::digest;
use uuid::{Builder, Uuid};

/// How long a piece of foreign text may be before it is cut.
const LONGEST: usize = 2000;

/// One line of foreign text that neither a terminal nor a CI runner takes for a command.
///
/// GitHub's runner reads `::command::` at the start of a line and `##[command]` anywhere in one (actions/runner
/// `src/Runner.Common/ActionCommand.cs`); the Azure DevOps agent finds `##vso[` anywhere (azure-pipelines-agent
/// `src/Microsoft.VisualStudio.Services.Agent/Command.cs`). So line breaks and control characters become spaces,
/// and those three marks are broken up; `::` right behind a letter or digit, as in an ARN, can start no line and stays.
/// Marks that would turn the direction of the text are dropped.
pub fn one_line(foreign: &str) -> String {
    inert(foreign.trim())
}

/// The same, with white space at the ends kept.
pub fn inert(foreign: &str) -> String {
    let visible = foreign.chars().filter(|character| !is_hidden(*character));
    let visible = visible.map(|character| if is_no_text(character) { ' ' } else { character });
    let mut line = String::with_capacity(foreign.len());
    let clean = without_client_secrets(&without_logins(&without_jwts(&visible.collect::<String>())));
    for character in clean.chars() {
        match character {
            ':' if line.ends_with(':') && !is_behind_a_word(&line) => line.push_str(" :"),
            '#' if line.ends_with('#') => line.push_str(" #"),
            other => line.push(other),
        }
    }
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line.push('…');
    }
    line
}

/// Foreign words without anything that looks like a JWT, complete or cut short: a server may repeat one that this process
/// never had in hand.
fn without_jwts(foreign: &str) -> String {
    /// `{"` in base64url: how each header begins.
    const START: &str = "eyJ";
    /// Fewer characters than the shortest header has.
    const SHORTEST: usize = 10;
    /// Fewer characters than a folded line has, and more than most words.
    const LEAST_FOLDED: usize = 16;
    let is_part = |character: char| character.is_ascii_alphanumeric() || "-_=".contains(character);
    let dot = |text: &str| [".", "%2E", "%2e"].into_iter().find(|dot| text.starts_with(dot)).map(str::len);
    let mut clean = String::with_capacity(foreign.len());
    let mut rest = foreign;
    // the rest of a part that was broken in two, as where a tool folds its lines
    let length = |text: &str| text.find(|character| !is_part(character)).unwrap_or(text.len());
    let whole = |text: &str| {
        let mut end = length(text);
        while end > 0 && text[end..].starts_with(' ') {
            let more = length(&text[end + 1..]);
            if more < LEAST_FOLDED || text[end + 1..].starts_with(START) {
                break;
            }
            end += 1 + more;
        }
        end
    };
    while let Some(start) = rest.find(START) {
        let (before, found) = rest.split_at(start);
        clean.push_str(before);
        let header = whole(found);
        let mut end = header;
        // a header that is too short is none wherever it begins in this run, and nothing behind it needs to be looked at
        while header >= SHORTEST
            && let Some(length) = dot(&found[end..])
        {
            let part = whole(&found[end + length..]);
            // without a key of its own, an encrypted token has an empty part (RFC 7516, 5.1)
            if part == 0 && dot(&found[end + length..]).is_none() {
                break;
            }
            end += length + part;
        }
        let is_jwt = end > header;
        clean.push_str(if is_jwt { "…" } else { &found[..header] });
        rest = &found[end..];
    }
    clean + rest
}

/// The same without user and password of a URL: somebody may have given one where azfed wants no URL at all.
fn without_logins(foreign: &str) -> String {
    const START: &str = "://";
    /// What a hint has in its place.
    const HOLDER: &str = "USER:PASSWORD";
    let ends = |character: char| character.is_whitespace() || "/?#'\"`<>".contains(character);
    let mut clean = String::with_capacity(foreign.len());
    let mut rest = foreign;
    while let Some(start) = rest.find(START) {
        let (before, after) = rest.split_at(start + START.len());
        clean.push_str(before);
        let authority = after.find(ends).unwrap_or(after.len());
        let login = after[..authority].rfind('@').unwrap_or_default();
        clean.push_str(match &after[..login] {
            nothing @ ("" | HOLDER) => nothing,
            _ => "…",
        });
        rest = &after[login..];
    }
    clean + rest
}

/// The same without a client secret of Entra's: somebody may have one left from before, and may take the client id's place
/// for it (microsoft/security-utilities, SEC101/156: `[\w.~-]{3}[78]Q~[\w.~-]{31,34}`).
fn without_client_secrets(foreign: &str) -> String {
    const MARK: &str = "Q~";
    /// From the mark on, and more than any has.
    const LONGEST_SECRET: usize = 80;
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.~-".contains(byte);
    let mut clean = String::with_capacity(foreign.len());
    let mut rest = foreign;
    while let Some(mark) = rest.find(MARK) {
        let bytes = rest.as_bytes();
        let end = mark + bytes[mark..].iter().take(LONGEST_SECRET).take_while(|byte| is_part(byte)).count();
        let starts =
            mark >= 4 && matches!(bytes[mark - 1], b'7' | b'8') && bytes[mark - 4..mark].iter().all(is_part);
        let is_one = starts && end - mark >= MARK.len() + 31;
        let (shown, length) = if is_one { (mark - 4, end) } else { (mark + MARK.len(), mark + MARK.len()) };
        clean.push_str(&rest[..shown]);
        clean.push_str(if is_one { "…" } else { "" });
        rest = &rest[length..];
    }
    clean + rest
}

/// Whether the colon at the end stands behind a letter or digit.
fn is_behind_a_word(line: &str) -> bool {
    line.strip_suffix(':').is_some_and(|before| before.ends_with(|last: char| last.is_ascii_alphanumeric()))
}

/// Characters that nobody sees, or that turn the direction of those around them (Unicode 16, `DerivedCoreProperties`,
/// `Default_Ignorable_Code_Point`; UAX #9, 2).
pub fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether a character ends a line, moves a cursor, or cannot be seen.
pub fn is_no_text(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') || is_hidden(character)
}

/// Whether a runner would take something in this line for a command (see [`one_line`]).
pub fn has_command(line: &str) -> bool {
    line.contains("##[") || line.contains("##vso[") || line.trim_start().starts_with("::")
}

/// Whether a value can be shown as it is, and az takes it as a value: what starts with `-` is an option to it, and what
/// starts with `@` a file.
pub fn is_value(value: &str) -> bool {
    !value.is_empty() && !value.starts_with(['-', '@']) && one_line(value) == value
}

/// A word that a POSIX shell reads back as exactly `value`.
///
/// Plain words stay as they are; everything else is put in single quotes (POSIX.1-2017, Shell Command Language, 2.2.2).
pub fn shell_word(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    // zsh takes what starts with `=` for a command's name
    if !value.is_empty() && !value.starts_with('=') && value.bytes().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

/// Text for a Markdown table cell or list: no markup, no HTML, no line breaks.
pub fn markdown(foreign: &str) -> String {
    let mut escaped = String::new();
    for character in one_line(foreign).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '!' | '|' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// A UUID that is the same for the same name each time, and another one for another (RFC 9562, version 5).
pub fn name_based_uuid(name: &str) -> Uuid {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(Uuid::NAMESPACE_URL.as_bytes());
    hash.update(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finish().as_ref()[..16]);
    Builder::from_sha1_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::{is_value, markdown, one_line, shell_word};

    #[test]
    fn no_runner_command_survives() {
        for hostile in [
            "::add-mask::x",
            "a\n::error::b",
            "\r\n##vso[task.setvariable variable=PATH]x",
            "x ##[add-path]y",
            ":::warning::::",
            "####vso[x]",
            "#\u{200b}#vso[x]",
            "\u{202e}::x",
            "#\u{61c}#vso[x]",
            "#\u{fe0f}\u{e0041}#[x]",
            "a\u{2028}::b",
        ] {
            let line = one_line(hostile);
            let command = line
                .match_indices("::")
                .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric()));
            assert!(!command && !line.contains("##") && !line.contains(char::is_control), "{line:?}");
        }
        assert_eq!(one_line("arn:aws:iam::123456789012:role/x"), "arn:aws:iam::123456789012:role/x");
        assert_eq!(one_line("a::b::::c"), "a::b:: : :c");
        assert_eq!(
            one_line("  repo:contoso/infra:environment:prod\n"),
            "repo:contoso/infra:environment:prod"
        );
    }

    #[test]
    fn long_text_is_cut() {
        assert!(one_line(&"x".repeat(5000)).len() < 2010);
    }

    #[test]
    fn nothing_that_looks_like_a_jwt_survives() {
        let (header, claims, signature) = ("eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2ln-_8");
        let jwt = format!("{header}.{claims}.{signature}");
        for (foreign, shown) in [
            (jwt.clone(), "…"),
            (format!("token '{jwt}' is bad."), "token '…' is bad."),
            (format!("client_assertion={jwt}&scope=x"), "client_assertion=…&scope=x"),
            (format!("{{\"client_assertion\":\"{jwt}\"}}"), "{\"client_assertion\":\"…\"}"),
            (format!("assertion:{jwt}"), "assertion:…"),
            (format!("{jwt}.{claims}.{jwt} {jwt}"), "… …"),
            (format!("{header}.{claims}"), "…"),
            (format!("{header}.{claims}.c2lnbmF0dXJl\nc2lnbmF0dXJlc2lnbmF0dXJl"), "…"),
            (format!("{header}..{claims}.{signature}.{signature}"), "…"),
            (format!("{header}%2E{claims}%2e{signature}"), "…"),
            (format!("ey\u{200b}J{}", &jwt[3..]), "…"),
        ] {
            assert_eq!(one_line(&foreign), shown, "{foreign}");
        }
        for plain in ["eyJ", "eyJ.x", "eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJSUzI1NiJ9. Then", "keyJhbGci/x.y"] {
            assert_eq!(one_line(plain), plain);
        }
        // not cut in the middle of one, and so shown
        assert!(!one_line(&format!("{} {jwt}", "x".repeat(1980))).contains("eyJ"));
    }

    /// Each of these took minutes, and nothing else could be done meanwhile.
    #[test]
    fn a_long_text_takes_no_long_time() {
        for piece in [
            "eyJ",
            "eyJ.",
            "eyJhbGciOi",
            "eyJhbGciOi.",
            "eyJhbGciOi..",
            "7Q~",
            "8Q~a",
            "://",
            "://a@",
            "a://b",
            "# ",
            "::",
            "eyJ abcdefghijklmnop ",
        ] {
            let text = piece.repeat((1 << 20) / piece.len());
            assert!(one_line(&text).len() <= super::LONGEST + 3, "{piece}");
        }
    }

    #[test]
    fn no_login_of_a_url_and_no_client_secret_survives() {
        let secret = format!("abc8Q~{}", "x-_.~1".repeat(6));
        for (foreign, shown) in [
            ("https://user:pass@host/x", "https://…@host/x"),
            ("`http://u:p@ss@h:1` is", "`http://…@h:1` is"),
            ("a https://token@b, c://d:e@f?g@h", "a https://…@b, c://…@f?g@h"),
            (&format!("`{secret}` is no GUID"), "`…` is no GUID"),
            (&format!("https://{secret}/"), "https://…/"),
        ] {
            assert_eq!(one_line(foreign), shown, "{foreign}");
        }
        for plain in [
            "https://host/a@b",
            "sc://contoso/infra/azure@prod",
            "repo:contoso@100/infra@200:environment:x",
            "api://AzureADTokenExchange",
            "http://USER:PASSWORD@HOST:PORT",
            "a@b",
            "abc8Q~short",
            "Q~",
            "größe8Q~",
            "abcdQ~xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ] {
            assert_eq!(one_line(plain), plain);
        }
    }

    #[test]
    fn shell_words() {
        assert_eq!(shell_word("repo:contoso/infra:environment:prod"), "repo:contoso/infra:environment:prod");
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("=ls"), "'=ls'");
    }

    #[test]
    fn values_are_no_options_and_no_files() {
        assert!(is_value("repo:contoso/infra:environment:prod") && is_value("größe"));
        for wrong in ["", "--help", "@/etc/passwd", " x", "a\nb", "a\u{200b}b", "a\u{202e}b", "##[x]"] {
            assert!(!is_value(wrong), "{wrong:?}");
        }
        assert!(!is_value(&"x".repeat(2001)));
    }

    #[test]
    fn markdown_is_inert() {
        assert_eq!(markdown("<b>[x](y)|`z`"), r"&lt;b&gt;\[x\]\(y\)\|\`z\`");
    }
}
