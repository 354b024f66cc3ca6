//! The driver for losses of one element at a time.

use crate::drive::block::{self, BLOCK, Block, GRAIN, Number};
use crate::drive::layout::{Layout, Operand};
use crate::drive::{ALONE_BELOW, Failure, STREAM_FROM, TASKS_PER_THREAD, Want};
use crate::isa::{Isa, Kernel, Set};
use crate::loss::{Domain, Pointwise};
use crate::real::Real;
use crate::storage;
use crate::sum::{ExactSum, Expectation, Lanes, MOST_VALUES, Totals};
use crate::threads::{self, Spread, Tasks};

/// The most operands that a formula has.
pub const MOST_OPERANDS: usize = 3;
/// The most of them that it has derivatives with respect to.
pub const MOST_SLOPES: usize = 2;
/// The elements of a block, fewer than fit its room: the memory idles while a block's later passes run from the caches, and
/// that is shorter so. Measured on 2^24 elements: with a gradient, 640 takes four fifths of the time of 1,024.
const STEP: usize = 640;
/// The elements of a block that goes straight from the operands to a sum and to slopes.
const LONG_STEP: usize = MOST_VALUES;
/// Elements that a thread claims at once, at most: some tens of microseconds of work.
const ELEMENTS_PER_TASK: usize = 50 * STEP;
/// And at least: some times what it takes to claim them.
const LEAST_PER_TASK: usize = 8 * STEP;

/// Grains whose powers are computed before what follows from them: half a [`STEP`]. Measured of the binary cross-entropy with its
/// gradient: a sixth less time than one loop takes, of 1 to 4 and of 8 and 10 less is gained.
const AHEAD: usize = STEP / GRAIN / 2;

/// Elements from which a last block is worth two: one of whole grains, and one of what is left.
const WORTH_CUTTING: usize = 3 * GRAIN;

/// Room for what a formula says of a block.
pub struct Jets<T> {
    value: Block<T>,
    slope: [Block<T>; MOST_SLOPES],
    curvature: [Block<T>; MOST_SLOPES],
}

/// Where the slopes of a block go whose values are only added up.
pub struct Slopes<'a, T> {
    /// As many of each kind as there are values; or none, where they are not wanted.
    into: [&'a mut [T]; MOST_SLOPES],
    /// What they are multiplied by.
    factor: T,
    /// Whether they go past the caches, if they begin with a line.
    stream: bool,
}

/// A pointwise loss whose formula is behind a pointer: it evaluates blocks.
pub trait Blocks<T>: Send + Sync {
    /// Evaluates the formula at every element of the operands, which all have the same multiple of [`GRAIN`] elements, and
    /// writes as many of each part that is wanted.
    fn evaluate(&self, isa: Isa, want: Want, operands: &[&[T]], jets: &mut Jets<T>);
    /// Evaluates the formula at `len` elements likewise, but adds its values up, and writes slopes if they are wanted. An operand
    /// that is one value everywhere may be a [`GRAIN`] of it. Whether it could be done; if not, nothing was added, and slopes mean
    /// nothing.
    fn add(
        &self,
        isa: Isa,
        len: usize,
        operands: &[&[T]],
        slopes: Option<Slopes<'_, T>>,
        sum: &mut ExactSum,
        expectation: &mut Expectation,
    ) -> bool;
    /// [`Pointwise::DOMAIN`], if any operand has one.
    fn domain(&self) -> Option<&'static [Domain]>;
    /// [`Pointwise::STREAMS`]
    fn streams(&self) -> bool;
}

/// A pointwise loss, its formula and type of numbers behind a pointer.
pub trait Loss: Blocks<f32> + Blocks<f64> {
    /// [`Pointwise::OPERANDS`]
    fn operands(&self) -> &'static [&'static str];
    /// [`Pointwise::REQUIRED`]
    fn required(&self) -> usize;
    /// [`Pointwise::DIFFERENTIABLE`]
    fn differentiable(&self) -> &'static [usize];
    /// [`Pointwise::ASKED`]
    fn asked(&self) -> usize;
    /// [`Pointwise::SHARED`]
    fn shared(&self) -> Option<usize>;
    /// [`Pointwise::WEIGHT_NORMALISES`]
    fn weight_normalises(&self) -> bool;
    /// [`Pointwise::BATCH_MEAN`]
    fn has_batch_mean(&self) -> bool;
}

evaluated_as!(blocks);

/// A formula as a [`Loss`].
pub struct Formula<L, const N: usize, const D: usize>(pub L);

