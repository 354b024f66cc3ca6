//! Rows of no more classes than a block: a band of them at a time, as they lie.
//!
//! Vectors run along the rows here. While a row is swept for its sums the largest score of the next but one is looked for, which
//! hides behind the exponentials; and what is done once a row is done for all rows of the band at once, one in each lane. A row's last
//! vector reaches back from its end over classes that were added already and leaves them out, so that no row is copied to be padded.
//! All this depends on the number of classes alone, as does the choice of this way.

use crate::drive::block::{BLOCK, Block, GRAIN, LANES, Number, at, at_mut, larger, relative};
use crate::drive::rows::{
    Blocks, Call, Found, Group, Matrix, Pending, Target, Weight, add_terms, log_probabilities, without,
};
use crate::isa::{Isa, Kernel};
use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;
use crate::storage::Ahead;
use crate::sum::fold;

/// The most rows of a band: those that are finished at once.
pub const ROWS: usize = 16;
/// The most elements of a band: scores and slopes of singles fill the first-level cache.
pub const BAND: usize = 4 * BLOCK;

/// The rows of a band.
pub const fn rows(classes: usize) -> usize {
    let rows = BAND / classes;
    if rows < ROWS { rows } else { ROWS }
}

/// What each of some rows has, side by side: a row every `stride` elements, of which 0 gives all rows the same.
#[derive(Clone, Copy)]
pub struct Lines<'a, T> {
    /// The elements.
    pub elements: &'a [T],
    /// From a row to the next.
    pub stride: usize,
}

impl<'a, T> Lines<'a, T> {
    /// One row that is that of all.
    fn of_all(elements: &'a [T]) -> Self {
        Self { elements, stride: 0 }
    }

    #[inline(always)]
    fn row(self, row: usize, classes: usize) -> &'a [T] {
        &self.elements[row * self.stride..][..classes]
    }
}

/// Some rows, as they lie.
#[derive(Clone, Copy)]
pub struct Band<'a, T> {
    /// The length of a row, no less than [`GRAIN`].
    pub classes: usize,
    /// The number of rows.
    pub rows: usize,
    /// The scores.
    pub scores: Lines<'a, T>,
    /// Probabilities, where targets are such; else 0.
    pub probabilities: Lines<'a, T>,
    /// Weights of the classes, or of elements where the formula weighs those.
    pub class_weights: Lines<'a, T>,
    /// The label of each row, a class; empty where targets are no labels.
    pub labels: &'a [usize],
    /// The labels' scores.
    pub label_scores: [T; ROWS],
    /// And the weights of their classes.
    pub label_weights: [T; ROWS],
    /// What each row's loss is multiplied by; 0 leaves the row out.
    pub weights: [T; ROWS],
    /// What derivatives are multiplied by besides.
    pub factor: T,
    /// And those of each row.
    pub grad_outputs: [T; ROWS],
    /// The scores of the band after this one.
    pub ahead: Ahead,
}

impl<'a, T> Band<'a, T> {
    /// A row's scores, probabilities and weights.
    #[inline(always)]
    fn of(self, row: usize) -> (&'a [T], &'a [T], &'a [T]) {
        let Self { classes, scores, probabilities, class_weights, .. } = self;
        (scores.row(row, classes), probabilities.row(row, classes), class_weights.row(row, classes))
    }
}

/// Where what a formula says of a band goes; what is not wanted, into nothing. Derivatives of rows that are left out are not written.
pub struct Results<'a, T> {
    /// The losses.
    pub value: &'a mut [T; ROWS],
    /// The first derivatives, row by row.
    pub slope: &'a mut [T],
    /// The second derivatives.
    pub curvature: &'a mut [T],
}

/// Evaluates a formula at a band.
pub struct Evaluate<'a, L, T, const K: usize, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool> {
    /// The formula.
    pub loss: L,
    /// The rows.
    pub band: Band<'a, T>,
    /// Where what is wanted goes.
    pub results: Results<'a, T>,
}

