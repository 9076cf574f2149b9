//! Why a device does not do what was asked.

/// A lowercase fragment that names what is missing, too large or does not fit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// A result with a device's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn input(what: impl Into<String>) -> Self {
        Error(what.into())
    }
}