impl<L: Pointwise<N, D>, const N: usize, const D: usize> Loss for Formula<L, N, D> {
    fn operands(&self) -> &'static [&'static str] {
        const { &L::OPERANDS }
    }

    fn required(&self) -> usize {
        L::REQUIRED
    }

    fn differentiable(&self) -> &'static [usize] {
        const { &L::DIFFERENTIABLE }
    }

    fn asked(&self) -> usize {
        L::ASKED
    }

    fn shared(&self) -> Option<usize> {
        L::SHARED
    }

    fn weight_normalises(&self) -> bool {
        L::WEIGHT_NORMALISES
    }

    fn has_batch_mean(&self) -> bool {
        L::BATCH_MEAN
    }
}

impl<L: Pointwise<N, D>, T: Number, const N: usize, const D: usize> Blocks<T> for Formula<L, N, D> {
    fn add(
        &self,
        isa: Isa,
        len: usize,
        operands: &[&[T]],
        slopes: Option<Slopes<'_, T>>,
        sum: &mut ExactSum,
        expectation: &mut Expectation,
    ) -> bool {
        let operands: [&[T]; N] = std::array::from_fn(|i| operands[i]);
        let (loss, levels, largest) = (self.0, expectation.levels(), expectation.largest());
        let with_slopes = slopes.is_some();
        let nowhere = || Slopes { into: [&mut [], &mut []], factor: T::ONE, stream: false };
        let slopes = slopes.unwrap_or_else(nowhere);
        macro_rules! add_on {
            ($levels:literal, $slope:literal) => {
                isa.run(Add::<_, _, N, D, $slope, $levels> { loss, len, operands, slopes, largest })
                    .is_some_and(|totals| sum.add_totals(&totals, expectation))
            };
        }
        match (levels, with_slopes) {
            (2, false) => add_on!(2, false),
            (2, true) => add_on!(2, true),
            (3, false) => add_on!(3, false),
            (3, true) => add_on!(3, true),
            _ => false,
        }
    }

    fn domain(&self) -> Option<&'static [Domain]> {
        L::DOMAIN.iter().any(|&domain| domain != Domain::Real).then_some(const { &L::DOMAIN })
    }

    fn streams(&self) -> bool {
        L::STREAMS
    }

    fn evaluate(&self, isa: Isa, want: Want, operands: &[&[T]], jets: &mut Jets<T>) {
        let loss = self.0;
        let operands: [&[T]; N] = std::array::from_fn(|i| operands[i]);
        match want {
            Want::Value => isa.run(Evaluate::<_, _, N, D, true, false, false> { loss, operands, jets }),
            Want::Gradient => isa.run(Evaluate::<_, _, N, D, false, true, false> { loss, operands, jets }),
            Want::ValueAndGradient => isa.run(Evaluate::<_, _, N, D, true, true, false> { loss, operands, jets }),
            Want::GradientAndHessian => isa.run(Evaluate::<_, _, N, D, false, true, true> { loss, operands, jets }),
        }
    }
}

/// Evaluates a formula and adds its values up in the same loop, while they are in registers.
struct Add<'a, L, T, const N: usize, const D: usize, const SLOPE: bool, const LEVELS: usize> {
    loss: L,
    len: usize,
    operands: [&'a [T]; N],
    slopes: Slopes<'a, T>,
    largest: i32,
}

impl<L: Pointwise<N, D>, T: Number, const N: usize, const D: usize, const SLOPE: bool, const LEVELS: usize> Kernel
    for Add<'_, L, T, N, D, SLOPE, LEVELS>
{
    type Output = Option<Totals<T, LEVELS>>;

    #[inline(always)]
    fn run(self) -> Option<Totals<T, LEVELS>> {
        None
    }

    #[inline(always)]
    fn run_on<S: Set>(self) -> Option<Totals<T, LEVELS>> {
        match S::ISA {
            // Lanes without vectors of their own would take more room than they save time.
            Isa::Baseline => None,
            // SAFETY: this is compiled for the set and runs where it is there.
            Isa::Avx2 => Some(unsafe { self.add_to::<S, T::Avx2<LEVELS>>() }),
            // SAFETY: as above.
            Isa::Avx512 => Some(unsafe { self.add_to::<S, T::Avx512<LEVELS>>() }),
        }
    }
}

