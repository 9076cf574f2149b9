//! The forms in which images come in, bounded batches, and overlays.

use candle_core::{DType, Device, Tensor};
use image::{GrayImage, Luma};

use crate::support::{Place, fixture, json, program, save, succeeds, tensor_error, tensors, values, words};

const CHECKPOINT: &str = "oracle/resnet18_mnist/checkpoint.safetensors";
const INPUTS: &str = "oracle/resnet18_mnist/inputs.safetensors";

/// Twelve grey images of 28 pixels with a gradient in a direction of their own.
fn bytes() -> Vec<Vec<u8>> {
    (0..12u32)
        .map(|image| (0..784u32).map(|at| ((at % 28) * image + (at / 28) * (12 - image)) as u8).collect())
        .collect()
}

#[test]
fn an_array_a_numpy_file_a_folder_and_an_idx_file_of_the_same_images_give_the_same_logits() {
    let place = Place::new();
    let images = bytes();
    let normalised: Vec<f32> =
        images.iter().flatten().map(|&byte| (f32::from(byte) / 255.0 - 0.1307) / 0.3081).collect();
    let array = Tensor::from_vec(normalised.clone(), (12, 1, 28, 28), &Device::Cpu).unwrap();
    save(&place.path("array.safetensors"), &[("images", array)]);
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 1, 28, 28), }";
    let header = format!("{header:<117}\n");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend(normalised.iter().flat_map(|value| value.to_le_bytes()));
    place.write("array.npy", &npy);
    let mut idx = vec![0, 0, 8, 3];
    [12u32, 28, 28].iter().for_each(|size| idx.extend(size.to_be_bytes()));
    idx.extend(images.iter().flatten());
    place.write("images-idx3-ubyte", &idx);
    std::fs::create_dir(place.path("folder")).unwrap();
    for (index, image) in images.iter().enumerate() {
        let picture = GrayImage::from_fn(28, 28, |x, y| Luma([image[(y * 28 + x) as usize]]));
        picture.save(place.path(&format!("folder/{index:02}.png"))).unwrap();
    }
    let logits = |argument: &str, flags: &str| {
        let out = place.arg("out.safetensors");
        let line = format!("predict --checkpoint {} --images {argument} {flags} --out {out}", fixture(CHECKPOINT));
        succeeds(&words(&line));
        values(&tensors(&out)["logits"])
    };
    let expected = logits(&format!("{}:images", place.arg("array.safetensors")), "");
    for (argument, flags) in [
        (place.arg("array.npy"), ""),
        (place.arg("array.npy"), "--size 28"),
        (place.arg("folder"), ""),
        (place.arg("folder"), "--preset mnist --size 28"),
        (place.arg("folder"), "--mean 0.1307 --std 0.3081"),
        (place.arg("images-idx3-ubyte"), ""),
        (place.arg("images-idx3-ubyte"), "--batch 5"),
    ] {
        let got = logits(&argument, flags);
        for (a, b) in got.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{argument} {flags}: {a} against {b}");
        }
    }
    assert_ne!(logits(&place.arg("folder"), "--mean 0 --std 1"), expected);
    assert_ne!(logits(&place.arg("folder"), "--size 14"), expected);
}

#[test]
fn the_batch_bounds_memory_and_changes_nothing_else() {
    let place = Place::new();
    let inputs = fixture(INPUTS);
    let common = format!("--checkpoint {} --images {inputs}:images --class 1", fixture(CHECKPOINT));
    let sets = format!(
        "--concept a={inputs}:concept_striped --random {inputs}:random_00 {inputs}:random_01 {inputs}:random_02"
    );
    let run = |flags: &str| {
        let (cam, tcav) = (place.arg("cam.safetensors"), place.arg("tcav.json"));
        succeeds(&words(&format!("cam {common} --out {cam} {}", flags.split(" --memory").next().unwrap())));
        succeeds(&words(&format!("tcav {common} {sets} --json {tcav} {flags}")));
        let record = json(&tcav);
        let sensitivities: Vec<f64> = record["concepts"]["a"]["runs"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|run| run["sensitivity"].as_array().unwrap())
            .map(|value| value.as_f64().unwrap())
            .collect();
        (values(&tensors(&cam)["cam_raw"]), sensitivities)
    };
    let (maps, sensitivities) = run("--batch 64");
    // No memory at all for activations: every block is computed again for every other.
    for flags in ["--batch 1 --memory 0", "--batch 7 --memory 0", "--batch 7"] {
        let (other_maps, other) = run(flags);
        let largest = maps.iter().fold(0.0f32, |top, v| top.max(*v));
        assert!(maps.iter().zip(&other_maps).all(|(a, b)| (a - b).abs() <= 1e-5 * largest), "{flags}");
        let largest = sensitivities.iter().fold(0.0f64, |top, v| top.max(v.abs()));
        assert!(sensitivities.iter().zip(&other).all(|(a, b)| (a - b).abs() <= 1e-4 * largest), "{flags}");
    }
}

