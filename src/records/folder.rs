//! The run folder: every file name of it, and reading and writing so that a crash leaves nothing half-written.
//!
//! `plan.toml`, `manifest.json`, `images.safetensors`, `replicate-I/{theta_k.safetensors,sanity.json}`,
//! `replicate-I/[ARM/]round-RR/{weights,mask}.safetensors`, `…/explain/maps.safetensors`, `…/round.json`, `metrics.json`;
//! `…/last.safetensors` where a plan explains another epoch than the last (`as_published.explain_best_validation`).
//! `…/diverged.json` in the place of a round whose training diverged.
//! `round.json` is written last: a round without it was not finished and is computed again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::model::{Model, TensorFile, load_into, load_trunk, save_weights};
use crate::nn::{Layout, Weights};
use crate::output::{self, Inputs};
use crate::prune::Mask;

use super::{DivergedRecord, FORMAT, Manifest, RoundId, RoundRecord, SanityRecord, StudyRecord};
use crate::plan::Plan;

/// Held by the process that runs in a folder.
const LOCK: &str = ".lock";

/// See [`Store::lock`].
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

/// A run folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens, or starts, the folder of `plan`.
    ///
    /// # Errors
    /// When the folder holds the run of another plan, or cannot be written.
    pub fn open(root: &Path, plan: &Plan) -> Result<Self> {
        let store = Self { root: root.to_owned() };
        let path = store.plan_path();
        if path.exists() {
            let found = store.plan()?;
            if found.digest()? != plan.digest()? {
                let what = format!("holds the run of another plan (`{}`); choose another --out", found.name);
                return Err(Error::format(root, what));
            }
        } else {
            if holds_something(root)? {
                return Err(Error::format(root, "is not empty and holds no plan.toml; choose another --out"));
            }
            write_atomically(&path, plan.to_toml()?.as_bytes())?;
        }
        Ok(store)
    }

    /// An existing run folder, for reading.
    ///
    /// # Errors
    /// When it holds no plan.
    pub fn existing(root: &Path) -> Result<Self> {
        let store = Self { root: root.to_owned() };
        if !store.plan_path().is_file() {
            return Err(Error::format(root, "is not a run folder: it holds no plan.toml"));
        }
        Ok(store)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn plan_path(&self) -> PathBuf {
        self.root.join("plan.toml")
    }

    fn replicate_path(&self, replicate: usize) -> PathBuf {
        self.root.join(format!("replicate-{replicate}"))
    }

    fn round_path(&self, id: &RoundId) -> PathBuf {
        let replicate = self.replicate_path(id.replicate);
        let arm = if id.arm == "lottery" { replicate } else { replicate.join(&id.arm) };
        arm.join(format!("round-{:02}", id.round))
    }

    /// Takes the folder for this process, until the guard is dropped: two runs in one folder would write over each other.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.root.join(LOCK);
        let file = fs::File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|source| Error::io(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(Error::format(
                &self.root,
                "another process runs in this folder; wait for it, or choose another --out",
            )),
            // A file system without locks: better to run than to refuse.
            Err(fs::TryLockError::Error(_)) => Ok(Lock { _file: file }),
        }
    }

    /// The plan.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn plan(&self) -> Result<Plan> {
        let path = self.plan_path();
        let text = fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?;
        Plan::parse(&path.display().to_string(), &text, &[])
    }

    /// Writes the manifest, once.
    ///
    /// # Errors
    /// When another version of the program, or other data, began this run.
    pub fn begin(&self, manifest: &Manifest) -> Result<()> {
        let path = self.root.join("manifest.json");
        if !path.exists() {
            return write_json(&path, manifest);
        }
        let found: Manifest = self.manifest()?;
        if found.data != manifest.data {
            return Err(Error::format(&path, "the data have changed since this run began"));
        }
        if found.pretrained != manifest.pretrained {
            return Err(Error::format(&path, "the pretrained weights have changed since this run began"));
        }
        if found.vectors != manifest.vectors {
            let what = format!(
                "this run began with {} vectors, not {}: their sums round differently, and its rounds would not be of one \
                 computation (TICKETLENS_SIMD={} goes on where the CPU has them)",
                found.vectors, manifest.vectors, found.vectors
            );
            return Err(Error::format(&path, what));
        }
        if found.device != manifest.device {
            let what = format!("this run began on {}, not on {}", found.device, manifest.device);
            return Err(Error::format(&path, what));
        }
        Ok(())
    }

    /// The manifest.
    ///
    /// # Errors
    /// When it is missing or of another format.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.root.join("manifest.json");
        let manifest: Manifest = read_json(&path)?;
        check_format(&path, manifest.format)?;
        Ok(manifest)
    }

    /// The record of a round, if it was finished.
    ///
    /// # Errors
    /// When a record is there but cannot be read.
    pub fn round(&self, id: &RoundId) -> Result<Option<RoundRecord>> {
        let path = self.round_path(id).join("round.json");
        if !path.exists() {
            return Ok(None);
        }
        let record: RoundRecord = read_json(&path)?;
        check_format(&path, record.format)?;
        Ok(Some(record))
    }

    /// The mark of a round whose training diverged, if it did.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn diverged(&self, id: &RoundId) -> Result<Option<DivergedRecord>> {
        let path = self.round_path(id).join("diverged.json");
        if !path.exists() {
            return Ok(None);
        }
        let record: DivergedRecord = read_json(&path)?;
        check_format(&path, record.format)?;
        Ok(Some(record))
    }

    /// Marks a round as diverged.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_diverged(&self, record: &DivergedRecord) -> Result<()> {
        write_json(&self.round_path(&record.id).join("diverged.json"), record)
    }

    /// Stores a finished round; the record goes last.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish_round(
        &self,
        record: &RoundRecord,
        weights: &Weights,
        mask: &Mask,
        maps: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let path = self.round_path(&record.id);
        write_atomically(&path.join("weights.safetensors"), &save_weights(weights)?)?;
        let views: Vec<(String, TensorView<'_>)> = mask
            .tensors()
            .map(|(name, shape, bits)| Ok((name.to_owned(), view(Dtype::U8, shape, bits)?)))
            .collect::<Result<_>>()?;
        write_atomically(&path.join("mask.safetensors"), &serialise(views)?)?;
        write_atomically(&path.join("explain/maps.safetensors"), &serialise(maps)?)?;
        write_json(&path.join("round.json"), record)
    }

    /// Weights of a finished round.
    ///
    /// # Errors
    /// When they cannot be read or do not fit.
    pub fn weights(&self, id: &RoundId, model: &Model) -> Result<Weights> {
        load_into(model, &TensorFile::open(&self.round_path(id).join("weights.safetensors"))?)
    }

    /// Stores the weights at the end of training where those that are explained are not the last.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_last_weights(&self, id: &RoundId, weights: &Weights) -> Result<()> {
        write_atomically(&self.round_path(id).join("last.safetensors"), &save_weights(weights)?)
    }

    /// Reads those.
    ///
    /// # Errors
    /// When they cannot be read or do not fit.
    pub fn last_weights(&self, id: &RoundId, model: &Model) -> Result<Weights> {
        load_into(model, &TensorFile::open(&self.round_path(id).join("last.safetensors"))?)
    }

    /// Mask of a finished round.
    ///
    /// # Errors
    /// When it cannot be read or does not fit.
    pub fn mask(&self, id: &RoundId, layout: &Arc<Layout>) -> Result<Mask> {
        let path = self.round_path(id).join("mask.safetensors");
        let tensors = load(&path)?;
        Mask::from_lookup(layout.clone(), &path.display().to_string(), |name| {
            tensors.get(name).and_then(|tensor| tensor.flatten_all().ok()?.to_vec1::<u8>().ok())
        })
    }

    /// Raw maps of a finished round, by [`super::maps_key`].
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn maps(&self, id: &RoundId) -> Result<BTreeMap<String, Tensor>> {
        load(&self.round_path(id).join("explain/maps.safetensors"))
    }

    /// Stores θ_k, the state that tickets rewind to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_rewind_state(&self, replicate: usize, weights: &Weights) -> Result<()> {
        write_atomically(&self.rewind_path(replicate), &save_weights(weights)?)
    }

    /// Reads θ_k.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rewind_state(&self, replicate: usize, model: &Model) -> Result<Weights> {
        load_into(model, &TensorFile::open(&self.rewind_path(replicate))?)
    }

    fn rewind_path(&self, replicate: usize) -> PathBuf {
        self.replicate_path(replicate).join("theta_k.safetensors")
    }

    /// Stores the sanity check of a replicate's dense network.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_sanity(&self, record: &SanityRecord) -> Result<()> {
        write_json(&self.sanity_path(record.replicate), record)
    }

    /// Reads it, if it was made.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn sanity(&self, replicate: usize) -> Result<Option<SanityRecord>> {
        let path = self.sanity_path(replicate);
        if !path.exists() {
            return Ok(None);
        }
        let record: SanityRecord = read_json(&path)?;
        check_format(&path, record.format)?;
        Ok(Some(record))
    }

    fn sanity_path(&self, replicate: usize) -> PathBuf {
        self.replicate_path(replicate).join("sanity.json")
    }

    /// Stores the pixels of the fixed Grad-CAM images, `(N, C, H, W)` u8.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_images(&self, shape: &[usize], pixels: &[u8]) -> Result<()> {
        let views = vec![("pixels".to_owned(), view(Dtype::U8, shape, pixels)?)];
        write_atomically(&self.root.join("images.safetensors"), &serialise(views)?)
    }

    /// Reads those pixels.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn images(&self) -> Result<Tensor> {
        let path = self.root.join("images.safetensors");
        load(&path)?.remove("pixels").ok_or_else(|| Error::tensor(format!("{}:pixels", path.display()), "is missing"))
    }

    /// Stores what follows from all rounds.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_study(&self, study: &StudyRecord) -> Result<()> {
        write_json(&self.root.join("metrics.json"), study)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the run is not finished, or the record is of another format.
    pub fn study(&self) -> Result<StudyRecord> {
        let path = self.root.join("metrics.json");
        if !path.exists() {
            let what = "the run is not finished (no metrics.json): run the same command again to go on";
            return Err(Error::format(&self.root, what));
        }
        let study: StudyRecord = read_json(&path)?;
        check_format(&path, study.format)?;
        Ok(study)
    }
}

