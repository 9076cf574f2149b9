//! The pipeline on sets that a user lists, wherever their activations and gradients come from. They
//! are read block by block, and what does not fit into the memory that the settings allow is kept
//! in a file.

use crate::error::{Error, Result, undefined};
use crate::nn::Compute;
use crate::stats::multiplicity::{Adjustment, adjust};

use super::activations::Pool;
use super::cav::CavKind;
use super::copies::Copies;
use super::gram::GramError;
use super::products::ClassRows;
use super::region::ClassActivations;
use super::settings::Tests;
use super::statistics::STATISTICS;
use super::test::{ClassTests, ConceptCavs, ConceptImages, ConceptTest, Samples, design};

/// Random sets up to which every pair of sets is fitted; beyond it each set meets [`PARTNERS`] others.
pub const ALL_PAIRS: usize = 64;
/// Partners of each set in the regular design of many random sets; even, so that it exists for any number of sets.
pub const PARTNERS: usize = 32;

/// How it is tested.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How a CAV is found.
    pub cav: CavKind,
    /// Label permutations of the effect's test.
    pub permutations: usize,
    /// Bootstrap resamples of the intervals; 0 for none.
    pub resamples: usize,
    /// How the p-values of the concepts of a class are adjusted, each statistic's apart.
    pub adjustment: Adjustment,
    /// Level of decodability, and one minus the confidence of the intervals.
    pub alpha: f64,
    /// Seed of folds, permutations and bootstrap.
    pub seed: u64,
    /// Images in memory at a time.
    pub batch: usize,
    /// Bytes of activations and products that are kept in memory; what does not fit is kept in a file meanwhile.
    pub resident_bytes: usize,
}

impl Default for Settings {
    /// As `ticketlens tcav` without flags.
    fn default() -> Self {
        Self {
            cav: CavKind::Logistic { c: 1.0 },
            permutations: 9_999,
            resamples: 999,
            adjustment: Adjustment::BenjaminiHochberg,
            alpha: 0.05,
            seed: 0,
            batch: 32,
            resident_bytes: 1 << 30,
        }
    }
}

/// What is known of all concepts.
#[derive(Clone, Debug)]
pub struct ConceptTests {
    /// In the order of the classes asked for.
    pub classes: Vec<ClassTests>,
    /// CAVs fitted at full size (those of the held-out folds come on top).
    pub cavs: usize,
    /// Smallest p-value that the exchangeability test can give with this many random sets.
    pub smallest_p: f64,
    /// A line for each set that holds copies of an image, and each two sets that share images.
    pub copies: Vec<String>,
}

/// What is read: concept and random sets in the order of the pool, and in what blocks.
pub(super) struct Listed<'a> {
    /// Names the draws, with class and concept.
    pub(super) stage: &'a str,
    /// Names and images of the concepts.
    pub(super) concepts: Vec<(String, usize)>,
    /// Number, as its user counts, and images of each random set.
    pub(super) random: Vec<(usize, usize)>,
    pub(super) copies: Copies,
    /// Values of one activation.
    pub(super) features: usize,
    /// Images of each block of the pool.
    pub(super) blocks: Vec<usize>,
}

/// The pool and its CAVs.
pub(super) struct Fitted<'a> {
    pub(super) activations: Pool,
    cavs: ConceptCavs<'a>,
    random: &'a [(usize, usize)],
}

/// Random sets in the order of their names.
pub(super) fn by_name(names: &[&str]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&set| names[set]);
    order
}

impl Fitted<'_> {
    /// Tests every concept for a class, whose gradients enter by `cross`, `(class images, images)`,
    /// and whose activations, for regions, by `of_class`.
    pub(super) fn test(
        &self,
        class: usize,
        cross: ClassRows<'_>,
        of_class: Option<&ClassActivations>,
    ) -> Result<ClassTests> {
        let mut tests = self.cavs.test_with_regions(class, cross, of_class)?;
        for test in &mut tests.concepts {
            // As numbered by whoever asked.
            test.runs.iter_mut().for_each(|run| run.random = self.random[run.random].0);
            test.runs.sort_by_key(|run| run.random);
        }
        Ok(tests)
    }
}

