//! Readers of other languages, as far as azfed writes them: each gives the strings that it finds, or nothing where the
//! text is not well-formed.

/// The words of a POSIX shell's simple command, which may go over several lines with `\`.
pub fn posix(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word): (Vec<String>, Option<String>) = (Vec::new(), None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '\\' => match characters.next()? {
                '\n' => {}
                other => word.get_or_insert_default().push(other),
            },
            ' ' => words.extend(word.take()),
            // what would mean something else
            '"' | '`' | '$' | '&' | ';' | '|' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | '#' | '~' | '{'
            | '}' | '!' | '\t' | '\n' => return None,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// `$env:NAME = '…'` of PowerShell, where two quotes of any kind are the second of them.
pub fn powershell(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.strip_prefix("$env:")?.split_once(" = '")?;
    let is_quote = |c: char| matches!(c, '\'' | '\u{2018}'..='\u{201b}');
    let (mut value, mut characters) = (String::new(), rest.chars().peekable());
    loop {
        let mut character = characters.next()?;
        if is_quote(character) {
            match characters.next_if(|next| is_quote(*next)) {
                Some(second) => character = second,
                None => break,
            }
        }
        value.push(character);
    }
    characters.next().is_none().then(|| (name.to_owned(), value))
}

/// A language with strings and brackets.
pub struct Language {
    quote: char,
    comment: &'static str,
    /// What a string may have behind a backslash, and what each means.
    escapes: &'static [(char, char)],
    /// What in a string begins an expression, and how it is written where it does not.
    introducers: &'static [(&'static str, &'static str)],
}

/// Terraform's.
pub const HCL: Language = Language {
    quote: '"',
    comment: "#",
    escapes: &[('\\', '\\'), ('"', '"')],
    introducers: &[("${", "$${"), ("%{", "%%{")],
};

/// Bicep's.
pub const BICEP: Language = Language {
    quote: '\'',
    comment: "//",
    escapes: &[('\\', '\\'), ('\'', '\''), ('$', '$')],
    introducers: &[("${", "")],
};

impl Language {
    /// The strings of a text; nothing where a string or a bracket is left open, or there is more in the text than
    /// names, numbers and marks between them.
    pub fn strings(&self, text: &str) -> Option<Vec<String>> {
        let mut strings = Vec::new();
        let mut open = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if rest.starts_with(self.comment) {
                rest = rest.split_once('\n')?.1;
                continue;
            }
            rest = &rest[character.len_utf8()..];
            match character {
                '{' => open.push('}'),
                '[' => open.push(']'),
                '}' | ']' => {
                    if open.pop() != Some(character) {
                        return None;
                    }
                }
                quote if quote == self.quote => {
                    let (string, after) = self.string(rest)?;
                    strings.push(string);
                    rest = after;
                }
                other if other.is_ascii_alphanumeric() || "_-.=,: \n".contains(other) => {}
                _ => return None,
            }
        }
        open.is_empty().then_some(strings)
    }

    fn string<'t>(&self, text: &'t str) -> Option<(String, &'t str)> {
        let mut string = String::new();
        let mut rest = text;
        loop {
            if let Some((plain, written)) =
                self.introducers.iter().find(|(_, written)| !written.is_empty() && rest.starts_with(written))
            {
                string.push_str(plain);
                rest = &rest[written.len()..];
                continue;
            }
            if self.introducers.iter().any(|(plain, _)| rest.starts_with(plain)) {
                return None;
            }
            let character = rest.chars().next()?;
            rest = &rest[character.len_utf8()..];
            match character {
                quote if quote == self.quote => return Some((string, rest)),
                '\\' => {
                    let escape = rest.chars().next()?;
                    let (_, meant) = self.escapes.iter().find(|(written, _)| *written == escape)?;
                    string.push(*meant);
                    rest = &rest[escape.len_utf8()..];
                }
                control if control.is_control() => return None,
                other => string.push(other),
            }
        }
    }
}
