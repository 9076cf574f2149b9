//! A study put in order: networks sorted, replicates gathered, and nothing that depends on the order of the records.

use std::collections::{BTreeMap, BTreeSet};

use super::Study;
pub(crate) use super::measure::Measure;
use crate::error::Result;
use crate::model::Stage;
use crate::plan::sources::{BUILTIN_MNIST, MNIST};
use crate::plan::{Arm, Plan, Task};
use crate::records::{
    Adjusted, CamRecord, CavGeometry, DensityRecord, FloorPair, Interval, NetworkSummary, Ratio, RoundId, RoundRecord,
    SanityRecord, TcavRecord,
};

/// A study in reading order.
pub(crate) struct View<'a> {
    /// The study itself.
    pub(crate) study: &'a Study,
    /// Its plan, checked.
    pub(crate) plan: Plan,
    /// Every network, by arm (lottery first), replicate, round. As in the study, replicates in which
    /// training diverged are left out.
    pub(crate) networks: Vec<Network<'a>>,
    /// Every arm and round over the replicates, by arm, round.
    pub(crate) points: Vec<Point<'a>>,
    /// TCAV of every network, by stage, class, concept, arm, round, replicate.
    pub(crate) effects: Vec<Effect<'a>>,
    /// Pairs of dense replicates, in order.
    pub(crate) floor_pairs: Vec<&'a FloorPair>,
    /// Sanity checks, by replicate.
    pub(crate) sanity: Vec<&'a SanityRecord>,
}

/// One network: its record and what the study says about it.
pub(crate) struct Network<'a> {
    /// Arm, replicate, round.
    pub(crate) id: &'a RoundId,
    /// Its record.
    pub(crate) record: &'a RoundRecord,
    /// Its drift and adjusted p-values; absent while a study is unfinished.
    pub(crate) summary: Option<&'a NetworkSummary>,
    /// Geometry of its concepts, by stage, in the manifest's order of concepts.
    pub(crate) cavs: Vec<CavGeometry>,
}

/// One arm and round over all replicates.
pub(crate) struct Point<'a> {
    /// Arm.
    pub(crate) arm: &'a str,
    /// Round.
    pub(crate) round: usize,
    /// The replicates, in order.
    pub(crate) replicates: Vec<usize>,
    /// Mean density.
    pub(crate) density: f64,
    /// Test accuracy, as a share.
    pub(crate) accuracy: Spread,
    /// Significant concepts.
    pub(crate) significant: Option<Spread>,
    /// What the study says of it; absent for a line that has no answers, such as a twin.
    pub(crate) record: Option<&'a DensityRecord>,
}

impl<'a> Point<'a> {
    /// ρ by one measure, of a pruned network.
    pub(crate) fn ratio(&self, measure: Measure) -> Option<&'a Ratio> {
        self.record.filter(|_| self.round > 0).and_then(|record| measure.ratio(record))
    }

    /// ρ by one measure over the replicates; the mean is the geometric one.
    pub(crate) fn drift(&self, measure: Measure) -> Option<Spread> {
        let ratio = self.ratio(measure)?;
        let values = self.replicates.iter().zip(&ratio.replicates);
        let values = values.filter_map(|(&replicate, rho)| Some((replicate, (*rho)?)));
        Some(Spread { mean: ratio.rho?, ..Spread::of(values)? })
    }
}

/// Values over replicates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Mean.
    pub(crate) mean: f64,
    /// Least.
    pub(crate) low: f64,
    /// Greatest.
    pub(crate) high: f64,
    /// Replicate and value.
    pub(crate) values: Vec<(usize, f64)>,
}

impl Spread {
    /// Of the finite values; none where there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = (usize, f64)>) -> Option<Self> {
        let values: Vec<(usize, f64)> = values.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let mean = values.iter().map(|(_, value)| value).sum::<f64>() / values.len().max(1) as f64;
        let low = values.iter().map(|&(_, value)| value).reduce(f64::min)?;
        let high = values.iter().map(|&(_, value)| value).reduce(f64::max)?;
        Some(Self { mean, low, high, values })
    }
}

/// One TCAV record in its place.
pub(crate) struct Effect<'a> {
    /// Which network.
    pub(crate) id: &'a RoundId,
    /// Density of the network.
    pub(crate) density: f64,
    /// The record.
    pub(crate) record: &'a TcavRecord,
    /// Its adjusted p-values.
    pub(crate) adjusted: Option<Adjusted>,
}

/// One concept's effect on one class in one round, over the replicates.
pub(crate) struct Bar {
    /// Round.
    pub(crate) round: usize,
    /// Mean density.
    pub(crate) density: f64,
    /// Standardised effect.
    pub(crate) effect: Option<Spread>,
    /// The replicates' intervals of it, taken together.
    pub(crate) effect_range: Option<Interval>,
    /// TCAV score.
    pub(crate) score: Option<Spread>,
    /// The replicates' intervals of it, taken together.
    pub(crate) score_range: Option<Interval>,
    /// Replicates in which the effect is significant after adjustment and the concept decodable.
    pub(crate) significant: usize,
    /// Replicates in which the concept can be decoded.
    pub(crate) decodable: usize,
    /// Replicates.
    pub(crate) replicates: usize,
}

