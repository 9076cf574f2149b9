//! Does the candidate look at the same pixels?

use crate::error::Result;
use crate::explain::map_drift;
use crate::records::gate::{Answer, Kind, MeasuredDrift, Over, Unit};
use crate::stats::Interval;
use crate::stats::crossed::{ImageVariance, Mean, RatioByImage, log_ratios};
use crate::stats::descriptive::known_mean;
use crate::stats::reach::{log_ratio_of, reach};
use crate::stats::similarity::Measure;
use crate::stats::verdict::{Explanations, explanations_answer};

use super::explained::{Dense, Explained};
use super::ratio::Ratio;
use super::rules::{CONFIDENCE, Rules};

/// Drift by image.
type ByImage = Vec<Option<f64>>;

/// Drift between reference and floor, by measure; the same for all candidates.
pub(super) struct FloorDrift {
    networks: usize,
    /// For each measure in the order of [`Measure::ALL`], every two of reference (0) and floor
    /// (1…), in the order of [`pair`].
    pairs: Vec<Vec<ByImage>>,
    /// Whether each image is classified right by all of them; all are where there are no labels.
    right: Vec<bool>,
}

/// The place of a pair `a < b`.
fn pair(a: usize, b: usize) -> usize {
    b * (b - 1) / 2 + a
}

/// Whether each image is right, or nobody says.
fn right(dense: &Dense, network: &Explained, image: usize) -> bool {
    let labels = dense.labels.as_ref().zip(network.predicted.as_ref());
    labels.is_none_or(|(labels, predicted)| labels[image] == predicted[image])
}

