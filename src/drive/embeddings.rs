//! The driver for losses of rows of vectors: a pair or a triplet of embeddings in each, and perhaps a target.
//!
//! Rows are worked in groups that fit a block of each vector. A group is swept for its sums, and where derivatives are wanted
//! once more for those; rows longer than a block are a group each, swept block by block, and nothing that grows with a row is
//! kept in between. Sums run in 16 fixed lanes within a block and in double precision from block to block, so that they
//! depend on the number of features alone. What follows from the sums is computed for all rows of a group at once, a row in
//! each lane.

#![allow(clippy::needless_range_loop, reason = "an index is the same lane, row or sum of several arrays")]

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use crate::drive::block::{self, BLOCK, Block, LANES, Number};
use crate::drive::layout::{Layout, Operand};
use crate::drive::rows::Matrix;
use crate::drive::{Failure, SPREAD_FROM, STREAM_FROM, Want};
use crate::isa::{Baseline, Isa, Kernel, Set};
use crate::loss::{Domain, Embeddings};
use crate::real::Real;
use crate::storage;
use crate::sum::ExactSum;
use crate::threads::{self, Tasks};

/// The most vectors of a row.
pub const MOST_VECTORS: usize = 3;
/// The most sums of a formula.
const MOST_SUMS: usize = 6;
/// The most numbers that a formula's derivatives need of a row.
const MOST_SLOPES: usize = 6;
/// Features that a thread claims at once, roughly.
const FEATURES_PER_TASK: usize = 1 << 15;
/// The elements of a vector of a group that there is room for: a row for each lane, if it has no more than 128 features.
const ROOM: usize = 2 * BLOCK;
/// The most scalar products of the vectors of a row, each with itself and with those before it.
const MOST_PRODUCTS: usize = 6;
/// The lanes that sums of a row are left in, until those of a group are folded together.
const QUAD: usize = 4;

/// A block of features of a group of rows: the same features of each row's vectors, in whole lanes.
pub struct Features<'a, T> {
    vectors: [Vectors<'a, T>; MOST_VECTORS],
    rows: usize,
    len: usize,
}

/// The features of one of the vectors of each row: as many readable elements of each as whole lanes have, which nobody writes.
#[derive(Clone, Copy)]
struct Vectors<'a, T> {
    first: *const T,
    /// Elements from a row to the next.
    step: isize,
    lives: PhantomData<&'a [T]>,
}

/// What is known of a group's rows, one in each lane; a lane without a row holds something or other.
pub struct Rows<T> {
    /// In the order of [`product`], at first of the vectors as they are, then at unit length.
    products: [[f64; LANES]; MOST_PRODUCTS],
    scales: [[T; LANES]; MOST_VECTORS],
    sums: [[f64; LANES]; MOST_SUMS],
    targets: [T; LANES],
    /// What each row's loss is multiplied by; 0 leaves the row out.
    weights: [T; LANES],
    /// What each row's derivatives are multiplied by.
    factors: [T; LANES],
    values: [T; LANES],
    slopes: [[T; LANES]; MOST_SLOPES],
    /// Whether a row's derivatives are 0 whatever its features.
    are_flat: [bool; LANES],
}

/// Room for the derivatives of a group's block, row after row, each in whole lanes.
pub struct Results<T>([Block<T, ROOM>; MOST_VECTORS]);

impl<T: Real> Results<T> {
    /// Writes the zeros that are the derivatives of rows whatever their features.
    fn flatten(&mut self, are_flat: &[bool], len: usize) {
        let width = len.next_multiple_of(LANES);
        for room in &mut self.0 {
            // SAFETY: a row is filled, or has been.
            let rows = unsafe { room.written(are_flat.len() * width) };
            for (row, _) in rows.chunks_exact_mut(width).zip(are_flat).filter(|(_, is_flat)| **is_flat) {
                row.fill(T::ZERO);
            }
        }
    }
}