impl<L: Rowwise<K>, T: Real, const K: usize, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool> Kernel
    for Evaluate<'_, L, T, K, VALUE, SLOPE, CURVATURE>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, band, results: Results { value, slope, curvature } } = self;
        Self::fill(loss, band, value, slope, curvature);
    }
}

/// Writes the log-probabilities of a band's classes, where the formula has them.
pub struct LogProbabilities<'a, L, T, const K: usize> {
    /// The formula.
    pub loss: L,
    /// The rows.
    pub band: Band<'a, T>,
    /// Where they go, row by row.
    pub out: &'a mut [T],
}

impl<L: Rowwise<K>, T: Real, const K: usize> Kernel for LogProbabilities<'_, L, T, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, band, out } = self;
        if L::HAS_LOG_PROBABILITIES {
            Evaluate::<L, T, K, false, false, false>::log_probabilities(loss, band, out);
        }
    }
}

/// What is known of the rows of a band, one in each lane.
#[derive(Clone, Copy)]
struct Swept<T, const K: usize> {
    classes: T,
    largest: [T; ROWS],
    sums: [[T; ROWS]; K],
    label_scores: [T; ROWS],
    label_weights: [T; ROWS],
}

impl<T: Real, const K: usize> Swept<T, K> {
    #[inline(always)]
    fn label(&self, row: usize) -> Class<T> {
        Class { score: self.label_scores[row], probability: T::ONE, weight: self.label_weights[row] }
    }

    #[inline(always)]
    fn row(&self, row: usize) -> Row<T, K> {
        let mut known =
            Row { classes: self.classes, largest: self.largest[row], sums: [T::ZERO; K], label: self.label(row) };
        // An explicit loop: the compiler keeps the sums in registers.
        for (sum, rows) in known.sums.iter_mut().zip(&self.sums) {
            *sum = rows[row];
        }
        known
    }
}

/// Values, but for the first lanes, which get one that adds nothing.
#[inline(always)]
fn after<T: Real>(first: i32, mut values: [T; LANES], nothing: T) -> [T; LANES] {
    for (lane, value) in values.iter_mut().enumerate() {
        *value = if (lane as i32) < first { nothing } else { *value };
    }
    values
}

/// A row's largest score, NaN aside.
#[inline(always)]
fn largest<T: Real>(scores: &[T]) -> T {
    let mut largest = larger(at(scores, scores.len() - LANES), [-T::INFINITY; LANES]);
    for scores in scores.as_chunks().0 {
        largest = larger(scores, largest);
    }
    fold(largest, T::max)
}

