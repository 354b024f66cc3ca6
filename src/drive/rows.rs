//! The driver for losses of a row of scores, with a label or a probability for each.
//!
//! A row is swept for its sums, a block at a time, each relative to the largest score so far; and, where derivatives are
//! wanted, once more for those. Nothing that grows with the row is kept in between. Sums run in 16 fixed lanes within a block and in
//! double precision from block to block, so that they depend on the number of classes alone. Rows that fit a block go in groups:
//! bands, and tiles where classes are few.

use crate::drive::band::{self, BAND, Band};
use crate::drive::block::{self, BLOCK, Block, GRAIN, LANES, Number};
use crate::drive::labels::{self, Labels};
use crate::drive::layout::{Layout, Operand};
use crate::drive::tile::{self, FEW_CLASSES, TILE, Tile};
use crate::drive::transpose::{BEYOND, Transpose, TransposeBack};
use crate::drive::{Failure, SPREAD_FROM, STREAM_FROM, TASKS_PER_THREAD, Want};
use crate::isa::{Baseline, Isa, Kernel, Set};
use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;
use crate::storage::{self, Run};
use crate::sum::{self, ExactSum};
use crate::threads::{self, Spread, Tasks};

/// The most sums of a formula.
pub const MOST_SUMS: usize = 8;
/// Elements that a thread claims at once, roughly and at most.
pub(super) const ELEMENTS_PER_TASK: usize = 1 << 15;
/// Groups of rows that it claims at least: some times what it takes to claim them.
const LEAST_GROUPS_PER_TASK: usize = 4;

/// Classes of a row, a block of them: as many of each.
#[derive(Clone, Copy)]
pub struct Classes<'a, T> {
    pub(super) scores: &'a [T],
    pub(super) probabilities: &'a [T],
    pub(super) weights: &'a [T],
}

/// What the driver knows of a row.
#[derive(Clone, Copy)]
pub struct Swept<T> {
    classes: usize,
    pub(super) largest: T,
    pub(super) sums: [f64; MOST_SUMS],
    pub(super) label: Class<T>,
}

/// The constants of a formula: those of [`Rowwise`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a constant of its own")]
pub struct Traits {
    /// Whether it is of the label's score alone.
    label_alone: bool,
    settles: bool,
    pub(super) label_weighs_all: bool,
    /// [`Rowwise::LABEL_WEIGHT_NORMALISES`]
    pub label_weight_normalises: bool,
    /// [`Rowwise::WEIGHS_ELEMENTS`]
    pub weighs_elements: bool,
    relative: bool,
    has_log_probabilities: bool,
}

