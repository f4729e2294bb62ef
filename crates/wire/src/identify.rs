//! Identify data: what controllers and namespaces say about themselves.
//!
//! The structures are the pages, byte for byte; methods turn their packed fields into values and refuse what no
//! namespace can be.
//!
//! NVM Express Base Specification, "Identify command"; NVM Command Set Specification, "Identify Namespace".

mod controller;
mod namespace;

pub use controller::{
    CMIC_ANA, CMIC_MULTI_CONTROLLER, CMIC_MULTI_PORT, CNTRLTYPE_DISCOVERY, CNTRLTYPE_IO, CTRATT_HOST_ID_128,
    CTRATT_TBKAS, IdentifyController, Oncs, text, text_field,
};
pub use namespace::{
    DescriptorError, Geometry, GeometryError, IdentifyNamespace, Lbaf, ListError, NamespaceIds, NamespaceIndependent,
    NvmController, NvmNamespace, encode_list, parse_list,
};
