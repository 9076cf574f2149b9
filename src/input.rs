//! The one way in which the crate reads a small file whole: a regular file, no longer than its kind
//! may be. Opening a pipe would wait for its writer, and a device has no end.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// The bytes of a file that may have `most`.
///
/// # Errors
/// The file is named when it is missing, no file, or longer.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let length = check(path, most)?;
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // It may have grown since.
    file.take(most + 1).read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    no_longer(path, bytes.len() as u64, most)?;
    Ok(bytes)
}

/// The length of a file that may have `most` bytes, before it is opened.
///
/// # Errors
/// As [`read`].
pub fn check(path: &Path, most: u64) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a file"));
    }
    no_longer(path, metadata.len(), most)?;
    Ok(metadata.len())
}

fn no_longer(path: &Path, length: u64, most: u64) -> Result<()> {
    match length > most {
        true => Err(Error::format(path, format!("has {length} bytes, more than {most}"))),
        false => Ok(()),
    }
}

/// The same of text.
///
/// # Errors
/// As [`read`]; what is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::format(path, "is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_long_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ten");
        fs::write(&path, b"0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"0123456789");
        assert_eq!(read_text(&path, 11).unwrap(), "0123456789");
        let refused = |path: &Path| read(path, 9).unwrap_err().to_string();
        assert!(refused(&path).contains("ten: has 10 bytes, more than 9"), "{}", refused(&path));
        assert!(refused(folder.path()).contains("is not a file"));
        assert!(refused(&folder.path().join("none")).contains("none"));
        fs::write(&path, b"\xff").unwrap();
        assert!(read_text(&path, 9).unwrap_err().to_string().contains("UTF-8"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/dev/zero", folder.path().join("endless")).unwrap();
            assert!(refused(&folder.path().join("endless")).contains("is not a file"));
        }
    }
}
