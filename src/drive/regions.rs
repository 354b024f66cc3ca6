//! The driver for losses of regions: of sums over the positions of an image, for each class.
//!
//! All positions are swept for their sums; from these come the losses, and the losses' derivatives with respect to the sums;
//! and where gradients are wanted, all positions are swept once more. What is kept in between is three sums for each class
//! of a chunk of positions. Sums run in 16 fixed lanes within a block and in double precision from block to block and from
//! chunk to chunk. Blocks and chunks depend on the numbers of positions and classes alone, so threads may share one image.
//!
//! Classes that know nothing of each other are visited one by one. Those of a softmax are visited in tiles, each class of
//! some positions side by side, so that vectors run over positions.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::drive::block::{self, BLOCK, Block, GRAIN, LANES, Number};
use crate::drive::layout::{Layout, Operand};
use crate::drive::rows::{Matrix, Target};
use crate::drive::{Failure, SPREAD_FROM, STREAM_FROM, Want};
use crate::isa::{Isa, Kernel};
use crate::loss::{Overlap, Region};
use crate::real::Real;
use crate::storage::{self, Run};
use crate::sum::ExactSum;
use crate::threads::{self, Tasks};

/// Elements that a thread claims at once, roughly.
const ELEMENTS_PER_TASK: usize = 1 << 15;
/// Elements of a tile, roughly.
const ELEMENTS_PER_TILE: usize = 1 << 13;
/// The sums of a class.
const SUMS: usize = 3;

/// What makes probabilities of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: they are probabilities.
    Identity,
    /// The logistic function.
    Sigmoid,
    /// The softmax over the classes.
    Softmax,
}

/// What a class costs that no position of a region's target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// What the formula says.
    Smooth,
    /// Nothing.
    Zero,
    /// Nothing, and it does not count in the mean over the classes; nor does a region that has no class at all in the mean
    /// over the regions.
    Skip,
}

/// What targets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A mask of one class.
    Binary,
    /// A mask of each class, which may overlap.
    Multilabel,
    /// One class at each position.
    Multiclass,
}

/// What a loss of regions says of its data.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What targets are.
    pub mode: Mode,
    /// Whether inputs are logits rather than probabilities.
    pub from_logits: bool,
    /// The target of positions that are left out.
    pub ignore_index: Option<i128>,
    /// Whether sums run over each image rather than over all of them.
    pub per_image: bool,
    /// What a class costs that the target has not.
    pub empty: Empty,
}

/// A call: buffers and what to do with them.
pub struct Call<'a> {
    /// The positions of one region after the other, in C order.
    pub layout: &'a Layout,
    /// The number of regions: images, or 1 if sums run over all of them.
    pub regions: usize,
    /// The number of classes.
    pub classes: usize,
    /// What is wanted.
    pub want: Want,
    /// Logits or probabilities.
    pub input: &'a Matrix,
    /// A class for each position, or a probability for each position and class.
    pub target: &'a Target,
    /// What makes probabilities of the input.
    pub activation: Activation,
    /// The weight of each class in the mean over them.
    pub class_weight: Option<Run>,
    /// The target of positions that are left out.
    pub ignore_index: Option<i128>,
    /// What a class costs that the target has not.
    pub empty: Empty,
    /// The order of the regions.
    pub losses: &'a Layout,
    /// Weights of the regions; 0 leaves one out.
    pub sample_weight: Option<&'a Operand>,
    /// What the gradient of each region is multiplied by, in a vector-Jacobian product.
    pub grad_output: Option<&'a Operand>,
    /// What derivatives are multiplied by.
    pub factor: f64,
    /// Whether derivatives are divided by the weight of all regions.
    pub mean: bool,
    /// Where losses go, if they are not only summed.
    pub value: Option<&'a Operand>,
    /// Where the gradient goes.
    pub slope: Option<&'a Matrix>,
}

/// What a call finds.
pub struct Total {
    /// The exact sum of the weighted losses.
    pub sum: ExactSum,
    /// The exact sum of the weights of the regions that count.
    pub weight: ExactSum,
}

impl Total {
    const NOTHING: Self = Self { sum: ExactSum::new(), weight: ExactSum::new() };

    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.weight.merge(&other.weight);
    }
}

/// The first position that is not what it must be.
#[derive(Clone, Copy, Default)]
struct Faults {
    label: Option<(usize, Result<i128, f64>)>,
    /// The place, position by position and then class by class, and the operand.
    domain: Option<(usize, usize)>,
}

impl Faults {
    fn note_label(&mut self, fault: Option<(usize, Result<i128, f64>)>) {
        if let Some((position, _)) = fault
            && self.label.is_none_or(|(first, _)| position < first)
        {
            self.label = fault;
        }
    }

    fn note_domain(&mut self, fault: Option<(usize, usize)>) {
        self.domain = self.domain.into_iter().chain(fault).min();
    }

    fn merge(&mut self, other: &Self) {
        self.note_label(other.label);
        self.note_domain(other.domain);
    }

    fn check(self) -> Result<(), Failure> {
        match self {
            Self { label: Some((row, label)), .. } => Err(Failure::Label { row, label }),
            Self { domain: Some((index, operand)), .. } => Err(Failure::Domain { operand, index }),
            _ => Ok(()),
        }
    }
}

/// How the positions are divided, by their number and that of the classes alone.
#[derive(Clone, Copy)]
struct Division {
    /// The positions of a region.
    positions: usize,
    /// The positions of a block, or of a tile: a multiple of the lanes.
    block: usize,
    /// The positions of a chunk: a multiple of the blocks.
    chunk: usize,
    /// The chunks of a region.
    chunks: usize,
    /// The chunks that are a task.
    chunks_per_task: usize,
}

