//! The driver for losses of regions: of sums over the positions of an image, for each class.
//!
//! All positions are swept for their sums; from these come the losses, and the losses' derivatives with respect to the sums;
//! and where gradients are wanted, all positions are swept once more. What is kept in between is three sums for each class
//! of a chunk of positions. Sums run in 16 fixed lanes within a block and in double precision from block to block and from
//! chunk to chunk. Blocks and chunks depend on the numbers of positions and classes alone, so threads may share one image.
//!
//! Classes that know nothing of each other are visited one by one. Those of a softmax are visited in tiles, each class of
//! some positions side by side, so that vectors run over positions.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::drive::block::{self, BLOCK, Block, GRAIN, LANES, Number};
use crate::drive::layout::{Layout, Operand};
use crate::drive::rows::{Matrix, Target};
use crate::drive::{Failure, SPREAD_FROM, STREAM_FROM, Want};
use crate::isa::{Isa, Kernel};
use crate::loss::{Overlap, Region};
use crate::real::Real;
use crate::storage::{self, Run};
use crate::sum::{self, ExactSum};
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
    /// The positions of a block, or of a tile: a multiple of the grain.
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
        let block = if tiled { (ELEMENTS_PER_TILE / classes / GRAIN * GRAIN).clamp(2 * GRAIN, BLOCK) } else { BLOCK };
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
    fn new(chunks: usize, classes: usize) -> Result<Self, TryReserveError> {
        let width = SUMS * classes;
        let len = chunks.saturating_mul(width);
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(len)?;
        numbers.resize_with(len, AtomicU64::default);
        Ok(Self { numbers, width })
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

/// So many values, if there is memory for them.
fn room<T: Clone>(value: T, len: usize) -> Result<Vec<T>, TryReserveError> {
    let mut room = Vec::new();
    room.try_reserve_exact(len)?;
    room.resize(len, value);
    Ok(room)
}

/// Merges what two threads found, or the failure of one.
fn merge<S>(mine: &mut Result<S, Failure>, other: &Result<S, Failure>, merge: impl Fn(&mut S, &S)) {
    match (mine, other) {
        (Ok(mine), Ok(other)) => merge(mine, other),
        (mine @ Ok(_), Err(failure)) => *mine = Err(*failure),
        (Err(_), _) => {}
    }
}

impl Call<'_> {
    /// Runs the call; the exact sums of the weighted losses and of the weights.
    ///
    /// # Errors
    /// If a target is not what it must be, there is not enough memory for the sums, or `stop` said so.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without overlap, except that the gradient may
    /// be the input or the target.
    pub unsafe fn run<T: Number>(&self, loss: &dyn Region, stop: &dyn Fn() -> bool) -> Result<Total, Failure> {
        let visit = Visit::<T>::new(self, loss.is_squared())?;
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
    /// Probabilities, their complements and slopes.
    p: Block<T>,
    q: Block<T>,
    results: Block<T>,
    sums: Vec<[f64; SUMS]>,
    slopes: Vec<Slopes<T>>,
    tile: Tile<T>,
}

/// Room for a tile: the positions of each class in turn; and what is known of each position.
struct Tile<T> {
    /// Scores, and what becomes of them.
    powers: Vec<T>,
    targets: Vec<T>,
    slopes: Vec<T>,
    /// The largest score, or another number.
    largest: Block<T>,
    /// One over the sum of the powers.
    share: Block<T>,
    /// The complement of the largest score's probability.
    others: Block<T>,
    /// The slope of the largest score.
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
    fn new(call: &'a Call<'a>, squared: bool) -> Result<Self, Failure> {
        let isa = Isa::active();
        let classes = call.classes;
        let positions = call.layout.len().checked_div(call.regions).unwrap_or(0);
        let division = Division::new(positions, classes, call.activation == Activation::Softmax);
        let each = |matrix: &Matrix| -> Result<Vec<Operand>, Failure> {
            let mut operands = Vec::new();
            operands.try_reserve_exact(classes)?;
            operands.extend((0..classes).map(|class| matrix.class(class)));
            Ok(operands)
        };
        let targets = match call.target {
            Target::Labels(labels) => vec![labels.clone()],
            Target::Probabilities(matrix) | Target::LabelSets(matrix) => each(matrix)?,
        };
        let mut weights = room(1.0, classes)?;
        if let Some(run) = call.class_weight {
            // SAFETY: the caller of `run` says that a weight for each class can be read.
            unsafe { run.load(isa, &mut weights) };
        }
        Ok(Self {
            call,
            isa,
            squared,
            division,
            inputs: each(call.input)?,
            targets,
            slopes: call.slope.map_or(Ok(Vec::new()), each)?,
            weights,
            ignored: call.ignore_index.map_or(T::NAN, |index| T::of(index as f64)),
            table: Table::new(call.regions * division.chunks, classes)?,
        })
    }

    fn has_labels(&self) -> bool {
        matches!(self.call.target, Target::Labels(_))
    }

    fn state(&self) -> Result<State<T>, TryReserveError> {
        let classes = self.call.classes;
        let tiled = self.call.activation == Activation::Softmax;
        let block = self.division.block.min(self.division.positions.next_multiple_of(GRAIN));
        let tile = |wanted: bool| room(T::ZERO, if wanted { classes.saturating_mul(block) } else { 0 });
        let nothing = Slopes { inside: T::ZERO, positive: T::ZERO, negative: T::ZERO };
        Ok(State {
            scores: Block::new(),
            targets: Block::new(),
            p: Block::new(),
            q: Block::new(),
            results: Block::new(),
            sums: room([0.0; SUMS], classes)?,
            slopes: room(nothing, classes)?,
            tile: Tile {
                powers: tile(tiled)?,
                targets: tile(tiled && !self.has_labels())?,
                slopes: tile(tiled && self.call.want.slope())?,
                largest: Block::new(),
                share: Block::new(),
                others: Block::new(),
                reference: Block::new(),
            },
        })
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

    /// Shares the chunks among threads; a second sweep goes back, as the caches hold what was read last.
    fn share(
        &self,
        stop: &dyn Fn() -> bool,
        reversed: bool,
        work: impl Fn(&mut State<T>, &mut Faults, usize, std::ops::Range<usize>, usize) + Sync,
    ) -> Result<Faults, Failure> {
        let division = self.division;
        let chunks = self.call.regions * division.chunks;
        let tasks = chunks.div_ceil(division.chunks_per_task);
        let visit = |claims: &mut Tasks<'_>| {
            let mut faults = Faults::default();
            let mut state = self.state()?;
            for task in claims {
                let task = if reversed { tasks - 1 - task } else { task };
                for chunk in task * division.chunks_per_task..chunks.min((task + 1) * division.chunks_per_task) {
                    let (region, positions) = division.positions(chunk);
                    work(&mut state, &mut faults, region, positions, chunk);
                }
            }
            storage::fence();
            Ok(faults)
        };
        let spread = self.call.layout.len() * self.call.classes >= SPREAD_FROM;
        threads::share(tasks, spread, stop, visit, |mine, other| merge(mine, other, Faults::merge))?
    }

    /// The first sweep: adds up each chunk.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sum_up(&self, stop: &dyn Fn() -> bool) -> Result<(), Failure> {
        let faults = self.share(stop, false, |state, faults, region, positions, chunk| {
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
            let mut sums = room([0.0; SUMS], self.call.classes)?;
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
                    found.sum.add_block(self.isa, values);
                    found.weight.add_block(self.isa, counts);
                    if let Some(output) = self.call.value {
                        self.call.losses.put(self.isa, output, start, values, false);
                    }
                }
            }
            Ok(found)
        };
        let spread = regions * self.table.width * self.division.chunks >= SPREAD_FROM;
        threads::share(regions.div_ceil(BLOCK), spread, stop, work, |mine, other| merge(mine, other, Total::merge))?
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
        self.share(stop, true, |state, _, region, positions, _| {
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
    /// Elements of a class, as they lie where that can be, else converted; padded to a multiple of the grain.
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
        let padded = len.next_multiple_of(GRAIN);
        // SAFETY: the caller's; all of the slice is written.
        unsafe {
            if padded == len {
                return self.call.layout.fetch(self.isa, operand, start, len, room);
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
        let nothing = if self.is_logistic() { -T::INFINITY } else { T::ZERO };
        let (target, none) = if self.has_labels() { (0, self.ignored) } else { (class, T::ZERO) };
        // SAFETY: the caller's.
        unsafe {
            (
                self.fetch(&self.inputs[class], start, len, nothing, scores),
                self.fetch(&self.targets[target], start, len, none, targets),
            )
        }
    }

    fn is_logistic(&self) -> bool {
        self.call.activation == Activation::Sigmoid
    }

    /// Adds a block to the sums, one class after the other.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sum_block(&self, state: &mut State<T>, faults: &mut Faults, start: usize, len: usize) {
        let State { scores, targets, q, sums, .. } = state;
        for (class, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let (scores, targets) = unsafe { self.block(class, start, len, scores, targets) };
            if !self.has_labels() {
                self.check(1, class, targets, targets, start, faults);
            } else if class == 0 {
                // SAFETY: the caller's.
                unsafe { self.check_labels(targets, start, len, faults) };
            }
            if self.is_logistic() {
                self.add::<true>(sums, scores, scores, targets, class, self.ignored);
            } else {
                self.check(0, class, scores, targets, start, faults);
                // SAFETY: the kernel writes all of the slice.
                let q = unsafe { q.written(scores.len()) };
                self.isa.run(Complement { p: scores, q });
                self.add::<false>(sums, scores, q, targets, class, self.ignored);
            }
        }
    }

    /// Adds a class of a block or tile to its sums: of probabilities and their complements, or of logits.
    fn add<const LOGITS: bool>(
        &self,
        sums: &mut [f64; SUMS],
        p: &[T],
        q: &[T],
        targets: &[T],
        class: usize,
        ignored: T,
    ) {
        let class = T::of(class as f64);
        let mut room = [[T::ZERO; LANES]; SUMS];
        let lanes = &mut room;
        match (self.has_labels(), self.squared) {
            (false, false) => self.isa.run(Sums::<_, LOGITS, false, false> { p, q, targets, class, ignored, lanes }),
            (false, true) => self.isa.run(Sums::<_, LOGITS, false, true> { p, q, targets, class, ignored, lanes }),
            (true, false) => self.isa.run(Sums::<_, LOGITS, true, false> { p, q, targets, class, ignored, lanes }),
            (true, true) => self.isa.run(Sums::<_, LOGITS, true, true> { p, q, targets, class, ignored, lanes }),
        }
        for (sum, lanes) in sums.iter_mut().zip(room) {
            *sum += sum::fold(lanes, |a, b| a + b).to_f64();
        }
    }

    /// Writes a block's gradient, one class after the other.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn derive_block(&self, state: &mut State<T>, start: usize, len: usize) {
        let State { scores, targets, results, slopes, .. } = state;
        for (class, &slopes) in slopes.iter().enumerate() {
            // SAFETY: the caller's; all of `results` is written.
            unsafe {
                let results = results.written(len.next_multiple_of(GRAIN));
                if slopes.are_zero() {
                    results.fill(T::ZERO);
                } else {
                    let (scores, targets) = self.block(class, start, len, scores, targets);
                    if self.is_logistic() {
                        self.derive_class::<true>(slopes, class, scores, targets, results);
                    } else {
                        self.derive_class::<false>(slopes, class, scores, targets, results);
                    }
                }
                self.put(class, start, &results[..len]);
            }
        }
    }

    fn derive_class<const LOGITS: bool>(
        &self,
        slopes: Slopes<T>,
        class: usize,
        scores: &[T],
        targets: &[T],
        results: &mut [T],
    ) {
        let (class, ignored) = (T::of(class as f64), self.ignored);
        match (self.has_labels(), self.squared) {
            (false, false) => {
                self.isa.run(Derive::<_, LOGITS, false, false> { slopes, class, ignored, scores, targets, results });
            }
            (false, true) => {
                self.isa.run(Derive::<_, LOGITS, false, true> { slopes, class, ignored, scores, targets, results });
            }
            (true, false) => {
                self.isa.run(Derive::<_, LOGITS, true, false> { slopes, class, ignored, scores, targets, results });
            }
            (true, true) => {
                self.isa.run(Derive::<_, LOGITS, true, true> { slopes, class, ignored, scores, targets, results });
            }
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
    fn check(&self, operand: usize, class: usize, values: &[T], targets: &[T], start: usize, faults: &mut Faults) {
        let (ignored, most) = (self.ignored, T::ONE);
        if self.isa.run(Stray { values, targets, ignored, most }) {
            let stray = |(&value, &target): (&T, &T)| is_stray(value, target, ignored, most);
            let first = values.iter().zip(targets).position(stray);
            faults.note_domain(first.map(|i| ((start + i) * self.call.classes + class, operand)));
        }
    }

    /// Notes the first label that is not a class.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn check_labels(&self, labels: &[T], start: usize, len: usize, faults: &mut Faults) {
        let operand = &self.targets[0];
        let (ignored, most) = (self.ignored, T::of((self.call.classes - 1) as f64));
        // Floats may be rounded here.
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

    /// Reads a tile and makes powers of its scores. In `targets` are left the labels, or 0 where targets are probabilities, and
    /// −1 of positions that are left out. Returns the positions, those of the padding among them.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn read_tile(&self, state: &mut State<T>, start: usize, len: usize, faults: Option<&mut Faults>) -> usize {
        let (layout, classes) = (self.call.layout, self.call.classes);
        let positions = len.next_multiple_of(GRAIN);
        let State { targets: labels, tile, .. } = state;
        // SAFETY: the caller's; all of each slice is written.
        unsafe {
            let largest = tile.largest.filled(positions, |largest| largest.fill(-T::INFINITY));
            for (operand, scores) in self.inputs.iter().zip(tile.powers.chunks_exact_mut(positions)) {
                layout.read(self.isa, operand, start, &mut scores[..len]);
                scores[len..].fill(T::ZERO);
                self.isa.run(Raise { scores, largest });
            }
            let (below, ties) = (tile.share.written(positions), tile.others.written(positions));
            below.fill(T::ZERO);
            ties.fill(T::ZERO);
            for powers in tile.powers.chunks_exact_mut(positions).take(classes) {
                self.isa.run(Exponentials { largest, powers, below, ties });
            }
            self.isa.run(Invert { largest, share: below, others: ties });
            let labels = labels.filled(positions, |labels| labels.fill(T::ZERO));
            if self.has_labels() {
                layout.read(self.isa, &self.targets[0], start, &mut labels[..len]);
                labels[len..].fill(self.ignored);
                if let Some(faults) = faults {
                    self.check_labels(labels, start, len, faults);
                }
                self.isa.run(LeaveOut { ignored: self.ignored, labels });
            } else {
                for (operand, targets) in self.targets.iter().zip(tile.targets.chunks_exact_mut(positions)) {
                    layout.read(self.isa, operand, start, &mut targets[..len]);
                    targets[len..].fill(T::ZERO);
                }
                if let Some(faults) = faults {
                    for (class, targets) in tile.targets.chunks_exact(positions).take(classes).enumerate() {
                        self.check(1, class, targets, targets, start, faults);
                    }
                }
            }
            labels[len..].fill(-T::ONE);
        }
        positions
    }

    /// Adds a tile to the sums.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sum_tile(&self, state: &mut State<T>, faults: &mut Faults, start: usize, len: usize) {
        // SAFETY: the caller's; `read_tile` and the kernels write what is read here.
        unsafe {
            let positions = self.read_tile(state, start, len, Some(faults));
            let State { targets: labels, tile, sums, p, q, .. } = state;
            let (share, others) = (&*tile.share.written(positions), &*tile.others.written(positions));
            let (labels, p, q) = (&*labels.written(positions), p.written(positions), q.written(positions));
            for (class, (sums, powers)) in sums.iter_mut().zip(tile.powers.chunks_exact(positions)).enumerate() {
                self.isa.run(Normalise { powers, share, others, p, q });
                p[len..].fill(T::ZERO);
                if self.has_labels() {
                    self.add::<false>(sums, p, q, labels, class, -T::ONE);
                } else {
                    self.add::<false>(sums, p, q, &tile.targets[class * positions..][..positions], class, T::NAN);
                }
            }
        }
    }

    /// Writes a tile's gradient.
    ///
    /// With u_c for the loss's derivative with respect to p_c, that with respect to a logit is p_c (u_c − Σ p u). The u are
    /// taken relative to that of the largest score, whose p may be near 1: then the difference does not cancel.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn derive_tile(&self, state: &mut State<T>, start: usize, len: usize) {
        // SAFETY: the caller's; `read_tile` and the kernels write what is read here.
        unsafe {
            let classes = self.call.classes;
            let positions = if state.slopes.iter().all(|slopes| slopes.are_zero()) {
                state.tile.slopes.fill(T::ZERO);
                len.next_multiple_of(GRAIN)
            } else {
                let positions = self.read_tile(state, start, len, None);
                let State { targets: labels, tile, slopes, .. } = state;
                let (share, others) = (&*tile.share.written(positions), &*tile.others.written(positions));
                let labels = &*labels.written(positions);
                let (mean, reference) = (tile.largest.written(positions), tile.reference.written(positions));
                let elements = positions * classes;
                let (powers, results) = (&mut tile.powers[..elements], &mut tile.slopes[..elements]);
                reference.fill(T::ZERO);
                let all = powers.chunks_exact_mut(positions).zip(results.chunks_exact_mut(positions)).zip(slopes);
                for (class, ((powers, results), slopes)) in all.enumerate() {
                    let targets =
                        if self.has_labels() { labels } else { &tile.targets[class * positions..][..positions] };
                    self.derive_softmax(*slopes, class, share, others, targets, powers, results, reference);
                }
                mean.fill(T::ZERO);
                for (p, slopes) in powers.chunks_exact(positions).zip(results.chunks_exact(positions)) {
                    self.isa.run(Average { p, slopes, reference, mean });
                }
                for (p, slopes) in powers.chunks_exact(positions).zip(results.chunks_exact_mut(positions)) {
                    self.isa.run(Centre { p, reference, mean, labels, slopes });
                }
                positions
            };
            for (class, slopes) in state.tile.slopes.chunks_exact(positions).take(classes).enumerate() {
                self.put(class, start, &slopes[..len]);
            }
        }
    }

    fn derive_softmax(
        &self,
        slopes: Slopes<T>,
        class: usize,
        share: &[T],
        others: &[T],
        targets: &[T],
        powers: &mut [T],
        results: &mut [T],
        reference: &mut [T],
    ) {
        macro_rules! run {
            ($labels:literal, $squared:literal) => {{
                let class = T::of(class as f64);
                self.isa.run(DeriveSoftmax::<_, $labels, $squared> {
                    slopes,
                    class,
                    share,
                    others,
                    targets,
                    powers,
                    results,
                    reference,
                });
            }};
        }
        match (self.has_labels(), self.squared) {
            (false, false) => run!(false, false),
            (false, true) => run!(false, true),
            (true, false) => run!(true, false),
            (true, true) => run!(true, true),
        }
    }
}

