//! What a `.tflite` file says of itself: its graphs' inputs and outputs, and the names that signatures give them.
//!
//! Source: tensorflow/lite/schema/schema.fbs.

use std::collections::HashSet;

use super::flatbuffer::{Buffer, Malformed, Read, Table};
use crate::wire::DType;
use crate::{Error, Result};

const IDENTIFIER: [u8; 4] = *b"TFL3";
const VERSION: u32 = 3;
/// The metadata entry in which TensorFlow Serving's tools keep signatures.
const SIGNATURE_METADATA: &str = "signature_defs_metadata";
/// How many names an error lists.
const MAX_LISTED: usize = 8;

/// An input or an output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// Its place among the graph's tensors.
    pub(super) tensor: i32,
    pub(super) name: String,
    pub(super) element: Element,
    /// Its shape as long as nobody resizes it; empty also where the rank is not known.
    pub(super) shape: Vec<i32>,
    /// Its shape with -1 for open dimensions; `None` where the rank is not known.
    pub(super) open_shape: Option<Vec<i64>>,
}

/// A graph that LiteRT can be asked to run, under the number that LiteRT gives to its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runnable {
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// The name of the signature and those of its inputs and outputs; `None` in a file without signatures.
    pub(super) names: Option<Names>,
}

/// Names and the tensors that they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) key: String,
    pub(super) inputs: Vec<(String, i32)>,
    pub(super) outputs: Vec<(String, i32)>,
}

impl Runnable {
    /// Whether everything has a name by which LiteRT can find it: it takes that for granted, and what it throws otherwise
    /// would end the process.
    fn is_named(&self) -> bool {
        let Some(names) = &self.names else {
            return self.inputs.iter().chain(&self.outputs).all(|port| !port.name.is_empty());
        };
        let named = |entries: &[(String, i32)], ports: &[Port]| {
            let known: HashSet<i32> = entries.iter().map(|(_, tensor)| *tensor).collect();
            let unique: HashSet<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
            unique.len() == entries.len()
                && !unique.contains("")
                && ports.iter().all(|port| known.contains(&port.tensor))
        };
        !names.key.is_empty() && named(&names.inputs, &self.inputs) && named(&names.outputs, &self.outputs)
    }
}

/// What is read of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Model<'a> {
    pub(super) runnables: Vec<Runnable>,
    /// The FlexBuffer with signatures for TensorFlow Serving.
    pub(super) metadata: Option<&'a [u8]>,
    /// Operations that no runtime has by itself.
    pub(super) custom_operations: Vec<String>,
}

/// Reads the head of a model.
///
/// # Errors
/// `INVALID_ARGUMENT` where the bytes are no such file.
pub(super) fn read_model(bytes: &[u8]) -> Result<Model<'_>> {
    read(&Buffer::new(bytes))
        .map_err(|Malformed| Error::invalid("The file is not a TensorFlow Lite model, or it is damaged"))
}

fn read<'a>(buffer: &Buffer<'a>) -> Read<Model<'a>> {
    let model = buffer.root(IDENTIFIER)?;
    if model.u32(0)? != VERSION {
        return Err(Malformed);
    }
    let graphs = model.tables(2)?;
    let signatures = model.tables(7)?;
    let runnables = if signatures.len() == 0 {
        vec![read_graph(graphs.get(0)?)?]
    } else {
        signatures
            .iter()
            .map(|signature| {
                let signature = signature?;
                let mut runnable = read_graph(graphs.get(signature.u32(4)? as usize)?)?;
                runnable.names = Some(read_names(signature)?);
                Ok(runnable)
            })
            .collect::<Read<Vec<_>>>()?
    };
    if !runnables.iter().all(Runnable::is_named) {
        return Err(Malformed);
    }
    Ok(Model { runnables, metadata: read_metadata(model)?, custom_operations: custom_operations(model)? })
}

fn read_graph(graph: Table<'_, '_>) -> Read<Runnable> {
    let tensors = graph.tables(0)?;
    let ports = |field: usize| {
        let numbers = graph.numbers(field)?;
        numbers
            .into_iter()
            .map(|tensor| read_port(tensor, tensors.get(usize::try_from(tensor).map_err(|_| Malformed)?)?))
            .collect::<Read<Vec<_>>>()
    };
    Ok(Runnable { inputs: ports(1)?, outputs: ports(2)?, names: None })
}

fn read_port(tensor: i32, table: Table<'_, '_>) -> Read<Port> {
    let shape = table.numbers(0)?;
    let open = table.numbers(7)?;
    if shape.iter().any(|&size| size < 0) {
        return Err(Malformed);
    }
    // A scalar has a rank; what has neither sizes nor a rank may have any.
    let ranked = !shape.is_empty() || table.u8(8)? != 0;
    let open_shape =
        ranked.then(|| if open.is_empty() { &shape } else { &open }.iter().map(|&size| i64::from(size)).collect());
    let element = Element(table.u8(1)?);
    Ok(Port { tensor, name: table.text(3)?.to_owned(), element, shape, open_shape })
}

