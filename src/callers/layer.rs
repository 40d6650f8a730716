//! The layer that identifies callers.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use axum::{
    extract::{FromRequestParts, Request},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use super::{
    credentials::Presented,
    crowds::AccountPlace,
    scope::{Scope, Scopes},
};
use crate::{
    accounts::Role,
    api_tokens::ProvenApiToken,
    error::ApiError,
    keys::AccountTokenKind,
    middleware::client::Client,
    sessions::Proven,
    state::AppState,
    store::{
        Share,
        changes::{Actor, Context},
    },
    types::ids::{AccountId, ApiTokenId, SessionId},
};

/// Who calls, proven.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The account.
    pub account_id: AccountId,
    /// What the account may do.
    pub role: Role,
    /// What it has proven itself with.
    pub credential: Credential,
    /// Where it calls from.
    pub client: Client,
}

/// What somebody has proven themselves with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An access token.
    AccessToken {
        /// Its session.
        session_id: SessionId,
    },
    /// A one-hour token.
    OneHourToken {
        /// Its session.
        session_id: SessionId,
    },
    /// An API token.
    ApiToken {
        /// Its id.
        token_id: ApiTokenId,
        /// What it may do.
        scopes: Scopes,
    },
}

/// Which credentials get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Access tokens alone: somebody's own account and API tokens.
    OwnAccount,
    /// Any.
    SignedIn,
    /// Any, but of API tokens those with a scope.
    Scoped(Scope),
}

impl Caller {
    /// Lets admins alone pass.
    ///
    /// # Errors
    /// 403 for everybody else.
    pub fn require_admin(&self) -> Result<(), ApiError> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Owner => Err(ApiError::Forbidden),
        }
    }

    /// Whether what belongs to `owner` is the caller's to see and to change.
    #[must_use]
    pub fn may_see(&self, owner: Option<AccountId>) -> bool {
        match self.role {
            Role::Admin => true,
            Role::Owner => owner == Some(self.account_id),
        }
    }

    fn from_session(proven: Proven, client: &Client) -> Self {
        let session_id = proven.session_id;
        Self {
            account_id: proven.account_id,
            role: proven.role,
            credential: match proven.kind {
                AccountTokenKind::Access => Credential::AccessToken { session_id },
                AccountTokenKind::OneHour => Credential::OneHourToken { session_id },
            },
            client: client.clone(),
        }
    }

    fn from_api_token(proven: ProvenApiToken, client: &Client) -> Self {
        Self {
            account_id: proven.account_id,
            role: proven.role,
            credential: Credential::ApiToken {
                token_id: proven.token_id,
                scopes: proven.scopes,
            },
            client: client.clone(),
        }
    }

    /// What its changes are recorded with.
    #[must_use]
    pub fn context(&self) -> Context {
        let account_id = self.account_id;
        self.client.acting_as(match &self.credential {
            Credential::AccessToken { .. } | Credential::OneHourToken { .. } => {
                Actor::Account(account_id)
            }
            Credential::ApiToken { token_id, .. } => Actor::ApiToken {
                token_id: *token_id,
                account_id,
            },
        })
    }

    /// Its session, when it has one.
    #[must_use]
    pub const fn session_id(&self) -> Option<SessionId> {
        match self.credential {
            Credential::AccessToken { session_id } | Credential::OneHourToken { session_id } => {
                Some(session_id)
            }
            Credential::ApiToken { .. } => None,
        }
    }
}

impl Door {
    fn admit(self, caller: &Caller) -> Result<(), ApiError> {
        match (self, &caller.credential) {
            (Self::OwnAccount, Credential::AccessToken { .. }) | (Self::SignedIn, _) => Ok(()),
            (Self::OwnAccount, _) => Err(ApiError::Forbidden),
            (Self::Scoped(scope), Credential::ApiToken { scopes, .. }) if !scopes.allow(scope) => {
                Err(ApiError::InsufficientScope(scope))
            }
            (Self::Scoped(_), _) => Ok(()),
        }
    }
}

/// Finds out who calls, and lets in whom its [`Door`] admits.
///
/// The session and the account are read from the store for each request, so that what was ended or
/// disabled is refused at once.
///
/// The work for a caller has a share of the connections to the store that calls about tokens have no
/// part in, and one client, or account, has a bounded number of requests worked on.
///
/// # Errors
/// 401 when nobody is proven, 403 when the credential is not enough, 503 when too much is worked on
/// for the client or the account already.
#[derive(Clone)]
pub struct CallerLayer {
    state: AppState,
    door: Door,
    share: Share,
}

impl CallerLayer {
    /// A layer with this door.
    #[must_use]
    pub fn new(state: &AppState, door: Door) -> Self {
        Self {
            state: state.clone(),
            door,
            share: Share::Management,
        }
    }

    /// The same layer before what takes something back, which comes by all other requests.
    #[must_use]
    pub fn urgent(self) -> Self {
        Self {
            share: Share::Urgent,
            ..self
        }
    }

    async fn identify(&self, parts: &mut Parts) -> Result<(Caller, AccountPlace), ApiError> {
        let client = Client::from_request_parts(parts, &()).await?;
        let crowds = &self.state.crowds;
        let _until_known = crowds.at_address(client.address, self.share)?;
        let caller = match Presented::read(&parts.headers) {
            Some(Presented::Bearer(token)) => self.session(token, &client).await?,
            Some(Presented::Bare(token)) => {
                let caller = self.session(token, &client).await?;
                caller.filter(|caller| matches!(caller.credential, Credential::OneHourToken { .. }))
            }
            Some(Presented::ApiToken(token)) => {
                let proven = self.state.api_tokens.prove(token).await?;
                proven.map(|proven| Caller::from_api_token(proven, &client))
            }
            None => None,
        };
        let caller = caller.ok_or(ApiError::Unauthorized)?;
        self.door.admit(&caller)?;
        let place = crowds.at_account(caller.account_id, self.share)?;
        Ok((caller, place))
    }

    async fn session(&self, token: &str, client: &Client) -> Result<Option<Caller>, ApiError> {
        let proven = self.state.sessions.prove(token).await?;
        Ok(proven.map(|proven| Caller::from_session(proven, client)))
    }
}

impl<S> Layer<S> for CallerLayer {
    type Service = CallerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerService {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that [`CallerLayer`] makes.
#[derive(Clone)]
pub struct CallerService<S> {
    inner: S,
    // Cloned several times a request.
    layer: Arc<CallerLayer>,
}

impl<S> Service<Request> for CallerService<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = Arc::clone(&self.layer);
        Box::pin(layer.share.around(async move {
            let (mut parts, body) = request.into_parts();
            match layer.identify(&mut parts).await {
                Ok((caller, _held_to_the_end)) => {
                    parts.extensions.insert(caller);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(error) => Ok(error.into_response()),
            }
        }))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get().cloned();
        caller.ok_or_else(|| ApiError::missing_layer("caller"))
    }
}
