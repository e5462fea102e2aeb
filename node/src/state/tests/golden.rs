//! The bytes of every command, answer and refusal. A line here changes only with a new format byte and a reader for the old one: these
//! bytes lie in logs, and members of two versions exchange them.

use kvfleet_api::{
    admin::{Settings, SettingsStatus},
    tenant::{Access, TenantState, TenantStatus},
    usage::Used,
};

use super::*;
use crate::state::{
    tables::{encode_applied, encode_membership, encode_number, encode_settings, encode_tokens},
    usage::Usage,
};

const STAMP: u64 = 1_700_000_000_123;

fn full_config() -> TenantConfig {
    TenantConfig {
        uid: "u".to_owned(),
        owner: "n/t".to_owned(),
        generation: 3,
        cluster_generation: 4,
        credential_generation: 5,
        limits: TenantLimits {
            quota_storage: 1 << 30,
            quota_keys: 1_000_000,
            max_key_length: 512,
            max_value_size: 1 << 20,
            max_metadata_size: 1 << 10,
            ttl_default_ms: Some(60_000),
            ttl_max_ms: None,
            access: Access::ReadOnly,
        },
    }
}

fn full_settings() -> Settings {
    Settings {
        generation: 2,
        log_level: "info".to_owned(),
        sweep_interval_ms: 1_000,
        scan_items: 100,
        scan_bytes: 1 << 20,
        request_timeout_ms: 5_000,
        max_request_timeout_ms: 60_000,
        hold_level: true,
    }
}

fn put_of(ttl: Ttl, condition: Condition, kind: Kind) -> Command {
    Command::one(
        TenantId(300),
        Operation::Put(Put {
            key: "k/é".to_owned(),
            value: Bytes::from_static(b"\x00\xff"),
            kind,
            content_type: Some("a/b".to_owned()),
            metadata: vec![("n".to_owned(), "v".to_owned())],
            ttl,
            condition,
        }),
    )
}

fn commands() -> Vec<(&'static str, Command)> {
    let text = |text: &str| text.to_owned();
    vec![
        ("put", put_of(Ttl::Default, Condition::None, Kind::String)),
        ("put", put_of(Ttl::Never, Condition::Present, Kind::Json)),
        ("put", put_of(Ttl::For(1_000), Condition::Absent, Kind::Bytes)),
        ("put", put_of(Ttl::Until(STAMP), Condition::Revision(42), Kind::Bytes)),
        (
            "delete",
            Command::one(
                TenantId(1),
                Operation::Delete(Delete {
                    key: text("k"),
                    condition: Condition::None,
                }),
            ),
        ),
        (
            "write",
            Command::Write(Write {
                tenant: TenantId(1),
                checks: vec![Check {
                    key: text("c"),
                    condition: Condition::Absent,
                }],
                operations: vec![
                    Operation::Delete(Delete {
                        key: text("a"),
                        condition: Condition::Present,
                    }),
                    Operation::Delete(Delete {
                        key: text("b"),
                        condition: Condition::None,
                    }),
                ],
                all_or_nothing: true,
            }),
        ),
        ("sweep", Command::Sweep { limit: Bound::STEP }),
        (
            "reap",
            Command::Reap {
                limit: Bound {
                    rows: 1_000,
                    bytes: 1 << 20,
                },
            },
        ),
        (
            "put tenant",
            Command::PutTenant {
                name: text("acme"),
                config: full_config(),
            },
        ),
        (
            "release tenant",
            Command::ReleaseTenant {
                name: text("acme"),
                uid: text("u"),
            },
        ),
        (
            "delete tenant",
            Command::DeleteTenant {
                name: text("acme"),
                uid: text("u"),
            },
        ),
        ("put settings", Command::PutSettings(full_settings())),
        (
            "sweep tenant",
            Command::SweepTenant {
                tenant: TenantId(1),
                keys: vec![text("k"), text("é")],
                bytes: 300,
            },
        ),
        (
            "spend token",
            Command::SpendToken {
                token: 1,
                member: u64::MAX,
                expires_at_ms: STAMP,
            },
        ),
        ("raise level", Command::RaiseLevel { level: Level(300) }),
    ]
}

