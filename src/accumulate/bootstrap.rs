//! The mergeable Poisson bootstrap: replicates of the data in which each row counts so often as a hash of it says.
//!
//! 1. In a replicate a row counts k times, k ~ Poisson(1), whatever the other rows do. For many rows that is what drawing as
//!    many of them with replacement comes to, without their number having to be known before.
//! 2. k is a function of the seed, of the number or name by which the row is drawn, and of the replicate's number: SplitMix64
//!    started at the hash of the first two, whose every output is the draws of two replicates. So a replicate's sums are a
//!    commutative monoid too.
//! 3. Sums are exact: a block's values are cut, once for all replicates, into parts so short that what a replicate makes of
//!    each adds up in double precision without rounding. The replicates' loops are a hash, comparisons and two additions.
//!
//! J. A. Hanley and B. MacGibbon, Creating non-parametric bootstrap samples using Poisson frequencies, Computer Methods and
//! Programs in Biomedicine 83, 2006. N. Chamandy et al., Estimating uncertainty for massive data streams, Google, 2012.
//! G. L. Steele, D. Lea and C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.

use std::sync::Arc;

use super::bytes::{Reader, Writer};
use super::group::{Specials, read_sum, write_sum};
use super::keys::{Column, Combinations, Keys};
use super::sum::{CompactSum, Term};
use super::{Clusters, Rows};
use crate::drive::block::LANES;
use crate::drive::{Failure, SPREAD_FROM};
use crate::isa::{Isa, Kernel};
use crate::sum::{LANES as SUMMED, Summand, fold};
use crate::threads::{self, Tasks};

/// Rows that are drawn at once.
const BLOCK: usize = 512;
/// Loops are over a multiple of this many rows, so that they have no remainder.
const GRAIN: usize = 64;
/// The grains of a block.
const GRAINS: usize = BLOCK / GRAIN;
/// Rows that are drawn one by one: it is quicker.
const FEW: usize = 8;
/// Replicates of a task: even, and enough that preparing a block is little work beside them.
const SHARE: usize = 32;
/// The most parts that the values and the weights of a block are cut into.
const PARTS: usize = 8;
/// What a draw costs, as elements of other calls.
const COST: usize = 2;

/// 2^64 over the golden ratio: the step of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// 2^32 P(k < j) for j = 1, 2, …, rounded, less 2^31: whether draws reach them tells k. Of 13 it would be 2^32.
const THRESHOLDS: [i32; 12] = [
    -567_453_479,
    1_012_576_689,
    1_802_591_774,
    2_065_930_135,
    2_131_764_726,
    2_144_931_644,
    2_147_126_130,
    2_147_439_628,
    2_147_478_815,
    2_147_483_169,
    2_147_483_605,
    2_147_483_644,
];

/// The output function of SplitMix64.
#[inline(always)]
fn mix(state: u64) -> u64 {
    let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

/// The draws of two replicates, as the halves of one output, for a row's hash.
#[inline(always)]
fn draws(hash: u64, pair: u64) -> u64 {
    mix(hash.wrapping_add(STEP.wrapping_mul(pair + 1)))
}

/// How often a row counts.
#[inline(always)]
fn count(draws: u64, replicate: usize) -> i32 {
    let draw = (draws >> (32 * (replicate % 2))) as i32;
    THRESHOLDS.iter().map(|&threshold| i32::from(draw >= threshold)).sum()
}

/// A number for a name.
fn hash_of(name: &[u8]) -> u64 {
    let fold = |hash: u64, word: &[u8]| {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        mix(hash.wrapping_add(STEP) ^ u64::from_le_bytes(padded))
    };
    name.chunks(8).fold(mix(name.len() as u64), fold)
}

/// Which replicates are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// How many; each draws the same however many there are.
    pub replicates: usize,
    /// Other draws for another seed.
    pub seed: u64,
}

/// What a replicate holds of some rows; a commutative monoid under [`Replicate::merge`].
#[derive(Clone, Debug, Default)]
pub struct Replicate {
    /// Σ k · wℓ
    value: CompactSum<3>,
    /// Σ k · w
    weight: CompactSum<2>,
    value_specials: Specials,
    weight_specials: Specials,
}

