//! What lies in a run folder: rounds with their tensors, θ_k, sanity checks, the images that are shown, the study.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Tensor;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Result};
use crate::model::{Model, TensorFile, load_into, load_trunk, save_weights};
use crate::nn::{Layout, Weights};
use crate::prune::Mask;

use super::files::{serialise, tensors, view, write_atomically};
use super::{Computed, DivergedRecord, RoundId, RoundRecord, SanityRecord, Seal, Store, StudyRecord, round_ids};

const WEIGHTS: &str = "weights.safetensors";
const LAST: &str = "last.safetensors";
const MASK: &str = "mask.safetensors";
const MAPS: &str = "explain/maps.safetensors";

impl Store {
    /// The record of a round, if it was finished.
    ///
    /// # Errors
    /// When a record is there but damaged, of another round, or cannot be read.
    pub fn round(&self, id: &RoundId) -> Result<Option<RoundRecord>> {
        Ok(self.sealed_round(id)?.map(|(record, _)| record))
    }

    pub(super) fn sealed_round(&self, id: &RoundId) -> Result<Option<(RoundRecord, Seal)>> {
        let path = self.record_path(id);
        let Some((record, seal)) = self.record::<RoundRecord>(&path)? else { return Ok(None) };
        if record.id != *id {
            let RoundId { arm, replicate, round } = &record.id;
            return Err(Error::damaged(path, format!("is the record of {arm} round {round} of replicate {replicate}")));
        }
        Ok(Some((record, seal)))
    }

    /// What computed a finished round.
    ///
    /// # Errors
    /// As [`Store::round`].
    pub fn computed(&self, id: &RoundId) -> Result<Option<Computed>> {
        Ok(self.sealed_round(id)?.and_then(|(_, seal)| seal.computed))
    }

    /// The mark of a round whose training diverged, if it did.
    ///
    /// # Errors
    /// When it is there but damaged, of another round, or cannot be read.
    pub fn diverged(&self, id: &RoundId) -> Result<Option<DivergedRecord>> {
        let path = self.diverged_path(id);
        let Some((record, _)) = self.record::<DivergedRecord>(&path)? else { return Ok(None) };
        if record.id != *id {
            return Err(Error::damaged(path, "is the mark of another round"));
        }
        Ok(Some(record))
    }

