//! What is known of the rows of a group.

use std::cmp::Ordering;

use hashbrown::HashMap;

use super::bytes::{Reader, Writer};
use super::sum::{CompactSum, Term, normalised};

/// Bits of a significand that a histogram's bucket keeps: 2^7 buckets to a power of two.
const BUCKET_BITS: u32 = 7;

/// A row that stands out, by its number and, where it has one, its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The loss.
    pub loss: f64,
    /// The number of the row.
    pub row: i64,
    /// What the caller calls it.
    pub name: Name,
}

/// The name of a row, where rows have names.
pub type Name = Option<Box<[u8]>>;

impl Mark {
    /// The worse loss first, NaN before all; rows of one loss by number and name.
    fn order(&self, other: &Self) -> Ordering {
        let nan_first = other.loss.is_nan().cmp(&self.loss.is_nan());
        let by_loss = || other.loss.partial_cmp(&self.loss).unwrap_or(Ordering::Equal);
        nan_first.then_with(by_loss).then(self.row.cmp(&other.row)).then_with(|| self.name.cmp(&other.name))
    }
}

/// The sums that rows of weights other than 1 need besides.
#[derive(Clone, Debug, Default)]
struct Weighted {
    /// Σ w
    weight: CompactSum<3>,
    /// Σ w · wℓ
    cross: CompactSum<4>,
    /// Σ w²
    square: CompactSum<4>,
}

/// A sum that may have met infinities and NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Specials(pub u8);

impl Specials {
    const PLUS: u8 = 1;
    const MINUS: u8 = 2;
    const NAN: u8 = 4;

    /// Takes an infinity or a NaN.
    pub fn meet(&mut self, value: f64) {
        self.0 |= match value {
            f64::INFINITY => Self::PLUS,
            f64::NEG_INFINITY => Self::MINUS,
            _ => Self::NAN,
        };
    }

    /// Takes what another sum has met.
    pub fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// What IEEE addition makes of them; `None` if there were none.
    pub fn sum(self) -> Option<f64> {
        match self.0 {
            0 => None,
            Self::PLUS => Some(f64::INFINITY),
            Self::MINUS => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }
}

/// The counts, sums and extremes of some rows; a commutative monoid under [`Group::merge`].
#[derive(Clone, Debug)]
pub struct Group {
    /// Rows, the ignored ones among them.
    rows: u64,
    /// The extremes over the losses that are not NaN; the wrong way round, in the last of rows, if there are none.
    minimum: f64,
    maximum: f64,
    minimum_row: i64,
    maximum_row: i64,
    /// Σ wℓ
    value: CompactSum<3>,
    /// Σ (wℓ)²
    square: CompactSum<4>,
    /// `None` while every row counts, all are finite, weigh 1 and have no name.
    rest: Option<Box<Rest>>,
}

/// What many groups do without.
#[derive(Clone, Debug, Default)]
struct Rest {
    ignored: u64,
    nonfinite: u64,
    value_specials: Specials,
    weight_specials: Specials,
    /// `None` while all weights are 1.
    weighted: Option<Weighted>,
    /// The names of the smallest and the largest loss.
    names: [Name; 2],
}

impl Default for Group {
    fn default() -> Self {
        Self {
            rows: 0,
            minimum: f64::INFINITY,
            maximum: f64::NEG_INFINITY,
            minimum_row: i64::MAX,
            maximum_row: i64::MAX,
            value: CompactSum::default(),
            square: CompactSum::default(),
            rest: None,
        }
    }
}

/// What is reported of a group.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Σ w
    pub weight: f64,
    /// Σ wℓ
    pub sum: f64,
    /// Σ wℓ / Σ w
    pub mean: f64,
    /// √(n / (n − 1) · Σ w² (ℓ − mean)²) / Σ w
    pub standard_error: f64,
}

impl Group {
    fn rest(&self) -> &Rest {
        const NOTHING: &Rest = &Rest {
            ignored: 0,
            nonfinite: 0,
            value_specials: Specials(0),
            weight_specials: Specials(0),
            weighted: None,
            names: [None, None],
        };
        self.rest.as_deref().unwrap_or(NOTHING)
    }

    /// All rows, the ignored ones, and those of infinite or NaN loss.
    pub fn counts(&self) -> [u64; 3] {
        [self.rows, self.rest().ignored, self.rest().nonfinite]
    }

