//! A host that is made in a folder, for the tests of VFIO.

pub(super) mod host;
