//! The driver for losses of a sequence of rows of log-probabilities, a row for each step, and a sequence of labels.
//!
//! A sample is swept forward for its probability, and for the gradient backward too. The backward sweep needs the forward
//! one's states: of those a row is kept every so many steps, and from it the rows up to the next are computed once more, so
//! that a sample of T steps needs room for 2√T rows. States are [`Scaled`]: no probability is so small that it is lost, and
//! none costs a logarithm. They are computed in double precision whatever the buffers hold, because errors add up from step
//! to step.

#![allow(clippy::needless_range_loop, reason = "a lane is one of several arrays at once")]

use std::ops::Range;

use crate::drive::block::{BLOCK, Block, GRAIN, Number};
use crate::drive::layout::{Layout, Operand};
use crate::drive::rows::block_of;
use crate::drive::{Failure, SPREAD_FROM, STREAM_FROM, Want};
use crate::isa::{Isa, Kernel};
use crate::loss::{Position, Sequencewise};
use crate::real::{Real, Scaled};
use crate::storage::{self, Run};
use crate::sum::ExactSum;
use crate::threads::{self, Tasks};

/// Positions that are computed side by side.
const LANES: usize = 8;
type Lanes = [f64; LANES];

/// The most steps after which mantissas are brought back to 1: each multiplies them by 2^−0.5 to 2^2.1.
const STEPS: usize = 64;

/// Labels after which a check looks whether it shall stop.
const LOOK: usize = 1 << 12;

/// A buffer with an axis of steps and one of classes.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The first class at the first step, of each sample.
    pub samples: Operand,
    /// Bytes from a step to the next.
    pub step: isize,
    /// Bytes from a class to the next.
    pub class: isize,
}

/// Where the labels of the samples lie.
#[derive(Clone, Debug)]
pub enum Targets {
    /// The first label of each sample, the bytes from a label to the next, and how many labels there is room for.
    Padded(Operand, isize, usize),
    /// One sample's after the other's, so many in all.
    Concatenated(Run, usize),
}

/// What does not fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Misfit {
    /// The number of steps of a sample is not in `[0, most]`.
    InputLength {
        /// The sample.
        sample: usize,
        /// What stands there; a float where that is not whole.
        length: Result<i128, f64>,
    },
    /// The number of labels of a sample is not in `[0, most]`.
    TargetLength {
        /// The sample.
        sample: usize,
        /// What stands there.
        length: Result<i128, f64>,
        /// The most that it can be.
        most: usize,
    },
    /// Concatenated targets are more than their lengths add up to.
    TargetsLeft {
        /// The sum of the lengths.
        lengths: usize,
    },
    /// A label is not a class, or is the blank.
    Label {
        /// The sample.
        sample: usize,
        /// The label's place in it.
        position: usize,
        /// What stands there.
        label: Result<i128, f64>,
    },
}

/// A call: buffers and what to do with them. All layouts are that of the samples.
pub struct Call<'a> {
    /// The formula.
    pub loss: &'a dyn Loss,
    /// The samples, in C order.
    pub layout: &'a Layout,
    /// What is wanted.
    pub want: Want,
    /// The number of steps that there is room for.
    pub steps: usize,
    /// The number of classes.
    pub classes: usize,
    /// The log-probabilities.
    pub input: &'a Rows,
    /// The labels.
    pub targets: &'a Targets,
    /// The number of steps of each sample.
    pub input_lengths: &'a Operand,
    /// The number of labels of each sample.
    pub target_lengths: &'a Operand,
    /// The class that is no label.
    pub blank: usize,
    /// Whether an infinite loss counts as 0.
    pub zero_infinity: bool,
    /// Whether each loss is divided by the number of its labels.
    pub per_label: bool,
    /// Weights that multiply losses and derivatives; 0 leaves a sample out.
    pub sample_weight: Option<&'a Operand>,
    /// What each sample's gradient is multiplied by, in a vector-Jacobian product.
    pub grad_output: Option<&'a Operand>,
    /// What derivatives are multiplied by.
    pub factor: f64,
    /// Where losses go, if they are not only summed.
    pub value: Option<&'a Operand>,
    /// Where the gradient goes.
    pub slope: Option<&'a Rows>,
    /// Whether the losses are summed.
    pub sum: bool,
}

/// What is known of a call once its lengths and labels have been looked at.
pub struct Checked {
    weight: ExactSum,
    /// The first label of each sample, of concatenated targets.
    starts: Vec<usize>,
}

impl Checked {
    /// The sum of the weights.
    pub fn weight(&self) -> f64 {
        self.weight.value()
    }
}

/// A sample's lengths and labels.
struct Sequence {
    sample: usize,
    steps: usize,
    /// The number of labels.
    count: usize,
    labels: Run,
}

impl Rows {
    #[inline]
    fn row(&self, layout: &Layout, sample: usize, step: usize) -> Run {
        let run = layout.at(&self.samples, sample);
        Run { first: run.first.wrapping_offset(self.step.wrapping_mul(step as isize)), stride: self.class, ..run }
    }
}

