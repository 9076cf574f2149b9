//! From intervals to calls per round, and from calls to a verdict per study (DESIGN 1.6).
//!
//! **Per round** (and replicate) two questions are put to intervals, not to point estimates. *Matching*: is the accuracy
//! difference to the dense network non-inferior? *Preserved*: is drift non-inferior to the noise floor? Two answers make
//! one of four calls; an interval that straddles its margin makes none.
//!
//! **Per study**: hypothesis A says that pruning keeps the explanations and so finds winning tickets; hypothesis B that it
//! changes them and so does not. Each speaks of a range of rounds: A where tickets win, B where they lose. A study that is pruned past
//! its critical density can show both, each in its range; what refutes either is a round where winning and keeping come apart.
//!
//! The rule, for a hypothesis H with its own call (A or B):
//! 1. In each replicate count the rounds that are called H (`own`), called drifted winner or faithful loser (`apart`), called for
//!    the other hypothesis (`other`), and inconclusive.
//! 2. The replicate's vote is *undecided* if more rounds are inconclusive than called; *against* if `own = 0`; else by the
//!    share `own / (own + apart)`: *for* from two thirds up, *against* up to one third, *undecided* between.
//! 3. With fewer than two replicates: inconclusive. Supported if no replicate votes against and more than half vote for;
//!    refuted if none votes for and more than half vote against; inconclusive otherwise.
//! 4. If the study holds both A and B calls, drift and accuracy loss must also go together over rounds: an association that was
//!    testable and was not found, or is negative, turns supported into inconclusive. One that the number of replicates cannot
//!    test leaves the verdict and is said beside it.

use super::association::{ReplicateAssociation, replicates_needed};
use super::{Interval, Result, StatsError};
use serde::{Deserialize, Serialize};

/// The answer that an interval gives to a non-inferiority question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The whole interval is on the good side of the margin.
    Yes,
    /// The whole interval is on the bad side.
    No,
    /// The margin lies inside the interval.
    Straddles,
}

/// Is a quantity of which more is better (accuracy difference, candidate minus dense) above `-margin`?
///
/// # Errors
/// A margin that is negative or not finite, or an interval with an end that is not finite or in the wrong order.
pub fn non_inferior(difference: Interval, margin: f64) -> Result<Answer> {
    check(difference, margin)?;
    Ok(if difference.low > -margin {
        Answer::Yes
    } else if difference.high < -margin {
        Answer::No
    } else {
        Answer::Straddles
    })
}

/// Is a quantity of which less is better (drift in floor units) below `limit`?
///
/// # Errors
/// As [`non_inferior`].
pub fn within_limit(drift: Interval, limit: f64) -> Result<Answer> {
    non_inferior(Interval { low: -drift.high, high: -drift.low }, limit)
}

fn check(interval: Interval, margin: f64) -> Result<()> {
    if !margin.is_finite() || margin < 0.0 {
        return Err(StatsError::OutOfRange { what: "margin", value: margin, range: "[0, ∞)" });
    }
    if !interval.low.is_finite() || !interval.high.is_finite() || interval.low > interval.high {
        return Err(StatsError::Undefined { what: "interval: ends are not finite or not in order" });
    }
    Ok(())
}

/// Why a round has no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconclusive {
    /// The accuracy interval straddles its margin.
    AccuracyStraddles,
    /// The drift interval straddles its limit.
    DriftStraddles,
    /// Both straddle.
    BothStraddle,
    /// There is no noise floor to compare with.
    NoFloor,
    /// Drift is undefined, e.g. because all maps are degenerate.
    NoDrift,
}

impl Inconclusive {
    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            Inconclusive::AccuracyStraddles => "the interval of the accuracy difference straddles the margin",
            Inconclusive::DriftStraddles => "the interval of the drift straddles its limit",
            Inconclusive::BothStraddle => "the intervals of accuracy and drift both straddle",
            Inconclusive::NoFloor => "there is no noise floor: no dense replicates to compare",
            Inconclusive::NoDrift => "drift is undefined: too few maps with a pattern",
        }
    }
}

/// The call of one round of one replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", content = "reason", rename_all = "snake_case")]
pub enum Call {
    /// Matching and preserved: as hypothesis A says.
    A,
    /// Neither: as hypothesis B says.
    B,
    /// Matching, although the explanations moved.
    DriftedWinner,
    /// Not matching, although the explanations stayed.
    FaithfulLoser,
    /// No call.
    Inconclusive(Inconclusive),
}

