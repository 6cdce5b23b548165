//! Azure Arc's Connected Machine agent: tokens for who can read a file in the agent's directory.
//!
//! Sources: Microsoft Learn "Authenticate against Azure resources with Azure Arc-enabled servers"; on user-assigned
//! identities AzureAD/microsoft-authentication-library-for-dotnet#6128 and #6131, -for-js#8761, -for-python#962.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Choice, Parameters, Refusal, issue, parameters, settle};
use crate::{
    message::{Answer, Request, answer as plain, json, with},
    world::{HostIdentity, Settings, World},
};

/// What the agent, or who answers in its place, asks the client to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArcChallenge {
    /// A key in the agent's directory.
    Right,
    /// A link there, to a file elsewhere.
    Symlink,
    /// A path through there, and out of it with `..`.
    DotDot,
    /// A file elsewhere.
    Elsewhere,
    /// A key of 5000 bytes.
    Large,
    /// A file there that is no `.key`.
    Suffix,
    /// A file that is not there.
    NoFile,
    /// A key that nobody may read, root excepted.
    Unreadable,
    /// Another scheme than `Basic`.
    OtherScheme,
    /// Nothing: no header.
    NoHeader,
}

/// Which agent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArcAgent {
    /// Ignores which identity is asked for, and does not say whose token it is.
    Old,
    /// Knows user-assigned identities, and says whose token it is.
    New,
    /// The same, but refuses an identity that is not there before it asks for a key.
    NewEager,
}

fn refused(status: u16, error: &str, description: &str) -> Refusal {
    let body = json!({ "error": error, "error_description": description, "error_codes": [status] });
    Refusal::new(status, body)
}

fn invalid(description: &str) -> Refusal {
    refused(400, "invalid_request", description)
}

/// `GET /arc/metadata/identity/oauth2/token`, or without `/arc` on port 40342
pub(crate) fn answer(request: &Request, world: &World) -> Answer {
    settle(judge(request, world))
}

fn judge(request: &Request, world: &World) -> Result<Answer, Refusal> {
    if request.path.strip_prefix("/arc").unwrap_or(&request.path) != "/metadata/identity/oauth2/token" {
        return Err(refused(404, "not_found", "The requested resource was not found."));
    }
    if request.method != "GET" {
        return Err(refused(405, "method_not_allowed", "The HTTP method is not allowed."));
    }
    if request.header("x-forwarded-for").is_some() {
        return Err(invalid("The X-Forwarded-For header is not allowed."));
    }
    if !request.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(invalid("Required metadata header not specified"));
    }
    let known = ["api-version", "resource", "client_id", "object_id", "msi_res_id", "mi_res_id"];
    let parameters = parameters(&request.query, &known).map_err(|what| invalid(&what))?;
    if !matches!(parameters.get("api-version").copied(), Some("2020-06-01" | "2019-11-01")) {
        return Err(invalid("The api-version is missing or not supported."));
    }
    let resource = parameters.get("resource").copied().ok_or_else(|| invalid("The resource is missing."))?;
    let settings = world.lock().settings.clone();
    let identity = choose(&parameters, &settings);
    if let (ArcAgent::NewEager, Err(refusal)) = (settings.arc_agent, &identity) {
        return Err(refusal.clone());
    }
    let Some(key) = request.header("authorization") else { return challenge(&settings, world) };
    let key = key.strip_prefix("Basic ").unwrap_or_default();
    if !spend(key, world) {
        return challenge(&settings, world);
    }
    let (identity, echo) = identity?;
    let issued = issue(&identity, resource, world)
        .ok_or_else(|| refused(400, "invalid_resource", "The resource is not known in the tenant."))?;
    let mut body = json!({
        "access_token": issued.jwt, "refresh_token": "", "resource": resource, "token_type": "Bearer",
        "expires_in": issued.lifetime.to_string(), "expires_on": (issued.at + issued.lifetime).to_string(),
        "not_before": issued.at.to_string(),
    });
    body.as_object_mut().unwrap().extend(echo);
    Ok(json(200, &body))
}

