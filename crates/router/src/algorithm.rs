//! How the router works.