/// What is known of a round's drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preserved {
    /// The interval's answer.
    Answer(Answer),
    /// No floor, so no answer.
    NoFloor,
    /// No drift, so no answer.
    NoDrift,
}

/// The call of a round.
pub fn call(matching: Answer, preserved: Preserved) -> Call {
    let preserved = match preserved {
        Preserved::Answer(answer) => answer,
        Preserved::NoFloor => return Call::Inconclusive(Inconclusive::NoFloor),
        Preserved::NoDrift => return Call::Inconclusive(Inconclusive::NoDrift),
    };
    match (matching, preserved) {
        (Answer::Yes, Answer::Yes) => Call::A,
        (Answer::No, Answer::No) => Call::B,
        (Answer::Yes, Answer::No) => Call::DriftedWinner,
        (Answer::No, Answer::Yes) => Call::FaithfulLoser,
        (Answer::Straddles, Answer::Straddles) => Call::Inconclusive(Inconclusive::BothStraddle),
        (Answer::Straddles, _) => Call::Inconclusive(Inconclusive::AccuracyStraddles),
        (_, Answer::Straddles) => Call::Inconclusive(Inconclusive::DriftStraddles),
    }
}

/// What a study says of a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rounds go as the hypothesis says.
    Supported,
    /// They go against it.
    Refuted,
    /// They do neither clearly.
    Inconclusive,
}

/// One of the two hypotheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hypothesis {
    /// Pruning keeps the explanations, and so finds winning tickets.
    A,
    /// Pruning changes them, and so does not.
    B,
}

/// How a replicate votes on a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// For it.
    For,
    /// Against it.
    Against,
    /// Neither.
    Undecided,
}

/// How drift and accuracy loss go together over the rounds of the study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Together {
    /// The calls are all of one kind, so there is nothing to go together.
    NoContrast,
    /// Positive, with a permutation p of at most α.
    Established,
    /// Negative in the mean over replicates.
    Negative,
    /// Positive, but the permutation test did not find it.
    NotEstablished,
    /// Positive, but this many replicates cannot reach α (the number needed is in the reason).
    Untestable,
    /// Drift or loss is constant or missing in some replicate.
    Undefined,
}

/// The verdict on one hypothesis, with all it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HypothesisVerdict {
    /// Which hypothesis.
    pub hypothesis: Hypothesis,
    /// The verdict.
    pub verdict: Verdict,
    /// One vote per replicate.
    pub votes: Vec<Vote>,
    /// Why, in words.
    pub reason: String,
}

/// The verdicts of a study.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyVerdict {
    /// On hypothesis A.
    pub a: HypothesisVerdict,
    /// On hypothesis B.
    pub b: HypothesisVerdict,
    /// How drift and accuracy loss go together.
    pub together: Together,
}

/// The verdicts on both hypotheses by the rule at the head of this module.
///
/// `calls[r]` holds the calls of the pruning rounds of replicate `r` (round 0, the dense network, left out). `association` is
/// that of drift and accuracy loss, `None` where it is undefined. It is tested at `alpha`.
pub fn study_verdict(calls: &[Vec<Call>], association: Option<&ReplicateAssociation>, alpha: f64) -> StudyVerdict {
    let any = |call: Call| calls.iter().flatten().any(|c| *c == call);
    let together = match association {
        _ if !(any(Call::A) && any(Call::B)) => Together::NoContrast,
        None => Together::Undefined,
        Some(a) if a.within <= 0.0 => Together::Negative,
        Some(a) if a.test.p_value <= alpha && a.test.statistic > 0.0 => Together::Established,
        Some(a) if a.test.smallest_p > alpha => Together::Untestable,
        Some(_) => Together::NotEstablished,
    };
    let verdict = |hypothesis| hypothesis_verdict(hypothesis, calls, together, alpha);
    StudyVerdict { a: verdict(Hypothesis::A), b: verdict(Hypothesis::B), together }
}

