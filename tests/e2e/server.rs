//! A running server, and how it is watched and ended.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    harness::{PATIENCE, POLL},
};

/// A running server; killed when dropped.
pub struct Server {
    pub process: Child,
    pub stdout_file: PathBuf,
    pub stderr_file: PathBuf,
    /// Where it listens; known when it is ready.
    pub address: SocketAddr,
}

impl Server {
    pub fn stdout(&self) -> String {
        read(&self.stdout_file)
    }

    pub fn stderr(&self) -> String {
        read(&self.stderr_file)
    }

    /// Waits until it has said all and takes requests.
    pub async fn ready(&mut self) {
        self.address = self.until("its address", Self::printed_address).await;
        self.wait_for_status("/readyz", 200, PATIENCE).await;
    }

    fn printed_address(&mut self) -> Option<SocketAddr> {
        let stdout = self.stdout();
        // One that prints for people ends with a command or a sentence.
        let is_whole =
            serde_json::from_str::<Value>(&stdout).is_ok() || stdout.ends_with(['\n', '\r']);
        let rest = stdout.split("http://").nth(1).filter(|_| is_whole)?;
        let end = rest.find(|end: char| end != '.' && end != ':' && !end.is_ascii_digit())?;
        rest[..end].parse().ok()
    }

    /// Asks again and again until the status is there.
    pub async fn wait_for_status(&self, path: &str, status: u16, patience: Duration) -> Duration {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < patience {
            last = self.client().get(path).await.ok();
            if last.as_ref().is_some_and(|answer| answer.status == status) {
                return began.elapsed();
            }
            sleep(POLL).await;
        }
        panic!(
            "{path} is not {status} after {patience:?} but {last:?}: {}",
            self.stderr()
        );
    }

    /// Waits until this stands in its log.
    pub async fn wait_for_line(&mut self, text: &str) {
        let has_it = |server: &mut Self| server.stderr().contains(text).then_some(());
        self.until(text, has_it).await;
    }

    async fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("ended with {status} before {what}: {}", self.stderr());
            }
            sleep(POLL).await;
        }
        panic!("{what} does not come: {}{}", self.stdout(), self.stderr());
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Sends `TERM`, `INT`, … through the shell, which has `kill` built in.
    pub fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", r#"kill -"$0" "$1""#, name, &pid])
            .status();
        assert!(sent.expect("sh starts").success(), "kill -{name} {pid}");
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for its end and returns its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            sleep(POLL).await;
        }
        panic!("the server does not end: {}", self.stderr());
    }

    /// Ends it as a supervisor does.
    pub async fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.ended().await, Some(0), "{}", self.stderr());
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()
}
