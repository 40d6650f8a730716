//! What answers while the service starts.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use tokio::{sync::SetOnce, time::timeout};
use tower::ServiceExt;

/// How long a request waits for the end of the start: mostly a few milliseconds, but a migration may
/// take longer.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Passes requests to the real router when it is there. Until then probes are answered by another
/// one and the rest waits: a load balancer that probes nothing sends requests at once.
#[derive(Clone)]
pub struct Gate {
    starting: Router,
    open: Arc<SetOnce<Router>>,
}

impl Gate {
    /// A gate that is closed: `starting` answers.
    #[must_use]
    pub fn new(starting: Router) -> Self {
        Self {
            starting,
            open: Arc::default(),
        }
    }

    /// Opens it, once: `router` answers from now on.
    pub fn open(&self, router: Router) {
        let _already_open = self.open.set(router);
    }

    pub(super) async fn answer(&self, request: Request) -> Result<Response, Infallible> {
        let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
        let open = match self.open.get() {
            None if !is_probe => timeout(START_PATIENCE, self.open.wait()).await.ok(),
            open => open,
        };
        let router = open.unwrap_or(&self.starting).clone();
        router.oneshot(request).await
    }
}
