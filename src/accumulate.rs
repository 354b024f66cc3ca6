//! Losses added up by group: counts, exact sums, extremes, histograms, the worst rows and replicates of the bootstrap, in a
//! state that merges.
//!
//! 1. All that is kept is a commutative monoid: integers, exact sums, extremes whose ties are decided by the number of the
//!    row. So the state is a function of the set of rows, however they were split, ordered and merged.
//! 2. Rows of no group are summed by blocks: values, squares and products are split into doubles without rounding
//!    ([`ExactSum`]), and what a call adds up to goes into the group once.
//! 3. Rows of groups go one by one into sums of a few words ([`CompactSum`](sum::CompactSum)).

mod bootstrap;
mod bytes;
mod group;
mod keys;
mod sum;

use bootstrap::Replicate;
pub use bootstrap::{Bootstrap, Drawn};
use bytes::{Reader, Writer};
use group::{Group, Histogram, Worst};
pub use group::{Mark, Name, Summary};
pub use keys::{Column, Part, Texts};
use keys::{Combinations, Keys};
use sum::Term;

use crate::isa::{Isa, Kernel};
use crate::real::Real;
use crate::storage;
use crate::sum::{ExactSum, Summand};

/// Rows that are worked at once.
const BLOCK: usize = 1024;
/// Lanes in which extremes are found, for SIMD.
const LANES: usize = 16;

/// Rows between asking memory for a group and adding to it.
const AHEAD: usize = 12;

/// The losses of some rows.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    /// The loss of each.
    pub losses: &'a [T],
    /// Weight times loss; 0 where the row is ignored.
    pub values: &'a [T],
    /// What the mean divides by; all 1 if there are none.
    pub weights: Option<&'a [T]>,
    /// Which rows count for nothing: those where it is not 0.
    pub ignored: Option<&'a [u8]>,
    /// What the rows are called.
    pub labels: Labels<'a>,
    /// Which rows the bootstrap draws together, if not each by itself.
    pub clusters: Option<Clusters<'a>>,
}

/// What tells clusters of rows apart.
#[derive(Clone, Copy)]
pub enum Clusters<'a> {
    /// Numbers.
    Numbers(&'a [i64]),
    /// Names.
    Names(Texts<'a>),
}

/// What rows are called.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    /// The number of the first, where they are numbered in turn.
    pub first: i64,
    /// The numbers of all, where they are not.
    pub numbers: Option<&'a [i64]>,
    /// Names besides.
    pub names: Option<Texts<'a>>,
}

impl Labels<'_> {
    #[inline(always)]
    fn row(&self, index: usize) -> i64 {
        self.numbers.map_or_else(|| self.first.wrapping_add(index as i64), |numbers| numbers[index])
    }

    fn name(&self, index: usize) -> Name {
        self.names.map(|names| {
            let mut name = Vec::new();
            names.write(index, &mut name);
            name.into()
        })
    }
}

impl<T: Real> Rows<'_, T> {
    #[inline(always)]
    fn is_ignored(&self, index: usize) -> bool {
        self.ignored.is_some_and(|ignored| ignored[index] != 0)
    }

    /// The loss, all zeros the same.
    #[inline(always)]
    fn loss(&self, index: usize) -> f64 {
        self.losses[index].to_f64() + 0.0
    }

    fn mark(&self, index: usize) -> Mark {
        Mark { loss: self.loss(index), row: self.labels.row(index), name: self.labels.name(index) }
    }
}

/// All that is known of the rows so far.
#[derive(Clone, Default)]
pub struct State {
    keys: Keys,
    /// A group for each key; the first is that of the rows without one.
    groups: Vec<Group>,
    /// As many as groups, if they are wanted.
    histograms: Option<Vec<Histogram>>,
    /// As many as groups, if any are wanted.
    worst: Vec<Worst>,
    most_worst: usize,
    /// As many as groups, if any are wanted, each of the number of replicates.
    replicates: Vec<Box<[Replicate]>>,
    bootstrap: Bootstrap,
}

