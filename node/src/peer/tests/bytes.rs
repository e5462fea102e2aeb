//! Golden bytes of what members speak before and around the calls.

use super::*;
use crate::peer::{Identified, Refusal, golden};

#[test]
fn golden_frames_stay_as_they_are() {
    let answer = Header {
        kind: Kind::Answer,
        packed: true,
        ..header(Method::Vote, 6)
    };
    let refusal = |refusal| Header {
        kind: Kind::Refusal(refusal),
        ..header(Method::Vote, 6)
    };
    let lost = Header {
        kind: Kind::Lost,
        ..header(Method::Vote, 6)
    };
    let identified = Identified {
        id: 7,
        name: "m".to_owned(),
        blank: true,
        shard: 3,
        levels: levels(2),
        program: "1.2.3".to_owned(),
    };
    let mut samples = vec![
        ("hello".to_owned(), hello_of(3, 3).encode()),
        ("identified".to_owned(), prost::Message::encode_to_vec(&identified).into()),
        ("frame request".to_owned(), frame_of(&header(Method::Append, 6), b"body").freeze()),
        ("frame answer, packed".to_owned(), frame_of(&answer, b"body").freeze()),
        ("frame lost".to_owned(), frame_of(&lost, b"").freeze()),
    ];
    let refusals = [
        Refusal::NotMe,
        Refusal::OtherCluster,
        Refusal::Closed,
        Refusal::Malformed,
        Refusal::TooLarge,
        Refusal::Quarantined,
        Refusal::OtherShard,
        Refusal::Unknown,
        Refusal::Other(200),
    ];
    for of in refusals {
        let bytes = frame_of(&refusal(of), b"");
        assert_eq!(frame::read(&mut bytes.clone()).unwrap().unwrap().0, refusal(of));
        samples.push((format!("frame refusal {of:?}"), bytes.freeze()));
    }
    golden::check("frames", samples.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref())));
}