impl<L: Pointwise<N, D>, T: Number, const N: usize, const D: usize, const SLOPE: bool, const LEVELS: usize>
    Add<'_, L, T, N, D, SLOPE, LEVELS>
{
    /// # Safety
    /// The machine must have the set, and the lanes' instructions.
    #[inline(always)]
    unsafe fn add_to<S: Set, V: Lanes<T, LEVELS>>(self) -> Totals<T, LEVELS> {
        let Self { loss, len, operands, slopes: Slopes { into, factor, stream }, largest } = self;
        debug_assert!(len <= LONG_STEP && len.is_multiple_of(GRAIN));
        let [slope, other_slope] = into;
        let stream = L::STREAMS && stream && [&*slope, &*other_slope].iter().all(|slope| storage::begins_a_line(slope));
        let operands = operands.map(|operand| operand.as_chunks().0);
        let (slope, other_slope) = (slope.as_chunks_mut().0, other_slope.as_chunks_mut().0);
        // SAFETY: the caller's, and streams have been checked to begin with a line.
        unsafe { Self::fill::<S, V>(loss, operands, len / GRAIN, factor, slope, other_slope, stream, largest) }
    }

    /// The loop. As arguments, results are known to be apart from operands, so that it needs no second version.
    ///
    /// # Safety
    /// As above, and slopes that are streamed must begin with a line.
    #[inline(always)]
    unsafe fn fill<S: Set, V: Lanes<T, LEVELS>>(
        loss: L,
        operands: [&[[T; GRAIN]]; N],
        len: usize,
        factor: T,
        slope: &mut [[T; GRAIN]],
        other_slope: &mut [[T; GRAIN]],
        stream: bool,
        largest: i32,
    ) -> Totals<T, LEVELS> {
        // SAFETY: the caller's.
        let mut lanes = unsafe { V::new(largest) };
        // Of an operand that is one value everywhere it is always the same grain.
        let steps = operands.map(|operand| usize::from(operand.len() >= len));
        let mut powers = Block::<T, { AHEAD * GRAIN }>::new();
        // SAFETY: powers are written before they are read.
        let powers = unsafe { powers.written(AHEAD * GRAIN) }.as_chunks_mut::<GRAIN>().0;
        for chunk in 0..len {
            if L::HAS_POWERS && chunk.is_multiple_of(AHEAD) {
                for (chunk, powers) in (chunk..len).zip(&mut *powers) {
                    raise(loss, std::array::from_fn(|n| &operands[n][chunk * steps[n]][..]), powers);
                }
            }
            let powers = &powers[chunk % AHEAD];
            let operands: [&[T; GRAIN]; N] = std::array::from_fn(|n| &operands[n][chunk * steps[n]]);
            for operand in operands {
                storage::prefetch_beyond(operand);
            }
            let [mut values, mut slopes, mut other_slopes] = [[T::ZERO; GRAIN]; 3];
            for i in 0..GRAIN {
                let power = if L::HAS_POWERS { powers[i] } else { T::ONE };
                let jet = loss.at(operands.map(|operand| operand[i]), power);
                values[i] = jet.value;
                if SLOPE {
                    slopes[i] = jet.slope[0] * factor;
                    other_slopes[i] = jet.slope[D - 1] * factor;
                }
            }
            // SAFETY: the caller's; every line of a stream is whole.
            unsafe {
                lanes.add(&values);
                if SLOPE && let Some(slope) = slope.get_mut(chunk) {
                    storage::put_lines::<S, T>(&slopes, slope, stream);
                }
                if SLOPE
                    && D > 1
                    && let Some(slope) = other_slope.get_mut(chunk)
                {
                    storage::put_lines::<S, T>(&other_slopes, slope, stream);
                }
            }
        }
        // SAFETY: the caller's.
        unsafe { lanes.totals() }
    }
}

struct Evaluate<'a, L, T, const N: usize, const D: usize, const VALUE: bool, const SLOPE: bool, const CURVATURE: bool> {
    loss: L,
    operands: [&'a [T]; N],
    jets: &'a mut Jets<T>,
}

impl<
    L: Pointwise<N, D>,
    T: Real,
    const N: usize,
    const D: usize,
    const VALUE: bool,
    const SLOPE: bool,
    const CURVATURE: bool,
