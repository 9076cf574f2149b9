//! The pipeline: vectors of every pair of sets once per (checkpoint, stage), every statistic of
//! every concept once per class.

use std::collections::BTreeMap;
use std::ops::Range;

use nalgebra::DMatrix;
use rayon::prelude::*;

use crate::error::{Error, Result, undefined};
use crate::stats::bootstrap::{ConceptEffect as EffectInterval, Options};
use crate::stats::exchangeability::{Design, exchangeability_test};
use crate::stats::t_tests::welch_t;

use super::geometry::{MeanCav, mean_cav};
use super::pairs::{PairCavs, PairScore, Run, Sets, fit_pairs_with_copies, pooled};
use super::products::{ClassRows, View};
use super::region::{ClassActivations, Region};
use super::scoring::Scoring;
use super::settings::Tests;
use super::statistics::{Case, EFFECT, Finding, Member, SCORE, STATISTICS, add_to_members, interval_name};

/// Class images whose products are in memory at once. The interval of the effect in logits depends
/// on it by rounding, where there are more class images; nothing else does.
const AT_ONCE: usize = 512;

/// The images of one concept.
#[derive(Clone, Debug)]
pub struct ConceptImages {
    /// Its name.
    pub name: String,
    /// Rows of the Gram matrix.
    pub images: Vec<usize>,
    /// Which of the random sets it is compared with: as many as the design has.
    pub random: Range<usize>,
    /// For each row of the Gram matrix, whether that image shows the concept, `None` where it is
    /// not known; empty where it is known of none.
    pub shows: Vec<Option<bool>>,
}

/// Concepts and random sets at one stage of one checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// The stage; names the streams of the draws.
    pub stage: &'a str,
    /// The concepts.
    pub concepts: &'a [ConceptImages],
    /// Images of each random set, rows of the Gram matrix.
    pub random: &'a [Vec<usize>],
    /// For each row of the Gram matrix the first one that is a copy of it; `None` where all images differ.
    pub originals: Option<&'a [usize]>,
}

/// The CAVs of some concepts at one stage of one checkpoint. They do not depend on a class.
pub struct ConceptCavs<'a> {
    samples: Samples<'a>,
    tests: &'a Tests,
    /// Side of the Gram matrix.
    images: usize,
    /// Concepts that share their random sets share the fits between those sets.
    groups: Vec<Group>,
    /// Of each concept, where asked for.
    regions: Vec<Option<Region>>,
}

struct Group {
    random: Range<usize>,
    /// Places of its concepts among the samples.
    concepts: Vec<usize>,
    cavs: PairCavs,
}

/// What is known of one concept for one class.
#[derive(Clone, Debug)]
pub struct ConceptTest {
    /// The concept against each random set that the design pairs it with.
    pub runs: Vec<Run>,
    /// The score of every pair of the design, in its order.
    pub family: Vec<PairScore>,
    /// Mean score of each member of the family against its partners, the concept first: what the score's test compares.
    pub family_scores: Vec<f64>,
    /// Every statistic of [`STATISTICS`] that has a value here, by key.
    pub statistics: BTreeMap<&'static str, Finding>,
    /// Welch's test of the runs' scores against the random baseline's: customary, not calibrated.
    /// Absent where undefined.
    pub legacy_welch_p: Option<f64>,
    /// Mean held-out accuracy of the runs.
    pub heldout_accuracy: f64,
    /// Whether the concept can be told from random images; if not, nothing above may be interpreted.
    pub decodable: bool,
    /// The p-value behind that.
    pub decodable_p_value: f64,
}

impl ConceptTest {
    /// The concept effect.
    pub fn effect(&self) -> &Finding {
        &self.statistics[EFFECT]
    }

    /// The TCAV score.
    pub fn score(&self) -> &Finding {
        &self.statistics[SCORE]
    }
}

/// What is known of all concepts for one class.
#[derive(Clone, Debug)]
pub struct ClassTests {
    /// In the order of [`Samples::concepts`].
    pub concepts: Vec<ConceptTest>,
    /// Of the first concept's random sets: score of set i against set i + 1, the last against the first.
    pub random_baseline: Vec<PairScore>,
}

