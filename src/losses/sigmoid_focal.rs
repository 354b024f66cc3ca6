use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// The binary cross-entropy c of a logit x and a target t, times q^γ, where q = t (1 − p) + (1 − t) p with p = σ(x) is how far the
/// prediction is from the target; and times α_t = α t + (1 − α) (1 − t).
///
/// c and q come from e^−|x| and nothing in them cancels. Derivatives are written with q′/q, which is bounded where q^(γ−1) is
/// not, so that γ < 1 is as good as any. γ = 2 needs no power.
///
/// T.-Y. Lin et al., Focal loss for dense object detection, ICCV 2017; soft targets as torchvision has them.
#[derive(Clone, Copy)]
pub struct SigmoidFocal<const SQUARE: bool> {
    /// The weight of a positive and of a negative target.
    pub balance: (f64, f64),
    /// γ ≥ 0
    pub gamma: f64,
}

impl<const SQUARE: bool> Pointwise for SigmoidFocal<SQUARE> {
    const DOMAIN: [Domain; 2] = [Domain::Real, Domain::Interval(0.0, 1.0)];
    const HAS_POWERS: bool = true;

    #[inline(always)]
    fn power<T: Real>(&self, [x, _]: [T; 2]) -> T {
        (-x.abs()).exp_nonpositive()
    }

    #[inline(always)]
    fn at<T: Real>(&self, [x, t]: [T; 2], small: T) -> Jet<T> {
        let (two, gamma) = (T::of(2.0), T::of(self.gamma));
        let softplus = small.ln_1p_fraction();
        let larger = T::ONE / (T::ONE + small);
        let smaller = small * larger;
        let (p, complement) = if x > T::ZERO { (larger, smaller) } else { (smaller, larger) };
        let part = |weight: T, magnitude: T| if weight == T::ZERO { weight } else { weight * (magnitude + softplus) };
        let negative = T::ONE - t;
        let entropy = part(negative, x.max(T::ZERO)) + part(t, (-x).max(T::ZERO));
        let away = t * complement + negative * p;
        let power = if SQUARE { away * away } else { away.pow(gamma) };
        let weight = (T::of(self.balance.0) * t + T::of(self.balance.1) * negative) * power;
        // Derivatives of c, and of q over q; of a q that has underflowed all is 0.
        let variance = larger * smaller;
        let entropy_slope = negative * p - t * complement;
        let ratio = if away == T::ZERO { T::ZERO } else { (negative - t) * variance / away };
        // 0 · ∞ = 0: far from the target q is flat before c is infinite, and a target that is met for certain has no loss.
        let pull = if ratio == T::ZERO { ratio } else { ratio * entropy };
        let times = |entropy: T| if weight == T::ZERO { weight } else { weight * entropy };
        Jet {
            value: times(entropy),
            slope: [times(entropy_slope + gamma * pull)],
            curvature: [times(
                variance + gamma * (two * ratio * entropy_slope + pull * ((gamma - T::ONE) * ratio + complement - p)),
            )],
        }
    }
}
