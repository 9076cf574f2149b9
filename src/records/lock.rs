//! One process in a run folder at a time.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

use super::Store;
use super::files::LOCK;

/// See [`Store::lock`].
#[derive(Debug)]
pub struct Lock(fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Who held it is of no use any more.
        let _ = self.0.set_len(0);
    }
}

impl Store {
    /// Takes the folder for this process, until the guard is dropped: two runs in one folder would
    /// write over each other.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.root().join(LOCK);
        // Opening a pipe would wait for its reader.
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(Error::format(path, "is not a file: remove it"));
        }
        let file = fs::File::options().create(true).truncate(false).write(true).open(&path);
        let mut file = file.map_err(|source| Error::io(&path, source))?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let holder = if holder.is_empty() { String::new() } else { format!(" ({holder})") };
            let what = format!("another process{holder} runs in this folder; wait for it, or choose another --out");
            return Err(Error::Busy { path: self.root().to_owned(), what });
        }
        // A file system without locks: better to run than to refuse. Who holds it is for people alone.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let _ = file.set_len(0).and_then(|()| write!(file, "{} on {}", std::process::id(), host.trim()));
        Ok(Lock(file))
    }

    /// Whether another process has the folder `root`.
    pub fn is_busy(root: &Path) -> bool {
        let path = root.join(LOCK);
        if !path.is_file() {
            return false;
        }
        let file = fs::File::options().write(true).open(path);
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }
}
