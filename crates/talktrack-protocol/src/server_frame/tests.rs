//! Frames of the server, written and read back.

use super::*;

/// Asserts that the frame is written as this text and read back.
fn is_written_as(frame: ServerFrame, text: &str) {
    assert_eq!(frame.to_text(), text);
    assert_eq!(ServerFrame::parse(text), Ok(frame));
}

#[test]
fn answers_read_as_the_protocol_page_shows_them_and_come_back_the_same() {
    let session_id = SessionId::from_u128(1);
    let user_id = UserId::from_u128(2);
    let started = |repeated, warnings: &[&str]| ServerFrame::SessionStarted {
        session_id,
        user_id: user_id.clone(),
        resumed: false,
        repeated,
        warnings: warnings.iter().map(|&text| text.to_owned()).collect(),
        reference: repeated.then(|| FrameRef::number(7)),
    };
    let plain = format!(
        r#"{{"type":"session.started","session_id":"{session_id}","user_id":"{user_id}","resumed":false}}"#
    );
    is_written_as(started(false, &[]), &plain);
    let repeated = r#","repeated":true,"warnings":["metadata.a: the session has no such key"],"ref":7}"#;
    is_written_as(
        started(true, &["metadata.a: the session has no such key"]),
        &format!("{}{repeated}", plain.trim_end_matches('}')),
    );
    is_written_as(
        ServerFrame::SessionUpdated { session_id, reference: Some(FrameRef::number(7)) },
        &format!(r#"{{"type":"session.updated","session_id":"{session_id}","ref":7}}"#),
    );
    is_written_as(
        ServerFrame::SessionEnded { session_id, duration_seconds: 45.2, message_count: 8, reference: None },
        &format!(
            r#"{{"type":"session.ended","session_id":"{session_id}","duration_seconds":45.2,"message_count":8}}"#
        ),
    );
    is_written_as(ServerFrame::Pong { reference: None }, r#"{"type":"pong"}"#);
}

#[test]
fn an_error_names_the_frame_and_where_there_are_several_the_session() {
    let error = |reference, session_id| ServerFrame::Error {
        code: "invalid_message".into(),
        message: "content: missing".into(),
        reference,
        session_id,
    };
    let begin = r#"{"type":"error","code":"invalid_message","message":"content: missing""#;
    is_written_as(error(Some(FrameRef::number(7)), None), &format!(r#"{begin},"ref":7}}"#));
    let named = SessionName::External("call 7".into());
    is_written_as(error(None, Some(named)), &format!(r#"{begin},"session_id":"external:call 7"}}"#));
}

#[test]
fn an_ack_frame_carries_several_messages() {
    let warnings = vec!["role: \"bot\"".to_owned(), "x: unknown field, kept in extra".to_owned()];
    let session_id = Some(SessionId::from_u128(7));
    let acks = [(1, Some(FrameRef::number(4)), None, Vec::new()), (2, None, session_id, warnings)].map(
        |(id, reference, session_id, warnings)| Ack {
            id: MessageId::from_u128(id),
            reference,
            session_id,
            warnings,
        },
    );
    let mut writer = AckWriter::new(2);
    for ack in &acks {
        writer.push(ack.id, ack.reference.as_ref(), ack.session_id, &ack.warnings);
    }
    let text = writer.finish().unwrap();
    let frame = ServerFrame::Ack { acks: acks.into() };
    assert_eq!(text, frame.to_text());
    assert_eq!(ServerFrame::parse(&text), Ok(frame));
    assert_eq!(AckWriter::new(0).finish(), None);
}

#[test]
fn a_text_that_is_no_frame_is_told_with_its_problem() {
    for (text, told) in [
        ("nonsense", "expected ident at line 1 column 2"),
        (r#"{"ref":1}"#, "missing field `type` at line 1 column 9"),
        (r#"{"type":"session.paused"}"#, "type: unknown: session.paused"),
        (r#"{"type":"session.started","resumed":true}"#, "session.started: a field is missing"),
    ] {
        assert_eq!(ServerFrame::parse(text).unwrap_err().to_string(), told, "{text}");
    }
    let frame_type = "session.paused".to_owned();
    let unknown = InvalidServerFrame::UnknownType { frame_type };
    for text in [r#"{"type":"session.paused","ref":1}"#, r#"{"type":"session.paused","message":{},"acks":7}"#]
    {
        assert_eq!(ServerFrame::parse(text), Err(unknown.clone()), "{text}");
    }
}
