use std::path::Path;

use super::*;
use crate::data::Task;

/// Grey pictures that differ by name alone.
fn picture(root: &Path, name: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let byte = |i: u32| name.bytes().fold(i, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) as u8;
    image::GrayImage::from_fn(8, 8, |x, y| image::Luma([byte(8 * y + x)])).save(path).unwrap();
}

fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    names.iter().for_each(|name| picture(folder.path(), name));
    folder
}

fn plan(root: &Path, text: &str) -> DataPlan {
    let text = format!("source = \"folder\"\npath = {:?}\n{text}", root.display().to_string());
    toml::from_str(&text).unwrap()
}

fn load_from(root: &Path, text: &str) -> Result<Loaded> {
    let plan = plan(root, &format!("{text}\n[folder]\nside = 8"));
    plan.check(Pool::Validation).and_then(|()| plan.load(0))
}

fn table(loaded: Loaded) -> ConceptTable {
    let Concepts::Table(table) = loaded.concepts else { panic!("every class is tested for every concept") };
    table
}

const CLASSES: &str = "task = \"classes\"";
const TWO: [&str; 4] = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"];

#[test]
fn concepts_are_attributes_or_subfolders_or_classes() {
    let root = folder(&TWO);
    let loaded = load_from(root.path(), CLASSES).unwrap();
    assert!(matches!(loaded.augmentation, Some(Augmentation { flip: true, .. })));
    assert_eq!(table(loaded).names(), ["a", "b"]);
    let csv = "image,striped,winged\na/1.png,1,0\n./a/2.png,,1\nb\\1.png, yes,-1\n";
    std::fs::write(root.path().join("attributes.csv"), csv).unwrap();
    let attributes = table(load_from(root.path(), CLASSES).unwrap());
    assert_eq!(attributes.names(), ["striped", "winged"]);
    assert_eq!([attributes.members(0), attributes.others(0)], [&[0, 2][..], &[]]);
    assert_eq!([attributes.members(1), attributes.others(1)], [&[1][..], &[0, 2]]);
    // Where there is a table, a plan can still ask for the classes.
    let asked = plan(root.path(), "task = \"classes\"\n[folder]\nside = 8\nconcepts = \"classes\"").load(0).unwrap();
    assert_eq!(table(asked).names(), ["a", "b"]);
    let deeper = folder(&["animal/bird/1.png", "animal/cat/1.png", "vehicle/car/1.png", "vehicle/cat/1.png"]);
    let kinds = table(load_from(deeper.path(), CLASSES).unwrap());
    assert_eq!(kinds.names(), ["bird", "car", "cat"]);
    assert_eq!([kinds.members(2), kinds.others(2)], [[1, 3], [0, 2]]);
}

#[test]
fn groups_learn_classes_together_and_keep_them_as_concepts() {
    let root = folder(&["bird/1.png", "car/1.png", "cat/1.png", "stone/1.png"]);
    let task = "task = { animal = [\"bird\", \"cat\"], vehicle = [\"car\"] }";
    let loaded = load_from(root.path(), task).unwrap();
    assert_eq!(loaded.images.labels().names(), ["animal", "vehicle"]);
    assert_eq!(loaded.images.labels().values(), [0, 1, 0]);
    assert_eq!(table(loaded).names(), ["bird", "car", "cat"]);
    // Attributes follow the images that are left.
    let csv = "image,red\nstone/1.png,1\ncat/1.png,1\ncar/1.png,0\n";
    std::fs::write(root.path().join("attributes.csv"), csv).unwrap();
    let red = table(load_from(root.path(), task).unwrap());
    assert_eq!([red.members(0), red.others(0)], [[2], [1]]);
    let Task::Groups(_) = plan(root.path(), task).task else { panic!() };
    let error = load_from(root.path(), "task = { a = [\"birds\"], b = [\"car\"] }").err().unwrap().to_string();
    assert!(error.contains("no class `birds`; did you mean `bird`?"), "{error}");
}

#[test]
fn faults_of_splits_are_named() {
    let root = folder(&["train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png", "test/a/3.png"]);
    let error = || load_from(root.path(), CLASSES).err().unwrap().to_string();
    assert_eq!(error(), "class `b` has no test pictures");
    picture(root.path(), "test/b/3.png");
    let loaded = load_from(root.path(), CLASSES).unwrap();
    let count = |origin| loaded.images.origins().iter().filter(|&&of| of == origin).count();
    assert_eq!([Origin::Train, Origin::Validation, Origin::Test].map(count), [2, 2, 2]);
    std::fs::copy(root.path().join("train/a/1.png"), root.path().join("test/a/x.png")).unwrap();
    assert!(error().contains("train/a/1.png and test/a/x.png are the same picture in two splits"), "{}", error());
    // In one split a copy is left out of training, as everywhere.
    std::fs::rename(root.path().join("test/a/x.png"), root.path().join("train/a/x.png")).unwrap();
    assert_eq!(load_from(root.path(), CLASSES).unwrap().images.len(), 7);
    std::fs::remove_file(root.path().join("train/b/1.png")).unwrap();
    assert!(error().contains("train/b: holds no pictures: the folder is empty"), "{}", error());
}

#[test]
fn faults_of_the_table_are_named_by_line() {
    let root = folder(&TWO);
    let error = |csv: &str| {
        std::fs::write(root.path().join("attributes.csv"), csv).unwrap();
        load_from(root.path(), CLASSES).err().unwrap().to_string()
    };
    let one = error("image,red\na/1.png,1\na/3.png,1\n");
    assert!(one.ends_with("attributes.csv:3: there is no picture `a/3.png`; did you mean `a/1.png`?"), "{one}");
    let one = error("image,red,blue\na/1.png,1,0\n");
    assert!(one.ends_with("attributes.csv: attribute `blue`: no picture shows it"), "{one}");
    let many = error("image,red\na/1.png,1\na/1.png,0\nb/1.png\nb/2.png,2\n");
    for what in [
        "3 faults",
        ":3: `a/1.png` stands in line 2 already",
        ":4: 1 values, the first line has 2",
        ":5: `red`: `2` is not",
    ] {
        assert!(many.contains(what), "{what} is not in {many}");
    }
    assert!(error("image\na/1.png\n").contains("line 1: the first column names pictures"));
    assert!(error("image,red,red\na/1.png,1,1\n").contains("`red` is given twice"));
    assert!(error("").contains("line 1"));
    std::fs::write(root.path().join("attributes.csv"), b"image,red\n\xff,1\n").unwrap();
    assert!(load_from(root.path(), CLASSES).err().unwrap().to_string().contains("CSV table in UTF-8"));
    let text = "task = \"classes\"\n[folder]\nside = 8\nattributes = \"nowhere.csv\"";
    assert!(plan(root.path(), text).load(0).err().unwrap().to_string().contains("nowhere.csv: No such file"));
}

#[test]
fn plans_are_checked_without_the_folder() {
    let error = |text: &str| plan(Path::new("x"), text).check(Pool::Test).unwrap_err().to_string();
    assert!(error("task = \"classes\"\n[folder]\nchannels = 2").contains("data.folder.channels"));
    assert!(error("task = \"classes\"\n[folder]\nside = 0").contains("data.folder.side"));
    assert!(error("task = \"classes\"\n[folder]\nmin_area = 0").contains("data.folder.min_area"));
    let both = "task = \"classes\"\n[folder]\nconcepts = \"classes\"\nattributes = \"a.csv\"";
    assert!(error(both).contains("data.folder.attributes"));
    assert!(error("task = \"classes\"\n[idx]").contains("data.idx"));
}
