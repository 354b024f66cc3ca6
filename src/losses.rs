//! The registry: a line for each loss.

mod absolute_error;
mod binary_cross_entropy;
mod cross_entropy;
mod gaussian_nll;
mod hinge_embedding;
mod huber;
mod kl_div;
mod margin_ranking;
mod multi_margin;
mod multilabel_margin;
mod multilabel_soft_margin;
mod nll;
mod poisson_nll;
mod sigmoid_focal;
mod smooth_l1;
mod soft_margin;
mod softmax_focal;
mod squared_error;

use crate::drive::{label_sets, pointwise, rows};

/// A loss with its parameters, ready for a driver.
pub enum Loss {
    /// Of one element at a time.
    Pointwise(Box<dyn pointwise::Loss>),
    /// Of a row of scores.
    Rowwise(Rowwise),
    /// Of a row of scores and any number of labels.
    LabelSets(Box<dyn label_sets::Loss>),
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

impl Loss {
    /// The names of the operands that must be given.
    pub fn operands(&self) -> &'static [&'static str] {
        match self {
            Self::Pointwise(loss) => &loss.operands()[..loss.required()],
            Self::Rowwise(_) | Self::LabelSets(_) => &["input", "target"],
        }
    }

    /// The names of the operands that have gradients.
    pub fn inputs(&self) -> Vec<&'static str> {
        match self {
            Self::Pointwise(loss) => loss.differentiable().iter().map(|&operand| loss.operands()[operand]).collect(),
            Self::Rowwise(_) | Self::LabelSets(_) => vec!["input"],
        }
    }

    /// The number of inputs whose gradients a call means that does not say which.
    pub fn asked(&self) -> usize {
        match self {
            Self::Pointwise(loss) => loss.asked(),
            Self::Rowwise(_) | Self::LabelSets(_) => 1,
        }
    }

    /// Whether the loss has a Hessian.
    pub fn has_hessian(&self) -> bool {
        match self {
            Self::Pointwise(_) | Self::Rowwise(_) | Self::LabelSets(_) => true,
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
