//! Checkpoints as people have them: wrapped, prefixed, under other names, masked; and what is no checkpoint.

use candle_core::{DType, Device, Tensor};

use crate::support::{Place, fails, fixture, program, save, succeeds, tensor_error, tensors, words};

fn predict(checkpoint: &str, out: &str, flags: &str) -> Vec<String> {
    let images = fixture("checkpoints/expected.safetensors:images");
    words(&format!("predict --checkpoint {checkpoint} --images {images} --out {out} {flags}"))
}

/// Logits of a checkpoint, and what was said of it.
fn logits(place: &Place, checkpoint: &str, flags: &str) -> (Tensor, String) {
    let out = place.arg("logits.safetensors");
    let said = succeeds(&predict(checkpoint, &out, flags));
    (tensors(&out)["logits"].clone(), said)
}

fn expected() -> Tensor {
    tensors(fixture("checkpoints/expected.safetensors"))["logits"].clone()
}

/// The plain fixture under other names, and with more tensors.
fn renamed(place: &Place, name: &str, rename: &dyn Fn(&str) -> String, more: &[(&str, Tensor)]) -> String {
    let plain = tensors(fixture("checkpoints/plain.safetensors"));
    let all: Vec<(String, Tensor)> = plain.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
    let mut all: Vec<(&str, Tensor)> = all.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    all.extend(more.iter().cloned());
    save(&place.path(name), &all);
    place.arg(name)
}

#[test]
fn a_dictionary_of_tensors_is_found_under_any_key_and_nothing_beside_it_is_executed() {
    let place = Place::new();
    for file in ["training.pth", "training-stream.pth"] {
        let (got, _) = logits(&place, &fixture(&format!("checkpoints/{file}")), "");
        assert!(tensor_error(&got, &expected()) < 1e-5, "{file}");
    }
    assert!(!std::path::Path::new("ticketlens-executed-a-pickle").exists());
    let error = fails(&predict(&fixture("checkpoints/two.pth"), &place.arg("out"), ""));
    assert!(error.contains("two dictionaries") && error.contains("`teacher` and `student`"), "{error}");
}

#[test]
fn prefixes_profilers_and_other_libraries_names() {
    let place = Place::new();
    let one = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
    for prefix in ["_orig_mod.", "module._orig_mod.", "backbone.", "net.encoder.", "model.backbone."] {
        let file = renamed(&place, "prefixed.safetensors", &|name| format!("{prefix}{name}"), &[]);
        assert!(tensor_error(&logits(&place, &file, "").0, &expected()) < 1e-5, "{prefix}");
    }
    let more = [("total_ops", one.clone()), ("layer1.0.conv1.total_params", one.clone()), ("n_averaged", one.clone())];
    let file = renamed(&place, "profiled.safetensors", &str::to_owned, &more);
    assert!(tensor_error(&logits(&place, &file, "").0, &expected()) < 1e-5);
    let kuangliu = |name: &str| name.replace("downsample", "shortcut").replace("fc.", "linear.");
    let hugging_face = |name: &str| {
        let unit = |rest: &str| rest.replace("bn1", "normalization").replace("conv1", "convolution");
        if let Some(rest) = name.strip_prefix("fc.") {
            return format!("classifier.1.{rest}");
        }
        let Some((stage, rest)) = name.strip_prefix("layer").and_then(|rest| rest.split_once(".0.")) else {
            return format!("resnet.embedder.embedder.{}", unit(name));
        };
        let start = format!("resnet.encoder.stages.{}.layers.0", stage.parse::<u32>().unwrap() - 1);
        let (module, last) = rest.rsplit_once('.').unwrap();
        match module {
            "downsample.0" => format!("{start}.shortcut.convolution.{last}"),
            "downsample.1" => format!("{start}.shortcut.normalization.{last}"),
            "conv1" | "conv2" => format!("{start}.layer.{}.convolution.{last}", u32::from(module == "conv2")),
            _ => format!("{start}.layer.{}.normalization.{last}", u32::from(module == "bn2")),
        }
    };
    for rename in [&kuangliu as &dyn Fn(&str) -> String, &hugging_face] {
        let file = renamed(&place, "named.safetensors", rename, &[]);
        assert!(tensor_error(&logits(&place, &file, "").0, &expected()) < 1e-5);
    }
    // Two tensors that a dropped prefix would make one.
    let file = renamed(&place, "twice.safetensors", &str::to_owned, &[("_orig_mod.fc.bias", one)]);
    let error = fails(&predict(&file, &place.arg("out"), ""));
    assert!(error.contains("stands twice") && error.contains("fc.bias"), "{error}");
}

