use crate::loss::{Jet, Pointwise};
use crate::real::Real;

/// The Kullback–Leibler divergence's share of a class, t (ln t − x), of a log-probability x and a target t; or e^t (t − x) of
/// its logarithm. A probability of 0 has no share, whatever x is.
///
/// S. Kullback and R. Leibler, On information and sufficiency, Annals of Mathematical Statistics 22, 1951.
#[derive(Clone, Copy)]
pub struct KlDiv<const LOG_TARGET: bool>;

impl<const LOG_TARGET: bool> Pointwise<2, 2> for KlDiv<LOG_TARGET> {
    const ASKED: usize = 1;
    const BATCH_MEAN: bool = true;
    const STREAMS: bool = false;

    #[inline(always)]
    fn at<T: Real>(&self, [x, t]: [T; 2], _: T) -> Jet<T, 2> {
        let (probability, logarithm) = if LOG_TARGET { (t.exp(), t) } else { (t, t.ln()) };
        let ratio = logarithm - x;
        // Of a finite x the share is a product, whose zero needs no choice (and + 0 makes it a positive one): where all were chosen by the probability, x would be
        // read by masked loads, which take four times as long.
        let (is_nothing, product) = (probability == T::ZERO, probability * ratio);
        let finite = probability * (if is_nothing { T::ZERO } else { logarithm } - x) + T::ZERO;
        let other = if is_nothing { T::ZERO } else { product };
        let value = if x.abs() < T::INFINITY { finite } else { other };
        let (slope, curvature) = if LOG_TARGET {
            (value + probability, value + probability + probability)
        } else {
            (ratio + T::ONE, T::ONE / t)
        };
        Jet { value, slope: [-probability, slope], curvature: [T::ZERO, curvature] }
    }
}
