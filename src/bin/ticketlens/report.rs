//! tmp
use std::path::Path;
use ticketlens::experiment::{Store, records::StudyRecord};
pub(crate) fn load(p: &Path) -> anyhow::Result<StudyRecord> {
    Ok(Store::existing(p)?.study()?)
}
pub(crate) fn table(s: &StudyRecord) -> String {
    let mut t = String::new();
    for c in &s.calls {
        t += &format!(
            "{} {} {:.3} {:.4} {:?} {:?} {:?} {:?} {}\n",
            c.arm,
            c.round,
            c.density,
            c.test_accuracy,
            c.accuracy_interval.map(|r| (r.low, r.high)),
            c.drift_in_floors,
            c.drift_interval.map(|r| (r.low, r.high)),
            c.call,
            c.reason
        );
    }
    for r in &s.rounds {
        t += &format!("{:?} {:?} sig {} \n", r.id, r.drift, r.significant);
    }
    t += &format!(
        "{:?}\n{:?}\n{:?}",
        s.hypothesis_a, s.hypothesis_b, s.association
    );
    t
}
pub(crate) fn write_html(_: &StudyRecord, _: &Path) -> anyhow::Result<()> {
    Ok(())
}
