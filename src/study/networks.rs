//! The networks of a finished run, read once: records, maps, right answers, adjusted p-values.

use std::collections::BTreeMap;

use crate::error::{Error, Result, undefined};
use crate::explain::split_maps;
use crate::plan::{Plan, StatisticsPlan};
use crate::records::{
    Adjusted, DivergedRecord, Line, Manifest, REPRESENTATION, RoundId, RoundRecord, Store, TcavRecord, round_ids,
};
use crate::stats::multiplicity::adjust;

/// Raw maps of one network at one stage by one method.
pub(super) struct MapSet {
    /// Height and width of a map.
    pub(super) size: [usize; 2],
    /// One map for each fixed image.
    pub(super) maps: Vec<Vec<f64>>,
}

/// One network.
pub(super) struct Network {
    pub(super) record: RoundRecord,
    /// Maps by view (stage, or stage and method).
    pub(super) views: BTreeMap<String, MapSet>,
    /// Representations by stage, as far as they are recorded.
    pub(super) representations: BTreeMap<String, Vec<f32>>,
    /// Whether each of the fixed images is classified correctly.
    pub(super) correct: Vec<bool>,
    /// In the order of the record's TCAV entries.
    pub(super) adjusted: Vec<Adjusted>,
}

impl Network {
    /// Whether a test image is classified correctly, for each.
    pub(super) fn test_correct(&self) -> impl Iterator<Item = bool> {
        self.record.test_correct.bytes().map(|byte| byte == b'1')
    }
}

/// All networks of a study.
pub(super) struct Networks {
    pub(super) all: BTreeMap<RoundId, Network>,
    /// Views of the maps; the first decides.
    pub(super) views: Vec<String>,
    /// Replicates all of whose networks were trained.
    pub(super) replicates: Vec<usize>,
    /// Networks whose training diverged; their replicates are left out.
    pub(super) diverged: Vec<DivergedRecord>,
}

impl Networks {
    /// # Errors
    /// When a round is missing, or networks do not speak of the same images, views and concepts.
    pub(super) fn read(plan: &Plan, store: &Store, manifest: &Manifest) -> Result<Self> {
        let first = plan.explain.stages[0].name();
        let mut all = BTreeMap::new();
        let mut expected: Option<(Vec<usize>, Vec<String>)> = None;
        let mut diverged = Vec::new();
        for id in round_ids(plan) {
            diverged.extend(store.diverged(&id)?);
        }
        let whole = |replicate: &usize| diverged.iter().all(|record| record.id.replicate != *replicate);
        let replicates: Vec<usize> = (0..plan.replicates).filter(whole).collect();
        if let (true, Some(DivergedRecord { id, step, learning_rate, .. })) = (replicates.is_empty(), diverged.first())
        {
            let what = format!(
                "training diverged in every replicate, first in {} round {} of replicate {} at step {step} (learning rate \
                 {learning_rate}); a lower `train.learning_rate` may help",
                id.arm, id.round, id.replicate
            );
            return Err(Error::format(store.root(), what));
        }
        for id in round_ids(plan).into_iter().filter(|id| replicates.contains(&id.replicate)) {
            let name = format!("{} round {} of replicate {}", id.arm, id.round, id.replicate);
            let fault = |what: String| Error::format(store.root(), format!("{name} {what}"));
            let record = store.round(&id)?.ok_or_else(|| fault("is missing".into()))?;
            let maps = store.maps(&id)?;
            let (mut views, mut representations) = (BTreeMap::new(), BTreeMap::new());
            for (view, maps) in &maps {
                if let Some(stage) = view.strip_prefix(REPRESENTATION) {
                    representations.insert(stage.to_owned(), maps.flatten_all()?.to_vec1()?);
                    continue;
                }
                let &[_, height, width] = maps.dims() else {
                    return Err(fault(format!("holds maps `{view}` of shape {:?}, not (N, h, w)", maps.dims())));
                };
                views.insert(view.clone(), MapSet { size: [height, width], maps: split_maps(maps)? });
            }
            let decides = views.get(first).ok_or_else(|| fault(format!("holds no maps at {first}")))?;
            let cam = record.grad_cam.iter().find(|cam| cam.stage.name() == first);
            let cam = cam.ok_or_else(|| fault(format!("records no Grad-CAM at {first}")))?;
            let correct = cam.predicted.iter().zip(&manifest.cam_images).map(|(&p, shown)| p == shown.class).collect();
            // Networks are compared image by image and concept by concept.
            let counts = vec![
                record.test_correct.len(),
                cam.predicted.len(),
                decides.maps.len(),
                record.tcav.len(),
                record.class_accuracy.len(),
            ];
            if counts[1] != manifest.cam_images.len() || views.values().any(|set| set.maps.len() != counts[1]) {
                return Err(fault(format!("does not record {} images", manifest.cam_images.len())));
            }
            let found = (counts, views.keys().cloned().collect::<Vec<_>>());
            match &expected {
                None => expected = Some(found),
                Some(expected) if *expected == found => {}
                Some(expected) => {
                    let what = "records other answers, maps, concepts or classes than the first network";
                    return Err(fault(format!("{what}: {found:?}, expected {expected:?}")));
                }
            }
            all.insert(id, Network { record, views, representations, correct, adjusted: Vec::new() });
        }
        let mut views = expected.map(|(_, views)| views).unwrap_or_default();
        views.sort_by_key(|view| (view != first, view.clone()));
        let mut networks = Self { all, views, replicates, diverged };
        networks.adjust(&plan.statistics)?;
        Ok(networks)
    }

    /// The view that decides.
    pub(super) fn first_view(&self) -> &str {
        &self.views[0]
    }

    pub(super) fn get(&self, id: &RoundId) -> Result<&Network> {
        self.all.get(id).ok_or_else(|| Error::input(format!("{} round {} is no network of the plan", id.arm, id.round)))
    }

    pub(super) fn parent(&self, replicate: usize) -> Result<&Network> {
        self.get(&RoundId::parent(replicate))
    }

    /// The twins of a replicate, as many as the plan has.
    pub(super) fn twins(&self, plan: &Plan, replicate: usize) -> Result<Vec<&Network>> {
        (1..=plan.floor.twins).map(|order| self.get(&Line::Twin(order).id(replicate, 0))).collect()
    }

    /// Adjusts p-values over all rounds, stages, classes and concepts of one line of one replicate,
    /// each statistic's family apart: a reader asks what is significant in the life of one network
    /// as it is pruned. A control's family is its own rounds.
    fn adjust(&mut self, statistics: &StatisticsPlan) -> Result<()> {
        let mut families: BTreeMap<(String, usize), Vec<RoundId>> = BTreeMap::new();
        for id in self.all.keys() {
            families.entry((id.arm.clone(), id.replicate)).or_default().push(id.clone());
        }
        for ids in families.into_values() {
            let adjusted = |value: fn(&TcavRecord) -> f64| {
                let p: Vec<f64> = ids.iter().flat_map(|id| self.all[id].record.tcav.iter().map(value)).collect();
                adjust(&p, statistics.adjustment).map_err(undefined("adjusted p-values"))
            };
            let (effects, scores) = (adjusted(|record| record.effect_p)?, adjusted(|record| record.score_p)?);
            let mut values = effects.into_iter().zip(scores).map(|(effect_p, score_p)| Adjusted { effect_p, score_p });
            for id in &ids {
                if let Some(network) = self.all.get_mut(id) {
                    network.adjusted = values.by_ref().take(network.record.tcav.len()).collect();
                }
            }
        }
        Ok(())
    }
}
