//! The commands, stage after stage.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    future::Future,
    io::{self, Read},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
};

use crate::{
    assertion::{Assertion, Claims},
    cli::{
        ApplyTrust, Args, AssertionArgs, CheckTrust, CloudArgs, Command, Consumer, DoctorArgs, ExecArgs,
        Form, IdentityArgs, KeepArgs, LoginArgs, Output, SourceArgs, TokenArgs, TokenFormat, TrustCommand,
        TrustOptions,
    },
    cloud::{Cloud, CloudName},
    config::{self, Login, Target, Token},
    doctor,
    endpoints::{Address, Endpoints, vault::Vault},
    env::{Env, names},
    error::Error,
    exchange::{self, Acquired, Exchange},
    exec,
    export::{self, Before, Granted, Hosted, Plan, Served, azure_cli::UserSettings},
    http::Http,
    identifiers::Audience,
    identity_map::IdentityMap,
    keeper::{self, Handed, Keeper, Orders},
    managed_identity::Host,
    nearest, platform,
    secret::Secret,
    sink::{self, Facts, github},
    state::{self, Kept, LoginDirectory},
    text,
    trust::{Trust, apply},
    ui::{MaskStream, Ui},
};
use clap::{
    CommandFactory, Parser, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Runs a command line in an environment and says how it ended.
pub fn main(arguments: &[OsString], env: &Env) -> ExitCode {
    hide_memory();
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => return usage(&error, arguments, env),
    };
    let mask_stream = match &args.command {
        Command::Login(login)
            if writes_commands(config::output(login.output, env)) && !stdout_is_discarded() =>
        {
            MaskStream::Stdout
        }
        _ => MaskStream::Stderr,
    };
    let asked = env.get(names::github::RUNNER_DEBUG) == Some("1")
        || env.get(names::azure_devops::DEBUG).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let ui = Rc::new(Ui {
        verbose: args.verbose || (asked && !args.quiet),
        quiet: args.quiet,
        runner: platform::runner(env),
        mask_stream,
        stamped: matches!(args.command, Command::Keep(_)),
    });
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = runtime()?;
        Ok(runtime.block_on(tokio::task::LocalSet::new().run_until(run(&args.command, env, &ui))))
    }));
    // a command that could not be run is no login that failed
    let mut is_login = matches!(args.command, Command::Login(_) | Command::Exec(_) | Command::Token(_));
    let (code, annotation, rendered) = match outcome {
        Ok(Ok(Ok(code))) => return ExitCode::from(code),
        Ok(Ok(Err(error))) => {
            is_login &= !matches!(error, Error::Command { .. });
            (error.exit_code(), error.annotation(), error.render())
        }
        // what happened has been said; that the login failed has not
        Err(_) => {
            let fact = "this is a bug in azfed".to_owned();
            (101, vec![fact], "azfed: error: this is a bug in azfed\n".to_owned())
        }
        Ok(Err(error)) => {
            let error: io::Error = error;
            let fact = format!("the event loop could not be started: {}", text::one_line(&error.to_string()));
            let rendered = format!("azfed: error: {fact}\n");
            (1, vec![fact], rendered)
        }
    };
    // what `eval` reads comes first: whatever becomes of the message, the job must not go on
    if let Command::Login(login) = &args.command {
        sink::write_failure(config::output(login.output, env), code);
    }
    ui.error(&annotation, &rendered);
    if is_login {
        sink::summarise(&github::failure_summary(&rendered), env, &ui);
    }
    ExitCode::from(code)
}

/// No other process of this user may look into this one's memory or environment, and a crash leaves no core file
/// (prctl(2), `PR_SET_DUMPABLE`).
fn hide_memory() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // a kernel that does not know this has nothing better
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Whether stdout leads nowhere, `/dev/null` or closed, which the standard library makes the same: a mask command must go
/// where a runner reads it.
fn stdout_is_discarded() -> bool {
    #[cfg(unix)]
    {
        use std::os::{
            fd::AsFd,
            unix::fs::{FileTypeExt, MetadataExt},
        };
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(fs::File::from);
        let (stdout, null) = (stdout.and_then(|stdout| stdout.metadata()), fs::metadata("/dev/null"));
        stdout.is_ok_and(|stdout| {
            stdout.file_type().is_char_device() && null.is_ok_and(|null| null.rdev() == stdout.rdev())
        })
    }
    #[cfg(not(unix))]
    false
}