/// A loss of embeddings whose formula is behind a pointer.
pub trait Blocks<T>: Send + Sync {
    /// [`Embeddings::UNIT`]
    fn unit(&self) -> Option<f64>;
    /// Adds a block to the scalar products of the vectors.
    fn measure(&self, isa: Isa, features: &Features<'_, T>, rows: &mut Rows<T>);
    /// Adds a block to the sums.
    fn sweep(&self, isa: Isa, features: &Features<'_, T>, rows: &mut Rows<T>);
    /// Computes the weighted losses and the slopes from the sums, or from the scalar products where those are [`related`].
    fn evaluate(&self, isa: Isa, rows: &mut Rows<T>);
    /// Writes a block's derivatives.
    fn derive(&self, isa: Isa, features: &Features<'_, T>, rows: &Rows<T>, results: &mut Results<T>);
}

/// A loss of embeddings, its formula and type of numbers behind a pointer.
pub trait Loss: Blocks<f32> + Blocks<f64> {
    /// The number of vectors in a row.
    fn vectors(&self) -> usize;
    /// [`Embeddings::OPERANDS`]
    fn operands(&self) -> &'static [&'static str];
    /// [`Embeddings::TARGETS`]
    fn targets(&self) -> Domain;
}

evaluated_as!(blocks);

/// A formula as a [`Loss`].
pub struct Formula<L, const M: usize, const K: usize, const S: usize>(pub L);

impl<L: Embeddings<M, K, S>, const M: usize, const K: usize, const S: usize> Loss for Formula<L, M, K, S> {
    fn vectors(&self) -> usize {
        M
    }

    fn operands(&self) -> &'static [&'static str] {
        L::OPERANDS
    }

    fn targets(&self) -> Domain {
        L::TARGETS
    }
}

impl<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize> Blocks<T>
    for Formula<L, M, K, S>
{
    fn unit(&self) -> Option<f64> {
        L::UNIT
    }

    fn measure(&self, isa: Isa, features: &Features<'_, T>, rows: &mut Rows<T>) {
        match M {
            2 => isa.run(Measure::<_, 2, 3> { features, products: &mut rows.products }),
            _ => isa.run(Measure::<_, MOST_VECTORS, MOST_PRODUCTS> { features, products: &mut rows.products }),
        }
    }

    fn sweep(&self, isa: Isa, features: &Features<'_, T>, rows: &mut Rows<T>) {
        isa.run(Sweep::<_, _, M, K, S> { loss: self.0, features, rows });
    }

    fn evaluate(&self, isa: Isa, rows: &mut Rows<T>) {
        isa.run(Evaluate::<_, _, M, K, S> { loss: self.0, rows });
    }

    fn derive(&self, isa: Isa, features: &Features<'_, T>, rows: &Rows<T>, results: &mut Results<T>) {
        isa.run(Derive::<_, _, M, K, S> { loss: self.0, features, rows, results });
    }
}

impl<T: Real> Features<'_, T> {
    /// A row's vectors, of so many lanes.
    #[inline(always)]
    fn row<const M: usize>(&self, row: usize, lanes: usize) -> [&[[T; LANES]]; M] {
        assert!(row < self.rows && lanes <= self.len.div_ceil(LANES));
        let mut vectors: [&[[T; LANES]]; M] = [&[]; M];
        for m in 0..M {
            let Vectors { first, step, .. } = self.vectors[m];
            // SAFETY: of each row there are as many elements as whole lanes have.
            vectors[m] = unsafe { slice::from_raw_parts(first.offset(step * row as isize).cast(), lanes) };
        }
        vectors
    }
}

/// The same lanes of each vector.
#[inline(always)]
fn chunk<T: Real, const M: usize>(vectors: &[&[[T; LANES]]; M], index: usize) -> [[T; LANES]; M] {
    let mut chunk = [[T::ZERO; LANES]; M];
    for m in 0..M {
        chunk[m] = vectors[m][index];
    }
    chunk
}

/// Sums over the features of a row, of some type of numbers.
trait Sums<T, U, const M: usize, const K: usize>: Copy {
    /// The same for another row.
    fn of_row(self, row: usize) -> Self;
    fn terms(&self, features: [T; M]) -> [U; K];
    fn join(&self, a: [U; K], b: [U; K]) -> [U; K];
    #[inline(always)]
    fn add(&self, sums: [U; K], features: [T; M]) -> [U; K] {
        self.join(sums, self.terms(features))
    }
}

/// One lane of each.
#[inline(always)]
fn across<T: Copy, const N: usize, const K: usize>(lanes: &[[T; N]; K], lane: usize) -> [T; K] {
    let mut values = [lanes[0][lane]; K];
    for k in 1..K {
        values[k] = lanes[k][lane];
    }
    values
}

