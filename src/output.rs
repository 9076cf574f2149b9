//! The one way in which the crate writes files: whole or not at all, never over an input, never in place of a device.
//!
//! A file is written under a temporary name beside its place and renamed when it is finished. Of a
//! link the file behind it is replaced. A device, a pipe or a terminal is written to at the end.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Links that are followed before a chain of them counts as endless, as Linux does.
const LINKS: usize = 40;
/// Processes of one number that may write one file at once.
const ATTEMPTS: usize = 100;
const CANNOT_SYNC: [ErrorKind; 3] = [ErrorKind::InvalidInput, ErrorKind::Unsupported, ErrorKind::PermissionDenied];

/// Temporary paths that are not finished yet.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Removes what unfinished outputs have written: for a program that ends; none is begun after it.
pub fn remove_unfinished() {
    let unfinished = unfinished();
    for path in unfinished.iter() {
        // What cannot be removed stays.
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
    std::mem::forget(unfinished);
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

    /// Adds a file, or the files of a folder. What does not exist is left to its reader.
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

/// A temporary name beside `target`, hidden, of this process; another for each `attempt`.
fn temporary_beside(target: &Path, attempt: usize) -> Result<PathBuf> {
    let name = match target.components().next_back() {
        Some(Component::Normal(name)) => name.to_string_lossy().into_owned(),
        _ => return Err(Error::format(target, "is not a file name")),
    };
    // File systems take 255 bytes; what is cut off a long name is made up for by the process's number.
    let short: String = name.chars().take(48).collect();
    let attempt = if attempt == 0 { String::new() } else { format!("-{attempt}") };
    Ok(target.with_file_name(format!(".{short}.{}{attempt}.part", std::process::id())))
}

/// Whether a file is named as a temporary one: `.NAME.PROCESS.part`.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".part"));
    let process = inner.and_then(|name| Some(name.rsplit_once('.')?.1));
    process.is_some_and(|process| process.starts_with(|first: char| first.is_ascii_digit()))
}

/// Removes a temporary file that no living process holds; whether it is gone. Who writes one holds a lock on it.
fn remove_abandoned(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) && fs::remove_file(path).is_ok(),
        Err(_) => !path.exists(),
    }
}

/// Removes the temporary files below `folder` that killed processes have left; how many there were.
///
/// # Errors
/// When a folder cannot be read.
pub fn sweep(folder: &Path) -> Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        if path.is_dir() && !path.is_symlink() {
            swept += sweep(&path)?;
        } else if is_temporary(&path) && remove_abandoned(&path) {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Makes the names in a folder last through a power cut. File systems that cannot, need not.
///
/// # Errors
/// When the disk fails.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !cfg!(unix) {
        return Ok(()); // A folder cannot be opened as a file is.
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if CANNOT_SYNC.contains(&error.kind()) => Ok(()),
        done => done,
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::format(path, format!("cannot be written: {error}"))
}

/// Opens and locks a temporary file beside `target`. A name in use, by a process of the same number
/// in another container or by another output of this one, is left; what a killed one left is taken.
fn open_beside(target: &Path) -> Result<std::io::Result<(PathBuf, File)>> {
    let mut attempt = 0;
    loop {
        let temporary = temporary_beside(target, attempt)?;
        match File::options().read(true).write(true).create_new(true).open(&temporary) {
            Ok(file) => {
                // A file system without locks: names alone keep processes apart.
                let _ = file.try_lock();
                return Ok(Ok((temporary, file)));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < ATTEMPTS => {
                attempt += usize::from(!remove_abandoned(&temporary));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
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
    placed: bool,
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
        let beside = match device {
            true => std::env::temp_dir().join("ticketlens"),
            false if fs::metadata(&place).is_ok_and(|metadata| metadata.permissions().readonly()) => {
                return Err(Error::format(target, "is read-only"));
            }
            false => place.clone(),
        };
        let mut unfinished = unfinished();
        let (temporary, file) = open_beside(&beside)?.map_err(|error| match device {
            true => Error::format(std::env::temp_dir(), format!("the temporary folder cannot be written: {error}")),
            false => unwritable(target, &error),
        })?;
        unfinished.push(temporary.clone());
        Ok(Self { named: target.to_path_buf(), target: place, temporary, file, device, placed: false })
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
        fs::rename(&self.temporary, &self.target)?;
        self.placed = true;
        sync_folder(self.target.parent().unwrap_or(Path::new("")))
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
        // After a rename another may have the name.
        if !self.placed {
            let _ = fs::remove_file(&self.temporary);
        }
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
        let temporary = temporary_beside(&real, 0)?;
        let mut unfinished = unfinished();
        fs::create_dir(&temporary).map_err(|error| unwritable(target, &error))?;
        unfinished.push(temporary.clone());
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
mod tests;
