//! The Grad-CAM map of one image, as numbers from 0 to 9.
//!
//! `cargo run --release --example grad_cam [CHECKPOINT IMAGES STAGE]`; IMAGES as for `ticketlens cam`.

use ticketlens::data::{ImageSource, Preprocess};
use ticketlens::explain::{CheckpointMaps, Targets};
use ticketlens::model::{Stage, load_checkpoint};

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize, default: &str| given.get(place).cloned().unwrap_or_else(|| default.to_owned());
    let checkpoint = argument(0, "fixtures/trained/replicate-0-round-0.safetensors");
    let images = argument(1, "fixtures/mnist/t10k-images-idx3-ubyte.gz");
    let stage: Stage = argument(2, "layer3").parse()?;

    let checkpoint = load_checkpoint(checkpoint.as_ref())?;
    // Digits are grey and 28 pixels wide; `Preprocess::imagenet()` is for photographs.
    let images = ImageSource::open(&images, &Preprocess::mnist())?;
    let maps = CheckpointMaps::new(&checkpoint, &images, stage, Targets::Predicted, 100, |_| ())?;

    let (first, [_, width]) = (&maps.maps[0], maps.size);
    let top = first.iter().copied().fold(0.0, f32::max);
    println!("{}: class {}", images.image_name(0), maps.predicted[0]);
    if top == 0.0 {
        println!("the map is zero everywhere: it says nothing");
    }
    for row in first.chunks(width) {
        let digits: Vec<String> = row.iter().map(|value| format!("{:.0}", 9.0 * value / top.max(1e-30))).collect();
        println!("{}", digits.join(" "));
    }
    Ok(())
}
