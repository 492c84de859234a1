//! The modes without traffic: what an idle connection holds, and how fast connections come and go.

use std::time::{Duration, Instant};

use super::{
    Bench, BenchError,
    crowd::{Crowd, IN_FLIGHT},
    process::Sample,
    progress::{Progress, share},
    report::{ConnectFigures, MemoryFigures, Report},
    seconds,
};

const TURN: Duration = Duration::from_millis(50);
/// How long a server may take to let go of closed connections before its memory is read.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// Connects everyone, holds, closes, `cycles` times; memory of each cycle is counted from the first start.
pub fn idle(bench: &Bench<'_>) -> Result<Report, BenchError> {
    let args = bench.args;
    let mut progress = Progress::new();
    let mut crowd = bench.crowd()?;
    let start = bench.sample_server()?;
    let mut memory = Vec::new();
    let mut connects = None;
    for cycle in 1..=args.cycles {
        let connecting = Instant::now();
        let before = bench.sample_server()?;
        let everyone = bench.connections();
        crowd
            .open(everyone, |ready| progress.show(share(ready, everyone), || format!("cycle {cycle}: connected {ready} of {everyone}")))?;
        let opened = bench.sample_server()?;
        let cpu = before.zip(opened).map(|(before, after)| after.cpu_since(&before));
        connects = Some(ConnectFigures::new(args.connections.into(), connecting.elapsed(), cpu));
        turn_for(&mut crowd, seconds(args.hold_seconds))?;
        let held = bench.sample_server()?;
        crowd.close_all();
        let closed = wait_until_closed(bench, start.as_ref())?;
        if let (Some(start), Some(held)) = (start, held) {
            memory.push(MemoryFigures::new(&start, &held, closed.as_ref(), everyone * args.streams as usize));
        }
    }
    progress.clear();
    let mut report = Report::new(args);
    report.connects = connects;
    report.memory = (!memory.is_empty()).then_some(memory);
    Ok(report)
}

/// Connects and closes for the length of the window, with a fixed number of handshakes under way.
pub fn connects(bench: &Bench<'_>) -> Result<Report, BenchError> {
    let mut progress = Progress::new();
    let mut crowd = bench.crowd()?;
    let places = IN_FLIGHT.min(bench.connections());
    for place in 0..places {
        crowd.start_one(place)?;
    }
    let mut turn_over = |crowd: &mut Crowd<'_>, length: Duration| {
        let start = Instant::now();
        let mut made = 0;
        while start.elapsed() < length {
            crowd.turn(TURN)?;
            for place in 0..places {
                if crowd.is_ready(place) {
                    crowd.close(place);
                    crowd.start_one(place)?;
                    made += 1;
                }
            }
            let done = start.elapsed().as_secs_f64() / length.as_secs_f64();
            progress.show(done, || format!("connected and closed {made}"));
        }
        Ok(made)
    };
    turn_over(&mut crowd, seconds(bench.args.warm_up_seconds))?;
    let (start, before) = (Instant::now(), bench.sample_server()?);
    let made = turn_over(&mut crowd, seconds(bench.args.seconds))?;
    let after = bench.sample_server()?;
    let cpu = before.zip(after).map(|(before, after)| after.cpu_since(&before));
    progress.clear();
    let mut report = Report::new(bench.args);
    report.connects = Some(ConnectFigures::new(made, start.elapsed(), cpu));
    Ok(report)
}

fn turn_for(crowd: &mut Crowd<'_>, length: Duration) -> Result<(), BenchError> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        crowd.turn(TURN)?;
    }
    Ok(())
}

/// Gives a named process the time to close its descriptors; one that keeps them shows in the report.
fn wait_until_closed(bench: &Bench<'_>, start: Option<&Sample>) -> Result<Option<Sample>, BenchError> {
    let Some(start) = start else { return Ok(None) };
    let end = Instant::now() + CLOSE_PATIENCE;
    loop {
        let now = bench.sample_server()?;
        if now.is_none_or(|now| now.descriptors <= start.descriptors) || Instant::now() > end {
            return Ok(now);
        }
        std::thread::sleep(TURN);
    }
}
