//! Tensors of TensorFlow: over our memory on the way in, over its own on the way out.

use std::ffi::c_void;

use bytes::Bytes;

use super::api::{Api, OwnedTensor};
use crate::wire::tensor::element_count;
use crate::wire::{DType, Data, Shape, Tensor};
use crate::{Code, Error, Result};

/// A tensor for the engine. Numbers are not copied (TensorFlow does where they are not aligned for it), strings are.
pub(super) fn to_tensorflow(api: &'static Api, tensor: &Tensor) -> Result<OwnedTensor> {
    match &tensor.data {
        Data::Fixed(bytes) => numbers(api, tensor.dtype, &tensor.shape, bytes.clone()),
        Data::Strings(strings) => texts(api, &tensor.shape, strings),
    }
}

fn numbers(api: &'static Api, dtype: DType, shape: &[i64], bytes: Bytes) -> Result<OwnedTensor> {
    unsafe extern "C" fn free(_: *mut c_void, _: usize, owner: *mut c_void) {
        // SAFETY: made by `Box::into_raw` below, and TensorFlow calls this once.
        drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    }
    let (data, length) = (bytes.as_ptr().cast_mut().cast(), bytes.len());
    let owner = Box::into_raw(Box::new(bytes)).cast();
    // SAFETY: a Tensor's data fills its shape and stays where it is while the box lives. TensorFlow does not write into
    // memory that is not its own.
    unsafe { api.new_tensor(dtype.tf(), shape, data, length, free, owner) }
}

/// The memory of a string tensor: the strings, as TensorFlow lays them out, and the characters of the long ones.
struct Texts {
    strings: Vec<TString>,
    _characters: Vec<u8>,
}

fn texts(api: &'static Api, shape: &[i64], strings: &[Bytes]) -> Result<OwnedTensor> {
    unsafe extern "C" fn free(_: *mut c_void, _: usize, owner: *mut c_void) {
        // SAFETY: made by `Box::into_raw` below, and TensorFlow calls this once.
        drop(unsafe { Box::from_raw(owner.cast::<Texts>()) });
    }
    let long = strings.iter().filter(|text| text.len() > TString::MAX_SHORT).map(|text| text.len() + 1).sum();
    let mut characters = Vec::with_capacity(long);
    let mut laid_out = Vec::with_capacity(strings.len());
    for text in strings {
        laid_out.push(TString::short(text).unwrap_or_else(|| {
            let start = characters.len();
            characters.extend_from_slice(text);
            characters.push(0);
            // The vector has room for all of them, so what was written stays where it is.
            TString::long(characters[start..].as_ptr(), text.len())
        }));
    }
    let owner = Box::new(Texts { strings: laid_out, _characters: characters });
    let (data, length) = (owner.strings.as_ptr().cast_mut().cast(), size_of_val(owner.strings.as_slice()));
    // SAFETY: as many strings as the shape asks for (a Tensor's invariant), which stay where they are while the box
    // lives. TensorFlow neither writes into memory that is not its own nor frees strings in it; what it keeps, it copies.
    unsafe { api.new_tensor(DType::String.tf(), shape, data, length, free, Box::into_raw(owner).cast()) }
}

/// The tensor that the engine gave for the output called `name`.
///
/// # Errors
/// `UNIMPLEMENTED` for types that no protocol here carries.
pub(super) fn from_tensorflow(tensor: OwnedTensor, name: &str) -> Result<Tensor> {
    let (dtype, shape) = (DType::from_tf(tensor.dtype()), tensor.shape());
    if dtype == DType::String {
        return read_texts(&tensor, shape);
    }
    if dtype.size().is_none() {
        return Err(Error::new(
            Code::Unimplemented,
            format!("Output '{name}' has the type {} of TensorFlow, which is not supported", tensor.dtype()),
        ));
    }
    Tensor::fixed(dtype, shape, Bytes::from_owner(Numbers(tensor)))
}

/// Memory of an output, kept alive by its tensor.
struct Numbers(OwnedTensor);

impl AsRef<[u8]> for Numbers {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

fn read_texts(tensor: &OwnedTensor, shape: Shape) -> Result<Tensor> {
    let count = element_count(&shape)?;
    if count == 0 {
        // Where there are no strings, their address need not be one.
        return Tensor::strings(shape, Vec::new());
    }
    let bytes = tensor.bytes();
    if bytes.len() < count * size_of::<TString>() {
        return Err(Error::internal("TensorFlow gave a string tensor that is too short"));
    }
    let strings: &[TString] = match count {
        0 => &[],
        // SAFETY: a string tensor is an array of strings laid out like this, aligned by TensorFlow, and it outlives the
        // slice.
        _ => unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) },
    };
    // SAFETY: the strings belong to a tensor that lives and is not written to.
    let texts: Vec<&[u8]> = strings.iter().map(|text| unsafe { text.as_bytes() }).collect();
    let mut characters = Bytes::from(texts.concat());
    Tensor::strings(shape, texts.iter().map(|text| characters.split_to(text.len())).collect())
}

