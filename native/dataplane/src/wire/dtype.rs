//! Element types, and their names in each dialect.

/// The type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
    C64,
    C128,
    /// Byte strings of any length.
    String,
    /// A TensorFlow type that no dialect here can carry, by its number in `types.proto`.
    Other(i32),
}

/// dtype, TensorFlow number, TensorFlow name without `DT_`, lower-case name in TF Serving's texts, OIP name, numpy
/// descriptor (little-endian), bytes an element.
type Row = (DType, i32, &'static str, &'static str, &'static str, &'static str, usize);

/// Source: tensorflow/core/framework/types.proto; the OIP specification, "Tensor Data Types"; numpy's `descr`.
const TABLE: [Row; 16] = [
    (DType::F32, 1, "FLOAT", "float", "FP32", "<f4", 4),
    (DType::F64, 2, "DOUBLE", "double", "FP64", "<f8", 8),
    (DType::I32, 3, "INT32", "int32", "INT32", "<i4", 4),
    (DType::U8, 4, "UINT8", "uint8", "UINT8", "|u1", 1),
    (DType::I16, 5, "INT16", "int16", "INT16", "<i2", 2),
    (DType::I8, 6, "INT8", "int8", "INT8", "|i1", 1),
    (DType::String, 7, "STRING", "string", "BYTES", "|O", 0),
    (DType::C64, 8, "COMPLEX64", "complex64", "COMPLEX64", "<c8", 8),
    (DType::I64, 9, "INT64", "int64", "INT64", "<i8", 8),
    (DType::Bool, 10, "BOOL", "bool", "BOOL", "|b1", 1),
    (DType::BF16, 14, "BFLOAT16", "bfloat16", "BF16", "bfloat16", 2),
    (DType::U16, 17, "UINT16", "uint16", "UINT16", "<u2", 2),
    (DType::C128, 18, "COMPLEX128", "complex128", "COMPLEX128", "<c16", 16),
    (DType::F16, 19, "HALF", "half", "FP16", "<f2", 2),
    (DType::U32, 22, "UINT32", "uint32", "UINT32", "<u4", 4),
    (DType::U64, 23, "UINT64", "uint64", "UINT64", "<u8", 8),
];

/// Types that are told of, but never carried.
const OTHERS: [(i32, &str); 10] = [
    (0, "INVALID"),
    (11, "QINT8"),
    (12, "QUINT8"),
    (13, "QINT32"),
    (15, "QINT16"),
    (16, "QUINT16"),
    (20, "RESOURCE"),
    (21, "VARIANT"),
    (24, "FLOAT8_E5M2"),
    (25, "FLOAT8_E4M3FN"),
];

impl DType {
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.0 == self)
    }

    /// From the number in `types.proto`; reference types (number + 100) read as the type they refer to.
    pub fn from_tf(number: i32) -> DType {
        let plain = if number > 100 { number - 100 } else { number };
        TABLE.iter().find(|row| row.1 == plain).map_or(DType::Other(number), |row| row.0)
    }

    /// The number in `types.proto`.
    pub fn tf(self) -> i32 {
        match self {
            DType::Other(number) => number,
            _ => self.row().map_or(0, |row| row.1),
        }
    }

    /// The name in `types.proto`, e.g. `DT_FLOAT`; the number where TensorFlow 2.21 had no name for it.
    pub fn tf_name(self) -> String {
        let name = match self {
            DType::Other(number) => OTHERS.iter().find(|other| other.0 == number).map(|other| other.1),
            _ => self.row().map(|row| row.2),
        };
        name.map_or_else(|| self.tf().to_string(), |name| format!("DT_{name}"))
    }

    /// As TF Serving's messages say it: `float`, `int32`, `half`.
    pub fn text(self) -> &'static str {
        self.row().map_or("unsupported", |row| row.3)
    }

    /// The Open Inference Protocol's name: `FP32`, `BYTES`.
    pub fn oip(self) -> &'static str {
        self.row().map_or("UNSUPPORTED", |row| row.4)
    }

    pub fn from_oip(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.4 == name).map(|row| row.0)
    }

    /// numpy's descriptor, little-endian; `bfloat16` for the type that numpy itself lacks.
    pub fn numpy(self) -> &'static str {
        self.row().map_or("|V0", |row| row.5)
    }

    pub fn from_numpy(descr: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.5 == descr).map(|row| row.0)
    }

    /// Bytes an element takes; `None` for strings and for types that are not carried.
    pub fn size(self) -> Option<usize> {
        match self {
            DType::String | DType::Other(_) => None,
            _ => self.row().map(|row| row.6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_dtype() {
        for (dtype, number, ..) in TABLE {
            assert_eq!(DType::from_tf(number), dtype);
            assert_eq!(DType::from_tf(number + 100), dtype);
            assert_eq!(DType::from_oip(dtype.oip()), Some(dtype));
            assert_eq!(DType::from_numpy(dtype.numpy()), Some(dtype));
            assert_eq!(dtype.tf(), number);
        }
    }

    #[test]
    fn a_type_that_is_not_carried_keeps_its_number() {
        assert_eq!(DType::from_tf(20), DType::Other(20));
        assert_eq!(DType::Other(20).tf(), 20);
        assert_eq!(DType::Other(20).size(), None);
        assert_eq!(DType::Other(20).tf_name(), "DT_RESOURCE");
        assert_eq!(DType::Other(99).tf_name(), "99");
    }
}