impl Replicate {
    /// Adds a row that counts so often.
    fn add(&mut self, count: i32, value: f64, weight: f64) {
        let count = Term::integer(count as u64);
        match Term::of(value) {
            Some(value) => self.value.add(value.times(count)),
            None => self.value_specials.meet(value),
        }
        match Term::of(weight) {
            Some(weight) => self.weight.add(weight.times(count)),
            None => self.weight_specials.meet(weight),
        }
    }

    /// Adds sums of finite values and weights, in parts.
    fn add_parts(&mut self, values: &[f64], weights: &[f64]) {
        for term in values.iter().filter_map(|&part| Term::of(part)) {
            self.value.add(term);
        }
        for term in weights.iter().filter_map(|&part| Term::of(part)) {
            self.weight.add(term);
        }
    }

    /// Adds what another holds.
    pub fn merge(&mut self, other: &Self) {
        self.value.merge(&other.value);
        self.weight.merge(&other.weight);
        self.value_specials.merge(other.value_specials);
        self.weight_specials.merge(other.weight_specials);
    }

    /// Σ k · wℓ and Σ k · w, rounded.
    pub fn sums(&self) -> [f64; 2] {
        [
            self.value_specials.sum().unwrap_or_else(|| self.value.value()),
            self.weight_specials.sum().unwrap_or_else(|| self.weight.value()),
        ]
    }

    /// Writes a state that is a function of the rows alone.
    pub fn write(&self, to: &mut Writer) {
        to.byte(self.value_specials.0 | self.weight_specials.0 << 3);
        write_sum(&self.value, to);
        write_sum(&self.weight, to);
    }

    /// Reads what [`Replicate::write`] wrote.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let specials = from.byte().filter(|&specials| specials < 64)?;
        let (value, weight) = (read_sum(from)?, read_sum(from)?);
        let [value_specials, weight_specials] = [Specials(specials & 7), Specials(specials >> 3)];
        Some(Self { value, weight, value_specials, weight_specials })
    }
}

/// What the replicates of some rows hold, by group.
pub struct Drawn {
    /// The groups.
    keys: Keys,
    /// The first replicate of a task, and its replicates: all of a group, then those of the next.
    shares: Vec<(usize, Arc<[Replicate]>)>,
}

impl Drawn {
    /// Calls `add` with the key of each group, the number of the first of some replicates, and those.
    pub fn for_each(&self, mut add: impl FnMut(&[u8], usize, &[Replicate])) {
        for (first, share) in &self.shares {
            let replicates = share.len() / self.keys.len();
            for (group, replicates) in share.chunks_exact(replicates).enumerate() {
                add(self.keys.get(group), *first, replicates);
            }
        }
    }
}

impl Bootstrap {
    /// Draws rows of the groups that the columns name.
    ///
    /// # Errors
    /// If `stop` said so.
    pub fn draw<T: Summand>(
        self,
        isa: Isa,
        rows: &Rows<'_, T>,
        columns: &[Column<'_>],
        stop: &dyn Fn() -> bool,
    ) -> Result<Drawn, Failure> {
        let runs = Runs::of(rows.losses.len(), columns);
        let spread = rows.losses.len().saturating_mul(self.replicates) >= SPREAD_FROM / COST;
        let work = |tasks: &mut Tasks<'_>| {
            let mut block = Block::new();
            let mut shares = Vec::new();
            while let Some(task) = tasks.next() {
                let first = task * SHARE;
                let width = SHARE.min(self.replicates - first);
                let mut share = vec![Replicate::default(); runs.keys.len() * width];
                'share: for (group, replicates) in share.chunks_exact_mut(width).enumerate() {
                    let end = runs.ends[group];
                    for start in (runs.start(group)..end).step_by(BLOCK) {
                        if tasks.are_stopped() {
                            break 'share;
                        }
                        block.prepare(isa, self.seed, rows, start..end.min(start + BLOCK), &runs);
                        block.draw(isa, first, replicates);
                    }
                }
                shares.push((first, share.into()));
            }
            shares
        };
        let merge = |mine: &mut Vec<(usize, Arc<[Replicate]>)>, others: &Vec<_>| mine.extend_from_slice(others);
        let shares = threads::share(self.replicates.div_ceil(SHARE), spread, stop, work, merge)?;
        Ok(Drawn { keys: runs.keys, shares })
    }
}

