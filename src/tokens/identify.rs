//! The tower layer that reads a request once and finds out who calls, and what that costs.

use std::{
    future::ready,
    marker::PhantomData,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::{
    error::ApiError,
    extract::{read_body, require_json},
    middleware::{admission::Admitted, client_address::ClientAddress, edge::LoggedSite},
    quota::{Answer, Meter, Metered, QuotaLayer, SecondLook},
    sites::{Caller, Recalled},
    state::AppState,
    store::Share,
    types::{ids::TokenId, secret::ProxySecret},
};

/// A kind of request of the data plane: how it is read, and how its caller is proven.
pub(crate) trait Call: Sized + Send + 'static {
    /// Its fields, each parsed.
    type Fields: Send;

    /// The share of the connections to the store that it has, and of the places.
    const SHARE: Share = Share::Calls;

    /// Parses the headers and the body, which is JSON.
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self::Fields, ApiError>;

    /// Proves who calls, and says what the call costs. While it waits for others it steps aside.
    fn identify(
        fields: Self::Fields,
        address: IpAddr,
        state: &AppState,
        admitted: &mut Admitted,
    ) -> impl Future<Output = Result<Identified<Self>, Refused>> + Send;

    /// Whether it has become one that costs nothing; asked before it is refused for its quota.
    fn costs_nothing(
        &mut self,
        _state: &AppState,
    ) -> impl Future<Output = Result<bool, ApiError>> + Send {
        ready(Ok(false))
    }

    /// The token of which a valid verdict was counted, to be given back if it is not told.
    fn counted(&self) -> Option<TokenId> {
        None
    }
}

/// A request whose caller is known.
pub(crate) struct Identified<C> {
    pub(super) call: C,
    pub(super) meter: Meter,
}

/// A request that goes no further. When the caller is known, it may be told where its quota stands.
pub(crate) struct Refused {
    error: ApiError,
    meter: Option<Meter>,
}

impl Refused {
    pub(super) fn after_proof(error: impl Into<ApiError>, meter: &Meter) -> Self {
        Self {
            error: error.into(),
            meter: Some(meter.clone()),
        }
    }
}

impl<E: Into<ApiError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            meter: None,
        }
    }
}

/// Proves a site by its secret. A failure counts against the address that it comes from, and only a
/// failure can be refused for that.
pub(super) async fn prove<C: Call>(
    secret: &ProxySecret,
    address: IpAddr,
    state: &AppState,
) -> Result<Caller, ApiError> {
    let caller = match state.sites.recall(secret)? {
        Recalled::Known(caller) => caller,
        Recalled::Unread(unread) => {
            // Anybody may come with one, so a client has only so many looked up at once.
            let _place = state.crowds.at_address(address, C::SHARE)?;
            state.sites.look_up(unread).await?
        }
    };
    if let Some(caller) = caller {
        return Ok(caller);
    }
    state.attempts.failure(address, state.clock.monotonic())?;
    Err(if secret.is_mispasted() {
        ApiError::MispastedProxySecret
    } else {
        ApiError::InvalidProxySecret
    })
}

/// Reads each request of a route as a `C`, and hands it on with its caller proven.
///
/// The endpoint behind the quota's layer takes it as a [`Known`].
///
/// # Errors
/// 400, 408, 413, 415 and 422 for what cannot be read; 401, 403, 422 and 429 for what is read and
/// refused.
pub(super) struct IdentifyLayer<C> {
    state: AppState,
    quota: QuotaLayer,
    body_patience: Duration,
    call: PhantomData<fn() -> C>,
}

impl<C> IdentifyLayer<C> {
    pub(super) fn new(state: &AppState, quota: &QuotaLayer) -> Self {
        Self {
            state: state.clone(),
            quota: quota.clone(),
            body_patience: Duration::from_secs(state.config.server.body_timeout_seconds.into()),
            call: PhantomData,
        }
    }
}

impl<C> Clone for IdentifyLayer<C> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            quota: self.quota.clone(),
            body_patience: self.body_patience,
            call: PhantomData,
        }
    }
}

impl<S, C> Layer<S> for IdentifyLayer<C> {
    type Service = Identify<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Identify {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that [`IdentifyLayer`] makes.
pub(super) struct Identify<S, C> {
    inner: S,
    // Cloned several times a request.
    layer: Arc<IdentifyLayer<C>>,
}

impl<S: Clone, C> Clone for Identify<S, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: Arc::clone(&self.layer),
        }
    }
}

impl<S, C> Service<Request> for Identify<S, C>
where
    S: Service<Metered<Box<Known<C>>>, Response = Answer> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    C: Call,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = Arc::clone(&self.layer);
        let (parts, body) = request.into_parts();
        let answering = async move {
            let (mut admitted, read) = match layer.read(&parts.headers, body).await {
                Ok(read) => read,
                Err(error) => return Ok(error.into_response()),
            };
            let Identified { call, meter } =
                match layer.identify(&parts, &read, &mut admitted).await {
                    Ok(identified) => identified,
                    Err(refused) => return Ok(layer.refuse(refused).await),
                };
            let (site, counted) = (logged_site(&meter), call.counted());
            let state = layer.state.clone();
            let known = Known { call, parts, state };
            let Answer {
                mut response,
                outcome,
            } = inner
                .call(Metered {
                    request: Box::new(known),
                    meter,
                    admitted,
                })
                .await?;
            if let (Some(token_id), None) = (counted, outcome) {
                let now = layer.state.clock.monotonic();
                layer.state.attempts.verdict_unused(token_id, now);
            }
            response.extensions_mut().insert(site);
            Ok(response)
        };
        match C::SHARE {
            // Which is that of whoever names none.
            Share::Calls => Box::pin(answering),
            share => Box::pin(share.around(answering)),
        }
    }
}

impl<C: Call> IdentifyLayer<C> {
    /// Reads a request to its end, and only then admits it; none while the clock is wrong, by which
    /// it would be judged.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<(Admitted, Bytes), ApiError> {
        if self.state.database.time().is_wrong() {
            return Err(ApiError::WrongClock);
        }
        let body = read_body(headers, body, self.body_patience).await?;
        require_json(headers)?;
        Ok((self.state.admission.admit(C::SHARE).await?, body))
    }

    async fn identify(
        &self,
        parts: &Parts,
        body: &[u8],
        admitted: &mut Admitted,
    ) -> Result<Identified<C>, Refused> {
        let fields = C::parse(&parts.headers, body)?;
        let ClientAddress(address) = ClientAddress::of(parts)?;
        C::identify(fields, address, &self.state, admitted).await
    }

    async fn refuse(&self, refused: Refused) -> Response {
        let Some(meter) = refused.meter else {
            return refused.error.into_response();
        };
        let refusal = Answer::free(refused.error);
        let Answer { mut response, .. } = self.quota.disclose(&meter, None, refusal).await;
        response.extensions_mut().insert(logged_site(&meter));
        response
    }
}

fn logged_site(meter: &Meter) -> LoggedSite {
    LoggedSite(meter.payer.as_ref().map(|payer| payer.site_id))
}

/// A call whose caller is proven, as the endpoints take it: on the heap, since each future that it is
/// handed on through would carry a copy.
pub(crate) struct Known<C> {
    pub(super) call: C,
    /// The request that it was read from.
    pub(super) parts: Parts,
    pub(super) state: AppState,
}

impl<C: Call> SecondLook for Box<Known<C>> {
    async fn costs_nothing(&mut self) -> Result<bool, ApiError> {
        self.call.costs_nothing(&self.state).await
    }
}