impl State {
    /// The state of no rows. Keeps histograms, so many of the worst rows, and replicates of each group.
    pub fn new(histograms: bool, most_worst: usize, bootstrap: Bootstrap) -> Self {
        let histograms = histograms.then(Vec::new);
        let mut state = Self { keys: Keys::new(), histograms, most_worst, bootstrap, ..Self::default() };
        state.make_groups();
        state
    }

    /// A group for each key.
    fn make_groups(&mut self) {
        let groups = self.keys.len();
        self.groups.resize_with(groups, Group::default);
        if let Some(histograms) = &mut self.histograms {
            histograms.resize_with(groups, Histogram::default);
        }
        if self.most_worst > 0 {
            self.worst.resize_with(groups, Worst::default);
        }
        if self.bootstrap.replicates > 0 {
            let replicates = self.bootstrap.replicates;
            self.replicates.resize_with(groups, || vec![Replicate::default(); replicates].into());
        }
    }

    /// Whether it keeps histograms, how many of the worst rows, and which replicates.
    pub fn settings(&self) -> (bool, usize, Bootstrap) {
        (self.histograms.is_some(), self.most_worst, self.bootstrap)
    }

    /// Groups that have a key.
    pub fn groups(&self) -> usize {
        self.groups.len() - 1
    }

