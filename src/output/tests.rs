//! Outputs whole or not at all, through links, beside what others have left.

use super::*;

fn inputs(path: &Path) -> Inputs {
    let mut inputs = Inputs::none();
    inputs.add(path);
    inputs
}

#[test]
fn an_unfinished_output_leaves_nothing_and_a_finished_one_replaces_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, "old").unwrap();
    let mut output = Output::create(&path, &Inputs::none()).unwrap();
    output.write_at(0, b"new").unwrap();
    drop(output);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    write(&path, b"new", &Inputs::none()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A name of 255 bytes leaves no room for a longer temporary one.
    write(&folder.path().join("n".repeat(255)), b"x", &Inputs::none()).unwrap();
}

#[cfg(unix)]
#[test]
fn inputs_are_kept_through_links_of_both_kinds() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("pictures")).unwrap();
    fs::write(at("pictures/a.png"), "kept").unwrap();
    symlink(at("pictures/a.png"), at("soft")).unwrap();
    fs::hard_link(at("pictures/a.png"), at("hard")).unwrap();
    let read = inputs(&at("pictures"));
    for name in ["pictures/a.png", "soft", "hard", "pictures/../soft"] {
        let error = write(&at(name), b"lost", &read).unwrap_err().to_string();
        assert!(error.contains("an input"), "{error}");
    }
    assert_eq!(fs::read(at("hard")).unwrap(), b"kept");
    let pictures = OutputFolder::create(&at("pictures"), &read).unwrap();
    assert!(pictures.path("a.png").is_err() && pictures.path("b.png").is_ok());
}

#[cfg(unix)]
#[test]
fn links_stay_links_and_pipes_are_written_to() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // One to a file that does not exist yet, by way of another, and relative.
    symlink("second", at("first")).unwrap();
    symlink("real", at("second")).unwrap();
    write(&at("first"), b"new", &Inputs::none()).unwrap();
    assert!(at("first").is_symlink() && at("second").is_symlink());
    assert_eq!(fs::read(at("real")).unwrap(), b"new");
    symlink("circle", at("circle")).unwrap();
    assert!(write(&at("circle"), b"new", &Inputs::none()).unwrap_err().to_string().contains("circle"));
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no mkfifo");
        return;
    }
    let pipe = at("pipe");
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    write(&at("pipe"), b"through", &Inputs::none()).unwrap();
    assert_eq!(reader.join().unwrap(), b"through");
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    assert!(write(Path::new("/dev/full"), b"x", &Inputs::none()).is_err() || !Path::new("/dev/full").exists());
}

/// What a killed process has left is swept; what a living one is writing, of whatever number, is not.
#[test]
fn parts_of_the_living_stay_and_those_of_the_dead_go() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("inner")).unwrap();
    for name in [".a.99.part", "inner/.b.7.part", "inner/kept.part", ".c.part"] {
        fs::write(at(name), "half").unwrap();
    }
    let mut first = Output::create(&at("x"), &Inputs::none()).unwrap();
    first.write_at(0, b"first").unwrap();
    // The same name from the same process number, as two containers have it.
    let mut second = Output::create(&at("x"), &Inputs::none()).unwrap();
    second.write_at(0, b"second").unwrap();
    assert_eq!(sweep(folder.path()).unwrap(), 2);
    second.finish().unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"second");
    first.finish().unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"first");
    assert!(at("inner/kept.part").exists() && at(".c.part").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    // Left by a killed process of this very number.
    fs::write(temporary_beside(&at("x"), 0).unwrap(), "half").unwrap();
    write(&at("x"), b"third", &Inputs::none()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}