/// A rowwise loss whose formula is behind a pointer.
pub trait Blocks<T>: Send + Sync {
    /// The formula's constants.
    fn traits(&self) -> Traits;
    /// Makes a score the largest, if it is larger than the largest so far.
    fn raise(&self, isa: Isa, largest: T, row: &mut Swept<T>);
    /// Adds a block of classes, none of them above the largest, to the sums. `label` is the label's place in the block. Returns the
    /// largest score of a later block, no longer than this one, where the formula is of such.
    fn sweep(&self, isa: Isa, classes: Classes<'_, T>, later: &[T], row: &mut Swept<T>, label: Option<usize>) -> T;
    /// [`Rowwise::settle`]
    fn settle(&self, isa: Isa, row: &mut Swept<T>);
    /// [`Rowwise::log_normalizer`]
    fn log_normalizer(&self, isa: Isa, row: &Swept<T>) -> T;
    /// Writes the log-probabilities of a band.
    fn band_of_log_probabilities(&self, isa: Isa, band: Band<'_, T>, out: &mut [T]);
    /// Evaluates the formula at a band and writes each part that is wanted.
    fn band(&self, isa: Isa, want: Want, band: Band<'_, T>, results: band::Results<'_, T>);
    /// Writes the log-probabilities of a tile where slopes will be.
    fn tile_of_log_probabilities(&self, isa: Isa, tile: Tile<'_, T>, results: &mut tile::Results<T>);
    /// The row's loss.
    fn value(&self, isa: Isa, row: &Swept<T>) -> T;
    /// Evaluates a formula of the label's score alone and writes the losses, and the derivatives if they are wanted.
    fn of_labels(&self, isa: Isa, derived: bool, labels: Labels<'_, T>, results: &mut tile::Results<T>);
    /// Evaluates the formula at a tile and writes each part that is wanted.
    fn tile(&self, isa: Isa, want: Want, tile: Tile<'_, T>, results: &mut tile::Results<T>);
    /// Writes a block's derivatives, times `scale`; `label` is the label's place in it.
    fn derive(
        &self,
        isa: Isa,
        classes: Classes<'_, T>,
        row: &Swept<T>,
        label: Option<usize>,
        scale: T,
        derivatives: Derivatives<'_, T>,
    );
}

/// A rowwise loss, its formula and type of numbers behind a pointer.
pub trait Loss: Blocks<f32> + Blocks<f64> {}

/// [`Rowwise::HAS_LOG_PROBABILITIES`]
pub fn has_log_probabilities(loss: &dyn Loss) -> bool {
    f64::blocks(loss).traits().has_log_probabilities
}

evaluated_as!(blocks);

/// A formula as a [`Loss`].
pub struct Formula<L, const K: usize>(pub L);

impl<L: Rowwise<K>, const K: usize> Loss for Formula<L, K> {}

impl<T: Real> Swept<T> {
    /// Nothing so far.
    pub(super) fn nothing(classes: usize) -> Self {
        let label = Class { score: T::ZERO, probability: T::ONE, weight: T::ONE };
        Self { classes, largest: -T::INFINITY, sums: [0.0; MOST_SUMS], label }
    }

    fn row<const K: usize>(&self) -> Row<T, K> {
        let classes = T::of(self.classes as f64);
        Row { classes, largest: self.largest, sums: std::array::from_fn(|k| T::of(self.sums[k])), label: self.label }
    }
}

impl<L: Rowwise<K>, T: Real, const K: usize> Blocks<T> for Formula<L, K> {
    fn traits(&self) -> Traits {
        Traits {
            label_alone: K == 0,
            settles: L::SETTLES,
            label_weighs_all: L::LABEL_WEIGHS_ALL,
            label_weight_normalises: L::LABEL_WEIGHT_NORMALISES,
            weighs_elements: L::WEIGHS_ELEMENTS,
            relative: L::RELATIVE,
            has_log_probabilities: L::HAS_LOG_PROBABILITIES,
        }
    }

    fn raise(&self, isa: Isa, largest: T, row: &mut Swept<T>) {
        if largest > row.largest {
            if row.largest > -T::INFINITY {
                let raised = isa.run(Raise { loss: self.0, sums: row.row::<K>().sums, rise: largest - row.largest });
                for (sum, raised) in row.sums.iter_mut().zip(raised) {
                    *sum = raised.to_f64();
                }
            }
            row.largest = largest;
        }
    }

    fn sweep(&self, isa: Isa, classes: Classes<'_, T>, later: &[T], row: &mut Swept<T>, place: Option<usize>) -> T {
        let (loss, largest, label) = (self.0, block::relative(row.largest), row.label);
        let (terms, largest) = isa.run(Terms::<_, _, K> { loss, classes, later, largest, label, place });
        // Outside the kernel, where the compiler would join the folds of several sums by shuffling their lanes.
        for k in (0..K).filter(|&k| L::NEEDED[k]) {
            row.sums[k] += sum::fold(terms[k], |a, b| a + b).to_f64();
        }
        sum::fold(largest, T::max)
    }

    fn settle(&self, isa: Isa, row: &mut Swept<T>) {
        let settled = isa.run(Settle::<_, _, K> { loss: self.0, row: row.row() });
        for (sum, settled) in row.sums.iter_mut().zip(settled) {
            *sum = settled.to_f64();
        }
    }

    fn log_normalizer(&self, isa: Isa, row: &Swept<T>) -> T {
        isa.run(LogNormalizer::<_, _, K> { loss: self.0, row: row.row() })
    }

    fn band_of_log_probabilities(&self, isa: Isa, band: Band<'_, T>, out: &mut [T]) {
        if L::GROUPED {
            isa.run(band::LogProbabilities::<_, _, K> { loss: self.0, band, out });
        }
    }

    fn band(&self, isa: Isa, want: Want, band: Band<'_, T>, results: band::Results<'_, T>) {
        use band::Evaluate;
        debug_assert!(L::GROUPED);
        if !L::GROUPED {
            return;
        }
        let loss = self.0;
        match want {
            Want::Value => isa.run(Evaluate::<_, _, K, true, false, false> { loss, band, results }),
            Want::Gradient => isa.run(Evaluate::<_, _, K, false, true, false> { loss, band, results }),
            Want::ValueAndGradient => isa.run(Evaluate::<_, _, K, true, true, false> { loss, band, results }),
            Want::GradientAndHessian => isa.run(Evaluate::<_, _, K, false, true, true> { loss, band, results }),
        }
    }

    fn tile_of_log_probabilities(&self, isa: Isa, tile: Tile<'_, T>, results: &mut tile::Results<T>) {
        if L::GROUPED {
            isa.run(tile::LogProbabilities::<_, _, K> { loss: self.0, tile, results });
        }
    }

    fn value(&self, isa: Isa, row: &Swept<T>) -> T {
        isa.run(Value::<_, _, K> { loss: self.0, row: row.row() })
    }

    fn of_labels(&self, isa: Isa, derived: bool, labels: Labels<'_, T>, results: &mut tile::Results<T>) {
        if K == 0 {
            let loss = self.0;
            if derived {
                isa.run(labels::Evaluate::<_, _, K, true> { loss, labels, results });
            } else {
                isa.run(labels::Evaluate::<_, _, K, false> { loss, labels, results });
            }
        }
    }

    fn tile(&self, isa: Isa, want: Want, tile: Tile<'_, T>, results: &mut tile::Results<T>) {
        use tile::Evaluate;
        debug_assert!(L::GROUPED);
        if !L::GROUPED {
            return;
        }
        let loss = self.0;
        match want {
            Want::Value => isa.run(Evaluate::<_, _, K, true, false, false> { loss, tile, results }),
            Want::Gradient => isa.run(Evaluate::<_, _, K, false, true, false> { loss, tile, results }),
            Want::ValueAndGradient => isa.run(Evaluate::<_, _, K, true, true, false> { loss, tile, results }),
            Want::GradientAndHessian => isa.run(Evaluate::<_, _, K, false, true, true> { loss, tile, results }),
        }
    }

    fn derive(
        &self,
        isa: Isa,
        classes: Classes<'_, T>,
        row: &Swept<T>,
        label: Option<usize>,
        scale: T,
        derivatives: Derivatives<'_, T>,
    ) {
        let (loss, relative, row) = (self.0, block::relative(row.largest), row.row());
        if derivatives.curvature.is_empty() {
            isa.run(Derive::<_, _, K, false> { loss, row, relative, classes, label, scale, derivatives });
        } else {
            isa.run(Derive::<_, _, K, true> { loss, row, relative, classes, label, scale, derivatives });
        }
    }
}

impl<T: Real> Classes<'_, T> {
    #[inline(always)]
    fn at(self, i: usize) -> Class<T> {
        Class { score: self.scores[i], probability: self.probabilities[i], weight: self.weights[i] }
    }

    /// Cut to a multiple of the grain: a length that the compiler sees to be one leaves its loops no remainder.
    #[inline(always)]
    fn trimmed(self) -> (usize, Self) {
        let len = self.scores.len().min(BLOCK) / GRAIN * GRAIN;
        let Self { scores, probabilities, weights } = self;
        (len, Self { scores: &scores[..len], probabilities: &probabilities[..len], weights: &weights[..len] })
    }
}

/// Whether all labels are classes and count.
struct Count<'a, T> {
    labels: &'a [T],
    classes: T,
    ignored: T,
}

impl<T: Real> Kernel for Count<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { labels, classes, ignored } = self;
        !labels.iter().fold(false, |other, &label| other | (label < T::ZERO) | (label >= classes) | (label == ignored))
    }
}

struct Value<L, T, const K: usize> {
    loss: L,
    row: Row<T, K>,
}

impl<L: Rowwise<K>, T: Real, const K: usize> Kernel for Value<L, T, K> {
    type Output = T;

    #[inline(always)]
    fn run(self) -> T {
        self.loss.value(&self.row)
    }
}

struct LogNormalizer<L, T, const K: usize> {
    loss: L,
    row: Row<T, K>,
}

impl<L: Rowwise<K>, T: Real, const K: usize> Kernel for LogNormalizer<L, T, K> {
    type Output = T;

    #[inline(always)]
    fn run(self) -> T {
        self.loss.log_normalizer(&self.row)
    }
}

/// Scores less the largest less what remains.
struct LogProbabilities<'a, T> {
    scores: &'a [T],
    largest: T,
    log_normalizer: T,
    out: &'a mut [T],
}

impl<T: Real> Kernel for LogProbabilities<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        log_probabilities(self.scores, self.largest, self.log_normalizer, self.out);
    }
}

/// Log-probabilities of classes, no fewer than a grain of them. The last grain reaches back over some that were written already.
#[inline(always)]
pub(super) fn log_probabilities<T: Real>(scores: &[T], largest: T, log_normalizer: T, out: &mut [T]) {
    let (whole, last) = (out.len() / GRAIN * GRAIN, out.len() - GRAIN);
    let scores = &scores[..out.len()];
    for i in 0..whole {
        out[i] = (scores[i] - largest) - log_normalizer;
    }
    let mut rest: [T; GRAIN] = *block::at(scores, last);
    for log_probability in &mut rest {
        *log_probability = (*log_probability - largest) - log_normalizer;
    }
    *block::at_mut(out, last) = rest;
}

struct Settle<L, T, const K: usize> {
    loss: L,
    row: Row<T, K>,
}

impl<L: Rowwise<K>, T: Real, const K: usize> Kernel for Settle<L, T, K> {
    type Output = [T; K];

