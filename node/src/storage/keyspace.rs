//! The keyspaces, in one list: name, code and engine options of each.
//!
//! Everything that goes through all of them (opening, a batch, a dump, the sections of a snapshot) goes by this list, so a further keyspace is
//! one line here and no new format. In: nothing. Out: the list, and a value per keyspace. Absent: what the rows mean (`keys` has their keys).

/// What the engine is told about a keyspace.
#[derive(Clone, Copy)]
pub(super) struct Options {
    /// When its memtable is flushed.
    pub(super) memtable_bytes: u64,
    /// Values from this size live outside the tree, so that a compaction does not copy them; none: all rows are in the tree.
    pub(super) separate_from_bytes: Option<u32>,
    /// Whether rows that were read or written lately are kept in memory of our own.
    pub(super) cached: bool,
}

/// As most of them are. Larger memtables hold more memory, smaller ones stall more often; all together decide how much disk is kept free.
const USUAL: Options = Options {
    memtable_bytes: 8 << 20,
    separate_from_bytes: None,
    cached: false,
};

macro_rules! keyspaces {
    ($($(#[$about:meta])* $keyspace:ident, $code:literal, $name:literal, $options:expr;)*) => {
        /// A named, ordered set of rows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Keyspace {
            $($(#[$about])* $keyspace,)*
        }

        impl Keyspace {
            /// Every keyspace, in the order in which a dump or a snapshot names them.
            pub const ALL: [Keyspace; [$($code),*].len()] = [$(Keyspace::$keyspace),*];

            /// The name on disk.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Keyspace::$keyspace => $name,)*
                }
            }

            /// What names it in snapshots and digests. A code is never given to another keyspace, and a later one has a larger code.
            pub const fn code(self) -> u8 {
                match self {
                    $(Keyspace::$keyspace => $code,)*
                }
            }

            pub(super) const fn options(self) -> Options {
                match self {
                    $(Keyspace::$keyspace => $options,)*
                }
            }
        }

        /// What all memtables together may hold before they are flushed.
        pub const MEMTABLE_BYTES: u64 = 0 $(+ $options.memtable_bytes)*;
    };
}

keyspaces! {
    /// What there is one of: applied, revision, clock, …; written in every batch.
    Meta, 0, "meta", USUAL;
    /// Tenants' configurations, and what is left of deleted ones.
    Tenants, 1, "tenants", USUAL;
    /// Counters per tenant.
    Usage, 2, "usage", USUAL;
    /// The records: all of them but large values. Every batch writes much to it.
    Records, 3, "records", Options { memtable_bytes: 16 << 20, cached: true, ..USUAL };
    /// Records that expire, by the moment of expiry.
    Ttl, 4, "ttl", USUAL;
    /// Large values, by the keys of their records. The border to them is far above this size.
    Values, 5, "values", Options { separate_from_bytes: Some(1), cached: true, ..USUAL };
}

impl Keyspace {
    /// The keyspace that has this code; none when a newer program has made it.
    pub fn of_code(code: u8) -> Option<Self> {
        Keyspace::ALL.into_iter().find(|keyspace| keyspace.code() == code)
    }
}

/// One of something for each keyspace.
pub struct PerKeyspace<T>(Vec<T>);

impl<T> PerKeyspace<T> {
    /// Makes each of them.
    pub fn new(make: impl FnMut(Keyspace) -> T) -> Self {
        PerKeyspace(Keyspace::ALL.into_iter().map(make).collect())
    }

    /// Makes each of them, in order, until one fails.
    ///
    /// # Errors
    /// The first.
    pub fn try_new<E>(make: impl FnMut(Keyspace) -> Result<T, E>) -> Result<Self, E> {
        Keyspace::ALL.into_iter().map(make).collect::<Result<_, _>>().map(PerKeyspace)
    }

    /// That of one keyspace.
    pub fn get(&self, keyspace: Keyspace) -> &T {
        self.0.get(keyspace as usize).expect("there is one for each keyspace")
    }

    /// That of one keyspace, to be changed.
    pub fn get_mut(&mut self, keyspace: Keyspace) -> &mut T {
        self.0.get_mut(keyspace as usize).expect("there is one for each keyspace")
    }
}

impl<T> IntoIterator for PerKeyspace<T> {
    type Item = (Keyspace, T);
    type IntoIter = std::iter::Zip<std::array::IntoIter<Keyspace, { Keyspace::ALL.len() }>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        Keyspace::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: the names are on disk, the codes in snapshots and digests.
    #[test]
    fn names_and_codes_stay_and_codes_ascend() {
        let list: Vec<_> = Keyspace::ALL.map(|keyspace| (keyspace.code(), keyspace.name())).into();
        let golden = [(0, "meta"), (1, "tenants"), (2, "usage"), (3, "records"), (4, "ttl"), (5, "values")];
        assert_eq!(list, golden);
        assert!(list.is_sorted_by_key(|(code, _)| *code));
        for (at, keyspace) in Keyspace::ALL.into_iter().enumerate() {
            assert_eq!(keyspace as usize, at);
            assert_eq!(Keyspace::of_code(keyspace.code()), Some(keyspace));
        }
        assert_eq!(Keyspace::of_code(9), None);
    }
}