/// Whether stdout is read by the runner, and by nobody else.
fn writes_commands(output: Output) -> bool {
    matches!(output, Output::Github | Output::AzureDevops)
}

/// clap's own words for a wrong command line, and for help.
fn usage(error: &clap::Error, arguments: &[OsString], env: &Env) -> ExitCode {
    if !error.use_stderr() {
        // a reader that went away has what it wanted
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if let Some(output) = form_of_failed_login(arguments, env) {
        sink::write_failure(output, 2);
    }
    let mut rendered = error.render().to_string();
    // clap shows a value as it came: one with a password before its `@`, in whatever form, is left out
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && value.contains('@')
    {
        rendered = rendered.replace(value.as_str(), "…");
    }
    let lines = rendered.lines().map(|line| {
        let indent = if line.starts_with(' ') { "  " } else { "" };
        format!("{indent}{}\n", text::one_line(line))
    });
    let mut rendered = format!("azfed: {}", lines.collect::<String>());
    let has = |word: &str| arguments.iter().skip(1).any(|argument| argument == word);
    if error.kind() == ErrorKind::UnknownArgument && has("exec") && !has("--") {
        rendered.push_str("azfed: hint: the command stands behind `--`: azfed exec [OPTIONS] -- COMMAND\n");
    }
    let ui = Ui {
        verbose: false,
        quiet: false,
        runner: platform::runner(env),
        mask_stream: MaskStream::Stderr,
        stamped: false,
    };
    let fact = rendered.lines().next().unwrap_or_default().trim_start_matches("azfed: error: ");
    ui.error(&[text::one_line(fact)], &rendered);
    ExitCode::from(2)
}

/// The form that the output of a login should have had whose command line is wrong; nothing where it is another command's.
/// A command that is none, and a form that is none, may be what a login was meant to be.
fn form_of_failed_login(arguments: &[OsString], env: &Env) -> Option<Output> {
    let words: Vec<_> = arguments.iter().skip(1).map(|argument| argument.to_string_lossy()).collect();
    let mut words: Vec<&str> = words.iter().map(AsRef::as_ref).take_while(|word| *word != "--").collect();
    let command = Args::command();
    let commands = command.get_subcommands().map(clap::Command::get_name);
    let is_value = |position: usize| position > 0 && words[position - 1] == "--output";
    let position = |name| (0..words.len()).find(|position| words[*position] == name && !is_value(*position));
    let named = commands.filter_map(position).min();
    if words.is_empty() || named.is_some_and(|named| words[named] != "login") {
        return None;
    }
    // a flag without its value
    words.push("");
    let mut forms = words.windows(2).filter_map(|pair| match pair[0].strip_prefix("--output")? {
        "" => Some(pair[1]),
        value => value.strip_prefix('='),
    });
    let form = match (forms.next(), forms.next()) {
        (None, _) => Output::Auto,
        (Some(form), None) => Output::from_str(form, false).unwrap_or(Output::Sh),
        (Some(_), Some(_)) => Output::Sh,
    };
    Some(config::output(form, env))
}

/// One thread: there is nothing to do in parallel but waiting.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs a command; the exit code is the child's, where there is one.
async fn run(command: &Command, env: &Env, ui: &Rc<Ui>) -> Result<u8, Error> {
    match command {
        Command::Login(args) => Box::pin(interruptible(login(args, env, ui))).await?,
        Command::Exec(args) => return exec(args, env, ui).await,
        Command::Token(args) => Box::pin(interruptible(token(args, env, ui))).await?,
        Command::Assertion(args) => interruptible(assertion(args, env, ui)).await?,
        Command::Logout => logout(env, ui)?,
        Command::Doctor(args) => return Box::pin(interruptible(doctor(args, env, ui))).await,
        Command::Trust(command) => return interruptible(trust(command, env, ui)).await,
        Command::Keep(args) => keep(args, env, ui).await?,
        Command::Become(args) => return Err(exec::become_command(args.parent, &args.command)),
        Command::Watch => exec::watch()?,
    }
    Ok(0)
}

/// The number of a signal once it has come.
#[cfg(unix)]
async fn received(kind: tokio::signal::unix::SignalKind) -> u8 {
    if let Ok(mut signal) = tokio::signal::unix::signal(kind) {
        signal.recv().await;
        return u8::try_from(kind.as_raw_value()).unwrap_or_default();
    }
    std::future::pending().await
}

/// Whether `nohup` has started this process (proc(5), `SigIgn`; where there is no such file, nothing is taken for it).
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Lets a signal end the work in an orderly way, so that what was begun is undone.
async fn interruptible<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        tokio::select! {
            biased;
            signal = received(SignalKind::hangup()), if !ignores_hangup() => Err(Error::Interrupted(signal)),
            signal = received(SignalKind::interrupt()) => Err(Error::Interrupted(signal)),
            signal = received(SignalKind::quit()) => Err(Error::Interrupted(signal)),
            signal = received(SignalKind::terminate()) => Err(Error::Interrupted(signal)),
            outcome = work => outcome,
        }
    }
    #[cfg(not(unix))]
    {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(Error::Interrupted(2)),
            outcome = work => outcome,
        }
    }
}

