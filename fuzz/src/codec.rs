//! What holds for the codec, whatever the input. Each function panics where it does not.

use tapster::codec::{
    Backend, BackendFraming, BackendMessage, BaseBackup, CopyData, DecodeError, Family, Frontend,
    FrontendFraming, Limits, Need, OwnedMessage, Replication, Standby, Startup,
};

/// Bytes of a stream in either direction: the frames are the same however they are split on the way, they
/// and what is left are the whole input, and each of them is a message or an error.
pub fn frames(input: &[u8]) {
    let tight = Limits { copy_data: 64, data_row: 64, startup_error: 64, ..Limits::DEFAULT };
    for framing in [
        BackendFraming::STARTUP,
        BackendFraming::READY,
        BackendFraming { limits: tight, ready: false },
        BackendFraming { limits: tight, ready: true },
    ] {
        for frame in split_as_whole(input, |bytes| framing.need(bytes)) {
            if let Ok(message) = framing.parse(frame) {
                let mut again = Vec::new();
                message.encode(&mut again).expect("what was read can be written");
                match message {
                    // Its newline may be missing, and is then put there.
                    BackendMessage::OldStyleError { .. } => assert_eq!(framing.parse(&again), Ok(message)),
                    _ => assert_eq!(again, frame),
                }
            }
        }
    }
    for framing in [FrontendFraming::STARTUP, FrontendFraming::READY] {
        split_as_whole(input, |bytes| framing.need(bytes)).into_iter().for_each(same_again::<Frontend>);
        split_as_whole(input, |bytes| framing.need_startup(bytes))
            .into_iter()
            .for_each(same_again::<Startup>);
    }
}

/// The type and the body of a message from a server.
pub fn backend(input: &[u8]) {
    if let Some((&tag, body)) = input.split_first() {
        let frame = with_length(&[tag], body);
        same_again_and_shown::<Backend>(&frame);
        if let Ok(BackendMessage::ErrorResponse(fields)) = BackendFraming::READY.parse(&frame) {
            // Replacing what is not UTF-8 can make three bytes of one; nothing else grows.
            let error = fields.to_server_error();
            assert!(error.message.len() <= 3 * body.len() + "(the server sent no message)".len());
        }
    }
}

/// The type and the body of a message from a client.
pub fn frontend(input: &[u8]) {
    if let Some((&tag, body)) = input.split_first() {
        same_again_and_shown::<Frontend>(&with_length(&[tag], body));
    }
}

/// A packet that begins a connection, without its length.
pub fn startup(input: &[u8]) {
    same_again_and_shown::<Startup>(&with_length(&[], input));
}

/// What is inside `CopyData` while replication streams, in either direction.
pub fn replication(input: &[u8]) {
    same_again_and_shown::<Replication>(input);
    same_again_and_shown::<Standby>(input);
    let mut out = Vec::new();
    CopyData::encode_with(&mut out, |out| {
        out.extend_from_slice(input);
        Ok(())
    })
    .expect("no input is too long");
    assert_eq!(BackendFraming::READY.need(&out), Ok(Need::Frame(out.len())));
    assert_eq!(BackendFraming::READY.parse(&out), Ok(BackendMessage::CopyData(CopyData { data: input })));
}

/// What is inside `CopyData` during a base backup.
pub fn base_backup(input: &[u8]) {
    same_again_and_shown::<BaseBackup>(input);
}

/// What can be read can be written, and that is what was read.
fn same_again<F: Family>(bytes: &[u8]) {
    let Ok(owned) = OwnedMessage::<F>::from_wire(bytes) else { return };
    let message = owned.parse().expect("what was read once is read again");
    let again = OwnedMessage::<F>::new(&message).expect("what was read can be written");
    assert_eq!(&again[..], bytes);
    assert_eq!(again.parse(), Ok(message));
}

/// The same, and every list of the message is walked by showing it: what comes of it is bounded by the input.
fn same_again_and_shown<F: Family>(bytes: &[u8]) {
    same_again::<F>(bytes);
    if let Ok(owned) = OwnedMessage::<F>::from_wire(bytes) {
        // Two bytes can be a format, and become a word in a list.
        assert!(format!("{owned:?}").len() <= 64 * bytes.len() + 1_000);
    }
}

/// A message with the length word that belongs to it.
fn with_length(tag: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("no input is that long");
    [tag, &length.to_be_bytes(), body].concat()
}

/// The frames of the input, after finding that they are the same when it comes byte by byte.
fn split_as_whole(input: &[u8], need: impl Fn(&[u8]) -> Result<Need, DecodeError>) -> Vec<&[u8]> {
    let mut whole = Vec::new();
    let mut left = input;
    let end = loop {
        match need(left) {
            Ok(Need::Frame(len)) => {
                assert!(len > 0, "an empty frame would be read for ever");
                let (frame, rest) = left.split_at(len);
                whole.push(frame);
                left = rest;
            }
            end => break end,
        }
    };
    assert_eq!(whole.iter().map(|frame| frame.len()).sum::<usize>() + left.len(), input.len());

    let (mut start, mut frames, mut least) = (0, 0, 0);
    for have in 0..=input.len() {
        loop {
            let answer = need(&input[start..have]);
            match answer {
                Ok(Need::Frame(len)) => {
                    assert!(have >= least, "there was an answer before the bytes that were asked for");
                    assert_eq!(whole.get(frames), Some(&&input[start..start + len]));
                    start += len;
                    frames += 1;
                }
                Ok(Need::More(more)) => {
                    assert!(more > 0, "nothing is needed, and there is no answer");
                    least = least.max(have + more);
                    break;
                }
                Err(_) => break,
            }
        }
    }
    assert_eq!((frames, need(left)), (whole.len(), end));
    whole
}