    #[inline(always)]
    fn run(self) -> [T; K] {
        self.loss.settle(&self.row)
    }
}

struct Raise<L, T, const K: usize> {
    loss: L,
    sums: [T; K],
    rise: T,
}

impl<L: Rowwise<K>, T: Real, const K: usize> Kernel for Raise<L, T, K> {
    type Output = [T; K];

    #[inline(always)]
    fn run(self) -> [T; K] {
        self.loss.raise(self.sums, self.rise)
    }
}

struct Terms<'a, L, T, const K: usize> {
    loss: L,
    classes: Classes<'a, T>,
    /// The scores of a later block.
    later: &'a [T],
    largest: T,
    label: Class<T>,
    /// The label's place in the block.
    place: Option<usize>,
}

impl<L: Rowwise<K>, T: Real, const K: usize> Kernel for Terms<'_, L, T, K> {
    /// The lanes of the sums, and those of the later block's largest score.
    type Output = ([[T; LANES]; K], [T; LANES]);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self { loss, classes, later, largest, label, place } = self;
        // 32 bits, so that as many lanes are compared at once as there are scores.
        let place = place.map_or(-1, |place| place as i32);
        let mut first = 0;
        let mut lanes = [[T::ZERO; LANES]; K];
        let (mut largest_later, later) = ([-T::INFINITY; LANES], later.as_chunks().0);
        let (scores, probabilities) = (classes.scores.as_chunks::<LANES>().0, classes.probabilities.as_chunks().0);
        for ((scores, probabilities), weights) in scores.iter().zip(probabilities).zip(classes.weights.as_chunks().0) {
            let scores = if L::COUNTS_LABEL { *scores } else { without(*scores, place - first) };
            add_terms(loss, largest, label, scores, *probabilities, *weights, &mut lanes);
            if L::RELATIVE && !later.is_empty() {
                let chunk = (first as usize / LANES).min(later.len() - 1);
                largest_later = block::larger(&later[chunk], largest_later);
            }
            first += LANES as i32;
        }
        (lanes, largest_later)
    }
}

/// Scores, of which that in a lane is −∞, if there is such a lane.
#[inline(always)]
pub(super) fn without<T: Real>(mut scores: [T; LANES], place: i32) -> [T; LANES] {
    for (lane, score) in scores.iter_mut().enumerate() {
        *score = if lane as i32 == place { -T::INFINITY } else { *score };
    }
    scores
}

/// Adds the terms of some classes to the lanes of a row's sums; their powers.
#[inline(always)]
pub(super) fn add_terms<L: Rowwise<K>, T: Real, const K: usize>(
    loss: L,
    relative: T,
    label: Class<T>,
    scores: [T; LANES],
    probabilities: [T; LANES],
    weights: [T; LANES],
    sums: &mut [[T; LANES]; K],
) -> [T; LANES] {
    let mut powers = [T::ZERO; LANES];
    for lane in 0..LANES {
        let (score, probability, weight) = (scores[lane], probabilities[lane], weights[lane]);
        powers[lane] = if L::HAS_POWERS { loss.power(score - relative) } else { T::ZERO };
        let terms = loss.terms(relative, label, Class { score, probability, weight }, powers[lane]);
        for k in 0..K {
            if L::NEEDED[k] {
                sums[k][lane] = sums[k][lane] + terms[k];
            }
        }
    }
    powers
}

struct Derive<'a, L, T, const K: usize, const CURVATURE: bool> {
    loss: L,
    row: Row<T, K>,
    relative: T,
    classes: Classes<'a, T>,
    label: Option<usize>,
    scale: T,
    derivatives: Derivatives<'a, T>,
}

impl<L: Rowwise<K>, T: Real, const K: usize, const CURVATURE: bool> Kernel for Derive<'_, L, T, K, CURVATURE> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<S: Set>(self) {
        let Self { loss, row, relative, classes, label, scale, derivatives } = self;
        let Derivatives { slope, curvature, stream } = derivatives;
        let (len, classes) = classes.trimmed();
        if len < GRAIN {
            return;
        }
        let slopes = loss.slopes(&row);
        let stream = stream && storage::begins_a_line(slope);
        // SAFETY: this is compiled for the set and runs where it is there; what is streamed has been checked to begin with a line.
        unsafe { Self::fill::<S>(loss, slopes, relative, classes, len, scale, slope, curvature, stream) };
        if let Some(label) = label {
            let class = classes.at(label);
            let power = if L::HAS_POWERS { loss.power(class.score - relative) } else { T::ZERO };
            let (first, second) = loss.at_label(&slopes, class, power);
            slope[label] = first * scale;
            if CURVATURE {
                curvature[label] = second * scale;
            }
        }
    }
}

impl<L: Rowwise<K>, T: Real, const K: usize, const CURVATURE: bool> Derive<'_, L, T, K, CURVATURE> {
    /// The loop. As arguments, results are known to be apart from operands, so that it needs no second version.
    ///
    /// # Safety
    /// The machine must have the set, and slopes that are streamed must begin with a line.
    #[inline(always)]
    unsafe fn fill<S: Set>(
        loss: L,
        slopes: L::Slopes<T>,
        relative: T,
        classes: Classes<'_, T>,
        len: usize,
        scale: T,
        slope: &mut [T],
        curvature: &mut [T],
        stream: bool,
    ) {
        let (slope, curvature) = (&mut slope[..len], &mut curvature[..if CURVATURE { len } else { 0 }]);
        let at = |class: Class<T>| {
            let power = if L::HAS_POWERS { loss.power(class.score - relative) } else { T::ZERO };
            let (first, second) = loss.at(&slopes, class, power);
            (first * scale, second * scale)
        };
        if CURVATURE {
            for i in 0..len {
                (slope[i], curvature[i]) = at(classes.at(i));
            }
            return;
        }
        for first in (0..len).step_by(GRAIN) {
            let [scores, probabilities, weights]: [&[T; GRAIN]; 3] =
                [classes.scores, classes.probabilities, classes.weights].map(|part| block::at(part, first));
            let mut derivatives = [T::ZERO; GRAIN];
            for i in 0..GRAIN {
                let class = Class { score: scores[i], probability: probabilities[i], weight: weights[i] };
                (derivatives[i], _) = at(class);
            }
            // SAFETY: the caller's; every line of a stream is whole.
            unsafe { storage::put_lines::<S, T>(&derivatives, block::at_mut(slope, first), stream) };
        }
    }
}

/// Where the derivatives of a block of classes go.
pub struct Derivatives<'a, T> {
    /// As many as there are classes, up to a multiple of the grain.
    pub(super) slope: &'a mut [T],
    /// As many, or none, where they are not wanted.
    pub(super) curvature: &'a mut [T],
    /// Whether the first ones go past the caches, if they begin with a line.
    pub(super) stream: bool,
}

/// Room for what a formula says of a block of classes.
pub struct Results<T> {
    pub(super) slope: Block<T>,
    pub(super) curvature: Block<T>,
}

