//! A study of a folder of pictures, from a plan of two lines.

use std::fmt::Write;

use ticketlens::records::Store;

use crate::support::{Place, fails, succeeds, words};

/// 64 pictures of discs and crosses in two colours, in folders by shape, with a table of their colours and sides.
fn pictures(place: &Place) {
    let mut table = String::from("image,red,left\n");
    for index in 0..64u32 {
        let (cross, red, left) = (index % 2 == 1, index / 2 % 2 == 1, index / 4 % 2 == 1);
        let (x0, y0) = (if left { 5 } else { 11 }, 4 + index % 8);
        let paint = if red { [220, 40, 40] } else { [40, 40, 220] };
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let (dx, dy) = (x.abs_diff(x0), y.abs_diff(y0));
            let inside = if cross { dx.max(dy) <= 3 && dx.min(dy) == 0 } else { dx * dx + dy * dy <= 9 };
            image::Rgb(if inside { paint } else { [index as u8, 100, 100] })
        });
        let name = format!("{}/{index}.png", if cross { "cross" } else { "disc" });
        let path = place.path("pictures").join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
        writeln!(table, "{name},{},{}", u8::from(red), u8::from(left)).unwrap();
    }
    std::fs::write(place.path("pictures").join("attributes.csv"), table).unwrap();
}

const SMALL: [&str; 17] = [
    "replicates=2",
    "floor.twins=1",
    "data.folder.side=16",
    "data.validation=24",
    "data.test=16",
    "model.width=2",
    "prune.rounds=1",
    "train.epochs=2",
    "train.batch_size=8",
    "train.warmup_steps=0",
    "explain.cam_images=8",
    "explain.class_images=4",
    "explain.images_per_set=4",
    "explain.random_sets=20",
    "explain.cav=mean_difference",
    "statistics.permutations=199",
    "statistics.bootstrap=99",
];

#[test]
fn two_lines_make_a_study_of_a_folder_of_pictures() {
    let place = Place::new();
    pictures(&place);
    let plan =
        place.write("plan.toml", format!("preset = \"folder\"\ndata.path = {:?}\n", place.arg("pictures")).as_bytes());
    let mut line = words(&format!("run {plan} --out {}", place.arg("run")));
    line.extend(SMALL.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]));
    let told = succeeds(&line);
    assert!(told.contains("Run "), "{told}");
    let store = Store::existing(&place.path("run")).unwrap();
    let (manifest, plan) = (store.manifest().unwrap(), store.plan().unwrap());
    assert_eq!(manifest.classes, ["cross", "disc"]);
    assert_eq!(manifest.concepts, ["red", "left"]);
    assert_eq!(manifest.images, [24, 24, 16]);
    assert_eq!((plan.data.source.name, plan.name.as_str()), ("folder", "folder"));
    // A run does not go on with other concepts than it began with.
    let table = place.path("pictures").join("attributes.csv");
    let swapped = std::fs::read_to_string(&table).unwrap().replacen("red,left", "left,red", 1);
    std::fs::write(&table, swapped).unwrap();
    let error = fails(&line);
    assert!(error.contains("the data have changed"), "{error}");
    // A fault of the table ends the run before it begins.
    std::fs::write(&table, "image,red\ndisc/1.png,1\n").unwrap();
    line[3] = place.arg("other");
    let error = fails(&line);
    assert!(error.contains("attributes.csv:2: there is no picture `disc/1.png`"), "{error}");
    assert!(!place.path("other").exists());
}

#[test]
fn a_plan_over_a_preset_names_its_faults() {
    let place = Place::new();
    let error = |text: &str| fails(&words(&format!("run {}", place.write("plan.toml", text.as_bytes()))));
    assert!(error("preset = \"folders\"\n").contains("did you mean `folder`?"));
    assert!(error("preset = 3\n").contains("`preset` is the name of one"));
    assert!(error("preset = \"folder\"\n").contains("`data.path`: is missing"));
    let unknown = error("preset = \"folder\"\ndata.paht = \"x\"\n");
    assert!(
        unknown.contains("plan.toml: unknown field `paht`") && unknown.contains("did you mean `path`?"),
        "{unknown}"
    );
}
