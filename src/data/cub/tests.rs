use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::data::{ConceptPlan, Normalisation, Pool, RandomKind, RandomSet, SplitSizes, concept_sets, split};

/// Three species (ids 1, 2, 5) with 8 photographs each, 4 attributes, 2 parts, image-level labels.
/// Species 1 and 2 have attribute 1; attribute 2 belongs to species 5; attribute 3 is too rare
/// among the 200; attribute 4 is at 50 % exactly, which is not above it.
fn tiny() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("CUB_200_2011");
    for sub in ["images/001.Ant_bird", "images/002.Bee_bird", "images/005.Cat_bird", "parts", "attributes"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    let [mut images, mut labels, mut split, mut boxes, mut parts, mut attributes] = [const { String::new() }; 6];
    for i in 0..24u32 {
        let (id, class, name) =
            (i + 1, [1, 2, 5][i as usize / 8], ["001.Ant_bird", "002.Bee_bird", "005.Cat_bird"][i as usize / 8]);
        writeln!(images, "{id} {name}/{i:02}.jpg").unwrap();
        writeln!(labels, "{id} {class}").unwrap();
        writeln!(split, "{id} {}", u32::from(i % 4 != 0)).unwrap();
        writeln!(boxes, "{id} 4.5 3.0 20.0 12.0").unwrap();
        writeln!(parts, "{id} 1 10.0 8.0 1\n{id} 2 0.0 0.0 0").unwrap();
        for attribute in 1..=4 {
            let present = u32::from((attribute == 1) == (i < 16));
            // One line has more fields, as two photographs of the original do.
            let more = if i == 3 { " 0 1.5" } else { "" };
            writeln!(attributes, "{id} {attribute} {present} {} 3.1{more}", 1 + i % 4).unwrap();
        }
        let picture =
            image::RgbImage::from_fn(32, 24, |x, y| image::Rgb([(x * 7) as u8, (y * 9) as u8, (i * 10) as u8]));
        picture.save(root.join("images").join(name).join(format!("{i:02}.jpg"))).unwrap();
    }
    let mut matrix = String::new();
    for class in 1..=200 {
        let row = [class <= 12 && class != 5, class >= 5, class < 10, true];
        let row = [row[0], row[1], row[2]].map(|v| if v { "80.5" } else { "3.0" });
        writeln!(matrix, "{} {} {} 50.0", row[0], row[1], row[2]).unwrap();
    }
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    write("classes.txt", "1 001.Ant_bird\n2 002.Bee_bird\n5 005.Cat_bird\n");
    write("images.txt", &images);
    write("image_class_labels.txt", &labels);
    write("train_test_split.txt", &split);
    write("bounding_boxes.txt", &boxes);
    write("parts/parts.txt", "1 left wing\n2 beak\n");
    write("parts/part_locs.txt", &parts);
    write("attributes/class_attribute_labels_continuous.txt", &matrix);
    write("attributes/image_attribute_labels.txt", &attributes);
    write(
        "../attributes.txt",
        "1 has_bill_shape::all-purpose\n2 has_size::small_(5_-_9_in)\n3 has_x::rare\n4 has_x::half\n",
    );
    (folder, root)
}

fn preprocess() -> Preprocess {
    Preprocess::new(Some(12), Normalisation::imagenet())
}

#[test]
fn a_folder_is_read_whole() {
    let (_folder, root) = tiny();
    let cub = read_cub(&root).unwrap();
    assert_eq!(cub.class_names(), ["Ant_bird", "Bee_bird", "Cat_bird"]);
    assert_eq!(cub.part_names(), ["left wing", "beak"]);
    assert_eq!(cub.images().len(), 24);
    assert_eq!(cub.images().iter().filter(|i| i.train).count(), 18);
    let image = &cub.images()[9];
    assert_eq!((image.id, image.class, image.train), (10, 1, true));
    assert_eq!(image.bounding_box, BoundingBox { left: 4.5, top: 3.0, right: 24.5, bottom: 15.0 });
    assert_eq!(image.parts, [Some((10.0, 8.0)), None]);
    assert_eq!(cub.check_pictures(), PictureCheck::default());
    // 32×24 to 16×12, centre 12×12.
    let place = cub.placements(&preprocess()).unwrap()[9];
    assert_eq!(image.bounding_box.placed(&place), BoundingBox { left: 0.25, top: 1.5, right: 10.25, bottom: 7.5 });
    let data = cub.dataset(&preprocess(), 1 << 20).unwrap();
    assert_eq!((data.len(), data.shape()), (24, (3, 12, 12)));
    assert_eq!(data.fine().values()[16..], [2; 8]);
    // attributes.txt is also found inside.
    std::fs::rename(root.join("../attributes.txt"), root.join("attributes/attributes.txt")).unwrap();
    assert_eq!(read_cub(&root).unwrap().attribute_names()[0], "has_bill_shape_allpurpose");
}