> Kernel for Evaluate<'_, L, T, N, D, VALUE, SLOPE, CURVATURE>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { loss, operands, jets } = self;
        // A length that the compiler sees to be a multiple of the grain leaves its loop no remainder.
        let len = operands[0].len().min(BLOCK) / GRAIN * GRAIN;
        if len < GRAIN {
            return;
        }
        let part = |wanted: bool| if wanted { len } else { 0 };
        let ([slope, other_slope], [curvature, other_curvature]) = (&mut jets.slope, &mut jets.curvature);
        // SAFETY: `fill` writes every element of each slice.
        let (value, slope, other_slope, curvature, other_curvature) = unsafe {
            (
                jets.value.written(part(VALUE)),
                slope.written(part(SLOPE)),
                other_slope.written(part(SLOPE && D > 1)),
                curvature.written(part(CURVATURE)),
                other_curvature.written(part(CURVATURE && D > 1)),
            )
        };
        let operands = operands.map(|operand| &operand[..len]);
        let mut powers = Block::<T>::new();
        // SAFETY: `raise` writes every element of the slice.
        let powers = unsafe { powers.written(part(L::HAS_POWERS)) };
        raise(loss, operands, powers);
        Self::fill(loss, operands, len, powers, value, slope, other_slope, curvature, other_curvature);
    }
}

impl<
    L: Pointwise<N, D>,
    T: Real,
    const N: usize,
    const D: usize,
    const VALUE: bool,
    const SLOPE: bool,
    const CURVATURE: bool,
> Evaluate<'_, L, T, N, D, VALUE, SLOPE, CURVATURE>
{
    /// The loop. As arguments, results are known to be apart from operands, so that it needs no second version.
    #[inline(always)]
    fn fill(
        loss: L,
        operands: [&[T]; N],
        len: usize,
        powers: &[T],
        value: &mut [T],
        slope: &mut [T],
        other_slope: &mut [T],
        curvature: &mut [T],
        other_curvature: &mut [T],
    ) {
        for i in 0..len {
            let power = if L::HAS_POWERS { powers[i] } else { T::ONE };
            let jet = loss.at(operands.map(|operand| operand[i]), power);
            if VALUE {
                value[i] = jet.value;
            }
            if SLOPE {
                slope[i] = jet.slope[0];
                if D > 1 {
                    other_slope[i] = jet.slope[D - 1];
                }
            }
            if CURVATURE {
                curvature[i] = jet.curvature[0];
                if D > 1 {
                    other_curvature[i] = jet.curvature[D - 1];
                }
            }
        }
    }
}

/// The powers of a multiple of [`GRAIN`] elements. As an argument, they are known to be apart from the operands.
#[inline(always)]
fn raise<L: Pointwise<N, D>, T: Real, const N: usize, const D: usize>(loss: L, operands: [&[T]; N], powers: &mut [T]) {
    let len = powers.len() / GRAIN * GRAIN;
    let operands = operands.map(|operand| &operand[..len]);
    for i in 0..len {
        powers[i] = loss.power(operands.map(|operand| operand[i]));
    }
}

