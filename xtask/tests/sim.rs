//! No shipped crate can switch a guard of the cores off.

#[test]
fn only_the_simulator_can_switch_guards_off() {
    let found = interlock_xtask::sim::enablers().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nobody_imports_the_simulator() {
    let truth = interlock_xtask::house::truth().unwrap();
    let importers: Vec<&String> = truth.iter().filter(|(_, ours)| ours.contains("sim")).map(|(name, _)| name).collect();
    assert!(importers.is_empty(), "{importers:?}");
}
