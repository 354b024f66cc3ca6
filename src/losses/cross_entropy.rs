use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;

/// The cross-entropy of p = softmax(x) and a target, Σ q_c (lse(x) − x_c), lse(x) = ln Σ e^x.
///
/// q is w_c at the label's class, or w_c t_c of target probabilities; smoothing by ε makes it (1 − ε) q + ε w / C, where C
/// counts the possible classes, those whose logit is not −∞ (Szegedy et al., Rethinking the Inception architecture, 2016).
///
/// Where the largest logit is infinite, there are no probabilities: all is NaN.
///
/// With the largest logit m and s = Σ e^(x−m) over the classes below it, lse − x_c = (m − x_c) + ln(1 + s): nothing cancels,
/// and a sure prediction keeps its small loss and gradient. Logits that tie for the largest count into s, but for one.
#[derive(Clone, Copy)]
pub struct CrossEntropy<const PROBABILITIES: bool, const SMOOTHED: bool> {
    /// ε
    pub label_smoothing: f64,
}

/// The sums over the classes.
struct Sums<T> {
    /// Σ e^(x−m) below the largest logit
    below: T,
    /// How many are the largest.
    ties: T,
    /// Σ q (m − x)
    distance: T,
    /// Σ q
    mass: T,
    /// Σ w (m − x) over the possible classes
    smoothing_distance: T,
    /// Σ w over the possible classes
    smoothing_mass: T,
    /// The number of possible classes.
    possible: T,
}

/// What derivatives need.
#[derive(Clone, Copy)]
pub struct Slopes<T> {
    largest: T,
    /// Σ e^(x−m)
    pub(super) total: T,
    /// The same without one largest class.
    pub(super) others: T,
    /// Σ q, smoothed
    mass: T,
    /// ε/C
    share: T,
    smoothing_mass: T,
}

impl<const PROBABILITIES: bool, const SMOOTHED: bool> CrossEntropy<PROBABILITIES, SMOOTHED> {
    #[inline(always)]
    fn kept<T: Real>(self) -> T {
        T::of(1.0 - self.label_smoothing)
    }

    /// ε/C
    #[inline(always)]
    fn share<T: Real>(self, sums: &Sums<T>) -> T {
        if SMOOTHED { T::of(self.label_smoothing) / sums.possible } else { T::ZERO }
    }

    #[inline(always)]
    fn sums<T: Real>(row: &Row<T, 7>) -> Sums<T> {
        let [below, ties, distance, mass, smoothing_distance, smoothing_mass, possible] = row.sums;
        let label = row.label;
        let (distance, mass) = if PROBABILITIES {
            (distance, mass)
        } else {
            (times(label.weight, row.largest - label.score), label.weight)
        };
        Sums { below, ties, distance, mass, smoothing_distance, smoothing_mass, possible }
    }
}

/// A product in which 0 times infinity is 0.
#[inline(always)]
fn times<T: Real>(weight: T, distance: T) -> T {
    let product = weight * distance;
    if weight == T::ZERO { T::ZERO } else { product }
}

impl<const PROBABILITIES: bool, const SMOOTHED: bool> Rowwise<7> for CrossEntropy<PROBABILITIES, SMOOTHED> {
    type Slopes<T: Real> = Slopes<T>;

    const LABEL_WEIGHS_ALL: bool = !PROBABILITIES && !SMOOTHED;
    const HAS_LOG_PROBABILITIES: bool = true;
    const NEEDED: [bool; 7] = [true, true, PROBABILITIES, PROBABILITIES, SMOOTHED, SMOOTHED, SMOOTHED];

    #[inline(always)]
    fn power<T: Real>(&self, fall: T) -> T {
        fall.exp_nonpositive()
    }

    #[inline(always)]
    fn terms<T: Real>(&self, largest: T, _: Class<T>, class: Class<T>, power: T) -> [T; 7] {
        let Class { score, probability, weight } = class;
        let tie = T::one_if(score == largest);
        let below = if score == largest { T::ZERO } else { power };
        let distance = largest - score;
        let (mass, smoothed) = (weight * probability, score > -T::INFINITY);
        [
            below,
            tie,
            times(mass, distance),
            mass,
            if smoothed { weight * distance } else { T::ZERO },
            if smoothed { weight } else { T::ZERO },
            T::one_if(smoothed),
        ]
    }

    #[inline(always)]
    fn raise<T: Real>(&self, sums: [T; 7], rise: T) -> [T; 7] {
        let [below, ties, distance, mass, smoothing_distance, smoothing_mass, possible] = sums;
        [
            (below + ties) * (-rise).exp_nonpositive(),
            T::ZERO,
            distance + rise * mass,
            mass,
            smoothing_distance + rise * smoothing_mass,
            smoothing_mass,
            possible,
        ]
    }

    #[inline(always)]
    fn value<T: Real>(&self, row: &Row<T, 7>) -> T {
        let sums = Self::sums(row);
        let excess = self.log_normalizer(row);
        let target = sums.distance + times(sums.mass, excess);
        if SMOOTHED {
            let smoothing = sums.smoothing_distance + excess * sums.smoothing_mass;
            times(self.kept(), target) + self.share(&sums) * smoothing
        } else {
            target
        }
    }

    #[inline(always)]
    fn log_normalizer<T: Real>(&self, row: &Row<T, 7>) -> T {
        let [below, ties, ..] = row.sums;
        (below + (ties - T::ONE)).ln_1p() + row.largest.zero_or_nan()
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, row: &Row<T, 7>) -> Slopes<T> {
        let sums = Self::sums(row);
        let share = self.share(&sums);
        let mass = if SMOOTHED { self.kept::<T>() * sums.mass + share * sums.smoothing_mass } else { sums.mass };
        Slopes {
            largest: row.largest,
            total: sums.below + sums.ties + row.largest.zero_or_nan(),
            others: sums.below + (sums.ties - T::ONE),
            mass,
            share,
            smoothing_mass: sums.smoothing_mass,
        }
    }

    /// p Σq − q; of the largest class, whose p may be near 1, (Σq − q) − (1 − p) Σq.
    #[inline(always)]
    fn at<T: Real>(&self, slopes: &Slopes<T>, class: Class<T>, power: T) -> (T, T) {
        let Class { score, probability, weight } = class;
        let Slopes { largest, total, others, mass, share, .. } = *slopes;
        let scale = mass / total;
        let target = if PROBABILITIES { self.kept::<T>() * (weight * probability) } else { T::ZERO };
        let smoothing = if SMOOTHED && score > -T::INFINITY { share * weight } else { T::ZERO };
        let q = target + smoothing;
        let most = (mass - q) - others * scale;
        let slope = if PROBABILITIES && score == largest { most } else { power * scale - q };
        let rest = if score == largest { others } else { total - power };
        (slope, power * scale * (rest / total))
    }

    /// As for any class with q = (1 − ε) w + ε w / C, without the difference of near numbers: (Σ − w) ε/C − (1 − p) Σq.
    #[inline(always)]
    fn at_label<T: Real>(&self, slopes: &Slopes<T>, class: Class<T>, power: T) -> (T, T) {
        let Slopes { largest, total, others, mass, share, smoothing_mass } = *slopes;
        let rest = if class.score == largest { others } else { total - power };
        let away = mass * (rest / total);
        let possible = if class.score > -T::INFINITY { class.weight } else { T::ZERO };
        let smoothing = if SMOOTHED { share * (smoothing_mass - possible) } else { T::ZERO };
        (smoothing - away, away * (power / total))
    }
}
