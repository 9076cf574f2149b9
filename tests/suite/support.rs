//! What several topics need.

use std::path::PathBuf;

use candle_core::{Device, Tensor};

/// The three reference cases of `fixtures/oracle`.
pub(crate) const CASES: [&str; 3] = ["resnet18_mnist", "resnet50_birds", "resnet18_imagenet_stem"];

/// A path under `fixtures/`.
pub(crate) fn fixture(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).join(path)
}

/// A tensor of a safetensors fixture.
pub(crate) fn tensor(path: &str, name: &str) -> Tensor {
    let tensors = candle_core::safetensors::load(fixture(path), &Device::Cpu).unwrap();
    tensors.get(name).unwrap_or_else(|| panic!("{path} holds no {name}")).clone()
}

/// Flat values.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference relative to the largest magnitude of `expected`.
pub(crate) fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |top, &v| top.max(f64::from(v).abs()));
    got.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs() / scale).fold(0.0, f64::max)
}
