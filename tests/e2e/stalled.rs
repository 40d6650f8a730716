//! Clients that ask and do not take what they are answered: what they cost, and for how long.

use std::{env, fs, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::{
    harness::{PATIENCE, Place},
    raw_http2::{DATA, GOAWAY, HEADERS, RST_STREAM, ZeroWindow},
    server::Server,
};

/// What a connection that takes nothing may cost: a thousand of them, with what the service takes
/// when it is idle, less than 80 MiB.
const KIB_A_CONNECTION: u64 = 56;

/// By how much the memory of an idle server varies.
const VARIATION_KIB: u64 = 4 * 1024;

/// What is resident and the program's own.
fn memory_kib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let (number, _) = line.unwrap().trim().split_once(' ').unwrap();
    number.parse().unwrap()
}

fn assert_cheap(server: &Server, idle: u64, path: &str) {
    let memory = memory_kib(server);
    let connections = connections();
    println!("{path}: {idle} KiB idle, {memory} KiB with {connections}");
    let most = idle + VARIATION_KIB + connections * KIB_A_CONNECTION;
    assert!(
        memory <= most,
        "{path}: {memory} KiB of {most}, {idle} idle"
    );
}

/// How many connections: in a run for the record, a thousand.
fn connections() -> u64 {
    env::var("MIRRORY_TESTS_STALLED_CONNECTIONS").map_or(100, |number| number.parse().unwrap())
}

/// A connection that asks 200 times without opening a window, and how many answers wait for that. The
/// others are refused.
async fn ask_without_a_window(server: &Server, path: &str) -> (ZeroWindow, u32) {
    let mut connection = ZeroWindow::connect(server.address).await;
    for number in 0..200 {
        connection.get(2 * number + 1, path).await;
    }
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 200 {
        let frame = connection.next().await.expect("it is not closed");
        match frame.kind {
            HEADERS => answered += 1,
            RST_STREAM => refused += 1,
            GOAWAY | DATA => panic!("{frame:?}"),
            _ => {}
        }
    }
    (connection, answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_do_not_fill_the_memory() {
    let place = Place::sqlite().with("MIRRORY__LIMITS__CONNECTIONS_PER_ADDRESS", "0");
    for path in ["/openapi.json", "/docs/swagger-ui-bundle.js", "/livez"] {
        let server = place.start().await;
        server.client().get("/openapi.json").await.unwrap().ok();
        let idle = memory_kib(&server);
        let mut held = Vec::new();
        for _ in 0..connections() {
            held.push(ask_without_a_window(&server, path).await);
        }
        assert!(held.iter().all(|(_, answered)| *answered > 0));
        assert_cheap(&server, idle, path);
        server.client().get("/livez").await.unwrap().ok();
    }
}

/// A client of HTTP/1.1 whose system takes next to nothing for it.
async fn ask_and_take_nothing(server: &Server, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    // One answer may fit into what the systems take.
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    stream
        .write_all(request.repeat(100).as_bytes())
        .await
        .unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_in_http_1_1_does_not_fill_the_memory_either() {
    let place = Place::sqlite().with("MIRRORY__LIMITS__CONNECTIONS_PER_ADDRESS", "0");
    let server = place.start().await;
    let path = "/docs/swagger-ui-bundle.js";
    let mut whole = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    whole.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    whole.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 1 << 20, "{}", answer.len());
    let idle = memory_kib(&server);
    let mut held = Vec::new();
    for _ in 0..connections() {
        held.push(ask_and_take_nothing(&server, path).await);
    }
    for stream in &mut held {
        timeout(PATIENCE, stream.readable()).await.unwrap().unwrap();
    }
    server.client().get("/livez").await.unwrap().ok();
    assert_cheap(&server, idle, path);
}

/// In HTTP/2 each answer by itself, in HTTP/1.1 the connection; whoever goes on is not concerned.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_is_given_up_after_30_seconds() {
    let place = Place::sqlite().with("MIRRORY__SERVER__REQUEST_TIMEOUT_SECONDS", "1");
    let server = place.start().await;
    let began = Instant::now();
    let in_http_2 = async {
        let (mut connection, answered) = ask_without_a_window(&server, "/openapi.json").await;
        for _ in 0..answered {
            let frame = connection.next().await.expect("it is not closed");
            assert_eq!(frame.kind, RST_STREAM, "{frame:?}");
        }
        // The connection itself goes on.
        connection.get(401, "/livez").await;
        let frame = connection.next().await.unwrap();
        assert_eq!((frame.kind, frame.stream), (HEADERS, 401));
        began.elapsed()
    };
    let in_http_1 = async {
        let stream = ask_and_take_nothing(&server, "/docs/swagger-ui-bundle.js").await;
        let (mut ours, mut theirs) = stream.into_split();
        // Only the one who sends learns of the end, while there is more to read.
        while theirs.write_all(b"GET / HTTP/1.1\r\n").await.is_ok() {
            assert!(began.elapsed() < 2 * PATIENCE, "it is closed");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let _was_reset = ours.read(&mut [0; 1]).await;
        began.elapsed()
    };
    let (of_streams, of_connection) = tokio::join!(in_http_2, in_http_1);
    for took in [of_streams, of_connection] {
        let expected = Duration::from_secs(29)..Duration::from_secs(50);
        assert!(expected.contains(&took), "{took:?}");
    }
    server.client().get("/livez").await.unwrap().ok();
}
