use super::*;
use crate::explain::tcav::Finding;

#[test]
fn every_statistic_of_the_table_is_recorded() {
    let finding = |value| Finding {
        value,
        interval: None,
        standardised: Some(2.0 * value),
        standardised_interval: None,
        p_value: value / 10.0,
    };
    let test = ConceptTest {
        runs: Vec::new(),
        family: Vec::new(),
        family_scores: Vec::new(),
        statistics: [(EFFECT, finding(1.0)), (SCORE, finding(2.0)), ("new", finding(3.0))].into(),
        legacy_welch_p: None,
        heldout_accuracy: 0.5,
        decodable: true,
        decodable_p_value: 0.01,
    };
    let record = record(Stage::new("layer3"), 1, "striped", &test);
    assert_eq!((record.effect, record.effect_standardised, record.effect_p), (1.0, Some(2.0), 0.1));
    assert_eq!((record.score, record.score_p), (2.0, 0.2));
    assert_eq!(record.further, [("new".to_owned(), finding(3.0))].into());
}
