//! The run folder: every file name of it, and reading and writing so that a crash leaves nothing half-written.
//!
//! `plan.toml`, `manifest.json`, `images.safetensors`,
//! `replicate-I/{theta_k.safetensors,sanity.json}`,
//! `replicate-I/[ARM/]round-RR/{weights,mask}.safetensors`, `…/explain/maps.safetensors`,
//! `…/round.json`, `metrics.json`; `…/last.safetensors` where a plan explains another epoch than
//! the last (`as_published.explain_best_validation`). `…/diverged.json` in the place of a round
//! whose training diverged. `round.json` is written last: a round without it was not finished and
//! is computed again.
//!
//! Whatever is read is checked against the [`Seal`] of the record that lists it. What does not fit
//! is [`Error::Damaged`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

use super::files::{self, holds_something, read, set_aside, write_atomically};
use super::seal::{FileSeal, Refused, sealed, unsealed};
use super::{Computed, FORMAT, Manifest, RoundId, Seal};
use crate::input;
use crate::plan::{LONGEST_PLAN, Plan};

/// A run folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// [`Manifest::run`], once it is known.
    pub(super) run: OnceLock<String>,
    /// What computes the rounds that are written.
    pub(super) computed: Option<Computed>,
    pub(super) allow_mixed: bool,
    /// What was found damaged while the folder was opened, for people.
    pub(super) notes: Vec<String>,
}