impl<T: Real> Slopes<T> {
    fn are_zero(self) -> bool {
        [self.inside, self.positive, self.negative] == [T::ZERO; 3]
    }
}

/// A kernel that is a loop over slices of one length, a multiple of the grain, which the compiler sees, so that the loop has
/// no remainder. As arguments of a function, results are known to be apart from operands, so that it needs no second version.
macro_rules! kernel {
    (
        $(#[$documentation:meta])*
        $name:ident $(<$(const $flag:ident),+>)? { $($number:ident: $type:ty),* }
        ($($operand:ident),*) -> ($first:ident $(, $result:ident)*)
        |$i:ident| $body:block
    ) => {
        $(#[$documentation])*
        struct $name<'a, T $($(, const $flag: bool)+)?> {
            $($number: $type,)*
            $($operand: &'a [T],)*
            $first: &'a mut [T],
            $($result: &'a mut [T],)*
        }

        impl<T: Real $($(, const $flag: bool)+)?> Kernel for $name<'_, T $($(, $flag)+)?> {
            type Output = ();

            #[inline(always)]
            fn run(self) {
                #[allow(clippy::needless_range_loop, reason = "several slices share the index")]
                #[inline(always)]
                fn fill<T: Real $($(, const $flag: bool)+)?>(
                    $($number: $type,)*
                    $($operand: &[T],)*
                    $first: &mut [T],
                    $($result: &mut [T],)*
                ) {
                    let len = $first.len() / GRAIN * GRAIN;
                    $(let $operand = &$operand[..len];)*
                    let $first = &mut $first[..len];
                    $(let $result = &mut $result[..len];)*
                    for $i in 0..len $body
                }
                fill::<T $($(, $flag)+)?>(
                    $(self.$number,)* $(self.$operand,)* self.$first, $(self.$result,)*
                );
            }
        }
    };
}

/// The probability of a logit by itself, and its complement.
#[inline(always)]
fn logistic<T: Real>(x: T) -> (T, T) {
    let small = (-x.abs()).exp_nonpositive();
    let larger = T::ONE / (T::ONE + small);
    let smaller = small * larger;
    (if x > T::ZERO { larger } else { smaller }, if x > T::ZERO { smaller } else { larger })
}

/// The probability of a class from its power, and its complement: 1 − p is accurate where p is at most ½, as it is below the
/// largest score.
#[inline(always)]
fn softmax<T: Real>(power: T, share: T, others: T) -> (T, T) {
    let p = power * share;
    let complement = T::ONE - p;
    (p, if power == T::ONE { others } else { complement })
}

/// The derivative of a loss with respect to a probability.
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

kernel! {
    Complement {} (p) -> (q) |i| {
        q[i] = T::ONE - p[i];
    }
}

kernel! {
    /// Writes the gradient of a class of a block, 0 where positions are left out.
    Derive<const LOGITS, const LABELS, const SQUARED> { slopes: Slopes<T>, class: T, ignored: T }
    (scores, targets) -> (results) |i| {
        let (x, target) = (scores[i], targets[i]);
        let (p, q) = if LOGITS { logistic(x) } else { (x, T::ONE - x) };
        let g = if LABELS { T::one_if(target == class) } else { target };
        let slope = slope::<T, SQUARED>(slopes, p, q, g);
        let slope = if LOGITS { slope * (p * q) } else { slope };
        results[i] = if target == ignored { T::ZERO } else { slope };
    }
}

kernel! {
    /// Makes scores the largest, where they are.
    Raise {} (scores) -> (largest) |i| {
        largest[i] = scores[i].max(largest[i]);
    }
}

kernel! {
    /// Makes powers of a class's scores, relative to the largest; adds up those below 1, and counts the others.
    Exponentials {} (largest) -> (powers, below, ties) |i| {
        let power = (powers[i] - block::relative(largest[i])).exp_nonpositive();
        powers[i] = power;
        below[i] = below[i] + if power == T::ONE { T::ZERO } else { power };
        ties[i] = ties[i] + T::one_if(power == T::ONE);
    }
}

kernel! {
    /// From what is below 1 and how many are not, one over the sum of the powers, and the complement of the largest score's
    /// probability.
    Invert {} (largest) -> (share, others) |i| {
        // Among infinite logits, or none but −∞, there are no probabilities.
        let unit = if largest[i].abs() < T::INFINITY { T::ONE } else { T::NAN };
        let (below, ties) = (share[i], others[i]);
        share[i] = unit / (below + ties);
        others[i] = (below + (ties - T::ONE)) * share[i];
    }
}

kernel! {
    Normalise {} (powers, share, others) -> (p, q) |i| {
        (p[i], q[i]) = softmax(powers[i], share[i], others[i]);
    }
}

kernel! {
    /// Makes −1 of the labels of positions that are left out.
    LeaveOut { ignored: T } () -> (labels) |i| {
        labels[i] = if labels[i] == ignored { -T::ONE } else { labels[i] };
    }
}

kernel! {
    /// The derivatives with respect to a class's probabilities, which take the place of their powers; notes that of the
    /// largest score.
    DeriveSoftmax<const LABELS, const SQUARED> { slopes: Slopes<T>, class: T }
    (share, others, targets) -> (powers, results, reference) |i| {
        let (power, target, other) = (powers[i], targets[i], reference[i]);
        let (p, q) = softmax(power, share[i], others[i]);
        let g = if LABELS { T::one_if(target == class) } else { target };
        let slope = slope::<T, SQUARED>(slopes, p, q, g);
        powers[i] = p;
        results[i] = slope;
        reference[i] = if power == T::ONE { slope } else { other };
    }
}

kernel! {
    /// Adds a class to the mean of the slopes over the classes, relative to the reference.
    Average {} (p, slopes, reference) -> (mean) |i| {
        mean[i] = mean[i] + p[i] * (slopes[i] - reference[i]);
    }
}

kernel! {
    /// Makes derivatives with respect to the logits of a softmax of those with respect to probabilities.
    Centre {} (p, reference, mean, labels) -> (slopes) |i| {
        let slope = p[i] * ((slopes[i] - reference[i]) - mean[i]);
        slopes[i] = if labels[i] < T::ZERO { T::ZERO } else { slope };
    }
}

/// Adds a class of a block to sums in lanes.
struct Sums<'a, T, const LOGITS: bool, const LABELS: bool, const SQUARED: bool> {
    /// Probabilities and their complements; or logits, both.
    p: &'a [T],
    q: &'a [T],
    targets: &'a [T],
    class: T,
    ignored: T,
    lanes: &'a mut [[T; LANES]; SUMS],
}

impl<T: Real, const LOGITS: bool, const LABELS: bool, const SQUARED: bool> Kernel
    for Sums<'_, T, LOGITS, LABELS, SQUARED>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { p, q, targets, class, ignored, lanes } = self;
        let targets = targets.as_chunks::<LANES>().0;
        let (p, q) = (&p.as_chunks::<LANES>().0[..targets.len()], &q.as_chunks::<LANES>().0[..targets.len()]);
        let mut sums = *lanes;
        for index in 0..targets.len() {
            // By value: of references, the compiler would read elements only where selects want them.
            let (p, q, targets) = (p[index], q[index], targets[index]);
            let mut parts = [[T::ZERO; LANES]; SUMS];
            for lane in 0..LANES {
                let is_left_out = targets[lane] == ignored;
                let g = if LABELS { T::one_if(targets[lane] == class) } else { targets[lane] };
                let g = if is_left_out { T::ZERO } else { g };
                let (p, q) = if LOGITS { logistic(p[lane]) } else { (p[lane], q[lane]) };
                let p = if is_left_out { T::ZERO } else { p };
                let terms = terms::<T, SQUARED>(p, q, g);
                for k in 0..SUMS {
                    parts[k][lane] = sums[k][lane] + terms[k];
                }
            }
            sums = parts;
        }
        *lanes = sums;
    }
}

