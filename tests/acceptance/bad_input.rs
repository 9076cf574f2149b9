//! Bad input: one line on stderr that names what is wrong, exit code 2, and nothing written.

use candle_core::{DType, Device, Tensor};

use crate::support::{Place, fails, fixture, save, tensors, values, words};

const CHECKPOINT: &str = "oracle/resnet18_mnist/checkpoint.safetensors";
const INPUTS: &str = "oracle/resnet18_mnist/inputs.safetensors";

/// A command and its output flag for each way of reading a checkpoint and images.
fn commands(checkpoint: &str, images: &str) -> Vec<String> {
    let common = format!("--checkpoint {checkpoint} --images {images}");
    let sets = fixture(INPUTS);
    vec![
        format!("predict {common} --out OUT"),
        format!("predict {common} --stage layer2 --class 1 --out OUT"),
        format!("cam {common} --class predicted --out OUT --png PNG"),
        format!(
            "tcav {common} --class 1 --concept a={sets}:concept_striped --random {sets}:random_00 {sets}:random_01 --json OUT"
        ),
    ]
}

/// Runs a line with OUT and PNG put into an empty folder, expects the failure to name `what`, and
/// the folder to stay empty.
fn refused(line: &str, what: &str) {
    let place = Place::new();
    let line = line.replace("OUT", &place.arg("out")).replace("PNG", &place.arg("png"));
    let error = fails(&words(&line));
    assert!(error.contains(what), "{line}\n{error}lacks `{what}`");
    assert!(place.names().is_empty(), "{line}\nleft {:?}", place.names());
}

fn images() -> String {
    format!("{}:images", fixture(INPUTS))
}

#[test]
fn files_that_are_missing_empty_truncated_random_or_claim_too_much() {
    let place = Place::new();
    let whole = std::fs::read(fixture(CHECKPOINT)).unwrap();
    let noise: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    // A header that is well formed and promises 2^62 bytes.
    let claim = br#"{"conv1.weight":{"dtype":"F32","shape":[1073741824,1073741824,1,1],"data_offsets":[0,4611686018427387904]}}"#;
    let claim = [(claim.len() as u64).to_le_bytes().as_slice(), claim, &[0; 64]].concat();
    let bad = [
        ("missing", place.arg("missing.safetensors")),
        ("empty", place.write("empty.safetensors", b"")),
        ("truncated", place.write("truncated.safetensors", &whole[..whole.len() / 2])),
        ("noise", place.write("noise.safetensors", &noise)),
        ("noise", place.write("noise.pth", &noise)),
        ("zip", place.write("zip.pth", &[b"PK\x03\x04".as_slice(), &noise].concat())),
        ("huge", place.write("huge.safetensors", &huge)),
        ("claim", place.write("claim.safetensors", &claim)),
        ("folder", place.arg("")),
    ];
    for (name, file) in &bad {
        let named = if *name == "folder" { "is not a file" } else { *name };
        for line in commands(file, &images()) {
            refused(&line, named);
        }
        refused(&format!("prune --weights {file} --fraction 0.2 --out OUT"), named);
        if *name == "folder" || file.ends_with(".pth") {
            continue;
        }
        for line in commands(&fixture(CHECKPOINT), &format!("{file}:images")) {
            refused(&line, named);
        }
    }
    for name in ["empty", "noise"] {
        for extension in ["npy", "idx", "png", "jpg"] {
            let content: &[u8] = if name == "empty" { b"" } else { &noise };
            let file = place.write(&format!("{name}.{extension}"), content);
            for line in commands(&fixture(CHECKPOINT), &file) {
                refused(&line, name);
            }
        }
    }
}

