//! The quantities of several studies by density: what [`super`] shows.

use serde::Serialize;

use super::super::Study;
use super::super::format;
use super::super::view::{Measure as ReportMeasure, Network, Point, View};
use crate::error::{Error, Result};
use crate::model::Stage;
use crate::plan::Arm;
use crate::records::{Interval, TcavRecord};
use crate::stats::correlation::spearman_coefficient;
use crate::stats::t_tests::one_sample_t;

/// Densities further apart than this ratio are not matched.
pub(super) const MOST_APART: f64 = 1.12;
/// Densities up to this are low: the paper's tickets fall to chance there.
const LOW_DENSITY: f64 = 0.05;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Test accuracy, a share.
    Accuracy,
    /// Test accuracy minus the reference's, a share.
    Difference,
    /// ρ of the maps: drift beyond retraining, 1 where there is none.
    Pixels,
    /// ρ of the concept profile.
    Concepts,
    /// Drift of the maps from those of the reference's network of the same replicate and density, over that between the
    /// reference's dense networks of different seeds.
    Maps,
    /// Root mean square difference of the TCAV scores from those of that network.
    Scores,
    /// The same of the standardised effects.
    Effects,
}

impl Quantity {
    pub(super) const ALL: [Self; 7] =
        [Self::Accuracy, Self::Difference, Self::Pixels, Self::Concepts, Self::Maps, Self::Scores, Self::Effects];

    /// Its name in JSON and CSV.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Accuracy => "test_accuracy",
            Self::Difference => "accuracy_difference",
            Self::Pixels => "pixels_rho",
            Self::Concepts => "concepts_rho",
            Self::Maps => "map_difference_in_seeds",
            Self::Scores => "score_difference",
            Self::Effects => "effect_difference",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Accuracy => "Test accuracy",
            Self::Difference => "Accuracy difference to the reference (points)",
            Self::Pixels => "ρ of the maps: drift beyond retraining",
            Self::Concepts => "ρ of the concept profile: drift beyond retraining",
            Self::Maps => "Maps against the reference's at the same density (seeds of the reference = 1)",
            Self::Scores => "TCAV scores against the reference's (root mean square difference)",
            Self::Effects => "Concept effects against the reference's (root mean square difference, SDs)",
        }
    }

    /// How to read it.
    pub(super) fn caption(self) -> &'static str {
        match self {
            Self::Accuracy => "Mean over replicates.",
            Self::Difference => "Paired by replicate; in brackets the 95 % t interval over replicates.",
            Self::Pixels | Self::Concepts => {
                "1: as a retrained network. Geometric mean over replicates, each study beside its own twins; intervals are of ln ρ."
            }
            Self::Maps => {
                "The same images, the network of the same replicate. 1: as far as the reference's own dense networks of different seeds are apart."
            }
            Self::Scores | Self::Effects => {
                "Over classes and concepts, the network of the same replicate. The reference's row: its own replicates against each other, what another seed does."
            }
        }
    }

    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Accuracy => format::percent(value, 2),
            Self::Difference => format::points(value),
            _ => format::number(value),
        }
    }
}

/// A mean over replicates, of ρ the geometric one, and its t interval, where replicates differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) interval: Option<Interval>,
}

/// A density of the reference and, for each study, its round of like density.
pub(super) struct Column {
    pub(super) density: f64,
    pub(super) rounds: Vec<Option<usize>>,
}

