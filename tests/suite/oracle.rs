//! Values from PyTorch, Captum and pytorch-grad-cam (fixtures/oracle/README.md states the tolerances).

use ticketlens::explain::{Cut, Targets, grad_cam, normalise, upsample};
use ticketlens::model::{Stage, TensorFile, load_checkpoint};
use ticketlens::prune::{Scope, cut};

use crate::support::{CASES, assert_expected, fixture, tensor, values};

#[test]
fn logits_activations_gradients_and_maps_equal_pytorchs() {
    for case in CASES {
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(fixture(&format!("oracle/{case}/expected.json"))).unwrap()).unwrap();
        let stage: Stage = expected["layer"].as_str().unwrap().parse().unwrap();
        let class = expected["class"].as_u64().unwrap() as usize;
        let checkpoint = load_checkpoint(&fixture(&format!("oracle/{case}/checkpoint.safetensors"))).unwrap();
        let images = tensor(&format!("oracle/{case}/inputs.safetensors"), "images");
        let cut = Cut::new(&checkpoint.model, checkpoint.weights.clone(), stage).unwrap();
        let activation = cut.activation(&images).unwrap();
        let result = cut.gradient(&activation, Targets::Class(class)).unwrap();
        let cam = grad_cam(&activation, &result.gradient).unwrap();
        let (_, _, height, width) = images.dims4().unwrap();
        let upsampled = upsample(&cam.raw, height, width).unwrap();
        let got = [
            ("logits", result.logits),
            ("activation", activation),
            ("gradient", result.gradient),
            ("cam_raw", cam.raw),
            ("cam_normalised", normalise(&upsampled).unwrap()),
            ("cam_upsampled", upsampled),
        ];
        got.iter().for_each(|(name, got)| assert_expected(case, name, got));
    }
}

#[test]
fn masks_equal_torch_nn_utils_prunes_bit_for_bit() {
    let file = TensorFile::open(&fixture("oracle/prune.safetensors")).unwrap();
    let names = ["a.weight", "b.weight", "c.weight"];
    let weights: Vec<Vec<f32>> =
        names.iter().map(|name| values(file.get(&format!("weight/{name}")).unwrap())).collect();
    let slices: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
    for (scope, label) in [(Scope::Global, "global"), (Scope::Layerwise, "layerwise")] {
        let mut masks: Vec<Vec<u8>> = weights.iter().map(|layer| vec![1; layer.len()]).collect();
        for level in 1..=2 {
            cut(&slices, &mut masks, scope, 0.2).unwrap();
            for (name, mask) in names.iter().zip(&masks) {
                let expected = values(file.get(&format!("{label}/level{level}/{name}")).unwrap());
                let got: Vec<f32> = mask.iter().map(|&bit| f32::from(bit)).collect();
                assert_eq!(got, expected, "{label} level {level} {name}");
            }
        }
    }
}
