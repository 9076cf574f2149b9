//! Looking for damage in a run folder, and setting aside what is damaged, so that a run makes it again.

use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::output::sweep;
use crate::plan::Plan;

use super::files::read;
use super::folder::what_is_wrong;
use super::seal::is_verbatim;
use super::{
    Computed, DivergedRecord, Manifest, RoundId, RoundRecord, SanityRecord, Seal, Store, StudyRecord, TrainingRecord,
    round_ids,
};

/// What an inspection of a run folder found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Records that were read.
    pub records: usize,
    /// Other files that were hashed.
    pub files: usize,
    /// Networks of the plan that are neither finished nor diverged.
    pub unfinished: usize,
    /// What is wrong, a line for each file.
    pub faults: Vec<String>,
}

impl Store {
    /// # Errors
    /// [`Error::Damaged`] when a record that this one was made from is gone, or is another one now.
    pub(super) fn check_sources(&self, path: &Path, seal: &Seal) -> Result<()> {
        for (source, digest) in &seal.from {
            if self.digest(&self.root().join(source))?.as_ref() != Some(digest) {
                let what = format!("was made from another {source} than the one there");
                return Err(Error::damaged(path, what));
            }
        }
        Ok(())
    }

    /// Whether the run, and every network of `plan` that this one is made from, are still there: a
    /// record that leaves one out would never be found to be outdated.
    ///
    /// # Errors
    /// [`Error::Damaged`] when one was removed since; as [`Store::round`].
    pub fn check_basis(&self, plan: &Plan, id: &RoundId) -> Result<()> {
        let removed = |path: &Path| Err(Error::damaged(path, "was removed while the run went on"));
        if !self.manifest_path().exists() {
            return removed(&self.manifest_path());
        }
        let planned = round_ids(plan);
        for source in id.sources().iter().filter(|source| planned.contains(source)) {
            if self.round(source)?.is_none() {
                return removed(&self.record_path(source));
            }
        }
        Ok(())
    }

    /// # Errors
    /// When something was computed by what cannot go on here, unless that is allowed.
    pub(super) fn check_computed(&self, path: &Path, by: &Computed) -> Result<()> {
        let Some(now) = self.computed.as_ref().filter(|now| *now != by && !self.allow_mixed) else { return Ok(()) };
        let (what, hint) = if by.vectors != now.vectors {
            let hint = format!("TICKETLENS_SIMD={} goes on where the CPU has them; ", by.vectors);
            (format!("{} vectors, not {}", by.vectors, now.vectors), hint)
        } else if by.device != now.device {
            (format!("{}, not {}", by.device, now.device), String::new())
        } else {
            (format!("version {}, not {}", by.version, now.version), String::new())
        };
        let what = format!(
            "was computed with {what}: sums round differently, and the rounds would not be of one computation ({hint}\
             --allow-mixed goes on, and the report says so)"
        );
        Err(Error::format(path, what))
    }

