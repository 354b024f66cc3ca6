use crate::loss::{Domain, Embeddings};
use crate::real::Real;

/// The cosine loss of a pair: 1 − cos(x, y) where the target is 1, max(0, cos(x, y) − margin) where it is −1.
///
/// cos is x·y / √((‖x‖² + ε)(‖y‖² + ε)), with torch's ε of 1e−12.
#[derive(Clone, Copy)]
pub struct CosineEmbedding {
    /// The cosine up to which dissimilar vectors cost nothing.
    pub margin: f64,
}

/// What torch adds to squared lengths.
pub const EPSILON: f64 = 1e-12;

/// ‖x − y‖² of two vectors from the scalar products of each with each.
#[inline(always)]
pub fn squared_distance<const M: usize>(products: [[f64; M]; M], x: usize, y: usize) -> f64 {
    let square = products[x][x] + products[y][y] - 2.0 * products[x][y];
    if square < 0.0 { 0.0 } else { square }
}

/// 1 − cos of two vectors from the square of their distance at unit length, ‖x̂ − ŷ‖² = 2 − 2 cos, which is summed over differences or
/// had in double precision, so that it does not cancel where they are all but parallel. x̂ and ŷ fall short of unit length by what ε
/// says, which is added.
#[inline(always)]
pub fn cosine_distance<T: Real>(squared_distance: T, x_scale: T, y_scale: T) -> T {
    let short = T::of(EPSILON) * (x_scale * x_scale + y_scale * y_scale);
    T::of(0.5) * (squared_distance + short)
}

/// The derivatives of 1 − cos with respect to a feature of each vector: (x̂ − ŷ − (1 − cos) x̂) / ‖x‖ and its like.
#[inline(always)]
pub fn cosine_slopes<T: Real>(distance: T, [x_scale, y_scale]: [T; 2], [x, y]: [T; 2]) -> [T; 2] {
    let d = x - y;
    [x_scale * (d - distance * x), -(y_scale * (d + distance * y))]
}

impl Embeddings<2, 2, 2> for CosineEmbedding {
    const OPERANDS: &'static [&'static str] = &["input1", "input2", "target"];
    const TARGETS: Domain = Domain::Sign;
    const UNIT: Option<f64> = Some(EPSILON);

    #[inline(always)]
    fn terms<T: Real>(&self, [x, y]: [T; 2]) -> [T; 2] {
        let d = x - y;
        [d * d, x * y]
    }

    #[inline(always)]
    fn sums_of_products(&self, products: [[f64; 2]; 2]) -> [f64; 2] {
        [squared_distance(products, 0, 1), products[0][1]]
    }

    #[inline(always)]
    fn value<T: Real>(&self, [squared_distance, cosine]: [T; 2], [x, y]: [T; 2], target: T) -> T {
        let similar = cosine_distance(squared_distance, x, y);
        let dissimilar = T::ZERO.max(cosine - T::of(self.margin));
        if target > T::ZERO { similar } else { dissimilar }
    }

    #[inline(always)]
    fn slopes<T: Real>(&self, [squared_distance, _]: [T; 2], [x, y]: [T; 2], target: T) -> [T; 2] {
        [target, cosine_distance(squared_distance, x, y)]
    }

    #[inline(always)]
    fn at<T: Real>(&self, [sign, distance]: [T; 2], scales: [T; 2], features: [T; 2]) -> [T; 2] {
        cosine_slopes(distance, scales, features).map(|slope| sign * slope)
    }
}
