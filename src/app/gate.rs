//! What answers while the service starts.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use futures_util::future::Either;
use tokio::{sync::SetOnce, time::timeout};
use tower::Service;

/// Passes requests to the real router when it is there. Until then probes are answered by another
/// one and the rest waits: a load balancer that probes nothing sends requests at once.
#[derive(Clone)]
pub struct Gate {
    starting: Router,
    patience: Duration,
    held: Arc<SetOnce<Router>>,
    open: Arc<SetOnce<Router>>,
}

impl Gate {
    /// A gate that is closed: `starting` answers probes, and a request that has waited for `patience`.
    /// It waits for some milliseconds mostly, but for another instance's migrations much longer.
    #[must_use]
    pub fn new(starting: Router, patience: Duration) -> Self {
        Self {
            starting,
            patience,
            held: Arc::default(),
            open: Arc::default(),
        }
    }

    /// Lets nobody wait any more until it opens, which may take long: `router` answers until then.
    pub fn hold(&self, router: Router) {
        let _already_held = self.held.set(router);
    }

    /// Opens it, once: `router` answers from now on.
    pub fn open(&self, router: Router) {
        let _already_open = self.open.set(router);
    }

    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn answer(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        // A router is always ready: it need not be asked.
        match self.open.get() {
            Some(router) => Either::Left(router.clone().call(request)),
            None => Either::Right(Box::pin(self.clone().answer_closed(request))),
        }
    }

    async fn answer_closed(self, request: Request) -> Result<Response, Infallible> {
        let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
        let open = if is_probe || self.held.get().is_some() {
            None
        } else {
            timeout(self.patience, self.open.wait()).await.ok()
        };
        let closed = self.held.get().unwrap_or(&self.starting);
        let mut router = open.unwrap_or(closed).clone();
        router.call(request).await
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::StatusCode};

    use super::*;

    fn closed(patience: Duration) -> Gate {
        let starting = Router::new().fallback(async || StatusCode::SERVICE_UNAVAILABLE);
        Gate::new(starting, patience)
    }

    async fn ask(gate: &Gate, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        gate.answer(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_request_waits_for_the_end_of_the_start() {
        let gate = closed(Duration::MAX);
        let starting = async {
            assert_eq!(ask(&gate, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
            gate.open(Router::new().fallback(async || StatusCode::OK));
        };
        let (status, ()) = tokio::join!(ask(&gate, "/api/v1/tokens"), starting);
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn nobody_waits_at_a_gate_that_is_held() {
        let gate = closed(Duration::MAX);
        gate.hold(Router::new().fallback(async || StatusCode::IM_A_TEAPOT));
        for path in ["/readyz", "/api/v1/tokens"] {
            assert_eq!(ask(&gate, path).await, StatusCode::IM_A_TEAPOT);
        }
        gate.open(Router::new().fallback(async || StatusCode::OK));
        assert_eq!(ask(&gate, "/api/v1/tokens").await, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_it_may() {
        let gate = closed(Duration::from_millis(1));
        let status = timeout(Duration::from_millis(1500), ask(&gate, "/api/v1/tokens")).await;
        assert_eq!(status, Ok(StatusCode::SERVICE_UNAVAILABLE));
    }
}
