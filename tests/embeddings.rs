//! Losses of rows of vectors, against their formulas written plainly: values, derivatives by central differences, and the
//! same bits from every instruction set, layout and number of rows.

use _lossrs::drive::Want;
use _lossrs::drive::embeddings::{Call, Kind};
use _lossrs::drive::layout::{Layout, Operand};
use _lossrs::drive::rows::Matrix;
use _lossrs::isa::Isa;
use _lossrs::losses::{Loss, Parameter, Parameters, named};
use _lossrs::storage::{Dtype, Run};
use proptest::prelude::*;
use std::sync::Mutex;

/// The tests choose instruction sets, which the process shares.
static INSTRUCTION_SET: Mutex<()> = Mutex::new(());

/// A loss by its name and parameters, and how many vectors a row of it has.
type Formula<'a> = (&'a str, &'a [(&'a str, f64)], usize);

const FORMULAS: &[Formula<'_>] = &[
    ("cosine_embedding_loss", &[("margin", 0.0)], 2),
    ("cosine_embedding_loss", &[("margin", -0.4)], 2),
    ("contrastive_loss", &[("margin", 3.0)], 2),
    ("triplet_margin_loss", &[("p", 1.0), ("margin", 1.0), ("eps", 1e-6), ("swap", 0.0)], 3),
    ("triplet_margin_loss", &[("p", 1.0), ("margin", 4.0), ("eps", 1e-2), ("swap", 1.0)], 3),
    ("triplet_margin_loss", &[("p", 2.0), ("margin", 1.0), ("eps", 1e-6), ("swap", 0.0)], 3),
    ("triplet_margin_loss", &[("p", 2.0), ("margin", 4.0), ("eps", 1e-2), ("swap", 1.0)], 3),
    ("triplet_margin_loss", &[("p", 1.5), ("margin", 2.0), ("eps", 0.0), ("swap", 1.0)], 3),
    ("triplet_margin_loss", &[("p", 3.0), ("margin", 2.0), ("eps", 1e-6), ("swap", 0.0)], 3),
    ("triplet_margin_loss", &[("p", f64::INFINITY), ("margin", 2.0), ("eps", 1e-6), ("swap", 0.0)], 3),
    ("triplet_margin_loss", &[("p", f64::INFINITY), ("margin", 2.0), ("eps", 0.0), ("swap", 1.0)], 3),
];

/// The loss of a row, as its definition has it.
fn plain((name, parameters, _): Formula<'_>, vectors: &[&[f64]], target: f64) -> f64 {
    let parameter = |name: &str| parameters.iter().find(|parameter| parameter.0 == name).unwrap().1;
    let margin = parameter("margin");
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    match name {
        "cosine_embedding_loss" => {
            let (x, y) = (vectors[0], vectors[1]);
            let cosine = dot(x, y) / ((dot(x, x) + 1e-12) * (dot(y, y) + 1e-12)).sqrt();
            if target == 1.0 { 1.0 - cosine } else { f64::max(0.0, cosine - margin) }
        }
        "contrastive_loss" => {
            let d: Vec<f64> = vectors[0].iter().zip(vectors[1]).map(|(x, y)| x - y).collect();
            let square = dot(&d, &d);
            if target == 1.0 { square } else { f64::max(0.0, margin - square.sqrt()).powi(2) }
        }
        _ => {
            let (p, eps) = (parameter("p"), parameter("eps"));
            let distance = |x: &[f64], y: &[f64]| {
                let d = x.iter().zip(y).map(|(x, y)| (x - y + eps).abs());
                if p.is_infinite() { d.fold(0.0, f64::max) } else { d.map(|d| d.powf(p)).sum::<f64>().powf(1.0 / p) }
            };
            let (near, far) = (distance(vectors[0], vectors[1]), distance(vectors[0], vectors[2]));
            let swapped = distance(vectors[1], vectors[2]);
            f64::max(0.0, margin + near - if parameter("swap") > 0.0 { far.min(swapped) } else { far })
        }
    }
}

/// What a call says of its rows.
#[derive(Debug, Clone, PartialEq)]
struct Answer<T> {
    values: Vec<T>,
    slopes: Vec<Vec<T>>,
}

