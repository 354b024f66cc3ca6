//! The driver for losses of the label's score alone: it reads one score of each row, and writes its derivative among zeros.

use crate::drive::block::{BLOCK, Block, GRAIN, Number, at, at_mut};
use crate::drive::rows::{Blocks, Call, ELEMENTS_PER_TASK, Found, Matrix};
use crate::drive::tile::{LANES, Results};
use crate::drive::{ALONE_BELOW, Failure};
use crate::isa::{Isa, Kernel};
use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;
use crate::storage;
use crate::sum::ExactSum;
use crate::threads::{self, Spread, Tasks};

/// The labels of some rows, as many of each.
#[derive(Clone, Copy)]
pub struct Labels<'a, T> {
    /// The length of a row.
    pub classes: T,
    /// The labels' scores.
    pub scores: &'a [T],
    /// The weights of the labels' classes.
    pub class_weights: &'a [T],
    /// What each loss is multiplied by; 0 leaves the row out.
    pub weights: &'a [T],
    /// What derivatives are multiplied by besides.
    pub factor: T,
    /// And those of each row.
    pub grad_outputs: &'a [T],
}

/// Evaluates a formula at labels.
pub struct Evaluate<'a, L, T, const K: usize, const DERIVED: bool> {
    /// The formula.
    pub loss: L,
    /// The labels.
    pub labels: Labels<'a, T>,
    /// Where its value and derivatives go.
    pub results: &'a mut Results<T>,
}

impl<L: Rowwise<K>, T: Real, const K: usize, const DERIVED: bool> Kernel for Evaluate<'_, L, T, K, DERIVED> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, labels, results } = self;
        let len = labels.scores.len().min(BLOCK) / GRAIN * GRAIN;
        let derived = if DERIVED { len } else { 0 };
        // SAFETY: `fill` writes every element of each slice.
        let (value, slope, curvature) =
            unsafe { (results.value.written(len), results.slope.written(derived), results.curvature.written(derived)) };
        Self::fill(loss, labels, len, value, slope, curvature);
    }
}

impl<L: Rowwise<K>, T: Real, const K: usize, const DERIVED: bool> Evaluate<'_, L, T, K, DERIVED> {
    /// The loop. As arguments, results are known to be apart from operands, so that it needs no second version.
    #[inline(always)]
    fn fill(loss: L, labels: Labels<'_, T>, len: usize, value: &mut [T], slope: &mut [T], curvature: &mut [T]) {
        let Labels { classes, scores, class_weights, weights, factor, grad_outputs } = labels;
        for first in (0..len).step_by(LANES) {
            // Copies: of a reference, the compiler would read an element only where it counts.
            let [scores, class_weights, weights, grad_outputs]: [[T; LANES]; 4] =
                [scores, class_weights, weights, grad_outputs].map(|part| *at(part, first));
            let [mut values, mut slopes, mut curvatures] = [[T::ZERO; LANES]; 3];
            for lane in 0..LANES {
                let label = Class { score: scores[lane], probability: T::ONE, weight: class_weights[lane] };
                let row = Row { classes, largest: T::ZERO, sums: [T::ZERO; K], label };
                let is_left_out = L::LABEL_WEIGHS_ALL && class_weights[lane] == T::ZERO;
                let weight = if is_left_out { T::ZERO } else { weights[lane] };
                let weighed = loss.value(&row) * weight;
                values[lane] = if weight == T::ZERO { T::ZERO } else { weighed };
                if DERIVED {
                    let (first, second) = loss.at_label(&loss.slopes(&row), label, T::ZERO);
                    let scale = weight * factor * grad_outputs[lane];
                    let (first, second) = (first * scale, second * scale);
                    slopes[lane] = if weight == T::ZERO { T::ZERO } else { first };
                    curvatures[lane] = if weight == T::ZERO { T::ZERO } else { second };
                }
            }
            *at_mut(value, first) = values;
            if DERIVED {
                *at_mut(slope, first) = slopes;
                *at_mut(curvature, first) = curvatures;
            }
        }
    }
}

/// What a thread carries from rows to rows.
struct State<T> {
    places: Block<usize>,
    scores: Block<T>,
    class_weights: Block<T>,
    weights: Block<T>,
    grad_outputs: Block<T>,
    results: Results<T>,
    /// Weights where the call has none.
    ones: Block<T>,
    /// Zeros, but while derivatives are written.
    zeros: Block<T>,
}

impl<T: Number> State<T> {
    /// A constant, so that it is made in place and not moved.
    const UNFILLED: Self = Self {
        places: Block::new(),
        scores: Block::new(),
        class_weights: Block::new(),
        weights: Block::new(),
        grad_outputs: Block::new(),
        results: Results { value: Block::new(), slope: Block::new(), curvature: Block::new() },
        ones: Block::new(),
        zeros: Block::new(),
    };
}

