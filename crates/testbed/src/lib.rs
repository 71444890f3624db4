//! What the tests run against: a PostgreSQL, a pgbouncer, and a network that can be broken.
