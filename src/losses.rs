//! The registry: a line for each loss.

mod absolute_error;
mod binary_cross_entropy;
mod contrastive;
mod cosine_embedding;
mod cross_entropy;
pub(crate) mod ctc;
mod gaussian_nll;
mod hinge;
mod hinge_embedding;
mod huber;
mod kl_div;
mod linear_cross_entropy;
mod margin_ranking;
mod multi_margin;
mod multilabel_margin;
mod multilabel_soft_margin;
mod nll;
mod pinball;
mod poisson_nll;
mod sigmoid_focal;
mod smooth_l1;
mod soft_margin;
mod softmax_focal;
mod squared_error;
mod triplet_margin;
mod tversky;
mod tweedie_deviance;

use crate::drive::regions::{Empty, Mode, Settings};
use crate::drive::{embeddings, label_sets, linear, pointwise, rows, sequences};
use crate::loss::Region;
use tversky::Tversky;

/// A loss with its parameters, ready for a driver.
pub enum Loss {
    /// Of one element at a time.
    Pointwise(Box<dyn pointwise::Loss>),
    /// Of a row of scores.
    Rowwise(Rowwise),
    /// Of a row of scores and any number of labels.
    LabelSets(Box<dyn label_sets::Loss>),
    /// Of a linear layer's scores.
    Linear {
        /// The loss.
        loss: Box<dyn linear::Loss>,
        /// The label of samples that are left out.
        ignore_index: Option<i128>,
    },
    /// Of a row of vectors.
    Embeddings(Box<dyn embeddings::Loss>),
    /// Of rows of log-probabilities and a sequence of labels.
    Sequencewise {
        /// The formula.
        loss: Box<dyn sequences::Loss>,
        /// The class that is no label.
        blank: i128,
        /// Whether an infinite loss counts as 0.
        zero_infinity: bool,
    },
    /// Of the sums over a region.
    Regions {
        /// The formula.
        loss: Box<dyn Region>,
        /// What the data are.
        settings: Settings,
    },
}

/// A loss of a row of scores, and what it takes.
pub struct Rowwise {
    /// With a label as target.
    pub labels: Option<Box<dyn rows::Loss>>,
    /// With probabilities as targets. A loss that takes nothing else has classes along the last axis.
    pub probabilities: Option<Box<dyn rows::Loss>>,
    /// The label of samples that are left out.
    pub ignore_index: Option<i128>,
    /// What the weights are called.
    pub weight: &'static str,
    /// Whether a number is a row of one class, and a row's label may be an array of one.
    pub takes_numbers: bool,
}

/// What callers have to know of a loss.
pub struct Description {
    /// The names of the operands that must be given.
    pub operands: &'static [&'static str],
    /// The names of operands that may be given besides.
    pub optional: &'static [&'static str],
    /// The names of those that have gradients.
    pub inputs: Vec<&'static str>,
    /// The number of inputs whose gradients a call means that does not say which.
    pub asked: usize,
    /// Whether the loss has a Hessian.
    pub has_hessian: bool,
    /// Whether calls can return the logarithms of the classes' probabilities besides.
    pub has_log_prob: bool,
    /// Whether the mean divides by the sum of a weight for each element, where one is given.
    pub weight_normalises: bool,
    /// Whether there is a mean over the entries of the first axis besides.
    pub has_batch_mean: bool,
}

impl Default for Description {
    /// An input, its gradient, and a target.
    fn default() -> Self {
        let (operands, inputs) = (&["input", "target"], vec!["input"]);
        Self {
            operands,
            optional: &[],
            inputs,
            asked: 1,
            has_hessian: false,
            has_log_prob: false,
            weight_normalises: false,
            has_batch_mean: false,
        }
    }
}