/// A loss of sequences whose formula is behind a pointer.
pub trait Loss: Send + Sync {
    /// Computes a step forward.
    fn forward(&self, isa: Isa, step: Forward<'_>);
    /// Computes a step backward.
    fn backward(&self, isa: Isa, step: Backward<'_>);
}

/// A formula as a [`Loss`].
pub struct Formula<L>(pub L);

impl<L: Sequencewise> Loss for Formula<L> {
    fn forward(&self, isa: Isa, step: Forward<'_>) {
        isa.run(Advance { loss: self.0, step });
    }

    fn backward(&self, isa: Isa, step: Backward<'_>) {
        isa.run(Retreat { loss: self.0, step });
    }
}

/// A sample's labels and the lattice that they make.
struct Lattice {
    /// The number of labels.
    labels: usize,
    /// The classes of the labels and the blank, in order, each with its place among the emissions: a label's is its
    /// position, the blank's comes after all positions.
    places: Vec<(usize, usize)>,
    /// The exponent of 1 where a label is not the one before it, else of 0.
    unlike: Vec<Lanes>,
}

impl Lattice {
    /// Lanes of positions.
    fn lanes(&self) -> usize {
        self.unlike.len() - 1
    }

    /// Makes it that of a sequence of labels.
    fn set(
        &mut self,
        labels: impl ExactSizeIterator<Item = Result<usize, Misfit>>,
        blank: usize,
    ) -> Result<(), Failure> {
        let Self { labels: len, places, unlike } = self;
        *len = labels.len();
        let lanes = (*len + 1).div_ceil(LANES);
        places.clear();
        places.try_reserve_exact(*len + 1)?;
        unlike.clear();
        unlike.try_reserve_exact(lanes + 1)?;
        unlike.resize(lanes + 1, [f64::NEG_INFINITY; LANES]);
        for (position, label) in labels.enumerate() {
            let label = label?;
            let is_like = places.last().is_some_and(|&(before, _)| before == label);
            unlike[position / LANES][position % LANES] = if is_like { f64::NEG_INFINITY } else { 0.0 };
            places.push((label, position));
        }
        places.push((blank, LANES * lanes));
        places.sort_unstable();
        Ok(())
    }
}

/// Rows of states: for each the blanks' mantissas, the labels', the blanks' exponents, the labels', each followed by lanes
/// that are 0, so that the position before the first and that after the last are there.
struct States {
    rows: Vec<Lanes>,
    /// Lanes of positions.
    lanes: usize,
}

const ZEROS: [Lanes; 2] = [[0.0; LANES], [f64::NEG_INFINITY; LANES]];

impl States {
    fn len(lanes: usize) -> usize {
        4 * (lanes + 1)
    }

    /// Makes room for rows.
    fn reserve(&mut self, rows: usize, lanes: usize) -> Result<(), Failure> {
        self.lanes = lanes;
        resize(&mut self.rows, rows.saturating_mul(Self::len(lanes)))
    }

    fn row(&mut self, row: usize) -> &mut [Lanes] {
        let len = Self::len(self.lanes);
        &mut self.rows[row * len..][..len]
    }

    /// Two of them, neighbours, the second to be written.
    fn two(&mut self, from: usize, to: usize) -> (&[Lanes], &mut [Lanes]) {
        let len = Self::len(self.lanes);
        let (first, second) = self.rows[from.min(to) * len..][..2 * len].split_at_mut(len);
        if from < to { (first, second) } else { (second, first) }
    }
}

/// Makes a row that is 0 but for one blank.
fn only_blank(row: &mut [Lanes], position: usize) {
    let (mantissas, exponents) = row.split_at_mut(row.len() / 2);
    mantissas.fill(ZEROS[0]);
    exponents.fill(ZEROS[1]);
    mantissas[position / LANES][position % LANES] = Scaled::ONE.mantissa;
    exponents[position / LANES][position % LANES] = Scaled::ONE.exponent;
}

fn resize(room: &mut Vec<Lanes>, len: usize) -> Result<(), Failure> {
    room.try_reserve(len.saturating_sub(room.len()))?;
    if len > room.len() {
        room.resize(len, [0.0; LANES]);
    }
    Ok(())
}

/// As many numbers as there are lanes.
#[derive(Clone, Copy)]
struct Eight {
    mantissas: Lanes,
    exponents: Lanes,
}

impl Eight {
    const ZERO: Self = Self { mantissas: ZEROS[0], exponents: ZEROS[1] };

    #[inline(always)]
    fn at(&self, lane: usize) -> Scaled {
        Scaled { mantissa: self.mantissas[lane], exponent: self.exponents[lane] }
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, number: Scaled) {
        (self.mantissas[lane], self.exponents[lane]) = (number.mantissa, number.exponent);
    }
}

/// Numbers side by side.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    mantissas: &'a [Lanes],
    exponents: &'a [Lanes],
}

impl<'a> Numbers<'a> {
    /// Those of a row's blanks, part 0, or labels, part 1; or of so many places further.
    #[inline(always)]
    fn of(row: &'a [Lanes], part: usize, places: isize, lanes: usize) -> Self {
        let row = row.as_flattened();
        let mantissas = (part * (lanes + 1) * LANES).wrapping_add_signed(places);
        let exponents = mantissas + 2 * (lanes + 1) * LANES;
        Self {
            mantissas: &row[mantissas..].as_chunks().0[..lanes],
            exponents: &row[exponents..].as_chunks().0[..lanes],
        }
    }

