//! The shipped binary against the emulator: `env_clear()`, then only what the platform sets.

#![allow(clippy::unwrap_used, reason = "a panic in a test is how it fails")]

#[cfg(unix)]
mod apply;
mod docs;
#[cfg(unix)]
mod doctor;
mod exchange;
mod exec;
mod failures;
#[cfg(target_os = "linux")]
mod faults;
mod harness;
mod hosts;
mod identity_map;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod leaks;
mod outputs;
#[cfg(unix)]
mod pasted;
#[cfg(unix)]
mod pictures;
mod platforms;
#[cfg(unix)]
mod seeds;
mod templates;
mod trust;
