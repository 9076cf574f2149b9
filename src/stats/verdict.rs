//! Answers from intervals, calls from answers, ranges of densities from calls, verdicts from ranges.
//!
//! Each density is asked three questions: does the accuracy match the dense network's, are the
//! pixels kept, are the concepts kept? Hypothesis A says that all three hold together; B says that
//! accuracy is lost and explanations change.
//!
//! Errors are bounded without adjustment over densities, because the order of the tests is fixed
//! before the data are seen: A is tested from the mildest density on and B from the most extreme
//! one, each until it first fails (Maurer, Hothorn & Lehmacher 1995). At one density A needs all
//! three answers (intersection–union test: no adjustment, Berger 1982); B needs the loss and one of
//! two changes (Holm over the two).

use super::{Interval, Result, StatsError};
use serde::{Deserialize, Serialize};

/// What an interval says of the accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accuracy {
    /// Not lower than dense by the margin or more.
    Matches,
    /// Lower than dense by more than the margin.
    Lost,
    /// The interval holds the margin.
    Undecided,
}

/// What an interval says of explanations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanations {
    /// Moved no further than the limit.
    Kept,
    /// Moved beyond the limit.
    Changed,
    /// The interval holds the limit, or there is none.
    Undecided,
}

/// The answer of an interval of the accuracy difference, this − dense, with `margin` ≥ 0 (shares).
///
/// # Errors
/// Ends that are not finite or not in order, or a negative margin.
pub fn accuracy_answer(difference: Interval, margin: f64) -> Result<Accuracy> {
    check(difference)?;
    if margin.is_nan() || margin < 0.0 {
        return Err(StatsError::OutOfRange { what: "margin", value: margin, range: "0 and up" });
    }
    Ok(match difference {
        Interval { low, .. } if low > -margin => Accuracy::Matches,
        Interval { high, .. } if high < -margin => Accuracy::Lost,
        _ => Accuracy::Undecided,
    })
}

/// The answer of an interval of ρ, drift over what retraining does, with the largest ratio that counts as kept.
///
/// # Errors
/// Ends that are not finite or not in order, or a negative limit.
pub fn explanations_answer(ratio: Interval, limit: f64) -> Result<Explanations> {
    check(ratio)?;
    if limit.is_nan() || limit < 0.0 {
        return Err(StatsError::OutOfRange { what: "limit", value: limit, range: "0 and up" });
    }
    Ok(match ratio {
        Interval { high, .. } if high <= limit => Explanations::Kept,
        Interval { low, .. } if low > limit => Explanations::Changed,
        _ => Explanations::Undecided,
    })
}

fn check(interval: Interval) -> Result<()> {
    if !interval.low.is_finite() || !interval.high.is_finite() || interval.low > interval.high {
        return Err(StatsError::Undefined { what: "interval: ends are not finite or not in order" });
    }
    Ok(())
}

/// What one density says of one kind of explanations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    /// The interval's answer.
    pub answer: Explanations,
    /// One-sided p-value against "not changed"; 1 where there is no interval.
    pub changed_p: f64,
}

/// The call of one density, over all replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Accuracy matches, pixels and concepts are kept: as hypothesis A says.
    A,
    /// Accuracy is lost, pixels or concepts have changed: as hypothesis B says.
    B,
    /// Accuracy matches although something changed.
    DriftedWinner,
    /// Accuracy is lost although both are kept.
    FaithfulLoser,
    /// An answer that the call needs is undecided.
    Inconclusive,
    /// The dense network itself.
    Dense,
}

/// The call of one density. `alpha` is the level of each one-sided test, half of what the intervals leave out.
pub fn call(accuracy: Accuracy, kinds: &[Kind], alpha: f64) -> Call {
    let kept = !kinds.is_empty() && kinds.iter().all(|kind| kind.answer == Explanations::Kept);
    // Holm: the least p-value has to stand against all of them.
    let least = kinds.iter().map(|kind| kind.changed_p).fold(1.0, f64::min);
    let changed = !kinds.is_empty() && least * kinds.len() as f64 <= alpha;
    match accuracy {
        Accuracy::Matches if kept => Call::A,
        Accuracy::Matches if changed => Call::DriftedWinner,
        Accuracy::Lost if changed => Call::B,
        Accuracy::Lost if kept => Call::FaithfulLoser,
        _ => Call::Inconclusive,
    }
}

/// How a hypothesis fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its range is not empty.
    Supported,
    /// Its range is empty and the opposite combination is established somewhere.
    Refuted,
    /// Neither.
    Inconclusive,
    /// The study allows no verdict: one replicate, or networks that have not learned.
    NoVerdict,
}

/// How many densities the hypotheses hold for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// A holds for so many from the mildest on.
    pub a: usize,
    /// B holds for so many from the most extreme one on.
    pub b: usize,
}

/// The ranges of both hypotheses; `calls` go from the mildest density to the most extreme one.
pub fn ranges(calls: &[Call]) -> Ranges {
    Ranges {
        a: calls.iter().take_while(|&&call| call == Call::A).count(),
        b: calls.iter().rev().take_while(|&&call| call == Call::B).count(),
    }
}

