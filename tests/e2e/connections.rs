//! More connections than there are files or places for them.

use std::{net::SocketAddr, time::Duration};

use futures_util::FutureExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    harness::{PATIENCE, Place},
    server::Server,
};

const PROBE: &[u8] = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n";

/// This process has the other ends of the connections.
fn take_all_the_files_there_are() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// A connection from 127.0.0.`host`, on which nothing is sent.
async fn idle(server: &Server, host: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::from(([127, 0, 0, host], 0)))
        .unwrap();
    socket.connect(server.address).await.unwrap()
}

/// Whether the service has closed it, as far as is known by now.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).now_or_never().is_some()
}

async fn is_closed_soon(stream: &mut TcpStream) {
    let mut byte = [0];
    let reading = timeout(PATIENCE, stream.read(&mut byte));
    let _was_reset = reading.await.expect("it is closed");
}

async fn is_alive(server: &Server) {
    for host in [1, 99] {
        let mut stream = idle(server, host).await;
        stream.write_all(PROBE).await.unwrap();
        let mut answer = [0; 15];
        let reading = timeout(Duration::from_secs(5), stream.read_exact(&mut answer));
        reading.await.expect("an answer in time").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_client_shut_nobody_out() {
    take_all_the_files_there_are();
    let place = Place::sqlite().after("ulimit -n 1024");
    let mut server = place.start().await;
    let mut held = Vec::new();
    for _ in 0..1020 {
        held.push(idle(&server, 1).await);
        assert!(!is_closed(held.last_mut().unwrap()));
    }
    is_alive(&server).await;
    is_closed_soon(&mut held[0]).await;
    is_closed_soon(&mut held[1020 - 512]).await;
    let open = held
        .iter_mut()
        .rev()
        .take(511)
        .filter_map(|stream| (!is_closed(stream)).then_some(()));
    assert_eq!(open.count(), 511);
    assert!(server.is_running());
    assert!(!server.stderr().contains("ERROR"), "{}", server.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_many_clients_shut_nobody_out() {
    take_all_the_files_there_are();
    let place = Place::sqlite().after("ulimit -n 1024");
    let mut server = place.start().await;
    let mut held = Vec::new();
    for number in 0..1500_u16 {
        held.push(idle(&server, (number % 10) as u8 + 2).await);
    }
    is_alive(&server).await;
    is_closed_soon(&mut held[0]).await;
    is_closed_soon(&mut held[1500 - 819]).await;
    assert!(!is_closed(held.last_mut().unwrap()));
    assert!(server.is_running());
    let log = server.stderr();
    assert!(!log.contains("ERROR"), "{log}");
    assert_eq!(log.matches("connections are short").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_being_answered_is_not_closed_for_another() {
    let place = Place::sqlite().with("MIRRORY__SERVER__MAX_CONNECTIONS", "10");
    let server = place.start().await;
    let mut busy = Vec::new();
    for _ in 0..5 {
        let mut stream = idle(&server, 1).await;
        let head = "POST /mirrory/validate-token HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\n\
                    Content-Type: application/json\r\nContent-Length: 2\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // From here on it is worked on.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        busy.push(stream);
    }
    let mut held = Vec::new();
    for number in 0..50 {
        held.push(idle(&server, number + 1).await);
    }
    is_alive(&server).await;
    is_closed_soon(&mut held[0]).await;
    for stream in &mut busy {
        stream.write_all(b"{}").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 422");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_files_that_is_too_low_is_said() {
    let place = Place::sqlite()
        .with("MIRRORY__SERVER__MAX_CONNECTIONS", "5000")
        .after("ulimit -n 512");
    let server = place.start().await;
    let log = server.stderr();
    assert!(log.contains("the limit of open files is too low"), "{log}");
    is_alive(&server).await;
    let checks = place.ask(["doctor"]);
    let is_of_files = |check: &&Value| check["check"] == "open_files";
    let check = checks.as_array().unwrap().iter().find(is_of_files).unwrap();
    assert_eq!(check["status"], "warning", "{check}");
    assert!(check["detail"].as_str().unwrap().contains("512"), "{check}");
}

/// The soft limit is there for programs that cannot count to more than 1024.
#[tokio::test(flavor = "multi_thread")]
async fn a_soft_limit_is_raised_to_what_is_configured() {
    let place = Place::sqlite()
        .with("MIRRORY__SERVER__MAX_CONNECTIONS", "600")
        .after("ulimit -S -n 256");
    let server = place.start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process.id())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = files.unwrap().split_whitespace().nth(3).unwrap();
    assert!(
        (601..1024).contains(&soft.parse::<u32>().unwrap()),
        "{files:?}"
    );
    let log = server.stderr();
    assert!(!log.contains("limit of open files"), "{log}");
}