/// A buffer with an axis of classes: where a sample's first class lies, and the distance to the next.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The first class of each sample.
    pub samples: Operand,
    /// Bytes from a class to the next.
    pub stride: isize,
}

/// What multiplies the parts of a row's loss.
#[derive(Clone, Debug)]
pub enum Weight {
    /// A weight for each class.
    Classes(Run),
    /// A weight for each class of each sample.
    Elements(Matrix),
}

/// What a row is compared with.
#[derive(Clone, Debug)]
pub enum Target {
    /// A class for each sample.
    Labels(Operand),
    /// A probability for each class of each sample.
    Probabilities(Matrix),
    /// For each sample, as many places for labels as there are classes; what follows the first −1 is ignored.
    LabelSets(Matrix),
}

/// A call: buffers and what to do with them. All layouts are that of the samples.
pub struct Call<'a> {
    /// The samples, in C order.
    pub layout: &'a Layout,
    /// What is wanted.
    pub want: Want,
    /// The number of classes.
    pub classes: usize,
    /// The scores.
    pub input: &'a Matrix,
    /// Labels or probabilities.
    pub target: &'a Target,
    /// Weights of the kind that the formula takes; 1 if there are none.
    pub weight: Option<&'a Weight>,
    /// The label of samples that are left out.
    pub ignore_index: Option<i128>,
    /// Weights that multiply losses and derivatives; 0 leaves a sample out.
    pub sample_weight: Option<&'a Operand>,
    /// What each row of the gradient is multiplied by, in a vector-Jacobian product.
    pub grad_output: Option<&'a Operand>,
    /// What derivatives are multiplied by.
    pub factor: f64,
    /// Where losses go, if they are not only summed.
    pub value: Option<&'a Operand>,
    /// Where first derivatives go.
    pub slope: Option<&'a Matrix>,
    /// Where second derivatives go.
    pub curvature: Option<&'a Matrix>,
    /// Where log-probabilities go, of samples too that are left out.
    pub log_probabilities: Option<&'a Matrix>,
    /// Whether the losses are summed.
    pub sum: bool,
}

/// What a thread carries from row to row.
struct State<T> {
    scores: [Block<T>; 2],
    probabilities: Block<T>,
    weights: Block<T>,
    results: Results<T>,
    sample_weights: Block<T>,
    grad_outputs: Block<T>,
    values: Block<T>,
}

/// What a thread carries from tile to tile.
struct TileState<T> {
    scores: Block<T, TILE>,
    probabilities: Block<T, TILE>,
    /// Of each class, or of each element.
    class_weights: Block<T, TILE>,
    labels: Block<T>,
    weights: Block<T>,
    grad_outputs: Block<T>,
    results: tile::Results<T>,
    /// Rows as they lie.
    room: Block<T, TILE>,
}

/// Losses that are yet to be added: those of a group of rows are so few that adding them at once costs more than computing them.
pub(super) struct Pending<T> {
    losses: Block<T>,
    len: usize,
}

impl<T: Number> Pending<T> {
    /// Takes more.
    pub(super) fn take(&mut self, isa: Isa, sum: &mut ExactSum, more: &[T]) {
        if self.len + more.len() > BLOCK {
            self.add_to(isa, sum);
        }
        let len = self.len + more.len();
        // SAFETY: the first `self.len` elements were taken before, and the rest is written.
        unsafe { self.losses.written(len)[self.len..].copy_from_slice(more) };
        self.len = len;
    }

    /// Adds them.
    fn add_to(&mut self, isa: Isa, sum: &mut ExactSum) {
        // SAFETY: so many were taken.
        sum.add_block(isa, unsafe { self.losses.written(self.len) });
        self.len = 0;
    }
}

/// What a thread carries from group to group of rows that are computed together.
pub(super) trait Group<T: Number>: Sized {
    /// A constant, so that it is made in place and not moved; of room alone, because one that held anything would be written whole.
    const UNFILLED: Self;

    /// Fills what all groups share.
    ///
    /// # Safety
    /// The weights must be readable.
    unsafe fn prepare(&mut self, isa: Isa, call: &Call<'_>, rows: usize);

    /// Computes some rows.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn compute(
        &mut self,
        isa: Isa,
        call: &Call<'_>,
        loss: &dyn Blocks<T>,
        pending: &mut Pending<T>,
        found: &mut Found,
        start: usize,
        len: usize,
    );
}

impl<T: Number> Group<T> for TileState<T> {
    const UNFILLED: Self = Self {
        scores: Block::new(),
        probabilities: Block::new(),
        class_weights: Block::new(),
        labels: Block::new(),
        weights: Block::new(),
        grad_outputs: Block::new(),
        results: tile::Results { value: Block::new(), slope: Block::new(), curvature: Block::new() },
        room: Block::new(),
    };

