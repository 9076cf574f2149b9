//! A folder in CUB's layout, made at test time: four species of coloured rectangles, 8 training and
//! 8 test photographs each.

use std::fmt::Write;
use std::path::PathBuf;

/// Species with their ids, and the colour of each.
pub(crate) const SPECIES: [(u32, &str, [u8; 3]); 4] = [
    (1, "Ant_bird", [220, 40, 40]),
    (2, "Bee_bird", [220, 220, 40]),
    (5, "Cat_bird", [40, 40, 220]),
    (9, "Dog_bird", [40, 200, 220]),
];

/// Attributes 1 to 4 and the species that show them; the other is lacked altogether.
pub(crate) const ATTRIBUTES: [(&str, [u32; 2]); 4] =
    [("has_hue::warm", [1, 2]), ("has_hue::cold", [5, 9]), ("has_x::odd", [1, 9]), ("has_x::even", [2, 5])];

/// Photographs of each species.
const EACH: u32 = 16;

/// The folder; it lives as long as the first value.
pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("CUB_200_2011");
    let [mut classes, mut images, mut labels, mut split, mut boxes, mut parts] = [const { String::new() }; 6];
    for sub in ["parts", "attributes"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    let mut id = 0;
    for (species, name, colour) in SPECIES {
        let name = format!("{species:03}.{name}");
        writeln!(classes, "{species} {name}").unwrap();
        std::fs::create_dir_all(root.join("images").join(&name)).unwrap();
        for number in 0..EACH {
            id += 1;
            // The bird is a rectangle whose place changes from one photograph to the next.
            let (left, top) = (4 + number % 5, 4 + number % 7);
            let picture = image::RgbImage::from_fn(36, 28, |x, y| {
                let bird = (left..left + 16).contains(&x) && (top..top + 12).contains(&y);
                let grain = ((x * 7 + y * 13 + id * 29) % 40) as u8;
                image::Rgb(if bird { colour } else { [100 + grain; 3] })
            });
            picture.save(root.join("images").join(&name).join(format!("{number:02}.jpg"))).unwrap();
            writeln!(images, "{id} {name}/{number:02}.jpg").unwrap();
            writeln!(labels, "{id} {species}").unwrap();
            writeln!(split, "{id} {}", number % 2).unwrap();
            writeln!(boxes, "{id} {left}.0 {top}.0 16.0 12.0").unwrap();
            writeln!(parts, "{id} 1 {}.0 {}.0 1\n{id} 2 0.0 0.0 0", left + 8, top + 2).unwrap();
        }
    }
    let mut matrix = String::new();
    // Rows of species that have no photographs make the attributes frequent enough.
    for class in 1..=200u32 {
        let shown = |with: [u32; 2]| if class > 100 || with.contains(&class) { "80.0" } else { "5.0" };
        let row: Vec<&str> = ATTRIBUTES.iter().map(|(_, with)| shown(*with)).collect();
        writeln!(matrix, "{}", row.join(" ")).unwrap();
    }
    let names: String = (ATTRIBUTES.iter().zip(1..)).map(|((name, _), id)| format!("{id} {name}\n")).collect();
    for (file, text) in [
        ("classes.txt", classes),
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("train_test_split.txt", split),
        ("bounding_boxes.txt", boxes),
        ("parts/parts.txt", "1 back\n2 beak\n".to_owned()),
        ("parts/part_locs.txt", parts),
        ("attributes/class_attribute_labels_continuous.txt", matrix),
        ("../attributes.txt", names),
    ] {
        std::fs::write(root.join(file), text).unwrap();
    }
    (folder, root)
}