    /// Adds rows, of the groups that the columns name, but for what is drawn of them.
    pub fn update<T: Summand>(&mut self, isa: Isa, rows: &Rows<'_, T>, columns: &[Column<'_>]) {
        if columns.is_empty() {
            self.update_ungrouped(isa, rows);
            return;
        }
        let (mut numbers, mut known) = ([0; BLOCK], Combinations::new(columns, rows.losses.len()));
        for start in (0..rows.losses.len()).step_by(BLOCK) {
            let numbers = &mut numbers[..BLOCK.min(rows.losses.len() - start)];
            self.keys.numbers_of(columns, &mut known, start, numbers);
            self.make_groups();
            for (i, &number) in numbers.iter().enumerate() {
                if let Some(&later) = numbers.get(i + AHEAD) {
                    // Groups are many and come in any order: with 10^6 this halves the time.
                    let group: *const Group = &raw const self.groups[later as usize];
                    storage::prefetch::<1>(group.cast(), size_of::<Group>());
                }
                self.add(rows, start + i, number as usize);
            }
        }
    }

    /// Adds what [`Bootstrap::draw`] drew.
    pub fn add_drawn(&mut self, drawn: &Drawn) {
        drawn.for_each(|key, first, replicates| {
            let number = self.keys.number(key) as usize;
            self.make_groups();
            merge_each(&mut self.replicates[number][first..], replicates);
        });
    }

    /// Adds a row to a group.
    #[inline(always)]
    fn add<T: Real>(&mut self, rows: &Rows<'_, T>, index: usize, number: usize) {
        let group = &mut self.groups[number];
        if rows.is_ignored(index) {
            group.ignore(1);
            return;
        }
        group.add(rows.values[index].to_f64(), rows.weights.map_or(1.0, |weights| weights[index].to_f64()));
        let loss = rows.loss(index);
        if !loss.is_nan() {
            group.extend(loss, rows.labels.row(index), || rows.labels.name(index));
        }
        self.note(rows, index, number);
    }

    /// Adds a row to what is kept on demand.
    #[inline(always)]
    fn note<T: Real>(&mut self, rows: &Rows<'_, T>, index: usize, number: usize) {
        let loss = rows.loss(index);
        if let Some(histograms) = &mut self.histograms {
            histograms[number].add(loss);
        }
        if self.most_worst > 0 && self.worst[number].may_take(loss, self.most_worst) {
            self.worst[number].add(rows.mark(index), self.most_worst);
        }
    }

    fn update_ungrouped<T: Summand>(&mut self, isa: Isa, rows: &Rows<'_, T>) {
        let mut totals = Totals::default();
        for start in (0..rows.losses.len()).step_by(BLOCK) {
            let block = start..rows.losses.len().min(start + BLOCK);
            let Some(range) = totals.add(isa, rows, block.clone()) else {
                // Infinities, NaNs, or products beyond the doubles.
                block.for_each(|index| self.add(rows, index, 0));
                continue;
            };
            self.extend(rows, block.clone(), range);
            if self.histograms.is_some() || self.most_worst > 0 {
                block.filter(|&index| !rows.is_ignored(index)).for_each(|index| self.note(rows, index, 0));
            }
        }
        totals.add_to(&mut self.groups[0], rows.weights.is_some());
    }

    /// Takes a block's extremes for those of the rows without a group.
    fn extend<T: Real>(&mut self, rows: &Rows<'_, T>, block: std::ops::Range<usize>, (smallest, largest): (f64, f64)) {
        let group = &mut self.groups[0];
        let (minimum, maximum) = group.range();
        if smallest > minimum && largest < maximum {
            return;
        }
        for index in block {
            let loss = rows.loss(index);
            if (loss == smallest || loss == largest) && !rows.is_ignored(index) {
                group.extend(loss, rows.labels.row(index), || rows.labels.name(index));
            }
        }
    }

    /// Adds what another state holds. Both keep the same.
    pub fn merge(&mut self, other: &Self) {
        let numbers: Vec<usize> =
            (0..other.keys.len()).map(|number| self.keys.number(other.keys.get(number)) as usize).collect();
        self.make_groups();
        for (theirs, &mine) in numbers.iter().enumerate() {
            self.groups[mine].merge(&other.groups[theirs]);
            if let (Some(histograms), Some(others)) = (&mut self.histograms, &other.histograms) {
                histograms[mine].merge(&others[theirs]);
            }
            if self.most_worst > 0 {
                self.worst[mine].merge(&other.worst[theirs], self.most_worst);
            }
        }
        for (theirs, &mine) in other.replicates.iter().zip(&numbers) {
            merge_each(&mut self.replicates[mine], theirs);
        }
    }

    /// Numbers rows anew: those from `starts[i]` to before `starts[i + 1]` from `to[i]` on. Both increase, so that no two rows
    /// change their order; rows before all keep their numbers.
    pub fn renumber(&mut self, starts: &[i64], to: &[i64]) {
        let renumber = |row: &mut i64| {
            let run = starts.partition_point(|start| start <= row).checked_sub(1);
            if let Some((start, to)) = run.and_then(|run| Some((starts.get(run)?, to.get(run)?))) {
                *row = row.wrapping_sub(*start).wrapping_add(*to);
            }
        };
        self.groups.iter_mut().for_each(|group| group.renumber(renumber));
        self.worst.iter_mut().for_each(|worst| worst.renumber(renumber));
    }

    /// All rows as one group: the state of no groups that has the same rows.
    #[must_use]
    pub fn overall(&self) -> Self {
        let mut overall = Self::new(self.histograms.is_some(), self.most_worst, self.bootstrap);
        for group in &self.groups {
            overall.groups[0].merge(group);
        }
        if let (Some(histograms), Some(own)) = (&mut overall.histograms, &self.histograms) {
            for own in own {
                histograms[0].merge(own);
            }
        }
        for own in &self.worst {
            overall.worst[0].merge(own, self.most_worst);
        }
        for own in &self.replicates {
            merge_each(&mut overall.replicates[0], own);
        }
        overall
    }

    /// What is reported of rows without a group.
    pub fn ungrouped(&self) -> Report<'_> {
        self.report(0)
    }

    /// What is reported of each group, in the order of the keys.
    pub fn reports(&self) -> impl Iterator<Item = Report<'_>> {
        self.keys.sorted().into_iter().filter(|&number| number > 0).map(|number| self.report(number as usize))
    }

    fn report(&self, number: usize) -> Report<'_> {
        Report { state: self, number }
    }

    /// The state as bytes that are a function of the rows alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::default();
        let Bootstrap { replicates, seed } = self.bootstrap;
        to.byte(u8::from(self.histograms.is_some()) | u8::from(replicates > 0) << 1);
        to.integer(self.most_worst as u64);
        if replicates > 0 {
            to.integer(replicates as u64);
            to.integer(seed);
        }
        to.integer(self.groups.len() as u64);
        for number in self.keys.sorted() {
            let number = number as usize;
            to.bytes(self.keys.get(number));
            self.groups[number].write(&mut to);
            if let Some(histograms) = &self.histograms {
                histograms[number].write(&mut to);
            }
            if self.most_worst > 0 {
                self.worst[number].write(&mut to);
            }
            for replicate in self.replicates.get(number).into_iter().flatten() {
                replicate.write(&mut to);
            }
        }
        to.0
    }

    /// The state that [`State::to_bytes`] wrote; `None` if these bytes are no such thing.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let kept = from.byte().filter(|&kept| kept < 4)?;
        let (histograms, has_replicates) = (kept & 1 == 1, kept & 2 == 2);
        let most_worst = usize::try_from(from.integer()?).ok()?;
        let mut bootstrap = Bootstrap::default();
        if has_replicates {
            let replicates = usize::try_from(from.integer()?).ok().filter(|&replicates| replicates > 0)?;
            bootstrap = Bootstrap { replicates, seed: from.integer()? };
        }
        let mut state = Self { histograms: histograms.then(Vec::new), most_worst, bootstrap, ..Self::default() };
        for number in 0..from.integer()? {
            let key = from.bytes()?;
            Part::decode(key)?;
            // The first group is that of the rows without one.
            if key.is_empty() != (number == 0) || u64::from(state.keys.number(key)) != number {
                return None;
            }
            state.groups.push(Group::read(&mut from)?);
            if let Some(histograms) = &mut state.histograms {
                histograms.push(Histogram::read(&mut from)?);
            }
            if most_worst > 0 {
                state.worst.push(Worst::read(&mut from, most_worst)?);
            }
            if has_replicates {
                let replicates = (0..bootstrap.replicates).map(|_| Replicate::read(&mut from));
                state.replicates.push(replicates.collect::<Option<_>>()?);
            }
        }
        (from.0.is_empty() && !state.groups.is_empty()).then_some(state)
    }
}

