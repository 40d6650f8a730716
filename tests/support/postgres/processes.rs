//! Signals to processes, without `unsafe` code.

use std::fs;
use std::process::{Command, Stdio};

/// Through the shell, which has `kill` built in: some small images lack the program.
pub fn signal(name: &str, processes: &[u32]) {
    Command::new("sh")
        .args(["-c", r#"for pid in "$@"; do kill -"$0" "$pid"; done"#, name])
        .args(processes.iter().map(u32::to_string))
        // A backend that has ended by itself meanwhile is no fault.
        .stderr(Stdio::null())
        .status()
        .expect("sh starts");
}

pub fn children_of(parent: u32) -> Vec<u32> {
    let processes = if cfg!(target_os = "linux") {
        parents_in_proc()
    } else {
        parents_by_ps()
    };
    let children = processes.iter().filter(|(_, its)| *its == parent);
    children.map(|(process, _)| *process).collect()
}

/// Every process with its parent, without `ps`, which small images lack too.
fn parents_in_proc() -> Vec<(u32, u32)> {
    let folders = fs::read_dir("/proc").expect("/proc is mounted");
    let stats =
        folders.filter_map(|folder| fs::read_to_string(folder.ok()?.path().join("stat")).ok());
    stats.filter_map(|stat| parse_stat(&stat)).collect()
}

/// Reads `PID (NAME) STATE PARENT …`; a name may have spaces and parentheses in it.
fn parse_stat(stat: &str) -> Option<(u32, u32)> {
    let (process, rest) = stat.split_once(' ')?;
    let (_name, rest) = rest.rsplit_once(')')?;
    let parent = rest.split_whitespace().nth(1)?;
    Some((process.parse().ok()?, parent.parse().ok()?))
}

fn parents_by_ps() -> Vec<(u32, u32)> {
    let arguments = ["-A", "-o", "pid=,ppid="];
    let output = Command::new("ps")
        .args(arguments)
        .output()
        .expect("ps starts");
    let lines = String::from_utf8(output.stdout).expect("ps prints numbers");
    let pair = |line: &str| {
        let (process, parent) = line.trim().split_once(char::is_whitespace)?;
        Some((process.parse().ok()?, parent.trim().parse().ok()?))
    };
    lines.lines().filter_map(pair).collect()
}
