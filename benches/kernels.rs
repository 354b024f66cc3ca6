//! The kernels on data in the second-level cache, on one thread: every loss of the registry for each type of number, each
//! want and each instruction set that this machine has; loads, stores and the exact sum.
//!
//! A formula is timed through its driver with nothing summed and nothing stored, so a time is that of the formula and of
//! writing its block. Times are the thread's own CPU time, which other work on the machine lengthens least. Names are
//! `loss/number/want/instruction set`; Criterion takes a part of them as a filter.

use std::hint::black_box;
use std::time::Duration;

use _lossrs::drive::block::{self, Number};
use _lossrs::drive::layout::{Layout, Operand};
use _lossrs::drive::regions::{self, Activation, Empty};
use _lossrs::drive::{Want, embeddings, label_sets, pointwise, rows};
use _lossrs::isa::Isa;
use _lossrs::loss::{Domain, Region};
use _lossrs::losses::{self, Loss, Parameter, Parameters};
use _lossrs::storage::{Dtype, Run};
use _lossrs::sum::ExactSum;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Throughput, criterion_group, criterion_main};

type Criterion = criterion::Criterion<ThreadTime>;

/// The CPU time of this thread.
struct ThreadTime;

impl ThreadTime {
    fn now() -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the clock exists, and its time goes into a structure of ours.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::now().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        static WALL_TIME: WallTime = WallTime;
        WALL_TIME.formatter()
    }
}

const ELEMENTS: usize = 16_000;
const CLASSES: usize = 1_000;
const WANTS: [(Want, &str); 4] = [
    (Want::Value, "value"),
    (Want::Gradient, "gradient"),
    (Want::ValueAndGradient, "value and gradient"),
    (Want::GradientAndHessian, "gradient and hessian"),
];

/// Numbers spread evenly over an interval, in no order.
fn numbers<T: Number>(len: usize, low: f64, high: f64) -> Vec<T> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 32) as u32) * 2_f64.powi(-32)
    };
    (0..len).map(|_| T::of(low + (high - low) * next())).collect()
}

fn flat<T>(values: &[T], dtype: Dtype) -> Operand {
    Operand::flat(values.as_ptr().cast_mut().cast(), dtype, false)
}

/// Times some work under each instruction set.
fn each_isa(criterion: &mut Criterion, group: &str, name: &str, elements: usize, mut work: impl FnMut(Isa)) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(elements as u64));
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        isa.activate();
        group.bench_function(format!("{name}/{}", isa.name()), |bencher| bencher.iter(|| work(isa)));
    }
}

fn pointwise<T: pointwise::Kind>(criterion: &mut Criterion, name: &str, number: &str, loss: &dyn pointwise::Loss) {
    let domains = T::blocks(loss).domain().unwrap_or_default();
    let buffers: Vec<Vec<T>> = (0..loss.operands().len())
        .map(|i| match domains.get(i) {
            Some(&Domain::Interval(low, high)) => numbers(ELEMENTS, low, high.min(4.0)),
            Some(Domain::Sign) => vec![T::ONE; ELEMENTS],
            _ => numbers(ELEMENTS, -4.0, 4.0),
        })
        .collect();
    let operands: Vec<Operand> = buffers.iter().map(|buffer| flat(buffer, Dtype::of::<T>())).collect();
    let layout = Layout::flat(ELEMENTS);
    for (want, wanted) in WANTS {
        let call = pointwise::Call {
            layout: &layout,
            want,
            operands: &operands,
            weights: &[],
            grad_output: None,
            factor: 1.0,
            value: None,
            slope: [None; pointwise::MOST_SLOPES],
            curvature: [None; pointwise::MOST_SLOPES],
            shared: None,
            sum: false,
        };
        each_isa(criterion, name, &format!("{number}/{wanted}"), ELEMENTS, |_| {
            // SAFETY: the operands are `buffers`, of as many elements as the layout.
            black_box(unsafe { call.run::<T>(T::blocks(loss), &|| false) }).unwrap();
        });
    }
}

