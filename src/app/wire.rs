//! The bytes of a connection: whether the peer takes what is written, and what it still sends when
//! everything is said.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::conversation::Conversation;

/// How much is read on after the last answer. Who sends a request without reading sees the answer only
/// when all of it is sent.
const LINGERING_BYTES: usize = 8 * 1024 * 1024;

/// For how long it is read on.
const LINGERING: Patience = Patience {
    in_all: Duration::from_secs(30),
    in_silence: Duration::from_secs(5),
};

/// How much of that is read at once.
const DISCARDED_BYTES: usize = 16 * 1024;

/// A connection's stream, which keeps the conversation informed. It ends as RFC 9112 has it, section
/// 9.6: what is closed while something comes in is reset, and the peer's system then throws away also
/// the answer that has not been looked at.
pub(super) struct Wire<S> {
    stream: S,
    conversation: Arc<Conversation>,
    is_stalled: bool,
    ending: Ending,
    patience: Patience,
}

#[derive(Clone, Copy)]
struct Patience {
    in_all: Duration,
    in_silence: Duration,
}

enum Ending {
    Open,
    Farewell(Option<Lingering>),
}

struct Lingering {
    bytes_left: usize,
    end: Instant,
    in_silence: Duration,
    next: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, conversation: Arc<Conversation>) -> Self {
        Self {
            stream,
            conversation,
            is_stalled: false,
            ending: Ending::Open,
            patience: LINGERING,
        }
    }

    fn note(&mut self, is_stalled: bool) {
        if is_stalled != self.is_stalled {
            self.is_stalled = is_stalled;
            self.conversation.note_stall(is_stalled);
        }
    }

    /// Reads and forgets, until nothing comes any more or enough was read.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Ending::Farewell(lingering) = &mut self.ending else {
            return Poll::Ready(());
        };
        let begin = || Lingering::begin(self.patience);
        if self.conversation.owes_reading() {
            lingering.get_or_insert_with(begin);
        }
        loop {
            let mut bytes = [0; DISCARDED_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let lingering = lingering.get_or_insert_with(begin);
                    if lingering.is_enough(buffer.filled().len()) {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    return match lingering {
                        Some(lingering) => lingering.next.as_mut().poll(context),
                        None => Poll::Ready(()),
                    };
                }
            }
        }
    }
}

impl Lingering {
    fn begin(Patience { in_all, in_silence }: Patience) -> Self {
        Self {
            bytes_left: LINGERING_BYTES,
            end: Instant::now() + in_all,
            in_silence,
            next: Box::pin(sleep(in_silence)),
        }
    }

    fn is_enough(&mut self, bytes: usize) -> bool {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        let now = Instant::now();
        self.next
            .as_mut()
            .reset(self.end.min(now + self.in_silence));
        self.bytes_left == 0 || now >= self.end
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.note(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.ending, Ending::Open) {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.ending = Ending::Farewell(None);
        }
        self.poll_linger(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;
    use crate::app::{gate::Gate, pulse::Pulse};

    fn wire(room: usize) -> (Wire<DuplexStream>, DuplexStream, Arc<Conversation>) {
        let gate = Gate::new(Router::new(), Duration::MAX);
        let peer = (Ipv4Addr::LOCALHOST, 1).into();
        let conversation = Arc::new(Conversation::new(gate, peer, Pulse::default()));
        let (ours, theirs) = duplex(room);
        (
            Wire::new(ours, Arc::clone(&conversation)),
            theirs,
            conversation,
        )
    }

    #[tokio::test]
    async fn what_comes_after_the_farewell_is_read_while_it_comes() {
        let (mut wire, mut peer, _conversation) = wire(1024);
        peer.write_all(b"begun").await.unwrap();
        let sending = async {
            peer.write_all(&vec![0; 100_000]).await.unwrap();
            peer.shutdown().await.unwrap();
            peer.read_to_end(&mut Vec::new()).await.unwrap()
        };
        let (ended, read) = tokio::join!(wire.shutdown(), sending);
        ended.unwrap();
        assert_eq!(read, 0);
    }

    #[tokio::test]
    async fn nothing_is_waited_for_where_nothing_is_owed() {
        let (mut wire, _peer, _conversation) = wire(1024);
        let mut ending = std::pin::pin!(wire.shutdown());
        assert!(futures_util::poll!(&mut ending).is_ready());
    }

    const SHORT: Patience = Patience {
        in_all: Duration::from_millis(300),
        in_silence: Duration::from_millis(100),
    };

    #[tokio::test]
    async fn silence_is_waited_for_and_then_it_ends() {
        let (mut wire, mut peer, _conversation) = wire(1024);
        wire.patience = SHORT;
        peer.write_all(b"begun").await.unwrap();
        let began = Instant::now();
        wire.shutdown().await.unwrap();
        assert!(began.elapsed() >= SHORT.in_silence);
    }

    #[tokio::test]
    async fn what_trickles_in_is_not_waited_for_without_end() {
        let (mut wire, mut peer, _conversation) = wire(1024);
        wire.patience = SHORT;
        peer.write_all(b"begun").await.unwrap();
        let began = Instant::now();
        let trickling = async {
            while peer.write_all(b"more").await.is_ok() {
                sleep(SHORT.in_silence / 20).await;
            }
        };
        tokio::select! {
            ended = wire.shutdown() => ended.unwrap(),
            () = trickling => {}
        }
        assert!(began.elapsed() >= SHORT.in_all);
    }

    #[tokio::test]
    async fn no_more_is_read_than_8_mib() {
        let (mut wire, mut peer, _conversation) = wire(64 * 1024);
        peer.write_all(b"begun").await.unwrap();
        let flooding = async {
            let mut sent = 0;
            while timeout(Duration::from_secs(3), peer.write_all(&[0; 1024]))
                .await
                .is_ok()
            {
                sent += 1024;
            }
            sent
        };
        let ((), sent) = tokio::join!(async { wire.shutdown().await.unwrap() }, flooding);
        let excess = DISCARDED_BYTES + 64 * 1024;
        assert!(
            (LINGERING_BYTES..=LINGERING_BYTES + excess).contains(&sent),
            "{sent}"
        );
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_stalls_until_it_takes_something() {
        let (mut wire, mut peer, conversation) = wire(8);
        wire.write_all(b"12345678").await.unwrap();
        assert!(conversation.idle_since().is_some());
        let mut more = std::pin::pin!(wire.write_all(b"9"));
        assert!(futures_util::poll!(&mut more).is_pending());
        assert!(conversation.idle_since().is_none(), "it is stalled");
        peer.read_u8().await.unwrap();
        more.await.unwrap();
        assert!(conversation.idle_since().is_some());
    }
}
