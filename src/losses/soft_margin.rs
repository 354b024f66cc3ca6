use crate::loss::{Domain, Jet, Pointwise};
use crate::real::Real;

/// The logistic loss of a margin m = y x, ln(1 + e^−m), of a sign y: |m| and ln(1 + e^−|m|) neither overflow nor cancel.
#[derive(Clone, Copy)]
pub struct SoftMargin;

impl Pointwise for SoftMargin {
    const DOMAIN: [Domain; 2] = [Domain::Real, Domain::Sign];
    const HAS_POWERS: bool = true;

    #[inline(always)]
    fn power<T: Real>(&self, [x, y]: [T; 2]) -> T {
        (-(y * x).abs()).exp_nonpositive()
    }

    #[inline(always)]
    fn at<T: Real>(&self, [x, y]: [T; 2], small: T) -> Jet<T> {
        let margin = y * x;
        let larger = T::ONE / (T::ONE + small);
        let smaller = small * larger;
        let complement = if margin > T::ZERO { smaller } else { larger };
        let linear = if margin > T::ZERO { T::ZERO } else { -margin };
        Jet { value: linear + small.ln_1p_fraction(), slope: [-y * complement], curvature: [larger * smaller] }
    }
}