impl Division {
    fn new(positions: usize, classes: usize, tiled: bool) -> Self {
        let block = if tiled { (ELEMENTS_PER_TILE / classes / GRAIN * GRAIN).clamp(LANES, BLOCK) } else { BLOCK };
        let chunk = (ELEMENTS_PER_TASK / classes / block).max(1) * block;
        let chunks = positions.div_ceil(chunk).max(1);
        let elements = positions.min(chunk).max(1) * classes;
        Self { positions, block, chunk, chunks, chunks_per_task: (ELEMENTS_PER_TASK / elements).max(1) }
    }

    /// The region of a chunk, and its positions within.
    fn positions(self, chunk: usize) -> (usize, std::ops::Range<usize>) {
        let (region, start) = (chunk / self.chunks, chunk % self.chunks * self.chunk);
        (region, start..self.positions.min(start + self.chunk))
    }
}

/// Numbers of classes: three for each of each chunk. Each is written by one thread, and read after all have been.
struct Table {
    numbers: Vec<AtomicU64>,
    width: usize,
}

impl Table {
    fn new(chunks: usize, classes: usize) -> Self {
        let width = SUMS * classes;
        Self { numbers: std::iter::repeat_with(|| AtomicU64::new(0)).take(chunks * width).collect(), width }
    }

    fn row(&self, chunk: usize) -> &[AtomicU64] {
        &self.numbers[chunk * self.width..][..self.width]
    }

    fn put(&self, chunk: usize, numbers: &[[f64; SUMS]]) {
        for (place, number) in self.row(chunk).iter().zip(numbers.as_flattened()) {
            place.store(number.to_bits(), Ordering::Relaxed);
        }
    }

    fn add_to(&self, chunk: usize, sums: &mut [[f64; SUMS]]) {
        for (sum, number) in sums.as_flattened_mut().iter_mut().zip(self.row(chunk)) {
            *sum += f64::from_bits(number.load(Ordering::Relaxed));
        }
    }
}

impl Call<'_> {
    /// Runs the call; the exact sums of the weighted losses and of the weights.
    ///
    /// # Errors
    /// If a target is not what it must be, or `stop` said so.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without overlap, except that the gradient may
    /// be the input or the target.
    pub unsafe fn run<T: Number>(&self, loss: &dyn Region, stop: &dyn Fn() -> bool) -> Result<Total, Failure> {
        let visit = Visit::<T>::new(self, loss.is_squared());
        // SAFETY: the caller's.
        unsafe {
            visit.sum_up(stop)?;
            let total = visit.evaluate(loss, stop)?;
            if self.want.slope() {
                let factor = if self.mean { self.factor / total.weight.value() } else { self.factor };
                visit.derive(factor, stop)?;
            }
            Ok(total)
        }
    }
}

/// What the sweeps of a call share.
struct Visit<'a, T> {
    call: &'a Call<'a>,
    isa: Isa,
    squared: bool,
    division: Division,
    /// Each class of the input, of the target where it has classes, and of the gradient.
    inputs: Vec<Operand>,
    targets: Vec<Operand>,
    slopes: Vec<Operand>,
    weights: Vec<f64>,
    /// The target of positions that are left out; of none, NaN, which nothing is equal to.
    ignored: T,
    table: Table,
}

/// What a thread carries from block to block.
struct State<T> {
    scores: Block<T>,
    targets: Block<T>,
    results: Block<T>,
    sums: Vec<[f64; SUMS]>,
    slopes: Vec<Slopes<T>>,
    tile: Tile<T>,
}

/// Room for the positions of a tile, class by class.
struct Tile<T> {
    scores: Vec<T>,
    targets: Vec<T>,
    probabilities: Vec<T>,
    /// Of each position, the largest score; what the powers add up to; the same without one largest; and a number.
    largest: Block<T>,
    total: Block<T>,
    others: Block<T>,
    reference: Block<T>,
}

/// What the slope of a position is made of, of a class.
#[derive(Clone, Copy)]
struct Slopes<T> {
    /// Times the target.
    inside: T,
    /// Times the false positive: 1 − g, or p − g > 0.
    positive: T,
    /// Times p − g < 0.
    negative: T,
}

impl<T: Real> Slopes<T> {
    fn new(derivatives: [f64; SUMS], squared: bool, scale: f64) -> Self {
        let [hits, positive, negative] = derivatives.map(|derivative| derivative * scale);
        if squared {
            Self { inside: T::of(hits), positive: T::of(2.0 * positive), negative: T::of(2.0 * negative) }
        } else {
            Self { inside: T::of(hits - negative), positive: T::of(positive), negative: T::ZERO }
        }
    }
}

impl<'a, T: Number> Visit<'a, T> {
    fn new(call: &'a Call<'a>, squared: bool) -> Self {
        let isa = Isa::active();
        let classes = call.classes;
        let positions = call.layout.len().checked_div(call.regions).unwrap_or(0);
        let division = Division::new(positions, classes, call.activation == Activation::Softmax);
        let each = |matrix: &Matrix| (0..classes).map(|class| matrix.class(class)).collect();
        let targets = match call.target {
            Target::Labels(labels) => vec![labels.clone()],
            Target::Probabilities(matrix) => each(matrix),
        };
        let mut weights = vec![1.0; classes];
        if let Some(run) = call.class_weight {
            // SAFETY: the caller of `run` says that a weight for each class can be read.
            unsafe { run.load(isa, &mut weights) };
        }
        Self {
            call,
            isa,
            squared,
            division,
            inputs: each(call.input),
            targets,
            slopes: call.slope.map(each).unwrap_or_default(),
            weights,
            ignored: call.ignore_index.map_or(T::NAN, |index| T::of(index as f64)),
            table: Table::new(call.regions * division.chunks, classes),
        }
    }

