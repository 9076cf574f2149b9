//! The SciPy/statsmodels fixtures' entries of the tests that the library has, to 1e-9. A null there
//! must be a named error here.

use serde_json::Value;
use ticketlens::stats::{
    StatsError, TestResult, correlation,
    multiplicity::{Adjustment, adjust},
    t_tests,
};

type Values = Result<Vec<f64>, StatsError>;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `ours` against a number or a list that may hold nulls; returns how many numbers were compared.
fn assert_equal(place: &str, ours: Values, theirs: &Value) -> usize {
    let theirs: Vec<Option<f64>> = match theirs {
        Value::Array(list) => list.iter().map(Value::as_f64).collect(),
        single => vec![single.as_f64()],
    };
    match ours {
        Err(_) => assert!(theirs.contains(&None), "{place}: undefined here, {theirs:?} there"),
        Ok(ours) => {
            assert_eq!(ours.len(), theirs.len(), "{place}");
            for (o, t) in ours.iter().zip(&theirs) {
                let t = t.unwrap_or_else(|| panic!("{place}: {ours:?} here, undefined there"));
                assert!((o - t).abs() <= 1e-9 * t.abs().max(1.0), "{place}: {o:e} here, {t:e} there");
            }
        }
    }
    theirs.len()
}

fn pair(result: Result<TestResult, StatsError>) -> Values {
    result.map(|r| vec![r.statistic, r.p_value])
}

fn ends(result: Result<ticketlens::stats::Interval, StatsError>) -> Values {
    result.map(|i| vec![i.low, i.high])
}

fn check_file(name: &str) -> usize {
    let path = format!("{}/fixtures/oracle/{name}", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut compared = 0;
    for (section, content) in file.as_object().unwrap() {
        let cases: Vec<Value> = match content {
            _ if section == "p_values" => vec![],
            Value::Array(list) => list.clone(),
            object => vec![object.clone()],
        };
        for (index, case) in cases.iter().enumerate() {
            let list = |key: &str| numbers(&case[key]);
            for (key, expected) in case.as_object().unwrap() {
                let place = format!("{name} {section}[{index}].{key}");
                let welch = || t_tests::welch_t(&list("a"), &list("b"), 0.95);
                let ours: Values = match (section.as_str(), key.as_str()) {
                    ("two_sample", "a" | "b") | ("paired", "x" | "y") => continue,
                    // Tests that nothing here needs.
                    ("mcnemar" | "proportions" | "fisher", _)
                    | ("two_sample", "student" | "mann_whitney_asymptotic_cc")
                    | ("paired", "kendall_tau_b" | "wilcoxon") => continue,
                    ("two_sample", "welch") => welch().map(|t| vec![t.statistic, t.p_value, t.degrees_of_freedom]),
                    ("two_sample", "welch_ci95") => ends(welch().map(|t| t.interval)),
                    ("two_sample", "one_sample_vs_half") => {
                        pair(t_tests::one_sample_t(&list("a"), 0.5, 0.95).map(|t| t.result()))
                    }
                    ("paired", "spearman") => pair(correlation::spearman(&list("x"), &list("y"))),
                    ("paired", "pearson") => pair(correlation::pearson(&list("x"), &list("y"))),
                    ("adjusted", method) => adjust(
                        &numbers(&file["p_values"]),
                        match method {
                            "bonferroni" => Adjustment::Bonferroni,
                            "holm" => Adjustment::Holm,
                            "fdr_bh" => Adjustment::BenjaminiHochberg,
                            "fdr_by" => Adjustment::BenjaminiYekutieli,
                            other => panic!("no adjustment {other}"),
                        },
                    ),
                    unknown => panic!("no test for {unknown:?}"),
                };
                compared += assert_equal(&place, ours, expected);
            }
        }
    }
    compared
}

#[test]
fn statistics_equal_scipy() {
    let compared = check_file("stats.json");
    println!("{compared} numbers of stats.json");
    assert!(compared > 140, "{compared}");
}

#[test]
fn statistics_equal_scipy_on_ties_constants_and_tiny_samples() {
    let compared = check_file("stats_edges.json");
    println!("{compared} numbers of stats_edges.json");
    assert!(compared > 500, "{compared}");
}