    /// Whether a finished round was made from other records than those there now; says which.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn outdated(&self, id: &RoundId) -> Result<Option<String>> {
        match self.sealed_round(id)? {
            Some((_, seal)) => damage(self.check_sources(&self.record_path(id), &seal)),
            None => Ok(None),
        }
    }

    /// Sets aside, by renaming, everything that is not as its record says: rounds, marks, checks,
    /// the study. Returns a line for each, with what was found while the folder was opened. What
    /// was made from a round that is set aside stays: the round is made again, bit for bit, and if
    /// it is not, [`Store::outdated`] says so. Temporary files of killed processes are removed. For
    /// the holder of the [`Store::lock`].
    ///
    /// # Errors
    /// When something cannot be read or renamed, or is of another format.
    pub fn mend(&mut self, plan: &Plan) -> Result<Vec<String>> {
        let mut notes = std::mem::take(&mut self.notes);
        sweep(self.root())?;
        for id in round_ids(plan) {
            match self.first_fault(&id)? {
                Some(fault) => notes.extend(self.set_round_aside(&id, &fault)?),
                None => {
                    if let Some(by) = self.computed(&id)? {
                        self.check_computed(&self.round_path(&id), &by)?;
                        // A kill between a round's record and this leaves the state of its training.
                        self.clear_training(&id)?;
                    }
                }
            }
            if let Some(fault) = damage(self.diverged(&id))? {
                notes.push(self.put_aside(&self.diverged_path(&id), &fault)?);
            }
        }
        for replicate in plan.own_replicates() {
            let path = self.sanity_path(replicate);
            if let Some(fault) = damage(self.sanity(replicate))? {
                notes.push(self.put_aside(&path, &fault)?);
            }
        }
        let path = self.study_path();
        if let Some(fault) = damage(self.record::<StudyRecord>(&path))? {
            notes.push(self.put_aside(&path, &fault)?);
        }
        Ok(notes)
    }

    /// Sets a round aside, and θ_k with a parent, since its training makes that again; returns lines that say so.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_round_aside(&self, id: &RoundId, fault: &str) -> Result<Vec<String>> {
        let mut notes = vec![self.put_aside(&self.round_path(id), fault)?];
        let theta_k = self.rewind_path(id.replicate);
        if *id == RoundId::parent(id.replicate) && theta_k.exists() {
            notes.push(self.put_aside(&theta_k, &format!("{} goes with it", theta_k.display()))?);
        }
        Ok(notes)
    }

    /// What is wrong with a finished round, if anything.
    fn first_fault(&self, id: &RoundId) -> Result<Option<String>> {
        let seal = match self.sealed_round(id) {
            Ok(Some((_, seal))) => seal,
            Ok(None) => return Ok(None),
            Err(error) => return damage::<()>(Err(error)),
        };
        for file in seal.files.keys() {
            if let Some(what) = damage(self.listed(&seal, &self.root().join(file)))? {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// Reads everything and names what is damaged, missing, cannot be read, or is of another run or round.
    ///
    /// # Errors
    /// What is no fault of a file.
    pub fn inspect(&self) -> Result<Inspection> {
        let mut found = Inspection::default();
        let mut store = self.clone();
        store.look::<Manifest>(&mut found, &self.manifest_path(), || Ok(()))?;
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(error) => {
                note(&mut found, Err(error))?;
                // Without the manifest, or with a plan that is not quite its own, as much is looked at as can be.
                let text = read(&self.plan_path()).ok().flatten().unwrap_or_default();
                match Plan::parse("plan.toml", &String::from_utf8_lossy(&text), &[]) {
                    Ok(plan) => plan,
                    Err(_) => return Ok(found),
                }
            }
        };
        let ids = round_ids(&plan);
        if store.run().is_err() {
            // Rounds must at least be of one run.
            let sealed = ids.iter().filter_map(|id| store.any_seal(&self.record_path(id)).ok().flatten()).next();
            store.run = OnceLock::from(sealed.map(|seal| seal.run).unwrap_or_default());
        }
        for id in &ids {
            let training = self.round_path(id).join("training.json");
            store.look::<TrainingRecord>(&mut found, &training, || Ok(()))?;
            let before = found.records;
            store.look::<RoundRecord>(&mut found, &self.record_path(id), || store.round(id).map(drop))?;
            store.look::<DivergedRecord>(&mut found, &self.diverged_path(id), || store.diverged(id).map(drop))?;
            found.unfinished += usize::from(found.records == before);
        }
        for replicate in plan.own_replicates() {
            let check = || store.sanity(replicate).map(drop);
            store.look::<SanityRecord>(&mut found, &self.sanity_path(replicate), check)?;
        }
        store.look::<StudyRecord>(&mut found, &self.study_path(), || Ok(()))?;
        Ok(found)
    }

    /// Looks at one record, if it is there, at the files that it lists and the records that it was made from.
    fn look<T: Serialize + DeserializeOwned>(
        &self,
        found: &mut Inspection,
        path: &Path,
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let text = match read(path) {
            Ok(None) => return Ok(()),
            Ok(Some(text)) => text,
            Err(error) => return note(found, Err(error)),
        };
        found.records += 1;
        let (record, seal) = match self.record::<T>(path) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) => return note(found, Err(error)),
        };
        if !is_verbatim(&text, &record, &seal) {
            note(found, Err(Error::damaged(path, "is not, byte for byte, as it was written")))?;
        }
        note(found, check())?;
        note(found, self.check_sources(path, &seal))?;
        for file in seal.files.keys() {
            found.files += 1;
            note(found, self.listed(&seal, &self.root().join(file)).map(drop))?;
        }
        Ok(())
    }
}

/// The message of damage; other errors stay errors.
fn damage<T>(result: Result<T>) -> Result<Option<String>> {
    match result {
        Ok(_) => Ok(None),
        Err(fault @ Error::Damaged { .. }) => Ok(Some(what_is_wrong(&fault))),
        Err(error) => Err(error),
    }
}

fn note(found: &mut Inspection, result: Result<()>) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error @ (Error::Damaged { .. } | Error::Format { .. } | Error::Io { .. })) => {
            let fault = what_is_wrong(&error);
            if !found.faults.contains(&fault) {
                found.faults.push(fault);
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}