/// Rows by group.
struct Runs {
    keys: Keys,
    /// The rows, those of a group in turn; none if that is how they are.
    order: Option<Vec<usize>>,
    /// Where each group's rows end.
    ends: Vec<usize>,
}

impl Runs {
    fn of(rows: usize, columns: &[Column<'_>]) -> Self {
        let mut keys = Keys::new();
        if columns.is_empty() {
            return Self { keys, order: None, ends: vec![rows] };
        }
        let mut numbers = vec![0; rows];
        keys.numbers_of(columns, &mut Combinations::new(columns, rows), 0, &mut numbers);
        let mut places = vec![0; keys.len()];
        for &number in &numbers {
            places[number as usize] += 1;
        }
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        let mut order = vec![0; rows];
        for (row, &number) in numbers.iter().enumerate() {
            let place = &mut places[number as usize];
            order[*place] = row;
            *place += 1;
        }
        Self { keys, order: Some(order), ends: places }
    }

    fn start(&self, group: usize) -> usize {
        if group == 0 { 0 } else { self.ends[group - 1] }
    }

    #[inline(always)]
    fn row(&self, place: usize) -> usize {
        self.order.as_ref().map_or(place, |order| order[place])
    }
}

type Grains<T> = [[T; GRAIN]; GRAINS];

/// Some rows, ready to be drawn.
struct Block {
    rows: usize,
    hashes: Grains<u64>,
    values: Grains<f64>,
    weights: Grains<f64>,
    /// Parts of the values, then of the weights, then zeros.
    parts: [Grains<f64>; PARTS],
    /// How many there are of values and weights; `None` if they would be too many.
    cut: Option<[usize; 2]>,
}

/// What a replicate makes of a block's parts.
type Totals<const C: usize> = [[f64; C]; SHARE];

impl Block {
    fn new() -> Box<Self> {
        const EMPTY: Block = Block {
            rows: 0,
            hashes: [[0; GRAIN]; GRAINS],
            values: [[0.0; GRAIN]; GRAINS],
            weights: [[0.0; GRAIN]; GRAINS],
            parts: [[[0.0; GRAIN]; GRAINS]; PARTS],
            cut: None,
        };
        Box::new(EMPTY)
    }

    /// The grains that rows are in.
    fn grains(&self) -> usize {
        self.rows.div_ceil(GRAIN)
    }

    fn prepare<T: Summand>(
        &mut self,
        isa: Isa,
        seed: u64,
        rows: &Rows<'_, T>,
        places: std::ops::Range<usize>,
        runs: &Runs,
    ) {
        self.rows = places.len();
        let (hashes, values) = (self.hashes.as_flattened_mut(), self.values.as_flattened_mut());
        let weights = self.weights.as_flattened_mut();
        let filled = self.rows.next_multiple_of(GRAIN);
        values[self.rows..filled].fill(0.0);
        weights[self.rows..filled].fill(0.0);
        let mut name = Vec::new();
        for (i, place) in places.enumerate() {
            let row = runs.row(place);
            hashes[i] = identity(rows, row, &mut name);
            let counts = !rows.is_ignored(row);
            values[i] = if counts { rows.values[row].to_f64() } else { 0.0 };
            let weight = rows.weights.map_or(1.0, |weights| weights[row].to_f64());
            weights[i] = if counts { weight } else { 0.0 };
        }
        let grains = self.grains();
        isa.run(Hash(&mut self.hashes[..grains], mix(seed.wrapping_add(STEP))));
        self.cut = if self.rows > FEW { self.split::<T>(isa, grains) } else { None };
    }

    /// Cuts values and weights.
    fn split<T: Summand>(&mut self, isa: Isa, grains: usize) -> Option<[usize; 2]> {
        let plans = [&self.values, &self.weights].map(|column| isa.run(Plan(&column[..grains])));
        let [values, weights] = plans.map(|extremes| plan::<T>(extremes));
        let (values, weights) = (values?, weights?);
        let (first, rest) = self.parts.split_at_mut_checked(values.0)?;
        let (second, rest) = rest.split_at_mut_checked(weights.0)?;
        isa.run(Split(&mut self.values[..grains], first, values.1));
        isa.run(Split(&mut self.weights[..grains], second, weights.1));
        for part in rest {
            part[..grains].fill([0.0; GRAIN]);
        }
        Some([values.0, weights.0])
    }