    #[inline(always)]
    fn get(self, i: usize) -> Eight {
        Eight { mantissas: self.mantissas[i], exponents: self.exponents[i] }
    }
}

/// A row's numbers, to be written: the blanks', the labels'.
struct Written<'a> {
    parts: [(&'a mut [Lanes], &'a mut [Lanes]); 2],
}

impl<'a> Written<'a> {
    /// Writes what follows the numbers.
    #[inline(always)]
    fn new(row: &'a mut [Lanes], lanes: usize) -> Self {
        let (mantissas, exponents) = row.split_at_mut(2 * (lanes + 1));
        let (blank_m, label_m) = mantissas.split_at_mut(lanes + 1);
        let (blank_e, label_e) = exponents.split_at_mut(lanes + 1);
        (blank_m[lanes], label_m[lanes], blank_e[lanes], label_e[lanes]) = (ZEROS[0], ZEROS[0], ZEROS[1], ZEROS[1]);
        Self { parts: [(&mut blank_m[..lanes], &mut blank_e[..lanes]), (&mut label_m[..lanes], &mut label_e[..lanes])] }
    }

    #[inline(always)]
    fn put(&mut self, i: usize, blanks: Eight, labels: Eight) {
        let [(blank_m, blank_e), (label_m, label_e)] = &mut self.parts;
        (blank_m[i], blank_e[i]) = (blanks.mantissas, blanks.exponents);
        (label_m[i], label_e[i]) = (labels.mantissas, labels.exponents);
    }
}

/// The emissions of a step, and the states after it, to be computed from those before it.
pub struct Forward<'a> {
    /// Log-probabilities of the labels, then of the blank.
    scores: &'a [Lanes],
    unlike: &'a [Lanes],
    before: &'a [Lanes],
    after: &'a mut [Lanes],
    /// The mantissas of the labels' probabilities and of the blank's, and then the exponents.
    emissions: &'a mut [Lanes],
}

struct Advance<'a, L> {
    loss: L,
    step: Forward<'a>,
}

impl<L: Sequencewise> Kernel for Advance<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, step: Forward { scores, unlike, before, after, emissions } } = self;
        let lanes = unlike.len() - 1;
        let (mantissas, exponents) = emissions.split_at_mut(lanes + 1);
        let (scores, mantissas, exponents) = (&scores[..=lanes], &mut mantissas[..=lanes], &mut exponents[..=lanes]);
        for i in 0..=lanes {
            let mut emitted = Eight::ZERO;
            for lane in 0..LANES {
                emitted.put(lane, Scaled::exp(scores[i][lane]));
            }
            (mantissas[i], exponents[i]) = (emitted.mantissas, emitted.exponents);
        }
        let emitted = Numbers { mantissas, exponents };
        let blank = emitted.get(lanes).at(0);
        let (blanks, labels) = (Numbers::of(before, 0, 0, lanes), Numbers::of(before, 1, 0, lanes));
        // The label before the first one is in the zeros after the blanks.
        let labels_before = Numbers::of(before, 1, -1, lanes);
        let mut out = Written::new(after, lanes);
        for i in 0..lanes {
            let (blanks, labels, before, unlike) = (blanks.get(i), labels.get(i), labels_before.get(i), unlike[i]);
            let emitted = emitted.get(i);
            let (mut blanks_after, mut labels_after) = (Eight::ZERO, Eight::ZERO);
            for lane in 0..LANES {
                let here = Position { blank: blanks.at(lane), label: labels.at(lane) };
                let before = before.at(lane);
                let after = loss.forward(here, before, allowed(before, unlike[lane]));
                blanks_after.put(lane, after.blank.times(blank));
                labels_after.put(lane, after.label.times(emitted.at(lane)));
            }
            out.put(i, blanks_after, labels_after);
        }
    }
}

/// The number, or 0: times a power of 2 whose exponent is 0 or −∞.
#[inline(always)]
fn allowed(number: Scaled, exponent: f64) -> Scaled {
    Scaled { exponent: number.exponent + exponent, ..number }
}

/// The states of a step, each with its emission, to be computed from those of the step after; and the probability of being
/// there, given the sample's.
pub struct Backward<'a> {
    unlike: &'a [Lanes],
    /// The forward states.
    forward: &'a [Lanes],
    /// What the step emits, as [`Forward`] wrote it.
    emissions: &'a [Lanes],
    after: &'a [Lanes],
    here: &'a mut [Lanes],
    /// 1 over the probability of the sample.
    reciprocal: Scaled,
    /// The probabilities of being at the labels; then, in a lane, at a blank.
    occupied: &'a mut [Lanes],
    /// The probabilities of what is emitted.
    emitted: &'a mut [Lanes],
}

struct Retreat<'a, L> {
    loss: L,
    step: Backward<'a>,
}