/// The identity that is meant, and what the answer says of it.
fn choose(
    parameters: &Parameters<'_>,
    settings: &Settings,
) -> Result<(HostIdentity, Map<String, Value>), Refusal> {
    let not_found = || {
        let text = "Identity not found: error acquiring access token: requested identity was not found";
        refused(404, "identity_not_found", text)
    };
    // another spelling of the resource id is ignored
    let choice = Choice::of(parameters, [&["client_id"], &["object_id"], &["msi_res_id"]]);
    let choice = match settings.arc_agent {
        ArcAgent::Old => Choice::Unnamed,
        ArcAgent::New | ArcAgent::NewEager => {
            choice.ok_or_else(|| invalid("Only one identity may be named."))?
        }
    };
    if choice == Choice::Unnamed {
        let system = settings.system_assigned.then(HostIdentity::system);
        return Ok((system.ok_or_else(not_found)?, Map::new()));
    }
    // a selector means a user-assigned one
    let user_assigned = Settings { system_assigned: false, ..settings.clone() };
    let found = choice.find(&user_assigned).ok_or_else(not_found)?;
    let echo = [
        ("client_id", &found.client_id),
        ("object_id", &found.object_id),
        ("msi_res_id", &found.resource_id),
    ];
    let echo = echo.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    Ok((found, echo))
}

/// Takes a key once.
fn spend(key: &str, world: &World) -> bool {
    let mut state = world.lock();
    let position = state.arc.keys.iter().position(|known| known == key);
    position.map(|position| state.arc.keys.remove(position)).is_some()
}

fn challenge(settings: &Settings, world: &World) -> Result<Answer, Refusal> {
    let asked = plain(401, "", "");
    let written = write(settings, world)
        .map_err(|error| refused(500, "internal_error", &format!("{}: {error}", settings.arc_tokens)))?;
    Ok(match settings.arc_challenge {
        ArcChallenge::NoHeader => asked,
        ArcChallenge::OtherScheme => with(asked, "www-authenticate", &format!("Bearer realm={written}")),
        _ => with(asked, "www-authenticate", &format!("Basic realm={written}")),
    })
}

/// Writes a new key, and tells the path that the client is sent to. Whichever file it is in, the key opens: a client that
/// reads what it should not gets its token, and a test sees that.
fn write(settings: &Settings, world: &World) -> io::Result<String> {
    let tokens = Path::new(&settings.arc_tokens);
    let elsewhere = tokens.parent().unwrap_or(tokens).join("elsewhere");
    let name = Uuid::new_v4().to_string();
    let mut key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    fs::create_dir_all(tokens)?;
    let (file, shown) = match settings.arc_challenge {
        ArcChallenge::Suffix => (tokens.join(format!("{name}.txt")), None),
        ArcChallenge::Large => {
            key = key.repeat(79);
            key.truncate(5000);
            (tokens.join(format!("{name}.key")), None)
        }
        ArcChallenge::Elsewhere => (elsewhere.join(format!("{name}.key")), None),
        ArcChallenge::DotDot => {
            let shown = format!("{}/../elsewhere/{name}.key", settings.arc_tokens);
            (elsewhere.join(format!("{name}.key")), Some(PathBuf::from(shown)))
        }
        ArcChallenge::Symlink => {
            let file = elsewhere.join(format!("{name}.key"));
            (file, Some(tokens.join(format!("{name}.key"))))
        }
        ArcChallenge::NoFile => return Ok(tokens.join(format!("{name}.key")).display().to_string()),
        ArcChallenge::Right
        | ArcChallenge::Unreadable
        | ArcChallenge::OtherScheme
        | ArcChallenge::NoHeader => (tokens.join(format!("{name}.key")), None),
    };
    fs::create_dir_all(file.parent().unwrap_or(tokens))?;
    fs::write(&file, &key)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let mode = if settings.arc_challenge == ArcChallenge::Unreadable { 0 } else { 0o640 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        if let (ArcChallenge::Symlink, Some(link)) = (settings.arc_challenge, &shown) {
            symlink(&file, link)?;
        }
    }
    world.remember_secret(&key);
    let mut state = world.lock();
    state.arc.keys.push(key);
    let shown = shown.unwrap_or_else(|| file.clone());
    state.arc.files.extend([file, shown.clone()]);
    Ok(shown.display().to_string())
}

