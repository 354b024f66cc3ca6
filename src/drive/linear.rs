//! The driver for losses of a row of scores that a linear layer makes, input · weightᵀ + bias, which is never stored whole.
//!
//! Samples that count are gathered into chunks, so that those left out cost nothing, and of a chunk:
//!
//! 1. The scores are computed a tile of classes at a time, and while a tile is in the cache, its share of each row's sums.
//!    Where only losses are wanted, that is the end of the tile.
//! 2. The tiles' shares are joined, in the order of the classes.
//! 3. Derivatives overwrite the scores, a tile at a time, and go into the gradients of the weight and the bias: each thread has
//!    classes of its own, whose sums run over the samples in their order.
//! 4. The input's gradient: each thread has rows and columns of its own, whose sums run over the classes in their order.
//!
//! What is kept is bounded: a chunk has as many rows as [`CHUNK_BYTES`] hold. Nothing depends on the number of threads.

use std::marker::PhantomData;
use std::ops::Range;
use std::time::Instant;

use crate::drive::block::{self, BLOCK, Block, GRAIN, LANES, Number};
use crate::drive::product::{self, DEPTH, Grid, Output, ROWS, Strided};
use crate::drive::rows::{self, Blocks, Classes, Derivatives, Sample, Swept, Weight};
use crate::drive::{Failure, SPREAD_FROM};
use crate::isa::{Isa, Kernel};
use crate::real::Real;
use crate::storage::Run;
use crate::sum::ExactSum;
use crate::threads::{self, Tasks};

/// Classes of a tile: with as many rows it fits the second-level cache.
const TILE: usize = 256;
/// Tiles whose sums are found together.
const GROUP: usize = 4;
/// Columns of the input's gradient that a thread computes at once.
const COLUMNS: usize = 256;
/// Bytes that a chunk may take, if it has no fewer rows than [`FEWEST`].
const CHUNK_BYTES: usize = 32 << 20;
/// Fewer rows than this would leave the processor waiting for the weight.
const FEWEST: usize = 64;
/// More rows than this gain nothing.
const MOST: usize = 8 * DEPTH;
/// Samples that are looked at between two looks at the clock.
const LONG: usize = 1 << 14;
/// Products and sums that take as long as one element elsewhere.
const PRODUCTS: usize = 64;

/// A loss of a row of scores that a linear layer makes.
pub trait Loss: Send + Sync {
    /// What scores are bounded by: c·tanh(score/c).
    fn softcap(&self) -> Option<f64>;
    /// Whether a part of the loss has no weight of a class, where the rest has the label's.
    fn has_unweighted_part(&self) -> bool;
    /// The formula, over the bounded scores; the part without a class's weight is multiplied by `unweighted`, so that its mean is
    /// its own where all is divided by the sum of all weights.
    fn formula(&self, unweighted: f64) -> Box<dyn rows::Loss>;
}

/// A call: buffers and what to do with them.
pub struct Call<'a> {
    /// The samples; their input and its gradient have a column for each feature rather than for each class.
    pub samples: rows::Call<'a>,
    /// The number of features.
    pub features: usize,
    /// A row for each class, a column for each feature.
    pub weight: Grid,
    /// A number for each class.
    pub bias: Option<Run>,
    /// What scores are bounded by: c·tanh(score/c).
    pub softcap: Option<f64>,
    /// Where the gradient of the weight goes.
    pub weight_slope: Option<Grid>,
    /// Where the gradient of the bias goes.
    pub bias_slope: Option<Run>,
}

/// A sample that counts.
#[derive(Clone, Copy)]
struct Counted<T> {
    row: usize,
    label: usize,
    label_weight: T,
    weight: T,
    scale: T,
}

/// What is kept of a chunk of samples.
struct Chunk<T> {
    /// The most samples, a multiple of a panel's columns.
    rows: usize,
    samples: Vec<Counted<T>>,
    /// Their features as panels whose columns are samples: of [`DEPTH`] samples and features at a time.
    columns: Vec<T>,
    /// Their features as panels whose rows are samples, of [`DEPTH`] samples at a time; for the gradient of the weight.
    rows_of: Vec<T>,
    /// Tiles of scores, then of derivatives, where those are wanted.
    scores: Vec<T>,
    /// The sums of groups of tiles, of each group all rows; those of the first group become those of all.
    sums: Vec<Swept<T>>,
    values: Vec<T>,
    /// The gradient of the weight, where it can't be added up where it goes.
    weight_slope: Vec<T>,
    bias_slope: Vec<f64>,
    /// Whether it is the first.
    first: bool,
}

