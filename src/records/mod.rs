//! What a run records: plain data with a format version, and nothing that depends on where or when it was computed.
//!
//! [`RoundRecord`] is written by the round itself (`round.json`, its commit marker).
//! [`StudyRecord`] (`metrics.json`) is derived from all round records: adjusted p-values, drift,
//! ratios, calls, ranges.

mod barriers;
mod contents;
mod files;
mod folder;
pub mod gate;
mod import;
mod lock;
mod manifest;
mod mend;
pub mod reference;
mod round;
mod seal;
mod seconds;
mod study;
mod sweep;
mod training;

use serde::{Deserialize, Serialize};

use crate::plan::{Arm, Part, Plan};
pub use crate::stats::Interval;
pub use barriers::{Barrier, BarriersRecord};
pub use contents::read_trunk;
pub use folder::Store;
pub use lock::Lock;
pub use manifest::{ConceptNote, Manifest, ShownImage, ShownPart};
pub use mend::Inspection;
pub use round::{
    CalibrationRecord, CamRecord, CavGeometry, DivergedRecord, FaithfulnessRecord, InputMapRecord, LocalisationRecord,
    Look, PartHits, REPRESENTATION, Randomisation, RepresentationRecord, RoundRecord, SanityLayer, SanityRecord,
    Seconds, TcavRecord, input_maps_key, maps_key, representation_key,
};
pub use seal::{Computed, FileSeal, Seal};
pub use study::*;
pub use sweep::{PointFound, PointRecord, SweepRecord, SweepStore, SweepUnits, Unit};
pub use training::TrainingRecord;

/// Version of the records; readers refuse another.
pub const FORMAT: u32 = 3;

/// Which network: arm, replicate and round. Round 0 of the lottery arm is the dense network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoundId {
    /// `lottery`, `random_mask`, `reinit`, or `twin-1` and so on.
    pub arm: String,
    /// Index of the replicate.
    pub replicate: usize,
    /// Round.
    pub round: usize,
}

/// Networks that are made one after the other: an arm's rounds, or one twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// An arm of the plan.
    Arm(Arm),
    /// A dense network from the same θ_k with another data order; the number is that of the order, from 1.
    Twin(usize),
}

impl Line {
    /// The lines of a plan, each after those that it needs: the lottery arm first, since twins take
    /// its θ_k and controls its masks.
    pub fn of(plan: &Plan) -> Vec<Self> {
        let mut arms = plan.arms.clone();
        let mut twins = plan.floor.twins;
        match plan.part {
            None => {}
            Some(Part { arm: None, .. }) => arms = vec![Arm::Lottery],
            Some(Part { arm: Some(arm), .. }) => (arms, twins) = (vec![Arm::Lottery, arm], 0),
        }
        arms.sort();
        arms.dedup();
        let mut lines: Vec<Self> = arms.into_iter().map(Line::Arm).collect();
        let after_lottery = 1.min(lines.len());
        lines.splice(after_lottery..after_lottery, (1..=twins).map(Line::Twin));
        lines
    }

    /// The name in folders and records: the arm's, or `twin-1`.
    pub fn name(self) -> String {
        match self {
            Line::Arm(arm) => arm.name().to_owned(),
            Line::Twin(order) => format!("twin-{order}"),
        }
    }

    /// Its rounds. Round 0 is dense; the controls share that of the lottery arm.
    pub fn rounds(self, plan: &Plan) -> Vec<usize> {
        match self {
            Line::Arm(Arm::Lottery) if matches!(plan.part, Some(Part { arm: None, .. })) => vec![0],
            Line::Arm(Arm::Lottery) => (0..=plan.prune.rounds).collect(),
            Line::Arm(_) => {
                let some = plan.prune.control_rounds.clone();
                some.unwrap_or_else(|| (1..=plan.prune.rounds).collect())
            }
            Line::Twin(_) => vec![0],
        }
    }

    /// The network of one replicate and round.
    pub fn id(self, replicate: usize, round: usize) -> RoundId {
        RoundId { arm: self.name(), replicate, round }
    }
}

impl RoundId {
    /// The dense network of a replicate: the parent of its tickets.
    pub fn parent(replicate: usize) -> Self {
        Line::Arm(Arm::Lottery).id(replicate, 0)
    }

    /// The networks that it is made from: its parent (θ_k), the ticket whose mask a control takes,
    /// the one before in its line.
    fn sources(&self) -> Vec<Self> {
        let lottery = |round| Line::Arm(Arm::Lottery).id(self.replicate, round);
        let mut sources = vec![lottery(0)];
        if let Some(before) = self.round.checked_sub(1) {
            sources.extend([lottery(self.round), Self { round: before, ..self.clone() }]);
        }
        // Controls have no round 0 of their own.
        sources.retain(|source| source != self && (source.round > 0 || source.arm == Arm::Lottery.name()));
        sources
    }

    /// Whether it is a twin: a dense network with another data order.
    pub fn is_twin(&self) -> bool {
        self.arm.starts_with("twin-")
    }
}

/// The networks of a plan, in the order in which they are made.
pub fn round_ids(plan: &Plan) -> Vec<RoundId> {
    let lines = Line::of(plan);
    let of = |replicate| {
        lines.iter().flat_map(move |line| line.rounds(plan).into_iter().map(move |round| line.id(replicate, round)))
    };
    plan.own_replicates().flat_map(of).collect()
}
