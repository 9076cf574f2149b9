//! The one way in which the crate writes files: whole or not at all, never over an input, never in place of a device.
//!
//! A file is written under a temporary name beside its place and renamed when it is finished. A link is followed: the file
//! behind it is replaced and the link stays. A device, a pipe or a terminal is opened and written to at the end.

use std::fs::{self, File, Metadata};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Links that are followed before a chain of them counts as endless, as Linux does.
const LINKS: usize = 40;

/// Temporary paths that are not finished yet.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Removes what unfinished outputs have written so far: for a program that is interrupted.
pub fn remove_unfinished() {
    for path in unfinished().iter() {
        // The program is ending; what cannot be removed stays.
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

fn register(path: &Path) {
    unfinished().push(path.into());
}

fn forget(path: &Path) {
    unfinished().retain(|other| other != path);
}

/// What a file is, whatever its name: device and inode, where the system has them, else its real path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    #[cfg(unix)]
    Inode(u64, u64),
    #[cfg(not(unix))]
    Path(PathBuf),
}

#[cfg(unix)]
fn identity(_: &Path, metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some(Identity::Inode(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &Metadata) -> Option<Identity> {
    fs::canonicalize(path).ok().map(Identity::Path)
}

/// The files that a command reads, which it must not write over.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Vec<(PathBuf, Identity)>);

impl Inputs {
    /// No file.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a file, or the files that lie in a folder. What does not exist or cannot be looked at is left to its reader.
    pub fn add(&mut self, path: &Path) {
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.is_file() {
            self.0.extend(identity(path, &metadata).map(|identity| (path.to_path_buf(), identity)));
        } else if let Ok(entries) = fs::read_dir(path) {
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).for_each(|path| self.add(&path));
        }
    }

    /// Adds all files below a folder, but for those of the name `but`.
    pub fn add_below(&mut self, folder: &Path, but: &str) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            // A link to a folder could lead back up without end.
            if path.is_dir() && !path.is_symlink() {
                self.add_below(&path, but);
            } else if path.file_name().is_none_or(|name| name != but) {
                self.add(&path);
            }
        }
    }

    /// Refuses a path that is one of these files, by whatever name.
    ///
    /// # Errors
    /// Both names are in the message.
    pub fn check(&self, output: &Path) -> Result<()> {
        let Ok(metadata) = fs::metadata(output) else { return Ok(()) };
        if !metadata.is_file() {
            return Ok(());
        }
        let own = identity(output, &metadata);
        match self.0.iter().find(|(_, identity)| own.as_ref() == Some(identity)) {
            Some((input, _)) if input == output => {
                Err(Error::format(output, "is an input of this command: choose another place for what it writes"))
            }
            Some((input, _)) => {
                let what = format!("is {}, an input of this command: choose another place", input.display());
                Err(Error::format(output, what))
            }
            None => Ok(()),
        }
    }
}

/// Where an output really goes.
enum Place {
    /// A file, which may not exist yet.
    File(PathBuf),
    /// A device, pipe or terminal, by the name to open it by.
    Device(PathBuf),
}

/// Follows links by hand, so that one to a file that does not exist yet is followed too.
fn resolve(target: &Path) -> Result<Place> {
    let mut path = target.to_path_buf();
    for _ in 0..LINKS {
        // Below these everything is a device, even where a shell has put a file behind it (`/dev/stdout`).
        if path.starts_with("/dev") || path.starts_with("/proc") {
            let device = path.exists() && !path.is_dir();
            return if device { Ok(Place::Device(path)) } else { Ok(Place::File(path)) };
        }
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let next = fs::read_link(&path).map_err(|error| Error::io(&path, error))?;
                path = path.parent().unwrap_or(Path::new("")).join(next);
            }
            Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => return Ok(Place::Device(path)),
            _ => return Ok(Place::File(path)),
        }
    }
    Err(Error::format(target, "is a link that leads round in a circle"))
}