impl<L: Rowwise<K>, T: Real, const K: usize, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool>
    Evaluate<'_, L, T, K, VALUE, SLOPE, CURVATURE>
{
    /// Sweeps all rows; their powers are left where slopes will be. Rows that do not count have sums of 0.
    #[inline(always)]
    fn sweep(loss: L, band: Band<'_, T>, counts: [bool; ROWS], slope: &mut [T]) -> Swept<T, K> {
        let Band { classes, rows, scores, .. } = band;
        let mut swept = Swept {
            classes: T::of(f64::from(classes as i32)),
            largest: [-T::INFINITY; ROWS],
            sums: [[T::ZERO; ROWS]; K],
            label_scores: band.label_scores,
            label_weights: band.label_weights,
        };
        // Two rows on, so that no row waits for its largest score.
        let mut largest_of = [-T::INFINITY; 2];
        if L::RELATIVE {
            for row in 0..2.min(rows) {
                largest_of[row] = largest(scores.row(row, classes));
            }
        }
        for row in 0..rows {
            swept.largest[row] = largest_of[0];
            let later = scores.row((row + 2).min(rows - 1), classes);
            let largest_of_later = if counts[row] {
                let kept = if SLOPE { &mut slope[row * classes..][..classes] } else { &mut [] };
                let (sums, lanes) =
                    Self::sweep_row(loss, band, row, relative(largest_of[0]), swept.label(row), later, kept);
                for k in 0..K {
                    if L::NEEDED[k] {
                        swept.sums[k][row] = fold(sums[k], |a, b| a + b);
                    }
                }
                fold(lanes, T::max)
            } else if L::RELATIVE {
                largest(later)
            } else {
                -T::INFINITY
            };
            largest_of = [largest_of[1], largest_of_later];
        }
        swept
    }

    /// The lanes of a row's sums, and those of a later row's largest score.
    #[inline(always)]
    fn sweep_row(
        loss: L,
        band: Band<'_, T>,
        row: usize,
        relative: T,
        label: Class<T>,
        later: &[T],
        kept: &mut [T],
    ) -> ([[T; LANES]; K], [T; LANES]) {
        let Band { classes, ahead, .. } = band;
        let (scores, probabilities, weights) = band.of(row);
        // 32 bits, so that as many lanes are compared at once as there are scores.
        let place = band.labels.get(row).map_or(-1, |&label| label as i32);
        let (mut sums, mut largest) = ([[T::ZERO; LANES]; K], [-T::INFINITY; LANES]);
        let mut first = 0;
        let whole = scores.as_chunks().0.iter().zip(probabilities.as_chunks().0).zip(weights.as_chunks().0);
        for (((scores, probabilities), weights), later) in whole.zip(later.as_chunks().0) {
            ahead.fetch::<T>(row * classes + first, LANES);
            if L::RELATIVE {
                largest = larger(later, largest);
            }
            let scores = if L::COUNTS_LABEL { *scores } else { without(*scores, place - first as i32) };
            let powers = add_terms(loss, relative, label, scores, *probabilities, *weights, &mut sums);
            if SLOPE && L::HAS_POWERS {
                *at_mut(kept, first) = powers;
            }
            first += LANES;
        }
        if first < classes {
            let added = (first + LANES - classes) as i32;
            let first = classes - LANES;
            if L::RELATIVE {
                largest = larger(at(later, first), largest);
            }
            let scores = after(added, *at(scores, first), -T::INFINITY);
            let scores = if L::COUNTS_LABEL { scores } else { without(scores, place - first as i32) };
            let (probabilities, weights) =
                (after(added, *at(probabilities, first), T::ZERO), after(added, *at(weights, first), T::ZERO));
            let mut powers = add_terms(loss, relative, label, scores, probabilities, weights, &mut sums);
            if SLOPE && L::HAS_POWERS {
                let kept = at_mut(kept, first);
                for lane in 0..LANES {
                    powers[lane] = if (lane as i32) < added { kept[lane] } else { powers[lane] };
                }
                *kept = powers;
            }
        }
        (sums, largest)
    }

    /// The log-probabilities of all rows.
    #[inline(always)]
    fn log_probabilities(loss: L, band: Band<'_, T>, out: &mut [T]) {
        let swept = Self::sweep(loss, band, [true; ROWS], &mut []);
        let mut log_normalizers = [T::ZERO; ROWS];
        for row in 0..ROWS {
            log_normalizers[row] = loss.log_normalizer(&swept.row(row));
        }
        for row in 0..band.rows {
            let (largest, log_normalizer) = (swept.largest[row], log_normalizers[row]);
            let out = &mut out[row * band.classes..][..band.classes];
            log_probabilities(band.scores.row(row, band.classes), largest, log_normalizer, out);
        }
    }

    /// All of it. As arguments, results are known to be apart from operands.
    #[inline(always)]
    fn fill(loss: L, band: Band<'_, T>, value: &mut [T; ROWS], slope: &mut [T], curvature: &mut [T]) {
        let Band { classes, rows, weights, grad_outputs, .. } = band;
        let counts = weights.map(|weight| weight != T::ZERO);
        let mut swept = Self::sweep(loss, band, counts, slope);
        if L::SETTLES {
            let mut settled = swept.sums;
            for row in 0..ROWS {
                let sums = loss.settle(&swept.row(row));
                for (settled, sum) in settled.iter_mut().zip(sums) {
                    settled[row] = sum;
                }
            }
            swept.sums = settled;
        }
        if VALUE {
            let mut losses = [T::ZERO; ROWS];
            for row in 0..ROWS {
                let loss = loss.value(&swept.row(row)) * weights[row];
                losses[row] = if weights[row] == T::ZERO { T::ZERO } else { loss };
            }
            *value = losses;
        }
        if !SLOPE {
            return;
        }
        let (mut label_slope, mut label_curvature) = ([T::ZERO; ROWS], [T::ZERO; ROWS]);
        for row in 0..ROWS {
            let label = swept.label(row);
            let power = if L::HAS_POWERS { loss.power(label.score - relative(swept.largest[row])) } else { T::ZERO };
            let derivatives = loss.at_label(&loss.slopes(&swept.row(row)), label, power);
            (label_slope[row], label_curvature[row]) = derivatives;
        }
        let mut scales = [T::ZERO; ROWS];
        for row in 0..ROWS {
            scales[row] = weights[row] * band.factor * grad_outputs[row];
            label_slope[row] = label_slope[row] * scales[row];
            label_curvature[row] = label_curvature[row] * scales[row];
        }
        for row in 0..rows {
            if !counts[row] {
                continue;
            }
            let slope = &mut slope[row * classes..][..classes];
            let curvature = if CURVATURE { &mut curvature[row * classes..][..classes] } else { &mut [] };
            let (scores, probabilities, weights) = band.of(row);
            let slopes = loss.slopes(&swept.row(row));
            Self::derive(loss, &slopes, scales[row], scores, probabilities, weights, slope, curvature);
            if let Some(&label) = band.labels.get(row) {
                slope[label] = label_slope[row];
                if CURVATURE {
                    curvature[label] = label_curvature[row];
                }
            }
        }
    }

    /// Writes a row's derivatives over its powers, by grains, so that no loop has a remainder. The last grain reaches back over
    /// derivatives that were written already, where the powers are no more. As arguments, results are known to be apart from operands.
    #[inline(always)]
    fn derive(
        loss: L,
        slopes: &L::Slopes<T>,
        scale: T,
        scores: &[T],
        probabilities: &[T],
        weights: &[T],
        slope: &mut [T],
        curvature: &mut [T],
    ) {
        let classes = slope.len();
        let (whole, last) = (classes / GRAIN * GRAIN, classes - GRAIN);
        let last_powers: [T; GRAIN] = if L::HAS_POWERS { *at(slope, last) } else { [T::ZERO; GRAIN] };
        let (scores, probabilities, weights) = (&scores[..classes], &probabilities[..classes], &weights[..classes]);
        let curvature = &mut curvature[..if CURVATURE { classes } else { 0 }];
        for i in 0..whole {
            let class = Class { score: scores[i], probability: probabilities[i], weight: weights[i] };
            let (first, second) = loss.at(slopes, class, if L::HAS_POWERS { slope[i] } else { T::ZERO });
            slope[i] = first * scale;
            if CURVATURE {
                curvature[i] = second * scale;
            }
        }
        if whole < classes {
            for part in 0..GRAIN / LANES {
                let first = last + part * LANES;
                let (scores, probabilities, weights): (&[T; LANES], &[T; LANES], &[T; LANES]) =
                    (at(scores, first), at(probabilities, first), at(weights, first));
                let at = |i: usize| {
                    let class = Class { score: scores[i], probability: probabilities[i], weight: weights[i] };
                    loss.at(slopes, class, last_powers[part * LANES + i])
                };
                // A local array, which no operand can share.
                let mut derivatives = [T::ZERO; LANES];
                for i in 0..LANES {
                    derivatives[i] = at(i).0 * scale;
                }
                *at_mut(slope, first) = derivatives;
                if CURVATURE {
                    for i in 0..LANES {
                        derivatives[i] = at(i).1 * scale;
                    }
                    *at_mut(curvature, first) = derivatives;
                }
            }
        }
    }
}

