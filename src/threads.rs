//! The pool: how many threads, work shared among them, and life after `fork`.
//!
//! The caller works too, and claims tasks from the same counter as the pool's threads. A thread of the pool that gets to a call
//! after its tasks are done is turned away, so a call never waits for a thread to wake, nor for another call's work. Nothing
//! here depends on which thread did what: callers merge what the threads found by operations that commute.
//!
//! To wake a thread takes longer than a short call. So a thread that has nothing to do watches for a moment before it sleeps,
//! a call whose tasks may be short works the first of them alone to see what the others are worth, and a caller wakes one
//! thread at most: each that comes wakes the next.
//!
//! A pool does not survive `fork`: its threads are gone and its locks may be held for ever. The child of a fork therefore
//! never touches an inherited pool, not even to drop it, and builds its own at the first call that wants one.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::mem::{ManuallyDrop, transmute};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// More threads than this are not asked of a machine.
const MOST_THREADS: usize = 1024;

/// How long the caller works before it looks whether it shall stop.
pub const PATIENCE: Duration = Duration::from_millis(40);

/// How long a thread that waits looks for what it waits for before it sleeps.
const WATCH: Duration = Duration::from_micros(50);

/// Work that is worth a thread that watches: to call it in and to wait for its last task takes about 1 µs.
const WORTH_CALLING: Duration = Duration::from_micros(4);

/// Work that is worth waking a thread: that takes some 5 µs of the caller's time, and the thread comes 15 to 50 µs later.
const WORTH_WAKING: Duration = Duration::from_micros(60);

/// The threads that a call may use, its own among them; 0 until first asked for.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Counts the forks that led to this process.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// The pool of this process, or an inherited one. Pools are leaked: their threads never end.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// Whether the system has refused threads and nobody has been told.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// The caller wanted to stop before the work was done, or was forked and is the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// When other threads are called in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Never: the work is short, and is not interrupted either.
    Never,
    /// If the first task shows that the others are worth it.
    IfWorth,
    /// At once.
    AtOnce,
}

impl Spread {
    /// If the work may be long enough, what its first task shows.
    pub fn if_worth(may_be: bool) -> Self {
        if may_be { Self::IfWorth } else { Self::Never }
    }
}