/// The weights of the checkpoint that a plan starts from; the layer that gives the logits is left out, and is zero.
pub fn read_trunk(model: &Model, path: &Path) -> Result<Weights> {
    let head = Weights::zeros(model.network.layout.clone());
    let trunk = TensorFile::open(path).and_then(|file| load_trunk(model, &file, &head));
    trunk.map_err(|error| Error::config("model.pretrained", error.to_string()))
}

/// Whether a folder holds anything but what a killed run left before its plan was written.
fn holds_something(root: &Path) -> Result<bool> {
    if !root.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(root).map_err(|source| Error::io(root, source))? {
        let name = entry.map_err(|source| Error::io(root, source))?.file_name();
        let name = name.to_string_lossy();
        let unfinished = name.starts_with(".plan.toml.") && name.ends_with(".part");
        if name != LOCK && !unfinished {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_format(path: &Path, format: u32) -> Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    Err(Error::format(path, format!("has record format {format}; this program reads {FORMAT}")))
}

fn view<'a>(dtype: Dtype, shape: &[usize], bytes: &'a [u8]) -> Result<TensorView<'a>> {
    TensorView::new(dtype, shape.to_vec(), bytes)
        .map_err(|error| Error::input(format!("a tensor cannot be stored: {error}")))
}

fn serialise<S, V>(tensors: impl IntoIterator<Item = (S, V)>) -> Result<Vec<u8>>
where
    S: AsRef<str> + Ord + std::fmt::Display,
    V: safetensors::View,
{
    safetensors::serialize(tensors, None).map_err(|error| Error::input(format!("tensors cannot be stored: {error}")))
}

fn load(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| Error::format(path, format!("is not a safetensors file: {error}")))?;
    Ok(tensors.into_iter().collect())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::format(path, format!("is not a record: {error}")))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::format(path, format!("cannot be serialised: {error}")))?;
    write_atomically(path, &bytes)
}

/// Writes a file of the run folder, whole or not at all, with the folders that it lies in.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    }
    output::write(path, bytes, &Inputs::none())
}