/// A string as TensorFlow lays it out on little-endian machines: 24 bytes, whose first two bits tell which of four forms
/// they have. Source: `tensorflow/include/tensorflow/core/platform/ctstring_internal.h` of the wheel.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct TString([u8; 24]);

impl TString {
    /// A short one lies in the 23 bytes behind its length, with a NUL at its end.
    const MAX_SHORT: usize = 22;
    const SHORT: u8 = 0;
    const LONG: u8 = 1;
    const OFFSET: u8 = 2;
    const VIEW: u8 = 3;
    const KIND: u8 = 3;

    fn short(text: &[u8]) -> Option<TString> {
        let mut laid_out = [0; 24];
        laid_out.get_mut(1..=Self::MAX_SHORT)?.get_mut(..text.len())?.copy_from_slice(text);
        laid_out[0] = ((text.len() as u8) << 2) | Self::SHORT;
        Some(TString(laid_out))
    }

    /// Length, capacity and address of the characters, which lie elsewhere and end with a NUL.
    fn long(start: *const u8, length: usize) -> TString {
        let mut laid_out = [0; 24];
        laid_out[..8].copy_from_slice(&(((length as u64) << 2) | u64::from(Self::LONG)).to_le_bytes());
        laid_out[8..16].copy_from_slice(&(length as u64).to_le_bytes());
        laid_out[16..].copy_from_slice(&(start as u64).to_le_bytes());
        TString(laid_out)
    }

    /// # Safety
    /// It is a string of a tensor of TensorFlow's that lives as long as `self` and is not written to.
    unsafe fn as_bytes(&self) -> &[u8] {
        let word = |at: usize| u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes")) as usize;
        let length = (word(0) >> 2) as usize;
        let (start, length) = match self.0[0] & Self::KIND {
            Self::SHORT => return &self.0[1..][..usize::from(self.0[0] >> 2).min(Self::MAX_SHORT)],
            Self::LONG => (word(16) as *const u8, length),
            Self::VIEW => (word(8) as *const u8, length),
            Self::OFFSET => (self.0.as_ptr().wrapping_add(half(4)), half(0) >> 2),
            _ => unreachable!("two bits"),
        };
        if length == 0 {
            return &[];
        }
        // SAFETY: the layout says that so many characters are there; the caller answers for their life.
        unsafe { std::slice::from_raw_parts(start, length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_laid_out_as_tensorflow_reads_them() {
        let short = TString::short(b"ab").unwrap();
        assert_eq!(short.0[..4], [2 << 2, b'a', b'b', 0]);
        assert!(TString::short(&[b'x'; 22]).is_some());
        assert!(TString::short(&[b'x'; 23]).is_none(), "the last byte is its NUL");
        let characters = [b'x'; 100];
        let long = TString::long(characters.as_ptr(), 100);
        assert_eq!(long.0[..2], [0x91, 0x01]);
        // SAFETY: the characters live on this stack.
        unsafe {
            assert_eq!(short.as_bytes(), b"ab");
            assert_eq!(long.as_bytes(), characters);
        }
    }

    #[test]
    fn all_four_forms_are_read() {
        let characters = *b"characters";
        let address = (characters.as_ptr() as u64).to_le_bytes();
        let mut view = [0; 24];
        view[0] = (10 << 2) | TString::VIEW;
        view[8..16].copy_from_slice(&address);
        // Characters that lie 24 bytes behind the start of their string, as in a mapped file.
        let mut offset = [0u8; 48];
        offset[0] = (10 << 2) | TString::OFFSET;
        offset[4] = 24;
        offset[24..34].copy_from_slice(&characters);
        // SAFETY: what the strings point to lives on this stack.
        unsafe {
            assert_eq!(TString(view).as_bytes(), characters);
            let aligned =
                Box::new([TString(offset[..24].try_into().unwrap()), TString(offset[24..].try_into().unwrap())]);
            assert_eq!(aligned[0].as_bytes(), characters);
            assert_eq!(TString([0; 24]).as_bytes(), b"");
        }
    }
}
