//! A form of the dashboard. It is small, and counts against the memory for request bodies.

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::body;
use crate::error::Problem;
use crate::state::AppState;

/// The maximum size of a form in bytes. A form has only a token, a reason or a number, and anyone may send one before a
/// login.
pub(crate) const MAX_FORM_BYTES: usize = 32 << 10;

/// The fields of a form, deserialised into `T`.
pub(crate) struct FormBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for FormBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let (bytes, _room) =
            body::read(body, state, MAX_FORM_BYTES, "a form has at most 32768 bytes").await?;
        let request = Request::from_parts(head, Body::from(bytes));
        let form = Form::<T>::from_request(request, state).await;
        form.map(|Form(fields)| Self(fields)).map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}
