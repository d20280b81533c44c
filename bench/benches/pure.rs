//! Time of the pure parts, and what they allocate: `cargo bench -p bench`.

use bench::CASES;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = CASES.iter().map(|case| case.name))]
fn pure(bencher: divan::Bencher<'_, '_>, name: &str) {
    if let Some(case) = bench::find(name) {
        let run = (case.prepare)();
        bencher.bench_local(run);
    }
}
