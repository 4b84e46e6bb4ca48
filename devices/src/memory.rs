//! Guest memory as devices see it.

/// The guest's memory. Cheap to clone: the regions are shared.
///
/// The guest writes to it while a device reads: read a value once, check it, then use it.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;
