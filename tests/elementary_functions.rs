//! The elementary functions: their error, their special values, and that every instruction set gives the same bits.
//!
//! `f32` is proven here, against the platform's `f64` functions, whose own error is some 2⁻²⁸ ULP of an `f32`. `f64` is
//! tried against MPFR in `test_elementary_functions.py`.

use _lossrs::real::{ELEMENTARY, Real, elementary};
use std::sync::atomic::{AtomicU32, Ordering};

/// The loop over an elementary function, compiled for an instruction set.
type Loop<T> = unsafe fn(&str, &[T], Option<&[T]>, &mut [T]) -> bool;

macro_rules! compiled_for {
    ($name:ident $($features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        fn $name<T: Real>(name: &str, x: &[T], y: Option<&[T]>, out: &mut [T]) -> bool {
            elementary(name, x, y, out)
        }
    };
}
compiled_for!(baseline);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2 "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512 "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl");

/// The instruction sets that this machine has, the best last.
fn instruction_sets<T: Real>() -> Vec<(&'static str, Loop<T>)> {
    let mut sets: Vec<(_, Loop<T>)> = vec![("baseline", baseline)];
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if has_avx2 {
            sets.push(("avx2", avx2));
        }
        if has_avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            sets.push(("avx512", avx512));
        }
    }
    sets
}

/// An elementary function of each x, on the best instruction set.
fn evaluate<T: Real>(name: &str, x: &[T], y: Option<&[T]>) -> Vec<T> {
    let (_, best) = *instruction_sets().last().expect("there is always the baseline");
    let mut out = vec![T::NAN; x.len()];
    // SAFETY: `instruction_sets` lists what the machine has.
    assert!(unsafe { best(name, x, y, &mut out) }, "no elementary function is called {name}");
    out
}

/// What an elementary function of one argument should be, in double precision.
fn reference(name: &str, x: f64) -> f64 {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    match name {
        "exp" | "exp_nonpositive" => x.exp(),
        "exp_m1" => x.exp_m1(),
        "ln" => x.ln(),
        "ln_1p" | "ln_1p_fraction" => x.ln_1p(),
        "tanh" => x.tanh(),
        "sigmoid" if x >= 0.0 => 1.0 / (1.0 + (-x).exp()),
        "sigmoid" => x.exp() / (1.0 + x.exp()),
        // `max` would drop a NaN.
        "softplus" | "log_sigmoid" if x.is_nan() => x,
        "softplus" => softplus(x),
        "log_sigmoid" => -softplus(-x),
        _ => panic!("the reference has no {name}"),
    }
}

/// Whether a function promises anything at x.
fn in_domain(name: &str, x: f32) -> bool {
    match name {
        "exp_nonpositive" => x.is_nan() || x <= 0.0,
        "ln_1p_fraction" => x.is_nan() || (0.0..=1.0).contains(&x),
        _ => true,
    }
}

/// The bound on a function's error, in ULP.
fn bound(name: &str) -> f64 {
    if name == "ln_1p_fraction" { 1.1 } else { 1.0 }
}

