//! The registry: a line for each loss.

mod absolute_error;
mod binary_cross_entropy;
mod cross_entropy;
mod huber;
mod multi_margin;
mod multilabel_margin;
mod multilabel_soft_margin;
mod nll;
mod smooth_l1;
mod softmax_focal;
mod squared_error;

use crate::drive::{label_sets, pointwise, rows};

/// A loss with its parameters, ready for a driver.
pub enum Loss {
    /// Of one element at a time.
    Pointwise(Box<dyn pointwise::Loss>),
    /// Of a row of scores.
    Rowwise {
        /// With labels as targets, where the loss takes them.
        labels: Option<Box<dyn rows::Loss>>,
        /// With probabilities as targets, where the loss takes them.
        probabilities: Option<Box<dyn rows::Loss>>,
    },
    /// Of a row of scores and any number of labels.
    LabelSets(Box<dyn label_sets::Loss>),
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
    "nll_loss" => |_p| of_labels(nll::NegativeLogLikelihood),
    "cross_entropy" => |p| cross_entropy(p.fraction("label_smoothing")?),
    "softmax_focal_loss" => |p| of_labels(softmax_focal::SoftmaxFocal { gamma: p.nonnegative("gamma")? }),
    "multi_margin_loss" => |p| multi_margin(p.within("p", "1 or 2", |p| p == 1.0 || p == 2.0)?, p.any("margin")?),
    "multilabel_margin_loss" => |_p| Loss::LabelSets(Box::new(label_sets::Formula(multilabel_margin::MultilabelMargin))),
    "multilabel_soft_margin_loss" => |_p| Loss::Rowwise {
        labels: None,
        probabilities: rowwise(multilabel_soft_margin::MultilabelSoftMargin),
    },
}

fn pointwise<const N: usize>(loss: impl crate::loss::Pointwise<N>) -> Loss {
    Loss::Pointwise(Box::new(pointwise::Formula(loss)))
}

fn rowwise<const K: usize>(loss: impl crate::loss::Rowwise<K>) -> Option<Box<dyn rows::Loss>> {
    Some(Box::new(rows::Formula(loss)))
}

fn of_labels<const K: usize>(loss: impl crate::loss::Rowwise<K>) -> Loss {
    Loss::Rowwise { labels: rowwise(loss), probabilities: None }
}

fn multi_margin(p: f64, margin: f64) -> Loss {
    use multi_margin::MultiMargin;
    if p == 2.0 { of_labels(MultiMargin::<true> { margin }) } else { of_labels(MultiMargin::<false> { margin }) }
}

fn cross_entropy(label_smoothing: f64) -> Loss {
    use cross_entropy::CrossEntropy;
    if label_smoothing > 0.0 {
        Loss::Rowwise {
            labels: rowwise(CrossEntropy::<false, true> { label_smoothing }),
            probabilities: rowwise(CrossEntropy::<true, true> { label_smoothing }),
        }
    } else {
        Loss::Rowwise {
            labels: rowwise(CrossEntropy::<false, false> { label_smoothing }),
            probabilities: rowwise(CrossEntropy::<true, false> { label_smoothing }),
        }
    }
}

impl Parameters<'_> {
    fn within(&self, name: &str, range: &str, is_within: impl Fn(f64) -> bool) -> Result<f64, String> {
        let value = (self.0)(name).ok_or_else(|| format!("{name} is missing"))?;
        if is_within(value) { Ok(value) } else { Err(format!("{name} must be {range}, got {value}")) }
    }

    fn any(&self, name: &str) -> Result<f64, String> {
        self.within(name, "a number", |value| !value.is_nan())
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