/// A temporary name beside `target`, hidden, of this process.
fn temporary_beside(target: &Path) -> Result<PathBuf> {
    let name = match target.components().next_back() {
        Some(Component::Normal(name)) => name.to_string_lossy().into_owned(),
        _ => return Err(Error::format(target, "is not a file name")),
    };
    // File systems take 255 bytes; what is cut off a long name is made up for by the process's number.
    let short: String = name.chars().take(48).collect();
    Ok(target.with_file_name(format!(".{short}.{}.part", std::process::id())))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::format(path, format!("cannot be written: {error}"))
}

/// An output that takes its name when it is finished; dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct Output {
    /// The name that messages use.
    named: PathBuf,
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    device: bool,
}

impl Output {
    /// Opens the temporary file: a place that cannot be written to is found before any work is done.
    ///
    /// # Errors
    /// The path is named: it is one of `inputs`, a folder, read-only, or cannot be written to.
    pub fn create(target: &Path, inputs: &Inputs) -> Result<Self> {
        if target.is_dir() {
            return Err(Error::format(target, "is a folder"));
        }
        inputs.check(target)?;
        let (place, device) = match resolve(target)? {
            Place::File(path) => (path, false),
            Place::Device(path) => (path, true),
        };
        let temporary = if device {
            let folder = std::env::temp_dir();
            temporary_beside(&folder.join(format!("ticketlens-{}", unfinished().len())))?
        } else {
            if fs::metadata(&place).is_ok_and(|metadata| metadata.permissions().readonly()) {
                return Err(Error::format(target, "is read-only"));
            }
            temporary_beside(&place)?
        };
        // What a killed process of the same number left behind is not a file of anyone's.
        let _ = fs::remove_file(&temporary);
        let opened = File::options().read(true).write(true).create_new(true).open(&temporary);
        let file = opened.map_err(|error| match device {
            true => Error::format(std::env::temp_dir(), format!("the temporary folder cannot be written: {error}")),
            false => unwritable(target, &error),
        })?;
        register(&temporary);
        Ok(Self { named: target.to_path_buf(), target: place, temporary, file, device })
    }

    /// Whether the output is where results are printed, so that nothing else should be.
    pub fn is_stdout(&self) -> bool {
        let same = |path: &str| match (fs::metadata(path), fs::metadata(&self.target)) {
            (Ok(a), Ok(b)) => self.device && identity(Path::new(path), &a) == identity(&self.target, &b),
            _ => false,
        };
        same("/dev/stdout") && self.target != Path::new("/dev/null")
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// The path is named.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| unwritable(&self.named, &error))
    }

    /// Gives the file its name, or hands everything to the device.
    ///
    /// # Errors
    /// The path is named; nothing is left of the output then.
    pub fn finish(mut self) -> Result<()> {
        let done = if self.device { self.copy() } else { self.place() };
        done.map_err(|error| unwritable(&self.named, &error))
    }

    fn place(&mut self) -> std::io::Result<()> {
        if let Ok(metadata) = fs::metadata(&self.target) {
            self.file.set_permissions(metadata.permissions())?;
        }
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.target)
    }

    fn copy(&mut self) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        // At the end of whatever a shell has put behind the name.
        let mut device = File::options().append(true).open(&self.target)?;
        let mut part = vec![0; 1 << 20];
        loop {
            match self.file.read(&mut part)? {
                0 => return device.flush(),
                count => device.write_all(&part[..count])?,
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After a rename there is nothing left under this name.
        let _ = fs::remove_file(&self.temporary);
        forget(&self.temporary);
    }
}

/// Writes a whole file, as [`Output`].
///
/// # Errors
/// As [`Output::create`] and [`Output::finish`].
pub fn write(path: &Path, bytes: &[u8], inputs: &Inputs) -> Result<()> {
    let mut output = Output::create(path, inputs)?;
    output.write_at(0, bytes)?;
    output.finish()
}