    /// Adds the rows to replicates, the first of which has an even number.
    fn draw(&self, isa: Isa, first: usize, replicates: &mut [Replicate]) {
        match self.cut.map(|[values, weights]| values + weights) {
            Some(..=2) => self.draw_parts::<2>(isa, first, replicates),
            Some(3) => self.draw_parts::<3>(isa, first, replicates),
            Some(4) => self.draw_parts::<4>(isa, first, replicates),
            Some(5..=6) => self.draw_parts::<6>(isa, first, replicates),
            Some(_) => self.draw_parts::<PARTS>(isa, first, replicates),
            None => self.draw_each(first, replicates),
        }
    }

    fn draw_parts<const C: usize>(&self, isa: Isa, first: usize, replicates: &mut [Replicate]) {
        let Some((parts, &[values, weights])) = self.parts.first_chunk::<C>().zip(self.cut.as_ref()) else { return };
        let mut totals: Totals<C> = [[0.0; C]; SHARE];
        let pairs = replicates.len().div_ceil(2);
        isa.run(Draw { hashes: &self.hashes, parts, grains: self.grains(), first, pairs, totals: &mut totals });
        for (replicate, totals) in replicates.iter_mut().zip(&totals) {
            replicate.add_parts(&totals[..values], &totals[values..values + weights]);
        }
    }

    /// Row by row: few, or infinities, NaNs, or magnitudes too far apart.
    fn draw_each(&self, first: usize, replicates: &mut [Replicate]) {
        let (values, weights) = (self.values.as_flattened(), self.weights.as_flattened());
        for (i, &hash) in self.hashes.as_flattened()[..self.rows].iter().enumerate() {
            for (number, replicate) in (first..).zip(replicates.iter_mut()) {
                let count = count(draws(hash, number as u64 / 2), number);
                if count > 0 {
                    replicate.add(count, values[i], weights[i]);
                }
            }
        }
    }
}

/// By what a row is drawn: its cluster's number or name, or else its own name or number.
#[inline(always)]
fn identity<T: Summand>(rows: &Rows<'_, T>, row: usize, name: &mut Vec<u8>) -> u64 {
    let names = match (rows.clusters, rows.labels.names) {
        (Some(Clusters::Numbers(numbers)), _) => return numbers[row] as u64,
        (Some(Clusters::Names(names)), _) | (None, Some(names)) => names,
        (None, None) => return rows.labels.row(row) as u64,
    };
    name.clear();
    names.write(row, name);
    hash_of(name)
}

/// Hashes identities, with what comes of the seed.
struct Hash<'a>(&'a mut [[u64; GRAIN]], u64);

impl Kernel for Hash<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for hashes in self.0 {
            for hash in hashes {
                *hash = mix(*hash ^ self.1);
            }
        }
    }
}

/// The smallest magnitude that is not 0, and the largest.
struct Plan<'a>(&'a [[f64; GRAIN]]);

impl Kernel for Plan<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run(self) -> Self::Output {
        f64::extremes(self.0.as_flattened().as_chunks::<SUMMED>().0.iter())
    }
}

/// How many parts a block of these extremes is cut into, and the E with all |x| < 2^(E+1); `None` if it can't be.
///
/// Let every x be a multiple of 2^q. A replicate adds n k x over n ≤ 2^9 rows and k < 2^4, at most 2^(E+14), so that one part is
/// exact if E − q ≤ 39. As in `sum::split`, x + M with M = 1.5 · 2^(E+13) cuts off a multiple of 2^(E−39) of at most
/// 2^(E+1), of which the same holds; the rest is at most 2^(E−40), so that E − 41 is in E's place for the next part.
fn plan<T: Summand>((smallest, largest): (f64, f64)) -> Option<(usize, i32)> {
    if largest == 0.0 {
        return Some((0, 0));
    }
    let exponent = |magnitude: f64| (magnitude.to_bits() >> 52) as i32 - 1023;
    let (unit, largest) = (exponent(smallest) + 1 - T::DIGITS, exponent(largest));
    // Neither sums nor M may overflow, nor anything be subnormal.
    let fits = largest <= 1008 && unit >= -1022;
    fits.then(|| (1 + ((largest - unit - 39).max(0) as usize).div_ceil(41), largest))
}

