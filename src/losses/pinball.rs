use crate::loss::{Jet, Pointwise};
use crate::real::Real;

/// The pinball loss of d = y − x: α d where the prediction is below the target, and (α − 1) d above. Its slope at 0 is −α.
///
/// R. Koenker and G. Bassett, Regression quantiles, Econometrica 46, 1978.
#[derive(Clone, Copy)]
pub struct Pinball {
    /// α in \[0, 1\]
    pub alpha: f64,
}

impl Pointwise for Pinball {
    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], _: T) -> Jet<T> {
        let (d, below, above) = (y - x, T::of(self.alpha), T::of(1.0 - self.alpha));
        let slope = if d < T::ZERO { above } else { -below };
        // 0 · ∞ = 0, and a NaN has a slope of NaN.
        let slope = if d.is_nan() { d } else { slope };
        let value = if slope == T::ZERO { T::ZERO } else { -slope * d };
        Jet { value, slope: [slope], curvature: [T::ZERO] }
    }
}