/// A folder whose new files appear together when it is finished; dropped before that, it leaves nothing new.
#[derive(Debug)]
pub struct OutputFolder {
    target: PathBuf,
    temporary: PathBuf,
    inputs: Inputs,
}

impl OutputFolder {
    /// Makes a temporary folder beside `target`.
    ///
    /// # Errors
    /// The path is named: it is a file, or cannot be written to.
    pub fn create(target: &Path, inputs: &Inputs) -> Result<Self> {
        if target.exists() && !target.is_dir() {
            return Err(Error::format(target, "is not a folder"));
        }
        let real = if target.exists() { fs::canonicalize(target) } else { Ok(target.to_path_buf()) };
        let real = real.map_err(|error| unwritable(target, &error))?;
        let temporary = temporary_beside(&real)?;
        fs::create_dir(&temporary).map_err(|error| unwritable(target, &error))?;
        register(&temporary);
        Ok(Self { target: real, temporary, inputs: inputs.clone() })
    }

    /// Where a file is to be written for now.
    ///
    /// # Errors
    /// When a file of that name stands in the folder and is an input.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        self.inputs.check(&self.target.join(name))?;
        Ok(self.temporary.join(name))
    }

    /// Moves all files to their place; files of the same names are replaced.
    ///
    /// # Errors
    /// The folder is named.
    pub fn finish(self) -> Result<()> {
        let moved = fs::create_dir_all(&self.target).and_then(|()| {
            fs::read_dir(&self.temporary)?.try_for_each(|entry| {
                let entry = entry?;
                fs::rename(entry.path(), self.target.join(entry.file_name()))
            })
        });
        moved.map_err(|error| unwritable(&self.target, &error))
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.temporary);
        forget(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(path: &Path) -> Inputs {
        let mut inputs = Inputs::none();
        inputs.add(path);
        inputs
    }

    #[test]
    fn an_unfinished_output_leaves_nothing_and_a_finished_one_replaces_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "old").unwrap();
        let mut output = Output::create(&path, &Inputs::none()).unwrap();
        output.write_at(0, b"new").unwrap();
        drop(output);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, b"new", &Inputs::none()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // A name of 255 bytes leaves no room for a longer temporary one.
        write(&folder.path().join("n".repeat(255)), b"x", &Inputs::none()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn inputs_are_kept_through_links_of_both_kinds() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("pictures")).unwrap();
        fs::write(at("pictures/a.png"), "kept").unwrap();
        symlink(at("pictures/a.png"), at("soft")).unwrap();
        fs::hard_link(at("pictures/a.png"), at("hard")).unwrap();
        let read = inputs(&at("pictures"));
        for name in ["pictures/a.png", "soft", "hard", "pictures/../soft"] {
            let error = write(&at(name), b"lost", &read).unwrap_err().to_string();
            assert!(error.contains("an input"), "{error}");
        }
        assert_eq!(fs::read(at("hard")).unwrap(), b"kept");
        let pictures = OutputFolder::create(&at("pictures"), &read).unwrap();
        assert!(pictures.path("a.png").is_err() && pictures.path("b.png").is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_pipes_are_written_to() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // One to a file that does not exist yet, by way of another, and relative.
        symlink("second", at("first")).unwrap();
        symlink("real", at("second")).unwrap();
        write(&at("first"), b"new", &Inputs::none()).unwrap();
        assert!(at("first").is_symlink() && at("second").is_symlink());
        assert_eq!(fs::read(at("real")).unwrap(), b"new");
        symlink("circle", at("circle")).unwrap();
        assert!(write(&at("circle"), b"new", &Inputs::none()).unwrap_err().to_string().contains("circle"));
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: no mkfifo");
            return;
        }
        let pipe = at("pipe");
        let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
        write(&at("pipe"), b"through", &Inputs::none()).unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
        assert!(write(Path::new("/dev/full"), b"x", &Inputs::none()).is_err() || !Path::new("/dev/full").exists());
    }
}
