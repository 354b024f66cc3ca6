//! What a loss is: its formula at a point, over a row of scores, or for each pair of them.
//!
//! A formula is plain generic Rust over [`Real`], without branches on its operands: a choice is written
//! `if a > b { a } else { b }`, which becomes a select. Drivers inline it into their loops, drop the parts that a call does
//! not ask for, and deal with everything else: types, strides, tails, weights, reductions, threads and instruction sets.

use crate::real::{Real, Scaled};

/// A loss at a point, and its derivatives there with respect to `D` of its operands.
#[derive(Clone, Copy, Debug)]
pub struct Jet<T, const D: usize = 1> {
    /// The loss.
    pub value: T,
    /// Its first derivatives.
    pub slope: [T; D],
    /// Its second derivatives, each with respect to one operand.
    pub curvature: [T; D],
}

/// Which values an operand may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Domain {
    /// Any.
    Real,
    /// Those of a closed interval, and NaN.
    Interval(f64, f64),
    /// −1 and 1.
    Sign,
    /// 0 and 1.
    Binary,
}

impl Domain {
    /// Whether a value is one of them.
    pub fn contains(self, x: f64) -> bool {
        match self {
            Self::Real => true,
            Self::Interval(low, high) => !(x < low || x > high),
            Self::Sign => x.abs() == 1.0,
            Self::Binary => x == 0.0 || x == 1.0,
        }
    }
}

/// A loss of an input and `N − 1` other operands, element by element, with derivatives with respect to `D` of them.
pub trait Pointwise<const N: usize = 2, const D: usize = 1>: Copy + Send + Sync + 'static {
    /// The operands' names.
    const OPERANDS: [&'static str; N] = input_and_target();

    /// How many of the operands must be given; the others are 1 where they are not.
    const REQUIRED: usize = N;

    /// The operands that have derivatives.
    const DIFFERENTIABLE: [usize; D] = first();

    /// How many of those are meant where a call does not say which.
    const ASKED: usize = D;

    /// The operand that may lack the last axis, along which it is the same.
    const SHARED: Option<usize> = None;

    /// Whether the mean of a weighted loss divides by the sum of the weights rather than by the count.
    const WEIGHT_NORMALISES: bool = false;

    /// Whether the losses may be reduced to their sum over the length of the first axis.
    const BATCH_MEAN: bool = false;

    /// The values that each operand may have.
    const DOMAIN: [Domain; N] = [Domain::Real; N];

    /// Whether large gradients are written past the caches by the loop that computes them. That is quicker, but where there are
    /// logarithms.
    const STREAMS: bool = true;

    /// Whether the formula has a [`Pointwise::power`]: worth it where much follows from the exponential.
    const HAS_POWERS: bool = false;

    /// The exponential that the rest of the formula waits for. It is computed in a loop of its own, some vectors ahead: where one
    /// loop would be longer than a processor looks ahead, two wait less.
    #[inline(always)]
    fn power<T: Real>(&self, _: [T; N]) -> T {
        T::ONE
    }

    /// The loss at `[input, target, …]`.
    fn at<T: Real>(&self, operands: [T; N], power: T) -> Jet<T, D>;
}

const fn input_and_target<const N: usize>() -> [&'static str; N] {
    let mut names = ["input"; N];
    names[1] = "target";
    names
}

const fn first<const D: usize>() -> [usize; D] {
    let mut operands = [0; D];
    let mut i = 0;
    while i < D {
        operands[i] = i;
        i += 1;
    }
    operands
}

/// A class of a row: its score and what the target says of it.
#[derive(Clone, Copy, Debug)]
pub struct Class<T> {
    /// The input: a logit or a log-probability.
    pub score: T,
    /// The target's probability of this class, where targets are probabilities.
    pub probability: T,
    /// The weight of the class, or, of [`Rowwise::WEIGHS_ELEMENTS`], of this element.
    pub weight: T,
}