/// A vector's memory in parts, each of which one thread has.
struct Parts<'a, T> {
    first: *mut T,
    len: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: a part is lent to one thread only, as `part`'s callers grant.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    fn of(elements: &'a mut [T]) -> Self {
        Self { first: elements.as_mut_ptr(), len: elements.len(), of: PhantomData }
    }

    /// # Safety
    /// No two parts that live at a time may overlap.
    #[allow(clippy::mut_from_ref, reason = "the caller's word that nobody else has this part")]
    unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the elements, and the caller's word that nobody else has them.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}

/// The distance between rows of a tile: a cache line more than it holds, or rows would compete for the same few places.
const fn stride<T>(len: usize) -> usize {
    len + 64 / size_of::<T>()
}

/// A vector of zeros.
fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, Failure> {
    let mut vector = reserved(len)?;
    vector.resize(len, T::default());
    Ok(vector)
}

/// A vector of nothing with room for so many.
fn reserved<T>(len: usize) -> Result<Vec<T>, Failure> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(len)?;
    Ok(vector)
}

/// c·tanh(score/c) of each score.
struct Cap<'a, T> {
    scores: &'a [T],
    bound: T,
    capped: &'a mut [T],
}

impl<T: Real> Kernel for Cap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (capped, scores) in
            self.capped.as_chunks_mut::<LANES>().0.iter_mut().zip(self.scores.as_chunks::<LANES>().0)
        {
            // Into an array of its own, which no operand can share.
            let mut lanes = [T::ZERO; LANES];
            for (lane, &score) in lanes.iter_mut().zip(scores) {
                *lane = self.bound * (score / self.bound).tanh();
            }
            *capped = lanes;
        }
    }
}

/// Multiplies derivatives by that of c·tanh(score/c), 1 − tanh² = 4e/(1 + e)², e = e^(−2|score/c|): nothing cancels.
struct Uncap<'a, T> {
    scores: &'a [T],
    bound: T,
    slopes: &'a mut [T],
}

impl<T: Real> Kernel for Uncap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (slopes, scores) in
            self.slopes.as_chunks_mut::<LANES>().0.iter_mut().zip(self.scores.as_chunks::<LANES>().0)
        {
            let mut lanes = *slopes;
            for (lane, &score) in lanes.iter_mut().zip(scores) {
                let power = (T::of(-2.0) * (score / self.bound).abs()).exp_nonpositive();
                let rest = T::ONE + power;
                *lane = *lane * (T::of(4.0) * power / (rest * rest));
            }
            *slopes = lanes;
        }
    }
}

/// What a thread needs to evaluate a formula at tiles.
struct Rooms<T> {
    probabilities: Block<T>,
    weights: Block<T>,
    capped: Block<T>,
}

impl<T: Number> Rooms<T> {
    /// A constant, so that it is made in place and not moved.
    const UNFILLED: Self = Self { probabilities: Block::new(), weights: Block::new(), capped: Block::new() };
}

/// Rows of a tile: the classes from `start` on, `len` of them.
#[derive(Clone, Copy)]
struct Tile {
    start: usize,
    len: usize,
}

impl Tile {
    fn padded(self) -> usize {
        self.len.next_multiple_of(GRAIN)
    }

    /// The label's place in it.
    fn label(self, label: usize) -> Option<usize> {
        label.checked_sub(self.start).filter(|&label| label < self.len)
    }
}