/// The identity that `--identity-map` chooses for this job, with the assertion that it was chosen by; else what the
/// flags say.
pub(crate) async fn identify(
    identity: &IdentityArgs,
    source: &SourceArgs,
    env: &Env,
    ui: &Rc<Ui>,
) -> Result<(IdentityArgs, Option<Assertion>), Error> {
    let Some(file) = &identity.identity_map else { return Ok((identity.clone(), None)) };
    let map = IdentityMap::load(file)?;
    let target = Target::resolve(&identity.cloud, env)?;
    let exchange = Exchange::prepare(env, source, &target, None, ui)?;
    if exchange.platform().managed_identity().is_some() {
        return Err(config::Error::NoClaims(exchange.platform().describe()).into());
    }
    let assertion = exchange.within(config::timeout(source), exchange.platform_assertion()).await?;
    let chosen = map.choose(&assertion.claims)?;
    let identity = IdentityArgs {
        client_id: Some(chosen.client),
        tenant_id: chosen.tenant.or_else(|| identity.tenant_id.clone()),
        subscription_id: chosen.subscription.or_else(|| identity.subscription_id.clone()),
        object_id: None,
        resource_id: None,
        identity_map: None,
        cloud: identity.cloud.clone(),
    };
    Ok((identity, Some(assertion)))
}

async fn login(args: &LoginArgs, env: &Env, ui: &Rc<Ui>) -> Result<(), Error> {
    let (identity, first) = identify(&args.identity, &args.source, env, ui).await?;
    let args = &LoginArgs { identity, ..args.clone() };
    let login = Login::resolve(args, env)?;
    for warning in &login.warnings {
        ui.warning(warning);
    }
    let mut exchange = Exchange::prepare(env, &args.source, &login.target, Some(&login.wanted), ui)?;
    exchange.propagation = login.propagation;
    exchange.first.replace(first);
    let way = Way::choose(&login, &exchange)?;
    if matches!(way, Way::Asked(_)) && !login.endpoints && login.consumers.contains(&Consumer::Sdk) {
        // Terraform is told whom to ask
        for warning in config::prefers_file(&BTreeSet::from([Consumer::Sdk]), env) {
            ui.warning(&warning);
        }
    }
    let deadline = login.timeout + login.propagation;
    let acquired = exchange.within(deadline, exchange.acquire(&login.wanted, &login.scopes)).await?;
    let (identity, tokens) = (&acquired.identity, &acquired.tokens);

    let directory = LoginDirectory::create(env, identity)?;
    let granted = Granted { identity, assertion: acquired.assertion.as_ref(), tokens };
    let (plan, keeper) = plan_and_keep(&login, &granted, &way, &exchange, &directory, env, ui).await?;
    directory.write(&plan.files)?;
    let facts = Facts { login: &login, granted: &granted, directory: directory.path() };
    let process = keeper.as_ref().map(|keeper| keeper.pid);
    sink::write(&plan, &facts, env)?;
    // the last word: a login that is killed before it has told anybody is not renewed
    if let Some(keeper) = keeper {
        keeper.stay().await?;
    }
    if login.output == Output::Github
        && let Err(error) = github::summarise(env, &github::success_summary(&facts))
    {
        ui.debug(&format!("the job's summary could not be written: {error}"));
    }
    for token in tokens {
        ui.info(&format!(
            "logged in to {} as {} for {} until {}",
            login.target.cloud.name,
            identity.client,
            token.scope.resource(),
            github::utc(token.expires_on)
        ));
    }
    if let Some(process) = process {
        ui.info(&format!("process {process} keeps this login until `azfed logout` or the job's end"));
    }
    if let Some(assertion) = &acquired.assertion {
        ui.debug(&format!("subject {}", assertion.claims.sub));
    }
    for variable in &plan.variables {
        ui.debug(&format!("sets {}", variable.name));
    }
    directory.keep();
    Ok(())
}

