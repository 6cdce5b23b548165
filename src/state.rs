//! A login's directory: made in the job's temp, 0700, found again by `logout`.

mod inside;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use self::inside::Inside;
use crate::{
    clock::{self, Moment},
    config::Identity,
    env::{Env, names},
    error::Hints,
    export::LoginFile,
    keeper::owner::Owner,
    platform,
    secret::Secret,
    text,
    ui::Runner,
};

/// How the directories' names begin.
const PREFIX: &str = "azfed-";
/// How many characters come after it.
const RANDOM: usize = 12;

/// Whether a directory of this name may be, or have been, a login's.
pub fn is_name_of_login(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.len() == RANDOM && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The file that tells `logout` whose a directory is. It holds no secret.
const MANIFEST: &str = "login.json";
/// The background process' own directory, in the login's.
const KEEPER: &str = "keeper";
/// What it says.
const LOG: &str = "log";
/// What it holds while it lives. In it stands which process that is.
const LOCK: &str = "keeper/lock";
/// Its process id, for people.
const PID: &str = "keeper/pid";
/// Which resources its endpoints were asked for.
const ASKED_FOR: &str = "keeper/asked-for.json";
/// What it is given to write its last words and go.
const TERM_PATIENCE: Duration = Duration::from_secs(3);
/// A process that was killed is gone as soon as the kernel comes to it.
const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// In this time one that was not told to go sees that its directory is no more.
const GONE_PATIENCE: Duration = Duration::from_secs(6);

/// Why files could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No directory in the job's temp.
    #[error("no directory for this login could be made in {}: {reason}", temp.display())]
    Directory {
        /// The job's temp.
        temp: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// A path that no variable can hold.
    #[error("the job's temp directory {} is not an absolute path in UTF-8", .0.display())]
    Path(PathBuf),
    /// A file could not be written.
    #[error("{name} could not be written into this login's directory: {reason}")]
    File {
        /// Its name.
        name: String,
        /// Why not.
        reason: io::Error,
    },
    /// The directory could not be removed.
    #[error("{} could not be removed: {reason}", directory.display())]
    Remove {
        /// Which.
        directory: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// A variable names something that no login made.
    #[error("{variable} names {}, which no login made: nothing was removed", directory.display())]
    NotALogin {
        /// Which variable.
        variable: &'static str,
        /// What it names.
        directory: PathBuf,
    },
}

impl Error {
    /// The next steps.
    pub fn hints(&self) -> Hints {
        match self {
            Self::Directory { .. } | Self::File { .. } | Self::Path(_) => Hints::one(
                "the job's temp (RUNNER_TEMP, AGENT_TEMPDIRECTORY, RUNNER_TEMP_PROJECT_DIR, TMPDIR) must be a directory \
                 that this user can write to, with room left",
            ),
            Self::Remove { directory, .. } => {
                Hints::one(format!("remove it by hand: it holds credentials: {}", directory.display()))
            }
            Self::NotALogin { variable, .. } => Hints::one(format!("unset {variable}")),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    azfed: String,
    job: String,
    client_id: String,
    tenant_id: String,
    created: u64,
}

/// The job's temp: the platform's own, which it empties, else the system's. Never the workspace.
pub fn temp(env: &Env) -> PathBuf {
    temps(env).remove(0)
}

/// Every directory that is or was the job's temp: one may be made after the login.
fn temps(env: &Env) -> Vec<PathBuf> {
    let platforms_own = match platform::runner(env) {
        Runner::GitHub => Some(names::github::RUNNER_TEMP),
        Runner::AzureDevOps => Some(names::azure_devops::AGENT_TEMP_DIRECTORY),
        Runner::Silent if env.is_set(names::gitlab::CI) => Some(names::gitlab::RUNNER_TEMP_PROJECT_DIR),
        Runner::Silent => None,
    };
    let systems_own = if cfg!(windows) { names::system::TEMP } else { names::system::TMPDIR };
    let named =
        platforms_own.into_iter().chain([systems_own]).filter_map(|name| env.get(name)).map(PathBuf::from);
    let last = PathBuf::from(if cfg!(windows) { r"C:\Windows\Temp" } else { "/tmp" });
    named.filter(|path| path.is_dir()).chain([last]).collect()
}

/// What tells one job from another that shares its temp; empty outside of CI.
fn job(env: &Env) -> String {
    let parts: &[&str] = match platform::runner(env) {
        Runner::GitHub => &[names::github::RUN_ID, names::github::RUN_ATTEMPT, names::github::JOB],
        Runner::AzureDevOps => &[names::azure_devops::BUILD_ID, names::azure_devops::JOB_ID],
        Runner::Silent => &[names::gitlab::JOB_ID],
    };
    let parts: Vec<&str> = parts.iter().filter_map(|name| env.get(name)).collect();
    parts.join("/")
}

/// A directory that is removed again unless the login succeeds.
#[derive(Debug)]
pub struct LoginDirectory {
    directory: TempDir,
    path: String,
}

impl LoginDirectory {
    /// Makes it: a random name, mode 0700, its manifest first.
    pub fn create(env: &Env, identity: &Identity) -> Result<Self, Error> {
        let created = Self::open(env)?;
        let manifest = Manifest {
            azfed: env!("CARGO_PKG_VERSION").to_owned(),
            job: job(env),
            client_id: identity.client.to_string(),
            tenant_id: identity.tenant.to_string(),
            created: clock::now(),
        };
        let manifest = serde_json::to_string(&manifest)
            .map_err(|error| Error::File { name: MANIFEST.to_owned(), reason: error.into() })?;
        created.write_one(MANIFEST, manifest.as_bytes())?;
        Ok(created)
    }

    /// The directory alone, as yet no login's.
    pub fn open(env: &Env) -> Result<Self, Error> {
        let temp = temp(env);
        let failed = |reason| Error::Directory { temp: temp.clone(), reason };
        let temp = std::path::absolute(&temp).map_err(failed)?;
        let failed = |reason| Error::Directory { temp: temp.clone(), reason };
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).rand_bytes(RANDOM);
        #[cfg(unix)]
        builder.permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700));
        let directory = builder.tempdir_in(&temp).map_err(failed)?;
        let path = directory.path().to_str().ok_or_else(|| Error::Path(temp.clone()))?.to_owned();
        if path.contains(char::is_control) {
            return Err(Error::Path(temp));
        }
        Ok(Self { directory, path })
    }

    /// The absolute path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Writes each file: 0600 from its first byte, whole, then renamed.
    pub fn write(&self, files: &[LoginFile]) -> Result<(), Error> {
        files.iter().try_for_each(|file| self.write_one(&file.path, file.content.expose().as_bytes()))
    }

    fn write_one(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let failed = |reason| Error::File { name: name.to_owned(), reason };
        let path = self.directory.path().join(name);
        make_directory(path.parent().unwrap_or(self.directory.path())).map_err(failed)?;
        replace(&path, content).map_err(failed)
    }

    /// The login succeeded: the directory stays until `logout`.
    pub fn keep(self) {
        let _ = self.directory.keep();
    }
}

/// Writes a file whole, 0600 from its first byte, and puts it in the place of the old one. Its directory must be there.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(parent)?;
    file.write_all(content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The background process' log, in a directory of its own. Its stderr goes there.
pub fn open_log(directory: &str) -> io::Result<File> {
    let keeper = Path::new(directory).join(KEEPER);
    make_directory(&keeper)?;
    let mut options = OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(keeper.join(LOG))
}

/// What the log says last, harmless and on one line.
pub fn last_log_line(directory: &str) -> Option<String> {
    let mut log = File::open(Path::new(directory).join(KEEPER).join(LOG)).ok()?;
    let start = log.metadata().ok()?.len().saturating_sub(4096);
    log.seek(SeekFrom::Start(start)).ok()?;
    let mut end = Vec::new();
    log.take(4096).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    end.lines().rfind(|line| !line.trim().is_empty()).map(text::one_line)
}

/// A login's directory as its background process sees it.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    inside: Inside,
    _lock: File,
}

impl Kept {
    /// Takes the directory in charge, which one process at a time can.
    pub fn take(directory: &str) -> Result<Self, Error> {
        let path = PathBuf::from(directory);
        if manifest(&path).is_none() {
            return Err(Error::NotALogin { variable: "the orders", directory: path });
        }
        let failed = |reason| Error::File { name: LOCK.to_owned(), reason };
        make_directory(&path.join(KEEPER)).map_err(failed)?;
        let inside = Inside::open(&path).map_err(failed)?;
        let mut lock = inside.create(LOCK).map_err(failed)?;
        lock.try_lock().map_err(|error| failed(error.into()))?;
        let holder = serde_json::to_vec(&Owner::own()).map_err(|error| failed(error.into()))?;
        lock.set_len(0).and_then(|()| lock.write_all(&holder)).map_err(failed)?;
        let pid = std::process::id().to_string();
        inside.replace(PID, pid.as_bytes()).map_err(failed)?;
        Ok(Self { path, inside, _lock: lock })
    }

    /// Whether the login is still there.
    pub fn exists(&self) -> bool {
        self.path.join(MANIFEST).is_file()
    }

    /// Puts new content in the place of a file that is there; one that is not, or of which `rewrite` makes nothing, is
    /// left alone. No link is followed, in the file's own place or on the way to it.
    pub fn rewrite(&self, name: &str, rewrite: impl FnOnce(&str) -> Option<Secret>) -> io::Result<()> {
        let old = match self.inside.read(name) {
            Ok(old) => Secret::new(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        rewrite(old.expose()).map_or(Ok(()), |new| self.inside.replace(name, new.expose().as_bytes()))
    }

    /// Removes the login: the job has ended without it.
    pub fn remove(&self) -> io::Result<()> {
        remove_whole(&self.path)
    }

    /// Writes down for `logout` which resources were asked for, and how often.
    pub fn note_asked_for(&self, asked_for: &[(String, u64)]) -> io::Result<()> {
        self.inside.replace(ASKED_FOR, &serde_json::to_vec(asked_for)?)
    }
}

/// The background process of a login, as `logout` sees it.
struct Watched {
    /// What it holds while it lives.
    lock: File,
    /// Which process that is, by its own word.
    holder: Option<Owner>,
}

impl Watched {
    fn find(inside: &Inside) -> Option<Self> {
        let lock = inside.write(LOCK).ok()?;
        let holder = inside.read(LOCK).ok().and_then(|holder| serde_json::from_str(&holder).ok());
        Some(Self { lock, holder })
    }

    fn has_ended(&self) -> bool {
        self.lock.try_lock().is_ok()
    }

    /// Whether it has let go of the lock, and has then gone, in this time.
    fn ends_within(&self, patience: Duration) -> bool {
        let since = Moment::now();
        let is_gone = || self.has_ended() && !self.holder.is_some_and(|holder| holder.is_alive());
        loop {
            if is_gone() {
                return true;
            }
            if since.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it by signals. They go to the process that took the lock, and to no later one of its number.
    fn end(&self) -> bool {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process};
            let own = std::process::id();
            let holder = self.holder.filter(|holder| holder.pid > 1 && holder.pid != own);
            for (signal, patience) in [(Signal::TERM, TERM_PATIENCE), (Signal::KILL, KILL_PATIENCE)] {
                let Some(holder) = holder.filter(Owner::is_alive) else { break };
                if let Some(pid) = i32::try_from(holder.pid).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, signal);
                }
                if self.ends_within(patience) {
                    return true;
                }
            }
        }
        self.has_ended()
    }
}

/// What was removed.
#[derive(Debug)]
pub struct Removed {
    /// A login's directory.
    pub directory: PathBuf,
    /// Which resources its endpoints were asked for, and how often.
    pub asked_for: Vec<(String, u64)>,
    /// The last words of a background process that had ended before.
    pub ended_before: Option<String>,
    /// Whether its background process has not ended.
    pub still_there: bool,
}

/// Under another name first: there no other process puts a file into it meanwhile.
fn remove_whole(directory: &Path) -> io::Result<()> {
    let gone = directory.with_extension("removed");
    let renamed = fs::rename(directory, &gone).is_ok();
    fs::remove_dir_all(if renamed { &gone } else { directory })
}

/// Removes a login whose `exec` has gone without doing so.
pub fn remove_left(directory: &str) -> io::Result<()> {
    let directory = Path::new(directory);
    match manifest(directory) {
        Some(_) => remove_whole(directory),
        None => Ok(()),
    }
}

/// Whether a path is a login's directory, or below one, by its name.
pub fn is_ours(path: &str) -> bool {
    let is = |component: std::path::Component<'_>| {
        component.as_os_str().to_str().is_some_and(|name| name.starts_with(PREFIX))
    };
    Path::new(path).components().any(is)
}

