//! The signed documents of a snapkit chain: bytes in, verified values out.
