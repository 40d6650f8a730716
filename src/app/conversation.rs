//! What is asked and answered along one connection.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, HeaderValue, Request, Response, Version, header},
};
use futures_util::task::AtomicWaker;
use hyper::body::{Body as _, Incoming};

use super::{
    exchange::{Answer, Exchange, Upload},
    gate::Gate,
    pulse::Pulse,
};

/// How many seconds a connection may be silent after an answer: between two requests, or dawdling
/// over the head of the next. That is longer than load balancers keep theirs (Google's, the most
/// patient, for 600), so that none sends a request into one that closes.
pub(super) const SILENCE: u32 = 620;

/// How many seconds may pass without that a peer takes anything of what is written to it.
pub(super) const STALL: u32 = 30;

/// What a connection and its requests share.
pub(super) struct Conversation {
    gate: Gate,
    peer: SocketAddr,
    pulse: Pulse,
    has_asked: AtomicBool,
    speaks_http2: AtomicBool,
    /// How many requests have come whose answers are not yet handed over.
    open_exchanges: AtomicU32,
    idle_since: AtomicU32,
    is_stalled: AtomicBool,
    stalled_since: AtomicU32,
    owes_reading: AtomicBool,
    ends: AtomicBool,
    is_dismissed: AtomicBool,
    attendant: AtomicWaker,
}

impl Conversation {
    pub(super) fn new(gate: Gate, peer: SocketAddr, pulse: Pulse) -> Self {
        Self {
            gate,
            peer,
            has_asked: AtomicBool::new(false),
            speaks_http2: AtomicBool::new(false),
            open_exchanges: AtomicU32::new(0),
            idle_since: AtomicU32::new(pulse.now()),
            is_stalled: AtomicBool::new(false),
            stalled_since: AtomicU32::new(0),
            owes_reading: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            is_dismissed: AtomicBool::new(false),
            attendant: AtomicWaker::new(),
            pulse,
        }
    }

    pub(super) fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> {
        let speaks_http2 = request.version() == Version::HTTP_2;
        self.speaks_http2.store(speaks_http2, Ordering::Relaxed);
        let brings_body = !speaks_http2 && !request.body().is_end_stream();
        self.owes_reading.store(brings_body, Ordering::Relaxed);
        let mut request = if brings_body {
            request.map(|body| Body::new(Upload::new(body, Arc::clone(&self))))
        } else {
            request.map(Body::new)
        };
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answering = self.gate.answer(request);
        let exchange = Exchange::begin(self);
        async move {
            let mut response = answering.await?;
            exchange.conversation().say_farewell(response.headers_mut());
            Ok(response.map(|body| Answer::new(body, exchange)))
        }
    }

    /// How long a request may go without that anything happens to it.
    pub(super) const fn patience(&self) -> Duration {
        self.gate.patience()
    }

    pub(super) fn note_begin(&self) {
        self.open_exchanges.fetch_add(1, Ordering::Relaxed);
        self.has_asked.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_end(&self) {
        self.idle_since.store(self.pulse.now(), Ordering::Relaxed);
        self.open_exchanges.fetch_sub(1, Ordering::Relaxed);
    }

    /// The body of the request is whole.
    pub(super) fn note_body_read(&self) {
        self.owes_reading.store(false, Ordering::Relaxed);
    }

    /// Whether a request was answered whose body is still on its way (HTTP/2 has a message for it).
    pub(super) fn owes_reading(&self) -> bool {
        self.owes_reading.load(Ordering::Relaxed)
    }

    /// Whether what was written last waits for the peer to take something.
    pub(super) fn note_stall(&self, is_stalled: bool) {
        self.stalled_since
            .store(self.pulse.now(), Ordering::Relaxed);
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// Takes a look, and says whether it has lasted for too long that nothing comes or nothing is
    /// taken. HTTP/2 has pings for the former.
    pub(super) fn look(&self) -> bool {
        if !self.has_asked() {
            return true;
        }
        if self.is_stalled.load(Ordering::Relaxed) {
            let since = self.stalled_since.load(Ordering::Relaxed);
            return self.pulse.now().saturating_sub(since) >= STALL;
        }
        let silent_since = self.idle_since().filter(|_| !self.speaks_http2());
        silent_since.is_some_and(|since| self.pulse.now().saturating_sub(since) >= SILENCE)
    }

    /// Since when nothing is asked, if nothing is.
    pub(super) fn idle_since(&self) -> Option<u32> {
        let is_busy = self.open_exchanges.load(Ordering::Relaxed) > 0
            || self.is_stalled.load(Ordering::Relaxed);
        (!is_busy).then(|| self.idle_since.load(Ordering::Relaxed))
    }

    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    pub(super) fn speaks_http2(&self) -> bool {
        self.speaks_http2.load(Ordering::Relaxed)
    }

    /// The next answer is the last one.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Asks for its place, which another needs.
    pub(super) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::Release);
        self.attendant.wake();
    }

