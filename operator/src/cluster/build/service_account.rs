//! The account of the members' pods. It has no rights, and its token is not mounted: members never talk to the API server.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::cluster::validate::Validated;

pub(super) fn build(validated: &Validated) -> Option<ServiceAccount> {
    if validated.spec.service_account_name.is_some() {
        return None;
    }
    Some(ServiceAccount {
        metadata: metadata(validated, validated.names.service_account(), validated.names.labels()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