    unsafe fn prepare(&mut self, isa: Isa, call: &Call<'_>, rows: usize) {
        // SAFETY: the caller's; all of each slice is written.
        unsafe {
            self.probabilities.filled(call.classes * rows, |room| room.fill(T::ZERO));
            self.labels.filled(rows, |room| room.fill(-T::ONE));
            self.class_weights.filled(call.classes * rows, |room| {
                room.fill(T::ONE);
                if let Some(Weight::Classes(weights)) = call.weight {
                    weights.load(isa, &mut room[..call.classes]);
                }
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
        let (classes, rows) = (call.classes, tile::rows(call.classes, len));
        // SAFETY: the caller's for all that is read and written; every element of each block is written.
        unsafe {
            call.read_tile(isa, call.input, start, len, &mut self.scores, &mut self.room);
            if let Target::Probabilities(matrix) = call.target {
                call.read_tile(isa, matrix, start, len, &mut self.probabilities, &mut self.room);
            }
            if let Some(Weight::Elements(matrix)) = call.weight {
                call.read_tile(isa, matrix, start, len, &mut self.class_weights, &mut self.room);
            }
            let weights = self.weights.written(rows);
            call.read_or_ones(isa, call.sample_weight, start, len, weights);
            let grad_outputs = self.grad_outputs.written(rows);
            call.read_or_ones(isa, call.grad_output, start, len, grad_outputs);
            let labels = self.labels.written(rows);
            if !call.read_labels(isa, start, &mut labels[..len]) {
                call.each_label(start, &mut weights[..len], found, |i, label| labels[i] = T::of(label as f64));
            }
            let tile = Tile {
                classes,
                rows,
                scores: self.scores.written(classes * rows),
                probabilities: self.probabilities.written(classes * rows),
                class_weights: self.class_weights.written(classes * rows),
                labels,
                weights,
                factor: T::of(call.factor),
                grad_outputs,
            };
            if let Some(matrix) = call.log_probabilities {
                loss.tile_of_log_probabilities(isa, tile, &mut self.results);
                call.put_tile(isa, matrix, start, len, &mut self.results.slope, &mut self.room);
            }
            loss.tile(isa, call.want, tile, &mut self.results);
            if call.want.value() {
                let values = self.results.value.written(len);
                if call.sum {
                    pending.take(isa, &mut found.sum, values);
                }
                if let Some(output) = call.value {
                    call.layout.put(isa, output, start, values, false);
                }
            }
            let results = &mut self.results;
            for (matrix, room) in [(call.slope, &mut results.slope), (call.curvature, &mut results.curvature)] {
                if let Some(matrix) = matrix {
                    call.put_tile(isa, matrix, start, len, room, &mut self.room);
                }
            }
        }
    }
}

/// What a thread finds.
pub(super) struct Found {
    pub(super) sum: ExactSum,
    /// The first row whose label is not a class, and the label.
    misfit: Option<Misfit>,
}

pub(super) type Misfit = (usize, Result<i128, f64>);

impl Found {
    pub(super) const NOTHING: Self = Self { sum: ExactSum::new(), misfit: None };

    pub(super) fn note(&mut self, misfit: Option<Misfit>) {
        if let Some((row, _)) = misfit
            && self.misfit.is_none_or(|(first, _)| row < first)
        {
            self.misfit = misfit;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.note(other.misfit);
    }

    pub(super) fn sum(self) -> Result<ExactSum, Failure> {
        match self.misfit {
            Some((row, label)) => Err(Failure::Label { row, label }),
            None => Ok(self.sum),
        }
    }
}

impl<T: Number> State<T> {
    /// A constant, so that it is made in place and not moved.
    const UNFILLED: Self = Self {
        scores: [Block::new(), Block::new()],
        probabilities: Block::new(),
        weights: Block::new(),
        results: Results { slope: Block::new(), curvature: Block::new() },
        sample_weights: Block::new(),
        grad_outputs: Block::new(),
        values: Block::new(),
    };

    /// Fills what classes have where the call says nothing of it.
    fn prepare(&mut self, classes: usize) {
        let len = classes.next_multiple_of(GRAIN);
        // SAFETY: all of each slice is filled.
        unsafe {
            self.probabilities.filled(len, |room| room.fill(T::ZERO));
            self.weights.filled(len, |room| room.fill(T::ONE));
        }
    }
}

/// What a target says of a sample.
#[derive(Clone, Copy)]
pub(super) enum Sample {
    /// Nothing: the sample is left out.
    Ignored,
    /// The class, where targets are labels.
    Class(Option<usize>),
}

impl Call<'_> {
    /// The exact sum of what the samples count for in the mean, after all labels have been looked at; `normalises` is
    /// [`Rowwise::LABEL_WEIGHT_NORMALISES`].
    ///
    /// # Errors
    /// If a label is not a class, or `stop` said so.
    ///
    /// # Safety
    /// The labels and weights must be readable.
    pub unsafe fn total_weight<T: Number>(
        &self,
        normalises: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        let by_label = normalises && self.weight.is_some();
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found::NOTHING;
            let (mut weights, mut values, mut places) = (Block::<T>::new(), Block::<T>::new(), Block::<usize>::new());
            for task in tasks {
                let start = task * BLOCK;
                let len = BLOCK.min(samples - start);
                let mut misfit = None;
                // SAFETY: the caller's; every element of `values` is written.
                unsafe {
                    let weights = self
                        .sample_weight
                        .map(|operand| &self.layout.fetch(isa, operand, start, len, &mut weights)[..len]);
                    let all_count = !by_label && self.read_places(isa, start, places.written(len));
                    match weights {
                        None if all_count => found.sum.add(len as f64),
                        Some(weights) if all_count => found.sum.add_block(isa, weights),
                        _ => {
                            let values = values.filled(len, |values| {
                                for (i, value) in values.iter_mut().enumerate() {
                                    let weight = weights.map_or(T::ONE, |weights| weights[i]);
                                    *value = match self.sample(start + i) {
                                        Ok(Sample::Class(Some(label))) if by_label => {
                                            weight * self.class_weight(isa, label)
                                        }
                                        Ok(Sample::Class(_)) => weight,
                                        Ok(Sample::Ignored) => T::ZERO,
                                        Err(_) if weight == T::ZERO => T::ZERO,
                                        Err(label) => {
                                            misfit = misfit.or(Some((start + i, label)));
                                            T::ZERO
                                        }
                                    };
                                }
                            });
                            found.sum.add_block(isa, values);
                        }
                    }
                }
                found.note(misfit);
            }
            found
        };
        let spread = Spread::if_worth(samples >= SPREAD_FROM);
        threads::share(samples.div_ceil(BLOCK), spread, stop, work, Found::merge)?.sum()
    }

    /// Runs the call; the exact sum of the weighted losses, if it is wanted.
    ///
    /// # Errors
    /// If a label is not a class, or `stop` said so.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without overlap, except that a result may be
    /// an operand.
    pub unsafe fn run<T: Number>(&self, loss: &dyn Blocks<T>, stop: &dyn Fn() -> bool) -> Result<ExactSum, Failure> {
        if loss.traits().label_alone && matches!(self.target, Target::Labels(_)) {
            // SAFETY: the caller's.
            return unsafe { self.run_labels(loss, stop) };
        }
        if self.classes <= FEW_CLASSES {
            let rows = tile::rows(self.classes, self.layout.len());
            // SAFETY: the caller's.
            return unsafe { self.run_groups::<T, TileState<T>>(loss, stop, rows, TILE) };
        }
        if self.classes <= BLOCK {
            // SAFETY: the caller's.
            return unsafe { self.run_groups::<T, band::State<T>>(loss, stop, band::rows(self.classes), BAND) };
        }
        let isa = Isa::active();
        let samples = self.layout.len();
        let rows = (ELEMENTS_PER_TASK / self.classes).clamp(1, BLOCK);
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found::NOTHING;
            let mut state = State::<T>::UNFILLED;
            state.prepare(self.classes.min(BLOCK));
            while let Some(task) = tasks.next() {
                let start = task * rows;
                // SAFETY: the caller's, and no other task has these rows.
                unsafe { self.rows(isa, loss, &mut state, &mut found, tasks, start, rows.min(samples - start)) };
            }
            storage::fence();
            found
        };
        let spread = samples * self.classes >= SPREAD_FROM;
        threads::share(samples.div_ceil(rows), spread, stop, work, Found::merge)?.sum()
    }

    /// [`Call::run`] by groups of rows, of no more than so many elements.
    ///
    /// # Safety
    /// As there.
    unsafe fn run_groups<T: Number, G: Group<T>>(
        &self,
        loss: &dyn Blocks<T>,
        stop: &dyn Fn() -> bool,
        rows: usize,
        elements: usize,
    ) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        let groups = samples.div_ceil(rows);
        let groups_per_task = (groups / (TASKS_PER_THREAD * threads::threads()))
            .clamp(LEAST_GROUPS_PER_TASK, ELEMENTS_PER_TASK / elements);
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found::NOTHING;
            let mut state = G::UNFILLED;
            let mut pending = Pending { losses: Block::<T>::new(), len: 0 };
            // SAFETY: the caller's, and no other task has these rows.
            unsafe {
                state.prepare(isa, self, rows);
                for task in tasks {
                    for group in task * groups_per_task..groups.min((task + 1) * groups_per_task) {
                        let start = group * rows;
                        state.compute(isa, self, loss, &mut pending, &mut found, start, rows.min(samples - start));
                    }
                }
            }
            pending.add_to(isa, &mut found.sum);
            storage::fence();
            found
        };
        let spread = samples * self.classes >= SPREAD_FROM;
        threads::share(groups.div_ceil(groups_per_task), spread, stop, work, Found::merge)?.sum()
    }

    /// Writes the rows of a tile.
    ///
    /// # Safety
    /// As [`Call::run`], and the room must hold a tile.
    unsafe fn put_tile<T: Real>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        start: usize,
        len: usize,
        tile: &mut Block<T, TILE>,
        room: &mut Block<T, TILE>,
    ) {
        let rows = tile::rows(self.classes, len);
        // SAFETY: the caller's; what is read of the room, `TransposeBack` has written. Nobody else has these rows of the result, and of
        // an operand that it may be, they are in the tile.
        unsafe {
            let values = tile.written(self.classes * rows);
            if let Some(run) = self.side_by_side(matrix, start, len) {
                let (written, streamed) = (len * self.classes, self.is_large(run));
                // Vectors that reach beyond a short row find room behind the last one.
                let is_direct = len == rows && self.classes > BEYOND && !streamed && run.is_slice_of::<T>();
                if is_direct {
                    let to = std::slice::from_raw_parts_mut(run.first.cast(), written);
                    isa.run(TransposeBack { from: values, to, rows });
                } else {
                    let room = room.written(values.len() + BEYOND);
                    isa.run(TransposeBack { from: values, to: room, rows });
                    run.store(isa, &room[..written], streamed);
                }
            } else if let Some(run) = self.layout.one_run(&matrix.samples, start, len) {
                run.store_tile(isa, matrix.stride, len, rows, values);
            } else {
                for (class, values) in values.chunks(rows).enumerate() {
                    self.layout.put(isa, &matrix.class(class), start, &values[..len], false);
                }
            }
        }
    }

    /// Reads rows into a tile, by classes; rows that are not there are 0.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn read_tile<T: Real>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        start: usize,
        len: usize,
        tile: &mut Block<T, TILE>,
        lying: &mut Block<T, TILE>,
    ) {
        let rows = tile::rows(self.classes, len);
        let (elements, read) = (self.classes * rows, self.classes * len);
        // SAFETY: the caller's; all of the slices are written.
        unsafe {
            if let Some(run) = self.side_by_side(matrix, start, len) {
                // Vectors that reach beyond a short row find room behind the last one.
                let is_direct = len == rows && self.classes > BEYOND;
                let from = match is_direct.then(|| run.as_slice(elements)).flatten() {
                    Some(slice) => slice,
                    None => lying.filled(elements + BEYOND, |room| {
                        run.load(isa, &mut room[..read]);
                        room[read..].fill(T::ZERO);
                    }),
                };
                isa.run(Transpose { from, to: tile.written(elements), rows });
                return;
            }
            tile.filled(elements, |room| {
                if let Some(run) = self.layout.one_run(&matrix.samples, start, len) {
                    run.load_tile(isa, matrix.stride, len, rows, room);
                } else {
                    for (class, scores) in room.chunks_mut(rows).enumerate() {
                        self.layout.read(isa, &matrix.class(class), start, &mut scores[..len]);
                        scores[len..].fill(T::ZERO);
                    }
                }
            });
        }
    }

    /// Reads weights of rows, 1 if there are none, and 0 for rows that are not there.
    ///
    /// # Safety
    /// They must be readable.
    pub(super) unsafe fn read_or_ones<T: Real>(
        &self,
        isa: Isa,
        operand: Option<&Operand>,
        start: usize,
        len: usize,
        out: &mut [T],
    ) {
        match operand {
            // SAFETY: the caller's.
            Some(operand) => unsafe { self.layout.read(isa, operand, start, &mut out[..len]) },
            None => out[..len].fill(T::ONE),
        }
        out[len..].fill(T::ZERO);
    }

    /// The elements of so many rows as one run, if they lie side by side.
    pub(super) fn side_by_side(&self, matrix: &Matrix, start: usize, len: usize) -> Option<Run> {
        let run = self.layout.one_run(&matrix.samples, start, len)?;
        let is_row = matrix.stride == run.dtype.size() as isize;
        let is_next = run.stride == matrix.stride * self.classes as isize || len == 1;
        (is_row && is_next).then_some(Run { stride: matrix.stride, ..run })
    }

    /// Reads labels, if they are of a type whose values are whole; whether all there are were read, are classes and count.
    ///
    /// # Safety
    /// They must be readable.
    pub(super) unsafe fn read_labels<T: Real>(&self, isa: Isa, start: usize, out: &mut [T]) -> bool {
        let Target::Labels(labels) = self.target else { return true };
        if labels.run.dtype.is_float() {
            return false;
        }
        // SAFETY: the caller's.
        unsafe { self.layout.read(isa, labels, start, out) };
        // What rounding moves, it does not move past the number of classes; and what it moves onto `ignored` is looked at again.
        let ignored = T::of(self.ignore_index.unwrap_or(-1) as f64);
        isa.run(Count { labels: out, classes: T::of(self.classes as f64), ignored })
    }

    /// Reads labels as places among the classes; whether all there are were read, are classes and count.
    ///
    /// # Safety
    /// They must be readable.
    pub(super) unsafe fn read_places(&self, isa: Isa, start: usize, places: &mut [usize]) -> bool {
        let Target::Labels(labels) = self.target else { return true };
        let ignored = self.ignore_index.and_then(|index| usize::try_from(index).ok());
        let mut all_count = true;
        self.layout.runs(labels, start, places.len(), |run, offset, length| {
            // SAFETY: the caller's.
            all_count &= unsafe { run.load_places(isa, self.classes, ignored, &mut places[offset..offset + length]) };
        });
        all_count
    }

    /// Visits the labels of rows, one by one; rows that are left out, or whose label is not a class, get a weight of 0.
    ///
    /// # Safety
    /// The labels must be readable.
    pub(super) unsafe fn each_label<T: Real>(
        &self,
        start: usize,
        weights: &mut [T],
        found: &mut Found,
        mut visit: impl FnMut(usize, usize),
    ) {
        for (i, weight) in weights.iter_mut().enumerate().filter(|(_, weight)| **weight != T::ZERO) {
            // SAFETY: the caller's.
            match unsafe { self.sample(start + i) } {
                Ok(Sample::Class(Some(label))) => visit(i, label),
                Ok(Sample::Class(None)) => {}
                Ok(Sample::Ignored) => *weight = T::ZERO,
                Err(label) => {
                    found.note(Some((start + i, label)));
                    *weight = T::ZERO;
                }
            }
        }
    }

    /// Whether what is written of all rows is so large that it goes past the caches.
    pub(super) fn is_large(&self, run: Run) -> bool {
        self.layout.len() * self.classes * run.dtype.size() >= STREAM_FROM
    }

    /// What the target says of a sample.
    ///
    /// # Safety
    /// The labels must be readable.
    #[inline]
    pub(super) unsafe fn sample(&self, row: usize) -> Result<Sample, Result<i128, f64>> {
        let Target::Labels(labels) = self.target else { return Ok(Sample::Class(None)) };
        // SAFETY: the caller's.
        match unsafe { self.layout.at(labels, row).label(0) } {
            Ok(label) if Some(label) == self.ignore_index => Ok(Sample::Ignored),
            Ok(label) if (0..self.classes as i128).contains(&label) => Ok(Sample::Class(Some(label as usize))),
            label => Err(label),
        }
    }

    /// # Safety
    /// The weights must be readable.
    #[inline]
    pub(super) unsafe fn class_weight<T: Real>(&self, isa: Isa, label: usize) -> T {
        let mut weight = [T::ONE];
        if let Some(Weight::Classes(weights)) = self.weight {
            // SAFETY: the caller's; the label is a class.
            unsafe { weights.from(label).load(isa, &mut weight) };
        }
        weight[0]
    }

    /// # Safety
    /// As [`Call::run`].
    unsafe fn rows<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        state: &mut State<T>,
        found: &mut Found,
        tasks: &mut Tasks<'_>,
        start: usize,
        len: usize,
    ) {
        let mut misfit = None;
        let State { scores, probabilities, weights, results, sample_weights, grad_outputs, values } = state;
        let [here, beyond] = scores;
        let beside = Beside { probabilities: Room::new(probabilities), weights: Room::new(weights) };
        let mut rooms = Rooms { scores: [Room::new(here), Room::new(beyond)], beside };
        // SAFETY: the caller's for all that is read and written; every element of `values` is written.
        unsafe {
            let sample_weights = match self.sample_weight {
                Some(operand) => Some(self.layout.fetch(isa, operand, start, len, sample_weights)),
                None => None,
            };
            let grad_outputs = match self.grad_output {
                Some(operand) => Some(self.layout.fetch(isa, operand, start, len, grad_outputs)),
                None => None,
            };
            let values = values.filled(len, |values| {
                for (i, value) in values.iter_mut().enumerate() {
                    let row = start + i;
                    let weight = sample_weights.map_or(T::ONE, |weights| weights[i]);
                    let sample = self.sample(row).unwrap_or_else(|label| {
                        if weight != T::ZERO {
                            misfit = misfit.or(Some((row, label)));
                        }
                        Sample::Ignored
                    });
                    let grad_output = grad_outputs.map_or(T::ONE, |outputs| outputs[i]);
                    *value = self.row(isa, loss, row, sample, weight, grad_output, &mut rooms, results, tasks);
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

    /// Computes a row: returns its weighted loss, writes its derivatives.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn row<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        row: usize,
        sample: Sample,
        weight: T,
        grad_output: T,
        rooms: &mut Rooms<'_, T>,
        results: &mut Results<T>,
        tasks: &mut Tasks<'_>,
    ) -> T {
        let (label, mut counts) = match sample {
            Sample::Class(label) => (label, weight != T::ZERO),
            Sample::Ignored => (None, false),
        };
        let Traits { settles, label_weighs_all, relative, .. } = loss.traits();
        // SAFETY: the caller's.
        unsafe {
            let mut swept = Swept::nothing(self.classes);
            if let Some(label) = label {
                swept.label.weight = self.class_weight(isa, label);
                counts &= !(label_weighs_all && swept.label.weight == T::ZERO);
                let mut score = [T::ZERO];
                self.input.row(self.layout, row).from(label).load(isa, &mut score);
                swept.label.score = score[0];
            }
            if !counts && self.log_probabilities.is_none() {
                self.clear(isa, row, results, tasks);
                return T::ZERO;
            }
            let place = |start: usize, len: usize| label?.checked_sub(start).filter(|&place| place < len);
            let Rooms { scores: [here, beyond], beside } = rooms;
            let (mut here, mut beyond) = (here, beyond);
            let mut rest = blocks(self.classes, tasks).peekable();
            let mut largest = match rest.peek() {
                Some(&(start, len)) if relative => block::largest(isa, self.scores(isa, row, start, len, here)),
                _ => -T::INFINITY,
            };
            while let Some((start, len)) = rest.next() {
                let scores = self.scores(isa, row, start, len, here);
                let later = rest.peek().map(|&(start, len)| self.scores(isa, row, start, len, beyond));
                if relative {
                    loss.raise(isa, largest, &mut swept);
                }
                let classes = self.classes(isa, row, start, len, scores, beside);
                largest = loss.sweep(isa, classes, later.unwrap_or_default(), &mut swept, place(start, len));
                std::mem::swap(&mut here, &mut beyond);
            }
            drop(rest);
            if settles {
                loss.settle(isa, &mut swept);
            }
            if let Some(matrix) = self.log_probabilities {
                let (largest, log_normalizer) = (swept.largest, loss.log_normalizer(isa, &swept));
                for (start, len) in blocks(self.classes, tasks) {
                    let scores = self.scores(isa, row, start, len, here);
                    results.slope.filled(scores.len(), |out| {
                        isa.run(LogProbabilities { scores, largest, log_normalizer, out });
                    });
                    self.put_block(isa, matrix, row, start, results.slope.written(len));
                }
                if !counts {
                    self.clear(isa, row, results, tasks);
                    return T::ZERO;
                }
            }
            if self.want.slope() {
                let scale = weight * T::of(self.factor) * grad_output;
                let direct = self.direct::<T>(row);
                // Elements before the first line are a block of their own.
                let lead = direct.map_or(0, |run| storage::elements_before_line::<T>(run.first).min(self.classes));
                let after = blocks(self.classes - lead, tasks).map(|(start, len)| (start + lead, len));
                for (start, len) in [(0, lead)].into_iter().filter(|_| lead > 0).chain(after) {
                    let scores = self.scores(isa, row, start, len, here);
                    let classes = self.classes(isa, row, start, len, scores, beside);
                    let direct = direct.filter(|_| len.is_multiple_of(GRAIN));
                    let (slope, stream) = match direct {
                        Some(run) => (run.from(start).to_slice(len), self.is_large(run)),
                        None => (results.slope.written(scores.len()), false),
                    };
                    let curvature = results.curvature.written(if self.want.curvature() { scores.len() } else { 0 });
                    let derivatives = Derivatives { slope, curvature, stream };
                    loss.derive(isa, classes, &swept, place(start, len), scale, derivatives);
                    if direct.is_none() {
                        self.put(isa, row, start, len, results);
                    }
                }
            }
            if self.want.value() { loss.value(isa, &swept) * weight } else { T::ZERO }
        }
    }

    /// A row's first derivatives, if they can be written as they lie by the loop that computes them: no others are wanted, and they are
    /// not where an operand is.
    fn direct<T: Real>(&self, row: usize) -> Option<Run> {
        let of_target = match self.target {
            Target::Probabilities(matrix) => Some(matrix),
            Target::Labels(_) | Target::LabelSets(_) => None,
        };
        let of_weight = match self.weight {
            Some(Weight::Elements(matrix)) => Some(matrix),
            _ => None,
        };
        let mut operands = [Some(self.input), of_target, of_weight].into_iter().flatten();
        let run = self.slope?.row(self.layout, row);
        let is_apart = self.curvature.is_none() && !operands.any(|matrix| self.is_result(matrix));
        (is_apart && run.is_slice_of::<T>()).then_some(run)
    }

    /// A block of a row's scores, followed up to a multiple of the grain by −∞.
    ///
    /// # Safety
    /// As [`Call::run`].
    #[inline]
    unsafe fn scores<'a, T: Real>(
        &self,
        isa: Isa,
        row: usize,
        start: usize,
        len: usize,
        room: &'a mut Room<'_, T>,
    ) -> &'a [T] {
        // SAFETY: the caller's.
        unsafe { room.fetch(isa, self.input.row(self.layout, row).from(start), len, -T::INFINITY) }
    }

    /// What else there is of a block of a row's classes, followed up to a multiple of the grain by ones that add nothing.
    ///
    /// # Safety
    /// As [`Call::run`].
    #[inline]
    unsafe fn classes<'a, T: Real>(
        &self,
        isa: Isa,
        row: usize,
        start: usize,
        len: usize,
        scores: &'a [T],
        rooms: &'a mut Beside<'_, T>,
    ) -> Classes<'a, T> {
        let padded = len.next_multiple_of(GRAIN);
        // SAFETY: the caller's; `State::prepare` has filled the rooms.
        unsafe {
            let probabilities = match self.target {
                Target::Probabilities(matrix) => {
                    rooms.probabilities.fetch(isa, matrix.row(self.layout, row).from(start), len, T::ZERO)
                }
                Target::Labels(_) | Target::LabelSets(_) => rooms.probabilities.block.written(padded),
            };
            let weights = match self.weight {
                Some(Weight::Classes(weights)) => rooms.weights.fetch(isa, weights.from(start), len, T::ONE),
                Some(Weight::Elements(matrix)) => {
                    rooms.weights.fetch(isa, matrix.row(self.layout, row).from(start), len, T::ONE)
                }
                None => rooms.weights.block.written(padded),
            };
            Classes { scores, probabilities, weights }
        }
    }

    /// Writes a block of a row's derivatives.
    ///
    /// # Safety
    /// As [`Call::run`], and `results` must hold as many.
    unsafe fn put<T: Real>(&self, isa: Isa, row: usize, start: usize, len: usize, results: &mut Results<T>) {
        for (matrix, room) in [(self.slope, &mut results.slope), (self.curvature, &mut results.curvature)] {
            if let Some(matrix) = matrix {
                // SAFETY: the caller's.
                unsafe { self.put_block(isa, matrix, row, start, room.written(len)) };
            }
        }
    }

    /// Writes a block of a row.
    ///
    /// # Safety
    /// As [`Call::run`].
    pub(super) unsafe fn put_block<T: Real>(&self, isa: Isa, matrix: &Matrix, row: usize, start: usize, values: &[T]) {
        let run = matrix.row(self.layout, row).from(start);
        // SAFETY: the caller's.
        unsafe { run.store(isa, values, self.is_large(run)) };
    }

    /// Writes zeros as a row's derivatives.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn clear<T: Real>(&self, isa: Isa, row: usize, results: &mut Results<T>, tasks: &mut Tasks<'_>) {
        if self.want.slope() {
            for (start, len) in blocks(self.classes, tasks) {
                // SAFETY: both rooms are filled; the rest is the caller's.
                unsafe {
                    results.slope.filled(len, |room| room.fill(T::ZERO));
                    results.curvature.filled(len, |room| room.fill(T::ZERO));
                    self.put(isa, row, start, len, results);
                }
            }
        }
    }
}

