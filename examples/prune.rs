//! Magnitude pruning of a file of tensors: masks of 0 and 1, each level nested in the one before.
//!
//! `cargo run --release --example prune [FILE FRACTION LEVELS]`; FILE as for `ticketlens prune`.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, safetensors};
use ticketlens::model::TensorFile;
use ticketlens::prune::{Scope, densities, prunable_tensors, prune_levels};

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let file = given.first().map_or("fixtures/trained/replicate-0-round-0.safetensors", String::as_str);
    let fraction: f64 = given.get(1).map_or(Ok(0.5), |text| text.parse())?;
    let levels: usize = given.get(2).map_or(Ok(3), |text| text.parse())?;

    // Of a checkpoint: convolution and linear weights, never biases or batch norm.
    let tensors = prunable_tensors(&TensorFile::open(file.as_ref())?, &[])?;
    let masks = prune_levels(&tensors, Scope::Global, fraction, levels)?;

    let mut named = BTreeMap::new();
    for (level, of_level) in masks.iter().enumerate() {
        let layers = densities(&tensors, of_level);
        let (kept, total) = layers.iter().fold((0, 0), |sum, layer| (sum.0 + layer.kept, sum.1 + layer.total));
        println!("level {}: {kept} of {total} weights", level + 1);
        for (tensor, mask) in tensors.iter().zip(of_level) {
            let mask = Tensor::from_slice(mask, tensor.shape.as_slice(), &Device::Cpu)?;
            named.insert(format!("mask/{}/{}", level + 1, tensor.name), mask);
        }
    }
    let out = std::env::temp_dir().join("ticketlens-example-masks.safetensors");
    safetensors::save(&named.into_iter().collect(), &out)?;
    println!("masks in {}", out.display());
    Ok(())
}