/// A call: buffers and what to do with them, all in one layout.
pub struct Call<'a> {
    /// The order of the visit.
    pub layout: &'a Layout,
    /// What is wanted.
    pub want: Want,
    /// The formula's operands.
    pub operands: &'a [Operand],
    /// Weights that multiply losses and derivatives.
    pub weights: &'a [Operand],
    /// What the gradient is multiplied by, element by element, in a vector-Jacobian product.
    pub grad_output: Option<&'a Operand>,
    /// What derivatives are multiplied by.
    pub factor: f64,
    /// Where losses go, if they are not only summed.
    pub value: Option<&'a Operand>,
    /// Where first derivatives go.
    pub slope: [Option<&'a Operand>; MOST_SLOPES],
    /// Where second derivatives go.
    pub curvature: [Option<&'a Operand>; MOST_SLOPES],
    /// The operand, among those with derivatives, whose elements stand for as many consecutive ones of the visit each; and
    /// the layout of its derivatives, which are sums over those.
    pub shared: Option<(usize, &'a Layout)>,
    /// Whether the losses are summed.
    pub sum: bool,
}

/// The most weights of a call.
const MOST_WEIGHTS: usize = 2;

/// What a thread carries from block to block.
struct State<T> {
    operands: [Room<T>; MOST_OPERANDS],
    weights: [Room<T>; MOST_WEIGHTS],
    grad_output: Room<T>,
    jets: Jets<T>,
    /// What is expected of the losses.
    expectation: Expectation,
    /// The sums of a shared operand's first and second derivatives, of the element that the visit is at.
    shares: [f64; 2],
}

/// Room for blocks of a buffer that is read.
struct Room<T> {
    block: Block<T>,
    /// Whether the block holds the one value that the buffer has.
    is_constant: bool,
}

impl<T: Real> Room<T> {
    /// Makes room for an operand's blocks.
    ///
    /// # Safety
    /// The operand's elements must be readable.
    #[inline(always)]
    unsafe fn prepare(&mut self, isa: Isa, layout: &Layout, operand: &Operand) {
        self.is_constant = operand.is_constant() && !layout.is_empty();
        if self.is_constant {
            let len = BLOCK.min(layout.len().next_multiple_of(GRAIN));
            // SAFETY: a constant has its one element everywhere, so its run has as many as are asked for.
            unsafe { self.block.filled(len, |room| operand.run.load(isa, room)) };
        }
    }

    /// The operand's elements from `start` on, followed by readable ones up to a multiple of [`GRAIN`]; of a constant, a block at
    /// most.
    ///
    /// # Safety
    /// `prepare` must have been called, and the elements must be readable and must not be written while the slice lives.
    #[inline(always)]
    unsafe fn read(&mut self, isa: Isa, layout: &Layout, operand: &Operand, start: usize, len: usize) -> &[T] {
        // SAFETY: of a constant, `prepare` has written a block; else the caller's.
        unsafe {
            if self.is_constant {
                self.block.written(len.next_multiple_of(GRAIN))
            } else {
                layout.fetch(isa, operand, start, len, &mut self.block)
            }
        }
    }
}

/// What a thread finds.
struct Found {
    sum: ExactSum,
    /// The first element, in the layout's order, that is outside its operand's domain, and the operand.
    outside: Option<(usize, usize)>,
}

impl Found {
    const NOTHING: Self = Self { sum: ExactSum::new(), outside: None };

    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.outside = self.outside.into_iter().chain(other.outside).min();
    }
}

impl Call<'_> {
    /// Runs the call; the sum of the weighted losses, rounded once, if it is wanted.
    ///
    /// # Errors
    /// If `stop` said so.
    ///
    /// # Safety
    /// The buffers must be readable, the results' writable, by nobody else and without overlap, except that a result may be
    /// an operand.
    pub unsafe fn run<T: Number>(&self, loss: &dyn Blocks<T>, stop: &dyn Fn() -> bool) -> Result<f64, Failure> {
        let mut found = Found::NOTHING;
        // SAFETY: the caller's.
        unsafe { self.find(loss, stop, &mut found) }?;
        Ok(found.sum.value())
    }

    /// Runs the call, and adds what it finds.
    ///
    /// # Errors
    /// If `stop` said so, or an element is outside its domain.
    ///
    /// # Safety
    /// As [`Call::run`].
    unsafe fn find<T: Number>(
        &self,
        loss: &dyn Blocks<T>,
        stop: &dyn Fn() -> bool,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let isa = Isa::active();
        let len = self.layout.len();
        if let Some((shared, layout)) = self.shared.filter(|_| len == 0) {
            // Elements that nothing shares have derivatives too: sums of nothing.
            for output in [self.slope[shared], self.curvature[shared]].into_iter().flatten() {
                for start in (0..layout.len()).step_by(STEP) {
                    let zeros = [T::ZERO; STEP];
                    // SAFETY: the caller's.
                    unsafe { layout.put(isa, output, start, &zeros[..STEP.min(layout.len() - start)], false) };
                }
            }
        }
        // What shares an element is in one task, so that its derivatives' sum has one order.
        let per_task = match len {
            ..ALONE_BELOW => len.max(1),
            _ => (len / (TASKS_PER_THREAD * threads::threads())).clamp(LEAST_PER_TASK, ELEMENTS_PER_TASK),
        };
        let per_task = per_task.next_multiple_of(STEP).next_multiple_of(self.share());
        let direct = self.direct(loss);
        // Long blocks begin with a line.
        let lead = direct.filter(|_| len >= ALONE_BELOW).unwrap_or(0);
        let bound = |task: usize| if task == 0 { 0 } else { len.min(task * per_task + lead) };
        let work = |tasks: &mut Tasks<'_>, found: &mut Found| {
            let room = || Room { block: Block::new(), is_constant: false };
            let mut state = State {
                operands: std::array::from_fn(|_| room()),
                weights: std::array::from_fn(|_| room()),
                grad_output: room(),
                jets: Jets {
                    value: Block::new(),
                    slope: [const { Block::new() }; MOST_SLOPES],
                    curvature: [const { Block::new() }; MOST_SLOPES],
                },
                expectation: Expectation::NOTHING,
                shares: [0.0; 2],
            };
            let operands = self.operands.iter().zip(&mut state.operands);
            let weights = self.weights.iter().zip(&mut state.weights);
            let grad_output = self.grad_output.into_iter().zip([&mut state.grad_output]);
            operands.chain(weights).chain(grad_output).for_each(|(operand, room)| {
                // SAFETY: the caller's.
                unsafe { room.prepare(isa, self.layout, operand) };
            });
            while let Some(task) = tasks.next() {
                let (mut start, end) = (bound(task), bound(task + 1));
                while start < end {
                    let step = match direct {
                        Some(_) if start < lead => lead,
                        Some(_) if state.expectation.is_fused() => LONG_STEP,
                        _ => STEP,
                    };
                    let len = match end - start {
                        left if left >= step => step,
                        // Whole grains may be added up as they are evaluated.
                        left @ WORTH_CUTTING.. => left / GRAIN * GRAIN,
                        left => left,
                    };
                    // SAFETY: the caller's, and no other task has this block.
                    unsafe { self.block(isa, loss, &mut state, found, direct.is_some(), start, len) };
                    start += len;
                    if per_task > ELEMENTS_PER_TASK && tasks.are_stopped() {
                        break;
                    }
                }
            }
            if self.outputs().any(|output| self.streams(output)) {
                storage::fence();
            }
        };
        let spread = Spread::if_worth(len >= ALONE_BELOW);
        threads::share_into(
            found,
            (len - lead).div_ceil(per_task),
            spread,
            stop,
            || Found::NOTHING,
            work,
            Found::merge,
        )?;
        match found.outside {
            Some((index, operand)) => Err(Failure::Domain { operand, index }),
            None => Ok(()),
        }
    }

    /// # Safety
    /// As [`Call::run`].
    #[inline]
    unsafe fn block<T: Number>(
        &self,
        isa: Isa,
        loss: &dyn Blocks<T>,
        state: &mut State<T>,
        found: &mut Found,
        is_direct: bool,
        start: usize,
        len: usize,
    ) {
        let State { operands: rooms, weights: weight_rooms, grad_output: grad_output_room, jets, expectation, shares } =
            state;
        let mut operands: [&[T]; MOST_OPERANDS] = [&[]; MOST_OPERANDS];
        for ((elements, operand), room) in operands.iter_mut().zip(self.operands).zip(rooms) {
            // SAFETY: the caller's; results are written after the formula has been evaluated.
            *elements = unsafe { room.read(isa, self.layout, operand, start, len) };
        }
        for (i, &domain) in loss.domain().unwrap_or_default().iter().enumerate() {
            if !block::is_within(isa, operands[i], domain) {
                // SAFETY: the caller's.
                unsafe { self.find_outside(isa, weight_rooms, found, (start, len), (i, operands[i], domain)) };
            }
        }
        let factor = T::of(self.factor);
        // A whole block that is only added up need not be written first.
        let is_plain = self.values_are_only_added() && len.is_multiple_of(GRAIN);
        let is_added = is_plain && {
            // SAFETY: the caller's.
            let slopes = self.want.slope().then(|| unsafe { self.slopes(jets, is_direct, start, len) });
            loss.add(isa, len, &operands, slopes, &mut found.sum, expectation)
        };
        if is_added && is_direct {
            return;
        }
        if !is_added && len > BLOCK {
            let end = start + len;
            for start in (start..end).step_by(STEP) {
                // SAFETY: the caller's.
                unsafe { self.block(isa, loss, state, found, is_direct, start, STEP.min(end - start)) };
            }
            return;
        }
        if !is_added {
            loss.evaluate(isa, self.want, &operands, jets);
        }
        let Jets { value, slope: [slope, other_slope], curvature: [curvature, other_curvature] } = jets;
        let ([to_slope, to_other_slope], [to_curvature, to_other_curvature]) = (self.slope, self.curvature);
        let part = |wanted: bool| if wanted { len } else { 0 };
        // SAFETY: `evaluate` has written the parts that are wanted.
        let (value, mut derivatives) = unsafe {
            (
                value.written(part(self.want.value() && !is_added)),
                [
                    (slope.written(part(to_slope.is_some())), to_slope),
                    (other_slope.written(part(to_other_slope.is_some())), to_other_slope),
                    (curvature.written(part(to_curvature.is_some())), to_curvature),
                    (other_curvature.written(part(to_other_curvature.is_some())), to_other_curvature),
                ],
            )
        };
        let mut on_derivatives = |apply: &dyn Fn(&mut [T])| {
            for (derivative, _) in derivatives.iter_mut().filter(|(_, output)| output.is_some()) {
                apply(derivative);
            }
        };
        let mut unscaled = !is_added;
        for (operand, room) in self.weights.iter().zip(weight_rooms) {
            // SAFETY: the caller's.
            let weights = unsafe { room.read(isa, self.layout, operand, start, len) };
            let factor = if unscaled { factor } else { T::ONE };
            block::weigh(isa, value, weights, T::ONE);
            on_derivatives(&|derivative| block::weigh(isa, derivative, weights, factor));
            unscaled = false;
        }
        if unscaled && factor != T::ONE {
            on_derivatives(&|derivative| block::scale(isa, derivative, factor));
        }
        if let Some(operand) = self.grad_output {
            // SAFETY: the caller's.
            let grad_output = unsafe { grad_output_room.read(isa, self.layout, operand, start, len) };
            on_derivatives(&|derivative| block::multiply(isa, derivative, grad_output));
        }
        if self.sum && !is_added {
            found.sum.add_block(isa, value);
        }
        // SAFETY: the caller's.
        unsafe {
            if let Some(output) = self.value {
                self.put(isa, output, start, value);
            }
            for (i, (derivative, output)) in derivatives.into_iter().enumerate() {
                let Some(output) = output else { continue };
                match self.shared {
                    Some((shared, layout)) if shared == i % MOST_SLOPES => {
                        let sum = &mut shares[i / MOST_SLOPES];
                        Self::add_shares(isa, (layout, output), self.share(), start, derivative, sum);
                    }
                    _ => self.put(isa, output, start, derivative),
                }
            }
        }
    }

    /// Where the slopes of a block go that are found beside a sum: where they belong if `is_direct`, else into their room.
    ///
    /// # Safety
    /// As [`Call::run`], and `is_direct` must be what [`Call::direct`] says.
    unsafe fn slopes<'a, T: Real>(
        &self,
        jets: &'a mut Jets<T>,
        is_direct: bool,
        start: usize,
        len: usize,
    ) -> Slopes<'a, T> {
        let factor = T::of(self.factor);
        if !is_direct {
            // SAFETY: slopes are only written.
            let into = jets.slope.each_mut().map(|slope| unsafe { slope.written(len) });
            return Slopes { into, factor, stream: false };
        }
        let into = self.slope.map(|output| match output {
            // SAFETY: the caller's; `direct` has seen that these are slices, and apart from the operands.
            Some(output) => unsafe { self.layout.at(output, start).to_slice(len) },
            None => &mut [],
        });
        Slopes { into, factor, stream: self.slope.into_iter().flatten().any(|output| self.streams(output)) }
    }

    /// Writes a block of results.
    ///
    /// # Safety
    /// As [`Call::run`].
    #[inline]
    unsafe fn put<T: Real>(&self, isa: Isa, output: &Operand, start: usize, values: &[T]) {
        // SAFETY: the caller's.
        unsafe { self.layout.put(isa, output, start, values, self.streams(output)) };
    }

    /// Whether values go nowhere but into a sum, as they are.
    fn values_are_only_added(&self) -> bool {
        self.sum && self.weights.is_empty() && self.value.is_none()
    }

    /// Whether long blocks may go straight from the operands to a sum and to slopes: there is nothing else to do, there are enough
    /// elements, they lie as `T` side by side, and slopes are not where operands are. If so, the elements before the first line, of slopes
    /// that are streamed all alike.
    fn direct<T: Real>(&self, loss: &dyn Blocks<T>) -> Option<usize> {
        let len = self.layout.len();
        let is_alone = self.values_are_only_added()
            && !self.want.curvature()
            && self.grad_output.is_none()
            && self.shared.is_none();
        if len < LONG_STEP || !is_alone {
            return None;
        }
        let slice = |operand| self.layout.one_run(operand, 0, len).filter(|run| run.is_slice_of::<T>());
        let operands = || self.operands.iter().filter(|operand| !operand.is_constant());
        if !operands().chain(self.outputs()).all(|operand| slice(operand).is_some()) {
            return None;
        }
        let bytes = |operand: &Operand| {
            let first = operand.run.first.addr();
            first..first + len * size_of::<T>()
        };
        let meets = |a: &Operand, b: &Operand| bytes(a).start < bytes(b).end && bytes(b).start < bytes(a).end;
        if self.outputs().any(|output| self.operands.iter().any(|operand| meets(output, operand))) {
            return None;
        }
        let mut leads =
            self.outputs().chain(operands()).map(|operand| storage::elements_before_line::<T>(operand.run.first));
        let lead = leads.next().unwrap_or(0);
        let streams = self.outputs().filter(|output| self.streams(output)).count();
        (streams == 0 || loss.streams() && leads.take(streams - 1).all(|other| other == lead)).then_some(lead)
    }

    /// Where results go.
    fn outputs(&self) -> impl Iterator<Item = &Operand> {
        self.slope.into_iter().chain(self.curvature).chain([self.value]).flatten()
    }

    /// Whether a result is written past the caches.
    fn streams(&self, output: &Operand) -> bool {
        self.layout.len() * output.run.dtype.size() >= STREAM_FROM
    }

    /// The number of elements that share one of the shared operand's.
    fn share(&self) -> usize {
        self.shared.map_or(1, |(_, layout)| self.layout.len() / layout.len().max(1)).max(1)
    }

    /// Adds a shared operand's derivatives, and writes those of the elements that are complete.
    ///
    /// # Safety
    /// As [`Call::run`], and blocks must come one after the other, from an element's first share on.
    unsafe fn add_shares<T: Real>(
        isa: Isa,
        (layout, output): (&Layout, &Operand),
        share: usize,
        mut start: usize,
        mut derivatives: &[T],
        sum: &mut f64,
    ) {
        while !derivatives.is_empty() {
            let (now, later) = derivatives.split_at(derivatives.len().min(share - start % share));
            // One after the other: the same sum wherever blocks begin.
            *sum = now.iter().fold(*sum, |sum, derivative| sum + derivative.to_f64());
            start += now.len();
            if start.is_multiple_of(share) {
                // SAFETY: the caller's; no other task has this element.
                unsafe { layout.put(isa, output, start / share - 1, &[T::of(*sum)], false) };
                *sum = 0.0;
            }
            derivatives = later;
        }
    }
}