impl From<bool> for Spread {
    fn from(spread: bool) -> Self {
        if spread { Self::AtOnce } else { Self::Never }
    }
}

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
/// `stop` is asked from time to time, on the caller's thread only.
///
/// # Errors
/// If `stop` said so, or forked; some of the tasks have then been worked.
pub fn share<S: Send>(
    tasks: usize,
    spread: impl Into<Spread>,
    stop: &dyn Fn() -> bool,
    work: impl Fn(&mut Tasks<'_>) -> S + Sync,
    mut merge: impl FnMut(&mut S, &S),
) -> Result<S, Interrupted> {
    let mut found = None;
    let work = |tasks: &mut Tasks<'_>, found: &mut Option<S>| *found = Some(work(tasks));
    let merge = |found: &mut Option<S>, other: &Option<S>| {
        if let (Some(found), Some(other)) = (found, other) {
            merge(found, other);
        }
    };
    share_into(&mut found, tasks, spread.into(), stop, || None, work, merge)?;
    Ok(found.unwrap_or_else(|| unreachable!("the caller has worked")))
}

/// [`share`], where threads add to what is there: the caller to `found`, others to a `new` one each. It copies nothing, which
/// counts where the work is short.
///
/// # Errors
/// As [`share`].
pub fn share_into<S: Send>(
    found: &mut S,
    tasks: usize,
    spread: Spread,
    stop: &dyn Fn() -> bool,
    new: impl Fn() -> S + Sync,
    work: impl Fn(&mut Tasks<'_>, &mut S) + Sync,
    mut merge: impl FnMut(&mut S, &S),
) -> Result<(), Interrupted> {
    let claims = Claims { next: AtomicUsize::new(0), end: tasks, stopped: AtomicBool::new(false) };
    let helpers = if spread == Spread::Never { 0 } else { threads().min(tasks).saturating_sub(1) };
    if helpers == 0 {
        let caller = (spread != Spread::Never).then(|| Caller { stop, asked: Instant::now(), party: None });
        work(&mut Tasks { claims: &claims, is_alone: true, caller }, found);
        return claims.outcome();
    }
    // What a forked child has of it may be half written.
    let others = ManuallyDrop::new(Mutex::new(Vec::with_capacity(helpers)));
    let help = || {
        let theirs = catch_unwind(AssertUnwindSafe(|| {
            let mut found = new();
            work(&mut Tasks { claims: &claims, is_alone: false, caller: None }, &mut found);
            found
        }));
        others.lock().unwrap_or_else(PoisonError::into_inner).push(theirs);
    };
    let party = Party { help: &help, helpers, began: Instant::now(), there: OnceCell::new() };
    if spread == Spread::AtOnce {
        party.invite();
    }
    let caller = Caller { stop, asked: party.began, party: Some(&party) };
    let mut mine = Tasks { claims: &claims, is_alone: false, caller: Some(caller) };
    work(&mut mine, found);
    party.end(|| _ = mine.are_stopped())?;
    drop(party);
    for other in ManuallyDrop::into_inner(others).into_inner().unwrap_or_else(PoisonError::into_inner) {
        merge(found, &other.unwrap_or_else(|panic| resume_unwind(panic)));
    }
    claims.outcome()
}

/// What is left of a call's tasks.
struct Claims {
    next: AtomicUsize,
    end: usize,
    stopped: AtomicBool,
}

impl Claims {
    fn outcome(&self) -> Result<(), Interrupted> {
        if self.stopped.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}

/// A thread's claims on the tasks of a call.
pub struct Tasks<'a> {
    claims: &'a Claims,
    /// Whether no other thread claims any.
    is_alone: bool,
    /// On the caller's thread, if the work is not short.
    caller: Option<Caller<'a>>,
}

/// What the caller's thread does between tasks.
struct Caller<'a> {
    /// Whom to ask whether to stop, and when it last did.
    stop: &'a dyn Fn() -> bool,
    asked: Instant,
    /// Whom to call in.
    party: Option<&'a Party<'a>>,
}

impl Tasks<'_> {
    /// Whether the call shall stop; a task that takes long asks from time to time.
    pub fn are_stopped(&mut self) -> bool {
        if let Some(Caller { stop, asked, .. }) = &mut self.caller
            && asked.elapsed() >= PATIENCE
        {
            if stop() {
                self.claims.stopped.store(true, Ordering::Relaxed);
            }
            *asked = Instant::now();
        }
        self.claims.stopped.load(Ordering::Relaxed)
    }
}

impl Iterator for Tasks<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let Claims { next, end, .. } = self.claims;
        let task = if self.is_alone {
            let task = next.load(Ordering::Relaxed);
            next.store(task + 1, Ordering::Relaxed);
            task
        } else {
            next.fetch_add(1, Ordering::Relaxed)
        };
        if task >= *end {
            return None;
        }
        if task == 1
            && let Some(Caller { party: Some(party), .. }) = self.caller
        {
            // If nobody has been called in, the caller has worked the first task, and no other yet.
            party.invite_if_worth(end - 1);
        }
        (!self.are_stopped()).then_some(task)
    }
}

/// The threads that help a call.
struct Party<'a> {
    /// What each of them does; it must not panic.
    help: &'a (dyn Fn() + Sync),
    /// How many are wanted.
    helpers: usize,
    began: Instant,
    /// Where they come in, when they have been called.
    there: OnceCell<(&'static Pool, Arc<Door>)>,
}

impl Party<'_> {
    /// Calls in as many threads of the pool as are free, now or before the tasks are done.
    fn invite(&self) {
        if let Some(pool) = pool(self.helpers) {
            // SAFETY: `end`, which is called before this is gone, does not return, nor unwind, while a thread is inside the
            // door, and later none gets in.
            let (pool, door) = self.there.get_or_init(|| (pool, Arc::new(unsafe { Door::open(self.help) })));
            pool.invite(door, self.helpers);
        }
    }

    /// Does so if what is left is worth it: so many tasks, if they are like the one that was done.
    fn invite_if_worth(&self, tasks: usize) {
        if self.there.get().is_none() {
            let is_watched = Pool::of_this_process().is_some_and(|pool| pool.watching.load(Ordering::Relaxed) > 0);
            let enough = if is_watched { WORTH_CALLING } else { WORTH_WAKING };
            let left = self.began.elapsed().saturating_mul(tasks.try_into().unwrap_or(u32::MAX));
            if left >= enough {
                self.invite();
            }
        }
    }

    /// Lets nobody in any more, and waits until all have left.
    ///
    /// # Errors
    /// If the caller was forked meanwhile and this is the child: what helpers did is lost.
    fn end(&self, meanwhile: impl FnMut()) -> Result<(), Interrupted> {
        let Some((pool, door)) = self.there.get() else { return Ok(()) };
        door.shut(pool, meanwhile);
        if pool.is_of_this_process() {
            pool.withdraw(door);
            Ok(())
        } else {
            Err(Interrupted)
        }
    }
}

