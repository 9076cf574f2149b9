//! Named random streams: the only source of randomness in ticketlens.
//!
//! A stream is a function of `(seed, name, index)` alone, so a draw never depends on what was drawn
//! before it in another part of the program, on the thread count, or on where a run was resumed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator behind every stream: ChaCha8, portable and bit-reproducible.
pub type Stream = ChaCha8Rng;

/// The random stream `name` number `index` of `seed`.
///
/// ```
/// use rand::Rng;
/// let a: u64 = ticketlens_stats::seed::stream(7, "init", 0).random();
/// let b: u64 = ticketlens_stats::seed::stream(7, "init", 0).random();
/// assert_eq!(a, b);
/// ```
pub fn stream(seed: u64, name: &str, index: u64) -> Stream {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(index.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}
