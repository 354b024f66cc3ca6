use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;

/// The margin loss of several classes, Σ w_y max(0, μ − x_y + x_c)^p / C over the classes c but the label y, p being 1 or 2
/// (Crammer and Singer, On the algorithmic implementation of multiclass kernel-based vector machines, 2001, have the
/// largest term in place of the sum; Weston and Watkins, Support vector machines for multi-class pattern recognition, 1999,
/// the sum).
#[derive(Clone, Copy)]
pub struct MultiMargin<const SQUARED: bool> {
    /// μ
    pub margin: f64,
}

/// What derivatives need.
#[derive(Clone, Copy)]
pub struct Slopes<T> {
    label: Class<T>,
    /// w_y / C
    scale: T,
    /// The sums of the others' derivatives, not yet scaled.
    first: T,
    second: T,
}

impl<const SQUARED: bool> MultiMargin<SQUARED> {
    /// A class's term and its first and second derivative. The scores' difference comes first: of near ones it is exact.
    #[inline(always)]
    fn term<T: Real>(self, label: Class<T>, class: Class<T>) -> [T; 3] {
        let excess = (class.score - label.score) + T::of(self.margin);
        // A NaN stays one.
        let hinge = if (excess <= T::ZERO) | (class.score == -T::INFINITY) { T::ZERO } else { excess };
        let step = if hinge > T::ZERO { T::ONE } else { hinge };
        let two = T::of(2.0);
        if SQUARED { [hinge * hinge, two * hinge, two * step] } else { [hinge, step, T::ZERO] }
    }
}

impl<const SQUARED: bool> Rowwise<3> for MultiMargin<SQUARED> {
    type Slopes<T: Real> = Slopes<T>;

    const LABEL_WEIGHS_ALL: bool = true;
    const LABEL_WEIGHT_NORMALISES: bool = false;
    const RELATIVE: bool = false;
    const HAS_POWERS: bool = false;
    const COUNTS_LABEL: bool = false;
    const NEEDED: [bool; 3] = [true, true, SQUARED];

    #[inline(always)]
    fn terms<T: Real>(&self, _: T, label: Class<T>, class: Class<T>, _: T) -> [T; 3] {
        self.term(label, class)
    }

    #[inline(always)]
    fn value<T: Real>(&self, row: &Row<T, 3>) -> T {
        row.label.weight * (row.sums[0] / row.classes)
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, row: &Row<T, 3>) -> Slopes<T> {
        let [_, first, second] = row.sums;
        Slopes { label: row.label, scale: row.label.weight / row.classes, first, second }
    }

    #[inline(always)]
    fn at<T: Real>(&self, slopes: &Slopes<T>, class: Class<T>, _: T) -> (T, T) {
        let [_, slope, curvature] = self.term(slopes.label, class);
        (slope * slopes.scale, curvature * slopes.scale)
    }

    /// A label that rises lets all the others' terms fall.
    #[inline(always)]
    fn at_label<T: Real>(&self, slopes: &Slopes<T>, _: Class<T>, _: T) -> (T, T) {
        (-(slopes.first * slopes.scale), slopes.second * slopes.scale)
    }
}