/// Adds the replicates of one group to those of another, each to its like.
fn merge_each(mine: &mut [Replicate], theirs: &[Replicate]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        mine.merge(theirs);
    }
}

/// What is reported of a group.
pub struct Report<'a> {
    state: &'a State,
    number: usize,
}

impl Report<'_> {
    fn group(&self) -> &Group {
        &self.state.groups[self.number]
    }

    /// The group's key.
    pub fn key(&self) -> Vec<Part> {
        Part::decode(self.state.keys.get(self.number)).unwrap_or_default()
    }

    /// Rows, ignored ones, and those of infinite or NaN loss.
    pub fn counts(&self) -> [u64; 3] {
        self.group().counts()
    }

    /// The sums, rounded.
    pub fn summary(&self) -> Summary {
        self.group().summary()
    }

    /// The rows of the smallest and the largest loss.
    pub fn extremes(&self) -> [Mark; 2] {
        self.group().extremes()
    }

    /// The buckets of the histogram, if there is one: lower edges, upper edges, counts.
    pub fn histogram(&self) -> Option<(Vec<f64>, Vec<f64>, Vec<u64>)> {
        self.state.histograms.as_ref().map(|histograms| histograms[self.number].buckets())
    }

    /// Σ wℓ and Σ w of each replicate, if any are kept.
    pub fn replicates(&self) -> impl Iterator<Item = [f64; 2]> {
        self.state.replicates.get(self.number).into_iter().flatten().map(Replicate::sums)
    }

    /// The worst rows, if any are kept.
    pub fn worst(&self) -> &[Mark] {
        self.state.worst.get(self.number).map_or(&[], Worst::marks)
    }
}

/// The exact sums of a call's rows.
#[derive(Default)]
struct Totals {
    rows: u64,
    ignored: u64,
    value: ExactSum,
    square: ExactSum,
    weight: ExactSum,
    cross: ExactSum,
    weight_square: ExactSum,
}

impl Totals {
    fn add_to(&self, group: &mut Group, weighted: bool) {
        let terms = |sum: &ExactSum| -> Vec<Term> {
            sum.terms().map(|(negative, digit, exponent)| Term::part(negative, digit, exponent)).collect()
        };
        let sums = weighted.then(|| [&self.weight, &self.cross, &self.weight_square].map(terms));
        let sums = sums.as_ref().map(|sums| sums.each_ref().map(Vec::as_slice));
        group.add_sums(self.rows, &terms(&self.value), &terms(&self.square), sums);
        if self.ignored > 0 {
            group.ignore(self.ignored);
        }
    }
}