    /// Waits until its place is asked for. The task that waits is polled for each request, and only
    /// loads a flag then.
    pub(super) async fn dismissal(&self) {
        let mut is_attended = false;
        poll_fn(|context| {
            if !is_attended {
                self.attendant.register(context.waker());
                is_attended = true;
            }
            if self.is_dismissed.load(Ordering::Acquire) {
                self.is_dismissed.store(false, Ordering::Relaxed);
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// In HTTP/1.1 a client must know that it cannot send another request along this connection; one
    /// whose request was not read would take the rest of it for that. HTTP/2 has messages for both.
    fn say_farewell(&self, headers: &mut HeaderMap) {
        if (self.ends.load(Ordering::Relaxed) || self.owes_reading()) && !self.speaks_http2() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;

    use super::*;

    struct Talk {
        pulse: Pulse,
        conversation: Arc<Conversation>,
    }

    impl Talk {
        fn new() -> Self {
            let gate = Gate::new(Router::new(), Duration::MAX);
            let pulse = Pulse::default();
            let peer = (Ipv4Addr::LOCALHOST, 1).into();
            let conversation = Arc::new(Conversation::new(gate, peer, pulse.clone()));
            Self {
                pulse,
                conversation,
            }
        }

        fn ask(&self) -> Exchange {
            Exchange::begin(Arc::clone(&self.conversation))
        }

        /// How many seconds pass until a look finds that it must end.
        fn seconds_until_the_end(&self) -> Option<usize> {
            let mut seconds = 0..1000;
            seconds.find(|_| {
                let is_over = self.conversation.look();
                self.pulse.beat();
                is_over
            })
        }
    }

    #[test]
    fn one_that_has_brought_no_request_ends_at_the_first_look() {
        assert_eq!(Talk::new().seconds_until_the_end(), Some(0));
    }

    #[test]
    fn silence_lasts_620_seconds() {
        let talk = Talk::new();
        for _ in 0..2 {
            drop(talk.ask());
            assert_eq!(talk.seconds_until_the_end(), Some(620));
        }
    }

    #[test]
    fn a_request_that_is_worked_on_is_no_silence() {
        let talk = Talk::new();
        for _ in 0..2 {
            let exchange = talk.ask();
            assert_eq!(talk.seconds_until_the_end(), None);
            assert_eq!(talk.conversation.idle_since(), None);
            drop(exchange);
            assert_eq!(talk.conversation.idle_since(), Some(talk.pulse.now()));
            assert_eq!(talk.seconds_until_the_end(), Some(620));
        }
    }

    #[test]
    fn silence_in_http_2_is_left_to_pings() {
        let talk = Talk::new();
        talk.conversation
            .speaks_http2
            .store(true, Ordering::Relaxed);
        drop(talk.ask());
        assert_eq!(talk.seconds_until_the_end(), None);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_waited_for_30_seconds_each_time() {
        let talk = Talk::new();
        drop(talk.ask());
        for _ in 0..2 {
            talk.conversation.note_stall(true);
            assert_eq!(talk.conversation.idle_since(), None, "it is being answered");
            assert_eq!(talk.seconds_until_the_end(), Some(30));
            talk.conversation.note_stall(false);
        }
        drop(talk.ask());
        assert_eq!(talk.seconds_until_the_end(), Some(620));
    }
}