impl Store {
    fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), run: OnceLock::new(), computed: None, allow_mixed: false, notes: Vec::new() }
    }

    /// Opens, or starts, the folder of `plan`.
    ///
    /// # Errors
    /// When the folder holds the run of another plan, or cannot be written.
    pub fn open(root: &Path, plan: &Plan) -> Result<Self> {
        let mut store = Self::at(root);
        let path = store.plan_path();
        let text = plan.to_toml()?;
        let manifest = match store.sealed_manifest() {
            Ok(found) => Some(found),
            Err(error) if is_absent(&error) || matches!(error, Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(found) = read(&path)? {
            let parsed = String::from_utf8(found.clone())
                .map_err(|_| Error::damaged(&path, "is not UTF-8 text"))
                .and_then(|text| Plan::parse(&path.display().to_string(), &text, &[]));
            let same = parsed.as_ref().is_ok_and(|parsed| parsed.digest().ok() == plan.digest().ok());
            let fault = match &manifest {
                Some((manifest, seal)) if same || manifest.plan == plan.digest()? => {
                    store.check_listed(seal, &path, &found).err()
                }
                _ if same => None,
                _ => {
                    let what = format!("holds the run of another plan (`{}`); choose another --out", parsed?.name);
                    return Err(Error::format(root, what));
                }
            };
            let Some(fault) = fault else { return Ok(store) };
            store.note_aside(&path, &fault)?;
        } else if manifest
            .as_ref()
            .map_or(holds_something(root)?, |(found, _)| plan.digest().ok() != Some(found.plan.clone()))
        {
            return Err(Error::format(root, "is not empty and holds no plan.toml; choose another --out"));
        }
        // A plan of another name is the same plan, in another text.
        if let Some(Err(fault)) = manifest.map(|(_, seal)| store.check_listed(&seal, &path, text.as_bytes())) {
            store.note_aside(&store.manifest_path(), &fault)?;
        }
        write_atomically(&path, text.as_bytes())?;
        Ok(store)
    }

    /// An existing run folder, for reading.
    ///
    /// # Errors
    /// When it holds no plan.
    pub fn existing(root: &Path) -> Result<Self> {
        let store = Self::at(root);
        if !store.plan_path().is_file() {
            return Err(Error::format(root, "is not a run folder: it holds no plan.toml"));
        }
        Ok(store)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn plan_path(&self) -> PathBuf {
        self.root.join("plan.toml")
    }

    pub(super) fn manifest_path(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    pub(super) fn images_path(&self) -> PathBuf {
        self.root.join("images.safetensors")
    }

    pub(super) fn study_path(&self) -> PathBuf {
        self.root.join("metrics.json")
    }

    pub(super) fn replicate_path(&self, replicate: usize) -> PathBuf {
        self.root.join(format!("replicate-{replicate}"))
    }

    pub(super) fn rewind_path(&self, replicate: usize) -> PathBuf {
        self.replicate_path(replicate).join("theta_k.safetensors")
    }

    pub(super) fn sanity_path(&self, replicate: usize) -> PathBuf {
        self.replicate_path(replicate).join("sanity.json")
    }

    pub(super) fn round_path(&self, id: &RoundId) -> PathBuf {
        let replicate = self.replicate_path(id.replicate);
        let arm = if id.arm == "lottery" { replicate } else { replicate.join(&id.arm) };
        arm.join(format!("round-{:02}", id.round))
    }

    pub(super) fn record_path(&self, id: &RoundId) -> PathBuf {
        self.round_path(id).join("round.json")
    }

    pub(super) fn diverged_path(&self, id: &RoundId) -> PathBuf {
        self.round_path(id).join("diverged.json")
    }

    /// How a file is called in seals: its path in the run folder, with `/`.
    pub(super) fn name(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        inside.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// The plan.
    ///
    /// # Errors
    /// When it cannot be read, or is not the one that the run began with.
    pub fn plan(&self) -> Result<Plan> {
        let path = self.plan_path();
        let text = input::read_text(&path, LONGEST_PLAN).map_err(|error| match error {
            Error::Format { what, .. } => Error::damaged(&path, what),
            other => other,
        })?;
        if self.manifest_path().exists() {
            let (_, seal) = self.sealed_manifest()?;
            self.check_listed(&seal, &path, text.as_bytes())?;
        }
        Plan::parse(&path.display().to_string(), &text, &[])
    }

    /// Writes the manifest, and the pixels of the fixed Grad-CAM images, `(N, C, H, W)` u8; once.
    /// With `allow_mixed`, rounds that something else has computed may stand beside those that are
    /// computed now.
    ///
    /// # Errors
    /// When other data began this run, or, unless `allow_mixed`, another version of the program,
    /// other vectors or another device.
    pub fn begin(&mut self, manifest: &Manifest, (shape, pixels): (&[usize], &[u8]), allow_mixed: bool) -> Result<()> {
        let path = self.manifest_path();
        let views = vec![("pixels".to_owned(), files::view(safetensors::Dtype::U8, shape, pixels)?)];
        let images = files::serialise(views)?;
        let mut wanted = FileSeal::of(&images);
        self.computed = Some(manifest.computed());
        self.allow_mixed = allow_mixed;
        self.run = OnceLock::from(manifest.run());
        let found = match self.sealed_manifest() {
            Ok(found) => Some(found),
            Err(error) if is_absent(&error) => None,
            Err(fault @ Error::Damaged { .. }) => {
                self.note_aside(&path, &fault)?;
                None
            }
            Err(error) => return Err(error),
        };
        if let Some((found, seal)) = &found {
            same_run(&path, found, manifest)?;
            self.check_computed(&path, &found.computed())?;
            let listed = seal.files.get(&self.name(&self.images_path()));
            wanted = listed.cloned().unwrap_or(wanted);
        }
        // The images before the manifest that lists them.
        let place = self.images_path();
        let there = read(&place)?.map(|bytes| FileSeal::of(&bytes));
        if there.as_ref() != Some(&wanted) {
            if there.is_some() {
                let fault = Error::damaged(&place, "is not the file that manifest.json lists");
                self.note_aside(&place, &fault)?;
            }
            write_atomically(&place, &images)?;
        }
        match found {
            Some(_) => Ok(()),
            None => self.write_record(&path, manifest, &[self.plan_path(), place], &[]),
        }
    }

    /// The manifest.
    ///
    /// # Errors
    /// When it is missing, damaged or of another format.
    pub fn manifest(&self) -> Result<Manifest> {
        Ok(self.sealed_manifest()?.0)
    }

    pub(super) fn sealed_manifest(&self) -> Result<(Manifest, Seal)> {
        let path = self.manifest_path();
        let missing = || Error::io(&path, std::io::ErrorKind::NotFound.into());
        let (manifest, seal): (Manifest, Seal) = read_record(&path)?.ok_or_else(missing)?;
        if seal.run != manifest.run() {
            return Err(Error::damaged(&path, "is of another run than it says"));
        }
        Ok((manifest, seal))
    }

    /// The seal of a record, whatever run it is of.
    pub(super) fn any_seal(&self, path: &Path) -> Result<Option<Seal>> {
        Ok(read_record::<serde::de::IgnoredAny>(path)?.map(|(_, seal)| seal))
    }

    /// What run this is; empty before the manifest is written.
    pub(super) fn run(&self) -> Result<&str> {
        if let Some(run) = self.run.get() {
            return Ok(run);
        }
        if !self.manifest_path().exists() {
            return Ok("");
        }
        let run = self.manifest()?.run();
        Ok(self.run.get_or_init(|| run))
    }

    /// A record of this run with its seal; none where there is no file.
    pub(super) fn record<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<(T, Seal)>> {
        let Some((record, seal)) = read_record(path)? else { return Ok(None) };
        if seal.run != self.run()? {
            return Err(Error::damaged(path, "is a record of another run"));
        }
        Ok(Some((record, seal)))
    }

    /// The digest of a record; none where there is no file.
    pub(super) fn digest(&self, path: &Path) -> Result<Option<String>> {
        Ok(self.record::<serde::de::IgnoredAny>(path)?.map(|(_, seal)| seal.digest))
    }

    /// Writes a record that stands for `files`, which are there already, and was made from the records `from`.
    pub(super) fn write_record<T: Serialize>(
        &self,
        path: &Path,
        record: &T,
        files: &[PathBuf],
        from: &[PathBuf],
    ) -> Result<()> {
        let mut seal = Seal { run: self.run()?.to_owned(), computed: self.computed.clone(), ..Seal::default() };
        for file in files {
            if let Some(bytes) = read(file)? {
                seal.files.insert(self.name(file), FileSeal::of(&bytes));
            }
        }
        for source in from {
            if let Some(digest) = self.digest(source)? {
                seal.from.insert(self.name(source), digest);
            }
        }
        let bytes =
            sealed(record, seal).map_err(|error| Error::format(path, format!("cannot be serialised: {error}")))?;
        write_atomically(path, &bytes)
    }

    /// # Errors
    /// When `bytes` are not what `seal` lists for `path`.
    pub(super) fn check_listed(&self, seal: &Seal, path: &Path, bytes: &[u8]) -> Result<()> {
        match seal.files.get(&self.name(path)) {
            Some(listed) if *listed == FileSeal::of(bytes) => Ok(()),
            Some(listed) if listed.bytes != bytes.len() as u64 => {
                Err(of_another_length(path, bytes.len() as u64, listed.bytes))
            }
            Some(_) => Err(Error::damaged(path, "is not the file that its record lists (SHA-256)")),
            None => Err(Error::damaged(path, "is not listed by its record")),
        }
    }

    /// The bytes of a file that `seal` lists.
    ///
    /// # Errors
    /// When it is missing, or another file.
    pub(super) fn listed(&self, seal: &Seal, path: &Path) -> Result<Vec<u8>> {
        let listed = seal.files.get(&self.name(path)).map(|listed| listed.bytes);
        if let (Some(listed), Ok(found)) = (listed, fs::metadata(path))
            && found.is_file()
            && found.len() != listed
        {
            return Err(of_another_length(path, found.len(), listed));
        }
        let bytes = read(path)?.ok_or_else(|| Error::damaged(path, "is missing"))?;
        self.check_listed(seal, path, &bytes)?;
        Ok(bytes)
    }

    /// Sets a file or folder aside because of a fault; returns a line that says so.
    pub(super) fn put_aside(&self, path: &Path, fault: &str) -> Result<String> {
        let aside = set_aside(path)?;
        Ok(format!("{fault}; set aside as {}", self.name(&aside)))
    }

    fn note_aside(&mut self, path: &Path, fault: &Error) -> Result<()> {
        let note = self.put_aside(path, &what_is_wrong(fault))?;
        self.notes.push(note);
        Ok(())
    }
}

/// What is wrong with which file, without what to do about it.
pub(super) fn what_is_wrong(fault: &Error) -> String {
    match fault {
        Error::Damaged { path, what } => format!("{}: {what}", path.display()),
        other => other.to_string(),
    }
}

fn of_another_length(path: &Path, found: u64, listed: u64) -> Error {
    Error::damaged(path, format!("has {found} bytes, its record lists {listed}"))
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// # Errors
/// When a run that began as `found` cannot go on as `now`.
fn same_run(path: &Path, found: &Manifest, now: &Manifest) -> Result<()> {
    if found.data != now.data {
        return Err(Error::format(path, "the data have changed since this run began"));
    }
    if found.pretrained != now.pretrained {
        return Err(Error::format(path, "the pretrained weights have changed since this run began"));
    }
    if found.plan != now.plan {
        return Err(Error::format(path, "is of another plan than plan.toml"));
    }
    Ok(())
}

/// Bytes of a record.
const LONGEST_RECORD: u64 = 64 << 20;

/// A record with its seal, whatever run it is of; none where there is no file.
fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<(T, Seal)>> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LONGEST_RECORD) {
        return Err(Error::damaged(path, format!("is longer than {LONGEST_RECORD} bytes, which no record is")));
    }
    let Some(bytes) = read(path)? else { return Ok(None) };
    match unsealed(&bytes) {
        Ok(found) => Ok(Some(found)),
        Err(Refused::Format(format)) => {
            Err(Error::format(path, format!("has record format {format}; this program reads {FORMAT}")))
        }
        Err(Refused::Damaged(what)) => Err(Error::damaged(path, what)),
    }
}