impl Drop for Party<'_> {
    /// For the case of a panic.
    fn drop(&mut self) {
        _ = self.end(|| ());
    }
}

/// Where helpers enter a call and leave it, until the caller shuts it.
struct Door {
    /// The helpers inside; [`SHUT`](Self::SHUT) besides if no more may enter.
    inside: AtomicUsize,
    /// What a helper does inside.
    help: *const (dyn Fn() + Sync),
    caller: Thread,
}

// SAFETY: what `help` points to is `Sync`, and lives as `open` demands.
unsafe impl Send for Door {}
// SAFETY: as above.
unsafe impl Sync for Door {}

impl Door {
    const SHUT: usize = 1 << (usize::BITS - 1);

    /// # Safety
    /// `help` must live until the door has been shut.
    unsafe fn open(help: &(dyn Fn() + Sync)) -> Self {
        // SAFETY: only the lifetime changes, of what is followed inside the door alone.
        #[allow(clippy::transmute_ptr_to_ptr, reason = "a cast cannot change the lifetime of a trait object")]
        let help = unsafe { transmute::<*const (dyn Fn() + Sync), *const (dyn Fn() + Sync + 'static)>(help) };
        Self { inside: AtomicUsize::new(0), help, caller: thread::current() }
    }

    /// Helps, unless the door is shut.
    fn enter(&self) {
        let entered = |inside| (inside & Self::SHUT == 0).then_some(inside + 1);
        if self.inside.fetch_update(Ordering::Acquire, Ordering::Relaxed, entered).is_ok() {
            // SAFETY: the door is not shut while a thread is inside.
            unsafe { (*self.help)() };
            // Releases what was done inside to the caller.
            if self.inside.fetch_sub(1, Ordering::Release) == Self::SHUT + 1 {
                self.caller.unpark();
            }
        }
    }

    /// Lets nobody in any more, and waits until all have left; in a forked child nobody is inside.
    fn shut(&self, pool: &Pool, mut meanwhile: impl FnMut()) {
        self.inside.fetch_or(Self::SHUT, Ordering::Relaxed);
        let is_over = || self.inside.load(Ordering::Acquire) == Self::SHUT || !pool.is_of_this_process();
        // They are in their last tasks.
        watch(is_over);
        while !is_over() {
            thread::park_timeout(PATIENCE);
            meanwhile();
        }
    }
}

/// Waits a moment for something to be so. Other threads that want the processor get it: where the system has put a helper on
/// its caller's, one that only looked would hold up all that it waits for.
fn watch(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() && began.elapsed() < WATCH {
        (0..16).for_each(|_| std::hint::spin_loop());
        thread::yield_now();
    }
}

/// The threads of a process. A pool that is too small is added to.
struct Pool {
    generation: usize,
    /// The threads that the system was asked for.
    asked: AtomicUsize,
    /// The threads that watch for calls.
    watching: AtomicUsize,
    /// The length of the queue, for those that watch.
    calls: AtomicUsize,
    queue: Mutex<Queue>,
    /// Wakes those that sleep.
    bell: Condvar,
}

/// The calls that want threads, and the threads that sleep.
struct Queue {
    /// Their doors, and how many more may come to each.
    calls: VecDeque<(Arc<Door>, usize)>,
    sleeping: usize,
}

impl Pool {
    fn of_this_process() -> Option<&'static Self> {
        // SAFETY: pools are leaked, so a pointer that was published stays valid; a fork's child has a copy of it.
        unsafe { POOL.load(Ordering::Acquire).as_ref() }.filter(|pool| pool.is_of_this_process())
    }

    fn is_of_this_process(&self) -> bool {
        self.generation == GENERATION.load(Ordering::Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so many threads to a door.
    fn invite(&self, door: &Arc<Door>, threads: usize) {
        let mut queue = self.queue();
        queue.calls.push_back((Arc::clone(door), threads));
        self.go_on(queue);
    }

    /// Takes back what is left of an invitation.
    fn withdraw(&self, door: &Arc<Door>) {
        if self.calls.load(Ordering::Relaxed) > 0 {
            let mut queue = self.queue();
            queue.calls.retain(|(other, _)| !Arc::ptr_eq(other, door));
            self.calls.store(queue.calls.len(), Ordering::Relaxed);
        }
    }

    /// Leaves the queue; if calls are waiting there and no thread is about to look, wakes one.
    fn go_on(&self, queue: MutexGuard<'_, Queue>) {
        self.calls.store(queue.calls.len(), Ordering::Relaxed);
        let wakes = !queue.calls.is_empty() && queue.sleeping > 0 && self.watching.load(Ordering::Relaxed) == 0;
        drop(queue);
        if wakes {
            self.bell.notify_one();
        }
    }

    /// What a thread of the pool does.
    fn serve(&self) {
        leave_signals();
        loop {
            self.watching.fetch_add(1, Ordering::Relaxed);
            watch(|| self.calls.load(Ordering::Relaxed) > 0);
            let mut queue = self.queue();
            // Who joins the queue after this sees that nobody watches.
            self.watching.fetch_sub(1, Ordering::Relaxed);
            while queue.calls.is_empty() {
                queue.sleeping += 1;
                queue = self.bell.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.sleeping -= 1;
            }
            let Some((first, threads)) = queue.calls.front_mut() else { continue };
            let door = Arc::clone(first);
            *threads -= 1;
            if *threads == 0 {
                queue.calls.pop_front();
            }
            self.go_on(queue);
            door.enter();
        }
    }
}

/// The pool of this process, with so many threads or those that the system gives.
fn pool(helpers: usize) -> Option<&'static Pool> {
    let pool = match Pool::of_this_process() {
        Some(pool) => pool,
        // Before anything that a child could inherit.
        None if !watch_forks() => return None,
        None => {
            let inherited = POOL.load(Ordering::Acquire);
            let new = Box::into_raw(Box::new(Pool {
                generation: GENERATION.load(Ordering::Relaxed),
                asked: AtomicUsize::new(0),
                watching: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
                queue: Mutex::new(Queue { calls: VecDeque::new(), sleeping: 0 }),
                bell: Condvar::new(),
            }));
            if POOL.compare_exchange(inherited, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // Another thread was quicker.
                // SAFETY: this one has been seen by nobody else.
                drop(unsafe { Box::from_raw(new) });
            }
            Pool::of_this_process()?
        }
    };
    // One thread adds to it. The others do not wait for it, but make do with what there is.
    let asked = pool.asked.load(Ordering::Relaxed);
    let wanted = helpers.max(threads().saturating_sub(1));
    if asked < helpers && pool.asked.compare_exchange(asked, wanted, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        for number in asked..wanted {
            if thread::Builder::new().name(format!("lossrs-{number}")).spawn(|| pool.serve()).is_err() {
                REFUSED.store(true, Ordering::Relaxed);
                break;
            }
        }
    }
    Some(pool)
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
    use std::collections::HashSet;

    fn sum(tasks: usize, spread: impl Into<Spread>) -> usize {
        let work = |claims: &mut Tasks<'_>| claims.sum();
        share(tasks, spread, &|| false, work, |a: &mut usize, b| *a += b).unwrap()
    }

    #[test]
    fn every_task_is_worked_once() {
        for tasks in [0_usize, 1, 2, 3, 1000] {
            let expected = tasks * tasks.saturating_sub(1) / 2;
            assert_eq!(sum(tasks, false), expected);
            assert_eq!(sum(tasks, true), expected);
            assert_eq!(sum(tasks, Spread::IfWorth), expected);
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
    fn tasks_that_take_long_are_spread() {
        for spread in [Spread::IfWorth, Spread::AtOnce] {
            let work = |claims: &mut Tasks<'_>| {
                let tasks = claims.map(|_| thread::sleep(Duration::from_millis(1))).count();
                HashSet::from_iter((tasks > 0).then(|| thread::current().id()))
            };
            let call = || share(200, spread, &|| false, work, |a: &mut HashSet<_>, b| a.extend(b)).unwrap();
            while call().len() < 3 {
                set_threads(3);
            }
        }
    }

    #[test]
    fn a_queue_keeps_no_call_that_is_over() {
        set_threads(2);
        (0..100).for_each(|_| assert_eq!(sum(100, true), 4950));
        let over = |(door, _): &(Arc<Door>, usize)| door.inside.load(Ordering::Relaxed) == Door::SHUT;
        let pool = Pool::of_this_process().unwrap();
        // Those of other tests may be about to be taken back.
        while pool.queue().calls.iter().any(over) {
            thread::yield_now();
        }
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
