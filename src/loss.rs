//! What a loss is: its formula at a point, over a row of scores, or for each pair of them.
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

/// A loss of a row of `C` scores and a label or `C` probabilities, from `K` sums over the classes.
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

    /// Which of the sums are read; the others are not computed.
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

    /// The loss.
    fn value<T: Real>(&self, row: &Row<T, K>) -> T;

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
    /// φ at a distance.
    fn at<T: Real>(&self, distance: T) -> Jet<T>;
}
