//! A linear layer's losses: products of matrices, bit for bit the sums that they say they are; losses and gradients against
//! the formula written plainly; interrupts.

use _lossrs::drive::layout::{Layout, Operand};
use _lossrs::drive::linear::Call;
use _lossrs::drive::product::{self, DEPTH, Grid, Output, ROWS, Strided};
use _lossrs::drive::rows::{self, Kind, Matrix, Target};
use _lossrs::drive::{Failure, Want};
use _lossrs::isa::Isa;
use _lossrs::losses::{Loss, Parameter, Parameters, named};
use _lossrs::storage::{Dtype, Run};
use proptest::prelude::*;

/// Numbers that a generator of few bits makes.
fn numbers(count: usize, mut state: u32) -> Vec<f64> {
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 23) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The instruction sets of this machine.
fn instruction_sets() -> impl Iterator<Item = Isa> {
    Isa::available()
}

macro_rules! products {
    ($($name:ident: $t:ty)*) => {$(
        proptest! {
            /// Each element is the sum along the depth, in order, and nothing else is written.
            #[test]
            fn $name(
                rows in 1..40_usize,
                depth in 1..2 * ROWS,
                columns in 1..=product::width::<$t>(),
                by_columns in any::<bool>(),
                add in any::<bool>(),
                seed in any::<u32>(),
            ) {
                const WIDTH: usize = product::width::<$t>();
                let of = |count: usize, seed: u32| numbers(count, seed).into_iter().map(|x| x as $t).collect::<Vec<_>>();
                let padded = rows.next_multiple_of(ROWS);
                let (left, right) = (of(padded * depth, seed), of(depth * columns, !seed));
                let (row, column) = if by_columns { (1, padded) } else { (depth, 1) };
                let stride = columns + 3;
                let before = of(padded * stride, seed ^ 7);
                for isa in instruction_sets() {
                    let mut panel = vec![<$t>::NAN; depth * WIDTH];
                    let from = Strided { elements: &right[..], rows: columns, columns: 1 };
                    product::pack(isa, from, depth, columns, &mut panel);
                    let mut transposed = vec![<$t>::NAN; depth * WIDTH];
                    let turned: Vec<$t> = (0..columns * depth).map(|i| right[i % depth * columns + i / depth]).collect();
                    let from = Strided { elements: &turned[..], rows: depth, columns: 1 };
                    product::pack_transposed(isa, from, columns, depth, &mut transposed);
                    prop_assert_eq!(&panel, &transposed);

                    let mut out = before.clone();
                    let output = Output { elements: &mut out, stride, rows, columns };
                    product::multiply(
                        isa, Strided { elements: &left, rows: row, columns: column }, depth, &panel, output, add
                    );
                    for (at, &found) in out.iter().enumerate() {
                        let (i, j) = (at / stride, at % stride);
                        let term = |sum: $t, k: usize| left[i * row + k * column].mul_add(right[k * columns + j], sum);
                        let expected = match (i < rows && j < columns, add) {
                            (true, true) => before[at] + (0..depth).fold(0.0, term),
                            (true, false) => (0..depth).fold(0.0, term),
                            (false, _) => before[at],
                        };
                        prop_assert_eq!(found.to_bits(), expected.to_bits());
                    }
                }
            }
        }
    )*};
}

products! {
    products_of_doubles: f64
    products_of_singles: f32
}

#[test]
fn a_transpose_adds_to_its_columns() {
    let (rows, columns, distance, stride) = (32, 48, 35, 50);
    let from: Vec<f32> = numbers(columns * distance, 1).into_iter().map(|x| x as f32).collect();
    let plus: Vec<f32> = numbers(columns, 2).into_iter().map(|x| x as f32).collect();
    for isa in instruction_sets() {
        let mut out = vec![7.0; rows * stride];
        let strided = Strided { elements: &from[..], rows: distance, columns: 1 };
        product::transpose(isa, strided, &plus, rows, &mut out, stride);
        for (at, found) in out.into_iter().enumerate() {
            let (row, column) = (at / stride, at % stride);
            assert_eq!(found, if column < columns { from[column * distance + row] + plus[column] } else { 7.0 });
        }
    }
}

/// Cross-entropy with labels.
fn cross_entropy(z_loss: f64, softcap: &Parameter) -> Box<dyn _lossrs::drive::linear::Loss> {
    let parameter = |name: &str| {
        Some(match name {
            "softcap" => softcap.clone(),
            "ignore_index" => Parameter::Integer(-100),
            "z_loss" => Parameter::Number(z_loss),
            _ => Parameter::Number(0.0),
        })
    };
    match named("linear_cross_entropy", &Parameters(&parameter)) {
        Ok(Loss::Linear { loss, .. }) => loss,
        _ => unreachable!("the loss is of a linear layer"),
    }
}

fn run(values: &mut [f64]) -> Run {
    Run { first: values.as_mut_ptr().cast(), stride: 8, dtype: Dtype::Float64, swapped: false }
}

fn matrix(values: &mut [f64], features: usize) -> Matrix {
    let mut samples = Operand::flat(values.as_mut_ptr().cast(), Dtype::Float64, false);
    samples.run.stride = 8 * features as isize;
    Matrix { samples, stride: 8 }
}

