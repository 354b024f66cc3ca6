use crate::loss::{Overlap, Region};
use crate::real::Real;

/// The complement of Tversky's index with its smoothing, to a power: (1 − (TP + n) / (TP + α FP + β FN + d))^γ.
///
/// Its numerator is computed as α FP + β FN + (d − n), without the difference of near numbers. With α = β = ½ it is the
/// complement of Dice's coefficient 2 TP / (2 TP + FP + FN), whose smoothing is twice as large, and with α = β = 1 that of
/// Jaccard's index. 0/0, of empty masks without smoothing, is 0: nothing is wrong.
///
/// F. Milletari et al., V-Net, 3DV 2016 (Dice, squared errors). S. Salehi et al., Tversky loss function for image
/// segmentation, MLMI 2017. N. Abraham and N. Khan, A novel focal Tversky loss function, ISBI 2019; their γ is 1/γ here.
/// A. Rahman and Y. Wang, Optimizing intersection-over-union in deep neural networks, ISVC 2016 (Jaccard).
pub struct Tversky {
    /// α, the weight of false positives.
    pub alpha: f64,
    /// β, the weight of false negatives.
    pub beta: f64,
    /// γ
    pub gamma: f64,
    /// n
    pub smooth_numerator: f64,
    /// d, no less than n, so that the loss is not negative.
    pub smooth_denominator: f64,
    /// Whether errors are squared.
    pub squared: bool,
}

impl Region for Tversky {
    fn is_squared(&self) -> bool {
        self.squared
    }

    fn at(&self, overlap: Overlap) -> (f64, Overlap) {
        let Overlap { true_positives, false_positives, false_negatives } = overlap;
        let errors = self.alpha * false_positives + self.beta * false_negatives;
        let denominator = true_positives + errors + self.smooth_denominator;
        if denominator == 0.0 {
            return (0.0, Overlap::default());
        }
        let loss = (errors + (self.smooth_denominator - self.smooth_numerator)) / denominator;
        let index = (true_positives + self.smooth_numerator) / denominator;
        let (value, slope) = if self.gamma == 1.0 {
            (loss, 1.0)
        } else if loss == 0.0 {
            // A minimum; below γ = 1 it is a cusp.
            (0.0, 0.0)
        } else {
            let value = Real::pow(loss, self.gamma);
            (value, self.gamma * (value / loss))
        };
        let derivatives = Overlap {
            true_positives: -slope * (loss / denominator),
            false_positives: slope * self.alpha * (index / denominator),
            false_negatives: slope * self.beta * (index / denominator),
        };
        (value, derivatives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Derivatives are what differences say, and the value is one minus the index.
        #[test]
        fn derivatives_are_those_of_the_value(
            alpha in 0.1..2.0, beta in 0.1..2.0, gamma in prop::sample::select(vec![0.5, 0.75, 1.0, 2.0]),
            sums in (0.5..9.0, 0.5..9.0, 0.5..9.0), smooth in 0.0..1.0, extra in 0.0..1.0,
        ) {
            let loss = Tversky {
                alpha, beta, gamma, smooth_numerator: smooth, smooth_denominator: smooth + extra, squared: false,
            };
            let at = |x, y, z| loss.at(Overlap { true_positives: x, false_positives: y, false_negatives: z });
            let (x, y, z) = sums;
            let (value, slopes) = at(x, y, z);
            let index = (x + smooth) / (x + alpha * y + beta * z + smooth + extra);
            prop_assert!((value - f64::powf(1.0 - index, gamma)).abs() < 1e-14);
            let h = 1e-6;
            let difference = |high: (f64, Overlap), low: (f64, Overlap)| (high.0 - low.0) / (2.0 * h);
            prop_assert!((difference(at(x + h, y, z), at(x - h, y, z)) - slopes.true_positives).abs() < 1e-8);
            prop_assert!((difference(at(x, y + h, z), at(x, y - h, z)) - slopes.false_positives).abs() < 1e-8);
            prop_assert!((difference(at(x, y, z + h), at(x, y, z - h)) - slopes.false_negatives).abs() < 1e-8);
        }
    }

    #[test]
    fn nothing_at_all_is_no_error() {
        let loss = Tversky {
            alpha: 0.5,
            beta: 0.5,
            gamma: 0.75,
            smooth_numerator: 0.0,
            smooth_denominator: 0.0,
            squared: false,
        };
        assert_eq!(loss.at(Overlap::default()), (0.0, Overlap::default()));
        assert_eq!(loss.at(Overlap { true_positives: 3.0, ..Overlap::default() }).0, 0.0);
    }
}
