//! The brain of the target: subsystems, ports, controllers, namespaces, CCR and CQT