impl Call<'_> {
    /// [`Call::run`] of a loss of the label's score alone.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn run_labels<T: Number>(
        &self,
        loss: &dyn Blocks<T>,
        stop: &dyn Fn() -> bool,
    ) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        // What is written is all of a row, what is read an element.
        let elements = if self.want.slope() { self.classes } else { 1 };
        let rows = (ELEMENTS_PER_TASK / elements).clamp(1, BLOCK);
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found::NOTHING;
            let mut state = State::<T>::UNFILLED;
            // SAFETY: all of the room is filled.
            unsafe {
                state.zeros.filled(BLOCK, |room| room.fill(T::ZERO));
                state.ones.filled(BLOCK, |room| room.fill(T::ONE));
            }
            while let Some(task) = tasks.next() {
                let start = task * rows;
                let len = rows.min(samples - start);
                // SAFETY: the caller's, and no other task has these rows.
                unsafe { self.rows_of_labels(isa, loss, &mut state, &mut found, tasks, start, len) };
            }
            storage::fence();
            found
        };
        let spread = Spread::if_worth(samples * elements >= ALONE_BELOW);
        threads::share(samples.div_ceil(rows), spread, stop, work, Found::merge)?.sum()
    }

    /// Computes some rows.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn rows_of_labels<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        state: &mut State<T>,
        found: &mut Found,
        tasks: &mut Tasks<'_>,
        start: usize,
        len: usize,
    ) {
        let padded = len.next_multiple_of(GRAIN);
        // SAFETY: the caller's for all that is read and written; every element of each block is written before it is read.
        unsafe {
            let ones = &*state.ones.written(padded);
            let places = state.places.written(len);
            let all_count = self.read_places(isa, start, places);
            let weights = match self.sample_weight {
                None if all_count => ones,
                Some(operand) if all_count => self.layout.fetch(isa, operand, start, len, &mut state.weights),
                operand => {
                    let weights = state.weights.written(padded);
                    self.read_or_ones(isa, operand, start, len, weights);
                    // Those of rows that are left out.
                    places.fill(0);
                    self.each_label(start, &mut weights[..len], found, |i, label| places[i] = label);
                    weights
                }
            };
            let grad_outputs = match self.grad_output {
                Some(operand) => self.layout.fetch(isa, operand, start, len, &mut state.grad_outputs),
                None => ones,
            };
            let scores = state.scores.written(padded);
            scores[len..].fill(T::ZERO);
            match self.layout.one_run(&self.input.samples, start, len) {
                Some(run) => run.load_at(isa, self.input.stride, places, scores),
                None => {
                    for (i, &place) in places.iter().enumerate() {
                        self.input.row(self.layout, start + i).from(place).load(isa, &mut scores[i..=i]);
                    }
                }
            }
            let class_weights = if self.weight.is_some() {
                let class_weights = state.class_weights.written(padded);
                for (weight, &place) in class_weights.iter_mut().zip(&*places) {
                    *weight = self.class_weight(isa, place);
                }
                class_weights[len..].fill(T::ONE);
                class_weights
            } else {
                ones
            };
            let (classes, factor) = (T::of(self.classes as f64), T::of(self.factor));
            let labels = Labels { classes, scores, class_weights, weights, factor, grad_outputs };
            loss.of_labels(isa, self.want.slope(), labels, &mut state.results);
            let results = &mut state.results;
            if self.want.value() {
                let values = &results.value.written(padded)[..len];
                if self.sum {
                    found.sum.add_block(isa, values);
                }
                if let Some(output) = self.value {
                    self.layout.put(isa, output, start, values, false);
                }
            }
            let zeros = state.zeros.written(BLOCK);
            for (matrix, room) in [(self.slope, &mut results.slope), (self.curvature, &mut results.curvature)] {
                if let Some(matrix) = matrix {
                    self.put_labels(isa, matrix, start, places, room.written(padded), zeros, tasks);
                }
            }
        }
    }

    /// Writes derivatives at labels, and zeros elsewhere, from a room of zeros.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn put_labels<T: Real>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        start: usize,
        places: &[usize],
        derivatives: &[T],
        zeros: &mut [T],
        tasks: &mut Tasks<'_>,
    ) {
        let classes = self.classes;
        // SAFETY: the caller's.
        unsafe {
            if classes <= BLOCK
                && let Some(run) = self.side_by_side(matrix, start, places.len())
            {
                let rows = BLOCK / classes;
                for (chunk, (places, derivatives)) in places.chunks(rows).zip(derivatives.chunks(rows)).enumerate() {
                    for (row, (&place, &derivative)) in places.iter().zip(derivatives).enumerate() {
                        zeros[row * classes + place] = derivative;
                    }
                    run.from(chunk * rows * classes).store(isa, &zeros[..places.len() * classes], self.is_large(run));
                    for (row, &place) in places.iter().enumerate() {
                        zeros[row * classes + place] = T::ZERO;
                    }
                }
                return;
            }
            for (i, (&place, &derivative)) in places.iter().zip(derivatives).enumerate() {
                for (first, len) in super::rows::blocks(classes, tasks) {
                    let place = place.checked_sub(first).filter(|&place| place < len);
                    if let Some(place) = place {
                        zeros[place] = derivative;
                    }
                    self.put_block(isa, matrix, start + i, first, &zeros[..len]);
                    if let Some(place) = place {
                        zeros[place] = T::ZERO;
                    }
                }
            }
        }
    }
}
