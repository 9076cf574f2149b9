//! The explanations of one network: saliency maps of the fixed test images, and TCAV with its
//! tests, at every stage of the plan.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use nalgebra::DMatrix;

use crate::data::{Images, TestedConcepts};
use crate::error::Result;
use crate::explain::saliency::{Input, Method, Settings};
use crate::explain::tcav::activations::Pool;
use crate::explain::tcav::geometry::{Geometry, MeanCav, geometry};
use crate::explain::tcav::statistics::{EFFECT, SCORE};
use crate::explain::tcav::{ConceptCavs, ConceptImages, ConceptTest, Samples, Tests};
use crate::explain::{Cut, Maps, Targets, split_maps};
use crate::model::Stage;
use crate::nn::{Weights, predicted_class};
use crate::progress::{Event, Observer};

use super::as_published;
use super::calibration::calibration;
use super::localisation::localisation;
use super::representations::Activations;
use super::setup::{ConceptRows, Setup};
use crate::plan::Plan;
use crate::records::{
    CalibrationRecord, CamRecord, CavGeometry, FaithfulnessRecord, InputMapRecord, LocalisationRecord,
    RepresentationRecord, SanityRecord, TcavRecord, input_maps_key, maps_key, representation_key,
};

/// In the place of a stage, of maps on the input.
const INPUT: Stage = Stage::new("input");
/// Images that pass through the network at a time, in whole groups of the kernels; fewer of large ones.
const BATCH: usize = 128;
/// Activations of concept and random images that are kept at a time.
pub(super) const ACTIVATION_BYTES: usize = 1536 << 20;

/// Explains networks of one run on its fixed images.
pub(super) struct Explainer<'a> {
    plan: &'a Plan,
    setup: &'a Setup,
    tests: Tests,
    /// Images that pass at a time.
    batch: usize,
}

/// What explaining one network gives.
pub(super) struct Explained {
    pub(super) grad_cam: Vec<CamRecord>,
    pub(super) input_maps: Vec<InputMapRecord>,
    pub(super) tcav: Vec<TcavRecord>,
    pub(super) cavs: Vec<CavGeometry>,
    pub(super) faithfulness: Vec<FaithfulnessRecord>,
    pub(super) calibration: Vec<CalibrationRecord>,
    pub(super) localisation: Vec<LocalisationRecord>,
    pub(super) representations: Vec<RepresentationRecord>,
    /// Raw maps by [`maps_key`] and [`input_maps_key`], representations by [`representation_key`].
    pub(super) maps: BTreeMap<String, Tensor>,
}

impl<'a> Explainer<'a> {
    pub(super) fn new(plan: &'a Plan, setup: &'a Setup) -> Result<Self> {
        let tests = Tests {
            cav: plan.explain.cav_kind(),
            design: plan.explain.design(plan.seed)?,
            permutations: plan.statistics.permutations,
            resamples: plan.statistics.bootstrap,
            confidence: plan.verdict.confidence,
            interval_in_logits: false,
            alpha: plan.statistics.alpha,
            seed: plan.seed,
            regions: None,
        };
        let batch = setup.images_within(BATCH)?;
        Ok(Self { plan, setup, tests, batch })
    }

