//! Drives target-core over ring: memory, file and null namespaces