impl<'a> ConceptCavs<'a> {
    /// Fits the CAVs of every concept from the Gram matrix `gram` of all concept and random images.
    ///
    /// # Errors
    /// As [`fit_pairs_with_copies`]; concepts whose random sets are not those of the design in number.
    pub fn fit<'g>(gram: impl Into<View<'g>>, samples: Samples<'a>, tests: &'a Tests) -> Result<Self> {
        let gram = gram.into();
        let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (place, concept) in samples.concepts.iter().enumerate() {
            let sets = tests.design.members() - 1;
            if concept.random.len() != sets || samples.random.get(concept.random.clone()).is_none() {
                let what = format!("{}: {} random sets, the design has {sets}", concept.name, concept.random.len());
                return Err(Error::statistics("TCAV", what));
            }
            groups.entry((concept.random.start, concept.random.end)).or_default().push(place);
        }
        let fitted = groups.into_iter().map(|((start, end), concepts)| {
            let sets = Sets {
                concepts: concepts.iter().map(|&place| samples.concepts[place].images.clone()).collect(),
                random: samples.random[start..end].to_vec(),
            };
            let original = |image: usize| samples.originals.map_or(image, |originals| originals[image]);
            let cavs = fit_pairs_with_copies(gram, sets, tests.design.pairs(), tests.cav, tests.seed, &original);
            Ok(Group { random: start..end, concepts, cavs: cavs.map_err(undefined("TCAV"))? })
        });
        let groups = fitted.collect::<Result<_>>()?;
        let original = |image: usize| samples.originals.map_or(image, |originals| originals[image]);
        let region = |concept: &ConceptImages| {
            let random = pooled(&concept.images, &samples.random[concept.random.clone()]);
            let name = format!("{}/{}", samples.stage, concept.name);
            let Some(permutations) = tests.regions else { return Ok(None) };
            Ok(Region::fit(gram, (&concept.images, &random), &original, permutations, (tests.seed, &name))?)
        };
        let regions = samples.concepts.iter().map(region).collect::<Result<_>>()?;
        Ok(Self { samples, tests, images: gram.shape().0, groups, regions })
    }

    /// CAVs fitted at full size (those of the held-out folds come on top).
    pub fn count(&self) -> usize {
        self.groups.iter().map(|group| group.cavs.count()).sum()
    }

    /// The mean CAV of each concept.
    pub fn means(&self) -> Vec<MeanCav> {
        self.for_each_concept(|group, place| mean_cav(&group.cavs, place, self.images))
    }

    /// Something of each concept, in the order of the samples; `of` gets its group and its place in that.
    fn for_each_concept<T>(&self, of: impl Fn(&Group, usize) -> T) -> Vec<T> {
        let mut found: Vec<(usize, T)> = Vec::new();
        for group in &self.groups {
            found.extend(group.concepts.iter().enumerate().map(|(place, &concept)| (concept, of(group, place))));
        }
        found.sort_by_key(|(concept, _)| *concept);
        found.into_iter().map(|(_, value)| value).collect()
    }

    /// Tests every concept for `class`, whose gradients enter by `cross` = `G Aᵀ` `(class images, images)`.
    ///
    /// # Errors
    /// `cross` does not fit the Gram matrix, or a statistic is undefined.
    pub fn test<'c>(&self, class: usize, cross: impl Into<ClassRows<'c>>) -> Result<ClassTests> {
        self.test_with_regions(class, cross, None)
    }

    /// [`ConceptCavs::test`] with the class's activations, which regions need.
    ///
    /// # Errors
    /// As there.
    pub fn test_with_regions<'c>(
        &self,
        class: usize,
        cross: impl Into<ClassRows<'c>>,
        activations: Option<&ClassActivations>,
    ) -> Result<ClassTests> {
        let cross = cross.into();
        let mut found = Vec::new();
        let mut random_baseline = Vec::new();
        let shows: Vec<&[Option<bool>]> =
            self.samples.concepts.iter().map(|concept| concept.shows.as_slice()).collect();
        for group in &self.groups {
            let mut scoring = Scoring::new(&group.cavs);
            let labels: Vec<String> = group.concepts.iter().map(|&concept| self.label(class, concept)).collect();
            let mut folded: Vec<Folded<'_>> = (group.concepts.iter().zip(&labels))
                .map(|(&concept, label)| self.nothing_yet(group, concept, label, cross.shape().0))
                .collect();
            for products in cross.blocks(AT_ONCE) {
                let products = products?;
                scoring.add(&products).map_err(undefined("TCAV"))?;
                folded.par_iter_mut().for_each(|folded| folded.add(&products));
            }
            let means = scoring.means();
            let scores = scoring.finish().map_err(undefined("TCAV"))?;
            if group.concepts.contains(&0) {
                random_baseline.clone_from(&scores.random_baseline);
            }
            let baseline: Vec<f64> = scores.random_baseline.iter().map(|pair| pair.score).collect();
            let tested = scores.concepts.into_par_iter().zip(folded).enumerate().map(|(place, (scores, folded))| {
                let concept = group.concepts[place];
                let family =
                    exchangeability_test(&self.tests.design, &scores.family).map_err(undefined("TCAV score"))?;
                let region = match self.regions[concept].as_ref().zip(activations) {
                    Some((region, class)) => Some(Finding::tested(region.score(class)?, region.p_value)),
                    None => None,
                };
                let case = Case {
                    label: &labels[place],
                    scores: &scores,
                    family: &family,
                    means: &means,
                    // Undefined where nothing varies: then there is no interval.
                    effect_in_logits: folded.effect.and_then(|effect| Some(effect.finish().ok()?.interval)),
                    concept: folded.concept,
                    random: &folded.pooled,
                    members: &folded.members,
                    shows: &shows,
                    place: concept,
                    region,
                    tests: self.tests,
                };
                let found = STATISTICS.iter().map(|statistic| Ok((statistic.key, (statistic.find)(&case)?)));
                let found = found.collect::<Result<Vec<_>>>()?;
                let statistics = found.into_iter().filter_map(|(key, found)| Some((key, found?))).collect();
                let of_runs: Vec<f64> = scores.runs.iter().map(|run| run.score).collect();
                let accuracy: f64 = scores.runs.iter().map(|run| run.heldout_accuracy).sum();
                let test = ConceptTest {
                    family_scores: family.member_scores,
                    statistics,
                    legacy_welch_p: welch_t(&of_runs, &baseline, self.tests.confidence).ok().map(|test| test.p_value),
                    heldout_accuracy: accuracy / of_runs.len().max(1) as f64,
                    decodable: group.cavs.decodable(place, self.tests.alpha),
                    decodable_p_value: group.cavs.decodability_p_value(place),
                    runs: scores.runs,
                    family: scores.family,
                };
                Ok((concept, test))
            });
            found.extend(tested.collect::<Result<Vec<_>>>()?);
        }
        found.sort_by_key(|(concept, _)| *concept);
        Ok(ClassTests { concepts: found.into_iter().map(|(_, test)| test).collect(), random_baseline })
    }

    /// Names the streams of the draws.
    fn label(&self, class: usize, concept: usize) -> String {
        format!("{}/{class}/{}", self.samples.stage, self.samples.concepts[concept].name)
    }

    fn nothing_yet<'s>(&'s self, group: &Group, concept: usize, label: &str, class_images: usize) -> Folded<'s> {
        let images = &self.samples.concepts[concept].images;
        let random = &self.samples.random[group.random.clone()];
        let pooled = pooled(images, random);
        let Tests { resamples, confidence, seed, .. } = *self.tests;
        // Too few images for an interval: there is none.
        let effect = (self.tests.interval_in_logits && resamples > 0)
            .then_some(Options { resamples, confidence })
            .and_then(|options| {
                let name = interval_name(label);
                EffectInterval::new(class_images, images.len(), pooled.len(), options, seed, name).ok()
            });
        let members = vec![Member::default(); 1 + random.len()];
        Folded { concept: images, random, pooled, members, effect }
    }
}

