//! Raw bytes on a connection to the endpoints of `azfed exec`.
//!
//! The input: requests. `{identity}`, `{oidc}` and `{path}` in them are the three secrets, `{host}` is the right host.
//! They are sent twice: to endpoints without a list of resources, by somebody who does not have the secrets; and to
//! endpoints for one resource alone, by somebody who does.

use std::{rc::Rc, time::Duration};

use azfed::{
    assertion::Assertion,
    cli::{Source, SourceArgs},
    cloud::Cloud,
    config::{Identity, Target, Wanted},
    endpoints::{Address, Keys, vault::Vault},
    entra::AccessToken,
    env::Env,
    exchange::{Acquired, Exchange},
    secret::Secret,
    ui::{MaskStream, Runner, Ui},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    task::LocalSet,
};

use super::check;

const PORT: u16 = 40_123;
const IDENTITY: &str = "1d0f8c5e1d0f8c5e1d0f8c5e1d0f8c5e1d0f8c5e1d0f8c5e1d0f8c5e1d0f8c5e";
const OIDC: &str = "2a9b7c6d2a9b7c6d2a9b7c6d2a9b7c6d2a9b7c6d2a9b7c6d2a9b7c6d2a9b7c6d";
const PATH: &str = "3e8f6a5b3e8f6a5b3e8f6a5b3e8f6a5b3e8f6a5b3e8f6a5b3e8f6a5b3e8f6a5b";
const OF_VAULT: &str = "sentinel-of-vault";
const OF_GRAPH: &str = "sentinel-of-graph";
const OF_MANAGEMENT: &str = "sentinel-of-management";

/// One connection's bytes.
pub fn run(data: &[u8]) {
    thread_local!(static SERVER: Server = Server::new());
    SERVER.with(|server| {
        let text = filled(data, [("{host}", "127.0.0.1:40123")].as_slice());
        let has_key = |key: &str| find(&text, key.as_bytes()).is_some();
        if ![IDENTITY, OIDC, PATH].into_iter().any(has_key) {
            let answer = server.answer(&text, false);
            assert!(statuses(&answer).all(|status| status != 200), "200: {}", shown(&answer));
            for token in [OF_VAULT, OF_GRAPH, OF_MANAGEMENT, server.assertion.as_str()] {
                assert!(find(&answer, token.as_bytes()).is_none(), "{}", shown(&answer));
            }
        }
        let keys = [("{identity}", IDENTITY), ("{oidc}", OIDC), ("{path}", PATH)];
        let answer = server.answer(&filled(&text, &keys), true);
        for token in [OF_GRAPH, OF_MANAGEMENT, server.assertion.as_str(), IDENTITY, OIDC, PATH] {
            assert!(find(&answer, token.as_bytes()).is_none(), "{}", shown(&answer));
        }
        let granted = statuses(&answer).filter(|status| *status == 200).count();
        assert!(granted == count(&answer, OF_VAULT.as_bytes()), "{}", shown(&answer));
    });
}

fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn count(text: &[u8], what: &[u8]) -> usize {
    text.windows(what.len()).filter(|window| *window == what).count()
}

/// The input, with place holders filled in.
fn filled(data: &[u8], values: &[(&str, &str)]) -> Vec<u8> {
    let mut text = data.to_vec();
    for (name, value) in values {
        while let Some(at) = find(&text, name.as_bytes()) {
            text.splice(at..at + name.len(), value.bytes());
        }
    }
    text
}

/// The statuses of the answers on a connection. Their bodies are JSON, which has no line like these.
fn statuses(answer: &[u8]) -> impl Iterator<Item = u16> {
    let starts = answer.windows(12).filter(|window| window.starts_with(b"HTTP/1."));
    starts.filter_map(|window| std::str::from_utf8(&window[9..12]).ok()?.parse().ok())
}

struct Server {
    runtime: Runtime,
    exchange: Rc<Exchange>,
    ui: Rc<Ui>,
    address: Address,
    assertion: String,
}

