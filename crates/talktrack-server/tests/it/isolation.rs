//! Two users: Ben attacks Ann with every route and every frame, in every state of the database. He must learn nothing,
//! change nothing and block nothing, and to him Ann's data must look the same as data that does not exist.

mod attack;
mod states;
mod claims;
mod names;
mod journal;
mod deleted;
mod deletions;
mod beside;
mod limited_key;
mod parents;

use std::fmt::Display;

use serde_json::{Value, json};
use talktrack_testbed::Database;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims as claims_of};
use crate::auth::{ApiKey, SECRET, new_key};
use crate::harness::{Home, HttpAnswer, Server};

/// Text in Ann's conversation that no other user may see.
const SECRET_WORDS: &str = "the-words-of-ann";

/// A server that accepts users' tokens and one API key.
struct Scene {
    home: Home,
    server: Server,
    key: ApiKey,
    url: Option<String>,
}

impl Scene {
    async fn new(database: Option<String>) -> Self {
        let home = Home::new();
        let key = new_key(&home, "agent", "read,write,admin").await;
        let server = serve(&home, &key, database.as_deref()).await;
        Self { home, server, key, url: database }
    }

    async fn restart(self) -> Self {
        self.server.stop().await;
        let server = serve(&self.home, &self.key, self.url.as_deref()).await;
        Self { server, ..self }
    }

    /// Starts another node on the same database.
    async fn neighbour(&self, database: &Database) -> Self {
        Self::new(Some(database.url())).await
    }

    async fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> HttpAnswer {
        self.server.request(method, path).token(token).json(body).send().await
    }

    /// Starts a session of this user with the agent's key, with one message, and returns its id.
    async fn session_of(&self, user: impl Display) -> Uuid {
        let session = Uuid::new_v4();
        let start =
            json!({"session_id": session, "user_id": user.to_string(), "metadata": {"note": SECRET_WORDS}});
        let started = self.ask(&self.key.key, "POST", "/v1/sessions", &start).await;
        assert_eq!(started.status, 201, "{started:?}");
        self.says(&self.key.key, session, SECRET_WORDS).await;
        session
    }

    async fn says(&self, token: &str, session: Uuid, content: &str) {
        let message = json!({"role": "user", "content": content});
        let said = self.ask(token, "POST", &format!("/v1/sessions/{session}/messages"), &message).await;
        assert_eq!(said.status, 202, "{said:?}");
    }
}

async fn serve(home: &Home, key: &ApiKey, database: Option<&str>) -> Server {
    let mut command = home.server_command(&[]);
    command.env("TALKTRACK_API_KEYS", &key.entry).env("SUPABASE_JWT_SECRET", SECRET);
    command.env("TALKTRACK_USER_ACCESS", "read+write+delete");
    // The attack sends many requests a second without any rate limit, to show how far it gets. The limits have their
    // own tests.
    command.env("TALKTRACK_RATE_PER_USER", "off").env("TALKTRACK_RATE_UNAUTHENTICATED", "off");
    database.inspect(|url| _ = command.env("DATABASE_URL", url));
    Server::start(home, command).await
}

fn token(user: impl Display) -> String {
    SigningKey::secret(SECRET).token(&claims_of(user))
}
