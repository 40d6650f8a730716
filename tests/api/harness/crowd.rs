//! Many requests at once.

use std::pin::{Pin, pin};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};

use super::{Answer, eventually};

/// Requests that are on their way; they go on only while somebody looks after them.
pub struct Crowd<'a> {
    on_their_way: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + 'a>>>,
    pub answers: Vec<Answer>,
}

impl<'a> Crowd<'a> {
    pub fn of<F: Future<Output = Answer> + 'a>(requests: impl IntoIterator<Item = F>) -> Self {
        let boxed = |request: F| Box::pin(request) as Pin<Box<dyn Future<Output = Answer> + 'a>>;
        Self {
            on_their_way: requests.into_iter().map(boxed).collect(),
            answers: Vec::new(),
        }
    }

    /// Lets each go as far as it comes by itself.
    pub fn go_on(&mut self) {
        while let Some(Some(answer)) = self.on_their_way.next().now_or_never() {
            self.answers.push(answer);
        }
    }

    /// Lets them go on until it is so.
    pub async fn until(&mut self, mut is_so: impl AsyncFnMut(&[Answer]) -> bool) {
        eventually(async || {
            self.go_on();
            is_so(&self.answers).await
        })
        .await;
    }

    /// Lets them go on while something else is done.
    pub async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                output = &mut work => return output,
                Some(answer) = self.on_their_way.next() => self.answers.push(answer),
            }
        }
    }

    /// Every answer, once the last is there.
    pub async fn end(mut self) -> Vec<Answer> {
        let rest: Vec<_> = self.on_their_way.collect().await;
        self.answers.extend(rest);
        self.answers
    }
}
