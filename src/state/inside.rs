//! Files inside a login's directory, reached without following a link: whoever may write there, or has put something in its
//! place, must not turn a renewed assertion to another file.

#[cfg(unix)]
pub(super) use self::unix::Inside;
#[cfg(not(unix))]
pub(super) use self::windows::Inside;

/// The longest file that is read.
const LONGEST: u64 = 8 << 20;

/// Each directory on the way is opened from the one before, and must be a real one of this user; so nobody can put a link
/// in its place between a look at it and its use (openat(2)).
#[cfg(unix)]
mod unix {
    use std::{
        ffi::OsStr,
        fs::File,
        io::{self, Read, Write},
        os::fd::OwnedFd,
        path::Path,
    };

    use rustix::{
        fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, renameat, unlinkat},
        process::geteuid,
    };

    use super::LONGEST;

    const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
    /// Never through a link, never waiting for the other end of a pipe, never a child's.
    const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

    /// A login's directory that is open.
    #[derive(Debug)]
    pub(in crate::state) struct Inside(OwnedFd);

    impl Inside {
        /// Opens the directory itself.
        pub(in crate::state) fn open(directory: &Path) -> io::Result<Self> {
            Ok(Self(open(CWD, directory.as_os_str(), DIRECTORY)?))
        }

        /// What a file holds.
        pub(in crate::state) fn read(&self, name: &str) -> io::Result<String> {
            let (parent, name) = self.way_to(name)?;
            let mut content = String::new();
            file(&parent, name, OFlags::RDONLY)?.take(LONGEST).read_to_string(&mut content)?;
            Ok(content)
        }

        /// A file that is there, to be written to.
        pub(in crate::state) fn write(&self, name: &str) -> io::Result<File> {
            let (parent, name) = self.way_to(name)?;
            file(&parent, name, OFlags::WRONLY)
        }

        /// The same, made if it is not there, 0600.
        pub(in crate::state) fn create(&self, name: &str) -> io::Result<File> {
            let (parent, name) = self.way_to(name)?;
            file(&parent, name, OFlags::WRONLY.union(OFlags::CREATE))
        }

        /// Writes a file whole, 0600 from its first byte, and puts it in the place of the old one. Its directory must be
        /// there.
        pub(in crate::state) fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
            let (parent, name) = self.way_to(name)?;
            let new = format!(".{:016x}", fastrand::u64(..));
            let flags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL);
            let mut file =
                File::from(openat(&parent, &new, flags.union(SAFE), Mode::RUSR.union(Mode::WUSR))?);
            let written = file.write_all(content);
            let put = written.and_then(|()| Ok(renameat(&parent, &new, &parent, name)?));
            if put.is_err() {
                // the first error is the one to report
                let _ = unlinkat(&parent, &new, AtFlags::empty());
            }
            put
        }

        /// The directory that a file is in, and the file's own name.
        fn way_to<'n>(&self, name: &'n str) -> io::Result<(OwnedFd, &'n str)> {
            let (directories, name) = name.rsplit_once('/').unwrap_or((".", name));
            let mut parent = self.0.try_clone()?;
            for directory in directories.split('/') {
                parent = open(&parent, OsStr::new(directory), DIRECTORY)?;
            }
            Ok((parent, name))
        }
    }

    fn file(parent: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
        Ok(File::from(open(parent, OsStr::new(name), flags)?))
    }

    /// Opens what is this user's, and a file or a directory as the flags have it.
    fn open(parent: impl std::os::fd::AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        let opened = openat(parent, name, flags.union(SAFE), Mode::RUSR.union(Mode::WUSR))?;
        let found = fstat(&opened)?;
        let wanted =
            if flags.contains(OFlags::DIRECTORY) { FileType::Directory } else { FileType::RegularFile };
        if FileType::from_raw_mode(found.st_mode) != wanted || found.st_uid != geteuid().as_raw() {
            return Err(io::Error::other("there is something that no login made"));
        }
        Ok(opened)
    }
}

/// Links take a privilege of their own here; they are looked for before the file is used.
#[cfg(not(unix))]
mod windows {
    use std::{
        fs::{self, File, OpenOptions},
        io::{self, Read},
        path::{Path, PathBuf},
    };

    use super::LONGEST;

    /// A login's directory.
    #[derive(Debug)]
    pub(in crate::state) struct Inside(PathBuf);

    impl Inside {
        /// The directory itself.
        pub(in crate::state) fn open(directory: &Path) -> io::Result<Self> {
            Ok(Self(directory.to_owned()))
        }

        /// What a file holds.
        pub(in crate::state) fn read(&self, name: &str) -> io::Result<String> {
            let mut content = String::new();
            File::open(self.way_to(name)?)?.take(LONGEST).read_to_string(&mut content)?;
            Ok(content)
        }

        /// A file that is there, to be written to.
        pub(in crate::state) fn write(&self, name: &str) -> io::Result<File> {
            OpenOptions::new().write(true).open(self.way_to(name)?)
        }

        /// The same, made if it is not there.
        pub(in crate::state) fn create(&self, name: &str) -> io::Result<File> {
            OpenOptions::new().write(true).create(true).truncate(false).open(self.way_to(name)?)
        }

        /// Writes a file whole, and puts it in the place of the old one.
        pub(in crate::state) fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
            crate::state::replace(&self.way_to(name)?, content)
        }

        fn way_to(&self, name: &str) -> io::Result<PathBuf> {
            let path = self.0.join(name);
            let ways = path.ancestors().take_while(|way| way.starts_with(&self.0));
            for way in ways {
                if fs::symlink_metadata(way).is_ok_and(|found| found.is_symlink()) {
                    return Err(io::Error::other("there is something that no login made"));
                }
            }
            Ok(path)
        }
    }
}
