//! The tower layer that charges a call before it is made and settles the charge on its response.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    http::Extensions,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use opentelemetry::trace::FutureExt as _;
use tokio::task::JoinError;
use tower::{Layer, Service};

use super::{
    fields,
    ledger::{Ledger, QuotaError},
    windows::Standing,
};
use crate::{
    audit::Tally,
    error::ApiError,
    middleware::admission::Admitted,
    telemetry::metrics::Metrics,
    types::{clock::Clock, ids::SiteId, patience::at_once},
};

/// What a request is to be charged, put into its extensions by the layer that proved its caller.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Who pays; nobody is known behind a forged token.
    pub payer: Option<Payer>,
    /// How much.
    pub charge: Charge,
    /// Whether the caller is told where its quota stands.
    pub disclosure: Disclosure,
}

/// A site and the plan it is on.
#[derive(Clone, Debug)]
pub struct Payer {
    /// The site.
    pub site_id: SiteId,
    /// The name of its plan.
    pub plan: Arc<str>,
}

/// The price of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// One call.
    Call,
    /// Nothing.
    Nothing,
}

/// Who may know where a quota stands: the site's proxy, not the customer's app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disclosure {
    /// The response carries the `RateLimit` fields.
    Shown,
    /// It does not.
    Hidden,
}

/// What a charged request came to; put into the extensions of its response. A response without one
/// gets its charge back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token was issued.
    Issued,
    /// A token was found valid.
    Validated,
    /// A token may have been issued: the store did not say. Stays charged, and is not counted.
    Unknown,
}

/// Asked before a call is refused: has it meanwhile become one that costs nothing?
pub trait SecondLook: Clone + Send + Sync + 'static {
    /// Looks again, and notes in the request's extensions what it found.
    fn costs_nothing(
        &self,
        extensions: &mut Extensions,
    ) -> impl Future<Output = Result<bool, ApiError>> + Send;
}

/// Reserves a call for each request whose [`Meter`] says so, and settles it on the response: what
/// has an [`Outcome`] stays charged, all else is given back. A request that is dropped on its way
/// stays charged.
///
/// # Errors
/// 429 `quota_exceeded` when the site's day or month is used up; 500 when no layer before this one
/// left a [`Meter`].
#[derive(Clone)]
pub struct QuotaLayer<L> {
    ledger: Ledger,
    clock: Clock,
    tally: Tally,
    metrics: Metrics,
    second_look: L,
}

impl<L> QuotaLayer<L> {
    /// Charges `ledger`; `second_look` is asked before a request is refused, `tally` is told of
    /// the window that is used up, and `metrics` of the plan.
    pub const fn new(
        ledger: Ledger,
        clock: Clock,
        tally: Tally,
        metrics: Metrics,
        second_look: L,
    ) -> Self {
        Self {
            ledger,
            clock,
            tally,
            metrics,
            second_look,
        }
    }
}

impl<S, L: Clone> Layer<S> for QuotaLayer<L> {
    type Service = Quota<S, L>;

