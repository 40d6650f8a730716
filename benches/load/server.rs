//! A server's process: how it is started, and how long that takes.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mirrory::types::clock::Clock;

use crate::Outcome;

/// Long beyond what a start takes.
const START_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// A running server; killed when dropped.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    /// Counts from the start of the process.
    clock: Clock,
}

impl Server {
    /// Starts a server on an address where nobody else is.
    pub fn spawn(command: impl FnOnce(SocketAddr) -> Command) -> Outcome<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = command(address);
        let clock = Clock::system();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Self {
            address,
            process,
            clock,
        })
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until `/readyz` is answered 200; how long that was after the start.
    pub fn await_ready(&mut self) -> Outcome<Duration> {
        loop {
            let is_ready = status_of(self.address, "/readyz").is_ok_and(|status| status == "200");
            let waited = Duration::from_micros(self.clock.monotonic().as_micros());
            if is_ready {
                return Ok(waited);
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("a server ended at its start: {status}").into());
            }
            if waited > START_PATIENCE {
                return Err("a server does not get ready".into());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn status_of(address: SocketAddr, path: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(START_PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1);
    Ok(status.ok_or("no answer in HTTP")?.to_owned())
}