pub(super) struct Sides<'a> {
    pub(super) views: Vec<View<'a>>,
    pub(super) names: Vec<String>,
    pub(super) stage: Option<Stage>,
    pub(super) columns: Vec<Column>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(studies: &'a [Study]) -> Result<Self> {
        let views = studies.iter().map(View::new).collect::<Result<Vec<_>>>()?;
        let reference = views.first().ok_or_else(|| Error::input("no study to compare"))?;
        let mut names: Vec<String> = Vec::new();
        for study in studies {
            let times =
                names.iter().filter(|name| *name == &study.name || name.starts_with(&format!("{} (", study.name)));
            let times = times.count();
            names.push(if times == 0 { study.name.clone() } else { format!("{} ({})", study.name, times + 1) });
        }
        let columns = reference
            .arm(Arm::Lottery.name())
            .into_iter()
            .map(|point| {
                let apart = |other: &&Point| (other.density / point.density).ln().abs();
                let round = |view: &View| {
                    let points = view.arm(Arm::Lottery.name());
                    let nearest = points.into_iter().min_by(|a, b| apart(a).total_cmp(&apart(b)))?;
                    (apart(&nearest) <= MOST_APART.ln()).then_some(nearest.round)
                };
                Column { density: point.density, rounds: views.iter().map(round).collect() }
            })
            .collect();
        let stage = reference.first_stage();
        Ok(Self { names, stage, columns, views })
    }

    pub(super) fn switched_on(&self, study: usize) -> Vec<&'static str> {
        let switches = self.views[study].plan.as_published.switches();
        switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }

    fn network(&self, study: usize, replicate: usize, round: usize) -> Option<&Network<'a>> {
        let wanted = |network: &&Network| {
            network.id.arm == Arm::Lottery.name() && network.id.replicate == replicate && network.id.round == round
        };
        self.views[study].networks.iter().find(wanted)
    }

    fn replicates(&self, study: usize) -> std::ops::Range<usize> {
        0..self.views[study].plan.replicates
    }

    /// A quantity of one network, and of the reference's beside it.
    fn value(&self, quantity: Quantity, study: usize, replicate: usize, column: &Column) -> Option<f64> {
        let network = self.network(study, replicate, column.rounds[study]?)?;
        let reference = || self.network(0, replicate, column.rounds[0]?);
        let seeds = || {
            let level = ReportMeasure::DECIDING[0].level(&self.views[0].study.study.floor.seeds);
            level.filter(|level| *level > 0.0)
        };
        match quantity {
            Quantity::Accuracy => Some(network.record.test_accuracy),
            Quantity::Difference => {
                (study > 0).then_some(())?;
                Some(network.record.test_accuracy - reference()?.record.test_accuracy)
            }
            Quantity::Pixels => self.rho(ReportMeasure::DECIDING[0], study, replicate, network.id.round),
            Quantity::Concepts => self.rho(ReportMeasure::Concepts, study, replicate, network.id.round),
            Quantity::Maps => {
                (study > 0).then_some(())?;
                Some(self.map_difference(study, network, reference()?)? / seeds()?)
            }
            Quantity::Scores => self.profile_difference(study, replicate, column, |record| Some(record.score)),
            Quantity::Effects => self.profile_difference(study, replicate, column, |record| record.effect_standardised),
        }
    }

    fn rho(&self, measure: ReportMeasure, study: usize, replicate: usize, round: usize) -> Option<f64> {
        let points = self.views[study].arm(Arm::Lottery.name());
        let drift = points.into_iter().find(|point| point.round == round)?.drift(measure)?;
        drift.values.iter().find(|(of, _)| *of == replicate).map(|&(_, rho)| rho)
    }

    /// Mean `1 − ρ` (Spearman) over the images; absent where the studies map different ones.
    fn map_difference(&self, study: usize, network: &Network, reference: &Network) -> Option<f64> {
        let (ours, theirs) = (self.views[study].study, self.views[0].study);
        if ours.manifest.cam_images != theirs.manifest.cam_images {
            return None;
        }
        let stage = self.stage?;
        let ours = ours.maps.raw.get(&(network.id.clone(), stage))?;
        let theirs = theirs.maps.raw.get(&(reference.id.clone(), stage))?;
        let size = ours.size[0] * ours.size[1];
        if ours.size != theirs.size || size == 0 {
            return None;
        }
        let wide = |map: &[f32]| -> Vec<f64> { map.iter().copied().map(f64::from).collect() };
        let pairs = ours.values.chunks_exact(size).zip(theirs.values.chunks_exact(size));
        // Undefined where a map is constant: such an image says nothing.
        let drifts: Vec<f64> =
            pairs.filter_map(|(a, b)| Some(1.0 - spearman_coefficient(&wide(a), &wide(b)).ok()?)).collect();
        mean(&drifts)
    }

    /// Root mean square difference of a profile from the reference's; the reference's own from its other replicates'.
    fn profile_difference(
        &self,
        study: usize,
        replicate: usize,
        column: &Column,
        value: fn(&TcavRecord) -> Option<f64>,
    ) -> Option<f64> {
        let ours = self.network(study, replicate, column.rounds[study]?)?;
        let others = match study {
            0 => self.replicates(0).filter(|&other| other != replicate).collect(),
            _ => vec![replicate],
        };
        let stage = self.stage?;
        let differences: Vec<f64> = others
            .into_iter()
            .filter_map(|other| {
                let theirs = self.network(0, other, column.rounds[0]?)?;
                let profile = |network: &Network| -> Vec<(usize, String, Option<f64>)> {
                    let records = network.record.tcav.iter().filter(|record| record.stage == stage);
                    records.map(|record| (record.class, record.concept.clone(), value(record))).collect()
                };
                let theirs = profile(theirs);
                let squares: Vec<f64> = profile(ours)
                    .into_iter()
                    .filter_map(|(class, concept, ours)| {
                        let same = theirs.iter().find(|(c, name, _)| *c == class && *name == concept)?;
                        Some((ours? - same.2?).powi(2))
                    })
                    .collect();
                mean(&squares).map(f64::sqrt)
            })
            .collect();
        mean(&differences)
    }

    /// A quantity over the replicates that have it, each averaged over `columns` first. A ratio's scale
    /// is its logarithm.
    pub(super) fn over(&self, quantity: Quantity, study: usize, columns: &[&Column]) -> Option<Estimate> {
        let ratio = matches!(quantity, Quantity::Pixels | Quantity::Concepts);
        let to = |value: f64| if ratio { value.ln() } else { value };
        let back = |value: f64| if ratio { value.exp() } else { value };
        let values: Vec<f64> = (self.replicates(study))
            .filter_map(|replicate| {
                let values = columns.iter().filter_map(|column| self.value(quantity, study, replicate, column));
                mean(&values.map(to).collect::<Vec<f64>>())
            })
            .collect();
        // Equal values, or one, leave the interval undefined.
        let interval = one_sample_t(&values, 0.0, 0.95).ok().map(|test| test.interval);
        let interval = interval.map(|interval| Interval { low: back(interval.low), high: back(interval.high) });
        Some(Estimate { mean: back(mean(&values)?), interval })
    }

    pub(super) fn at(&self, quantity: Quantity, study: usize, column: &Column) -> Option<Estimate> {
        self.over(quantity, study, &[column])
    }

    pub(super) fn low(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.density <= LOW_DENSITY).collect()
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
