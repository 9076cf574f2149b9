//! The effect of a concept given the others: within images that agree in all other concepts.
//!
//! A concept that the network does not use has an effect all the same where it goes with one that
//! is used: its images show the other more often. Here its images are compared with random images
//! that do not show it, within strata of what they show of the other concepts, and membership is
//! permuted within strata. That takes data whose concepts are known of every image.

use std::collections::BTreeMap;

use crate::error::{Result, undefined};
use crate::stats::StatsError;
use crate::stats::stratified::{Placed, stratified_permutation};

use super::{Case, Finding, Statistic};

pub(super) const CONDITIONAL: Statistic = Statistic {
    key: "conditional_effect",
    title: "concept effect given the others",
    definition: "concept effect of images that show the concept beside random images that do not, within strata of the other \
                 concepts, in logits; standardised by the standard deviation within strata",
    find,
};

/// Absent where the images' other concepts are not known, where the concept's images show none of
/// them (nothing to condition on), or where no stratum holds images with and without the concept.
fn find(case: &Case<'_>) -> Result<Option<Finding>> {
    let Some(own) = case.shows.get(case.place).filter(|own| !own.is_empty()) else { return Ok(None) };
    let random: Vec<usize> = case.random.iter().copied().filter(|&row| own[row] == Some(false)).collect();
    // Concepts that exclude this one, such as the other value of its factor, go with it by definition.
    let others: Vec<&[Option<bool>]> = (case.shows.iter().enumerate())
        .filter(|&(place, of)| place != case.place && case.concept.iter().any(|&row| of.get(row) == Some(&Some(true))))
        .map(|(_, of)| *of)
        .collect();
    if others.is_empty() || random.is_empty() {
        return Ok(None);
    }
    let mut numbers: BTreeMap<Vec<Option<bool>>, usize> = BTreeMap::new();
    let mut placed = |rows: &[usize]| -> Vec<Placed> {
        rows.iter()
            .map(|&row| {
                let next = numbers.len();
                let stratum = *numbers.entry(others.iter().map(|of| of[row]).collect()).or_insert(next);
                (stratum, case.means[row])
            })
            .collect()
    };
    let (concept, random) = (placed(case.concept), placed(&random));
    let name = format!("conditional/{}", case.label);
    match stratified_permutation(&concept, &random, case.tests.permutations, case.tests.seed, &name) {
        Ok(found) => {
            let finding = Finding::tested(found.effect, found.test.p_value);
            Ok(Some(Finding { standardised: found.standardised, ..finding }))
        }
        // Where no projection differs from another within a stratum, every division gives the same difference.
        Err(StatsError::ZeroVariance { .. }) => Ok(Some(Finding::tested(0.0, 1.0))),
        Err(StatsError::Undefined { .. }) => Ok(None),
        Err(error) => Err(undefined("conditional effect")(error)),
    }
}
