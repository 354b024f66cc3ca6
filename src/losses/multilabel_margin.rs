use crate::loss::{Jet, LabelSets};
use crate::real::Real;

/// The margin loss of several labels, Σ max(0, 1 − (x_j − x_i)) / C over the labels j and the other classes i.
#[derive(Clone, Copy)]
pub struct MultilabelMargin;

impl LabelSets for MultilabelMargin {
    #[inline(always)]
    fn at<T: Real>(&self, distance: T) -> Jet<T> {
        let rest = T::ONE - distance;
        // A NaN stays one: it is what is compared with.
        let value = T::ZERO.max(rest);
        Jet { value, slope: [-value.sign()], curvature: [T::ZERO] }
    }
}