#[test]
fn keys_stages_classes_and_flags_that_do_not_exist() {
    let (checkpoint, inputs, images) = (fixture(CHECKPOINT), fixture(INPUTS), images());
    let common = format!("--checkpoint {checkpoint} --images {images}");
    for line in commands(&checkpoint, &format!("{inputs}:nothere")) {
        refused(&line, "nothere");
    }
    for line in commands(&checkpoint, &inputs) {
        refused(&line, "KEY");
    }
    refused(&format!("cam {common} --stage layer5 --class 0 --out OUT"), "layer5");
    refused(&format!("cam {common} --class 2 --out OUT"), "--class: 2 does not exist");
    refused(&format!("cam {common} --class -1 --out OUT"), "--class");
    refused(&format!("cam {common} --class 0 --size -1 --out OUT"), "--size");
    refused(&format!("prune --weights {checkpoint} --fraction 0.5 --levels -1 --out OUT"), "--levels");
    refused(&format!("cam {common} --class 0 --labels nothere --out OUT"), "--labels: only --class true");
    refused(&format!("cam {common} --class 0 --grid 2 2 --out OUT"), "--grid");
    refused(&format!("cam {common} --class 0 --gradient {images} --out OUT"), "--gradient");
    refused(&format!("cam {common} --class 0 --bottleneck-stride first --out OUT"), "bottleneck");
    for flag in ["--device cpu", "--stem-stride 2", "--preset mnist", "--mean 0 --std 1"] {
        let line = format!("cam --activation {images} --gradient {images} {flag} --out OUT");
        refused(&line, flag.split(' ').next().unwrap());
    }
    refused(&format!("cam {common} --class cat --out OUT"), "cat");
    refused(&format!("cam {common} --class 0 --method grad-kam --out OUT"), "grad-kam");
    refused(&format!("cam {common} --class 0 --method gradient --stage layer3 --out OUT"), "--stage: gradient");
    refused(&format!("cam {common} --class 0 --method layer-cam --steps 9 --out OUT"), "--steps: layer-cam");
    refused(&format!("cam {common} --class 0 --method integrated-gradients --seed 9 --out OUT"), "--seed");
    refused(&format!("cam {common} --class 0 --method integrated-gradients --steps 0 --out OUT"), "--steps");
    refused(&format!("cam {common} --class 0 --method smooth-grad --noise -1 --out OUT"), "--noise");
    refused(&format!("cam {common} --class 2 --method gradient --out OUT"), "--class: 2 does not exist");
    refused(&format!("cam {common} --class true --out OUT"), "--labels");
    refused(&format!("predict {common} --stage layer1 --class 9 --out OUT"), "--class: 9 does not exist");
    refused(&format!("predict {common} --stage layer1 --out OUT"), "--class");
    refused(&format!("predict {common} --frobnicate --out OUT"), "--frobnicate");
    refused(&format!("predict {common} --batch 0 --out OUT"), "--batch");
    refused(&format!("predict {common} --mean 0.5 --out OUT"), "--std");
    for line in commands(&checkpoint, &images) {
        refused(&format!("{line} --size 24"), "--size 24: ");
    }
    refused(&format!("predict {common} --mean 0,1 --std 1,1 --out OUT"), "--mean --std: 2 values");
    refused(&format!("predict --images {images} --out OUT"), "--checkpoint");
    refused("frobnicate", "frobnicate");
    let tcav =
        format!("tcav {common} --concept a={inputs}:concept_striped --random {inputs}:random_00 {inputs}:random_01");
    refused(&format!("{tcav} --class 7 --json OUT"), "--class: 7 does not exist");
    refused(&format!("{tcav} --class 0 --stage layer9 --json OUT"), "layer9");
    refused(&format!("{tcav} --class 0 --concept a={inputs}:concept_null --json OUT"), "`a` is given twice");
    refused(&format!("{tcav} --class 0 --concept plain --json OUT"), "NAME=IMAGES");
    refused(&format!("{tcav} --class 0 --loss-weight 0 --json OUT"), "--loss-weight");
    refused(&format!("{tcav} --class 0 --alpha 1 --json OUT"), "--alpha");
    refused(&format!("{tcav} --class 0 --permutations 0 --json OUT"), "--permutations");
    refused(&format!("{tcav} --class 0 --gradients {images} --json OUT"), "--gradients");
}

#[test]
fn fractions_outside_zero_to_one() {
    let weights = fixture(CHECKPOINT);
    for fraction in ["0", "1", "1.5", "-0.1", "NaN", "inf", "x"] {
        refused(&format!("prune --weights {weights} --fraction {fraction} --out OUT"), "--fraction");
    }
    refused(&format!("prune --weights {weights} --fraction 0.2 --levels 0 --out OUT"), "--levels");
    refused(&format!("prune --weights {weights} --fraction 0.2 --scope some --out OUT"), "scope");
}

#[test]
fn too_few_random_sets_or_images() {
    let place = Place::new();
    let inputs = fixture(INPUTS);
    let one = tensors(&inputs)["random_00"].narrow(0, 0, 1).unwrap();
    save(&place.path("one.safetensors"), &[("images", one)]);
    let one = format!("{}:images", place.arg("one.safetensors"));
    let common = format!("tcav --checkpoint {} --images {} --class 0 --json OUT", fixture(CHECKPOINT), images());
    let concept = format!("--concept a={inputs}:concept_striped");
    refused(&format!("{common} {concept} --random {inputs}:random_00"), "--random: 1 set given");
    refused(&format!("{common} {concept}"), "--random");
    refused(&format!("{common} {concept} --random {inputs}:random_00 {one}"), "one.safetensors");
    refused(&format!("{common} --concept a={one} --random {inputs}:random_00 {inputs}:random_01"), "one.safetensors");
}

