//! The data port as the lifecycle sees it: opened once, told to close its connections, closed.

use std::path::PathBuf;

use tokio::net::TcpListener;

use super::error::LifecycleError;
use crate::{cluster_id::ClusterId, metrics::Requests, raft::Group, state::Views};

pub(super) struct DataPortSettings {
    pub(super) cluster: ClusterId,
    pub(super) token_keys: PathBuf,
    pub(super) name: String,
    pub(super) requests: Requests,
}

pub(super) struct DataPort;

impl DataPort {
    pub(super) fn open(settings: DataPortSettings, listener: TcpListener, group: Group, views: Views) -> Result<DataPort, LifecycleError> {
        let _ = (
            settings.cluster,
            settings.token_keys,
            settings.name,
            settings.requests,
            listener,
            group,
            views,
        );
        Ok(DataPort)
    }
    pub(super) fn close_connections(&self) {}
    pub(super) async fn close(self) {}
}
