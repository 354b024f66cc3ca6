//! The pool: how many threads, work shared among them, and life after `fork`.
//!
//! The caller works too, and claims tasks from the same counter as the pool's threads, so a task never waits for a thread to
//! wake. Nothing here depends on which thread did what: callers merge what the threads found by operations that commute.
//!
//! A pool does not survive `fork`: its threads are gone and its locks may be held for ever. The child of a fork therefore
//! never touches an inherited pool, not even to drop it, and builds its own at the first call that wants one. No lock of ours
//! is ever held, so there is none to inherit.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rayon::ThreadPool;

/// More threads than this are not asked of a machine.
const MOST_THREADS: usize = 1024;

/// How long the caller works before it looks whether it shall stop.
const PATIENCE: Duration = Duration::from_millis(20);

/// The threads that a call may use, its own among them; 0 until first asked for.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Counts the forks that led to this process.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// The newest pool, of this process or inherited. Pools are leaked: a thread may still be inside one.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// Whether the system has refused threads and nobody has been told.
static REFUSED: AtomicBool = AtomicBool::new(false);

struct Pool {
    generation: usize,
    /// The threads besides the caller that were asked for.
    asked: usize,
    /// The threads that came, if any.
    pool: Option<ThreadPool>,
}

/// The caller wanted to stop before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// The number of threads that a call may use.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => {
            let threads = default_threads(|name| std::env::var(name).ok());
            // Where another thread has just set a number, that one counts.
            match THREADS.compare_exchange(0, threads, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => threads,
                Err(set) => set,
            }
        }
        threads => threads,
    }
}

/// Sets the number of threads that a call may use; 0 goes back to the default.
pub fn set_threads(threads: usize) {
    THREADS.store(threads.min(MOST_THREADS), Ordering::Relaxed);
}

/// Whether the system refused a pool's threads since this was last asked.
pub fn take_refusal() -> bool {
    REFUSED.load(Ordering::Relaxed) && REFUSED.swap(false, Ordering::Relaxed)
}

/// The environment's number of threads, else the CPUs that affinity and cgroup allow.
fn default_threads(variable: impl Fn(&str) -> Option<String>) -> usize {
    ["LOSSRS_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS"]
        .into_iter()
        .filter_map(variable)
        // OMP_NUM_THREADS may be a list, a number for each level of nesting.
        .filter_map(|value| value.split(',').next().and_then(|first| first.trim().parse().ok()))
        .find(|&threads: &usize| threads > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        .min(MOST_THREADS)
}

/// Shares `tasks` tasks, numbered from 0, among threads. Each calls `work`, which claims tasks until there are none and
/// returns what it found; findings are merged, in an order that `merge` must not depend on.
///
/// `spread` says whether the work is worth other threads; `stop` is asked from time to time, on the caller's thread only.
///
/// # Errors
/// If `stop` said so; some of the tasks have then been worked.
pub fn share<S: Send>(
    tasks: usize,
    spread: bool,
    stop: &dyn Fn() -> bool,
    work: impl Fn(&mut dyn FnMut() -> Option<usize>) -> S + Sync,
    mut merge: impl FnMut(&mut S, &S),
) -> Result<S, Interrupted> {
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let claim = || {
        let task = next.fetch_add(1, Ordering::Relaxed);
        (task < tasks && !stopped.load(Ordering::Relaxed)).then_some(task)
    };
    let mut looked = spread.then(Instant::now);
    let mut claim_and_look = || {
        if let Some(at) = looked
            && at.elapsed() >= PATIENCE
        {
            if stop() {
                stopped.store(true, Ordering::Relaxed);
            }
            looked = Some(Instant::now());
        }
        claim()
    };
    let helpers = if spread { threads().min(tasks).saturating_sub(1) } else { 0 };
    let found = if let Some((pool, helpers)) = (helpers > 0).then(|| pool(helpers)).flatten() {
        let others = Mutex::new(Vec::with_capacity(helpers));
        let (claim, work, others_found) = (&claim, &work, &others);
        let mut found = pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(move |_| {
                    let found = work(&mut || claim());
                    others_found.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                });
            }
            work(&mut claim_and_look)
        });
        for other in others.into_inner().unwrap_or_else(PoisonError::into_inner) {
            merge(&mut found, &other);
        }
        found
    } else {
        work(&mut claim_and_look)
    };
    if stopped.into_inner() { Err(Interrupted) } else { Ok(found) }
}

