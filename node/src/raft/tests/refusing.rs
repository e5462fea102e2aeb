//! Who is not heard.

use std::sync::Arc;

use bytes::Bytes;
use kvfleet_api::admin::MemberAddress;
use tokio::sync::mpsc;

use super::fleet::{CLUSTER, Fleet, soon, write_certificates};
use crate::{
    cluster_id::ClusterId,
    peer::{CallError, Lane, Method, PeerAddress, Refusal, Reply, Request, Service, Transport, TransportSettings},
    raft::{self, Admission, Change, JoinRequest, MembershipError, MembershipRefusal, ReleaseRequest, encoding::encode_vote_call, types},
    state::Supported,
    tls::{Identity, Role, TlsDirectory, issue::Authority},
};

async fn stranger(directory: &std::path::Path, cluster: ClusterId) -> Transport {
    stranger_of(directory, cluster, 0).await
}

async fn stranger_of(directory: &std::path::Path, cluster: ClusterId, shard: u32) -> Transport {
    let settings = TransportSettings {
        cluster,
        shard,
        id: 0xbad,
        name: "stranger".to_owned(),
        compress_above: 4 << 10,
        levels: Supported::ALL.into(),
    };
    Transport::start(settings, "127.0.0.1:0", TlsDirectory::open(directory, cluster).unwrap())
        .await
        .unwrap()
}

/// Connects as a TLS client that has no certificate and believes any; sends a frame's worth of bytes and counts what comes back.
async fn without_certificate(address: &str) -> usize {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("anybody.invalid").unwrap();
    // In TLS 1.3 the client's side of the handshake is over before the server looks for a certificate.
    let mut stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap();
    let _ = stream.write_all(&[0; 64]).await;
    let mut answered = Vec::new();
    let _ = tokio::time::timeout_at(soon(), stream.read_to_end(&mut answered)).await.unwrap();
    answered.len()
}

