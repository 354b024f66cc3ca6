use super::cross_entropy::{CrossEntropy, Slopes};
use crate::drive::{linear, rows};
use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;

/// The cross-entropy of a linear layer's logits and a label.
pub struct LinearCrossEntropy {
    /// ε, as cross-entropy has it.
    pub label_smoothing: f64,
    /// What the square of lse(x) is multiplied by.
    pub z_loss: f64,
    /// What logits are bounded by.
    pub softcap: Option<f64>,
}

impl linear::Loss for LinearCrossEntropy {
    fn softcap(&self) -> Option<f64> {
        self.softcap
    }

    fn has_unweighted_part(&self) -> bool {
        self.z_loss != 0.0
    }

    fn formula(&self, unweighted: f64) -> Box<dyn rows::Loss> {
        let (label_smoothing, z_loss) = (self.label_smoothing, self.z_loss * unweighted);
        let plain = CrossEntropy::<false, false> { label_smoothing };
        let smoothed = CrossEntropy::<false, true> { label_smoothing };
        match (label_smoothing > 0.0, self.z_loss != 0.0) {
            (false, false) => Box::new(rows::Formula(plain)),
            (true, false) => Box::new(rows::Formula(smoothed)),
            (false, true) => Box::new(rows::Formula(ZLoss { cross_entropy: plain, z_loss })),
            (true, true) => Box::new(rows::Formula(ZLoss { cross_entropy: smoothed, z_loss })),
        }
    }
}

/// Cross-entropy plus z lse(x)², which keeps the logits from drifting and has no weight of a class (Chowdhery et al., PaLM:
/// scaling language modeling with pathways, 2022).
#[derive(Clone, Copy)]
struct ZLoss<const SMOOTHED: bool> {
    cross_entropy: CrossEntropy<false, SMOOTHED>,
    /// z
    z_loss: f64,
}

impl<const SMOOTHED: bool> Rowwise<7> for ZLoss<SMOOTHED> {
    /// Those of cross-entropy, 2 z lse(x), and 2 z.
    type Slopes<T: Real> = (Slopes<T>, T, T);

    const GROUPED: bool = false;
    const NEEDED: [bool; 7] = <CrossEntropy<false, SMOOTHED> as Rowwise<7>>::NEEDED;

    #[inline(always)]
    fn power<T: Real>(&self, fall: T) -> T {
        self.cross_entropy.power(fall)
    }

    #[inline(always)]
    fn terms<T: Real>(&self, largest: T, label: Class<T>, class: Class<T>, power: T) -> [T; 7] {
        self.cross_entropy.terms(largest, label, class, power)
    }

    #[inline(always)]
    fn raise<T: Real>(&self, sums: [T; 7], rise: T) -> [T; 7] {
        self.cross_entropy.raise(sums, rise)
    }

    #[inline(always)]
    fn value<T: Real>(&self, row: &Row<T, 7>) -> T {
        let lse = row.largest + self.cross_entropy.slopes(row).others.ln_1p();
        self.cross_entropy.value(row) + T::of(self.z_loss) * (lse * lse)
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, row: &Row<T, 7>) -> Self::Slopes<T> {
        let slopes = self.cross_entropy.slopes(row);
        let twice = T::of(2.0 * self.z_loss);
        (slopes, twice * (row.largest + slopes.others.ln_1p()), twice)
    }

    /// Of the second part, 2 z lse p, and 2 z lse p (1 − p) + 2 z p².
    #[inline(always)]
    fn at<T: Real>(&self, slopes: &Self::Slopes<T>, class: Class<T>, power: T) -> (T, T) {
        plus(self.cross_entropy.at(&slopes.0, class, power), slopes, power)
    }

    #[inline(always)]
    fn at_label<T: Real>(&self, slopes: &Self::Slopes<T>, class: Class<T>, power: T) -> (T, T) {
        plus(self.cross_entropy.at_label(&slopes.0, class, power), slopes, power)
    }
}

#[inline(always)]
fn plus<T: Real>((slope, curvature): (T, T), slopes: &(Slopes<T>, T, T), power: T) -> (T, T) {
    let (slopes, once, twice) = *slopes;
    let probability = power / slopes.total;
    let curved = probability * (once * (T::ONE - probability) + twice * probability);
    (slope + once * probability, curvature + curved)
}
