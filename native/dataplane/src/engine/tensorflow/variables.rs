//! Whether the variables of a SavedModel are there.
//!
//! TensorFlow takes a SavedModel without `variables/variables.index` for one that has no variables, loads it, and fails
//! at every request: such a folder is left where a copy was cut short.
//!
//! Sources: tensorflow/core/protobuf/meta_graph.proto; tensorflow/cc/saved_model/loader.cc, `RunRestore`.

use std::path::Path;

use crate::wire::protobuf::{Fields, Malformed, Value};
use crate::{Code, Error, Result};

const INDEX: &str = "variables/variables.index";
const OPERATIONS: [&[u8]; 3] = [b"VarHandleOp", b"VariableV2", b"Variable"];

/// # Errors
/// `NOT_FOUND` where the graph has variables, says how they are restored, and their file is not in the folder.
pub(super) fn check(folder: &Path, meta_graph: &[u8]) -> Result<()> {
    let index = folder.join(INDEX);
    if index.exists() || !restores_variables(meta_graph)? {
        return Ok(());
    }
    let message = format!("There is no file {}, and the graph has variables", index.display());
    Err(Error::new(Code::NotFound, message).with_reason("variables_missing"))
}

fn restores_variables(meta_graph: &[u8]) -> Result<bool, Malformed> {
    let (mut restores, mut has_variables) = (false, false);
    for field in Fields::new(meta_graph) {
        match field? {
            (2, Value::Bytes(graph)) => has_variables |= contains_variable(graph)?,
            (3, Value::Bytes(saver)) => restores |= !saver.is_empty(),
            _ => {}
        }
    }
    Ok(restores && has_variables)
}

/// Whether a `GraphDef` has a node that holds a variable.
fn contains_variable(graph: &[u8]) -> Result<bool, Malformed> {
    for field in Fields::new(graph) {
        let (1, Value::Bytes(node)) = field? else { continue };
        for field in Fields::new(node) {
            if let (2, Value::Bytes(operation)) = field?
                && OPERATIONS.contains(&operation)
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn meta_graph(operation: &str, saver: &[u8]) -> Vec<u8> {
        let node = [field(1, b"name"), field(2, operation.as_bytes())].concat();
        [field(2, &field(1, &node)), field(3, saver)].concat()
    }

    #[test]
    fn a_graph_whose_variables_are_missing_is_refused() {
        let folder = Path::new("/not/there");
        for operation in ["VarHandleOp", "VariableV2"] {
            let error = check(folder, &meta_graph(operation, b"\x1a\x01r")).unwrap_err();
            assert_eq!(error.code, Code::NotFound);
            assert_eq!(
                error.message,
                "There is no file /not/there/variables/variables.index, and the graph has variables"
            );
        }
    }

    #[test]
    fn a_graph_without_variables_or_without_a_way_to_restore_them_needs_no_file() {
        let folder = Path::new("/not/there");
        assert!(check(folder, &meta_graph("Placeholder", b"\x1a\x01r")).is_ok());
        assert!(check(folder, &meta_graph("VarHandleOp", b"")).is_ok());
        assert!(check(folder, b"\x12\xff").is_err(), "it is no message");
    }
}
