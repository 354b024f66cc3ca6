//! Rows of few classes: a tile of rows at a time, each class of all of them side by side.
//!
//! A row of ten scores would leave most of a vector empty; so vectors run over rows here, and sums over the classes are
//! sequential. That depends on the number of classes alone, as does the choice of this way.

use crate::drive::block::{BLOCK, Block, at, at_mut, larger, relative};
use crate::isa::Kernel;
use crate::loss::{Class, Row, Rowwise};
use crate::real::Real;

/// The most classes of a row that goes into a tile.
pub const FEW_CLASSES: usize = 64;
/// The most elements of a tile.
pub const TILE: usize = 2 * BLOCK;
/// Rows that are computed at once: two of the widest vectors, of which one waits while the other is computed.
pub const LANES: usize = 32;

/// The rows of a tile of so many samples, whole vectors of them: no more than fit, or than there are.
pub fn rows(classes: usize, samples: usize) -> usize {
    most_rows(classes).min(samples.next_multiple_of(LANES)).max(LANES)
}

/// The rows that fit a tile.
const fn most_rows(classes: usize) -> usize {
    match classes {
        0..=4 => 8 * LANES,
        5..=16 => 4 * LANES,
        17..=32 => 2 * LANES,
        _ => LANES,
    }
}

const _: () = assert!(
    4 * most_rows(4) <= TILE
        && 16 * most_rows(16) <= TILE
        && 32 * most_rows(32) <= TILE
        && FEW_CLASSES * most_rows(FEW_CLASSES) <= TILE
);

/// Some rows, by classes: `rows` elements of each class in turn.
#[derive(Clone, Copy)]
pub struct Tile<'a, T> {
    /// The length of a row.
    pub classes: usize,
    /// The number of rows, a multiple of the lanes.
    pub rows: usize,
    /// `classes` × `rows` scores.
    pub scores: &'a [T],
    /// As many probabilities, where targets are such.
    pub probabilities: &'a [T],
    /// A weight for each class, or for each element where the formula weighs those.
    pub class_weights: &'a [T],
    /// The label of each row; not a class where there is none.
    pub labels: &'a [T],
    /// What each row's loss is multiplied by; 0 leaves the row out.
    pub weights: &'a [T],
    /// What derivatives are multiplied by besides.
    pub factor: T,
    /// And those of each row.
    pub grad_outputs: &'a [T],
}

/// Room for what a formula says of a tile.
pub struct Results<T> {
    /// The losses.
    pub value: Block<T>,
    /// The first derivatives, by classes.
    pub slope: Block<T, TILE>,
    /// The second derivatives, by classes.
    pub curvature: Block<T, TILE>,
}

/// Evaluates a formula at a tile.
pub struct Evaluate<'a, L, T, const K: usize, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool> {
    /// The formula.
    pub loss: L,
    /// The rows.
    pub tile: Tile<'a, T>,
    /// Where what is wanted goes.
    pub results: &'a mut Results<T>,
}

impl<L: Rowwise<K>, T: Real, const K: usize, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool> Kernel
    for Evaluate<'_, L, T, K, VALUE, SLOPE, CURVATURE>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, tile, results } = self;
        let part = |wanted: bool| if wanted { tile.classes * tile.rows } else { 0 };
        // SAFETY: `lanes` writes all elements of each slice, some lanes of rows at a time.
        let (value, slope, curvature) = unsafe {
            (
                results.value.written(if VALUE { tile.rows } else { 0 }),
                results.slope.written(part(SLOPE)),
                results.curvature.written(part(CURVATURE)),
            )
        };
        for first in (0..tile.rows).step_by(LANES) {
            Self::lanes(loss, tile, first, value, slope, curvature);
        }
    }
}

/// Writes the log-probabilities of a tile's classes, where the formula has them, where slopes would be.
pub struct LogProbabilities<'a, L, T, const K: usize> {
    /// The formula.
    pub loss: L,
    /// The rows.
    pub tile: Tile<'a, T>,
    /// Where they go.
    pub results: &'a mut Results<T>,
}

impl<L: Rowwise<K>, T: Real, const K: usize> Kernel for LogProbabilities<'_, L, T, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, tile, results } = self;
        if L::HAS_LOG_PROBABILITIES {
            // SAFETY: `log_probabilities` writes all elements, some lanes of rows at a time.
            let out = unsafe { results.slope.written(tile.classes * tile.rows) };
            for first in (0..tile.rows).step_by(LANES) {
                Evaluate::<L, T, K, false, false, false>::log_probabilities(loss, tile, first, out);
            }
        }
    }
}

