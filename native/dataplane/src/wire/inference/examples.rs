//! The examples of one request.

use bytes::Bytes;

use crate::wire::{Budget, Shape, Tensor};
use crate::{Error, Result};

/// Serialized `tf.Example`s, one for each row. They are carried as they are: only the model looks inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples(Vec<Bytes>);

impl Examples {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an example that comes after its context, as one message: what follows in a message is merged.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` beyond the budget.
    pub fn push(&mut self, context: &[u8], example: &[u8], budget: &mut Budget) -> Result<()> {
        budget.take((context.len() + example.len()).saturating_add(size_of::<Bytes>()))?;
        self.0.push([context, example].concat().into());
        Ok(())
    }

    /// # Errors
    /// `INVALID_ARGUMENT` with TensorFlow Serving's text where there are none.
    pub fn check_not_empty(&self) -> Result<()> {
        if self.is_empty() {
            return Err(Error::invalid("Input is empty.").with_reason("empty_input"));
        }
        Ok(())
    }

    /// The examples as a string tensor of shape `[len]`.
    pub fn into_tensor(self) -> Tensor {
        let shape: Shape = [self.0.len() as i64].into_iter().collect();
        Tensor::strings(shape, self.0).expect("the shape is that of the list")
    }
}

impl From<Vec<Bytes>> for Examples {
    fn from(examples: Vec<Bytes>) -> Examples {
        Examples(examples)
    }
}