#[test]
fn the_result_has_the_same_bits_for_any_number_of_threads() {
    let place = Place::new();
    let inputs = fixture(INPUTS);
    let results = ["1", "3"].map(|threads| {
        let out = place.arg("tcav.json");
        let line = format!(
            "tcav --checkpoint {} --images {inputs}:images --class 0 --concept a={inputs}:concept_striped --random \
             {inputs}:random_00 {inputs}:random_01 {inputs}:random_02 --json {out} --threads {threads}",
            fixture(CHECKPOINT)
        );
        let mut command = assert_cmd::Command::cargo_bin("ticketlens").unwrap();
        command.args(words(&line)).assert().success();
        std::fs::read(out).unwrap()
    });
    assert!(results[0] == results[1]);
}

#[test]
fn maps_of_true_and_predicted_classes_say_which_class_they_are_of() {
    let place = Place::new();
    let common = format!("--checkpoint {} --images {}:images", fixture(CHECKPOINT), fixture(INPUTS));
    let labels: String = (0..24).map(|image| format!("{}\n", image % 2)).collect();
    let labels = place.write("labels.txt", labels.as_bytes());
    let cam = |flags: &str| {
        let out = place.arg("cam.safetensors");
        succeeds(&words(&format!("cam {common} {flags} --batch 5 --out {out}")));
        tensors(&out)
    };
    let classes = |file: &std::collections::BTreeMap<String, Tensor>| file["class"].to_vec1::<i64>().unwrap();
    let (zero, one, truth) = (cam("--class 0"), cam("--class 1"), cam(&format!("--class true --labels {labels}")));
    assert_eq!(classes(&truth), (0..24).map(|image| image % 2).collect::<Vec<i64>>());
    for image in 0..24 {
        let of = |file: &std::collections::BTreeMap<String, Tensor>| values(&file["cam_raw"].get(image).unwrap());
        assert_eq!(of(&truth), of(if image % 2 == 0 { &zero } else { &one }), "{image}");
    }
    let logits = place.arg("logits.safetensors");
    succeeds(&words(&format!("predict {common} --out {logits}")));
    let logits = tensors(&logits)["logits"].to_vec2::<f32>().unwrap();
    let predicted: Vec<i64> = logits.iter().map(|row| i64::from(row[1] > row[0])).collect();
    assert_eq!(classes(&cam("--class predicted")), predicted);
}

#[test]
fn a_map_that_is_zero_everywhere_stays_zero_and_is_flagged() {
    let place = Place::new();
    let mut weights = tensors(fixture(CHECKPOINT));
    // Without the last linear layer's weights no activation moves a logit.
    let zero = weights["fc.weight"].zeros_like().unwrap();
    weights.insert("fc.weight".into(), zero);
    let list: Vec<(&str, Tensor)> = weights.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    save(&place.path("flat.safetensors"), &list);
    let out = place.arg("cam.safetensors");
    let line = format!(
        "cam --checkpoint {} --images {}:images --class 0 --out {out}",
        place.arg("flat.safetensors"),
        fixture(INPUTS)
    );
    let output = program(&words(&line)).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("24 of 24 maps are zero everywhere"));
    let maps = tensors(&out);
    assert_eq!(maps["degenerate"].to_vec1::<u8>().unwrap(), [1; 24]);
    assert!(values(&maps["cam_normalised"]).iter().all(|&value| value == 0.0));
    assert_eq!(maps["degenerate"].dtype(), DType::U8);
    // TCAV: no sensitivity has a sign, and nothing is NaN.
    let inputs = fixture(INPUTS);
    let record = place.arg("tcav.json");
    let line = format!(
        "tcav --checkpoint {} --images {inputs}:images --class 0 --concept a={inputs}:concept_striped --random {inputs}:random_00 \
         {inputs}:random_01 --json {record} -q",
        place.arg("flat.safetensors")
    );
    succeeds(&words(&line));
    let concept = &json(&record)["concepts"]["a"];
    assert_eq!((concept["mean"].as_f64(), concept["p_value"].as_f64()), (Some(0.0), Some(1.0)));
    assert!(concept["legacy_welch_p"].is_null() && concept["effect_standardised"].is_null());
    assert_eq!(concept["effect_p_value"].as_f64(), Some(1.0));
}