/// How later steps get their tokens.
#[derive(Debug)]
enum Way {
    /// From files, by the assertion in them.
    Files,
    /// From whom they ask: these clients the endpoints that this login leaves behind, the others the host.
    Asked(BTreeSet<Consumer>),
}

impl Way {
    /// The user's choice; else the host, for each client that knows how to ask it, and endpoints for those that do not.
    fn choose(login: &Login, exchange: &Exchange) -> Result<Self, Error> {
        if login.endpoints {
            return Ok(Self::Asked(login.consumers.clone()));
        }
        let is_known = |consumer: &Consumer| exchange.host().is_some_and(|host| host.is_known_to(*consumer));
        let who = match exchange.host() {
            Some(host) => host.name(),
            None if exchange.has_assertions_for_all() => return Ok(Self::Files),
            None => "cluster's token proxy",
        };
        let served: BTreeSet<Consumer> =
            login.consumers.iter().filter(|consumer| !is_known(consumer)).copied().collect();
        let why = match (login.keep_fresh, login.output) {
            _ if served.is_empty() => return Ok(Self::Asked(served)),
            (Some(false), _) => "`--no-keep-fresh` forbids the background process that could ask for it",
            (_, Output::Dotenv) => {
                "what opens the endpoints that could is a secret, which has no place in an artifact"
            }
            _ => return Ok(Self::Asked(served)),
        };
        let clients = served.iter().map(|consumer| consumer.name()).collect::<Vec<_>>().join(", ");
        Err(config::Error::NotServed { clients, host: who, why }.into())
    }
}

/// The hand-over, and the background process that keeps it, where there is one.
async fn plan_and_keep(
    login: &Login,
    granted: &Granted<'_>,
    way: &Way,
    exchange: &Exchange,
    directory: &LoginDirectory,
    env: &Env,
    ui: &Ui,
) -> Result<(Plan, Option<Keeper>), Error> {
    let (identity, target, path) = (granted.identity, &login.target, directory.path());
    let handed = |endpoints| Handed {
        identity,
        target,
        exchange,
        assertion: granted.assertion,
        tokens: granted.tokens,
        directory: path,
        timeout: login.timeout,
        endpoints,
        allowed: &login.allowed,
    };
    let before = before(env);
    if let Way::Asked(served) = way {
        let asking: BTreeSet<Consumer> = login.consumers.difference(served).copied().collect();
        let mut plan = Plan::default();
        if let (Some(managed), false) = (exchange.of_host(), asking.is_empty()) {
            let hosted = Hosted { managed, identity, target, consumers: &asking, directory: path };
            plan = plan.and(hosted.plan(&before.azure_cli));
        }
        if served.is_empty() {
            return Ok((plan, None));
        }
        let keeper = Keeper::start(&handed(true), env, ui).await?;
        let Some(address) = &keeper.address else {
            return Err(keeper::Failure::Start("it has no endpoints".to_owned()).into());
        };
        mask_keys(address, ui)?;
        let served = Served {
            address,
            identity,
            target,
            consumers: served,
            directory: Some(path),
            assertions: Vault::hands_out_assertions(exchange, &login.allowed),
            no_proxy: no_proxy(env),
        };
        let plan = plan.and(served.plan(&before.azure_cli));
        return Ok((plan, Some(keeper)));
    }
    let Some(assertion) = granted.assertion else { return Err(exchange::nobody()) };
    let renewable = exchange.is_renewable();
    if login.keep_fresh == Some(true) && !renewable {
        return Err(keeper::Failure::NotRenewable(exchange.platform().describe()).into());
    }
    let plan = export::plan(login, granted, (assertion, exchange.issuer()), &before, path);
    // a file that others rotate is renewed where the user says so; a platform that mints, unless the user says no
    let wanted = login.keep_fresh.unwrap_or_else(|| exchange.platform().is_kept_fresh());
    if !(wanted && renewable && plan.is_renewable()) {
        return Ok((plan, None));
    }
    match Keeper::start(&handed(false), env, ui).await {
        Ok(keeper) => Ok((plan, Some(keeper))),
        Err(error) if login.keep_fresh.is_some() => Err(error.into()),
        Err(error) => {
            ui.warning(&format!("{error}; what is on disk ends with the OIDC token"));
            Ok((plan, None))
        }
    }
}

