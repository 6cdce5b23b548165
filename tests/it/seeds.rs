//! Every fuzz seed through the promises of its target, without a fuzzer: docs/fuzzing.md.

#[allow(
    dead_code,
    unreachable_pub,
    clippy::pedantic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a broken promise is a panic"
)]
#[path = "../../fuzz/src/lib.rs"]
mod promises;

use std::{fs, path::Path};

const TARGETS: [(&str, fn(&[u8])); 11] = [
    ("arc_challenge", promises::arc_challenge::run),
    ("endpoints_http", promises::endpoints_http::run),
    ("entra_answers", promises::entra_answers::run),
    ("github_files", promises::github_files::run),
    ("inputs", promises::inputs::run),
    ("jwt", promises::jwt::run),
    ("managed_identity_answers", promises::managed_identity_answers::run),
    ("platform_answers", promises::platform_answers::run),
    ("shell", promises::shell::run),
    ("trust", promises::trust::run),
    ("vso", promises::vso::run),
];

#[test]
fn every_seed_keeps_its_promise() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut broken = Vec::new();
    for (target, run) in TARGETS {
        let mut files: Vec<_> =
            fs::read_dir(seeds.join(target)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 5, "{target} has {} seeds", files.len());
        for file in files {
            let seed = fs::read(&file).unwrap();
            // whatever a seed is cut to is an input too
            let cuts = [seed.len(), seed.len() / 2, seed.len().saturating_sub(1), seed.len().min(1)];
            for cut in cuts {
                let ran = std::panic::catch_unwind(|| run(&seed[..cut]));
                if ran.is_err() {
                    broken.push(format!("{} up to byte {cut}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let targets = fs::read_dir(seeds).unwrap().count();
    assert_eq!(targets, TARGETS.len(), "a directory of seeds without a target");
}