    /// Rows that are not ignored.
    fn counted(&self) -> u64 {
        self.rows - self.rest().ignored
    }

    /// Adds rows that count for nothing: their label is the one to ignore, or their weight is 0.
    #[cold]
    pub fn ignore(&mut self, rows: u64) {
        self.rows += rows;
        self.rest.get_or_insert_default().ignored += rows;
    }

    /// Adds a row that is not ignored, but for its extremes. `value` is weight · loss.
    #[inline(always)]
    pub fn add(&mut self, value: f64, weight: f64) {
        let term = Term::of(value);
        if weight != 1.0 || self.rest.is_some() || term.is_none() {
            self.add_to_rest(term, value, weight);
        }
        self.rows += 1;
        if let Some(term) = term {
            self.value.add(term);
            self.square.add(term.times(term));
        }
    }

    #[inline(never)]
    fn add_to_rest(&mut self, term: Option<Term>, value: f64, weight: f64) {
        if term.is_none() {
            let rest = self.rest.get_or_insert_default();
            rest.nonfinite += 1;
            rest.value_specials.meet(value);
        }
        if weight == 1.0 && self.rest().weighted.is_none() {
            return;
        }
        let sums = self.weighted();
        if let Some(weight) = Term::of(weight) {
            sums.weight.add(weight);
            sums.square.add(weight.times(weight));
            if let Some(value) = term {
                sums.cross.add(weight.times(value));
            }
        } else {
            self.rest.get_or_insert_default().weight_specials.meet(weight);
        }
    }

    /// The sums of weights, from when they were all 1.
    fn weighted(&mut self) -> &mut Weighted {
        let counted = self.counted();
        let Self { rest, value, .. } = self;
        rest.get_or_insert_default().weighted.get_or_insert_with(|| {
            let mut sums = Weighted::default();
            sums.weight.add(Term::integer(counted));
            sums.square.add(Term::integer(counted));
            sums.cross.merge(value);
            sums
        })
    }

    /// Adds the sums of many rows of finite losses and weights: of values, their squares and, if some weight is not 1, of
    /// weights, weights times values, and squares of weights.
    pub fn add_sums(&mut self, rows: u64, value: &[Term], square: &[Term], weighted: Option<[&[Term]; 3]>) {
        if weighted.is_some() || self.rest().weighted.is_some() {
            let all_one = [Term::integer(rows)];
            let [weight, cross, weight_square] = weighted.unwrap_or([&all_one, value, &all_one]);
            let sums = self.weighted();
            sums.weight.add_all(weight);
            sums.cross.add_all(cross);
            sums.square.add_all(weight_square);
        }
        self.rows += rows;
        self.value.add_all(value);
        self.square.add_all(square);
    }

    /// Takes a loss that is not NaN for the extremes.
    #[inline(always)]
    pub fn extend(&mut self, loss: f64, row: i64, name: impl Fn() -> Name) {
        if loss <= self.minimum {
            self.extend_to::<0>(loss, row, &name);
        }
        if loss >= self.maximum {
            self.extend_to::<1>(loss, row, &name);
        }
    }

    #[inline(always)]
    fn extend_to<const MAXIMUM: usize>(&mut self, loss: f64, row: i64, name: &impl Fn() -> Name) {
        let (extreme, at) =
            if MAXIMUM == 1 { (self.maximum, self.maximum_row) } else { (self.minimum, self.minimum_row) };
        if loss == extreme && row > at {
            return;
        }
        let name = name();
        let known = &self.rest().names[MAXIMUM];
        if loss == extreme && row == at && name >= *known {
            return;
        }
        if name.is_some() || known.is_some() {
            self.rest.get_or_insert_default().names[MAXIMUM] = name;
        }
        if MAXIMUM == 1 {
            (self.maximum, self.maximum_row) = (loss, row);
        } else {
            (self.minimum, self.minimum_row) = (loss, row);
        }
    }

    /// The smallest and the largest loss; NaN if there are none.
    pub fn extremes(&self) -> [Mark; 2] {
        let mut marks = self.marks();
        if self.minimum > self.maximum {
            for mark in &mut marks {
                mark.loss = f64::NAN;
            }
        }
        marks
    }