/// The sums over a row's features, folded by halves to four lanes each.
#[inline(always)]
fn quads<T: Real, U: Real, const M: usize, const K: usize>(
    formula: impl Sums<T, U, M, K>,
    features: &Features<'_, T>,
    row: usize,
) -> [[U; QUAD]; K] {
    let mut lanes = [[U::ZERO; LANES]; K];
    let (whole, tail) = (features.len / LANES, features.len % LANES);
    let vectors = features.row::<M>(row, whole);
    for i in 0..whole {
        for vector in &vectors {
            storage::prefetch_beyond(&vector[i]);
        }
        let chunk = chunk(&vectors, i);
        for lane in 0..LANES {
            let sums = formula.add(across(&lanes, lane), across(&chunk, lane));
            for k in 0..K {
                lanes[k][lane] = sums[k];
            }
        }
    }
    if tail > 0 {
        let chunk = chunk(&features.row::<M>(row, whole + 1), whole);
        // A comparison of lanes of the width of the sums.
        let tail = U::of(tail as f64);
        for lane in 0..LANES {
            let mut terms = formula.terms(across(&chunk, lane));
            for k in 0..K {
                // A lane beyond the last feature adds nothing.
                terms[k] = if U::of(lane as f64) < tail { terms[k] } else { U::ZERO };
            }
            let sums = formula.join(across(&lanes, lane), terms);
            for k in 0..K {
                lanes[k][lane] = sums[k];
            }
        }
    }
    let mut halves = [[U::ZERO; LANES / 2]; K];
    for lane in 0..LANES / 2 {
        let sums = formula.join(across(&lanes, lane), across(&lanes, lane + LANES / 2));
        for k in 0..K {
            halves[k][lane] = sums[k];
        }
    }
    let mut quads = [[U::ZERO; QUAD]; K];
    for lane in 0..QUAD {
        let sums = formula.join(across(&halves, lane), across(&halves, lane + QUAD));
        for k in 0..K {
            quads[k][lane] = sums[k];
        }
    }
    quads
}

/// The sums over the features of each row of a group.
#[inline(always)]
fn group_sums<T: Real, U: Real, const M: usize, const K: usize>(
    formula: impl Sums<T, U, M, K>,
    features: &Features<'_, T>,
) -> [[U; LANES]; K] {
    let mut folded = [[[U::ZERO; QUAD]; LANES]; K];
    for row in 0..features.rows.min(LANES) {
        let quads = quads(formula.of_row(row), features, row);
        for k in 0..K {
            folded[k][row] = quads[k];
        }
    }
    let mut sums = [[U::ZERO; LANES]; K];
    for row in 0..LANES {
        let mut parts = [[U::ZERO; K]; QUAD];
        for quad in 0..QUAD {
            for k in 0..K {
                parts[quad][k] = folded[k][row][quad];
            }
        }
        let [a, b, c, d] = parts;
        let joined = formula.join(formula.join(a, c), formula.join(b, d));
        for k in 0..K {
            sums[k][row] = joined[k];
        }
    }
    sums
}

/// Where the scalar product of two vectors, the latter no earlier than the former, is among those of a row.
const fn product(former: usize, latter: usize) -> usize {
    latter * (latter + 1) / 2 + if former == latter { 0 } else { former + 1 }
}

/// Whether the product of two features is exact in double precision, so that sums at unit length can be had of scalar products:
/// what cancels then is smaller than what rounding the scaled features would make of it.
const fn is_exact<T>() -> bool {
    size_of::<T>() == size_of::<f32>()
}

/// Whether the sums are had of scalar products: of a formula's [`Embeddings::UNIT`].
const fn related<T>(unit: Option<f64>) -> bool {
    unit.is_some() && is_exact::<T>()
}

/// The scalar products of a row's vectors, each with each.
#[inline(always)]
fn products_of<const M: usize>(all: &[[f64; LANES]; MOST_PRODUCTS], row: usize) -> [[f64; M]; M] {
    let mut products = [[0.0; M]; M];
    for latter in 0..M {
        for former in 0..=latter {
            let of_pair = all[product(former, latter)][row];
            (products[former][latter], products[latter][former]) = (of_pair, of_pair);
        }
    }
    products
}

