use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// The hinge of a margin y x of a sign y, max(0, 1 − y x). Its slope at the hinge is 0.
///
/// C. Cortes and V. Vapnik, Support-vector networks, Machine Learning 20, 1995.
#[derive(Clone, Copy)]
pub struct Hinge;

impl Pointwise for Hinge {
    const DOMAIN: [Domain; 2] = [Domain::Real, Domain::Sign];

    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], _: T) -> Jet<T> {
        let gap = T::ONE - y * x;
        let (value, slope) = if gap > T::ZERO { (gap, -y) } else { (T::ZERO, T::ZERO) };
        // A comparison would drop a NaN.
        let (value, slope) = if gap.is_nan() { (gap, gap) } else { (value, slope) };
        Jet { value, slope: [slope], curvature: [T::ZERO] }
    }
}
