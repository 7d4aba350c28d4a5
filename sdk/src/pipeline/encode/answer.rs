//! What a server's answer says.
//!
//! In: the body of an answer, anybody's bytes. Out: how many records it rejected; nothing for what is no answer of that kind.

use super::{BYTES, FIXED64, VARINT};

/// Records a server rejected, from the body of its answer: `partial_success` = 1, its `rejected_*` = 1. 0 when the body
/// says nothing of the kind.
pub(crate) fn rejected_records(body: &[u8]) -> u64 {
    let Some(partial) =
        field(body, 1).and_then(|found| if let Found::Bytes(bytes) = found { Some(bytes) } else { None })
    else {
        return 0;
    };
    match field(partial, 1) {
        Some(Found::Number(records)) => records,
        _ => 0,
    }
}

enum Found<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of this number, if the message is well formed up to there.
fn field(mut body: &[u8], number: u64) -> Option<Found<'_>> {
    while !body.is_empty() {
        let tag = take_varint(&mut body)?;
        let found = match tag & 7 {
            VARINT => Found::Number(take_varint(&mut body)?),
            FIXED64 => Found::Bytes(take_bytes(&mut body, 8)?),
            BYTES => {
                let length = usize::try_from(take_varint(&mut body)?).ok()?;
                Found::Bytes(take_bytes(&mut body, length)?)
            }
            5 => Found::Bytes(take_bytes(&mut body, 4)?),
            _ => return None,
        };
        if tag >> 3 == number {
            return Some(found);
        }
    }
    None
}

fn take_bytes<'a>(body: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(taken)
}

fn take_varint(body: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = body.split_first()?;
        *body = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
    use proptest::prelude::*;
    use prost::Message as _;

    proptest! {
        #[test]
        fn hostile_answers_say_what_a_decoder_reads_in_them_or_nothing(
            rejected in any::<i64>(),
            message in ".{0,20}",
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
            noise in proptest::collection::vec(any::<u8>(), 0..30),
        ) {
            let partial = ExportLogsPartialSuccess { rejected_log_records: rejected, error_message: message };
            let mut body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
            prop_assert_eq!(rejected_records(&body), rejected.cast_unsigned());
            for (place, value) in changes {
                let place = place.index(body.len());
                body[place] = value;
            }
            body.extend(noise);
            let found = rejected_records(&body);
            // A decoder takes the last of repeated fields and merges messages; one that says the same twice is enough here.
            if let Ok(ExportLogsServiceResponse { partial_success: None }) = ExportLogsServiceResponse::decode(&body[..]) {
                prop_assert_eq!(found, 0);
            }
        }
    }
}