/// What is known of a row before its classes are visited again.
#[derive(Clone, Copy, Debug)]
pub struct Row<T, const K: usize> {
    /// The number of classes.
    pub classes: T,
    /// The largest score, where the formula is [`Rowwise::RELATIVE`].
    pub largest: T,
    /// The sums over the classes, of [`Rowwise::terms`].
    pub sums: [T; K],
    /// The label's class, where targets are labels. Its probability is 1.
    pub label: Class<T>,
}

/// A loss of a row of `C` scores and a label or `C` probabilities, from `K` sums over the classes. Without sums it is of the
/// label's score alone: derivatives with respect to others are 0.
pub trait Rowwise<const K: usize>: Copy + Send + Sync + 'static {
    /// What derivatives need to know of a row, computed once for all its classes.
    type Slopes<T: Real>: Copy;

    /// Whether the weight of a label's class multiplies all of the loss, so that a weight of 0 leaves the sample out.
    const LABEL_WEIGHS_ALL: bool = false;

    /// Whether the mean divides by the weights of the labels' classes rather than by the count.
    const LABEL_WEIGHT_NORMALISES: bool = true;

    /// Whether weights are of elements rather than of classes.
    const WEIGHS_ELEMENTS: bool = false;

    /// Whether scores matter relative to the largest. If not, that is not looked for, and 0 stands in for it.
    const RELATIVE: bool = true;

    /// Whether there is a power of each class that is worth keeping; if not, it is never computed.
    const HAS_POWERS: bool = true;

    /// Whether the label's own class adds to the sums. If not, its terms are those of a class of score −∞.
    const COUNTS_LABEL: bool = true;

    /// Whether [`Self::settle`] does anything.
    const SETTLES: bool = false;

    /// Whether scores are logits, and [`Self::log_normalizer`] says what makes them log-probabilities.
    const HAS_LOG_PROBABILITIES: bool = false;

    /// Whether several rows may be evaluated at once, in bands and tiles. Not those of the label's score alone, which is all that is
    /// read of them, nor those that come from a linear layer block by block.
    const GROUPED: bool = K > 0;

    /// Which of the sums are added up; the others stay 0.
    const NEEDED: [bool; K] = [true; K];

    /// What a class's terms and derivatives both need and is dear to compute: a function of how far its score is below the
    /// largest. It is computed once for both, where a row is short enough to keep it.
    #[inline(always)]
    fn power<T: Real>(&self, fall: T) -> T {
        fall
    }

    /// A class's share of each sum. `largest` is the largest score so far. A class of score −∞, probability 0 and weight 0
    /// must add nothing.
    fn terms<T: Real>(&self, largest: T, label: Class<T>, class: Class<T>, power: T) -> [T; K];

    /// The sums of the terms that were taken at one largest score, as they would be at another, `rise` above: of a relative
    /// formula.
    #[inline(always)]
    fn raise<T: Real>(&self, sums: [T; K], _rise: T) -> [T; K] {
        sums
    }

    /// The sums, and in place of others what is dear to compute of them and needed for more than one of what follows.
    #[inline(always)]
    fn settle<T: Real>(&self, row: &Row<T, K>) -> [T; K] {
        row.sums
    }

    /// The loss.
    fn value<T: Real>(&self, row: &Row<T, K>) -> T;

    /// ln Σ e^(x − m) over the scores x, of which m is the largest.
    #[inline(always)]
    fn log_normalizer<T: Real>(&self, _row: &Row<T, K>) -> T {
        T::NAN
    }

    /// Prepares the derivatives.
    fn slopes<T: Real>(&self, row: &Row<T, K>) -> Self::Slopes<T>;

    /// The first and second derivative with respect to a score that is not the label's.
    fn at<T: Real>(&self, slopes: &Self::Slopes<T>, class: Class<T>, power: T) -> (T, T);

    /// The same with respect to the label's score.
    fn at_label<T: Real>(&self, slopes: &Self::Slopes<T>, class: Class<T>, power: T) -> (T, T);
}

/// A loss of how far the scores of a row's labels, of which it has any number, are above those of the other classes:
/// Σ_j Σ_i φ(x_j − x_i) / C over the labels j and the other classes i.
pub trait LabelSets: Copy + Send + Sync + 'static {
    /// φ at a distance; 0, and its derivatives, at infinity.
    fn at<T: Real>(&self, distance: T) -> Jet<T>;
}

