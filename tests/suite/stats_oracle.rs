//! Every entry of the SciPy/statsmodels fixtures, to 1e-9. A null there must be a named error here.

use serde_json::Value;
use ticketlens::stats::{
    StatsError, TestResult, contingency, correlation, intervals,
    multiplicity::{Adjustment, adjust},
    rank_tests, t_tests,
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
            let count = |key: &str| case[key].as_u64().unwrap() as usize;
            for (key, expected) in case.as_object().unwrap() {
                let place = format!("{name} {section}[{index}].{key}");
                let welch = || t_tests::welch_t(&list("a"), &list("b"), 0.95);
                let ours: Values = match (section.as_str(), key.as_str()) {
                    ("two_sample", "a" | "b") | ("paired", "x" | "y") => continue,
                    ("mcnemar", "b" | "c") | ("proportions", "k" | "n") | ("fisher", "table") => {
                        continue;
                    }
                    ("two_sample", "welch") => welch().map(|t| vec![t.statistic, t.p_value, t.degrees_of_freedom]),
                    ("two_sample", "welch_ci95") => ends(welch().map(|t| t.interval)),
                    ("two_sample", "student") => {
                        pair(t_tests::student_t(&list("a"), &list("b"), 0.95).map(|t| t.result()))
                    }
                    ("two_sample", "mann_whitney_asymptotic_cc") => {
                        pair(rank_tests::mann_whitney(&list("a"), &list("b")))
                    }
                    ("two_sample", "one_sample_vs_half") => {
                        pair(t_tests::one_sample_t(&list("a"), 0.5, 0.95).map(|t| t.result()))
                    }
                    ("paired", "spearman") => pair(correlation::spearman(&list("x"), &list("y"))),
                    ("paired", "pearson") => pair(correlation::pearson(&list("x"), &list("y"))),
                    ("paired", "kendall_tau_b") => pair(correlation::kendall_tau_b(&list("x"), &list("y"))),
                    ("paired", "wilcoxon") => pair(rank_tests::wilcoxon_signed_rank(&list("x"), &list("y"))),
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
                    ("mcnemar", "mcnemar_exact") => {
                        Ok(vec![contingency::mcnemar_exact(count("b"), count("c")).p_value])
                    }
                    ("mcnemar", "mcnemar_chi2_cc") => {
                        contingency::mcnemar_chi_squared(count("b"), count("c")).map(|r| vec![r.p_value])
                    }
                    ("proportions", "wilson95") => ends(intervals::wilson(count("k"), count("n"), 0.95)),
                    ("proportions", "clopper_pearson95") => {
                        ends(intervals::clopper_pearson(count("k"), count("n"), 0.95))
                    }
                    ("proportions", "binom_test_half") => {
                        contingency::binomial_test(count("k"), count("n"), 0.5).map(|p| vec![p])
                    }
                    ("fisher", "p") => {
                        let cell = |i: usize, j: usize| case["table"][i][j].as_u64().unwrap() as usize;
                        let table = [[cell(0, 0), cell(0, 1)], [cell(1, 0), cell(1, 1)]];
                        Ok(vec![contingency::fisher_exact(table)])
                    }
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
    assert!(compared > 180, "{compared}");
}

#[test]
fn statistics_equal_scipy_on_ties_constants_and_tiny_samples() {
    let compared = check_file("stats_edges.json");
    println!("{compared} numbers of stats_edges.json");
    assert!(compared > 800, "{compared}");
}