#[test]
fn attributions_do_not_depend_on_the_batch_and_say_which_class_they_are_of() {
    let place = Place::new();
    let common = format!("cam --checkpoint {} --images {}:images", fixture(CHECKPOINT), fixture(INPUTS));
    let attribution = |flags: &str| {
        let out = place.arg("attribution.safetensors");
        succeeds(&words(&format!("{common} {flags} --out {out} --png {}", place.arg("overlays"))));
        assert_eq!(std::fs::read_dir(place.path("overlays")).unwrap().count(), 24);
        tensors(&out)
    };
    let smooth = "--class predicted --method smooth-grad --steps 3";
    let (by_five, at_once) =
        (attribution(&format!("{smooth} --batch 5")), attribution(&format!("{smooth} --batch 64")));
    // Batches of other sizes round in another order. That alone, as a change of the images by 1e-7
    // does, lets a ReLU open or close in one image or another; noise that went by the place in the
    // batch would change all but the first five.
    let of_image = |file: &std::collections::BTreeMap<String, Tensor>, image| file["attribution"].get(image).unwrap();
    let image_error = |image: usize| tensor_error(&of_image(&by_five, image), &of_image(&at_once, image));
    let errors: Vec<f64> = (0..24).map(image_error).collect();
    assert!(errors.iter().filter(|&&error| error < 1e-5).count() >= 20, "{errors:?}");
    assert!(errors.iter().all(|&error| error < 5e-2), "{errors:?}");
    let other = attribution(&format!("{smooth} --batch 5 --seed 1"));
    assert!(tensor_error(&other["attribution"], &by_five["attribution"]) > 1e-2);
    // The class is the one predicted for the image, not for its noisy copies.
    let of = |file: &std::collections::BTreeMap<String, Tensor>, name: &str| file[name].to_vec1::<i64>().unwrap();
    let predicted = of(&by_five, "class");
    let cam = place.arg("cam.safetensors");
    succeeds(&words(&format!("{common} --class predicted --out {cam}")));
    assert_eq!(predicted, of(&tensors(&cam), "class"));
    let fixed = attribution("--class 1 --method integrated-gradients --steps 2");
    let both = attribution("--class predicted --method integrated-gradients --steps 2");
    assert_eq!(of(&fixed, "class"), [1; 24]);
    for (image, class) in predicted.iter().enumerate() {
        let of = |file: &std::collections::BTreeMap<String, Tensor>| values(&file["attribution"].get(image).unwrap());
        assert_eq!(of(&fixed) == of(&both), *class == 1, "image {image}");
    }
}

#[test]
fn overlays_stand_beside_their_images() {
    let place = Place::new();
    let common = format!("--checkpoint {} --images {}:images", fixture(CHECKPOINT), fixture(INPUTS));
    let line = format!("cam {common} --class 0 --out {} --png {}", place.arg("cam.safetensors"), place.arg("overlays"));
    // A second time into the same folder replaces them.
    for _ in 0..2 {
        succeeds(&words(&line));
    }
    assert_eq!(place.names(), ["cam.safetensors", "overlays"]);
    let mut names: Vec<_> =
        std::fs::read_dir(place.path("overlays")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 24);
    assert_eq!(names[7], "0007.png");
    let maps = tensors(place.path("cam.safetensors"));
    let map = values(&maps["cam_normalised"].get(0).unwrap());
    let panel = image::open(place.path("overlays/0000.png")).unwrap().to_rgb8();
    let (side, scale) = (panel.height(), panel.height() / 28);
    assert_eq!(panel.width(), 2 * side + 8);
    let change = |at: usize| {
        let (x, y) = ((at % 28) as u32 * scale, (at / 28) as u32 * scale);
        let (left, right) = (panel.get_pixel(x, y).0, panel.get_pixel(side + 8 + x, y).0);
        left.iter().zip(right).map(|(&a, b)| i32::from(a).abs_diff(i32::from(b))).sum::<u32>()
    };
    // Where the map is zero the image is untouched; where it is strongest it is not.
    let coldest = map.iter().position(|&value| value == 0.0);
    let hottest = map.iter().position(|&value| value == 1.0).unwrap();
    if let Some(coldest) = coldest {
        assert_eq!(change(coldest), 0);
    }
    assert!(change(hottest) > 60);
}

/// Sets of another image size whose activations are of one shape can be compared, though no batch holds both.
#[test]
fn images_of_another_size_with_the_same_activation_shape_are_accepted() {
    let place = Place::new();
    let inputs = fixture(INPUTS);
    let narrow = tensors(&inputs)["concept_striped"].narrow(3, 0, 27).unwrap().contiguous().unwrap();
    save(&place.path("narrow.safetensors"), &[("images", narrow)]);
    let out = place.arg("tcav.json");
    let line = format!(
        "tcav --checkpoint {} --images {inputs}:images --class 0 --concept narrow={}:images whole={inputs}:concept_striped \
         --random {inputs}:random_00 {inputs}:random_01 --json {out}",
        fixture(CHECKPOINT),
        place.arg("narrow.safetensors")
    );
    succeeds(&words(&line));
    let concepts = &json(&out)["concepts"];
    let effect = |name: &str| concepts[name]["effect"].as_f64().unwrap();
    let (narrow, whole) = (effect("narrow"), effect("whole"));
    assert!(narrow != whole && (narrow - whole).abs() < whole.abs(), "{narrow} {whole}");
}
