//! Fast tests by topic.