fn remove_one(directory: &Path) -> Result<Removed, Error> {
    let failed = |reason| Error::Remove { directory: directory.to_owned(), reason };
    let inside = Inside::open(directory).map_err(failed)?;
    let keeper = Watched::find(&inside);
    let ended_before = keeper.as_ref().is_some_and(Watched::has_ended).then(|| {
        last_log_line(&directory.to_string_lossy()).unwrap_or_else(|| "no word in its log".to_owned())
    });
    let keeper = keeper.filter(|keeper| ended_before.is_none() && !keeper.end());
    let asked_for = inside.read(ASKED_FOR).ok();
    let asked_for = asked_for.and_then(|content| serde_json::from_str(&content).ok()).unwrap_or_default();
    remove_whole(directory).map_err(failed)?;
    // one that could not be told sees it by itself
    let still_there = keeper.is_some_and(|keeper| !keeper.ends_within(GONE_PATIENCE));
    Ok(Removed { directory: directory.to_owned(), asked_for, ended_before, still_there })
}

/// Removes what this job's logins made, and says which directories those were.
///
/// In a GitHub action's post step that is this action's own login. Elsewhere it is the login that the environment
/// names, and each other one in the job's temp that this same job made.
pub fn remove(env: &Env) -> Result<Vec<Removed>, Error> {
    let mut found = Vec::new();
    if let Some(own) = env.get(names::github::STATE_LOGIN_DIR) {
        found.extend(named(names::github::STATE_LOGIN_DIR, own)?);
    } else {
        if let Some(last) = env.get(names::azfed::LOGIN_DIR) {
            found.extend(named(names::azfed::LOGIN_DIR, last)?);
        }
        let job = job(env);
        if !job.is_empty() {
            for temp in temps(env) {
                let siblings = fs::read_dir(temp).into_iter().flatten().flatten().map(|entry| entry.path());
                found.extend(
                    siblings.filter(|path| manifest(path).is_some_and(|manifest| manifest.job == job)),
                );
            }
        }
    }
    found.sort();
    found.dedup();
    found.iter().map(|directory| remove_one(directory)).collect()
}