impl Loss {
    /// What callers have to know of it.
    pub fn description(&self) -> Description {
        match self {
            Self::Pointwise(loss) => {
                let operands = loss.operands();
                let inputs = loss.differentiable().iter().map(|&operand| operands[operand]).collect();
                let (operands, asked) = (&operands[..loss.required()], loss.asked());
                let (weight_normalises, has_batch_mean) = (loss.weight_normalises(), loss.has_batch_mean());
                let of_defaults = Description { has_hessian: true, ..Description::default() };
                Description { operands, inputs, asked, weight_normalises, has_batch_mean, ..of_defaults }
            }
            Self::Rowwise(loss) => {
                let has_log_prob = loss.labels.as_deref().is_some_and(rows::has_log_probabilities);
                Description { has_hessian: true, has_log_prob, ..Description::default() }
            }
            Self::LabelSets(_) => Description { has_hessian: true, ..Description::default() },
            Self::Regions { .. } => Description::default(),
            Self::Embeddings(loss) => {
                let (operands, asked) = (loss.operands(), loss.vectors());
                Description { operands, inputs: operands[..asked].to_vec(), asked, ..Description::default() }
            }
            Self::Linear { .. } => Description {
                operands: &["input", "linear_weight", "target"],
                optional: &["linear_bias"],
                inputs: vec!["input", "linear_weight", "linear_bias"],
                asked: 3,
                ..Description::default()
            },
            Self::Sequencewise { .. } => Description {
                operands: &["log_probs", "targets", "input_lengths", "target_lengths"],
                inputs: vec!["log_probs"],
                ..Description::default()
            },
        }
    }
}

/// A parameter of a loss, as the caller has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// A whole number, or a truth value.
    Integer(i128),
    /// Another number.
    Number(f64),
    /// A word.
    Word(String),
    /// Nothing: `None`.
    Nothing,
    /// Something else, by the name of its type.
    Other(String),
}

/// Why there is no loss of some name and parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Invalid {
    /// A value is outside its range.
    Value(String),
    /// It is of another type.
    Type(String),
}

/// The parameters of a loss, by name.
pub struct Parameters<'a>(pub &'a dyn Fn(&str) -> Option<Parameter>);