/// Where an arm stands in every table and legend.
pub(crate) fn arm_rank(arm: &str) -> usize {
    let known = [Arm::Lottery, Arm::RandomMask, Arm::Reinit, Arm::Retrained];
    known.iter().position(|known| known.name() == arm).unwrap_or(known.len())
}

fn id_key(id: &RoundId) -> (usize, &str, usize, usize) {
    (arm_rank(&id.arm), &id.arm, id.replicate, id.round)
}

impl<'a> View<'a> {
    /// Puts a study in order.
    ///
    /// # Errors
    /// When the plan cannot be read.
    pub(crate) fn new(study: &'a Study) -> Result<Self> {
        let plan = Plan::parse("plan.toml", &study.plan_toml, &[])?;
        let summaries: BTreeMap<&RoundId, &NetworkSummary> =
            study.study.networks.iter().map(|summary| (&summary.id, summary)).collect();
        let judged: BTreeSet<usize> = summaries.keys().map(|id| id.replicate).collect();
        let counts = |replicate: usize| judged.is_empty() || judged.contains(&replicate);
        let mut networks: Vec<Network> = study
            .rounds
            .iter()
            .filter(|record| counts(record.id.replicate))
            .map(|record| Network {
                id: &record.id,
                record,
                summary: summaries.get(&record.id).copied(),
                cavs: geometries(record, &study.manifest.concepts),
            })
            .collect();
        networks.sort_by(|a, b| id_key(a.id).cmp(&id_key(b.id)));
        let points = points(study, &networks);
        let effects = effects(study, &networks);
        let mut floor_pairs: Vec<&FloorPair> = study.study.floor.pairs.iter().collect();
        floor_pairs.sort_by_key(|pair| (!pair.second.is_twin(), pair.first.clone(), pair.second.clone()));
        let mut sanity: Vec<&SanityRecord> = study.sanity.iter().filter(|of| counts(of.replicate)).collect();
        sanity.sort_by_key(|record| record.replicate);
        Ok(Self { study, plan, networks, points, effects, floor_pairs, sanity })
    }

    /// Arms in order; twins are no arm.
    pub(crate) fn arms(&self) -> Vec<&'a str> {
        let mut arms: Vec<&str> =
            self.points.iter().filter(|point| point.record.is_some()).map(|point| point.arm).collect();
        arms.dedup();
        arms
    }

    /// Points of an arm, by round.
    pub(crate) fn arm(&self, arm: &str) -> Vec<&Point<'a>> {
        self.points.iter().filter(|point| point.arm == arm).collect()
    }

    /// Points of an arm with the dense network in front, for lines that start where all start.
    pub(crate) fn line(&self, arm: &str) -> Vec<&Point<'a>> {
        let mut line = self.arm(arm);
        if line.first().is_some_and(|point| point.round > 0) {
            let dense = self.points.iter().find(|point| point.arm == Arm::Lottery.name() && point.round == 0);
            line.splice(0..0, dense);
        }
        line
    }

    /// The stage that drift, counts and verdict use.
    pub(crate) fn first_stage(&self) -> Option<Stage> {
        self.plan.explain.stages.first().copied()
    }

    /// Class × concept pairs at the first stage: what `significant` counts among.
    pub(crate) fn tested(&self) -> usize {
        let stage = self.first_stage();
        let count = |network: &Network| network.record.tcav.iter().filter(|t| Some(t.stage) == stage).count();
        self.networks.iter().map(count).max().unwrap_or(0)
    }

    /// Stages with TCAV records, the plan's first one first.
    pub(crate) fn stages(&self) -> Vec<Stage> {
        let mut stages = self.plan.explain.stages.clone();
        stages.retain(|stage| self.effects.iter().any(|effect| effect.record.stage == *stage));
        stages
    }

    /// Name of a class.
    pub(crate) fn class(&self, class: usize) -> &'a str {
        self.study.manifest.classes.get(class).map_or("?", String::as_str)
    }

    /// Bars of one concept and class in one arm, by round.
    pub(crate) fn bars(&self, arm: &str, stage: Stage, class: usize, concept: &str) -> Vec<Bar> {
        let mut by_round: BTreeMap<usize, Vec<&Effect>> = BTreeMap::new();
        for effect in &self.effects {
            let record = effect.record;
            if effect.id.arm == arm && record.stage == stage && record.class == class && record.concept == concept {
                by_round.entry(effect.id.round).or_default().push(effect);
            }
        }
        by_round.into_iter().map(|(round, effects)| bar(round, &effects, self.plan.statistics.alpha)).collect()
    }

    /// Whether the paper's MNIST study asked the same question.
    pub(crate) fn like_papers_mnist(&self) -> bool {
        let data = &self.plan.data;
        [BUILTIN_MNIST, MNIST].contains(&data.source) && data.task == Task::EvenOdd
    }

    /// Sum of training and of explaining times, in seconds.
    pub(crate) fn seconds(&self) -> (f64, f64) {
        let sum = |part: fn(&RoundRecord) -> f64| self.networks.iter().map(|network| part(network.record)).sum();
        (sum(|record| record.seconds.train), sum(|record| record.seconds.explain))
    }
}