/// What the class images that have come say of a concept, beside its scores.
struct Folded<'a> {
    concept: &'a [usize],
    random: &'a [Vec<usize>],
    /// The random images that it is compared with.
    pooled: Vec<usize>,
    members: Vec<Member>,
    effect: Option<EffectInterval>,
}

impl Folded<'_> {
    /// Adds class images, by their products with all concept and random images.
    fn add(&mut self, cross: &DMatrix<f64>) {
        add_to_members(&mut self.members, cross, self.concept, self.random);
        if let Some(effect) = &mut self.effect {
            let columns: Vec<usize> = self.concept.iter().chain(&self.pooled).copied().collect();
            let rows = 0..cross.nrows();
            let products: Vec<f64> =
                rows.flat_map(|row| columns.iter().map(move |&column| cross[(row, column)])).collect();
            if effect.add(&products).is_err() {
                self.effect = None;
            }
        }
    }
}

/// The design of a concept and `sets` random sets: every pair, or so many `partners` each, drawn by `seed`.
///
/// # Errors
/// As [`Design::all_pairs`] and [`Design::regular`].
pub fn design(sets: usize, partners: Option<usize>, seed: u64) -> crate::stats::Result<Design> {
    match partners {
        None => Design::all_pairs(sets + 1),
        Some(partners) => Design::regular(sets + 1, partners, seed, "tcav/design"),
    }
}