macro_rules! registry {
    ($($name:literal => |$parameters:ident| $loss:expr,)+) => {
        /// The names of all losses.
        pub const NAMES: &[&str] = &[$($name),+];

        /// The loss of that name.
        ///
        /// # Errors
        /// If there is none, or a parameter is missing, or not of its type or range.
        pub fn named(name: &str, parameters: &Parameters<'_>) -> Result<Loss, Invalid> {
            match name {
                $($name => { let $parameters = parameters; Ok($loss) })+
                _ => Err(Invalid::Value(format!("there is no loss named {name:?}"))),
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
    "sigmoid_focal_loss" => |p| sigmoid_focal(p.optional("alpha", Parameters::number)?, p.nonnegative("gamma")?)?,
    "pinball_loss" => |p| pointwise(pinball::Pinball { alpha: p.fraction("alpha")? }),
    "tweedie_deviance_loss" => |p| tweedie_deviance(p.number("power")?)?,
    "hinge_loss" => |_p| pointwise(hinge::Hinge),
    "soft_margin_loss" => |_p| pointwise(soft_margin::SoftMargin),
    "hinge_embedding_loss" => |p| pointwise(hinge_embedding::HingeEmbedding { margin: p.number("margin")? }),
    "margin_ranking_loss" => |p| pointwise(margin_ranking::MarginRanking { margin: p.number("margin")? }),
    "kl_div" => |p| if p.flag("log_target")? { pointwise(kl_div::KlDiv::<true>) } else { pointwise(kl_div::KlDiv::<false>) },
    "poisson_nll_loss" => |p| poisson_nll(p.flag("log_input")?, p.flag("full")?, p.nonnegative("eps")?),
    "gaussian_nll_loss" => |p| gaussian_nll(p.flag("full")?, p.positive("eps")?),
    "cross_entropy" => |p| cross_entropy(p.fraction("label_smoothing")?, p.integer("ignore_index")?),
    "nll_loss" => |p| Loss::Rowwise(of_labels(nll::NegativeLogLikelihood, Some(p.integer("ignore_index")?))),
    "softmax_focal_loss" => |p| softmax_focal(p.nonnegative("gamma")?, p.integer("ignore_index")?),
    "multi_margin_loss" => |p| multi_margin(p.within("p", "1 or 2", |p| p == 1.0 || p == 2.0)?, p.number("margin")?),
    "multilabel_margin_loss" => |_p| Loss::LabelSets(Box::new(label_sets::Formula(multilabel_margin::MultilabelMargin))),
    "multilabel_soft_margin_loss" => |_p| multilabel_soft_margin(),
    "linear_cross_entropy" => |p| Loss::Linear {
        loss: Box::new(linear_cross_entropy::LinearCrossEntropy {
            label_smoothing: p.fraction("label_smoothing")?,
            z_loss: p.nonnegative("z_loss")?,
            softcap: p.optional_positive("softcap")?,
        }),
        ignore_index: Some(p.integer("ignore_index")?),
    },
    "cosine_embedding_loss" => |p| embeddings(cosine_embedding::CosineEmbedding { margin: p.number("margin")? }),
    "contrastive_loss" => |p| embeddings(contrastive::Contrastive { margin: p.positive("margin")? }),
    "contrastive_distance_loss" => |p| pointwise(contrastive::Contrastive { margin: p.positive("margin")? }),
    "triplet_margin_loss" => |p| triplet_margin_loss(p)?,
    "triplet_margin_with_distance_loss" => |p| triplet_margin_with_distance_loss(p)?,
    "ctc_loss" => |p| Loss::Sequencewise {
        loss: Box::new(sequences::Formula(ctc::Ctc)),
        blank: p.integer("blank")?,
        zero_infinity: p.flag("zero_infinity")?,
    },
    "dice_loss" => |p| regions(p, Tversky { squared: p.flag("squared")?, ..tversky(p, 0.5, 0.5, 0.5)? })?,
    "jaccard_loss" => |p| regions(p, Tversky { squared: p.flag("squared")?, ..tversky(p, 1.0, 1.0, 1.0)? })?,
    "tversky_loss" => |p| regions(p, tversky(p, p.nonnegative("alpha")?, p.nonnegative("beta")?, 1.0)?)?,
    "focal_tversky_loss" => |p| {
        let index = tversky(p, p.nonnegative("alpha")?, p.nonnegative("beta")?, 1.0)?;
        regions(p, Tversky { gamma: p.positive("gamma")?, ..index })?
    },
}

fn pointwise<const N: usize, const D: usize>(loss: impl crate::loss::Pointwise<N, D>) -> Loss {
    Loss::Pointwise(Box::new(pointwise::Formula(loss)))
}

fn rowwise<const K: usize>(loss: impl crate::loss::Rowwise<K>) -> Box<dyn rows::Loss> {
    Box::new(rows::Formula(loss))
}

fn sigmoid_focal(alpha: Option<f64>, gamma: f64) -> Result<Loss, Invalid> {
    use sigmoid_focal::SigmoidFocal;
    let balance = match alpha {
        Some(alpha) if alpha > 1.0 || alpha.is_nan() => {
            return Err(Invalid::Value(format!("alpha must be at most 1, got {alpha}")));
        }
        Some(alpha) if alpha >= 0.0 => (alpha, 1.0 - alpha),
        _ => (1.0, 1.0),
    };
    Ok(if gamma == 2.0 {
        pointwise(SigmoidFocal::<true> { balance, gamma })
    } else {
        pointwise(SigmoidFocal::<false> { balance, gamma })
    })
}

fn tweedie_deviance(power: f64) -> Result<Loss, Invalid> {
    use tweedie_deviance::{TweedieDeviance, family};
    Ok(match power {
        0.0 => pointwise(squared_error::SquaredError),
        1.0 => pointwise(TweedieDeviance::<{ family::POISSON }> { power }),
        2.0 => pointwise(TweedieDeviance::<{ family::GAMMA }> { power }),
        _ if power > 1.0 && power < 2.0 => pointwise(TweedieDeviance::<{ family::COMPOUND }> { power }),
        _ if power > 2.0 && power.is_finite() => pointwise(TweedieDeviance::<{ family::STABLE }> { power }),
        _ if power < 0.0 && power.is_finite() => pointwise(TweedieDeviance::<{ family::EXTREME }> { power }),
        _ => return Err(Invalid::Value(format!("power must be at most 0 or at least 1, got {power}"))),
    })
}

fn poisson_nll(log_input: bool, full: bool, eps: f64) -> Loss {
    use poisson_nll::PoissonNll;
    match (log_input, full) {
        (false, false) => pointwise(PoissonNll::<false, false> { eps }),
        (false, true) => pointwise(PoissonNll::<false, true> { eps }),
        (true, false) => pointwise(PoissonNll::<true, false> { eps }),
        (true, true) => pointwise(PoissonNll::<true, true> { eps }),
    }
}

fn gaussian_nll(full: bool, eps: f64) -> Loss {
    use gaussian_nll::GaussianNll;
    if full { pointwise(GaussianNll::<true> { eps }) } else { pointwise(GaussianNll::<false> { eps }) }
}

fn of_labels<const K: usize>(loss: impl crate::loss::Rowwise<K>, ignore_index: Option<i128>) -> Rowwise {
    let labels = Some(rowwise(loss));
    Rowwise { labels, probabilities: None, ignore_index, weight: "weight", takes_numbers: false }
}

fn cross_entropy(label_smoothing: f64, ignore_index: i128) -> Loss {
    use cross_entropy::CrossEntropy;
    let ignore_index = Some(ignore_index);
    Loss::Rowwise(if label_smoothing > 0.0 {
        Rowwise {
            probabilities: Some(rowwise(CrossEntropy::<true, true> { label_smoothing })),
            ..of_labels(CrossEntropy::<false, true> { label_smoothing }, ignore_index)
        }
    } else {
        Rowwise {
            probabilities: Some(rowwise(CrossEntropy::<true, false> { label_smoothing })),
            ..of_labels(CrossEntropy::<false, false> { label_smoothing }, ignore_index)
        }
    })
}

fn softmax_focal(gamma: f64, ignore_index: i128) -> Loss {
    let loss = softmax_focal::SoftmaxFocal { gamma };
    Loss::Rowwise(Rowwise { weight: "alpha", ..of_labels(loss, Some(ignore_index)) })
}

fn multi_margin(p: f64, margin: f64) -> Loss {
    use multi_margin::MultiMargin;
    let loss = if p == 2.0 {
        of_labels(MultiMargin::<true> { margin }, None)
    } else {
        of_labels(MultiMargin::<false> { margin }, None)
    };
    Loss::Rowwise(Rowwise { takes_numbers: true, ..loss })
}

fn multilabel_soft_margin() -> Loss {
    let probabilities = Some(rowwise(multilabel_soft_margin::MultilabelSoftMargin));
    Loss::Rowwise(Rowwise { labels: None, probabilities, ignore_index: None, weight: "weight", takes_numbers: false })
}

fn embeddings<const M: usize, const K: usize, const S: usize>(loss: impl crate::loss::Embeddings<M, K, S>) -> Loss {
    Loss::Embeddings(Box::new(embeddings::Formula(loss)))
}

fn triplet_margin(distance: impl triplet_margin::Distance, p: &Parameters<'_>) -> Result<Loss, Invalid> {
    let margin = p.positive("margin")?;
    Ok(if p.flag("swap")? {
        embeddings(triplet_margin::TripletMargin::<_, true> { distance, margin })
    } else {
        embeddings(triplet_margin::TripletMargin::<_, false> { distance, margin })
    })
}

fn triplet_margin_loss(parameters: &Parameters<'_>) -> Result<Loss, Invalid> {
    use triplet_margin::{Chebyshev, Euclidean, Manhattan, Minkowski};
    let eps = parameters.number("eps")?;
    let p = parameters.within("p", "at least 1", |p| p >= 1.0)?;
    if p == 1.0 {
        triplet_margin(Manhattan { eps }, parameters)
    } else if p == 2.0 {
        triplet_margin(Euclidean { eps }, parameters)
    } else if p == f64::INFINITY {
        triplet_margin(Chebyshev { eps }, parameters)
    } else {
        triplet_margin(Minkowski { p, eps }, parameters)
    }
}

fn triplet_margin_with_distance_loss(p: &Parameters<'_>) -> Result<Loss, Invalid> {
    use triplet_margin::{Cosine, Euclidean, Manhattan, SquaredEuclidean};
    match p.choice("distance_function", &["euclidean", "squared_euclidean", "cosine", "manhattan"])? {
        // torch's pairwise distance, with its eps.
        0 => triplet_margin(Euclidean { eps: 1e-6 }, p),
        1 => triplet_margin(SquaredEuclidean, p),
        2 => triplet_margin(Cosine, p),
        _ => triplet_margin(Manhattan { eps: 0.0 }, p),
    }
}

/// The complement of Tversky's index; `unit` is what its smoothing counts for.
fn tversky(p: &Parameters<'_>, alpha: f64, beta: f64, unit: f64) -> Result<Tversky, Invalid> {
    let (numerator, denominator) = (p.nonnegative("smooth_numerator")?, p.nonnegative("smooth_denominator")?);
    if numerator > denominator {
        return Err(Invalid::Value(format!(
            "smooth_numerator must be at most smooth_denominator, lest a loss be negative; got {numerator} and {denominator}"
        )));
    }
    Ok(Tversky {
        alpha,
        beta,
        gamma: 1.0,
        smooth_numerator: unit * numerator,
        smooth_denominator: unit * denominator,
        squared: false,
    })
}

fn regions(p: &Parameters<'_>, loss: impl Region) -> Result<Loss, Invalid> {
    let modes = [Mode::Binary, Mode::Multilabel, Mode::Multiclass];
    let empties = [Empty::Smooth, Empty::Zero, Empty::Skip];
    let settings = Settings {
        mode: modes[p.choice("mode", &["binary", "multilabel", "multiclass"])?],
        from_logits: p.flag("from_logits")?,
        ignore_index: p.optional("ignore_index", Parameters::integer)?,
        per_image: p.flag("per_image")?,
        empty: empties[p.choice("empty", &["smooth", "zero", "skip"])?],
    };
    Ok(Loss::Regions { loss: Box::new(loss), settings })
}

impl Parameters<'_> {
    /// A parameter that `accept` takes; it returns nothing of those of another type.
    fn accepted<R>(&self, name: &str, expected: &str, accept: impl Fn(&Parameter) -> Option<R>) -> Result<R, Invalid> {
        let parameter = (self.0)(name).ok_or_else(|| Invalid::Value(format!("{name} is missing")))?;
        accept(&parameter).ok_or_else(|| {
            let class = match parameter {
                Parameter::Integer(_) => "int".into(),
                Parameter::Number(_) => "float".into(),
                Parameter::Word(_) => "str".into(),
                Parameter::Nothing => "NoneType".into(),
                Parameter::Other(class) => class,
            };
            Invalid::Type(format!("{name} must be {expected}, got {class}"))
        })
    }

    fn number(&self, name: &str) -> Result<f64, Invalid> {
        self.accepted(name, "a number", |parameter| match parameter {
            Parameter::Integer(number) => Some(*number as f64),
            Parameter::Number(number) => Some(*number),
            _ => None,
        })
    }

    fn integer(&self, name: &str) -> Result<i128, Invalid> {
        self.accepted(name, "an integer", |parameter| match parameter {
            Parameter::Integer(number) => Some(*number),
            _ => None,
        })
    }

    /// A parameter that may be `None`.
    fn optional<R>(&self, name: &str, get: impl Fn(&Self, &str) -> Result<R, Invalid>) -> Result<Option<R>, Invalid> {
        if (self.0)(name) == Some(Parameter::Nothing) { Ok(None) } else { get(self, name).map(Some) }
    }

    fn within(&self, name: &str, range: &str, is_within: impl Fn(f64) -> bool) -> Result<f64, Invalid> {
        let value = self.number(name)?;
        if is_within(value) { Ok(value) } else { Err(Invalid::Value(format!("{name} must be {range}, got {value}"))) }
    }

    fn positive(&self, name: &str) -> Result<f64, Invalid> {
        self.within(name, "positive", |value| value > 0.0)
    }

    fn optional_positive(&self, name: &str) -> Result<Option<f64>, Invalid> {
        if (self.0)(name) == Some(Parameter::Nothing) {
            return Ok(None);
        }
        self.within(name, "positive and finite, or None", |value| value > 0.0 && value < f64::INFINITY).map(Some)
    }

    fn nonnegative(&self, name: &str) -> Result<f64, Invalid> {
        self.within(name, "at least 0", |value| value >= 0.0)
    }

    fn fraction(&self, name: &str) -> Result<f64, Invalid> {
        self.within(name, "in [0, 1]", |value| (0.0..=1.0).contains(&value))
    }

    /// The place of a word among those that are known.
    fn choice(&self, name: &str, words: &[&str]) -> Result<usize, Invalid> {
        let word = self.accepted(name, "a string", |parameter| match parameter {
            Parameter::Word(word) => Some(word.clone()),
            _ => None,
        })?;
        words.iter().position(|&known| known == word).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            Invalid::Value(format!("{name} must be one of {}, got {word:?}", words.join(", ")))
        })
    }

    fn flag(&self, name: &str) -> Result<bool, Invalid> {
        self.accepted(name, "True or False", |parameter| match parameter {
            Parameter::Integer(number @ (0 | 1)) => Some(*number == 1),
            _ => None,
        })
    }
}
