//! The pictures of a folder: what is read, what is left out with a word, and what is an error.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use image::ImageFormat;

use super::impostor::what_is;
use crate::error::{Error, Result};

/// Extensions of pictures that are read.
const READ: [&str; 12] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "tif", "tiff", "gif", "apng"];
/// Extensions of pictures that are not.
const NOT_READ: [&str; 26] = [
    "heic", "heif", "avif", "jxl", "jp2", "j2k", "jpx", "svg", "psd", "xcf", "tga", "ico", "pcx", "ppm", "pgm", "pbm",
    "pnm", "exr", "hdr", "dds", "cr2", "nef", "arw", "dng", "orf", "raw",
];
/// Names of what systems leave about.
const LITTER: [&str; 5] = ["Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "Icon\r"];
/// Names that a message lists.
const LISTED: usize = 5;

/// What is said of a link that leads out of a data folder: what lies there is not part of the data.
pub(super) const LEADS_OUT: &str =
    "is a link that leads out of the data folder: put there what it leads to, or give the folder where that lies";

/// Whether a path leads out of a folder, given by its real path, by a link of its own or of a
/// folder on the way. What does not exist leads nowhere.
pub(super) fn leads_out(real_root: &Path, path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| !path.starts_with(real_root))
}

/// Refuses an entry that is a link out of the data folder `root`, which may be a link itself.
///
/// # Errors
/// [`LEADS_OUT`].
pub(super) fn check_within(root: &Path, entry: &Path) -> Result<()> {
    match entry.is_symlink() && root.canonicalize().is_ok_and(|root| leads_out(&root, entry)) {
        true => Err(Error::format(entry, LEADS_OUT)),
        false => Ok(()),
    }
}

/// The formats that are read.
pub(super) fn is_read(format: ImageFormat) -> bool {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    matches!(format, Png | Jpeg | WebP | Bmp | Tiff | Gif)
}

/// Whether a path's extension says that it is a picture that is read.
pub(super) fn named_picture(path: &Path) -> bool {
    READ.contains(&extension(path).as_str())
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// What a folder holds.
pub(super) struct Listing {
    /// Pictures, by name.
    pub(super) pictures: Vec<PathBuf>,
    /// Names of folders in it, without litter.
    pub(super) folders: Vec<String>,
    /// Names of what is neither.
    others: Vec<String>,
}

impl Listing {
    /// Looks at every entry of a folder in the data folder `root`; a file whose name tells nothing
    /// is told by how it begins.
    ///
    /// # Errors
    /// The folder cannot be read, or holds a picture of a format that is not read, or that is a
    /// link out of `root`: it is named.
    pub(super) fn new(folder: &Path, root: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
            paths.push(entry.map_err(|e| Error::io(folder, e))?.path());
        }
        paths.sort();
        let mut listing = Self { pictures: Vec::new(), folders: Vec::new(), others: Vec::new() };
        for path in paths {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let litter = name.starts_with('.') || LITTER.contains(&name.as_str());
            if litter || !(path.is_dir() || named_picture(&path) || is_picture(&path)?) {
                listing.others.push(name);
            } else if path.is_dir() {
                listing.folders.push(name);
            } else {
                check_within(root, &path)?;
                listing.pictures.push(path);
            }
        }
        Ok(listing)
    }

    /// The pictures, of which there must be one.
    ///
    /// # Errors
    /// Says what the folder holds instead.
    pub(super) fn demand(&self, folder: &Path) -> Result<()> {
        if !self.pictures.is_empty() {
            return Ok(());
        }
        let what = match (self.folders.is_empty(), self.others.is_empty()) {
            (false, _) => {
                format!("holds no pictures itself, but folders ({}): name one of them", listed(&self.folders))
            }
            (_, false) => format!("holds no pictures, but {}", listed(&self.others)),
            _ => "holds no pictures: the folder is empty".into(),
        };
        Err(Error::format(folder, what))
    }

    /// What is left out, in one line.
    pub(super) fn left_out(&self, folder: &Path) -> Option<String> {
        let all: Vec<String> =
            self.folders.iter().map(|name| format!("{name}/")).chain(self.others.iter().cloned()).collect();
        (!all.is_empty()).then(|| {
            let count = all.len();
            let are = if count == 1 { "entry is no picture and is" } else { "entries are no pictures and are" };
            format!("{}: {count} {are} left out: {}", folder.display(), listed(&all))
        })
    }
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    names[..names.len().min(LISTED)].join(", ") + more
}

/// Whether a file of another name is a picture by its content.
fn is_picture(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    // What cannot be opened, such as a socket, is no picture.
    if path.is_file() {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        file.take(64).read_to_end(&mut start).map_err(|e| Error::io(path, e))?;
    }
    let unread = |what: &str| {
        Err(Error::format(path, format!("{what} and cannot be read: convert it to PNG or JPEG, or take it out")))
    };
    match image::guess_format(&start) {
        Ok(format) if is_read(format) => Ok(true),
        Ok(format) => unread(&format!("is a {format:?} picture")),
        Err(_) if NOT_READ.contains(&extension(path).as_str()) => {
            unread(&format!("is named as a picture (.{})", extension(path)))
        }
        Err(_) => match what_is(&start).filter(|what| what.contains("HEIC") || what.contains("AVIF")) {
            Some(what) => Err(Error::format(path, format!("{what}, or take it out"))),
            None => Ok(false),
        },
    }
}
