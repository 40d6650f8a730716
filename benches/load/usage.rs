//! What processes use, as Linux counts it.

use std::{fs, time::Duration};

use crate::{Outcome, machine::status_line, server::Server};

/// `/proc` counts CPU time in hundredths of a second, on every architecture that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// How long a server rests before its memory is called idle.
const REST: Duration = Duration::from_secs(2);

/// The fields of `/proc/PID/stat` that are asked for.
struct Stat {
    name: String,
    parent: u32,
    own_ticks: u32,
    /// Of children that have ended.
    children_ticks: u32,
}

fn stat(process: u32) -> Outcome<Stat> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // `PID (NAME) STATE PARENT …`; a name may have spaces and parentheses in it.
    let (before, after) = stat.rsplit_once(')').ok_or("an unknown /proc/PID/stat")?;
    let (_, name) = before.split_once('(').ok_or("an unknown /proc/PID/stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |field: usize| -> Outcome<u32> {
        let text = fields.get(field).ok_or("a short /proc/PID/stat")?;
        Ok(text.parse()?)
    };
    Ok(Stat {
        name: name.to_owned(),
        parent: number(1)?,
        own_ticks: number(11)? + number(12)?,
        children_ticks: number(13)? + number(14)?,
    })
}

/// The CPU time that a process has used.
pub fn cpu_of(process: u32) -> Outcome<Duration> {
    Ok(TICK * stat(process)?.own_ticks)
}

/// The CPU time that a process and its children have used, those that have ended included.
pub fn cpu_of_family(process: u32) -> Outcome<Duration> {
    loop {
        let head = stat(process)?;
        let children: u32 = children_of(process)?.map(|child| child.own_ticks).sum();
        // One that ends meanwhile may have been missed, or been counted twice.
        if stat(process)?.children_ticks == head.children_ticks {
            return Ok(TICK * (head.own_ticks + head.children_ticks + children));
        }
    }
}

/// The child of this process that has a name.
pub fn child_named(name: &str) -> Outcome<Option<u32>> {
    let own = std::process::id();
    Ok(processes()?
        .find(|process| stat(*process).is_ok_and(|stat| stat.parent == own && stat.name == name)))
}

fn children_of(parent: u32) -> Outcome<impl Iterator<Item = Stat>> {
    let all = processes()?.filter_map(|process| stat(process).ok());
    Ok(all.filter(move |stat| stat.parent == parent))
}

fn processes() -> Outcome<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// What a process holds in memory, in MiB.
#[derive(Clone, Copy)]
pub struct Memory {
    pub resident: f64,
    pub peak: f64,
}

pub fn memory_of(process: u32) -> Outcome<Memory> {
    let process = process.to_string();
    let mebibytes = |name| -> Outcome<f64> {
        let line = status_line(&process, name)?;
        let kibibytes = line.trim_end_matches("kB").trim().parse::<f64>()?;
        Ok(kibibytes / 1024.0)
    };
    Ok(Memory {
        resident: mebibytes("VmRSS:")?,
        peak: mebibytes("VmHWM:")?,
    })
}

/// What a server that has just been started holds after a rest.
pub async fn idle_memory(server: &mut Server) -> Outcome<Memory> {
    server.await_ready()?;
    tokio::time::sleep(REST).await;
    memory_of(server.process_id())
}