/// A directory that a variable names; one that is gone already is fine.
fn named(variable: &'static str, path: &str) -> Result<Option<PathBuf>, Error> {
    let directory = PathBuf::from(path);
    if fs::symlink_metadata(&directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    match manifest(&directory) {
        Some(_) => Ok(Some(directory)),
        None => Err(Error::NotALogin { variable, directory }),
    }
}

/// The manifest of a directory (no link) whose name is one of ours.
fn manifest(directory: &Path) -> Option<Manifest> {
    let ours = directory.file_name()?.to_str()?.starts_with(PREFIX);
    let real = fs::symlink_metadata(directory).ok()?;
    if !(ours && real.is_dir() && is_own(&real)) {
        return None;
    }
    let path = directory.join(MANIFEST);
    let metadata = fs::symlink_metadata(&path).ok()?;
    if !metadata.is_file() || metadata.len() > 4096 {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Whether it is this user's: in a temp that users share, another one's directory may have any name and content.
fn is_own(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::uid(metadata) == rustix::process::geteuid().as_raw()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        true
    }
}

/// Appends to one of the runner's files in one write; on failure the file is as it was.
pub fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(content).and_then(|()| file.flush());
    if written.is_err() {
        // the first error is the one to report
        let _ = file.set_len(before);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            client: "11111111-1111-4111-8111-111111111111".parse().unwrap(),
            tenant: "22222222-2222-4222-8222-222222222222".parse().unwrap(),
            subscription: None,
        }
    }

    fn gitlab(temp: &Path, job: &str, login: Option<&str>) -> Env {
        let pairs =
            [("GITLAB_CI", "true"), ("CI_JOB_ID", job), ("RUNNER_TEMP_PROJECT_DIR", temp.to_str().unwrap())];
        Env::from_pairs(pairs.into_iter().chain(login.map(|path| ("AZFED_LOGIN_DIR", path))))
    }

    fn login(env: &Env) -> String {
        let directory = LoginDirectory::create(env, &identity()).unwrap();
        let file = LoginFile { path: "azure/x.json".to_owned(), content: Secret::new("{}".to_owned()) };
        directory.write(&[file]).unwrap();
        let path = directory.path().to_owned();
        directory.keep();
        path
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let path = login(&gitlab(temp.path(), "1", None));
        let mode =
            |name: &str| fs::metadata(Path::new(&path).join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(""), mode("azure"), mode("azure/x.json"), mode("login.json")),
            (0o700, 0o700, 0o600, 0o600)
        );
    }

    #[test]
    fn a_failed_login_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        drop(LoginDirectory::create(&gitlab(temp.path(), "1", None), &identity()).unwrap());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn logout_removes_this_jobs_logins_only() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) =
            (login(&gitlab(temp.path(), "1", None)), login(&gitlab(temp.path(), "1", None)));
        let other = login(&gitlab(temp.path(), "2", None));
        fs::create_dir(temp.path().join("azfed-foreign")).unwrap();
        let removed = remove(&gitlab(temp.path(), "1", Some(&second))).unwrap();
        assert_eq!(removed.len(), 2);
        assert!(!Path::new(&first).exists() && !Path::new(&second).exists());
        assert!(Path::new(&other).exists() && temp.path().join("azfed-foreign").exists());
        assert!(remove(&gitlab(temp.path(), "1", Some(&second))).unwrap().is_empty());
    }

    #[test]
    fn logout_removes_nothing_that_no_login_made() {
        let temp = tempfile::tempdir().unwrap();
        let precious = temp.path().join("azfed-precious");
        fs::create_dir(&precious).unwrap();
        for path in [precious.as_path(), temp.path()] {
            let env = gitlab(temp.path(), "1", path.to_str());
            assert!(matches!(remove(&env), Err(Error::NotALogin { .. })));
            assert!(path.exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn logout_takes_no_other_users_word() {
        let temp = tempfile::tempdir().unwrap();
        let theirs = login(&gitlab(temp.path(), "1", None));
        assert!(is_own(&fs::metadata(&theirs).unwrap()));
        if !rustix::process::geteuid().is_root() {
            // only root can give a directory away; the root of the file system is one that is not this user's
            assert!(!is_own(&fs::metadata("/").unwrap()));
            return;
        }
        std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).unwrap();
        assert!(remove(&gitlab(temp.path(), "1", None)).unwrap().is_empty());
        assert!(matches!(remove(&gitlab(temp.path(), "1", Some(&theirs))), Err(Error::NotALogin { .. })));
        assert!(Path::new(&theirs).exists());
    }

    #[cfg(unix)]
    #[test]
    fn logout_follows_no_link() {
        let temp = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = login(&gitlab(elsewhere.path(), "1", None));
        let link = temp.path().join("azfed-link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(remove(&gitlab(temp.path(), "1", link.to_str())), Err(Error::NotALogin { .. })));
        assert!(remove(&gitlab(temp.path(), "1", None)).unwrap().is_empty());
        assert!(Path::new(&target).exists());
    }
}