#[test]
fn losses_and_gradients_are_those_of_the_formula() {
    let (rows, features, classes, z_loss, cap) = (300, DEPTH + 5, 601, 0.01, 1.5);
    let (mut input, mut weight, mut bias) =
        (numbers(rows * features, 1), numbers(classes * features, 2), numbers(classes, 3));
    let mut labels: Vec<i64> =
        (0..rows).map(|row| if row % 7 == 3 { -100 } else { (row * 97 % classes) as i64 }).collect();
    let mut losses = vec![7.0; rows];
    let (mut by_input, mut by_weight, mut by_bias) =
        (vec![7.0; input.len()], vec![7.0; weight.len()], vec![7.0; bias.len()]);
    let (mut wanted_by_input, mut wanted_by_weight, mut wanted_by_bias) =
        (vec![0.0; input.len()], vec![0.0; weight.len()], vec![0.0; bias.len()]);
    let mut wanted = vec![0.0; rows];
    for row in (0..rows).filter(|&row| labels[row] >= 0) {
        let x = &input[row * features..(row + 1) * features];
        let dot = |class: usize| -> f64 { (0..features).map(|k| x[k] * weight[class * features + k]).sum() };
        let raw: Vec<f64> = (0..classes).map(|class| dot(class) + bias[class]).collect();
        let scores: Vec<f64> = raw.iter().map(|score| cap * (score / cap).tanh()).collect();
        let lse = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
        let label = labels[row] as usize;
        wanted[row] = lse - scores[label] + z_loss * lse * lse;
        for class in 0..classes {
            let is_label = if class == label { 1.0 } else { 0.0 };
            let by_score = (scores[class] - lse).exp() * (1.0 + 2.0 * z_loss * lse) - is_label;
            let slope = by_score / (raw[class] / cap).cosh().powi(2);
            wanted_by_bias[class] += slope;
            for k in 0..features {
                wanted_by_input[row * features + k] += slope * weight[class * features + k];
                wanted_by_weight[class * features + k] += slope * x[k];
            }
        }
    }
    let loss = cross_entropy(z_loss, &Parameter::Number(cap));
    let formula = loss.formula(1.0);
    let layout = Layout::flat(rows);
    let (from, slope) = (matrix(&mut input, features), matrix(&mut by_input, features));
    let target = Target::Labels(Operand::flat(labels.as_mut_ptr().cast(), Dtype::Int64, false));
    let value = Operand::flat(losses.as_mut_ptr().cast(), Dtype::Float64, false);
    let grid = |values: &mut [f64]| Grid { row: run(values), step: 8 * features as isize };
    let call = Call {
        samples: rows::Call {
            layout: &layout,
            want: Want::ValueAndGradient,
            classes,
            input: &from,
            target: &target,
            weight: None,
            ignore_index: Some(-100),
            sample_weight: None,
            grad_output: None,
            factor: 1.0,
            value: Some(&value),
            slope: Some(&slope),
            curvature: None,
            log_probabilities: None,
            sum: true,
        },
        features,
        weight: grid(&mut weight),
        bias: Some(run(&mut bias)),
        softcap: loss.softcap(),
        weight_slope: Some(grid(&mut by_weight)),
        bias_slope: Some(run(&mut by_bias)),
    };
    // SAFETY: the call describes these vectors.
    let sum = unsafe { call.run(f64::blocks(&*formula), &|| false) }.unwrap().value();
    assert!((sum - wanted.iter().sum::<f64>()).abs() < 1e-9);
    let pairs =
        [(losses, wanted), (by_input, wanted_by_input), (by_weight, wanted_by_weight), (by_bias, wanted_by_bias)];
    for (found, wanted) in pairs {
        for (found, wanted) in found.into_iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-11, "{found} {wanted}");
        }
    }
}

#[test]
fn a_call_stops_when_it_is_told_to() {
    // Days of work, on one row and one feature again and again.
    let (rows, features, classes) = (1 << 24, 4096, 1 << 16);
    let (mut one, mut label, mut by_bias) = ([1.0], [0_i64], vec![0.0; classes]);
    let layout = Layout::flat(rows);
    let mut constant = Operand::flat(one.as_mut_ptr().cast(), Dtype::Float64, false);
    constant.run.stride = 0;
    let mut labels = Operand::flat(label.as_mut_ptr().cast(), Dtype::Int64, false);
    labels.run.stride = 0;
    let (input, target) = (Matrix { samples: constant.clone(), stride: 0 }, Target::Labels(labels));
    let loss = cross_entropy(0.0, &Parameter::Nothing);
    let formula = loss.formula(1.0);
    for want in [Want::Value, Want::ValueAndGradient] {
        let call = Call {
            samples: rows::Call {
                layout: &layout,
                want,
                classes,
                input: &input,
                target: &target,
                weight: None,
                ignore_index: None,
                sample_weight: None,
                grad_output: None,
                factor: 1.0,
                value: None,
                slope: None,
                curvature: None,
                log_probabilities: None,
                sum: true,
            },
            features,
            weight: Grid { row: constant.run, step: 0 },
            bias: None,
            softcap: None,
            weight_slope: None,
            bias_slope: want.slope().then(|| run(&mut by_bias)),
        };
        // SAFETY: the call describes these numbers.
        let stopped = unsafe { call.run(f64::blocks(&*formula), &|| true) };
        assert_eq!(stopped.err(), Some(Failure::Interrupted));
    }
}
