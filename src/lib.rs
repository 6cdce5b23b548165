//! `azfed` logs a CI job in to Azure without a secret.
//!
//! ```text
//!  process env ──snapshot──> Env ─┐
//!  argv ─────────────────> Args ──┴─> Config::resolve ──> Config
//!
//!    Platform::detect(&Env) ─── holds everything it needs, already parsed
//!           ▼
//!    platform.fetch_assertion(&Http, &Audience) ──> Assertion { jwt: Secret, claims }   masked the moment it exists
//!           ▼
//!    entra::exchange(&Http, &Config, &Assertion, &Scope) ──> AccessToken { secret, expires_on }
//!           ▼
//!    export::plan(&Config, &Login) ──> Plan { variables, files, outputs }               pure
//!           ▼
//!    sink::write(plan)
//! ```
//!
//! Data goes one way down this picture; a module knows the one above it by its type and never calls back.
//! The I/O seams are few: [`env::Env`], [`http`], the writers in [`sink`] and [`state`], and [`ui`].

pub mod assertion;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod doctor;
pub mod endpoints;
pub mod entra;
pub mod env;
pub mod error;
pub mod exchange;
pub mod exec;
pub mod export;
pub mod http;
pub mod identifiers;
pub mod identity_map;
pub mod keeper;
pub mod managed_identity;
pub mod nearest;
pub mod platform;
pub mod retry;
pub mod run;
pub mod secret;
pub mod sink;
pub mod state;
pub mod subject;
pub mod text;
pub mod trust;
pub mod ui;
