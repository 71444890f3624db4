//! Parameters of connection strings that are refused or without effect: each is named, and no password is shown.

use talktrack::store::postgres::Address;

use crate::properties::{draws, hold};

const URL: &str = "postgres://u:secret@h/db";

fn refused(text: &str) -> String {
    let error = text.parse::<Address>().err().unwrap_or_else(|| panic!("{text} is taken")).to_string();
    for words in ["secret", "authentication failed", "check user and password"] {
        assert!(!error.contains(words), "{text}: {error}");
    }
    error
}

#[test]
fn a_parameter_for_security_that_cannot_be_honoured_is_refused_by_name() {
    for parameter in [
        "sslcert=client.pem",
        "sslkey=client.key",
        "sslpassword=secret",
        "sslidentity=client.p12",
        "sslcrl=revoked.crl",
        "sslcrldir=/etc/crl",
        "sslcertmode=require",
        "sslkeylogfile=/tmp/keys",
        "require_auth=scram-sha-256",
        "requirepeer=postgres",
        "passfile=/home/me/.pgpass",
        "service=prod",
        "gssencmode=require",
        "gssdelegation=1",
        "scram_client_key=secret",
        "oauth_client_id=secret",
        "min_protocol_version=3.2",
        "ssl_max_protocol_version=TLSv1.1",
        "sslmod=verify-full",
        "sslfactory=org.postgresql.ssl.NonValidatingFactory",
        "tlsMode=secret",
        "ssl-cert=client.pem",
        "SSLCERT=client.pem",
    ] {
        let (name, _) = parameter.split_once('=').unwrap();
        for text in [
            format!("{URL}?{parameter}"),
            format!("{URL}?sslmode=require&{parameter}"),
            format!("host=h {parameter}"),
        ] {
            let error = refused(&text);
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}

#[test]
fn parameters_that_contradict_each_other_are_refused_by_name() {
    for (parameters, name) in [
        ("ssl=true&sslmode=disable", "ssl"),
        ("ssl=true&sslmode=prefer", "ssl"),
        ("ssl=false&sslmode=require", "ssl"),
        ("ssl=verify-full&sslmode=require", "ssl"),
        ("sslaccept=strict&sslmode=disable", "sslaccept"),
        ("sslaccept=accept_invalid_certs&sslmode=verify-full", "sslaccept"),
        ("sslrootcert=system&sslmode=require", "sslrootcert"),
        ("sslrootcert=system&sslmode=verify-ca", "sslrootcert"),
        ("sslnegotiation=direct", "sslnegotiation"),
        ("sslnegotiation=direct&sslmode=disable", "sslnegotiation"),
        ("channel_binding=require&sslmode=disable", "channel_binding"),
        ("channel_binding=require&host=/run/postgresql", "channel_binding"),
        ("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "ssl_min_protocol_version"),
    ] {
        let error = refused(&format!("{URL}?{parameters}"));
        assert!(error.contains(&format!("the parameter {name} cannot be honoured")), "{parameters}: {error}");
    }
}

#[test]
fn a_value_that_is_none_of_the_parameters_is_refused_by_its_name() {
    for parameter in [
        "ssl=secret",
        "sslmode=secret",
        "sslaccept=secret",
        "sslnegotiation=secret",
        "channel_binding=secret",
        "target_session_attrs=secret",
        "load_balance_hosts=secret",
        "connect_timeout=secret",
        "connect_timeout=2.5",
        "tcp_user_timeout=secret",
        "keepalives=secret",
        "keepalives_count=secret",
        "ssl_min_protocol_version=secret",
        "application_name=%FFsecret",
        "port=secret",
        "port=0",
        "port=1,2",
        "hostaddr=secret",
        "hostaddr=127.0.0.1,127.0.0.2",
    ] {
        let (name, _) = parameter.split_once('=').unwrap();
        let error = refused(&format!("{URL}?{parameter}"));
        assert!(error.contains(name), "{parameter}: {error}");
    }
}

#[test]
fn another_schema_than_public_is_refused_however_it_is_named() {
    for (parameter, name) in [
        ("schema=tenant", "schema"),
        ("currentSchema=tenant", "schema"),
        ("search_path=tenant", "search_path"),
        ("options=-csearch_path%3Dtenant", "search_path"),
        ("options=-c%20search_path%3Dtenant", "search_path"),
        ("options=-c%20jit%3Doff%20--search-path%3Dtenant", "search_path"),
    ] {
        let error = refused(&format!("{URL}?{parameter}"));
        assert!(error.contains(name) && error.contains("another schema than public"), "{parameter}: {error}");
    }
}

#[test]
fn other_parameters_without_effect_are_warned_of_by_name_and_once() {
    for (parameters, names) in [
        ("statement_timeout=5000", &["statement_timeout"][..]),
        ("lock_timeout=5s&socket_timeout=10", &["lock_timeout", "socket_timeout"]),
        ("client_encoding=LATIN1", &["client_encoding"]),
        ("target_session_attrs=prefer-standby", &["target_session_attrs"]),
        ("krbsrvname=postgres", &["krbsrvname"]),
        ("jit=off&timezone=secret&jit=on", &["jit", "timezone"]),
        ("sslmode=prefer&sslrootcert=ca.pem", &["sslrootcert"]),
        ("password=my&word=1&user=u&jit=off", &["after the password", "jit"]),
        ("pgbouncer=true&connection_limit=1&pool_timeout=0&supa=base-pooler.x&pgbouncer", &[]),
    ] {
        let address: Address = format!("{URL}?{parameters}").parse().unwrap();
        let warnings = address.warnings();
        assert_eq!(warnings.len(), names.len(), "{parameters}: {warnings:?}");
        for (warning, name) in warnings.iter().zip(names) {
            assert!(warning.starts_with(&format!("the parameter {name} has no effect: ")), "{warning}");
            assert!(!warning.contains("secret"), "{warning}");
        }
    }
}

#[test]
fn a_password_in_a_string_that_is_misread_is_shown_nowhere() {
    for text in [
        "postgres://u:p@secret?word=1@h/db",
        "postgres://u:p@secret/word@h/db",
        "postgres://u:p@h/db?secret",
        "postgres://u:p@h/db?sec;ret=1",
        "postgres://u:p@h/db?x=secret@h",
        "postgres://u:secret@h/db%00",
        "postgres://u:secret@[::1/db",
        "postgres://u:secret@h one/db",
        "postgres://u:secret@/db",
        "host=h user=u password=my secret",
        "host=h user=u password=my secret=1 dbname=db",
        "host=h user=u password='my secret",
        "host=h user=u password='my'secret=1",
        "host=h password=secret port=x",
        "mysql://u:secret@h/db",
        "secret",
    ] {
        let error = refused(text);
        assert!(error.contains("cannot be used as a connection string"), "{text}: {error}");
    }
    for text in [
        "postgres://u:secret@h1,h2:5433/db?password=secret",
        "postgres://h/db?user=me@tenant&password=secret@1",
        "postgres://u:pa?secret/word@h/db",
        "postgres://h/db?password=my&secret=1&secret2=1&sslmode=require",
        "host=h password='my' secret=1 dbname=db",
        "postgres://u:secret%0A@[::1]:5433/db",
        "\n host=h password = 'se\\'cret' dbname=db ",
    ] {
        let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        for shown in [address.to_string(), format!("{address:?}"), address.warnings().join("")] {
            assert!(!shown.contains("secret") && !shown.contains("cret"), "{text}: {shown}");
        }
    }
    let address: Address = "postgres://h:5433/db?user=me@tenant&password=p@ss".parse().unwrap();
    assert_eq!((address.user(), address.to_string().as_str()), ("me@tenant", "postgres://h:5433/db"));
}

/// People forget to encode a password, and then a part of it is taken for a host, a database or a parameter.
#[test]
fn a_password_of_any_characters_is_shown_nowhere_encoded_or_not() {
    let around = "[a-z1-9?@/#&=:% '\"\\\\,;.+\\[\\]-]{0,10}";
    hold("strings with odd passwords", draws(2_000, 100_000), &(around, around), |(before, after)| {
        let password = format!("{before}hunter2{after}");
        for text in [
            format!("postgres://u:{password}@h/db"),
            format!("postgresql+asyncpg://u:{password}@h:5432,h2/db?sslmode=require&jit=off"),
            format!("postgres://h/db?user=u&password={password}&sslmode=require"),
            format!("host=h user=u dbname=db password={password}"),
            format!("host=h password='{password}' user=u dbname=db"),
        ] {
            let told = match text.parse::<Address>() {
                Ok(address) => format!("{address} {address:?} {:?}", address.warnings()),
                Err(error) => format!("{error} {error:?}"),
            };
            if told.contains("hunter2") {
                return Err(format!("{text}: {told}"));
            }
        }
        Ok(())
    });
}
