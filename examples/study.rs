//! A whole study, small enough for half a minute: digits inside the crate, three replicates, three densities.
//!
//! `cargo run --release --example study`

use std::ops::ControlFlow;

use ticketlens::plan::Plan;
use ticketlens::progress::{Event, Observer};
use ticketlens::study;

/// Says what was trained.
struct Lines;

impl Observer for Lines {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        if let Event::RoundDone { arm, replicate, round, test_accuracy, .. } = event {
            eprintln!("{arm}, replicate {replicate}, round {round}: {:.2} % right", 100.0 * test_accuracy);
        }
        ControlFlow::Continue(())
    }
}

fn main() -> anyhow::Result<()> {
    let changes = [
        ("replicates", "3"),
        ("floor.twins", "1"),
        ("prune.rounds", "2"),
        ("prune.fraction", "0.9"),
        ("model.width", "4"),
        ("data.train", "4000"),
        ("data.test", "500"),
        ("statistics.permutations", "999"),
    ];
    let changes = changes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let plan = Plan::preset("quick", &changes)?;
    // The folder can be read by `ticketlens report`; a second call with the same plan goes on from what it holds.
    let folder = std::env::temp_dir().join(format!("ticketlens-study-{:.8}", plan.digest()?));
    let study = study::run(&plan, &folder, &Lines)?;
    for at in &study.densities {
        println!("{:>6.2} % of the weights: {:?}: {}", 100.0 * at.density, at.call, at.reason);
    }
    println!("{}\nin {}", study.answer, folder.display());
    Ok(())
}