fn hypothesis_verdict(
    hypothesis: Hypothesis,
    calls: &[Vec<Call>],
    together: Together,
    alpha: f64,
) -> HypothesisVerdict {
    let votes: Vec<Vote> = calls.iter().map(|rounds| vote(hypothesis, rounds)).collect();
    let count = |which: Vote| votes.iter().filter(|v| **v == which).count();
    let (pro, contra, all) = (count(Vote::For), count(Vote::Against), votes.len());
    let tally = format!("{pro} of {all} replicates for, {contra} against");
    let (verdict, reason) = if all < 2 {
        (Verdict::Inconclusive, format!("needs at least two replicates, got {all}"))
    } else if contra == 0 && 2 * pro > all {
        match together {
            Together::NoContrast => (
                Verdict::Supported,
                format!("{tally}; all calls that speak to it are of one kind, so no association is asked for"),
            ),
            Together::Established => (Verdict::Supported, format!("{tally}; drift and accuracy loss go together")),
            Together::Untestable => (
                Verdict::Supported,
                format!(
                    "{tally}; association of drift and accuracy loss not tested: it takes {} replicates",
                    replicates_needed(alpha)
                ),
            ),
            Together::Negative => (Verdict::Inconclusive, format!("{tally}, but accuracy loss falls as drift grows")),
            Together::NotEstablished => (
                Verdict::Inconclusive,
                format!("{tally}, but drift and accuracy loss do not go together beyond their common trend"),
            ),
            Together::Undefined => {
                (Verdict::Inconclusive, format!("{tally}, but the association of drift and accuracy loss is undefined"))
            }
        }
    } else if pro == 0 && 2 * contra > all {
        (Verdict::Refuted, tally)
    } else {
        (Verdict::Inconclusive, format!("replicates disagree or are undecided: {tally}"))
    };
    HypothesisVerdict { hypothesis, verdict, votes, reason }
}

