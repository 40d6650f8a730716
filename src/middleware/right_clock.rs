//! Lets no request through that would be judged by a wrong clock.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{error::ApiError, state::AppState};

/// Answers 503 `store_unavailable` while the clock is wrong: sessions, tokens and codes are judged by
/// it, and changes are told with their time.
pub(crate) async fn require_right_clock(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    match state.database.time().require(&state.clock) {
        Ok(()) => next.run(request).await,
        Err(_told_in_the_log) => ApiError::WrongClock.into_response(),
    }
}