/// What a thread carries from band to band.
pub(super) struct State<T> {
    scores: Block<T, BAND>,
    probabilities: Block<T, BAND>,
    /// Of each class, or of each element.
    class_weights: Block<T, BAND>,
    labels: Block<usize, ROWS>,
    slope: Block<T, BAND>,
    curvature: Block<T, BAND>,
}

impl<T: Number> Group<T> for State<T> {
    const UNFILLED: Self = Self {
        scores: Block::new(),
        probabilities: Block::new(),
        class_weights: Block::new(),
        labels: Block::new(),
        slope: Block::new(),
        curvature: Block::new(),
    };

    unsafe fn prepare(&mut self, isa: Isa, call: &Call<'_>, _rows: usize) {
        // SAFETY: the caller's; all of each slice is written.
        unsafe {
            self.probabilities.filled(call.classes, |room| room.fill(T::ZERO));
            self.class_weights.filled(call.classes, |room| match call.weight {
                Some(Weight::Classes(weights)) => weights.load(isa, room),
                _ => room.fill(T::ONE),
            });
        }
    }

    unsafe fn compute(
        &mut self,
        isa: Isa,
        call: &Call<'_>,
        loss: &dyn Blocks<T>,
        pending: &mut Pending<T>,
        found: &mut Found,
        start: usize,
        len: usize,
    ) {
        let (classes, elements) = (call.classes, call.classes * len);
        let (mut weights, mut grad_outputs, mut value) = ([T::ZERO; ROWS], [T::ZERO; ROWS], [T::ZERO; ROWS]);
        // SAFETY: the caller's for all that is read and written; every element of each block is written before it is read.
        unsafe {
            let scores = call.lines(isa, call.input, start, len, &mut self.scores);
            let probabilities = match call.target {
                Target::Probabilities(matrix) => call.lines(isa, matrix, start, len, &mut self.probabilities),
                Target::Labels(_) | Target::LabelSets(_) => Lines::of_all(self.probabilities.written(classes)),
            };
            let class_weights = match call.weight {
                Some(Weight::Elements(matrix)) => call.lines(isa, matrix, start, len, &mut self.class_weights),
                Some(Weight::Classes(_)) | None => Lines::of_all(self.class_weights.written(classes)),
            };
            call.read_or_ones(isa, call.sample_weight, start, len, &mut weights);
            call.read_or_ones(isa, call.grad_output, start, len, &mut grad_outputs);
            let labels = if matches!(call.target, Target::Labels(_)) { self.labels.written(len) } else { &mut [] };
            if !call.read_places(isa, start, labels) {
                // Those of rows that are left out.
                labels.fill(0);
                call.each_label(start, &mut weights[..len], found, |i, label| labels[i] = label);
            }
            let label_weighs_all = loss.traits().label_weighs_all;
            let (mut label_scores, mut label_weights) = ([T::ZERO; ROWS], [T::ONE; ROWS]);
            for (row, &label) in labels.iter().enumerate() {
                label_scores[row] = scores.row(row, classes)[label];
                label_weights[row] = class_weights.row(row, classes)[label];
                if label_weighs_all && label_weights[row] == T::ZERO {
                    weights[row] = T::ZERO;
                }
            }
            let band = Band {
                classes,
                rows: len,
                scores,
                probabilities,
                class_weights,
                labels,
                label_scores,
                label_weights,
                weights,
                factor: T::of(call.factor),
                grad_outputs,
                ahead: call.input.row(call.layout, (start + len).min(call.layout.len() - 1)).ahead(),
            };
            if let Some(matrix) = call.log_probabilities {
                let out = self.slope.written(elements);
                loss.band_of_log_probabilities(isa, band, out);
                call.put_lines(isa, matrix, start, out);
            }
            let (slope, slope_to) = call.place(call.want.slope(), call.slope, start, len, &mut self.slope);
            let (curvature, curvature_to) =
                call.place(call.want.curvature(), call.curvature, start, len, &mut self.curvature);
            let results = Results { value: &mut value, slope: &mut *slope, curvature: &mut *curvature };
            loss.band(isa, call.want, band, results);
            for (matrix, values) in [(slope_to, slope), (curvature_to, curvature)] {
                for (values, _) in values.chunks_mut(classes).zip(weights).filter(|(_, weight)| *weight == T::ZERO) {
                    values.fill(T::ZERO);
                }
                if let Some(matrix) = matrix {
                    call.put_lines(isa, matrix, start, values);
                }
            }
            if call.want.value() {
                if call.sum {
                    pending.take(isa, &mut found.sum, &value[..len]);
                }
                if let Some(output) = call.value {
                    call.layout.put(isa, output, start, &value[..len], false);
                }
            }
        }
    }
}

