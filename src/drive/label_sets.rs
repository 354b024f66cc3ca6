//! The driver for losses of a row of scores of which any number are the labels'.
//!
//! A row's labels are read up to the first −1, and sorted. Then each block of classes is swept once for each label; what
//! stands at a label is −∞ there, which is at no distance that counts. Sums run in 16 fixed lanes within a block, in double
//! precision from block to block, so that they depend on the number of classes and the set of labels alone.

use crate::drive::block::{self, BLOCK, Block, LANES, Number};
use crate::drive::rows::{Call, ELEMENTS_PER_TASK, Found, Misfit, Target};
use crate::drive::{Failure, SPREAD_FROM, STREAM_FROM, Want};
use crate::isa::{Isa, Kernel};
use crate::loss::LabelSets;
use crate::real::Real;
use crate::storage;
use crate::sum::{self, ExactSum};
use crate::threads::{self, Tasks};

/// Labels that are read at once.
const STEP: usize = 16;
/// Pairs of a label and a class between looks at the clock.
const LONG: usize = 1 << 22;

/// A label of a row.
#[derive(Clone, Copy, Debug)]
pub struct Label<T> {
    class: usize,
    score: T,
    /// Its first and second derivative so far.
    derivatives: [f64; 2],
}

/// Room for the derivatives of a block of classes.
pub struct Results<T> {
    slope: Block<T>,
    curvature: Block<T>,
}

/// A loss of sets of labels whose formula is behind a pointer.
pub trait Blocks<T>: Send + Sync {
    /// The sum over the pairs of a label and one of the others, which are a multiple of [`LANES`] and −∞ where they do not
    /// count. Adds what is wanted to the labels' derivatives, and writes that of the others.
    fn sweep(&self, isa: Isa, want: Want, others: &[T], labels: &mut [Label<T>], results: &mut Results<T>) -> T;
}

/// A loss of sets of labels, its formula and type of numbers behind a pointer.
pub trait Loss: Blocks<f32> + Blocks<f64> {}

evaluated_as!(of_sets);

/// A formula as a [`Loss`].
pub struct Formula<L>(pub L);

impl<L: LabelSets> Loss for Formula<L> {}

impl<L: LabelSets, T: Real> Blocks<T> for Formula<L> {
    fn sweep(&self, isa: Isa, want: Want, others: &[T], labels: &mut [Label<T>], results: &mut Results<T>) -> T {
        let loss = self.0;
        if labels.is_empty() {
            // SAFETY: all of both is filled.
            unsafe {
                results.slope.filled(others.len(), |room| room.fill(T::ZERO));
                results.curvature.filled(others.len(), |room| room.fill(T::ZERO));
            }
            return T::ZERO;
        }
        match want {
            Want::Gradient => isa.run(Sweep::<_, _, false, true, false> { loss, others, labels, results }),
            // Without derivatives the compiler finds no vectors.
            Want::Value | Want::ValueAndGradient => {
                isa.run(Sweep::<_, _, true, true, false> { loss, others, labels, results })
            }
            Want::GradientAndHessian => isa.run(Sweep::<_, _, false, true, true> { loss, others, labels, results }),
        }
    }
}

struct Sweep<'a, L, T, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool> {
    loss: L,
    others: &'a [T],
    labels: &'a mut [Label<T>],
    results: &'a mut Results<T>,
}

impl<L: LabelSets, T: Real, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool> Kernel
    for Sweep<'_, L, T, VALUE, SLOPE, CURVATURE>
{
    type Output = T;

    #[inline(always)]
    fn run(self) -> T {
        let Self { loss, others, labels, results } = self;
        let len = others.len().min(BLOCK) / LANES * LANES;
        if len < LANES {
            return T::ZERO;
        }
        let part = |wanted: bool| if wanted { len } else { 0 };
        // SAFETY: the first label's sweep writes all of both; there is one, as `sweep` sees to.
        let (slope, curvature) =
            unsafe { (results.slope.written(part(SLOPE)), results.curvature.written(part(CURVATURE))) };
        let mut total = T::ZERO;
        for (place, label) in labels.iter_mut().enumerate() {
            let sums = if place == 0 {
                Self::label::<true>(loss, &others[..len], label.score, slope, curvature)
            } else {
                Self::label::<false>(loss, &others[..len], label.score, slope, curvature)
            };
            let [value, slope, curvature] = sums.map(|lanes| sum::fold(lanes, |a, b| a + b));
            total = total + value;
            label.derivatives[0] += slope.to_f64();
            label.derivatives[1] += curvature.to_f64();
        }
        total
    }
}

