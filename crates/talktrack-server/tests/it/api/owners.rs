//! Access control: users read and write their own data only, keys do what their scopes allow, and PostgreSQL itself
//! enforces this with row-level security.

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres, like_supabase};
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{ApiKey, SECRET, new_key};
use crate::harness::remote::migrated;
use crate::harness::{Home, Request, Server};

/// A server that accepts users' tokens and one API key.
struct Guarded {
    server: Server,
    key: ApiKey,
}

impl Guarded {
    async fn new(home: &Home, database: Option<&Database>) -> Self {
        let key = new_key(home, "k", "read,write").await;
        let mut command = home.server_command(&[]);
        command.env("TALKTRACK_API_KEYS", &key.entry).env("SUPABASE_JWT_SECRET", SECRET);
        database.inspect(|database| {
            command.env("DATABASE_URL", database.url());
        });
        Self { server: Server::start(home, command).await, key }
    }

    fn by<'s>(&'s self, token: &str, method: &'s str, path: &str) -> Request<'s> {
        self.server.request(method, path).token(token)
    }

    /// Starts a session of this user with one message, written with the key, and returns its id.
    async fn session_of(&self, user: Uuid) -> Uuid {
        let session = Uuid::new_v4();
        let body = json!({"session_id": session, "user_id": user});
        let started = self.by(&self.key.key, "POST", "/v1/sessions").json(&body).send().await;
        assert_eq!(started.status, 201, "{started:?}");
        let path = format!("/v1/sessions/{session}/messages?wait=stored");
        let message = json!({"role": "user", "content": "mine alone"});
        let said = self.by(&self.key.key, "POST", &path).json(&message).send().await;
        assert_eq!(said.status, 201, "{said:?}");
        session
    }
}

fn token(user: Uuid) -> String {
    SigningKey::secret(SECRET).token(&claims(user))
}

fn ids(list: &Value) -> Vec<&str> {
    let sessions = list["sessions"].as_array().unwrap();
    sessions.iter().map(|session| session["session_id"].as_str().unwrap()).collect()
}

/// Checks that every request of a user reads and writes that user's data only.
async fn each_has_their_own(guarded: &Guarded) {
    let ada = Uuid::new_v4();
    let bob = Uuid::new_v4();
    let adas = guarded.session_of(ada).await;
    let bobs = guarded.session_of(bob).await;
    let ada_token = token(ada);
    let bob_token = token(bob);
    let list = guarded.by(&ada_token, "GET", "/v1/sessions").send().await.json();
    assert_eq!(ids(&list), [adas.to_string()]);
    let others = guarded.by(&ada_token, "GET", &format!("/v1/sessions?user_id={bob}")).send().await;
    others.problem(403, "forbidden");
    for path in ["", "/messages"] {
        let own = guarded.by(&ada_token, "GET", &format!("/v1/sessions/{adas}{path}")).send().await;
        assert_eq!(own.status, 200, "{own:?}");
        let not = guarded.by(&bob_token, "GET", &format!("/v1/sessions/{adas}{path}")).send().await;
        assert_eq!(not.status, 404, "{not:?}");
        assert!(!not.body.contains("mine alone"));
    }
    let message = json!({"role": "user", "content": "not mine"});
    let update = json!({"metadata": {"a": 1}});
    for (method, path, body) in [
        ("POST", format!("/v1/sessions/{bobs}/messages"), &message),
        ("PATCH", format!("/v1/sessions/{bobs}"), &update),
        ("POST", format!("/v1/sessions/{bobs}/end"), &json!({})),
    ] {
        let answer = guarded.by(&ada_token, method, &path).json(body).send().await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    let taken = json!({"session_id": bobs});
    let answer = guarded.by(&ada_token, "POST", "/v1/sessions").json(&taken).send().await;
    let taken = answer.problem(404, "session_not_found").to_owned();
    let absent = json!({"session_id": Uuid::new_v4()});
    let answer = guarded.by(&ada_token, "POST", "/v1/sessions").json(&absent).send().await;
    assert_eq!(answer.problem(404, "session_not_found"), taken, "absent or another's, it is all the same");
    let for_another = json!({"user_id": bob});
    let answer = guarded.by(&ada_token, "POST", "/v1/sessions").json(&for_another).send().await;
    answer.problem(403, "forbidden");
    let own = guarded.by(&ada_token, "POST", "/v1/sessions").json(&json!({})).send().await;
    assert_eq!((own.status, &own.json()["user_id"]), (201, &json!(ada)), "{own:?}");
}

#[tokio::test]
async fn a_user_sees_and_writes_their_own_and_nobody_elses() {
    let home = Home::new();
    each_has_their_own(&Guarded::new(&home, None).await).await;
}

#[tokio::test]
async fn in_postgresql_too() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    each_has_their_own(&Guarded::new(&home, Some(&database)).await).await;
}

#[tokio::test]
async fn sessions_that_this_node_has_forgotten_are_guarded_by_the_store() {
    let home = Home::new();
    let ada = Uuid::new_v4();
    let bob = Uuid::new_v4();
    let (guarded, adas) = {
        let guarded = Guarded::new(&home, None).await;
        let adas = guarded.session_of(ada).await;
        (guarded, adas)
    };
    guarded.server.stop().await;
    let guarded = Guarded::new(&home, None).await;
    let path = format!("/v1/sessions/{adas}/messages");
    let message = json!({"role": "user", "content": "late"});
    let other = guarded.by(&token(bob), "POST", &path).json(&message).send().await;
    assert_eq!(other.status, 404, "{other:?}");
    let own = guarded.by(&token(ada), "POST", &path).json(&message).send().await;
    assert_eq!(own.status, 202, "{own:?}");
    assert_eq!(home.database().contents(adas), ["mine alone", "late"]);
}

#[tokio::test]
async fn the_database_decides_what_a_user_sees_by_its_own_policies() {
    let home = Home::new();
    let database = Postgres::shared().database();
    like_supabase(&database);
    home.run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    let guarded = Guarded::new(&home, Some(&database)).await;
    let ada = Uuid::new_v4();
    let bob = Uuid::new_v4();
    let adas = guarded.session_of(ada).await;
    let bobs = guarded.session_of(bob).await;
    let seen = async |user: Uuid| guarded.by(&token(user), "GET", "/v1/sessions").send().await.json();
    assert_eq!(ids(&seen(ada).await), [adas.to_string()]);
    // Neither the query nor the server has changed. If the policy hides the rows, the server reads with the rights of
    // the user.
    database.psql(
        "CREATE POLICY nobody ON conversation_sessions AS RESTRICTIVE FOR SELECT TO authenticated USING (false)",
    );
    assert!(ids(&seen(ada).await).is_empty());
    let path = format!("/v1/sessions/{bobs}");
    assert_eq!(guarded.by(&token(bob), "GET", &path).send().await.status, 404);
    assert_eq!(guarded.by(&guarded.key.key, "GET", &path).send().await.status, 200, "a key is no user");
}