fn read_names(signature: Table<'_, '_>) -> Read<Names> {
    let named = |field: usize| {
        signature
            .tables(field)?
            .iter()
            .map(|entry| {
                let entry = entry?;
                let tensor = i32::try_from(entry.u32(1)?).map_err(|_| Malformed)?;
                Ok((entry.text(0)?.to_owned(), tensor))
            })
            .collect::<Read<Vec<_>>>()
    };
    Ok(Names { key: signature.text(2)?.to_owned(), inputs: named(0)?, outputs: named(1)? })
}

fn read_metadata<'a>(model: Table<'a, '_>) -> Read<Option<&'a [u8]>> {
    for entry in model.tables(6)?.iter() {
        let entry = entry?;
        if entry.text(0)? == SIGNATURE_METADATA {
            return model.tables(4)?.get(entry.u32(1)? as usize)?.bytes(0).map(Some);
        }
    }
    Ok(None)
}

fn custom_operations(model: Table<'_, '_>) -> Read<Vec<String>> {
    let mut names = Vec::new();
    for operation in model.tables(1)?.iter() {
        let name = operation?.text(1)?;
        if !name.is_empty() && names.len() < MAX_LISTED {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The type of a tensor's elements, by its number in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element(u8);

impl Element {
    #[cfg(test)]
    pub(super) const FLOAT32: Element = Element(0);

    /// Number in the schema, number in LiteRT's C API, dtype.
    ///
    /// Source of the second: litert/c/litert_model_types.h.
    const TABLE: [(u8, i32, DType); 18] = [
        (0, 1, DType::F32),
        (1, 10, DType::F16),
        (2, 2, DType::I32),
        (3, 3, DType::U8),
        (4, 4, DType::I64),
        (5, 5, DType::String),
        (6, 6, DType::Bool),
        (7, 7, DType::I16),
        (8, 8, DType::C64),
        (9, 9, DType::I8),
        (10, 11, DType::F64),
        (11, 12, DType::C128),
        (12, 13, DType::U64),
        (13, 14, DType::Other(20)),
        (14, 15, DType::Other(21)),
        (15, 16, DType::U32),
        (16, 17, DType::U16),
        (18, 19, DType::BF16),
    ];

    /// Types of less than a byte, and those that are yet to come, are `DType::Other(0)`.
    pub(super) fn dtype(self) -> DType {
        self.row().map_or(DType::Other(0), |row| row.2)
    }

    /// The number that LiteRT knows it by; 0 for none.
    pub(super) fn litert(self) -> i32 {
        self.row().map_or(0, |row| row.1)
    }

    fn row(self) -> Option<&'static (u8, i32, DType)> {
        Self::TABLE.iter().find(|row| row.0 == self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// y = x / 2 + 2 of [1, 1] to [1, 1], as TensorFlow's converter writes it.
    const HALF_PLUS_TWO: &[u8] = include_bytes!("half_plus_two.tflite");

    #[test]
    fn signatures_are_read_with_names_types_and_shapes() {
        let model = read_model(HALF_PLUS_TWO).unwrap();
        let [runnable] = model.runnables.as_slice() else { panic!("one signature") };
        let names = runnable.names.as_ref().unwrap();
        assert_eq!(names.key, "serving_default");
        assert_eq!(names.inputs, [("x".to_owned(), runnable.inputs[0].tensor)]);
        let x = &runnable.inputs[0];
        assert_eq!((x.name.as_str(), x.element.dtype()), ("serving_default_x:0", DType::F32));
        assert_eq!((x.shape.as_slice(), x.open_shape.as_deref()), ([1, 1].as_slice(), Some([1, 1].as_slice())));
        assert!(model.metadata.is_none());
        assert!(model.custom_operations.is_empty());
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [&b""[..], b"TFL3", b"\x08\0\0\0TFL3\xff\xff\xff\xff\xff\xff\xff\xff", b"not a model at all"] {
            assert!(read_model(bytes).unwrap_err().message.contains("not a TensorFlow Lite model"));
        }
    }

    #[test]
    fn a_file_whose_inputs_have_no_names_is_refused() {
        let model = read_model(HALF_PLUS_TWO).unwrap();
        let mut runnable = model.runnables[0].clone();
        assert!(runnable.is_named());
        runnable.names.as_mut().unwrap().inputs[0].0.clear();
        assert!(!runnable.is_named());
        runnable.names.as_mut().unwrap().inputs.clear();
        assert!(!runnable.is_named());
        runnable.names = None;
        assert!(runnable.is_named(), "tensors have names of their own");
    }

    proptest! {
        #[test]
        fn a_damaged_model_does_not_make_it_panic(
            changes in proptest::collection::vec((0..HALF_PLUS_TWO.len(), any::<u8>()), 1..8),
            cut in 0..HALF_PLUS_TWO.len(),
        ) {
            let mut damaged = HALF_PLUS_TWO.to_vec();
            changes.into_iter().for_each(|(at, byte)| damaged[at] = byte);
            let _ = read_model(&damaged);
            let _ = read_model(&damaged[..cut]);
        }
    }
}
