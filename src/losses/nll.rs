use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;

/// The negative log-likelihood of a label y under log-probabilities x, −w_y x_y.
#[derive(Clone, Copy)]
pub struct NegativeLogLikelihood;

impl Rowwise<0> for NegativeLogLikelihood {
    type Slopes<T: Real> = ();

    const LABEL_WEIGHS_ALL: bool = true;
    const RELATIVE: bool = false;
    const HAS_POWERS: bool = false;

    #[inline(always)]
    fn terms<T: Real>(&self, _: T, _: Class<T>, _: Class<T>, _: T) -> [T; 0] {
        []
    }

    #[inline(always)]
    fn value<T: Real>(&self, row: &Row<T, 0>) -> T {
        -(row.label.weight * row.label.score)
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, _: &Row<T, 0>) {}

    #[inline(always)]
    fn at<T: Real>(&self, (): &(), _: Class<T>, _: T) -> (T, T) {
        (T::ZERO, T::ZERO)
    }

    #[inline(always)]
    fn at_label<T: Real>(&self, (): &(), class: Class<T>, _: T) -> (T, T) {
        (-class.weight, T::ZERO)
    }
}
