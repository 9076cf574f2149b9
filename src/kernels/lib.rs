//! CPU kernels on plain `f32` slices.
//!
//! Activations are batch-innermost, in the order that [`layout::Order::of`] the batch names:
//! `(H, W, C, N)` or `(C, H, W, N)`. Convolution weights are in PyTorch's order `(O, I, kh, kw)`.
//! Every kernel runs on the current rayon pool and gives bit-equal results for any number of
//! threads.
pub mod bias;
pub mod conv2d;
pub mod device;
mod error;
pub mod layout;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod repeat;
mod scratch;
mod simd;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs `body` on a thread of the rayon pool, where parallel loops start at once; from any other
/// thread each of them would be handed over and waited for. Meanwhile the pool's other threads do
/// not fall asleep between two loops.
pub fn on_worker<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    let done = &AtomicBool::new(false);
    rayon::scope(|scope| {
        let own = rayon::current_thread_index();
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) != own {
                stay_awake(done);
            }
        });
        let result = body();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Looks for work until `done`, or until there was none for a while: waking a thread takes as long
/// as a small loop does.
fn stay_awake(done: &AtomicBool) {
    const A_WHILE: Duration = Duration::from_micros(200);
    let mut idle_since = Instant::now();
    while !done.load(Ordering::Relaxed) && idle_since.elapsed() < A_WHILE {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle_since = Instant::now(),
            // Other programs go first.
            _ => std::thread::yield_now(),
        }
    }
}

/// The vector instructions that the kernels of this process use: `avx512`, `avx2` or `portable`.
/// The environment variable `TICKETLENS_SIMD` chooses among those of the machine; any other value
/// leaves the best, and the program refuses it ([`check_vectors`]).
pub fn vector_path() -> &'static str {
    simd::Path::detect().name()
}

pub use error::{Error, Result};
pub use simd::check_vectors;

#[cfg(test)]
mod tests {
    use super::on_worker;
    use rayon::prelude::*;

    /// Threads that stay awake for one body run the others' work, and none outlives its body.
    #[test]
    fn bodies_on_workers_end_inside_and_beside_each_other_and_in_a_panic() {
        let sum = |count: u64| on_worker(|| (0..count).into_par_iter().map(|n| on_worker(|| n)).sum::<u64>());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a small pool");
        assert_eq!(pool.install(|| sum(50)), 1225);
        let sums: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| sum(50))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(sums, [1225; 4]);
        assert!(std::panic::catch_unwind(|| on_worker(|| -> u64 { panic!("a body") })).is_err());
        assert_eq!(sum(10), 45);
    }
}