/// Scalar products, in double precision so that no float32 overflows; only squares, where products would be rounded. What is exact
/// may be fused with its addition or not, to the same sum.
#[derive(Clone, Copy)]
struct Products<const FUSED: bool>;

impl<T: Real, const M: usize, const P: usize, const FUSED: bool> Sums<T, f64, M, P> for Products<FUSED> {
    #[inline(always)]
    fn of_row(self, _: usize) -> Self {
        self
    }

    #[inline(always)]
    fn terms(&self, features: [T; M]) -> [f64; P] {
        self.add([0.0; P], features)
    }

    #[inline(always)]
    fn join(&self, mut a: [f64; P], b: [f64; P]) -> [f64; P] {
        for k in 0..P {
            a[k] += b[k];
        }
        a
    }

    #[inline(always)]
    fn add(&self, mut sums: [f64; P], features: [T; M]) -> [f64; P] {
        for latter in 0..M {
            for former in 0..=latter {
                if former == latter || is_exact::<T>() {
                    let (x, y) = (features[former].to_f64(), features[latter].to_f64());
                    let sum = &mut sums[product(former, latter)];
                    *sum = if FUSED && is_exact::<T>() { x.mul_add(y, *sum) } else { *sum + x * y };
                }
            }
        }
        sums
    }
}

struct Measure<'a, T, const M: usize, const P: usize> {
    features: &'a Features<'a, T>,
    products: &'a mut [[f64; LANES]; MOST_PRODUCTS],
}

impl<T: Real, const M: usize, const P: usize> Kernel for Measure<'_, T, M, P> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<S: Set>(self) {
        let sums = if matches!(S::ISA, Isa::Baseline) {
            group_sums::<T, f64, M, P>(Products::<false>, self.features)
        } else {
            group_sums::<T, f64, M, P>(Products::<true>, self.features)
        };
        for k in 0..P {
            for row in 0..LANES {
                self.products[k][row] += sums[k][row];
            }
        }
    }
}

/// Turns lengths into scales, and brings products to unit length.
struct Scale<'a, T> {
    rows: &'a mut Rows<T>,
    vectors: usize,
    epsilon: f64,
}

impl<T: Real> Kernel for Scale<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rows, vectors, epsilon } = self;
        let (mut products, mut scales) = (rows.products, [[0.0; LANES]; MOST_VECTORS]);
        for m in 0..vectors {
            for row in 0..LANES {
                let square = products[product(m, m)][row] + epsilon;
                // A vector of infinite length has no direction.
                let square = if square == f64::INFINITY { f64::NAN } else { square };
                scales[m][row] = 1.0 / square.sqrt();
                rows.scales[m][row] = T::of(scales[m][row]);
            }
        }
        for latter in 0..vectors {
            for former in 0..=latter {
                let k = product(former, latter);
                for row in 0..LANES {
                    products[k][row] = products[k][row] * scales[former][row] * scales[latter][row];
                }
            }
        }
        rows.products = products;
    }
}

/// A formula's sums over features that are scaled.
#[derive(Clone, Copy)]
struct Scaled<'a, L, T, const M: usize, const S: usize> {
    loss: L,
    all: &'a [[T; LANES]; M],
    scales: [T; M],
}

impl<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize> Sums<T, T, M, K>
    for Scaled<'_, L, T, M, S>
{
    #[inline(always)]
    fn of_row(self, row: usize) -> Self {
        Self { scales: across(self.all, row), ..self }
    }

    #[inline(always)]
    fn terms(&self, features: [T; M]) -> [T; K] {
        needed::<L, T, M, K, S>(self.loss.terms(scaled::<L, T, M, K, S>(features, self.scales)))
    }

    #[inline(always)]
    fn join(&self, a: [T; K], b: [T; K]) -> [T; K] {
        needed::<L, T, M, K, S>(self.loss.join(a, b))
    }
}

/// Drops the sums that are not read.
#[inline(always)]
fn needed<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize>(mut sums: [T; K]) -> [T; K] {
    for k in 0..K {
        if !L::NEEDED[k] {
            sums[k] = T::ZERO;
        }
    }
    sums
}

/// Features as the formula sees them.
#[inline(always)]
fn scaled<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize>(
    mut features: [T; M],
    scales: [T; M],
) -> [T; M] {
    if L::UNIT.is_some() {
        for m in 0..M {
            features[m] = features[m] * scales[m];
        }
    }
    features
}

