//! A loopback stand-in for what `azfed` and its clients talk to: the OIDC issuers of GitHub, GitLab, Azure DevOps,
//! Kubernetes and other CIs and clouds, Microsoft Entra, the managed identity endpoints of hosts, Azure Resource Manager, Key
//! Vault and Blob storage.
//!
//! It judges: real RS256 signatures, audiences, subjects, form fields, leases; what a real service refuses, it refuses,
//! with that service's status and words. It is never shipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test double: a panic here is a failed test"
)]

mod aws;
mod azure;
mod blob;
mod control;
mod echo;
mod entra;
mod hosts;
mod issuers;
mod keys;
mod message;
mod server;
pub mod workloads;
pub mod world;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

pub use aws::AwsFederation;
pub use echo::Spelling;
pub use hosts::{
    Host,
    arc::{ArcAgent, ArcChallenge},
    azure_ml::AzureMlNames,
    service_fabric::ServiceFabricCertificate,
    token_proxy::{IDENTITY_BINDING_AUDIENCE, IdentityBinding, TOKEN_PROXY_NAME},
};
pub use issuers::{JobOverrides, Platform};
pub use message::Recorded;
pub use server::HOSTS;
pub use workloads::Workload;
pub use world::{Action, Fault, FederatedCredential, HostIdentity, Names, Settings, TlsCertificate};

use world::World;

/// How an emulator is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where plain http is served.
    pub http: SocketAddr,
    /// Where plain http is served as well: 169.254.169.254:80 in a network namespace of the test's own.
    pub also_http: Vec<SocketAddr>,
    /// Where TLS is served.
    pub tls: SocketAddr,
    /// What can be changed while it runs.
    pub settings: Settings,
    /// When it stops by itself.
    pub max_lifetime: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            http: any,
            also_http: Vec::new(),
            tls: any,
            settings: Settings::default(),
            max_lifetime: Duration::from_mins(10),
        }
    }
}

/// A running emulator; it stops when it is dropped.
#[derive(Debug)]
pub struct Emulator {
    world: Arc<World>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Starts one: when this returns, its ports are open.
    pub fn start(options: Options) -> std::io::Result<Self> {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("emulator".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let bound = server::bind(options.http, &options.also_http, options.tls).await;
                match bound {
                    Ok(bound) => {
                        let world = Arc::new(World::new(options.settings, bound.ports));
                        ready.send(Ok(Arc::clone(&world))).unwrap();
                        tokio::select! {
                            () = server::serve(bound, world) => {}
                            _ = stopped => {}
                            () = tokio::time::sleep(options.max_lifetime) => {}
                        }
                    }
                    Err(error) => ready.send(Err(error)).unwrap(),
                }
            });
        })?;
        let world = started.recv().expect("the emulator's thread says how it started")?;
        Ok(Self { world, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`, or the address that it was told to listen on.
    pub fn http_url(&self) -> String {
        self.world.http_url()
    }

    /// `https://localhost:PORT`
    pub fn https_url(&self) -> String {
        format!("https://localhost:{}", self.world.ports.tls)
    }

    /// Entra, as `AZURE_AUTHORITY_HOST` names it.
    pub fn authority(&self) -> String {
        self.world.url_of("login.microsoftonline.com")
    }

    /// The certificate of the emulator's own authority, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.world.ca_pem
    }

    /// What the platform sets for a step: without temp directories and command files.
    pub fn platform_env(&self, platform: Platform, overrides: &JobOverrides) -> Vec<(String, String)> {
        issuers::environment(&self.world, platform, overrides)
    }

    /// What a host sets that has managed identities; for the instance metadata service, which sets nothing, the variable
    /// by which clients find another one.
    pub fn host_env(&self, host: Host) -> Vec<(String, String)> {
        hosts::environment(&self.world, host)
    }

    /// The SHA-1 of the certificate by which Service Fabric's endpoint is known, 40 hexadecimal digits.
    pub fn service_fabric_thumbprint(&self) -> &str {
        &self.world.tls.thumbprint
    }

    /// The certificate of the authority that vouches for the cluster's token proxy, PEM.
    pub fn token_proxy_ca_pem(&self) -> &str {
        &self.world.tls.token_proxy_ca_pem
    }

    /// Adds a federated identity credential.
    pub fn trust(&self, credential: FederatedCredential) {
        self.world.lock().credentials.push(credential);
    }

    /// Removes every federated identity credential with this subject.
    pub fn distrust(&self, subject: &str) {
        self.world.lock().credentials.retain(|credential| credential.subject != subject);
    }

    /// Makes the next matching requests fail.
    pub fn fault(&self, fault: Fault) {
        self.world.lock().faults.push(fault);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.world.lock().requests.clone()
    }

    /// Every assertion, access token and request token so far.
    pub fn secrets(&self) -> Vec<String> {
        self.world.lock().secrets.clone()
    }

    /// An assertion with these claims over the platform's own, signed by its issuer.
    pub fn mint(&self, platform: Platform, overrides: &JobOverrides) -> String {
        issuers::mint(&self.world, platform, None, overrides)
    }

    /// What the platform of another CI or cloud sets for a step: without temp directories and command files.
    pub fn workload_env(&self, workload: Workload, overrides: &JobOverrides) -> Vec<(String, String)> {
        workloads::environment(&self.world, workload, overrides)
    }

    /// The same as [`Self::mint`] for another CI or cloud.
    pub fn mint_workload(&self, workload: Workload, overrides: &JobOverrides) -> String {
        workloads::mint(&self.world, workload, None, overrides)
    }

    /// An operator's access token to Azure Resource Manager.
    pub fn operator_token(&self) -> String {
        entra::operator_token(&self.world)
    }

    /// Changes the settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.world.lock().settings);
    }

    /// Back to the start: no faults, no record, the first credentials.
    pub fn reset(&self) {
        self.world.reset();
    }

    /// Writes `ca.pem`, `token-proxy-ca.pem`, `world.json` and, last, `ready` into a directory.
    pub fn describe(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("ca.pem"), self.ca_pem())?;
        std::fs::write(directory.join("token-proxy-ca.pem"), self.token_proxy_ca_pem())?;
        std::fs::write(directory.join("world.json"), self.world.describe().to_string())?;
        std::fs::write(directory.join("ready.part"), "")?;
        std::fs::rename(directory.join("ready.part"), directory.join("ready"))
    }

    /// Waits until it has stopped by itself.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let keep = self.stop.take();
            thread.join().expect("the emulator's thread ended well");
            drop(keep);
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // a panic in the emulator has been shown already
            let _ = thread.join();
        }
    }
}
