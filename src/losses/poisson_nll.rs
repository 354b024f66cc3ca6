use crate::loss::{Jet, Pointwise};
use crate::real::Real;

/// The negative log-likelihood of a count t under Poisson's law: e^x − t x of the logarithm x of its mean, or x − t ln(x + ε)
/// of the mean x itself. In full, Stirling's t ln t − t + ln(2πt)/2 stands for ln t! where t > 1, as torch has it.
#[derive(Clone, Copy)]
pub struct PoissonNll<const LOG_INPUT: bool, const FULL: bool> {
    /// ε
    pub eps: f64,
}

impl<const LOG_INPUT: bool, const FULL: bool> Pointwise for PoissonNll<LOG_INPUT, FULL> {
    const HAS_POWERS: bool = LOG_INPUT;
    const STREAMS: bool = LOG_INPUT;

    #[inline(always)]
    fn power<T: Real>(&self, [x, _]: [T; 2]) -> T {
        x.exp()
    }

    #[inline(always)]
    fn at<T: Real>(&self, [x, t]: [T; 2], mean: T) -> Jet<T> {
        // 0 · ∞ = 0: a count of 0 is certain where the mean is 0.
        let times = |logarithm: T| if t == T::ZERO { T::ZERO } else { t * logarithm };
        // The same of x, which would be read by masked loads if t alone chose.
        let times_input = if (t == T::ZERO) & (x.abs() == T::INFINITY) { T::ZERO } else { t * x };
        let (mean, logarithmic, slope, curvature) = if LOG_INPUT {
            (mean, times_input, mean - t, mean)
        } else {
            let mean = x + T::of(self.eps);
            let certain = (t == T::ZERO) & (mean == T::ZERO);
            let ratio = if certain { t } else { t / mean };
            (x, times(mean.ln()), T::ONE - ratio, if certain { t } else { ratio / mean })
        };
        // ∞ − ∞ = ∞: the mean grows faster than its logarithm.
        let value = if (mean == T::INFINITY) & (logarithmic == T::INFINITY) { mean } else { mean - logarithmic };
        let value = if FULL {
            let half = T::of(0.5);
            // Ordered so that nothing overflows before the result does.
            let stirling = (t + half) * t.ln() - t + T::of(std::f64::consts::TAU.ln() / 2.0);
            if t > T::ONE { value + stirling } else { value }
        } else {
            value
        };
        Jet { value, slope: [slope], curvature: [curvature] }
    }
}
