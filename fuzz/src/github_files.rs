//! GITHUB_ENV, GITHUB_OUTPUT and GITHUB_STATE: what the runner reads is what was meant, and what was there before.
//!
//! The input: what is in the file already; behind each zero byte, a value.

use azfed::{sink::github, text};

const NAMES: [&str; 6] = [
    "AZURE_CLIENT_ID",
    "client-id",
    "ARM_OIDC_TOKEN_FILE_PATH",
    "azfed_login_dir",
    "AZURE_CONFIG_DIR",
    "expires-on",
];

/// A file with some values behind what it has.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let before = parts.next().unwrap_or_default();
    let pairs: Vec<(&str, &str)> = NAMES.into_iter().zip(parts).collect();
    let entries = github::entries(before.as_bytes(), &pairs);
    let whole = format!("{before}{}", entries.expose());
    for is_windows in [false, true] {
        // a file that the runner cannot read fails the step by itself
        let Some(mut expected) = read(before, is_windows) else { continue };
        if is_windows && before.ends_with('\r') {
            continue;
        }
        // there, a line ends with CR LF too: a carriage return at a value's end is taken for a part of its line's
        let value = |value: &str| {
            let cut = if is_windows { value.strip_suffix('\r') } else { None };
            cut.map_or_else(|| value.to_owned(), ToOwned::to_owned)
        };
        expected.extend(pairs.iter().map(|(name, text)| ((*name).to_owned(), value(text))));
        assert_eq!(read(&whole, is_windows).as_ref(), Some(&expected), "{whole:?}");
    }
    for (_, value) in pairs {
        cell(value);
    }
}

/// The runner's reader, from what actions/runner documents: `NAME=VALUE`, or `NAME<<DELIMITER`, lines, DELIMITER. Nothing
/// where the runner says that the file is no good.
fn read(text: &str, is_windows: bool) -> Option<Vec<(String, String)>> {
    // .NET's reader takes a mark of the byte order off
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    while let Some((line, _)) = next(&mut rest, is_windows) {
        if line.is_empty() {
            continue;
        }
        let equals = line.find('=').unwrap_or(usize::MAX);
        let heredoc = line.find("<<").unwrap_or(usize::MAX);
        if equals < heredoc {
            let (name, value) = line.split_once('=')?;
            found.push((name.to_owned(), value.to_owned()));
        } else {
            let (name, delimiter) = line.split_once("<<")?;
            if name.is_empty() || delimiter.is_empty() {
                return None;
            }
            let mut lines: Vec<(&str, &str)> = Vec::new();
            loop {
                let (line, end) = next(&mut rest, is_windows)?;
                if line == delimiter {
                    break;
                }
                lines.push((line, end?));
            }
            let mut value: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
            if let Some((_, end)) = lines.last() {
                value.truncate(value.len() - end.len());
            }
            found.push((name.to_owned(), value));
        }
    }
    Some(found)
}

/// The next line, and what ends it.
fn next<'t>(rest: &mut &'t str, is_windows: bool) -> Option<(&'t str, Option<&'t str>)> {
    if rest.is_empty() {
        return None;
    }
    let Some((line, after)) = rest.split_once('\n') else { return Some((std::mem::take(rest), None)) };
    *rest = after;
    match line.strip_suffix('\r') {
        Some(line) if is_windows => Some((line, Some("\r\n"))),
        _ => Some((line, Some("\n"))),
    }
}

/// A cell of the job's summary is one cell, and no markup.
fn cell(value: &str) {
    let cell = text::markdown(value);
    assert!(!cell.contains(char::is_control) && !cell.contains(['<', '>']), "{cell:?}");
    let mut characters = cell.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            let escaped = characters.next();
            assert!(escaped.is_some_and(|escaped| escaped.is_ascii_punctuation()), "{cell:?}");
        } else {
            assert!(!"`*_{}[]()|~!".contains(character), "{cell:?}");
        }
    }
}
