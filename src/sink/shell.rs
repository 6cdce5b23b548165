//! Lines for `eval` and its kin, quoted so that each shell reads back exactly the value.

/// POSIX.1-2017, Shell Command Language, 2.2.2.
pub fn sh(name: &str, value: &str) -> String {
    format!("export {name}='{}'", value.replace('\'', r"'\''"))
}

/// PowerShell doubles the quote inside single quotes, and takes typographic ones for it too
/// (PowerShell, `about_Quoting_Rules`).
pub fn powershell(name: &str, value: &str) -> String {
    let mut quoted = String::new();
    for character in value.chars() {
        if matches!(character, '\'' | '\u{2018}'..='\u{201b}') {
            quoted.push(character);
        }
        quoted.push(character);
    }
    format!("$env:{name} = '{quoted}'")
}

/// fish knows two escapes inside single quotes (fish, "Quotes").
pub fn fish(name: &str, value: &str) -> String {
    format!("set -gx {name} '{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const HOSTILE: [&str; 6] =
        ["plain", "it's", "$(id) `id` $HOME", "a\\'b\\", "line\nbreak \"x\"", "' ; rm -rf / ; '"];

    #[cfg(unix)]
    #[test]
    fn a_real_sh_reads_the_value_back() {
        for value in HOSTILE {
            let script = "eval \"$1\"; printf %s \"$A\"";
            let output = Command::new("sh").args(["-c", script, "sh", &sh("A", value)]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }

    #[test]
    fn powershell_quotes() {
        assert_eq!(powershell("A", "it's ‘$x’"), "$env:A = 'it''s ‘‘$x’’'");
    }

    #[test]
    fn fish_quotes() {
        assert_eq!(fish("A", r"a'b\c"), r"set -gx A 'a\'b\\c'");
    }
}
