//! Damage to files: bits, bytes, lengths, pieces moved between files, and words that readers trip over.

use rand::{Rng, RngCore};

use crate::readers::Tree;

/// Numbers at the edges of their types.
const EDGES: [u64; 12] = [0, 1, 2, 127, 128, 255, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
const WORDS: [&str; 24] = [
    "0",
    "-1",
    "1",
    "2",
    "255",
    "256",
    "65536",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999",
    "1e308",
    "-1e308",
    "1e999",
    "NaN",
    "inf",
    "0.0",
    "-0.0",
    "1e-320",
    "\"\"",
    "null",
    "true",
    "[]",
    "{}",
    "\u{0}",
];

/// One to four pieces of damage to one file, rarely its loss.
pub(crate) fn damage(tree: &mut Tree, corpus: &[Tree], words: &[&str], stream: &mut impl RngCore) {
    let file = stream.random_range(0..tree.len());
    if tree.len() > 1 && stream.random_ratio(1, 60) {
        tree.remove(file);
        return;
    }
    for _ in 0..stream.random_range(1..=4) {
        let donor = &corpus[stream.random_range(0..corpus.len())];
        let donor = donor[stream.random_range(0..donor.len())].1.clone();
        one(&mut tree[file].1, &donor, words, stream);
    }
}

fn one(bytes: &mut Vec<u8>, donor: &[u8], words: &[&str], stream: &mut impl RngCore) {
    if bytes.is_empty() {
        bytes.push(stream.random());
        return;
    }
    // Headers stand at the front, so half of the damage goes there.
    let reach = if stream.random_bool(0.5) { bytes.len().min(400) } else { bytes.len() };
    let at = stream.random_range(0..reach);
    let end =
        |stream: &mut dyn RngCore, from: usize, length: usize| (from + 1 + stream.next_u32() as usize % 64).min(length);
    match stream.random_range(0..11) {
        0 => bytes[at] ^= 1 << stream.random_range(0..8),
        1 => bytes[at] = stream.random(),
        2 => bytes[at] = EDGES[stream.random_range(0..EDGES.len())] as u8,
        3 => bytes.truncate(at),
        4 => {
            bytes.drain(at..end(stream, at, bytes.len()));
        }
        5 => {
            let piece = bytes[at..end(stream, at, bytes.len())].to_vec();
            let to = stream.random_range(0..=bytes.len());
            bytes.splice(to..to, piece);
        }
        6 if !donor.is_empty() => {
            let from = stream.random_range(0..donor.len());
            let piece = donor[from..end(stream, from, donor.len())].to_vec();
            let until = if stream.random() { at } else { end(stream, at, bytes.len()) };
            bytes.splice(at..until, piece);
        }
        7 | 8 => {
            let value = EDGES[stream.random_range(0..EDGES.len())].wrapping_add(stream.random_range(0..3));
            let (width, big) = ([2, 4, 8][stream.random_range(0..3)], stream.random());
            let raw =
                if big { value.to_be_bytes()[8 - width..].to_vec() } else { value.to_le_bytes()[..width].to_vec() };
            for (target, byte) in bytes[at..].iter_mut().zip(raw) {
                *target = byte;
            }
        }
        _ => {
            // A whole number or word of the text becomes another.
            let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+');
            let from = bytes[..at].iter().rposition(|&byte| !part(byte)).map_or(0, |place| place + 1);
            let until = bytes[at..].iter().position(|&byte| !part(byte)).map_or(bytes.len(), |place| at + place);
            let choice = stream.random_range(0..WORDS.len() + words.len());
            let word = WORDS.get(choice).copied().unwrap_or_else(|| words[choice - WORDS.len()]);
            bytes.splice(from.min(until)..until, word.bytes());
        }
    }
}