/// Cuts values, which become the rest, into parts.
struct Split<'a>(&'a mut [[f64; GRAIN]], &'a mut [Grains<f64>], i32);

impl Kernel for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(values, parts, largest) = self;
        let Some((last, parts)) = parts.split_last_mut() else { return };
        let grains = values.len().min(GRAINS);
        for (number, part) in parts.iter_mut().enumerate() {
            let exponent = largest + 13 - 41 * number as i32;
            let cut = f64::from_bits(((exponent + 1023) as u64) << 52 | 1 << 51);
            for grain in 0..grains {
                split_grain(&mut values[grain], &mut part[grain], cut);
            }
        }
        last[..grains].copy_from_slice(&values[..grains]);
    }
}

#[inline(always)]
fn split_grain(values: &mut [f64; GRAIN], parts: &mut [f64; GRAIN], cut: f64) {
    let (mut part, mut rest) = ([0.0; GRAIN], [0.0; GRAIN]);
    for row in 0..GRAIN {
        part[row] = (values[row] + cut) - cut;
        rest[row] = values[row] - part[row];
    }
    (*parts, *values) = (part, rest);
}

/// Counts rows in pairs of replicates.
struct Draw<'a, const C: usize> {
    hashes: &'a Grains<u64>,
    parts: &'a [Grains<f64>; C],
    grains: usize,
    first: usize,
    pairs: usize,
    totals: &'a mut Totals<C>,
}

impl<const C: usize> Kernel for Draw<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { hashes, parts, grains, first, pairs, totals } = self;
        for pair in 0..pairs.min(SHARE / 2) {
            let mut sums = [[[0.0; GRAIN]; C]; 2];
            for grain in 0..grains.min(GRAINS) {
                let mut counts = [[0; GRAIN]; 2];
                let [low, high] = &mut counts;
                draw_grain(&hashes[grain], (first / 2 + pair) as u64, low, high);
                for half in 0..2 {
                    count_grain(&mut counts[half]);
                    for part in 0..C {
                        add_grain(&mut sums[half][part], &counts[half], &parts[part][grain]);
                    }
                }
            }
            for half in 0..2 {
                for part in 0..C {
                    totals[2 * pair + half][part] = total_of(&sums[half][part]);
                }
            }
        }
    }
}

/// The draws of two replicates.
#[inline(always)]
fn draw_grain(hashes: &[u64; GRAIN], pair: u64, low: &mut [i32; GRAIN], high: &mut [i32; GRAIN]) {
    for row in 0..GRAIN {
        let draws = draws(hashes[row], pair);
        low[row] = draws as i32;
        high[row] = (draws >> 32) as i32;
    }
}

/// How often rows count, in the place of their draws.
#[inline(always)]
fn count_grain(draws: &mut [i32; GRAIN]) {
    for row in 0..GRAIN {
        let mut count = 0;
        for threshold in THRESHOLDS {
            count += i32::from(draws[row] >= threshold);
        }
        draws[row] = count;
    }
}

/// Adds a part of the rows, each so often. Products and sums are exact.
#[inline(always)]
fn add_grain(sums: &mut [f64; GRAIN], counts: &[i32; GRAIN], part: &[f64; GRAIN]) {
    let mut added = [0.0; GRAIN];
    for row in 0..GRAIN {
        added[row] = sums[row] + f64::from(counts[row]) * part[row];
    }
    *sums = added;
}