#[test]
fn networks_of_other_kinds_are_told_by_what_they_hold() {
    let place = Place::new();
    let weight = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    save(&place.path("alex.safetensors"), &[("features.0.weight", weight.clone()), ("classifier.6.bias", weight)]);
    let error = fails(&predict(&place.arg("alex.safetensors"), &place.arg("out"), ""));
    for said in ["alex.safetensors", "`features.0.weight`"] {
        assert!(error.contains(said), "{said}: {error}");
    }
    for (file, said) in [("module.pth", "state_dict()"), ("script.pth", "TorchScript")] {
        let error = fails(&predict(&fixture(&format!("checkpoints/{file}")), &place.arg("out"), ""));
        assert!(error.contains(file) && error.contains(said), "{error}");
    }
}

/// Every reader says the same of a file that is something else, whatever its suffix.
#[test]
fn impostors_are_recognised_by_every_reader() {
    let place = Place::new();
    let net = fixture("oracle/resnet18_mnist/checkpoint.safetensors");
    let tar = [&[b'a'; 257][..], b"ustar\0", &[0; 300]].concat();
    for (content, said) in [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".as_slice(), "git lfs pull"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "HTML"),
        (b"{\"metadata\": {}, \"weight_map\": {\"a\": \"b\"}}", "index"),
        (&tar, "tar archive"),
        (b"\x89HDF\r\n\x1a\n0123456789", "HDF5"),
        (b"\x08\x07\x12\x07pytorch\x1a\x03", "ONNX"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (&[0u8; 600], "zero bytes"),
    ] {
        for name in ["x.pth", "x.safetensors", "x"] {
            let error = fails(&predict(&place.write(name, content), &place.arg("out"), ""));
            assert!(error.contains(said) && error.contains(name), "{name}: {error}");
        }
        for name in ["x.png", "x.npy", "x.safetensors:images", "x-idx3-ubyte"] {
            place.write(name.split(':').next().unwrap(), content);
            let line = format!("predict --checkpoint {net} --images {} --out {}", place.arg(name), place.arg("out"));
            let error = fails(&words(&line));
            // An IDX file begins with zero bytes too.
            assert!(error.contains(said) || said == "zero bytes" && name.contains("idx"), "{name}: {error}");
        }
    }
    // The archive and the stream, cut off; and each format under the other's suffix.
    for file in ["archive.pth", "stream.pth", "plain.safetensors"] {
        let whole = std::fs::read(fixture(&format!("checkpoints/{file}"))).unwrap();
        let error = fails(&predict(&place.write(file, &whole[..whole.len() * 9 / 10]), &place.arg("out"), ""));
        assert!(error.contains("truncated"), "{error}");
        let other = if file.ends_with("pth") { "x.safetensors" } else { "x.pth" };
        assert!(tensor_error(&logits(&place, &place.write(other, &whole), "").0, &expected()) < 1e-5, "{file}");
    }
}

/// Names and shapes do not tell strides and pools: what is assumed is said, and flags say otherwise.
#[test]
fn what_is_assumed_is_told_and_can_be_told_otherwise() {
    let place = Place::new();
    let variants = tensors(fixture("checkpoints/variants.safetensors"));
    let plain = fixture("checkpoints/plain.safetensors");
    let bottleneck = fixture("checkpoints/bottleneck.safetensors");
    for (file, flags, variant, said) in [
        (&plain, "--stem-stride 2", "stride2", "3×3 stem of stride 2, no pool"),
        (&plain, "--stem-pool", "pool", "stride 1, a max pool"),
        (&plain, "--stem-pool true", "pool", "a max pool"),
        (&bottleneck, "", "second", "in the second, 3×3"),
        (&bottleneck, "--bottleneck-stride first", "first", "in the first, 1×1"),
    ] {
        let (got, told) = logits(&place, file, flags);
        assert!(tensor_error(&got, &variants[variant]) < 1e-5, "{variant}");
        assert!(told.contains("assumed: ") && told.contains(said), "{told}");
    }
    assert!(tensor_error(&variants["first"], &variants["second"]) > 0.01);
    // Records say it too.
    let (out, images) = (place.arg("report.json"), fixture("checkpoints/expected.safetensors:images"));
    let line = format!(
        "drift --reference {plain} --candidate {plain} --images {images} --stem-stride 2 --format json --out {out}"
    );
    assert_eq!(program(&words(&line)).output().unwrap().status.code(), Some(0));
    let report = crate::support::json(&out);
    for assumed in [&report["assumed"], &report["candidates"][0]["assumed"]] {
        assert_eq!((assumed["stem_stride"].as_u64(), assumed["stem_pool"].as_bool()), (Some(2), Some(false)));
    }
}

/// `NAME_orig` and `NAME_mask` are one weight, for the network and for `prune`.
#[test]
fn masks_that_pytorch_left_in_a_file_are_multiplied() {
    let place = Place::new();
    let masked = fixture("checkpoints/masked.pth");
    let expected = &tensors(fixture("checkpoints/variants.safetensors"))["masked"];
    assert!(tensor_error(&logits(&place, &masked, "").0, expected) < 1e-5);
    let out = place.arg("mask.safetensors");
    let line = format!("prune --weights {masked} --fraction 0.25 --out {out}");
    let output = program(&words(&line)).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("are zero already"));
    assert!(tensors(&out).keys().all(|name| name.ends_with(".weight")));
    // A bare file: the product is what is pruned, and a mask alone is no weight.
    let of = |values: &[f32]| Tensor::from_slice(values, (2, 2), &Device::Cpu).unwrap();
    let (weights, mask) = (of(&[9.0, -1.0, 2.0, 3.0]), of(&[0.0, 1.0, 1.0, 1.0]));
    save(
        &place.path("bare.safetensors"),
        &[("a.weight_orig", weights.clone()), ("a.weight_mask", mask.clone()), ("b_mask", mask)],
    );
    succeeds(&words(&format!("prune --weights {} --fraction 0.5 --out {out}", place.arg("bare.safetensors"))));
    let masks = tensors(&out);
    assert_eq!(masks.keys().collect::<Vec<_>>(), ["mask/1/a.weight"]);
    assert_eq!(masks["mask/1/a.weight"].flatten_all().unwrap().to_vec1::<u8>().unwrap(), [0, 0, 1, 1]);
    save(&place.path("half.safetensors"), &[("a.weight_orig", weights)]);
    let error =
        fails(&words(&format!("prune --weights {} --fraction 0.5 --out {out}x", place.arg("half.safetensors"))));
    assert!(error.contains("a.weight_mask") && error.contains("prune.remove"), "{error}");
}

#[test]
fn prune_warns_of_empty_layers_and_levels_that_take_nothing() {
    let place = Place::new();
    let small = Tensor::new(&[[0.1f32, 0.2], [0.1, 0.1]], &Device::Cpu).unwrap();
    let large = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    save(&place.path("w.safetensors"), &[("a", small), ("b", large)]);
    let warnings = |flags: &str| {
        let line = format!("prune --weights {} {flags} --out {}", place.arg("w.safetensors"), place.arg("m"));
        String::from_utf8(program(&words(&line)).output().unwrap().stderr).unwrap()
    };
    assert!(warnings("--fraction 0.5").contains("warning: a is empty at level 1"));
    assert!(warnings("--fraction 0.05").contains("warning: level 1 takes no weight"));
    assert!(warnings("--fraction 0.25").is_empty());
}
