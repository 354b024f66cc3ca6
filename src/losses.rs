//! The registry: a line for each loss.

mod absolute_error;
mod binary_cross_entropy;
mod contrastive;
mod cosine_embedding;
mod cross_entropy;
mod huber;
mod nll;
mod smooth_l1;
mod squared_error;
mod triplet_margin;

use crate::drive::{embeddings, pointwise, rows};

/// A loss with its parameters, ready for a driver.
pub enum Loss {
    /// Of one element at a time.
    Pointwise(Box<dyn pointwise::Loss>),
    /// Of a row of scores.
    Rowwise {
        /// With labels as targets.
        labels: Box<dyn rows::Loss>,
        /// With probabilities as targets, where the loss takes them.
        probabilities: Option<Box<dyn rows::Loss>>,
    },
    /// Of vectors, a pair or a triplet of them.
    Embeddings(Box<dyn embeddings::Loss>),
}

/// The parameters of a loss, by name.
pub struct Parameters<'a>(pub &'a dyn Fn(&str) -> Option<f64>);

macro_rules! registry {
    ($($name:literal => |$parameters:ident| $loss:expr,)+) => {
        /// The names of all losses.
        pub const NAMES: &[&str] = &[$($name),+];

        /// The loss of that name.
        ///
        /// # Errors
        /// If there is none, or a parameter is missing or outside its range.
        pub fn named(name: &str, parameters: &Parameters<'_>) -> Result<Loss, String> {
            match name {
                $($name => { let $parameters = parameters; Ok($loss) })+
                _ => Err(format!("there is no loss named {name:?}")),
            }
        }
    };
}

registry! {
    "mse_loss" => |_p| pointwise(squared_error::SquaredError),
    "l1_loss" => |_p| pointwise(absolute_error::AbsoluteError),
    "huber_loss" => |p| pointwise(huber::Huber { delta: p.positive("delta")? }),
    "smooth_l1_loss" => |p| pointwise(smooth_l1::SmoothL1 { beta: p.nonnegative("beta")? }),
    "binary_cross_entropy" => |_p| pointwise(binary_cross_entropy::BinaryCrossEntropy),
    "binary_cross_entropy_with_logits" => |_p| pointwise(binary_cross_entropy::BinaryCrossEntropyWithLogits),
    "nll_loss" => |_p| Loss::Rowwise { labels: rowwise(nll::NegativeLogLikelihood), probabilities: None },
    "cross_entropy" => |p| cross_entropy(p.fraction("label_smoothing")?),
    "cosine_embedding_loss" => |p| {
        Loss::Embeddings(embeddings(cosine_embedding::CosineEmbedding { margin: p.number("margin")? }))
    },
    "contrastive_loss" => |p| Loss::Embeddings(embeddings(contrastive::Contrastive { margin: p.positive("margin")? })),
    "contrastive_distance_loss" => |p| pointwise(contrastive::Contrastive { margin: p.positive("margin")? }),
    "triplet_margin_loss" => |p| triplet_margin_loss(p)?,
}

fn pointwise<const N: usize>(loss: impl crate::loss::Pointwise<N>) -> Loss {
    Loss::Pointwise(Box::new(pointwise::Formula(loss)))
}

fn rowwise<const K: usize>(loss: impl crate::loss::Rowwise<K>) -> Box<dyn rows::Loss> {
    Box::new(rows::Formula(loss))
}

fn cross_entropy(label_smoothing: f64) -> Loss {
    use cross_entropy::CrossEntropy;
    if label_smoothing > 0.0 {
        Loss::Rowwise {
            labels: rowwise(CrossEntropy::<false, true> { label_smoothing }),
            probabilities: Some(rowwise(CrossEntropy::<true, true> { label_smoothing })),
        }
    } else {
        Loss::Rowwise {
            labels: rowwise(CrossEntropy::<false, false> { label_smoothing }),
            probabilities: Some(rowwise(CrossEntropy::<true, false> { label_smoothing })),
        }
    }
}

fn embeddings<const M: usize, const K: usize, const S: usize>(
    loss: impl crate::loss::Embeddings<M, K, S>,
) -> Box<dyn embeddings::Loss> {
    Box::new(embeddings::Formula(loss))
}

/// A triplet loss with a distance.
fn triplet<D: triplet_margin::Distance>(distance: D, p: &Parameters<'_>) -> Result<Loss, String> {
    use triplet_margin::TripletMargin;
    let (margin, swap) = (p.positive("margin")?, p.flag("swap")?);
    Ok(Loss::Embeddings(if swap {
        embeddings(TripletMargin::<D, true> { distance, margin })
    } else {
        embeddings(TripletMargin::<D, false> { distance, margin })
    }))
}

fn triplet_margin_loss(parameters: &Parameters<'_>) -> Result<Loss, String> {
    use triplet_margin::{Chebyshev, Euclidean, Manhattan, Minkowski};
    let p = parameters.within("p", "at least 1", |p| p >= 1.0)?;
    let eps = parameters.number("eps")?;
    if p == 1.0 {
        triplet(Manhattan { eps }, parameters)
    } else if p == 2.0 {
        triplet(Euclidean { eps }, parameters)
    } else if p == f64::INFINITY {
        triplet(Chebyshev { eps }, parameters)
    } else {
        triplet(Minkowski { p, eps }, parameters)
    }
}

impl Parameters<'_> {
    fn number(&self, name: &str) -> Result<f64, String> {
        self.within(name, "a finite number", f64::is_finite)
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        Ok(self.within(name, "true or false", |value| value == 0.0 || value == 1.0)? != 0.0)
    }

    fn within(&self, name: &str, range: &str, is_within: impl Fn(f64) -> bool) -> Result<f64, String> {
        let value = (self.0)(name).ok_or_else(|| format!("{name} is missing"))?;
        if is_within(value) { Ok(value) } else { Err(format!("{name} must be {range}, got {value}")) }
    }

    fn positive(&self, name: &str) -> Result<f64, String> {
        self.within(name, "positive", |value| value > 0.0)
    }

    fn nonnegative(&self, name: &str) -> Result<f64, String> {
        self.within(name, "at least 0", |value| value >= 0.0)
    }

    fn fraction(&self, name: &str) -> Result<f64, String> {
        self.within(name, "in [0, 1]", |value| (0.0..=1.0).contains(&value))
    }
}
