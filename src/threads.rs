//! The pool: how many threads, work shared among them, and life after `fork`.
//!
//! The caller works too, and claims tasks from the same counter as the pool's threads. A thread of the pool that gets to a call
//! after its tasks are done is turned away, so a call never waits for a thread to wake, nor for another call's work. Nothing
//! here depends on which thread did what: callers merge what the threads found by operations that commute.
//!
//! A pool does not survive `fork`: its threads are gone and its locks may be held for ever. The child of a fork therefore
//! never touches an inherited pool, not even to drop it, and builds its own at the first call that wants one. What is shared
//! between calls is atomics, never a lock, so there is none to inherit.

use std::mem::{ManuallyDrop, transmute};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rayon::ThreadPool;

/// More threads than this are not asked of a machine.
const MOST_THREADS: usize = 1024;

/// How long the caller works before it looks whether it shall stop.
pub const PATIENCE: Duration = Duration::from_millis(40);

/// The threads that a call may use, its own among them; 0 until first asked for.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Counts the forks that led to this process.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// The newest pool, of this process or inherited. Pools are leaked: a thread may still be inside one.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// The process in which a thread is building a pool, as its generation + 1; 0 if there is none.
static BUILDING: AtomicUsize = AtomicUsize::new(0);

/// Whether the system has refused threads and nobody has been told.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Threads of this process. A pool that is too small is not replaced but added to.
struct Pool {
    generation: usize,
    /// The threads that were asked for, those of the smaller pools among them.
    asked: usize,
    /// Those of them that this pool adds, if they came.
    added: Option<ThreadPool>,
    smaller: Option<&'static Pool>,
}

/// The caller wanted to stop before the work was done, or was forked and is the child.
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
    // The environment is read here and not when next needed: that may be without the interpreter, which guards it.
    let threads = if threads == 0 { default_threads(|name| std::env::var(name).ok()) } else { threads };
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
/// If `stop` said so, or forked; some of the tasks have then been worked.
pub fn share<S: Send>(
    tasks: usize,
    spread: bool,
    stop: &dyn Fn() -> bool,
    work: impl Fn(&mut Tasks<'_>) -> S + Sync,
    mut merge: impl FnMut(&mut S, &S),
) -> Result<S, Interrupted> {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let claims = |stop| Tasks { next: &next, end: tasks, stopped: &stopped, stop };
    let helpers = if spread { threads().min(tasks).saturating_sub(1) } else { 0 };
    // What a forked child has of it may be half written.
    let others = ManuallyDrop::new(Mutex::new(Vec::with_capacity(helpers)));
    let help = || {
        let found = catch_unwind(AssertUnwindSafe(|| work(&mut claims(None))));
        others.lock().unwrap_or_else(PoisonError::into_inner).push(found);
    };
    let mut mine = claims(spread.then(|| (stop, Instant::now())));
    let mut found = with_help(helpers, &help, &mut mine, &work)?;
    for other in ManuallyDrop::into_inner(others).into_inner().unwrap_or_else(PoisonError::into_inner) {
        merge(&mut found, &other.unwrap_or_else(|panic| resume_unwind(panic)));
    }
    if stopped.into_inner() { Err(Interrupted) } else { Ok(found) }
}

/// A thread's claims on the tasks of a call.
pub struct Tasks<'a> {
    next: &'a AtomicUsize,
    end: usize,
    stopped: &'a AtomicBool,
    /// Of the caller's thread: whom to ask whether to stop, and when it last did.
    stop: Option<(&'a dyn Fn() -> bool, Instant)>,
}

impl Tasks<'_> {
    /// Whether the call shall stop; a task that takes long asks from time to time.
    pub fn are_stopped(&mut self) -> bool {
        if let Some((stop, asked)) = &mut self.stop
            && asked.elapsed() >= PATIENCE
        {
            if stop() {
                self.stopped.store(true, Ordering::Relaxed);
            }
            *asked = Instant::now();
        }
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Iterator for Tasks<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let task = self.next.fetch_add(1, Ordering::Relaxed);
        (task < self.end && !self.are_stopped()).then_some(task)
    }
}

