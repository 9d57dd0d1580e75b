//! Time, processor time and memory of a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time and memory that one process took.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) memory_kib: u64,
}

/// Clock ticks of `/proc/PID/stat` per second, on every Linux.
const TICKS: f64 = 100.0;

/// Runs a command to its end, which must be a success.
pub(crate) fn measure(command: &mut Command) -> Measured {
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}: {command:?}"));
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let mut memory_kib = 0;
    // Until `wait`, an ended process stays as a zombie, which has its times but no longer its memory.
    loop {
        let status = fs::read_to_string(proc.join("status")).expect("Linux reports it");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("State:").is_some_and(|state| state.starts_with('Z')) {
            break;
        }
        let peak = field("VmHWM:").and_then(|peak| peak.split(' ').next()?.parse().ok());
        memory_kib = memory_kib.max(peak.unwrap_or(0));
        sleep(Duration::from_millis(2));
    }
    let seconds = start.elapsed().as_secs_f64();
    let stat = fs::read_to_string(proc.join("stat")).expect("Linux reports it");
    // The name in parentheses may have spaces; the times in user and kernel mode are the 12th and 13th field
    // after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let cpu_seconds = fields.take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS;
    let status = child.wait().expect("it has ended");
    assert!(status.success(), "{status}: {command:?}");
    Measured { seconds, cpu_seconds, memory_kib }
}

/// Prints the minimum and the median of each figure, and its ratio to that of the first subject.
pub(crate) fn print(subjects: &[PathBuf], measured: &[Vec<Measured>]) {
    type Figure = (&'static str, fn(&Measured) -> f64);
    let figures: [Figure; 3] = [
        ("s", |measured| measured.seconds),
        ("CPU s", |measured| measured.cpu_seconds),
        ("MiB", |measured| measured.memory_kib as f64 / 1024.0),
    ];
    println!("{:32} {:>8} {:>8} {:>8}   (minimum / median, ratio of minima)", "", "min", "median", "ratio");
    for (unit, figure) in figures {
        let of = |measured: &Vec<Measured>| sorted(measured.iter().map(figure).collect());
        let first = of(&measured[0])[0];
        for (subject, measured) in subjects.iter().zip(measured) {
            let values = of(measured);
            println!("{}", line(subject, unit, &values, values[0], first));
        }
    }
}

/// Prints the best rate of each subject, which is the greatest, its median, and the ratio of the best to that
/// of the first subject.
pub(crate) fn print_rates(subjects: &[PathBuf], rates: &[Vec<f64>]) {
    let best = |rates: &Vec<f64>| rates.iter().copied().fold(0.0, f64::max);
    for (subject, of_subject) in subjects.iter().zip(rates) {
        let values = sorted(of_subject.clone());
        println!("{}", line(subject, "tps", &values, best(of_subject), best(&rates[0])));
    }
}

fn line(subject: &Path, unit: &str, values: &[f64], best: f64, first: f64) -> String {
    let name = subject.file_name().unwrap_or_default().to_string_lossy();
    let median = values[values.len() / 2];
    format!("{name:26} {unit:>5} {best:8.2} {median:8.2} {:8.2}", best / first)
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
