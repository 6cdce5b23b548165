//! Text that came from outside (claims, server messages, variables) made safe to show in a job's log.

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
    let mut line = String::with_capacity(foreign.len().min(LONGEST));
    for character in foreign.chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        match character {
            '\u{2028}' | '\u{2029}' => line.push(' '),
            hidden if is_hidden(hidden) => {}
            ':' if line.ends_with(':') && !is_behind_a_word(&line) => line.push_str(" :"),
            '#' if line.ends_with('#') => line.push_str(" #"),
            other if other.is_control() => line.push(' '),
            other => line.push(other),
        }
    }
    line
}

/// Whether a character turns the direction of a text, hides in it, or ends a line for some readers.
pub fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Whether the colon at the end stands behind a letter or digit.
fn is_behind_a_word(line: &str) -> bool {
    line.strip_suffix(':').is_some_and(|before| before.ends_with(|last: char| last.is_ascii_alphanumeric()))
}

/// A word that a POSIX shell reads back as exactly `value`.
///
/// Plain words stay as they are; everything else is put in single quotes (POSIX.1-2017, Shell Command Language, 2.2.2).
pub fn shell_word(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
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

#[cfg(test)]
mod tests {
    use super::{markdown, one_line, shell_word};

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
    fn shell_words() {
        assert_eq!(shell_word("repo:contoso/infra:environment:prod"), "repo:contoso/infra:environment:prod");
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn markdown_is_inert() {
        assert_eq!(markdown("<b>[x](y)|`z`"), r"&lt;b&gt;\[x\]\(y\)\|\`z\`");
    }
}