/// What `NO_PROXY` and its other spelling must be where a client would send requests to this machine through a proxy,
/// which could then ask as it does. (Go's and .NET's clients leave loopback out by themselves, Python's and curl do not.)
fn no_proxy(env: &Env) -> Vec<(&'static str, String)> {
    let proxies = names::system::HTTP_PROXY.into_iter().chain(names::system::ALL_PROXY);
    if !proxies.into_iter().any(|name| env.is_set(name)) {
        return Vec::new();
    }
    let [upper, lower] = names::system::NO_PROXY;
    let with_loopback = |name, other| {
        let known = env.get(name).or_else(|| env.get(other)).unwrap_or_default();
        let missing = ["127.0.0.1", "localhost"];
        let missing = missing.into_iter().filter(|host| !known.split(',').any(|one| one.trim() == *host));
        let all: Vec<&str> =
            Some(known).filter(|known| !known.is_empty()).into_iter().chain(missing).collect();
        (name, all.join(","))
    };
    vec![with_loopback(upper, lower), with_loopback(lower, upper)]
}

/// The background process of a login.
async fn keep(args: &KeepArgs, env: &Env, ui: &Rc<Ui>) -> Result<(), Error> {
    let mut orders = Orders::take()?;
    let env = orders.environment(env);
    let meant = config::Exec::resolve(&args.identity, &args.source, &env)?;
    let exchange = Rc::new(Exchange::prepare(&env, &args.source, &meant.target, Some(&meant.wanted), ui)?);
    let kept = Kept::take(&orders.directory)?;
    let owner = orders.owner();
    let (assertion, tokens) = orders.credentials()?;
    let host = exchange.host().map_or("", Host::name);
    let identity = meant.wanted.complete(host, &tokens).map_err(platform::Error::from)?;
    let renews = exchange.is_renewable();
    let endpoints =
        if args.endpoints { Some(Endpoints::open().await.map_err(Error::Endpoints)?) } else { None };
    if !keeper::answer(endpoints.as_ref().map(Endpoints::address))? {
        keeper::give_up(&kept);
        return Ok(());
    }
    let allowed = args.allowed.clone();
    let acquired = Acquired { identity, assertion, tokens };
    let vault = Vault::new(exchange, acquired, allowed, meant.timeout, meant.target.cloud, ui);
    let vault = Rc::new(vault);
    if let Some(endpoints) = endpoints {
        tokio::task::spawn_local(endpoints.serve(Rc::clone(&vault)));
    }
    let reason = keeper::run(&vault, &kept, owner, renews, ui).await?;
    ui.info(&format!("ends: {reason}"));
    Ok(())
}

/// A child process with endpoints of its own. The first token is got before it starts: a login that does not work is
/// said by azfed, and not by whatever the command makes of it.
async fn exec(args: &ExecArgs, env: &Env, ui: &Rc<Ui>) -> Result<u8, Error> {
    let (identity, assertion) = interruptible(identify(&args.identity, &args.source, env, ui)).await?;
    let meant = config::Exec::resolve(&identity, &args.source, env)?;
    let exchange = Rc::new(Exchange::prepare(env, &args.source, &meant.target, Some(&meant.wanted), ui)?);
    exchange.first.replace(assertion);
    let first = args.allowed.first().cloned().unwrap_or_else(|| meant.target.cloud.resource_manager_scope());
    let scopes = [first];
    let acquired = exchange.within(meant.timeout, exchange.acquire(&meant.wanted, &scopes));
    let Acquired { identity, assertion, tokens } = interruptible(acquired).await?;
    let endpoints = Endpoints::open().await.map_err(Error::Endpoints)?;

    // az wants a directory; what stands in it is no secret, and it goes with this process
    let consumers: BTreeSet<Consumer> = args.consumers.iter().copied().collect();
    let directory = consumers.contains(&Consumer::Az).then(|| LoginDirectory::create(env, &identity));
    let directory = directory.transpose()?;
    let served = Served {
        address: endpoints.address(),
        identity: &identity,
        target: &meant.target,
        consumers: &consumers,
        directory: directory.as_ref().map(LoginDirectory::path),
        assertions: Vault::hands_out_assertions(&exchange, &args.allowed),
        no_proxy: no_proxy(env),
    };
    if let Some(directory) = &directory {
        directory.write(&served.plan(&before(env).azure_cli).files)?;
    }
    // with a list of resources, the command does not get what opens every resource either
    let own = if args.allowed.is_empty() { Vec::new() } else { exchange.platform().credentials() };
    let environment = exec::environment(env, &served, own);
    for name in &environment.removed {
        ui.debug(&format!("the command does not get {name}"));
    }
    for variable in &environment.set {
        ui.debug(&format!("the command gets {}", variable.name));
    }
    mask_keys(endpoints.address(), ui)?;
    let allowed = args.allowed.clone();
    let acquired = Acquired { identity, assertion, tokens };
    let vault = Vault::new(exchange, acquired, allowed, meant.timeout, meant.target.cloud, ui);
    let vault = Rc::new(vault);
    let serving = tokio::task::spawn_local(endpoints.serve(Rc::clone(&vault)));
    let program = exec::shown(&args.command);
    let failed = |reason| Error::Command { program: program.clone(), reason };
    let path = directory.as_ref().map(LoginDirectory::path);
    let mut running = exec::spawn(&args.command, &environment, path).await.map_err(failed)?;
    let status = running.wait().await.map_err(failed)?;
    serving.abort();
    say_asked_for(&program, &vault.asked_for(), env, ui);
    Ok(exec::exit_code(status))
}