impl<L: LabelSets, T: Real, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool>
    Sweep<'_, L, T, VALUE, SLOPE, CURVATURE>
{
    /// The pairs of one label: their sums, in lanes, of what is wanted. Derivatives of the others are written by the first
    /// label and added to by the rest.
    #[inline(always)]
    fn label<const FIRST: bool>(
        loss: L,
        others: &[T],
        score: T,
        slope: &mut [T],
        curvature: &mut [T],
    ) -> [[T; LANES]; 3] {
        let [mut values, mut slopes, mut curvatures] = [[T::ZERO; LANES]; 3];
        let (others, slope, curvature) =
            (others.as_chunks::<LANES>().0, slope.as_chunks_mut::<LANES>().0, curvature.as_chunks_mut::<LANES>().0);
        for chunk in 0..others.len() {
            let [mut losses, mut firsts, mut seconds] = [[T::ZERO; LANES]; 3];
            let others = &others[chunk];
            for lane in 0..LANES {
                let distance = score - others[lane];
                let distance = if others[lane] == -T::INFINITY { T::INFINITY } else { distance };
                let jet = loss.at(distance);
                (losses[lane], [firsts[lane]], [seconds[lane]]) = (jet.value, jet.slope, jet.curvature);
            }
            for lane in 0..LANES {
                if VALUE {
                    values[lane] = values[lane] + losses[lane];
                }
                if SLOPE {
                    slopes[lane] = slopes[lane] + firsts[lane];
                }
                if CURVATURE {
                    curvatures[lane] = curvatures[lane] + seconds[lane];
                }
            }
            if SLOPE {
                let slope = &mut slope[chunk];
                for lane in 0..LANES {
                    let before = if FIRST { T::ZERO } else { slope[lane] };
                    slope[lane] = before - firsts[lane];
                }
            }
            if CURVATURE {
                let curvature = &mut curvature[chunk];
                for lane in 0..LANES {
                    let before = if FIRST { T::ZERO } else { curvature[lane] };
                    curvature[lane] = before + seconds[lane];
                }
            }
        }
        [values, slopes, curvatures]
    }
}

/// What a thread carries from row to row.
struct State<T> {
    others: Block<T>,
    results: Results<T>,
    sample_weights: Block<T>,
    grad_outputs: Block<T>,
    values: Block<T>,
}

impl<T: Number> State<T> {
    /// A constant, so that it is made in place and not moved.
    const UNFILLED: Self = Self {
        others: Block::new(),
        results: Results { slope: Block::new(), curvature: Block::new() },
        sample_weights: Block::new(),
        grad_outputs: Block::new(),
        values: Block::new(),
    };
}

