//! The crate's one error type. Every message is a lowercase fragment that names the file, tensor, field or flag at fault.

use std::path::{Path, PathBuf};

/// What can go wrong anywhere in the crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what its format promises.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor is missing, or has the wrong shape, type or values.
    #[error("tensor `{name}`: {what}")]
    Tensor {
        /// The tensor's name, with its file where there is one.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A plan's field has an impossible value.
    #[error("plan field `{field}`: {what}")]
    Config {
        /// Dotted path of the field.
        field: String,
        /// What is wrong with it.
        what: String,
    },
    /// An argument or flag is unusable; the text names it.
    #[error("{what}")]
    Input {
        /// What is wrong with which argument.
        what: String,
    },
    /// A statistic is undefined for what it was given (zero variance, too few samples).
    #[error("{statistic}: {what}")]
    Statistics {
        /// The statistic's name.
        statistic: String,
        /// Why it is undefined.
        what: String,
    },
    /// Several faults of one input, found in one pass.
    #[error("{} faults in {subject}: {}", faults.len(), faults.join("; "))]
    Faults {
        /// What was checked.
        subject: String,
        /// One line for each fault.
        faults: Vec<String>,
    },
    /// The tensor library failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The loss, or the weights after the last step, are no longer finite.
    #[error(
        "training diverged: the loss is {loss} at step {step} (learning rate {learning_rate}); a lower `train.learning_rate` may help"
    )]
    Diverged {
        /// The optimiser step, counted from the start of training.
        step: u64,
        /// The loss.
        loss: f64,
        /// The learning rate of that step.
        learning_rate: f64,
    },
    /// The user asked to stop (Ctrl-C); what was finished is kept.
    #[error("interrupted")]
    Interrupted,
}

/// A result with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Control characters as spaces: what a file or a decoder says may hold line breaks, and an error is one line.
fn one_line(text: impl Into<String>) -> String {
    let text = text.into();
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, " ").trim_end().to_owned(),
        false => text,
    }
}

impl Error {
    /// An [`Error::Io`] at `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// An [`Error::Format`] at `path`.
    pub fn format(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Error::Format { path: path.as_ref().to_path_buf(), what: one_line(what) }
    }

    /// An [`Error::Tensor`] for the tensor `name`.
    pub fn tensor(name: impl Into<String>, what: impl Into<String>) -> Self {
        Error::Tensor { name: one_line(name), what: one_line(what) }
    }

    /// An [`Error::Config`] for the plan field `field`.
    pub fn config(field: impl Into<String>, what: impl Into<String>) -> Self {
        Error::Config { field: one_line(field), what: one_line(what) }
    }

    /// An [`Error::Input`]; `what` names the argument or flag.
    pub fn input(what: impl Into<String>) -> Self {
        Error::Input { what: one_line(what) }
    }

    /// An [`Error::Statistics`] of `statistic`.
    pub fn statistics(statistic: impl Into<String>, what: impl Into<String>) -> Self {
        Error::Statistics { statistic: statistic.into(), what: what.into() }
    }
}

/// Turns the error of a statistic into the crate's own, for `map_err`: `statistic` says of what.
pub fn undefined<E: std::fmt::Display>(statistic: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::statistics(statistic, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_and_where() {
        assert_eq!(Error::format("a/b.idx", "bad magic").to_string(), "a/b.idx: bad magic");
        assert_eq!(Error::tensor("fc.weight", "not found").to_string(), "tensor `fc.weight`: not found");
        assert_eq!(
            Error::config("prune.fraction", "must lie in (0, 1)").to_string(),
            "plan field `prune.fraction`: must lie in (0, 1)"
        );
        let faults = Error::Faults { subject: "cub".into(), faults: vec!["x".into(), "y".into()] };
        assert_eq!(faults.to_string(), "2 faults in cub: x; y");
    }
}
