//! Taking over finished networks from other run folders, where they are those that this folder's plan asks for.
//!
//! Files are linked, not copied, where the file system can: they are never written again. The
//! records are written anew, since a seal says of what run a record is; what computed a network
//! stays as it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::output;

use super::files::{read, write_atomically};
use super::seal::{Seal, sealed};
use super::{DivergedRecord, RoundId, RoundRecord, SanityRecord, Store};

impl Store {
    /// Takes over a finished network, or the mark of one that diverged, from the folder `from`;
    /// whether it is there. The caller answers for that it is the same network; that the data are,
    /// and what computed it, is checked here, and every file against its record.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the network is not as it was written; other errors when it is of
    /// other data, or of another computation than may stand here, or when this folder cannot be
    /// written.
    pub fn take_over(&self, from: &Self, id: &RoundId) -> Result<bool> {
        self.check_same_data(from)?;
        if let Some((_, seal)) = from.sealed_round(id)? {
            self.check_computed_of(from, &from.record_path(id), &seal)?;
            for name in seal.files.keys() {
                from.listed(&seal, &from.root().join(name))?;
                link(&from.root().join(name), &self.root().join(name))?;
            }
            self.rewrite::<RoundRecord>(from, &from.record_path(id), &self.sources(id))?;
            return Ok(true);
        }
        let path = from.diverged_path(id);
        match from.diverged(id)? {
            Some(_) => self.rewrite::<DivergedRecord>(from, &path, &self.sources(id)).map(|()| true),
            None => Ok(false),
        }
    }

    /// The same for the sanity check of a replicate.
    ///
    /// # Errors
    /// As [`Store::take_over`].
    pub fn take_over_sanity(&self, from: &Self, replicate: usize) -> Result<bool> {
        if from.sanity(replicate)?.is_none() {
            return Ok(false);
        }
        let parent = self.record_path(&RoundId::parent(replicate));
        self.rewrite::<SanityRecord>(from, &from.sanity_path(replicate), &[parent]).map(|()| true)
    }

    fn check_same_data(&self, from: &Self) -> Result<()> {
        let (own, other) = (self.manifest()?, from.manifest()?);
        if (&own.data, &own.pretrained) == (&other.data, &other.pretrained) {
            return Ok(());
        }
        Err(Error::format(from.root(), "is of other data or pretrained weights, which have changed meanwhile"))
    }

    fn check_computed_of(&self, from: &Self, path: &Path, seal: &Seal) -> Result<()> {
        seal.computed.as_ref().map_or(Ok(()), |by| self.check_computed(path, by)).map_err(|error| match error {
            Error::Format { what, .. } => Error::format(from.root(), what),
            other => other,
        })
    }

    /// A record of another folder as one of this: made from `sources` here.
    fn rewrite<T: Serialize + DeserializeOwned>(&self, from: &Self, path: &Path, sources: &[PathBuf]) -> Result<()> {
        let Some((record, mut seal)) = from.record::<T>(path)? else { return Ok(()) };
        seal.run = self.run()?.to_owned();
        seal.from.clear();
        for source in sources {
            if let Some(digest) = self.digest(source)? {
                seal.from.insert(self.name(source), digest);
            }
        }
        let here = self.root().join(from.name(path));
        let bytes =
            sealed(&record, seal).map_err(|error| Error::format(&here, format!("cannot be written: {error}")))?;
        write_atomically(&here, &bytes)
    }
}

/// The file `from` under a second name, or a copy where the file system has no second names. What
/// is there already makes room.
fn link(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    match fs::remove_file(to) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(to, source)),
        _ => {}
    }
    if fs::hard_link(from, to).is_ok() {
        return output::sync_folder(folder).map_err(|source| Error::io(folder, source));
    }
    let bytes = read(from)?.ok_or_else(|| Error::damaged(from, "is missing"))?;
    write_atomically(to, &bytes)
}
