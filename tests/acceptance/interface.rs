//! Help, versions, quiet, colour, and where messages go.

use assert_cmd::Command;

use crate::support::{Place, fixture, program, words};

fn bare(arguments: &[&str]) -> std::process::Output {
    Command::cargo_bin("ticketlens").unwrap().args(arguments).output().unwrap()
}

#[test]
fn every_command_has_help_with_an_example_that_it_accepts() {
    for command in ["predict", "cam", "tcav", "prune"] {
        let output = bare(&[command, "--help"]);
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        let example = help.split("Example:").nth(1).unwrap_or_else(|| panic!("{command} has no example"));
        let example = example.replace("\\\n", " ").replace("random-sets/*", "random-sets/0 random-sets/1");
        let example = words(&example);
        assert_eq!(example[..2], ["ticketlens", command]);
        // Its files do not exist, so it fails; but not over its flags.
        let output = bare(&example[1..].iter().map(String::as_str).collect::<Vec<_>>());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains(".pth: No such file"), "{error}");
        assert!(!help.contains('\u{1b}'), "colour where nobody sees it");
    }
}

#[test]
fn help_names_every_preset() {
    let help = String::from_utf8(bare(&["run", "--help"]).stdout).unwrap();
    let help: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, _) in ticketlens::plan::PRESETS {
        assert!(help.contains(&format!("{name},")) || help.contains(&format!("{name})")), "{name}: {help}");
    }
}

#[test]
fn version_and_usage() {
    let output = bare(&["--version"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), concat!("ticketlens ", env!("CARGO_PKG_VERSION"), "\n"));
    let output = bare(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage:"));
}

fn tcav(place: &Place, more: &str) -> std::process::Output {
    let inputs = fixture("oracle/resnet18_mnist/inputs.safetensors");
    let line = format!(
        "tcav --checkpoint {} --images {inputs}:images --class 0 --concept a={inputs}:concept_striped --random \
         {inputs}:random_00 {inputs}:random_01 {inputs}:random_02 --json {} {more}",
        fixture("oracle/resnet18_mnist/checkpoint.safetensors"),
        place.arg("tcav.json")
    );
    program(&words(&line)).output().unwrap()
}

#[test]
fn a_set_count_that_cannot_reach_the_level_is_a_warning_that_names_the_smallest_p() {
    let place = Place::new();
    let output = tcav(&place, "");
    assert!(output.status.success());
    let warning = String::from_utf8(output.stderr).unwrap();
    assert_eq!(warning.lines().count(), 1, "{warning}");
    assert!(warning.starts_with("warning: 3 random sets cannot reach the level 0.05"), "{warning}");
    assert!(warning.contains("0.2500") && warning.contains("19 sets"), "{warning}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("held-out") && table.lines().count() == 6, "{table}");
    assert!(!table.contains('\u{1b}'));
    assert!(tcav(&place, "--alpha 0.3").stderr.is_empty());
}

#[test]
fn quiet_says_nothing() {
    let place = Place::new();
    let output = tcav(&place, "--quiet");
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(place.names(), ["tcav.json"]);
}

#[test]
fn random_sets_given_twice_or_of_another_size_are_warned_of() {
    let place = Place::new();
    let inputs = fixture("oracle/resnet18_mnist/inputs.safetensors");
    let output = tcav(&place, &format!("--alpha 0.5 --random {inputs}:random_02"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("random_02 is given twice"));
    let output = tcav(&place, &format!("--alpha 0.5 --random {inputs}:images"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("sets hold 20 to 24 images"));
}

#[test]
fn a_device_can_be_written_to() {
    let inputs = fixture("oracle/resnet18_mnist/inputs.safetensors");
    let line = format!(
        "predict --checkpoint {} --images {inputs}:images --out /dev/null",
        fixture("oracle/resnet18_mnist/checkpoint.safetensors")
    );
    assert!(program(&words(&line)).output().unwrap().status.success());
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file(), "/dev/null was replaced");
}