impl Network<'_> {
    /// Grad-CAM record of a stage.
    pub(crate) fn cam(&self, stage: Stage) -> Option<&CamRecord> {
        self.record.grad_cam.iter().find(|cam| cam.stage == stage)
    }
}

/// A record's geometries by stage, rows and columns in the order of `names` (a concept that is not
/// among them comes last, by name).
fn geometries(record: &RoundRecord, names: &[String]) -> Vec<CavGeometry> {
    let rank = |name: &String| (names.iter().position(|known| known == name).unwrap_or(names.len()), name.clone());
    let one = |cavs: &CavGeometry| {
        let mut order: Vec<usize> = (0..cavs.concepts.len()).collect();
        order.sort_by_key(|&at| rank(&cavs.concepts[at]));
        let cosine = |a: usize, b: usize| cavs.cosines.get(a).and_then(|row| row.get(b)).copied().flatten();
        CavGeometry {
            concepts: order.iter().map(|&at| cavs.concepts[at].clone()).collect(),
            cosines: order.iter().map(|&a| order.iter().map(|&b| cosine(a, b)).collect()).collect(),
            stability: order.iter().map(|&at| cavs.stability.get(at).copied().flatten()).collect(),
            ..cavs.clone()
        }
    };
    let mut all: Vec<CavGeometry> = record.cavs.iter().map(one).collect();
    all.sort_by_key(|cavs| cavs.stage);
    all
}

fn points<'a>(study: &'a Study, networks: &[Network<'a>]) -> Vec<Point<'a>> {
    let mut groups: BTreeMap<(usize, &str, usize), Vec<&Network<'a>>> = BTreeMap::new();
    for network in networks {
        let id = network.id;
        groups.entry((arm_rank(&id.arm), &id.arm, id.round)).or_default().push(network);
    }
    let point = |((_, arm, round), group): ((usize, &'a str, usize), Vec<&Network<'a>>)| {
        let over = |value: &dyn Fn(&Network) -> Option<f64>| {
            Spread::of(group.iter().filter_map(|network| Some((network.id.replicate, value(network)?))))
        };
        Some(Point {
            arm,
            round,
            replicates: group.iter().map(|network| network.id.replicate).collect(),
            density: over(&|network| Some(network.record.density))?.mean,
            accuracy: over(&|network| Some(network.record.test_accuracy))?,
            significant: over(&|network| Some(network.summary?.significant as f64)),
            record: study.study.densities.iter().find(|record| record.arm == arm && record.round == round),
        })
    };
    groups.into_iter().filter_map(point).collect()
}

fn effects<'a>(study: &'a Study, networks: &[Network<'a>]) -> Vec<Effect<'a>> {
    let concepts = &study.manifest.concepts;
    let rank = |name: &str| concepts.iter().position(|concept| concept == name).unwrap_or(concepts.len());
    let mut effects: Vec<Effect> = Vec::new();
    for network in networks {
        for (index, record) in network.record.tcav.iter().enumerate() {
            let adjusted = network.summary.and_then(|summary| summary.adjusted.get(index)).copied();
            effects.push(Effect { id: network.id, density: network.record.density, record, adjusted });
        }
    }
    effects.sort_by(|a, b| {
        let key = |e: &Effect<'a>| {
            let id = e.id;
            let place = (e.record.stage, e.record.class, rank(&e.record.concept), e.record.concept.as_str());
            (place, arm_rank(&id.arm), id.arm.as_str(), id.round, id.replicate)
        };
        key(a).cmp(&key(b))
    });
    effects
}

fn bar(round: usize, effects: &[&Effect], alpha: f64) -> Bar {
    let over = |value: fn(&TcavRecord) -> Option<f64>| {
        Spread::of(effects.iter().filter_map(|effect| Some((effect.id.replicate, value(effect.record)?))))
    };
    let hull = |interval: fn(&TcavRecord) -> Option<Interval>| {
        effects
            .iter()
            .filter_map(|effect| interval(effect.record))
            .reduce(|a, b| Interval { low: a.low.min(b.low), high: a.high.max(b.high) })
    };
    let significant =
        |effect: &&&Effect| effect.record.decodable && effect.adjusted.is_some_and(|p| p.effect_p <= alpha);
    Bar {
        round,
        density: effects.iter().map(|effect| effect.density).sum::<f64>() / effects.len() as f64,
        effect: over(|record| record.effect_standardised),
        effect_range: hull(|record| record.effect_standardised_interval),
        score: over(|record| Some(record.score)),
        score_range: hull(|record| record.score_interval),
        significant: effects.iter().filter(significant).count(),
        decodable: effects.iter().filter(|effect| effect.record.decodable).count(),
        replicates: effects.len(),
    }
}