/// |got − want| in units of the last place of `want`. A zero must have its sign, an infinity and a NaN be met exactly.
fn ulps(got: f32, want: f64) -> f64 {
    let limit = 2f64.powi(128);
    let want = if want.abs() >= limit { f64::INFINITY.copysign(want) } else { want };
    if want.is_nan() || want.is_infinite() || want == 0.0 {
        let met = if want.is_nan() { got.is_nan() } else { f64::from(got).to_bits() == want.to_bits() };
        return if met { 0.0 } else { f64::INFINITY };
    }
    let exponent = ((want.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
    let got = if got.is_infinite() { limit.copysign(f64::from(got)) } else { f64::from(got) };
    let error = (got - want).abs() / 2f64.powi(exponent - 23);
    if error.is_nan() { f64::INFINITY } else { error }
}

/// The largest error of a run, and where.
#[derive(Clone, Copy, Default)]
struct Worst {
    ulps: f64,
    at: (f32, f32),
    inputs: u64,
}

impl Worst {
    fn see(&mut self, ulps: f64, at: (f32, f32)) {
        self.inputs += 1;
        if ulps > self.ulps {
            (self.ulps, self.at) = (ulps, at);
        }
    }

    fn or(self, other: Self) -> Self {
        let worse = if other.ulps > self.ulps { other } else { self };
        Worst { inputs: self.inputs + other.inputs, ..worse }
    }

    /// Prints a row of the table in `docs/accuracy.md`, and holds the function to its bound.
    fn report(self, name: &str) {
        let Worst { ulps, at: (x, y), inputs } = self;
        let second = if name == "pow" { format!(", {y:e} ({:#010x})", y.to_bits()) } else { String::new() };
        println!("| `{name}` | f32 | {ulps:.4} | {x:e} ({:#010x}){second} | {inputs} |", x.to_bits());
        assert!(ulps < bound(name), "{name} is {ulps} ULP off at {x:e}{second}");
    }
}

/// The error of a function over the `f32`s whose bits are `start`, `start + stride`, … : blocks shared by two threads.
fn survey(name: &str, stride: u32) -> Worst {
    const BLOCK: u64 = 1 << 14;
    let next = AtomicU32::new(0);
    let work = || {
        let mut worst = Worst::default();
        loop {
            let first = u64::from(next.fetch_add(1, Ordering::Relaxed)) * BLOCK * u64::from(stride);
            if first >> 32 != 0 {
                return worst;
            }
            let bits = (first..1 << 32).step_by(stride as usize).take(BLOCK as usize);
            let x: Vec<f32> = bits.map(|bits| f32::from_bits(bits as u32)).filter(|x| in_domain(name, *x)).collect();
            for (x, got) in x.iter().zip(evaluate(name, &x, None)) {
                worst.see(ulps(got, reference(name, f64::from(*x))), (*x, 0.0));
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work().or(other.join().expect("the other half"))
    })
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.bits() >> 8) % n
    }

    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2f64.powi(-53)
    }

    /// A pair for `pow`: any bits, bases near 1, whole and half numbers, and powers spread over the exponents of the result.
    fn pair(&mut self) -> (f32, f32) {
        let x = match self.below(8) {
            0 => f32::from_bits(self.bits() as u32),
            1 => (1.0 + (self.unit() - 0.5) * 0.5f64.powi(self.below(24) as i32)) as f32,
            2 => self.below(41) as f32 - 20.0,
            _ => f32::from_bits(self.bits() as u32 & 0x7fff_ffff),
        };
        let y = match self.below(8) {
            0 => f32::from_bits(self.bits() as u32),
            1 => self.below(64) as f32 - 32.0,
            2 => self.below(64) as f32 * 0.5 - 16.0,
            _ => ((self.unit() * 194.0 - 105.0) / f64::from(x.abs()).ln()) as f32,
        };
        (x, y)
    }
}

fn survey_pow(blocks: u64, seed: u64) -> Worst {
    let mut random = Random(seed);
    let mut worst = Worst::default();
    for _ in 0..blocks {
        let (x, y): (Vec<f32>, Vec<f32>) = (0..1 << 14).map(|_| random.pair()).unzip();
        for (i, got) in evaluate("pow", &x, Some(&y)).into_iter().enumerate() {
            worst.see(ulps(got, f64::from(x[i]).powf(f64::from(y[i]))), (x[i], y[i]));
        }
    }
    worst
}

#[test]
fn every_thousandth_f32_is_within_its_bound() {
    for name in ELEMENTARY.0 {
        survey(name, 1009).report(name);
    }
}

#[test]
fn powers_of_f32_are_within_their_bound() {
    survey_pow(64, 0x9e37_79b9_7f4a_7c15).report("pow");
}

#[test]
#[ignore = "all 2^32 inputs of each function take many minutes; docs/accuracy.md holds the result"]
fn every_f32_is_within_its_bound() {
    for name in ELEMENTARY.0 {
        survey(name, 1).report(name);
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(|| survey_pow(1 << 15, 0xbf58_476d_1ce4_e5b9));
        survey_pow(1 << 15, 0x94d0_49bb_1331_11eb).or(other.join().expect("the other half")).report("pow");
    });
}

/// Bits of every exponent and sign, and the neighbourhoods of 0, 1 and the ends of the format.
fn assorted<T: Real>(from_bits: impl Fn(u64) -> T) -> Vec<T> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let near = [0.0, 1.0, -1.0, 0.5, 88.7, -87.3, -103.9, 709.7, -708.4, -745.1, f64::INFINITY, f64::NAN];
    let near = near.into_iter().flat_map(|x| [T::of(x), T::of(-x), T::of(x * 1.000_000_1), T::of(x + 1e-9)]);
    let moderate: Vec<T> = (0..2000).map(|_| T::of(random.unit() * 80.0 - 40.0)).collect();
    near.chain(moderate).chain((0..6000).map(|_| from_bits(random.bits()))).collect()
}