impl<L: Sequencewise> Kernel for Retreat<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, step } = self;
        let Backward { unlike, forward, emissions, after, here, reciprocal, occupied, emitted } = step;
        let lanes = unlike.len() - 1;
        let (mantissas, exponents) = emissions.split_at(lanes + 1);
        let emissions = Numbers { mantissas: &mantissas[..=lanes], exponents: &exponents[..=lanes] };
        let (occupied, emitted) = (&mut occupied[..=lanes], &mut emitted[..=lanes]);
        for i in 0..=lanes {
            let (numbers, mut values) = (emissions.get(i), [0.0; LANES]);
            for lane in 0..LANES {
                values[lane] = numbers.at(lane).value();
            }
            emitted[i] = values;
        }
        let blank = emissions.get(lanes).at(0);
        let unlike = &unlike.as_flattened()[1..].as_chunks::<LANES>().0[..lanes];
        let (to_blanks, to_labels) = (Numbers::of(forward, 0, 0, lanes), Numbers::of(forward, 1, 0, lanes));
        let (blanks, labels) = (Numbers::of(after, 0, 0, lanes), Numbers::of(after, 1, 0, lanes));
        let (blanks_after, labels_after) = (Numbers::of(after, 0, 1, lanes), Numbers::of(after, 1, 1, lanes));
        let mut out = Written::new(here, lanes);
        let mut at_blank = [0.0; LANES];
        for i in 0..lanes {
            let (blanks, labels, unlike) = (blanks.get(i), labels.get(i), unlike[i]);
            let (blanks_after, labels_after) = (blanks_after.get(i), labels_after.get(i));
            let emissions = emissions.get(i);
            let (mut from_blanks, mut from_labels) = (Eight::ZERO, Eight::ZERO);
            let (mut blanks_here, mut labels_here) = (Eight::ZERO, Eight::ZERO);
            for lane in 0..LANES {
                let here = Position { blank: blanks.at(lane), label: labels.at(lane) };
                let after = Position { blank: blanks_after.at(lane), label: labels_after.at(lane) };
                let from = loss.backward(here, after, allowed(after.label, unlike[lane]));
                from_blanks.put(lane, from.blank);
                from_labels.put(lane, from.label);
                blanks_here.put(lane, from.blank.times(blank));
                labels_here.put(lane, from.label.times(emissions.at(lane)));
            }
            out.put(i, blanks_here, labels_here);
            let (to_blanks, to_labels) = (to_blanks.get(i), to_labels.get(i));
            let (mut of_blanks, mut of_labels) = ([0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                of_blanks[lane] = to_blanks.at(lane).times(from_blanks.at(lane)).times(reciprocal).value();
                of_labels[lane] = to_labels.at(lane).times(from_labels.at(lane)).times(reciprocal).value();
            }
            for lane in 0..LANES {
                at_blank[lane] += of_blanks[lane];
            }
            occupied[i] = of_labels;
        }
        occupied[lanes][0] = at_blank.iter().sum();
    }
}

/// Brings the mantissas of a row back to 1.
struct Normalise<'a>(&'a mut [Lanes]);

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (mantissas, exponents) = self.0.split_at_mut(self.0.len() / 2);
        for (mantissas, exponents) in mantissas.iter_mut().zip(exponents) {
            let (numbers, mut normal) = (Eight { mantissas: *mantissas, exponents: *exponents }, Eight::ZERO);
            for lane in 0..LANES {
                normal.put(lane, numbers.at(lane).normal());
            }
            (*mantissas, *exponents) = (normal.mantissas, normal.exponents);
        }
    }
}

/// Probabilities from their logarithms, times a scale.
struct Probabilities<'a, T> {
    scores: &'a [T],
    scale: T,
    out: &'a mut [T],
}

impl<T: Real> Kernel for Probabilities<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        /// As an argument the result is known to be apart, so that the loop needs no second version.
        #[inline(always)]
        fn fill<T: Real>(scores: &[T], scale: T, out: &mut [T]) {
            for i in 0..scores.len() {
                out[i] = scores[i].exp() * scale;
            }
        }
        let len = self.scores.len().min(BLOCK) / GRAIN * GRAIN;
        fill(&self.scores[..len], self.scale, &mut self.out[..len]);
    }
}

/// What a thread carries from sample to sample.
struct Room<T> {
    lattice: Lattice,
    /// A row every so many steps, and the rows between two of them.
    kept: States,
    between: States,
    /// The emissions between two rows that were kept.
    emissions: Vec<Lanes>,
    /// The backward states, of two steps.
    backward: States,
    scores: Vec<Lanes>,
    occupied: Vec<Lanes>,
    emitted: Vec<Lanes>,
    input: Block<T>,
    slope: Block<T>,
}

impl<T: Number> Room<T> {
    /// A constant, so that it is made in place and not moved.
    const UNFILLED: Self = Self {
        lattice: Lattice { labels: 0, places: Vec::new(), unlike: Vec::new() },
        kept: States { rows: Vec::new(), lanes: 0 },
        between: States { rows: Vec::new(), lanes: 0 },
        emissions: Vec::new(),
        backward: States { rows: Vec::new(), lanes: 0 },
        scores: Vec::new(),
        occupied: Vec::new(),
        emitted: Vec::new(),
        input: Block::new(),
        slope: Block::new(),
    };
}

/// What a thread finds.
struct Found {
    sum: ExactSum,
    failure: Option<Failure>,
}

impl Found {
    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.failure = self.failure.or(other.failure);
    }
}