    fn marks(&self) -> [Mark; 2] {
        let [minimum, maximum] = self.rest().names.clone();
        [(self.minimum, self.minimum_row, minimum), (self.maximum, self.maximum_row, maximum)]
            .map(|(loss, row, name)| Mark { loss, row, name })
    }

    /// The smallest and the largest loss.
    pub fn range(&self) -> (f64, f64) {
        (self.minimum, self.maximum)
    }

    /// Numbers the rows anew, in the same order.
    pub fn renumber(&mut self, renumber: impl Fn(&mut i64)) {
        if self.minimum <= self.maximum {
            renumber(&mut self.minimum_row);
            renumber(&mut self.maximum_row);
        }
    }

    /// Adds what another group holds.
    pub fn merge(&mut self, other: &Self) {
        if self.rest().weighted.is_some() || other.rest().weighted.is_some() {
            let mut other = other.clone();
            let (mine, theirs) = (self.weighted(), other.weighted());
            mine.weight.merge(&theirs.weight);
            mine.cross.merge(&theirs.cross);
            mine.square.merge(&theirs.square);
        }
        if let Some(theirs) = &other.rest {
            let mine = self.rest.get_or_insert_default();
            mine.ignored += theirs.ignored;
            mine.nonfinite += theirs.nonfinite;
            mine.value_specials.merge(theirs.value_specials);
            mine.weight_specials.merge(theirs.weight_specials);
        }
        self.rows += other.rows;
        self.value.merge(&other.value);
        self.square.merge(&other.square);
        if other.minimum <= other.maximum {
            for mark in other.marks() {
                self.extend(mark.loss, mark.row, || mark.name.clone());
            }
        }
    }

    /// The sums, rounded.
    pub fn summary(&self) -> Summary {
        let (counted, rest) = (self.counted(), self.rest());
        let sum = rest.value_specials.sum().unwrap_or_else(|| self.value.value());
        let weight = rest.weighted.as_ref().map_or(counted as f64, |sums| sums.weight.value());
        let weight = rest.weight_specials.sum().unwrap_or(weight);
        let finite = rest.value_specials.0 == 0 && rest.weight_specials.0 == 0;
        let standard_error = if finite && counted > 1 { self.standard_error(counted) } else { f64::NAN };
        Summary { weight, sum, mean: sum / weight, standard_error }
    }

    /// With the sums V = Σ wℓ, S = Σ (wℓ)², W = Σ w, C = Σ w·wℓ, Q = Σ w² as integers, so that nothing cancels:
    ///
    /// Σ w² (ℓ − V/W)² = (S W² − 2 V W C + V² Q) / W²,   and, where all w are 1,   (n S − V²) / n.
    fn standard_error(&self, counted: u64) -> f64 {
        let n = counted as f64;
        let ((value, value_exponent), (square, square_exponent)) = (self.value.integer(), self.square.integer());
        let Some(sums) = &self.rest().weighted else {
            let least = square_exponent.min(2 * value_exponent);
            let spread = ((square * counted) << (square_exponent - least) as u32)
                - ((&value * &value) << (2 * value_exponent - least) as u32);
            let (spread, exponent) = normalised(spread.magnitude(), least);
            return root(spread / (n - 1.0), exponent) / n;
        };
        let (weight, weight_exponent) = sums.weight.integer();
        let (cross, cross_exponent) = sums.cross.integer();
        let (weight_square, weight_square_exponent) = sums.square.integer();
        let terms = [
            (square * &weight * &weight, square_exponent + 2 * weight_exponent),
            (-2 * &value * &weight * cross, value_exponent + weight_exponent + cross_exponent),
            (&value * &value * weight_square, 2 * value_exponent + weight_square_exponent),
        ];
        let least = terms.iter().map(|&(_, exponent)| exponent).min().unwrap_or(0);
        let spread: num_bigint::BigInt =
            terms.into_iter().map(|(term, exponent)| term << (exponent - least) as u32).sum();
        let (spread, exponent) = normalised(spread.magnitude(), least);
        let (weight, weight_exponent) = normalised(weight.magnitude(), weight_exponent);
        if weight == 0.0 {
            return f64::NAN;
        }
        let weight = weight * weight;
        root(spread * (n / (n - 1.0)) / (weight * weight), exponent - 4 * weight_exponent)
    }