    /// Explains a network. `every_method`: whether the maps of all methods are judged, not of the deciding one alone.
    pub(super) fn explain(
        &self,
        weights: &Arc<Weights>,
        every_method: bool,
        observer: &dyn Observer,
    ) -> Result<Explained> {
        let mut explained = Explained {
            grad_cam: Vec::new(),
            input_maps: Vec::new(),
            tcav: Vec::new(),
            cavs: Vec::new(),
            faithfulness: Vec::new(),
            calibration: Vec::new(),
            localisation: Vec::new(),
            representations: Vec::new(),
            maps: BTreeMap::new(),
        };
        for &stage in &self.plan.explain.stages {
            let cut = Cut::new(&self.setup.model, weights.clone(), stage)?;
            observer.tell(&Event::Phase("saliency maps"))?;
            let features = self.setup.model.activation_shape(stage, self.setup.data.shape().into())?.len();
            let mut activations = Activations::new(stage, features, self.setup.cam_images.len());
            let mut maps = self.maps_at(&cut, weights, stage, &self.setup.cam_images, Some(&mut activations))?;
            if let Some((record, values)) = activations.centred(&self.setup.model.compute)? {
                explained.representations.push(record);
                explained.maps.insert(representation_key(stage), values);
            }
            observer.tell(&Event::Phase("deletion and insertion"))?;
            for (place, (record, maps)) in maps.iter().enumerate() {
                let of = (stage, (place > 0).then_some(record.method));
                self.judge(weights, of, record.size, maps, place == 0 || every_method, &mut explained)?;
            }
            for (record, maps) in maps.drain(..) {
                let key = maps_key(stage, record.method, self.plan.explain.saliency[0]);
                explained.maps.insert(key, maps);
                explained.grad_cam.push(record);
            }
            observer.tell(&Event::Phase("TCAV"))?;
            self.concepts(&cut, stage, &mut explained)?;
        }
        self.input_maps(weights, every_method, &mut explained)?;
        Ok(explained)
    }

    /// Whether maps look at the objects and, with `faithful`, mark what carries the prediction,
    /// which takes many passes.
    fn judge(
        &self,
        weights: &Arc<Weights>,
        of: (Stage, Option<Method>),
        size: [usize; 2],
        maps: &Tensor,
        faithful: bool,
        explained: &mut Explained,
    ) -> Result<()> {
        let found = self.localisation(of.0, size, maps)?;
        explained.localisation.extend(found.map(|found| LocalisationRecord { method: of.1, ..found }));
        if faithful {
            let judged = super::checks::faithfulness_of(self.plan, self.setup, weights, of, maps, self.batch)?;
            explained.faithfulness.push(judged);
        }
        Ok(())
    }

    pub(super) fn sanity(&self, weights: &Weights, replicate: usize) -> Result<SanityRecord> {
        super::checks::sanity(self.plan, self.setup, weights, replicate)
    }

    /// Records and raw maps of the first of the fixed images, as many as pass at a time: for seeing
    /// whether stored maps are those of `weights`.
    pub(super) fn first_maps(&self, weights: &Arc<Weights>, stage: Stage) -> Result<Vec<(CamRecord, Tensor)>> {
        let cut = Cut::new(&self.setup.model, weights.clone(), stage)?;
        let images = &self.setup.cam_images;
        self.maps_at(&cut, weights, stage, &images[..images.len().min(self.batch)], None)
    }

    /// Maps of some images by each method of the plan that works at a stage; of the pixels where
    /// the stage is no map. `kept` gets the activations at the stage.
    fn maps_at(
        &self,
        cut: &Cut,
        weights: &Arc<Weights>,
        stage: Stage,
        images: &[usize],
        kept: Option<&mut Activations>,
    ) -> Result<Vec<(CamRecord, Tensor)>> {
        if self.setup.model.has_map(stage) {
            return self.heatmaps(cut, stage, images, kept);
        }
        if let Some(kept) = kept {
            for indices in images[..kept.missing()].chunks(self.batch) {
                kept.add(&cut.activation(&self.setup.data.tensor(indices)?)?)?;
            }
        }
        let whole = Cut::before(&self.setup.model, weights.clone());
        self.heatmaps(&whole, stage, images, None)
    }