/// Hides what opens the endpoints in the job's log.
fn mask_keys(address: &Address, ui: &Ui) -> Result<(), Error> {
    let keys = address.keys();
    ui.mask(&[&keys.identity, &keys.oidc, &keys.path])
        .map_err(|error| Error::Platform(platform::Error::Mask(error)))
}

async fn token(args: &TokenArgs, env: &Env, ui: &Rc<Ui>) -> Result<(), Error> {
    let (identity, first) = identify(&args.identity, &args.source, env, ui).await?;
    let args = &TokenArgs { identity, ..args.clone() };
    let token = Token::resolve(args, env)?;
    let exchange = Exchange::prepare(env, &args.source, &token.target, Some(&token.wanted), ui)?;
    exchange.first.replace(first);
    let scopes = [token.scope];
    let acquired = exchange.within(token.timeout, exchange.acquire(&token.wanted, &scopes)).await?;
    for granted in &acquired.tokens {
        let text = match args.format {
            TokenFormat::Text => Secret::new(format!("{}\n", granted.secret.expose())),
            TokenFormat::Json => {
                let object = serde_json::json!({
                    "token": granted.secret.expose(),
                    "expires_on": granted.expires_on,
                    "scope": granted.scope.as_str(),
                    "client": acquired.identity.client.as_str(),
                    "tenant": acquired.identity.tenant.as_str(),
                });
                Secret::new(format!("{object}\n"))
            }
        };
        sink::stdout(text.expose())?;
    }
    Ok(())
}

async fn assertion(args: &AssertionArgs, env: &Env, ui: &Rc<Ui>) -> Result<(), Error> {
    let target = Target::resolve(&args.cloud, env)?;
    let exchange = Exchange::prepare(env, &args.source, &target, None, ui)?;
    let assertion = exchange.within(config::timeout(&args.source), exchange.assertion()).await?;
    // no line break: what is redirected into a file must be the assertion and nothing else
    Ok(sink::stdout(assertion.jwt.expose())?)
}

/// The examination's result is data; its exit code is the login's.
async fn doctor(args: &DoctorArgs, env: &Env, ui: &Rc<Ui>) -> Result<u8, Error> {
    let report = doctor::examine(args, env, ui).await;
    sink::stdout(&if args.json { report.json() } else { report.render() })?;
    Ok(report.exit_code())
}

