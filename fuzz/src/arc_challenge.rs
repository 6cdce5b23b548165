//! The challenge of Azure Arc's agent: whatever it names, only a key in the agent's directory is read.
//!
//! The input: the header. `{tokens}` in it is the agent's directory, `{other}` one beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use azfed::{
    error::Error,
    managed_identity::{self, arc},
    platform,
};

use super::check;

const OTHERS: &str = "not for whoever asks";

/// One header.
pub fn run(data: &[u8]) {
    let root = tree();
    let (tokens, other) = (root.join("tokens"), root.join("other"));
    let header = String::from_utf8_lossy(data)
        .replace("{tokens}", &tokens.to_string_lossy())
        .replace("{other}", &other.to_string_lossy());
    for challenge in [Some(header.as_str()), None] {
        match arc::key(challenge, &tokens) {
            Ok(key) => {
                assert!(
                    ["key of a", "key of b c"].contains(&key.expose()),
                    "{header:?} gave {:?}",
                    key.expose()
                );
                assert!(challenge.is_some_and(|header| header.contains(&*tokens.to_string_lossy())));
            }
            Err(challenge) => {
                let error = managed_identity::Error::Challenge(challenge);
                let rendered = Error::Platform(platform::Error::ManagedIdentity(error)).render();
                check::rendered(&rendered);
                assert!(!rendered.contains(OTHERS));
            }
        }
    }
}

/// A directory with keys, and everything that is none: links out of it, pipes (whoever opens one waits for ever),
/// directories, the content of others.
fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let temp = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let root = tempfile::tempdir_in(temp).expect("a directory").keep();
        let root = fs::canonicalize(root).expect("a directory");
        for directory in ["tokens/below.key", "tokens/sub", "other"] {
            fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        for (path, content) in [
            ("tokens/a.key", "key of a\n"),
            ("tokens/b c.key", "key of b c"),
            ("tokens/a.txt", OTHERS),
            ("tokens/sub/a.key", OTHERS),
            ("tokens/below.key/a.key", OTHERS),
            ("tokens/lines.key", "a\r\nb"),
            ("tokens/empty.key", ""),
            ("other/a.key", OTHERS),
            ("other/secret", OTHERS),
        ] {
            fs::write(root.join(path), content).expect("a file");
        }
        #[cfg(unix)]
        for (path, target) in [
            ("tokens/out.key", "other/a.key"),
            ("tokens/secret.key", "other/secret"),
            ("tokens/dir.key", "other"),
            ("tokens/link", "other"),
            ("tokens/inner.key", "tokens/a.txt"),
            ("tokens/piped.key", "other/pipe.key"),
        ] {
            std::os::unix::fs::symlink(root.join(target), root.join(path)).expect("a link");
        }
        for path in ["tokens/pipe.key", "other/pipe.key"] {
            let made = Command::new("mkfifo").arg(root.join(path)).status();
            assert!(made.is_ok_and(|status| status.success()) || cfg!(windows), "mkfifo");
        }
        root
    })
}
