//! Saliency methods: values from Captum and pytorch-grad-cam, and what each promises.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use rand::Rng;
use ticketlens::explain::saliency::{Input, METHODS, Map, Method, Settings};
use ticketlens::explain::{Cut, Targets};
use ticketlens::model::{Stage, Stem, load_checkpoint, resnet};
use ticketlens::nn::Weights;
use ticketlens::seed;

use crate::support::{CASES, fixture, relative_error, tensor, values};

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

/// The names of the methods in the reference files.
const REFERENCES: [(&str, &str); 7] = [
    ("hires-cam", "hirescam"),
    ("layer-cam", "layercam"),
    ("xgrad-cam", "xgradcam"),
    ("grad-cam-plus-plus", "gradcam_pp"),
    ("gradient", "saliency"),
    ("input-x-gradient", "input_x_gradient"),
    ("integrated-gradients", "integrated_gradients"),
];

#[test]
fn maps_and_attributions_equal_captums_and_pytorch_grad_cams() {
    for case in CASES {
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(fixture(&format!("oracle/{case}/expected.json"))).unwrap()).unwrap();
        let stage: Stage = expected["layer"].as_str().unwrap().parse().unwrap();
        let class = Targets::Class(expected["class"].as_u64().unwrap() as usize);
        let checkpoint = load_checkpoint(&fixture(&format!("oracle/{case}/checkpoint.safetensors"))).unwrap();
        let images = tensor(&format!("oracle/{case}/inputs.safetensors"), "images");
        let weights = checkpoint.weights.clone();
        let cut = Cut::new(&checkpoint.model, weights.clone(), stage).unwrap();
        let activation = cut.activation(&images).unwrap();
        let gradient = cut.gradient(&activation, class).unwrap().gradient;
        let whole = Cut::before(&checkpoint.model, weights);
        let at = |images: &Tensor| Ok(whole.gradient(images, class)?.gradient);
        let input = Input { images: &images, numbers: 0..6, settings: Settings::default(), gradient: &at };
        for (name, reference) in REFERENCES {
            let method = method(name);
            let found = match method.map {
                Map::AtStage(map) => map(&activation, &gradient).unwrap().raw,
                Map::OnInput(map) => map(&input).unwrap(),
            };
            let expected = tensor(&format!("oracle/{case}/saliency.safetensors"), reference);
            assert_eq!(found.dims(), expected.dims(), "{case} {name}");
            let error = relative_error(&values(&found), &values(&expected));
            println!("{case} {name}: {error:.1e}");
            assert!(error < 5e-4, "{case} {name}: {error:e}");
        }
    }
}

fn network(seed: u64) -> Cut {
    let model = resnet(18, 8, Stem::Small, 2, 3).unwrap();
    let mut weights: Weights = model.network.initialise(seed);
    let mut draws = seed::stream(seed, "test/buffers", 0);
    // Means of either sign, so that no channel is dead everywhere.
    weights.buffers.iter_mut().for_each(|value| *value += draws.random_range(-0.2..0.2));
    Cut::before(&model, Arc::new(weights))
}

