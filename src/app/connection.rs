//! One connection: its requests, its time-outs, its end.

use std::{
    convert::Infallible,
    fmt::Display,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderValue, Version, header},
    response::Response,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{net::TcpStream, sync::watch, time::sleep};

use super::gate::Gate;

/// How long a new connection may take to say what it wants.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may lie idle between two requests, and the head of a later one take:
/// longer than load balancers keep theirs, so that none sends a request into one that closes.
const IDLE_PATIENCE: Duration = Duration::from_secs(90);

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
    let gate = gate.clone();
    let progress = Arc::new(Progress::default());
    let noted = Arc::clone(&progress);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (gate, progress) = (gate.clone(), Arc::clone(&noted));
        progress.note(request.version());
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        async move {
            let mut response = gate.answer(request).await?;
            progress.say_farewell(&mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::spawn(attend(connection.into_owned(), phase, progress));
}

/// What is known of a connection.
#[derive(Default)]
struct Progress {
    has_asked: AtomicBool,
    speaks_http2: AtomicBool,
    ends: AtomicBool,
}

impl Progress {
    fn note(&self, version: Version) {
        let speaks_http2 = version == Version::HTTP_2;
        self.speaks_http2.store(speaks_http2, Ordering::Relaxed);
        self.has_asked.store(true, Ordering::Relaxed);
    }

    fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// HTTP/2 has a message of its own for it.
    fn say_farewell(&self, response: &mut Response) {
        if self.ends.load(Ordering::Relaxed) && !self.speaks_http2.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }

    /// Whether the connection can be told to end without harm. In HTTP/2 the client learns which of
    /// its requests came too late; else one may be on its way while nobody has said farewell, and
    /// one that was just made brings its first.
    fn may_end(&self, phase: Phase) -> bool {
        match phase {
            Phase::Serving => false,
            Phase::Draining => self.speaks_http2.load(Ordering::Relaxed),
            Phase::Closing => self.has_asked(),
        }
    }
}

/// Serves a connection to its end, or to that of the server.
async fn attend<C>(connection: C, mut phase: watch::Receiver<Phase>, progress: Arc<Progress>)
where
    C: GracefulConnection,
    C::Error: Display,
{
    let mut connection = pin!(connection);
    // The protocol's own time-outs begin only when it is known which protocol it speaks.
    let mut silence = pin!(sleep(FIRST_REQUEST_PATIENCE));
    loop {
        let now = *phase.borrow_and_update();
        progress
            .ends
            .store(now != Phase::Serving, Ordering::Relaxed);
        if progress.may_end(now) {
            connection.as_mut().graceful_shutdown();
        }
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "a connection ended badly");
                }
                return;
            }
            () = silence.as_mut(), if !progress.has_asked() => {
                if !progress.has_asked() {
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