#[test]
fn concepts_are_denoised_and_certain() {
    let (_folder, root) = tiny();
    let cub = read_cub(&root).unwrap();
    assert_eq!(cub.denoised(), [0, 1]);
    let classes = cub.concepts(ConceptLevel::Class).unwrap();
    assert_eq!(classes.names(), ["has_bill_shape_allpurpose", "has_size_small_5__9_in"]);
    assert_eq!(classes.members(0), (0..16).collect::<Vec<_>>());
    assert_eq!(classes.others(0), (16..24).collect::<Vec<_>>());
    assert_eq!(classes.members(1), (16..24).collect::<Vec<_>>());
    // By image: every second pair of photographs has certainty 3 or 4.
    let images = cub.concepts(ConceptLevel::Image).unwrap();
    assert_eq!(images.members(0), [2, 3, 6, 7, 10, 11, 14, 15]);
    assert_eq!(images.others(0), [18, 19, 22, 23]);
    std::fs::remove_file(root.join("attributes/image_attribute_labels.txt")).unwrap();
    let cub = read_cub(&root).unwrap();
    assert!(cub.concepts(ConceptLevel::Image).unwrap_err().to_string().contains("image_attribute_labels.txt"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_within_the_folder_alone() {
    use std::os::unix::fs::symlink;

    let (folder, root) = tiny();
    // The folder itself may be a link, and links within it lead where they should.
    let link = folder.path().join("link");
    symlink(&root, &link).unwrap();
    let (own, other) = (root.join("images/001.Ant_bird/00.jpg"), root.join("images/001.Ant_bird/01.jpg"));
    std::fs::remove_file(&own).unwrap();
    symlink(&other, &own).unwrap();
    read_cub(&link).unwrap();
    let moved = folder.path().join("moved");
    for name in ["images/002.Bee_bird", "images/005.Cat_bird/16.jpg", "parts/parts.txt"] {
        let own = root.join(name);
        std::fs::rename(&own, &moved).unwrap();
        symlink(&moved, &own).unwrap();
        let error = read_cub(&link).unwrap_err().to_string();
        let named = name.trim_start_matches("images/");
        assert!(error.contains(named) && error.contains("leads out of the data folder"), "{error}");
        std::fs::remove_file(&own).unwrap();
        std::fs::rename(&moved, &own).unwrap();
    }
    read_cub(&link).unwrap();
}

#[test]
fn concept_sets_leave_out_the_class_under_test() {
    let (_folder, root) = tiny();
    let cub = read_cub(&root).unwrap();
    let data = cub.dataset(&preprocess(), 0).unwrap();
    let splits = split(&data, SplitSizes { train: None, validation: Some(3), test: None }, 0).unwrap();
    let plan = ConceptPlan { pool: Pool::Train, random: RandomKind::SamePool, images_per_set: 3, random_sets: 2 };
    let table = cub.concepts(ConceptLevel::Class).unwrap().select(&["has_bill_shape_allpurpose".into()]).unwrap();
    let sets = concept_sets(&data, &table, &splits, &plan, &[], Some(0), 0).unwrap();
    assert!(sets.concepts[0].images.iter().all(|&i| cub.images()[i].class == 1));
    for set in &sets.random {
        let RandomSet::Images(images) = set else { panic!() };
        assert!(images.iter().all(|&i| cub.images()[i].class != 0));
    }
}

#[test]
fn some_species_are_selected_with_all_that_is_theirs() {
    let (_folder, root) = tiny();
    let cub = read_cub(&root).unwrap().select(&["Cat_bird".into(), "Bee_bird".into()]).unwrap();
    assert_eq!(cub.class_names(), ["Bee_bird", "Cat_bird"]);
    assert_eq!(cub.images().iter().map(|i| (i.id, i.class)).collect::<Vec<_>>()[7..9], [(16, 0), (17, 1)]);
    assert_eq!(cub.class_attribute(1, 0), 3.0);
    assert_eq!(cub.denoised(), [0, 1]);
    assert_eq!(cub.concepts(ConceptLevel::Image).unwrap().members(0), [2, 3, 6, 7]);
    let error = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        read_cub(&root).unwrap().select(&names).unwrap_err().to_string()
    };
    assert!(error(&["Dodo"]).contains("no species `Dodo`"));
    assert!(error(&["Bee_bird"]).contains("at least 2"));
}

#[test]
fn every_fault_is_found_in_one_pass_by_file_and_line() {
    let (_folder, root) = tiny();
    let edit = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        assert!(text.contains(from), "{name} lacks {from}");
        std::fs::write(root.join(name), text.replacen(from, to, 1)).unwrap();
    };
    edit("images.txt", "3 001.Ant_bird/02.jpg", "3 ../../etc/passwd");
    edit("images.txt", "4 001.Ant_bird/03.jpg", "4 /etc/passwd");
    edit("image_class_labels.txt", "5 1\n", "5 7\n");
    edit("image_class_labels.txt", "6 1\n", "6 x\n");
    edit("train_test_split.txt", "7 1\n", "7 2\n");
    edit("bounding_boxes.txt", "8 4.5 3.0 20.0 12.0\n", "");
    edit("bounding_boxes.txt", "9 4.5 3.0 20.0 12.0\n", "9 4.5 3.0 0.0 12.0\n");
    edit("bounding_boxes.txt", "10 4.5 3.0 20.0 12.0\n", "10 4.5 NaN 20.0\n");
    edit("bounding_boxes.txt", "11 4.5 3.0 20.0 12.0\n", "12 4.5 3.0 20.0 12.0\n");
    edit("classes.txt", "5 005.Cat_bird\n", "5 005.Cat_bird\n300 300.Nobird\n");
    edit("parts/part_locs.txt", "13 1 10.0 8.0 1", "13 9 10.0 8.0 1");
    edit("parts/part_locs.txt", "14 1 10.0 8.0 1", "99 1 10.0 8.0 1");
    edit("attributes/class_attribute_labels_continuous.txt", "80.5 3.0 80.5 50.0\n", "");
    edit("attributes/class_attribute_labels_continuous.txt", "80.5 3.0 80.5 50.0\n", "80.5 3.0 80.5\n");
    edit("attributes/class_attribute_labels_continuous.txt", "80.5 3.0 80.5 50.0\n", "80.5 3.0 180.5 50.0\n");
    edit("attributes/image_attribute_labels.txt", "15 1 1 3 3.1\n", "15 1 1 5 3.1\n");
    edit("attributes/image_attribute_labels.txt", "15 2 0 3 3.1\n", "15 2 0 3\n");
    let Error::Faults { faults, .. } = read_cub(&root).unwrap_err() else { panic!() };
    let expected = [
        "images.txt:3: the path `../../etc/passwd` leaves the folder",
        "images.txt:4: the path `/etc/passwd` leaves the folder",
        "image_class_labels.txt:5: class 7 is not in classes.txt",
        "image_class_labels.txt:6: `x` is not a class id",
        "train_test_split.txt:7: `2` is neither 0 nor 1",
        "bounding_boxes.txt: image 8 (images.txt:8) has no box",
        "bounding_boxes.txt:8: the box `4.5 3.0 0.0 12.0` is empty",
        "bounding_boxes.txt:9: `NaN` is not finite",
        "bounding_boxes.txt:11: id 12 is given twice",
        "classes.txt:4: class id 300 is not from 1 to 200",
        "parts/part_locs.txt:25: part 9 is not in",
        "parts/part_locs.txt:27: image 99 is not in",
        "class_attribute_labels_continuous.txt:1: 3 values for 4 attributes",
        "class_attribute_labels_continuous.txt:2: 180.5 is not a percentage",
        "class_attribute_labels_continuous.txt: 199 rows, expected 200",
        "image_attribute_labels.txt:57: certainty 5 is not in 1..=4",
        "image_attribute_labels.txt:58: `15 2 0 3` has fewer than 5 fields",
    ];
    for expected in expected {
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}\nis not among\n{}", faults.join("\n"));
    }
}

