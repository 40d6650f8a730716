//! What is asked and answered along one connection.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, Version, header},
    response::Response,
};
use hyper::body::Incoming;

use super::gate::Gate;

/// How many looks at a connection may find it silent after an answer: between two requests, or
/// dawdling over the head of the next.
const SILENT_LOOKS: u32 = 62;

/// What a connection and its requests share.
pub(super) struct Conversation {
    gate: Gate,
    peer: SocketAddr,
    has_asked: AtomicBool,
    speaks_http2: AtomicBool,
    is_answered: AtomicBool,
    looks_since_answer: AtomicU32,
    ends: AtomicBool,
}

impl Conversation {
    pub(super) fn new(gate: Gate, peer: SocketAddr) -> Self {
        Self {
            gate,
            peer,
            has_asked: AtomicBool::new(false),
            speaks_http2: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            looks_since_answer: AtomicU32::new(0),
            ends: AtomicBool::new(false),
        }
    }

    pub(super) fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> {
        self.note_request(request.version());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answering = self.gate.answer(request);
        async move {
            let mut response = answering.await?;
            self.say_farewell(&mut response);
            self.note_answer();
            Ok(response)
        }
    }

    fn note_request(&self, version: Version) {
        let speaks_http2 = version == Version::HTTP_2;
        self.speaks_http2.store(speaks_http2, Ordering::Relaxed);
        self.is_answered.store(false, Ordering::Relaxed);
        self.has_asked.store(true, Ordering::Relaxed);
    }

    fn note_answer(&self) {
        self.looks_since_answer.store(0, Ordering::Relaxed);
        self.is_answered.store(true, Ordering::Relaxed);
    }

    /// Takes a look, and says whether the silence has lasted for too long. HTTP/2 has pings for it.
    pub(super) fn look(&self) -> bool {
        if !self.has_asked() {
            return true;
        }
        let looks_before = self.looks_since_answer.fetch_add(1, Ordering::Relaxed);
        // The first may come right after the answer.
        looks_before >= SILENT_LOOKS
            && self.is_answered.load(Ordering::Relaxed)
            && !self.speaks_http2()
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

    /// HTTP/2 has a message of its own for it.
    fn say_farewell(&self, response: &mut Response) {
        if self.ends.load(Ordering::Relaxed) && !self.speaks_http2() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use axum::Router;

    use super::*;

    fn conversation() -> Conversation {
        let gate = Gate::new(Router::new(), Duration::MAX);
        Conversation::new(gate, (Ipv4Addr::LOCALHOST, 1).into())
    }

    fn looks_until_the_end(conversation: &Conversation) -> usize {
        let looks = (1..1000).find(|_| conversation.look());
        looks.expect("it ends")
    }

    #[test]
    fn one_that_has_brought_no_request_ends_at_the_first_look() {
        assert_eq!(looks_until_the_end(&conversation()), 1);
    }

    /// The first look comes in the ten seconds after the answer, the last 620 seconds after the first.
    #[test]
    fn silence_lasts_620_seconds_at_least() {
        let conversation = conversation();
        for _ in 0..2 {
            conversation.note_request(Version::HTTP_11);
            conversation.note_answer();
            assert_eq!(looks_until_the_end(&conversation), 1 + 62);
        }
    }

    #[test]
    fn a_request_that_is_worked_on_is_no_silence() {
        let conversation = conversation();
        for _ in 0..2 {
            conversation.note_request(Version::HTTP_11);
            assert!((0..1000).all(|_| !conversation.look()));
            conversation.note_answer();
            assert!((0..62).all(|_| !conversation.look()));
        }
    }

    #[test]
    fn silence_in_http_2_is_left_to_pings() {
        let conversation = conversation();
        conversation.note_request(Version::HTTP_2);
        conversation.note_answer();
        assert!((0..1000).all(|_| !conversation.look()));
    }
}
