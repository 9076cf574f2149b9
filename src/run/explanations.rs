//! The explanations of one network: Grad-CAM on the fixed test images, and TCAV with its tests, at every stage of the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use nalgebra::DMatrix;

use crate::data::Images;
use crate::error::{Error, Result, undefined};
use crate::explain::geometry::{Geometry, MeanCav, geometry, mean_cav};
use crate::explain::gram::{Rows, cross_on, gram_on};
use crate::explain::tcav::{ClassScores, ConceptScores, PairCavs, Sets, fit_pairs, score_class};
use crate::explain::{Cut, Targets, input_cut, input_gradient};
use crate::model::Stage;
use crate::nn::{Weights, predicted_class};
use crate::progress::{Event, Observer};
use crate::stats::bootstrap::{Bootstrapped, Method, Options, one_sample, two_sample};
use crate::stats::effect::concept_effect;
use crate::stats::exchangeability::{Design, PairScore, exchangeability_test};
use crate::stats::permutation::label_permutation;
use crate::stats::t_tests::welch_t;

use super::as_published;
use super::calibration::calibration;
use super::localisation::localisation;
use super::setup::{ConceptRows, GroupRows, Setup, TestedConcepts};
use crate::explain::split_maps;
use crate::plan::Plan;
use crate::records::{
    CalibrationRecord, CamRecord, CavGeometry, FaithfulnessRecord, Interval, LocalisationRecord, SanityRecord,
    TcavRecord,
};

/// Images that pass through the network at a time; fewer of large ones.
const BATCH: usize = 100;
/// Activations of concept and random images that are kept at a time, unless one class needs more.
const ACTIVATION_BYTES: usize = 1536 << 20;

/// Explains networks of one run on its fixed images.
pub(super) struct Explainer<'a> {
    plan: &'a Plan,
    setup: &'a Setup,
    design: Design,
    /// Images that pass at a time.
    batch: usize,
}

/// What explaining one network gives.
pub(super) struct Explained {
    pub(super) grad_cam: Vec<CamRecord>,
    pub(super) tcav: Vec<TcavRecord>,
    pub(super) cavs: Vec<CavGeometry>,
    pub(super) faithfulness: Vec<FaithfulnessRecord>,
    pub(super) calibration: Vec<CalibrationRecord>,
    pub(super) localisation: Vec<LocalisationRecord>,
    /// Raw maps by stage name.
    pub(super) maps: BTreeMap<String, Tensor>,
}

impl<'a> Explainer<'a> {
    pub(super) fn new(plan: &'a Plan, setup: &'a Setup) -> Result<Self> {
        let design = plan.explain.design(plan.seed)?;
        let batch = setup.model.network.images_within(setup.data.shape().into(), super::rounds::MAP_BYTES, BATCH)?;
        Ok(Self { plan, setup, design, batch })
    }

    pub(super) fn explain(&self, weights: &Arc<Weights>, observer: &dyn Observer) -> Result<Explained> {
        let mut explained = Explained {
            grad_cam: Vec::new(),
            tcav: Vec::new(),
            cavs: Vec::new(),
            faithfulness: Vec::new(),
            calibration: Vec::new(),
            localisation: Vec::new(),
            maps: BTreeMap::new(),
        };
        for &stage in &self.plan.explain.stages {
            let cut = Cut::new(&self.setup.model, weights.clone(), stage)?;
            super::rounds::notice(observer, &Event::Phase("Grad-CAM"))?;
            let (record, maps) = match self.setup.model.has_map(stage) {
                true => self.heatmaps(&cut, stage)?,
                false => self.heatmaps(&input_cut(&self.setup.model, weights.clone()), stage)?,
            };
            explained.localisation.extend(self.localisation(stage, record.size, &maps)?);
            explained.grad_cam.push(record);
            super::rounds::notice(observer, &Event::Phase("deletion and insertion"))?;
            explained.faithfulness.push(super::checks::faithfulness_of(self.plan, self.setup, weights, stage, &maps)?);
            explained.maps.insert(stage.name().into(), maps);
            super::rounds::notice(observer, &Event::Phase("TCAV"))?;
            self.concepts(&cut, stage, &mut explained)?;
        }
        Ok(explained)
    }

    pub(super) fn sanity(&self, weights: &Weights, replicate: usize) -> Result<SanityRecord> {
        super::checks::sanity(self.plan, self.setup, weights, replicate)
    }

    /// Grad-CAM of the true class, or the gradient of the pixels where the stage is no map; then `cut` is before the first layer.
    fn heatmaps(&self, cut: &Cut, stage: Stage) -> Result<(CamRecord, Tensor)> {
        let (mut predicted, mut degenerate, mut maps) = (Vec::new(), Vec::new(), Vec::new());
        for indices in self.setup.cam_images.chunks(self.batch) {
            let labels: Vec<usize> = indices.iter().map(|&index| self.setup.data.label(index)).collect();
            let activation = cut.activation(&self.setup.data.tensor(indices)?)?;
            let result = self.plan.as_published.gradient(cut, &activation, Targets::PerImage(&labels))?;
            let cam = match self.setup.model.has_map(stage) {
                true => self.plan.as_published.grad_cam(&activation, &result.gradient)?,
                false => input_gradient(&result.gradient)?,
            };
            predicted.extend(result.logits.to_vec2::<f32>()?.iter().map(|row| predicted_class(row)));
            degenerate.extend(cam.degenerate);
            maps.push(cam.raw);
        }
        let maps = Tensor::cat(&maps, 0)?;
        let (_, height, width) = maps.dims3()?;
        Ok((CamRecord { stage, size: [height, width], predicted, degenerate }, maps))
    }