fn the_same_on_every_instruction_set<T: Real>(from_bits: impl Fn(u64) -> T, to_bits: impl Fn(T) -> u64) {
    let x = assorted(from_bits);
    let y: Vec<T> = x.iter().rev().copied().collect();
    let calls =
        ELEMENTARY.0.iter().map(|name| (name, None)).chain(ELEMENTARY.1.iter().map(|name| (name, Some(&y[..]))));
    for (name, y) in calls {
        let mut expected = vec![T::ZERO; x.len()];
        assert!(baseline(name, &x, y, &mut expected));
        for (instruction_set, compiled) in instruction_sets::<T>() {
            let mut out = vec![T::ZERO; x.len()];
            // SAFETY: `instruction_sets` lists what the machine has.
            assert!(unsafe { compiled(name, &x, y, &mut out) });
            for (i, (got, expected)) in out.iter().zip(&expected).enumerate() {
                let same = to_bits(*got) == to_bits(*expected) || got.is_nan() && expected.is_nan();
                assert!(same, "{name}({:?}) is {got:?} on {instruction_set}, {expected:?} on the baseline", x[i]);
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    the_same_on_every_instruction_set(|bits| f32::from_bits(bits as u32), |x| u64::from(x.to_bits()));
    the_same_on_every_instruction_set(f64::from_bits, f64::to_bits);
}

#[test]
fn exp_nonpositive_has_the_bits_of_exp() {
    for x in assorted(|bits| f32::from_bits(bits as u32)).into_iter().map(|x| -x.abs()) {
        let (cheaper, exp): (f32, f32) = (Real::exp_nonpositive(x), Real::exp(x));
        assert!(cheaper.to_bits() == exp.to_bits() || x.is_nan() && cheaper.is_nan(), "at {x:e}");
    }
}

/// (function, argument, result): what no rounding excuses.
fn special_values<T: Real>() {
    let (inf, nan, zero, one) = (T::INFINITY, T::NAN, T::ZERO, T::ONE);
    let cases = [
        ("exp", zero, one),
        ("exp", -zero, one),
        ("exp", inf, inf),
        ("exp", -inf, zero),
        ("exp_nonpositive", zero, one),
        ("exp_nonpositive", -inf, zero),
        ("exp_m1", zero, zero),
        ("exp_m1", -zero, -zero),
        ("exp_m1", inf, inf),
        ("exp_m1", -inf, -one),
        ("ln", one, zero),
        ("ln", zero, -inf),
        ("ln", -zero, -inf),
        ("ln", inf, inf),
        ("ln", -one, nan),
        ("ln", -inf, nan),
        ("ln_1p", zero, zero),
        ("ln_1p", -zero, -zero),
        ("ln_1p", -one, -inf),
        ("ln_1p", inf, inf),
        ("ln_1p", T::of(-1.5), nan),
        ("ln_1p", -inf, nan),
        ("tanh", zero, zero),
        ("tanh", -zero, -zero),
        ("tanh", inf, one),
        ("tanh", -inf, -one),
        ("sigmoid", zero, T::of(0.5)),
        ("sigmoid", -zero, T::of(0.5)),
        ("sigmoid", inf, one),
        ("sigmoid", -inf, zero),
        ("softplus", inf, inf),
        ("softplus", -inf, zero),
        ("log_sigmoid", inf, -zero),
        ("log_sigmoid", -inf, -inf),
    ];
    let nans = ELEMENTARY.0.iter().map(|name| (*name, nan, nan));
    for (name, x, expected) in cases.into_iter().chain(nans) {
        expect(name, x, None, expected);
    }
    let (two, half, three) = (T::of(2.0), T::of(0.5), T::of(3.0));
    for (x, y, expected) in [
        (nan, zero, one),
        (one, nan, one),
        (one, -inf, one),
        (-one, inf, one),
        (nan, one, nan),
        (two, nan, nan),
        (zero, half, zero),
        (zero, -half, inf),
        (-zero, three, -zero),
        (-zero, -three, -inf),
        (-zero, two, zero),
        (-zero, half, zero),
        (inf, half, inf),
        (inf, -half, zero),
        (-inf, three, -inf),
        (-inf, -three, -zero),
        (-inf, half, inf),
        (half, inf, zero),
        (half, -inf, inf),
        (two, inf, inf),
        (two, -inf, zero),
        (-two, half, nan),
        (-two, three, T::of(-8.0)),
        (-two, two, T::of(4.0)),
        (two, T::of(-1.0), half),
        (T::of(9.0), half, three),
    ] {
        expect("pow", x, Some(y), expected);
    }
}

/// Asserts a result, a zero with its sign.
fn expect<T: Real>(name: &str, x: T, y: Option<T>, expected: T) {
    let got = evaluate(name, &[x], y.as_ref().map(std::slice::from_ref))[0];
    let signed = |x: T| T::ONE.copysign(x);
    let met = if expected.is_nan() { got.is_nan() } else { got == expected && signed(got) == signed(expected) };
    assert!(met, "{name}({x:?}, {y:?}) is {got:?}, not {expected:?}");
}

#[test]
fn special_values_are_exact() {
    special_values::<f32>();
    special_values::<f64>();
}
