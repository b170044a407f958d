//! The one FlexBuffer that models hold: a map from names to strings of bytes. Nothing in it is trusted.
//!
//! Source: <https://flatbuffers.dev/internals/#flexbuffers>.

use super::flatbuffer::{Malformed, Read};

const STRING: u8 = 5;
const MAP: u8 = 9;
const BLOB: u8 = 25;

/// The entries of a FlexBuffer whose root is a map from names to strings or blobs.
pub(super) fn read_map(bytes: &[u8]) -> Read<Vec<(&str, &[u8])>> {
    // The end tells how to read the rest: the root, its type, and how wide it is.
    let [.., kind, root_width] = *bytes else { return Err(Malformed) };
    let reader = Reader { bytes: &bytes[..bytes.len() - 2] };
    let root_width = usize::from(root_width);
    let root = reader.bytes.len().checked_sub(root_width).ok_or(Malformed)?;
    if kind >> 2 != MAP {
        return Err(Malformed);
    }
    reader.map(reader.follow(root, root_width)?, 1 << (kind & 3))
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn number(&self, at: usize, width: usize) -> Read<usize> {
        let end = at.checked_add(width).ok_or(Malformed)?;
        let bytes = self.bytes.get(at..end).filter(|_| matches!(width, 1 | 2 | 4 | 8)).ok_or(Malformed)?;
        let mut number = [0; 8];
        number[..width].copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(number)).map_err(|_| Malformed)
    }

    /// Where the offset at `at` points to: so many bytes back.
    fn follow(&self, at: usize, width: usize) -> Read<usize> {
        at.checked_sub(self.number(at, width)?).ok_or(Malformed)
    }

    /// Before the values of a map stand their number, the width of its keys, and the offset of these.
    fn map(&self, values: usize, width: usize) -> Read<Vec<(&'a str, &'a [u8])>> {
        let before = |words: usize| values.checked_sub(words * width).ok_or(Malformed);
        let length = self.number(before(1)?, width)?;
        let key_width = self.number(before(2)?, width)?;
        let keys = self.follow(before(3)?, width)?;
        // Each value takes its width and one byte for its type.
        let size = length.checked_mul(width + 1).ok_or(Malformed)?;
        let types = values + length * width;
        if values.checked_add(size).is_none_or(|end| end > self.bytes.len()) {
            return Err(Malformed);
        }
        let mut left = self.bytes.len();
        (0..length)
            .map(|index| {
                let key_at = index.checked_mul(key_width).and_then(|offset| keys.checked_add(offset));
                let key = self.key(self.follow(key_at.ok_or(Malformed)?, key_width)?)?;
                let value = self.value(values + index * width, width, self.bytes[types + index])?;
                // Entries that share their bytes must not add up to more than there are.
                left = left.checked_sub(key.len() + value.len()).ok_or(Malformed)?;
                Ok((key, value))
            })
            .collect()
    }

    /// Keys end with a NUL.
    fn key(&self, at: usize) -> Read<&'a str> {
        let rest = self.bytes.get(at..).ok_or(Malformed)?;
        let length = rest.iter().position(|&byte| byte == 0).ok_or(Malformed)?;
        std::str::from_utf8(&rest[..length]).map_err(|_| Malformed)
    }

    /// Before a string stands its length.
    fn value(&self, at: usize, width: usize, kind: u8) -> Read<&'a [u8]> {
        if !matches!(kind >> 2, STRING | BLOB) {
            return Err(Malformed);
        }
        let length_width = 1 << (kind & 3);
        let start = self.follow(at, width)?;
        let length = self.number(start.checked_sub(length_width).ok_or(Malformed)?, length_width)?;
        self.bytes.get(start..start.checked_add(length).ok_or(Malformed)?).ok_or(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Google's library writes for {"a": "xy", "b": ""}.
    const MAP_OF_TWO: &[u8] = b"a\0\x02xy\0b\0\0\0\x02\x0b\x06\x02\x01\x02\r\x08\x14\x14\x04$\x01";

    #[test]
    fn a_map_of_strings_is_read() {
        assert_eq!(read_map(MAP_OF_TWO), Ok(vec![("a", &b"xy"[..]), ("b", &b""[..])]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_map(&bytes);
        }

        #[test]
        fn a_damaged_map_does_not_make_it_panic(at in 0..MAP_OF_TWO.len(), byte in any::<u8>(), cut in 0..MAP_OF_TWO.len()) {
            let mut damaged = MAP_OF_TWO.to_vec();
            damaged[at] = byte;
            let _ = read_map(&damaged);
            let _ = read_map(&damaged[cut..]);
        }
    }
}
