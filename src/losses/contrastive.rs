use crate::loss::{Domain, Embeddings, Jet, Pointwise};
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
    const OPERANDS: &'static [&'static str] = &["input1", "input2", "target"];
    const TARGETS: Domain = Domain::Binary;

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
    const OPERANDS: [&'static str; 2] = ["distance", "target"];
    const DOMAIN: [Domain; 2] = [Domain::Interval(0.0, f64::INFINITY), Domain::Interval(0.0, 1.0)];

    #[inline(always)]
    fn at<T: Real>(&self, [d, y]: [T; 2], _: T) -> Jet<T> {
        let (two, unlike) = (T::of(2.0), T::ONE - y);
        let short = T::ZERO.max(T::of(self.margin) - d);
        // A target of 0 makes nothing of an infinite distance.
        let far = if y == T::ZERO { y } else { d };
        Jet {
            value: y * (far * far) + unlike * (short * short),
            slope: [two * (y * far - unlike * short)],
            curvature: [two * (y + if short > T::ZERO { unlike } else { T::ZERO })],
        }
    }
}
