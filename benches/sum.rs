//! The exact sum of a block of 1,024 values in cache, for each instruction set, and of a small call.

use std::hint::black_box;

use _lossrs::{
    isa::Isa,
    sum::{ExactSum, Summand},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Positive values with random significands and exponents down to `-span`, as losses are.
fn block<T: Summand>(span: i32) -> Vec<T> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 32) as u32) * 2f64.powi(-32)
    };
    (0..1024).map(|_| T::of((1.0 + next()) * 2f64.powi(-(next() * f64::from(span + 1)) as i32))).collect()
}

fn kernels<T: Summand>(criterion: &mut Criterion, name: &str, spans: [(i32, &str); 3]) {
    let mut group = criterion.benchmark_group(format!("sum {name}"));
    group.throughput(Throughput::Elements(1024));
    for (span, path) in spans {
        let block = block::<T>(span);
        for isa in Isa::available() {
            let mut sum = ExactSum::new();
            group.bench_function(format!("{path}/{}", isa.name()), |bencher| {
                bencher.iter(|| sum.add_block(isa, black_box(&block)));
            });
        }
    }
}

fn sums(criterion: &mut Criterion) {
    kernels::<f32>(criterion, "f32", [(15, "2 levels"), (40, "3 levels"), (90, "as doubles")]);
    kernels::<f64>(criterion, "f64", [(30, "2 levels"), (75, "3 levels"), (120, "each")]);
    for length in [0, 1, 8, 32, 100] {
        let values = &block::<f32>(15)[..length];
        criterion.bench_function(&format!("sum of {length} f32, rounded"), |bencher| {
            bencher.iter(|| {
                let mut sum = ExactSum::new();
                sum.add_block(Isa::widest(), black_box(values));
                sum.value()
            });
        });
    }
}

criterion_group!(benches, sums);
criterion_main!(benches);