async fn trust(command: &TrustCommand, env: &Env, ui: &Rc<Ui>) -> Result<u8, Error> {
    let (trust, form) = match command {
        TrustCommand::Github(described) => {
            let map = described.identity_map.as_deref().map(IdentityMap::load).transpose()?;
            (Trust::github(described, map.as_ref(), &described.options)?, described.options.form)
        }
        TrustCommand::Gitlab(described) => {
            let map = described.identity_map.as_deref().map(IdentityMap::load).transpose()?;
            (Trust::gitlab(described, map.as_ref(), &described.options)?, described.options.form)
        }
        TrustCommand::AzureDevops(described) => {
            (Trust::azure_devops(described, &described.options)?, described.options.form)
        }
        TrustCommand::Kubernetes(described) => {
            (Trust::kubernetes(described, &described.options)?, described.options.form)
        }
        TrustCommand::Buildkite(described) => (Trust::buildkite(described)?, described.options.form),
        TrustCommand::Circleci(described) => (Trust::circleci(described)?, described.options.form),
        TrustCommand::HcpTerraform(described) => (Trust::hcp_terraform(described)?, described.options.form),
        TrustCommand::Spacelift(described) => (Trust::spacelift(described)?, described.options.form),
        TrustCommand::Semaphore(described) => (Trust::semaphore(described)?, described.options.form),
        TrustCommand::Codefresh(described) => (Trust::codefresh(described)?, described.options.form),
        TrustCommand::Forgejo(described) => (Trust::forgejo(described)?, described.options.form),
        TrustCommand::GoogleCloud(described) => (Trust::google_cloud(described)?, described.options.form),
        TrustCommand::Aws(described) => (Trust::aws(described)?, described.options.form),
        TrustCommand::Bitbucket(_) => return Err(platform::Error::Bitbucket.into()),
        TrustCommand::Gitea(_) => return Err(platform::Error::Gitea.into()),
        TrustCommand::Jenkins(_) => return Err(platform::Error::Jenkins.into()),
        TrustCommand::Here(here) => {
            let cloud = CloudArgs {
                cloud: here.options.cloud,
                authority_host: None,
                audience: here.options.audience.clone(),
            };
            let (claims, audience) = claims_of_this_job(&cloud, &here.source, env, ui).await?;
            let options = TrustOptions { audience: Some(audience), ..here.options.clone() };
            // only an app registration can trust a host's identity
            let form = match options.form {
                Form::Az if platform::begins_with_host(env, &here.source) => Form::AzApp,
                form => form,
            };
            (Trust::of_claims(&claims.iss, &claims.sub, &options)?, form)
        }
        TrustCommand::Check(check) => return check_trust(check, env, ui).await,
        TrustCommand::Apply(wanted) => return apply_trust(wanted, env, ui).await,
    };
    sink::stdout(&trust.render(form)?)?;
    // what is redirected, or piped into a shell, hides its comments
    for note in trust.notes(form) {
        ui.info(&note);
    }
    Ok(0)
}

/// What this job's OIDC token says, and the audience that its credential must have.
async fn claims_of_this_job(
    cloud: &CloudArgs,
    source: &SourceArgs,
    env: &Env,
    ui: &Rc<Ui>,
) -> Result<(Claims, Audience), Error> {
    let target = Target::resolve(cloud, env)?;
    let exchange = Exchange::prepare(env, source, &target, None, ui)?;
    let assertion = exchange.within(config::timeout(source), exchange.assertion()).await?;
    Ok((assertion.claims, exchange.audience().clone()))
}

/// Compares a list of credentials with a job: 0 where one matches, else 4, as Entra's refusal would be.
async fn check_trust(check: &CheckTrust, env: &Env, ui: &Rc<Ui>) -> Result<u8, Error> {
    let credentials = read_credentials(&check.file)?;
    let presented = if let (Some(issuer), Some(subject)) = (&check.issuer, &check.subject) {
        let audience = Target::resolve(&check.cloud, env)?.audience.to_string();
        nearest::Presented { issuer: issuer.clone(), subject: subject.clone(), audience }
    } else {
        let (claims, audience) = claims_of_this_job(&check.cloud, &check.source, env, ui).await?;
        nearest::Presented::of(&claims, &audience)
    };
    let outcome = nearest::compare(&presented, &credentials);
    sink::stdout(&(outcome.render().join("\n") + "\n"))?;
    Ok(if matches!(outcome, nearest::Outcome::Match(_)) { 0 } else { 4 })
}

/// The federated credentials in a file; `-` is stdin.
pub(crate) fn read_credentials(file: &Path) -> Result<Vec<nearest::Credential>, Error> {
    let unreadable =
        |reason: String| Error::Config(config::Error::Credentials { file: file.to_owned(), reason });
    let json = if file.as_os_str() == "-" {
        let mut json = String::new();
        std::io::stdin().lock().take(LONGEST_SETTINGS).read_to_string(&mut json).map(|_| json)
    } else {
        fs::read_to_string(file)
    };
    nearest::read(&json.map_err(|error| unreadable(error.to_string()))?).map_err(unreadable)
}

