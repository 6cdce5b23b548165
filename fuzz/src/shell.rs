//! Quoting: what a real shell reads back is the value, byte for byte.
//!
//! The input: a value. Each shell is one process, which reads one script after the other.

use std::{
    cell::RefCell,
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use azfed::{
    export::Variable,
    sink::{self, shell},
    text,
};
use tempfile::NamedTempFile;

use super::lexers;

const NAME: &str = "AZURE_CONFIG_DIR";

/// One value.
pub fn run(data: &[u8]) {
    thread_local!(static SHELLS: RefCell<Vec<Shell>> = RefCell::new(Shell::all()));
    // no variable can hold a zero byte
    let value = String::from_utf8_lossy(data).replace('\0', "");
    SHELLS.with_borrow_mut(|shells| {
        for shell in shells {
            shell.reads(&value);
        }
    });
    let line = shell::powershell(NAME, &value);
    assert_eq!(lexers::powershell(&line), Some((NAME.to_owned(), value.clone())), "{line:?}");
    assert_eq!(lexers::posix(&text::shell_word(&value)), Some(vec![value.clone()]));
    dotenv(&value);
}

/// GitLab reads lines of `NAME=VALUE`, less white space at the ends of both.
fn dotenv(value: &str) {
    let Ok(written) = sink::dotenv(&[Variable::plain(NAME, value)]) else { return };
    let read: Vec<(&str, &str)> = written
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            (name.trim(), value.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b'))
        })
        .collect();
    assert_eq!(read, [(NAME, value)], "{written:?}");
}

struct Shell {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// fish reads a script as `azfed login --output fish | source` does it: whole. Its `eval` and its `read` take some
    /// characters of no use (U+FDD0, U+F600) for its own.
    script: Option<NamedTempFile>,
}

impl Shell {
    /// Those that this machine has.
    fn all() -> Vec<Self> {
        let fish = "while read -l line; source $argv[1]; end";
        let script = NamedTempFile::new().expect("a file");
        let path = script.path().to_string_lossy().into_owned();
        let all = [
            Self::start("dash", &["-s"], None),
            Self::start("bash", &["--norc", "-s"], None),
            Self::start("fish", &["--no-config", "-c", fish, &path], Some(script)),
        ];
        all.into_iter().flatten().collect()
    }

    fn start(name: &'static str, arguments: &[&str], script: Option<NamedTempFile>) -> Option<Self> {
        let mut child = Command::new(name)
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
        Some(Self { name, child, stdin, stdout: BufReader::new(stdout), script })
    }

    fn reads(&mut self, value: &str) {
        let (script, second) = if let Some(file) = &self.script {
            let script = format!("{}\nprintf '%s\\0%s\\0' ${NAME} end\n", shell::fish(NAME, value));
            fs::write(file.path(), script).expect("a file");
            ("\n".to_owned(), "end")
        } else {
            let word = text::shell_word(value);
            (format!("{}\nprintf '%s\\0%s\\0' \"${NAME}\" {word}\n", shell::sh(NAME, value)), value)
        };
        self.stdin.write_all(script.as_bytes()).and_then(|()| self.stdin.flush()).expect(self.name);
        for expected in [value, second] {
            let mut read = Vec::new();
            self.stdout.read_until(0, &mut read).expect(self.name);
            assert!(
                read.pop() == Some(0) && read == expected.as_bytes(),
                "{}: {read:?}, {value:?}",
                self.name
            );
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
