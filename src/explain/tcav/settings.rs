//! How concepts are tested.

use crate::stats::exchangeability::Design;

use super::cav::CavKind;

/// How concepts are tested.
#[derive(Clone, Debug)]
pub struct Tests {
    /// How a CAV is found.
    pub cav: CavKind,
    /// Which pairs of sets are fitted; member 0 is the concept.
    pub design: Design,
    /// Label permutations of the effect's test.
    pub permutations: usize,
    /// Bootstrap resamples of the intervals; 0 for none.
    pub resamples: usize,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// Whether the effect in logits gets an interval too. It resamples class images as well, which
    /// costs more; logits of different networks do not compare, so studies do without.
    pub interval_in_logits: bool,
    /// Level of decodability.
    pub alpha: f64,
    /// Seed of folds, permutations and bootstrap.
    pub seed: u64,
    /// Label permutations of a concept's region; `None` for no regions.
    pub regions: Option<usize>,
}