/// A pool of this process, and how many of the wanted threads it can give.
fn pool(helpers: usize) -> Option<(&'static ThreadPool, usize)> {
    let generation = GENERATION.load(Ordering::Relaxed);
    let newest = POOL.load(Ordering::Acquire);
    // SAFETY: pools are leaked, so a pointer that was published stays valid; a fork's child has a copy of it.
    let current = unsafe { newest.as_ref() }.filter(|pool| pool.generation == generation && pool.asked >= helpers);
    let pool = current.unwrap_or_else(|| {
        let asked = helpers.max(threads().saturating_sub(1));
        let built = Box::into_raw(Box::new(Pool { generation, asked, pool: build(asked) }));
        // Where two threads get here at once both pools serve, and the last one stays.
        POOL.store(built, Ordering::Release);
        // SAFETY: just made, and leaked.
        unsafe { &*built }
    });
    pool.pool.as_ref().map(|threads| (threads, helpers.min(threads.current_num_threads())))
}

/// Builds a pool, of fewer threads where the system refuses so many.
fn build(asked: usize) -> Option<ThreadPool> {
    watch_forks();
    let mut threads = asked;
    while threads > 0 {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("lossrs-{i}"));
        if let Ok(pool) = builder.build() {
            return Some(pool);
        }
        REFUSED.store(true, Ordering::Relaxed);
        threads /= 2;
    }
    None
}

/// Has every fork from now on counted in the child. `fork(2)` itself calls the handler, whoever calls `fork`.
#[cfg(unix)]
fn watch_forks() {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    extern "C" fn count() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    if !WATCHING.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    }
}

#[cfg(not(unix))]
fn watch_forks() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(tasks: usize, spread: bool) -> usize {
        let work = |next: &mut dyn FnMut() -> Option<usize>| std::iter::from_fn(next).sum();
        share(tasks, spread, &|| false, work, |a: &mut usize, b| *a += b).unwrap()
    }

    #[test]
    fn every_task_is_worked_once() {
        for tasks in [0_usize, 1, 2, 3, 1000] {
            let expected = tasks * tasks.saturating_sub(1) / 2;
            assert_eq!(sum(tasks, false), expected);
            assert_eq!(sum(tasks, true), expected);
        }
    }

    #[test]
    fn callers_share_the_pool() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| assert_eq!(sum(100, true), 4950)));
            }
        });
    }

    #[test]
    fn stopping_leaves_the_rest_undone() {
        let worked = AtomicUsize::new(0);
        let work = |next: &mut dyn FnMut() -> Option<usize>| {
            while next().is_some() {
                worked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        assert_eq!(share(1_000_000, true, &|| true, work, |(), ()| ()), Err(Interrupted));
        assert!(worked.into_inner() < 1000);
    }

    #[test]
    fn the_environment_is_asked_in_order() {
        let environment = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|&(k, v)| (k.into(), v.into())).collect();
            default_threads(move |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        assert_eq!(environment(&[("OMP_NUM_THREADS", "3,2"), ("RAYON_NUM_THREADS", "5")]), 5);
        assert_eq!(environment(&[("OMP_NUM_THREADS", "3,2"), ("RAYON_NUM_THREADS", "0")]), 3);
        assert_eq!(environment(&[("LOSSRS_NUM_THREADS", "7"), ("OMP_NUM_THREADS", "3")]), 7);
        assert_eq!(environment(&[("LOSSRS_NUM_THREADS", "99999999")]), MOST_THREADS);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(environment(&[("LOSSRS_NUM_THREADS", "many")]), cpus);
    }
}