    fn has_labels(&self) -> bool {
        matches!(self.call.target, Target::Labels(_))
    }

    fn state(&self) -> State<T> {
        let classes = self.call.classes;
        let tiled = self.call.activation == Activation::Softmax;
        let block = self.division.block.min(self.division.positions.next_multiple_of(LANES));
        let room = |wanted: bool| vec![T::ZERO; if wanted { classes * block } else { 0 }];
        State {
            scores: Block::new(),
            targets: Block::new(),
            results: Block::new(),
            sums: vec![[0.0; SUMS]; classes],
            slopes: vec![Slopes { inside: T::ZERO, positive: T::ZERO, negative: T::ZERO }; classes],
            tile: Tile {
                scores: room(tiled),
                targets: room(tiled && !self.has_labels()),
                probabilities: room(tiled),
                largest: Block::new(),
                total: Block::new(),
                others: Block::new(),
                reference: Block::new(),
            },
        }
    }

    /// The weight of a region.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn number_of(&self, operand: Option<&Operand>, region: usize) -> T {
        let mut number = [T::ONE];
        if let Some(operand) = operand {
            // SAFETY: the caller's.
            unsafe { self.call.losses.at(operand, region).load(self.isa, &mut number) };
        }
        number[0]
    }

    /// Shares the chunks among threads.
    fn share(
        &self,
        stop: &dyn Fn() -> bool,
        work: impl Fn(&mut State<T>, &mut Faults, usize, std::ops::Range<usize>, usize) + Sync,
    ) -> Result<Faults, Failure> {
        let division = self.division;
        let chunks = self.call.regions * division.chunks;
        let visit = |tasks: &mut Tasks<'_>| {
            let mut faults = Faults::default();
            let mut state = self.state();
            for task in tasks {
                for chunk in task * division.chunks_per_task..chunks.min((task + 1) * division.chunks_per_task) {
                    let (region, positions) = division.positions(chunk);
                    work(&mut state, &mut faults, region, positions, chunk);
                }
            }
            storage::fence();
            faults
        };
        let tasks = chunks.div_ceil(division.chunks_per_task);
        let spread = self.call.layout.len() * self.call.classes >= SPREAD_FROM;
        Ok(threads::share(tasks, spread, stop, visit, Faults::merge)?)
    }

    /// The first sweep: adds up each chunk.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sum_up(&self, stop: &dyn Fn() -> bool) -> Result<(), Failure> {
        let faults = self.share(stop, |state, faults, region, positions, chunk| {
            // SAFETY: the caller's.
            unsafe {
                if self.number_of(self.call.sample_weight, region) == T::ZERO {
                    return;
                }
                state.sums.fill([0.0; SUMS]);
                self.blocks(region, positions, |start, len| {
                    if self.call.activation == Activation::Softmax {
                        self.sum_tile(state, faults, start, len);
                    } else {
                        self.sum_block(state, faults, start, len);
                    }
                });
                self.table.put(chunk, &state.sums);
            }
        })?;
        faults.check()
    }

    /// The losses of the regions; leaves their derivatives with respect to the sums in the place of their first chunk's sums.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn evaluate(&self, loss: &dyn Region, stop: &dyn Fn() -> bool) -> Result<Total, Failure> {
        let regions = self.call.regions;
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Total::NOTHING;
            let mut sums = vec![[0.0; SUMS]; self.call.classes];
            let (mut values, mut counts) = (Block::<T>::new(), Block::<T>::new());
            for task in tasks {
                let start = task * BLOCK;
                let len = BLOCK.min(regions - start);
                // SAFETY: all of both slices is written; the rest is the caller's.
                unsafe {
                    let counts = counts.filled(len, |counts| counts.fill(T::ZERO));
                    let values = values.filled(len, |values| values.fill(T::ZERO));
                    for (i, (value, count)) in values.iter_mut().zip(counts.iter_mut()).enumerate() {
                        let weight = self.number_of(self.call.sample_weight, start + i);
                        if weight == T::ZERO {
                            continue;
                        }
                        if let Some(loss) = self.region(loss, start + i, &mut sums) {
                            (*value, *count) = (T::of(loss) * weight, weight);
                        }
                    }
                    block::add(self.isa, &mut found.sum, values);
                    block::add(self.isa, &mut found.weight, counts);
                    if let Some(output) = self.call.value {
                        self.call.losses.put(self.isa, output, start, values, false);
                    }
                }
            }
            found
        };
        let spread = regions * self.table.width * self.division.chunks >= SPREAD_FROM;
        Ok(threads::share(regions.div_ceil(BLOCK), spread, stop, work, Total::merge)?)
    }

    /// The mean of a region's losses over its classes, if any of them counts.
    fn region(&self, loss: &dyn Region, region: usize, sums: &mut [[f64; SUMS]]) -> Option<f64> {
        let first = region * self.division.chunks;
        sums.fill([0.0; SUMS]);
        for chunk in first..first + self.division.chunks {
            self.table.add_to(chunk, sums);
        }
        let (mut total, mut weights) = (0.0, 0.0);
        for (sums, &weight) in sums.iter_mut().zip(&self.weights) {
            let [true_positives, false_positives, false_negatives] = std::mem::take(sums);
            let empty = true_positives + false_negatives == 0.0;
            if weight == 0.0 || (empty && self.call.empty == Empty::Skip) {
                continue;
            }
            weights += weight;
            if !empty || self.call.empty == Empty::Smooth {
                let (value, slopes) = loss.at(Overlap { true_positives, false_positives, false_negatives });
                total += weight * value;
                *sums = [slopes.true_positives, slopes.false_positives, slopes.false_negatives];
                *sums = sums.map(|slope| slope * weight);
            }
        }
        let counts = weights != 0.0;
        if counts {
            for slopes in sums.as_flattened_mut() {
                *slopes /= weights;
            }
        }
        self.table.put(first, sums);
        counts.then(|| total / weights)
    }

    /// The second sweep: writes the gradient.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn derive(&self, factor: f64, stop: &dyn Fn() -> bool) -> Result<(), Failure> {
        self.share(stop, |state, _, region, positions, _| {
            // SAFETY: the caller's, and no other task has these positions.
            unsafe {
                let weight = self.number_of(self.call.sample_weight, region);
                let scale = weight.to_f64() * factor * self.number_of(self.call.grad_output, region).to_f64();
                let left_out = weight == T::ZERO;
                state.sums.fill([0.0; SUMS]);
                if !left_out {
                    self.table.add_to(region * self.division.chunks, &mut state.sums);
                }
                let scale = if left_out { 0.0 } else { scale };
                for (slopes, &derivatives) in state.slopes.iter_mut().zip(&state.sums) {
                    // What does not count has no gradient, whatever the factor is.
                    let scale = if derivatives == [0.0; SUMS] { 0.0 } else { scale };
                    *slopes = Slopes::new(derivatives, self.squared, scale);
                }
                self.blocks(region, positions, |start, len| {
                    if self.call.activation == Activation::Softmax {
                        self.derive_tile(state, start, len);
                    } else {
                        self.derive_block(state, start, len);
                    }
                });
            }
        })?;
        Ok(())
    }

    /// The blocks of some positions of a region: where each begins in the layout, and its length.
    fn blocks(&self, region: usize, positions: std::ops::Range<usize>, mut visit: impl FnMut(usize, usize)) {
        for start in positions.clone().step_by(self.division.block) {
            visit(region * self.division.positions + start, self.division.block.min(positions.end - start));
        }
    }
}