/// How A and B fared. What each of them ties together, explanations kept and accuracy kept, comes
/// apart in a drifted winner and in a faithful loser: either is the opposite combination of both.
pub fn outcomes(calls: &[Call]) -> (Outcome, Outcome) {
    let apart = calls.iter().any(|call| matches!(call, Call::DriftedWinner | Call::FaithfulLoser));
    let of = |range: usize| match (range, apart) {
        (1.., _) => Outcome::Supported,
        (0, true) => Outcome::Refuted,
        (0, false) => Outcome::Inconclusive,
    };
    let Ranges { a, b } = ranges(calls);
    (of(a), of(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(low: f64, high: f64) -> Interval {
        Interval { low, high }
    }

    #[test]
    fn intervals_answer() {
        assert_eq!(accuracy_answer(interval(-0.009, 0.01), 0.01).unwrap(), Accuracy::Matches);
        assert_eq!(accuracy_answer(interval(-0.01, 0.01), 0.01).unwrap(), Accuracy::Undecided);
        assert_eq!(accuracy_answer(interval(-0.05, -0.02), 0.01).unwrap(), Accuracy::Lost);
        assert_eq!(explanations_answer(interval(0.5, 1.25), 1.25).unwrap(), Explanations::Kept);
        assert_eq!(explanations_answer(interval(1.2, 1.6), 1.25).unwrap(), Explanations::Undecided);
        assert_eq!(explanations_answer(interval(1.3, 9.0), 1.25).unwrap(), Explanations::Changed);
        assert!(accuracy_answer(interval(f64::NAN, 1.0), 0.1).is_err());
        assert!(accuracy_answer(interval(1.0, 0.0), 0.1).is_err());
        assert!(accuracy_answer(interval(0.0, 1.0), -0.1).is_err());
        assert!(explanations_answer(interval(0.0, 1.0), f64::NAN).is_err());
    }

    #[test]
    fn answers_make_a_call() {
        let kind = |answer, changed_p| Kind { answer, changed_p };
        let kept = kind(Explanations::Kept, 0.99);
        let open = kind(Explanations::Undecided, 0.2);
        let of = |accuracy, pixels, concepts| call(accuracy, &[pixels, concepts], 0.025);
        assert_eq!(of(Accuracy::Matches, kept, kept), Call::A);
        assert_eq!(of(Accuracy::Matches, kept, open), Call::Inconclusive);
        assert_eq!(of(Accuracy::Lost, kept, kept), Call::FaithfulLoser);
        // One change is enough for B, if it stands against both.
        assert_eq!(of(Accuracy::Lost, kind(Explanations::Changed, 0.01), kept), Call::B);
        assert_eq!(of(Accuracy::Lost, kind(Explanations::Changed, 0.02), kept), Call::Inconclusive);
        assert_eq!(of(Accuracy::Matches, open, kind(Explanations::Changed, 0.001)), Call::DriftedWinner);
        assert_eq!(of(Accuracy::Undecided, kept, kept), Call::Inconclusive);
        assert_eq!(call(Accuracy::Matches, &[], 0.025), Call::Inconclusive);
    }

    #[test]
    fn ranges_end_where_a_hypothesis_first_fails() {
        use Call::{A, B, DriftedWinner, FaithfulLoser, Inconclusive};
        use Outcome as O;
        assert_eq!(ranges(&[A, A, Inconclusive, A, B, B]), Ranges { a: 2, b: 2 });
        assert_eq!(ranges(&[Inconclusive, A, B, Inconclusive]), Ranges { a: 0, b: 0 });
        assert_eq!(outcomes(&[A, DriftedWinner, B]), (O::Supported, O::Supported));
        assert_eq!(outcomes(&[DriftedWinner, DriftedWinner]), (O::Refuted, O::Refuted));
        assert_eq!(outcomes(&[A, FaithfulLoser]), (O::Supported, O::Refuted));
        assert_eq!(outcomes(&[Inconclusive, B]), (O::Inconclusive, O::Supported));
        assert_eq!(outcomes(&[]), (O::Inconclusive, O::Inconclusive));
    }

    proptest! {
        #[test]
        fn a_wider_interval_never_turns_one_answer_into_the_other(
            low in -1.0..1.0f64, width in 0.0..1.0f64, more in 0.0..1.0f64, margin in 0.0..1.0f64,
        ) {
            let narrow = accuracy_answer(interval(low, low + width), margin).unwrap();
            let wide = accuracy_answer(interval(low - more, low + width + more), margin).unwrap();
            prop_assert!(wide == narrow || wide == Accuracy::Undecided);
        }

        #[test]
        fn ranges_never_meet(picks in prop::collection::vec(0usize..5, 0..12)) {
            let all = [Call::A, Call::B, Call::DriftedWinner, Call::FaithfulLoser, Call::Inconclusive];
            let calls: Vec<Call> = picks.iter().map(|&pick| all[pick]).collect();
            let Ranges { a, b } = ranges(&calls);
            prop_assert!(a + b <= calls.len());
        }
    }
}