#[test]
fn missing_files_are_all_named() {
    let (_folder, root) = tiny();
    for name in
        ["classes.txt", "parts/parts.txt", "attributes/class_attribute_labels_continuous.txt", "../attributes.txt"]
    {
        std::fs::remove_file(root.join(name)).unwrap();
    }
    std::fs::write(root.join("bounding_boxes.txt"), "").unwrap();
    let Error::Faults { faults, .. } = read_cub(&root).unwrap_err() else { panic!() };
    let expected = [
        "classes.txt: not found",
        "bounding_boxes.txt: is empty",
        "parts/parts.txt: not found",
        "attributes.txt: not found",
        "attributes/class_attribute_labels_continuous.txt: not found",
    ];
    assert_eq!(faults, expected);
    assert!(read_cub(&root.join("nowhere")).unwrap_err().to_string().contains("is not a folder"));
    // A table of nonsense does not drown the rest.
    std::fs::write(root.join("images.txt"), "nonsense\n".repeat(1000)).unwrap();
    let Error::Faults { faults, .. } = read_cub(&root).unwrap_err() else { panic!() };
    assert!(faults.iter().filter(|f| f.starts_with("images.txt")).count() == 21 && faults.len() < 150);
    assert!(faults.contains(&"images.txt: 980 more faults".to_string()));
}