/// Keys that were not spent yet, and every file that was written; they go with it.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<String>,
    files: Vec<PathBuf>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        for file in &self.files {
            // some are there twice, and a client may have removed others
            let _ = fs::remove_file(file);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::{
        hosts::tests::{but, get, object_of, read},
        world::{IDENTITY, IDENTITY_OBJECT, SYSTEM_IDENTITY, SYSTEM_IDENTITY_OBJECT, identity_resource},
    };

    /// A world whose agent has a directory of its own, which goes with it.
    struct Place {
        world: World,
        root: PathBuf,
    }

    impl Place {
        fn new(change: impl FnOnce(&mut Settings)) -> Self {
            let root = std::env::temp_dir().join(format!("arc-{}", Uuid::new_v4()));
            let world = crate::hosts::tests::world(|settings| {
                settings.arc_tokens = root.join("tokens").display().to_string();
                change(settings);
            });
            Self { world, root }
        }

        /// The path that an unauthenticated request is sent to.
        fn realm(&self, request: &Request) -> String {
            let challenged = answer(request, &self.world);
            assert_eq!(challenged.status(), 401);
            let header = challenged.headers()["www-authenticate"].to_str().unwrap();
            header.strip_prefix("Basic realm=").unwrap().to_owned()
        }

        fn with_key(&self, request: &Request) -> Request {
            let key = fs::read_to_string(self.realm(request)).unwrap();
            let authorization = format!("Basic {key}");
            but(request, |request| drop(request.headers.insert("authorization".into(), authorization)))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            self.world.reset();
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    fn right() -> Request {
        let query = [("api-version", "2020-06-01"), ("resource", "https://management.azure.com")];
        but(&get(&query, &[("metadata", "true")]), |request| {
            "/arc/metadata/identity/oauth2/token".clone_into(&mut request.path);
        })
    }

    fn named(name: &str, value: &str) -> Request {
        but(&right(), |request| request.query.push((name.to_owned(), value.to_owned())))
    }

    #[test]
    fn a_key_opens_once() {
        let place = Place::new(|_| ());
        let authorised = place.with_key(&right());
        assert_eq!(object_of(answer(&authorised, &place.world)), SYSTEM_IDENTITY_OBJECT);
        assert_eq!(answer(&authorised, &place.world).status(), 401);
        let wrong =
            but(&right(), |request| drop(request.headers.insert("authorization".into(), "Basic x".into())));
        assert_eq!(answer(&wrong, &place.world).status(), 401);
        let left = place.realm(&right());
        assert!(fs::exists(&left).unwrap());
        place.world.reset();
        assert!(!fs::exists(&left).unwrap());
    }

    #[test]
    fn the_new_agent_says_whose_token_it_is() {
        let place = Place::new(|_| ());
        for (name, value) in [
            ("client_id", IDENTITY),
            ("object_id", IDENTITY_OBJECT),
            ("msi_res_id", &identity_resource("infra-prod")),
        ] {
            let (status, body) = read(answer(&place.with_key(&named(name, value)), &place.world));
            assert_eq!((status, body[name].as_str()), (200, Some(value)));
        }
        for (asked, echo) in [(right(), false), (named("mi_res_id", &identity_resource("infra-prod")), false)]
        {
            let (_, body) = read(answer(&place.with_key(&asked), &place.world));
            assert_eq!(body.get("client_id").is_some(), echo, "{body}");
        }
        for unknown in [named("client_id", IDENTITY_OBJECT), named("client_id", SYSTEM_IDENTITY)] {
            let (status, body) = read(answer(&place.with_key(&unknown), &place.world));
            assert_eq!((status, body["error"].as_str()), (404, Some("identity_not_found")));
        }
        place.world.lock().settings.arc_agent = ArcAgent::NewEager;
        assert_eq!(answer(&named("client_id", SYSTEM_IDENTITY), &place.world).status(), 404);
    }

    #[test]
    fn the_old_agent_gives_its_own() {
        let place = Place::new(|settings| settings.arc_agent = ArcAgent::Old);
        let asked = place.with_key(&named("client_id", IDENTITY));
        let (status, body) = read(answer(&asked, &place.world));
        assert_eq!((status, body.get("client_id")), (200, None));
        let jwt = body["access_token"].as_str().unwrap();
        assert_eq!(crate::keys::Token::parse(jwt).unwrap().claims["oid"], SYSTEM_IDENTITY_OBJECT);
    }

    #[test]
    fn attacks() {
        let place = Place::new(|_| ());
        let ask = |challenge| {
            place.world.lock().settings.arc_challenge = challenge;
            PathBuf::from(place.realm(&right()))
        };
        let tokens = place.root.join("tokens");
        let link = ask(ArcChallenge::Symlink);
        assert_eq!(link.parent(), Some(tokens.as_path()));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::canonicalize(&link).unwrap().parent(), Some(place.root.join("elsewhere").as_path()));
        let dots = ask(ArcChallenge::DotDot);
        assert!(dots.starts_with(&tokens) && dots.to_str().unwrap().contains("/../") && dots.exists());
        assert!(!ask(ArcChallenge::Elsewhere).starts_with(&tokens));
        assert_eq!(fs::metadata(ask(ArcChallenge::Large)).unwrap().len(), 5000);
        assert!(ask(ArcChallenge::Suffix).extension().is_some_and(|suffix| suffix == "txt"));
        assert!(!ask(ArcChallenge::NoFile).exists());
        assert!(ask(ArcChallenge::Unreadable).exists());
        for (challenge, expected) in
            [(ArcChallenge::NoHeader, None), (ArcChallenge::OtherScheme, Some("Bearer"))]
        {
            place.world.lock().settings.arc_challenge = challenge;
            let challenged = answer(&right(), &place.world);
            let header = challenged.headers().get("www-authenticate").map(|header| header.to_str().unwrap());
            assert_eq!(header.and_then(|header| header.split(' ').next()), expected);
        }
    }

    #[test]
    fn what_is_refused() {
        let place = Place::new(|_| ());
        for (asked, status) in [
            (but(&right(), |request| request.headers.clear()), 400),
            (
                but(&right(), |request| drop(request.headers.insert("x-forwarded-for".into(), "x".into()))),
                400,
            ),
            (but(&right(), |request| "POST".clone_into(&mut request.method)), 405),
            (but(&right(), |request| "2018-02-01".clone_into(&mut request.query[0].1)), 400),
            (but(&right(), |request| drop(request.query.remove(1))), 400),
            (but(&right(), |request| request.path.push('/')), 404),
            (named("clientid", IDENTITY), 400),
            (named("resource", "https://vault.azure.net"), 400),
        ] {
            assert_eq!(answer(&asked, &place.world).status(), status, "{asked:?}");
        }
        let two = but(&named("client_id", IDENTITY), |request| {
            request.query.push(("object_id".to_owned(), IDENTITY_OBJECT.to_owned()));
        });
        assert_eq!(answer(&place.with_key(&two), &place.world).status(), 400);
        let unwritable = Place::new(|settings| "/dev/null/tokens".clone_into(&mut settings.arc_tokens));
        assert_eq!(answer(&right(), &unwritable.world).status(), 500);
    }
}
