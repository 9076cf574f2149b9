//! What a file really is that is not what it was taken for: one place for all readers.

/// How a kind of file begins, and what is to be said of it.
const SIGNATURES: [(usize, &[u8], &str); 36] = [
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (0, b"\x1f\x8b", "is a gzip file: unpack it first"),
    (0, b"\xfd7zXZ\0", "is an xz file: unpack it first"),
    (0, b"BZh", "is a bzip2 file: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "is a zstd file: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it first"),
    (0, b"Rar!", "is a RAR archive: unpack it first"),
    (257, b"ustar", "is a tar archive: unpack it first"),
    (0, b"\x89HDF\r\n\x1a\n", "is an HDF5 file (as Keras, MATLAB and h5py write)"),
    (0, b"MATLAB 5.0 MAT-file", "is a MATLAB file"),
    (4, b"TFL3", "is a TensorFlow Lite model"),
    (0, b"GGUF", "is a GGUF file of a language model"),
    (0, b"PAR1", "is a Parquet file"),
    (0, b"SQLite format 3", "is an SQLite database"),
    (0, b"\xd0\xcf\x11\xe0", "is a Windows compound file (Thumbs.db or an old Office document)"),
    (0, b"\x7fELF", "is a program"),
    (0, b"%PDF", "is a PDF document"),
    (0, b"\x93NUMPY", "is a NumPy array"),
    (0, b"\x80\x03}", "is a pickle, but not one of torch.save"),
    (0, b"\x80\x02}", "is a pickle, but not one of torch.save"),
    (0, b"\x80\x04\x95", "is a pickle, but not one of torch.save"),
    (0, b"\x80\x05\x95", "is a pickle, but not one of torch.save"),
    (0, b"\x89PNG\r\n\x1a\n", "is a PNG picture"),
    (0, b"\xff\xd8\xff", "is a JPEG picture"),
    (0, b"GIF8", "is a GIF picture"),
    (8, b"WEBP", "is a WebP picture"),
    (4, b"ftypavif", "is an AVIF picture: convert it to PNG or JPEG"),
    (4, b"ftypheic", "is a HEIC picture, as iPhones take: convert it to PNG or JPEG"),
    (4, b"ftypheix", "is a HEIC picture, as iPhones take: convert it to PNG or JPEG"),
    (4, b"ftyphevc", "is a HEIC picture, as iPhones take: convert it to PNG or JPEG"),
    (4, b"ftypmif1", "is a HEIC picture, as iPhones take: convert it to PNG or JPEG"),
    (4, b"ftypmsf1", "is a HEIC picture, as iPhones take: convert it to PNG or JPEG"),
    (4, b"ftyp", "is a film (MP4)"),
    (0, b"\0\0\x08\x03", "is an IDX file of images"),
    (0, b"\0\0\x08\x01", "is an IDX file of labels"),
    (0, b"\xff\xfe", "is a text in UTF-16: save it as UTF-8"),
];

/// As much of a file as decides.
const DECIDES: usize = 4096;

/// What a file that begins with these bytes is, as a clause (`is a gzip file: unpack it first`);
/// nothing if it is not recognised. Kinds that one reader takes are recognised too: each asks only
/// about what it cannot read.
pub(crate) fn what_is(bytes: &[u8]) -> Option<String> {
    let start = &bytes[..bytes.len().min(DECIDES)];
    let signature = |(at, mark, _): &&(usize, &[u8], &str)| start.get(*at..).is_some_and(|rest| rest.starts_with(mark));
    if let Some((.., what)) = SIGNATURES.iter().find(signature) {
        return Some((*what).to_owned());
    }
    if start.starts_with(b"PK\x03\x04") {
        return Some(zip(start));
    }
    // ONNX: a protocol buffer of a version, then the producer's name or the graph.
    if let [0x08, 1..=0x20, 0x12 | 0x3a, ..] = start {
        return Some("looks like an ONNX model".into());
    }
    if !bytes.is_empty() && start.iter().all(|&byte| byte == 0) {
        return Some("begins with nothing but zero bytes, as a download that was never finished".into());
    }
    text(start)
}

/// An archive by its first entry.
fn zip(start: &[u8]) -> String {
    let length = start.get(26..28).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let first = start.get(30..30 + length).unwrap_or_default();
    if first.ends_with(b".npy") {
        "is a NumPy archive (.npz): save one array of it as .npy, or as a tensor of a safetensors file".into()
    } else if first.ends_with(b"data.pkl") || first.ends_with(b".format_version") {
        "is a PyTorch archive".into()
    } else {
        "is a zip archive: unpack it first".into()
    }
}

/// Web pages, indices and other texts.
fn text(start: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.valid_up_to() + 4 > start.len() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text.get(..text.len().min(16)).unwrap_or(text).to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Some(
            "is an HTML page, as a download gives that wants a login or a confirmation: download it again".into(),
        );
    }
    if lower.starts_with("<?xml") || lower.starts_with("<svg") {
        return Some("is an XML document".into());
    }
    if lower.starts_with('{') || lower.starts_with('[') {
        return Some(match text.contains("\"weight_map\"") {
            true => "is the JSON index of a checkpoint in several files: give the file with the tensors".into(),
            false => "is a JSON text".into(),
        });
    }
    let written = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(40).collect();
    (!text.is_empty() && text.chars().all(written)).then(|| format!("is a text (`{shown}`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impostors_are_named_with_what_to_do() {
        let tar = [&[b'a'; 257][..], b"ustar\0"].concat();
        let npz = [b"PK\x03\x04".as_slice(), &[0; 22], &[5, 0, 0, 0], b"x.npy"].concat();
        let cases: [(&[u8], &str); 12] = [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
            (b"\n  <!DOCTYPE html><html>", "HTML"),
            (b"{\"metadata\": {}, \"weight_map\": {}}", "index"),
            (b"{\"message\": \"Not Found\"}", "JSON"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (&tar, "tar"),
            (&npz, ".npz"),
            (b"\0\0\0\x18ftypheic", "HEIC"),
            (b"\x08\x07\x12\x07pytorch", "ONNX"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
            (&[0; 64], "zero bytes"),
            ("Not found \u{e9}".as_bytes(), "text (`Not found"),
        ];
        for (bytes, what) in cases {
            assert!(what_is(bytes).is_some_and(|said| said.contains(what)), "{what}: {:?}", what_is(bytes));
        }
        assert_eq!(what_is(b"\x99\x98\x97\x96\x95"), None);
        assert_eq!(what_is(b""), None);
    }
}