fn responses() -> Vec<(&'static str, Response)> {
    let status = TenantStatus {
        name: "acme".to_owned(),
        id: 9,
        state: TenantState::Released,
        revision: 8,
        config: full_config(),
        credential_issued_at: 1_700_000_000,
        usage: Used { storage: 7, keys: 6 },
    };
    vec![
        ("none", Response::None),
        (
            "put",
            written(Written {
                revision: 300,
                created: true,
                expires_at_ms: Some(STAMP),
            }),
        ),
        (
            "put",
            written(Written {
                revision: 1,
                created: false,
                expires_at_ms: None,
            }),
        ),
        ("deleted", deleted(Some(2))),
        ("deleted", deleted(None)),
        (
            "written",
            Response::Written {
                answers: vec![
                    Ok(Done::Deleted(Deletion { revision: Some(4) })),
                    Err(Refusal::PreconditionFailed { current: 3 }),
                ],
            },
        ),
        (
            "not written",
            Response::NotWritten {
                part: Part::Check(1),
                refusal: Refusal::PreconditionFailed { current: 2 },
            },
        ),
        (
            "not written",
            Response::NotWritten {
                part: Part::Operation(0),
                refusal: Refusal::TtlTooShort,
            },
        ),
        (
            "swept",
            Response::Swept {
                removed: 1_000,
                more: true,
            },
        ),
        ("tenant", Response::Tenant(Box::new(status))),
        ("tenant gone", Response::TenantGone { existed: true }),
        (
            "settings",
            Response::Settings(Box::new(SettingsStatus {
                revision: 5,
                settings: full_settings(),
            })),
        ),
        ("token spent", Response::TokenSpent { member: u64::MAX }),
        ("level", Response::Level(Level(300))),
        ("refused", Response::Refused(Refusal::TenantUnknown)),
        ("refused", Response::Refused(Refusal::TenantSuspended)),
        ("refused", Response::Refused(Refusal::TenantReadOnly)),
        ("refused", Response::Refused(Refusal::KeyTooLong { limit: 32 })),
        ("refused", Response::Refused(Refusal::ValueTooLarge { limit: 33 })),
        ("refused", Response::Refused(Refusal::MetadataTooLarge { limit: 34 })),
        (
            "refused",
            Response::Refused(Refusal::StorageQuotaExceeded {
                limit: 1,
                used: 2,
                wanted: 3,
                expired_waiting: true,
            }),
        ),
        (
            "refused",
            Response::Refused(Refusal::KeyCountExceeded {
                limit: 35,
                expired_waiting: true,
            }),
        ),
        ("refused", Response::Refused(Refusal::TtlAboveMaximum { limit_ms: 36 })),
        ("refused", Response::Refused(Refusal::TtlTooShort)),
        ("refused", Response::Refused(Refusal::PreconditionFailed { current: 37 })),
        ("refused", Response::Refused(Refusal::TenantNameTaken { owner: "n/t".to_owned() })),
        (
            "refused",
            Response::Refused(Refusal::StaleGeneration {
                field: "generation".to_owned(),
                stored: 38,
            }),
        ),
        ("refused", Response::Refused(Refusal::UidMismatch)),
        ("refused", Response::Refused(Refusal::LevelSkipped { level: Level(2) })),
        ("refused", Response::Refused(Refusal::TooManyOperations { limit: 39 })),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines are those of the golden file.
fn stay(file: &str, encoded: impl Iterator<Item = (&'static str, Bytes)>) {
    let found: String = encoded.map(|(name, bytes)| format!("{name}: {}\n", hex(&bytes))).collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state/tests/golden").join(file);
    if std::env::var_os("KVNODE_BLESS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(
        found,
        std::fs::read_to_string(golden).unwrap(),
        "KVNODE_BLESS=1 cargo test -p kvfleet-node --lib golden"
    );
}

#[test]
fn commands_keep_their_bytes() {
    let proposals = || {
        commands()
            .into_iter()
            .map(|(name, command)| (name, Proposal { stamp_ms: STAMP, command }))
    };
    stay("commands.txt", proposals().map(|(name, proposal)| (name, proposal.encode())));
    for (_, proposal) in proposals() {
        assert_eq!(Proposal::decode(&proposal.encode()).unwrap(), proposal);
    }
}

#[test]
fn responses_keep_their_bytes() {
    stay(
        "responses.txt",
        responses().into_iter().map(|(name, response)| (name, response.encode())),
    );
    for (_, response) in responses() {
        assert_eq!(Response::decode(&response.encode()).unwrap(), response);
    }
}

#[test]
fn rows_keep_their_bytes() {
    let value = Bytes::from_static(b"\x00\xff");
    let header = Header {
        value: ValuePlace::of(&value),
        kind: Kind::Json,
        content_type: Some("a/b".to_owned()),
        metadata: vec![("n".to_owned(), "v".to_owned())],
        revision: 300,
        create_revision: 2,
        created_at_ms: STAMP - 1,
        updated_at_ms: STAMP,
        expires_at_ms: Some(STAMP + 1),
    };
    let record = Record { header, value };
    let tenant = Tenant {
        id: TenantId(9),
        name: "acme".to_owned(),
        state: TenantState::Active,
        config: full_config(),
        revision: 8,
        credential_issued_at: 7,
    };
    let settings = SettingsStatus {
        revision: 5,
        settings: full_settings(),
    };
    let value = Bytes::from(vec![b'v'; INLINE_BYTES + 1]);
    let header = Header {
        value: ValuePlace::of(&value),
        expires_at_ms: None,
        content_type: None,
        metadata: Vec::new(),
        ..record.header.clone()
    };
    let large = Record { header, value };
    let rows = [
        ("record", record.to_rows().header),
        ("large record", large.to_rows().header),
        ("tenant", tenant.encode()),
        ("settings", encode_settings(&settings)),
        ("number", encode_number(300)),
        ("tokens", encode_tokens(&[(1, (2, STAMP)), (3, (4, 0))].into())),
        ("applied", encode_applied(Applied { term: 5, index: 9 })),
        (
            "membership",
            encode_membership(Applied { term: 5, index: 9 }, &Bytes::from_static(b"members")),
        ),
        (
            "usage",
            Usage {
                bytes: 300,
                rows: 2,
                expired: 1,
            }
            .encode(),
        ),
        ("digest", Digest::default().encode()),
    ];
    stay("rows.txt", rows.into_iter());
    for record in [record, large] {
        let rows = record.to_rows();
        let header = Header::decode(&rows.header).unwrap();
        assert_eq!(header.is_apart(), rows.value.is_some());
        assert_eq!(header.value_length(), record.value.len() as u64);
        assert_eq!(header.charge("key"), record.charge("key"));
        assert_eq!(header.refuse(rows.value.as_deref()), None);
        assert_eq!(header.with(rows.value), record);
    }
    assert_eq!(Tenant::decode(TenantId(9), &tenant.encode()).unwrap(), tenant);
}

/// The bytes of a field, as protobuf has them.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

#[test]
fn a_field_of_a_newer_program_is_skipped() {
    let proposal = Proposal {
        stamp_ms: STAMP,
        command: put("k", "v"),
    };
    let longer = [proposal.encode().as_ref(), &field(15, b"later"), &[14 << 3, 7]].concat();
    assert_eq!(Proposal::decode(&longer.into()).unwrap(), proposal);
}

#[test]
fn a_command_of_a_newer_program_is_an_error() {
    let newer = |what| Err(DecodeError::Newer { what });
    let proposal = |command: &[u8]| Proposal::decode(&[&[2], field(2, command).as_slice()].concat().into());
    assert_eq!(proposal(&field(15, b"later")), newer("command"));
    assert_eq!(proposal(b""), newer("command"));
    // A write with an operation, or a condition, that is not known: to do the rest would be another write.
    let write = |operation: &[u8]| field(1, &[&[1 << 3, 1], field(4, operation).as_slice()].concat());
    assert_eq!(proposal(&write(&field(15, b"later"))), newer("operation"));
    let condition = [field(1, b"k"), field(2, &field(15, b""))].concat();
    assert_eq!(proposal(&write(&field(2, &condition))), newer("condition"));
    assert_eq!(
        proposal(&field(15, b"later")).unwrap_err().to_string(),
        "a command of a newer program: upgrade this member"
    );
    assert_eq!(
        Proposal::decode(&Bytes::from_static(&[2, 8, 1])),
        Err(DecodeError::Missing { field: "command" })
    );
}

#[test]
fn bytes_of_the_first_format_are_refused_in_words() {
    let error = Proposal::decode(&Bytes::from_static(&[1, 0, 1])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a command of format 1, and this program reads 2: start with an empty data directory, or the version that wrote it"
    );
}

#[test]
fn a_value_shares_the_memory_of_the_entry() {
    let bytes = Proposal {
        stamp_ms: STAMP,
        command: put("k", &"v".repeat(1_000)),
    }
    .encode();
    let proposal = Proposal::decode(&bytes).unwrap();
    let Some(Operation::Put(put)) = proposal.command.operation() else {
        panic!("{proposal:?}")
    };
    assert!(bytes.as_ptr_range().contains(&put.value.as_ptr()));
}

/// Whatever arrives, decoding ends in a value or an error, never in a panic.
#[test]
fn cut_and_damaged_bytes_are_errors() {
    let encoded = commands()
        .into_iter()
        .map(|(_, command)| Proposal { stamp_ms: STAMP, command }.encode());
    for bytes in encoded {
        for end in 0..bytes.len() {
            assert!(Proposal::decode(&bytes.slice(..end)).is_err(), "cut at {end}: {}", hex(&bytes));
        }
        let longer = Bytes::from([bytes.as_ref(), &[0]].concat());
        assert!(Proposal::decode(&longer).is_err(), "no field has number 0");
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[place] = value;
                if let Ok(proposal) = Proposal::decode(&Bytes::from(damaged)) {
                    assert_eq!(Proposal::decode(&proposal.encode()).as_ref(), Ok(&proposal));
                }
            }
        }
    }
    for (_, response) in responses() {
        let bytes = response.encode();
        for end in 0..bytes.len() {
            assert!(Response::decode(&bytes.slice(..end)).is_err());
        }
    }
}
