//! Which data set IDX files hold.

use crate::data::Normalisation;

/// Which data set the four IDX files hold; their format does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Handwritten digits.
    Mnist,
    /// Zalando's clothes (Xiao, Rasul and Vollgraf 2017).
    Fashion,
}

impl Family {
    /// The names of its ten classes.
    pub fn class_names(self) -> [&'static str; 10] {
        match self {
            Family::Mnist => ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Family::Fashion => {
                ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
            }
        }
    }

    /// Its customary normalisation.
    pub fn normalisation(self) -> Normalisation {
        match self {
            Family::Mnist => Normalisation::mnist(),
            Family::Fashion => Normalisation::fashion_mnist(),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Mnist => "mnist",
            Family::Fashion => "fashion-mnist",
        }
    }
}
