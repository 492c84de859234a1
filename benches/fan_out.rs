//! Times of the fan-out within the process, for one batch to all members of a room: `cargo bench --bench fan_out`.

mod work;

use criterion::{Criterion, criterion_group, criterion_main};

fn fan_out(criterion: &mut Criterion) {
    for (name, prepare) in work::CASES.iter().filter(|(name, _)| name.starts_with("fanout_")) {
        criterion.bench_function(name, |bencher| bencher.iter(prepare()));
    }
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
