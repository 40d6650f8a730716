//! Programs of others that stand between the service and its store, or its callers.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread::sleep,
};

use std::net::TcpStream;

use tokio::time::Instant;

use crate::{
    harness::{PATIENCE, POLL},
    postgres::Cluster,
};

/// Where a program lies that Debian keeps out of the path of ordinary users.
pub fn find(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut files = folders.map(|folder| folder.join(name));
    let found = files.find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run `tests/run`, which installs it"))
}

/// A running program; killed when dropped.
pub struct Program(Child);

impl Program {
    /// Starts a program, and waits until it listens on a port.
    pub fn start(mut command: Command, port: u16, log: &Path) -> Self {
        let mut program = Self(command.spawn().expect("the program starts"));
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let status = program.0.try_wait().unwrap();
            let said = || fs::read_to_string(log).unwrap_or_default();
            assert!(status.is_none(), "{command:?} ended: {}", said());
            assert!(began.elapsed() < PATIENCE, "{command:?}: {}", said());
            sleep(POLL);
        }
        program
    }
}

/// Starts nginx with these servers, of which one listens on this port, beside a cluster.
pub fn nginx(cluster: &Cluster, port: u16, servers: &str) -> Program {
    let log = cluster.write(&format!("nginx{port}.log"), "");
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {kind}{port};\n"))
        .concat();
    let settings = cluster.write(
        &format!("nginx{port}.conf"),
        &format!(
            "daemon off;\nmaster_process off;\npid nginx{port}.pid;\nevents {{}}\n\
             http {{\naccess_log off;\nkeepalive_requests 1000000;\n{folders}{servers}}}\n"
        ),
    );
    let mut command = cluster.beside(&find("nginx"));
    command.arg("-p").arg(settings.parent().unwrap());
    command.arg("-c").arg(&settings).args(["-e", "stderr"]);
    command.stderr(fs::File::create(&log).unwrap());
    Program::start(command, port, &log)
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
