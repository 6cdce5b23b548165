//! The shipped binary against the emulator: `env_clear()`, then only what the platform sets.

mod exchange;
mod failures;
mod harness;
mod outputs;
