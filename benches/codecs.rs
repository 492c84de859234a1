//! Times of the codecs, per event: `cargo bench --bench codecs`.

mod work;

use criterion::{Criterion, criterion_group, criterion_main};

fn codecs(criterion: &mut Criterion) {
    for (name, prepare) in work::CASES.iter().filter(|(name, _)| !name.starts_with("fanout_")) {
        criterion.bench_function(name, |bencher| bencher.iter(prepare()));
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
