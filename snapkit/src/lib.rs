//! The snapkit engine: directories in, a signed chain of snapshots in an object store, and back.