#[derive(Debug)]
struct Anybody(std::sync::Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// covers row 74
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_others_are_refused() {
    let fleet = Fleet::formed(3).await;
    let directory = tempfile::tempdir().unwrap();
    let foreign = ClusterId::from_bytes([9; 16]);
    let member = |cluster| Identity {
        cluster,
        role: Role::Member,
    };

    // No certificate at all: the handshake ends before anything is asked.
    assert_eq!(
        without_certificate(&fleet.seats[0].address).await,
        0,
        "bytes answered to a caller without a certificate"
    );

    // Another cluster's CA: neither side believes the other.
    let authority = Authority::create(foreign).unwrap();
    let path = write_certificates(&directory.path().join("foreign"), &authority, member(foreign));
    let outsider = stranger(&path, foreign).await;
    let answer = outsider.identify(&fleet.seats[0].address, soon()).await;
    assert!(matches!(answer, Err(CallError::Unreachable { .. })), "{answer:?}");
    let answer = fleet
        .transport(0)
        .identify(&outsider.local_address().unwrap().to_string(), soon())
        .await;
    assert!(matches!(answer, Err(CallError::Unreachable { .. })), "{answer:?}");

    // The same CA, a certificate of another cluster, or of the operator: the chain is good, the name is not.
    for (name, identity) in [
        ("other", member(foreign)),
        (
            "operator",
            Identity {
                cluster: CLUSTER,
                role: Role::Operator,
            },
        ),
    ] {
        let outsider = stranger(&fleet.certificates(name, identity), CLUSTER).await;
        let answer = outsider.identify(&fleet.seats[0].address, soon()).await;
        assert!(
            matches!(answer, Err(CallError::Unreachable { .. } | CallError::Broken { .. })),
            "{name}: {answer:?}"
        );
        let answer = fleet
            .transport(0)
            .identify(&outsider.local_address().unwrap().to_string(), soon())
            .await;
        let Err(CallError::Unreachable { reason, .. }) = answer else {
            panic!("{name}: {answer:?}")
        };
        assert!(reason.contains(&identity.to_string()), "the reason says who was refused: {reason}");
    }

    // A member's certificate is heard: the refusals above are about the certificates.
    let insider = stranger(&fleet.certificates("member", member(CLUSTER)), CLUSTER).await;
    assert_eq!(
        insider.identify(&fleet.seats[0].address, soon()).await.unwrap().id,
        fleet.seats[0].id
    );
}

/// The check whose absence lost acknowledged writes in a prototype: a blank member at a lost member's address must not vote for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_for_another_member_touches_nothing() {
    let fleet = Fleet::blank(2).await;
    let lost = PeerAddress {
        id: 0xdead,
        address: fleet.seats[1].address.clone(),
    };
    let vote = openraft::raft::VoteRequest::new(types::vote(7, fleet.seats[0].id, false), None);
    for (lane, method, body) in [
        (Lane::Control, Method::Vote, encode_vote_call(&vote)),
        (Lane::Control, Method::PreVote, encode_vote_call(&vote)),
        (Lane::Log, Method::Append, Bytes::from_static(&[1])),
        (Lane::Calls, Method::Forward, Bytes::new()),
        (Lane::Control, Method::Identify, Bytes::new()),
    ] {
        let answer = fleet.transport(0).call(&lost, lane, method, body, soon()).await;
        assert_eq!(
            answer,
            Err(CallError::Refused {
                target: 0xdead,
                refusal: Refusal::NotMe
            }),
            "{method:?}"
        );
    }
    assert_eq!(fleet.group(1).status().term, 0);
    assert!(fleet.transport(0).identify(&lost.address, soon()).await.unwrap().blank);

    // The same vote for the right member is granted: the refusal is about the id.
    let right = PeerAddress {
        id: fleet.seats[1].id,
        ..lost
    };
    let answer = fleet
        .transport(0)
        .call(&right, Lane::Control, Method::Vote, encode_vote_call(&vote), soon())
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    fleet.until(1, "in term 7", |group| group.status().term == 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_make_no_sense_are_refused() {
    let vote = encode_vote_call(&openraft::raft::VoteRequest::new(types::vote(7, 1, false), None));
    let fleet = Fleet::formed(3).await;
    let peer = PeerAddress {
        id: fleet.seats[1].id,
        address: fleet.seats[1].address.clone(),
    };
    for (lane, method, body) in [
        (Lane::Control, Method::Vote, &b"?"[..]),
        (Lane::Control, Method::Append, &[0, 1, 2][..]),
        (Lane::Log, Method::Append, &[1, 0, 0][..]),
        (Lane::Calls, Method::Forward, &[0, 0, 1, 0, 99][..]),
        (Lane::Calls, Method::ReadIndex, &[8][..]),
        // A vote without its last byte.
        (Lane::Control, Method::Vote, &vote[..vote.len() - 1]),
    ] {
        let answer = fleet
            .transport(0)
            .call(&peer, lane, method, Bytes::copy_from_slice(body), soon())
            .await;
        assert_eq!(
            answer,
            Err(CallError::Refused {
                target: peer.id,
                refusal: Refusal::Malformed
            }),
            "{method:?}"
        );
    }
    fleet.put(1, "still", "there").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_use_new_certificates() {
    let fleet = Fleet::blank(1).await;
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity {
        cluster: CLUSTER,
        role: Role::Member,
    };
    // A CA of the same cluster's name, but another one: a rotation that has not reached the fleet.
    let path = write_certificates(directory.path(), &Authority::create(CLUSTER).unwrap(), identity);
    let caller = stranger(&path, CLUSTER).await;
    assert!(caller.identify(&fleet.seats[0].address, soon()).await.is_err());
    let issued = fleet.certificates("fresh", identity);
    for file in ["ca.crt", "tls.crt", "tls.key"] {
        std::fs::copy(issued.join(file), path.join(file)).unwrap();
    }
    assert_eq!(
        caller.identify(&fleet.seats[0].address, soon()).await.unwrap().id,
        fleet.seats[0].id
    );
}

/// A member that has never been in a group, and may be of any shard.
struct Blank;

impl Service for Blank {
    fn serve(&self, _request: Request, reply: Reply) {
        reply.refuse(Refusal::Closed);
    }

    fn appends(&self, _requests: mpsc::Receiver<(Request, Reply)>) {}

    fn is_blank(&self) -> bool {
        true
    }
}

/// Its certificate is good, its cluster is right and it is blank: only the shard tells that its data belongs elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_shard_is_never_taken_in() {
    let fleet = Fleet::formed(3).await;
    let identity = Identity {
        cluster: CLUSTER,
        role: Role::Member,
    };
    let certificates = fleet.certificates("elsewhere", identity);
    for (shard, is_taken) in [(5, false), (0, true)] {
        let outsider = stranger_of(&certificates, CLUSTER, shard).await;
        outsider.set_service(Some(Arc::new(Blank)));
        let itself = MemberAddress {
            id: outsider.id(),
            name: "stranger".to_owned(),
            peer: outsider.local_address().unwrap().to_string(),
            voter: false,
        };
        if !is_taken {
            let addresses = [fleet.seats[0].address.clone()];
            let words = "of shard 0, and this member is of shard 5";
            let request = JoinRequest {
                by: Admission::Replaces(fleet.seats[1].id),
                itself: itself.clone(),
            };
            let answer = raft::join(&outsider, &addresses, &request, soon()).await;
            assert!(answer.as_ref().is_err_and(|error| error.to_string().contains(words)), "{answer:?}");
            let request = ReleaseRequest {
                old: Some(fleet.seats[1].id),
                name: "m2".to_owned(),
                only_ask: false,
            };
            let answer = raft::release(&outsider, &addresses, &request, std::time::Duration::from_secs(1)).await;
            assert!(answer.as_ref().is_err_and(|error| error.to_string().contains(words)), "{answer:?}");
        }
        let answer = fleet.group(0).change_members(Change::AddLearner(itself), soon()).await;
        if is_taken {
            assert_eq!(answer, Ok(()), "the refusals above are about the shard");
            continue;
        }
        let Err(MembershipError::Refused { refusal, detail }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(refusal, MembershipRefusal::Unreachable);
        assert!(detail.contains("of shard 5, and this member is of shard 0"), "{detail}");
        assert_eq!(fleet.group(0).status().members.len(), 3);
    }
}