    /// The sums of weights, unless they are those of weights that are all 1. As Σ w = Σ w² = n only of those, it does not
    /// matter in which way a group came to have them.
    fn weights_to_write(&self) -> Option<&Weighted> {
        let mut count = CompactSum::<3>::default();
        count.add(Term::integer(self.counted()));
        self.rest().weighted.as_ref().filter(|sums| {
            sums.weight.canonical() != count.canonical()
                || sums.square.canonical() != count.canonical()
                || sums.cross.canonical() != self.value.canonical()
        })
    }

    /// Writes a state that is a function of the rows alone.
    pub fn write(&self, to: &mut Writer) {
        for count in self.counts() {
            to.integer(count);
        }
        for mark in self.marks() {
            mark.write(to);
        }
        let (rest, weighted) = (self.rest(), self.weights_to_write());
        to.byte(rest.value_specials.0 | rest.weight_specials.0 << 3);
        write_sum(&self.value, to);
        write_sum(&self.square, to);
        to.byte(weighted.is_some().into());
        if let Some(sums) = weighted {
            write_sum(&sums.weight, to);
            write_sum(&sums.cross, to);
            write_sum(&sums.square, to);
        }
    }

    /// Reads what [`Group::write`] wrote.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let [rows, ignored, nonfinite] = [from.integer()?, from.integer()?, from.integer()?];
        let [minimum, maximum] = [Mark::read(from)?, Mark::read(from)?];
        let specials = from.byte()?;
        let (value, square) = (read_sum(from)?, read_sum(from)?);
        let weighted = match from.byte()? {
            0 => None,
            _ => Some(Weighted { weight: read_sum(from)?, cross: read_sum(from)?, square: read_sum(from)? }),
        };
        let rest = Rest {
            ignored,
            nonfinite,
            value_specials: Specials(specials & 7),
            weight_specials: Specials(specials >> 3),
            weighted,
            names: [minimum.name, maximum.name],
        };
        let is_needed = ignored > 0
            || nonfinite > 0
            || specials > 0
            || rest.weighted.is_some()
            || rest.names.iter().any(Option::is_some);
        let group = Self {
            rows,
            minimum: minimum.loss,
            maximum: maximum.loss,
            minimum_row: minimum.row,
            maximum_row: maximum.row,
            value,
            square,
            rest: is_needed.then(|| Box::new(rest)),
        };
        (ignored <= rows && specials < 64).then_some(group)
    }
}

/// √(x · 2^exponent)
fn root(x: f64, exponent: i32) -> f64 {
    let odd = exponent.rem_euclid(2);
    let root = (x * f64::from(1 + odd)).sqrt();
    // In halves, as a power of two may be beyond the doubles.
    let half = (exponent - odd) / 2;
    root * power(half / 2) * power(half - half / 2)
}

/// 2^exponent, 0 or infinity beyond the doubles.
fn power(exponent: i32) -> f64 {
    2_f64.powi(exponent)
}

impl Mark {
    fn write(&self, to: &mut Writer) {
        to.double(self.loss);
        to.integer(self.row as u64);
        to.byte(self.name.is_some().into());
        if let Some(name) = &self.name {
            to.bytes(name);
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (loss, row) = (from.double()?, from.integer()? as i64);
        let name = if from.byte()? == 1 { Some(from.bytes()?.into()) } else { None };
        Some(Self { loss, row, name })
    }
}

/// Writes a sum as its limbs.
pub fn write_sum<const N: usize>(sum: &CompactSum<N>, to: &mut Writer) {
    let (base, limbs) = sum.canonical();
    to.byte(base as i8 as u8);
    to.byte(limbs.len() as u8);
    for limb in limbs {
        to.integer(limb);
    }
}

/// Reads what [`write_sum`] wrote.
pub fn read_sum<const N: usize>(from: &mut Reader<'_>) -> Option<CompactSum<N>> {
    let (base, length) = (from.byte()? as i8, from.byte()?);
    let limbs = (0..length).map(|_| from.integer()).collect::<Option<Vec<u64>>>()?;
    CompactSum::from_canonical(base.into(), &limbs)
}

/// The worst rows, at most as many as are asked for.
#[derive(Clone, Debug, Default)]
pub struct Worst(Vec<Mark>);

impl Worst {
    /// Whether a row of this loss may be among the worst.
    #[inline(always)]
    pub fn may_take(&self, loss: f64, most: usize) -> bool {
        self.0.len() < most || loss.is_nan() || self.0.last().is_some_and(|last| loss >= last.loss)
    }