/// Works the caller's tasks, while as many threads of the pool as are free, up to `helpers`, call `help`, which must not
/// panic. None of them is in it any more when this returns.
///
/// # Errors
/// If the caller was forked meanwhile and this is the child: what helpers did is lost.
fn with_help<R>(
    helpers: usize,
    help: &(dyn Fn() + Sync),
    tasks: &mut Tasks<'_>,
    work: impl FnOnce(&mut Tasks<'_>) -> R,
) -> Result<R, Interrupted> {
    /// A pointer to `help` that outlives it.
    #[derive(Clone, Copy)]
    struct Help(*const (dyn Fn() + Sync));
    // SAFETY: what it points to is `Sync`.
    unsafe impl Send for Help {}

    impl Help {
        /// # Safety
        /// `help` must live.
        unsafe fn call(self) {
            // SAFETY: the caller's.
            unsafe { (*self.0)() }
        }
    }

    let Some(pool) = (helpers > 0).then(|| pool(helpers)).flatten() else { return Ok(work(tasks)) };
    // SAFETY: only the lifetime changes, of what is followed under the condition below.
    #[allow(clippy::transmute_ptr_to_ptr, reason = "a cast cannot change the lifetime of a trait object")]
    let help = Help(unsafe { transmute::<*const (dyn Fn() + Sync), *const (dyn Fn() + Sync + 'static)>(help) });
    let door = Door::open();
    let shut = ShutOnDrop(&door);
    pool.spawn(helpers, &|| {
        let door = Arc::clone(&door);
        move || {
            if door.enter() {
                // SAFETY: this function does not return, nor unwind, while a thread is inside the door.
                unsafe { help.call() };
                door.leave();
            }
        }
    });
    let result = work(tasks);
    door.shut(|| _ = tasks.are_stopped());
    drop(shut);
    if GENERATION.load(Ordering::Relaxed) == pool.generation { Ok(result) } else { Err(Interrupted) }
}

/// Where helpers enter a call and leave it, until the caller shuts it.
struct Door {
    /// The helpers inside; [`SHUT`](Self::SHUT) besides if no more may enter.
    inside: AtomicUsize,
    caller: Thread,
    generation: usize,
}

impl Door {
    const SHUT: usize = 1 << (usize::BITS - 1);

    fn open() -> Arc<Self> {
        let generation = GENERATION.load(Ordering::Relaxed);
        Arc::new(Self { inside: AtomicUsize::new(0), caller: thread::current(), generation })
    }

    fn enter(&self) -> bool {
        let entered = |inside| (inside & Self::SHUT == 0).then_some(inside + 1);
        self.inside.fetch_update(Ordering::Acquire, Ordering::Relaxed, entered).is_ok()
    }

    fn leave(&self) {
        // Releases what was done inside to the caller.
        if self.inside.fetch_sub(1, Ordering::Release) == Self::SHUT + 1 {
            self.caller.unpark();
        }
    }

    /// Lets nobody in any more, and waits until all have left; in a forked child nobody is inside.
    fn shut(&self, mut meanwhile: impl FnMut()) {
        let mut inside = self.inside.fetch_or(Self::SHUT, Ordering::Acquire) | Self::SHUT;
        while inside != Self::SHUT && GENERATION.load(Ordering::Relaxed) == self.generation {
            thread::park_timeout(PATIENCE);
            meanwhile();
            inside = self.inside.load(Ordering::Acquire);
        }
    }
}

/// For the case of a panic.
struct ShutOnDrop<'a>(&'a Door);

impl Drop for ShutOnDrop<'_> {
    fn drop(&mut self) {
        self.0.shut(|| ());
    }
}

impl Pool {
    /// Hands a job to each of so many threads, or to all that there are.
    fn spawn<J: FnOnce() + Send + 'static>(&self, threads: usize, job: &dyn Fn() -> J) {
        let left = match &self.added {
            Some(added) => {
                let here = threads.min(added.current_num_threads());
                (0..here).for_each(|_| added.spawn(job()));
                threads - here
            }
            None => threads,
        };
        if let Some(smaller) = self.smaller {
            smaller.spawn(left, job);
        }
    }
}

/// A pool of this process of so many threads, or of those that the system gives.
fn pool(helpers: usize) -> Option<&'static Pool> {
    let newest = |generation| {
        // SAFETY: pools are leaked, so a pointer that was published stays valid; a fork's child has a copy of it.
        unsafe { POOL.load(Ordering::Acquire).as_ref() }.filter(|pool: &&Pool| pool.generation == generation)
    };
    let is_enough = |pool: &&Pool| pool.asked >= helpers;
    let generation = GENERATION.load(Ordering::Relaxed);
    if let Some(pool) = newest(generation).filter(is_enough) {
        return Some(pool);
    }
    // Before anything that a child could inherit.
    if !watch_forks() {
        return None;
    }
    // One thread builds. The others do not wait for it, but make do with what there is; nor does the child of a fork that
    // came meanwhile.
    let building = BUILDING.load(Ordering::Relaxed);
    if building == generation + 1
        || BUILDING.compare_exchange(building, generation + 1, Ordering::Acquire, Ordering::Relaxed).is_err()
    {
        return newest(generation);
    }
    let smaller = newest(generation);
    let pool = smaller.filter(is_enough).unwrap_or_else(|| {
        let asked = helpers.max(threads().saturating_sub(1));
        let added = build(asked - smaller.map_or(0, |smaller| smaller.asked));
        let built = Box::leak(Box::new(Pool { generation, asked, added, smaller }));
        POOL.store(built, Ordering::Release);
        built
    });
    BUILDING.store(0, Ordering::Release);
    Some(pool)
}