impl Call<'_> {
    /// Notes the first element of a block that is outside its domain and counts.
    ///
    /// # Safety
    /// As [`Call::run`].
    #[cold]
    unsafe fn find_outside<T: Number>(
        &self,
        isa: Isa,
        rooms: &mut [Room<T>],
        found: &mut Found,
        (start, len): (usize, usize),
        (operand, values, domain): (usize, &[T], Domain),
    ) {
        // Of a constant there may be fewer.
        let outside = |&i: &usize| !domain.contains(values[i % values.len()].to_f64());
        let mut suspects: Vec<usize> = (0..len).filter(outside).collect();
        for (operand, room) in self.weights.iter().zip(rooms) {
            // SAFETY: the caller's.
            let weights = unsafe { room.read(isa, self.layout, operand, start, len) };
            suspects.retain(|&i| weights[i] != T::ZERO);
        }
        let first = suspects.first().map(|i| (start + i, operand));
        found.outside = found.outside.into_iter().chain(first).min();
    }
}

/// The exact sum of the products of weights.
///
/// # Errors
/// If `stop` said so.
///
/// # Safety
/// The weights must be readable.
pub unsafe fn total_weight<T: Number>(
    layout: &Layout,
    weights: &[Operand],
    stop: &dyn Fn() -> bool,
) -> Result<ExactSum, Failure> {
    /// The value 1 at every element, so that the call's weights are all that counts.
    #[derive(Clone, Copy)]
    struct One;
    impl<T: Number> Blocks<T> for One {
        fn add(
            &self,
            _: Isa,
            _: usize,
            _: &[&[T]],
            _: Option<Slopes<'_, T>>,
            _: &mut ExactSum,
            _: &mut Expectation,
        ) -> bool {
            false
        }

        fn evaluate(&self, _: Isa, _: Want, operands: &[&[T]], jets: &mut Jets<T>) {
            // SAFETY: all of the slice is filled.
            unsafe { jets.value.filled(operands[0].len(), |value| value.fill(T::ONE)) };
        }

        fn domain(&self) -> Option<&'static [Domain]> {
            None
        }

        fn streams(&self) -> bool {
            false
        }
    }
    let call = Call {
        layout,
        want: Want::Value,
        operands: &[Operand::one()],
        weights,
        grad_output: None,
        factor: 1.0,
        value: None,
        slope: [None; MOST_SLOPES],
        curvature: [None; MOST_SLOPES],
        shared: None,
        sum: true,
    };
    let mut found = Found::NOTHING;
    // SAFETY: the caller's.
    unsafe { call.find::<T>(&One, stop, &mut found) }?;
    Ok(found.sum)
}
