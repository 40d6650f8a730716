//! One connection: its requests, its time-outs, its end.

use std::{fmt::Display, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep},
};

use super::{conversation::Conversation, gate::Gate};

/// How often a look is taken at a connection: at the first, a new one must have said what it wants (the
/// end of the server waits for it, too); later ones end it after 620 to 630 seconds of silence. That is
/// longer than load balancers keep theirs (Google's, the most patient, for 600), so that none sends a
/// request into one that closes. A timer for each request would be exact, and cost each of them.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How often the peer of an HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(90);

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
pub(super) fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    gate: &Gate,
    phase: watch::Receiver<Phase>,
) {
    // Answers are small and whole: waiting to fill a packet only delays them.
    let _is_set = stream.set_nodelay(true);
    let conversation = Arc::new(Conversation::new(gate.clone(), peer));
    let connection = connect(stream, Arc::clone(&conversation));
    tokio::spawn(attend(connection, phase, conversation, LOOK_INTERVAL));
}

fn connect(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    conversation: Arc<Conversation>,
) -> impl GracefulConnection<Error: Display> + Send {
    let service = service_fn(move |request| Arc::clone(&conversation).answer(request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Nearly all answers are small: head and body in one piece cost the kernel less than a list of
    // the two.
    builder.http1().header_read_timeout(None).writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    connection.into_owned()
}

/// Serves a connection to its end, or to that of the server.
async fn attend<C>(
    connection: C,
    mut phase: watch::Receiver<Phase>,
    conversation: Arc<Conversation>,
    look_interval: Duration,
) where
    C: GracefulConnection,
    C::Error: Display,
{
    let mut connection = pin!(connection);
    let mut next_look = pin!(sleep(look_interval));
    loop {
        let now = *phase.borrow_and_update();
        if now != Phase::Serving {
            conversation.end();
        }
        if may_end(&conversation, now) {
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
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
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

    const LOOK_INTERVAL: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// What a client that sent `begun` and nothing more is sent until the connection ends, and when
    /// that is. A request is answered after more looks than an idle connection is given.
    async fn outcome(begun: &str) -> (String, Duration) {
        let starting = Router::new().fallback(async || StatusCode::IM_A_TEAPOT);
        let gate = Gate::new(starting, LOOK_INTERVAL * 100);
        let peer = (Ipv4Addr::LOCALHOST, 1).into();
        let conversation = Arc::new(Conversation::new(gate, peer));
        let (mut client, server) = duplex(4096);
        client.write_all(begun.as_bytes()).await.unwrap();
        let connection = connect(server, Arc::clone(&conversation));
        let (_serving, phase) = watch::channel(Phase::Serving);
        let start = Instant::now();
        let attending = attend(connection, phase, conversation, LOOK_INTERVAL);
        timeout(PATIENCE, attending).await.expect("it ends");
        let took = start.elapsed();
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
            assert!(took >= LOOK_INTERVAL * (100 + 62), "{took:?}");
        }
    }
}
