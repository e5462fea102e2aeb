//! `POST /admin/release` on a member that is not quarantined: there is nothing to release.

use super::failure;
use crate::problem::Failure;

pub(super) async fn refuse() -> Failure {
    failure::conflict("this member is not quarantined: its data stays where it is; to take it out of the group, remove it").into()
}