impl Call<'_> {
    /// [`Call::total_weight`] of sets of labels: the exact sum of the samples' weights, after all labels have been looked at.
    ///
    /// # Errors
    /// If a label is not a class, or `stop` said so.
    ///
    /// # Safety
    /// The labels and weights must be readable.
    pub unsafe fn total_weight_of_sets<T: Number>(&self, stop: &dyn Fn() -> bool) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        let rows = self.rows_per_task();
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found::NOTHING;
            let (mut room, mut ones) = (Block::<T>::new(), Block::<T>::new());
            while let Some(task) = tasks.next() {
                let start = task * rows;
                let len = rows.min(samples - start);
                // SAFETY: the caller's; all of `ones` that is read is filled.
                unsafe {
                    let weights = match self.sample_weight {
                        Some(operand) => &self.layout.fetch(isa, operand, start, len, &mut room)[..len],
                        None => ones.filled(len, |ones| ones.fill(T::ONE)),
                    };
                    found.sum.add_block(isa, weights);
                    for row in (0..len).filter(|&row| weights[row] != T::ZERO) {
                        found.note(self.labels(isa, start + row, tasks, |_| ()).err());
                    }
                }
            }
            found
        };
        let spread = samples * self.classes >= SPREAD_FROM;
        threads::share(samples.div_ceil(rows), spread, stop, work, Found::merge)?.sum()
    }

    /// [`Call::run`] of sets of labels: the exact sum of the weighted losses, if it is wanted.
    ///
    /// # Errors
    /// If a label is not a class, or `stop` said so.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without overlap, except that a result may be
    /// an operand.
    pub unsafe fn run_sets<T: Number>(
        &self,
        loss: &dyn Blocks<T>,
        stop: &dyn Fn() -> bool,
    ) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        let rows = self.rows_per_task();
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found::NOTHING;
            let mut state = State::<T>::UNFILLED;
            let mut labels = Vec::new();
            while let Some(task) = tasks.next() {
                let start = task * rows;
                let len = rows.min(samples - start);
                // SAFETY: the caller's, and no other task has these rows.
                unsafe { self.sets(isa, loss, &mut state, &mut labels, &mut found, tasks, start, len) };
            }
            storage::fence();
            found
        };
        let spread = samples * self.classes >= SPREAD_FROM;
        threads::share(samples.div_ceil(rows), spread, stop, work, Found::merge)?.sum()
    }

    fn rows_per_task(&self) -> usize {
        (ELEMENTS_PER_TASK / self.classes).clamp(1, BLOCK)
    }

    /// # Safety
    /// As [`Call::run`].
    unsafe fn sets<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        state: &mut State<T>,
        labels: &mut Vec<Label<T>>,
        found: &mut Found,
        tasks: &mut Tasks<'_>,
        start: usize,
        len: usize,
    ) {
        let mut misfit = None;
        let State { others, results, sample_weights, grad_outputs, values } = state;
        // SAFETY: the caller's for all that is read and written; every element of `values` is written.
        unsafe {
            let sample_weights =
                self.sample_weight.map(|operand| self.layout.fetch(isa, operand, start, len, sample_weights));
            let grad_outputs =
                self.grad_output.map(|operand| self.layout.fetch(isa, operand, start, len, grad_outputs));
            let values = values.filled(len, |values| {
                for (i, value) in values.iter_mut().enumerate() {
                    let row = start + i;
                    let weight = sample_weights.map_or(T::ONE, |weights| weights[i]);
                    let grad_output = grad_outputs.map_or(T::ONE, |outputs| outputs[i]);
                    let scores = self.input.row(self.layout, row);
                    labels.clear();
                    if weight != T::ZERO
                        && let Err(found) = self.labels(isa, row, tasks, |class| {
                            let mut score = [T::ZERO];
                            scores.from(class).load(isa, &mut score);
                            labels.push(Label { class, score: score[0], derivatives: [0.0; 2] });
                        })
                    {
                        misfit = misfit.or(Some(found));
                        labels.clear();
                    }
                    labels.sort_unstable_by_key(|label| label.class);
                    let scale = weight * T::of(self.factor) * grad_output;
                    // The factor of a mean over nothing is infinite.
                    let scale = if weight == T::ZERO { T::ZERO } else { scale };
                    *value = self.set(isa, loss, row, labels, scale, others, results, tasks) * weight;
                }
            });
            if self.sum {
                found.sum.add_block(isa, values);
            }
            if let Some(output) = self.value {
                self.layout.put(isa, output, start, values, false);
            }
        }
        found.note(misfit);
    }

    /// Visits a row's labels.
    ///
    /// # Errors
    /// With the first that is not a class.
    ///
    /// # Safety
    /// The labels must be readable.
    #[inline]
    unsafe fn labels(
        &self,
        isa: Isa,
        row: usize,
        tasks: &mut Tasks<'_>,
        mut visit: impl FnMut(usize),
    ) -> Result<(), Misfit> {
        let Target::LabelSets(target) = self.target else { return Ok(()) };
        let run = target.row(self.layout, row);
        let mut room = [0.0_f64; STEP];
        for start in (0..self.classes).step_by(STEP) {
            // So many labels take a while; what is found of those before is not used when the call is stopped.
            if start.is_multiple_of(1 << 16) && start > 0 && tasks.are_stopped() {
                return Ok(());
            }
            let room = &mut room[..STEP.min(self.classes - start)];
            // SAFETY: the caller's.
            unsafe { run.from(start).load(isa, room) };
            for (i, &label) in room.iter().enumerate() {
                if label == -1.0 {
                    return Ok(());
                }
                let class = label as usize;
                if class >= self.classes || class as f64 != label {
                    // SAFETY: the caller's.
                    return Err((row, unsafe { run.label(start + i) }));
                }
                visit(class);
            }
        }
        Ok(())
    }

    /// Computes a row of these labels: returns its loss, writes its derivatives.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn set<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        row: usize,
        labels: &mut [Label<T>],
        scale: T,
        others: &mut Block<T>,
        results: &mut Results<T>,
        tasks: &mut Tasks<'_>,
    ) -> T {
        let classes = self.classes as f64;
        let (mut sum, mut next, mut pairs) = (0.0, 0, 0);
        let scale = scale / T::of(classes);
        if labels.is_empty() && !self.want.slope() {
            return T::ZERO;
        }
        for start in (0..self.classes).step_by(BLOCK) {
            let len = BLOCK.min(self.classes - start);
            // SAFETY: the caller's; all of the room is written, and `sweep` writes the results that are wanted.
            unsafe {
                let others = others.filled(len.next_multiple_of(LANES), |others| {
                    self.input.row(self.layout, row).from(start).load(isa, &mut others[..len]);
                    others[len..].fill(-T::INFINITY);
                });
                for label in labels[next..].iter().take_while(|label| label.class < start + len) {
                    others[label.class - start] = -T::INFINITY;
                    next += 1;
                }
                sum += loss.sweep(isa, self.want, others, labels, results).to_f64();
                if self.want.slope() {
                    let all = start + len == self.classes;
                    self.put_set(isa, row, start, len, scale, if all { labels } else { &[] }, results);
                }
            }
            pairs += len * labels.len();
            if pairs >= LONG {
                if tasks.are_stopped() {
                    break;
                }
                pairs = 0;
            }
        }
        T::of(sum / classes)
    }

    /// Writes a block of a row's derivatives, and those of labels, which are known once all blocks were swept.
    ///
    /// # Safety
    /// As [`Call::run`], and `results` must hold as many.
    unsafe fn put_set<T: Real>(
        &self,
        isa: Isa,
        row: usize,
        start: usize,
        len: usize,
        scale: T,
        labels: &[Label<T>],
        results: &mut Results<T>,
    ) {
        let elements = self.layout.len() * self.classes;
        // A label that stands there twice counts twice.
        let labels = || labels.chunk_by(|a, b| a.class == b.class).map(|same| (same[0].class, same));
        let total = |same: &[Label<T>], order: usize| T::of(same.iter().map(|label| label.derivatives[order]).sum());
        let outputs = [(self.slope, &mut results.slope), (self.curvature, &mut results.curvature)];
        for (order, (matrix, room)) in outputs.into_iter().enumerate() {
            let Some(matrix) = matrix else { continue };
            let run = matrix.row(self.layout, row);
            // SAFETY: the caller's.
            unsafe {
                let derivatives = room.written(len);
                for (class, same) in labels() {
                    if let Some(place) = class.checked_sub(start) {
                        derivatives[place] = total(same, order);
                    }
                }
                block::scale(isa, derivatives, scale);
                run.from(start).store(isa, derivatives, elements * run.dtype.size() >= STREAM_FROM);
                for (class, same) in labels().take_while(|&(class, _)| class < start) {
                    run.from(class).store(isa, &[total(same, order) * scale], false);
                }
            }
        }
    }
}
