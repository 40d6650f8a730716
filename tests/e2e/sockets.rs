//! HTTP as it comes over a real socket: slow, too much at once, garbled, or version 2.

use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    harness::{PATIENCE, Place},
    server::Server,
};

/// Sends bytes and reads until the service closes the connection.
async fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The service may close before it has read all.
    let _was_reset = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _was_reset = timeout(PATIENCE, reading).await.expect("it closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads answers until there are `count` of them.
async fn read_answers(stream: &mut TcpStream, count: usize) -> String {
    let mut answers = String::new();
    let mut buffer = [0; 4096];
    while answers.matches("HTTP/1.1 ").count() < count || !answers.ends_with('}') {
        let reading = timeout(PATIENCE, stream.read(&mut buffer));
        let length = reading.await.expect("an answer comes").unwrap();
        assert!(length > 0, "closed after {answers}");
        answers.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    answers
}

fn problem(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/problem+json"),
        "{answer}"
    );
    assert!(head.contains("x-request-id: "), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_in_is_answered_408() {
    let place = Place::sqlite().with("MIRRORY__SERVER__BODY_TIMEOUT_SECONDS", "1");
    let server = place.start().await;
    let request = "POST /mirrory/validate-token HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
                   Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"tok";
    let answer = exchange(&server, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(problem(&answer)["error"], "request_timeout");
    server.client().get("/livez").await.unwrap().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_hold_nothing_that_others_need() {
    let place = Place::sqlite().with("MIRRORY__SERVER__CONCURRENT_REQUESTS", "1");
    let server = place.start().await;
    let request = "POST /mirrory/validate-token HTTP/1.1\r\nHost: here\r\n\
                   Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"tok";
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..5 {
        assert_eq!(server.client().reason("no token", "m").await, "malformed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_answered_413_with_or_without_its_length() {
    let server_place = Place::sqlite();
    let server = server_place.start().await;
    let head = "POST /mirrory/generate-token HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
                Content-Type: application/json\r\n";
    let large = " ".repeat(16 * 1024 + 1);
    let announced = format!("{head}Content-Length: {}\r\n\r\n{large}", large.len());
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    for request in [announced, chunked] {
        let answer = exchange(&server, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert_eq!(problem(&answer)["error"], "body_too_large");
    }
    // One whose length alone is too large is refused before it is asked to send it.
    let expecting = format!("{head}Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
    let answer = exchange(&server, expecting.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let place = Place::sqlite();
    let server = place.start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = |id| format!("GET /livez HTTP/1.1\r\nHost: here\r\nx-request-id: {id}\r\n\r\n");
    let requests: String = ["first", "second", "third"].map(request).concat();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let answers = read_answers(&mut stream, 3).await;
    let places: Vec<_> = ["first", "second", "third"]
        .iter()
        .map(|id| answers.find(&format!("x-request-id: {id}")))
        .collect();
    assert!(places.iter().all(Option::is_some), "{answers}");
    assert!(places.is_sorted(), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_with_prior_knowledge_works() {
    let place = Place::sqlite();
    let server = place.start().await;
    let site = place.create_site("free");
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(driver);
    let body = json!({"wp_user_id": 1, "proxy_secret": site.secret}).to_string();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/mirrory/generate-token", server.address))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let issued: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(issued["user_id"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_with_100_continue() {
    let place = Place::sqlite();
    let server = place.start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = json!({"token": "no.jwt.at-all", "machine_id": "m"}).to_string();
    let head = format!(
        "POST /mirrory/validate-token HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = read_answers(&mut stream, 1).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"malformed\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_hang_ups_do_not_hurt_the_server() {
    let place = Place::sqlite();
    let mut server = place.start().await;
    let long_head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let garbage: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: here\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00",
        long_head.as_bytes(),
        many_headers.as_bytes(),
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _was_reset = stream.write_all(bytes).await;
        let _was_reset = stream.shutdown().await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _was_reset = timeout(PATIENCE, reading).await.expect("it closes");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            !answer.contains(" 500 ") && !answer.contains(" 200 "),
            "{answer}"
        );
    }
    // Hung up in the middle of a head, and of a body.
    for begun in [
        "GET /livez HT",
        "POST /mirrory/validate-token HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
    }
    server.client().get("/livez").await.unwrap().ok();
    assert!(server.is_running());
    let log = server.stderr();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_keep_others_from_being_served() {
    let place = Place::sqlite().with("MIRRORY__SERVER__DRAIN_SECONDS", "1");
    let server = place.start().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        idle.push(stream);
    }
    let answer = server.client().get("/readyz").await.unwrap().ok();
    assert!(answer.took < Duration::from_secs(2), "{answer:?}");
    // And they do not keep it from ending.
    server.stop().await;
}

/// Its clients may come back to a connection that they keep, but not sit on one without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_never_asks_is_closed_and_one_that_asked_is_kept() {
    let place = Place::sqlite();
    let server = place.start().await;
    let request = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n";
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(request).await.unwrap();
    read_answers(&mut kept, 1).await;
    let ends = ["", "PRI * HT", "GET /livez HTTP/1.1\r\n"].map(|begun| {
        let server = &server;
        async move {
            let began = Instant::now();
            let answer = exchange(server, begun.as_bytes()).await;
            assert_eq!(answer, "", "after {begun:?}");
            began.elapsed()
        }
    });
    for waited in join_all(ends).await {
        assert!(waited > Duration::from_secs(9), "after {waited:?}");
    }
    kept.write_all(request).await.unwrap();
    read_answers(&mut kept, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_once_and_properly_whom_it_is_for() {
    let place = Place::sqlite();
    let server = place.start().await;
    let refused = [
        "GET /livez HTTP/1.1\r\n\r\n",
        "GET http://here/livez HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: here\r\nHost: here\r\n\r\n",
        "GET http://here/livez HTTP/1.1\r\nHost: here\r\nHost: there\r\n\r\n",
        "GET /livez HTTP/1.0\r\nHost: here\r\nHost: here\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: he re\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
        "POST /mirrory/validate-token HTTP/1.1\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{}",
        "DELETE /nowhere HTTP/1.1\r\n\r\n",
    ];
    for request in refused {
        let closing = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let answer = exchange(&server, closing.as_bytes()).await;
        assert!(
            answer.contains(" 400 Bad Request\r\n"),
            "{request}: {answer}"
        );
        assert_eq!(problem(&answer)["error"], "bad_request");
    }
    let taken = [
        "GET /livez HTTP/1.0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n",
        "GET http://here/livez HTTP/1.1\r\nHost: there\r\nConnection: close\r\n\r\n",
    ];
    for request in taken {
        let answer = exchange(&server, request.as_bytes()).await;
        assert!(answer.contains(" 200 OK\r\n"), "{request}: {answer}");
    }
}

/// A request that is answered before its body was read, or could be. It has no word on the connection.
fn head(method: &str, path: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// As many clients do, it sends all before it reads anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_before_the_body_is_seen_and_says_that_it_closes() {
    let place = Place::sqlite().with("MIRRORY__SERVER__BODY_TIMEOUT_SECONDS", "1");
    let server = place.start().await;
    let answered = [
        ("POST", "/mirrory/generate-token", 413),
        ("POST", "/nowhere", 404),
        ("PUT", "/livez", 405),
        ("PUT", "/mirrory/validate-token", 405),
        ("POST", "/api/v1/sites", 401),
        ("GET", "/livez", 200),
    ];
    for (method, path, status) in answered {
        for length in [20_000, 200_000, 2_000_000] {
            let request = [head(method, path, length).as_bytes(), &vec![b' '; length]].concat();
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let sent = stream.write_all(&request).await;
            sent.unwrap_or_else(|error| panic!("{method} {path} {length}: {error}"));
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer).await;
            read.unwrap_or_else(|error| panic!("{method} {path} {length}: {error}"));
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert!(answer.ends_with('}'), "{answer}");
        }
    }
    // One whose body does not come.
    for (request, status) in [
        (head("POST", "/mirrory/generate-token", 100), 408),
        (head("POST", "/nowhere", 100), 404),
        (
            head("POST", "/nowhere", 100).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
            404,
        ),
        (
            head("POST", "/mirrory/generate-token", 10)
                .replace("Content-Length: 10", "Transfer-Encoding: chunked"),
            408,
        ),
    ] {
        let answer = exchange(&server, request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_where_the_body_was_read() {
    let place = Place::sqlite();
    let server = place.start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let whole = [head("POST", "/mirrory/generate-token", 2), "{}".to_owned()].concat();
    let chunked = head("POST", "/mirrory/generate-token", 2)
        .replace("Content-Length: 2", "Transfer-Encoding: chunked");
    let bytewise = [&chunked, "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"].concat();
    let none = head("GET", "/livez", 0);
    for (request, status) in [(whole, 422), (bytewise, 422), (none, 200)] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answers(&mut stream, 1).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}
