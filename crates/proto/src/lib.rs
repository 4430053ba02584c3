//! Generated types, clients and servers of the `firstline.v1` contracts.

#[expect(clippy::allow_attributes, clippy::large_enum_variant, reason = "generated code")]
mod generated {
    tonic::include_proto!("firstline.v1");
}

pub use generated::*;

/// The encoded `FileDescriptorSet` of all contracts, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
