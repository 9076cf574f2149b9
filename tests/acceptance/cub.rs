//! Broken CUB folders: one call of `data cub` tells every fault by file and line, exit code 2; a run refuses them too.

use crate::support::{fails, succeeds, words};
use crate::tiny_cub;

#[test]
fn every_fault_of_a_folder_is_told_at_once() {
    let (_folder, root) = tiny_cub::folder();
    let line = format!("data cub {}", root.display());
    let told = succeeds(&words(&line));
    assert!(told.contains("64 images, 4 classes, 32/32 training/test, 4 concepts"), "{told}");
    assert!(told.contains("boxes inside images: all"), "{told}");
    let edit = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        assert!(text.contains(from), "{name} lacks {from}");
        std::fs::write(root.join(name), text.replacen(from, to, 1)).unwrap();
    };
    let photo = |name: &str| root.join("images/001.Ant_bird").join(name);
    let jpeg = std::fs::read(photo("00.jpg")).unwrap();
    std::fs::write(photo("00.jpg"), b"").unwrap();
    let mut corrupt = jpeg.clone();
    corrupt[4..60].fill(0);
    std::fs::write(photo("01.jpg"), corrupt).unwrap();
    std::fs::write(photo("02.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    std::fs::remove_file(photo("03.jpg")).unwrap();
    let photographs =
        ["00.jpg: is empty", "01.jpg: cannot be decoded", "02.jpg: is a truncated JPEG", "03.jpg: No such"];
    // Texts in order, photographs not.
    let error = fails(&words(&line));
    assert!(error.contains("4 faults in"), "{error}");
    for expected in photographs {
        assert!(error.contains(expected), "{expected}\nis not among\n{error}");
    }
    std::fs::remove_file(root.join("parts/parts.txt")).unwrap();
    edit("image_class_labels.txt", "5 1\n", "5 7\n");
    edit("bounding_boxes.txt", "\n6 4.0 9.0 16.0 12.0\n", "\n");
    edit("images.txt", "7 001.Ant_bird/06.jpg", "7 ../../06.jpg");
    edit("attributes/class_attribute_labels_continuous.txt", "80.0 5.0 80.0 5.0\n", "");
    let error = fails(&words(&line));
    let texts = [
        "parts/parts.txt: not found",
        "image_class_labels.txt:5: class 7 is not in classes.txt",
        "bounding_boxes.txt: image 6 (images.txt:6) has no box",
        "images.txt:7: the path `../../06.jpg` leaves the folder",
        "class_attribute_labels_continuous.txt: 199 rows, expected 200",
    ];
    for expected in texts.into_iter().chain(photographs) {
        assert!(error.contains(expected), "{expected}\nis not among\n{error}");
    }
    let out = root.join("out");
    let run = format!("run cub-small --set data.path={} --out {}", root.display(), out.display());
    let error = fails(&words(&run));
    assert!(texts.into_iter().all(|text| error.contains(text)), "{error}");
    assert!(!out.exists());
}

#[test]
fn a_missing_checkpoint_is_one_error() {
    let (_folder, root) = tiny_cub::folder();
    let out = root.join("out");
    let concepts = r#"data.cub.concepts=["has_hue_warm"]"#;
    let mut line = words(&format!("run cub-small --set data.path={} --set data.cub.classes=[]", root.display()));
    line.extend(words("--set data.validation=8 --set explain.cam_images=8 --set explain.images_per_set=4"));
    line.extend(["--set", concepts, "--set", "model.pretrained=none.pth", "--out"].map(str::to_owned));
    line.push(out.display().to_string());
    let error = fails(&line);
    assert!(error.contains("model.pretrained") && error.contains("none.pth"), "{error}");
    assert!(!out.exists());
}
