//! Reads that the server makes on behalf of a user run with this user's rights, so that the policies of the
//! project apply. Only the search index, to which users have no right, is read with the server's own rights.

use std::sync::Arc;
use std::time::Duration;

use talktrack::search::{Hit, SearchFilter};
use talktrack::stats::TimeRange;
use talktrack::store::{Rows, SessionFilter, Viewer};
use talktrack::{JsonObject, NewSession, Role, SessionId, UserId};
use talktrack_testbed::Database;
use talktrack_testkit::{Setup, Trial, eventually};

use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER, dir};

const SECOND: SessionId = SessionId::from_u128(0xa1);
const OTHER: SessionId = SessionId::from_u128(0xa2);
const OTHER_USER: UserId = UserId::from_u128(0xb1);

/// Hides some messages and one session from users, and revokes every right that they do not need.
const NARROWER: &str = "
    CREATE POLICY no_secrets ON conversation_messages AS RESTRICTIVE FOR SELECT TO authenticated
      USING (content NOT LIKE '%secret%');
    REVOKE ALL ON conversation_search, conversation_stats, conversation_stats_stale, conversation_nodes,
      conversation_deletions, conversation_store FROM authenticated";

/// Tracks three sessions with the word `order`: in the first it is visible, in the second it is in a
/// secret, and the third belongs to another user.
async fn trial(database: &Database, dir: &tempfile::TempDir) -> Trial {
    let mut trial = Trial::open(Setup::remote(dir.path(), Arc::new(store_at(&database.url()))));
    for (session, user, texts) in [
        (SESSION, USER, &["my order", "a secret order", "nothing"][..]),
        (SECOND, USER, &["another secret order", "good bye"]),
        (OTHER, OTHER_USER, &["their order"]),
    ] {
        trial.start(NewSession::new(session, user)).await;
        for text in texts {
            trial.say(session, Role::User, text).await;
        }
    }
    trial.settled().await;
    eventually("everything is indexed", || database.psql("SELECT count(*) FROM conversation_search") == "6")
        .await;
    database.psql(NARROWER);
    trial
}

fn viewer(trial: &Trial) -> Arc<dyn Rows> {
    let claims = JsonObject::parse("{}").unwrap();
    trial.tracker().reader().as_user(Viewer::new(USER, claims))
}

fn wanted(user_id: Option<UserId>, session_id: Option<SessionId>) -> SearchFilter {
    SearchFilter::new("order".parse().unwrap()).with_user_id(user_id).with_session_id(session_id)
}

fn contents(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.snippet.iter().map(|piece| &*piece.text).collect()).collect()
}

#[tokio::test]
async fn a_search_as_a_user_finds_what_policies_of_the_project_leave_to_be_seen() {
    let dir = dir();
    let database = migrated().await;
    let trial = trial(&database, &dir).await;
    let all = trial.tracker().reader();
    let mine = viewer(&trial);
    assert_eq!(all.search(wanted(None, None), None, 10).await.unwrap().len(), 4);
    assert_eq!(all.search(wanted(Some(USER), None), None, 10).await.unwrap().len(), 3);
    for filter in [wanted(None, None), wanted(Some(USER), None), wanted(None, Some(SESSION))] {
        // Hidden hits between the visible ones must neither shorten a page nor continue it.
        for limit in [1, 10] {
            let hits = mine.search(filter.clone(), None, limit).await.unwrap();
            assert_eq!(contents(&hits), ["my order"], "{filter:?}");
            assert_eq!(hits[0].user_id, USER);
            let after = mine.search(filter.clone(), Some(hits[0].cursor()), 10).await.unwrap();
            assert_eq!(after, [], "{filter:?}");
        }
    }
    for filter in [wanted(Some(OTHER_USER), None), wanted(None, Some(OTHER)), wanted(None, Some(SECOND))] {
        assert_eq!(mine.search(filter.clone(), None, 10).await.unwrap(), [], "{filter:?}");
    }
}

#[tokio::test]
async fn a_session_is_found_by_words_that_the_user_may_see_and_by_no_others() {
    let dir = dir();
    let database = migrated().await;
    let trial = trial(&database, &dir).await;
    let mine = viewer(&trial);
    let sessions = async |query: &str, limit| {
        let filter =
            SessionFilter::default().with_matching(query.parse::<talktrack::search::Query>().unwrap());
        let rows = mine.sessions(filter, None, limit).await.unwrap();
        rows.into_iter().map(|row| row.session_id).collect::<Vec<_>>()
    };
    // The newest session has the word only where the user may not see it, so the page is filled with older sessions.
    assert_eq!(sessions("order", 10).await, [SESSION]);
    assert_eq!(sessions("order", 1).await, [SESSION]);
    assert_eq!(sessions("secret", 10).await, [] as [SessionId; 0]);
    assert_eq!(sessions("bye", 10).await, [SECOND]);
    assert_eq!(sessions("their", 10).await, [] as [SessionId; 0]);
}

#[tokio::test]
async fn every_other_read_as_a_user_needs_no_more_than_the_two_tables() {
    let dir = dir();
    let database = migrated().await;
    let trial = trial(&database, &dir).await;
    let mine = viewer(&trial);
    let ids = |rows: Vec<talktrack::store::SessionRow>| {
        rows.into_iter().map(|row| row.session_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(mine.sessions(SessionFilter::default(), None, 10).await.unwrap().rows), [SECOND, SESSION]);
    assert_eq!(ids(mine.sessions_by_prefix("00000000", 10).await.unwrap()), [SESSION, SECOND]);
    assert!(mine.session(SESSION).await.unwrap().is_some());
    assert!(mine.session(OTHER).await.unwrap().is_none());
    assert!(mine.session_by_external_id(&USER, "none").await.unwrap().is_none());
    let messages = mine.messages(SESSION, None, 10).await.unwrap();
    let said: Vec<_> = messages.iter().map(|row| &*row.content).collect();
    assert_eq!(said, ["my order", "nothing"]);
    let previews = mine.session_previews(&[SESSION, SECOND, OTHER]).await.unwrap();
    let words: Vec<_> = previews.iter().map(|preview| &*preview.last_words).collect();
    assert_eq!(words, ["nothing", "good bye"]);
    trial.wait(Duration::from_secs(3_600));
    let range = TimeRange::new(None, None, None, trial.now()).unwrap();
    let counted = mine.user_stats(&USER, &range).await.unwrap();
    assert_eq!((counted.total().sessions.begun, counted.total().messages.total()), (2, 3));
}
