//! One gRPC message in its frame: sent in parts that share the tensors' memory, put together as it arrives.

use bytes::Bytes;

use crate::wire::oip::grpc::InferCall;
use crate::{Code, Error, Result};

const HEAD: usize = 5;

/// A call as a frame: its head and the parts of its message.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` for a message over `limit` bytes.
pub(super) fn frame(call: &InferCall<'_>, limit: usize) -> Result<Vec<Bytes>> {
    let mut parts = vec![Bytes::new()];
    call.write_parts(&mut parts);
    let length: usize = parts.iter().map(Bytes::len).sum();
    let known = u32::try_from(length).ok().filter(|_| length <= limit).ok_or_else(|| too_large("request", limit))?;
    let mut head = [0; HEAD];
    head[1..].copy_from_slice(&known.to_be_bytes());
    parts[0] = Bytes::copy_from_slice(&head);
    Ok(parts)
}

fn too_large(what: &str, limit: usize) -> Error {
    Error::new(Code::ResourceExhausted, format!("The {what} takes more than {limit} bytes on its way to the replica"))
        .with_reason("message_too_large")
}

/// A message that comes in chunks.
pub(super) struct Arriving {
    limit: usize,
    /// The first chunk, not copied as long as it may be all.
    first: Bytes,
    /// All, once there is a second chunk.
    joined: Vec<u8>,
}

impl Arriving {
    pub(super) fn new(limit: usize) -> Arriving {
        Arriving { limit, first: Bytes::new(), joined: Vec::new() }
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` once more than the limit is announced or sent.
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<()> {
        if self.first.is_empty() {
            self.first = chunk;
        } else {
            if self.joined.is_empty() {
                self.joined = Vec::with_capacity(self.announced()?.max(self.first.len() + chunk.len()));
                self.joined.extend_from_slice(&self.first);
            }
            self.joined.extend_from_slice(&chunk);
        }
        if self.bytes().len() > self.announced()? { Err(malformed("more bytes than it announced")) } else { Ok(()) }
    }

    /// The message.
    ///
    /// # Errors
    /// `INTERNAL` where it is not whole, or compressed.
    pub(super) fn finish(self) -> Result<Bytes> {
        let bytes = self.bytes();
        if bytes.len() < HEAD || bytes.len() != self.announced()? {
            return Err(malformed("fewer bytes than it announced"));
        }
        if bytes[0] != 0 {
            return Err(malformed("a compressed message, which it was not asked for"));
        }
        let whole = if self.joined.is_empty() { self.first } else { self.joined.into() };
        Ok(whole.slice(HEAD..))
    }

    fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { &self.first } else { &self.joined }
    }

    /// Bytes of the whole frame, as far as the head is there; else as many as the head takes.
    fn announced(&self) -> Result<usize> {
        match self.bytes().get(1..HEAD).and_then(|length| length.try_into().ok()) {
            None => Ok(HEAD),
            Some(length) => {
                let length = u32::from_be_bytes(length) as usize;
                if length > self.limit { Err(too_large("answer", self.limit)) } else { Ok(HEAD + length) }
            }
        }
    }
}

fn malformed(what: &str) -> Error {
    Error::internal(format!("The replica sent {what}")).with_reason("replica_malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(chunks: &[&'static [u8]]) -> Result<Bytes> {
        let mut arriving = Arriving::new(8);
        chunks.iter().try_for_each(|chunk| arriving.push(Bytes::from_static(chunk)))?;
        arriving.finish()
    }

    #[test]
    fn a_message_is_put_together_however_it_is_cut() {
        assert_eq!(arrive(&[b"\0\0\0\0\x03abc"]).unwrap(), "abc");
        assert_eq!(arrive(&[b"\0\0", b"\0\0\x03", b"a", b"bc"]).unwrap(), "abc");
        assert_eq!(arrive(&[b"\0\0\0\0\0"]).unwrap(), "");
    }

    #[test]
    fn what_is_no_whole_message_is_refused() {
        let wrong: [&'static [u8]; 5] = [b"", b"\0\0\0", b"\0\0\0\0\x03ab", b"\0\0\0\0\x03abcd", b"\x01\0\0\0\x01a"];
        for wrong in wrong {
            assert_eq!(arrive(&[wrong]).unwrap_err().reason, "replica_malformed", "{wrong:?}");
        }
        assert_eq!(arrive(&[b"\0\0\0\0\x09"]).unwrap_err().code, Code::ResourceExhausted);
        assert_eq!(arrive(&[b"\0\xff\xff", b"\xff\xff"]).unwrap_err().code, Code::ResourceExhausted);
    }
}