/// Starts so many threads, or fewer where the system refuses.
fn build(asked: usize) -> Option<ThreadPool> {
    let mut threads = asked;
    while threads > 0 {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("lossrs-{i}"));
        if let Ok(pool) = builder.start_handler(|_| leave_signals()).build() {
            return Some(pool);
        }
        REFUSED.store(true, Ordering::Relaxed);
        threads /= 2;
        // Those that came have yet to go; until then they count.
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Has the process's signals go to other threads than this, whose owners know what they block; what a thread does to itself
/// still reaches it.
#[cfg(unix)]
fn leave_signals() {
    let mut signals = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the set.
    unsafe {
        libc::sigfillset(signals.as_mut_ptr());
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
            libc::sigdelset(signals.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut());
    }
}

#[cfg(not(unix))]
fn leave_signals() {}

/// Has every fork from now on counted in the child, whoever calls `fork`; whether that can be had.
#[cfg(unix)]
fn watch_forks() -> bool {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    extern "C" fn count() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    if WATCHING.load(Ordering::Acquire) {
        return true;
    }
    // Two threads may both get here: to count twice does no harm, to go on before the handler is there would.
    // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
    let watching = unsafe { libc::pthread_atfork(None, None, Some(count)) } == 0;
    WATCHING.store(watching, Ordering::Release);
    watching
}

#[cfg(not(unix))]
fn watch_forks() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(tasks: usize, spread: bool) -> usize {
        let work = |claims: &mut Tasks<'_>| claims.sum();
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
    fn a_call_does_not_wait_for_another() {
        set_threads(2);
        let (started, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let hold = |claims: &mut Tasks<'_>| {
            for _ in claims {
                started.store(true, Ordering::Relaxed);
                while !done.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| share(2, true, &|| false, hold, |(), ()| ()));
            while !started.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            (0..100).for_each(|_| assert_eq!(sum(100, true), 4950));
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_panic_of_any_thread_reaches_the_caller() {
        for culprit in 0..64 {
            let work = |claims: &mut Tasks<'_>| claims.for_each(|task| assert_ne!(task, culprit));
            let call = || share(64, true, &|| false, work, |(), ()| ());
            assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        }
        assert_eq!(sum(1000, true), 499_500);
    }

    #[test]
    fn stopping_leaves_the_rest_undone() {
        let worked = AtomicUsize::new(0);
        let work = |claims: &mut Tasks<'_>| {
            for _ in claims {
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