fn images(seed: u64, count: usize) -> Tensor {
    let mut draws = seed::stream(seed, "test/images", 0);
    let pixels: Vec<f32> = (0..count * 2 * 12 * 12).map(|_| draws.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(pixels, (count, 2, 12, 12), &Device::Cpu).unwrap()
}

fn attribute(cut: &Cut, name: &str, images: &Tensor, numbers: std::ops::Range<usize>, settings: Settings) -> Vec<f32> {
    let gradient = |at: &Tensor| Ok(cut.gradient(at, Targets::Class(1))?.gradient);
    let input = Input { images, numbers, settings, gradient: &gradient };
    values(&method(name).on_input(&input).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// The attributions of an image sum to the change of its logit from the zero image
    /// (Sundararajan et al. 2017, proposition 1). A network of ReLUs has kinks on the way, so the
    /// quadrature errs by a share of how far the logit moves up and down on it.
    #[test]
    fn integrated_gradients_are_complete(seed in any::<u64>()) {
        let (cut, images) = (network(seed), images(seed, 2));
        let logits = |share: f64| -> Vec<f64> {
            let logits = cut.logits(&(&images * share).unwrap()).unwrap().to_vec2::<f32>().unwrap();
            logits.iter().map(|row| f64::from(row[1])).collect()
        };
        let path: Vec<Vec<f64>> = (0..=64).map(|step| logits(f64::from(step) / 64.0)).collect();
        let gaps = |steps| -> Vec<f64> {
            let settings = Settings { steps, ..Settings::default() };
            let found = attribute(&cut, "integrated-gradients", &images, 0..2, settings);
            let sum = |image: &[f32]| image.iter().map(|&value| f64::from(value)).sum::<f64>();
            let sums: Vec<f64> = found.chunks_exact(2 * 12 * 12).map(sum).collect();
            (0..2)
                .map(|image| {
                    let moved: f64 = path.windows(2).map(|pair| (pair[1][image] - pair[0][image]).abs()).sum();
                    (sums[image] - (path[64][image] - path[0][image])).abs() / moved
                })
                .collect()
        };
        // Over 146 images 100 points erred by 0.04 at most, and one point by 0.39 in the median.
        let gaps = gaps(200);
        prop_assert!(gaps.iter().all(|gap| *gap < 0.06), "{gaps:?}");
    }
}

#[test]
fn smooth_grad_draws_by_seed_and_image_not_by_batch() {
    let (cut, images) = (network(3), images(4, 3));
    let settings = Settings { steps: 4, ..Settings::default() };
    let all = attribute(&cut, "smooth-grad", &images, 10..13, settings);
    let size = all.len() / 3;
    for image in 0..3 {
        let one = images.narrow(0, image, 1).unwrap();
        let alone = attribute(&cut, "smooth-grad", &one, 10 + image..11 + image, settings);
        let error = relative_error(&alone, &all[image * size..(image + 1) * size]);
        assert!(error < 1e-5, "image {image}: {error:e}");
    }
    assert!(all.iter().any(|value| *value != 0.0));
    assert!(all == attribute(&cut, "smooth-grad", &images, 10..13, settings));
    assert!(all != attribute(&cut, "smooth-grad", &images, 10..13, Settings { seed: 1, ..settings }));
    assert!(all != attribute(&cut, "smooth-grad", &images, 11..14, settings));
    // Without noise it is the gradient.
    let still = attribute(&cut, "smooth-grad", &images, 10..13, Settings { noise: 0.0, ..settings });
    assert!(relative_error(&still, &attribute(&cut, "gradient", &images, 10..13, settings)) < 1e-6);
}

#[test]
fn every_method_has_a_name_of_its_own_and_works_in_one_place() {
    let blank = Tensor::zeros((1, 2, 3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let gradient = |at: &Tensor| Ok(at.clone());
    for (place, one) in METHODS.iter().enumerate() {
        assert_eq!(method(one.name), *one);
        assert!(METHODS[..place].iter().all(|other| other.name != one.name && other.title != one.title));
        let input = Input { images: &blank, numbers: 0..1, settings: Settings::default(), gradient: &gradient };
        assert_eq!(one.on_input(&input).is_ok(), one.is_on_input());
        // No activation and no gradient: the map is zero, flagged, and no NaN.
        if let Ok(maps) = one.at_stage(&blank, &blank) {
            assert!(
                !one.is_on_input() && maps.degenerate == [true] && values(&maps.raw).iter().all(|&value| value == 0.0)
            );
        }
    }
    let error = "grad-kam".parse::<Method>().unwrap_err().to_string();
    assert!(error.contains("grad-kam") && error.contains("grad-cam") && error.contains("smooth-grad"), "{error}");
}

/// All channels' gradients equal over the positions: Grad-CAM, HiResCAM, XGrad-CAM are one, and
/// LayerCAM leaves out what is negative.
#[test]
fn methods_at_a_stage_agree_where_the_gradient_is_the_same_everywhere() {
    let activation = images(5, 2).abs().unwrap();
    let per_channel = Tensor::from_vec(vec![1.5f32, -0.5, 0.25, 2.0], (2, 2, 1, 1), &Device::Cpu).unwrap();
    let gradient = per_channel.broadcast_as(activation.dims()).unwrap().contiguous().unwrap();
    let maps = |name: &str| values(&method(name).at_stage(&activation, &gradient).unwrap().raw);
    let expected = maps("grad-cam");
    for name in ["hires-cam", "xgrad-cam"] {
        assert!(relative_error(&maps(name), &expected) < 1e-5, "{name}");
    }
    let layer = maps("layer-cam");
    assert!(layer.iter().zip(&expected).all(|(layer, all)| layer >= all));
    // The second image has no negative channel, so there LayerCAM is Grad-CAM too.
    assert!(relative_error(&layer[144..], &expected[144..]) < 1e-5);
    assert!(relative_error(&layer[..144], &expected[..144]) > 0.01);
}
