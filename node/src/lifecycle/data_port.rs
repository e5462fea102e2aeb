//! Opens the data port on a running group.

use std::{path::PathBuf, sync::Arc};

use super::{error::LifecycleError, ports};
use crate::{
    app::App,
    auth::Authenticator,
    cluster_id::ClusterId,
    http::{self, Port, Server},
    metrics::Requests,
    raft::Group,
    state::Views,
};
use axum::http::HeaderValue;
use tokio::runtime::Handle;

/// What the port needs beside the group.
pub(super) struct DataPortSettings {
    pub(super) cluster: ClusterId,
    pub(super) token_keys: PathBuf,
    pub(super) name: String,
    pub(super) requests: Requests,
}

/// Serves from here on, on the tenants' threads: the socket, every connection and every request.
pub(super) fn open(
    settings: DataPortSettings,
    tenants: &Handle,
    port: &ports::Port,
    group: Group,
    views: Views,
) -> Result<Server, LifecycleError> {
    let _entered = tenants.enter();
    let (listener, roster) = (port.listen()?, Arc::clone(&port.roster));
    let DataPortSettings {
        cluster,
        token_keys,
        name,
        requests,
    } = settings;
    let auth = Authenticator::open(&token_keys, cluster)?;
    let keys = auth.clone();
    group.admit_by(Box::new(move |token| keys.join_grant(token)));
    let app = App::new(group, views);
    let name = HeaderValue::try_from(name).ok();
    let port = Arc::new(Port { app, auth, requests, name });
    Ok(http::serve(listener, roster, move |request| Arc::clone(&port).answer(request)))
}
