//! What several topics need.

use std::path::PathBuf;

use candle_core::{Device, Tensor, Var};
use statrs::distribution::{Beta, ContinuousCDF};
use ticketlens::kernels::layout::{from_kernels, to_kernels};
use ticketlens::nn::{Gradients, Mode, Network, Shape3, Weights, Workspace};
use ticketlens::plan::Plan;
use ticketlens::stats::Interval;

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

/// That a tensor of an oracle case is PyTorch's, within 1e-4 of the largest magnitude.
pub(crate) fn assert_expected(case: &str, name: &str, got: &Tensor) {
    let expected = tensor(&format!("oracle/{case}/expected.safetensors"), name);
    assert_eq!(got.dims(), expected.dims(), "{case} {name}");
    let error = relative_error(&values(got), &values(&expected));
    println!("{case} {name}: {error:.1e}");
    assert!(error < 1e-4, "{case} {name}: {error:e}");
}

/// The gradients of a loss of the network's logits `(N, K)` with respect to all parameters (zero
/// unless in training), as they lie in [`Weights::parameters`], and to the images `(N, C, H, W)`:
/// by the network's own backward pass, outside Candle's graph.
pub(crate) fn network_gradients(
    network: &Network,
    mode: Mode,
    weights: &Weights,
    images: &Tensor,
    loss: impl Fn(&Tensor) -> Tensor,
) -> (Vec<f32>, Vec<f32>) {
    let (batch, channels, height, width) = images.dims4().unwrap();
    let shape = Shape3 { channels, height, width };
    let mut workspace = Workspace::default();
    let mut input = vec![0.0; batch * shape.len()];
    to_kernels(batch, channels, height * width, &values(images), &mut input);
    let tape =
        network.forward(network.whole(), mode, weights, None, input.into(), shape, batch, &mut workspace).unwrap();
    let classes = tape.output_shape().len();
    let mut logits = vec![0.0; batch * classes];
    from_kernels(batch, classes, 1, tape.output(), &mut logits);
    let logits = Var::from_vec(logits, (batch, classes), &Device::Cpu).unwrap();
    let of_loss = loss(logits.as_tensor()).backward().unwrap();
    let mut of_logits = vec![0.0; batch * classes];
    to_kernels(batch, classes, 1, &values(of_loss.get(logits.as_tensor()).unwrap()), &mut of_logits);
    let mut of_parameters = vec![0.0; weights.parameters.len()];
    let wanted = Gradients { parameters: mode.trains().then_some(&mut of_parameters[..]), input: true };
    let found = network.backward(tape, weights, None, of_logits.into(), wanted, &mut workspace).unwrap();
    let mut of_images = vec![0.0; found.len()];
    from_kernels(batch, channels, height * width, &found, &mut of_images);
    (of_parameters, of_images)
}

/// Clopper and Pearson's exact interval (1934) of `successes` in `trials`.
pub(crate) fn exact_interval(successes: usize, trials: usize, confidence: f64) -> Interval {
    assert!(0 < trials && successes <= trials);
    let tail = (1.0 - confidence) / 2.0;
    let (k, rest) = (successes as f64, (trials - successes) as f64);
    let end = |probability: f64, a: f64, b: f64| Beta::new(a, b).unwrap().inverse_cdf(probability);
    Interval {
        low: if successes == 0 { 0.0 } else { end(tail, k, rest + 1.0) },
        high: if successes == trials { 1.0 } else { end(1.0 - tail, k + 1.0, rest) },
    }
}

/// The default study with networks of a second and less, and `overrides`.
pub(crate) fn cheap(overrides: &[(&str, &str)]) -> Plan {
    let base: &[(&str, &str)] = &[
        ("replicates", "2"),
        ("floor.twins", "1"),
        ("model.width", "4"),
        ("prune.rounds", "1"),
        ("prune.fraction", "0.5"),
        ("data.train", "640"),
        ("data.validation", "500"),
        ("data.test", "300"),
        ("train.epochs", "2"),
        ("train.batch_size", "32"),
        ("explain.stages", "[\"layer4\"]"),
        ("explain.cam_images", "60"),
        ("explain.class_images", "10"),
        ("explain.images_per_set", "10"),
        ("explain.random_sets", "19"),
        ("explain.partners", "2"),
        ("statistics.permutations", "199"),
        ("statistics.bootstrap", "99"),
    ];
    let all: Vec<(String, String)> =
        base.iter().chain(overrides).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Plan::preset("quick", &all).unwrap()
}
