//! Properties of the codec that hold for every input. Each function panics where one does not.

use tapster::codec::{
    Backend, BackendFraming, BackendMessage, BaseBackup, CopyData, DecodeError, Family, Frontend,
    FrontendFraming, Limits, Need, OwnedMessage, Replication, Standby, Startup,
};

/// Bytes of a stream in either direction. The frames are the same however the network splits them, the frames
/// and the rest are the whole input, and each frame is a message or an error.
pub fn frames(input: &[u8]) {
    let tight = Limits { copy_data: 64, data_row: 64, startup_error: 64, ..Limits::DEFAULT };
    for framing in [
        BackendFraming::STARTUP,
        BackendFraming::READY,
        BackendFraming { limits: tight, ready: false },
        BackendFraming { limits: tight, ready: true },
    ] {
        for frame in check_frames(input, |bytes| framing.need(bytes)) {
            if let Ok(message) = framing.parse(frame) {
                let mut again = Vec::new();
                message.encode(&mut again).expect("a parsed message can be encoded");
                match message {
                    // The newline of its text may be missing; encoding adds it.
                    BackendMessage::OldStyleError { .. } => assert_eq!(framing.parse(&again), Ok(message)),
                    _ => assert_eq!(again, frame),
                }
            }
        }
    }
    for framing in [FrontendFraming::STARTUP, FrontendFraming::READY] {
        check_frames(input, |bytes| framing.need(bytes)).into_iter().for_each(check_reencoding::<Frontend>);
        check_frames(input, |bytes| framing.need_startup(bytes))
            .into_iter()
            .for_each(check_reencoding::<Startup>);
    }
}

/// The type and the body of a message from a server.
pub fn backend(input: &[u8]) {
    if let Some((&tag, body)) = input.split_first() {
        let frame = with_length(&[tag], body);
        check_reencoding_and_debug::<Backend>(&frame);
        if let Ok(BackendMessage::ErrorResponse(fields)) = BackendFraming::READY.parse(&frame) {
            // Replacing a byte that is not UTF-8 makes three bytes of one; nothing else grows.
            let error = fields.to_server_error();
            assert!(error.message.len() <= 3 * body.len() + "(the server sent no message)".len());
        }
    }
}

/// The type and the body of a message from a client.
pub fn frontend(input: &[u8]) {
    if let Some((&tag, body)) = input.split_first() {
        check_reencoding_and_debug::<Frontend>(&with_length(&[tag], body));
    }
}

/// A packet that begins a connection, without its length.
pub fn startup(input: &[u8]) {
    check_reencoding_and_debug::<Startup>(&with_length(&[], input));
}

/// The message inside `CopyData` while replication streams, in either direction.
pub fn replication(input: &[u8]) {
    check_reencoding_and_debug::<Replication>(input);
    check_reencoding_and_debug::<Standby>(input);
    let mut out = Vec::new();
    CopyData::encode_with(&mut out, |out| {
        out.extend_from_slice(input);
        Ok(())
    })
    .expect("no input is too long");
    assert_eq!(BackendFraming::READY.need(&out), Ok(Need::Frame(out.len())));
    assert_eq!(BackendFraming::READY.parse(&out), Ok(BackendMessage::CopyData(CopyData { data: input })));
}

/// The message inside `CopyData` during a base backup.
pub fn base_backup(input: &[u8]) {
    check_reencoding_and_debug::<BaseBackup>(input);
}

/// Checks that a message that can be parsed can be encoded, and gives the same bytes again.
fn check_reencoding<F: Family>(bytes: &[u8]) {
    let Ok(owned) = OwnedMessage::<F>::from_wire(bytes) else { return };
    let message = owned.parse().expect("a message that was parsed once is parsed again");
    let again = OwnedMessage::<F>::new(&message).expect("a parsed message can be encoded");
    assert_eq!(&again[..], bytes);
    assert_eq!(again.parse(), Ok(message));
}

/// Checks the same, and that `Debug`, which walks every list of the message, is bounded by the input.
fn check_reencoding_and_debug<F: Family>(bytes: &[u8]) {
    check_reencoding::<F>(bytes);
    if let Ok(owned) = OwnedMessage::<F>::from_wire(bytes) {
        // Two bytes can be a format, which is shown as a word in a list.
        assert!(format!("{owned:?}").len() <= 64 * bytes.len() + 1_000);
    }
}

/// A message with the length word that belongs to it.
fn with_length(tag: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("no input is that long");
    [tag, &length.to_be_bytes(), body].concat()
}

/// Splits the input into frames, and checks that they are the same when the input arrives byte by byte.
fn check_frames(input: &[u8], need: impl Fn(&[u8]) -> Result<Need, DecodeError>) -> Vec<&[u8]> {
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
                    assert!(have >= least, "a frame was found before the bytes that were asked for arrived");
                    assert_eq!(whole.get(frames), Some(&&input[start..start + len]));
                    start += len;
                    frames += 1;
                }
                Ok(Need::More(more)) => {
                    assert!(more > 0, "no bytes are missing, yet the frame has no length");
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