impl Call<'_> {
    /// About as much work as so many elements.
    pub fn elements(&self) -> usize {
        let per_class = 1 + self.features / PRODUCTS;
        self.samples.layout.len().saturating_mul(self.samples.classes).saturating_mul(per_class)
    }

    /// Runs the call; the exact sum of the weighted losses, if it is wanted.
    ///
    /// # Errors
    /// If a label is not a class, memory is short, or `stop` said so.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without overlap.
    pub unsafe fn run<T: Number>(&self, loss: &dyn Blocks<T>, stop: &dyn Fn() -> bool) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let mut chunk = self.chunk::<T>()?;
        let mut sum = ExactSum::new();
        let mut next = 0;
        // A chunk's parts may each be too short to ask.
        let mut asked = Instant::now();
        while next < self.samples.layout.len() {
            if asked.elapsed() >= threads::PATIENCE {
                if stop() {
                    return Err(Failure::Interrupted);
                }
                asked = Instant::now();
            }
            // SAFETY: the caller's.
            unsafe {
                self.gather(isa, loss, &mut chunk, &mut next, stop)?;
                if chunk.samples.is_empty() {
                    break;
                }
                self.load(isa, &mut chunk, stop)?;
                self.score(isa, loss, &mut chunk, stop)?;
                self.settle(isa, loss, &mut chunk, stop)?;
                if self.samples.want.slope() {
                    self.derive(isa, loss, &mut chunk, stop)?;
                    self.derive_input(isa, &mut chunk, stop)?;
                }
            }
            if self.samples.sum {
                sum.add_block(isa, &chunk.values[..chunk.samples.len()]);
            }
            chunk.first = false;
        }
        // SAFETY: the caller's.
        unsafe { self.finish(isa, &chunk) };
        Ok(sum)
    }

    fn tiles(&self) -> usize {
        self.samples.classes.div_ceil(TILE)
    }

    fn groups(&self) -> usize {
        self.tiles().div_ceil(GROUP)
    }

    fn tile(&self, tile: usize) -> Tile {
        let start = tile * TILE;
        Tile { start, len: TILE.min(self.samples.classes - start) }
    }

    /// Features, as panels have columns.
    fn padded_features<T>(&self) -> usize {
        self.features.next_multiple_of(product::width::<T>())
    }

    /// Whether the gradient of the weight can be added up where it goes.
    fn adds_in_place<T: Real>(&self) -> bool {
        self.weight_slope.is_some_and(|grid| grid.is_dense::<T>(self.features))
    }

    /// Room for a chunk: its rows depend on the shape, the type and what is wanted.
    fn chunk<T: Number>(&self) -> Result<Chunk<T>, Failure> {
        let classes = self.samples.classes;
        let scores = if self.samples.want.slope() { self.tiles() * stride::<T>(TILE) } else { 0 };
        let panels = if self.weight_slope.is_some() { self.padded_features::<T>() } else { 0 };
        let columns = self.features;
        let bytes = (scores + panels + columns) * size_of::<T>() + self.groups() * size_of::<Swept<T>>();
        let rows = (CHUNK_BYTES / bytes).clamp(FEWEST, MOST);
        let rows = if rows > DEPTH { rows / DEPTH * DEPTH } else { rows / FEWEST * FEWEST };
        let rows = rows.min(self.samples.layout.len().next_multiple_of(product::width::<T>()));
        let staged = self.weight_slope.is_some() && !self.adds_in_place::<T>();
        let mut sums = reserved(self.groups() * rows)?;
        sums.resize(self.groups() * rows, Swept::nothing(self.samples.classes));
        Ok(Chunk {
            rows,
            samples: reserved(rows)?,
            columns: zeros(rows * columns)?,
            rows_of: zeros(rows * panels)?,
            scores: zeros(rows * scores)?,
            sums,
            values: zeros(rows)?,
            weight_slope: zeros(if staged { classes * self.features } else { 0 })?,
            bias_slope: zeros(if self.bias_slope.is_some() { classes } else { 0 })?,
            first: true,
        })
    }

    /// Gathers the next samples that count, and writes what there is to say of those that do not.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn gather<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        chunk: &mut Chunk<T>,
        next: &mut usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        chunk.samples.clear();
        while *next < self.samples.layout.len() && chunk.samples.len() < chunk.rows {
            if (*next + 1).is_multiple_of(LONG) && stop() {
                return Err(Failure::Interrupted);
            }
            // SAFETY: the caller's.
            match unsafe { self.counted(isa, loss, *next)? } {
                Some(sample) => chunk.samples.push(sample),
                // SAFETY: the caller's.
                None => unsafe { self.clear::<T>(isa, *next) },
            }
            *next += 1;
        }
        Ok(())
    }

    /// A sample, if it counts.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn counted<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        row: usize,
    ) -> Result<Option<Counted<T>>, Failure> {
        let samples = &self.samples;
        let number = |operand| {
            let mut number = [T::ONE];
            if let Some(operand) = operand {
                // SAFETY: the caller's.
                unsafe { samples.layout.read(isa, operand, row, &mut number) };
            }
            number[0]
        };
        let weight = number(samples.sample_weight);
        if weight == T::ZERO {
            return Ok(None);
        }
        // SAFETY: the caller's.
        unsafe {
            let label = match samples.sample(row) {
                Ok(Sample::Class(Some(label))) => label,
                Ok(_) => return Ok(None),
                Err(label) => return Err(Failure::Label { row, label }),
            };
            let label_weight = samples.class_weight(isa, label);
            if loss.traits().label_weighs_all && label_weight == T::ZERO {
                return Ok(None);
            }
            let scale = weight * T::of(samples.factor) * number(samples.grad_output);
            Ok(Some(Counted { row, label, label_weight, weight, scale }))
        }
    }

    /// Writes zeros as a sample's loss and gradient.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn clear<T: Number>(&self, isa: Isa, row: usize) {
        let layout = self.samples.layout;
        // SAFETY: the caller's.
        unsafe {
            if let Some(value) = self.samples.value {
                layout.put(isa, value, row, &[T::ZERO], false);
            }
            if let Some(slope) = self.samples.slope {
                clear::<T>(isa, slope.row(layout, row), self.features);
            }
        }
    }

    /// Reads the features of a chunk's samples.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn load<T: Number>(&self, isa: Isa, chunk: &mut Chunk<T>, stop: &dyn Fn() -> bool) -> Result<(), Failure> {
        let (features, distance) = (self.features, stride::<T>(self.features));
        let width = if self.weight_slope.is_some() { self.padded_features::<T>() } else { 0 };
        let (columns, rows_of) = (Parts::of(&mut chunk.columns), Parts::of(&mut chunk.rows_of));
        let samples = &chunk.samples;
        let work = |tasks: &mut Tasks<'_>| {
            let mut input = zeros(DEPTH.min(samples.len()) * distance)?;
            for task in tasks {
                let rows = block_of_rows(task, samples.len());
                for (out, sample) in input.chunks_exact_mut(distance).zip(&samples[rows.clone()]) {
                    // SAFETY: the caller's.
                    unsafe {
                        self.samples.input.row(self.samples.layout, sample.row).load(isa, &mut out[..features]);
                    }
                }
                // SAFETY: no other task has these rows.
                let (columns, rows_of) = unsafe {
                    let padded = rows.end.next_multiple_of(product::width::<T>());
                    (
                        columns.part(rows.start * features..padded * features),
                        rows_of.part(rows.start * width..rows.end * width),
                    )
                };
                let len = rows.len().next_multiple_of(product::width::<T>());
                for feature in (0..features).step_by(DEPTH) {
                    let depth = DEPTH.min(features - feature);
                    let from = Strided { elements: &input[feature..], rows: distance, columns: 1 };
                    let columns = &mut columns[feature * len..(feature + depth) * len];
                    product::pack_transposed(isa, from, rows.len(), depth, columns);
                }
                if !rows_of.is_empty() {
                    let from = Strided { elements: &input[..], rows: distance, columns: 1 };
                    product::pack(isa, from, rows.len(), features, rows_of);
                }
            }
            Ok(())
        };
        share(samples.len().div_ceil(DEPTH), DEPTH * features * PRODUCTS, stop, work)
    }

    /// Computes the scores, and the sums of groups of tiles.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn score<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        chunk: &mut Chunk<T>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let (chunk_rows, stride) = (chunk.rows, stride::<T>(TILE));
        let keeps = self.samples.want.slope();
        let blocks = chunk.samples.len().div_ceil(DEPTH);
        let (scores, sums) = (Parts::of(&mut chunk.scores), Parts::of(&mut chunk.sums));
        let (samples, columns) = (&chunk.samples, &chunk.columns);
        let work = |tasks: &mut Tasks<'_>| {
            let mut staging = reserved(TILE * DEPTH)?;
            let mut products = zeros(TILE * self::stride::<T>(DEPTH.min(chunk_rows)))?;
            let mut room = zeros(if keeps { 0 } else { DEPTH.min(chunk_rows) * stride })?;
            let mut rooms = Rooms::<T>::UNFILLED;
            while let Some(task) = tasks.next() {
                let (group, rows) = (task / blocks, block_of_rows(task % blocks, samples.len()));
                let tiles = group * GROUP..self.tiles().min((group + 1) * GROUP);
                let padded = rows.end.next_multiple_of(product::width::<T>());
                let columns = &columns[rows.start * self.features..padded * self.features];
                // SAFETY: the caller's, and no other task has these rows of these tiles.
                unsafe {
                    let sums = sums.part(group * chunk_rows + rows.start..group * chunk_rows + rows.end);
                    sums.fill(Swept::nothing(self.samples.classes));
                    for tile in tiles {
                        let scores = if keeps {
                            let first = tile * chunk_rows;
                            scores.part((first + rows.start) * stride..(first + padded) * stride)
                        } else {
                            &mut room[..]
                        };
                        let tile = self.tile(tile);
                        self.multiply(
                            isa,
                            tile,
                            columns,
                            padded - rows.start,
                            &mut staging,
                            &mut products,
                            scores,
                            tasks,
                        );
                        if tasks.are_stopped() {
                            return Ok(());
                        }
                        self.sweep(isa, loss, tile, &samples[rows.clone()], scores, sums, &mut rooms);
                    }
                }
            }
            Ok(())
        };
        let each = DEPTH.min(samples.len()) * (GROUP * TILE).min(self.samples.classes) * (self.features + PRODUCTS);
        share(blocks * self.groups(), each, stop, work)
    }

    /// Computes a tile of scores, until the call is stopped: `rows` of them, from panels whose columns they are.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn multiply<T: Number>(
        &self,
        isa: Isa,
        tile: Tile,
        columns: &[T],
        rows: usize,
        staging: &mut Vec<T>,
        products: &mut [T],
        scores: &mut [T],
        tasks: &mut Tasks<'_>,
    ) {
        let (width, distance) = (product::width::<T>(), products.len() / TILE);
        for feature in (0..self.features).step_by(DEPTH) {
            let depth = DEPTH.min(self.features - feature);
            // SAFETY: the caller's.
            let left = unsafe { self.weight.block(isa, (tile.start, tile.len), (feature, depth), ROWS, &mut *staging) };
            let panels = &columns[feature * rows..(feature + depth) * rows];
            for (panel, row) in panels.chunks_exact(width * depth).zip((0..).step_by(width)) {
                if tasks.are_stopped() {
                    return;
                }
                let out = Output { elements: &mut products[row..], stride: distance, rows: tile.len, columns: width };
                product::multiply(isa, left, depth, panel, out, feature > 0);
            }
        }
        let mut bias = [T::ZERO; TILE];
        if let Some(run) = self.bias {
            // SAFETY: the caller's.
            unsafe { run.from(tile.start).load(isa, &mut bias[..tile.len]) };
        }
        let from = Strided { elements: products, rows: distance, columns: 1 };
        product::transpose(isa, from, &bias, rows, scores, stride::<T>(TILE));
    }

    /// Adds a tile's classes to the sums of its rows.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sweep<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        tile: Tile,
        samples: &[Counted<T>],
        scores: &mut [T],
        sums: &mut [Swept<T>],
        rooms: &mut Rooms<T>,
    ) {
        // SAFETY: the caller's.
        unsafe { self.prepare(isa, tile, rooms) };
        let rows = scores.chunks_exact_mut(stride::<T>(TILE));
        for ((scores, swept), sample) in rows.zip(sums).zip(samples) {
            scores[tile.len..tile.padded()].fill(-T::INFINITY);
            // SAFETY: `prepare` has filled the rooms.
            let classes = unsafe { self.classes(isa, tile, scores, rooms) };
            if let Some(label) = tile.label(sample.label) {
                swept.label.score = classes.scores[label];
            }
            loss.raise(isa, block::largest(isa, classes.scores), swept);
            loss.sweep(isa, classes, &[], swept, None);
        }
    }

    /// Fills what the classes of a tile share.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn prepare<T: Number>(&self, isa: Isa, tile: Tile, rooms: &mut Rooms<T>) {
        // SAFETY: the caller's; all of each slice is written.
        unsafe {
            rooms.probabilities.filled(tile.padded(), |room| room.fill(T::ZERO));
            rooms.weights.filled(tile.padded(), |room| {
                room.fill(T::ONE);
                if let Some(Weight::Classes(weights)) = self.samples.weight {
                    weights.from(tile.start).load(isa, &mut room[..tile.len]);
                }
            });
        }
    }

    /// A row of a tile, as formulas take it; beyond its classes are scores of −∞.
    ///
    /// # Safety
    /// [`Call::prepare`] must have filled the rooms for this tile.
    unsafe fn classes<'a, T: Number>(
        &self,
        isa: Isa,
        tile: Tile,
        scores: &'a [T],
        rooms: &'a mut Rooms<T>,
    ) -> Classes<'a, T> {
        let padded = tile.padded();
        let mut scores = &scores[..padded];
        // SAFETY: the caller's; all of the slice is written.
        unsafe {
            if let Some(cap) = self.softcap {
                scores = rooms.capped.filled(padded, |capped| {
                    isa.run(Cap { scores, bound: T::of(cap), capped: &mut *capped });
                    capped[tile.len..].fill(-T::INFINITY);
                });
            }
            Classes {
                scores,
                probabilities: rooms.probabilities.written(padded),
                weights: rooms.weights.written(padded),
            }
        }
    }

    /// Joins the sums of the groups, and writes the losses.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn settle<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        chunk: &mut Chunk<T>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let chunk_rows = chunk.rows;
        let (first, others) = chunk.sums.split_at_mut(chunk_rows);
        let (sums, others) = (Parts::of(first), &*others);
        let values = Parts::of(&mut chunk.values);
        let samples = &chunk.samples;
        let work = |tasks: &mut Tasks<'_>| {
            for task in tasks {
                let rows = block_of_rows(task, samples.len());
                // SAFETY: no other task has these rows.
                let (sums, values) = unsafe { (sums.part(rows.clone()), values.part(rows.clone())) };
                for (row, swept) in rows.clone().zip(&mut *sums) {
                    let sample = &samples[row];
                    for (group, other) in others.chunks_exact(chunk_rows).enumerate() {
                        let mut other = other[row];
                        loss.raise(isa, other.largest, swept);
                        loss.raise(isa, swept.largest, &mut other);
                        for (sum, other) in swept.sums.iter_mut().zip(other.sums) {
                            *sum += other;
                        }
                        if sample.label / (GROUP * TILE) == group + 1 {
                            swept.label.score = other.label.score;
                        }
                    }
                    swept.label.weight = sample.label_weight;
                }
                if self.samples.want.value() {
                    for ((value, swept), sample) in values.iter_mut().zip(&*sums).zip(&samples[rows]) {
                        *value = loss.value(isa, swept) * sample.weight;
                        if let Some(output) = self.samples.value {
                            // SAFETY: the caller's.
                            unsafe { self.samples.layout.put(isa, output, sample.row, &[*value], false) };
                        }
                    }
                }
            }
            Ok(())
        };
        share(samples.len().div_ceil(DEPTH), DEPTH * self.groups() * 32 * PRODUCTS, stop, work)
    }

    /// Turns the scores into derivatives, and adds up the gradients of the weight and the bias.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn derive<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        chunk: &mut Chunk<T>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let (features, len, chunk_rows) = (self.features, chunk.samples.len(), chunk.rows);
        let (stride, width) = (stride::<T>(TILE), self.padded_features::<T>());
        let weight_slope = match self.weight_slope {
            // SAFETY: the caller's; the rows are side by side.
            Some(grid) if self.adds_in_place::<T>() => unsafe {
                std::slice::from_raw_parts_mut(grid.row.first.cast::<T>(), self.samples.classes * features)
            },
            _ => &mut chunk.weight_slope,
        };
        let weight_slope = Parts::of(weight_slope);
        let bias_slope = Parts::of(&mut chunk.bias_slope);
        let scores = Parts::of(&mut chunk.scores);
        let (samples, sums, panels, first) = (&chunk.samples, &chunk.sums, &chunk.rows_of, chunk.first);
        let work = |tasks: &mut Tasks<'_>| {
            let mut rooms = Rooms::<T>::UNFILLED;
            let mut left = zeros(ROWS * DEPTH)?;
            while let Some(task) = tasks.next() {
                let tile = self.tile(task);
                let start = task * chunk_rows * stride;
                // SAFETY: no other task has this tile.
                let scores = unsafe { scores.part(start..start + len * stride) };
                // SAFETY: the caller's.
                unsafe { self.prepare(isa, tile, &mut rooms) };
                for ((scores, swept), sample) in scores.chunks_exact_mut(stride).zip(sums).zip(samples) {
                    // SAFETY: `prepare` has filled the rooms, and `derive` the results.
                    unsafe { self.derive_row(isa, loss, tile, scores, swept, sample, &mut rooms) };
                }
                if self.bias_slope.is_some() {
                    // SAFETY: no other task has this tile.
                    let out = unsafe { bias_slope.part(tile.start..tile.start + tile.len) };
                    for (out, sum) in out.iter_mut().zip(sum_of_rows(isa, scores)) {
                        *out += sum;
                    }
                }
                if self.weight_slope.is_none() {
                    continue;
                }
                // SAFETY: no other task has this tile.
                let out = unsafe { weight_slope.part(tile.start * features..(tile.start + tile.len) * features) };
                for rows in (0..len.div_ceil(DEPTH)).map(|block| block_of_rows(block, len)) {
                    let depth = rows.len();
                    let scores = &scores[rows.start * stride..rows.end * stride];
                    let panels = &panels[rows.start * width..rows.end * width];
                    for class in (0..tile.len).step_by(ROWS) {
                        for (left, scores) in left.chunks_exact_mut(ROWS).zip(scores.chunks_exact(stride)) {
                            left.copy_from_slice(&scores[class..class + ROWS]);
                        }
                        if tasks.are_stopped() {
                            return Ok(());
                        }
                        let left = Strided { elements: &left, rows: 1, columns: ROWS };
                        let columns = (0..features).step_by(product::width::<T>());
                        for (panel, column) in panels.chunks_exact(depth * product::width::<T>()).zip(columns) {
                            let out = Output {
                                elements: &mut out[class * features + column..],
                                stride: features,
                                rows: ROWS.min(tile.len - class),
                                columns: product::width::<T>().min(features - column),
                            };
                            product::multiply(isa, left, depth, panel, out, !first || rows.start > 0);
                        }
                    }
                }
            }
            Ok(())
        };
        let each = len * TILE.min(self.samples.classes) * (features + PRODUCTS);
        share(self.tiles(), each, stop, work)
    }

    /// Turns a row of a tile's scores into derivatives.
    ///
    /// # Safety
    /// [`Call::prepare`] must have filled the rooms for this tile.
    unsafe fn derive_row<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        tile: Tile,
        scores: &mut [T],
        swept: &Swept<T>,
        sample: &Counted<T>,
        rooms: &mut Rooms<T>,
    ) {
        let mut slopes = Block::<T>::new();
        // SAFETY: the caller's.
        let classes = unsafe { self.classes(isa, tile, scores, rooms) };
        // SAFETY: `derive` writes as many.
        let slopes = unsafe { slopes.written(tile.padded()) };
        let derivatives = Derivatives { slope: &mut *slopes, curvature: &mut [], stream: false };
        loss.derive(isa, classes, swept, tile.label(sample.label), sample.scale, derivatives);
        let scores = &mut scores[..tile.padded()];
        if let Some(cap) = self.softcap {
            isa.run(Uncap { scores, bound: T::of(cap), slopes });
        }
        scores.copy_from_slice(slopes);
    }

    /// Computes the input's gradient.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn derive_input<T: Number>(
        &self,
        isa: Isa,
        chunk: &mut Chunk<T>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let Some(slope) = self.samples.slope else { return Ok(()) };
        let (features, samples, scores) = (self.features, &chunk.samples, &chunk.scores);
        let (chunk_rows, stride) = (chunk.rows, stride::<T>(TILE));
        let width = product::width::<T>();
        let blocks = samples.len().div_ceil(DEPTH);
        let work = |tasks: &mut Tasks<'_>| {
            let mut staging = reserved(TILE * COLUMNS)?;
            let mut panels = zeros(TILE * COLUMNS)?;
            let mut out = zeros(DEPTH.min(chunk_rows) * COLUMNS)?;
            while let Some(task) = tasks.next() {
                let (start, rows) = (task / blocks * COLUMNS, block_of_rows(task % blocks, samples.len()));
                let columns = COLUMNS.min(features - start);
                for tile in 0..self.tiles() {
                    let scores = &scores[(tile * chunk_rows + rows.start) * stride..];
                    let left = Strided { elements: scores, rows: stride, columns: 1 };
                    let add = tile > 0;
                    let tile = self.tile(tile);
                    let panels = &mut panels[..columns.next_multiple_of(width) * tile.len];
                    // SAFETY: the caller's.
                    let from =
                        unsafe { self.weight.block(isa, (tile.start, tile.len), (start, columns), 1, &mut staging) };
                    product::pack(isa, from, tile.len, columns, panels);
                    for (panel, column) in panels.chunks_exact(width * tile.len).zip((0..).step_by(width)) {
                        if tasks.are_stopped() {
                            return Ok(());
                        }
                        let out = Output {
                            elements: &mut out[column..],
                            stride: COLUMNS,
                            rows: rows.len(),
                            columns: width.min(columns - column),
                        };
                        product::multiply(isa, left, tile.len, panel, out, add);
                    }
                }
                for (out, sample) in out.chunks_exact(COLUMNS).zip(&samples[rows]) {
                    // SAFETY: the caller's.
                    unsafe {
                        let run = slope.row(self.samples.layout, sample.row).from(start);
                        run.store(isa, &out[..columns], false);
                    }
                }
            }
            Ok(())
        };
        let each = DEPTH.min(samples.len()) * self.samples.classes * COLUMNS.min(features);
        share(blocks * features.div_ceil(COLUMNS), each, stop, work)
    }

    /// Writes the gradients that were added up elsewhere.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn finish<T: Number>(&self, isa: Isa, chunk: &Chunk<T>) {
        // SAFETY: the caller's.
        unsafe {
            if let Some(run) = self.bias_slope {
                for (sums, start) in chunk.bias_slope.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
                    run.from(start).store(isa, sums, false);
                }
            }
            let Some(grid) = self.weight_slope.filter(|_| self.features > 0) else { return };
            for class in 0..self.samples.classes {
                if chunk.first {
                    clear::<T>(isa, grid.row(class), self.features);
                } else if !chunk.weight_slope.is_empty() {
                    grid.row(class).store(isa, &chunk.weight_slope[class * self.features..][..self.features], false);
                }
            }
        }
    }
}

