use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;

/// The binary cross-entropies of a row's logits x and targets t, −w (t ln σ(x) + (1 − t) ln σ(−x)), and of those the mean.
///
/// Both logarithms come from ln(1 + e^−|x|), neither of which cancels; at infinite logits a part of weight 0 is 0.
#[derive(Clone, Copy)]
pub struct MultilabelSoftMargin;

/// What derivatives need: the number of classes.
#[derive(Clone, Copy)]
pub struct Slopes<T>(T);

impl Rowwise<1> for MultilabelSoftMargin {
    type Slopes<T: Real> = Slopes<T>;

    const WEIGHS_ELEMENTS: bool = true;
    const RELATIVE: bool = false;

    /// e^−|x|
    #[inline(always)]
    fn power<T: Real>(&self, score: T) -> T {
        (-score.abs()).exp_nonpositive()
    }

    #[inline(always)]
    fn terms<T: Real>(&self, _: T, _: Class<T>, class: Class<T>, power: T) -> [T; 1] {
        let Class { score, probability, weight } = class;
        let softplus = power.ln_1p_fraction();
        let part = |share: T, magnitude: T| if share == T::ZERO { share } else { share * (magnitude + softplus) };
        let loss = part(T::ONE - probability, score.max(T::ZERO)) + part(probability, (-score).max(T::ZERO));
        [if weight == T::ZERO { T::ZERO } else { weight * loss }]
    }

    #[inline(always)]
    fn value<T: Real>(&self, row: &Row<T, 1>) -> T {
        row.sums[0] / row.classes
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, row: &Row<T, 1>) -> Slopes<T> {
        Slopes(row.classes)
    }

    /// w (σ(x) − t) / C; and w σ(x) σ(−x) / C.
    #[inline(always)]
    fn at<T: Real>(&self, &Slopes(classes): &Slopes<T>, class: Class<T>, power: T) -> (T, T) {
        let Class { score, probability, weight } = class;
        let larger = T::ONE / (T::ONE + power);
        let smaller = power * larger;
        let (sigmoid, complement) = if score > T::ZERO { (larger, smaller) } else { (smaller, larger) };
        let scale = weight / classes;
        let slope = scale * ((T::ONE - probability) * sigmoid - probability * complement);
        let curvature = scale * (sigmoid * complement);
        if weight == T::ZERO { (T::ZERO, T::ZERO) } else { (slope, curvature) }
    }

    /// No target is a label.
    #[inline(always)]
    fn at_label<T: Real>(&self, slopes: &Slopes<T>, class: Class<T>, power: T) -> (T, T) {
        self.at(slopes, class, power)
    }
}
