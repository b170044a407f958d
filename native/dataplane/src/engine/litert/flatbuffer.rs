//! Flatbuffers, as far as the signatures of a model need them: tables, vectors and strings, read without trusting them.
//!
//! Every offset is checked against the bytes that are there. A hostile file may let many offsets point to one place, so
//! the number of elements that are looked at is bounded by the size of the file as well.
//!
//! Source: <https://flatbuffers.dev/internals/>.

use std::cell::Cell;

/// The bytes are no flatbuffer of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) type Read<T> = Result<T, Malformed>;

/// The bytes of a file, and how many elements may still be looked at.
pub(super) struct Buffer<'a> {
    bytes: &'a [u8],
    visits: Cell<usize>,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Buffer<'a> {
        Buffer { bytes, visits: Cell::new(bytes.len()) }
    }

    /// The outermost table of a file with this identifier behind its first offset.
    pub(super) fn root<'b>(&'b self, identifier: [u8; 4]) -> Read<Table<'a, 'b>> {
        if self.array::<4>(4)? != identifier {
            return Err(Malformed);
        }
        self.table(self.offset(0)?)
    }

    fn array<const N: usize>(&self, at: usize) -> Read<[u8; N]> {
        self.slice(at, N)?.try_into().map_err(|_| Malformed)
    }

    fn slice(&self, at: usize, length: usize) -> Read<&'a [u8]> {
        self.bytes.get(at..at.checked_add(length).ok_or(Malformed)?).ok_or(Malformed)
    }

    fn u32(&self, at: usize) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    fn u16(&self, at: usize) -> Read<usize> {
        Ok(usize::from(u16::from_le_bytes(self.array(at)?)))
    }

    /// Where the offset at `at` points to; offsets count from where they stand.
    fn offset(&self, at: usize) -> Read<usize> {
        at.checked_add(self.u32(at)? as usize).ok_or(Malformed)
    }

    fn table<'b>(&'b self, at: usize) -> Read<Table<'a, 'b>> {
        self.visit(1)?;
        let back = i64::from(i32::from_le_bytes(self.array(at)?));
        let fields = i64::try_from(at).ok().and_then(|at| at.checked_sub(back)).ok_or(Malformed)?;
        let fields = usize::try_from(fields).map_err(|_| Malformed)?;
        Ok(Table { buffer: self, at, fields, fields_size: self.u16(fields)? })
    }

    fn visit(&self, elements: usize) -> Read<()> {
        self.visits.set(self.visits.get().checked_sub(elements).ok_or(Malformed)?);
        Ok(())
    }
}

/// A table: fields by number, each of which may be absent.
#[derive(Clone, Copy)]
pub(super) struct Table<'a, 'b> {
    buffer: &'b Buffer<'a>,
    at: usize,
    fields: usize,
    fields_size: usize,
}

impl<'a, 'b> Table<'a, 'b> {
    fn field(&self, number: usize) -> Read<Option<usize>> {
        let slot = 4 + 2 * number;
        if slot + 2 > self.fields_size {
            return Ok(None);
        }
        let offset = self.buffer.u16(self.fields + slot)?;
        Ok((offset > 0).then_some(self.at + offset))
    }

    pub(super) fn u32(&self, number: usize) -> Read<u32> {
        self.field(number)?.map_or(Ok(0), |at| self.buffer.u32(at))
    }

    pub(super) fn u8(&self, number: usize) -> Read<u8> {
        self.field(number)?.map_or(Ok(0), |at| Ok(self.buffer.array::<1>(at)?[0]))
    }

    /// The elements of a vector, each `size` bytes long; none where it is absent.
    fn vector(&self, number: usize, size: usize) -> Read<&'a [u8]> {
        let Some(at) = self.field(number)? else { return Ok(&[]) };
        let start = self.buffer.offset(at)?;
        let length = (self.buffer.u32(start)? as usize).checked_mul(size).ok_or(Malformed)?;
        self.buffer.slice(start + 4, length)
    }

    pub(super) fn bytes(&self, number: usize) -> Read<&'a [u8]> {
        self.vector(number, 1)
    }

    pub(super) fn text(&self, number: usize) -> Read<&'a str> {
        let bytes = self.bytes(number)?;
        // A name is copied wherever it is met.
        self.buffer.visit(bytes.len() / 4)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed)
    }

    pub(super) fn numbers(&self, number: usize) -> Read<Vec<i32>> {
        let numbers = self.vector(number, 4)?;
        self.buffer.visit(numbers.len() / 4)?;
        Ok(numbers.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect())
    }

    pub(super) fn tables(&self, number: usize) -> Read<Tables<'a, 'b>> {
        let start = match self.field(number)? {
            Some(at) => self.buffer.offset(at)? + 4,
            None => 0,
        };
        Ok(Tables { buffer: self.buffer, start, length: self.vector(number, 4)?.len() / 4 })
    }
}

/// A vector of tables.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a, 'b> {
    buffer: &'b Buffer<'a>,
    start: usize,
    length: usize,
}

impl<'a, 'b> Tables<'a, 'b> {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn get(&self, index: usize) -> Read<Table<'a, 'b>> {
        if index >= self.length {
            return Err(Malformed);
        }
        self.buffer.table(self.buffer.offset(self.start + 4 * index)?)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Read<Table<'a, 'b>>> {
        (0..self.length).map(move |index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with a vector of `count` tables, each of which is the same one with such a vector, too.
    fn shared_parts(count: u32) -> Vec<u8> {
        let second = 28 + 4 * count;
        let third = second + 12 + 4 * count;
        let mut file = [16u32.to_le_bytes(), *b"TEST", [6, 0, 8, 0], [4, 0, 0, 0]].concat();
        for (at, next) in [(16, second), (second, third)] {
            let head = [at - 8, 4, count];
            let offsets = (0..count).map(|index| next - (at + 12 + 4 * index));
            file.extend(head.into_iter().chain(offsets).flat_map(u32::to_le_bytes));
        }
        file.extend([third - 8, 0].into_iter().flat_map(u32::to_le_bytes));
        file
    }

    fn count_leaves(buffer: &Buffer<'_>, leaves: &mut usize) -> Read<()> {
        for table in buffer.root(*b"TEST")?.tables(0)?.iter() {
            for leaf in table?.tables(0)?.iter() {
                leaf?;
                *leaves += 1;
            }
        }
        Ok(())
    }

    #[test]
    fn tables_are_read_through_their_offsets() {
        let mut leaves = 0;
        assert_eq!(count_leaves(&Buffer::new(&shared_parts(3)), &mut leaves), Ok(()));
        assert_eq!(leaves, 9);
    }

    #[test]
    fn a_file_whose_parts_all_point_to_one_place_is_not_read_over_and_over() {
        let file = shared_parts(10_000);
        let mut leaves = 0;
        assert_eq!(count_leaves(&Buffer::new(&file), &mut leaves), Err(Malformed));
        assert!(leaves <= file.len());
    }

    #[test]
    fn a_file_that_ends_early_is_malformed() {
        let file = shared_parts(3);
        for end in 0..file.len() - 4 {
            assert_eq!(count_leaves(&Buffer::new(&file[..end]), &mut 0), Err(Malformed), "{end} bytes");
        }
    }
}