    /// Takes a row.
    pub fn add(&mut self, mark: Mark, most: usize) {
        let place = self.0.partition_point(|known| known.order(&mark) == Ordering::Less);
        if place < most {
            self.0.truncate(most - 1);
            self.0.insert(place, mark);
        }
    }

    /// Takes what another holds.
    pub fn merge(&mut self, other: &Self, most: usize) {
        for mark in &other.0 {
            self.add(mark.clone(), most);
        }
    }

    /// Numbers the rows anew, in the same order.
    pub fn renumber(&mut self, renumber: impl Fn(&mut i64)) {
        self.0.iter_mut().for_each(|mark| renumber(&mut mark.row));
    }

    /// The rows, the worst first.
    pub fn marks(&self) -> &[Mark] {
        &self.0
    }

    /// Writes them.
    pub fn write(&self, to: &mut Writer) {
        to.integer(self.0.len() as u64);
        self.0.iter().for_each(|mark| mark.write(to));
    }

    /// Reads what [`Worst::write`] wrote.
    pub fn read(from: &mut Reader<'_>, most: usize) -> Option<Self> {
        let length = usize::try_from(from.integer()?).ok().filter(|&length| length <= most)?;
        let mut worst = Self::default();
        for _ in 0..length {
            worst.0.push(Mark::read(from)?);
        }
        worst.0.is_sorted_by(|a, b| a.order(b) != Ordering::Greater).then_some(worst)
    }
}

/// Counts of losses by size, in buckets that depend on no data: 2^7 to a power of two, cut by the bits of the double.
#[derive(Clone, Debug, Default)]
pub struct Histogram(HashMap<i32, u64>);

impl Histogram {
    /// Counts a loss, unless it is NaN.
    #[inline(always)]
    pub fn add(&mut self, loss: f64) {
        if !loss.is_nan() {
            // Adding 0 makes −0 the same as 0.
            let bits = (loss + 0.0).to_bits();
            let size = (bits << 1 >> (53 - BUCKET_BITS)) as i32;
            *self.0.entry(if loss < 0.0 { -1 - size } else { size }).or_insert(0) += 1;
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (&bucket, &count) in &other.0 {
            *self.0.entry(bucket).or_insert(0) += count;
        }
    }

    fn sorted(&self) -> Vec<(i32, u64)> {
        let mut buckets: Vec<(i32, u64)> = self.0.iter().map(|(&bucket, &count)| (bucket, count)).collect();
        buckets.sort_unstable();
        buckets
    }

    /// The buckets in order: the smallest and the largest magnitude within, signed, and the count.
    pub fn buckets(&self) -> (Vec<f64>, Vec<f64>, Vec<u64>) {
        let edge = |size: i32| f64::from_bits((size as u64) << (52 - BUCKET_BITS));
        let mut buckets = (Vec::new(), Vec::new(), Vec::new());
        for (bucket, count) in self.sorted() {
            let size = if bucket < 0 { -1 - bucket } else { bucket };
            let (near, far) = (edge(size), edge(size + 1));
            // Infinity is a bucket of its own.
            let far = if near.is_infinite() { near } else { far.min(f64::MAX) };
            let (lower, upper) = if bucket < 0 { (-far, -near) } else { (near, far) };
            buckets.0.push(lower);
            buckets.1.push(upper);
            buckets.2.push(count);
        }
        buckets
    }

    /// Writes the counts.
    pub fn write(&self, to: &mut Writer) {
        to.integer(self.0.len() as u64);
        for (bucket, count) in self.sorted() {
            to.integer(bucket as i64 as u64);
            to.integer(count);
        }
    }

    /// Reads what [`Histogram::write`] wrote.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut histogram = Self::default();
        let (length, mut last) = (from.integer()?, i64::MIN);
        for _ in 0..length {
            let (bucket, count) = (from.integer()? as i64, from.integer()?);
            if bucket <= last || bucket.unsigned_abs() > 0x7ff << BUCKET_BITS | 1 || count == 0 {
                return None;
            }
            last = bucket;
            histogram.0.insert(bucket as i32, count);
        }
        Some(histogram)
    }
}
