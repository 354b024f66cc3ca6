use crate::loss::Embeddings;
use crate::losses::cosine_embedding::{EPSILON, cosine_distance, cosine_slopes, squared_distance};
use crate::real::Real;

/// The triplet loss max(0, margin + d(a, p) − d(a, n)) of an anchor a, a vector p like it and one unlike it, n.
///
/// With `SWAP` the nearer of a and p counts, min(d(a, n), d(p, n)); where they are equally near, half of each.
///
/// V. Balntas et al., Learning local feature descriptors with triplets and shallow convolutional neural networks, BMVC 2016.
#[derive(Clone, Copy)]
pub struct TripletMargin<D, const SWAP: bool> {
    /// d
    pub distance: D,
    /// How much nearer p must be than n.
    pub margin: f64,
}

/// A distance d of two vectors x and y, from two sums over the features.
pub trait Distance: Copy + Send + Sync + 'static {
    /// Whether vectors are of unit length, as [`Embeddings::UNIT`] has it.
    const UNIT: Option<f64> = None;
    /// Whether the second sum is read.
    const COUNTS: bool = false;

    /// A feature's share of each sum.
    fn terms<T: Real>(&self, x: T, y: T) -> [T; 2];

    /// The sums over the features of two parts.
    #[inline(always)]
    fn join<T: Real>(&self, [a, b]: [T; 2], [c, d]: [T; 2]) -> [T; 2] {
        [a + c, b + d]
    }

    /// The distance.
    fn distance<T: Real>(&self, sums: [T; 2], scales: [T; 2]) -> T;

    /// What the derivatives of the distance times `weight` need.
    fn slopes<T: Real>(&self, weight: T, distance: T, sums: [T; 2]) -> [T; 2];

    /// The derivatives with respect to a feature of each vector.
    fn at<T: Real>(&self, slopes: [T; 2], scales: [T; 2], x: T, y: T) -> [T; 2];
}

/// Σ |x − y + ε|
#[derive(Clone, Copy)]
pub struct Manhattan {
    /// ε
    pub eps: f64,
}

/// √Σ (x − y + ε)². Its derivatives at 0 are 0.
#[derive(Clone, Copy)]
pub struct Euclidean {
    /// ε
    pub eps: f64,
}

/// Σ (x − y)²
#[derive(Clone, Copy)]
pub struct SquaredEuclidean;

/// (Σ |x − y + ε|^p)^(1/p), p > 1. Its derivatives at 0 are 0.
#[derive(Clone, Copy)]
pub struct Minkowski {
    /// p
    pub p: f64,
    /// ε
    pub eps: f64,
}

/// The largest |x − y + ε|. Features that tie for it share its derivative.
#[derive(Clone, Copy)]
pub struct Chebyshev {
    /// ε
    pub eps: f64,
}

/// 1 − cos(x, y), with the ε of the cosine loss.
#[derive(Clone, Copy)]
pub struct Cosine;

/// A derivative with respect to x, and that with respect to y where the distance depends on x − y alone.
#[inline(always)]
fn opposite<T: Real>(slope: T) -> [T; 2] {
    [slope, -slope]
}

impl Distance for Manhattan {
    #[inline(always)]
    fn terms<T: Real>(&self, x: T, y: T) -> [T; 2] {
        [(x - y + T::of(self.eps)).abs(), T::ZERO]
    }

    #[inline(always)]
    fn distance<T: Real>(&self, [sum, _]: [T; 2], _: [T; 2]) -> T {
        sum
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, weight: T, _: T, _: [T; 2]) -> [T; 2] {
        [weight, T::ZERO]
    }

    #[inline(always)]
    fn at<T: Real>(&self, [slope, _]: [T; 2], _: [T; 2], x: T, y: T) -> [T; 2] {
        opposite(slope * (x - y + T::of(self.eps)).sign())
    }
}

impl Distance for Euclidean {
    #[inline(always)]
    fn terms<T: Real>(&self, x: T, y: T) -> [T; 2] {
        let d = x - y + T::of(self.eps);
        [d * d, T::ZERO]
    }

