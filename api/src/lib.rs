//! The wire contract between node, client and operator.
