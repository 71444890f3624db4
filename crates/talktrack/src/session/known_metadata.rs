//! What this process knows of the size of a session's metadata: the size of each member that it accepted, without the
//! text.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use serde_json::Value;
use talktrack_core::error::Reason;
use talktrack_core::json::{JsonObject, MAX_SESSION_METADATA};

/// A member: the hash of its key, and its size in bytes. This takes eight bytes, about as many as the shortest members
/// have themselves. If two keys have the same hash, only one of them is counted.
type Member = (u32, u32);

/// The sizes of the members that this process has merged into a session's metadata. Members that the store had before
/// are not included.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownMetadata {
    /// Sorted by hash, each hash once. A boxed slice has no spare capacity: thousands of sessions are in memory.
    members: Box<[Member]>,
    bytes: usize,
}

/// The sizes of the members of an update, sorted by hash, each hash once.
#[derive(Default)]
pub(crate) struct MemberSizes(Vec<Member>);

impl MemberSizes {
    /// Measures the members of an object. This is done before the session is locked.
    pub(crate) fn from_object(added: &JsonObject) -> Self {
        static HASHER: OnceLock<RandomState> = OnceLock::new();
        let hasher = HASHER.get_or_init(RandomState::new);
        #[expect(clippy::cast_possible_truncation, reason = "any 32 bits of a hash are as good as others")]
        let hash = |key: &str| hasher.hash_one(key) as u32;
        let size = |key: &str, value: &str| match value {
            // The key is removed.
            "null" => 0,
            // Includes the colon and the comma.
            _ => u32::try_from(Value::from(key).to_string().len() + value.len() + 2).unwrap_or(u32::MAX),
        };
        let members = added.members();
        let mut sizes: Vec<Member> =
            members.iter().map(|(key, value)| (hash(key), size(key, value.get()))).collect();
        sizes.sort_unstable();
        sizes.dedup_by_key(|(hash, _)| *hash);
        Self(sizes)
    }
}

impl KnownMetadata {
    /// Returns the size of the metadata with these members merged.
    ///
    /// # Errors
    /// [`Reason::MetadataTooLarge`] if the size exceeds [`MAX_SESSION_METADATA`].
    pub(crate) fn size_with(&self, added: &MemberSizes) -> Result<usize, Reason> {
        let known = |hash: u32| {
            let place = self.members.binary_search_by_key(&hash, |(hash, _)| *hash);
            place.map_or(0, |place| self.members[place].1 as usize)
        };
        let replaced: usize = added.0.iter().map(|(hash, _)| known(*hash)).sum();
        let added: usize = added.0.iter().map(|(_, bytes)| *bytes as usize).sum();
        let size = self.bytes - replaced + added;
        if size > MAX_SESSION_METADATA {
            return Err(Reason::MetadataTooLarge { size, limit: MAX_SESSION_METADATA });
        }
        Ok(size)
    }

    /// Notes that these members are merged.
    pub(crate) fn merge(&mut self, added: &MemberSizes) {
        if added.0.is_empty() {
            return;
        }
        let mut merged = Vec::with_capacity(self.members.len() + added.0.len());
        let mut known = self.members.iter().copied().peekable();
        for member in &added.0 {
            while let Some(earlier) = known.next_if(|(hash, _)| *hash < member.0) {
                merged.push(earlier);
            }
            // The known member is replaced.
            known.next_if(|(hash, _)| *hash == member.0);
            merged.extend(Some(*member).filter(|(_, bytes)| *bytes > 0));
        }
        merged.extend(known);
        self.members = merged.into_boxed_slice();
        self.bytes = self.members.iter().map(|(_, bytes)| *bytes as usize).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(members: impl Iterator<Item = (String, String)>) -> JsonObject {
        let members: Vec<_> = members.map(|(key, value)| format!("{key:?}:{value}")).collect();
        JsonObject::parse(&format!("{{{}}}", members.join(","))).unwrap()
    }

    /// As many members as fit, added a few at a time, some of them repeatedly.
    #[test]
    fn what_is_kept_of_metadata_takes_little_more_than_the_metadata_themselves() {
        let mut known = KnownMetadata::default();
        for first in (0..7_000).step_by(100) {
            let members = (first..first + 150).map(|key: usize| (format!("{key:x}"), "1".to_owned()));
            known.merge(&MemberSizes::from_object(&object(members)));
        }
        let all = object((0..7_050).map(|key| (format!("{key:x}"), "1".to_owned())));
        let bytes = all.as_str().len();
        // If two keys share a hash, only one is counted. Here 7,050 of four billion possible hashes are used.
        assert!(known.bytes.abs_diff(bytes) < 40, "{} of {bytes}", known.bytes);
        let kept = size_of_val(&*known.members);
        assert!(kept < bytes * 5 / 4, "{kept} bytes are kept for {bytes}");
        assert_eq!(known.size_with(&MemberSizes::from_object(&all)), Ok(known.bytes), "nothing of it is new");
    }

    #[test]
    fn members_that_are_removed_do_not_count() {
        let mut known = KnownMetadata::default();
        for number in 0..3 {
            known.merge(&MemberSizes::from_object(&object(
                [(format!("k{number}"), "7".to_owned())].into_iter(),
            )));
            let removed = object([(format!("k{number}"), "null".to_owned())].into_iter());
            known.merge(&MemberSizes::from_object(&removed));
        }
        assert_eq!((known.bytes, known.members.len()), (0, 0));
    }

    #[test]
    fn members_that_are_replaced_count_once() {
        let mut known = KnownMetadata::default();
        let of =
            |value: &str| MemberSizes::from_object(&object([("k".to_owned(), value.to_owned())].into_iter()));
        for digits in [50_000, 60_000, 10] {
            known.merge(&of(&"1".repeat(digits)));
            assert_eq!(known.bytes, digits + 5);
        }
        let too_long = known.size_with(&of(&"1".repeat(MAX_SESSION_METADATA)));
        assert!(matches!(too_long, Err(Reason::MetadataTooLarge { .. })), "{too_long:?}");
    }
}
