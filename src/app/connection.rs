//! One connection: its requests, its time-outs, its end.

use std::{
    fmt::Display,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    conversation::{Conversation, STALL},
    places::Place,
    streams::Streams,
    wire::Wire,
};
use crate::types::patience::at_once;

/// How often a look is taken at a connection: at the first, a new one must have said what it wants (the
/// end of the server waits for it, too); later ones end it after so much silence as
/// [`Conversation::look`] bears. A timer for each request would be exact, and cost each of them.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How often the peer of an HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(90);

/// What one connection may make the service keep: the head of a request, or what is written and not
/// taken; in HTTP/2 also requests at once, each with an answer that may not be taken, and the bodies
/// of requests that are not read. A proxy asks for many clients at once, others for one.
const HTTP1_BUFFER_BYTES: usize = 16 * 1024;
const STREAMS: u32 = 16;
const STREAMS_OF_PROXY: u32 = 100;
const STREAM_WINDOW_BYTES: u32 = 32 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024;
const STREAM_BUFFER_BYTES: usize = 32 * 1024;

/// How far the server is with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// The next answer on a connection says that it was the last one.
    Draining,
    /// What is idle goes.
    Closing,
}

/// Serves a connection in a task of its own, which is counted by the receivers of the phase.
pub(super) fn serve_connection(stream: TcpStream, place: Place, phase: watch::Receiver<Phase>) {
    // Answers are small and whole: waiting to fill a packet only delays them.
    let _is_set = stream.set_nodelay(true);
    let streams = if place.is_of_proxy() {
        STREAMS_OF_PROXY
    } else {
        STREAMS
    };
    let connection = connect(stream, Arc::clone(place.conversation()), streams);
    tokio::spawn(attend(connection, phase, place, LOOK_INTERVAL));
}

fn connect(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    conversation: Arc<Conversation>,
    streams: u32,
) -> impl GracefulConnection<Error: Display + Send> + Send {
    let wire = Wire::new(stream, Arc::clone(&conversation));
    let patience = conversation
        .patience()
        .saturating_add(Duration::from_secs(STALL.into()));
    let service = service_fn(move |request| Arc::clone(&conversation).answer(request));
    let mut builder = auto::Builder::new(Streams::new(patience));
    // Nearly all answers are small: head and body in one piece cost the kernel less than a list of
    // the two.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(STREAM_BUFFER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(wire), service);
    connection.into_owned()
}

/// Serves a connection to its end, or to that of the server.
async fn attend<C>(
    connection: C,
    mut phase: watch::Receiver<Phase>,
    place: Place,
    look_interval: Duration,
) where
    C: GracefulConnection,
    C::Error: Display,
{
    let conversation = place.conversation();
    let mut connection = pin!(connection);
    let mut next_look = pin!(sleep(look_interval));
    loop {
        let now = *phase.borrow_and_update();
        if now != Phase::Serving {
            conversation.end();
        }
        if may_end(conversation, now) {
            connection.as_mut().graceful_shutdown();
        }
        tokio::select! {
            // A request that has come is seen before the look.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "a connection ended badly");
                }
                return;
            }
            () = next_look.as_mut() => {
                if conversation.look() {
                    return;
                }
                next_look.as_mut().reset(Instant::now() + look_interval);
            }
            () = conversation.dismissal() => {
                if leaves(connection.as_mut(), &place).await {
                    return;
                }
            }
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether a connection goes whose place was asked for: unless a request has come in the last moment.
async fn leaves<C: GracefulConnection>(mut connection: Pin<&mut C>, place: &Place) -> bool {
    if at_once(connection.as_mut()).await.is_ready() {
        return true;
    }
    if place.conversation().idle_since().is_none() {
        place.stay();
        return false;
    }
    connection.as_mut().graceful_shutdown();
    // With this look it says farewell.
    at_once(connection).await.is_ready() || place.conversation().idle_since().is_some()
}

/// Whether a connection can be told to end without harm. In HTTP/2 the client learns which of its
/// requests came too late; else one may be on its way while nobody has said farewell, and one that was
/// just made brings its first.
fn may_end(conversation: &Conversation, phase: Phase) -> bool {
    match phase {
        Phase::Serving => false,
        Phase::Draining => conversation.speaks_http2(),
        Phase::Closing => conversation.has_asked(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{Router, http::StatusCode};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::timeout,
    };

    use super::*;
    use crate::app::{
        conversation::SILENCE,
        gate::Gate,
        places::{Limits, Places},
        pulse::Pulse,
    };

    const LOOK_INTERVAL: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn beating(pulse: &Pulse) {
        loop {
            sleep(LOOK_INTERVAL).await;
            (0..SILENCE / 10).for_each(|_| pulse.beat());
        }
    }

    /// What a client that sent `begun` and nothing more is sent until the connection ends, and after
    /// how many beats that is. A request is answered after more than an idle connection is given.
    async fn outcome(begun: &str) -> (String, u32) {
        let starting = Router::new().fallback(async || StatusCode::IM_A_TEAPOT);
        let gate = Gate::new(starting, LOOK_INTERVAL * 100);
        let places = Places::new(Limits::of(1));
        let place = places.enter(&gate, (Ipv4Addr::LOCALHOST, 1).into());
        let place = place.expect("there is room");
        let (mut client, server) = duplex(4096);
        client.write_all(begun.as_bytes()).await.unwrap();
        let connection = connect(server, Arc::clone(place.conversation()), STREAMS);
        let (_serving, phase) = watch::channel(Phase::Serving);
        let pulse = places.pulse();
        let start = pulse.now();
        let attending = attend(connection, phase, place, LOOK_INTERVAL);
        tokio::select! {
            ended = timeout(PATIENCE, attending) => ended.expect("it ends"),
            () = beating(pulse) => {}
        }
        let took = pulse.now() - start;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        (answer, took)
    }

    #[tokio::test]
    async fn one_that_brings_no_request_is_closed() {
        for begun in ["", "PRI * HT", "GET / HTTP/1.1\r\n"] {
            assert_eq!(outcome(begun).await.0, "", "after {begun:?}");
        }
    }

    #[tokio::test]
    async fn one_is_closed_when_it_was_silent_for_long_after_its_answer() {
        let request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        for dawdling in ["", "GET / HTTP/1.1\r\n"] {
            let (answer, took) = outcome(&[request, dawdling].concat()).await;
            assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
            assert!(took >= SILENCE, "{took:?}");
        }
    }
}
