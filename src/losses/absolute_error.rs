use crate::loss::{Jet, Pointwise};
use crate::real::Real;

/// The absolute error, |d| with d = x − y. Its slope at 0 is 0.
#[derive(Clone, Copy)]
pub struct AbsoluteError;

impl Pointwise for AbsoluteError {
    const WEIGHT_NORMALISES: bool = true;

    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], _: T) -> Jet<T> {
        let d = x - y;
        Jet { value: d.abs(), slope: [d.sign()], curvature: [T::ZERO] }
    }
}
