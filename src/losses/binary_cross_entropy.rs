use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// The cross-entropy of a probability p and a target t, −t ln p − (1 − t) ln(1 − p).
///
/// As torch has it, logarithms are bounded by −100 and the gradient's denominator p(1 − p) by 1e−12, so that a certain and
/// wrong prediction costs 100.
#[derive(Clone, Copy)]
pub struct BinaryCrossEntropy;

impl Pointwise for BinaryCrossEntropy {
    const DOMAIN: [Domain; 2] = [Domain::Interval(0.0, 1.0); 2];
    const STREAMS: bool = false;

    #[inline(always)]
    fn at<T: Real>(&self, [p, t]: [T; 2], _: T) -> Jet<T> {
        let least = T::of(-100.0);
        // `max` would drop a NaN.
        let bounded = |logarithm: T| if logarithm < least { least } else { logarithm };
        let variance = p * (T::ONE - p);
        let variance = if variance < T::of(1e-12) { T::of(1e-12) } else { variance };
        let slope = (p - t) / variance;
        Jet {
            value: -(t * bounded(p.ln()) + (T::ONE - t) * bounded((-p).ln_1p())),
            slope: [slope],
            // The derivative of the quotient, where the denominator is not bounded.
            curvature: [(T::ONE - slope * (T::ONE - p - p)) / variance],
        }
    }
}

/// The same of a logit x, p = σ(x), with a weight c of the positive part: −c t ln σ(x) − (1 − t) ln σ(−x).
///
/// Both logarithms come from ln(1 + e^−|x|), neither of which cancels; at infinite logits a part of weight 0 is 0.
#[derive(Clone, Copy)]
pub struct BinaryCrossEntropyWithLogits;

impl Pointwise<3> for BinaryCrossEntropyWithLogits {
    const OPERANDS: [&'static str; 3] = ["input", "target", "pos_weight"];
    const REQUIRED: usize = 2;
    const HAS_POWERS: bool = true;

    #[inline(always)]
    fn power<T: Real>(&self, [x, ..]: [T; 3]) -> T {
        (-x.abs()).exp_nonpositive()
    }

    #[inline(always)]
    fn at<T: Real>(&self, [x, t, pos_weight]: [T; 3], small: T) -> Jet<T> {
        let (negative, positive) = (T::ONE - t, pos_weight * t);
        let (softplus, larger) = (small.ln_1p_fraction(), T::ONE / (T::ONE + small));
        // max(x, 0) of the negative part and max(−x, 0) of the positive one are x times the weight that is not 0 there; and
        // that is also what the larger of σ(x) and σ(−x) goes with.
        let (with_larger, with_smaller) = if x > T::ZERO { (negative, -positive) } else { (-positive, negative) };
        let both = (negative + positive) * softplus;
        Jet {
            value: if with_larger == T::ZERO { both } else { with_larger.mul_add(x, both) },
            slope: [with_smaller.mul_add(small, with_larger) * larger],
            curvature: [(negative + positive) * (small * larger) * larger],
        }
    }
}
