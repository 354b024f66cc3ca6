use crate::loss::{Jet, Pointwise};
use crate::real::Real;

/// The smooth absolute error of d = x − y: d²/2β below |d| = β, and |d| − β/2 from there on; β = 0 is the absolute error.
///
/// R. Girshick, Fast R-CNN, ICCV 2015.
#[derive(Clone, Copy)]
pub struct SmoothL1 {
    /// β ≥ 0
    pub beta: f64,
}

impl Pointwise for SmoothL1 {
    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], _: T) -> Jet<T> {
        let (d, beta, half) = (x - y, T::of(self.beta), T::of(0.5));
        let ratio = d / beta;
        let (near, far) = (half * d * ratio, d.abs() - half * beta);
        let inside = d.abs() < beta;
        Jet {
            value: if inside { near } else { far },
            slope: [if inside { ratio } else { d.sign() }],
            curvature: [if inside { T::ONE / beta } else { T::ZERO }],
        }
    }
}
