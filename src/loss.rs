//! What a loss is: its formula at a point, or over a row of scores.
//!
//! A formula is plain generic Rust over [`Real`], without branches on its operands: a choice is written
//! `if a > b { a } else { b }`, which becomes a select. Drivers inline it into their loops, drop the parts that a call does
//! not ask for, and deal with everything else: types, strides, tails, weights, reductions, threads and instruction sets.

use crate::real::{Real, Scaled};

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
    fn forward(here: Position, before: Scaled, unlike_before: Scaled) -> Position;

    /// The probability of going on from a position's states, by the step after: from them, from the position after them, and
    /// from the label there again if it is not the same as this position's, else 0.
    fn backward(here: Position, after: Position, unlike_after: Scaled) -> Position;
}