/// Magnitudes whose products are exact as two doubles: neither infinite, nor subnormal in a part.
const LEAST: f64 = f64::from_bits((1023 - 450) << 52);
const MOST: f64 = f64::from_bits((1023 + 450) << 52);

impl Totals {
    /// Adds a block of rows, if its products are doubles; the smallest and the largest loss then.
    fn add<T: Summand>(&mut self, isa: Isa, rows: &Rows<'_, T>, block: std::ops::Range<usize>) -> Option<(f64, f64)> {
        let values = &rows.values[block.clone()];
        let weights = rows.weights.map(|weights| &weights[block.clone()]);
        if !isa.run(HaveProducts(values)) || !weights.is_none_or(|weights| isa.run(HaveProducts(weights))) {
            return None;
        }
        let mut parts = [[0.0; BLOCK]; 2];
        self.value.add_block(isa, values);
        add_products(isa, &mut self.square, [values, values], &mut parts);
        if let Some(weights) = weights {
            self.weight.add_block(isa, weights);
            add_products(isa, &mut self.cross, [values, weights], &mut parts);
            add_products(isa, &mut self.weight_square, [weights, weights], &mut parts);
        }
        let losses = &mut parts[0][..values.len()];
        let mut ignored = 0;
        for (i, loss) in losses.iter_mut().enumerate() {
            *loss = rows.loss(block.start + i);
        }
        if let Some(flags) = rows.ignored {
            for (loss, &flag) in losses.iter_mut().zip(&flags[block]) {
                *loss = if flag != 0 { f64::NAN } else { *loss };
                ignored += u64::from(flag != 0);
            }
        }
        self.rows += values.len() as u64 - ignored;
        self.ignored += ignored;
        Some(isa.run(RangeOf(losses)))
    }
}

/// Adds products: each the rounded product and what was rounded off, which is a double too (T. J. Dekker, 1971).
fn add_products<T: Summand>(isa: Isa, total: &mut ExactSum, factors: [&[T]; 2], parts: &mut [[f64; BLOCK]; 2]) {
    let length = factors[0].len();
    isa.run(Products(factors, parts));
    total.add_block(isa, &parts[0][..length]);
    // Products of singles are doubles.
    if size_of::<T>() > 4 {
        total.add_block(isa, &parts[1][..length]);
    }
}

struct HaveProducts<'a, T>(&'a [T]);

impl<T: Real> Kernel for HaveProducts<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let mut all = true;
        for value in self.0 {
            let magnitude = value.to_f64().abs();
            all &= (LEAST..=MOST).contains(&magnitude) | (magnitude == 0.0);
        }
        all
    }
}

struct Products<'a, T>([&'a [T]; 2], &'a mut [[f64; BLOCK]; 2]);

impl<T: Real> Kernel for Products<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self([a, b], [high, low]) = self;
        let length = a.len().min(b.len()).min(BLOCK);
        let (a, b, high, low) = (&a[..length], &b[..length], &mut high[..length], &mut low[..length]);
        for i in 0..length {
            let (a, b) = (a[i].to_f64(), b[i].to_f64());
            high[i] = a * b;
            low[i] = a.mul_add(b, -high[i]);
        }
    }
}

struct RangeOf<'a>(&'a [f64]);

impl Kernel for RangeOf<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run(self) -> Self::Output {
        range_of(self.0)
    }
}

/// The smallest and the largest value, NaNs aside; infinities the wrong way round if there are none.
#[inline(always)]
fn range_of(values: &[f64]) -> (f64, f64) {
    let (mut smallest, mut largest) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let (lanes, tail) = values.as_chunks::<LANES>();
    let mut last = [f64::NAN; LANES];
    last[..tail.len()].copy_from_slice(tail);
    for values in lanes.iter().chain([&last]) {
        for lane in 0..LANES {
            let value = values[lane];
            smallest[lane] = if value < smallest[lane] { value } else { smallest[lane] };
            largest[lane] = if value > largest[lane] { value } else { largest[lane] };
        }
    }
    (smallest.into_iter().fold(f64::INFINITY, f64::min), largest.into_iter().fold(f64::NEG_INFINITY, f64::max))
}
