//! Places to run the program in, and the commands that are given there.

use std::{
    env,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{postgres::Cluster, server::Server};

pub const MASTER_KEY: &str = "bWFzdGVyIGtleSBvZiB0aGUgZW5kLXRvLWVuZCB0ZXM=";

/// Far beyond what anything here takes, for machines under load.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const POLL: Duration = Duration::from_millis(20);

/// Makes one test for each store of each of these functions.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::harness::Place::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let cluster = $crate::postgres::shared();
                super::$name($crate::harness::Place::postgres(cluster).await).await;
            })*
        }
    };
}
pub(crate) use on_both_stores;

/// A folder, empty at first, and an environment: what a server and the commands beside it share.
pub struct Place {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    prelude: Option<&'static str>,
    runs: AtomicU32,
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// As on a fresh machine, but on any free port, and quick to end.
    pub fn sqlite() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("mirrory-e2e-{}-{number}", process::id());
            let folder = env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => break folder,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{} cannot be made: {error}", folder.display()),
            }
        };
        for inner in ["work", "said"] {
            fs::create_dir(folder.join(inner)).unwrap();
        }
        let place = Self {
            folder,
            environment: Vec::new(),
            prelude: None,
            runs: AtomicU32::new(0),
        };
        // A server that is to end waits half of it for requests, which do not come here.
        let place = place.with("MIRRORY__SERVER__DRAIN_SECONDS", "1");
        place.with("MIRRORY__SERVER__LISTEN", "127.0.0.1:0")
    }

    /// With an empty database of this cluster.
    pub async fn postgres(cluster: &Cluster) -> Self {
        Self::on_database(&cluster.create_database().await)
    }

    /// With this PostgreSQL database.
    pub fn on_database(url: &str) -> Self {
        Self::sqlite()
            .with("DATABASE_URL", url)
            .with("MIRRORY__SECRETS__MASTER_KEY", MASTER_KEY)
    }

    /// Sets a variable of the environment.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a variable of the environment.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Where a shell has done this before it becomes the program, as `ulimit -n 256`.
    pub const fn after(mut self, prelude: &'static str) -> Self {
        self.prelude = Some(prelude);
        self
    }

    /// The value of a variable of the environment.
    pub fn setting(&self, name: &str) -> &str {
        let mut settings = self.environment.iter();
        let (_, value) = settings.find(|(known, _)| known == name).unwrap();
        value
    }

    /// Whether it has an embedded store.
    pub fn is_embedded(&self) -> bool {
        let mut settings = self.environment.iter();
        settings.all(|(name, _)| name != "DATABASE_URL")
    }

    /// Where servers and commands run.
    pub fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// The program with these arguments, not yet running.
    pub fn program<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let program = env::var_os("MIRRORY_BIN");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_mirrory").into());
        let mut command = match self.prelude {
            None => Command::new(program),
            Some(prelude) => {
                let mut shell = Command::new("/bin/sh");
                let script = format!("{prelude} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script]).arg(program);
                shell
            }
        };
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.work())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Done {
        self.finish(self.program(arguments))
    }

    /// Runs a command with `--json`, which must succeed, and returns its one document.
    pub fn ask<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        let mut command = self.program(arguments);
        command.arg("--json");
        let done = self.finish(command);
        assert_eq!(done.code, Some(0), "{done:?}");
        done.document()
    }

    pub fn finish(&self, mut command: Command) -> Done {
        let [stdout, stderr] = self.redirect(&mut command);
        let status = command.status().expect("the program starts");
        Done {
            code: status.code(),
            stdout: fs::read_to_string(stdout).unwrap(),
            stderr: fs::read_to_string(stderr).unwrap(),
        }
    }

    /// Files, so that nothing blocks and all that was said can be read again at the end.
    fn redirect(&self, command: &mut Command) -> [PathBuf; 2] {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let files = ["stdout", "stderr"].map(|name| {
            let file = format!("{run:03}.{name}");
            self.folder.join("said").join(file)
        });
        command.stdout(File::create(&files[0]).unwrap());
        command.stderr(File::create(&files[1]).unwrap());
        files
    }

    /// Every file of output that was written here, in the order of the runs.
    pub fn said(&self) -> Vec<(PathBuf, String)> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder.join("said"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let read = |file: PathBuf| {
            let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
            (file, text)
        };
        files.into_iter().map(read).collect()
    }

    /// Starts `mirrory serve --json`, which may take any time or fail.
    pub fn spawn(&self) -> Server {
        self.spawn_with(["serve", "--json"])
    }

    pub fn spawn_with<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Server {
        self.spawn_command(self.program(arguments))
    }

    /// Starts a command that becomes a server.
    pub fn spawn_command(&self, mut command: Command) -> Server {
        let [stdout, stderr] = self.redirect(&mut command);
        Server {
            process: command.spawn().expect("the program starts"),
            stdout_file: stdout,
            stderr_file: stderr,
            address: (Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// Starts a server and waits until it is ready.
    pub async fn start(&self) -> Server {
        let mut server = self.spawn();
        server.ready().await;
        server
    }

    /// Makes a site on this plan.
    pub fn create_site(&self, plan: &str) -> Site {
        let site = self.ask(["site", "create", "--name", "Shop", "--plan", plan]);
        Site {
            id: site["id"].as_str().unwrap().to_owned(),
            secret: site["proxy_secret"].as_str().unwrap().to_owned(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Done {
    /// The one JSON document on stdout.
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one document: {error}: {self:?}"))
    }

    /// The one line on stderr that says why the command failed.
    pub fn complaint(&self) -> &str {
        let line = self.stderr.trim_end();
        assert!(!line.is_empty() && !line.contains('\n'), "{self:?}");
        line
    }
}

/// A site and its proxy secret.
pub struct Site {
    pub id: String,
    pub secret: String,
}

/// An address that was free a moment ago, for what must know its address beforehand.
pub fn free_address() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}
