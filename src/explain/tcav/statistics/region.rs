//! The TCAR score of a concept activation region, where regions are asked for.

use super::Statistic;

pub(super) const REGION: Statistic = Statistic {
    key: "region",
    title: "TCAR score",
    definition: "share of class images whose activation lies in the concept's region, a radial-kernel classifier of concept \
                 against random images; tested by label permutation of the classifier's held-out accuracy",
    find: |case| Ok(case.region),
};
