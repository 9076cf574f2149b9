//! A sweep put together: each point's run folder from those of its units, its study, and a row of
//! the sweep's record. One point is in memory at a time.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::plan::{Arm, Part, Plan};
use crate::progress::{Event, Observer};
use crate::records::{
    FORMAT, Line, PointFound, PointRecord, Store, StudyRecord, SweepRecord, SweepStore, SweepUnits, Unit,
};

use super::derive;

/// Between two looks at a point that another process puts together.
const PATIENCE: Duration = Duration::from_millis(500);

/// Puts together every point whose units are finished, and writes the sweep's record. Whatever
/// computed the units, the same units give the same bytes.
///
/// # Errors
/// When a folder cannot be read or written. What is wrong with one point stands in its row.
pub fn put_together(store: &SweepStore, units: &SweepUnits, observer: &dyn Observer) -> Result<SweepRecord> {
    let sweep = store.sweep()?;
    let mut points = Vec::with_capacity(sweep.points());
    for point in 0..sweep.points() {
        observer.tell(&Event::Phase("putting a point together"))?;
        let plan = sweep.plan(point)?;
        let (_, id) = store.point(&plan)?;
        let (found, missing) = match found(store, &plan, units.allow_mixed, observer) {
            Ok(found) => (Some(found), None),
            Err(error @ (Error::Io { .. } | Error::Interrupted)) => return Err(error),
            // Without the folder, which is another one elsewhere.
            Err(Error::Format { what, .. }) => (None, Some(what)),
            Err(error) => (None, Some(error.to_string())),
        };
        let values = sweep.settings(point).into_iter().map(|(_, value)| value).collect();
        points.push(PointRecord { id, values, found, missing });
    }
    let axes = sweep.axes.iter().map(|axis| axis.key.clone()).collect();
    let record = SweepRecord { format: FORMAT, name: units.name.clone(), axes, points };
    store.write("sweep.json", &record)?;
    Ok(record)
}

fn found(store: &SweepStore, plan: &Plan, allow_mixed: bool, observer: &dyn Observer) -> Result<PointFound> {
    let parts = plan.parts();
    let ids = parts.iter().map(|&part| Unit::id(plan, part)).collect::<Result<Vec<_>>>()?;
    let unfinished = ids.iter().filter(|id| !store.is_done(id)).count();
    if unfinished > 0 {
        let what = format!("{unfinished} of {} units are not finished", ids.len());
        return Err(Error::format(store.root(), what));
    }
    let (path, _) = store.point(plan)?;
    let there = Store::existing(&path).and_then(|point| point.study());
    let study = match there {
        Ok(study) => study,
        Err(_) => study(store, plan, &parts, &ids, allow_mixed, observer)?,
    };
    let lottery = || study.densities.iter().filter(|row| row.arm == Arm::Lottery.name());
    let (dense, least) = (lottery().min_by_key(|row| row.round), lottery().max_by_key(|row| row.round));
    let (Some(dense), Some(least)) = (dense, least) else {
        return Err(Error::format(&path, "has no lottery arm"));
    };
    Ok(PointFound {
        replicates: plan.replicates,
        least_density: least.density,
        dense_accuracy: dense.test_accuracy,
        least_accuracy: least.test_accuracy,
        a: study.hypothesis_a,
        b: study.hypothesis_b,
        answer: study.answer,
        warnings: study.warnings,
    })
}

/// The study of one point, in a run folder of its own made from its units'.
fn study(
    store: &SweepStore,
    plan: &Plan,
    parts: &[Part],
    ids: &[String],
    allow_mixed: bool,
    observer: &dyn Observer,
) -> Result<StudyRecord> {
    let (path, _) = store.point(plan)?;
    let unit = |id: &String| Store::existing(&store.unit_path(id));
    let mut point = Store::open(&path, plan)?;
    let _lock = loop {
        match point.lock() {
            Err(Error::Busy { .. }) => std::thread::sleep(PATIENCE),
            taken => break taken?,
        }
    };
    // The lottery arm's: it knows of all rounds, so what it warns of is what the whole plan warns of.
    let first = parts.iter().zip(ids).find(|(part, _)| part.arm.is_some());
    let first = first.map(|(_, id)| unit(id)).ok_or_else(|| Error::format(&path, "has no arm"))??;
    let mut manifest = first.manifest()?;
    manifest.plan = plan.digest()?;
    let pixels = first.images()?;
    point.begin(&manifest, (pixels.dims(), &pixels.flatten_all()?.to_vec1::<u8>()?), allow_mixed)?;
    for note in point.mend(plan)? {
        observer.tell(&Event::Warning(note))?;
    }
    for replicate in plan.own_replicates() {
        let own = parts.iter().zip(ids).filter(|(part, _)| part.replicate == replicate).map(|(_, id)| id);
        replicate_of(store, plan, &point, replicate, &own.collect::<Vec<_>>())?;
    }
    let study = derive(plan, &point)?;
    point.write_study(&study)?;
    Ok(study)
}

/// The networks of one replicate, as far as the first that diverged: so far a run would come.
fn replicate_of(store: &SweepStore, plan: &Plan, point: &Store, replicate: usize, units: &[&String]) -> Result<()> {
    let stores = units.iter().map(|id| Store::existing(&store.unit_path(id))).collect::<Result<Vec<_>>>()?;
    for line in Line::of(plan) {
        for round in line.rounds(plan) {
            let id = line.id(replicate, round);
            let mut fault =
                Error::format(point.root(), format!("{} round {round} of replicate {replicate} is missing", id.arm));
            let mut taken = point.round(&id)?.is_some() || point.diverged(&id)?.is_some();
            for from in &stores {
                if !taken {
                    match point.take_over(from, &id) {
                        Err(error @ Error::Damaged { .. }) => fault = error,
                        other => taken = other?,
                    }
                }
            }
            if !taken {
                // Whatever lacks it, the units of this replicate look at all their networks when they are made again.
                units.iter().try_for_each(|id| store.unfinish(id))?;
                return Err(fault);
            }
            if point.diverged(&id)?.is_some() {
                return Ok(());
            }
        }
    }
    for from in &stores {
        if point.sanity(replicate)?.is_none() {
            point.take_over_sanity(from, replicate)?;
        }
    }
    Ok(())
}