/// What a position adds to the sums: of the probability p, its complement q and the target g.
///
/// For g = 0 and 1 each is exact but for the error of p or q; so is p − g = p (1 − g) − q g. Where g is 0, only false positives
/// are more than 0, even of a NaN, so that the other sums tell whether the target is empty.
#[inline(always)]
fn terms<T: Real, const SQUARED: bool>(p: T, q: T, g: T) -> [T; SUMS] {
    let is_outside = g == T::ZERO;
    let (hit, over) = (p * g, p * (T::ONE - g));
    let under = q * g;
    let (hit, under) = (if is_outside { T::ZERO } else { hit }, if is_outside { T::ZERO } else { under });
    if SQUARED {
        let (over, under) = ((over - under).clamp(T::ZERO, T::ONE), (under - over).clamp(T::ZERO, T::ONE));
        [hit, over * over, if is_outside { T::ZERO } else { under * under }]
    } else {
        [hit, over, under]
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
        let values = values.as_chunks::<GRAIN>().0;
        let targets = &targets.as_chunks::<GRAIN>().0[..values.len()];
        let mut found = false;
        for index in 0..values.len() {
            let (values, targets) = (&values[index], &targets[index]);
            let mut here = false;
            for i in 0..GRAIN {
                here |= is_stray(values[i], targets[i], ignored, most);
            }
            found |= here;
        }
        found
    }
}