    /// Marks a round as diverged.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_diverged(&self, record: &DivergedRecord) -> Result<()> {
        self.write_record(&self.diverged_path(&record.id), record, &[], &self.sources(&record.id))
    }

    /// The records that a round is made from.
    pub(super) fn sources(&self, id: &RoundId) -> Vec<PathBuf> {
        id.sources().iter().map(|source| self.record_path(source)).collect()
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
        write_atomically(&path.join(WEIGHTS), &save_weights(weights)?)?;
        let views: Vec<(String, TensorView<'_>)> = mask
            .tensors()
            .map(|(name, shape, bits)| Ok((name.to_owned(), view(Dtype::U8, shape, bits)?)))
            .collect::<Result<_>>()?;
        write_atomically(&path.join(MASK), &serialise(views)?)?;
        write_atomically(&path.join(MAPS), &serialise(maps)?)?;
        let mut files: Vec<PathBuf> = [WEIGHTS, LAST, MASK, MAPS].iter().map(|name| path.join(name)).collect();
        if record.id == RoundId::parent(record.id.replicate) {
            files.push(self.rewind_path(record.id.replicate));
        }
        self.write_record(&self.record_path(&record.id), record, &files, &self.sources(&record.id))
    }

    /// The bytes of a file that the record of a finished round lists, and its path.
    fn of_round(&self, id: &RoundId, path: PathBuf) -> Result<(PathBuf, Vec<u8>)> {
        let missing = || Error::format(self.record_path(id), "is missing: the round was not finished");
        let (_, seal) = self.sealed_round(id)?.ok_or_else(missing)?;
        let bytes = self.listed(&seal, &path)?;
        Ok((path, bytes))
    }

    fn weights_of(&self, id: &RoundId, path: PathBuf, model: &Model) -> Result<Weights> {
        let (path, bytes) = self.of_round(id, path)?;
        load_into(model, &TensorFile::of_bytes(&path, &bytes)?)
    }

    /// Weights of a finished round.
    ///
    /// # Errors
    /// When they cannot be read, do not fit, or are not those of the round.
    pub fn weights(&self, id: &RoundId, model: &Model) -> Result<Weights> {
        self.weights_of(id, self.round_path(id).join(WEIGHTS), model)
    }

    /// Stores the weights at the end of training where those that are explained are not the last.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_last_weights(&self, id: &RoundId, weights: &Weights) -> Result<()> {
        write_atomically(&self.round_path(id).join(LAST), &save_weights(weights)?)
    }

    /// Reads those.
    ///
    /// # Errors
    /// As [`Store::weights`].
    pub fn last_weights(&self, id: &RoundId, model: &Model) -> Result<Weights> {
        self.weights_of(id, self.round_path(id).join(LAST), model)
    }

    /// Mask of a finished round.
    ///
    /// # Errors
    /// As [`Store::weights`].
    pub fn mask(&self, id: &RoundId, layout: &Arc<Layout>) -> Result<Mask> {
        let (path, bytes) = self.of_round(id, self.round_path(id).join(MASK))?;
        let tensors = tensors(&path, &bytes)?;
        Mask::from_lookup(layout.clone(), &path.display().to_string(), |name| {
            tensors.get(name).and_then(|tensor| tensor.flatten_all().ok()?.to_vec1::<u8>().ok())
        })
    }

    /// Raw maps of a finished round, by [`super::maps_key`].
    ///
    /// # Errors
    /// When they cannot be read, or are not those of the round.
    pub fn maps(&self, id: &RoundId) -> Result<BTreeMap<String, Tensor>> {
        let (path, bytes) = self.of_round(id, self.round_path(id).join(MAPS))?;
        tensors(&path, &bytes)
    }

    /// Stores θ_k, the state that tickets rewind to; the record of the parent lists it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_rewind_state(&self, replicate: usize, weights: &Weights) -> Result<()> {
        write_atomically(&self.rewind_path(replicate), &save_weights(weights)?)
    }

    /// Whether θ_k was stored: not where trained networks came from elsewhere.
    pub fn has_rewind_state(&self, replicate: usize) -> bool {
        self.rewind_path(replicate).exists()
    }

    /// Reads θ_k.
    ///
    /// # Errors
    /// As [`Store::weights`].
    pub fn rewind_state(&self, replicate: usize, model: &Model) -> Result<Weights> {
        self.weights_of(&RoundId::parent(replicate), self.rewind_path(replicate), model)
    }

    /// Stores the sanity check of a replicate's dense network.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_sanity(&self, record: &SanityRecord) -> Result<()> {
        let parent = self.record_path(&RoundId::parent(record.replicate));
        self.write_record(&self.sanity_path(record.replicate), record, &[], &[parent])
    }

    /// Reads it, if it was made.
    ///
    /// # Errors
    /// When it is there but damaged, or of another replicate.
    pub fn sanity(&self, replicate: usize) -> Result<Option<SanityRecord>> {
        let path = self.sanity_path(replicate);
        let Some((record, seal)) = self.record::<SanityRecord>(&path)? else { return Ok(None) };
        if record.replicate != replicate {
            return Err(Error::damaged(path, format!("is the check of replicate {}", record.replicate)));
        }
        self.check_sources(&path, &seal)?;
        Ok(Some(record))
    }

    /// The pixels of the fixed Grad-CAM images, `(N, C, H, W)` u8.
    ///
    /// # Errors
    /// When they cannot be read, or are not those of the run.
    pub fn images(&self) -> Result<Tensor> {
        let (path, (_, seal)) = (self.images_path(), self.sealed_manifest()?);
        let mut tensors = tensors(&path, &self.listed(&seal, &path)?)?;
        tensors.remove("pixels").ok_or_else(|| Error::tensor(format!("{}:pixels", path.display()), "is missing"))
    }

    /// Stores what follows from all rounds.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_study(&self, study: &StudyRecord) -> Result<()> {
        let plan = self.plan()?;
        let mut from: Vec<PathBuf> = plan.own_replicates().map(|replicate| self.sanity_path(replicate)).collect();
        from.extend(round_ids(&plan).iter().flat_map(|id| [self.record_path(id), self.diverged_path(id)]));
        self.write_record(&self.study_path(), study, &[], &from)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the run is not finished, the record is damaged or of another format, or the rounds are
    /// others than it follows from.
    pub fn study(&self) -> Result<StudyRecord> {
        let path = self.study_path();
        let unfinished = || {
            let what = "the run is not finished (no metrics.json): run the same command again to go on";
            Error::format(self.root(), what)
        };
        let (study, seal) = self.record::<StudyRecord>(&path)?.ok_or_else(unfinished)?;
        self.check_sources(&path, &seal)?;
        Ok(study)
    }
}

/// The weights of the checkpoint that a plan starts from; the layer that gives the logits is left out, and is zero.
pub fn read_trunk(model: &Model, path: &std::path::Path) -> Result<Weights> {
    let head = Weights::zeros(model.network.layout.clone());
    let trunk = TensorFile::open(path).and_then(|file| load_trunk(model, &file, &head));
    trunk.map_err(|error| Error::config("model.pretrained", error.to_string()))
}
