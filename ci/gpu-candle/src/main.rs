//! Candle's own operations on a GPU: `gpu-candle REPEATS OUT` writes a JSON line for each timing,
//! with the sizes of benches/gpu/timings.rs.
//!
//! What Candle has not is not here: max pooling with padding, a bias-free step of SGD with
//! momentum, a fused batch norm. The gradients of a convolution are the two expressions of its
//! autograd, without the zero fill and the addition that the graph adds.

#![expect(clippy::disallowed_methods, reason = "timings: what the values are does not matter")]

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{BatchNorm, ModuleT};

/// As `CONVOLUTIONS` in benches/gpu/timings.rs: name, channels in and out, kernel, stride, padding, side.
const CONVOLUTIONS: [(&str, [usize; 5], usize); 8] = [
    ("stem 7x7/2 at 224", [3, 64, 7, 2, 3], 224),
    ("3x3 64 at 56", [64, 64, 3, 1, 1], 56),
    ("3x3/2 64-128 at 56", [64, 128, 3, 2, 1], 56),
    ("3x3 128 at 28", [128, 128, 3, 1, 1], 28),
    ("3x3 256 at 14", [256, 256, 3, 1, 1], 14),
    ("3x3 512 at 7", [512, 512, 3, 1, 1], 7),
    ("1x1 64-256 at 56", [64, 256, 1, 1, 0], 56),
    ("1x1 1024-256 at 28", [1024, 256, 1, 1, 0], 28),
];
const BATCH: usize = 64;

fn time(device: &Device, repeats: usize, mut work: impl FnMut() -> Result<Tensor>) -> Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..repeats + 2 {
        device.synchronize()?;
        let started = Instant::now();
        let result = work()?;
        device.synchronize()?;
        seconds.push(started.elapsed().as_secs_f64());
        drop(result);
    }
    let mut counted = seconds.split_off(2);
    counted.sort_by(f64::total_cmp);
    Ok(counted[counted.len() / 2])
}

fn row(out: &mut File, op: &str, size: &str, precision: &str, seconds: f64) -> Result<()> {
    let line = serde_json::json!({"who": "candle", "op": op, "size": size, "precision": precision, "seconds": seconds});
    println!("{line}");
    Ok(writeln!(out, "{line}")?)
}

fn all(device: &Device, repeats: usize, out: &mut File) -> Result<()> {
    // cuDNN's default mathematics, which Candle uses, allow TF32 in f32.
    for (precision, dtype) in [("tf32", DType::F32), ("bf16", DType::BF16)] {
        for (name, [inputs, outputs, kernel, stride, padding], side) in CONVOLUTIONS {
            let size = format!("{name}, {BATCH} images");
            let image = Tensor::randn(0f32, 1f32, (BATCH, inputs, side, side), device)?.to_dtype(dtype)?;
            let weight = Tensor::randn(0f32, 0.1f32, (outputs, inputs, kernel, kernel), device)?.to_dtype(dtype)?;
            let forward = || image.conv2d(&weight, padding, stride, 1, 1);
            row(out, "conv forward", &size, precision, time(device, repeats, forward)?)?;
            let grad = forward()?.ones_like()?;
            let out_padding = side - ((grad.dim(2)? - 1) * stride + kernel - 2 * padding);
            // Naive kernels: some take a tenth of a second and more.
            let repeats = repeats.min(5);
            let grad_input = || grad.conv_transpose2d(&weight, padding, out_padding, stride, 1);
            row(out, "conv grad input", &size, precision, time(device, repeats, grad_input)?)?;
            let grad_weight = || {
                let found = image.transpose(0, 1)?.conv2d(&grad.transpose(0, 1)?, padding, 1, stride, 1)?;
                found.transpose(0, 1)?.narrow(2, 0, kernel)?.narrow(3, 0, kernel)
            };
            row(out, "conv grad weight", &size, precision, time(device, repeats, grad_weight)?)?;
        }
        for (channels, side) in [(64usize, 112usize), (64, 56), (256, 56), (512, 7)] {
            let image = Tensor::randn(0f32, 1f32, (BATCH, channels, side, side), device)?.to_dtype(dtype)?;
            let ones = Tensor::ones(channels, dtype, device)?;
            // Running statistics are floats whatever the maps are.
            let variance = Tensor::ones(channels, DType::F32, device)?;
            let norm = BatchNorm::new(channels, variance.zeros_like()?, variance, ones.clone(), ones.zeros_like()?, 1e-5)?;
            let size = format!("{channels} at {side}, {BATCH} images");
            let forward = || norm.forward_t(&image, true)?.relu();
            row(out, "batch norm + ReLU", &size, precision, time(device, repeats, forward)?)?;
        }
    }
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, repeats, path] = &arguments[..] else {
        eprintln!("usage: gpu-candle REPEATS OUT");
        std::process::exit(2);
    };
    // With libraries loaded at run time a missing driver is a panic.
    let device = std::panic::catch_unwind(|| Device::new_cuda(0));
    let Ok(Ok(device)) = device else {
        eprintln!("no device");
        std::process::exit(3);
    };
    let mut out = File::create(path).expect("the output can be written");
    if let Err(error) = all(&device, repeats.parse().expect("a number of repeats"), &mut out) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