#[test]
fn weights_that_are_not_numbers_or_do_not_fit() {
    let place = Place::new();
    let whole = tensors(fixture(CHECKPOINT));
    let variant = |name: &str, tensor: &str, change: &dyn Fn(&Tensor) -> Option<Tensor>| {
        let mut changed = whole.clone();
        match change(&whole[tensor]) {
            Some(new) => drop(changed.insert(tensor.into(), new)),
            None => drop(changed.remove(tensor)),
        }
        let list: Vec<(&str, Tensor)> = changed.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
        save(&place.path(name), &list);
        place.arg(name)
    };
    let with = |value: f32| {
        move |tensor: &Tensor| {
            let mut changed = values(tensor);
            changed[1] = value;
            Some(Tensor::from_vec(changed, tensor.dims(), &Device::Cpu).unwrap())
        }
    };
    let tensor = "layer3.0.conv1.weight";
    for (value, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let file = variant("bad.safetensors", tensor, &with(value));
        for line in commands(&file, &images()) {
            refused(&line, tensor);
            refused(&line, said);
        }
        refused(&format!("prune --weights {file} --fraction 0.2 --out OUT"), tensor);
    }
    let file = variant("missing.safetensors", tensor, &|_| None);
    refused(&commands(&file, &images())[0], tensor);
    refused(&format!("prune --weights {file} --fraction 0.2 --out OUT"), tensor);
    let file = variant("shape.safetensors", "layer3.1.bn2.running_var", &|t| Some(t.narrow(0, 0, 3).unwrap()));
    refused(&commands(&file, &images())[0], "layer3.1.bn2.running_var");
    let file = variant("type.safetensors", tensor, &|t| Some(t.to_dtype(DType::I64).unwrap()));
    refused(&commands(&file, &images())[0], tensor);
    // A variance below zero is a number, but gives none.
    let file = variant("variance.safetensors", "bn1.running_var", &with(-1.0));
    for line in commands(&file, &images()) {
        refused(&line, "NaN");
    }
    // Bare tensors.
    let bare = Tensor::new(&[[1.0f32, f32::NAN]], &Device::Cpu).unwrap();
    save(&place.path("bare.safetensors"), &[("w", bare)]);
    refused(&format!("prune --weights {} --fraction 0.2 --out OUT", place.arg("bare.safetensors")), ":w");
    let vector = Tensor::new(&[1.0f32, 2.0], &Device::Cpu).unwrap();
    save(&place.path("vector.safetensors"), &[("w", vector)]);
    let file = place.arg("vector.safetensors");
    refused(&format!("prune --weights {file} --fraction 0.2 --out OUT"), "no prunable weight");
}

