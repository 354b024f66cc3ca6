use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// The negative log-likelihood of t under a normal law of mean x and variance v, (ln v + d²/v)/2 with d = x − t, and in full
/// ln(2π)/2 more. As torch has it, v is at least ε, and the slope with respect to it is that at the bounded v.
///
/// D. Nix and A. Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994.
#[derive(Clone, Copy)]
pub struct GaussianNll<const FULL: bool> {
    /// ε > 0
    pub eps: f64,
}

impl<const FULL: bool> Pointwise<3, 2> for GaussianNll<FULL> {
    const OPERANDS: [&'static str; 3] = ["input", "target", "var"];
    const DIFFERENTIABLE: [usize; 2] = [0, 2];
    const SHARED: Option<usize> = Some(2);
    const DOMAIN: [Domain; 3] = [Domain::Real, Domain::Real, Domain::Interval(0.0, f64::INFINITY)];
    const STREAMS: bool = false;

    #[inline(always)]
    fn at<T: Real>(&self, [x, t, variance]: [T; 3], _: T) -> Jet<T, 2> {
        let (least, half) = (T::of(self.eps), T::of(0.5));
        // `max` would drop a NaN.
        let variance = if variance < least { least } else { variance };
        let slope = (x - t) / variance;
        let excess = (x - t) * slope;
        let value = half * (variance.ln() + excess);
        Jet {
            value: if FULL { value + T::of(std::f64::consts::TAU.ln() / 2.0) } else { value },
            slope: [slope, half * (T::ONE - excess) / variance],
            curvature: [T::ONE / variance, (excess - half) / variance / variance],
        }
    }
}
