//! `/talk`: lets a person talk to an echo agent with their own voice. The script of the page makes the conversation
//! through the same endpoints that agents use.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use talktrack::UserId;

use super::address::ServerAddress;
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::visitor::Visitor;
use crate::config::Scope;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "talk.html")]
struct TalkPage {
    layout: Layout,
    /// The user of the conversation; `None` if the page chooses a random one.
    user: Option<UserId>,
    /// The WebSocket address of the server as the browser sees it.
    address: String,
    /// True if a connection needs a token.
    needs_token: bool,
}

/// Returns the page.
pub(super) async fn show_talk(
    State(state): State<AppState>,
    visitor: Visitor,
    address: ServerAddress,
) -> Result<Response, ErrorPage> {
    let layout = visitor.layout(NavItem::Talk);
    if let Err(problem) = visitor.caller.require(Scope::Write) {
        return Err(ErrorPage::new(problem, layout));
    }
    let user = visitor.caller.resolve_user(None).ok().flatten();
    let address = address.websocket();
    let needs_token = !state.authenticator().is_open();
    Ok(render_page(StatusCode::OK, &TalkPage { layout, user, address, needs_token }))
}
