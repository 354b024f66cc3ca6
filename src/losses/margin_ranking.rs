use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// Of two scores and the sign y of the order that they should be in, max(0, Δ − y (x₁ − x₂)). At the hinge the slopes are
/// 0, as torch has them.
#[derive(Clone, Copy)]
pub struct MarginRanking {
    /// Δ
    pub margin: f64,
}

impl Pointwise<3, 2> for MarginRanking {
    const OPERANDS: [&'static str; 3] = ["input1", "input2", "target"];
    const DOMAIN: [Domain; 3] = [Domain::Real, Domain::Real, Domain::Sign];

    #[inline(always)]
    fn at<T: Real>(&self, [first, second, y]: [T; 3], _: T) -> Jet<T, 2> {
        let gap = T::of(self.margin) - y * (first - second);
        // `max` would drop a NaN, of which the slope is NaN too.
        let value = if gap <= T::ZERO { T::ZERO } else { gap };
        let slope = if value > T::ZERO { y } else { value };
        Jet { value, slope: [-slope, slope], curvature: [T::ZERO; 2] }
    }
}