impl Call<'_> {
    /// About how many elements' worth of work there is.
    pub fn work(&self) -> usize {
        let samples = self.layout.len();
        let labels = match self.targets {
            Targets::Padded(_, _, room) => *room,
            Targets::Concatenated(_, len) => len / samples.max(1),
        };
        samples.saturating_mul(self.steps).saturating_mul(self.classes.saturating_add(labels.saturating_mul(4)))
    }

    /// Looks at all lengths and labels, and adds up the weights; samples of weight 0 are not looked at, except for the number
    /// of their labels where those of the next follow.
    ///
    /// # Errors
    /// If one does not fit, or there is no memory, or `stop` said so.
    ///
    /// # Safety
    /// Lengths, labels and weights must be readable.
    pub unsafe fn check<T: Number>(&self, stop: &dyn Fn() -> bool) -> Result<Checked, Failure> {
        let isa = Isa::active();
        let work = |tasks: &mut Tasks<'_>| {
            let mut checked = Checked { weight: ExactSum::new(), starts: Vec::new() };
            let mut end = 0;
            if let (Some(_), Targets::Concatenated(..)) = (tasks.next(), self.targets) {
                checked.starts.try_reserve_exact(self.layout.len())?;
            }
            for sample in 0..self.layout.len() {
                // SAFETY: the caller's.
                let weight: T = unsafe { self.element(isa, self.sample_weight, sample) };
                checked.weight.add_block(isa, &[weight]);
                if let Targets::Concatenated(..) = self.targets {
                    checked.starts.push(end);
                    // SAFETY: the caller's.
                    end += unsafe { self.target_length(sample, &checked) }?;
                }
                if weight != T::ZERO {
                    // SAFETY: the caller's.
                    let sequence = unsafe { self.sequence(sample, &checked) }?;
                    for position in 0..sequence.count {
                        if position % LOOK == 0 && tasks.are_stopped() {
                            return Err(Failure::Interrupted);
                        }
                        // SAFETY: the caller's.
                        unsafe { self.label(&sequence, position) }?;
                    }
                }
            }
            match self.targets {
                Targets::Concatenated(_, len) if end < *len => Err(Misfit::TargetsLeft { lengths: end }.into()),
                _ => Ok(checked),
            }
        };
        // One task, the caller's: a start depends on all lengths before.
        threads::share(1, true, stop, work, |_, _| ())?
    }

    /// The number of labels of a sample.
    ///
    /// # Safety
    /// It must be readable.
    unsafe fn target_length(&self, sample: usize, checked: &Checked) -> Result<usize, Misfit> {
        let most = match self.targets {
            Targets::Padded(_, _, room) => *room,
            Targets::Concatenated(_, len) => len - checked.starts[sample],
        };
        // SAFETY: the caller's.
        let length = unsafe { length(self.layout, self.target_lengths, sample, most) };
        length.map_err(|length| Misfit::TargetLength { sample, length, most })
    }

    /// A sample's lengths, and where its labels lie.
    ///
    /// # Safety
    /// Its lengths must be readable.
    unsafe fn sequence(&self, sample: usize, checked: &Checked) -> Result<Sequence, Misfit> {
        // SAFETY: the caller's.
        let (count, steps) = unsafe {
            (self.target_length(sample, checked)?, length(self.layout, self.input_lengths, sample, self.steps))
        };
        let steps = steps.map_err(|length| Misfit::InputLength { sample, length })?;
        let labels = match self.targets {
            Targets::Padded(first, stride, _) => Run { stride: *stride, ..self.layout.at(first, sample) },
            Targets::Concatenated(run, _) => run.from(checked.starts[sample]),
        };
        Ok(Sequence { sample, steps, count, labels })
    }

    /// A label of a sample.
    ///
    /// # Safety
    /// It must be readable.
    #[inline]
    unsafe fn label(&self, sequence: &Sequence, position: usize) -> Result<usize, Misfit> {
        // SAFETY: the caller's.
        let label = unsafe { sequence.labels.label(position) };
        let class = label.ok().and_then(|label| usize::try_from(label).ok());
        class.filter(|&class| class < self.classes && class != self.blank).ok_or(Misfit::Label {
            sample: sequence.sample,
            position,
            label,
        })
    }

    /// Runs the call; the exact sum of the weighted losses, if it is wanted.
    ///
    /// # Errors
    /// If there is no memory, or `stop` said so, or what was checked has changed.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without
    /// overlap, except that the gradient may be the input.
    pub unsafe fn run<T: Number>(&self, checked: &Checked, stop: &dyn Fn() -> bool) -> Result<ExactSum, Failure> {
        let isa = Isa::active();
        let samples = self.layout.len();
        let work = |tasks: &mut Tasks<'_>| {
            let mut found = Found { sum: ExactSum::new(), failure: None };
            let mut room = Room::<T>::UNFILLED;
            while let Some(sample) = tasks.next() {
                // SAFETY: the caller's, and no other task has this sample.
                match unsafe { self.sample::<T>(isa, &mut room, tasks, sample, checked) } {
                    Ok(value) => {
                        if self.sum {
                            found.sum.add_block(isa, &[value]);
                        }
                        if let Some(output) = self.value {
                            // SAFETY: as above.
                            unsafe { self.layout.put(isa, output, sample, &[value], false) };
                        }
                    }
                    Err(failure) => {
                        found.failure = Some(failure);
                        break;
                    }
                }
            }
            storage::fence();
            found
        };
        let found = threads::share(samples, self.work() >= SPREAD_FROM, stop, work, Found::merge)?;
        found.failure.map_or(Ok(found.sum), Err)
    }

    /// Computes a sample: returns its weighted loss, writes its gradient.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn sample<T: Number>(
        &self,
        isa: Isa,
        room: &mut Room<T>,
        tasks: &mut Tasks<'_>,
        sample: usize,
        checked: &Checked,
    ) -> Result<T, Failure> {
        // SAFETY: the caller's.
        unsafe {
            let weight: T = self.element(isa, self.sample_weight, sample);
            if weight == T::ZERO {
                self.fill(isa, room, sample, 0..self.steps, T::ZERO);
                return Ok(T::ZERO);
            }
            let sequence = self.sequence(sample, checked)?;
            let (steps, divisor) = (sequence.steps, if self.per_label { sequence.count.max(1) as f64 } else { 1.0 });
            // Looked at once more: others may have written them since.
            let labels = (0..sequence.count).map(|position| self.label(&sequence, position));
            room.lattice.set(labels, self.blank)?;

            let probability = self.forward::<T>(isa, room, tasks, sample, steps)?;
            let loss = 0.0 - probability.ln();
            let is_out = self.zero_infinity && loss == f64::INFINITY;
            if self.want.slope() {
                self.fill(isa, room, sample, steps..self.steps, T::ZERO);
                if loss.abs() < f64::INFINITY {
                    let grad_output: T = self.element(isa, self.grad_output, sample);
                    let scale = weight.to_f64() * self.factor * grad_output.to_f64() / divisor;
                    self.backward::<T>(isa, room, tasks, sample, steps, probability, scale)?;
                } else {
                    self.fill(isa, room, sample, 0..steps, if is_out { T::ZERO } else { T::NAN });
                }
            }
            Ok(if is_out { T::ZERO } else { T::of(loss / divisor) * weight })
        }
    }

    /// Sweeps a sample forward: its probability.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn forward<T: Number>(
        &self,
        isa: Isa,
        room: &mut Room<T>,
        tasks: &mut Tasks<'_>,
        sample: usize,
        steps: usize,
    ) -> Result<Scaled, Failure> {
        let lanes = room.lattice.lanes();
        let every = every(steps, lanes);
        let interval = every.min(STEPS);
        // Of a sample that is short all rows stay, of others every so many, of a loss alone none.
        let stays = self.want.slope() && every == steps;
        let keeps = self.want.slope() && !stays;
        let place = |step: usize| if stays { step } else { step % 2 };
        room.between.reserve(1 + if self.want.slope() { every } else { 1 }, lanes)?;
        resize(&mut room.emissions, if self.want.slope() { every } else { 1 } * 2 * (lanes + 1))?;
        resize(&mut room.scores, lanes + 1)?;
        room.scores[..=lanes].fill([f64::NEG_INFINITY; LANES]);
        if keeps {
            room.kept.reserve(steps.div_ceil(every), lanes)?;
        }
        only_blank(room.between.row(0), 0);
        for step in 0..steps {
            if step % interval == 0 {
                if tasks.are_stopped() {
                    return Err(Failure::Interrupted);
                }
                let row = room.between.row(place(step));
                isa.run(Normalise(row));
                if keeps {
                    room.kept.row(step / every).copy_from_slice(row);
                }
            }
            let emissions = if stays { step } else { 0 };
            // SAFETY: the caller's.
            unsafe { self.step::<T>(isa, room, sample, step, [place(step), place(step + 1), emissions]) };
        }
        let (last, labels) = (room.between.row(place(steps)), room.lattice.labels);
        let blank = state(last, 0, labels);
        Ok(if labels == 0 { blank } else { Scaled::sum([blank, state(last, 1, labels - 1)]) })
    }

    /// Computes the forward states after a step: from which row, into which, and where the emissions go.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn step<T: Number>(
        &self,
        isa: Isa,
        room: &mut Room<T>,
        sample: usize,
        step: usize,
        [before, after, emissions]: [usize; 3],
    ) {
        let lanes = room.lattice.lanes();
        let scores = &mut room.scores[..=lanes];
        // SAFETY: the caller's; the classes were checked, and there is a place for each.
        unsafe { self.input.row(self.layout, sample, step).gather(&room.lattice.places, scores.as_flattened_mut()) };
        let (before, after) = room.between.two(before, after);
        let emissions = &mut room.emissions[emissions * 2 * (lanes + 1)..][..2 * (lanes + 1)];
        self.loss.forward(isa, Forward { scores, unlike: &room.lattice.unlike, before, after, emissions });
    }

    /// Sweeps a sample backward and writes its gradient.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn backward<T: Number>(
        &self,
        isa: Isa,
        room: &mut Room<T>,
        tasks: &mut Tasks<'_>,
        sample: usize,
        steps: usize,
        probability: Scaled,
        scale: f64,
    ) -> Result<(), Failure> {
        let lanes = room.lattice.lanes();
        let every = every(steps, lanes);
        let reciprocal = probability.reciprocal();
        room.backward.reserve(2, lanes)?;
        resize(&mut room.occupied, lanes + 1)?;
        resize(&mut room.emitted, lanes + 1)?;
        only_blank(room.backward.row(steps % 2), room.lattice.labels);
        for start in (0..steps).step_by(every.max(1)).rev() {
            let end = steps.min(start + every);
            if every < steps {
                room.between.row(0).copy_from_slice(room.kept.row(start / every));
                for step in start..end {
                    let at = step - start;
                    // SAFETY: the caller's.
                    unsafe { self.step::<T>(isa, room, sample, step, [at, at + 1, at]) };
                }
            }
            for step in (start..end).rev() {
                if (step + 1) % every.min(STEPS) == 0 {
                    if tasks.are_stopped() {
                        return Err(Failure::Interrupted);
                    }
                    isa.run(Normalise(room.backward.row((step + 1) % 2)));
                }
                let (after, here) = room.backward.two((step + 1) % 2, step % 2);
                let step_back = Backward {
                    unlike: &room.lattice.unlike,
                    forward: room.between.row(step - start + 1),
                    emissions: &room.emissions[(step - start) * 2 * (lanes + 1)..][..2 * (lanes + 1)],
                    after,
                    here,
                    reciprocal,
                    occupied: &mut room.occupied,
                    emitted: &mut room.emitted,
                };
                self.loss.backward(isa, step_back);
                // SAFETY: the caller's.
                unsafe { self.put(isa, room, sample, step, scale) };
            }
        }
        Ok(())
    }

    /// Writes a row of the gradient, e^x − the probability of being at the class.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn put<T: Number>(&self, isa: Isa, room: &mut Room<T>, sample: usize, step: usize, scale: f64) {
        let Some(slope) = self.slope else { return };
        let (from, to) = (self.input.row(self.layout, sample, step), slope.row(self.layout, sample, step));
        let (occupied, emitted) = (room.occupied.as_flattened(), room.emitted.as_flattened());
        let mut places = room.lattice.places.iter().peekable();
        for start in (0..self.classes).step_by(BLOCK) {
            let len = BLOCK.min(self.classes - start);
            // SAFETY: the caller's; the kernel writes the whole slice.
            unsafe {
                let scores = block_of(isa, from.from(start), len, T::ZERO, &mut room.input);
                let slopes = room.slope.written(scores.len());
                isa.run(Probabilities { scores, scale: T::of(scale), out: slopes });
                while let Some(&&(class, _)) = places.peek()
                    && class < start + len
                {
                    let (mut occupation, mut probability) = (0.0, 0.0);
                    while let Some((_, place)) = places.next_if(|&&(other, _)| other == class) {
                        occupation += occupied[*place];
                        probability = emitted[*place];
                    }
                    slopes[class - start] = T::of((probability - occupation) * scale);
                }
                to.from(start).store(isa, &slopes[..len], self.streams(to));
            }
        }
    }

    /// Writes one and the same gradient at some steps of a sample.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn fill<T: Number>(&self, isa: Isa, room: &mut Room<T>, sample: usize, steps: Range<usize>, with: T) {
        let Some(slope) = self.slope else { return };
        for step in steps {
            let to = slope.row(self.layout, sample, step);
            for start in (0..self.classes).step_by(BLOCK) {
                // SAFETY: the caller's; the whole slice is written.
                unsafe {
                    let slopes = room.slope.filled(BLOCK.min(self.classes - start), |slopes| slopes.fill(with));
                    to.from(start).store(isa, slopes, self.streams(to));
                }
            }
        }
    }

    /// Whether a result is so large that it is written past the caches.
    fn streams(&self, to: Run) -> bool {
        self.layout.len().saturating_mul(self.steps * self.classes * to.dtype.size()) >= STREAM_FROM
    }

    /// An element of an operand, or 1 if there is none.
    ///
    /// # Safety
    /// It must be readable.
    #[inline]
    unsafe fn element<T: Real>(&self, isa: Isa, operand: Option<&Operand>, sample: usize) -> T {
        let mut element = [T::ONE];
        if let Some(operand) = operand {
            // SAFETY: the caller's.
            unsafe { self.layout.read(isa, operand, sample, &mut element) };
        }
        element[0]
    }
}