impl FloorDrift {
    pub(super) fn new(dense: &Dense) -> Result<Self> {
        let all: Vec<&Explained> = dense.networks().collect();
        let of = |measure: Measure| {
            let every = (1..all.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
            every.map(|(a, b)| drift(measure, all[a], all[b])).collect::<Result<Vec<ByImage>>>()
        };
        let images = 0..dense.reference.maps.len();
        Ok(Self {
            networks: all.len(),
            pairs: Measure::ALL.into_iter().map(of).collect::<Result<_>>()?,
            right: images.map(|image| all.iter().all(|network| right(dense, network, image))).collect(),
        })
    }

    /// Images that count in reference and floor.
    pub(super) fn counted(&self) -> usize {
        (0..self.right.len()).filter(|&image| self.right[image] && self.defined(0, image)).count()
    }

    fn defined(&self, measure: usize, image: usize) -> bool {
        self.pairs[measure].iter().all(|pair| pair[image].is_some())
    }
}

fn drift(measure: Measure, a: &Explained, b: &Explained) -> Result<ByImage> {
    let drifts = map_drift(measure, a.size, &a.maps, &b.maps)?;
    // Equal maps do not differ by any measure; rounding may leave Pearson's and the cosine a little.
    let equal = a.maps == b.maps;
    Ok(drifts.into_iter().map(|drift| drift.map(|drift| if equal { 0.0 } else { drift })).collect())
}

/// What the maps say.
pub(super) struct Pixels {
    pub(super) answer: Answer,
    pub(super) measures: Vec<MeasuredDrift>,
    pub(super) counted: usize,
    pub(super) misclassified: usize,
    pub(super) degenerate: usize,
    /// Drift from the reference of the images that count.
    pub(super) by_image: ByImage,
}

/// One measure of one candidate, over the images that count for it.
struct Measured {
    /// From the reference.
    direct: ByImage,
    /// From each floor network, beside the reference's drift from it.
    from: Vec<RatioByImage>,
    /// Mean drift of every two of reference and floor.
    pairs: Vec<Option<f64>>,
}

pub(super) fn pixels(
    dense: &Dense,
    floor: &FloorDrift,
    candidate: &Explained,
    rules: &Rules,
    level: f64,
) -> Result<Pixels> {
    let images = dense.reference.maps.len();
    let right: Vec<bool> = (0..images).map(|image| floor.right[image] && right(dense, candidate, image)).collect();
    let mut measures = Vec::new();
    let mut deciding: Option<(Measured, usize)> = None;
    for (place, measure) in Measure::ALL.into_iter().enumerate() {
        let direct = drift(measure, &dense.reference, candidate)?;
        // In the reference's place also as an argument: then the reference itself gives the same bits.
        let from = dense.floor.iter().map(|other| drift(measure, candidate, other)).collect::<Result<Vec<_>>>()?;
        let defined = |image: usize| {
            direct[image].is_some() && from.iter().all(|of| of[image].is_some()) && floor.defined(place, image)
        };
        let counts: Vec<bool> = (0..images).map(|image| right[image] && defined(image)).collect();
        let counted = |of: &ByImage| -> ByImage {
            of.iter().zip(&counts).map(|(drift, &counts)| drift.filter(|_| counts)).collect()
        };
        let pairs: Vec<ByImage> = floor.pairs[place].iter().map(counted).collect();
        let beside = from.iter().enumerate().map(|(other, of)| {
            let reference = &pairs[pair(0, other + 1)];
            counted(of).into_iter().zip(reference).map(|(above, below)| above.zip(*below)).collect()
        });
        let found = Measured {
            from: beside.collect(),
            direct: counted(&direct),
            pairs: pairs.iter().map(|of| known_mean(of)).collect(),
        };
        measures.push(MeasuredDrift {
            measure,
            drift: known_mean(&found.direct),
            floor: known_mean(&found.pairs),
            rho: found.logs().0.ok().filter(|logs| !logs.is_empty() || !found.from.is_empty()).map(|logs| {
                match logs.len() {
                    0 => 0.0,
                    count => (logs.iter().sum::<f64>() / count as f64).exp(),
                }
            }),
        });
        if measure == Measure::default() {
            deciding = Some((found, (0..images).filter(|&image| !defined(image)).count()));
        }
    }
    let Some((found, degenerate)) = deciding else {
        return Err(crate::error::Error::input("no measure of maps decides"));
    };
    let counted = found.direct.iter().flatten().count();
    let mut answer = match dense.floor.is_empty() {
        true => found.by_reference_alone(rules.max_drift),
        false => {
            let (logs, variance) = found.logs();
            let of = |a: usize, b: usize| found.pairs[pair(a.min(b), a.max(b))].filter(|drift| *drift > 0.0);
            Ratio {
                kind: Kind::Pixels,
                logs,
                images: variance,
                floor: dense.floor.len(),
                limit: rules.limit(),
                reach: reach(floor.networks, level, |a, b| log_ratio_of(a, b, floor.networks, of)).ok(),
            }
            .answer()
        }
    };
    let needed = rules.needed(images);
    if counted < needed || floor.counted() < needed {
        (answer.answer, answer.measured) = (Explanations::Undecided, false);
    }
    if counted == 0 {
        answer.note = Some("no image counts".into());
    }
    Ok(Pixels {
        answer,
        measures,
        counted,
        misclassified: right.iter().filter(|&&right| !right).count(),
        degenerate,
        by_image: found.direct,
    })
}

impl Measured {
    /// `ln ρ` for each floor network that is not the candidate itself, and what images do to their mean.
    fn logs(&self) -> (crate::stats::Result<Vec<f64>>, Option<ImageVariance>) {
        let moved = |row: &&RatioByImage| row.iter().flatten().any(|&(above, _)| above > 0.0) || nothing(row);
        let rows: Vec<RatioByImage> = self.from.iter().filter(moved).cloned().collect();
        if rows.is_empty() {
            return (Ok(Vec::new()), None);
        }
        match log_ratios(&rows) {
            Ok((logs, images)) => (Ok(logs), Some(images)),
            Err(error) => {
                // One image has a ratio, but no interval.
                let single: Option<Vec<f64>> = rows.iter().map(one_log).collect();
                (single.ok_or(error), None)
            }
        }
    }

    /// The answer without a floor: by the drift from the reference itself.
    fn by_reference_alone(&self, limit: Option<f64>) -> Answer {
        let values: Vec<f64> = self.direct.iter().flatten().copied().collect();
        let mean = Mean::of(&values, None).ok();
        let interval = mean.and_then(|mean| mean.interval(CONFIDENCE).ok());
        let interval = interval.map(|of| Interval { low: of.low.max(0.0), high: of.high });
        let value = known_mean(&self.direct);
        let answer = interval.zip(limit).and_then(|(interval, limit)| explanations_answer(interval, limit).ok());
        let answer = answer.unwrap_or(Explanations::Undecided);
        let note = match (interval, limit, answer) {
            (None, _, _) => Some("fewer than two images give no interval"),
            (_, None, _) => Some("no limit was given"),
            (_, _, Explanations::Undecided) => Some("the interval holds the limit"),
            _ => None,
        };
        Answer {
            kind: Kind::Pixels,
            answer,
            value,
            unit: Unit::Drift,
            interval,
            over: interval.map(|_| Over::Images),
            limit,
            reach: None,
            measured: value.is_some(),
            note: note.map(str::to_owned),
        }
    }
}

/// Whether no image counts.
fn nothing(row: &RatioByImage) -> bool {
    row.iter().flatten().next().is_none()
}

fn one_log(row: &RatioByImage) -> Option<f64> {
    let (above, below) = row.iter().flatten().fold((0.0, 0.0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    let log: f64 = (above / below).ln();
    log.is_finite().then_some(log)
}