    /// Maps of the true class by each method of the plan that works at a stage, from one gradient
    /// pass; the gradient of the pixels where the stage is no map, and then `cut` is before the
    /// first layer. `kept` gets the activations at the cut.
    fn heatmaps(
        &self,
        cut: &Cut,
        stage: Stage,
        images: &[usize],
        mut kept: Option<&mut Activations>,
    ) -> Result<Vec<(CamRecord, Tensor)>> {
        let methods: Vec<Method> =
            self.plan.explain.saliency.iter().copied().filter(|method| !method.is_on_input()).collect();
        let has_map = self.setup.model.has_map(stage);
        let mut predicted = Vec::new();
        let mut found: Vec<(Vec<bool>, Vec<Tensor>)> = vec![Default::default(); methods.len()];
        for indices in images.chunks(self.batch) {
            let labels: Vec<usize> = indices.iter().map(|&index| self.setup.data.label(index)).collect();
            let activation = cut.activation(&self.setup.data.tensor(indices)?)?;
            if let Some(kept) = &mut kept {
                kept.add(&activation)?;
            }
            let result = self.plan.as_published.gradient(cut, &activation, Targets::PerImage(&labels))?;
            predicted.extend(result.logits.to_vec2::<f32>()?.iter().map(|row| predicted_class(row)));
            for (&method, (degenerate, raw)) in methods.iter().zip(&mut found) {
                let maps = match has_map {
                    true => self.plan.as_published.method(method).at_stage(&activation, &result.gradient)?,
                    false => Maps::of_attributions(&result.gradient)?,
                };
                let maps = maps.finite(|nth| format!("image {} at {stage}, {method}", indices[nth]))?;
                degenerate.extend(maps.degenerate);
                raw.push(maps.raw);
            }
        }
        let maps = methods.iter().zip(found).map(|(&method, (degenerate, raw))| {
            let raw = Tensor::cat(&raw, 0)?;
            let (_, height, width) = raw.dims3()?;
            let predicted = predicted.clone();
            Ok((CamRecord { stage, method, size: [height, width], predicted, degenerate }, raw))
        });
        maps.collect()
    }

    /// Maps of the true class by each method of the plan that works on the input.
    fn input_maps(&self, weights: &Arc<Weights>, faithful: bool, explained: &mut Explained) -> Result<()> {
        let cut = Cut::before(&self.setup.model, weights.clone());
        let settings = Settings { seed: self.plan.seed, ..Settings::default() };
        for &method in self.plan.explain.saliency.iter().filter(|method| method.is_on_input()) {
            let (mut raw, mut degenerate) = (Vec::new(), Vec::new());
            for (chunk, indices) in self.setup.cam_images.chunks(self.batch).enumerate() {
                let labels: Vec<usize> = indices.iter().map(|&index| self.setup.data.label(index)).collect();
                let images = self.setup.data.tensor(indices)?;
                let gradient =
                    |at: &Tensor| Ok(self.plan.as_published.gradient(&cut, at, Targets::PerImage(&labels))?.gradient);
                let start = chunk * self.batch;
                let numbers = start..start + indices.len();
                let input = Input { images: &images, numbers, settings, gradient: &gradient };
                let maps = Maps::of_attributions(&method.on_input(&input)?)?;
                let maps = maps.finite(|nth| format!("image {}, {method}", indices[nth]))?;
                raw.push(maps.raw);
                degenerate.extend(maps.degenerate);
            }
            let maps = Tensor::cat(&raw, 0)?;
            let (_, height, width) = maps.dims3()?;
            explained.input_maps.push(InputMapRecord { method, size: [height, width], degenerate });
            self.judge(weights, (INPUT, Some(method)), [height, width], &maps, faithful, explained)?;
            explained.maps.insert(input_maps_key(method), maps);
        }
        Ok(())
    }

    fn localisation(&self, stage: Stage, size: [usize; 2], maps: &Tensor) -> Result<Option<LocalisationRecord>> {
        let shown = self.setup.shown_images();
        let (_, height, width) = self.setup.data.shape();
        localisation(self.plan, stage, &split_maps(maps)?, size, &shown, (height, width))
    }

