//! The pages in headless Chromium (tests/browser/page.mjs): skips with a reason where node or Chromium is absent.

use std::path::{Path, PathBuf};
use std::process::Command;

use ticketlens::report::{compare, html};

use super::fake;

fn found(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders = std::env::split_paths(&path);
    folders.find_map(|folder| names.iter().map(|name| folder.join(name)).find(|candidate| candidate.is_file()))
}

#[test]
fn pages_work_in_a_browser() {
    let (Some(node), Some(chromium)) = (found(&["node"]), found(&["chromium", "chromium-browser", "google-chrome"]))
    else {
        // In CI both are installed; a missing browser there must not pass in silence.
        assert!(std::env::var_os("TICKETLENS_NEED_BROWSER").is_none(), "node or chromium is not installed");
        println!("skipped: node or chromium is not installed (apt-get install -y nodejs chromium)");
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, page: String| {
        let path = folder.join(name);
        std::fs::write(&path, page).unwrap();
        path
    };
    let quick = fake::study(&fake::QUICK);
    let controls = fake::study(&fake::CONTROLS);
    let mut evil = fake::study(&fake::QUICK);
    evil.manifest.classes[1] = "<script>document.title='broken'</script>".into();
    let pages = [
        write("quick.html", html::render(&quick).unwrap()),
        write("controls.html", html::render(&controls).unwrap()),
        write("large.html", html::render(&fake::study(&fake::LARGE)).unwrap()),
        write("evil.html", html::render(&evil).unwrap()),
        write("compare.html", compare::html(&[quick.clone(), controls.clone()]).unwrap()),
        write("drift.html", super::drift_page()),
    ];
    let output = Command::new(node)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/page.mjs"))
        .arg(chromium)
        .arg(folder.join("screenshots"))
        .args(&pages)
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
