//! The Kubernetes contract.
