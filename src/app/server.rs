//! The HTTP server: accepts connections, drains.

use std::{io, iter, net::SocketAddr, pin::pin, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    connection::{Phase, serve_connection},
    gate::Gate,
    places::{Limits, Places},
};

/// How long nobody must have come for the end to be known. A load balancer that tries an instance
/// again a second after it was refused has by then found one that took this one's place.
const QUIET: Duration = Duration::from_secs(2);

/// How long accepting rests when the process has no file left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is ready, and for a while longer: whoever sends requests here must have
/// the time to learn of the end. One that comes along a connection which is just being closed would
/// be lost.
///
/// For half of `patience` connections are still taken, or until nobody is connected or comes any more;
/// then those go that are idle, and at the end the others.
pub async fn serve_until(
    listener: TcpListener,
    gate: Gate,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
    patience: Duration,
) {
    let places = Places::new(limits);
    let (phase, _) = watch::channel(Phase::Serving);
    let door = Door {
        gate,
        phase,
        places: places.clone(),
    };
    tokio::select! {
        () = serve(listener, &door, shutdown, patience) => {}
        () = places.pulse().keep_beating() => {}
    }
}

async fn serve(
    listener: TcpListener,
    door: &Door,
    shutdown: impl Future<Output = ()>,
    patience: Duration,
) {
    let phase = &door.phase;
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = door.accept(&listener) => {}
            () = &mut shutdown => break,
        }
    }
    let end = Instant::now() + patience;
    phase.send_replace(Phase::Draining);
    loop {
        tokio::select! {
            () = door.accept(&listener) => {}
            () = quiet(phase) => break,
            () = sleep_until(end - patience / 2) => break,
        }
    }
    for (stream, peer) in close(listener) {
        door.let_in(stream, peer);
    }
    phase.send_replace(Phase::Closing);
    if timeout_at(end, phase.closed()).await.is_err() {
        tracing::warn!("some requests were cut off: they took longer than server.drain_seconds");
    }
}

/// What a new connection needs.
struct Door {
    gate: Gate,
    places: Places,
    phase: watch::Sender<Phase>,
}

impl Door {
    /// Takes the next connection, when there is room for it.
    async fn accept(&self, listener: &TcpListener) {
        self.places.room().await;
        match listener.accept().await {
            Ok((stream, peer)) => self.let_in(stream, peer),
            Err(error) => self.rest_after(&error).await,
        }
    }

    /// Serves a connection, unless its address has too many.
    fn let_in(&self, stream: TcpStream, peer: SocketAddr) {
        if let Some(place) = self.places.enter(&self.gate, peer) {
            serve_connection(stream, place, self.phase.subscribe());
        }
    }

    /// A connection that its peer gave up is nothing; a process without files must wait for some.
    async fn rest_after(&self, error: &io::Error) {
        let is_peers = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
        );
        if !is_peers {
            tracing::error!(error = %error, "cannot accept connections");
            self.places.dismiss_one();
            sleep(ACCEPT_PAUSE).await;
        }
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