    fn localisation(&self, stage: Stage, size: [usize; 2], maps: &Tensor) -> Result<Option<LocalisationRecord>> {
        let shown = self.setup.shown_images();
        let (_, height, width) = self.setup.data.shape();
        localisation(self.plan, stage, &split_maps(maps)?, size, &shown, (height, width))
    }

    /// TCAV of every class with its concepts. Classes whose activations fit memory together share them, and the Gram matrix.
    fn concepts(&self, cut: &Cut, stage: Stage, explained: &mut Explained) -> Result<()> {
        let all = &self.setup.concepts;
        let features = self.setup.model.activation_shape(stage, self.setup.data.shape().into())?.len();
        let mut start = 0;
        while start < all.len() {
            let mut rows = self.setup.concept_rows(&all[start..=start])?;
            let mut end = start + 1;
            while end < all.len() {
                let more = self.setup.concept_rows(&all[start..=end])?;
                if 4 * features * more.count > ACTIVATION_BYTES {
                    break;
                }
                (rows, end) = (more, end + 1);
            }
            self.tested(cut, stage, &all[start..end], &rows, features, explained)?;
            start = end;
        }
        Ok(())
    }

    fn tested(
        &self,
        cut: &Cut,
        stage: Stage,
        tested: &[TestedConcepts],
        images: &ConceptRows,
        features: usize,
        explained: &mut Explained,
    ) -> Result<()> {
        let mut values = Vec::with_capacity(images.count * features);
        for start in (0..images.count).step_by(self.batch) {
            let images = images.images(self.setup, start..images.count.min(start + self.batch))?;
            values.extend(cut.activation(&images)?.flatten_all()?.to_vec1::<f32>()?);
        }
        let activations = rows(&values, features)?;
        let gram = gram_on(&self.setup.model.network.compute, activations)
            .map_err(|error| Error::statistics("TCAV", error.to_string()))?;
        for (tested, rows) in tested.iter().zip(&images.groups) {
            let means = self.group(cut, stage, tested, rows, activations, &gram, explained)?;
            explained.cavs.push(self.geometry(stage, tested, &gram, &means));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one call site; what is tested, where, and where the records go")]
    fn group(
        &self,
        cut: &Cut,
        stage: Stage,
        tested: &TestedConcepts,
        of_sets: &GroupRows,
        activations: Rows<'_>,
        gram: &DMatrix<f64>,
        explained: &mut Explained,
    ) -> Result<Vec<MeanCav>> {
        // Concepts that share their random sets share the fits between those sets.
        let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (index, concept) in tested.sets.concepts.iter().enumerate() {
            groups.entry((concept.random.start, concept.random.end)).or_default().push(index);
        }
        let kind = self.plan.explain.cav_kind();
        let against_rest = self.plan.as_published.cavs_against_rest(gram, &of_sets.concepts, kind)?;
        let mut records = Vec::new();
        let mut means: BTreeMap<usize, MeanCav> = BTreeMap::new();
        for (group, (&(start, end), concepts)) in groups.iter().enumerate() {
            let sets = Sets {
                concepts: concepts.iter().map(|&concept| of_sets.concepts[concept].clone()).collect(),
                random: of_sets.random[start..end].to_vec(),
            };
            let cavs = fit_pairs(gram, sets, self.design.pairs(), kind, self.plan.seed)
                .map_err(|error| Error::statistics("TCAV", error.to_string()))?;
            for (place, &concept) in concepts.iter().enumerate() {
                means.insert(concept, mean_cav(&cavs, place, gram.nrows()));
            }
            for &class in &tested.classes {
                let images = &self.setup.class_images[class];
                let mut gradients = Vec::new();
                for indices in images.chunks(self.batch) {
                    let activation = cut.activation(&self.setup.data.tensor(indices)?)?;
                    let result = self.plan.as_published.gradient(cut, &activation, Targets::Class(class))?;
                    gradients.extend(result.gradient.flatten_all()?.to_vec1::<f32>()?);
                }
                let gradients = rows(&gradients, activations.features())?;
                let products = cross_on(&self.setup.model.network.compute, gradients, activations)
                    .map_err(|error| Error::statistics("TCAV", error.to_string()))?;
                let scores =
                    score_class(&cavs, &products).map_err(|error| Error::statistics("TCAV", error.to_string()))?;
                if group == 0 {
                    let random = &of_sets.random[start..end];
                    explained.calibration.push(calibration(self.plan, stage, class, random, &products, &scores));
                }
                for (place, &concept) in concepts.iter().enumerate() {
                    let name = &tested.sets.concepts[concept].name;
                    let mut record = self.record(stage, class, name, place, &cavs, &scores)?;
                    if let Some(against_rest) = &against_rest {
                        as_published::score_without_test(&mut record, &products, &against_rest[concept]);
                    }
                    records.push(record);
                }
            }
        }
        records.sort_by(|a, b| {
            let order = |record: &TcavRecord| {
                let names = &tested.sets.concepts;
                (record.class, names.iter().position(|concept| concept.name == record.concept))
            };
            order(a).cmp(&order(b))
        });
        explained.tcav.extend(records);
        Ok(means.into_values().collect())
    }

    fn geometry(&self, stage: Stage, tested: &TestedConcepts, gram: &DMatrix<f64>, means: &[MeanCav]) -> CavGeometry {
        let Geometry { cosines, stability } = geometry(gram, means);
        let off_diagonal: Vec<f64> =
            cosines.iter().enumerate().flat_map(|(row, cosines)| cosines[..row].iter().flatten().copied()).collect();
        let mean = |value: fn(f64) -> f64| {
            let sum: f64 = off_diagonal.iter().map(|&cosine| value(cosine)).sum();
            (!off_diagonal.is_empty()).then(|| sum / off_diagonal.len() as f64)
        };
        CavGeometry {
            stage,
            class: (self.setup.concepts.len() > 1).then(|| tested.classes.first().copied()).flatten(),
            concepts: (tested.sets.concepts.iter()).map(|concept| concept.name.clone()).collect(),
            entanglement: mean(|cosine| cosine),
            entanglement_magnitude: mean(f64::abs),
            cosines,
            stability,
        }
    }

    fn record(
        &self,
        stage: Stage,
        class: usize,
        name: &str,
        place: usize,
        cavs: &PairCavs,
        scores: &ClassScores,
    ) -> Result<TcavRecord> {
        let of: &ConceptScores = &scores.concepts[place];
        let statistics = &self.plan.statistics;
        let pairs: Vec<PairScore> =
            of.family.iter().map(|pair| PairScore { score: pair.score, ties: pair.ties }).collect();
        let test = exchangeability_test(&self.design, &pairs).map_err(undefined("TCAV score"))?;
        let concept_scores: Vec<f64> = of.runs.iter().map(|run| run.score).collect();
        let baseline: Vec<f64> = scores.random_baseline.iter().map(|pair| pair.score).collect();
        let stream = format!("{stage}/{class}/{name}");
        // Where no projection varies, nothing distinguishes the concept: p = 1, and `effect_standardised` is absent.
        let effect_p = match of.effect.effect_standardised {
            None => 1.0,
            Some(_) => {
                label_permutation(
                    &of.effect.concept,
                    &of.effect.random,
                    statistics.permutations,
                    self.plan.seed,
                    &format!("permutation/{stream}"),
                )
                .map_err(undefined("concept effect"))?
                .p_value
            }
        };
        let level = self.plan.verdict.confidence;
        let options = Options { resamples: statistics.bootstrap, confidence: level, method: Method::Percentile };
        let seed = self.plan.seed;
        // Over concept and random images.
        let effect_interval = two_sample(
            &of.effect.concept,
            &of.effect.random,
            |concept, random| Some(concept_effect(concept, random).ok()?.effect_standardised),
            options,
            seed,
            &format!("effect-interval/{stream}"),
        );
        // Over class images: each has a share of random sets against which its sensitivity is positive.
        let images = of.runs.first().map_or(0, |run| run.sensitivity.len());
        let positive: Vec<f64> = (0..images)
            .map(|image| {
                let count = of.runs.iter().filter(|run| run.sensitivity[image] > 0.0).count();
                count as f64 / of.runs.len() as f64
            })
            .collect();
        let mean = |shares: &[f64]| Some(shares.iter().sum::<f64>() / shares.len() as f64);
        let score_interval = one_sample(&positive, mean, options, seed, &format!("score-interval/{stream}"));
        // Undefined where nothing varies: then there is no interval.
        let range = |result: crate::stats::Result<Bootstrapped>| {
            result.ok().map(|result| Interval { low: result.interval.low, high: result.interval.high })
        };
        let heldout: f64 = of.runs.iter().map(|run| run.heldout_accuracy).sum();
        Ok(TcavRecord {
            stage,
            class,
            concept: name.to_owned(),
            score: test.mean_score,
            score_interval: range(score_interval),
            score_p: test.p_value,
            legacy_welch_p: welch_t(&concept_scores, &baseline, level).ok().map(|test| test.p_value),
            effect: of.effect.effect,
            effect_standardised: of.effect.effect_standardised,
            effect_interval: range(effect_interval),
            effect_p,
            heldout_accuracy: heldout / of.runs.len().max(1) as f64,
            decodable: cavs.decodable(place, statistics.alpha),
        })
    }
}

fn rows(values: &[f32], features: usize) -> Result<Rows<'_>> {
    Rows::new(values, features).map_err(|error| Error::statistics("TCAV", error.to_string()))
}