fn vote(hypothesis: Hypothesis, rounds: &[Call]) -> Vote {
    let (own_call, other_call) = match hypothesis {
        Hypothesis::A => (Call::A, Call::B),
        Hypothesis::B => (Call::B, Call::A),
    };
    let count = |call: Call| rounds.iter().filter(|c| **c == call).count();
    let (own, other) = (count(own_call), count(other_call));
    let apart = count(Call::DriftedWinner) + count(Call::FaithfulLoser);
    let called = own + other + apart;
    if called == 0 || rounds.len() - called > called {
        Vote::Undecided
    } else if own == 0 || 3 * own <= own + apart {
        Vote::Against
    } else if 3 * own >= 2 * (own + apart) {
        Vote::For
    } else {
        Vote::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::permutation::PermutationTest;
    use proptest::prelude::*;

    const NONE: Call = Call::Inconclusive(Inconclusive::DriftStraddles);

    fn interval(low: f64, high: f64) -> Interval {
        Interval { low, high }
    }

    fn associated(within: f64, statistic: f64, p_value: f64, smallest_p: f64) -> ReplicateAssociation {
        let test = PermutationTest { p_value, smallest_p, ..PermutationTest::exact(statistic, 1, 24, 1) };
        ReplicateAssociation { within, common_trend: within - statistic, test }
    }

    #[test]
    fn intervals_answer() {
        assert_eq!(non_inferior(interval(-0.009, 0.01), 0.01).unwrap(), Answer::Yes);
        assert_eq!(non_inferior(interval(-0.01, 0.01), 0.01).unwrap(), Answer::Straddles);
        assert_eq!(non_inferior(interval(-0.05, -0.02), 0.01).unwrap(), Answer::No);
        assert_eq!(within_limit(interval(0.5, 1.2), 1.5).unwrap(), Answer::Yes);
        assert_eq!(within_limit(interval(1.4, 1.6), 1.5).unwrap(), Answer::Straddles);
        assert_eq!(within_limit(interval(1.6, 9.0), 1.5).unwrap(), Answer::No);
        assert!(non_inferior(interval(f64::NAN, 1.0), 0.1).is_err());
        assert!(non_inferior(interval(1.0, 0.0), 0.1).is_err());
        assert!(non_inferior(interval(0.0, 1.0), -0.1).is_err());
    }

    #[test]
    fn two_answers_make_a_call() {
        use Answer::{No, Straddles, Yes};
        let of = |m, p| call(m, Preserved::Answer(p));
        assert_eq!(
            [of(Yes, Yes), of(No, No), of(Yes, No), of(No, Yes)],
            [Call::A, Call::B, Call::DriftedWinner, Call::FaithfulLoser]
        );
        assert_eq!(of(Straddles, No), Call::Inconclusive(Inconclusive::AccuracyStraddles));
        assert_eq!(of(Yes, Straddles), Call::Inconclusive(Inconclusive::DriftStraddles));
        assert_eq!(call(Yes, Preserved::NoFloor), Call::Inconclusive(Inconclusive::NoFloor));
        let json = serde_json::to_string(&[of(Yes, No), of(Yes, Straddles)]).unwrap();
        assert_eq!(json, r#"[{"call":"drifted_winner"},{"call":"inconclusive","reason":"drift_straddles"}]"#);
    }

    #[test]
    fn studies() {
        use Call::{A, B, DriftedWinner, FaithfulLoser};
        use Verdict::{Inconclusive, Refuted, Supported};
        let verdicts = |rounds: &[Call], replicates: usize, association: Option<ReplicateAssociation>| {
            let study = study_verdict(&vec![rounds.to_vec(); replicates], association.as_ref(), 0.05);
            (study.a.verdict, study.b.verdict)
        };
        // Mild pruning, and far below the critical density.
        assert_eq!(verdicts(&[A, A, NONE], 2, None), (Supported, Refuted));
        assert_eq!(verdicts(&[B, B, B], 2, None), (Refuted, Supported));
        assert_eq!(verdicts(&[A, A], 1, None), (Inconclusive, Inconclusive));
        // Both ranges: the association decides, where it can.
        let mixed = [A, A, NONE, B, B];
        assert_eq!(verdicts(&mixed, 4, Some(associated(0.8, 0.2, 0.04, 0.04))), (Supported, Supported));
        assert_eq!(verdicts(&mixed, 4, Some(associated(0.8, 0.1, 0.4, 0.04))), (Inconclusive, Inconclusive));
        assert_eq!(verdicts(&mixed, 2, Some(associated(0.8, 0.1, 0.5, 0.5))), (Supported, Supported));
        assert_eq!(verdicts(&mixed, 2, Some(associated(-0.3, 0.1, 0.5, 0.5))), (Inconclusive, Inconclusive));
        assert_eq!(verdicts(&mixed, 2, None), (Inconclusive, Inconclusive));
        // Winning and keeping come apart.
        assert_eq!(verdicts(&[A, DriftedWinner, DriftedWinner, FaithfulLoser], 3, None), (Refuted, Refuted));
        assert_eq!(verdicts(&[DriftedWinner; 3], 3, None), (Refuted, Refuted));
        assert_eq!(verdicts(&[A, DriftedWinner], 3, None), (Inconclusive, Refuted));
        assert_eq!(verdicts(&[NONE, NONE, A], 3, None), (Inconclusive, Inconclusive));
        let disagree = study_verdict(&[vec![A, A], vec![B, B]], Some(&associated(0.8, 0.1, 0.5, 0.5)), 0.05);
        assert_eq!((disagree.a.verdict, disagree.a.votes), (Inconclusive, vec![Vote::For, Vote::Against]));
        // Half of the replicates is not more than half, for a verdict or against.
        let with_undecided = |own: &[Call], decided: usize| {
            let calls: Vec<Vec<Call>> =
                (0..4).map(|r| if r < decided { own.to_vec() } else { vec![NONE, NONE] }).collect();
            let study = study_verdict(&calls, None, 0.05);
            (study.a.verdict, study.b.verdict)
        };
        assert_eq!(with_undecided(&[A, A], 3), (Supported, Refuted));
        assert_eq!(with_undecided(&[A, A], 2), (Inconclusive, Inconclusive));
    }

    proptest! {
        #[test]
        fn order_of_rounds_and_replicates_does_not_matter(
            rounds in prop::collection::vec(prop::collection::vec(0usize..5, 1..8), 1..5), turn in 0usize..8,
        ) {
            let all = [Call::A, Call::B, Call::DriftedWinner, Call::FaithfulLoser, NONE];
            let calls: Vec<Vec<Call>> = rounds.iter().map(|r| r.iter().map(|i| all[*i]).collect()).collect();
            let mut other = calls.clone();
            other.rotate_left(turn % calls.len());
            other.iter_mut().for_each(|r| r.reverse());
            let (x, y) = (study_verdict(&calls, None, 0.05), study_verdict(&other, None, 0.05));
            prop_assert_eq!((x.a.verdict, x.b.verdict), (y.a.verdict, y.b.verdict));
            prop_assert!(calls.len() > 1 || x.a.verdict == Verdict::Inconclusive);
        }

        #[test]
        fn a_wider_interval_never_turns_no_into_yes(low in -1.0..1.0f64, width in 0.0..1.0f64, more in 0.0..1.0f64, margin in 0.0..1.0f64) {
            let narrow = non_inferior(interval(low, low + width), margin).unwrap();
            let wide = non_inferior(interval(low - more, low + width + more), margin).unwrap();
            prop_assert!(wide == narrow || wide == Answer::Straddles);
        }
    }
}
