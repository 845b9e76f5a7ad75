//! Packs: frames of chunks, and a table that names them.
//!
//! The name of a pack commits to its table, and the table to every frame, so one frame can be
//! verified without the others and before it is decoded.
//! Documented in `docs/format/pack.md`. Layer: formats; bytes in and out, no store.

mod format;
mod reader;
mod writer;

pub use format::{Codec, FrameRow, MAX_PACK_BYTES, MAX_RAW_BYTES, PackInfo, Table};
pub use reader::{FrameDecoder, PackError, open_frame, open_whole, parse_table};
pub use writer::{Frame, FrameEncoder, PackWriter};
