//! How far the maps of pruned checkpoints moved from the dense network's, beside what retraining without pruning moves.
//!
//! `cargo run --release --example drift`

use ticketlens::data::{ImageSource, Preprocess};
use ticketlens::explain::{CheckpointMaps, Targets};
use ticketlens::model::{Stage, load_checkpoint};
use ticketlens::stats::descriptive::known_mean;
use ticketlens::stats::similarity::Measure;

fn main() -> anyhow::Result<()> {
    let checkpoint = |name: &str| load_checkpoint(format!("fixtures/trained/replicate-0-{name}.safetensors").as_ref());
    let images = ImageSource::open("fixtures/mnist/t10k-images-idx3-ubyte.gz", &Preprocess::mnist())?;
    let stage: Stage = "layer3".parse()?;

    let parent = CheckpointMaps::new(&checkpoint("round-0")?, &images, stage, Targets::Predicted, 100, |_| ())?;
    // One class for each image, the same for all networks: maps of different classes do not
    // compare. (A study goes further: ρ measures ticket and parent from the twins, because ticket
    // and parent share the data order.)
    let classes = parent.predicted.clone();
    let drift = |name: &str| -> anyhow::Result<f64> {
        let targets = Targets::PerImage(&classes);
        let maps = CheckpointMaps::new(&checkpoint(name)?, &images, stage, targets, 100, |_| ())?;
        // 1 − Spearman's ρ of each image's two maps; maps without a pattern count on neither side.
        known_mean(&parent.drift(&maps, Measure::Spearman)?)
            .ok_or_else(|| anyhow::anyhow!("{name}: no map says anything"))
    };
    let retraining = drift("twin-1-round-0")?;
    println!("a twin, retrained with another data order: {retraining:.3}");
    for round in 1..=4 {
        let pruned = drift(&format!("round-{round}"))?;
        println!("the ticket of round {round}: {pruned:.3}, {:.2} times that of retraining", pruned / retraining);
    }
    Ok(())
}
