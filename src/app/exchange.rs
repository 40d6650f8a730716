//! One request and its answer: what of them is still to come, and to go.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
};
use hyper::body::{Frame, Incoming, SizeHint};

use super::conversation::Conversation;

/// Large answers are handed over so much at a time. What was handed over is copied in HTTP/1.1, and
/// has to wait in memory for a peer that does not take it.
const PIECE_BYTES: usize = 8 * 1024;

/// A request that is being answered, until the answer is handed over or given up.
pub(super) struct Exchange(Arc<Conversation>);

impl Exchange {
    pub(super) fn begin(conversation: Arc<Conversation>) -> Self {
        conversation.note_begin();
        Self(conversation)
    }

    pub(super) fn conversation(&self) -> &Conversation {
        &self.0
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.note_end();
    }
}

/// The body of a request of HTTP/1.1, which tells the conversation when it is whole.
pub(super) struct Upload {
    body: Incoming,
    conversation: Arc<Conversation>,
}

impl Upload {
    pub(super) fn new(body: Incoming, conversation: Arc<Conversation>) -> Self {
        Self { body, conversation }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.conversation.note_body_read();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. The exchange ends with it.
pub(super) struct Answer {
    body: Body,
    /// What is left of a large frame.
    rest: Bytes,
    _exchange: Exchange,
}

impl Answer {
    pub(super) fn new(body: Body, exchange: Exchange) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            _exchange: exchange,
        }
    }

    fn next_piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE_BYTES);
        Frame::data(self.rest.split_to(length))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.next_piece())));
        }
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)?) else {
            return Poll::Ready(None);
        };
        let frame = match frame.into_data() {
            Ok(data) if data.len() > PIECE_BYTES => {
                self.rest = data;
                self.next_piece()
            }
            Ok(data) => Frame::data(data),
            Err(frame) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let of_body = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use axum::Router;
    use http_body_util::BodyExt;

    use super::*;
    use crate::app::{gate::Gate, pulse::Pulse};

    fn answer(bytes: impl Into<Body>) -> (Answer, Arc<Conversation>) {
        let gate = Gate::new(Router::new(), Duration::MAX);
        let peer = (Ipv4Addr::LOCALHOST, 1).into();
        let conversation = Arc::new(Conversation::new(gate, peer, Pulse::default()));
        let exchange = Exchange::begin(Arc::clone(&conversation));
        (Answer::new(bytes.into(), exchange), conversation)
    }

    #[tokio::test]
    async fn a_large_answer_is_handed_over_in_pieces_that_know_how_much_is_left() {
        let whole: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
        let (mut answer, conversation) = answer(whole.clone());
        let mut seen = Vec::new();
        while seen.len() < whole.len() {
            assert!(!answer.is_end_stream());
            let left = (whole.len() - seen.len()) as u64;
            assert_eq!(answer.size_hint().exact(), Some(left));
            let piece = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!((1..=PIECE_BYTES).contains(&piece.len()));
            seen.extend_from_slice(&piece);
        }
        assert_eq!(seen, whole);
        assert!(answer.is_end_stream());
        assert!(conversation.idle_since().is_none(), "it is not handed over");
        drop(answer);
        assert!(conversation.idle_since().is_some());
    }

    #[tokio::test]
    async fn a_small_answer_is_handed_over_whole_as_is_none() {
        let (mut small, _conversation) = answer("small");
        assert_eq!(small.size_hint().exact(), Some(5));
        let frame = small.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "small");
        assert!(small.is_end_stream());
        let (none, _conversation) = answer(Body::empty());
        assert!(none.is_end_stream());
        assert_eq!(none.size_hint().exact(), Some(0));
    }
}
