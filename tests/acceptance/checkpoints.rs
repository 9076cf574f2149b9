//! Checkpoints as PyTorch writes them, and masks of them.

use candle_core::{DType, Tensor};

use ticketlens::model::{Stem, load_checkpoint, resnet, save_weights};

use crate::support::{Place, fails, fixture, save, succeeds, tensor_error, tensors, values, words};

fn predict(checkpoint: &str, out: &str) -> Vec<String> {
    let images = fixture("checkpoints/expected.safetensors:images");
    words(&format!("predict --checkpoint {checkpoint} --images {images} --out {out}"))
}

#[test]
fn every_way_in_which_pytorch_saves_gives_the_same_logits() {
    let place = Place::new();
    let expected = &tensors(fixture("checkpoints/expected.safetensors"))["logits"];
    let files = ["archive.pth", "stream.pth", "nested.pt", "parameters.pth", "channels-last.pth", "plain.safetensors"];
    for file in files {
        let out = place.arg("logits.safetensors");
        succeeds(&predict(&fixture(&format!("checkpoints/{file}")), &out));
        let error = tensor_error(&tensors(&out)["logits"], expected);
        assert!(error < 1e-5, "{file}: {error:e}");
    }
}

#[test]
fn prefixes_are_dropped_and_extensions_not_believed() {
    let place = Place::new();
    let plain = tensors(fixture("checkpoints/plain.safetensors"));
    let prefixed: Vec<(String, Tensor)> =
        plain.iter().map(|(name, tensor)| (format!("model.module.{name}"), tensor.clone())).collect();
    let prefixed: Vec<(&str, Tensor)> = prefixed.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    save(&place.path("prefixed.safetensors"), &prefixed);
    let archive = place.write("weights", &std::fs::read(fixture("checkpoints/archive.pth")).unwrap());
    let (one, two) = (place.arg("one.safetensors"), place.arg("two.safetensors"));
    succeeds(&predict(&place.arg("prefixed.safetensors"), &one));
    succeeds(&predict(&archive, &two));
    assert_eq!(values(&tensors(&one)["logits"]), values(&tensors(&two)["logits"]));
}

#[test]
fn nothing_in_a_pickle_is_executed_and_what_is_no_tensor_is_named() {
    let place = Place::new();
    for (file, what) in [
        ("evil.pth", "entry `evil` is an object made by `posix.system`, not a tensor"),
        ("call.pth", "holds an object made by `posix.system`"),
        ("extra.pth", "entry `epoch` is an integer"),
    ] {
        let error = fails(&predict(&fixture(&format!("checkpoints/{file}")), &place.arg("out.safetensors")));
        assert!(error.contains(what) && error.contains(file), "{error}");
    }
    assert!(place.names().is_empty());
    assert!(!std::path::Path::new("ticketlens-executed-a-pickle").exists());
}

/// A fixed walk over damage: every broken file is refused in one line or gives the whole logits, and never panics.
#[test]
fn a_damaged_file_is_refused() {
    let place = Place::new();
    let out = place.arg("out.safetensors");
    for file in ["archive.pth", "stream.pth", "plain.safetensors"] {
        let whole = std::fs::read(fixture(&format!("checkpoints/{file}"))).unwrap();
        for share in [1, 3, 5, 7, 9] {
            let damaged = place.write(file, &whole[..whole.len() * share / 10]);
            let error = fails(&predict(&damaged, &out));
            assert!(error.contains(file), "{error}");
        }
        let mut longer = whole.clone();
        let middle = whole.len() / 2;
        longer.splice(middle..middle, [0x7f; 37]);
        fails(&predict(&place.write(file, &longer), &out));
        assert!(!place.path("out.safetensors").exists());
    }
}

#[test]
fn a_checkpoint_is_pruned_by_layer_type_and_exclusions_count_nowhere() {
    let place = Place::new();
    let checkpoint = fixture("oracle/resnet18_mnist/checkpoint.safetensors");
    let weights = tensors(&checkpoint);
    let out = place.arg("masks.safetensors");
    let line = format!(
        "prune --weights {checkpoint} --fraction 0.3 --levels 3 --exclude conv1,fc --sparsity-report --out {out}"
    );
    let said = succeeds(&words(&line));
    let masks = tensors(&out);
    let prunable: Vec<&String> =
        weights.keys().filter(|name| weights[*name].rank() == 4 && !name.starts_with("conv1")).collect();
    assert_eq!(masks.len(), 3 * prunable.len());
    let mut remaining: usize = prunable.iter().map(|name| weights[*name].elem_count()).sum();
    let mut before: Option<Vec<u8>> = None;
    for level in 1..=3 {
        remaining -= (0.3 * remaining as f64).round_ties_even() as usize;
        let bits: Vec<u8> = prunable
            .iter()
            .flat_map(|name| masks[&format!("mask/{level}/{name}")].flatten_all().unwrap().to_vec1::<u8>().unwrap())
            .collect();
        assert_eq!(bits.iter().filter(|&&bit| bit == 1).count(), remaining);
        if let Some(before) = &before {
            assert!(bits.iter().zip(before).all(|(now, before)| now <= before), "level {level} is not nested");
        }
        before = Some(bits);
    }
    assert!(said.contains("level 3") && said.contains("layer4.1.conv2.weight"), "{said}");
    let error = fails(&words(&format!("prune --weights {checkpoint} --fraction 0.3 --exclude nothere --out {out}x")));
    assert!(error.contains("nothere"), "{error}");
}

/// Ties across tensors break in file order, which for a pickle is the order of the dictionary.
#[test]
fn pytorch_files_and_safetensors_give_the_same_masks() {
    let place = Place::new();
    let masks = |file: &str| {
        let out = place.arg("masks.safetensors");
        let weights = fixture(&format!("checkpoints/{file}"));
        succeeds(&words(&format!("prune --weights {weights} --fraction 0.5 --out {out}")));
        let masks = tensors(&out);
        masks.into_iter().map(|(name, mask)| (name, values(&mask.to_dtype(DType::F32).unwrap()))).collect::<Vec<_>>()
    };
    assert_eq!(masks("archive.pth"), masks("plain.safetensors"));
    assert_eq!(masks("stream.pth"), masks("nested.pt"));
    assert_eq!(masks("stream.pth"), masks("archive.pth"));
}

/// What the library saves, it reads back bit for bit; `ci/pytorch-roundtrip.sh` has PyTorch read the same files.
#[test]
fn saved_weights_are_read_back_bit_for_bit() {
    let place = Place::new();
    let folder = match std::env::var_os("TICKETLENS_SAVE_CHECKPOINTS") {
        Some(folder) => std::path::PathBuf::from(folder),
        None => place.path("ours"),
    };
    std::fs::create_dir_all(&folder).unwrap();
    let cases = [(18, 4, Stem::Small, 1, 2), (34, 2, Stem::Large, 3, 5), (50, 2, Stem::Large, 3, 7)];
    for (depth, width, stem, channels, classes) in cases {
        let model = resnet(depth, width, stem, channels, classes).unwrap();
        let mut weights = model.network.initialise(3);
        // Running statistics that are not their initial values.
        for (at, value) in weights.buffers.iter_mut().enumerate() {
            *value += (at % 7) as f32 / 100.0;
        }
        let path = folder.join(format!("resnet{depth}.safetensors"));
        std::fs::write(&path, save_weights(&weights).unwrap()).unwrap();
        let read = load_checkpoint(&path).unwrap();
        assert!(*read.weights == weights);
        assert!(read.model.same_as(&model));
    }
}