struct Sweep<'a, L, T, const M: usize, const K: usize, const S: usize> {
    loss: L,
    features: &'a Features<'a, T>,
    rows: &'a mut Rows<T>,
}

impl<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize> Kernel
    for Sweep<'_, L, T, M, K, S>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, features, rows } = self;
        let (Some(scales), Some(all)) = (rows.scales.first_chunk::<M>(), rows.sums.first_chunk_mut::<K>()) else {
            return;
        };
        let formula = Scaled::<L, T, M, S> { loss, all: scales, scales: across(scales, 0) };
        let sums: [[T; LANES]; K] = group_sums(formula, features);
        let mut joined = [[0.0; LANES]; K];
        for row in 0..LANES {
            let of_row = loss.join(across(all, row), across(&sums, row).map(T::to_f64));
            for k in 0..K {
                joined[k][row] = of_row[k];
            }
        }
        *all = joined;
    }
}

struct Evaluate<'a, L, T, const M: usize, const K: usize, const S: usize> {
    loss: L,
    rows: &'a mut Rows<T>,
}

impl<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize> Kernel
    for Evaluate<'_, L, T, M, K, S>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, rows } = self;
        let (Some(all_scales), Some(all_sums)) = (rows.scales.first_chunk::<M>(), rows.sums.first_chunk::<K>()) else {
            return;
        };
        let mut all_sums = *all_sums;
        if related::<T>(L::UNIT) {
            for row in 0..LANES {
                let sums = loss.sums_of_products(products_of(&rows.products, row));
                for k in 0..K {
                    all_sums[k][row] = sums[k];
                }
            }
        }
        let (mut values, mut are_flat) = ([T::ZERO; LANES], [false; LANES]);
        let mut slopes = [[T::ZERO; LANES]; S];
        for row in 0..LANES {
            let (sums, scales) = (across(&all_sums, row).map(T::of), across(all_scales, row));
            let (target, weight) = (rows.targets[row], rows.weights[row]);
            let value = loss.value(sums, scales, target);
            let weighed = value * weight;
            values[row] = if weight == T::ZERO { T::ZERO } else { weighed };
            are_flat[row] = (value == T::ZERO) | (weight == T::ZERO);
            let of_row = loss.slopes(sums, scales, target);
            for s in 0..S {
                slopes[s][row] = of_row[s];
            }
        }
        (rows.values, rows.are_flat) = (values, are_flat);
        if let Some(first) = rows.slopes.first_chunk_mut() {
            *first = slopes;
        }
    }
}

struct Derive<'a, L, T, const M: usize, const K: usize, const S: usize> {
    loss: L,
    features: &'a Features<'a, T>,
    rows: &'a Rows<T>,
    results: &'a mut Results<T>,
}

impl<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize> Kernel
    for Derive<'_, L, T, M, K, S>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, features, rows, results } = self;
        let (Some(scales), Some(slopes)) = (rows.scales.first_chunk::<M>(), rows.slopes.first_chunk::<S>()) else {
            return;
        };
        let lanes = features.len.div_ceil(LANES);
        let mut all: [&mut [[T; LANES]]; M] = std::array::from_fn(|_| &mut [][..]);
        for (derivatives, room) in all.iter_mut().zip(&mut results.0) {
            // SAFETY: the loop writes every row that is read.
            *derivatives = unsafe { room.written(features.rows * lanes * LANES) }.as_chunks_mut().0;
        }
        for row in 0..features.rows.min(LANES) {
            if rows.are_flat[row] {
                continue;
            }
            let (scales, slopes, factor) = (across(scales, row), across(slopes, row), rows.factors[row]);
            let vectors = features.row::<M>(row, lanes);
            let mut of_row: [&mut [[T; LANES]]; M] = std::array::from_fn(|_| &mut [][..]);
            for (of_row, all) in of_row.iter_mut().zip(&mut all) {
                *of_row = &mut all[row * lanes..][..lanes];
            }
            for i in 0..lanes {
                let derivatives = Self::lanes(loss, slopes, scales, chunk(&vectors, i), factor);
                for m in 0..M {
                    of_row[m][i] = derivatives[m];
                }
            }
        }
    }
}