/// One value where the label is this class, another elsewhere. By value: of a reference, the compiler would read an element
/// only where it is chosen.
#[inline(always)]
fn chosen<T: Real>(labels: [T; LANES], class: T, there: [T; LANES], elsewhere: [T; LANES]) -> [T; LANES] {
    let mut chosen = elsewhere;
    for lane in 0..LANES {
        chosen[lane] = if labels[lane] == class { there[lane] } else { elsewhere[lane] };
    }
    chosen
}

impl<L: Rowwise<K>, T: Real, const K: usize, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool>
    Evaluate<'_, L, T, K, VALUE, SLOPE, CURVATURE>
{
    /// The largest scores.
    #[inline(always)]
    fn largest(tile: Tile<'_, T>, first: usize) -> [T; LANES] {
        let mut largest = [-T::INFINITY; LANES];
        if L::RELATIVE {
            for class in 0..tile.classes {
                largest = larger(at(tile.scores, class * tile.rows + first), largest);
            }
        }
        largest
    }

    /// What is known of the row in a lane.
    #[inline(always)]
    fn row(tile: Tile<'_, T>, lane: usize, largest: &[T; LANES], sums: &[[T; LANES]; K], label: Class<T>) -> Row<T, K> {
        let classes = T::of(f64::from(tile.classes as i32));
        let mut row = Row { classes, largest: largest[lane], sums: [T::ZERO; K], label };
        // An explicit loop: the compiler keeps the sums in registers.
        for (sum, lanes) in row.sums.iter_mut().zip(sums) {
            *sum = lanes[lane];
        }
        row
    }

    /// The log-probabilities of the rows from `first` on.
    #[inline(always)]
    fn log_probabilities(loss: L, tile: Tile<'_, T>, first: usize, out: &mut [T]) {
        let largest = Self::largest(tile, first);
        let relative = largest.map(relative);
        let (labels, zeros): ([T; LANES], _) = (*at(tile.labels, first), [T::ZERO; LANES]);
        let sums = Self::sums(loss, tile, first, relative, labels, zeros, zeros, &mut []);
        let mut log_normalizers = zeros;
        let label = Class { score: T::ZERO, probability: T::ONE, weight: T::ONE };
        for lane in 0..LANES {
            log_normalizers[lane] = loss.log_normalizer(&Self::row(tile, lane, &largest, &sums, label));
        }
        for class in 0..tile.classes {
            let index = class * tile.rows + first;
            let mut log_probabilities: [T; LANES] = *at(tile.scores, index);
            for lane in 0..LANES {
                log_probabilities[lane] = (log_probabilities[lane] - largest[lane]) - log_normalizers[lane];
            }
            *at_mut(out, index) = log_probabilities;
        }
    }

    /// The labels' scores and weights.
    #[inline(always)]
    fn at_labels(tile: Tile<'_, T>, first: usize, labels: [T; LANES]) -> ([T; LANES], [T; LANES]) {
        let (mut scores, mut weights) = ([T::ZERO; LANES], [T::ONE; LANES]);
        if !L::WEIGHS_ELEMENTS {
            for class in 0..tile.classes {
                let number = T::of(f64::from(class as i32));
                scores = chosen(labels, number, *at(tile.scores, class * tile.rows + first), scores);
                weights = chosen(labels, number, [tile.class_weights[class]; LANES], weights);
            }
        }
        (scores, weights)
    }

    /// The weights of a class.
    #[inline(always)]
    fn weights(tile: Tile<'_, T>, first: usize, class: usize) -> [T; LANES] {
        if L::WEIGHS_ELEMENTS {
            *at(tile.class_weights, class * tile.rows + first)
        } else {
            [tile.class_weights[class]; LANES]
        }
    }

    /// The sums over the classes; their powers are left where slopes will be.
    #[inline(always)]
    fn sums(
        loss: L,
        tile: Tile<'_, T>,
        first: usize,
        relative: [T; LANES],
        labels: [T; LANES],
        label_scores: [T; LANES],
        label_weights: [T; LANES],
        slope: &mut [T],
    ) -> [[T; LANES]; K] {
        let label = |lane: usize| Class { score: label_scores[lane], probability: T::ONE, weight: label_weights[lane] };
        let mut sums = [[T::ZERO; LANES]; K];
        for class in 0..tile.classes {
            let mut scores: [T; LANES] = *at(tile.scores, class * tile.rows + first);
            let probabilities: &[T; LANES] = at(tile.probabilities, class * tile.rows + first);
            let (element_weights, number) = (Self::weights(tile, first, class), T::of(f64::from(class as i32)));
            if !L::COUNTS_LABEL {
                scores = chosen(labels, number, [-T::INFINITY; LANES], scores);
            }
            let mut powers = [T::ZERO; LANES];
            for lane in 0..LANES {
                let (score, probability, weight) = (scores[lane], probabilities[lane], element_weights[lane]);
                powers[lane] = if L::HAS_POWERS { loss.power(score - relative[lane]) } else { T::ZERO };
                let class = Class { score, probability, weight };
                let terms = loss.terms(relative[lane], label(lane), class, powers[lane]);
                for k in 0..K {
                    if L::NEEDED[k] {
                        sums[k][lane] = sums[k][lane] + terms[k];
                    }
                }
            }
            if SLOPE && L::HAS_POWERS {
                *at_mut(slope, class * tile.rows + first) = powers;
            }
        }
        sums
    }

    /// The rows from `first` on, one in each lane. What lanes find goes to local arrays first, which no operand can share.
    #[inline(always)]
    fn lanes(loss: L, tile: Tile<'_, T>, first: usize, value: &mut [T], slope: &mut [T], curvature: &mut [T]) {
        let largest = Self::largest(tile, first);
        let relative = largest.map(relative);
        // Copies, so that what is computed of them is known not to change when results are written.
        let [labels, mut weights, grad_outputs]: [[T; LANES]; 3] =
            [tile.labels, tile.weights, tile.grad_outputs].map(|part| *at(part, first));
        let (label_scores, label_weights) = Self::at_labels(tile, first, labels);
        let mut scales = [T::ZERO; LANES];
        for lane in 0..LANES {
            let is_left_out = L::LABEL_WEIGHS_ALL && label_weights[lane] == T::ZERO;
            weights[lane] = if is_left_out { T::ZERO } else { weights[lane] };
            scales[lane] = weights[lane] * tile.factor * grad_outputs[lane];
        }
        let label = |lane: usize| Class { score: label_scores[lane], probability: T::ONE, weight: label_weights[lane] };
        let sums = Self::sums(loss, tile, first, relative, labels, label_scores, label_weights, slope);
        let mut settled = sums;
        if L::SETTLES {
            for lane in 0..LANES {
                let sums = loss.settle(&Self::row(tile, lane, &largest, &sums, label(lane)));
                for (settled, sum) in settled.iter_mut().zip(sums) {
                    settled[lane] = sum;
                }
            }
        }
        let row = |lane: usize| Self::row(tile, lane, &largest, &settled, label(lane));
        if VALUE {
            let mut losses = [T::ZERO; LANES];
            for lane in 0..LANES {
                let loss = loss.value(&row(lane)) * weights[lane];
                losses[lane] = if weights[lane] == T::ZERO { T::ZERO } else { loss };
            }
            *at_mut(value, first) = losses;
        }
        if !SLOPE {
            return;
        }
        let (mut label_slope, mut label_curvature) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        for lane in 0..LANES {
            let power = if L::HAS_POWERS { loss.power(label_scores[lane] - relative[lane]) } else { T::ZERO };
            let derivatives = loss.at_label(&loss.slopes(&row(lane)), label(lane), power);
            (label_slope[lane], label_curvature[lane]) = derivatives;
        }
        for class in 0..tile.classes {
            let index = class * tile.rows + first;
            let (scores, probabilities): (&[T; LANES], &[T; LANES]) =
                (at(tile.scores, index), at(tile.probabilities, index));
            let (element_weights, number) = (Self::weights(tile, first, class), T::of(f64::from(class as i32)));
            // The slopes' room has kept them.
            let powers = if L::HAS_POWERS { *at(slope, index) } else { [T::ZERO; LANES] };
            let mut derivatives = [T::ZERO; LANES];
            for lane in 0..LANES {
                let weight = element_weights[lane];
                let class = Class { score: scores[lane], probability: probabilities[lane], weight };
                let (derivative, _) = loss.at(&loss.slopes(&row(lane)), class, powers[lane]);
                let derivative = if labels[lane] == number { label_slope[lane] } else { derivative };
                let scaled = derivative * scales[lane];
                derivatives[lane] = if weights[lane] == T::ZERO { T::ZERO } else { scaled };
            }
            *at_mut(slope, index) = derivatives;
            if CURVATURE {
                for lane in 0..LANES {
                    let weight = element_weights[lane];
                    let class = Class { score: scores[lane], probability: probabilities[lane], weight };
                    let (_, derivative) = loss.at(&loss.slopes(&row(lane)), class, powers[lane]);
                    let derivative = if labels[lane] == number { label_curvature[lane] } else { derivative };
                    let scaled = derivative * scales[lane];
                    derivatives[lane] = if weights[lane] == T::ZERO { T::ZERO } else { scaled };
                }
                *at_mut(curvature, index) = derivatives;
            }
        }
    }
}
