//! The tower layer that charges a call before it is made and settles the charge on its response.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use opentelemetry::trace::FutureExt as _;
use tokio::task::JoinError;
use tower::{Layer, Service};

use super::{
    fields,
    ledger::{Ledger, QuotaError},
    permit::Permit,
    windows::Standing,
};
use crate::{
    audit::Tally,
    error::ApiError,
    middleware::admission::Admitted,
    telemetry::metrics::Metrics,
    types::{clock::Clock, ids::SiteId, patience::at_once},
};

/// A request whose caller is proven, as the quota's layer takes it.
#[derive(Debug)]
pub struct Metered<R> {
    /// What is handed on.
    pub request: R,
    /// What it is to be charged.
    pub meter: Meter,
    /// Its place among those that are worked on, held until its charge is settled.
    pub admitted: Admitted,
}

/// What a request is to be charged.
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

/// What a request is answered, and what it came to: without an outcome it gets its charge back.
#[derive(Debug)]
pub struct Answer {
    /// The response.
    pub response: Response,
    /// What is charged for.
    pub outcome: Option<Outcome>,
}

impl Answer {
    /// An answer that is charged for.
    pub fn to(outcome: Outcome, response: impl IntoResponse) -> Self {
        Self {
            response: response.into_response(),
            outcome: Some(outcome),
        }
    }

    /// One that is not.
    pub fn free(response: impl IntoResponse) -> Self {
        Self {
            response: response.into_response(),
            outcome: None,
        }
    }
}

/// What a charged request came to.
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
pub trait SecondLook: Send + 'static {
    /// Looks again, and notes what it found.
    fn costs_nothing(&mut self) -> impl Future<Output = Result<bool, ApiError>> + Send;
}

/// Reserves a call for each [`Metered`] request whose [`Meter`] says so, and settles it on the
/// [`Answer`]: what has an [`Outcome`] stays charged, all else is given back. A request that is
/// dropped on its way stays charged.
///
/// # Errors
/// 429 `quota_exceeded` when the site's day or month is used up.
#[derive(Clone)]
pub struct QuotaLayer {
    ledger: Ledger,
    clock: Clock,
    tally: Tally,
    metrics: Metrics,
}

impl QuotaLayer {
    /// Charges `ledger`; of a request that is refused `tally` is told the window that is used up, and
    /// `metrics` the plan.
    #[must_use]
    pub const fn new(ledger: Ledger, clock: Clock, tally: Tally, metrics: Metrics) -> Self {
        Self {
            ledger,
            clock,
            tally,
            metrics,
        }
    }
}

impl<S> Layer<S> for QuotaLayer {
    type Service = Quota<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Quota {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that [`QuotaLayer`] makes.
#[derive(Clone)]
pub struct Quota<S> {
    inner: S,
    // Cloned several times a request.
    layer: Arc<QuotaLayer>,
}

impl<S, R> Service<Metered<R>> for Quota<S>
where
    S: Service<R, Response = Answer> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    R: SecondLook,
{
    type Response = Answer;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Answer, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, metered: Metered<R>) -> Self::Future {
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let layer = Arc::clone(&self.layer);
        if metered.meter.charge == Charge::Nothing {
            return Box::pin(async move {
                let Metered {
                    request,
                    meter,
                    admitted: _held_to_the_end,
                } = metered;
                layer.pass(inner, request, &meter).await
            });
        }
        let mut charged = Box::pin(layer.charge(inner, metered));
        Box::pin(async move {
            if let Poll::Ready(answer) = at_once(charged.as_mut()).await {
                return answer;
            }
            // All else is a task of its own: who hangs up, or is answered that it took too long,
            // cancels neither a commit nor what settles the charge.
            // Of a request that is traced, what it does there is told too.
            match tokio::spawn(charged.with_current_context())
                .await
                .map_err(JoinError::try_into_panic)
            {
                Ok(answer) => answer,
                Err(Ok(panic)) => resume_unwind(panic),
                Err(Err(_cut_off)) => Ok(Answer::free(ApiError::Overloaded)),
            }
        })
    }
}

impl QuotaLayer {
    async fn charge<S, R>(
        self: Arc<Self>,
        mut inner: S,
        metered: Metered<R>,
    ) -> Result<Answer, S::Error>
    where
        S: Service<R, Response = Answer>,
        R: SecondLook,
    {
        let Metered {
            mut request,
            meter,
            // Held to the end.
            mut admitted,
        } = metered;
        let Some(payer) = &meter.payer else {
            return Ok(Answer::free(ApiError::internal("a call without a payer")));
        };
        let permit = match self.reserve(payer, &mut admitted).await {
            Ok(permit) => permit,
            Err(refused) => {
                return match Box::pin(self.second_look(payer, refused, &mut request)).await {
                    Ok(()) => self.pass(inner, request, &meter).await,
                    Err((error, standing)) => {
                        let refusal = Answer::free(error);
                        Ok(self.disclose(&meter, standing, refusal).await)
                    }
                };
            }
        };
        let calling = AssertUnwindSafe(async { inner.call(request).await });
        let answer = match calling.catch_unwind().await {
            Ok(answer) => answer?,
            Err(panic) => {
                permit.settle(None).await;
                resume_unwind(panic);
            }
        };
        let standing = permit.settle(answer.outcome).await;
        Ok(self.disclose(&meter, Some(standing), answer).await)
    }

    /// Takes a call of the payer's. While others take theirs the request steps aside.
    async fn reserve(&self, payer: &Payer, admitted: &mut Admitted) -> Result<Permit, QuotaError> {
        let Payer { site_id, plan } = payer;
        // Most calls end here, so this comes before all else.
        if let Some(permit) = self.ledger.spend(*site_id, plan, 1) {
            return Ok(permit);
        }
        // On the heap: else each call would carry the room for it, also one that is spent from memory.
        Box::pin(async {
            let turn = admitted.aside(self.ledger.turn(*site_id)).await??;
            turn.take(plan, 1).await
        })
        .await
    }

    /// Lets a request through that costs nothing.
    async fn pass<S, R>(&self, mut inner: S, request: R, meter: &Meter) -> Result<Answer, S::Error>
    where
        S: Service<R, Response = Answer>,
    {
        let answer = inner.call(request).await?;
        Ok(self.disclose(meter, None, answer).await)
    }

    /// Passes a request after all, or says with what it is refused and where the quota stands.
    async fn second_look(
        &self,
        payer: &Payer,
        refused: QuotaError,
        request: &mut impl SecondLook,
    ) -> Result<(), (ApiError, Option<Standing>)> {
        let QuotaError::Exceeded(standing) = refused else {
            return Err((refused.into(), None));
        };
        match request.costs_nothing().await {
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
        mut answer: Answer,
    ) -> Answer {
        let (Disclosure::Shown, Some(payer)) = (meter.disclosure, &meter.payer) else {
            return answer;
        };
        let response = &mut answer.response;
        let standing = match known {
            Some(standing) => Some(standing),
            None if response.status().is_server_error() => None,
            // On the heap: asking the store takes room, and where the quota stands is mostly known.
            None => {
                let asked = self.ledger.standing(payer.site_id, &payer.plan);
                Box::pin(asked).await.ok()
            }
        };
        if let Some(standing) = standing {
            fields::write(response.headers_mut(), &standing, self.clock.now());
        }
        answer
    }
}
