//! The HTTP server: accepts connections, hands requests to the router, drains.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

/// How long a new connection may take to say what it wants.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may lie idle between two requests, and the head of a later one take:
/// longer than load balancers keep theirs, so that none sends a request into one that closes.
const IDLE_PATIENCE: Duration = Duration::from_secs(90);

/// How long accepting rests when the process has no file left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Passes requests to a router that tells them to come back, until the real one is there.
#[derive(Clone)]
pub struct Gate {
    starting: Router,
    open: Arc<OnceLock<Router>>,
}

impl Gate {
    /// A gate that is closed: `starting` answers.
    #[must_use]
    pub fn new(starting: Router) -> Self {
        Self {
            starting,
            open: Arc::default(),
        }
    }

    /// Opens it, once: `router` answers from now on.
    pub fn open(&self, router: Router) {
        let _already_open = self.open.set(router);
    }

    fn router(&self) -> Router {
        self.open.get().unwrap_or(&self.starting).clone()
    }
}

/// Serves until `shutdown` is ready, then takes no more connections, and gives those that are open
/// `patience` to finish what they have begun.
pub async fn serve_until(
    listener: TcpListener,
    gate: Gate,
    shutdown: impl Future<Output = ()>,
    patience: Duration,
) {
    let connections = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => serve_connection(stream, peer, &gate, &connections),
            Err(error) => rest_after(&error).await,
        }
    }
    drop(listener);
    if tokio::time::timeout(patience, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests were cut off: they took longer than server.drain_seconds");
    }
}

fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    gate: &Gate,
    connections: &GracefulShutdown,
) {
    // Answers are small and whole: waiting to fill a packet only delays them.
    let _is_set = stream.set_nodelay(true);
    let gate = gate.clone();
    let has_asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&has_asked);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        gate.router().oneshot(request)
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
    let connection = connections.watch(connection.into_owned());
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        // The protocol's own time-outs begin only when it is known which protocol it speaks.
        let mut silence = pin!(tokio::time::sleep(FIRST_REQUEST_PATIENCE));
        poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "a connection ended badly");
                }
                return Poll::Ready(());
            }
            if has_asked.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            silence.as_mut().poll(context)
        })
        .await;
    });
}

/// A connection that its peer gave up is nothing; a process without files must wait for some.
async fn rest_after(error: &io::Error) {
    let is_peers = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    );
    if !is_peers {
        tracing::error!(error = %error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
