//! Users as the documents describe them.

use talktrack::{SessionId, UserId};

#[test]
fn the_documents_name_the_uuid_of_each_example() {
    let schema = include_str!("../../../../docs/schema.md");
    let section = schema.split("\n## ").find(|section| section.starts_with("Users")).unwrap();
    let mut texts = 0;
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> =
            line.trim_matches(['|', ' ']).split(" | ").map(|cell| cell.trim_matches('`')).collect();
        let [given, uuid, text] = cells[..] else { panic!("{line}") };
        let user: UserId = given.parse().unwrap();
        assert_eq!(
            (user.as_uuid().to_string().as_str(), user.text()),
            (uuid, Some(text).filter(|text| *text != "null"))
        );
        texts += usize::from(user.text().is_some());
    }
    assert_eq!(texts, 3);
    assert!(section.contains("a981d199-1414-5be4-9c00-12846e9adb5d"));
}

#[test]
fn a_guest_has_the_uuid_of_its_session() {
    let session: SessionId = "fda86359-0c1e-4d0c-8d1e-6964656d706f".parse().unwrap();
    let guest = UserId::guest_of(session);
    assert!(guest.is_guest_of(session));
    let schema = include_str!("../../../../docs/schema.md");
    assert!(schema.contains(&format!("`{guest}` for the session\n`{session}`")));
}