#[test]
fn pixels_that_are_not_numbers_or_do_not_fit() {
    let place = Place::new();
    let whole = tensors(fixture(INPUTS))["images"].clone();
    let mut broken = values(&whole);
    // In the last image, so that a whole batch has been written before.
    let last = broken.len() - 1;
    for value in [f32::NAN, f32::NEG_INFINITY] {
        broken[last] = value;
        let broken = Tensor::from_vec(broken.clone(), whole.dims(), &Device::Cpu).unwrap();
        save(&place.path("images.safetensors"), &[("images", broken)]);
        for line in commands(&fixture(CHECKPOINT), &format!("{}:images --batch 4", place.arg("images.safetensors"))) {
            refused(&line, "image 23");
        }
    }
    let rgb = Tensor::cat(&[&whole, &whole, &whole], 1).unwrap();
    let flat = whole.flatten_from(1).unwrap();
    let none = whole.narrow(0, 0, 1).unwrap().narrow(2, 0, 1).unwrap();
    save(&place.path("shapes.safetensors"), &[("rgb", rgb), ("flat", flat)]);
    let file = place.arg("shapes.safetensors");
    for line in commands(&fixture(CHECKPOINT), &format!("{file}:rgb")) {
        refused(&line, "3 channels");
    }
    for line in commands(&fixture(CHECKPOINT), &format!("{file}:flat")) {
        refused(&line, "(N, C, H, W)");
    }
    // Concepts of another size than the images.
    save(&place.path("small.safetensors"), &[("images", none.repeat((3, 1, 9, 1)).unwrap())]);
    let inputs = fixture(INPUTS);
    let line = format!(
        "tcav --checkpoint {} --images {inputs}:images --class 0 --json OUT --concept a={}:images --random {inputs}:random_00 {inputs}:random_01",
        fixture(CHECKPOINT),
        place.arg("small.safetensors")
    );
    refused(&line, "small.safetensors");
    let labels = place.write("labels.txt", b"0\n1\n");
    let common = format!("cam --checkpoint {} --images {inputs}:images --out OUT --class true", fixture(CHECKPOINT));
    refused(&format!("{common} --labels {labels}"), "2 labels");
    let labels = place.write("labels.txt", b"0\n7\n");
    refused(&format!("{common} --labels {labels}"), "label 7");
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    let out = place.arg("nowhere/out");
    let file = place.write("file", b"kept");
    let folder = place.arg("");
    for line in commands(&fixture(CHECKPOINT), &images()) {
        for bad in [&out, &folder, &format!("{file}/out")] {
            let line = line.replace("OUT", bad).replace("PNG", &place.arg("png"));
            fails(&words(&line));
        }
    }
    let line = format!("prune --weights {} --fraction 0.2 --out {out}", fixture(CHECKPOINT));
    assert!(fails(&words(&line)).contains("nowhere"));
    let line = format!(
        "cam --checkpoint {} --images {} --class 0 --out {} --png {file}",
        fixture(CHECKPOINT),
        images(),
        place.arg("cam")
    );
    assert!(fails(&words(&line)).contains("is not a folder"));
    // An output that is an input, and one that stands already when the command fails.
    let weights = place.write("weights.safetensors", &std::fs::read(fixture(CHECKPOINT)).unwrap());
    let line = format!("prune --weights {weights} --fraction 0.2 --out {weights}");
    assert!(fails(&words(&line)).contains("is an input"));
    let line = format!("predict --checkpoint {weights} --images {}:nothere --out {file}", fixture(INPUTS));
    fails(&words(&line));
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    assert_eq!(place.names(), ["file", "weights.safetensors"]);
}

/// Reading a pipe would wait for its writer, whatever it stands in for.
#[cfg(unix)]
#[test]
fn pipes_where_files_should_be_are_refused_at_once() {
    let place = Place::new();
    let pipe = |name: &str| {
        let path = place.arg(name);
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    let (checkpoint, images) = (fixture(CHECKPOINT), images());
    let (labels, plan, cifar) = (pipe("labels.txt"), pipe("plan.toml"), pipe("cifar/test_batch.bin"));
    pipe("pictures/a/one.png");
    let image = image::GrayImage::new(16, 16);
    std::fs::create_dir_all(place.path("pictures/b")).unwrap();
    for name in ["pictures/a/two.png", "pictures/b/one.png", "pictures/b/two.png"] {
        image.save(place.path(name)).unwrap();
    }
    pipe("sweep/sweep.toml");
    pipe("run/.lock");
    let record = pipe("record.json");
    for (line, what) in [
        (
            format!("cam --checkpoint {checkpoint} --images {images} --class true --labels {labels} --out OUT"),
            "labels.txt",
        ),
        (format!("run {plan} --dry-run"), "plan.toml"),
        (
            format!("run resnet20-cifar10 --set data.path={} --dry-run", cifar.trim_end_matches("/test_batch.bin")),
            "batch",
        ),
        (format!("run folder --set data.path={} --dry-run", place.arg("pictures")), "one.png"),
        (format!("sweep status {}", place.arg("sweep")), "sweep"),
        (format!("run quick --out {}", place.arg("run")), ".lock"),
        (format!("record --checkpoint {checkpoint} --images {images} --out {record}"), "record.json"),
    ] {
        refused(&line, what);
    }
}

#[test]
fn what_is_too_long_is_refused_and_a_message_stays_short() {
    let place = Place::new();
    let long = std::fs::File::create(place.path("labels.txt")).unwrap();
    long.set_len(3 << 30).unwrap();
    let line =
        format!("cam --checkpoint {} --images {} --class true --out OUT --labels", fixture(CHECKPOINT), images());
    refused(&format!("{line} {}", place.arg("labels.txt")), "more than 67108864");
    let digits = place.write("digits.txt", "1".repeat(1 << 20).as_bytes());
    let error = fails(&words(&format!("{line} {digits}").replace("OUT", &place.arg("out"))));
    assert!(error.len() < 4096 && error.contains("digits.txt: line 1"), "{} bytes", error.len());
}
