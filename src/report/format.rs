//! Numbers and names as people read them.

use crate::records::{Call, Interval, Onset, Outcome};

/// Shown where there is no number.
pub(crate) const ABSENT: &str = "–";

/// `value` with so many decimals and a true minus sign; never `−0.00`.
pub(crate) fn decimal(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| matches!(byte, b'0' | b'.')) => digits.to_owned(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// Three significant digits, at most four decimals.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 0.1 => 2,
        m if m >= 0.01 => 3,
        0.0 => 2,
        _ => 4,
    };
    decimal(value, decimals)
}

/// [`number`] without trailing zeros, for margins and the like.
pub(crate) fn short_number(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// [`number`] or a dash.
pub(crate) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), number)
}

/// A share as percent, such as `98.55 %`.
pub(crate) fn percent(share: f64, decimals: usize) -> String {
    format!("{} %", decimal(100.0 * share, decimals))
}

/// A difference of shares in percentage points, with its sign.
pub(crate) fn points(difference: f64) -> String {
    let text = decimal(100.0 * difference, 2);
    if text.starts_with('−') || text == "0.00" { text } else { format!("+{text}") }
}

/// A density as percent: as many decimals as tell rounds apart.
pub(crate) fn density(share: f64) -> String {
    percent(share, if share < 0.01 { 2 } else { 1 })
}

/// A p-value, such as `0.012` or `< 0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { decimal(p, 3) }
}

/// `low to high`.
pub(crate) fn range(range: Interval) -> String {
    format!("{} to {}", number(range.low), number(range.high))
}

/// The interval of an onset, from the greatest density to the least; open ends lie outside the tested densities.
pub(crate) fn onset_interval(onset: &Onset) -> String {
    let end = |end: Option<f64>, beyond: &str| end.map_or(beyond.to_owned(), density);
    format!("{} to {}", end(onset.earliest, "above all"), end(onset.latest, "below all"))
}

/// Seconds as `12 s`, `3 min 20 s` or `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A name in a table's column.
pub(crate) fn call_name(call: Call) -> &'static str {
    match call {
        Call::A => "A",
        Call::B => "B",
        Call::DriftedWinner => "drifted winner",
        Call::FaithfulLoser => "faithful loser",
        Call::Inconclusive => "inconclusive",
        Call::Dense => "dense",
    }
}

/// What a call means, in words.
pub(crate) fn call_meaning(call: Call) -> &'static str {
    match call {
        Call::A => "matches the dense accuracy and keeps pixels and concepts",
        Call::B => "loses accuracy and changes pixels or concepts",
        Call::DriftedWinner => "matches the dense accuracy but changes pixels or concepts",
        Call::FaithfulLoser => "loses accuracy but keeps both",
        Call::Inconclusive => "an answer is undecided: its interval holds the margin",
        Call::Dense => "the unpruned network, the reference",
    }
}

/// `supported`, `refuted`, `inconclusive` or `no verdict`.
pub(crate) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Supported => "supported",
        Outcome::Refuted => "refuted",
        Outcome::Inconclusive => "inconclusive",
        Outcome::NoVerdict => "no verdict",
    }
}

/// An arm's name for people.
pub(crate) fn arm_name(arm: &str) -> String {
    match arm {
        "lottery" => "lottery ticket".to_owned(),
        "random_mask" => "random mask (control)".to_owned(),
        "reinit" => "new initialisation (control)".to_owned(),
        "retrained" => "ticket, another data order".to_owned(),
        twin if twin.starts_with("twin-") => format!("{} (dense, another data order)", twin.replace('-', " ")),
        other => other.replace('_', " "),
    }
}

/// Hypothesis A in words.
pub(crate) const HYPOTHESIS_A: &str = "pruning keeps the explanations, and so the lottery ticket wins";
/// Hypothesis B in words.
pub(crate) const HYPOTHESIS_B: &str = "pruning changes the explanations, and so the lottery ticket fails";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(decimal(-0.001, 2), "0.00");
        assert_eq!(decimal(-1.5, 1), "−1.5");
        assert_eq!(number(0.012_34), "0.012");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(0.0), "0.00");
        assert_eq!(["1", "1.25", "100"], [1.0, 1.25, 100.0].map(short_number).each_ref().map(String::as_str));
        assert_eq!(points(0.004), "+0.40");
        assert_eq!(points(0.000_01), "0.00");
        assert_eq!(density(0.107_374), "10.7 %");
        assert_eq!(density(0.0028), "0.28 %");
        assert_eq!(p_value(0.0001), "< 0.001");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7500.0), "2 h 5 min");
    }
}