/// Where blocks of classes are converted to.
struct Rooms<'a, T> {
    /// Of a block, and of the next one.
    scores: [Room<'a, T>; 2],
    beside: Beside<'a, T>,
}

/// Where what is not scores is converted to.
struct Beside<'a, T> {
    probabilities: Room<'a, T>,
    weights: Room<'a, T>,
}

/// Where a block is converted to once, though a row is visited more than once, and the classes' weights are those of all rows.
struct Room<'a, T> {
    block: &'a mut Block<T>,
    /// Where in memory the block is from, and how long it is.
    holds: Option<(usize, usize)>,
}

impl<'a, T: Real> Room<'a, T> {
    fn new(block: &'a mut Block<T>) -> Self {
        Self { block, holds: None }
    }

    /// As [`block_of`].
    ///
    /// # Safety
    /// As there; and of a run that the call itself writes, no block may be asked for after that.
    #[inline]
    unsafe fn fetch(&mut self, isa: Isa, run: Run, len: usize, padding: T) -> &[T] {
        let wanted = Some((run.first as usize, len));
        if self.holds == wanted {
            // SAFETY: a block of that length was written, and the run has not been since.
            return unsafe { self.block.written(len.next_multiple_of(GRAIN)) };
        }
        // SAFETY: the caller's.
        let block = unsafe { block_of(isa, run, len, padding, self.block) };
        if !std::ptr::eq(block.as_ptr().cast(), run.first) {
            self.holds = wanted;
        }
        block
    }
}

