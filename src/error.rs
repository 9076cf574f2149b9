//! The crate's one error type. Every message is a lowercase fragment that names the file, tensor,
//! field or flag at fault.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

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
    /// A file of a run is not the one that its record lists, or a record is not as it was written.
    #[error("{}: {what}; damaged, or of another run or round: `run` sets it aside and makes it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another process works in a folder.
    #[error("{}: {what}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// Who has it, and what to do.
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
    #[error("{} fault{} in {subject}: {}", faults.len(), if faults.len() == 1 { "" } else { "s" }, faults.join("; "))]
    Faults {
        /// What was checked.
        subject: String,
        /// One line for each fault.
        faults: Vec<String>,
    },
    /// The tensor library failed; what it said, without where in its source.
    #[error("{0}")]
    Candle(String),
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

/// Line breaks as spaces, other control characters escaped: what a file or a decoder says may hold
/// both, and an error is one line.
fn one_line(text: impl Into<String>) -> String {
    let text = shortened(text.into(), [1500, 500]);
    match text.contains(char::is_control) {
        true => printable(text.replace(['\n', '\r'], " ").trim_end()),
        false => text,
    }
}

/// A message without its middle, where it quotes a file at such length that nobody reads it: so many
/// characters of its start and of its end are kept.
pub fn shortened(text: String, [start, end]: [usize; 2]) -> String {
    let all = text.chars().count();
    if all <= start + end {
        return text;
    }
    let (head, tail) = (text.chars().take(start), text.chars().skip(all - end));
    head.chain(" … ".chars()).chain(tail).collect()
}

/// Text with its control characters escaped (`\n`, `\u{1b}`): a name must not move the cursor or forge a line.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}

/// The name among `known` that `name` was probably meant to be, as a clause for the end of a
/// message: `; did you mean `x`?`, or nothing. Letter case, `-`, `_` and spaces do not count as
/// differences.
pub fn near_miss<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let fold = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = fold(name);
    let distance = |other: &str| strsim::osa_distance(&wanted, &fold(other));
    let near = known.into_iter().map(|other| (distance(other), other)).min_by_key(|(distance, _)| *distance);
    match near {
        // A third of the letters, but at least one and at most three, may be wrong.
        Some((distance, other)) if distance <= (wanted.chars().count() / 3).clamp(1, 3) => {
            format!("; did you mean `{other}`?")
        }
        _ => String::new(),
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

    /// An [`Error::Damaged`] at `path`.
    pub fn damaged(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Error::Damaged { path: path.as_ref().to_path_buf(), what: one_line(what) }
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

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // With RUST_BACKTRACE the lines after the first are a backtrace.
        Error::Candle(one_line(error.to_string().lines().next().unwrap_or_default()))
    }
}

impl From<ticketlens_kernels::Error> for Error {
    fn from(error: ticketlens_kernels::Error) -> Self {
        Error::input(error.to_string())
    }
}

/// Turns the error of a statistic into the crate's own, for `map_err`: `statistic` says of what.
pub fn undefined<E: std::fmt::Display>(statistic: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::statistics(statistic, error.to_string())
}

/// All results, or the first fault in their order, whichever thread meets one first.
pub(crate) fn first_fault<T: Send, E: Send>(
    results: impl IndexedParallelIterator<Item = std::result::Result<T, E>>,
) -> std::result::Result<Vec<T>, E> {
    results.collect::<Vec<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_near_misses_found() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        let species = ["Brewer_Blackbird", "Ant_bird", "Bee_bird"];
        let near = |name| near_miss(name, species);
        assert_eq!(near("Brewers_Blackbird"), "; did you mean `Brewer_Blackbird`?");
        assert_eq!([near("ant_bird"), near("Bee-bird")], ["; did you mean `Ant_bird`?", "; did you mean `Bee_bird`?"]);
        assert_eq!([near("Zebra"), near("")], ["", ""]);
    }

    #[test]
    fn messages_name_what_and_where() {
        assert_eq!(Error::format("a/b.idx", "bad magic").to_string(), "a/b.idx: bad magic");
        assert_eq!(Error::tensor("fc.weight", "not found").to_string(), "tensor `fc.weight`: not found");
        assert_eq!(
            Error::config("prune.fraction", "must lie in (0, 1)").to_string(),
            "plan field `prune.fraction`: must lie in (0, 1)"
        );
        let library = candle_core::Error::Msg("unexpected rank\n   0: a place in the source".into());
        assert_eq!(Error::from(library).to_string(), "unexpected rank");
        let faults = Error::Faults { subject: "cub".into(), faults: vec!["x".into(), "y".into()] };
        assert_eq!(faults.to_string(), "2 faults in cub: x; y");
    }
}