    #[inline(always)]
    fn distance<T: Real>(&self, [sum, _]: [T; 2], _: [T; 2]) -> T {
        sum.sqrt()
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, weight: T, distance: T, _: [T; 2]) -> [T; 2] {
        let slope = weight / distance;
        [if distance == T::ZERO { T::ZERO } else { slope }, T::ZERO]
    }

    #[inline(always)]
    fn at<T: Real>(&self, [slope, _]: [T; 2], _: [T; 2], x: T, y: T) -> [T; 2] {
        opposite(slope * (x - y + T::of(self.eps)))
    }
}

impl Distance for SquaredEuclidean {
    #[inline(always)]
    fn terms<T: Real>(&self, x: T, y: T) -> [T; 2] {
        let d = x - y;
        [d * d, T::ZERO]
    }

    #[inline(always)]
    fn distance<T: Real>(&self, [sum, _]: [T; 2], _: [T; 2]) -> T {
        sum
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, weight: T, _: T, _: [T; 2]) -> [T; 2] {
        [weight + weight, T::ZERO]
    }

    #[inline(always)]
    fn at<T: Real>(&self, [slope, _]: [T; 2], _: [T; 2], x: T, y: T) -> [T; 2] {
        opposite(slope * (x - y))
    }
}

impl Distance for Minkowski {
    #[inline(always)]
    fn terms<T: Real>(&self, x: T, y: T) -> [T; 2] {
        [(x - y + T::of(self.eps)).abs().pow(T::of(self.p)), T::ZERO]
    }

    #[inline(always)]
    fn distance<T: Real>(&self, [sum, _]: [T; 2], _: [T; 2]) -> T {
        sum.pow(T::of(1.0 / self.p))
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, weight: T, distance: T, _: [T; 2]) -> [T; 2] {
        let inverse = T::ONE / distance;
        [weight, if distance == T::ZERO { T::ZERO } else { inverse }]
    }

    /// ± (|x − y + ε| / d)^(p−1)
    #[inline(always)]
    fn at<T: Real>(&self, [weight, inverse]: [T; 2], _: [T; 2], x: T, y: T) -> [T; 2] {
        let d = x - y + T::of(self.eps);
        opposite(weight * (d.abs() * inverse).pow(T::of(self.p - 1.0)).copysign(d))
    }
}

impl Distance for Chebyshev {
    const COUNTS: bool = true;

    /// The magnitude, and how many there are of it.
    #[inline(always)]
    fn terms<T: Real>(&self, x: T, y: T) -> [T; 2] {
        [(x - y + T::of(self.eps)).abs(), T::ONE]
    }

    #[inline(always)]
    fn join<T: Real>(&self, [a, of_a]: [T; 2], [b, of_b]: [T; 2]) -> [T; 2] {
        let larger = if a > b { a } else { b };
        let count = if a > b { of_a } else { of_b };
        [if a.is_nan() { a } else { larger }, if a == b { of_a + of_b } else { count }]
    }

    #[inline(always)]
    fn distance<T: Real>(&self, [largest, _]: [T; 2], _: [T; 2]) -> T {
        largest
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, weight: T, largest: T, [_, count]: [T; 2]) -> [T; 2] {
        let share = weight / count;
        [if largest.is_nan() { largest } else { share }, largest]
    }

    #[inline(always)]
    fn at<T: Real>(&self, [share, largest]: [T; 2], _: [T; 2], x: T, y: T) -> [T; 2] {
        let d = x - y + T::of(self.eps);
        let slope = share * d.sign();
        opposite(if d.abs() < largest { T::ZERO } else { slope })
    }
}

impl Distance for Cosine {
    const UNIT: Option<f64> = Some(EPSILON);

    #[inline(always)]
    fn terms<T: Real>(&self, x: T, y: T) -> [T; 2] {
        let d = x - y;
        [d * d, T::ZERO]
    }

    #[inline(always)]
    fn distance<T: Real>(&self, [squared_distance, _]: [T; 2], [x, y]: [T; 2]) -> T {
        cosine_distance(squared_distance, x, y)
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, weight: T, distance: T, _: [T; 2]) -> [T; 2] {
        [weight, distance]
    }