impl<L: Embeddings<M, K, S>, T: Real, const M: usize, const K: usize, const S: usize> Derive<'_, L, T, M, K, S> {
    /// The derivatives at some features. In arrays of their own, which no operand can share.
    #[inline(always)]
    fn lanes(loss: L, slopes: [T; S], scales: [T; M], chunk: [[T; LANES]; M], factor: T) -> [[T; LANES]; M] {
        let mut derivatives = [[T::ZERO; LANES]; M];
        for lane in 0..LANES {
            let features = scaled::<L, T, M, K, S>(across(&chunk, lane), scales);
            let of_lane = loss.at(slopes, scales, features);
            for m in 0..M {
                derivatives[m][lane] = of_lane[m] * factor;
            }
        }
        derivatives
    }
}

/// A call: buffers and what to do with them. All layouts are that of the samples.
pub struct Call<'a> {
    /// The samples, in C order.
    pub layout: &'a Layout,
    /// What is wanted: these losses have no Hessians.
    pub want: Want,
    /// The number of features of a vector.
    pub features: usize,
    /// The vectors of each sample.
    pub vectors: &'a [Matrix],
    /// The targets.
    pub target: Option<&'a Operand>,
    /// The values that a target may have.
    pub domain: Domain,
    /// Weights that multiply losses and derivatives; 0 leaves a sample out.
    pub sample_weight: Option<&'a Operand>,
    /// What each row of the gradients is multiplied by, in a vector-Jacobian product.
    pub grad_output: Option<&'a Operand>,
    /// What derivatives are multiplied by.
    pub factor: f64,
    /// Where losses go, if they are not only summed.
    pub value: Option<&'a Operand>,
    /// Where the derivatives with respect to each vector go, if they are wanted.
    pub slopes: &'a [Option<Matrix>],
    /// Whether the losses are summed.
    pub sum: bool,
}

/// What a thread carries from group to group, beside its rows.
struct State<T> {
    vectors: [Block<T, ROOM>; MOST_VECTORS],
    results: Results<T>,
    values: Block<T>,
}

impl<T: Number> State<T> {
    /// A constant, so that it is made in place and not moved; of room alone, because one that held anything would be written whole.
    const UNFILLED: Self = Self {
        vectors: [const { Block::new() }; MOST_VECTORS],
        results: Results([const { Block::new() }; MOST_VECTORS]),
        values: Block::new(),
    };
}

impl<T: Number> Rows<T> {
    /// No rows yet.
    const NOTHING: Self = Self {
        products: [[0.0; LANES]; MOST_PRODUCTS],
        scales: [[T::ONE; LANES]; MOST_VECTORS],
        sums: [[0.0; LANES]; MOST_SUMS],
        targets: [T::ZERO; LANES],
        weights: [T::ONE; LANES],
        factors: [T::ONE; LANES],
        values: [T::ZERO; LANES],
        slopes: [[T::ZERO; LANES]; MOST_SLOPES],
        are_flat: [false; LANES],
    };
}

/// Where the features of a group are: together, if they fit the rooms, else to be fetched block by block.
enum Source<'a, T> {
    Whole(&'a Features<'a, T>),
    Blocks(&'a mut [Block<T, ROOM>; MOST_VECTORS]),
}

/// What a thread finds in weights and targets.
struct Found {
    weight: ExactSum,
    /// The first row whose target is none of those that it must be one of.
    misfit: Option<usize>,
}

