//! The build: the version of the crate, the commit and the platform.

/// The version of the crate.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The target triple of the platform.
pub(crate) const TARGET: &str = env!("BUILD_TARGET");

/// The commit, with a `+` if files differed from it. `None` in development builds and in builds outside the repository.
pub(crate) fn commit() -> Option<&'static str> {
    Some(env!("BUILD_COMMIT")).filter(|commit| !commit.is_empty())
}

/// The version and, if known, the commit: `0.1.0 (3f9a1c7e0b2d)`.
pub(crate) const VERSION_AND_COMMIT: &str = env!("BUILD_VERSION");