    /// TCAV of every class with its concepts. Classes whose activations fit memory together share
    /// them, and the Gram matrix.
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
        let blocks: Vec<Range<usize>> =
            (0..images.count).step_by(BATCH).map(|start| start..images.count.min(start + BATCH)).collect();
        let sizes: Vec<usize> = blocks.iter().map(Range::len).collect();
        let compute = &self.setup.model.compute;
        let (mut activations, gram) = Pool::new(compute, &sizes, features, 2 * ACTIVATION_BYTES, |block| {
            let mut values = Vec::with_capacity(sizes[block] * features);
            for start in blocks[block].clone().step_by(self.batch) {
                let images = images.images(self.setup, start..blocks[block].end.min(start + self.batch))?;
                values.extend(cut.activation(&images)?.flatten_all()?.to_vec1::<f32>()?);
            }
            Ok(values)
        })?;
        let gram = gram.whole()?;
        for (tested, rows) in tested.iter().zip(&images.groups) {
            let shown_by = |row: usize| images.image(row).and_then(|image| tested.sets.shown.get(&image));
            let concepts: Vec<ConceptImages> = (tested.sets.concepts.iter().zip(&rows.concepts).enumerate())
                .map(|(place, (concept, own))| ConceptImages {
                    name: concept.name.clone(),
                    images: own.clone(),
                    random: concept.random.clone(),
                    shows: (0..images.count).map(|row| shown_by(row).and_then(|shown| shown[place])).collect(),
                })
                .collect();
            let samples = Samples { stage: stage.name(), concepts: &concepts, random: &rows.random, originals: None };
            let cavs = ConceptCavs::fit(&*gram, samples, &self.tests)?;
            explained.cavs.push(self.geometry(stage, tested, &gram, &cavs.means()));
            let published = &self.plan.as_published;
            let against_rest = published.cavs_against_rest(&gram, &rows.concepts, self.tests.cav)?;
            for &class in &tested.classes {
                let images: Vec<&[usize]> = self.setup.class_images[class].chunks(BATCH).collect();
                let sizes: Vec<usize> = images.iter().map(|images| images.len()).collect();
                let products = activations.cross(&sizes, |block| {
                    let mut gradients = Vec::with_capacity(sizes[block] * features);
                    for indices in images[block].chunks(self.batch) {
                        let activation = cut.activation(&self.setup.data.tensor(indices)?)?;
                        let result = published.gradient(cut, &activation, Targets::Class(class))?;
                        gradients.extend(result.gradient.flatten_all()?.to_vec1::<f32>()?);
                    }
                    Ok(gradients)
                })?;
                let cross = products.whole()?;
                let tests = cavs.test(class, &*cross)?;
                let of_first = &rows.random[concepts.first().map_or(0..0, |concept| concept.random.clone())];
                let design = self.tests.design.pairs();
                explained.calibration.push(calibration(self.plan, stage, class, of_first, design, &cross, &tests));
                for (place, (concept, test)) in concepts.iter().zip(&tests.concepts).enumerate() {
                    let mut record = record(stage, class, &concept.name, test);
                    if let Some(against_rest) = &against_rest {
                        as_published::score_without_test(&mut record, &cross, &against_rest[place]);
                    }
                    explained.tcav.push(record);
                }
            }
        }
        Ok(())
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
}

fn record(stage: Stage, class: usize, name: &str, test: &ConceptTest) -> TcavRecord {
    let (effect, score) = (test.effect(), test.score());
    TcavRecord {
        stage,
        class,
        concept: name.to_owned(),
        score: score.value,
        score_interval: score.interval,
        score_p: score.p_value,
        legacy_welch_p: test.legacy_welch_p,
        effect: effect.value,
        effect_standardised: effect.standardised,
        effect_standardised_interval: effect.standardised_interval,
        effect_p: effect.p_value,
        heldout_accuracy: test.heldout_accuracy,
        decodable: test.decodable,
        further: (test.statistics.iter())
            .filter(|(key, _)| **key != EFFECT && **key != SCORE)
            .map(|(key, finding)| ((*key).to_owned(), *finding))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