impl<T: Number> Visit<'_, T> {
    /// Elements of a class, as they lie where that can be, else converted; padded to a multiple of the lanes.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn fetch<'a>(
        &self,
        operand: &Operand,
        start: usize,
        len: usize,
        padding: T,
        room: &'a mut Block<T>,
    ) -> &'a [T] {
        let padded = len.next_multiple_of(LANES);
        // SAFETY: the caller's; all of the slice is written.
        unsafe {
            if padded == len {
                return &self.call.layout.fetch(self.isa, operand, start, len, room)[..len];
            }
            room.filled(padded, |room| {
                self.call.layout.read(self.isa, operand, start, &mut room[..len]);
                room[len..].fill(padding);
            })
        }
    }

    /// The scores and targets of a class of a block, followed by ones that add nothing.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn block<'a>(
        &self,
        class: usize,
        start: usize,
        len: usize,
        scores: &'a mut Block<T>,
        targets: &'a mut Block<T>,
    ) -> (&'a [T], &'a [T]) {
        let nothing = if self.call.activation == Activation::Sigmoid { -T::INFINITY } else { T::ZERO };
        let (target, none) =
            if self.has_labels() { (&self.targets[0], -T::ONE) } else { (&self.targets[class], T::ZERO) };
        // SAFETY: the caller's.
        unsafe {
            (
                self.fetch(&self.inputs[class], start, len, nothing, scores),
                self.fetch(target, start, len, none, targets),
            )
        }
    }

    /// Adds a block to the sums, one class after the other.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sum_block(&self, state: &mut State<T>, faults: &mut Faults, start: usize, len: usize) {
        let ignored = self.ignored;
        let State { scores, targets, sums, .. } = state;
        for (class, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let (scores, targets) = unsafe { self.block(class, start, len, scores, targets) };
            if self.has_labels() {
                if class == 0 {
                    // SAFETY: the caller's.
                    unsafe { self.check_labels(targets, start, len, faults) };
                }
            } else {
                self.check(1, class, targets, targets, (start, len), faults);
            }
            if self.call.activation == Activation::Identity {
                self.check(0, class, scores, targets, (start, len), faults);
            }
            let number = T::of(class as f64);
            let terms = match (self.call.activation, self.has_labels()) {
                (Activation::Sigmoid, _) => self.terms::<_, false>(Sigmoid(scores), targets, number, ignored),
                (_, true) => self.terms::<_, true>(Probability(scores), targets, number, ignored),
                (_, false) => self.terms::<_, false>(Probability(scores), targets, number, ignored),
            };
            add(sums, terms);
        }
    }

    fn terms<P: Source<T>, const LABELS: bool>(&self, source: P, targets: &[T], class: T, ignored: T) -> [T; SUMS] {
        if self.squared {
            self.isa.run(Sums::<_, _, LABELS, true> { source, targets, class, ignored })
        } else {
            self.isa.run(Sums::<_, _, LABELS, false> { source, targets, class, ignored })
        }
    }

    /// Writes a block's gradient, one class after the other.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn derive_block(&self, state: &mut State<T>, start: usize, len: usize) {
        let State { scores, targets, results, slopes, .. } = state;
        for (class, &slopes) in slopes.iter().enumerate() {
            // SAFETY: the caller's; the kernel writes all of the slice.
            unsafe {
                let padded = len.next_multiple_of(LANES);
                if slopes.are_zero() {
                    results.filled(padded, |results| results.fill(T::ZERO));
                } else {
                    let (scores, targets) = self.block(class, start, len, scores, targets);
                    let (number, results) = (T::of(class as f64), results.written(padded));
                    match (self.call.activation, self.has_labels()) {
                        (Activation::Sigmoid, _) => {
                            self.write_slopes::<_, true, false>(Sigmoid(scores), targets, number, slopes, results);
                        }
                        (_, true) => {
                            self.write_slopes::<_, false, true>(Probability(scores), targets, number, slopes, results);
                        }
                        (_, false) => {
                            self.write_slopes::<_, false, false>(Probability(scores), targets, number, slopes, results);
                        }
                    }
                }
                self.put(class, start, &results.written(padded)[..len]);
            }
        }
    }

    fn write_slopes<P: Source<T>, const LOGISTIC: bool, const LABELS: bool>(
        &self,
        source: P,
        targets: &[T],
        class: T,
        slopes: Slopes<T>,
        results: &mut [T],
    ) {
        let ignored = self.ignored;
        if self.squared {
            self.isa.run(Derive::<_, _, LOGISTIC, LABELS, true> { source, targets, class, ignored, slopes, results });
        } else {
            self.isa.run(Derive::<_, _, LOGISTIC, LABELS, false> { source, targets, class, ignored, slopes, results });
        }
    }

    /// # Safety
    /// As [`Call::run`].
    unsafe fn put(&self, class: usize, start: usize, values: &[T]) {
        let operand = &self.slopes[class];
        let bytes = self.call.layout.len() * self.call.classes * operand.run.dtype.size();
        // SAFETY: the caller's.
        unsafe { self.call.layout.put(self.isa, operand, start, values, bytes >= STREAM_FROM) };
    }

    /// Notes the first of a class's values that is outside [0, 1], of those that are not left out.
    fn check(
        &self,
        operand: usize,
        class: usize,
        values: &[T],
        targets: &[T],
        (start, len): (usize, usize),
        faults: &mut Faults,
    ) {
        let (ignored, most) = (self.ignored, T::ONE);
        if self.isa.run(Stray { values, targets, ignored, most }) {
            let outside = |&i: &usize| is_stray(values[i], targets[i], ignored, most);
            let first = (0..len).find(outside).map(|i| ((start + i) * self.call.classes + class, operand));
            faults.note_domain(first);
        }
    }

    /// Notes the first label that is not a class.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn check_labels(&self, labels: &[T], start: usize, len: usize, faults: &mut Faults) {
        let operand = &self.targets[0];
        let (ignored, most) = (self.ignored, T::of((self.call.classes - 1) as f64));
        let labels = &labels[..len];
        if operand.run.dtype.is_float() || self.isa.run(Stray { values: labels, targets: labels, ignored, most }) {
            let fault = (start..start + len).find_map(|position| {
                // SAFETY: the caller's.
                match unsafe { self.call.layout.at(operand, position).label(0) } {
                    Ok(label) if Some(label) == self.call.ignore_index => None,
                    Ok(label) if (0..self.call.classes as i128).contains(&label) => None,
                    label => Some((position, label)),
                }
            });
            faults.note_label(fault);
        }
    }

    /// Reads a tile and turns its scores into probabilities; in `targets` is left the label of each position, or 0 where
    /// targets are probabilities, and −1 of positions that are left out.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn read_tile(&self, state: &mut State<T>, start: usize, len: usize, faults: Option<&mut Faults>) -> usize {
        let positions = len.next_multiple_of(LANES);
        let State { targets: labels, tile, .. } = state;
        // SAFETY: the caller's; all of each slice is written.
        unsafe {
            for (operand, scores) in self.inputs.iter().zip(tile.scores.chunks_exact_mut(positions)) {
                self.call.layout.read(self.isa, operand, start, &mut scores[..len]);
                scores[len..].fill(T::ZERO);
            }
            let labels = if self.has_labels() {
                let labels = labels.filled(positions, |labels| {
                    self.call.layout.read(self.isa, &self.targets[0], start, &mut labels[..len]);
                });
                if let Some(faults) = faults {
                    self.check_labels(labels, start, len, faults);
                }
                self.isa.run(LeaveOut { labels, ignored: self.ignored });
                labels
            } else {
                for (operand, targets) in self.targets.iter().zip(tile.targets.chunks_exact_mut(positions)) {
                    self.call.layout.read(self.isa, operand, start, &mut targets[..len]);
                    targets[len..].fill(T::ZERO);
                }
                if let Some(faults) = faults {
                    for (class, targets) in tile.targets.chunks_exact(positions).take(self.call.classes).enumerate() {
                        self.check(1, class, targets, targets, (start, len), faults);
                    }
                }
                labels.filled(positions, |labels| labels.fill(T::ZERO))
            };
            labels[len..].fill(-T::ONE);
            let elements = positions * self.call.classes;
            self.isa.run(Normalise {
                positions,
                scores: &tile.scores[..elements],
                probabilities: &mut tile.probabilities[..elements],
                largest: tile.largest.written(positions),
                total: tile.total.written(positions),
                others: tile.others.written(positions),
            });
        }
        positions
    }

    /// Adds a tile to the sums.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sum_tile(&self, state: &mut State<T>, faults: &mut Faults, start: usize, len: usize) {
        // SAFETY: the caller's; `read_tile` writes what is read here.
        let positions = unsafe { self.read_tile(state, start, len, Some(faults)) };
        let State { targets: labels, tile, sums, .. } = state;
        // SAFETY: as above.
        let (largest, others) = unsafe { (&*tile.largest.written(positions), &*tile.others.written(positions)) };
        // SAFETY: as above.
        let labels = unsafe { &*labels.written(positions) };
        for (class, sums) in sums.iter_mut().enumerate() {
            let elements = class * positions..(class + 1) * positions;
            let source = Softmax {
                scores: &tile.scores[elements.clone()],
                probabilities: &tile.probabilities[elements.clone()],
                largest,
                others,
            };
            let terms = if self.has_labels() {
                self.terms::<_, true>(source, labels, T::of(class as f64), -T::ONE)
            } else {
                // Positions that are not there have probabilities.
                self.terms::<_, false>(Kept { source, labels }, &tile.targets[elements], T::ZERO, T::NAN)
            };
            add(sums, terms);
        }
    }

    /// Writes a tile's gradient.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn derive_tile(&self, state: &mut State<T>, start: usize, len: usize) {
        let positions = len.next_multiple_of(LANES);
        let elements = positions * self.call.classes;
        if state.slopes.iter().all(|slopes| slopes.are_zero()) {
            state.tile.probabilities[..elements].fill(T::ZERO);
        } else {
            // SAFETY: the caller's; `read_tile` writes what is read here, and the kernel the rest.
            unsafe {
                self.read_tile(state, start, len, None);
                let State { targets: labels, tile, slopes, .. } = &mut *state;
                let labels = &*labels.written(positions);
                let kernel = DeriveSoftmax::<_, false, false> {
                    positions,
                    labels,
                    slopes,
                    scores: &tile.scores[..elements],
                    targets: if self.has_labels() { &[] } else { &tile.targets[..elements] },
                    largest: tile.largest.written(positions),
                    others: tile.others.written(positions),
                    reference: tile.reference.written(positions),
                    mean: tile.total.written(positions),
                    probabilities: &mut tile.probabilities[..elements],
                };
                match (self.has_labels(), self.squared) {
                    (false, false) => self.isa.run(kernel),
                    (false, true) => self.isa.run(kernel.with::<false, true>()),
                    (true, false) => self.isa.run(kernel.with::<true, false>()),
                    (true, true) => self.isa.run(kernel.with::<true, true>()),
                }
            }
        }
        for class in 0..self.call.classes {
            // SAFETY: the caller's.
            unsafe { self.put(class, start, &state.tile.probabilities[class * positions..][..len]) };
        }
    }
}

