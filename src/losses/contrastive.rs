use crate::loss::{Embeddings, Jet, Pointwise};
use crate::real::Real;

/// The contrastive loss of a pair at distance d: d² where the target is 1, max(0, margin − d)² where it is 0.
///
/// R. Hadsell, S. Chopra and Y. LeCun, Dimensionality reduction by learning an invariant mapping, CVPR 2006. There it has a
/// factor of ½, and the target 1 stands for dissimilar pairs.
#[derive(Clone, Copy)]
pub struct Contrastive {
    /// The distance from which on dissimilar vectors cost nothing.
    pub margin: f64,
}

/// Of the Euclidean distance of two vectors.
impl Embeddings<2, 1, 1> for Contrastive {
    const TARGETS: Option<[f64; 2]> = Some([0.0, 1.0]);

    #[inline(always)]
    fn terms<T: Real>(&self, [x, y]: [T; 2]) -> [T; 1] {
        let d = x - y;
        [d * d]
    }

    #[inline(always)]
    fn value<T: Real>(&self, [square]: [T; 1], _: [T; 2], target: T) -> T {
        let short = T::ZERO.max(T::of(self.margin) - square.sqrt());
        if target > T::ZERO { square } else { short * short }
    }

    /// 2 d and −2 (margin − d), over d, as d's own derivative is (x − y) / d: 0 of coincident vectors, that of torch's norm.
    #[inline(always)]
    fn slopes<T: Real>(&self, [square]: [T; 1], _: [T; 2], target: T) -> [T; 1] {
        let (two, distance) = (T::of(2.0), square.sqrt());
        let away = -two * T::ZERO.max(T::of(self.margin) - distance) / distance;
        let away = if distance == T::ZERO { T::ZERO } else { away };
        [if target > T::ZERO { two } else { away }]
    }

    #[inline(always)]
    fn at<T: Real>(&self, [slope]: [T; 1], _: [T; 2], [x, y]: [T; 2]) -> [T; 2] {
        let slope = slope * (x - y);
        [slope, -slope]
    }
}

/// Of a distance itself, with targets between as well: y d² + (1 − y) max(0, margin − d)².
impl Pointwise for Contrastive {
    const DOMAIN: [Option<(f64, f64)>; 2] = [Some((0.0, f64::INFINITY)), Some((0.0, 1.0))];

    #[inline(always)]
    fn at<T: Real>(&self, [d, y]: [T; 2]) -> Jet<T> {
        let (two, far) = (T::of(2.0), T::ONE - y);
        let short = T::ZERO.max(T::of(self.margin) - d);
        // A part of weight 0 is 0, at an infinite distance as well.
        let near = if y == T::ZERO { T::ZERO } else { y * d };
        Jet {
            value: if y == T::ZERO { far * (short * short) } else { near * d + far * (short * short) },
            slope: two * (near - far * short),
            curvature: two * (y + if short > T::ZERO { far } else { T::ZERO }),
        }
    }
}