impl Server {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ui = Rc::new(Ui {
            verbose: false,
            quiet: true,
            runner: Runner::Silent,
            mask_stream: MaskStream::Stderr,
            stamped: false,
        });
        let assertion = check::jwt(r#"{"aud":"api://AzureADTokenExchange","exp":4102444800}"#);
        let env = Env::from_pairs([("AZURE_ID_TOKEN", assertion.as_str())]);
        let target = Target {
            cloud: Cloud::public(),
            // nobody is there: what is not at hand cannot be got
            authority: "http://127.0.0.1:1/".parse().expect("an authority"),
            audience: Cloud::public().audience(),
            audience_is_chosen: false,
        };
        let wanted = Wanted::Federated(identity());
        let exchange = runtime
            .block_on(async { Exchange::prepare(&env, &source(), &target, Some(&wanted), &ui) })
            .expect("an exchange");
        let secret = |key: &str| Secret::new(key.to_owned());
        let keys = Keys { identity: secret(IDENTITY), oidc: secret(OIDC), path: secret(PATH) };
        Self { runtime, exchange: Rc::new(exchange), ui, address: Address::new(PORT, keys), assertion }
    }

    /// What comes back until nothing more does.
    fn answer(&self, request: &[u8], is_limited: bool) -> Vec<u8> {
        let scope = |resource: &str| resource.parse().expect("a scope");
        let token = |text: &str, resource: &str| {
            AccessToken::new(Secret::new(text.to_owned()), &scope(resource), Duration::from_secs(86_400))
        };
        let acquired = Acquired {
            identity: identity(),
            assertion: Assertion::parse(&Secret::new(self.assertion.clone())).ok(),
            tokens: vec![
                token(OF_MANAGEMENT, "https://management.azure.com"),
                token(OF_GRAPH, "https://graph.microsoft.com"),
                token(OF_VAULT, "https://vault.azure.net"),
            ],
        };
        let allowed = if is_limited { vec![scope("https://vault.azure.net")] } else { Vec::new() };
        let exchange = Rc::clone(&self.exchange);
        let vault = Vault::new(exchange, acquired, allowed, Duration::ZERO, Cloud::public(), &self.ui);
        let vault = Rc::new(vault);
        let talk = async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            client.write_all(request).await.expect("room");
            let answering = std::cell::Cell::new(false);
            let serve = self.address.serve_connection(server, &vault, &answering);
            let mut serve = std::pin::pin!(serve);
            let mut answer = Vec::new();
            let mut idle = 0;
            // all is in memory: who has nothing to do for some turns waits for the client
            while idle < 8 {
                let mut chunk = [0; 4096];
                let ended = tokio::select! {
                    biased;
                    () = &mut serve => true,
                    read = client.read(&mut chunk) => {
                        let read = read.unwrap_or(0);
                        answer.extend_from_slice(&chunk[..read]);
                        idle = if read == 0 { 8 } else { 0 };
                        false
                    }
                    () = tokio::task::yield_now() => { idle += i32::from(!answering.get()); false }
                };
                if ended {
                    break;
                }
            }
            while let Ok(Ok(read @ 1..)) =
                tokio::time::timeout(Duration::ZERO, client.read_buf(&mut answer)).await
            {
                let _ = read;
            }
            answer
        };
        LocalSet::new().block_on(&self.runtime, talk)
    }
}

fn identity() -> Identity {
    Identity {
        client: "11111111-1111-4111-8111-111111111111".parse().expect("an id"),
        tenant: "22222222-2222-4222-8222-222222222222".parse().expect("an id"),
        subscription: None,
    }
}

fn source() -> SourceArgs {
    SourceArgs {
        source: Source::Env,
        assertion_env: None,
        assertion_file: None,
        service_connection_id: None,
        subject_claim: None,
        via: None,
        via_client_id: None,
        via_object_id: None,
        via_resource_id: None,
        via_tenant_id: None,
        timeout: Duration::from_secs(1),
    }
}
