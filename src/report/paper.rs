//! The paper's own numbers (Ghosh & Ravi, figures 2, 3 and 4), built into the program; origin in fixtures/README.md.

/// Figures 2 and 3: one round of the paper's MNIST or CUB run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PaperAccuracy {
    /// Round.
    pub(crate) round: usize,
    /// Share of weights kept.
    pub(crate) density: f64,
    /// Accuracy, as a share: of the best validation epoch (MNIST), of the test set (CUB, read off
    /// the plot to about 0.003).
    pub(crate) accuracy: f64,
}

/// Figure 4: TCAV of one digit in one round of the paper's MNIST run, at layer3.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PaperScore {
    /// Round.
    pub(crate) round: usize,
    /// The digit in words, such as `zero`.
    pub(crate) concept: &'static str,
    /// Score for the classes even and odd.
    pub(crate) scores: [f64; 2],
}

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().skip(1).map(|line| line.split(',').collect())
}

/// Figure 2, by round.
pub(crate) fn mnist_accuracy() -> Vec<PaperAccuracy> {
    let parse = |row: Vec<&str>| {
        let [round, kept, accuracy] = row[..] else {
            return None;
        };
        let share = |text: &str| text.parse::<f64>().ok().map(|percent| percent / 100.0);
        Some(PaperAccuracy { round: round.parse().ok()?, density: share(kept)?, accuracy: share(accuracy)? })
    };
    rows(include_str!("../../fixtures/paper/mnist_accuracy.csv")).filter_map(parse).collect()
}

/// Figure 3, by round.
pub(crate) fn cub_accuracy() -> Vec<PaperAccuracy> {
    let parse = |row: Vec<&str>| {
        let [round, kept, accuracy] = row[..] else {
            return None;
        };
        Some(PaperAccuracy {
            round: round.parse().ok()?,
            density: kept.parse::<f64>().ok()? / 100.0,
            accuracy: accuracy.parse().ok()?,
        })
    };
    rows(include_str!("../../fixtures/paper/cub_accuracy.csv")).filter_map(parse).collect()
}

/// Figure 4, by digit, round.
pub(crate) fn mnist_scores() -> Vec<PaperScore> {
    let parse = |row: Vec<&'static str>| {
        let [round, _, concept, even, odd] = row[..] else {
            return None;
        };
        Some(PaperScore { round: round.parse().ok()?, concept, scores: [even.parse().ok()?, odd.parse().ok()?] })
    };
    rows(include_str!("../../fixtures/paper/mnist_tcav_layer3.csv")).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_papers_files_is_read() {
        let accuracy = mnist_accuracy();
        assert_eq!(accuracy.len(), 35);
        assert_eq!(accuracy[0], PaperAccuracy { round: 0, density: 1.0, accuracy: 98.483 / 100.0 });
        let birds = cub_accuracy();
        assert_eq!(birds.len(), 15);
        assert_eq!(birds[1], PaperAccuracy { round: 1, density: 0.9, accuracy: 0.845 });
        let scores = mnist_scores();
        assert_eq!(scores.len(), 350);
        assert_eq!(scores[0].scores, [0.951_12, 0.028_70]);
        assert_eq!((scores[349].concept, scores[349].round), ("nine", 34));
    }
}
