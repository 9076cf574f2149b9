//! The measures of drift that the report draws, by name.

use crate::records::{Drift, Floor, MeasureDrift};
use crate::stats::similarity::Measure as MapMeasure;

/// The drift measures that a floor exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// 1 − ρ of maps.
    Spearman,
    /// 1 − IoU of their top fifth.
    Iou,
    /// Root mean square difference of concept profiles.
    Profile,
    /// 1 − Pearson's correlation of maps.
    Pearson,
    /// 1 − SSIM of maps.
    Ssim,
    /// 1 − IoU of their top tenth.
    Iou10,
    /// Jensen–Shannon divergence of maps.
    JensenShannon,
}

impl Measure {
    /// All, in the order of [`Point::drift`].
    pub(crate) const ALL: [Measure; 7] = [
        Measure::Spearman,
        Measure::Iou,
        Measure::Profile,
        Measure::Pearson,
        Measure::Ssim,
        Measure::Iou10,
        Measure::JensenShannon,
    ];
    /// Those drawn first: what calls rest on, and one beside it of each kind.
    pub(crate) const FIRST: [Measure; 3] = [Measure::Spearman, Measure::Iou, Measure::Profile];
    /// The further measures of maps.
    pub(crate) const FURTHER: [Measure; 4] = [Measure::Pearson, Measure::Ssim, Measure::Iou10, Measure::JensenShannon];

    /// The measure of maps that it is, if it is one.
    pub(crate) fn of_maps(self) -> Option<MapMeasure> {
        match self {
            Measure::Spearman => Some(MapMeasure::Spearman),
            Measure::Iou => Some(MapMeasure::Iou20),
            Measure::Profile => None,
            Measure::Pearson => Some(MapMeasure::Pearson),
            Measure::Ssim => Some(MapMeasure::Ssim),
            Measure::Iou10 => Some(MapMeasure::Iou10),
            Measure::JensenShannon => Some(MapMeasure::JensenShannon),
        }
    }

    /// What is recorded of it as a measure of maps: on images both classify correctly, on all, and degenerate ones.
    pub(crate) fn recorded(self, drift: &Drift) -> Option<MeasureDrift> {
        drift.measures.get(&self.of_maps()?).copied()
    }

    /// Its raw value.
    pub(crate) fn of(self, drift: &Drift) -> Option<f64> {
        match self {
            Measure::Spearman => drift.spearman,
            Measure::Iou => drift.iou,
            Measure::Profile => drift.profile,
            _ => self.recorded(drift)?.both_right,
        }
    }

    /// Its floor.
    pub(crate) fn floor(self, floor: &Floor) -> Option<f64> {
        match self {
            Measure::Spearman => floor.spearman,
            Measure::Iou => floor.iou,
            Measure::Profile => floor.profile,
            _ => floor.measures.get(&self.of_maps()?).copied(),
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Measure::Spearman => "Map rank drift",
            Measure::Iou => "Map top-20 % drift",
            Measure::Profile => "Concept-profile drift",
            Measure::Pearson => "Map correlation drift",
            Measure::Ssim => "Map structure drift (SSIM)",
            Measure::Iou10 => "Map top-10 % drift",
            Measure::JensenShannon => "Map divergence (Jensen–Shannon)",
        }
    }

    /// Its name in JSON and CSV.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Measure::Spearman => "spearman_drift",
            Measure::Iou => "iou_drift",
            Measure::Profile => "profile_drift",
            Measure::Pearson => "pearson_drift",
            Measure::Ssim => "ssim_drift",
            Measure::Iou10 => "iou10_drift",
            Measure::JensenShannon => "jensen_shannon_drift",
        }
    }

    /// For fragments and file names.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Measure::Spearman => "drift-map-rank",
            Measure::Iou => "drift-map-top",
            Measure::Profile => "drift-concepts",
            Measure::Pearson => "drift-map-pearson",
            Measure::Ssim => "drift-map-ssim",
            Measure::Iou10 => "drift-map-top-tenth",
            Measure::JensenShannon => "drift-map-jensen-shannon",
        }
    }

    /// Its definition.
    pub(crate) fn definition(self) -> &'static str {
        match self {
            Measure::Spearman => {
                "1 − Spearman's ρ of the raw maps, mean over images that both networks classify correctly"
            }
            Measure::Iou => "1 − intersection over union of the 20 % of positions with the highest values, same images",
            Measure::Profile => "Root mean square difference of the standardised concept effects",
            Measure::Pearson => {
                "1 − Pearson's correlation of the raw maps, mean over images that both classify correctly"
            }
            Measure::Ssim => "1 − structural similarity of the maps, each divided by its largest value, same images",
            Measure::Iou10 => {
                "1 − intersection over union of the 10 % of positions with the highest values, same images"
            }
            Measure::JensenShannon => "Jensen–Shannon divergence (base 2) of the maps as distributions, same images",
        }
    }
}