impl Call<'_> {
    /// Rows as they lie, where that can be, else converted.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn lines<'a, T: Real>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        start: usize,
        len: usize,
        room: &'a mut Block<T, BAND>,
    ) -> Lines<'a, T> {
        let (elements, stride) = (len * self.classes, self.classes);
        let run = self.side_by_side(matrix, start, len);
        // SAFETY: the caller's: nobody writes what is no result; all of the room is written.
        unsafe {
            if let Some(elements) = run.filter(|_| !self.is_result(matrix)).and_then(|run| run.as_slice(elements)) {
                return Lines { elements, stride };
            }
            let elements = room.filled(elements, |room| match run {
                Some(run) => run.load(isa, room),
                None => {
                    for (row, room) in room.chunks_mut(stride).enumerate() {
                        matrix.row(self.layout, start + row).load(isa, room);
                    }
                }
            });
            Lines { elements, stride }
        }
    }

    /// Whether a result is written over an operand.
    pub(super) fn is_result(&self, matrix: &Matrix) -> bool {
        let results = [self.slope, self.curvature, self.log_probabilities];
        results.into_iter().flatten().any(|result| result.samples.run.first == matrix.samples.run.first)
    }

    /// Where rows of a result, if it is wanted, can be written: as they lie, or else into room from which they are to be put there.
    ///
    /// # Safety
    /// As [`Call::run`], and nobody else may have a slice of these rows.
    unsafe fn place<'a, T: Real>(
        &'a self,
        is_wanted: bool,
        matrix: Option<&'a Matrix>,
        start: usize,
        len: usize,
        room: &'a mut Block<T, BAND>,
    ) -> (&'a mut [T], Option<&'a Matrix>) {
        let elements = if is_wanted { len * self.classes } else { 0 };
        let run = matrix.and_then(|matrix| self.side_by_side(matrix, start, len));
        let run = run.filter(|run| run.is_slice_of::<T>() && !self.is_large(*run));
        // SAFETY: the caller's; of the run, type, order, distance and alignment have been checked; the room is written before it is read.
        unsafe {
            match run {
                Some(run) => (std::slice::from_raw_parts_mut(run.first.cast(), elements), None),
                None => (room.written(elements), matrix),
            }
        }
    }

    /// Writes rows.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn put_lines<T: Real>(&self, isa: Isa, matrix: &Matrix, start: usize, values: &[T]) {
        // SAFETY: the caller's.
        unsafe {
            match self.side_by_side(matrix, start, values.len() / self.classes) {
                Some(run) => run.store(isa, values, self.is_large(run)),
                None => {
                    for (row, values) in values.chunks(self.classes).enumerate() {
                        self.put_block(isa, matrix, start + row, 0, values);
                    }
                }
            }
        }
    }
}