fn add<T: Real>(sums: &mut [f64; SUMS], terms: [T; SUMS]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term.to_f64();
    }
}

impl<T: Real> Slopes<T> {
    fn are_zero(self) -> bool {
        [self.inside, self.positive, self.negative] == [T::ZERO; 3]
    }
}

/// Probabilities p and their complements q = 1 − p, some lanes at a time.
trait Source<T>: Copy {
    fn lanes(self, index: usize) -> ([T; LANES], [T; LANES]);
}

/// Some lanes of values.
#[inline(always)]
fn lanes<T>(values: &[T], index: usize) -> &[T; LANES] {
    &values.as_chunks().0[index]
}

/// Some lanes of values, to be written.
#[inline(always)]
fn lanes_mut<T>(values: &mut [T], index: usize) -> &mut [T; LANES] {
    &mut values.as_chunks_mut().0[index]
}

/// Probabilities as they are given.
#[derive(Clone, Copy)]
struct Probability<'a, T>(&'a [T]);

impl<T: Real> Source<T> for Probability<'_, T> {
    #[inline(always)]
    fn lanes(self, index: usize) -> ([T; LANES], [T; LANES]) {
        let p = *lanes(self.0, index);
        let mut q = [T::ZERO; LANES];
        for lane in 0..LANES {
            q[lane] = T::ONE - p[lane];
        }
        (p, q)
    }
}

