//! Objects kept small: as the JSON they were read from, not as the types of their API, which take several times as much.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

/// An object as compact JSON.
#[derive(Debug)]
pub(super) struct Packed<T> {
    json: Box<[u8]>,
    /// `metadata.generation`.
    generation: Option<i64>,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Packed<T> {
    /// Packs an object; `None` if it cannot be written as JSON, which no object of the API can be.
    pub(super) fn pack(object: &T, generation: Option<i64>) -> Option<Self> {
        let json = serde_json::to_vec(object).ok()?;
        Some(Self { json: json.into(), generation, of: PhantomData })
    }

    /// The object.
    pub(super) fn unpack(&self) -> Option<T> {
        serde_json::from_slice(&self.json).ok()
    }

    /// `metadata.generation`.
    pub(super) fn generation(&self) -> Option<i64> {
        self.generation
    }
}