/// Calls a loss of `samples` rows, each vector `gap` elements longer than its features, and each `stride` elements apart.
fn call<T: Kind>(
    (name, parameters, vectors): Formula<'_>,
    features: usize,
    samples: usize,
    data: &[Vec<T>],
    targets: &[f64],
    weights: &[f64],
    (stride, gap): (usize, usize),
) -> Answer<T> {
    let parameter = |name: &str| {
        parameters.iter().find(|parameter| parameter.0 == name).map(|parameter| match parameter {
            ("swap", swap) => Parameter::Integer(*swap as i128),
            (_, number) => Parameter::Number(*number),
        })
    };
    let Ok(Loss::Embeddings(loss)) = named(name, &Parameters(&parameter)) else {
        panic!("{name} is not of embeddings")
    };
    assert_eq!(loss.vectors(), vectors);
    let size = size_of::<T>();
    let row = (features * stride + gap) * size;
    let layout = Layout::flat(samples);
    let operand = |first: *mut u8, step: usize, dtype| {
        let run = Run { first, stride: 0, dtype, swapped: false };
        Layout::new(&[samples], &[(run, &[step as isize])], false).1.remove(0)
    };
    let spread = |data: &[T]| {
        let mut memory = vec![T::of(7.0); samples * row / size];
        for (i, &x) in data.iter().enumerate() {
            memory[i / features.max(1) * (row / size) + i % features.max(1) * stride] = x;
        }
        memory
    };
    let inputs: Vec<Vec<T>> = data.iter().map(|data| spread(data)).collect();
    let mut outputs = inputs.clone();
    let matrix = |memory: *mut T| Matrix {
        samples: operand(memory.cast(), row, Dtype::of::<T>()),
        stride: (stride * size) as isize,
    };
    let matrices: Vec<Matrix> = inputs.iter().map(|memory| matrix(memory.as_ptr().cast_mut())).collect();
    let slopes: Vec<Option<Matrix>> = outputs.iter_mut().map(|memory| Some(matrix(memory.as_mut_ptr()))).collect();
    let mut values = vec![T::ZERO; samples];
    let doubles = |of: &[f64]| Operand::flat(of.as_ptr().cast_mut().cast(), Dtype::Float64, false);
    let (target, weight) = (doubles(targets), doubles(weights));
    let value = Operand::flat(values.as_mut_ptr().cast(), Dtype::of::<T>(), false);
    let call = Call {
        layout: &layout,
        want: Want::ValueAndGradient,
        features,
        vectors: &matrices,
        target: loss.operands().get(vectors).map(|_| &target),
        domain: loss.targets(),
        sample_weight: Some(&weight),
        grad_output: None,
        factor: 1.0,
        value: Some(&value),
        slopes: &slopes,
        sum: false,
    };
    // SAFETY: the operands describe vectors that live until the end.
    unsafe {
        call.total_weight::<T>(&|| false).unwrap();
        call.run(T::blocks(&*loss), &|| false).unwrap();
    }
    let collect = |memory: &Vec<T>| {
        (0..samples * features).map(|i| memory[i / features * (row / size) + i % features * stride]).collect()
    };
    Answer { values, slopes: outputs.iter().map(collect).collect() }
}

