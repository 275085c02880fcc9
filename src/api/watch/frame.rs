//! Messages that are encoded already, on their way to the connection.

use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use crate::api::proto;

/// An encoded `WatchChangesResponse`, shared by all streams that send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(pub(crate) Bytes);

impl Frame {
    pub(super) fn of(event: proto::watch_changes_response::Event) -> Self {
        let response = proto::WatchChangesResponse { event: Some(event) };
        Self(response.encode_to_vec().into())
    }
}

/// Takes requests apart, and passes answers on as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = proto::WatchChangesRequest;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<proto::WatchChangesRequest>;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

/// See [`FrameCodec`].
#[derive(Clone, Copy, Debug)]
pub struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&frame.0);
        Ok(())
    }
}