/// Probabilities of logits, each by itself.
#[derive(Clone, Copy)]
struct Sigmoid<'a, T>(&'a [T]);

impl<T: Real> Source<T> for Sigmoid<'_, T> {
    #[inline(always)]
    fn lanes(self, index: usize) -> ([T; LANES], [T; LANES]) {
        let scores = lanes(self.0, index);
        let (mut p, mut q) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        for lane in 0..LANES {
            let x = scores[lane];
            let small = (-x.abs()).exp_nonpositive();
            let larger = T::ONE / (T::ONE + small);
            let smaller = small * larger;
            p[lane] = if x > T::ZERO { larger } else { smaller };
            q[lane] = if x > T::ZERO { smaller } else { larger };
        }
        (p, q)
    }
}

/// Probabilities of a class, of logits of all classes.
#[derive(Clone, Copy)]
struct Softmax<'a, T> {
    scores: &'a [T],
    probabilities: &'a [T],
    largest: &'a [T],
    /// The complement of the largest score's probability.
    others: &'a [T],
}

impl<T: Real> Source<T> for Softmax<'_, T> {
    /// 1 − p is accurate where p is at most ½, as it is below the largest score.
    #[inline(always)]
    fn lanes(self, index: usize) -> ([T; LANES], [T; LANES]) {
        let (scores, largest, others) =
            (lanes(self.scores, index), lanes(self.largest, index), lanes(self.others, index));
        let p = *lanes(self.probabilities, index);
        let mut q = [T::ZERO; LANES];
        for lane in 0..LANES {
            q[lane] = if scores[lane] == largest[lane] { others[lane] } else { T::ONE - p[lane] };
        }
        (p, q)
    }
}

/// Probabilities, but none of positions that are left out.
#[derive(Clone, Copy)]
struct Kept<'a, T, P> {
    source: P,
    labels: &'a [T],
}

impl<T: Real, P: Source<T>> Source<T> for Kept<'_, T, P> {
    #[inline(always)]
    fn lanes(self, index: usize) -> ([T; LANES], [T; LANES]) {
        let (mut p, mut q) = self.source.lanes(index);
        let labels = lanes(self.labels, index);
        for lane in 0..LANES {
            p[lane] = if labels[lane] < T::ZERO { T::ZERO } else { p[lane] };
            q[lane] = if labels[lane] < T::ZERO { T::ONE } else { q[lane] };
        }
        (p, q)
    }
}