#[test]
fn broken_photographs_are_all_named() {
    let (_folder, root) = tiny();
    let images = root.join("images");
    let jpeg = std::fs::read(images.join("001.Ant_bird/00.jpg")).unwrap();
    std::fs::write(images.join("001.Ant_bird/00.jpg"), b"").unwrap();
    std::fs::write(images.join("001.Ant_bird/01.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    std::fs::remove_file(images.join("002.Bee_bird/08.jpg")).unwrap();
    image::RgbImage::new(12, 16).save(images.join("005.Cat_bird/23.jpg")).unwrap();
    image::RgbImage::new(22, 24).save(images.join("005.Cat_bird/22.jpg")).unwrap();
    let PictureCheck { faults, cut_boxes } = read_cub(&root).unwrap().check_pictures();
    assert_eq!(cut_boxes, [23]);
    let expected =
        ["00.jpg: is empty", "01.jpg: is a truncated JPEG", "08.jpg: No such file", "23.jpg: the box of image 24 ends"];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}");
    }
    let error = read_cub(&root).unwrap().dataset(&preprocess(), 0).unwrap_err().to_string();
    assert!(error.contains("00.jpg: is empty") && error.contains("08.jpg"), "{error}");
}

#[test]
fn the_papers_concepts_are_built_in() {
    let concepts = paper_concepts();
    assert_eq!(concepts.len(), 11);
    assert_eq!(concepts["Rusty_Blackbird"].len(), 4);
}

#[test]
fn real_folder() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/cub50/CUB_200_2011"));
    if !root.is_dir() {
        eprintln!("skipped: {} is absent", root.display());
        return;
    }
    let cub = read_cub(root).unwrap();
    assert_eq!((cub.images().len(), cub.class_names().len()), (2_889, 50));
    assert_eq!(cub.images().iter().filter(|i| i.train).count(), 1_500);
    assert_eq!((cub.attribute_names().len(), cub.denoised().len()), (312, 108));
    let check = cub.check_pictures();
    assert_eq!(check.faults, [""; 0]);
    // Four boxes of the original leave their photographs by a few pixels.
    assert_eq!(check.cut_boxes, [960, 976, 999, 1218]);
    let table = cub.concepts(ConceptLevel::Class).unwrap();
    for (species, concepts) in paper_concepts() {
        assert!(cub.class_names().contains(&species), "{species}");
        table.select(&concepts).unwrap();
    }
    let names = ["Rusty_Blackbird", "Crested_Auklet"].map(String::from);
    let small = cub.select(&names).unwrap();
    let data = small.dataset(&Preprocess::new(Some(64), Normalisation::imagenet()), 1 << 30).unwrap();
    let splits = split(&data, SplitSizes { train: None, validation: Some(10), test: None }, 0).unwrap();
    assert_eq!(splits.train.len() + 10, 60);
    data.batch(&splits.test, &candle_core::Device::Cpu).unwrap();
    let places = small.placements(&Preprocess::new(Some(64), Normalisation::imagenet())).unwrap();
    for (image, place) in small.images().iter().zip(&places) {
        assert!(image.bounding_box.placed(place).area() > 0.0, "{}", image.id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn random_text_never_panics(which in 0usize..9, bytes in prop::collection::vec(prop_oneof![Just(b'1'), Just(b' '), Just(b'\n'), Just(b'.'), Just(b'-'), any::<u8>()], 0..200)) {
        let (_folder, root) = tiny();
        let names = ["classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "parts/parts.txt",
            "parts/part_locs.txt", "attributes/class_attribute_labels_continuous.txt", "attributes/image_attribute_labels.txt"];
        std::fs::write(root.join(names[which]), bytes).unwrap();
        if let Ok(cub) = read_cub(&root) {
            cub.concepts(ConceptLevel::Class).unwrap();
        }
    }
}
