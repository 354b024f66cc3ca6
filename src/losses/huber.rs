use crate::loss::{Jet, Pointwise};
use crate::real::Real;

/// Huber's loss of d = x − y: d²/2 up to |d| = δ, and δ(|d| − δ/2) beyond.
///
/// P. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.
#[derive(Clone, Copy)]
pub struct Huber {
    /// δ > 0
    pub delta: f64,
}

impl Pointwise for Huber {
    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], _: T) -> Jet<T> {
        let (d, delta) = (x - y, T::of(self.delta));
        let slope = d.clamp(-delta, delta);
        Jet { value: slope * (d - T::of(0.5) * slope), slope: [slope], curvature: [T::one_if(d.abs() <= delta)] }
    }
}
