//! Reports from a made-up study: stable bytes, escaping, size, and the forms for other tools.

mod fake;

use std::time::Instant;

use ticketlens::report::html;

#[test]
fn the_largest_report_is_small_and_quick() {
    let study = fake::study(&fake::LARGE);
    let started = Instant::now();
    let page = html::render(&study).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "35 rounds x 3 replicates: {} bytes in {seconds:.2} s",
        page.len()
    );
    assert!(page.len() < 15_000_000, "{} bytes", page.len());
    assert!(seconds < 5.0, "{seconds} s");
}

/// Writes the pages that the browser test opens: `cargo test --test suite pages_for_a_browser`.
#[test]
fn pages_for_a_browser() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, shape) in [
        ("quick", &fake::QUICK),
        ("controls", &fake::CONTROLS),
        ("large", &fake::LARGE),
    ] {
        let page = html::render(&fake::study(shape)).unwrap();
        std::fs::write(folder.join(format!("{name}.html")), &page).unwrap();
        println!("{name}: {} bytes", page.len());
    }
}

#[test]
fn the_terminal_table_fits_eighty_columns() {
    for shape in [&fake::QUICK, &fake::CONTROLS, &fake::LARGE] {
        let text = ticketlens::report::terminal::render(&fake::study(shape), false).unwrap();
        println!("{text}");
        for line in text.lines() {
            assert!(
                line.chars().count() <= 80,
                "{} columns: {line}",
                line.chars().count()
            );
        }
        assert!(!text.contains('\u{1b}'));
    }
}
