//! The exact sum of a block of 1,024 values in cache, for each instruction set, and of a small call.

use std::hint::black_box;

use _lossrs::{
    isa::{Isa, Kernel},
    sum::{ExactSum, Summand},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Adds a block as a kernel compiled for an instruction set does.
struct Add<'a, T>(&'a mut ExactSum, &'a [T]);

impl<T: Summand> Kernel for Add<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.add_block(self.1);
    }
}

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
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let mut sum = ExactSum::new();
            group.bench_function(format!("{path}/{}", isa.name()), |bencher| {
                bencher.iter(|| isa.run(Add(&mut sum, black_box(&block))));
            });
        }
    }
}

fn sums(criterion: &mut Criterion) {
    kernels::<f32>(criterion, "f32", [(15, "1 part"), (60, "2 parts"), (120, "each")]);
    kernels::<f64>(criterion, "f64", [(30, "2 parts"), (75, "3 parts"), (120, "each")]);
    for length in [0, 1, 8, 32, 100] {
        let values = &block::<f32>(15)[..length];
        criterion.bench_function(&format!("sum of {length} f32, rounded"), |bencher| {
            bencher.iter(|| {
                let mut sum = ExactSum::new();
                Isa::widest().run(Add(&mut sum, black_box(values)));
                sum.value()
            });
        });
    }
}

criterion_group!(benches, sums);
criterion_main!(benches);
