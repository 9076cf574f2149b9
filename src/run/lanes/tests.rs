use std::sync::Mutex;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::*;
use crate::progress::Silent;

fn with_threads<R: Send>(threads: usize, body: impl FnOnce() -> R + Send) -> R {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(body)
}

/// Waits until `reached`, or so long that it never will be.
fn wait_for(reached: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !reached() {
        if since.elapsed() > Duration::from_secs(20) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

#[test]
fn every_replicate_is_made_once_beside_as_many_as_there_are_lanes_and_those_left_over_share_all_threads() {
    let (running, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let started = AtomicUsize::new(0);
    let replicates = [4, 5, 6, 7, 8];
    with_threads(5, || {
        side_by_side(&replicates, 2, &Silent, |replicate, _| {
            let beside = running.fetch_add(1, Ordering::SeqCst) + 1;
            let place = started.fetch_add(1, Ordering::SeqCst);
            // The first of two waits for the second.
            assert!(replicate == 8 || wait_for(|| started.load(Ordering::SeqCst) > place / 2 * 2 + 1));
            made.lock().unwrap().push((replicate, beside, rayon::current_num_threads()));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    })
    .unwrap();
    let mut made = made.into_inner().unwrap();
    made.sort_unstable();
    assert_eq!(made.iter().map(|&(replicate, ..)| replicate).collect::<Vec<_>>(), replicates);
    for &(replicate, beside, threads) in &made {
        match replicate {
            8 => assert_eq!((beside, threads), (1, 5)),
            _ => assert!(beside <= 2 && [2, 3].contains(&threads), "{made:?}"),
        }
    }
}

/// A lane that fails stops the others at their next event, and its error is the one that is told.
#[test]
fn the_first_fault_ends_every_lane() {
    let ended = side_by_side(&[0, 1, 2, 3, 4, 5], 3, &Silent, |replicate, observer| match replicate {
        1 => Err(Error::input("a fault")),
        _ => {
            assert!(wait_for(|| observer.notice(&Event::Phase("waiting")).is_break()), "it goes on");
            Err(Error::Interrupted)
        }
    });
    assert!(matches!(&ended, Err(error) if error.to_string().contains("a fault")), "{ended:?}");
}

/// Remembers who has told what, and breaks once, at one event.
struct Listens {
    breaks_at: usize,
    told: Mutex<Vec<(ThreadId, Event)>>,
}

impl Listens {
    fn until(breaks_at: usize) -> Self {
        Self { breaks_at, told: Mutex::default() }
    }
}

impl Observer for Listens {
    fn notice(&self, event: &Event) -> ControlFlow<()> {
        let mut told = self.told.lock().unwrap();
        told.push((std::thread::current().id(), event.clone()));
        if told.len() == self.breaks_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn an_observer_that_breaks_once_ends_every_lane() {
    let observer = Listens::until(3);
    let ended = side_by_side(&[0, 1], 2, &observer, |_, observer| {
        for _ in 0..1_000_000 {
            observer.tell(&Event::Phase("working"))?;
        }
        Err(Error::input("it goes on"))
    });
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
}

#[test]
fn each_lane_tells_from_a_thread_of_its_own_and_where_a_replicate_ends() {
    let observer = Listens::until(usize::MAX);
    let both = AtomicUsize::new(0);
    side_by_side(&[3, 4], 2, &observer, |replicate, observer| {
        both.fetch_add(1, Ordering::SeqCst);
        assert!(wait_for(|| both.load(Ordering::SeqCst) == 2));
        observer.tell(&Event::Part { done: replicate, of: 10 })
    })
    .unwrap();
    let told = observer.told.into_inner().unwrap();
    let of = |wanted: &Event| told.iter().find(|(_, event)| event == wanted).unwrap().0;
    let threads = [3, 4].map(|replicate| {
        let (part, done) = (Event::Part { done: replicate, of: 10 }, Event::ReplicateDone { replicate });
        assert_eq!(of(&part), of(&done));
        of(&done)
    });
    assert!(threads[0] != threads[1] && told.len() == 4, "{told:?}");
}

#[test]
fn lanes_are_as_many_as_end_a_run_first() {
    // Nine on 16 threads: nine side by side would leave seven threads idle behind the two that have one each.
    for (replicates, threads, lanes) in
        [(9, 1, 1), (9, 2, 2), (9, 4, 4), (9, 8, 8), (9, 16, 8), (9, 64, 9), (3, 16, 3), (1, 16, 1)]
    {
        assert_eq!(fastest(replicates, threads, threads.min(replicates)), lanes, "{replicates} on {threads}");
    }
    assert_eq!(fastest(9, 16, 3), 3);
}

#[test]
fn lanes_are_as_many_as_threads_and_replicates_and_memory_allow() {
    let of = |threads, overrides: &[(&str, &str)]| {
        let overrides: Vec<(String, String)> =
            overrides.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let plan = Plan::preset("quick", &overrides).unwrap();
        let setup = Setup::new(&plan).unwrap();
        with_threads(threads, || (lanes(&plan, &setup).unwrap(), network_bytes(&plan, &setup).unwrap()))
    };
    let (most, bytes) = of(4, &[]);
    assert_eq!(most, 4);
    assert_eq!(of(4, &[("replicates", "3")]).0, 3);
    assert_eq!(of(1, &[]).0, 1);
    // Maps of 16 times as many channels and 2,000 images in place of 128.
    let (most, large) = of(4, &[("model.width", "128"), ("train.batch_size", "2000")]);
    assert!(most == 1 && large > 200 * bytes && large < 300 * bytes, "{bytes} {large}");
}
