use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;

/// The focal loss of p = softmax(x) and a label y, −α_y (1 − p_y)^γ ln p_y (Lin et al., Focal loss for dense object
/// detection, 2017).
///
/// As in the cross-entropy, with the largest logit m and s = Σ e^(x−m) over the classes below it, −ln p_y = (m − x_y) +
/// ln(1 + s), and 1 − p_y is a sum of the others' powers over that of all, so that neither cancels.
///
/// With q = 1 − p_y, L = −ln p_y and r = L/q, which is 1 in the limit q = 0, the derivatives are
/// α q^γ (1 + γ p_y r) (p_c − [c = y]) and so have no power of q below γ, which would be infinite at 0 for γ < 1.
#[derive(Clone, Copy)]
pub struct SoftmaxFocal {
    /// γ
    pub gamma: f64,
}

/// What derivatives need.
#[derive(Clone, Copy)]
pub struct Slopes<T> {
    largest: T,
    /// Σ e^(x−m)
    total: T,
    /// The same without one largest class.
    others: T,
    /// The same without the label.
    rest: T,
    /// α q^γ (1 + γ p r), what the cross-entropy's derivatives are multiplied by.
    mass: T,
    /// γ α q^(γ+1) (2p + p r (γp − 1)), the part of the second derivatives by which the mass changes.
    bend: T,
}

/// What is known of the label.
struct Label<T> {
    /// Σ e^(x−m)
    total: T,
    /// The same without one largest class.
    others: T,
    /// The label's power.
    power: T,
    /// Σ e^(x−m) without the label.
    rest: T,
    /// L
    surprise: T,
}

impl SoftmaxFocal {
    #[inline(always)]
    fn label<T: Real>(row: &Row<T, 3>) -> Label<T> {
        let [below, ties, _] = row.sums;
        let others = below + (ties - T::ONE);
        let undefined = row.largest.zero_or_nan();
        let total = below + ties + undefined;
        let distance = row.largest - row.label.score;
        let power = (-distance).exp_nonpositive();
        let rest = if row.label.score == row.largest { others } else { total - power };
        Label { total, others, power, rest, surprise: distance + others.ln_1p() + undefined }
    }
}

impl Rowwise<3> for SoftmaxFocal {
    type Slopes<T: Real> = Slopes<T>;

    const LABEL_WEIGHS_ALL: bool = true;
    const LABEL_WEIGHT_NORMALISES: bool = false;
    const SETTLES: bool = true;
    const NEEDED: [bool; 3] = [true, true, false];

    #[inline(always)]
    fn power<T: Real>(&self, fall: T) -> T {
        fall.exp_nonpositive()
    }

    #[inline(always)]
    fn terms<T: Real>(&self, largest: T, _: Class<T>, class: Class<T>, power: T) -> [T; 3] {
        let is_largest = class.score == largest;
        [if is_largest { T::ZERO } else { power }, T::one_if(is_largest), T::ZERO]
    }

    #[inline(always)]
    fn raise<T: Real>(&self, [below, ties, _]: [T; 3], rise: T) -> [T; 3] {
        [(below + ties) * (-rise).exp_nonpositive(), T::ZERO, T::ZERO]
    }

    /// α q^γ
    #[inline(always)]
    fn settle<T: Real>(&self, row: &Row<T, 3>) -> [T; 3] {
        let ([below, ties, _], label) = (row.sums, Self::label(row));
        [below, ties, row.label.weight * (label.rest / label.total).pow(T::of(self.gamma))]
    }

    #[inline(always)]
    fn value<T: Real>(&self, row: &Row<T, 3>) -> T {
        row.sums[2] * Self::label(row).surprise
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, row: &Row<T, 3>) -> Slopes<T> {
        let Label { total, others, power, rest, surprise } = Self::label(row);
        let modulated = row.sums[2];
        let gamma = T::of(self.gamma);
        let (p, q) = (power / total, rest / total);
        let ratio = if q == T::ZERO { T::ONE } else { surprise / q };
        // L grows more slowly than p falls.
        let product = if p == T::ZERO { T::ZERO } else { p * ratio };
        let bend = gamma * (T::of(2.0) * p + product * (gamma * p - T::ONE));
        Slopes {
            largest: row.largest,
            total,
            others,
            rest,
            mass: modulated * (T::ONE + gamma * product),
            bend: modulated * q * bend,
        }
    }

    /// A p_c; its derivative is A p_c (1 − p_c) and, as A changes with p_c, the bend times (p_c/q)².
    #[inline(always)]
    fn at<T: Real>(&self, slopes: &Slopes<T>, class: Class<T>, power: T) -> (T, T) {
        let Slopes { largest, total, others, rest, mass, bend } = *slopes;
        let slope = power * (mass / total);
        let away = if class.score == largest { others } else { total - power };
        let part = if rest == T::ZERO { T::ZERO } else { power / rest };
        (slope, slope * (away / total) + bend * part * part)
    }

    /// −A q.
    #[inline(always)]
    fn at_label<T: Real>(&self, slopes: &Slopes<T>, _: Class<T>, power: T) -> (T, T) {
        let Slopes { total, rest, mass, bend, .. } = *slopes;
        let away = mass * (rest / total);
        (-away, away * (power / total) + bend)
    }
}