/// The target of rows, and how a loss runs over them.
enum Rows<'a> {
    Labels(&'a dyn rows::Loss),
    Probabilities(&'a dyn rows::Loss),
    LabelSets(&'a dyn label_sets::Loss),
}

fn rowwise<T: rows::Kind + label_sets::Kind>(criterion: &mut Criterion, name: &str, number: &str, loss: &Rows<'_>) {
    let samples = ELEMENTS / CLASSES;
    let matrix = |values: &[T]| {
        let mut samples = flat(values, Dtype::of::<T>());
        samples.run.stride = (CLASSES * size_of::<T>()) as isize;
        rows::Matrix { samples, stride: size_of::<T>() as isize }
    };
    let scores = numbers::<T>(ELEMENTS, -8.0, 0.0);
    let probabilities = numbers::<T>(ELEMENTS, 0.0, 2.0 / CLASSES as f64);
    let classes: Vec<i64> =
        numbers::<f64>(samples, 0.0, CLASSES as f64).into_iter().map(|class| class as i64).collect();
    // Ten labels of each row.
    let labels: Vec<T> = (0..ELEMENTS).map(|i| T::of(if i % CLASSES < 10 { (i % 97) as f64 } else { -1.0 })).collect();
    let target = match loss {
        Rows::Labels(_) => rows::Target::Labels(flat(&classes, Dtype::Int64)),
        Rows::Probabilities(_) => rows::Target::Probabilities(matrix(&probabilities)),
        Rows::LabelSets(_) => rows::Target::LabelSets(matrix(&labels)),
    };
    let (layout, input) = (Layout::flat(samples), matrix(&scores));
    for (want, wanted) in WANTS {
        let call = rows::Call {
            layout: &layout,
            want,
            classes: CLASSES,
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
            sum: false,
        };
        each_isa(criterion, name, &format!("{number}/{wanted}"), ELEMENTS, |_| {
            // SAFETY: the buffers have `samples` rows of as many classes as the call.
            black_box(unsafe {
                match loss {
                    Rows::Labels(loss) | Rows::Probabilities(loss) => call.run(T::blocks(*loss), &|| false),
                    Rows::LabelSets(loss) => call.run_sets(T::of_sets(*loss), &|| false),
                }
            })
            .unwrap();
        });
    }
}

fn embeddings<T: embeddings::Kind>(criterion: &mut Criterion, name: &str, number: &str, loss: &dyn embeddings::Loss) {
    let samples = ELEMENTS / CLASSES;
    let vectors: Vec<Vec<T>> =
        (0..loss.vectors()).map(|m| numbers::<T>(ELEMENTS, -1.0 - m as f64, 1.0 + m as f64)).collect();
    let matrices: Vec<rows::Matrix> = vectors
        .iter()
        .map(|values| {
            let mut samples = flat(values, Dtype::of::<T>());
            samples.run.stride = (CLASSES * size_of::<T>()) as isize;
            rows::Matrix { samples, stride: size_of::<T>() as isize }
        })
        .collect();
    let (layout, targets) = (Layout::flat(samples), vec![T::ONE; samples]);
    let target = flat(&targets, Dtype::of::<T>());
    for (want, wanted) in [(Want::Value, "value"), (Want::ValueAndGradient, "value and gradient")] {
        let call = embeddings::Call {
            layout: &layout,
            want,
            features: CLASSES,
            vectors: &matrices,
            target: Some(&target),
            domain: loss.targets(),
            sample_weight: None,
            grad_output: None,
            factor: 1.0,
            value: None,
            slopes: &[],
            sum: false,
        };
        each_isa(criterion, name, &format!("{number}/{wanted}"), ELEMENTS, |_| {
            // SAFETY: the buffers have `samples` rows of as many features as the call.
            black_box(unsafe { call.run::<T>(T::blocks(loss), &|| false) }).unwrap();
        });
    }
}

/// A mask of one class, and labels of sixteen; with the gradient, which is stored.
fn regions<T: Number>(criterion: &mut Criterion, name: &str, number: &str, loss: &dyn Region) {
    let scores = numbers::<T>(ELEMENTS, -8.0, 8.0);
    let masks: Vec<u8> = numbers::<f64>(ELEMENTS, 0.0, 2.0).into_iter().map(|mask| mask as u8).collect();
    let gradient = vec![T::ZERO; ELEMENTS];
    for (activation, kind, classes) in [(Activation::Sigmoid, "mask", 1), (Activation::Softmax, "labels", 16)] {
        let positions = ELEMENTS / classes;
        let matrix = |values: &[T]| rows::Matrix {
            samples: flat(values, Dtype::of::<T>()),
            stride: (positions * size_of::<T>()) as isize,
        };
        let (layout, losses, input, slope) =
            (Layout::flat(positions), Layout::flat(1), matrix(&scores), matrix(&gradient));
        let masks = flat(&masks, Dtype::Uint8);
        let target = if classes == 1 {
            rows::Target::Probabilities(rows::Matrix { samples: masks, stride: 0 })
        } else {
            rows::Target::Labels(masks)
        };
        for (want, wanted) in [WANTS[0], WANTS[2]] {
            let call = regions::Call {
                layout: &layout,
                regions: 1,
                classes,
                want,
                input: &input,
                target: &target,
                activation,
                class_weight: None,
                ignore_index: None,
                empty: Empty::Smooth,
                losses: &losses,
                sample_weight: None,
                grad_output: None,
                factor: 1.0,
                mean: false,
                value: None,
                slope: Some(&slope),
            };
            each_isa(criterion, name, &format!("{number}/{kind}/{wanted}"), ELEMENTS, |_| {
                // SAFETY: the buffers have a class of so many positions after the other, as many as the call has.
                black_box(unsafe { call.run::<T>(loss, &|| false) }).map_err(drop).unwrap();
            });
        }
    }
}

fn formulas(criterion: &mut Criterion) {
    for name in losses::NAMES {
        let parameters = |name: &str| {
            Some(match name {
                "label_smoothing" => Parameter::Number(0.0),
                "ignore_index" => Parameter::Integer(-100),
                "swap" | "full" | "log_target" | "log_input" | "blank" => Parameter::Integer(0),
                "p" => Parameter::Number(2.0),
                "distance_function" => Parameter::Word("cosine".into()),
                "mode" => Parameter::Word("binary".into()),
                "empty" => Parameter::Word("smooth".into()),
                _ => Parameter::Integer(1),
            })
        };
        match losses::named(name, &Parameters(&parameters)).unwrap() {
            Loss::Pointwise(loss) => {
                pointwise::<f32>(criterion, name, "f32", &*loss);
                pointwise::<f64>(criterion, name, "f64", &*loss);
            }
            Loss::Embeddings(loss) => {
                embeddings::<f32>(criterion, name, "f32", &*loss);
                embeddings::<f64>(criterion, name, "f64", &*loss);
            }
            Loss::Rowwise(loss) => {
                if let Some(loss) = &loss.labels {
                    rowwise::<f32>(criterion, name, "f32", &Rows::Labels(&**loss));
                    rowwise::<f64>(criterion, name, "f64", &Rows::Labels(&**loss));
                }
                if let Some(loss) = &loss.probabilities {
                    let name = format!("{name} of probabilities");
                    rowwise::<f32>(criterion, &name, "f32", &Rows::Probabilities(&**loss));
                    rowwise::<f64>(criterion, &name, "f64", &Rows::Probabilities(&**loss));
                }
            }
            Loss::LabelSets(loss) => {
                rowwise::<f32>(criterion, name, "f32", &Rows::LabelSets(&*loss));
                rowwise::<f64>(criterion, name, "f64", &Rows::LabelSets(&*loss));
            }
            Loss::Regions { loss, .. } => {
                regions::<f32>(criterion, name, "f32", &*loss);
                regions::<f64>(criterion, name, "f64", &*loss);
            }
            // Their kernels are parts of larger steps; `compare.py` times whole calls.
            Loss::Sequencewise { .. } | Loss::Linear { .. } => {}
        }
    }
}

fn conversions<T: Number>(criterion: &mut Criterion, number: &str) {
    let mut values = numbers::<T>(block::BLOCK, -4.0, 4.0);
    let mut memory = vec![0_u64; block::BLOCK];
    for dtype in [Dtype::Float64, Dtype::Float32, Dtype::Float16, Dtype::Bfloat16, Dtype::Int64, Dtype::Uint8] {
        let run = Run { first: memory.as_mut_ptr().cast(), stride: dtype.size() as isize, dtype, swapped: false };
        if dtype.is_float() {
            each_isa(criterion, "store", &format!("{number} as {dtype:?}"), block::BLOCK, |isa| {
                // SAFETY: `memory` has room for a block of the widest type.
                unsafe { black_box(run).store(isa, black_box(&values), false) };
            });
        }
        each_isa(criterion, "load", &format!("{dtype:?} as {number}"), block::BLOCK, |isa| {
            // SAFETY: as above.
            unsafe { black_box(run).load(isa, black_box(&mut values)) };
        });
    }
}

fn blocks<T: Number>(criterion: &mut Criterion, number: &str) {
    let mut values = numbers::<T>(block::BLOCK, 1.0, 2.0);
    let ones = vec![T::ONE; block::BLOCK];
    let mut sum = ExactSum::new();
    let mut time = |name: &str, work: &mut dyn FnMut(Isa)| each_isa(criterion, name, number, block::BLOCK, work);
    time("sum", &mut |isa| sum.add_block(isa, black_box(&values)));
    time("largest", &mut |isa| _ = black_box(block::largest(isa, black_box(&values))));
    time("within", &mut |isa| _ = black_box(block::is_within(isa, black_box(&values), Domain::Interval(0.0, 2.0))));
    time("weigh", &mut |isa| block::weigh(isa, black_box(&mut values), black_box(&ones), T::ONE));
    time("scale", &mut |isa| block::scale(isa, black_box(&mut values), black_box(T::ONE)));
}

fn storage(criterion: &mut Criterion) {
    conversions::<f32>(criterion, "f32");
    conversions::<f64>(criterion, "f64");
    blocks::<f32>(criterion, "f32");
    blocks::<f64>(criterion, "f64");
}

criterion_group! {
    name = benches;
    config = criterion::Criterion::default()
        .with_measurement(ThreadTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(200));
    targets = formulas, storage
}
criterion_main!(benches);
