//! How many requests are worked on at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::ApiError;

/// How long a request waits to be admitted: less than its caller's patience, and long enough to
/// ride out a pause of the store.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lets so many requests in at once; the next ones wait a moment for their turn. What is waited for
/// holds memory and connections to the store, so more at once would only make all of them late.
///
/// A request is to be admitted once its body is there: a slow client holds nothing that others need.
#[derive(Clone, Debug)]
pub struct Admission {
    semaphore: Arc<Semaphore>,
    places: usize,
}

/// The place of a request that was let in. Dropped, it lets the next one in.
#[derive(Debug)]
pub struct Admitted {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(requests_at_once: usize) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(requests_at_once)),
            places: requests_at_once,
        }
    }

    /// How many requests are worked on, and how many may be.
    pub(crate) fn places(&self) -> (usize, usize) {
        let free = self.semaphore.available_permits();
        (self.places.saturating_sub(free), self.places)
    }

    /// Waits until nobody who was let in is at work, callers that hung up included, and lets nobody in
    /// any more.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(self.places).unwrap_or(u32::MAX);
        if let Ok(places) = self.semaphore.acquire_many(all).await {
            places.forget();
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// 503 `overloaded` when none comes free in time.
    pub async fn admit(&self) -> Result<Admitted, ApiError> {
        let semaphore = Arc::clone(&self.semaphore);
        // First, since it costs least. Nobody is overtaken: a place that comes free goes to who waits.
        if let Ok(permit) = Arc::clone(&semaphore).try_acquire_owned() {
            return Ok(Admitted { _permit: permit });
        }
        match timeout(PATIENCE, semaphore.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Admitted { _permit: permit }),
            _ => Err(ApiError::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_request_is_let_in_when_the_place_of_one_is_free() {
        let admission = Admission::new(1);
        let first = admission.admit().await.unwrap();
        let next = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit().await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(first);
        assert!(next.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_place_that_comes_free_goes_to_who_waits() {
        let admission = Admission::new(1);
        let first = admission.admit().await.unwrap();
        let mut waiting = std::pin::pin!(admission.admit());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        let mut newcomer = std::pin::pin!(admission.admit());
        assert!(futures_util::poll!(&mut newcomer).is_pending());
        assert!(waiting.await.is_ok());
        assert!(newcomer.await.is_ok(), "after the one that had waited");
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_and_takes_no_place() {
        let admission = Admission::new(1);
        let first = admission.admit().await.unwrap();
        let late = admission.admit().await;
        assert!(matches!(late, Err(ApiError::Overloaded)));
        drop(first);
        assert!(admission.admit().await.is_ok());
    }
}
