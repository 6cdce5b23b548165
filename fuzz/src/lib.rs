//! What each fuzz target promises: `run` panics where a promise is broken. docs/fuzzing.md says what the promises are.
//!
//! `tests/it/seeds.rs` includes this module too, and runs every seed through it.

pub mod arc_challenge;
mod check;
pub mod endpoints_http;
pub mod entra_answers;
pub mod github_files;
pub mod inputs;
pub mod jwt;
mod lexers;
pub mod managed_identity_answers;
pub mod platform_answers;
#[cfg(unix)]
pub mod shell;
pub mod trust;
pub mod vso;
