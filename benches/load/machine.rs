//! The machine: who gets which core, and where the stores lie.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Outcome;

/// The cores, shared out: the first is the server's; the load, PostgreSQL and all else have the
/// others, so that a server's figures are those of one core and nobody takes from it.
#[derive(Clone)]
pub struct Cores(Option<Shares>);

#[derive(Clone)]
struct Shares {
    server: String,
    others: String,
}

impl Cores {
    /// Moves this thread, and whatever it starts, off the server's core.
    pub fn share_out() -> Outcome<Self> {
        let allowed = status_line("self", "Cpus_allowed_list:")?;
        let cores = parse_list(&allowed)?;
        let (Some(server), true) = (cores.first(), cores.len() > 1) else {
            return Ok(Self(None));
        };
        let others: Vec<String> = cores[1..].iter().map(u32::to_string).collect();
        let others = others.join(",");
        let moved = Command::new("taskset")
            .args(["-cp", &others, &std::process::id().to_string()])
            .stdout(Stdio::null())
            .status();
        Ok(Self(moved.is_ok_and(|status| status.success()).then(
            || Shares {
                server: server.to_string(),
                others,
            },
        )))
    }

    /// A command that runs a server on its core.
    pub fn server(&self, program: &Path) -> Command {
        match &self.0 {
            Some(shares) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &shares.server]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    pub fn describe(&self) -> String {
        match &self.0 {
            Some(Shares { server, others }) => {
                format!("server on core {server}, load and PostgreSQL on {others}")
            }
            None => "NOT PINNED: it takes taskset and two cores".to_owned(),
        }
    }
}

/// Reads a list like `0-3,8`.
fn parse_list(list: &str) -> Outcome<Vec<u32>> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        cores.extend(from.parse::<u32>()?..=to.parse::<u32>()?);
    }
    Ok(cores)
}

/// The value of a line of `/proc/PID/status`.
pub fn status_line(process: &str, name: &str) -> Outcome<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.ok_or("an unknown /proc/PID/status")?.trim().to_owned())
}

/// What this machine is.
pub fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> = info
        .lines()
        .filter_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()))
        .collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} × {}, Linux {}",
        names.len(),
        names.first().unwrap_or(&"unknown processor"),
        kernel.trim()
    )
}

/// A temporary folder on a disk, removed in the end.
pub struct Folder {
    path: PathBuf,
    file_system: String,
}

impl Folder {
    /// # Errors
    /// When the temporary folder lies in memory, where flushing costs and means nothing.
    pub fn durable() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("mirrory-load-{}", std::process::id()));
        fs::create_dir(&path)?;
        let said = Command::new("stat")
            .args(["-f", "-c", "%T"])
            .arg(&path)
            .output()?;
        let file_system = String::from_utf8(said.stdout)?.trim().to_owned();
        let folder = Self { path, file_system };
        if ["tmpfs", "ramfs"].contains(&folder.file_system.as_str()) {
            return Err("the temporary folder is in memory: set TMPDIR to one on a disk".into());
        }
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file_system(&self) -> &str {
        &self.file_system
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the temporary folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}
