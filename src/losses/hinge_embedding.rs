use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// Of a distance x and a sign y: x where y = 1, and max(0, Δ − x) where y = −1. At the hinge the slope is 0, as torch has it.
#[derive(Clone, Copy)]
pub struct HingeEmbedding {
    /// Δ
    pub margin: f64,
}

impl Pointwise for HingeEmbedding {
    const DOMAIN: [Domain; 2] = [Domain::Real, Domain::Sign];

    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], _: T) -> Jet<T> {
        let gap = T::of(self.margin) - x;
        // `max` would drop a NaN, of which the slope is NaN too.
        let hinge = if gap <= T::ZERO { T::ZERO } else { gap };
        let slope = if hinge > T::ZERO { -T::ONE } else { hinge };
        let line = if gap.abs() >= T::ZERO { T::ONE } else { gap };
        let (value, slope) = if y > T::ZERO { (x, line) } else { (hinge, slope) };
        Jet { value, slope: [slope], curvature: [T::ZERO] }
    }
}