/// The sum of a grain's lanes.
#[inline(always)]
fn total_of(sums: &[f64; GRAIN]) -> f64 {
    let mut lanes = [0.0; LANES];
    for group in 0..GRAIN / LANES {
        for lane in 0..LANES {
            lanes[lane] += sums[group * LANES + lane];
        }
    }
    fold(lanes, |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    #[test]
    fn thresholds_are_those_of_the_distribution() {
        // Σ 1/i! to 2^−200 is e, and 2^32 Σ 1/i! over i < j, divided by it, what a draw must reach.
        let one: BigUint = BigUint::from(1_u8) << 200;
        let terms: Vec<BigUint> = (0..60)
            .scan(one, |term, i: u32| {
                *term /= i.max(1);
                Some(term.clone())
            })
            .collect();
        let e: BigUint = terms.iter().sum();
        for (j, &threshold) in (1..).zip(&THRESHOLDS) {
            let reached = terms[..j].iter().sum::<BigUint>() << 32;
            let rounded = (reached * 2_u32 + &e) / (&e * 2_u32);
            assert_eq!(rounded, BigUint::from((i64::from(threshold) + (1 << 31)) as u64));
        }
        let beyond = terms[..13].iter().sum::<BigUint>() << 32;
        assert_eq!((beyond * 2_u32 + &e) / (&e * 2_u32), BigUint::from(1_u64 << 32));
    }

    #[test]
    fn counts_go_from_none_to_twelve() {
        assert_eq!(count(1 << 31, 0), 0);
        assert_eq!(count(0, 0), 1);
        assert_eq!(count(0x7fff_ffff, 0), 12);
        assert_eq!(count(0x7fff_ffff << 32, 1), 12);
    }

    fn values(wide: bool) -> impl Strategy<Value = f64> {
        let wild = any::<u64>().prop_map(f64::from_bits);
        let tame = prop_oneof![-20.0..20.0_f64, Just(0.0), (-60_i32..60).prop_map(|e| 1.5 * 2_f64.powi(e))];
        if wide { wild.boxed() } else { tame.boxed() }
    }

    fn rows() -> impl Strategy<Value = Vec<(f64, f64)>> {
        prop_oneof![3 => Just(false), 1 => Just(true)]
            .prop_flat_map(|wide| prop::collection::vec((values(wide), prop_oneof![Just(1.0), 0.0..9.0_f64]), 1..1300))
    }

    fn written(replicates: &[Replicate]) -> Vec<u8> {
        let mut to = Writer::default();
        for replicate in replicates {
            replicate.write(&mut to);
        }
        to.0
    }

    /// One by one, without blocks.
    fn expected(bootstrap: Bootstrap, values: &[f64], weights: Option<&[f64]>) -> Vec<Replicate> {
        let mut replicates = vec![Replicate::default(); bootstrap.replicates];
        for (row, &value) in values.iter().enumerate() {
            let hash = mix(row as u64 ^ mix(bootstrap.seed.wrapping_add(STEP)));
            for (number, replicate) in replicates.iter_mut().enumerate() {
                let count = count(draws(hash, number as u64 / 2), number);
                if count > 0 {
                    replicate.add(count, value, weights.map_or(1.0, |weights| weights[row]));
                }
            }
        }
        replicates
    }

    fn drawn<T: Summand>(isa: Isa, bootstrap: Bootstrap, values: &[T], weights: Option<&[T]>) -> Vec<Replicate> {
        let labels = super::super::Labels { first: 0, numbers: None, names: None };
        let rows = Rows { losses: values, values, weights, ignored: None, labels, clusters: None };
        let mut replicates = vec![Replicate::default(); bootstrap.replicates];
        bootstrap.draw(isa, &rows, &[], &|| false).unwrap().for_each(|_, first, share| {
            replicates[first..][..share.len()].clone_from_slice(share);
        });
        replicates
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn blocks_add_up_to_what_rows_do(rows in rows(), weighted: bool, seed: u64, replicates in 1_usize..80) {
            let bootstrap = Bootstrap { replicates, seed };
            let (values, weights): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
            let weights = weighted.then_some(weights);
            let singles: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            let single_weights = weights.as_ref().map(|w| w.iter().map(|&w| w as f32).collect::<Vec<_>>());
            let widened: Vec<f64> = singles.iter().map(|&value| value.into()).collect();
            let wide_weights = single_weights.as_ref().map(|w| w.iter().map(|&w| w.into()).collect::<Vec<f64>>());
            let double = written(&expected(bootstrap, &values, weights.as_deref()));
            let single = written(&expected(bootstrap, &widened, wide_weights.as_deref()));
            for isa in Isa::available() {
                prop_assert_eq!(&written(&drawn(isa, bootstrap, &values, weights.as_deref())), &double);
                prop_assert_eq!(&written(&drawn(isa, bootstrap, &singles, single_weights.as_deref())), &single);
            }
        }
    }

    #[test]
    fn names_hash_apart() {
        let names: [&[u8]; 8] = [b"", b"\0", b"a", b"a\0", b"12345678", b"123456780", b"12345678\0", b"87654321"];
        let hashes: std::collections::HashSet<u64> = names.into_iter().map(hash_of).collect();
        assert_eq!(hashes.len(), names.len());
    }
}
