//! Users' tokens: what makes a token valid, and each way in which it can be invalid.

use serde_json::{Value, json};
use uuid::Uuid;

use super::signing::{base64, now};
use super::{Publisher, SECRET, SigningKey, admits, claims, knock, refuses, serve_for, serve_with};
use crate::harness::{Client, Home};

#[tokio::test]
async fn the_session_belongs_to_the_user_of_the_token() {
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let user = Uuid::new_v4();
    let token = SigningKey::secret(SECRET).token(&claims(user));
    let mut client = Client::come_with(&server, "", &token).await.expect_started().await;
    assert_eq!(client.user, user);
    client.say("mine").await;
    let said = format!("user_id={user}");
    assert_eq!(knock(&server, &said, &token).await.status, 101, "naming oneself is no mistake");
    let other = format!("user_id={}", Uuid::new_v4());
    let why = knock(&server, &other, &token).await.problem(403, "forbidden");
    assert!(why.starts_with("user_id: "), "{why}");
    let users = "SELECT count(DISTINCT user_id) FROM conversation_sessions";
    assert_eq!(home.database().count(users, &[]), 1);
    let log = server.log();
    assert!(!log.contains(&token) && !log.contains(SECRET), "no secret is logged");
}

#[tokio::test]
async fn a_token_is_good_with_each_kind_of_key_and_with_no_other_algorithm() {
    let home = Home::new();
    let point = SigningKey::ecdsa("point");
    let modulus = SigningKey::rsa("modulus");
    let project = Publisher::of(&[&point, &modulus]).await;
    let server = serve_for(&home, &project).await;
    let claims = project.claims(Uuid::new_v4());
    for key in [&point, &modulus] {
        admits(&server, &key.token(&claims)).await;
        let other = if key.algorithm() == "ES256" { "RS256" } else { "ES256" };
        for algorithm in [other, "PS256", "ES384", "EdDSA"] {
            let header = json!({"alg": algorithm, "kid": key.kid});
            assert!(refuses(&server, &key.sign(&header, &claims)).await.starts_with("alg: "), "{algorithm}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let home = Home::new();
    let point = SigningKey::ecdsa("point");
    let modulus = SigningKey::rsa("modulus");
    let published_secret = SigningKey::secret("a secret that was published, which makes it none");
    let project = Publisher::of(&[&point, &modulus, &published_secret]).await;
    let url = project.url();
    let both = [("SUPABASE_URL", &*url), ("SUPABASE_JWT_SECRET", SECRET)];
    for (environment, why) in [(&both[..1], "alg: "), (&both[..], "the signature is not valid")] {
        let server = serve_with(&home, environment).await;
        admits(&server, &project.token(&point)).await;
        for key in [&point, &modulus, &published_secret] {
            let document = key.jwk().to_string().into_bytes();
            for secret in [key.public_bytes(), document] {
                let header = json!({"alg": "HS256", "kid": key.kid});
                let token = SigningKey::secret(secret).sign(&header, &project.claims(Uuid::new_v4()));
                let said = refuses(&server, &token).await;
                assert!(said.starts_with(why), "{said}");
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_token_brings_no_key_of_its_own() {
    let home = Home::new();
    let (own, attacker) = (SigningKey::ecdsa("own"), SigningKey::ecdsa("own"));
    let project = Publisher::of(&[&own]).await;
    let elsewhere = Publisher::of(&[&attacker]).await;
    let server = serve_for(&home, &project).await;
    let claims = project.claims(Uuid::new_v4());
    for header in [
        json!({"alg": "ES256", "kid": "own"}),
        json!({"alg": "ES256", "kid": "own", "jwk": attacker.jwk()}),
        json!({"alg": "ES256", "kid": "own", "jku": elsewhere.url()}),
        json!({"alg": "ES256", "kid": "own", "x5u": elsewhere.url()}),
    ] {
        assert_eq!(refuses(&server, &attacker.sign(&header, &claims)).await, "the signature is not valid");
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused_however_none_is_spelled() {
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    for algorithm in ["none", "None", "NONE", "nOnE", "", "HS257"] {
        let header = base64(json!({"alg": algorithm, "typ": "JWT"}).to_string());
        let body = base64(claims(Uuid::new_v4()).to_string());
        for token in [format!("{header}.{body}."), format!("{header}.{body}.AAAA")] {
            assert!(refuses(&server, &token).await.starts_with("alg: "), "{algorithm}");
        }
    }
    let good = SigningKey::secret(SECRET).token(&claims(Uuid::new_v4()));
    let (message, _) = good.rsplit_once('.').unwrap();
    assert_eq!(refuses(&server, &format!("{message}.")).await, "the signature is not valid");
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let home = Home::new();
    let key = SigningKey::secret(SECRET);
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let good = key.token(&claims(Uuid::new_v4()));
    admits(&server, &good).await;
    admits(&server, &good).await;
    let [header, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let other = base64(claims(Uuid::new_v4()).to_string());
    for token in [
        format!("{header}.{other}.{signature}"),
        SigningKey::secret(format!("{SECRET}!")).token(&claims(Uuid::new_v4())),
        format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { 'Q' } else { 'A' }),
    ] {
        let why = refuses(&server, &token).await;
        assert!(["the signature is not valid", "the token is not a JWT"].contains(&&*why), "{why}");
    }
    for token in ["a", "a.b", "a.b.c", "a.b.c.d", "...", &format!("{good}.x"), &"x".repeat(17_000)] {
        assert_eq!(refuses(&server, token).await, "the token is not a JWT");
    }
    let critical = key.sign(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &claims(Uuid::new_v4()));
    assert_eq!(refuses(&server, &critical).await, "crit: is not supported");
}

/// Returns valid claims with one of them changed.
fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims(Uuid::new_v4());
    claims["iss"] = "https://x.supabase.co/auth/v1".into();
    claims[name] = value.into();
    claims
}

#[tokio::test]
async fn each_claim_is_checked_and_named_where_it_is_wrong() {
    let home = Home::new();
    let key = SigningKey::secret(SECRET);
    let environment = [("SUPABASE_JWT_SECRET", SECRET), ("SUPABASE_URL", "https://x.supabase.co/")];
    let server = serve_with(&home, &environment).await;
    admits(&server, &key.token(&with("nbf", now()))).await;
    admits(&server, &key.token(&with("aud", json!(["other", "authenticated"])))).await;
    admits(&server, &key.token(&with("exp", now() - 10))).await;
    admits(&server, &key.token(&with("sub", "auth0|me"))).await;
    for (claims, why) in [
        (with("exp", now() - 60), "the token has expired"),
        (with("exp", Value::Null), "exp: missing"),
        (with("exp", (now() + 3600).to_string()), "exp: must be a number of seconds"),
        (with("exp", "never"), "exp: must be a number of seconds"),
        (with("exp", 1e300), "exp: must be a number of seconds"),
        (with("exp", u64::MAX), "exp: must be a number of seconds"),
        (with("exp", -1), "exp: must be a number of seconds"),
        (with("nbf", now() + 60), "nbf: the token is not valid yet"),
        (with("nbf", now().to_string()), "nbf: must be a number of seconds"),
        (with("aud", "anon"), "aud: "),
        (with("aud", Value::Null), "aud: missing"),
        (with("iss", "https://y.supabase.co/auth/v1"), "iss: "),
        (with("iss", Value::Null), "iss: missing"),
        (with("sub", 7), "sub: must be a text of 1 to 256 bytes without control characters"),
        (with("sub", ""), "sub: must be a text of 1 to 256 bytes without control characters"),
        (with("sub", "a\u{7}b"), "sub: must be a text of 1 to 256 bytes without control characters"),
        (with("sub", Value::Null), "sub: missing"),
        (json!([1]), "the token is not a JWT"),
    ] {
        let said = refuses(&server, &key.token(&claims)).await;
        assert!(said.starts_with(why), "{claims}: {said}");
    }
}

#[tokio::test]
async fn audience_and_issuer_can_be_set() {
    let home = Home::new();
    let environment = [
        ("SUPABASE_JWT_SECRET", SECRET),
        ("TALKTRACK_JWT_AUDIENCE", "agents"),
        ("TALKTRACK_JWT_ISSUER", "https://id.example"),
    ];
    let server = serve_with(&home, &environment).await;
    let token = |audience: &str, issuer: &str| {
        let mut claims = claims(Uuid::new_v4());
        (claims["aud"], claims["iss"]) = (audience.into(), issuer.into());
        SigningKey::secret(SECRET).token(&claims)
    };
    admits(&server, &token("agents", "https://id.example")).await;
    assert!(refuses(&server, &token("authenticated", "https://id.example")).await.starts_with("aud: "));
    assert!(refuses(&server, &token("agents", "https://x.supabase.co/auth/v1")).await.starts_with("iss: "));
}

#[tokio::test]
async fn supabases_own_keys_are_no_users() {
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    for role in ["anon", "service_role"] {
        let claims = json!({"iss": "supabase", "ref": "x", "role": role, "iat": now(), "exp": now() + 3600});
        assert_eq!(refuses(&server, &SigningKey::secret(SECRET).token(&claims)).await, "aud: missing");
    }
}