/// What a position adds to the sums: of the probability p, its complement q and the target g.
///
/// For g = 0 and 1 each is exact but for the error of p or q; so is p − g = p (1 − g) − q g. Where g is 0, only false positives
/// are more than 0, even of a NaN, so that the other sums tell whether the target is empty.
#[inline(always)]
fn terms<T: Real, const SQUARED: bool>(p: T, q: T, g: T) -> [T; SUMS] {
    let (hit, over, under) = (p * g, p * (T::ONE - g), q * g);
    let (over, under) = if SQUARED {
        let (over, under) = ((over - under).clamp(T::ZERO, T::ONE), (under - over).clamp(T::ZERO, T::ONE));
        (over * over, under * under)
    } else {
        (over, under)
    };
    let within = |term: T| if g == T::ZERO { T::ZERO } else { term };
    [within(hit), over, within(under)]
}

/// The derivative of a loss with respect to the probability of a position.
#[inline(always)]
fn slope<T: Real, const SQUARED: bool>(slopes: Slopes<T>, p: T, q: T, g: T) -> T {
    let outside = T::ONE - g;
    if SQUARED {
        let error = p * outside - q * g;
        let share = if error > T::ZERO { slopes.positive } else { slopes.negative };
        g * slopes.inside + error * share
    } else {
        g * slopes.inside + outside * slopes.positive
    }
}

/// Adds up a class of a block.
struct Sums<'a, T, P, const LABELS: bool, const SQUARED: bool> {
    source: P,
    targets: &'a [T],
    class: T,
    ignored: T,
}

impl<T: Real, P: Source<T>, const LABELS: bool, const SQUARED: bool> Kernel for Sums<'_, T, P, LABELS, SQUARED> {
    type Output = [T; SUMS];

    #[inline(always)]
    fn run(self) -> [T; SUMS] {
        let Self { source, targets, class, ignored } = self;
        let mut sums = [[T::ZERO; LANES]; SUMS];
        for (index, targets) in targets.as_chunks::<LANES>().0.iter().enumerate() {
            let (p, q) = source.lanes(index);
            for lane in 0..LANES {
                let target = targets[lane];
                let g = if LABELS { T::one_if(target == class) } else { target };
                let terms = terms::<T, SQUARED>(p[lane], q[lane], g);
                for k in 0..SUMS {
                    let term = if target == ignored { T::ZERO } else { terms[k] };
                    sums[k][lane] = sums[k][lane] + term;
                }
            }
        }
        sums.map(|lanes| block::fold(lanes, |a, b| a + b))
    }
}

/// Writes the gradient of a class of a block.
struct Derive<'a, T, P, const LOGISTIC: bool, const LABELS: bool, const SQUARED: bool> {
    source: P,
    targets: &'a [T],
    class: T,
    ignored: T,
    slopes: Slopes<T>,
    results: &'a mut [T],
}

impl<T: Real, P: Source<T>, const LOGISTIC: bool, const LABELS: bool, const SQUARED: bool> Kernel
    for Derive<'_, T, P, LOGISTIC, LABELS, SQUARED>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { source, targets, class, ignored, slopes, results } = self;
        let targets = targets.as_chunks::<LANES>().0;
        for (index, (results, targets)) in results.as_chunks_mut::<LANES>().0.iter_mut().zip(targets).enumerate() {
            let (p, q) = source.lanes(index);
            let mut derivatives = [T::ZERO; LANES];
            for lane in 0..LANES {
                let target = targets[lane];
                let g = if LABELS { T::one_if(target == class) } else { target };
                let slope = slope::<T, SQUARED>(slopes, p[lane], q[lane], g);
                let slope = if LOGISTIC { slope * (p[lane] * q[lane]) } else { slope };
                derivatives[lane] = if target == ignored { T::ZERO } else { slope };
            }
            *results = derivatives;
        }
    }
}

/// Whether a value is outside [0, most], where its target is not left out.
#[inline(always)]
fn is_stray<T: Real>(value: T, target: T, ignored: T, most: T) -> bool {
    ((value < T::ZERO) | (value > most)) & (target != ignored)
}

/// Whether any value is.
struct Stray<'a, T> {
    values: &'a [T],
    targets: &'a [T],
    ignored: T,
    most: T,
}

impl<T: Real> Kernel for Stray<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { values, targets, ignored, most } = self;
        let mut found = false;
        for (&value, &target) in values.iter().zip(targets) {
            found |= is_stray(value, target, ignored, most);
        }
        found
    }
}

/// Makes −1 of the labels of positions that are left out.
struct LeaveOut<'a, T> {
    labels: &'a mut [T],
    ignored: T,
}

impl<T: Real> Kernel for LeaveOut<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for label in self.labels {
            *label = if *label == self.ignored { -T::ONE } else { *label };
        }
    }
}

/// The softmax of a tile.
struct Normalise<'a, T> {
    positions: usize,
    scores: &'a [T],
    /// Where the probabilities go.
    probabilities: &'a mut [T],
    largest: &'a mut [T],
    total: &'a mut [T],
    /// Where the complement of the largest score's probability goes.
    others: &'a mut [T],
}

