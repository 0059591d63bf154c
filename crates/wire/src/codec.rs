//! How messages become bytes on a gRPC stream: protobuf, with one difference from the usual codec.
//!
//! A message that cannot be decoded (cut short, not UTF-8, nested deeper than the decoder goes) is
//! the sender's mistake and is answered INVALID_ARGUMENT. The usual codec says INTERNAL, which tells
//! a client to try again. The depth limit itself (100 nested messages) is kept.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// The codec of the generated client and server: sends `T`, receives `U`.
#[derive(Clone, Debug)]
pub struct WireCodec<T, U> {
    types: PhantomData<(T, U)>,
}

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self { types: PhantomData }
    }
}

impl<T, U> Codec for WireCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = WireDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        WireDecoder { types: PhantomData }
    }
}

/// Decodes `U`.
#[derive(Clone, Debug)]
pub struct WireDecoder<U> {
    types: PhantomData<U>,
}

impl<U: Message + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buffer)
            .map(Some)
            .map_err(|error| undecodable(&error))
    }
}

/// The answer to bytes that are no message of the expected kind.
pub fn undecodable(error: &prost::DecodeError) -> Status {
    Status::invalid_argument(format!("The message cannot be decoded: {error}"))
}
