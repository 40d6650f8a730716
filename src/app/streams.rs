//! The requests of an HTTP/2 connection, each in a task of its own.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

/// Starts the tasks, and ends one that nothing has moved for too long: its request is not answered,
/// or its answer not taken, by a peer that opens no window for it. It is reset then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    patience: Duration,
}

impl Streams {
    pub(super) const fn new(patience: Duration) -> Self {
        Self { patience }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(Impatient {
            stream,
            patience: self.patience,
            deadline: None,
        });
    }
}

pin_project! {
    /// A future that is given up when it was not woken for a while. Most are ready at once and need
    /// no timer.
    struct Impatient<F> {
        #[pin]
        stream: F,
        patience: Duration,
        deadline: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Impatient<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(context).is_ready() {
            return Poll::Ready(());
        }
        let patience = *this.patience;
        let deadline = this
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        if deadline.is_elapsed() {
            tracing::debug!("a request of an HTTP/2 connection was given up: nothing moves it");
            return Poll::Ready(());
        }
        deadline.as_mut().reset(Instant::now() + patience);
        deadline.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn one_that_nothing_moves_is_given_up() {
        let (held, mut given_up) = mpsc::channel::<()>(1);
        let began = Instant::now();
        Streams::new(PATIENCE).execute(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert_eq!(given_up.recv().await, None);
        assert!(began.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn one_that_goes_on_is_not() {
        let (done, mut outcome) = mpsc::channel(1);
        Streams::new(PATIENCE).execute(async move {
            for _ in 0..12 {
                sleep(PATIENCE / 10).await;
            }
            done.send("whole").await.unwrap();
        });
        assert_eq!(outcome.recv().await, Some("whole"));
    }
}
