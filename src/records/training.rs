//! The state of a training after whole epochs, kept until its round is finished: `…/training.json` with
//! `…/training-STEP.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::optimizer::OptimizerState;
use crate::nn::{Layout, Weights};

use super::files::{serialise, tensors, view, write_atomically};
use super::{Look, RoundId, Store};

const RECORD: &str = "training.json";

/// Where a training has come to (`training.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// Which network.
    #[serde(flatten)]
    pub id: RoundId,
    /// Optimiser steps done, counted from the start of training.
    pub step: u64,
    /// Steps that the optimiser's state has seen.
    pub optimizer_steps: u64,
    /// Sum of the losses of each epoch, and steps.
    pub losses: Vec<(f64, u64)>,
    /// Looks at the validation images so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<Look>,
}

impl Store {
    fn training_path(&self, id: &RoundId) -> PathBuf {
        self.round_path(id).join(RECORD)
    }

    /// Stores where a training has come to; what was stored of it before goes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_training(&self, record: &TrainingRecord, weights: &Weights, optimizer: &OptimizerState) -> Result<()> {
        let id = &record.id;
        let tensors = self.round_path(id).join(format!("training-{}.safetensors", record.step));
        let parts = [
            ("parameters", &weights.parameters),
            ("buffers", &weights.buffers),
            ("first", &optimizer.first),
            ("second", &optimizer.second),
        ];
        let bytes =
            parts.map(|(name, values)| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()));
        let views: Vec<(&str, TensorView<'_>)> = bytes
            .iter()
            .map(|(name, bytes)| Ok((*name, view(Dtype::F32, &[bytes.len() / 4], bytes)?)))
            .collect::<Result<_>>()?;
        write_atomically(&tensors, &serialise(views)?)?;
        let mut files = vec![tensors.clone()];
        if *id == RoundId::parent(id.replicate) {
            files.push(self.rewind_path(id.replicate));
        }
        self.write_record(&self.training_path(id), record, &files, &self.sources(id))?;
        remove_trainings(&self.round_path(id), &|path| path == tensors || path.ends_with(RECORD))
    }

    /// Where a training that was stopped has come to; nothing where none was, or where another kind
    /// of machine computed it.
    ///
    /// # Errors
    /// When it is damaged, or of another round.
    pub fn training(
        &self,
        id: &RoundId,
        layout: &Arc<Layout>,
    ) -> Result<Option<(TrainingRecord, Weights, OptimizerState)>> {
        let path = self.training_path(id);
        let Some((record, seal)) = self.record::<TrainingRecord>(&path)? else { return Ok(None) };
        if record.id != *id {
            return Err(Error::damaged(path, "is of another round"));
        }
        self.check_sources(&path, &seal)?;
        if seal.computed != self.computed {
            return Ok(None);
        }
        let mut values = None;
        for name in seal.files.keys() {
            let file = self.root().join(name);
            let bytes = self.listed(&seal, &file)?;
            if file.parent() == path.parent() {
                values = Some(tensors(&file, &bytes)?);
            }
        }
        let values = values.ok_or_else(|| Error::damaged(&path, "lists no tensors"))?;
        let of = |name: &str| -> Result<Vec<f32>> {
            let missing = || Error::damaged(&path, format!("lists tensors without `{name}`"));
            Ok(values.get(name).map(Tensor::to_vec1).ok_or_else(missing)??)
        };
        let mut weights = Weights::zeros(layout.clone());
        let (parameters, buffers) = (of("parameters")?, of("buffers")?);
        if (parameters.len(), buffers.len()) != (weights.parameters.len(), weights.buffers.len()) {
            return Err(Error::damaged(&path, "is of another network"));
        }
        (weights.parameters, weights.buffers) = (parameters, buffers);
        let state = OptimizerState { first: of("first")?, second: of("second")?, steps: record.optimizer_steps };
        Ok(Some((record, weights, state)))
    }

    /// Removes what was stored of a training whose round is finished.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear_training(&self, id: &RoundId) -> Result<()> {
        remove_trainings(&self.round_path(id), &|_| false)
    }

    /// Sets a damaged state of a training aside; returns a line that says so.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_training_aside(&self, id: &RoundId, fault: &Error) -> Result<String> {
        self.put_aside(&self.training_path(id), &super::folder::what_is_wrong(fault))
    }
}

fn remove_trainings(folder: &Path, but: &dyn Fn(&Path) -> bool) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::io(folder, source)),
    };
    let paths = entries.map(|entry| Ok(entry.map_err(|source| Error::io(folder, source))?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    // The record first: without it the tensors are files that nothing lists.
    paths.sort_by_key(|path| path.file_name() != Some(RECORD.as_ref()));
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let tensors = name.starts_with("training-") && name.ends_with(".safetensors");
        if (tensors || name == RECORD) && !but(&path) {
            fs::remove_file(&path).map_err(|source| Error::io(&path, source))?;
        }
    }
    Ok(())
}
