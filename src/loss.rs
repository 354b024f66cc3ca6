//! What a loss is: its formula at a point, or over a row of scores.
//!
//! A formula is plain generic Rust over [`Real`], without branches on its operands: a choice is written
//! `if a > b { a } else { b }`, which becomes a select. Drivers inline it into their loops, drop the parts that a call does
//! not ask for, and deal with everything else: types, strides, tails, weights, reductions, threads and instruction sets.

use crate::real::Real;

/// A loss at a point, and its derivatives with respect to the input there.
#[derive(Clone, Copy, Debug)]
pub struct Jet<T> {
    /// The loss.
    pub value: T,
    /// Its first derivative.
    pub slope: T,
    /// Its second derivative.
    pub curvature: T,
}

/// A loss of an input and `N − 1` other operands, element by element.
pub trait Pointwise<const N: usize = 2>: Copy + Send + Sync + 'static {
    /// Whether the mean of a weighted loss divides by the sum of the weights rather than by the count.
    const WEIGHT_NORMALISES: bool = false;

    /// The closed interval that each operand must lie in, if it must. A NaN may lie anywhere.
    const DOMAIN: [Option<(f64, f64)>; N] = [None; N];

    /// The loss at `[input, target, …]`.
    fn at<T: Real>(&self, operands: [T; N]) -> Jet<T>;
}

/// A class of a row: its score and what the target says of it.
#[derive(Clone, Copy, Debug)]
pub struct Class<T> {
    /// The input: a logit or a log-probability.
    pub score: T,
    /// The target's probability of this class, where targets are probabilities.
    pub probability: T,
    /// The weight of the class.
    pub weight: T,
}

/// What is known of a row before its classes are visited again.
#[derive(Clone, Copy, Debug)]
pub struct Row<T, const K: usize> {
    /// The largest score.
    pub largest: T,
    /// The sums over the classes, of [`Rowwise::terms`].
    pub sums: [T; K],
    /// The label's class, where targets are labels. Its probability is 1.
    pub label: Class<T>,
}

/// A loss of a row of `C` scores and a label or `C` probabilities, from `K` sums over the classes.
pub trait Rowwise<const K: usize>: Copy + Send + Sync + 'static {
    /// What derivatives need to know of a row, computed once for all its classes.
    type Slopes<T: Real>: Copy;

    /// Whether the weight of a label's class multiplies all of the loss, so that a weight of 0 leaves the sample out.
    const LABEL_WEIGHS_ALL: bool = false;

    /// Which of the sums are read; the others are not computed.
    const NEEDED: [bool; K] = [true; K];

    /// What a class's terms and derivatives both need and is dear to compute: a function of how far its score is below the
    /// largest. It is computed once for both, where a row is short enough to keep it.
    fn power<T: Real>(&self, fall: T) -> T;

    /// A class's share of each sum. `largest` is the largest score so far. A class of score −∞, probability 0 and weight 0
    /// must add nothing.
    fn terms<T: Real>(&self, largest: T, class: Class<T>, power: T) -> [T; K];

    /// The sums of the terms that were taken at one largest score, as they would be at another, `rise` above.
    fn raise<T: Real>(&self, sums: [T; K], rise: T) -> [T; K];

    /// The loss.
    fn value<T: Real>(&self, row: &Row<T, K>) -> T;

    /// Prepares the derivatives.
    fn slopes<T: Real>(&self, row: &Row<T, K>) -> Self::Slopes<T>;

    /// The first and second derivative with respect to a score that is not the label's.
    fn at<T: Real>(&self, slopes: &Self::Slopes<T>, class: Class<T>, power: T) -> (T, T);

    /// The same with respect to the label's score.
    fn at_label<T: Real>(&self, slopes: &Self::Slopes<T>, class: Class<T>, power: T) -> (T, T);
}

/// A loss of `M` vectors of as many features each, and of a target where it has one, from `K` sums over the features.
///
/// A loss is at least 0. Where it is 0 it is at its least, so that its derivatives are 0 whatever the features.
pub trait Embeddings<const M: usize, const K: usize, const S: usize>: Copy + Send + Sync + 'static {
    /// What a target must be one of, where the loss has one.
    const TARGETS: Option<[f64; 2]> = None;

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

    /// The loss.
    fn value<T: Real>(&self, sums: [T; K], scales: [T; M], target: T) -> T;

    /// What derivatives need to know of a row, computed once for all its features.
    fn slopes<T: Real>(&self, sums: [T; K], scales: [T; M], target: T) -> [T; S];

    /// The first derivative with respect to a feature of each vector, as it was before it was scaled.
    fn at<T: Real>(&self, slopes: [T; S], scales: [T; M], features: [T; M]) -> [T; M];
}
