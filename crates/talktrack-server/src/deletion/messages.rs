//! Removes and replaces messages of a session that is kept.

use talktrack::record::{Edit, MessagesEdit};
use talktrack::store::EditedMessages;
use talktrack::{EditError, MessageId, NotDurable, SessionId};

use super::{DeletionReport, remove_rows, run_to_completion};
use crate::access::{self, Granted, SessionName, SessionView};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// Deletes one message.
///
/// # Errors
/// 404 if the session or the message is absent or not the caller's, 403 if a user's token names a message that no user
/// wrote, and 503 if the store must be asked and cannot answer.
pub(crate) async fn delete_message(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
    id: MessageId,
) -> Result<(SessionId, DeletionReport), Problem> {
    let granted = access::to_edit(state, caller, name).await?;
    let view = SessionView::open_granted(state, caller, &granted).await?;
    let found = view.message(id).await.map_err(|error| Problem::read_failed(&error))?;
    let row = found.ok_or_else(Problem::message_not_found)?;
    if caller.user().is_some() && !row.is_by_user() {
        return Err(NotDurable::NotTheirs.into());
    }
    remove(state, caller, &granted, Edit::Delete(vec![id])).await
}

/// Deletes all messages of a session: those that are stored, and those that wait on this node.
///
/// # Errors
/// As for [`delete_message`].
pub(crate) async fn clear_messages(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<(SessionId, DeletionReport), Problem> {
    let granted = access::to_edit(state, caller, name).await?;
    remove(state, caller, &granted, Edit::Clear { waited: Vec::new() }).await
}

/// Removes the last messages of a session, or replaces all of them, and returns what was removed and written. An edit that
/// has begun is completed even if the caller disconnects.
///
/// # Errors
/// As for [`delete_message`]. Also fails if the store cannot apply the edit now.
pub(crate) async fn edit_messages(
    state: &AppState,
    caller: &Caller,
    granted: &Granted,
    edit: Edit,
) -> Result<EditedMessages, Problem> {
    let edit = new_edit(caller, granted, edit);
    let tracker = state.tracker().clone();
    let edited = run_to_completion(async move { Ok(tracker.edit_messages(edit).await) }).await?;
    edited.map_err(|error| to_problem(caller, error))
}

async fn remove(
    state: &AppState,
    caller: &Caller,
    granted: &Granted,
    edit: Edit,
) -> Result<(SessionId, DeletionReport), Problem> {
    let edit = new_edit(caller, granted, edit);
    let state = state.clone();
    let gone = run_to_completion(async move {
        let mut gone = DeletionReport::default();
        remove_rows(&state, state.tracker().delete_messages(edit)?, &mut gone).await?;
        Ok(gone)
    });
    Ok((granted.session_id, gone.await?))
}

fn new_edit(caller: &Caller, granted: &Granted, edit: Edit) -> MessagesEdit {
    MessagesEdit {
        session_id: granted.session_id,
        owner: granted.claim.clone(),
        told_to: granted.owner.clone(),
        by_user: caller.user().is_some(),
        written: Vec::new(),
        edit,
    }
}

fn to_problem(caller: &Caller, error: EditError) -> Problem {
    match error {
        EditError::NotAccepted(reason) => reason.into(),
        EditError::Refused(why) => access::mask_refusal(caller, why).into(),
        error => {
            tracing::warn!("{error}");
            Problem::store_unavailable(
                "the store cannot change the messages now; nothing was changed, unless the connection to it broke",
            )
        }
    }
}