impl<T: Real> Kernel for Normalise<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { positions, scores, probabilities, largest, total, others } = self;
        largest.fill(-T::INFINITY);
        for scores in scores.chunks_exact(positions) {
            for (largest, scores) in largest.as_chunks_mut::<LANES>().0.iter_mut().zip(scores.as_chunks().0) {
                let scores: &[T; LANES] = scores;
                for lane in 0..LANES {
                    largest[lane] = scores[lane].max(largest[lane]);
                }
            }
        }
        // `others` counts the ties for the largest first, and `total` adds up what is below.
        total.fill(T::ZERO);
        others.fill(T::ZERO);
        for (scores, probabilities) in scores.chunks_exact(positions).zip(probabilities.chunks_exact_mut(positions)) {
            for index in 0..positions / LANES {
                let (scores, largest) = (lanes(scores, index), lanes(largest, index));
                let (below, ties) = (lanes_mut(total, index), lanes_mut(others, index));
                let mut raised = [T::ZERO; LANES];
                for lane in 0..LANES {
                    let is_largest = scores[lane] == largest[lane];
                    // −∞ is at no distance to itself.
                    let relative = if largest[lane] > -T::INFINITY { largest[lane] } else { T::ZERO };
                    raised[lane] = (scores[lane] - relative).exp_nonpositive();
                    below[lane] = below[lane] + if is_largest { T::ZERO } else { raised[lane] };
                    ties[lane] = ties[lane] + T::one_if(is_largest);
                }
                *lanes_mut(probabilities, index) = raised;
            }
        }
        for index in 0..positions / LANES {
            let (largest, total, others) = (lanes(largest, index), lanes_mut(total, index), lanes_mut(others, index));
            for lane in 0..LANES {
                let (below, ties) = (total[lane], others[lane]);
                // Among infinite logits, or none but −∞, there are no probabilities.
                let certain = if largest[lane].abs() < T::INFINITY { T::ONE } else { T::NAN };
                total[lane] = certain / (below + ties);
                others[lane] = (below + (ties - T::ONE)) * total[lane];
            }
        }
        for probabilities in probabilities.chunks_exact_mut(positions) {
            for (probabilities, total) in probabilities.as_chunks_mut::<LANES>().0.iter_mut().zip(total.as_chunks().0) {
                let total: &[T; LANES] = total;
                for lane in 0..LANES {
                    probabilities[lane] = probabilities[lane] * total[lane];
                }
            }
        }
    }
}

/// Writes the gradient of a tile in the place of its probabilities.
///
/// With u_c for the loss's derivative with respect to p_c, that with respect to a logit is p_c (u_c − Σ p u). The u are taken
/// relative to that of the largest score, whose p may be near 1: then the difference does not cancel.
struct DeriveSoftmax<'a, T, const LABELS: bool, const SQUARED: bool> {
    positions: usize,
    labels: &'a [T],
    slopes: &'a [Slopes<T>],
    scores: &'a [T],
    targets: &'a [T],
    largest: &'a [T],
    others: &'a [T],
    reference: &'a mut [T],
    mean: &'a mut [T],
    probabilities: &'a mut [T],
}

impl<'a, T: Real, const LABELS: bool, const SQUARED: bool> DeriveSoftmax<'a, T, LABELS, SQUARED> {
    fn with<const L: bool, const S: bool>(self) -> DeriveSoftmax<'a, T, L, S> {
        let Self { positions, labels, slopes, scores, targets, largest, others, reference, mean, probabilities } = self;
        DeriveSoftmax { positions, labels, slopes, scores, targets, largest, others, reference, mean, probabilities }
    }
}

impl<T: Real, const LABELS: bool, const SQUARED: bool> Kernel for DeriveSoftmax<'_, T, LABELS, SQUARED> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { positions, labels, slopes, scores, targets, largest, others, reference, mean, probabilities } = self;
        let steps = positions / LANES;
        reference.fill(T::ZERO);
        mean.fill(T::ZERO);
        // What some lanes of a class have: probabilities, and derivatives with respect to them.
        macro_rules! at {
            ($class:ident, $index:ident, $probabilities:expr) => {{
                let elements = $class * positions..($class + 1) * positions;
                let source =
                    Softmax { scores: &scores[elements.clone()], probabilities: $probabilities, largest, others };
                let (p, q) = source.lanes($index);
                let labels = lanes(labels, $index);
                let number = T::of(f64::from($class as i32));
                let mut u = [T::ZERO; LANES];
                for lane in 0..LANES {
                    let g = if LABELS {
                        T::one_if(labels[lane] == number)
                    } else {
                        lanes(&targets[elements.clone()], $index)[lane]
                    };
                    u[lane] = slope::<T, SQUARED>(slopes[$class], p[lane], q[lane], g);
                }
                (p, u)
            }};
        }
        for (class, probabilities) in probabilities.chunks_exact(positions).enumerate() {
            for index in 0..steps {
                let (_, u) = at!(class, index, probabilities);
                let (scores, largest) =
                    (lanes(&scores[class * positions..][..positions], index), lanes(largest, index));
                let reference = lanes_mut(reference, index);
                for lane in 0..LANES {
                    reference[lane] = if scores[lane] == largest[lane] { u[lane] } else { reference[lane] };
                }
            }
        }
        for (class, probabilities) in probabilities.chunks_exact(positions).enumerate() {
            for index in 0..steps {
                let (p, u) = at!(class, index, probabilities);
                let (reference, mean) = (lanes(reference, index), lanes_mut(mean, index));
                for lane in 0..LANES {
                    mean[lane] = mean[lane] + p[lane] * (u[lane] - reference[lane]);
                }
            }
        }
        for (class, probabilities) in probabilities.chunks_exact_mut(positions).enumerate() {
            for index in 0..steps {
                let (p, u) = at!(class, index, &*probabilities);
                let (reference, mean, labels) = (lanes(reference, index), lanes(mean, index), lanes(labels, index));
                let mut derivatives = [T::ZERO; LANES];
                for lane in 0..LANES {
                    let derivative = p[lane] * ((u[lane] - reference[lane]) - mean[lane]);
                    derivatives[lane] = if labels[lane] < T::ZERO { T::ZERO } else { derivative };
                }
                *lanes_mut(probabilities, index) = derivatives;
            }
        }
    }
}
