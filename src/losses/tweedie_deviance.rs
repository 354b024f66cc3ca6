use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// Predictions and targets that must be positive are normal numbers, of single precision too.
const POSITIVE: Domain = Domain::Interval(f32::MIN_POSITIVE as f64, f64::INFINITY);

/// The powers for which the deviance has a form or a domain of its own.
pub mod family {
    /// p = 1
    pub const POISSON: u8 = 0;
    /// p = 2
    pub const GAMMA: u8 = 1;
    /// 1 < p < 2
    pub const COMPOUND: u8 = 2;
    /// p > 2
    pub const STABLE: u8 = 3;
    /// p < 0
    pub const EXTREME: u8 = 4;
}

/// Tweedie's deviance of a mean μ from a target y, for the variance μ^p:
///
/// 2 (y^(2−p) / ((1−p)(2−p)) − y μ^(1−p) / (1−p) + μ^(2−p) / (2−p)),
///
/// with the limits 2 (y ln(y/μ) − y + μ) at p = 1 and 2 (ln(μ/y) + y/μ − 1) at p = 2.
///
/// B. Jørgensen, Exponential dispersion models, Journal of the Royal Statistical Society B 49, 1987.
#[derive(Clone, Copy)]
pub struct TweedieDeviance<const FAMILY: u8> {
    /// p
    pub power: f64,
}

impl<const FAMILY: u8> Pointwise for TweedieDeviance<FAMILY> {
    const DOMAIN: [Domain; 2] = match FAMILY {
        family::EXTREME => [POSITIVE, Domain::Real],
        family::POISSON | family::COMPOUND => [POSITIVE, Domain::Interval(0.0, f64::INFINITY)],
        _ => [POSITIVE, POSITIVE],
    };
    const STREAMS: bool = false;

    #[inline(always)]
    fn at<T: Real>(&self, [mean, y]: [T; 2], _: T) -> Jet<T> {
        let (two, p) = (T::of(2.0), T::of(self.power));
        let gap = y - mean;
        let relative = gap / mean;
        // ln(y/μ), from the difference: so that less cancels where the two are near.
        let logarithm = relative.ln_1p();
        let (value, scale) = match FAMILY {
            family::POISSON => {
                let product = if y == T::ZERO { T::ZERO } else { y * logarithm };
                (product - gap, T::ONE / mean)
            }
            family::GAMMA => (relative - logarithm, T::ONE / (mean * mean)),
            _ => {
                let (one, other) = (T::of(1.0 - self.power), T::of(2.0 - self.power));
                let base = if y > T::ZERO { y } else { T::ZERO };
                let base = if y.is_nan() { y } else { base };
                let power = mean.pow(one);
                let terms = base.pow(other) / (one * other) - y * power / one;
                (terms + mean * power / other, power / mean)
            }
        };
        let curvature = two * scale * p.mul_add(relative, T::ONE);
        Jet { value: two * value, slope: [-(two * gap) * scale], curvature: [curvature] }
    }
}
