//! What a reader must know before two studies are compared.

use std::collections::BTreeSet;

use super::super::format;
use super::super::view::{Measure, View};

/// What a reader must know of one study.
pub(super) fn caution(view: &View) -> Option<String> {
    let counted: BTreeSet<usize> = view.networks.iter().map(|network| network.id.replicate).collect();
    let (counted, planned) = (counted.len(), view.plan.replicates);
    let what = "training diverged in the others, and what survived is no fair sample";
    (counted < planned).then(|| format!("{counted} of {planned} replicates count: {what}"))
}

/// What differs between a study and the reference besides what is compared.
pub(super) fn cautions(first: &View, second: &View) -> Vec<String> {
    let (a, b) = (&first.study.manifest, &second.study.manifest);
    let mut out = Vec::new();
    let mut differ = |what: &str, one: String, two: String| {
        if one != two {
            out.push(format!("{what}: {one} against {two}"));
        }
    };
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    differ("other images", short(&a.data), short(&b.data));
    differ("image shape", format!("{:?}", a.image_shape), format!("{:?}", b.image_shape));
    differ("classes", a.classes.join(", "), b.classes.join(", "));
    differ("network", a.network.clone(), b.network.clone());
    let width = |view: &View| view.plan.model.width.map_or("the family's own".into(), |width| width.to_string());
    differ("width", width(first), width(second));
    let stages = |view: &View| view.plan.explain.stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ");
    differ("stages", stages(first), stages(second));
    differ("ticketlens version", a.version.clone(), b.version.clone());
    let margin = |view: &View| format!("{} and {}", view.plan.verdict.accuracy_margin, view.plan.verdict.drift_margin);
    differ("margins of accuracy and drift, so calls mean different things", margin(first), margin(second));
    differ("replicates", first.plan.replicates.to_string(), second.plan.replicates.to_string());
    differ("twins of each replicate", first.plan.floor.twins.to_string(), second.plan.floor.twins.to_string());
    let (ours, theirs): (BTreeSet<&String>, BTreeSet<&String>) =
        (a.concepts.iter().collect(), b.concepts.iter().collect());
    let only: Vec<&str> = ours.symmetric_difference(&theirs).map(|name| name.as_str()).collect();
    if !only.is_empty() {
        out.push(format!("concepts that one study lacks: {}", only.join(", ")));
    }
    let levels = [first, second].map(|view| Measure::DECIDING[0].level(&view.study.study.floor.seeds));
    if let [Some(one), Some(two)] = levels
        && (one / two).ln().abs() > 1.25f64.ln()
    {
        out.push(format!(
            "dense networks of different seeds lie {} apart against {}: ρ of the two studies means different distances",
            format::number(one),
            format::number(two)
        ));
    }
    out
}