impl Call<'_> {
    /// The exact sum of the samples' weights, after all targets have been looked at.
    ///
    /// # Errors
    /// If a target is none of those that it must be one of, or `stop` said so.
    ///
    /// # Safety
    /// The targets and weights must be readable.
    pub unsafe fn total_weight<T: Number>(&self, stop: &dyn Fn() -> bool) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found { weight: ExactSum::new(), misfit: None };
            let (mut weights, mut targets) = (Block::<T>::new(), Block::<T>::new());
            for task in tasks {
                let start = task * BLOCK;
                let len = BLOCK.min(samples - start);
                // SAFETY: the caller's.
                let weights = self
                    .sample_weight
                    .map(|operand| unsafe { &self.layout.fetch(isa, operand, start, len, &mut weights)[..len] });
                match weights {
                    Some(weights) => found.weight.add_block(isa, weights),
                    None => found.weight.add(len as f64),
                }
                if let Some(operand) = self.target {
                    // SAFETY: the caller's.
                    let targets = unsafe { self.layout.fetch(isa, operand, start, len, &mut targets) };
                    if !block::is_within(isa, &targets[..len], self.domain) {
                        let misfit = |&i: &usize| {
                            let counts = weights.is_none_or(|weights| weights[i] != T::ZERO);
                            counts && !self.domain.contains(targets[i].to_f64())
                        };
                        let first = (0..len).find(misfit).map(|i| start + i);
                        found.misfit = found.misfit.into_iter().chain(first).min();
                    }
                }
            }
            found
        };
        let merge = |found: &mut Found, other: &Found| {
            found.weight.merge(&other.weight);
            found.misfit = found.misfit.into_iter().chain(other.misfit).min();
        };
        let found = threads::share(samples.div_ceil(BLOCK), samples >= SPREAD_FROM, stop, work, merge)?;
        match found.misfit {
            Some(index) => Err(Failure::Domain { operand: self.vectors.len(), index }),
            None => Ok(found.weight),
        }
    }

    /// Runs the call; the exact sum of the weighted losses, if it is wanted. Targets are those that [`Call::total_weight`] has
    /// looked at.
    ///
    /// # Errors
    /// If `stop` said so.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without overlap, except that a result may be
    /// an operand.
    pub unsafe fn run<T: Number>(&self, loss: &dyn Blocks<T>, stop: &dyn Fn() -> bool) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        let elements = self.vectors.len() * self.features;
        let group = (ROOM / self.features.next_multiple_of(LANES).max(1)).clamp(1, LANES);
        let groups = (FEATURES_PER_TASK / elements.max(1)).clamp(group, BLOCK) / group;
        let rows = group * groups;
        let work = |tasks: &mut Tasks<'_>| {
            let mut sum = ExactSum::new();
            let (mut state, mut known) = (State::<T>::UNFILLED, Rows::NOTHING);
            while let Some(task) = tasks.next() {
                let (start, end) = (task * rows, samples.min((task + 1) * rows));
                for start in (start..end).step_by(group) {
                    let at = start - task * rows;
                    // SAFETY: the caller's, and no other task has these rows.
                    unsafe { self.group(isa, loss, &mut state, &mut known, tasks, start, group.min(end - start), at) };
                }
                if self.want.value() {
                    // SAFETY: the groups have written the values of all rows; the rest is the caller's.
                    unsafe {
                        let values = state.values.written(end - start);
                        if self.sum {
                            sum.add_block(isa, values);
                        }
                        if let Some(output) = self.value {
                            self.layout.put(isa, output, start, values, false);
                        }
                    }
                }
            }
            storage::fence();
            sum
        };
        let spread = samples.saturating_mul(elements) >= SPREAD_FROM;
        Ok(threads::share(samples.div_ceil(rows), spread, stop, work, ExactSum::merge)?)
    }

    /// Computes a group of rows: writes its derivatives, and its losses to `state.values` from `at` on.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn group<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        state: &mut State<T>,
        rows: &mut Rows<T>,
        tasks: &mut Tasks<'_>,
        start: usize,
        len: usize,
        at: usize,
    ) {
        let State { vectors: rooms, results, values } = state;
        let factor = T::of(self.factor);
        rows.factors = [T::ONE; LANES];
        rows.sums = [[0.0; LANES]; MOST_SUMS];
        // SAFETY: the caller's for all that is read and written; of `values`, groups before this one have written what is
        // below `at`.
        unsafe {
            for (operand, lanes) in [
                (self.target, &mut rows.targets),
                (self.sample_weight, &mut rows.weights),
                (self.grad_output, &mut rows.factors),
            ] {
                if let Some(operand) = operand {
                    self.layout.read(isa, operand, start, &mut lanes[..len]);
                }
            }
            for (to, &weight) in rows.factors.iter_mut().zip(&rows.weights) {
                *to = weight * factor * *to;
            }
            let features;
            let mut source = if (1..=BLOCK).contains(&self.features) {
                features = self.fetch(isa, start, len, (0, self.features), rooms);
                Source::Whole(&features)
            } else {
                Source::Blocks(rooms)
            };
            if let Some(epsilon) = loss.unit() {
                rows.products = [[0.0; LANES]; MOST_PRODUCTS];
                self.each(isa, start, len, &mut source, tasks, |features, _| loss.measure(isa, features, rows));
                isa.run(Scale { rows, vectors: self.vectors.len(), epsilon });
            }
            if !related::<T>(loss.unit()) {
                self.each(isa, start, len, &mut source, tasks, |features, _| loss.sweep(isa, features, rows));
            }
            loss.evaluate(isa, rows);
            if self.want.value() {
                values.filled(at + len, |room| room[at..].copy_from_slice(&rows.values[..len]));
            }
            if self.want.slope() {
                self.each(isa, start, len, &mut source, tasks, |features, block| {
                    loss.derive(isa, features, rows, results);
                    results.flatten(&rows.are_flat[..len], block.1);
                    self.put(isa, start, len, block, results);
                });
            }
        }
    }

    /// Visits the blocks of a group, until the call is stopped.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn each<T: Real>(
        &self,
        isa: Isa,
        start: usize,
        rows: usize,
        source: &mut Source<'_, T>,
        tasks: &mut Tasks<'_>,
        mut visit: impl FnMut(&Features<'_, T>, (usize, usize)),
    ) {
        // Features between looks at the clock.
        const LONG: usize = 1 << 18;
        match source {
            Source::Whole(features) => visit(features, (0, self.features)),
            Source::Blocks(rooms) => {
                for first in (0..self.features).step_by(BLOCK) {
                    if first > 0 && first % LONG == 0 && tasks.are_stopped() {
                        return;
                    }
                    let block = (first, BLOCK.min(self.features - first));
                    // SAFETY: the caller's.
                    visit(&unsafe { self.fetch(isa, start, rows, block, rooms) }, block);
                }
            }
        }
    }

    /// A block of a group's features: as they lie where that can be, else in the rooms, converted into them.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn fetch<'a, T: Real>(
        &self,
        isa: Isa,
        start: usize,
        rows: usize,
        (first, len): (usize, usize),
        rooms: &'a mut [Block<T, ROOM>; MOST_VECTORS],
    ) -> Features<'a, T> {
        let none = Vectors { first: NonNull::dangling().as_ptr(), step: 0, lives: PhantomData };
        let mut features = Features { vectors: [none; MOST_VECTORS], rows, len };
        let width = len.next_multiple_of(LANES);
        for ((matrix, room), vectors) in self.vectors.iter().zip(rooms).zip(&mut features.vectors) {
            // SAFETY: the caller's; all of the room that is read is written.
            unsafe {
                let run = |row: usize| matrix.row(self.layout, start + row).from(first);
                let is_whole = width == len && run(0).is_slice_of::<T>();
                let step = self.layout.one_run(&matrix.samples, start, rows).map(|samples| samples.stride);
                let step = step.filter(|step| is_whole && step % size_of::<T>() as isize == 0);
                (vectors.first, vectors.step) = if let Some(step) = step {
                    (run(0).first.cast_const().cast(), step / size_of::<T>() as isize)
                } else {
                    let room = room.written(rows * width);
                    for (row, room) in room.chunks_exact_mut(width).enumerate() {
                        run(row).load(isa, &mut room[..len]);
                        room[len..].fill(T::ZERO);
                    }
                    (room.as_ptr(), width as isize)
                };
            }
        }
        features
    }

    /// Writes a block of a group's derivatives.
    ///
    /// # Safety
    /// As [`Call::run`], and `results` must hold them.
    unsafe fn put<T: Real>(
        &self,
        isa: Isa,
        start: usize,
        rows: usize,
        (first, len): (usize, usize),
        results: &mut Results<T>,
    ) {
        for (matrix, room) in self.slopes.iter().zip(&mut results.0) {
            let Some(matrix) = matrix else { continue };
            let run = |row: usize| matrix.row(self.layout, start + row).from(first);
            let all = run(0);
            let stream = self.layout.len() * self.features * all.dtype.size() >= STREAM_FROM;
            let width = len.next_multiple_of(LANES);
            let step = self.layout.one_run(&matrix.samples, start, rows).map(|samples| samples.stride);
            let is_one_run = width == len && step == Some(matrix.stride * len as isize);
            // SAFETY: the caller's.
            unsafe {
                let room = room.written(rows * width);
                if is_one_run {
                    all.store(isa, room, stream);
                } else {
                    for (row, derivatives) in room.chunks_exact(width).enumerate() {
                        run(row).store(isa, &derivatives[..len], stream);
                    }
                }
            }
        }
    }
}