/// Shows what would be done, and does it where the operator has said so.
async fn apply_trust(args: &ApplyTrust, env: &Env, ui: &Rc<Ui>) -> Result<u8, Error> {
    let cloud = args.cloud.map_or_else(Cloud::public, |CloudName(cloud)| cloud);
    let resource = cloud.resource_manager_scope();
    let base = match &args.resource_manager {
        Some(base) => base.clone(),
        None => resource
            .resource()
            .parse()
            .map_err(|invalid| config::Error::Variable { variable: "--resource-manager", invalid })?,
    };
    let identities = apply::by_identity(
        args.identity.as_deref(),
        args.resource_group.as_deref(),
        read_credentials(&args.file)?,
    )?;
    if args.role.is_some() && identities.len() > 1 {
        return Err(apply::Error::RoleForSeveral(identities.len()).into());
    }
    let token = apply::operators_token(resource.resource(), args.timeout).await?;
    ui.mask(&[&token]).map_err(|error| Error::Platform(platform::Error::Mask(error)))?;
    let http = Http::new(env, [&base])?;
    let manager = apply::ResourceManager::new(base, &http, token, args.timeout, ui)?;
    // every plan before the first write: what cannot be done changes nothing
    let mut plans = Vec::new();
    for (identity, resource_group, credentials) in identities {
        let wanted = apply::Wanted {
            subscription: args.subscription_id.clone(),
            resource_group,
            identity,
            location: args.location.clone(),
            credentials,
            role: args.role.clone().zip(args.scope.clone()),
        };
        plans.push((manager.plan(&wanted).await?, wanted));
    }
    let lines: Vec<&str> = plans.iter().flat_map(|(plan, _)| plan.lines()).map(String::as_str).collect();
    sink::stdout(&(lines.join("\n") + "\n"))?;
    if !args.yes && plans.iter().any(|(plan, _)| !plan.is_done()) {
        ui.info("nothing was changed: say `--yes` to go on");
        return Ok(0);
    }
    for (plan, wanted) in plans {
        let ids = manager.apply(plan, &wanted).await?;
        let proof = apply::proof(&ids, &wanted.subscription, &wanted.credentials);
        sink::stdout(&format!("\n{}\n", proof.join("\n")))?;
    }
    Ok(0)
}

fn logout(env: &Env, ui: &Ui) -> Result<(), Error> {
    let removed = state::remove(env)?;
    if removed.is_empty() {
        ui.info("nothing to remove");
    }
    for removed in removed {
        ui.info(&format!("removed {}", removed.directory.display()));
        say_asked_for("later steps", &removed.asked_for, env, ui);
        if let Some(last_words) = removed.ended_before {
            ui.warning(&format!(
                "the process that kept this login fresh had ended before; the end of its log: {last_words}"
            ));
        }
        if removed.still_there {
            ui.warning(
                "a process still holds the lock of this login's background process, and did not end: nothing is on disk any \
                 more, but it may have a token in memory",
            );
        }
    }
    Ok(())
}

/// Least privilege made visible: which resources the endpoints were asked for, and how often.
fn say_asked_for(who: &str, asked_for: &[(String, u64)], env: &Env, ui: &Ui) {
    for (resource, times) in asked_for {
        ui.info(&format!("{who} asked for {resource}: {times}"));
    }
    if !asked_for.is_empty() {
        sink::summarise(&github::asked_for_summary(who, asked_for), env, ui);
    }
}

/// Longest settings file of the user's that is read.
const LONGEST_SETTINGS: u64 = 1 << 20;

/// What the user's environment has, that a plan must know of.
fn before(env: &Env) -> Before {
    let home =
        env.get(names::system::HOME).or_else(|| env.get(names::system::USERPROFILE)).map(PathBuf::from);
    let users_own = home.map(|home| home.join(".azure"));
    // an earlier login's private directory has the user's settings in it already
    let settings = env.get(names::azure::CONFIG_DIR).map(PathBuf::from).or_else(|| users_own.clone());
    let read = |name: &str| {
        let path = settings.as_ref()?.join(name);
        let metadata = fs::metadata(&path).ok()?;
        let readable = metadata.is_file() && metadata.len() <= LONGEST_SETTINGS;
        readable.then(|| fs::read_to_string(path).ok()).flatten()
    };
    let extensions =
        users_own.map(|directory| directory.join("cliextensions")).filter(|directory| directory.is_dir());
    Before {
        arm_environment: env.get(names::arm::ENVIRONMENT).map(ToOwned::to_owned),
        arm_oidc_request_url: env.get(names::arm::OIDC_REQUEST_URL).map(ToOwned::to_owned),
        azure_cli: UserSettings {
            config: read("config"),
            clouds_config: read("clouds.config"),
            extension_dir: extensions
                .filter(|_| !env.is_set(names::azure::EXTENSION_DIR))
                .and_then(|directory| directory.to_str().map(ToOwned::to_owned)),
        },
    }
}