/// A state of a row: a blank's, or a label's.
fn state(row: &[Lanes], part: usize, position: usize) -> Scaled {
    let (mantissas, exponents) = row.split_at(row.len() / 2);
    let at = part * mantissas.len() / 2 * LANES + position;
    Scaled { mantissa: mantissas.as_flattened()[at], exponent: exponents.as_flattened()[at] }
}

/// The steps from one row that is kept to the next: all, where rows and emissions of all steps stay in the second-level cache,
/// else their square root, so that there are as many rows of either kind.
fn every(steps: usize, lanes: usize) -> usize {
    const CACHED: usize = 3 << 18;
    let lanes_of_step = States::len(lanes) + 2 * (lanes + 1);
    if steps.saturating_mul(lanes_of_step * size_of::<Lanes>()) <= CACHED {
        steps
    } else {
        (1..STEPS).find(|every| every * every >= steps).unwrap_or(STEPS)
    }
}

/// A length, if it is in `[0, most]`.
///
/// # Safety
/// The operand must be readable.
#[inline]
unsafe fn length(layout: &Layout, operand: &Operand, sample: usize, most: usize) -> Result<usize, Result<i128, f64>> {
    // SAFETY: the caller's.
    let length = unsafe { layout.at(operand, sample).label(0) };
    let fits = length.ok().and_then(|length| usize::try_from(length).ok()).filter(|&length| length <= most);
    fits.ok_or(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::ctc::Ctc;
    use crate::storage::Dtype;
    use proptest::prelude::*;

    /// A batch of one sample: its loss, and its gradient in `scores`.
    fn ctc(scores: &mut [f64], classes: usize, labels: &[i64], blank: usize) -> f64 {
        let steps = scores.len() / classes;
        let lengths = [steps as i64, labels.len() as i64];
        let run = |first: *const i64| Operand::flat(first.cast_mut().cast(), Dtype::Int64, false);
        let size = size_of::<f64>() as isize;
        let rows = Rows {
            samples: Operand::flat(scores.as_mut_ptr().cast(), Dtype::Float64, false),
            step: size * classes as isize,
            class: size,
        };
        let call = Call {
            loss: &Formula(Ctc),
            layout: &Layout::flat(1),
            want: Want::ValueAndGradient,
            steps,
            classes,
            input: &rows,
            targets: &Targets::Concatenated(run(labels.as_ptr()).run, labels.len()),
            input_lengths: &run(&raw const lengths[0]),
            target_lengths: &run(&raw const lengths[1]),
            blank,
            zero_infinity: false,
            per_label: false,
            sample_weight: None,
            grad_output: None,
            factor: 1.0,
            value: None,
            slope: Some(&rows),
            sum: true,
        };
        // SAFETY: the operands describe arrays that live, and one of which is written.
        unsafe {
            let checked = call.check::<f64>(&|| false).unwrap();
            call.run::<f64>(&checked, &|| false).unwrap().value()
        }
    }

    /// The probability of each alignment by the definition: all ways of saying a class at each step are tried. And for each
    /// step and class that of the alignments which say it.
    fn by_definition(scores: &[f64], classes: usize, labels: &[i64], blank: usize) -> (f64, Vec<f64>) {
        let steps = scores.len() / classes;
        let (mut sum, mut at) = (0.0, vec![0.0; scores.len()]);
        for alignment in 0..classes.pow(steps as u32) {
            let said: Vec<usize> = (0..steps).map(|step| alignment / classes.pow(step as u32) % classes).collect();
            let mut heard = said.clone();
            heard.dedup();
            heard.retain(|&class| class != blank);
            if heard.iter().map(|&class| class as i64).eq(labels.iter().copied()) {
                let probability =
                    said.iter().enumerate().map(|(step, &class)| scores[step * classes + class]).sum::<f64>();
                let probability = probability.exp();
                sum += probability;
                said.iter().enumerate().for_each(|(step, &class)| at[step * classes + class] += probability);
            }
        }
        (sum, at)
    }

    proptest! {
        /// The loss is −ln of the sum over all alignments, and the gradient e^x less the part of those that say the class.
        #[test]
        fn is_the_sum_over_all_alignments(
            (classes, blank, scores, labels) in (2_usize..5, 0_usize..7).prop_flat_map(|(classes, steps)| (
                Just(classes),
                0..classes,
                prop::collection::vec(prop_oneof![9 => -8.0..2.0, 1 => Just(f64::NEG_INFINITY)], classes * steps),
                prop::collection::vec(1..classes, 0..5),
            ))
        ) {
            let labels: Vec<i64> = labels.into_iter().map(|label| ((blank + label) % classes) as i64).collect();
            let (probability, at) = by_definition(&scores, classes, &labels, blank);
            let mut slopes = scores.clone();
            let loss = ctc(&mut slopes, classes, &labels, blank);
            if probability > 0.0 {
                prop_assert!((loss + probability.ln()).abs() < 1e-13);
                for ((slope, score), at) in slopes.into_iter().zip(scores).zip(at) {
                    prop_assert!((slope - (score.exp() - at / probability)).abs() < 1e-13);
                }
            } else {
                prop_assert_eq!(loss, f64::INFINITY);
                prop_assert!(slopes.into_iter().all(f64::is_nan));
            }
        }

        /// Scores may all be moved: −1000 a step is as good as 0, and an alignment far behind all others still counts where
        /// those others come to nothing.
        #[test]
        fn no_alignment_is_too_improbable(
            scores in prop::collection::vec(-8.0..0.0_f64, 3 * 5), down in 0.0..1e6_f64, labels in prop::collection::vec(1_i64..3, 0..3)
        ) {
            let loss = ctc(&mut scores.clone(), 3, &labels, 0);
            let moved = ctc(&mut scores.iter().map(|score| score - down).collect::<Vec<_>>(), 3, &labels, 0);
            prop_assert!((moved - loss - 5.0 * down).abs() < 1e-14 * moved);
            // Now only the last class, which nobody likes, leads to the end.
            let mut forced = [-down; 15];
            for (step, row) in forced.chunks_mut(3).enumerate() {
                row[if step < 4 { 2 } else { 0 }] = -2.0 * down - 1.0;
                row[if step < 4 { 0 } else { 2 }] = f64::NEG_INFINITY;
                row[1] = if step < 4 { 0.0 } else { f64::NEG_INFINITY };
            }
            let loss = ctc(&mut forced, 3, &[2], 0);
            prop_assert!((loss - 5.0 * (2.0 * down + 1.0)).abs() < 1e-14 * loss);
        }
    }
}
