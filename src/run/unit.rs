//! A unit of a sweep: a part of a plan in a run folder of its own, with the networks that it starts from taken over.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::plan::Sweep;
use crate::progress::{Event, Observer};
use crate::records::{FORMAT, SweepStore, SweepUnits, Unit};

use super::rounds::{Options, rounds};

/// Between two looks at a unit that another process makes.
const PATIENCE: Duration = Duration::from_millis(500);

/// The units of a sweep, each after the one that it needs, and none twice.
///
/// # Errors
/// When a plan cannot be read.
pub fn units(sweep: &Sweep, device: &str, allow_mixed: bool) -> Result<SweepUnits> {
    let mut units: Vec<Unit> = Vec::new();
    let mut known = std::collections::BTreeMap::new();
    let mut name = String::new();
    for point in 0..sweep.points() {
        let plan = sweep.plan(point)?;
        for part in plan.parts() {
            let id = Unit::id(&plan, part)?;
            let needs = Unit::source(part).map(|source| Unit::id(&plan, source)).transpose()?;
            let needs = needs.and_then(|needs| known.get(&needs).copied());
            if !known.contains_key(&id) {
                known.insert(id.clone(), units.len());
                units.push(Unit { id, point, part, needs });
            }
        }
        name = plan.name;
    }
    Ok(SweepUnits { format: FORMAT, name, device: device.to_owned(), allow_mixed, units })
}

/// Makes one unit, unless it is there. Where another process makes it, waits.
///
/// # Errors
/// As [`rounds`]; when the unit that it needs is not finished, or this version of the program makes
/// other units of the plan.
pub fn unit(
    store: &SweepStore,
    units: &SweepUnits,
    index: usize,
    options: &Options<'_>,
    observer: &dyn Observer,
) -> Result<()> {
    let known = || Error::format(store.root(), format!("has no unit {index}, but 0 to {}", units.units.len() - 1));
    let unit = units.units.get(index).ok_or_else(known)?;
    if store.is_done(&unit.id) {
        return store.forget_failure(&unit.id);
    }
    let plan = store.sweep()?.plan(unit.point)?;
    if Unit::id(&plan, unit.part)? != unit.id {
        return Err(Error::format(store.root(), "was begun by another version of this program; start the sweep again"));
    }
    let mut options = options.clone();
    if let Some(source) = unit.needs.and_then(|needs| units.units.get(needs)) {
        if !store.is_done(&source.id) {
            let what = format!("needs unit {}, which is not finished", source.id);
            return Err(Error::format(store.unit_path(&unit.id), what));
        }
        options.take_over = vec![store.unit_path(&source.id)];
    }
    let plan = plan.unit(unit.part);
    let path = store.unit_path(&unit.id);
    loop {
        match rounds(&plan, &path, &options, observer) {
            Err(Error::Busy { .. }) => {
                observer.tell(&Event::Phase("waiting for another process that makes this unit"))?;
                std::thread::sleep(PATIENCE);
                if store.is_done(&unit.id) {
                    return Ok(());
                }
            }
            made => return made.and_then(|_| store.finish(unit)),
        }
    }
}
