//! The end: SIGTERM and SIGINT let what was begun finish, and lose nothing that is on its way.

use std::{fs::File, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    harness::{PATIENCE, Place, Site, free_address, on_both_stores},
    server::Server,
};

on_both_stores! {
    sigterm_lets_a_request_in_flight_finish_and_ends_with_0,
    sigint_does_the_same,
    until_it_refuses_connections_each_brings_one_more_request,
    a_second_signal_ends_it_at_once,
    what_was_counted_is_written_before_the_end,
}

async fn sigterm_lets_a_request_in_flight_finish_and_ends_with_0(place: Place) {
    drain_with("TERM", place).await;
}

async fn sigint_does_the_same(place: Place) {
    drain_with("INT", place).await;
}

/// A terminal that is closed, and what nginx takes for the same.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_and_sigquit_do_the_same() {
    for signal in ["HUP", "QUIT"] {
        drain_with(signal, Place::sqlite()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_are_sent_by_habit_end_nothing_and_leave_a_line() {
    let place = Place::sqlite();
    let mut server = place.start().await;
    for name in ["USR1", "USR2", "ALRM"] {
        server.signal(name);
        let line = format!("SIG{name}: ignored");
        server.wait_for_line(&line).await;
    }
    server.signal("PIPE");
    server.client().get("/livez").await.unwrap().ok();
    assert!(server.is_running());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_is_not_heard_where_it_is_to_be_ignored() {
    let place = Place::sqlite().after("trap '' HUP");
    let mut server = place.start().await;
    server.signal("HUP");
    server.signal("USR1");
    server.wait_for_line("SIGUSR1: ignored").await;
    assert!(server.is_running());
    server.client().get("/readyz").await.unwrap().ok();
}

/// A closing terminal sends several, and systemd one after its SIGTERM.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_does_not_cut_a_drain_short() {
    let place = Place::sqlite().with("MIRRORY__SERVER__DRAIN_SECONDS", "8");
    let mut server = place.start().await;
    let site = place.create_site("free");
    let (mut stream, last) = unfinished_request(&server, &site).await;
    server.signal("TERM");
    server.wait_for_status("/readyz", 503, PATIENCE).await;
    server.signal("HUP");
    server.wait_for_line("SIGHUP: ignored").await;
    stream.write_all(&[last]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
}

/// A request to generate a token of which the last byte is still to come.
async fn unfinished_request(server: &Server, site: &Site) -> (TcpStream, u8) {
    let body = json!({"wp_user_id": 7, "proxy_secret": site.secret}).to_string();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /mirrory/generate-token HTTP/1.1\r\nHost: here\r\n\
         Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The service asks for the body when it has begun to read: from then on it is in flight.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (last, most) = body.as_bytes().split_last().unwrap();
    stream.write_all(most).await.unwrap();
    (stream, *last)
}

async fn wait_until_refused(server: &Server) {
    let began = Instant::now();
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "new connections are accepted");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn drain_with(signal: &str, place: Place) {
    let place = place.with("MIRRORY__SERVER__DRAIN_SECONDS", "4");
    let mut server = place.start().await;
    let site = place.create_site("free");
    let (mut stream, last) = unfinished_request(&server, &site).await;

    server.signal(signal);
    wait_until_refused(&server).await;
    assert!(server.is_running(), "a request is still in flight");
    stream.write_all(&[last]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());

    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let issued: serde_json::Value = serde_json::from_str(body).unwrap();
    let again = place.start().await;
    let token = issued["token"].as_str().unwrap();
    assert!(again.client().validate(token, "machine").await.is_valid());
}

const PROBE: &[u8] = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n";

/// A connection on which one request was answered.
async fn kept_alive(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(PROBE).await.unwrap();
    let mut answer = Vec::new();
    while answer.last() != Some(&b'}') {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
    stream
}

/// A load balancer sends requests until it has learned of the end, along the connections that it has
/// and new ones.
async fn until_it_refuses_connections_each_brings_one_more_request(place: Place) {
    let place = place.with("MIRRORY__SERVER__DRAIN_SECONDS", "60");
    let mut server = place.start().await;
    let mut streams = [kept_alive(&server).await, kept_alive(&server).await];
    server.signal("TERM");
    server.wait_for_status("/readyz", 503, PATIENCE).await;
    let draining = server.client().get("/readyz").await.unwrap();
    assert_eq!(draining.field("status"), "draining");
    assert_eq!(draining.header("connection"), Some("close"));
    for stream in &mut streams {
        assert!(server.is_running(), "somebody is still connected");
        stream.write_all(PROBE).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
}

/// One that has brought nothing for half of the time does not hold up the end.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_half_of_the_time() {
    let place = Place::sqlite().with("MIRRORY__SERVER__DRAIN_SECONDS", "4");
    let mut server = place.start().await;
    let _idle = kept_alive(&server).await;
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(!server.stderr().contains("cut off"), "{}", server.stderr());
}

async fn a_second_signal_ends_it_at_once(place: Place) {
    let place = place.with("MIRRORY__SERVER__DRAIN_SECONDS", "3600");
    let mut server = place.start().await;
    let mut idle = server.client();
    idle.get("/livez").await.unwrap().ok();
    server.signal("INT");
    server.wait_for_status("/readyz", 503, PATIENCE).await;
    server.signal("INT");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
}

async fn what_was_counted_is_written_before_the_end(place: Place) {
    let server = place.start().await;
    let site = place.create_site("developer");
    let mut client = server.client();
    for user in 1..=3 {
        let token = client.generate(&site.secret, user).await.ok();
        let verdict = client.validate(&token.field("token"), "machine").await;
        assert!(verdict.is_valid());
    }
    server.stop().await;
    let usage = place.ask(["usage", &site.id]);
    assert_eq!(usage["day"]["used"], 6);
    assert_eq!(usage["history"][0]["issued"], 3, "{usage}");
    assert_eq!(usage["history"][0]["validated"], 3, "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_outlasts_the_drain_is_cut_off() {
    let place = Place::sqlite().with("MIRRORY__SERVER__DRAIN_SECONDS", "1");
    let mut server = place.start().await;
    let site = place.create_site("free");
    let (mut stream, _last) = unfinished_request(&server, &site).await;
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
    // Its body would be waited for ten seconds.
    assert!(began.elapsed() < Duration::from_secs(8));
    let mut answer = String::new();
    let _was_reset = stream.read_to_string(&mut answer).await;
    assert!(!answer.contains("HTTP/1.1 200 "), "{answer}");
    assert!(server.stderr().contains("cut off"), "{}", server.stderr());
}

/// A server that cannot go on with its start, since another process holds the store's lock.
async fn held_up(place: &Place) -> (Server, File) {
    let folder = place.work().join("data");
    std::fs::create_dir(&folder).unwrap();
    let lock = File::create(folder.join("mirrory.db.lock")).unwrap();
    lock.lock().unwrap();
    let mut server = place.spawn();
    server.address = place.setting("MIRRORY__SERVER__LISTEN").parse().unwrap();
    server.wait_for_status("/livez", 200, PATIENCE).await;
    (server, lock)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_starts_it_lives_and_says_that_it_is_not_ready() {
    let place = Place::sqlite()
        .with("MIRRORY__SERVER__LISTEN", &free_address())
        .with("MIRRORY__SERVER__REQUEST_TIMEOUT_SECONDS", "1");
    let (mut server, lock) = held_up(&place).await;
    let mut client = server.client();
    let ready = client.get("/readyz").await.unwrap();
    assert_eq!(
        (ready.status, ready.field("status").as_str()),
        (503, "starting")
    );
    let refused = client.validate("token", "machine").await;
    assert_eq!(
        (refused.status, refused.field("error").as_str()),
        (503, "overloaded")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Its body may be unread, and the connection then ends.
    let mut client = server.client();
    let begun = Instant::now();
    while !server.stderr().contains("waiting for another instance") {
        assert!(begun.elapsed() < PATIENCE, "{}", server.stderr());
        client.get("/livez").await.unwrap().ok();
    }
    let mut waiting = server.client();
    let waiting = waiting.reason("token", "machine");
    let (reason, ()) = tokio::join!(waiting, async {
        client.get("/livez").await.unwrap().ok();
        drop(lock);
    });
    assert_eq!(reason, "malformed");
    // A connection from before is served, too.
    assert_eq!(client.reason("token", "machine").await, "malformed");
    server.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_also_while_it_starts() {
    let place = Place::sqlite().with("MIRRORY__SERVER__LISTEN", &free_address());
    let (mut server, _lock) = held_up(&place).await;
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
    assert_eq!(server.stdout(), "");
}
