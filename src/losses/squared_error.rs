use crate::loss::{Jet, Pointwise};
use crate::real::Real;

/// The squared error, d² with d = x − y.
#[derive(Clone, Copy)]
pub struct SquaredError;

impl Pointwise for SquaredError {
    const WEIGHT_NORMALISES: bool = true;

    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], _: T) -> Jet<T> {
        let d = x - y;
        Jet { value: d * d, slope: [d + d], curvature: [T::of(2.0)] }
    }
}
