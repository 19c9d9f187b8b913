//! Close frames: received payloads are judged as the RFC demands, and sent payloads are valid.

use ws_reactor::protocol::{
    CloseCode, Delivery, Event, HEADROOM_BYTES, Limits, Session, Workspace,
};

use super::codec::{client, replies, reply};
use super::model::close_code;
use super::pieces::Pieces;

const LIMITS: Limits = Limits { message_bytes_max: 1000, fragments_max: 10 };

pub fn close(input: &[u8]) {
    let payload = &input[..input.len().min(125)];
    receives(payload);
    let mut pieces = Pieces::new(input);
    let code = pieces.short().swap_bytes();
    let reason = String::from_utf8_lossy(pieces.rest());
    for code in CloseCode::new(code).into_iter().chain([CloseCode::NO_STATUS, CloseCode::ABNORMAL])
    {
        sends(code, &reason);
    }
}

fn receives(payload: &[u8]) {
    let mut session = Session::new(Delivery::Whole);
    let mut workspace = Workspace::default();
    let mut buf = [&[0; HEADROOM_BYTES], &client(8, payload)[..]].concat();
    let mut window = session.window(&mut buf);
    let event = session.next_event(&mut window, &LIMITS, &mut workspace);
    let code = (!payload.is_empty()).then(|| close_code(payload));
    match event {
        Ok(Some(Event::Close { code: seen, reason, answers_ours })) => {
            assert_eq!(seen.map(|code| Ok(code.value())), code);
            assert_eq!(window.bytes(&reason), payload.get(2..).unwrap_or_default());
            assert!(std::str::from_utf8(window.bytes(&reason)).is_ok());
            assert!(!answers_ours);
        }
        Err(error) => assert_eq!(Some(Err(error.close_code().value())), code),
        other => panic!("{other:?}"),
    }
    assert!(session.is_closed());
    window.move_run(&mut workspace);
    let code = code.map(|code| code.unwrap_or_else(|fault| fault));
    assert_eq!(
        workspace.out,
        reply(8, code.map(u16::to_be_bytes).as_ref().map_or(&[], |code| &code[..]))
    );
}

fn sends(code: CloseCode, reason: &str) {
    let mut session = Session::new(Delivery::Whole);
    let mut workspace = Workspace::default();
    assert!(!session.is_closing());
    assert!(session.close(code, reason, &mut workspace) && session.is_closing());
    assert!(!session.close(code, reason, &mut workspace), "a second close frame");
    let replies = replies(&workspace.out);
    let [(header, payload)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((header.opcode, header.payload_len), (8, payload.len() as u64));
    if CloseCode::new(code.value()).is_none() {
        return assert!(payload.is_empty(), "{code} was sent");
    }
    assert_eq!(payload[..2], code.value().to_be_bytes());
    assert_eq!(close_code(payload), Ok(code.value()), "a peer would reject it");
    let kept = payload.len() - 2;
    assert_eq!(payload[2..], reason.as_bytes()[..kept]);
    assert!(kept == reason.len() || kept > 123 - 4, "more is cut than necessary");
}
