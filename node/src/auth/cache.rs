//! Tokens whose signature was found good. In: the SHA-256 of a token. Out: its claims. Absent: the tokens themselves.
//!
//! Bounded without a clock or a list: two halves; when the young one is full it becomes the old one, whose entries are forgotten unless
//! they were asked for in the meantime.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use kvfleet_api::token::Claims;

/// Entries of one half. A tenant has one token at a time, so this serves thousands of tenants in about 2 MiB.
const HALF: usize = 4_096;

type Digest = [u8; 32];

/// The tokens that were verified.
#[derive(Default)]
pub(super) struct Cache {
    halves: RwLock<Halves>,
}

#[derive(Default)]
struct Halves {
    young: HashMap<Digest, Arc<Claims>>,
    old: HashMap<Digest, Arc<Claims>>,
}

impl Cache {
    pub(super) fn get(&self, digest: &[u8]) -> Option<Arc<Claims>> {
        let found = {
            let halves = self.halves.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(claims) = halves.young.get(digest) {
                return Some(Arc::clone(claims));
            }
            halves.old.get(digest).cloned()
        };
        if let Some(claims) = &found {
            self.put(digest, Arc::clone(claims));
        }
        found
    }

    pub(super) fn put(&self, digest: &[u8], claims: Arc<Claims>) {
        let Ok(digest) = Digest::try_from(digest) else { return };
        let mut halves = self.halves.write().unwrap_or_else(PoisonError::into_inner);
        if halves.young.len() >= HALF {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(digest, claims);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn claims() -> Arc<Claims> {
        Arc::new(Claims {
            iss: "c".into(),
            sub: "acme".into(),
            tid: 1,
            scope: "read".into(),
            r#gen: 1,
            iat: 0,
            exp: None,
        })
    }

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = Cache::default();
        for number in 0..10 * HALF {
            cache.put(&digest(number), claims());
            assert!(cache.get(&digest(0)).is_some(), "used all the time, gone after {number}");
        }
        let halves = cache.halves.read().unwrap();
        assert!(halves.young.len() <= HALF && halves.old.len() <= HALF);
        drop(halves);
        assert!(cache.get(&digest(1)).is_none(), "never used again");
    }
}