/// Numbers that look random, in [−1, 1], each a multiple of 2^−10 so that no type rounds them.
fn numbers(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 53) as f64 / 1024.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn targets(formula: Formula<'_>, samples: usize) -> Vec<f64> {
    let low = if formula.0 == "cosine_embedding_loss" { -1.0 } else { 0.0 };
    (0..samples).map(|row| if row % 3 == 0 { low } else { 1.0 }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Values are the formula's, and derivatives those of its central differences; a row of weight 0 has none.
    #[test]
    fn a_loss_is_its_formula(
        formula in prop::sample::select(FORMULAS),
        features in prop_oneof![1_usize..40, 60_usize..70, 1020_usize..1030],
        samples in 1_usize..20,
        seed in any::<u64>(),
    ) {
        let data: Vec<Vec<f64>> =
            (0..formula.2).map(|m| numbers(seed ^ m as u64, samples * features)).collect();
        let (targets, weights) = (targets(formula, samples), vec![1.0; samples]);
        let answer = call(formula, features, samples, &data, &targets, &weights, (1, 0));
        for (row, &target) in targets.iter().enumerate() {
            let at = row * features;
            let mut vectors: Vec<Vec<f64>> = data.iter().map(|data| data[at..at + features].to_vec()).collect();
            let loss = |vectors: &[Vec<f64>]| {
                plain(formula, &vectors.iter().map(Vec::as_slice).collect::<Vec<_>>(), target)
            };
            let value = loss(&vectors);
            let error = (answer.values[row] - value).abs();
            prop_assert!(error <= 1e-12 * (1.0 + value), "{} and not {value}", answer.values[row]);
            // Some of the features of a long row.
            for feature in (0..features).step_by(1 + features / 7) {
                for m in 0..formula.2 {
                    const STEP: f64 = 1.0 / (1 << 16) as f64;
                    let x = vectors[m][feature];
                    let mut moved = |x: f64| {
                        vectors[m][feature] = x;
                        loss(&vectors)
                    };
                    let (below, above) = (moved(x - STEP), moved(x + STEP));
                    moved(x);
                    let (left, right) = ((value - below) / STEP, (above - value) / STEP);
                    // Off the kinks, where the two differ.
                    if (left - right).abs() < 1e-3 {
                        let slope = answer.slopes[m][at + feature];
                        let error = (slope - f64::midpoint(left, right)).abs();
                        prop_assert!(error < 1e-6 * (1.0 + slope.abs()), "{slope}, not in [{left}, {right}]");
                    }
                }
            }
        }
    }

    /// A row has the same bits alone and among others, however its elements lie, on every instruction set; and one of weight 0
    /// is not there, NaN or not.
    #[test]
    fn a_row_has_the_same_bits_everywhere(
        formula in prop::sample::select(FORMULAS),
        features in prop_oneof![1_usize..40, 60_usize..70, 500_usize..515, 2040_usize..2060],
        samples in 2_usize..20,
        stride in 1_usize..3,
        gap in 0_usize..3,
        gone in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let _guard = INSTRUCTION_SET.lock();
        let mut data: Vec<Vec<f32>> = (0..formula.2)
            .map(|m| numbers(seed ^ m as u64, samples * features).into_iter().map(|x| x as f32).collect())
            .collect();
        let (targets, mut weights) = (targets(formula, samples), vec![1.0; samples]);
        let gone = gone.index(samples);
        weights[gone] = 0.0;
        data[0][gone * features] = f32::NAN;
        let answer = call(formula, features, samples, &data, &targets, &weights, (1, 0));
        prop_assert_eq!(answer.values[gone], 0.0);
        for slopes in &answer.slopes {
            prop_assert!(slopes[gone * features..][..features].iter().all(|slope| slope.to_bits() == 0));
            prop_assert!(slopes.iter().all(|slope| slope.is_finite()));
        }
        for isa in Isa::available() {
            isa.activate();
            prop_assert_eq!(&answer, &call(formula, features, samples, &data, &targets, &weights, (stride, gap)));
        }
        let alone: Vec<Vec<f32>> = data.iter().map(|data| data[data.len() - features..].to_vec()).collect();
        let last = samples - 1;
        let alone = call(formula, features, 1, &alone, &targets[last..], &weights[last..], (1, 0));
        prop_assert_eq!(alone.values[0], answer.values[last]);
        for (alone, all) in alone.slopes.iter().zip(&answer.slopes) {
            prop_assert_eq!(alone, &all[last * features..]);
        }
    }
}

#[test]
fn nearly_parallel_vectors_keep_their_distance() {
    let formula: Formula<'_> = ("cosine_embedding_loss", &[("margin", 0.0)], 2);
    let (features, angle) = (100, 1e-4_f64);
    // x, and y at the angle from it and of another length, by an orthogonal z: exact products of dyadic parts.
    let x: Vec<f64> = (0..features).map(|i| if i % 2 == 0 { 1.0 } else { 0.5 }).collect();
    let z: Vec<f64> = (0..features).map(|i| if i % 2 == 0 { -0.5 } else { 1.0 }).collect();
    let y: Vec<f64> = x.iter().zip(&z).map(|(x, z)| 3.0 * (x + angle.tan() * z)).collect();
    let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
    // What ε adds, 1e-12 over the mean of the squared lengths, counts here.
    let length = x.iter().map(|x| x * x).sum::<f64>();
    let epsilon = 0.5e-12 / length * (1.0 + angle.cos().powi(2) / 9.0);
    let expected = 2.0 * (angle / 2.0).sin().powi(2) + epsilon;
    let wide = call(formula, features, 1, &[x.clone(), y.clone()], &[1.0], &[1.0], (1, 0)).values[0];
    assert!((wide - expected).abs() < 1e-11 * expected, "{wide} and not {expected}");
    let single = call(formula, features, 1, &[narrow(&x), narrow(&y)], &[1.0], &[1.0], (1, 0)).values[0];
    assert!((f64::from(single) - expected).abs() < 1e-2 * expected, "{single} and not {expected}");
}

#[test]
fn no_features_are_at_no_distance() {
    for &formula in FORMULAS {
        let data = vec![Vec::<f64>::new(); formula.2];
        let value = call(formula, 0, 1, &data, &[1.0], &[2.0], (1, 0)).values[0];
        assert_eq!(value, 2.0 * plain(formula, &vec![&[][..]; formula.2], 1.0), "{}", formula.0);
    }
}

#[test]
fn a_target_that_is_none_is_found_unless_it_weighs_nothing() {
    let formula: Formula<'_> = ("contrastive_loss", &[("margin", 1.0)], 2);
    let data = vec![vec![0.5_f64; 6]; 2];
    let targets = [1.0, 0.5, f64::NAN];
    let found = std::panic::catch_unwind(|| call(formula, 2, 3, &data, &targets, &[1.0, 0.0, 1.0], (1, 0)));
    let message = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("Domain { operand: 2, index: 2 }"), "{message}");
    let answer = call(formula, 2, 3, &data, &targets, &[1.0, 0.0, 0.0], (1, 0));
    assert_eq!(answer.values, [0.0; 3]);
}