    #[inline(always)]
    fn at<T: Real>(&self, [weight, distance]: [T; 2], scales: [T; 2], x: T, y: T) -> [T; 2] {
        cosine_slopes(distance, scales, [x, y]).map(|slope| weight * slope)
    }
}

/// The sums of each pair: of a and p, a and n, p and n.
type Pairs<T> = [[T; 2]; 3];

#[inline(always)]
fn pairs<T: Real>([a, b, c, d, e, f]: [T; 6]) -> Pairs<T> {
    [[a, b], [c, d], [e, f]]
}

#[inline(always)]
fn flat<T: Real>([[a, b], [c, d], [e, f]]: Pairs<T>) -> [T; 6] {
    [a, b, c, d, e, f]
}

impl<D: Distance, const SWAP: bool> TripletMargin<D, SWAP> {
    /// d(a, p), d(a, n) and d(p, n)
    #[inline(always)]
    fn distances<T: Real>(&self, [near, far, swapped]: Pairs<T>, [a, p, n]: [T; 3]) -> [T; 3] {
        let d = &self.distance;
        [d.distance(near, [a, p]), d.distance(far, [a, n]), if SWAP { d.distance(swapped, [p, n]) } else { T::ZERO }]
    }
}

impl<D: Distance, const SWAP: bool> Embeddings<3, 6, 6> for TripletMargin<D, SWAP> {
    const OPERANDS: &'static [&'static str] = &["anchor", "positive", "negative"];
    const UNIT: Option<f64> = D::UNIT;
    const NEEDED: [bool; 6] = [true, D::COUNTS, true, D::COUNTS, SWAP, SWAP && D::COUNTS];

    #[inline(always)]
    fn terms<T: Real>(&self, [a, p, n]: [T; 3]) -> [T; 6] {
        flat([self.distance.terms(a, p), self.distance.terms(a, n), self.distance.terms(p, n)])
    }

    #[inline(always)]
    fn join<T: Real>(&self, a: [T; 6], b: [T; 6]) -> [T; 6] {
        let ([a, b, c], [d, e, f]) = (pairs(a), pairs(b));
        flat([self.distance.join(a, d), self.distance.join(b, e), self.distance.join(c, f)])
    }

    /// The one distance of vectors at unit length, that of cosines, sums squares of differences.
    #[inline(always)]
    fn sums_of_products(&self, products: [[f64; 3]; 3]) -> [f64; 6] {
        let (near, far, swapped) =
            (squared_distance(products, 0, 1), squared_distance(products, 0, 2), squared_distance(products, 1, 2));
        flat([[near, 0.0], [far, 0.0], [swapped, 0.0]])
    }

    #[inline(always)]
    fn value<T: Real>(&self, sums: [T; 6], scales: [T; 3], _: T) -> T {
        let [near, far, swapped] = self.distances(pairs(sums), scales);
        let far = if SWAP && swapped < far { swapped } else { far };
        T::ZERO.max(T::of(self.margin) + near - far)
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, sums: [T; 6], scales: [T; 3], _: T) -> [T; 6] {
        let sums = pairs(sums);
        let [near, far, swapped] = self.distances(sums, scales);
        let half = T::of(0.5);
        let share = if swapped < far { T::ZERO } else { T::ONE };
        let share = if SWAP { if swapped == far { half } else { share } } else { T::ONE };
        flat([
            self.distance.slopes(T::ONE, near, sums[0]),
            self.distance.slopes(-share, far, sums[1]),
            if SWAP { self.distance.slopes(share - T::ONE, swapped, sums[2]) } else { [T::ZERO; 2] },
        ])
    }

    #[inline(always)]
    fn at<T: Real>(&self, slopes: [T; 6], [a, p, n]: [T; 3], [x, y, z]: [T; 3]) -> [T; 3] {
        let [near, far, swapped] = pairs(slopes);
        let [to_a, to_p] = self.distance.at(near, [a, p], x, y);
        let [and_a, to_n] = self.distance.at(far, [a, n], x, z);
        if SWAP {
            let [and_p, and_n] = self.distance.at(swapped, [p, n], y, z);
            [to_a + and_a, to_p + and_p, to_n + and_n]
        } else {
            [to_a + and_a, to_p, to_n]
        }
    }
}
