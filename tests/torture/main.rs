//! Torture: real hubs and a real Redis are killed, stopped, cut off and flooded, while clients of all wires keep books of every
//! message. Each scenario has a twin, in which the cure is off: there the books must show the fault, or they prove nothing.
//! docs/RELIABILITY.md says what is promised and what was measured.
//!
//! What a scenario waits for is a condition, with more patience than any machine needs. Time is judged only where the contract
//! names one, and then by a [`Stopwatch`](support::stopwatch::Stopwatch), which knows for how long the machine was busy with other things.
//!
//! `cargo test --test torture -- [--only NAME]… [--skip NAME]… [--repeat N] [--seed S] [--long] [--jobs N] [--list]`

mod client;
mod crowd;
mod fleet;
mod guarded;
mod ledger;
mod load;
mod options;
mod polling;
mod proxy;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod trial;
mod wire;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::Mutex,
    thread,
    time::Instant,
};

use options::Options;
use trial::{Dice, Scenario, Trial};

/// For the clients of the largest scenario and whatever else runs at the same time.
const DESCRIPTORS: u64 = 16_384;

/// One run of a scenario, or of its twin.
struct Job {
    scenario: &'static Scenario,
    has_cure: bool,
    seed: u64,
}

impl Job {
    /// As a filter has to name it. The test programs of cargo have no common name in front; here one finds all scenarios.
    fn name(&self) -> String {
        format!("torture::{}{}", self.scenario.name, if self.has_cure { "" } else { "::twin" })
    }

    /// Whether it passed, and what there is to say.
    fn run(&self, is_long: bool) -> (bool, String) {
        let mut trial = Trial { is_long, has_cure: self.has_cure, dice: Dice::new(self.seed) };
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| (self.scenario.run)(&mut trial)));
        match outcome {
            Err(_) => (false, "panicked".to_owned()),
            Ok(report) if self.has_cure => (report.faults.is_empty(), [report.figures, report.faults].concat().join("; ")),
            Ok(report) if report.faults.is_empty() => {
                (false, format!("the check finds no fault without the cure: {}", report.figures.join("; ")))
            }
            Ok(report) => (true, format!("as it should, the check finds: {}", report.faults.join("; "))),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::read(std::env::args());
    let of_round = |round| {
        let job = move |scenario, has_cure| Job { scenario, has_cure, seed: options.seed + u64::from(round) };
        scenarios::ALL.iter().flat_map(move |scenario| [job(scenario, true), job(scenario, false)])
    };
    let mut jobs: Vec<Job> = (0..options.repeat).flat_map(of_round).filter(|job| options.wants(&job.name())).collect();
    if options.lists {
        jobs.iter().for_each(|job| println!("{}: test", job.name()));
        return ExitCode::SUCCESS;
    }
    // A hub raises its own.
    rlimit::increase_nofile_limit(DESCRIPTORS).expect("a limit of open files");
    println!("running {} tests, seed {}", jobs.len(), options.seed);
    jobs.reverse();
    let jobs = Mutex::new(jobs);
    let failed = Mutex::new(Vec::new());
    let passed = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let Some(job) = jobs.lock().expect("the jobs").pop() else { return };
                    let began = Instant::now();
                    let (is_ok, said) = job.run(options.is_long);
                    let (name, took) = (job.name(), began.elapsed().as_secs_f64());
                    println!("test {name} ... {} ({took:.1} s, seed {}): {said}", if is_ok { "ok" } else { "FAILED" }, job.seed);
                    match is_ok {
                        true => *passed.lock().expect("the count") += 1,
                        false => failed.lock().expect("the list").push(name),
                    }
                }
            });
        }
    });
    let (failed, passed) = (failed.into_inner().expect("the list"), passed.into_inner().expect("the count"));
    failed.iter().for_each(|name| println!("    failed: {name}"));
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
