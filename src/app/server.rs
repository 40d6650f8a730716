//! The HTTP server: accepts connections, hands requests to the router, drains.

use std::{
    convert::Infallible,
    fmt::Display,
    io, iter,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{SetOnce, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tower::ServiceExt;

/// How long a new connection may take to say what it wants.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may lie idle between two requests, and the head of a later one take:
/// longer than load balancers keep theirs, so that none sends a request into one that closes.
const IDLE_PATIENCE: Duration = Duration::from_secs(90);

/// How long nobody must have come for the end to be known. A load balancer that tries an instance
/// again a second after it was refused has by then found one that took this one's place.
const QUIET: Duration = Duration::from_secs(2);

/// How long accepting rests when the process has no file left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a request waits for the end of the start: mostly a few milliseconds, but a migration may
/// take longer.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Passes requests to the real router when it is there. Until then probes are answered by another
/// one and the rest waits: a load balancer that probes nothing sends requests at once.
#[derive(Clone)]
pub struct Gate {
    starting: Router,
    open: Arc<SetOnce<Router>>,
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

    async fn answer(&self, request: Request) -> Result<Response, Infallible> {
        let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
        let open = match self.open.get() {
            None if !is_probe => timeout(START_PATIENCE, self.open.wait()).await.ok(),
            open => open,
        };
        let router = open.unwrap_or(&self.starting).clone();
        router.oneshot(request).await
    }
}

/// How far the server is with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// The next answer on a connection says that it was the last one.
    Draining,
    /// What is idle goes.
    Closing,
}

/// Serves until `shutdown` is ready, and for a while longer: whoever sends requests here must have
/// the time to learn of the end. One that comes along a connection which is just being closed would
/// be lost.
///
/// For half of `patience` connections are still taken, or until nobody is connected or comes any more;
/// then those go that are idle, and at the end the others.
pub async fn serve_until(
    listener: TcpListener,
    gate: Gate,
    shutdown: impl Future<Output = ()>,
    patience: Duration,
) {
    let (phase, _) = watch::channel(Phase::Serving);
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = accept(&listener, &gate, &phase) => {}
            () = &mut shutdown => break,
        }
    }
    let end = Instant::now() + patience;
    phase.send_replace(Phase::Draining);
    loop {
        tokio::select! {
            () = accept(&listener, &gate, &phase) => {}
            () = quiet(&phase) => break,
            () = sleep_until(end - patience / 2) => break,
        }
    }
    for (stream, peer) in close(listener) {
        serve_connection(stream, peer, &gate, phase.subscribe());
    }
    phase.send_replace(Phase::Closing);
    if timeout_at(end, phase.closed()).await.is_err() {
        tracing::warn!("some requests were cut off: they took longer than server.drain_seconds");
    }
}

/// Takes the next connection.
async fn accept(listener: &TcpListener, gate: &Gate, phase: &watch::Sender<Phase>) {
    match listener.accept().await {
        Ok((stream, peer)) => serve_connection(stream, peer, gate, phase.subscribe()),
        Err(error) => rest_after(&error).await,
    }
}

/// Waits until nobody has been connected for a while.
async fn quiet(phase: &watch::Sender<Phase>) {
    phase.closed().await;
    sleep(QUIET).await;
}

/// Refuses connections from now on, and returns those that the system has taken for us: they would
/// be reset, with the requests in them.
fn close(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let waiting: Vec<_> = iter::from_fn(|| listener.accept().ok()).collect();
    drop(listener);
    let taken = waiting.into_iter().filter_map(|(stream, peer)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    });
    taken.collect()
}

fn serve_connection(
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