impl Listed<'_> {
    /// Reads the concept and random images, fits their CAVs, and lets `ask` test classes with them.
    pub(super) fn with_cavs(
        &self,
        compute: &Compute,
        settings: &Settings,
        regions: Option<usize>,
        load: impl FnMut(usize) -> Result<Vec<f32>>,
        ask: impl FnOnce(&mut Fitted<'_>) -> Result<Vec<ClassTests>>,
    ) -> Result<ConceptTests> {
        let (activations, gram) = Pool::new(compute, &self.blocks, self.features, settings.resident_bytes, load)?;
        let sets = self.random.len();
        let sizes = self.concepts.iter().map(|(_, size)| size).chain(self.random.iter().map(|(_, size)| size));
        let mut rows = sizes.scan(0, |next, size| {
            *next += size;
            Some((*next - size..*next).collect::<Vec<usize>>())
        });
        let concepts: Vec<ConceptImages> = (self.concepts.iter())
            .zip(&mut rows)
            .map(|((name, _), images)| ConceptImages { name: name.clone(), images, random: 0..sets, shows: Vec::new() })
            .collect();
        let random: Vec<Vec<usize>> = rows.collect();
        let partners = (sets > ALL_PAIRS).then_some(PARTNERS);
        let design = design(sets, partners, settings.seed);
        let tests = Tests {
            cav: settings.cav,
            design: design.map_err(undefined("TCAV"))?,
            permutations: settings.permutations,
            resamples: settings.resamples,
            confidence: 1.0 - settings.alpha,
            interval_in_logits: true,
            alpha: settings.alpha,
            seed: settings.seed,
            regions,
        };
        let originals = Some(self.copies.originals());
        let samples = Samples { stage: self.stage, concepts: &concepts, random: &random, originals };
        let cavs = ConceptCavs::fit(&gram, samples, &tests)?;
        drop(gram);
        let count = cavs.count();
        let names: Vec<&str> = self.concepts.iter().map(|(name, _)| name.as_str()).collect();
        Ok(ConceptTests {
            classes: ask(&mut Fitted { activations, cavs, random: &self.random })?,
            copies: self.copies.warnings(&names),
            cavs: count,
            smallest_p: 1.0 / tests.design.members() as f64,
        })
    }
}

impl ClassTests {
    /// The p-values of the statistic `key`, adjusted over the concepts.
    ///
    /// # Errors
    /// When a concept has no such statistic, or there is no concept.
    pub fn adjusted(&self, key: &str, adjustment: Adjustment) -> Result<Vec<f64>> {
        let all = self.adjusted_where_known(key, adjustment)?.into_iter().collect::<Option<Vec<f64>>>();
        all.filter(|all| !all.is_empty()).ok_or_else(|| Error::statistics(key, "a concept has no such statistic"))
    }

    /// The same over the concepts that have it; `None` for those that do not.
    ///
    /// # Errors
    /// When there is no such statistic.
    pub fn adjusted_where_known(&self, key: &str, adjustment: Adjustment) -> Result<Vec<Option<f64>>> {
        if STATISTICS.iter().all(|statistic| statistic.key != key) {
            return Err(Error::statistics(key, "no such statistic"));
        }
        let p_value = |test: &ConceptTest| test.statistics.get(key).map(|finding| finding.p_value);
        let known: Vec<f64> = self.concepts.iter().filter_map(p_value).collect();
        if known.is_empty() {
            return Ok(vec![None; self.concepts.len()]);
        }
        let mut adjusted = adjust(&known, adjustment).map_err(undefined("TCAV"))?.into_iter();
        Ok(self.concepts.iter().map(|test| p_value(test).and_then(|_| adjusted.next())).collect())
    }
}

impl From<GramError> for Error {
    fn from(error: GramError) -> Self {
        match error {
            GramError::Kept(what) => Error::input(what),
            other => Error::statistics("activations", other.to_string()),
        }
    }
}
