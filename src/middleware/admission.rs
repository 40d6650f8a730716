//! How many requests are worked on at once.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    error::ApiError,
    store::Share,
    types::{patience::at_once, turnstile::Crowded},
};

/// How long a request waits to be admitted: less than its caller's patience, and long enough to
/// ride out a pause of the store.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many requests that take something back are worked on at once, beside all others.
const URGENT: usize = 64;

/// Lets so many requests in at once; the next ones wait a moment for their turn. What is waited for
/// holds memory and connections to the store, so more at once would only make all of them late.
///
/// A request is to be admitted once its body is there: a slow client holds nothing that others need.
#[derive(Clone, Debug)]
pub struct Admission {
    calls: Places,
    /// Of what takes something back.
    urgent: Places,
}

#[derive(Clone, Debug)]
struct Places {
    semaphore: Arc<Semaphore>,
    most: usize,
}

/// The place of a request that was let in. Dropped, it lets the next one in.
#[derive(Debug)]
pub struct Admitted {
    semaphore: Arc<Semaphore>,
    /// None while it steps aside.
    permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(requests_at_once: usize) -> Self {
        Self {
            calls: Places::new(requests_at_once),
            urgent: Places::new(URGENT),
        }
    }

    /// How many requests are worked on, and how many may be; those apart that take something back.
    pub(crate) fn places(&self) -> (usize, usize) {
        let free = self.calls.semaphore.available_permits();
        (self.calls.most.saturating_sub(free), self.calls.most)
    }

    /// Waits until nobody who was let in is at work, callers that hung up included, and lets nobody in
    /// any more.
    pub(crate) async fn close(&self) {
        tokio::join!(self.calls.close(), self.urgent.close());
    }

    /// Waits for a place among those of a share.
    ///
    /// # Errors
    /// 503 `overloaded` when none comes free in time.
    pub async fn admit(&self, share: Share) -> Result<Admitted, ApiError> {
        let places = match share {
            Share::Urgent => &self.urgent,
            Share::Calls | Share::Management | Share::Upkeep => &self.calls,
        };
        let semaphore = Arc::clone(&places.semaphore);
        // First, since it costs least. Nobody is overtaken: a place that comes free goes to who waits.
        let permit = match Arc::clone(&semaphore).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => wait_for(&semaphore).await?,
        };
        Ok(Admitted {
            semaphore,
            permit: Some(permit),
        })
    }
}

impl Places {
    fn new(most: usize) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    async fn close(&self) {
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        if let Ok(places) = self.semaphore.acquire_many(all).await {
            places.forget();
        }
    }
}

async fn wait_for(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Crowded> {
    let acquired = timeout(PATIENCE, Arc::clone(semaphore).acquire_owned()).await;
    acquired.ok().and_then(Result::ok).ok_or(Crowded)
}

impl Admitted {
    /// Waits for what others have without the place, which is for who works: else those who wait for
    /// one subject would keep all others out. Then waits for a place again.
    ///
    /// # Errors
    /// When none comes free in time.
    pub(crate) async fn aside<T>(
        &mut self,
        waiting: impl Future<Output = T>,
    ) -> Result<T, Crowded> {
        let mut waiting = pin!(waiting);
        if let Poll::Ready(output) = at_once(waiting.as_mut()).await {
            return Ok(output);
        }
        self.permit = None;
        let output = waiting.await;
        self.permit = Some(wait_for(&self.semaphore).await?);
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_request_is_let_in_when_the_place_of_one_is_free() {
        let admission = Admission::new(1);
        let first = admission.admit(Share::Calls).await.unwrap();
        let next = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit(Share::Calls).await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(first);
        assert!(next.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_place_that_comes_free_goes_to_who_waits() {
        let admission = Admission::new(1);
        let first = admission.admit(Share::Calls).await.unwrap();
        let mut waiting = std::pin::pin!(admission.admit(Share::Calls));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        let mut newcomer = std::pin::pin!(admission.admit(Share::Calls));
        assert!(futures_util::poll!(&mut newcomer).is_pending());
        assert!(waiting.await.is_ok());
        assert!(newcomer.await.is_ok(), "after the one that had waited");
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_and_takes_no_place() {
        let admission = Admission::new(1);
        let first = admission.admit(Share::Calls).await.unwrap();
        let late = admission.admit(Share::Calls).await;
        assert!(matches!(late, Err(ApiError::Overloaded)));
        drop(first);
        assert!(admission.admit(Share::Calls).await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_for_others_leaves_the_place_to_them_and_takes_one_again() {
        let admission = Admission::new(1);
        let mut first = admission.admit(Share::Calls).await.unwrap();
        let (done, turn) = tokio::sync::oneshot::channel();
        let mut aside = Box::pin(first.aside(turn));
        assert!(futures_util::poll!(&mut aside).is_pending());
        let second = admission.admit(Share::Calls).await.unwrap();
        done.send(()).unwrap();
        assert!(
            futures_util::poll!(&mut aside).is_pending(),
            "the other works"
        );
        drop(second);
        aside.await.unwrap().unwrap();
        assert_eq!(admission.places(), (1, 1));
        drop(first);
        assert_eq!(admission.places(), (0, 1));
    }

    #[tokio::test]
    async fn what_need_not_be_waited_for_costs_no_place() {
        let admission = Admission::new(1);
        let mut first = admission.admit(Share::Calls).await.unwrap();
        let mut next = std::pin::pin!(admission.admit(Share::Calls));
        assert!(futures_util::poll!(&mut next).is_pending());
        assert_eq!(first.aside(async { 7 }).await, Ok(7));
        assert!(futures_util::poll!(&mut next).is_pending());
    }
}