    fn layer(&self, inner: S) -> Self::Service {
        Quota {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that [`QuotaLayer`] makes.
#[derive(Clone)]
pub struct Quota<S, L> {
    inner: S,
    // Cloned several times a request.
    layer: Arc<QuotaLayer<L>>,
}

impl<S, L> Service<Request> for Quota<S, L>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    L: SecondLook,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let layer = Arc::clone(&self.layer);
        let is_charged = request
            .extensions()
            .get()
            .is_some_and(|meter: &Meter| meter.charge == Charge::Call);
        if !is_charged {
            return Box::pin(async move { layer.pass(inner, request).await });
        }
        Box::pin(async move {
            let mut charged = Box::pin(async move { layer.charge(inner, request).await });
            if let Poll::Ready(response) = at_once(charged.as_mut()).await {
                return response;
            }
            // All else is a task of its own: who hangs up, or is answered that it took too long,
            // cancels neither a commit nor what settles the charge.
            // Of a request that is traced, what it does there is told too.
            match tokio::spawn(charged.with_current_context())
                .await
                .map_err(JoinError::try_into_panic)
            {
                Ok(response) => response,
                Err(Ok(panic)) => resume_unwind(panic),
                Err(Err(_cut_off)) => Ok(ApiError::Overloaded.into_response()),
            }
        })
    }
}

impl<L: SecondLook> QuotaLayer<L> {
    async fn charge<S>(&self, mut inner: S, mut request: Request) -> Result<Response, S::Error>
    where
        S: Service<Request, Response = Response>,
    {
        // The place is taken until all is done, also when the caller has hung up.
        let _admitted = request.extensions().get::<Admitted>().cloned();
        let Some(meter) = request.extensions().get::<Meter>().cloned() else {
            return Ok(ApiError::missing_layer("identify").into_response());
        };
        let Some(payer) = &meter.payer else {
            return Ok(ApiError::internal("a call without a payer").into_response());
        };
        let permit = match self.ledger.reserve(payer.site_id, &payer.plan, 1).await {
            Ok(permit) => permit,
            Err(refused) => {
                return match self
                    .second_look(payer, refused, request.extensions_mut())
                    .await
                {
                    Ok(()) => self.pass(inner, request).await,
                    Err((error, standing)) => {
                        let response = error.into_response();
                        Ok(self.disclose(&meter, standing, response).await)
                    }
                };
            }
        };
        let calling = AssertUnwindSafe(async { inner.call(request).await });
        let response = match calling.catch_unwind().await {
            Ok(response) => response?,
            Err(panic) => {
                permit.settle(None).await;
                resume_unwind(panic);
            }
        };
        let outcome = response.extensions().get::<Outcome>().copied();
        let standing = permit.settle(outcome).await;
        Ok(self.disclose(&meter, Some(standing), response).await)
    }

    /// Lets a request through that costs nothing.
    async fn pass<S>(&self, mut inner: S, request: Request) -> Result<Response, S::Error>
    where
        S: Service<Request, Response = Response>,
    {
        let Some(meter) = request.extensions().get::<Meter>().cloned() else {
            return Ok(ApiError::missing_layer("identify").into_response());
        };
        let response = inner.call(request).await?;
        Ok(self.disclose(&meter, None, response).await)
    }

    /// Passes a request after all, or says with what it is refused and where the quota stands.
    async fn second_look(
        &self,
        payer: &Payer,
        refused: QuotaError,
        extensions: &mut Extensions,
    ) -> Result<(), (ApiError, Option<Standing>)> {
        let QuotaError::Exceeded(standing) = refused else {
            return Err((refused.into(), None));
        };
        match self.second_look.costs_nothing(extensions).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.metrics.quota_refusal(&payer.plan);
                let violated = standing.violated_by(1);
                for (window, usage) in standing.violated(violated) {
                    self.tally.exhausted(payer.site_id, window, usage.resets_at);
                }
                let error = ApiError::QuotaExceeded {
                    violated: violated.names(),
                    retry_after: standing.retry_after(violated, self.clock.now()),
                };
                Err((error, Some(standing)))
            }
            Err(error) => Err((error, Some(standing))),
        }
    }

    /// Adds the `RateLimit` fields where they are due. When the store cannot tell where the quota
    /// stands, the response goes without: it matters more than they do.
    pub(crate) async fn disclose(
        &self,
        meter: &Meter,
        known: Option<Standing>,
        mut response: Response,
    ) -> Response {
        let (Disclosure::Shown, Some(payer)) = (meter.disclosure, &meter.payer) else {
            return response;
        };
        let standing = match known {
            Some(standing) => Some(standing),
            None if response.status().is_server_error() => None,
            None => self.ledger.standing(payer.site_id, &payer.plan).await.ok(),
        };
        if let Some(standing) = standing {
            fields::write(response.headers_mut(), &standing, self.clock.now());
        }
        response
    }
}