impl Matrix {
    /// A class of all samples.
    pub(super) fn class(&self, class: usize) -> Operand {
        self.samples.moved(self.stride * class as isize)
    }

    /// The classes of a sample.
    #[inline]
    pub fn row(&self, layout: &Layout, row: usize) -> Run {
        Run { stride: self.stride, ..layout.at(&self.samples, row) }
    }
}

/// The blocks of a row, until the call is stopped: one of a short row, else multiples of the grain, and one last block that is
/// shorter than the grain.
pub(super) fn blocks(classes: usize, tasks: &mut Tasks<'_>) -> impl Iterator<Item = (usize, usize)> {
    // Elements between looks at the clock.
    const LONG: usize = 1 << 18;
    let mut start = 0;
    std::iter::from_fn(move || {
        if start % LONG == 0 && start > 0 && tasks.are_stopped() {
            return None;
        }
        let left = classes - start;
        let len = if left < GRAIN || classes <= BLOCK { left } else { left.min(BLOCK) / GRAIN * GRAIN };
        start += len;
        (len > 0).then_some((start - len, len))
    })
}

/// The first elements of a run, as they lie where that can be, else converted; padded to a multiple of the grain.
///
/// # Safety
/// The run must have `len` readable elements that nobody writes while the slice lives.
#[inline]
pub(super) unsafe fn block_of<T: Real>(isa: Isa, run: Run, len: usize, padding: T, room: &mut Block<T>) -> &[T] {
    let padded = len.next_multiple_of(GRAIN);
    if padded == len {
        // SAFETY: the caller's.
        if let Some(slice) = unsafe { run.as_slice(len) } {
            return slice;
        }
    }
    // SAFETY: all of the slice is written.
    unsafe {
        room.filled(padded, |room| {
            run.load(isa, &mut room[..len]);
            room[len..].fill(padding);
        })
    }
}
