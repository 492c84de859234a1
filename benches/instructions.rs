//! For counting instructions: `instructions CASE N` does a case of `work` N times, `instructions --list` names the cases. Times
//! lie on a busy machine, instruction counts hardly move; `scripts/check-instructions` compares them, after subtracting a
//! run of 0 times: program start and preparation.

mod work;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--list"] => work::CASES.iter().for_each(|(name, _)| println!("{name}")),
        [case, times] => run(case, times),
        _ => fail("usage: instructions CASE N | --list"),
    }
}

fn run(case: &str, times: &str) {
    let Some((_, prepare)) = work::CASES.iter().find(|(name, _)| *name == case) else { return fail(&format!("`{case}` is no case")) };
    let Ok(times) = times.parse::<u32>() else { return fail(&format!("`{times}` is no number")) };
    let mut work = prepare();
    for _ in 0..times {
        work();
    }
}

fn fail(why: &str) {
    eprintln!("{why}");
    std::process::exit(2);
}
