//! Where the parts of a request are, after its whole text was found to be JSON.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::explain::invalid_value;
use super::string::read_string;
use super::syntax::{SyntaxError, skip_colon, skip_value};
use crate::Error;

/// The document and the values of the `N` members that were asked for; of a repeated name the first counts.
pub(super) struct Outline<'a, const N: usize> {
    pub(super) document: Cursor<'a>,
    pub(super) values: [Option<Cursor<'a>>; N],
}

impl<'a, const N: usize> Outline<'a, N> {
    /// # Errors
    /// `INVALID_ARGUMENT` where the body is no JSON, or no object.
    pub(super) fn read(body: &'a [u8], names: [&[u8]; N]) -> Result<Outline<'a, N>, Error> {
        if body.is_empty() {
            return Err(Error::invalid("JSON Parse error: The document is empty").with_reason("invalid_json"));
        }
        let mut cursor = Cursor::of_document(body);
        cursor.skip_space();
        let document = cursor;
        match cursor.peek() {
            b'{' => {}
            0 | b']' | b'}' | b',' | b':' => return Ok(SyntaxError::here(SyntaxError::EMPTY, &cursor)?),
            _ => {
                skip_value(&mut cursor)?;
                return Err(invalid_value(document, "Is not object"));
            }
        }
        let mut outline = Outline { document, values: [None; N] };
        outline.read_members(&mut cursor, names)?;
        Ok(outline)
    }

    fn read_members(&mut self, cursor: &mut Cursor<'a>, names: [&[u8]; N]) -> Result<(), SyntaxError> {
        cursor.advance(1);
        cursor.skip_space();
        if cursor.eat(b'}') {
            return Ok(());
        }
        loop {
            let name = read_string(cursor)?;
            skip_colon(cursor)?;
            let place = names.iter().position(|&known| known == name.as_ref());
            if let Some(place @ None) = place.map(|index| &mut self.values[index]) {
                *place = Some(*cursor);
            }
            skip_value(cursor)?;
            cursor.skip_space();
            if cursor.eat(b'}') {
                return Ok(());
            }
            if !cursor.eat(b',') {
                return SyntaxError::here(SyntaxError::OBJECT_END, cursor);
            }
            cursor.skip_space();
        }
    }

    /// The value of `signature_name`, which was asked for as number `index`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where it is no string.
    pub(super) fn signature_name(&self, index: usize) -> Result<Option<Cow<'a, [u8]>>, Error> {
        let Some(mut value) = self.values[index] else { return Ok(None) };
        if value.peek() != b'"' {
            let complaint = "not formatted correctly. 'signature_name' key must be a string value.";
            return Err(invalid_value(self.document, complaint));
        }
        Ok(Some(read_string(&mut value)?))
    }
}