/// A loss of `M` vectors of as many features each, and of a target where it has one, from `K` sums over the features.
///
/// A loss is at least 0. Where it is 0 it is at its least, so that its derivatives are 0 whatever the features.
pub trait Embeddings<const M: usize, const K: usize, const S: usize>: Copy + Send + Sync + 'static {
    /// The operands' names: the vectors', and the target's, where the loss has one.
    const OPERANDS: &'static [&'static str];

    /// The values that a target may have.
    const TARGETS: Domain = Domain::Real;

    /// Whether the formula sees the vectors at unit length, x / √(‖x‖² + ε), and ε. The factor 1/√(‖x‖² + ε) is then a
    /// vector's scale; else its scale is 1.
    const UNIT: Option<f64> = None;

    /// Which of the sums are read; the others are not computed.
    const NEEDED: [bool; K] = [true; K];

    /// A feature's share of each sum, that feature of each vector given.
    fn terms<T: Real>(&self, features: [T; M]) -> [T; K];

    /// The sums over the features of two parts. Zeros are the sums over no features.
    #[inline(always)]
    fn join<T: Real>(&self, mut a: [T; K], b: [T; K]) -> [T; K] {
        for k in 0..K {
            a[k] = a[k] + b[k];
        }
        a
    }

    /// The sums over the features of vectors at unit length, from the scalar product of each with each, itself included: of a
    /// formula with [`Self::UNIT`].
    #[inline(always)]
    fn sums_of_products(&self, _products: [[f64; M]; M]) -> [f64; K] {
        [f64::NAN; K]
    }

    /// The loss.
    fn value<T: Real>(&self, sums: [T; K], scales: [T; M], target: T) -> T;

    /// What derivatives need to know of a row, computed once for all its features.
    fn slopes<T: Real>(&self, sums: [T; K], scales: [T; M], target: T) -> [T; S];

    /// The first derivative with respect to a feature of each vector, as it was before it was scaled.
    fn at<T: Real>(&self, slopes: [T; S], scales: [T; M], features: [T; M]) -> [T; M];
}

/// The two states of a lattice at each position of a sequence of labels, and the probability of being there: a blank, and
/// the label after it. At the last position there is a blank alone.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Of the blank before the label.
    pub blank: Scaled,
    /// Of the label.
    pub label: Scaled,
}

/// A loss of rows of log-probabilities, one row for each step, and a sequence of labels: −ln Σ Π y, over all ways through a
/// lattice of states that begin at the first blank and end at the last one, of the probabilities of what is met on the way.
///
/// The formula is the ways from a step to the next one.
pub trait Sequencewise: Copy + Send + Sync + 'static {
    /// The probability of coming to a position's states, by the step before: of being at them, at the label before them, and
    /// at that label again if it is not the same as this position's, else 0.
    fn forward(&self, here: Position, before: Scaled, unlike_before: Scaled) -> Position;

    /// The probability of going on from a position's states, by the step after: from them, from the position after them, and
    /// from the label there again if it is not the same as this position's, else 0.
    fn backward(&self, here: Position, after: Position, unlike_after: Scaled) -> Position;
}

/// How a prediction p and a target g overlap: sums over the positions of a region. Or a loss's derivatives with respect to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// Σ p g
    pub true_positives: f64,
    /// Σ p (1 − g), or with [`Region::is_squared`] Σ (p − g)² where p > g.
    pub false_positives: f64,
    /// Σ (1 − p) g, or with [`Region::is_squared`] Σ (p − g)² where p < g.
    pub false_negatives: f64,
}

/// A loss of a region: of how a predicted mask and a true one overlap. None of the sums is the difference of others, so that
/// a near-perfect prediction keeps its small errors.
pub trait Region: Send + Sync + 'static {
    /// Whether errors are squared before they are added.
    fn is_squared(&self) -> bool;

    /// The loss, and its derivatives with respect to the sums.
    fn at(&self, overlap: Overlap) -> (f64, Overlap);
}
