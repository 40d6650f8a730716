//! Where a cluster lives: its programs, its folder, its account, its port, its watchdog.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::iter;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

const MISSING: &str = "PostgreSQL's server programs (initdb and postgres) are neither in PG_BIN, nor \
    in PATH, nor in /usr/lib/postgresql/*/bin: run `tests/run`, which installs them, or install your \
    system's PostgreSQL server package (on Debian: apt-get install postgresql)";

/// Below the ports that Linux and macOS hand out unasked: during an outage nobody else takes the
/// port, and no client that calls it in vain is connected to itself.
const PORTS: Range<u16> = 20_000..30_000;

/// Long beyond what a start takes (0.3 s), for machines under load.
const START_POLLS: u32 = 3_000;
const POLL: Duration = Duration::from_millis(20);

/// Waits until its stdin closes, which the kernel sees to however the tests end, then stops the
/// server and removes the folder. What is frozen cannot end, so it is woken first.
const WATCHDOG: &str = r#"
    trap '' HUP INT TERM
    read -r _
    pid_file=$1/data/postmaster.pid
    for pid in $(head -n 1 "$pid_file") $(cat "$1/frozen"); do kill -CONT "$pid"; done
    kill -QUIT "$(head -n 1 "$pid_file")"
    polls=100
    while [ -e "$pid_file" ] && [ $polls -gt 0 ]; do sleep 0.1; polls=$((polls - 1)); done
    polls=100
    until rm -rf "$1" || [ $polls -eq 0 ]; do sleep 0.1; polls=$((polls - 1)); done
"#;

#[derive(Clone, Copy, Debug)]
pub enum Fsync {
    On,
    Off,
}

/// Where the cluster lives, with what programs and under whose account.
#[derive(Debug)]
pub struct Host {
    programs: PathBuf,
    folder: PathBuf,
    account: Option<Account>,
    fsync: Fsync,
}

impl Host {
    pub fn find(fsync: Fsync) -> Self {
        let programs = find_programs().expect(MISSING);
        let account = Account::for_root();
        Self {
            programs,
            folder: make_folder(account),
            account,
            fsync,
        }
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Names the frozen processes, one a line, for whoever has to wake them.
    pub fn frozen_file(&self) -> PathBuf {
        self.folder.join("frozen")
    }

    pub fn spawn_watchdog(&self) -> Child {
        Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&self.folder)
            .current_dir("/")
            // A Ctrl-C at the terminal is for the tests alone.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts")
    }

    /// A command that finds nothing of the caller's in its way: its rights, its home, its language.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some(Account { uid, gid }) = self.account {
            // This drops root's supplementary groups, too.
            command.uid(uid).gid(gid);
        }
        command
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("LC_ALL", "C")
            .process_group(0)
            .stdin(Stdio::null());
        command
    }

    pub fn make_data(&self) {
        self.make(
            "initdb",
            &["-A", "trust", "-N", "-U", "postgres", "-E", "UTF8"],
        );
    }

    /// Copies the data of the server at this port; with `-R`, to follow what is written there.
    pub fn copy_data(&self, port: u16, more: &[&str]) {
        let from = format!("host=127.0.0.1 port={port} user=postgres");
        let arguments = ["-d", &from, "-c", "fast", "-X", "stream", "-N"];
        self.make("pg_basebackup", &[&arguments, more].concat());
    }

    fn make(&self, program: &str, arguments: &[&str]) {
        let output = self
            .command(program)
            .args(arguments)
            .arg("-D")
            .arg(self.data())
            .output()
            .unwrap_or_else(|error| panic!("{program} does not start for {self:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} fails: {said}");
    }

    /// Returns when the server accepts connections, or else its log.
    pub fn start_server(&self, port: u16) -> Result<Child, String> {
        let log_file = self.folder.join("log");
        let log = File::create(&log_file).expect("the folder is writable");
        let fsync = match self.fsync {
            Fsync::On => "fsync=on",
            Fsync::Off => "fsync=off",
        };
        let mut server = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
            // Many tests at once, each with a pool of its own.
            .args(["-N", "300", "-c", fsync])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server program starts");
        for _ in 0..START_POLLS {
            if self.is_ready(server.id()) {
                return Ok(server);
            }
            if server
                .try_wait()
                .expect("the server is a child of this process")
                .is_some()
            {
                break;
            }
            sleep(POLL);
        }
        Err(fs::read_to_string(log_file).unwrap_or_default())
    }

    /// Whether this very process has written on line 8 of its pid file that it takes connections.
    fn is_ready(&self, server: u32) -> bool {
        let pid_file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = pid_file.lines();
        lines.next() == Some(server.to_string().as_str())
            && matches!(lines.nth(6).map(str::trim), Some("ready" | "standby"))
    }
}

/// Who runs the server when root runs the tests: PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    fn for_root() -> Option<Self> {
        if ask_id(&["-u"]) != Some(0) {
            return None;
        }
        let account = Self::named("postgres").or_else(|| Self::named("nobody"));
        Some(account.expect("root needs an account named postgres or nobody to run PostgreSQL"))
    }

    fn named(name: &str) -> Option<Self> {
        let uid = ask_id(&["-u", name])?;
        let gid = ask_id(&["-g", name])?;
        Some(Self { uid, gid })
    }
}

fn ask_id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn find_programs() -> Option<PathBuf> {
    let named = env::var_os("PG_BIN").unwrap_or_default();
    let in_path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps the server programs out of PATH, a folder for each version.
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    debian.sort_unstable();
    let folder = env::split_paths(&named)
        .chain(env::split_paths(&in_path))
        .chain(debian.into_iter().rev())
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())?;
    // A link to one program need not have the others beside it.
    let server = folder.join("postgres").canonicalize().ok()?;
    Some(server.parent()?.to_owned())
}

/// Under the temporary folder, since other accounts cannot enter root's home.
fn make_folder(account: Option<Account>) -> PathBuf {
    let mut number = 0;
    let folder = loop {
        let folder = env::temp_dir().join(format!("mirrory-postgres-{}-{number}", process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => break folder,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => panic!("{} cannot be made: {error}", folder.display()),
        }
    };
    if let Some(Account { uid, gid }) = account {
        chown(&folder, Some(uid), Some(gid)).expect("root may change an owner");
    }
    folder
}

/// The free ones of [`PORTS`]; each process begins at another one, and none is given out twice: a
/// cluster that is stopped for a while comes back to its own.
pub fn free_ports() -> impl Iterator<Item = u16> {
    static GIVEN_OUT: AtomicUsize = AtomicUsize::new(0);
    let next = || {
        let number = process::id() as usize + GIVEN_OUT.fetch_add(1, Ordering::Relaxed);
        PORTS.start + u16::try_from(number % PORTS.len()).expect("there are fewer ports")
    };
    iter::repeat_with(next)
        .take(PORTS.len())
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}