/// Shares tasks that each multiply and add so often.
fn share(
    tasks: usize,
    each: usize,
    stop: &dyn Fn() -> bool,
    work: impl Fn(&mut Tasks<'_>) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let spread = tasks.saturating_mul(each) >= SPREAD_FROM * PRODUCTS;
    let merge = |found: &mut Result<(), Failure>, other: &Result<(), Failure>| *found = found.and(*other);
    threads::share(tasks, spread, stop, work, merge)?
}

/// The rows of a block of them.
fn block_of_rows(block: usize, rows: usize) -> Range<usize> {
    block * DEPTH..rows.min((block + 1) * DEPTH)
}

/// Writes zeros.
///
/// # Safety
/// The run must have as many writable elements.
unsafe fn clear<T: Real>(isa: Isa, run: Run, len: usize) {
    for start in (0..len).step_by(BLOCK) {
        // SAFETY: the caller's.
        unsafe { run.from(start).store(isa, &[T::ZERO; BLOCK][..BLOCK.min(len - start)], false) };
    }
}

/// The sums of a tile's columns, one row after the other.
fn sum_of_rows<T: Real>(isa: Isa, rows: &[T]) -> [f64; TILE] {
    struct Sum<'a, T>(&'a [T]);
    impl<T: Real> Kernel for Sum<'_, T> {
        type Output = [f64; TILE];
        #[inline(always)]
        fn run(self) -> [f64; TILE] {
            let mut sums = [0.0; TILE];
            for row in self.0.chunks_exact(stride::<T>(TILE)) {
                for (sum, &value) in sums.iter_mut().zip(&row[..TILE]) {
                    *sum += value.to_f64();
                }
            }
            sums
        }
    }
    isa.run(Sum(rows))
}
